//! Hostile and broken vocabularies: each a typed error, never a panic.

use headwise_core::Error;
use headwise_model::tokenizer::{GgufVocabulary, Tokenizer};
use serde_json::{Value, json};

/// A tiny vocabulary that works.
fn bpe() -> GgufVocabulary<'static> {
    GgufVocabulary {
        path: "tiny".into(),
        model: "gpt2".into(),
        pre: Some("gpt-2".into()),
        tokens: ["a", "b", "c", "ab", "abc", "<end>"].map(Into::into).to_vec(),
        merges: ["a b", "ab c"].map(Into::into).to_vec(),
        token_types: vec![1, 1, 1, 1, 1, 3],
        eos: Some(5),
        ..GgufVocabulary::default()
    }
}

fn spm() -> GgufVocabulary<'static> {
    GgufVocabulary { model: "llama".into(), scores: vec![0.0; 6], merges: Vec::new(), pre: None, ..bpe() }
}

fn refused(vocabulary: GgufVocabulary) -> Error {
    Tokenizer::from_vocabulary(&vocabulary).unwrap_err()
}

fn assert_malformed(error: &Error, reason: &str) {
    let Error::MalformedFile { reason: given, .. } = error else { panic!("{error:?}") };
    assert!(given.contains(reason), "{given:?} does not mention {reason:?}");
}

#[test]
fn the_tiny_vocabulary_works() {
    let tokenizer = Tokenizer::from_vocabulary(&bpe()).unwrap();
    assert_eq!(tokenizer.encode("abcab<end>", true).unwrap(), [4, 3, 5]);
    // A text that spells a control token does not get it, and bytes without a token are left out.
    assert_eq!(tokenizer.encode("a<end>b", false).unwrap(), [0, 1]);
}

#[test]
fn bytes_without_a_token_stop_merges() {
    let tokenizer = Tokenizer::from_vocabulary(&bpe()).unwrap();
    assert_eq!(tokenizer.encode("axb", false).unwrap(), [0, 1], "not the token of \"ab\"");
}

#[test]
fn equal_tokens_are_refused() {
    let mut vocabulary = bpe();
    vocabulary.tokens[2] = "a".into();
    assert_malformed(&refused(vocabulary), "tokens 0 and 2 are both \"a\"");
}

#[test]
fn merges_of_unknown_tokens_are_refused() {
    for (merge, unknown) in [("a z", "\"z\""), ("z a", "\"z\""), ("b c", "\"bc\""), ("abc abc", "\"abcabc\"")] {
        assert_malformed(&refused(GgufVocabulary { merges: vec![merge.into()], ..bpe() }), unknown);
    }
}

#[test]
fn a_merge_into_a_control_token_is_refused() {
    let mut vocabulary = bpe();
    vocabulary.tokens[5] = "bc".into();
    vocabulary.merges.push("b c".into());
    assert_malformed(&refused(vocabulary), "\"bc\"");
}

#[test]
fn merges_that_are_no_pairs_are_refused() {
    for merge in ["", "ab", " a", "a ", " "] {
        assert_malformed(&refused(GgufVocabulary { merges: vec![merge.into()], ..bpe() }), "is not a pair");
    }
}

#[test]
fn tables_of_another_length_are_refused() {
    assert_malformed(&refused(GgufVocabulary { token_types: vec![1; 5], ..bpe() }), "5 token types for 6 tokens");
    assert_malformed(&refused(GgufVocabulary { scores: vec![0.0; 7], ..spm() }), "7 scores for 6 tokens");
    let empty = GgufVocabulary { tokens: Vec::new(), token_types: Vec::new(), ..bpe() };
    assert_malformed(&refused(empty), "0 tokens");
}

#[test]
fn ids_outside_the_vocabulary_are_refused() {
    let outside = [
        GgufVocabulary { bos: Some(6), ..bpe() },
        GgufVocabulary { eos: Some(u64::MAX), ..bpe() },
        GgufVocabulary { eot: Some(1 << 32), ..bpe() },
        GgufVocabulary { eom: Some(99), ..bpe() },
        GgufVocabulary { unknown: Some(6), ..spm() },
    ];
    for vocabulary in outside {
        assert_malformed(&refused(vocabulary), "is not in the vocabulary of 6 tokens");
    }
}

#[test]
fn scores_that_are_not_numbers_are_refused() {
    let mut vocabulary = spm();
    vocabulary.scores[3] = f64::NAN;
    assert_malformed(&refused(vocabulary), "token 3");
}

