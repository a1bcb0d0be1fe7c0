//! From a problem and its pictures to token ids, and back.
//!
//! * [`Tokenizer`]: the checkpoint's own `tokenizer.json`.
//! * [`ChatTemplate`]: the checkpoint's own Jinja template, rendered as `apply_chat_template` renders it.
//! * [`FormatPrompt`]: the instruction around a problem (PAPO's by default).
//! * [`PromptBuilder`]: all three together, with `<image>` slots and image-token expansion checked for every row.
//! * [`GenerationConfig`]: which tokens end a response.
//! * [`tiny`]: a small tokenizer in the Qwen2.5-VL layout, for the quickstart and for tests.

mod error;
mod format;
mod generation;
mod message;
mod prompt;
mod python;
mod read;
mod sandbox;
mod shield;
mod strftime;
mod template;
pub mod tiny;
mod tokenizer;

pub use error::TextError;
pub use format::{FormatPrompt, IMAGE_SLOT};
pub use generation::GenerationConfig;
pub use message::{Content, Item, Message};
pub use prompt::{ImageSpan, PromptBuilder, PromptOptions, PromptText};
pub use template::{ChatTemplate, RenderOptions};
pub use tokenizer::{AddedToken, SpecialTokens, Tokenizer};
