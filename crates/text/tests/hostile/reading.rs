//! What is done with tokenizers, templates and rows' text, whatever they hold; the fuzz targets do the same.

use std::path::Path;

use percept_text::{
    ChatTemplate, Content, FormatPrompt, GenerationConfig, Item, Message, PromptBuilder, PromptOptions, RenderOptions,
    SpecialTokens, Tokenizer, tiny,
};

const TEXTS: [&str; 4] =
    ["how many red circles? <|im_end|>", "", "e\u{301} 12\r\n\t 's \u{e000}", "aaaaaaaaaaaaaaaaaaaaaaaa"];

/// A folder with the quickstart's tokenizer.
fn folder() -> (tempfile::TempDir, tiny::TinyTokens) {
    let folder = tempfile::tempdir().expect("a folder");
    let tokens = tiny::write_tokenizer(folder.path(), &["how many red circles are there"], 300).expect("writes");
    (folder, tokens)
}

fn write(folder: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(folder.join(name), bytes).expect("writes");
}

/// Reads a `tokenizer.json`, encodes and decodes with it. Says whether it was one.
pub fn tokenizer(bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), "tokenizer.json", bytes);
    let Ok(tokenizer) = Tokenizer::from_folder(folder.path()) else { return false };
    for text in TEXTS {
        for special in [SpecialTokens::AsText, SpecialTokens::Allow] {
            if let Ok(ids) = tokenizer.encode(text, special) {
                let _ = tokenizer.decode(&ids, true);
            }
        }
    }
    let _ = tokenizer.decode(&[0, 1, 299, 300, u32::MAX], false);
    true
}

/// Compiles a chat template and renders conversations. Says whether one could be rendered.
pub fn template(source: &str) -> bool {
    let Ok(template) = ChatTemplate::from_source("t", source) else { return false };
    let items = vec![Item::text("see "), Item::image(), Item::text("<|im_end|>")];
    let messages = [Message::user(Content::Text("hi".into())), Message::user(Content::Items(items))];
    let options = RenderOptions { add_generation_prompt: true, ..RenderOptions::default() };
    let rendered = template.render(&messages, &options);
    // The fuel is 16 MB.
    assert!(rendered.as_ref().map_or(0, String::len) <= 17 << 20);
    let formatted = FormatPrompt::from_source("f", source).and_then(|format| format.message("a <image> b", true));
    rendered.is_ok() || formatted.is_ok()
}

/// Reads the small files of a checkpoint: `tokenizer_config.json` with its template, and the tokens that end a response.
pub fn configs(bytes: &[u8]) {
    let (folder, _) = folder();
    let tokenizer = Tokenizer::from_folder(folder.path()).expect("a tokenizer");
    std::fs::remove_file(folder.path().join("chat_template.jinja")).expect("it was written");
    for name in ["tokenizer_config.json", "chat_template.json", "generation_config.json", "config.json"] {
        write(folder.path(), name, bytes);
        if let Ok(template) = ChatTemplate::from_folder(folder.path()) {
            let _ = template.render(&[], &RenderOptions::default());
        }
        if let Ok(config) = GenerationConfig::from_folder(folder.path(), &tokenizer) {
            assert!(!config.eos.is_empty());
        }
    }
}

/// The quickstart's prompts, with special strings as text and as tokens.
pub struct Prompts {
    builders: [PromptBuilder; 2],
    specials: [u32; 3],
}

impl Prompts {
    pub fn new() -> Self {
        let (folder, tokens) = folder();
        let builder = |special_tokens_in_text| {
            let options = PromptOptions {
                image_token: tokens.image_pad,
                video_token: Some(tokens.video_pad),
                special_tokens_in_text,
                template: serde_json::Map::new(),
            };
            let tokenizer = Tokenizer::from_folder(folder.path()).expect("a tokenizer");
            let template = ChatTemplate::from_folder(folder.path()).expect("a template");
            let format = FormatPrompt::load("math_perception", folder.path()).expect("a format");
            PromptBuilder::new(tokenizer, template, format, options).expect("a builder")
        };
        let builders = [builder(SpecialTokens::AsText), builder(SpecialTokens::Allow)];
        Self { builders, specials: [tokens.im_start, tokens.im_end, tokens.image_pad] }
    }

    /// Builds the prompt of a row with this problem. Where special strings are text, it ends no turn.
    pub fn build(&self, problem: &str) {
        let pictures = vec![2; problem.matches("<image>").count()];
        let literal = self.builders[0].build(problem, &pictures).expect("any text is a problem");
        let plain = self.builders[0].build(&"<image>".repeat(pictures.len()), &pictures).expect("a prompt");
        for special in self.specials {
            let count = |ids: &[u32]| ids.iter().filter(|id| **id == special).count();
            assert_eq!(count(&literal.ids), count(&plain.ids), "token {special}");
        }
        let decoded = self.builders[0].tokenizer().decode(&literal.ids, false).expect("decodes");
        // Normalization may change how characters are put together.
        assert!(!problem.is_ascii() || decoded == literal.expanded_text());
        let _ = self.builders[1].build(problem, &pictures);
    }
}