#[test]
fn an_incomplete_set_of_byte_tokens_is_refused() {
    let mut vocabulary = spm();
    vocabulary.tokens[2] = "<0x0A>".into();
    vocabulary.token_types[2] = 6;
    let expected = Error::UnsupportedFeature { feature: "byte fallback".into(), value: "1 of 256 byte tokens".into() };
    assert_eq!(refused(vocabulary), expected);
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let unsupported =
        |feature: &str, value: &str| Error::UnsupportedFeature { feature: feature.into(), value: value.into() };
    let model = GgufVocabulary { model: "bert".into(), ..bpe() };
    assert_eq!(refused(model), unsupported("tokenizer model", "bert"));
    let pre = GgufVocabulary { pre: Some("chameleon".into()), ..bpe() };
    assert_eq!(refused(pre), unsupported("pre-tokenizer", "chameleon"));
}

fn json() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [{"id": 4, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3}, "merges": ["a b"]},
    })
}

fn load(json: &Value) -> Result<Tokenizer, Error> {
    Tokenizer::from_json("tiny", json.to_string().as_bytes(), None, None)
}

fn edited(path: &str, value: Value) -> Value {
    let mut json = json();
    let (parent, key) = path.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[key] = value;
    json
}

#[test]
fn the_tiny_tokenizer_json_works() {
    let tokenizer = load(&json()).unwrap();
    assert_eq!(tokenizer.encode("abc<end>", true).unwrap(), [3, 2, 4]);
    assert!(tokenizer.encode("<end>", false).unwrap().is_empty());
    assert_eq!((tokenizer.vocab_size(), tokenizer.eos()), (5, None));
}

#[test]
fn broken_tokenizer_jsons_are_malformed() {
    let long = "b".repeat(100);
    for (path, value, reason) in [
        ("/model/merges", json!(["a z"]), "\"z\""),
        ("/model/merges", json!([["b", "c"]]), "\"bc\""),
        ("/model/merges", json!(["ab"]), "is not a pair"),
        ("/model/vocab", json!({"a": 0, "b": 1, "c": 1, "ab": 3}), "have the id 1"),
        ("/model/vocab", json!({"a": 0, "b": 1, "c": 2, "ab": 4_000_000_000u32}), "4000000000"),
        ("/model/vocab", json!({"a": 0, "b": 1, "c": -2, "ab": 3}), "-2"),
        ("/model/vocab", json!(["a", "b"]), "is not an object"),
        // One longer than every token: the tokenizers crate would write it past the end of a buffer.
        ("/model/merges", json!([["ab", long]]), &long),
        ("/normalizer", json!({"type": "Replace", "pattern": {"String": "a"}, "content": "a".repeat(65)}), "65 times"),
        (
            "/pre_tokenizer",
            json!({"type": "Sequence", "pretokenizers": [
            json()["pre_tokenizer"], {"type": "Sequence", "pretokenizers": [json()["pre_tokenizer"]]}]}),
            "2 times",
        ),
    ] {
        assert_malformed(&load(&edited(path, value)).unwrap_err(), reason);
    }
    assert_malformed(&Tokenizer::from_json("tiny", b"{", None, None).unwrap_err(), "tokenizer.json");
    assert_malformed(&Tokenizer::from_json("tiny", b"[]", None, None).unwrap_err(), "tokenizer.json");
}

#[test]
fn replacements_may_not_multiply() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let normalizers = json!({"type": "Sequence", "normalizers": vec![double; 60]});
    assert_malformed(&load(&edited("/normalizer", normalizers)).unwrap_err(), "as long");
}

#[test]
fn steps_that_are_not_known_are_refused_by_name() {
    for (path, value, named) in [
        ("/model/type", json!("Unigram"), "Unigram"),
        ("/model/dropout", json!(0.1), "dropout"),
        ("/model/end_of_word_suffix", json!("</w>"), "</w>"),
        ("/model/continuing_subword_prefix", json!("##"), "##"),
        ("/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""}), "Precompiled"),
        ("/pre_tokenizer", json!({"type": "BertPreTokenizer"}), "BertPreTokenizer"),
        ("/decoder", json!({"type": "WordPiece", "prefix": "##", "cleanup": true}), "WordPiece"),
        ("/decoder", Value::Null, "null"),
    ] {
        let error = load(&edited(path, value)).unwrap_err();
        assert!(matches!(error, Error::UnsupportedFeature { .. }), "{error:?}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn an_expression_that_does_not_compile_is_an_error() {
    let split = json!({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false});
    assert!(matches!(load(&edited("/pre_tokenizer", split)).unwrap_err(), Error::Tokenizer { .. }));
}

#[test]
fn configurations_name_tokens_that_exist() {
    let json = json().to_string();
    let config = json!({"eos_token": "<nope>"}).to_string();
    let error = Tokenizer::from_json("tiny", json.as_bytes(), Some(config.as_bytes()), None).unwrap_err();
    assert_malformed(&error, "<nope>");
    for ids in [json!(99), json!([4, 99]), json!("x")] {
        let generation = json!({"eos_token_id": ids}).to_string();
        assert!(Tokenizer::from_json("tiny", json.as_bytes(), None, Some(generation.as_bytes())).is_err());
    }
}
