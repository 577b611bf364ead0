//! Running sums of attention, from the pass to the policy, against attention in f64.

use std::path::Path;

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, Error, Ragged, Selection};
use headwise_engine::{
    CancelToken, Engine, EngineOptions, Input, KeptPositions, Observer, PolicySpec, PrefillOptions, Session,
    SessionOptions,
};
use headwise_kernels::attend::{Query, reference};
use headwise_model::{Model, NoTap, Span, Wanted, Workspace};
use headwise_policy::Needs;
use serde_json::json;

const PROMPT: usize = 150;

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-models/llama");
    Model::load(&path, &mut |_| {}).unwrap()
}

fn tokens(from: usize, count: usize) -> Vec<u32> {
    (from..from + count).map(|i| (i * i * 31 + i * 7) as u32 % 300).collect()
}

/// A sequence that is observed: all queries, and the running sums.
struct Sequence<'m> {
    model: &'m Model,
    cache: KvCache,
    observer: Observer,
    space: Workspace,
}

impl<'m> Sequence<'m> {
    fn new(model: &'m Model) -> Self {
        let shape = model.shape();
        let pool = BlockPool::new(block_layout(shape.head_dim, Codec::F32), None).unwrap();
        let observer =
            Observer::new(shape, &Needs { window_queries: 2 * PROMPT, running_sums: true, ..Needs::default() });
        Self { model, cache: KvCache::new(pool, shape).unwrap(), observer, space: Workspace::default() }
    }

    /// Logits of the last token.
    fn feed(&mut self, tokens: &[u32], chunk: usize) -> Vec<f32> {
        let mut logits = Vec::new();
        for (i, part) in tokens.chunks(chunk).enumerate() {
            let last = (i + 1) * chunk >= tokens.len();
            let wanted = if last { Wanted::Last } else { Wanted::None };
            let span = Span { tokens: part, cache: &mut self.cache, tap: &mut self.observer, logits: wanted };
            logits = self.model.forward(&mut [span], &mut self.space, None).unwrap().span(0).to_vec();
            self.observer.commit();
        }
        logits
    }

    /// The sums of a layer.
    fn sums(&self, layer: usize) -> &[f32] {
        self.observer.running_sums().unwrap().layer(layer)
    }

    /// What the last `rows` rows give to the slots of a layer, in f64.
    fn expected(&self, layer: usize, rows: usize) -> Vec<f64> {
        let heads: Vec<_> = self.cache.heads(layer).collect();
        let q = self.observer.window().last(layer, rows);
        let scale = 1.0 / (self.cache.shape().head_dim as f32).sqrt();
        reference::sums(Query { q: &q, rows, heads: &heads, bias: None, scale })
    }
}

fn assert_close(got: &[f32], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(got) - expected).abs() < 1e-5 * expected.max(1.0), "{what} [{i}]: {got} {expected}");
    }
}

#[test]
fn however_the_prompt_is_cut_the_sums_are_those_of_attention_in_f64_and_survive_compaction() {
    let model = model();
    let shape = model.shape();
    for chunk in [1, 7, 48, PROMPT] {
        let mut sequence = Sequence::new(&model);
        sequence.feed(&tokens(0, PROMPT), chunk);
        let expected: Vec<Vec<f64>> = (0..shape.layers).map(|layer| sequence.expected(layer, PROMPT)).collect();
        for (layer, expected) in expected.iter().enumerate() {
            assert_close(sequence.sums(layer), expected, &format!("layer {layer}, chunks of {chunk}"));
        }
        // Other slots and other lengths in every head; then the next tokens, who see what is left.
        let kept =
            |layer: usize, head: usize| (0..PROMPT as u32).filter(move |s| s % 5 > (layer as u32 + head as u32) % 3);
        let selections: Vec<Selection> = (0..shape.layers)
            .map(|layer| {
                let rows = Ragged::from_rows((0..shape.kv_heads).map(|head| kept(layer, head).collect()));
                Selection::new(rows, &vec![PROMPT; shape.kv_heads]).unwrap()
            })
            .collect();
        sequence.cache.compact_all(&selections).unwrap();
        sequence.observer.compact(&selections);
        let more = 30;
        sequence.feed(&tokens(700, more), chunk);
        for (layer, before) in expected.iter().enumerate() {
            let mut expected = sequence.expected(layer, more);
            let mut slot = 0;
            for query_head in 0..shape.query_heads() {
                let head = query_head / shape.group;
                let old = kept(layer, head).map(|slot| before[query_head * PROMPT + slot as usize]);
                expected[slot..].iter_mut().zip(old).for_each(|(sum, old)| *sum += old);
                slot += sequence.cache.len(layer, head);
            }
            assert_close(sequence.sums(layer), &expected, &format!("layer {layer}, after compaction"));
        }
    }
}

