//! A prompt that is cut layer by layer while it is read: the same as when it is cut behind the prompt, in less memory.

use std::path::Path;
use std::sync::atomic::Ordering;

use headwise_cache::block_layout;
use headwise_core::{Codec, Error};
use headwise_engine::{
    CancelToken, Engine, EngineOptions, GenerateOptions, Input, KeptPositions, LikelihoodOptions, Model, PolicySpec,
    PrefillOptions, PrefillReport, Session, SessionOptions,
};
use serde_json::{Value, json};

const PROMPT: usize = 700;
const BUDGET: usize = 60;

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-models/llama");
    Model::load(&path, &mut |_| {}).unwrap()
}

fn text() -> Vec<u32> {
    (0..PROMPT).map(|i| (i * i * 31 + i * 7) as u32 % 300).collect()
}

/// Layers compete; 12 queries vote.
fn policy(budget: usize) -> Value {
    json!({
        "kind": "custom",
        "scorer": { "kind": "snapKV", "window": 12, "rows": "max", "pool": { "kind": "lookAhead" } },
        "selector": { "kind": "acrossLayers" },
        "protect": { "sinks": 2 },
        "budget": { "tokensPerHead": budget },
    })
}

fn engine(chunk: usize, limit: Option<usize>) -> Engine {
    let options =
        EngineOptions { kv_codec: Codec::F32, prefill_chunk: chunk, kv_limit_bytes: limit, ..EngineOptions::default() };
    Engine::start(model(), options).unwrap()
}

async fn session(engine: &Engine, policy: Value) -> Session {
    let policy = PolicySpec::from_value(policy).unwrap();
    engine.create_session(SessionOptions { policy, ..SessionOptions::default() }).await.unwrap()
}

async fn prefill(session: &Session, compress: Option<bool>) -> Result<PrefillReport, Error> {
    let options = PrefillOptions { compress, ..PrefillOptions::default() };
    session.prefill(Input::Tokens(text()), options, CancelToken::default()).await
}

fn rows(kept: &KeptPositions) -> (Vec<u32>, Vec<u32>) {
    (kept.indptr.clone(), kept.positions.clone())
}

/// What a session does from here: twelve greedy tokens, and what a smaller budget keeps then.
async fn future(session: &Session) -> (Vec<u32>, (Vec<u32>, Vec<u32>)) {
    let options = GenerateOptions { max_tokens: 12, ignore_eos: true, ..GenerateOptions::default() };
    let mut steps = session.generate(None, options, CancelToken::default()).await.unwrap();
    let mut tokens = Vec::new();
    while let Some(step) = steps.next().await.unwrap() {
        tokens.push(step.token);
    }
    let smaller = PolicySpec::from_value(policy(BUDGET / 2)).unwrap();
    session.compress(Some(smaller), CancelToken::default()).await.unwrap();
    (tokens, rows(&session.kept().await.unwrap()))
}

#[test]
fn cut_by_layer_or_behind_the_prompt_it_is_the_same_session() {
    let (shape, slot_bytes) = (model().shape(), model().shape().slot_bytes(Codec::F32));
    for chunk in [16, 100, 512] {
        pollster::block_on(async {
            let engine = engine(chunk, None);
            let behind = session(&engine, policy(BUDGET)).await;
            prefill(&behind, Some(false)).await.unwrap();
            let expected = behind.compress(None, CancelToken::default()).await.unwrap();
            let by_layer = session(&engine, policy(BUDGET)).await;
            let report = prefill(&by_layer, None).await.unwrap();
            let cut = report.compression.unwrap();
            assert_eq!(cut.after, expected.after);
            assert_eq!(
                (cut.before.slots, cut.before.logical_bytes),
                (expected.before.slots, expected.before.logical_bytes)
            );
            // The most that was there at once: the budget and a layer, and a part of a block for each head.
            let layout = block_layout(shape.head_dim, Codec::F32);
            let heads = shape.layers * shape.kv_heads;
            let most = (BUDGET * heads + PROMPT * shape.kv_heads) * slot_bytes + heads * layout.bytes();
            assert!(cut.before.physical_bytes <= most && most < expected.before.physical_bytes, "{cut:?} {expected:?}");
            assert_eq!((report.tokens, report.seen), (PROMPT, PROMPT));
            assert_eq!(rows(&by_layer.kept().await.unwrap()), rows(&behind.kept().await.unwrap()));
            let (one, other) = (by_layer.stats().await.unwrap(), behind.stats().await.unwrap());
            assert_eq!((one.prefill_tokens, one.compressions), (other.prefill_tokens, other.compressions));
            assert_eq!(one.observation_bytes, other.observation_bytes);
            assert_eq!(future(&by_layer).await, future(&behind).await);
        });
    }
}

