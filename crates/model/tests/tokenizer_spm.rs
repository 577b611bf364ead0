//! SentencePiece vocabularies against SentencePiece's own ids (crates/testkit/oracles/spm-tokens.py).

use headwise_model::tokenizer::{DecodeStream, GgufVocabulary, Tokenizer};
use proptest::prelude::*;
use serde_json::{Value, json};

const ORACLE: &str = include_str!("../../testkit/oracles/spm-tokens.json");

fn oracle() -> Value {
    serde_json::from_str(ORACLE).unwrap()
}

/// The vocabulary as a GGUF file would hold it.
fn vocabulary(space_prefix: bool) -> GgufVocabulary<'static> {
    let oracle = oracle();
    let pieces = oracle["vocabulary"].as_array().unwrap();
    GgufVocabulary {
        path: "tiny".into(),
        model: "llama".into(),
        tokens: pieces.iter().map(|piece| piece["piece"].as_str().unwrap().to_owned().into()).collect(),
        scores: pieces.iter().map(|piece| piece["score"].as_f64().unwrap()).collect(),
        token_types: pieces.iter().map(|piece| piece["type"].as_i64().unwrap()).collect(),
        unknown: Some(0),
        bos: Some(1),
        eos: Some(2),
        add_space_prefix: Some(space_prefix),
        ..GgufVocabulary::default()
    }
}

fn tokenizer(space_prefix: bool) -> Tokenizer {
    Tokenizer::from_vocabulary(&vocabulary(space_prefix)).unwrap()
}

fn assert_equals_oracle(tokenizer: &Tokenizer, name: &str) {
    let oracle = oracle();
    let cases = oracle[name].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let ids: Vec<u64> = case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect();
        let ours: Vec<u64> = tokenizer.encode(text, false).unwrap().into_iter().map(u64::from).collect();
        assert_eq!(ours, ids, "{name}: {text:?}");
    }
}

#[test]
fn ids_are_those_of_sentencepiece() {
    assert_equals_oracle(&tokenizer(true), "prefixed");
    assert_equals_oracle(&tokenizer(false), "plain");
}

#[test]
fn the_leftmost_of_equal_scores_merges_first() {
    let mut vocabulary = vocabulary(false);
    vocabulary.scores.fill(0.0);
    assert_equals_oracle(&Tokenizer::from_vocabulary(&vocabulary).unwrap(), "level");
}

#[test]
fn a_tokenizer_json_of_the_same_vocabulary_gives_the_same_ids() {
    let vocabulary = vocabulary(true);
    let id = |piece: &str| vocabulary.tokens.iter().position(|token| token == piece);
    // Every way to put a piece together from two others, the best-scored piece first.
    let mut pieces: Vec<usize> = (0..vocabulary.tokens.len()).filter(|&id| vocabulary.token_types[id] == 1).collect();
    pieces.sort_by(|&a, &b| vocabulary.scores[b].total_cmp(&vocabulary.scores[a]));
    let mut merges = Vec::new();
    for piece in pieces.into_iter().map(|id| &vocabulary.tokens[id]) {
        let splits = piece.char_indices().skip(1).map(|(at, _)| piece.split_at(at));
        merges.extend(splits.filter(|(left, right)| id(left).is_some() && id(right).is_some()));
    }
    let vocab: serde_json::Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.to_string(), json!(id))).collect();
    let added: Vec<Value> = (0..3)
        .map(|id| {
            json!({"id": id, "content": vocabulary.tokens[id], "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "vocab": vocab, "merges": merges},
    });
    let config = json!({"bos_token": "<s>", "eos_token": "</s>"}).to_string();
    let json = serde_json::to_vec(&json).unwrap();
    let tokenizer = Tokenizer::from_json("tiny", &json, Some(config.as_bytes()), None).unwrap();
    assert_equals_oracle(&tokenizer, "prefixed");
    // Nobody said so but the post-processor.
    assert_eq!(tokenizer.bos_to_add(), Some(1));
    for text in ["", "the", "  the ", "½ é\n漢"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, false).unwrap()).unwrap(), text);
    }
}

