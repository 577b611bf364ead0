//! Probe passes, from the session's text to what it keeps, against attention in f64.

use std::path::Path;

use headwise_cache::{BlockHandle, BlockPool, KvCache, block_layout};
use headwise_core::{Codec, Error, KvShape};
use headwise_engine::{
    CancelToken, CompressReport, Engine, EngineOptions, GenerateOptions, Input, KeptPositions, Observer, PolicySpec,
    PrefillOptions, Session, SessionOptions,
};
use headwise_kernels::HeadView;
use headwise_kernels::attend::{ColumnReduce, Query, reference};
use headwise_kernels::matmul::linear;
use headwise_model::{LayerStep, LayerTap, Model, NoTap, Span, Wanted, Workspace};
use headwise_policy::Needs;
use serde_json::{Value, json};

const PROMPT: usize = 100;
const BUDGET: usize = 30;

fn model() -> Model {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-models/llama");
    Model::load(&path, &mut |_| {}).unwrap()
}

fn text() -> Vec<u32> {
    (0..PROMPT).map(|i| (i * i * 31 + i * 7) as u32 % 300).collect()
}

/// Queries, and the length of each token's input to a layer.
struct Watch {
    observer: Observer,
    lengths: Vec<Vec<f32>>,
}

impl LayerTap for Watch {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.observer.layer(step);
        let length = |row: &[f32]| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt() as f32;
        self.lengths.push(step.inputs.chunks(step.inputs.len() / step.rows).map(length).collect());
    }
}

/// ‖v W_O‖₂ of each slot of a query head.
fn image_lengths(model: &Model, layer: usize, query_head: usize, head: &HeadView<'_, BlockHandle>) -> Vec<f64> {
    let KvShape { group, kv_heads, head_dim, .. } = model.shape();
    let (output, values) = (model.output_projection(layer).unwrap(), head.all_values());
    let image = |value: &[f32]| {
        let mut x = vec![0.0; group * kv_heads * head_dim];
        x[query_head * head_dim..][..head_dim].copy_from_slice(value);
        let mut y = vec![0.0; output.rows()];
        linear(&mut y, &x, output, None).unwrap();
        y.iter().map(|&y| f64::from(y).powi(2)).sum::<f64>().sqrt()
    };
    values.chunks(head_dim).map(image).collect()
}

/// What the slots of each layer and query head get, `[layer][query head][slot]`, when the text is repeated in parts of `chunk` tokens; `normalized`
/// as in KVzip+: each row divided by the length of its token's input, each slot times what its value becomes.
///
/// The model has no tokenizer, so that nothing stands between the text and its repetition but the last tokens before a later part.
fn expected(model: &Model, chunk: usize, normalized: bool) -> Vec<Vec<Vec<f64>>> {
    let KvShape { layers, kv_heads, group, head_dim } = model.shape();
    let text = text();
    let mut space = Workspace::default();
    let pool = BlockPool::new(block_layout(head_dim, Codec::F32), None).unwrap();
    let mut read = KvCache::new(pool, model.shape()).unwrap();
    let span = Span { tokens: &text, cache: &mut read, tap: &mut NoTap, logits: Wanted::None };
    model.forward(&mut [span], &mut space, None).unwrap();
    let mut all = vec![vec![vec![0.0; PROMPT]; kv_heads * group]; layers];
    for (at, part) in text.chunks(chunk).enumerate() {
        let mut cache = read.fork();
        let tokens = &text[(at * chunk).saturating_sub(8)..at * chunk + part.len()];
        let needs = Needs { window_queries: tokens.len(), ..Needs::default() };
        let mut watch = Watch { observer: Observer::new(model.shape(), &needs), lengths: Vec::new() };
        let span = Span { tokens, cache: &mut cache, tap: &mut watch, logits: Wanted::None };
        model.forward(&mut [span], &mut space, None).unwrap();
        watch.observer.commit();
        for (layer, all) in all.iter_mut().enumerate() {
            let heads: Vec<_> = cache.heads(layer).collect();
            let q = watch.observer.window().last(layer, tokens.len());
            let scale = 1.0 / (head_dim as f32).sqrt();
            let query = Query { q: &q, rows: tokens.len(), heads: &heads, bias: None, scale };
            let factors: Vec<f32> = watch.lengths[layer].iter().map(|length| length.recip()).collect();
            let columns = reference::columns(query, ColumnReduce::Max, normalized.then_some(&factors));
            for (query_head, (all, got)) in all.iter_mut().zip(columns.chunks(PROMPT + tokens.len())).enumerate() {
                let judged = at * chunk..at * chunk + part.len();
                all[judged.clone()].copy_from_slice(&got[judged.clone()]);
                if normalized {
                    let lengths = image_lengths(model, layer, query_head, &heads[query_head / group]);
                    judged.for_each(|slot| all[slot] *= lengths[slot]);
                }
            }
        }
    }
    all
}

