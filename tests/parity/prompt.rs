//! Prompts and token ids against transformers: chat templates, format prompt, tokenizers, image-token expansion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percept_text::{
    ChatTemplate, FormatPrompt, GenerationConfig, Message, PromptBuilder, PromptOptions, RenderOptions, SpecialTokens,
    TextError, Tokenizer,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::golden;

/// A chat template of the goldens, the checkpoint whose tokenizer its ids come from, and the placeholders.
struct Family {
    template: &'static str,
    checkpoint: &'static str,
    image_token: &'static str,
    video_token: Option<&'static str>,
}

const FAMILIES: [Family; 3] = [
    Family {
        template: "qwen2_5_vl",
        checkpoint: "tiny-qwen2_5_vl",
        image_token: "<|image_pad|>",
        video_token: Some("<|video_pad|>"),
    },
    Family {
        template: "qwen3_vl",
        checkpoint: "tiny-qwen3_vl",
        image_token: "<|image_pad|>",
        video_token: Some("<|video_pad|>"),
    },
    Family { template: "smolvlm", checkpoint: "tiny-idefics3", image_token: "<image>", video_token: None },
];

#[derive(Deserialize)]
struct Case {
    template: String,
    name: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    extra: Map<String, Value>,
    text: String,
    ids: Vec<u32>,
    decoded: String,
    decoded_skip_special: String,
    problem: Option<String>,
    has_image_column: Option<bool>,
    image_tokens: Option<Vec<usize>>,
    tiles: Option<Value>,
    expanded_text: Option<String>,
    expanded_ids: Option<Vec<u32>>,
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn format_prompt() -> FormatPrompt {
    FormatPrompt::load("math_perception", Path::new("")).unwrap()
}

fn builder(
    checkpoint: &Path,
    template: &Path,
    family: &Family,
    special_tokens_in_text: SpecialTokens,
) -> PromptBuilder {
    let tokenizer = Tokenizer::from_folder(checkpoint).unwrap();
    let source = std::fs::read_to_string(template).unwrap();
    let template = ChatTemplate::from_source(&template.display().to_string(), &source).unwrap();
    let options = PromptOptions {
        image_token: tokenizer.id(family.image_token).unwrap(),
        video_token: family.video_token.map(|token| tokenizer.id(token).unwrap()),
        special_tokens_in_text,
        template: Map::new(),
    };
    PromptBuilder::new(tokenizer, template, format_prompt(), options).unwrap()
}

/// The named checkpoint beside a folder of prompt goldens, or under any other root.
fn checkpoint(prompts: &Path, name: &str) -> Option<PathBuf> {
    let beside = prompts.parent().map(|root| root.join("models"));
    beside.into_iter().chain(golden::folders("models")).map(|models| models.join(name)).find(|folder| folder.is_dir())
}

#[test]
fn prompts_match_transformers() {
    let mut seen = 0;
    let mut skipped = Vec::new();
    for folder in golden::folders("prompt") {
        let cases: Vec<Case> = Deserialize::deserialize(&json(&folder.join("prompt.json"))["cases"]).unwrap();
        let mut by_family: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
        for case in &cases {
            by_family.entry(&case.template).or_default().push(case);
        }
        for (template, cases) in by_family {
            let family = FAMILIES.iter().find(|family| family.template == template);
            let family = family.unwrap_or_else(|| panic!("no checkpoint is known for the template {template}"));
            let checkpoint = checkpoint(&folder, family.checkpoint);
            let checkpoint =
                checkpoint.unwrap_or_else(|| panic!("{}: no {} for it", folder.display(), family.checkpoint));
            let template = folder.join(format!("{template}.jinja"));
            let tokenizer = Tokenizer::from_folder(&checkpoint).unwrap();
            let source = std::fs::read_to_string(&template).unwrap();
            let chat = ChatTemplate::from_source(family.template, &source).unwrap();
            let allow = builder(&checkpoint, &template, family, SpecialTokens::Allow);
            let literal = builder(&checkpoint, &template, family, SpecialTokens::AsText);
            for case in cases {
                check_text(case, &tokenizer, &chat);
                check_problem(case);
                if case.tiles.is_some() {
                    skipped.push(format!("{}/{}", case.template, case.name));
                } else if family.video_token.is_some() || case.name.starts_with("literal_") {
                    check_expansion(case, &allow);
                }
                check_text_mode(case, &literal);
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no prompt goldens found");
    println!("prompts: {seen} cases; expansion skipped (SmolVLM's tiles): {}", skipped.join(" "));
}

/// Template and tokenizer: the rendered text, its ids, and both ways back.
fn check_text(case: &Case, tokenizer: &Tokenizer, chat: &ChatTemplate) {
    let name = format!("{}/{}", case.template, case.name);
    let options = RenderOptions { add_generation_prompt: case.add_generation_prompt, extra: case.extra.clone() };
    assert_eq!(chat.render(&case.messages, &options).unwrap(), case.text, "{name}: text");
    assert_eq!(tokenizer.encode(&case.text, SpecialTokens::Allow).unwrap(), case.ids, "{name}: ids");
    assert_eq!(tokenizer.decode(&case.ids, false).unwrap(), case.decoded, "{name}: decoded");
    assert_eq!(tokenizer.decode(&case.ids, true).unwrap(), case.decoded_skip_special, "{name}: decoded_skip_special");
    if let (Some(text), Some(ids)) = (&case.expanded_text, &case.expanded_ids) {
        assert_eq!(&tokenizer.encode(text, SpecialTokens::Allow).unwrap(), ids, "{name}: ids of the expanded text");
    }
}

/// PAPO's message from a problem.
fn check_problem(case: &Case) {
    if let Some(problem) = &case.problem {
        let slots = case.has_image_column.unwrap();
        assert_eq!([format_prompt().message(problem, slots).unwrap()], case.messages[..], "{}: message", case.name);
    }
}

/// The reference's behaviour: expansion, or refusal of literal placeholders.
fn check_expansion(case: &Case, builder: &PromptBuilder) {
    let name = format!("{}/{}", case.template, case.name);
    let pictures: usize = case.messages.iter().map(Message::num_images).sum();
    let options = RenderOptions { add_generation_prompt: case.add_generation_prompt, extra: case.extra.clone() };
    if case.name.starts_with("literal_") {
        let refused = builder.conversation(&case.messages, &vec![1; pictures], &options).unwrap_err();
        assert!(matches!(refused, TextError::LiteralPlaceholder { .. }), "{name}: {refused}");
        return;
    }
    let placeholders = |token: Option<u32>| case.ids.iter().filter(|id| Some(**id) == token).count();
    let image_tokens = case.image_tokens.clone().unwrap_or_default();
    if placeholders(Some(builder.options().image_token)) != pictures || placeholders(builder.options().video_token) > 0
    {
        // A text that happens to hold a placeholder, without being named for it.
        assert!(builder.conversation(&case.messages, &vec![1; pictures], &options).is_err(), "{name}: accepted");
        return;
    }
    let prompt = builder.conversation(&case.messages, &image_tokens, &options).unwrap();
    assert_eq!(prompt.text, case.text, "{name}: text");
    assert_eq!(&prompt.expanded_text(), case.expanded_text.as_ref().unwrap_or(&case.text), "{name}: expanded_text");
    assert_eq!(&prompt.ids, case.expanded_ids.as_ref().unwrap_or(&case.ids), "{name}: expanded_ids");
    if let (Some(problem), true) = (&case.problem, case.extra.is_empty()) {
        let built = if case.has_image_column.unwrap() {
            builder.build(problem, &image_tokens)
        } else {
            builder.build_without_pictures(problem)
        };
        assert_eq!(built.unwrap(), prompt, "{name}: from the problem");
    }
}

/// Percept's default: the ids of the plain path when the texts hold no special string, and never a special token from a text.
fn check_text_mode(case: &Case, builder: &PromptBuilder) {
    let name = format!("{}/{}", case.template, case.name);
    let options = RenderOptions { add_generation_prompt: case.add_generation_prompt, extra: case.extra.clone() };
    let ones = vec![1; case.messages.iter().map(Message::num_images).sum()];
    let prompt = builder.conversation(&case.messages, &ones, &options).unwrap();
    assert_eq!(prompt.text, case.text, "{name}: text");
    let tokenizer = builder.tokenizer();
    let texts = serde_json::to_string(&case.messages).unwrap();
    if !tokenizer.added_tokens().iter().any(|token| token.special && texts.contains(&token.text)) {
        assert_eq!(prompt.ids, case.ids, "{name}: ids");
        return;
    }
    assert_ne!(prompt.ids, case.ids, "{name}: ids");
    assert_eq!(tokenizer.decode(&prompt.ids, false).unwrap(), case.decoded, "{name}: decoded");
    let special = |ids: &[u32]| ids.iter().filter(|id| tokenizer.is_special(**id)).count();
    assert!(special(&prompt.ids) < special(&case.ids), "{name}: special tokens");
}

#[test]
fn model_prompts_match_transformers() {
    let mut rows = 0;
    let mut skipped = Vec::new();
    for models in golden::folders("models") {
        let mut folders: Vec<_> = std::fs::read_dir(&models).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|folder| folder.join("golden.json").is_file());
        folders.sort();
        for folder in folders {
            match check_model(&folder) {
                Some(checked) => rows += checked,
                None => skipped.push(folder.display().to_string()),
            }
        }
    }
    assert!(rows > 0, "no model goldens found");
    println!("prompts of models: {rows} rows; expansion skipped (SmolVLM's tiles): {}", skipped.join(" "));
}

/// The rows checked, or none when only the texts could be.
fn check_model(folder: &Path) -> Option<usize> {
    let name = folder.display();
    let (golden, config) = (json(&folder.join("golden.json")), json(&folder.join("config.json")));
    let messages: Vec<Vec<Message>> = Deserialize::deserialize(&golden["messages"]).unwrap();
    let options = RenderOptions { add_generation_prompt: true, extra: Map::new() };
    let template = ChatTemplate::from_folder(folder).unwrap();
    for (messages, text) in messages.iter().zip(golden["texts"].as_array().unwrap()) {
        assert_eq!(Value::from(template.render(messages, &options).unwrap()), *text, "{name}");
    }
    check_ends(folder);
    let merge = config["vision_config"]["spatial_merge_size"].as_i64()?;

    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let token = |key: &str| config[key].as_u64().map(|id| u32::try_from(id).unwrap());
    let prompt_options = PromptOptions {
        image_token: token("image_token_id").unwrap(),
        video_token: token("video_token_id"),
        special_tokens_in_text: SpecialTokens::AsText,
        template: Map::new(),
    };
    let builder = PromptBuilder::new(tokenizer, template, format_prompt(), prompt_options).unwrap();
    let tensors = std::fs::read(folder.join("golden.safetensors")).unwrap();
    let (grids, ids, mask) =
        (tensor(&tensors, "image_grid_thw"), tensor(&tensors, "input_ids"), tensor(&tensors, "attention_mask"));
    let mut image_tokens = grids.chunks_exact(3).map(|grid| (grid[0] * grid[1] * grid[2] / (merge * merge)) as usize);
    let length = ids.len() / messages.len();
    for (row, messages) in messages.iter().enumerate() {
        let own: Vec<_> = image_tokens.by_ref().take(messages.iter().map(Message::num_images).sum()).collect();
        let prompt = builder.conversation(messages, &own, &options).unwrap();
        let span = row * length..(row + 1) * length;
        let expected: Vec<u32> = ids[span.clone()]
            .iter()
            .zip(&mask[span])
            .filter(|(_, mask)| **mask == 1)
            .map(|(id, _)| *id as u32)
            .collect();
        assert_eq!(prompt.ids, expected, "{name}, row {row}");
    }
    assert_eq!(image_tokens.next(), None, "{name}: pictures left over");
    Some(messages.len())
}

/// End and padding tokens are those the folder's generation_config.json names.
fn check_ends(folder: &Path) {
    let generation = json(&folder.join("generation_config.json"));
    let ends = GenerationConfig::from_folder(folder, &Tokenizer::from_folder(folder).unwrap()).unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    assert_eq!(ends.eos.iter().map(|id| Value::from(*id)).collect::<Vec<_>>(), list(&generation["eos_token_id"]));
    assert_eq!(Value::from(ends.pad), generation["pad_token_id"]);
}

/// An i64 tensor of a safetensors file, flat.
fn tensor(file: &[u8], name: &str) -> Vec<i64> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
    let header: Value = serde_json::from_slice(header).unwrap();
    assert_eq!(header[name]["dtype"], "I64", "{name}");
    let offset = |end: usize| header[name]["data_offsets"][end].as_u64().unwrap() as usize;
    data[offset(0)..offset(1)].chunks_exact(8).map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap())).collect()
}