#[test]
fn control_tokens_are_text_unless_asked_for() {
    let tokenizer = tokenizer(true);
    assert!(!tokenizer.encode("<s>the</s>", false).unwrap().iter().any(|&id| id < 3));
    let ids = tokenizer.encode("<s>the</s> the", true).unwrap();
    let the = tokenizer.encode("the", false).unwrap();
    let space_the = tokenizer.encode(" the", false).unwrap();
    assert_eq!(ids, [&[1][..], &the, &[2], &space_the].concat());
    assert_eq!(tokenizer.bos_to_add(), Some(1), "the default of this kind of vocabulary");
}

#[test]
fn user_defined_tokens_are_found_before_anything_else() {
    let mut vocabulary = vocabulary(false);
    let count = vocabulary.tokens.len() as u32;
    vocabulary.tokens.push("the bridge".into());
    vocabulary.scores.push(-1e9);
    vocabulary.token_types.push(4);
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    let ids = tokenizer.encode("the bridgethe bridges", false).unwrap();
    assert_eq!(ids[..2], [count, count]);
    assert_eq!(tokenizer.decode(&ids).unwrap(), "the bridgethe bridges");
}

#[test]
fn unknown_characters_without_byte_tokens_are_one_unknown_token_a_run() {
    let vocabulary = GgufVocabulary {
        model: "llama".into(),
        tokens: ["<unk>", "▁", "a", "▁a"].map(Into::into).to_vec(),
        scores: vec![0.0; 4],
        token_types: vec![2, 1, 1, 1],
        unknown: Some(0),
        ..GgufVocabulary::default()
    };
    let tokenizer = Tokenizer::from_vocabulary(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode("a漢字 aé", false).unwrap(), [3, 0, 3, 0]);
    let without = Tokenizer::from_vocabulary(&GgufVocabulary { unknown: None, ..vocabulary }).unwrap();
    assert!(without.encode("a漢", false).unwrap_err().to_string().contains('漢'));
}

#[test]
fn the_space_before_a_text_goes_and_the_one_before_an_answer_stays() {
    let tokenizer = tokenizer(true);
    let ids = tokenizer.encode("the bridge", false).unwrap();
    let collect = |mut stream: DecodeStream| -> String {
        ids.iter().map(|&id| stream.push(&tokenizer, id).unwrap()).collect::<String>() + &stream.finish()
    };
    assert_eq!(collect(DecodeStream::new(&tokenizer)), "the bridge");
    assert_eq!(collect(DecodeStream::continuing()), " the bridge");
    // A BOS in front is no text.
    assert_eq!(tokenizer.decode(&[&[1], &ids[..]].concat()).unwrap(), "the bridge");
    // Only one space goes, even where it is a token of its own.
    let spaces = tokenizer.encode("   x", false).unwrap();
    assert_eq!(tokenizer.decode(&spaces).unwrap(), "   x");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_gives_the_text_back(text in "[ a-e\\n]{0,40}|\\PC{0,40}|(the |bridge |an){0,20}", prefix: bool) {
        // U+2581 is how this kind of vocabulary writes a space, so it cannot come back as itself.
        prop_assume!(!text.contains('\u{2581}'));
        let tokenizer = tokenizer(prefix);
        let ids = tokenizer.encode(&text, false).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    #[test]
    fn a_stream_says_what_decoding_says(ids in prop::collection::vec(0u32..480, 0..40), prefix: bool) {
        let tokenizer = tokenizer(prefix);
        let mut stream = DecodeStream::new(&tokenizer);
        let mut text = String::new();
        for &id in &ids {
            text += &stream.push(&tokenizer, id).unwrap();
        }
        text += &stream.finish();
        prop_assert_eq!(text, tokenizer.decode(&ids).unwrap());
    }
}

#[test]
fn a_long_text_without_spaces_takes_no_quadratic_time() {
    let text = "abcde".repeat(100_000);
    let start = std::time::Instant::now();
    let ids = tokenizer(true).encode(&text, false).unwrap();
    assert!(ids.len() > 100_000);
    // Half a second of work; quadratic time would be hours.
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