/// The best slots of each KV head, `[layer · KV head]`.
fn best(scores: &[Vec<Vec<f64>>], group: usize) -> Vec<Vec<u32>> {
    let of_head = |heads: &[Vec<f64>]| {
        let score = |slot: usize| heads.iter().map(|head| head[slot]).fold(0.0, f64::max);
        let mut order: Vec<usize> = (0..PROMPT).collect();
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)).then(a.cmp(&b)));
        let (last, next) = (score(order[BUDGET - 1]), score(order[BUDGET]));
        assert!(last - next > 1e-5 * last, "the text does not tell slots apart: {last} {next}");
        let mut kept: Vec<u32> = order[..BUDGET].iter().map(|&slot| slot as u32).collect();
        kept.sort_unstable();
        kept
    };
    scores.iter().flat_map(|layer| layer.chunks(group).map(of_head)).collect()
}

async fn session(chunk: usize, limit: Option<usize>, policy: Value) -> (Engine, Session) {
    let options =
        EngineOptions { kv_codec: Codec::F32, prefill_chunk: chunk, kv_limit_bytes: limit, ..EngineOptions::default() };
    let engine = Engine::start(model(), options).unwrap();
    let policy = PolicySpec::from_value(policy).unwrap();
    let session = engine.create_session(SessionOptions { policy, ..SessionOptions::default() }).await.unwrap();
    let options = PrefillOptions { compress: Some(false), ..PrefillOptions::default() };
    session.prefill(Input::Tokens(text()), options, CancelToken::default()).await.unwrap();
    (engine, session)
}

fn policy(chunk: usize, normalized: bool) -> Value {
    json!({ "kind": "reconstruction", "chunk": chunk, "normalized": normalized, "budget": { "tokensPerHead": BUDGET } })
}

fn rows(kept: &KeptPositions) -> Vec<Vec<u32>> {
    kept.indptr.windows(2).map(|row| kept.positions[row[0] as usize..row[1] as usize].to_vec()).collect()
}

#[test]
fn a_session_keeps_what_its_repetition_looks_at_and_nothing_of_the_repetition() {
    let model = model();
    for (chunk, normalized) in [(2048, false), (40, false), (40, true)] {
        let expected = best(&expected(&model, chunk, normalized), model.shape().group);
        // However the repetition is read.
        for prefill_chunk in [16, 41, 512] {
            pollster::block_on(async {
                let (_engine, session) = session(prefill_chunk, None, policy(chunk, normalized)).await;
                let before = session.stats().await.unwrap();
                let report = session.compress(None, CancelToken::default()).await.unwrap();
                let CompressReport { probe_tokens, probe_ms, ms, .. } = report;
                let repeated = PROMPT + 8 * (PROMPT.div_ceil(chunk) - 1);
                assert!(probe_tokens == repeated && 0.0 < probe_ms && probe_ms <= ms, "{report:?}");
                assert_eq!(report.before, before.memory);
                assert_eq!(
                    rows(&session.kept().await.unwrap()),
                    expected,
                    "parts of {chunk}, {prefill_chunk} at a time"
                );
                let after = session.stats().await.unwrap();
                assert_eq!((after.seen, after.prefill_tokens), (PROMPT, PROMPT));
                assert_eq!(after.memory.shared_bytes, 0);
                // What was evicted is still part of the text that a second compression repeats.
                let less =
                    PolicySpec::from_value(json!({ "kind": "kvzip", "budget": { "tokensPerHead": 9 } })).unwrap();
                let report = session.compress(Some(less), CancelToken::default()).await.unwrap();
                let heads = model.shape().layers * model.shape().kv_heads;
                assert_eq!((report.probe_tokens, report.after.slots), (PROMPT, 9 * heads));
            });
        }
    }
}