#[test]
fn logits_have_the_same_bits_with_and_without_sums() {
    let model = model();
    for chunk in [1, 8, 50, PROMPT] {
        let mut observed = Sequence::new(&model);
        let mut cache = KvCache::new(observed.cache.pool().clone(), model.shape()).unwrap();
        let mut space = Workspace::default();
        for part in tokens(0, PROMPT).chunks(chunk).chain([&[5][..]]) {
            let with = observed.feed(part, chunk);
            let span = Span { tokens: part, cache: &mut cache, tap: &mut NoTap, logits: Wanted::Last };
            let without = model.forward(&mut [span], &mut space, None).unwrap().span(0).to_vec();
            assert!(with == without, "chunks of {chunk}");
        }
    }
}

#[test]
fn a_failed_pass_leaves_no_trace_and_clones_go_their_own_ways() {
    let model = model();
    let mut sequence = Sequence::new(&model);
    sequence.feed(&tokens(0, 60), 20);
    let all = |observer: &Observer| -> Vec<Vec<f32>> {
        (0..model.shape().layers).map(|layer| observer.running_sums().unwrap().layer(layer).to_vec()).collect()
    };
    let before = all(&sequence.observer);
    let position = sequence.cache.next_position();
    // As after an error in a pass: the tap has seen some layers, the cache is cut back.
    let part = tokens(300, 9);
    let span = Span { tokens: &part, cache: &mut sequence.cache, tap: &mut sequence.observer, logits: Wanted::None };
    model.forward(&mut [span], &mut sequence.space, None).unwrap();
    sequence.observer.discard();
    sequence.cache.truncate(position);
    assert_eq!(all(&sequence.observer), before);

    let clone = sequence.observer.clone();
    sequence.feed(&tokens(300, 9), 9);
    sequence.feed(&tokens(309, 3), 1);
    assert_eq!(all(&clone), before);
    assert_eq!(clone.bytes() - clone.window().bytes(), before.iter().map(|sums| 4 * sums.len()).sum::<usize>());
    let mut straight = Sequence::new(&model);
    straight.feed(&tokens(0, 60), 20);
    straight.feed(&tokens(300, 9), 9);
    straight.feed(&tokens(309, 3), 1);
    assert_eq!(all(&sequence.observer), all(&straight.observer));
}

/// Positions that a policy over f64 scores keeps: the best `budget` slots of each head, ties to the lower position.
fn best(scores: &[f64], budget: usize, protected: usize) -> Vec<u32> {
    let open = scores.len() - protected;
    let mut order: Vec<usize> = (0..open).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let (last, next) = (scores[order[budget - protected - 1]], scores[order[budget - protected]]);
    assert!(last - next > 1e-5 * last, "the prompt does not tell slots apart: {last} {next}");
    let mut kept: Vec<u32> = order[..budget - protected]
        .iter()
        .chain(&(open..scores.len()).collect::<Vec<_>>())
        .map(|&s| s as u32)
        .collect();
    kept.sort_unstable();
    kept
}

fn start(chunk: usize, limit: Option<usize>) -> Engine {
    let options =
        EngineOptions { kv_codec: Codec::F32, prefill_chunk: chunk, kv_limit_bytes: limit, ..EngineOptions::default() };
    Engine::start(model(), options).unwrap()
}

async fn session(engine: &Engine, policy: serde_json::Value) -> Session {
    let policy = PolicySpec::from_value(policy).unwrap();
    engine.create_session(SessionOptions { policy, ..SessionOptions::default() }).await.unwrap()
}

async fn prefill(session: &Session, tokens: Vec<u32>) -> Result<(), Error> {
    let options = PrefillOptions { compress: Some(false), ..PrefillOptions::default() };
    session.prefill(Input::Tokens(tokens), options, Default::default()).await.map(|_| ())
}

fn rows(kept: &KeptPositions) -> Vec<Vec<u32>> {
    kept.indptr.windows(2).map(|row| kept.positions[row[0] as usize..row[1] as usize].to_vec()).collect()
}

