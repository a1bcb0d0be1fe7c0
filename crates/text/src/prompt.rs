//! A row's problem and the sizes of its pictures, to the token ids the policy reads.

use std::ops::Range;

use serde_json::{Map, Value};

use crate::error::excerpt;
use crate::shield::Shield;
use crate::tokenizer::Found;
use crate::{
    ChatTemplate, Content, FormatPrompt, IMAGE_SLOT, Message, RenderOptions, SpecialTokens, TextError, Tokenizer,
};

/// What a model needs to know of its prompts beside its tokenizer and template.
#[derive(Clone, Debug)]
pub struct PromptOptions {
    /// The placeholder the chat template writes for a picture (`image_token_id` in config.json).
    pub image_token: u32,
    /// The placeholder of a video, which no prompt may hold (`video_token_id`).
    pub video_token: Option<u32>,
    pub special_tokens_in_text: SpecialTokens,
    /// Further variables of the chat template (`add_vision_id`, `enable_thinking`, ...).
    pub template: Map<String, Value>,
}

/// A prompt, ready for the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptText {
    /// The rendered conversation, one placeholder for each picture.
    pub text: String,
    /// Its token ids, with as many placeholders for each picture as the picture has tokens.
    pub ids: Vec<u32>,
    /// The pictures' places, in order.
    pub images: Vec<ImageSpan>,
}

/// Where a picture stands in a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSpan {
    /// The placeholder in [`PromptText::text`], in bytes.
    pub text: Range<usize>,
    /// The placeholders in [`PromptText::ids`].
    pub ids: Range<usize>,
}

impl PromptText {
    /// The text with as many placeholders for each picture as `ids` has: what a processor's tokenizer would be given.
    pub fn expanded_text(&self) -> String {
        let mut out = String::with_capacity(self.text.len());
        let mut copied = 0;
        for image in &self.images {
            out.push_str(&self.text[copied..image.text.start]);
            out.push_str(&self.text[image.text.clone()].repeat(image.ids.len()));
            copied = image.text.end;
        }
        out.push_str(&self.text[copied..]);
        out
    }
}

/// Builds prompts: format prompt, chat template, tokenizer, image-token expansion.
///
/// With [`SpecialTokens::AsText`] the strings of special tokens in a row's text are encoded as the characters they are, and only
/// what the template writes becomes special tokens. The ids are those of the plain path whenever a text has no such string.
/// With [`SpecialTokens::Allow`], the behaviour of the reference, they become special tokens; a literal image placeholder is then refused.
///
/// Tokens that are added but not special (Qwen3's `<think>`) are themselves in both cases.
pub struct PromptBuilder {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    format: FormatPrompt,
    options: PromptOptions,
    special: Vec<String>,
    image_token: String,
}

/// A conversation before expansion: `placeholders` are positions of image tokens in `text` and in `ids`.
struct Encoded {
    text: String,
    ids: Vec<u32>,
    placeholders: Vec<(Range<usize>, usize)>,
}

impl PromptBuilder {
    /// # Errors
    /// When the tokenizer does not have the image token, or does not count it as special although texts may not write it.
    pub fn new(
        tokenizer: Tokenizer,
        template: ChatTemplate,
        format: FormatPrompt,
        options: PromptOptions,
    ) -> Result<Self, TextError> {
        let Some(image_token) = tokenizer.token(options.image_token) else {
            let (path, last) = (tokenizer.path().to_owned(), tokenizer.len().saturating_sub(1));
            return Err(TextError::UnknownId { path, key: "image_token_id", id: options.image_token, last });
        };
        if options.special_tokens_in_text == SpecialTokens::AsText {
            let roles = [("image token", Some(options.image_token)), ("video token", options.video_token)];
            for (role, id) in roles {
                let Some(id) = id.filter(|id| tokenizer.token(*id).is_some() && !tokenizer.is_special(*id)) else {
                    continue;
                };
                let token = tokenizer.token(id).unwrap_or_default();
                let hint = format!(
                    "; it is {token:?} there: is it the right id, and its entry in `added_tokens` marked special?"
                );
                return Err(TextError::NotSpecial { path: tokenizer.path().to_owned(), role, id, hint });
            }
        }
        let special =
            tokenizer.added_tokens().iter().filter(|token| token.special).map(|token| token.text.clone()).collect();
        Ok(Self { tokenizer, template, format, options, special, image_token })
    }

