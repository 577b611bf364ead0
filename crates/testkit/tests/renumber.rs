//! Cuts that close the gaps. In a model of one layer a key depends on its token and on where it is turned to alone, so a session whose gaps were closed
//! must be, from then on, the session that has read nothing but the tokens that were kept.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process};

use headwise_core::{Codec, Error};
use headwise_engine::{
    CancelToken, Engine, EngineOptions, Input, KeptPositions, LikelihoodOptions, PolicySpec, PrefillOptions, Session,
    SessionOptions,
};
use headwise_model::Model;
use safetensors::SafeTensors;
use serde_json::{Value, json};

const READ: usize = 112;
const KEPT: usize = 48;
const SINKS: usize = 4;
/// Chunks of the scorers that look at one: a cut after `READ` tokens falls into one, and so does the end of `KEPT`.
const CHUNK: usize = 32;
const CONTEXT: usize = 128;

/// The first layer of a golden model, with a context of [`CONTEXT`] tokens.
fn model() -> Model {
    static FOLDERS: AtomicUsize = AtomicUsize::new(0);
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-models/llama");
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = env::temp_dir().join(format!("headwise-renumber-{}-{number}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let mut config: Value = serde_json::from_slice(&fs::read(golden.join("config.json")).unwrap()).unwrap();
    config["num_hidden_layers"] = 1.into();
    config["max_position_embeddings"] = CONTEXT.into();
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let weights = fs::read(golden.join("model.safetensors")).unwrap();
    let weights = SafeTensors::deserialize(&weights).unwrap().tensors();
    let first = weights.into_iter().filter(|(name, _)| !name.contains("layers.") || name.contains("layers.0."));
    safetensors::serialize_to_file(first, None, &folder.join("model.safetensors")).unwrap();
    let model = Model::load(&folder, &mut |_| {}).unwrap();
    fs::remove_dir_all(folder).unwrap();
    model
}

/// Each of 300 tokens once, since equal ones would have equal keys.
fn token(i: usize) -> u32 {
    (i * 37 + 11) as u32 % 300
}

fn tokens(range: std::ops::Range<usize>) -> Vec<u32> {
    range.map(token).collect()
}

/// Which tokens of the first `READ` the sinks and the latest are.
fn kept() -> Vec<usize> {
    (0..SINKS).chain(READ - (KEPT - SINKS)..READ).collect()
}

fn closing(kept: usize) -> Value {
    json!({ "kind": "streamingLLM", "sinks": SINKS, "renumber": true, "budget": { "tokensPerHead": kept } })
}

fn spec(policy: Value) -> PolicySpec {
    PolicySpec::from_value(policy).unwrap()
}

async fn session(engine: &Engine, observe_for: &[Value]) -> Session {
    let observe_for = observe_for.iter().cloned().map(spec).collect();
    engine.create_session(SessionOptions { observe_for, ..SessionOptions::default() }).await.unwrap()
}

fn engine() -> Engine {
    engine_in(Codec::F32)
}

fn engine_in(kv_codec: Codec) -> Engine {
    Engine::start(model(), EngineOptions { kv_codec, ..EngineOptions::default() }).unwrap()
}

async fn read(session: &Session, text: Vec<u32>) -> Result<(), Error> {
    let options = PrefillOptions { compress: Some(false), ..PrefillOptions::default() };
    session.prefill(Input::Tokens(text), options, CancelToken::default()).await.map(drop)
}

async fn compress(session: &Session, policy: Value) {
    session.compress(Some(spec(policy)), CancelToken::default()).await.unwrap();
}

async fn losses(session: &Session, text: Vec<u32>) -> Vec<f64> {
    let report = session
        .log_likelihood(Input::Tokens(text), LikelihoodOptions::default(), CancelToken::default())
        .await
        .unwrap();
    report.log_probs.into_iter().flatten().collect()
}

fn rows(kept: &KeptPositions) -> Vec<Vec<u32>> {
    kept.indptr.windows(2).map(|row| kept.positions[row[0] as usize..row[1] as usize].to_vec()).collect()
}

fn assert_close(a: &[f64], b: &[f64]) {
    assert!(a.len() == b.len() && !a.is_empty());
    let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(apart < 1e-4, "{apart}");
}

/// A session that was cut and its gaps closed, one whose gaps were left, one that has read only what the two keep, and a fork of the first from before.
async fn cut_in_three_ways(engine: &Engine) -> [Session; 4] {
    let (cut, plain, fresh) = (session(engine, &[]).await, session(engine, &[]).await, session(engine, &[]).await);
    read(&cut, tokens(0..READ)).await.unwrap();
    read(&plain, tokens(0..READ)).await.unwrap();
    let fork = cut.fork().await.unwrap();
    compress(&cut, closing(KEPT)).await;
    let mut gaps = closing(KEPT);
    gaps["renumber"] = false.into();
    compress(&plain, gaps).await;
    read(&fresh, kept().into_iter().map(token).collect()).await.unwrap();
    [cut, plain, fresh, fork]
}

#[test]
fn a_session_goes_on_as_if_it_had_read_only_what_it_kept() {
    pollster::block_on(async {
        let engine = engine();
        let [cut, plain, fresh, fork] = cut_in_three_ways(&engine).await;
        assert_eq!(cut.stats().await.unwrap().seen, READ);
        let next = tokens(READ..READ + 10);
        // The first has no logits of its own to be judged by in a session that was cut, so both read one more.
        let (a, b) = (losses(&cut, next.clone()).await, losses(&fresh, next.clone()).await);
        assert_close(&a[1..], &b[1..]);
        let with_gaps = losses(&plain, next.clone()).await;
        assert!(with_gaps[1..].iter().zip(&b[1..]).any(|(a, b)| (a - b).abs() > 1e-3), "the gaps change nothing");

        // The keys of a fork are where they were.
        let whole = session(&engine, &[]).await;
        read(&whole, tokens(0..READ)).await.unwrap();
        assert_eq!(losses(&fork, next.clone()).await, losses(&whole, next).await);

        // A second cut, by a policy that does not say so, closes its gaps too; and the fresh one can be cut likewise.
        let again = |renumber: bool| json!({ "kind": "streamingLLM", "sinks": 2, "renumber": renumber, "budget": { "tokensPerHead": 20 } });
        compress(&cut, again(false)).await;
        compress(&fresh, again(true)).await;
        let next = tokens(200..220);
        let (a, b) = (losses(&cut, next.clone()).await, losses(&fresh, next).await);
        assert_close(&a[1..], &b[1..]);
    });
}

#[test]
fn what_was_observed_before_the_cut_is_where_its_tokens_are() {
    // Whether slots compete only from where the chunk begins that the cut falls into: earlier chunks held other tokens.
    let parts = [
        (json!({ "kind": "snapKV", "window": 24 }), false),
        (json!({ "kind": "tova" }), false),
        (json!({ "kind": "leverage" }), false),
        (json!({ "kind": "nonCausal", "chunk": CHUNK }), true),
        (json!({ "kind": "echoScores", "chunk": CHUNK }), true),
    ];
    pollster::block_on(async {
        let engine = engine();
        for (part, in_chunk) in parts {
            let held = READ % CHUNK;
            let policy = |read: usize| {
                let end = if in_chunk { read - held } else { 0 };
                json!({
                    "kind": "custom", "scorer": part, "renumber": true,
                    "protect": { "spans": [{ "start": 0, "end": end }] }, "budget": { "tokensPerHead": KEPT - 3 },
                })
            };
            let (cut, fresh) = (session(&engine, &[policy(READ)]).await, session(&engine, &[policy(READ)]).await);
            read(&cut, tokens(0..READ)).await.unwrap();
            compress(&cut, closing(KEPT)).await;
            read(&fresh, kept().into_iter().map(token).collect()).await.unwrap();
            for session in [&cut, &fresh] {
                read(session, tokens(READ..READ + 10)).await.unwrap();
            }
            compress(&cut, policy(READ)).await;
            compress(&fresh, policy(KEPT)).await;
            let as_read = |i: u32| kept().get(i as usize).map_or(i + (READ - KEPT) as u32, |&token| token as u32);
            let of_fresh = rows(&fresh.kept().await.unwrap()).into_iter();
            let of_fresh: Vec<Vec<u32>> = of_fresh.map(|row| row.into_iter().map(as_read).collect()).collect();
            assert_eq!(rows(&cut.kept().await.unwrap()), of_fresh, "{part}");
        }
    });
}

#[test]
fn the_context_holds_what_is_kept() {
    pollster::block_on(async {
        let engine = engine();
        let session = session(&engine, &[]).await;
        // Four times the context, a stretch at a time.
        for stretch in 0..10 {
            read(&session, tokens(50 * stretch..50 * (stretch + 1))).await.unwrap();
            compress(&session, closing(KEPT)).await;
        }
        let stats = session.stats().await.unwrap();
        assert_eq!((stats.seen, stats.lengths), (500, vec![vec![KEPT; 2]]));
        let error = read(&session, tokens(0..CONTEXT - KEPT + 1)).await.unwrap_err();
        assert_eq!(error, Error::ContextExceeded { needed: CONTEXT + 1, limit: CONTEXT });
        read(&session, tokens(0..CONTEXT - KEPT)).await.unwrap();
    });
}

#[test]
fn in_every_codec_a_cut_session_goes_on_as_if_it_had_read_only_what_it_kept() {
    pollster::block_on(async {
        for codec in [Codec::F16, Codec::Bf16, Codec::Int8] {
            let engine = engine_in(codec);
            let [cut, plain, fresh, _] = cut_in_three_ways(&engine).await;
            let next = tokens(READ..READ + 10);
            let expected = losses(&fresh, next.clone()).await;
            // What rounding once more changes is little beside what gaps do.
            let mut apart = [0.0f64; 2];
            for (apart, session) in apart.iter_mut().zip([&cut, &plain]) {
                let got = losses(session, next.clone()).await;
                *apart = got[1..].iter().zip(&expected[1..]).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            }
            assert!(5.0 * apart[0] < apart[1], "{codec:?} {apart:?}");
        }
    });
}

/// What was read may be longer than the context, and a probe repeats only parts of which something is left.
#[test]
fn a_probe_repeats_what_is_still_there_of_a_text_longer_than_the_context() {
    pollster::block_on(async {
        let probing =
            json!({ "kind": "kvzip", "chunk": CHUNK, "renumber": true, "budget": { "tokensPerHead": KEPT - 8 } });
        let session = session(&engine(), std::slice::from_ref(&probing)).await;
        read(&session, tokens(0..READ)).await.unwrap();
        compress(&session, closing(KEPT)).await;
        read(&session, tokens(READ..READ + 40)).await.unwrap();
        let report = session.compress(Some(spec(probing)), CancelToken::default()).await.unwrap();
        // Tokens 0..32, 64..96, 96..128 and 128..152, each but the first behind eight tokens before it; of 32..64 nothing is left.
        assert_eq!(report.probe_tokens, 32 + 40 + 40 + 32);
        let kept = rows(&session.kept().await.unwrap());
        assert_eq!(kept.iter().map(Vec::len).sum::<usize>(), 2 * (KEPT - 8));
        assert!(kept.iter().flatten().all(|token| !(4..68).contains(token)), "{kept:?}");
    });
}
