//! The vocabulary of the real model against llama.cpp's ids (crates/testkit/oracles). HEADWISE_MODEL says where the model is.

use std::path::PathBuf;

use headwise_model::chat_template::{ChatTemplate, Message};
use headwise_model::gguf::Gguf;
use headwise_model::mmap::MappedFile;
use headwise_model::tokenizer::{DecodeStream, GgufVocabulary, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

const TOKENS: &str = include_str!("../../testkit/oracles/smollm2-tokens.json");

fn with_model(check: impl FnOnce(&Gguf)) {
    let Some(path) = std::env::var_os("HEADWISE_MODEL").map(PathBuf::from) else {
        println!("SKIPPED: HEADWISE_MODEL is not set (npm test sets it)");
        return;
    };
    let file = MappedFile::open(&path).unwrap();
    check(&Gguf::parse(file.bytes(), &path.display().to_string()).unwrap());
}

struct Case {
    text: String,
    special: bool,
    ids: Vec<u32>,
}

fn cases() -> Vec<Case> {
    let oracle: Value = serde_json::from_str(TOKENS).unwrap();
    let case = |case: &Value| Case {
        text: case["text"].as_str().unwrap().to_owned(),
        special: case["special"].as_bool().unwrap(),
        ids: case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect(),
    };
    oracle["cases"].as_array().unwrap().iter().map(case).collect()
}

fn assert_equals_oracle(tokenizer: &Tokenizer) {
    let cases = cases();
    assert!(cases.len() > 500, "{} cases", cases.len());
    for Case { text, special, ids } in cases {
        assert_eq!(tokenizer.encode(&text, special).unwrap(), ids, "{text:?}, special: {special}");
    }
}

#[test]
fn ids_are_those_of_llama_cpp() {
    with_model(|gguf| assert_equals_oracle(&Tokenizer::from_gguf(gguf).unwrap()));
}

/// The vocabulary of the GGUF file as the tokenizer.json that it came from: digits one by one, then byte-level BPE.
fn as_tokenizer_json(vocabulary: &GgufVocabulary) -> Vec<u8> {
    let special = |id: usize| vocabulary.token_types[id] == 3;
    let vocab: serde_json::Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
    let added: Vec<Value> = (0..vocabulary.tokens.len())
        .filter(|&id| special(id))
        .map(|id| {
            json!({"id": id, "content": vocabulary.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let json = json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab,
            "merges": vocabulary.merges},
    });
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn a_tokenizer_json_gives_the_same_ids() {
    with_model(|gguf| {
        let vocabulary = GgufVocabulary::read(gguf).unwrap();
        let config =
            json!({"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "add_bos_token": false});
        let generation = json!({"eos_token_id": [2, 5]});
        let tokenizer = Tokenizer::from_json(
            "tokenizer.json",
            &as_tokenizer_json(&vocabulary),
            Some(config.to_string().as_bytes()),
            Some(generation.to_string().as_bytes()),
        )
        .unwrap();
        assert_equals_oracle(&tokenizer);
        assert_eq!((tokenizer.bos(), tokenizer.bos_to_add(), tokenizer.eos()), (Some(1), None, Some(2)));
        assert_eq!(tokenizer.eog().iter().copied().collect::<Vec<_>>(), [0, 2, 5]);

        let other = Tokenizer::from_gguf(gguf).unwrap();
        assert_eq!(tokenizer.vocab_size(), other.vocab_size());
        for id in 0..tokenizer.vocab_size() as u32 {
            assert_eq!(tokenizer.token_bytes(id).unwrap(), other.token_bytes(id).unwrap(), "{id}");
        }
    });
}

#[test]
fn the_file_says_which_tokens_begin_and_end() {
    with_model(|gguf| {
        let tokenizer = Tokenizer::from_gguf(gguf).unwrap();
        assert_eq!(tokenizer.vocab_size(), 49_152);
        assert_eq!((tokenizer.bos(), tokenizer.bos_to_add(), tokenizer.eos()), (Some(1), None, Some(2)));
        // <|endoftext|> and <|im_end|>.
        assert_eq!(tokenizer.eog().iter().copied().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(tokenizer.token_id("<|im_end|>"), Some(2));
        assert!(tokenizer.encode("<|im_end|>", false).unwrap().iter().all(|&id| !tokenizer.is_control(id)));
        assert_eq!(tokenizer.token_bytes(2).unwrap(), b"<|im_end|>");
        assert_eq!(tokenizer.decode(&[1, 6004, 2]).unwrap(), "hi");
        assert!(tokenizer.decode(&[49_152]).unwrap_err().to_string().contains("49152"));
    });
}

/// Bytes that SmolLM2's vocabulary has no token for: 13 never occur in UTF-8, the others begin or continue rare characters.
fn missing_bytes(tokenizer: &Tokenizer) -> Vec<u8> {
    let mut missing: Vec<u8> = (0..=255).collect();
    for id in 0..tokenizer.vocab_size() as u32 {
        if let &[byte] = tokenizer.token_bytes(id).unwrap() {
            missing.retain(|&other| other != byte);
        }
    }
    missing
}

#[test]
fn decoding_gives_the_text_back() {
    with_model(|gguf| {
        let tokenizer = Tokenizer::from_gguf(gguf).unwrap();
        let missing = missing_bytes(&tokenizer);
        assert!(missing.len() <= 21, "{missing:x?}");
        let expressible = |text: &str| !text.bytes().any(|byte| missing.contains(&byte));
        let committed: Vec<String> = cases().into_iter().map(|case| case.text).collect();
        assert!(committed.iter().filter(|text| expressible(text)).count() > 500);
        for text in committed.iter().filter(|text| expressible(text)) {
            assert_eq!(&tokenizer.decode(&tokenizer.encode(text, false).unwrap()).unwrap(), text);
        }
        let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(text in any_text())| {
            let kept: String = text.chars().filter(|c| expressible(c.encode_utf8(&mut [0; 4]))).collect();
            let ids = tokenizer.encode(&kept, false).unwrap();
            prop_assert_eq!(tokenizer.decode(&ids).unwrap(), kept);
        });
    });
}

#[test]
fn a_stream_says_what_decoding_says() {
    with_model(|gguf| {
        let tokenizer = Tokenizer::from_gguf(gguf).unwrap();
        let config = ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() };
        proptest!(config, |(text in any_text(), noise in prop::collection::vec(0u32..49_152, 0..20))| {
            // Tokens of a text, and any tokens at all: those cut characters in the middle.
            for ids in [tokenizer.encode(&text, false).unwrap(), noise] {
                let mut stream = DecodeStream::new(&tokenizer);
                let mut parts = String::new();
                for &id in &ids {
                    parts += &stream.push(&tokenizer, id).unwrap();
                }
                parts += &stream.finish();
                prop_assert_eq!(parts, tokenizer.decode(&ids).unwrap());
            }
        });
    });
}

fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => proptest::char::range(' ', '~'),
        2 => prop_oneof![Just(' '), Just('\n'), Just('\t'), Just('1')],
        2 => proptest::char::range('\u{80}', '\u{ffff}'),
        1 => any::<char>(),
    ];
    prop::collection::vec(character, 0..60).prop_map(String::from_iter)
}

#[test]
fn a_stream_never_hands_out_half_a_character() {
    with_model(|gguf| {
        let tokenizer = Tokenizer::from_gguf(gguf).unwrap();
        let text = "a 👨‍👩‍👧‍👦 ½ 漢字 é";
        let ids = tokenizer.encode(text, false).unwrap();
        let mut stream = DecodeStream::new(&tokenizer);
        let parts: Vec<String> = ids.iter().map(|&id| stream.push(&tokenizer, id).unwrap()).collect();
        assert!(parts.iter().any(String::is_empty), "{parts:?}");
        assert!(!parts.concat().contains('\u{fffd}'), "{parts:?}");
        assert_eq!(parts.concat() + &stream.finish(), text);
    });
}

#[test]
fn the_chat_template_of_the_file_renders() {
    with_model(|gguf| {
        let template = ChatTemplate::from_gguf(gguf).unwrap().unwrap();
        let message = |role: &str, content: &str| Message { role: role.into(), content: content.into() };
        let conversation = [message("user", "Hi <b>"), message("assistant", "Hello."), message("user", "Why?")];
        let text = template.render(&conversation, true, Some("<|im_start|>"), Some("<|im_end|>")).unwrap();
        let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
            <|im_start|>user\nHi <b><|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n\
            <|im_start|>assistant\n";
        assert_eq!(text, expected);
        let ids = Tokenizer::from_gguf(gguf).unwrap().encode(&text, true).unwrap();
        assert_eq!((ids.iter().filter(|&&id| id == 1).count(), ids.iter().filter(|&&id| id == 2).count()), (5, 4));

        let own_system = [message("system", "Be brief."), message("user", "Hi")];
        let text = template.render(&own_system, false, None, None).unwrap();
        assert_eq!(text, "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n");
    });
}