#[test]
fn a_session_keeps_what_f64_attention_says() {
    let model = model();
    let shape = model.shape();
    let mut oracle = Sequence::new(&model);
    oracle.feed(&tokens(0, PROMPT), PROMPT);
    let budget = 40;
    for (kind, window) in [("observedAttention", 0), ("h2o", 12)] {
        let mut expected = Vec::new();
        for layer in 0..shape.layers {
            let sums = oracle.expected(layer, PROMPT);
            for head in sums.chunks(shape.group * PROMPT) {
                let score = |slot: usize| {
                    let mean = head.iter().skip(slot).step_by(PROMPT).sum::<f64>() / shape.group as f64;
                    if kind == "h2o" { mean } else { mean / (PROMPT - slot) as f64 }
                };
                expected.push(best(&(0..PROMPT).map(score).collect::<Vec<_>>(), budget, window));
            }
        }
        for chunk in [16, 41, 512] {
            let mut policy = json!({ "kind": kind, "budget": { "tokensPerHead": budget } });
            if window > 0 {
                policy["window"] = window.into();
            }
            pollster::block_on(async {
                let engine = start(chunk, None);
                let session = session(&engine, policy).await;
                prefill(&session, tokens(0, PROMPT)).await.unwrap();
                let fork = session.fork().await.unwrap();
                let report = session.compress(None, CancelToken::default()).await.unwrap();
                assert_eq!(report.after.slots, budget * shape.layers * shape.kv_heads);
                assert_eq!(rows(&session.kept().await.unwrap()), expected, "{kind}, chunks of {chunk}");
                let bytes = |slots: usize| 4 * slots * shape.layers * shape.query_heads();
                let queries = 64 * shape.layers * shape.query_heads() * shape.head_dim * 4;
                assert_eq!(session.stats().await.unwrap().observation_bytes, queries + bytes(budget));
                assert_eq!(fork.stats().await.unwrap().observation_bytes, queries + bytes(PROMPT));
                fork.compress(None, CancelToken::default()).await.unwrap();
                assert_eq!(rows(&fork.kept().await.unwrap()), expected);
            });
        }
    }
}

#[test]
fn a_prompt_that_does_not_get_in_leaves_the_sums_as_they_were() {
    let policy = json!({ "kind": "h2o", "window": 4, "budget": { "tokensPerHead": 30 } });
    let kept = |limit: Option<usize>| {
        let policy = policy.clone();
        pollster::block_on(async move {
            let engine = start(32, limit);
            let session = session(&engine, policy).await;
            prefill(&session, tokens(0, 100)).await.unwrap();
            if limit.is_some() {
                // Room for some of its chunks.
                let error = prefill(&session, tokens(400, 250)).await.unwrap_err();
                assert!(matches!(error, Error::KvBudgetExceeded { .. }), "{error}");
                assert_eq!(session.stats().await.unwrap().seen, 100);
            }
            prefill(&session, tokens(900, 20)).await.unwrap();
            session.compress(None, CancelToken::default()).await.unwrap();
            session.kept().await.unwrap()
        })
    };
    let shape = model().shape();
    let block = block_layout(shape.head_dim, Codec::F32);
    let heads = shape.layers * shape.kv_heads;
    let limit = block.bytes() * heads * block.blocks_for(200);
    assert_eq!(rows(&kept(Some(limit))), rows(&kept(None)));
}

#[test]
fn sums_that_were_not_gathered_are_named() {
    pollster::block_on(async {
        let engine = start(512, None);
        let session = session(&engine, json!({ "kind": "snapKV", "budget": { "keep": 0.5 } })).await;
        prefill(&session, tokens(0, PROMPT)).await.unwrap();
        let before = rows(&session.kept().await.unwrap());
        for name in ["h2o", "observedAttention", "adaH2o", "adaObservedAttention"] {
            let policy = PolicySpec::named(name).unwrap().with_budget(headwise_policy::Budget::Keep(0.5));
            let Err(Error::ObservationMissing { scorer, have: 0, .. }) =
                session.compress(Some(policy), CancelToken::default()).await
            else {
                panic!("{name} went through")
            };
            assert!(name.to_lowercase().ends_with(&scorer.to_lowercase()), "{name} {scorer}");
        }
        assert_eq!(rows(&session.kept().await.unwrap()), before);
    });
}
