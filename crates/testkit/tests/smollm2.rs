//! The real model against oracles that our code had no hand in (crates/testkit/oracles). HEADWISE_MODEL says where it is.

use std::path::{Path, PathBuf};

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::Codec;
use headwise_model::{Model, NoTap, Span, Wanted, Workspace};
use serde::Deserialize;

fn model() -> Option<Model> {
    let Some(path) = std::env::var_os("HEADWISE_MODEL").map(PathBuf::from) else {
        println!("SKIPPED: HEADWISE_MODEL is not set (npm test sets it)");
        return None;
    };
    Some(Model::load(&path, &mut |_| {}).unwrap())
}

fn oracle<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn cache(model: &Model, codec: Codec) -> KvCache {
    let shape = model.shape();
    KvCache::new(BlockPool::new(block_layout(shape.head_dim, codec), None).unwrap(), shape).unwrap()
}

fn feed(model: &Model, cache: &mut KvCache, tokens: &[u32], logits: Wanted) -> Vec<f32> {
    let mut space = Workspace::default();
    model.forward(&mut [Span { tokens, cache, tap: &mut NoTap, logits }], &mut space, None).unwrap().span(0).to_vec()
}

/// Mean negative log likelihood in nats, the text read in chunks.
fn mean_nll(model: &Model, tokens: &[u32], codec: Codec, chunk: usize) -> f64 {
    let mut cache = cache(model, codec);
    let vocabulary = model.vocab_size();
    let (mut sum, mut next) = (0.0, 1);
    for part in tokens[..tokens.len() - 1].chunks(chunk) {
        for row in feed(model, &mut cache, part, Wanted::All).chunks(vocabulary) {
            let highest = row.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            let total: f64 = row.iter().map(|&x| f64::from(x - highest).exp()).sum();
            sum += total.ln() - f64::from(row[tokens[next] as usize] - highest);
            next += 1;
        }
    }
    sum / (tokens.len() - 1) as f64
}

#[derive(Deserialize)]
struct Nll {
    tokens: Vec<u32>,
    mean_nll: f64,
}

#[test]
fn the_likelihood_of_a_text_is_that_of_a_float32_reference() {
    let Some(model) = model() else { return };
    let oracle: Nll = oracle("smollm2-nll.json");
    // Prefill (dense products) and decode (quantized vector kernels) must both agree; f16 is the default cache.
    for (codec, chunk, tolerance) in [
        (Codec::F32, 512, 0.001),
        (Codec::F16, 512, 0.002),
        (Codec::Bf16, 512, 0.005),
        (Codec::Int8, 512, 0.01),
        (Codec::F16, 1, 0.002),
        (Codec::Int8, 1, 0.01),
    ] {
        let nll = mean_nll(&model, &oracle.tokens, codec, chunk);
        println!("mean NLL, {codec:?} cache, chunks of {chunk}: {nll:.5} (reference {:.5})", oracle.mean_nll);
        assert!((nll - oracle.mean_nll).abs() < tolerance, "{codec:?} in chunks of {chunk}: {nll}");
    }
}

#[derive(Deserialize)]
struct Greedy {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    text: String,
    prompt: Vec<u32>,
    float32: Run,
}

#[derive(Deserialize)]
struct Run {
    tokens: Vec<u32>,
    margins: Vec<f64>,
    top_tokens: Vec<u32>,
    top_logits: Vec<f32>,
}

#[test]
fn greedy_tokens_are_those_of_a_float32_reference() {
    let Some(model) = model() else { return };
    for Case { name, text, prompt, float32 } in oracle::<Greedy>("smollm2-greedy.json").cases {
        assert_eq!(model.tokenizer().unwrap().encode(&text, false).unwrap(), prompt, "{name}");
        let mut cache = cache(&model, Codec::F16);
        let mut logits = feed(&model, &mut cache, &prompt, Wanted::Last);
        for (&token, &expected) in float32.top_tokens.iter().zip(&float32.top_logits) {
            let got = logits[token as usize];
            assert!((got - expected).abs() < 0.05, "{name}: logit of token {token} is {got}, not {expected}");
        }
        for (step, (&token, &margin)) in float32.tokens.iter().zip(&float32.margins).enumerate() {
            // Two tokens this close may change places by rounding alone.
            if margin < 0.02 {
                break;
            }
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap();
            assert_eq!(best as u32, token, "{name}: step {step}, margin {margin}");
            logits = feed(&model, &mut cache, &[token], Wanted::Last);
        }
    }
}