#[test]
fn a_prompt_gets_in_where_its_whole_cache_would_not() {
    let shape = model().shape();
    let layout = block_layout(shape.head_dim, Codec::F32);
    let (heads, bytes) = (shape.layers * shape.kv_heads, |slots: usize| layout.blocks_for(slots) * layout.bytes());
    let limit = heads * (bytes(BUDGET) + layout.bytes()) + shape.kv_heads * bytes(PROMPT);
    assert!(limit < heads * bytes(PROMPT));
    pollster::block_on(async {
        let engine = engine(64, Some(limit));
        let by_layer = session(&engine, policy(BUDGET)).await;
        prefill(&by_layer, None).await.unwrap();
        assert_eq!(by_layer.stats().await.unwrap().memory.slots, BUDGET * heads);
        by_layer.dispose().await;
        // A policy whose heads compete within a layer waits for the whole cache.
        let mut other = policy(BUDGET);
        other["selector"] = json!({ "kind": "acrossHeads" });
        let waits = session(&engine, other).await;
        let error = prefill(&waits, None).await.unwrap_err();
        assert!(matches!(error, Error::KvBudgetExceeded { .. }), "{error}");
        waits.dispose().await;
        // One that is given up or does not fit leaves nothing behind.
        let session = session(&engine, policy(BUDGET)).await;
        let cancel = CancelToken::default();
        cancel.store(true, Ordering::Relaxed);
        let error = session.prefill(Input::Tokens(text()), PrefillOptions::default(), cancel).await.unwrap_err();
        assert_eq!(error, Error::Aborted {});
        let stats = session.stats().await.unwrap();
        assert_eq!((stats.seen, stats.memory.physical_bytes), (0, 0));
        prefill(&session, None).await.unwrap();
    });
}

#[test]
fn a_prompt_that_does_not_fit_in_a_later_layer_leaves_nothing_behind() {
    let shape = model().shape();
    let layout = block_layout(shape.head_dim, Codec::F32);
    // Room for a whole layer, not for what the first one keeps beside it.
    let limit = shape.kv_heads * (layout.blocks_for(PROMPT) + 2) * layout.bytes();
    pollster::block_on(async {
        let engine = engine(64, Some(limit));
        let session = session(&engine, policy(BUDGET)).await;
        let error = prefill(&session, None).await.unwrap_err();
        assert!(matches!(error, Error::KvBudgetExceeded { held, .. } if held > 0), "{error}");
        let stats = session.stats().await.unwrap();
        assert_eq!((stats.seen, stats.memory.physical_bytes, stats.prefill_tokens, stats.compressions), (0, 0, 0, 0));
        // What it reads next begins at the beginning.
        let fresh = self::session(&engine, policy(BUDGET)).await;
        let mut losses = Vec::new();
        for session in [&session, &fresh] {
            let (text, options) = (Input::Tokens(text()[..40].to_vec()), LikelihoodOptions::default());
            losses.push(session.log_likelihood(text, options, CancelToken::default()).await.unwrap().log_probs);
        }
        assert_eq!(losses[0], losses[1]);
    });
}

#[test]
fn a_budget_below_what_is_protected_is_told_as_ever_and_the_text_stays() {
    pollster::block_on(async {
        let engine = engine(512, None);
        let session = session(&engine, policy(9)).await;
        let error = prefill(&session, None).await.unwrap_err();
        assert!(matches!(error, Error::BudgetBelowProtected { .. }), "{error}");
        assert_eq!(session.stats().await.unwrap().seen, PROMPT);
    });
}