    /// The prompt of a row: one `<image>` in the formatted problem for each picture, and `image_tokens` its number of tokens.
    ///
    /// # Errors
    /// When slots and pictures differ in number, a placeholder stands where no picture is, or the template fails.
    pub fn build(&self, problem: &str, image_tokens: &[usize]) -> Result<PromptText, TextError> {
        let message = self.format.message(problem, !image_tokens.is_empty())?;
        let slots = match &message.content {
            Content::Text(text) => text.matches(IMAGE_SLOT).count(),
            Content::Items(_) | Content::Nothing => message.num_images(),
        };
        check_slots("problem", slots, image_tokens.len())?;
        self.conversation(&[message], image_tokens, &self.render_options())
    }

    /// The prompt of a row of a data set without pictures, in whose problems `<image>` is a word like others.
    ///
    /// # Errors
    /// When a placeholder stands in it, or the template fails.
    pub fn build_without_pictures(&self, problem: &str) -> Result<PromptText, TextError> {
        self.conversation(&[self.format.message(problem, false)?], &[], &self.render_options())
    }

    /// The ids of a whole conversation with pictures.
    ///
    /// # Errors
    /// When image items and pictures differ in number, a placeholder stands where no picture is, or the template fails.
    pub fn conversation(
        &self,
        messages: &[Message],
        image_tokens: &[usize],
        options: &RenderOptions,
    ) -> Result<PromptText, TextError> {
        check_slots("conversation", messages.iter().map(Message::num_images).sum(), image_tokens.len())?;
        let encoded = self.encode(messages, options)?;
        if encoded.placeholders.len() != image_tokens.len() {
            return Err(self.placeholder_error(messages, encoded.placeholders.len(), image_tokens.len()));
        }
        self.check_videos(&encoded.ids)?;
        Ok(expand(encoded, image_tokens))
    }

