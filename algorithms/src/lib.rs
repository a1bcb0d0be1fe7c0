//! Objectives: a file each. A method is told apart by the views it compares, the advantages it credits and the groups it admits.
//!
//! | objective | file | paper |
//! |---|---|---|
//! | GRPO | `grpo.rs` | arXiv 2402.03300 |
//! | DAPO | `dapo.rs` | arXiv 2503.14476 |
//! | PAPO over either | `papo.rs` | arXiv 2507.06448 |

mod advantage;
mod average;
mod dapo;
mod grpo;
mod papo;
mod range;
pub mod schedule;
mod surrogate;

pub use advantage::group_normalized;
pub use average::Average;
pub use dapo::{Dapo, DapoConfig, overlong_penalty};
pub use grpo::{Grpo, GrpoConfig};
pub use papo::{EntropyKind, GammaSchedule, Papo, PapoConfig};
pub use range::OutOfRange;
pub use surrogate::{ClippedPolicy, ClippedPolicyConfig, KlKind};