#[test]
fn a_cache_that_fits_is_not_probed_and_one_that_cannot_be_stays_as_it_was() {
    pollster::block_on(async {
        let large = json!({ "kind": "kvzip", "budget": { "tokensPerHead": PROMPT } });
        let (_engine, fits) = session(512, None, large).await;
        let report = fits.compress(None, CancelToken::default()).await.unwrap();
        assert_eq!((report.probe_tokens, report.after), (0, report.before));

        let (layout, shape) = (block_layout(model().shape().head_dim, Codec::F32), model().shape());
        let limit = layout.bytes() * layout.blocks_for(PROMPT) * shape.layers * shape.kv_heads;
        let (_engine, full) = session(512, Some(limit), policy(2048, false)).await;
        let before = rows(&full.kept().await.unwrap());
        let error = full.compress(None, CancelToken::default()).await.unwrap_err();
        assert!(matches!(error, Error::KvBudgetExceeded { .. }), "{error}");
        assert_eq!(rows(&full.kept().await.unwrap()), before);

        // Nothing was read, so there is nothing to repeat.
        let engine = Engine::start(model(), EngineOptions::default()).unwrap();
        let filtered = json!({
            "kind": "custom",
            "scorer": { "kind": "reconstruction" },
            "filter": { "kind": "nucleus" },
            "budget": { "keep": 0.5 },
        });
        let options = SessionOptions { policy: PolicySpec::from_value(filtered).unwrap(), ..SessionOptions::default() };
        let empty = engine.create_session(options).await.unwrap();
        let report = empty.compress(None, CancelToken::default()).await.unwrap();
        assert_eq!((report.probe_tokens, report.after.slots), (0, 0));

        // An instruction needs a tokenizer, which this model lacks.
        let citrus = PolicySpec::from_value(json!({ "kind": "citrus", "budget": { "keep": 0.2 } })).unwrap();
        let error = full.compress(Some(citrus), CancelToken::default()).await.unwrap_err();
        assert!(error.to_string().contains("tokenizer"), "{error}");

        let aborted = CancelToken::default();
        aborted.store(true, std::sync::atomic::Ordering::Relaxed);
        let (_engine, session) = session(512, None, policy(2048, false)).await;
        let error = session.compress(None, aborted).await.unwrap_err();
        assert_eq!(error, Error::Aborted {});
        assert_eq!(rows(&session.kept().await.unwrap()), before);
        session.compress(None, CancelToken::default()).await.unwrap();
    });
}

#[test]
fn what_is_repeated_is_what_was_read_and_neither_what_nobody_saw_nor_what_was_given_up() {
    pollster::block_on(async {
        let (_engine, told) = session(512, None, policy(2048, false)).await;
        let options = GenerateOptions { max_tokens: 9, ignore_eos: true, ..GenerateOptions::default() };
        let mut steps = told.generate(None, options, CancelToken::default()).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(steps.next().await.unwrap().unwrap().token);
        }
        steps.stopper().stop(3).await;
        drop(steps);
        let given_up = CancelToken::default();
        given_up.store(true, std::sync::atomic::Ordering::Relaxed);
        let more = told.prefill(Input::Tokens(text()), PrefillOptions::default(), given_up).await.unwrap_err();
        assert_eq!(more, Error::Aborted {});
        let fork = told.fork().await.unwrap();

        // The token that was drawn last goes through the model with the next call.
        let (_other, read) = session(512, None, policy(2048, false)).await;
        let options = PrefillOptions { compress: Some(false), ..PrefillOptions::default() };
        let count = told.stats().await.unwrap().seen - PROMPT;
        assert!((2..4).contains(&count), "{count}");
        read.prefill(Input::Tokens(seen[..count].to_vec()), options, CancelToken::default()).await.unwrap();
        let mut kept = Vec::new();
        for session in [&told, &fork, &read] {
            let report = session.compress(None, CancelToken::default()).await.unwrap();
            assert_eq!(report.probe_tokens, PROMPT + count);
            kept.push(rows(&session.kept().await.unwrap()));
        }
        assert!(kept[0] == kept[2] && kept[1] == kept[2], "{kept:?}");
    });
}
