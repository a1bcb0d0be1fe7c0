//! A small tokenizer in the layout of Qwen2.5-VL's: byte-level BPE over the bytes and the most frequent pairs of a corpus.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::tokenizer::{OffsetReferential, OffsetType};
use tokenizers::{NormalizedString, Normalizer, PreTokenizedString, PreTokenizer};

use crate::TextError;

/// How Qwen2.5-VL cuts a text into words before merging.
const WORDS: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CHAT_TEMPLATE: &str = include_str!("../assets/tiny_chat.jinja");
const SPECIAL: [&str; 8] = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
];

/// The ids a model's config.json needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TinyTokens {
    /// All tokens: bytes, merges and special tokens. At most what was asked for; less when the corpus has no more pairs to merge.
    pub len: usize,
    /// Pads rows, and ends a text.
    pub endoftext: u32,
    pub im_start: u32,
    /// Ends a turn.
    pub im_end: u32,
    pub vision_start: u32,
    pub vision_end: u32,
    pub vision_pad: u32,
    pub image_pad: u32,
    pub video_pad: u32,
}

/// Writes `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja` and `generation_config.json` into `folder`, which must exist.
/// The same corpus gives the same bytes.
///
/// # Errors
/// When `vocab_size` does not hold the 256 bytes and 8 special tokens, or a file cannot be written.
pub fn write_tokenizer(folder: &Path, corpus: &[&str], vocab_size: usize) -> Result<TinyTokens, TextError> {
    let alphabet = alphabet();
    let least = alphabet.len() + SPECIAL.len();
    if vocab_size < least {
        return Err(TextError::VocabularyTooSmall { wanted: vocab_size, least });
    }
    let path = folder.join("tokenizer.json");
    let invalid = |error: tokenizers::Error| TextError::Tokenizer { path: path.clone(), reason: error.to_string() };
    // Without merges first: it cuts the corpus into the words to learn from.
    let cutter = tokenizers::Tokenizer::from_bytes(layout(&alphabet, &[]).to_string()).map_err(invalid)?;
    let words = words(&cutter, corpus).map_err(invalid)?;
    let merges = learn(&alphabet, &words, vocab_size - least);

    let first_special = alphabet.len() + merges.len();
    let id = |position: usize| u32::try_from(first_special + position).expect("a tiny vocabulary");
    write(folder, "tokenizer.json", &pretty(&layout(&alphabet, &merges)))?;
    write(folder, "chat_template.jinja", CHAT_TEMPLATE)?;
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": null,
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "padding_side": "left",
        "model_max_length": 32768,
        "clean_up_tokenization_spaces": false,
    });
    write(folder, "tokenizer_config.json", &pretty(&tokenizer_config))?;
    let generation =
        json!({ "bos_token_id": id(0), "pad_token_id": id(0), "eos_token_id": [id(2), id(0)], "do_sample": true });
    write(folder, "generation_config.json", &pretty(&generation))?;
    Ok(TinyTokens {
        len: first_special + SPECIAL.len(),
        endoftext: id(0),
        im_start: id(1),
        im_end: id(2),
        vision_start: id(3),
        vision_end: id(4),
        vision_pad: id(5),
        image_pad: id(6),
        video_pad: id(7),
    })
}

/// The characters that stand for the 256 bytes, in order.
fn alphabet() -> Vec<String> {
    let mut characters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    characters.sort_unstable();
    characters.into_iter().map(String::from).collect()
}

/// tokenizer.json
fn layout(alphabet: &[String], merges: &[(String, String)]) -> Value {
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let vocab: Map<String, Value> =
        alphabet.iter().cloned().chain(merged).enumerate().map(|(id, token)| (token, Value::from(id))).collect();
    let first_special = vocab.len();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(position, token)| {
            json!({
                "id": first_special + position,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": true,
            })
        })
        .collect();
    let byte_level = |add_prefix_space: bool, use_regex: bool| {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": add_prefix_space,
            "trim_offsets": !use_regex,
            "use_regex": use_regex,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": { "type": "NFC" },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                { "type": "Split", "pattern": { "Regex": WORDS }, "behavior": "Isolated", "invert": false },
                byte_level(false, false),
            ],
        },
        "post_processor": null,
        "decoder": byte_level(true, true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": merges,
        },
    })
}

/// The corpus's words in byte characters, with their counts.
fn words(cutter: &tokenizers::Tokenizer, corpus: &[&str]) -> tokenizers::Result<BTreeMap<String, u64>> {
    let mut words = BTreeMap::new();
    for text in corpus {
        let mut normalized = NormalizedString::from(*text);
        if let Some(normalizer) = cutter.get_normalizer() {
            normalizer.normalize(&mut normalized)?;
        }
        let mut pieces = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = cutter.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        for (word, _, _) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            *words.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(words)
}

/// Byte-pair encoding: merges the most frequent neighbours, again and again; among equals, the pair with the smaller ids.
/// Pairs seen once are not worth a token.
fn learn(alphabet: &[String], words: &BTreeMap<String, u64>, num_merges: usize) -> Vec<(String, String)> {
    let mut tokens = alphabet.to_vec();
    let ids: BTreeMap<&str, usize> = alphabet.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut words: Vec<(Vec<usize>, u64)> = words
        .iter()
        .map(|(word, count)| {
            (word.chars().map(|character| ids[character.encode_utf8(&mut [0; 4]) as &str]).collect(), *count)
        })
        .collect();
    let mut merges = Vec::new();
    while merges.len() < num_merges {
        let mut counts: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                // A word such as "aaa" holds its pair twice, though only one can be merged; the next round sees what is left.
                *counts.entry((pair[0], pair[1])).or_default() += count;
            }
        }
        // Two merges may spell the same token ("a" + "bc", "ab" + "c"): a vocabulary has it once.
        let best = counts
            .into_iter()
            .filter(|(pair, count)| *count > 1 && !tokens.contains(&format!("{}{}", tokens[pair.0], tokens[pair.1])))
            .max_by_key(|(pair, count)| (*count, std::cmp::Reverse(*pair)));
        let Some((pair, _)) = best else { break };
        merges.push((tokens[pair.0].clone(), tokens[pair.1].clone()));
        tokens.push(format!("{}{}", tokens[pair.0], tokens[pair.1]));
        for (word, _) in &mut words {
            merge(word, pair, tokens.len() - 1);
        }
    }
    merges
}