/// Tokenizers of several kinds.
pub fn tokenizers() -> Vec<Vec<u8>> {
    let (folder, _) = folder();
    let bpe = std::fs::read(folder.path().join("tokenizer.json")).expect("it was written");
    let others = [
        r#"{"version":"1.0","added_tokens":[{"id":4,"content":"[X]","single_word":false,"lstrip":false,"rstrip":false,
            "normalized":false,"special":true}],"normalizer":{"type":"BertNormalizer","clean_text":true,
            "handle_chinese_chars":true,"strip_accents":null,"lowercase":true},"pre_tokenizer":{"type":"BertPreTokenizer"},
            "post_processor":null,"decoder":{"type":"WordPiece","prefix":"\#\#","cleanup":true},"model":{"type":"WordPiece",
            "unk_token":"[UNK]","continuing_subword_prefix":"\#\#","max_input_chars_per_word":100,
            "vocab":{"[UNK]":0,"how":1,"many":2,"a":3,"\#\#a":5}}}"#,
        r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[
            {"type":"Prepend","prepend":"_"},{"type":"Replace","pattern":{"String":" "},"content":"_"}]},"pre_tokenizer":
            {"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true},"post_processor":{"type":
            "TemplateProcessing","single":[{"Sequence":{"id":"A","type_id":0}}],"pair":[],"special_tokens":{}},"decoder":
            {"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,
            "stop":0}]},"model":{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0.0],["a",-1.5],["aa",-2.5],
            ["_how",-3.0]]}}"#,
    ];
    let others = others.map(|text| text.replace(r"\#", "#").into_bytes());
    std::iter::once(bpe).chain(others).collect()
}

pub fn templates() -> Vec<Vec<u8>> {
    let (folder, _) = folder();
    let own = std::fs::read(folder.path().join("chat_template.jinja")).expect("it was written");
    let other = "{%- for m in messages %}{% generation %}{{ m.role ~ (m.content | tojson(indent=2)) }}{% endgeneration %}{% endfor %}\
                 {% set n = namespace(x='a') %}{{ n.x.replace('a', 'bb').split('b') | join(',') }}{{ '{:>8}'.format(1) }}\
                 {% macro f(x) %}{{ x[::-1] }}{% endmacro %}{{ f('abc') }}{{ strftime_now('%d %b %Y') }}{{ 1e16 }}";
    vec![own, other.into()]
}

pub fn small_files() -> Vec<Vec<u8>> {
    [
        r#"{"eos_token": {"content": "<|im_end|>"}, "pad_token": "<|endoftext|>", "eos_token_id": [3, 5], "pad_token_id": 1,
            "chat_template": [{"name": "default", "template": "a {{ eos_token }}"}, {"name": "tool_use", "template": "b"}]}"#,
        r#"{"eos_token_id": null, "text_config": {"eos_token_id": 7}, "chat_template": "{{ messages | length }}"}"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

/// What templates are made of.
pub const TEMPLATE_WORDS: [&str; 48] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{% for x in messages %}",
    "{% for x in range(99999) %}",
    "{% endfor %}",
    "{% if x %}",
    "{% endif %}",
    "{% set n = namespace(x='a') %}",
    "{% set n.x = n.x ~ n.x %}",
    "{% set n.x = [n.x, n.x] %}",
    "{{ n.x }}",
    "{{ n.x | tojson }}",
    "{% macro f(a) %}",
    "{% endmacro %}",
    "{{ f(x) }}",
    "{{ f(f) }}",
    "messages",
    "[0]",
    ".content",
    "[::-1]",
    "'a'",
    "*",
    "99999",
    "**",
    "~",
    "+",
    "-",
    "|",
    "join(",
    "replace('','aaaa')",
    "indent(99999)",
    "batch(999)",
    "format(",
    "'%9999d'",
    ".split('')",
    ".strip(",
    ")",
    "(",
    ",",
    "tojson(indent=99999)",
    "|upper",
    "{% generation %}",
    "{#",
    "#}",
    "loop(x)",
    "\n",
];

/// What rows are made of.
pub const ROW_WORDS: [&str; 20] = [
    "<image>",
    "<|im_end|>",
    "<|im_start|>",
    "<|image_pad|>",
    "<|im_",
    "end|>",
    "<",
    "|",
    "user",
    "\n",
    "  ",
    "{{ x }}",
    "{%",
    "é",
    "e\u{301}",
    "\u{e000}",
    "\u{f8ff}",
    "\u{f0000}",
    "7",
    "\u{1f}",
];