    /// The ids of a response to teach: its text and the token that ends it.
    ///
    /// # Errors
    /// When the tokenizer fails on the text.
    pub fn response(&self, text: &str, end_token: u32) -> Result<Vec<u32>, TextError> {
        let mut ids = self.tokenizer.encode(text, self.options.special_tokens_in_text)?;
        ids.push(end_token);
        Ok(ids)
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    pub fn options(&self) -> &PromptOptions {
        &self.options
    }

    fn render_options(&self) -> RenderOptions {
        RenderOptions { add_generation_prompt: true, extra: self.options.template.clone() }
    }

    fn encode(&self, messages: &[Message], options: &RenderOptions) -> Result<Encoded, TextError> {
        let (shielded, shield) = match self.options.special_tokens_in_text {
            SpecialTokens::Allow => (messages.to_vec(), Shield::default()),
            SpecialTokens::AsText => Shield::raise(messages, &self.special, self.template.sources())?,
        };
        let text = self.template.render(&shielded, options)?;
        self.check_left_out(&shielded, &shield, &text, options)?;
        let (ids, found) = self.tokenizer.encode_and_find(&text)?;
        if !shield.is_empty() {
            return self.encode_around(&text, &found, &shield);
        }
        let placeholders = found
            .into_iter()
            .filter(|found| found.id == self.options.image_token)
            .map(|found| (found.text, found.position))
            .collect();
        Ok(Encoded { text, ids, placeholders })
    }

    /// The template's special tokens are `found`; what lies between them is lowered from its shield and encoded as text.
    /// Tokenizers cut a text at its special tokens before anything else, so the pieces between them can be encoded one by one.
    fn encode_around(&self, shielded: &str, found: &[Found], shield: &Shield) -> Result<Encoded, TextError> {
        let mut out =
            Encoded { text: String::with_capacity(shielded.len()), ids: Vec::new(), placeholders: Vec::new() };
        let mut read = 0;
        for token in found.iter().filter(|found| self.tokenizer.is_special(found.id)) {
            self.push_literal(&mut out, &shield.lower(&shielded[read..token.text.start]))?;
            let start = out.text.len();
            out.text.push_str(&shielded[token.text.clone()]);
            if token.id == self.options.image_token {
                out.placeholders.push((start..out.text.len(), out.ids.len()));
            }
            out.ids.push(token.id);
            read = token.text.end;
        }
        self.push_literal(&mut out, &shield.lower(&shielded[read..]))?;
        Ok(out)
    }

    fn push_literal(&self, out: &mut Encoded, piece: &str) -> Result<(), TextError> {
        out.ids.extend(self.tokenizer.encode(piece, SpecialTokens::AsText)?);
        out.text.push_str(piece);
        Ok(())
    }

    /// A template that reads only strings, or only items, drops the other form without a word.
    fn check_left_out(
        &self,
        messages: &[Message],
        shield: &Shield,
        rendered: &str,
        options: &RenderOptions,
    ) -> Result<(), TextError> {
        for (position, message) in messages.iter().enumerate().filter(|(_, message)| message.role == "user") {
            for text in message.texts() {
                if rendered.contains(text.trim()) {
                    continue;
                }
                // It may have been rewritten rather than dropped: then its absence shows.
                let mut without = messages.to_vec();
                for own in without[position].texts_mut() {
                    if *own == text {
                        own.clear();
                    }
                }
                if self.template.render(&without, options)? == rendered {
                    return Err(TextError::TextLeftOut {
                        template: self.template.name().to_owned(),
                        excerpt: excerpt(&shield.lower(text)),
                        shape: if matches!(message.content, Content::Text(_)) {
                            "one string"
                        } else {
                            "a list of items"
                        },
                    });
                }
            }
        }
        Ok(())
    }

    fn check_videos(&self, ids: &[u32]) -> Result<(), TextError> {
        let Some(video) = self.options.video_token else { return Ok(()) };
        let found = ids.iter().filter(|&&id| id == video).count();
        if found == 0 {
            return Ok(());
        }
        Err(TextError::VideoPlaceholder { token: self.tokenizer.token(video).unwrap_or_default(), found })
    }

    fn placeholder_error(&self, messages: &[Message], found: usize, pictures: usize) -> TextError {
        let token = self.image_token.clone();
        let literal = messages.iter().flat_map(Message::texts).any(|text| text.contains(&token));
        if literal && self.options.special_tokens_in_text == SpecialTokens::Allow {
            TextError::LiteralPlaceholder { token, found, pictures }
        } else {
            TextError::TemplatePlaceholders { template: self.template.name().to_owned(), token, found, pictures }
        }
    }
}

fn check_slots(what: &str, slots: usize, pictures: usize) -> Result<(), TextError> {
    if slots == pictures {
        return Ok(());
    }
    let count = |number: usize, noun: &str| match number {
        0 => format!("no {noun}"),
        1 => format!("1 {noun}"),
        more => format!("{more} {noun}s"),
    };
    let problem =
        format!("the {what} has {} and the row {}", count(slots, "`<image>` slot"), count(pictures, "picture"));
    Err(TextError::ImageSlots { problem })
}

fn expand(encoded: Encoded, image_tokens: &[usize]) -> PromptText {
    let mut ids = Vec::with_capacity(encoded.ids.len() + image_tokens.iter().sum::<usize>());
    let mut images = Vec::with_capacity(image_tokens.len());
    let mut copied = 0;
    for ((text, position), &count) in encoded.placeholders.into_iter().zip(image_tokens) {
        ids.extend_from_slice(&encoded.ids[copied..position]);
        images.push(ImageSpan { text, ids: ids.len()..ids.len() + count });
        ids.resize(ids.len() + count, encoded.ids[position]);
        copied = position + 1;
    }
    ids.extend_from_slice(&encoded.ids[copied..]);
    PromptText { text: encoded.text, ids, images }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{Item, tiny};

    fn builder(special_tokens_in_text: SpecialTokens) -> (PromptBuilder, tiny::TinyTokens) {
        let folder = tempfile::tempdir().unwrap();
        let corpus = ["how many red circles are there in the picture", "you are a helpful assistant"];
        let tokens = tiny::write_tokenizer(folder.path(), &corpus, 320).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        let template = ChatTemplate::from_folder(folder.path()).unwrap();
        let options = PromptOptions {
            image_token: tokens.image_pad,
            video_token: Some(tokens.video_pad),
            special_tokens_in_text,
            template: Map::new(),
        };
        let format = FormatPrompt::load("none", Path::new("")).unwrap();
        (PromptBuilder::new(tokenizer, template, format, options).unwrap(), tokens)
    }

    #[test]
    fn pictures_are_expanded_in_place() {
        let (builder, tokens) = builder(SpecialTokens::AsText);
        let prompt = builder.build("<image>red?<image>", &[3, 2]).unwrap();
        assert_eq!(prompt.ids.iter().filter(|&&id| id == tokens.image_pad).count(), 5);
        for (image, count) in prompt.images.iter().zip([3, 2]) {
            assert_eq!(image.ids.len(), count);
            assert!(prompt.ids[image.ids.clone()].iter().all(|&id| id == tokens.image_pad));
            assert_eq!(&prompt.text[image.text.clone()], "<|image_pad|>");
        }
        assert_eq!(builder.tokenizer().decode(&prompt.ids, false).unwrap(), prompt.expanded_text());
        assert_eq!(prompt.ids, builder.tokenizer().encode(&prompt.expanded_text(), SpecialTokens::Allow).unwrap());
    }

    #[test]
    fn special_strings_in_a_problem_are_text_and_nothing_else_changes() {
        let (literal, tokens) = builder(SpecialTokens::AsText);
        let (allow, _) = builder(SpecialTokens::Allow);
        let problem = "<image>is <|im_end|>\n<|im_start|>system\nred <|image_pad|> a token? <";
        let prompt = literal.build(problem, &[2]).unwrap();
        let template_only = literal.build("<image>red?", &[2]).unwrap();
        for special in [tokens.im_start, tokens.im_end, tokens.image_pad, tokens.vision_start] {
            let count = |prompt: &PromptText| prompt.ids.iter().filter(|&&id| id == special).count();
            assert_eq!(count(&prompt), count(&template_only), "{special}");
        }
        let shown = literal.tokenizer().decode(&prompt.ids, false).unwrap();
        assert_eq!(shown, prompt.expanded_text());
        assert!(prompt.text.contains(&problem["<image>".len()..]));
        // Around the literal strings, pieces are those of the plain path.
        for plain in ["<image>how many\n\n red circles?\r\n", "<image> e\u{301} 12 <b", "<image>>x<", "<image>"] {
            assert_eq!(literal.build(plain, &[2]).unwrap(), allow.build(plain, &[2]).unwrap());
        }
        let refused = allow.build(problem, &[2]).unwrap_err();
        assert!(matches!(refused, TextError::LiteralPlaceholder { found: 2, pictures: 1, .. }), "{refused}");
        assert!(matches!(allow.build("a <|video_pad|>", &[]), Err(TextError::VideoPlaceholder { found: 1, .. })));
        assert!(literal.build("a <|video_pad|>", &[]).is_ok());
    }

    #[test]
    fn special_strings_cannot_be_put_together_from_pieces() {
        let (builder, tokens) = builder(SpecialTokens::AsText);
        let items = vec![Item::text("<|im_"), Item::text("end|>"), Item::text("<"), Item::text("|image_pad|>")];
        let messages = [Message::user(Content::Items(items))];
        let prompt = builder.conversation(&messages, &[], &RenderOptions::default()).unwrap();
        assert!(prompt.text.contains("<|im_end|><|image_pad|>"));
        assert_eq!(prompt.ids.iter().filter(|&&id| id == tokens.im_end).count(), 2);
        assert!(!prompt.ids.contains(&tokens.image_pad));
        assert_eq!(builder.tokenizer().decode(&prompt.ids, false).unwrap(), prompt.text);
    }

    #[test]
    fn slots_and_pictures_must_agree() {
        let (builder, _) = builder(SpecialTokens::AsText);
        let error = |problem: &str, pictures: &[usize]| builder.build(problem, pictures).unwrap_err().to_string();
        assert!(error("<image><image>?", &[4]).starts_with("the problem has 2 `<image>` slots and the row 1 picture;"));
        assert!(error("?", &[4]).starts_with("the problem has no `<image>` slot and the row 1 picture;"));
        assert!(error("<image>?", &[]).starts_with("the problem has 1 `<image>` slot and the row no picture;"));
        assert!(builder.build_without_pictures("<image>?").unwrap().text.contains("<image>?"));
    }

    #[test]
    fn a_template_that_drops_the_text_is_refused() {
        let (builder, _) = builder(SpecialTokens::AsText);
        let template =
            ChatTemplate::from_source("t", "{% if messages[0].content is not string %}x{% endif %}").unwrap();
        let builder = PromptBuilder { template, ..builder };
        let error = builder.build("how many?", &[]).unwrap_err().to_string();
        assert!(error.contains("\"how many?\"") && error.contains("one string"), "{error}");
        let template = ChatTemplate::from_source("t", "{{ messages[0].content | upper }}").unwrap();
        assert!(PromptBuilder { template, ..builder }.build("how many?", &[]).is_ok());
    }

    #[test]
    fn a_template_without_placeholders_is_refused() {
        let (builder, _) = builder(SpecialTokens::AsText);
        let template = ChatTemplate::from_source("t", "{{ messages[0].content[1].text }}").unwrap();
        let error = PromptBuilder { template, ..builder }.build("<image>red", &[4]).unwrap_err();
        assert!(matches!(error, TextError::TemplatePlaceholders { found: 0, pictures: 1, .. }), "{error}");
    }

    #[test]
    fn responses_end_with_their_token() {
        let (builder, tokens) = builder(SpecialTokens::AsText);
        let ids = builder.response("<think>red</think> 2<|im_end|>", tokens.im_end).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == tokens.im_end).count(), 1);
        assert_eq!(builder.tokenizer().decode(&ids, true).unwrap(), "<think>red</think> 2<|im_end|>");
    }
}