fn merge(word: &mut Vec<usize>, pair: (usize, usize), merged: usize) {
    let mut position = 0;
    while position + 1 < word.len() {
        if (word[position], word[position + 1]) == pair {
            word.splice(position..position + 2, [merged]);
        }
        position += 1;
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

fn write(folder: &Path, file: &str, text: &str) -> Result<(), TextError> {
    let path = folder.join(file);
    std::fs::write(&path, text).map_err(|source| TextError::Io {
        action: "write",
        path,
        source,
        hint: "; does the folder exist, and may it be written to?",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ChatTemplate, Content, Item, Message, RenderOptions, SpecialTokens, Tokenizer};

    const CORPUS: [&str; 3] =
        ["How many red circles are there?", "There are 3 red circles.", "How many blue squares are there? 2"];

    #[test]
    fn the_tokenizer_holds_what_was_learnt() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = write_tokenizer(folder.path(), &CORPUS, 280).unwrap();
        let tokenizer = Tokenizer::from_folder(folder.path()).unwrap();
        assert_eq!((tokens.len, tokenizer.len()), (280, 280));
        let expected = [
            tokens.endoftext,
            tokens.im_start,
            tokens.im_end,
            tokens.vision_start,
            tokens.vision_end,
            tokens.vision_pad,
            tokens.image_pad,
            tokens.video_pad,
        ];
        for (token, id) in SPECIAL.iter().zip(expected) {
            assert_eq!(tokenizer.id(token), Some(id));
            assert!(tokenizer.is_special(id));
        }
        for text in [CORPUS[0], "e\u{e9}\u{1f534}\r\n\t 'S 12", "\u{0}\u{7f}"] {
            let ids = tokenizer.encode(text, SpecialTokens::Allow).unwrap();
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
        }
        let ids = tokenizer.encode(CORPUS[0], SpecialTokens::Allow).unwrap();
        assert!(ids.len() < CORPUS[0].len() * 2 / 3, "{} ids for {} bytes", ids.len(), CORPUS[0].len());
    }

    #[test]
    fn the_most_frequent_pairs_are_merged_first() {
        let merges = |words: &[(&str, u64)], num_merges: usize| {
            let words = words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect();
            learn(&alphabet(), &words, num_merges)
                .into_iter()
                .map(|(left, right)| format!("{left}+{right}"))
                .collect::<Vec<_>>()
        };
        // a+b: 5 times, a+a: 3; then a+ab 3 times. "cd" and "xy" are equal, "zz" is seen once.
        let words = [("aab", 3), ("ab", 2), ("xy", 2), ("cd", 2), ("zz", 1)];
        assert_eq!(merges(&words, 9), ["a+b", "a+ab", "c+d", "x+y"]);
        assert_eq!(merges(&words, 2), ["a+b", "a+ab"]);
        assert_eq!(merges(&[("aaaaa", 2)], 9), ["a+a", "aa+a", "aa+aaa"]);
    }

    #[test]
    fn the_same_corpus_gives_the_same_files() {
        let files = |size: usize| {
            let folder = tempfile::tempdir().unwrap();
            let tokens = write_tokenizer(folder.path(), &CORPUS, size).unwrap();
            let read = |file: &str| std::fs::read(folder.path().join(file)).unwrap();
            (tokens, read("tokenizer.json"), read("tokenizer_config.json"), read("generation_config.json"))
        };
        assert_eq!(files(300), files(300));
        let (tokens, ..) = files(10_000);
        assert!(tokens.len < 400, "the corpus has no more pairs");
        assert_eq!(tokens.video_pad as usize, tokens.len - 1);
    }

    #[test]
    fn too_small_a_vocabulary_and_a_missing_folder_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_tokenizer(folder.path(), &CORPUS, 263).unwrap_err().to_string();
        assert!(error.contains("263") && error.contains("264 are needed"), "{error}");
        let error = write_tokenizer(&folder.path().join("no"), &CORPUS, 264).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("does the folder exist"), "{error}");
    }

    #[test]
    fn the_template_writes_qwen_conversations() {
        let template = ChatTemplate::from_source("tiny", CHAT_TEMPLATE).unwrap();
        let render = |messages: &[Message], extra: &str| {
            let extra = serde_json::from_str(extra).unwrap();
            template.render(messages, &RenderOptions { add_generation_prompt: true, extra }).unwrap()
        };
        let items = || {
            Message::user(Content::Items(vec![Item::image(), Item::text(" or "), Item::image(), Item::text("? \n")]))
        };
        assert_eq!(
            render(&[items()], "{}"),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|> \
             or <|vision_start|><|image_pad|><|vision_end|>? \n<|im_end|>\n<|im_start|>assistant\n"
        );
        assert!(
            render(&[items()], r#"{"add_vision_id": true}"#).contains("<|vision_end|> or Picture 2: <|vision_start|>")
        );
        let system = Message::new("system", Content::Text("Be brief.".into()));
        assert_eq!(
            render(&[system, Message::user(Content::Text(" hi".into()))], "{}"),
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n hi<|im_end|>\n<|im_start|>assistant\n"
        );
    }
}
