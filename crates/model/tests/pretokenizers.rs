//! Every named pre-tokenizer against llama.cpp and Python (crates/testkit/oracles/pretokenizer-tokens.py).

use headwise_model::tokenizer::{GgufVocabulary, Tokenizer};
use serde_json::Value;

const ORACLE: &str = include_str!("../../testkit/oracles/pretokenizer-tokens.json");

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn tokenizer(oracle: &Value, name: &str) -> Tokenizer {
    Tokenizer::from_vocabulary(&GgufVocabulary {
        path: "tiny".into(),
        model: "gpt2".into(),
        pre: Some(name.into()),
        tokens: strings(&oracle["tokens"]).into_iter().map(Into::into).collect(),
        merges: strings(&oracle["merges"]).into_iter().map(Into::into).collect(),
        ..GgufVocabulary::default()
    })
    .unwrap()
}

#[test]
fn every_name_cuts_as_other_tokenizers_do() {
    let oracle: Value = serde_json::from_str(ORACLE).unwrap();
    let texts = strings(&oracle["texts"]);
    let names = oracle["ids"].as_object().unwrap();
    assert!(names.len() >= 12 && texts.len() > 200, "{} names, {} texts", names.len(), texts.len());
    let mut wrong = Vec::new();
    for (name, expected) in names {
        let tokenizer = tokenizer(&oracle, name);
        for (text, expected) in texts.iter().zip(expected.as_array().unwrap()) {
            let ids: Value = tokenizer.encode(text, false).unwrap().into();
            if &ids != expected {
                wrong.push(format!("{name}: {text:?}\n  ours  {ids}\n  other {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), names.len() * texts.len(), wrong.join("\n"));
}

#[test]
fn every_name_gives_every_text_back() {
    let oracle: Value = serde_json::from_str(ORACLE).unwrap();
    for name in oracle["ids"].as_object().unwrap().keys() {
        let tokenizer = tokenizer(&oracle, name);
        for text in strings(&oracle["texts"]) {
            assert_eq!(tokenizer.decode(&tokenizer.encode(&text, false).unwrap()).unwrap(), text, "{name}");
        }
    }
}

#[test]
fn names_of_the_llama_3_family_want_a_bos_and_whole_words() {
    let vocabulary = |pre: &str| GgufVocabulary {
        model: "gpt2".into(),
        pre: Some(pre.into()),
        tokens: ["a", "b", "ab"].map(Into::into).to_vec(),
        bos: Some(0),
        ..GgufVocabulary::default()
    };
    let load = |vocabulary: &GgufVocabulary| Tokenizer::from_vocabulary(vocabulary).unwrap();
    let llama = load(&vocabulary("llama-bpe"));
    assert_eq!((llama.bos_to_add(), llama.encode("ab", false).unwrap()), (Some(0), vec![2]));
    let qwen = load(&vocabulary("qwen2"));
    assert_eq!((qwen.bos_to_add(), qwen.encode("ab", false).unwrap()), (None, vec![0, 1]));
    let told = GgufVocabulary { add_bos: Some(false), ..vocabulary("llama-bpe") };
    assert_eq!(load(&told).bos_to_add(), None);
}
