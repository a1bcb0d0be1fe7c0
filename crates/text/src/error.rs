use std::path::PathBuf;

/// What can go wrong between a row's text and its token ids. The caller adds the data file and the row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    #[error("cannot {action} {}: {source}{hint}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error, hint: &'static str },

    #[error("{}: not valid JSON: {reason}", path.display())]
    Json { path: PathBuf, reason: String },

    #[error("{}: `{key}` should be {expected}, found {found}", path.display())]
    Field { path: PathBuf, key: String, expected: &'static str, found: String },

    #[error("{}: the tokenizer cannot be read: {reason}", path.display())]
    Tokenizer { path: PathBuf, reason: String },

    #[error("{}: cannot tokenize {excerpt:?}: {reason}", path.display())]
    Encode { path: PathBuf, excerpt: String, reason: String },

    #[error("{}: cannot decode {count} token ids: {reason}", path.display())]
    Decode { path: PathBuf, count: usize, reason: String },

    #[error(
        "{}: no chat template in chat_template.jinja, chat_template.json or tokenizer_config.json; \
         take one from the instruction-tuned checkpoint of the same family",
        folder.display()
    )]
    NoChatTemplate { folder: PathBuf },

    #[error("{}: none of the chat templates is named \"default\"; found {found}", path.display())]
    NoDefaultTemplate { path: PathBuf, found: String },

    #[error("{template}, line {line}: {reason}")]
    Template { template: String, line: usize, reason: String },

    #[error(
        "unknown format prompt {name:?}: it is neither built in (\"math_perception\", \"none\") nor a file that can be read \
         ({source})"
    )]
    FormatPrompt { name: String, source: std::io::Error },

    #[error("{problem}; put one `<image>` where each picture belongs")]
    ImageSlots { problem: String },

    #[error(
        "the prompt has {found} image placeholders `{token}` for {pictures} pictures: the row's own text contains the placeholder; \
         remove it there, or set special_tokens_in_text = \"text\" so that it is encoded as ordinary text"
    )]
    LiteralPlaceholder { token: String, found: usize, pictures: usize },

    #[error(
        "the chat template {template} wrote {found} image placeholders `{token}` for {pictures} pictures; \
         is it the template of this model's processor, and `{token}` its image token?"
    )]
    TemplatePlaceholders { template: String, token: String, found: usize, pictures: usize },

    #[error(
        "the prompt has {found} video placeholders `{token}`, and videos are not supported; remove them from the row's text"
    )]
    VideoPlaceholder { token: String, found: usize },

    #[error(
        "the chat template {template} left out the text {excerpt:?} of a message whose content is {shape}; \
         it may read only the other of the two forms"
    )]
    TextLeftOut { template: String, excerpt: String, shape: &'static str },

    #[error(
        "the text holds {taken} different characters of Unicode's private use areas, so that none is left to stand in for special \
         tokens; remove them, or set special_tokens_in_text = \"allow\""
    )]
    NoStandIn { taken: usize },

    #[error("{}: the {role} id {id} is not a special token; special_tokens_in_text = \"text\" needs it to be one{hint}", path.display())]
    NotSpecial { path: PathBuf, role: &'static str, id: u32, hint: String },

    #[error(
        "{}: no end-of-text token: no `eos_token_id` in generation_config.json or config.json, \
         and no `eos_token` of the tokenizer in tokenizer_config.json",
        folder.display()
    )]
    NoEndToken { folder: PathBuf },

    #[error("{}: `{key}` names token id {id}, but the tokenizer ends at {last}", path.display())]
    UnknownId { path: PathBuf, key: &'static str, id: u32, last: usize },

    #[error("a vocabulary of {wanted} tokens is too small: {least} are needed for the bytes and the special tokens")]
    VocabularyTooSmall { wanted: usize, least: usize },
}

/// The first characters of a text, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
