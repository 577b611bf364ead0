//! Methods without golden vectors, compared with formulas that somebody else wrote from their papers (`oracle/`), and one property that each paper
//! claims. Scores agree within float32, kept sets and budgets exactly.

mod budgets;
mod choices;
mod oracle;
mod probes;
mod scorers;

use headwise_core::{Codec, KvShape, Rotation};
use headwise_kernels::matmul::{GgmlDType, Matrix};
use headwise_kernels::{BlockLayout, HeadView};
use headwise_policy::gather::{Gather, QueryMoments};
use headwise_policy::{Gathered, LayerInput, ModelView, Policy, PolicySpec, Score};
use oracle::Layer;
use serde_json::{Value, json};

const SLOTS: usize = 8;

/// Positions do not matter here.
#[derive(Debug)]
struct Still;

impl Rotation for Still {
    fn push_angles(&self, _: u32, _: &mut Vec<f32>, _: &mut Vec<f32>) {}
    fn rotate(&self, _: &mut [f32], _: &[f32], _: &[f32]) {}
}

/// Numbers that float32 holds exactly, so that both sides compute on the same.
fn layer(kv_heads: usize, group: usize, len: usize, seed: u64) -> Layer {
    let mut layer = oracle::sample(kv_heads, group, 8, len, 32.min(len), 24, seed);
    let exact = |numbers: &mut Vec<f64>| numbers.iter_mut().for_each(|x| *x = f64::from(*x as f32));
    [&mut layer.queries, &mut layer.keys, &mut layer.values, &mut layer.output].into_iter().for_each(exact);
    layer
}

fn layers() -> impl Iterator<Item = Layer> {
    let shapes = [(1, 1, 40), (2, 2, 64), (3, 1, 97), (2, 3, 120), (1, 4, 200)];
    shapes.into_iter().zip(1..).flat_map(|((kv_heads, group, len), seed)| {
        (0..3).map(move |more| layer(kv_heads, group, len, 100 * seed + more))
    })
}

fn narrow(numbers: &[f64]) -> Vec<f32> {
    numbers.iter().map(|&x| x as f32).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

/// Runs `f` on the layer as policies see it, with `budget` slots a head.
fn with<R>(layer: &Layer, budget: usize, f: impl FnOnce(&LayerInput<Vec<u8>>) -> R) -> R {
    let Layer { kv_heads, group, dim, len, .. } = *layer;
    let layout = BlockLayout { codec: Codec::F32, head_dim: dim, slots: SLOTS };
    let block = |head: usize, first: usize| {
        let part = |of: &[f64]| {
            let end = (first + SLOTS).min(len);
            let mut half = bytes(&narrow(&of[(head * len + first) * dim..(head * len + end) * dim]));
            half.resize(layout.half_bytes(), 0);
            half
        };
        [part(&layer.keys), part(&layer.values)].concat()
    };
    let blocks: Vec<Vec<Vec<u8>>> =
        (0..kv_heads).map(|head| (0..len).step_by(SLOTS).map(|first| block(head, first)).collect()).collect();
    let heads: Vec<_> = blocks.iter().map(|blocks| HeadView { layout, blocks: &blocks[..], len }).collect();
    let row: Vec<u32> = (0..len as u32).collect();
    let positions = vec![&row[..]; kv_heads];
    let queries = narrow(&layer.queries);
    let query_positions: Vec<u32> = ((len - layer.rows) as u32..len as u32).collect();
    let shape = KvShape { layers: 1, kv_heads, group, head_dim: dim };
    let mut moments = QueryMoments::new(shape);
    moments.take(&queries);
    let output = bytes(&narrow(&layer.output));
    let output = Matrix::new(&output, GgmlDType::F32, layer.hidden, layer.heads() * dim).unwrap();
    f(&LayerInput {
        layer: 0,
        heads: &heads,
        positions: &positions,
        renumbered: None,
        queries: &queries,
        query_positions: &query_positions,
        gathered: Gathered { query_moments: Some(&moments), ..Gathered::default() },
        model: ModelView { output: Some(output), rotation: Some(&Still) },
        shape,
        seen: len,
        scale: layer.scale as f32,
        output_lengths: None,
        budget,
    })
}

fn policy(spec: Value) -> Policy {
    PolicySpec::from_value(spec).unwrap().resolve().unwrap()
}

/// A scorer's scores are those of the oracle, within float32.
fn agree(scorer: Value, budget: usize, expected: impl Fn(&Layer) -> Vec<Vec<f64>>) {
    let policy = policy(json!({ "kind": "custom", "scorer": scorer, "budget": { "tokensPerHead": budget } }));
    for layer in layers() {
        let got = with(&layer, budget, |input| policy.scorer.score(input)).unwrap();
        let expected = expected(&layer);
        let largest = expected.iter().flatten().fold(0.0f64, |most, x| most.max(x.abs()));
        for (got, expected) in got.iter().zip(&expected) {
            assert!(got.len() >= expected.len() && !expected.is_empty());
            for (got, expected) in got.iter().zip(expected) {
                assert!((f64::from(*got) - expected).abs() <= 2e-5 * largest, "{scorer}: {got} instead of {expected}");
            }
        }
    }
}
