//! What another reading of the text looks at.

use crate::oracle::Layer;
use crate::{layers, narrow, oracle, policy, with};
use headwise_core::{KvShape, Rotation, Scores};
use headwise_kernels::attend::{Columns, Job, Query, attend_batch};
use headwise_policy::gather::{Echo, Gather, ProbeRows};
use headwise_policy::{Gathered, LayerInput, Score};
use serde_json::{Value, json};

/// A layer without its last `rows` tokens, and what the slots of each KV head got of the attention of these, as a probe would have it.
fn probed(layer: &Layer, rows: usize, probe: ProbeRows, factors: &[f32]) -> (Layer, Vec<f32>) {
    let len = layer.len - rows;
    let before = |all: &[f64]| -> Vec<f64> {
        all.chunks_exact(layer.len * layer.dim).flat_map(|head| &head[..len * layer.dim]).copied().collect()
    };
    let context = Layer {
        len,
        rows: 1,
        keys: before(&layer.keys),
        values: before(&layer.values),
        queries: layer.queries[..layer.heads() * layer.dim].to_vec(),
        output: layer.output.clone(),
        ..*layer
    };
    let columns = with(layer, 1, |input| {
        let q = &input.queries[(layer.rows - rows) * layer.heads() * layer.dim..];
        let (mut out, mut columns) = (vec![0.0; q.len()], vec![0.0; layer.heads() * layer.len]);
        let query = Query { q, rows, heads: input.heads, bias: None, scale: input.scale };
        let wanted = Columns { reduce: probe.reduce(), out: &mut columns, factors: Some(factors) };
        attend_batch(&mut [Job { query, out: &mut out, columns: Some(wanted) }]).unwrap();
        columns
    });
    let columns = columns.chunks_exact(layer.len).flat_map(|row| &row[..len]).copied().collect();
    (context, columns)
}

/// The scores of a scorer that looks at a probe.
fn probe_scores(scorer: Value, layer: &Layer, probe: &[f32]) -> Scores {
    let policy = policy(json!({ "kind": "custom", "scorer": scorer, "budget": { "tokensPerHead": 9 } }));
    with(layer, 9, |input| {
        policy.scorer.score(&LayerInput { gathered: Gathered { probe: Some(probe), ..input.gathered }, ..*input })
    })
    .unwrap()
}

/// The first of `rows` keys of each head.
fn first_of(keys: &[f64], rows: usize, dim: usize) -> Vec<f64> {
    keys.chunks_exact(rows * dim).flat_map(|head| &head[..dim]).copied().collect()
}

fn assert_scores(got: &Scores, expected: &[Vec<f64>]) {
    for (got, expected) in got.iter().zip(expected) {
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() <= 2e-5 * expected.max(1e-3), "{got} instead of {expected}");
        }
    }
}

#[test]
fn kvzip_keeps_what_the_repetition_looks_at() {
    for layer in layers() {
        let rows = layer.rows.min(20);
        let queries = &layer.queries[(layer.rows - rows) * layer.heads() * layer.dim..];
        let keys: Vec<f64> = layer
            .keys
            .chunks_exact(layer.len * layer.dim)
            .flat_map(|head| &head[(layer.len - rows) * layer.dim..])
            .copied()
            .collect();
        let (context, columns) = probed(&layer, rows, ProbeRows::Max, &vec![1.0; rows]);
        let expected = oracle::kvzip::score(&context, queries, &keys, 0, 0, context.len);
        let got = probe_scores(json!({ "kind": "reconstruction" }), &context, &columns);
        assert_scores(&got, &expected);
        // More of the repetition never takes from a score, which is a probability.
        let first = oracle::kvzip::score(
            &context,
            &queries[..layer.heads() * layer.dim],
            &first_of(&keys, rows, layer.dim),
            0,
            0,
            context.len,
        );
        let of_first = first.iter().flatten();
        assert!(got.data().iter().zip(of_first).all(|(&all, &first)| all <= 1.0 && f64::from(all) >= first - 1e-6));

        let norms: Vec<f64> = (0..rows).map(|row| 0.5 + row as f64 / 7.0).collect();
        let factors: Vec<f32> = norms.iter().map(|norm| norm.recip() as f32).collect();
        let (context, columns) = probed(&layer, rows, ProbeRows::MaxByInput, &factors);
        let expected = oracle::kvzip::score_plus(&context, queries, &keys, &norms, 0, 0, context.len);
        assert_scores(
            &probe_scores(json!({ "kind": "reconstruction", "normalized": true }), &context, &columns),
            &expected,
        );
    }
}

#[test]
fn citrus_keeps_what_the_instruction_looks_at_the_same_in_all_heads() {
    for layer in layers() {
        let rows = layer.rows.min(12);
        let factors = vec![1.0 / rows as f32; rows];
        let (context, columns) = probed(&layer, rows, ProbeRows::Mean, &factors);
        let got = probe_scores(json!({ "kind": "instruction" }), &context, &columns);
        assert_scores(&got, &oracle::citrus::score_per_head(&layer, rows));
        // All heads of a layer keep the same.
        let citrus = policy(json!({ "kind": "citrus", "budget": { "tokensPerHead": 9 } }));
        let kept = with(&context, 9, |input| {
            let gathered = Gathered { probe: Some(&columns), ..input.gathered };
            citrus.compress(&[LayerInput { gathered, ..*input }])
        })
        .unwrap();
        let mean = oracle::citrus::score(&layer, rows);
        let mut best: Vec<u32> = (0..context.len as u32).collect();
        best.sort_by(|&a, &b| mean[0][b as usize].total_cmp(&mean[0][a as usize]));
        best.truncate(9);
        best.sort_unstable();
        assert!((0..layer.kv_heads).all(|head| kept[0].head(head) == best));
    }
}

/// Rotary embedding of two frequencies over the halves of a head.
#[derive(Debug)]
struct Turning;

impl Rotation for Turning {
    fn push_angles(&self, position: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for d in 0..4 {
            let angle = f64::from(position) * 0.7f64.powi(d);
            cos.push(angle.cos() as f32);
            sin.push(angle.sin() as f32);
        }
    }

    fn rotate(&self, row: &mut [f32], cos: &[f32], sin: &[f32]) {
        for head in row.chunks_exact_mut(8) {
            for d in 0..4 {
                let (a, b) = (head[d], head[d + 4]);
                (head[d], head[d + 4]) = (a * cos[d] - b * sin[d], a * sin[d] + b * cos[d]);
            }
        }
    }
}

/// The echo of a layer all of whose queries are there, when the text comes in passes of `cut` tokens.
fn echo(layer: &Layer, chunk: usize, cut: usize) -> Echo {
    let Layer { kv_heads, group, dim, len, .. } = *layer;
    let queries = narrow(&layer.queries);
    let keys: Vec<f32> = (0..len)
        .flat_map(|token| (0..kv_heads).flat_map(move |head| [(head, token)]))
        .flat_map(|(head, token)| narrow(layer.key(head, token)))
        .collect();
    let shape = KvShape { layers: 1, kv_heads, group, head_dim: dim };
    let mut echo = Echo::new(shape, chunk);
    for (queries, keys) in queries.chunks(cut * kv_heads * group * dim).zip(keys.chunks(cut * kv_heads * dim)) {
        echo.take(&Echo::moved(queries, keys, &Turning, chunk, shape));
    }
    echo
}

#[test]
fn echo_scores_are_kvzip_with_the_text_s_own_queries_and_keys_for_its_repetition() {
    const CHUNK: usize = 20;
    for (kv_heads, group, seed) in [(1, 1, 1), (2, 3, 2), (3, 2, 3)] {
        let layer = oracle::sample(kv_heads, group, 8, 48, 48, 24, seed);
        let width = kv_heads * group * 8;
        // However the text comes.
        let gather = |cut: usize| echo(&layer, CHUNK, cut).finish();
        let got = gather(48);
        for cut in [1, 7, 19, 21] {
            assert_eq!(gather(cut), got);
        }
        let moved = |numbers: &[f64]| -> Vec<f64> {
            let mut row = narrow(numbers);
            let (mut cos, mut sin) = (Vec::new(), Vec::new());
            Turning.push_angles(CHUNK as u32, &mut cos, &mut sin);
            Turning.rotate(&mut row, &cos, &sin);
            row.into_iter().map(f64::from).collect()
        };
        for start in (0..48).step_by(CHUNK) {
            let end = (start + CHUNK).min(48);
            let probe_queries = moved(&layer.queries[start * width..end * width]);
            let probe_keys: Vec<f64> = (0..kv_heads)
                .flat_map(|head| moved(&layer.keys[(head * 48 + start) * 8..(head * 48 + end) * 8]))
                .collect();
            let expected = oracle::kvzip::score(&layer, &probe_queries, &probe_keys, 4, start, end);
            for (head, expected) in expected.iter().enumerate() {
                for (slot, expected) in expected.iter().enumerate() {
                    let of_group = &got[(start + slot) * kv_heads * group..][head * group..(head + 1) * group];
                    let score = of_group.iter().copied().fold(0.0, f32::max);
                    assert!((f64::from(score) - expected).abs() < 2e-5, "{start} {slot}: {score} {expected}");
                }
            }
        }
    }
}

#[test]
fn echo_is_the_formula_of_its_page() {
    const CHUNK: usize = 20;
    for (kv_heads, group, seed, window, fade, recent) in
        [(1, 1, 1, 24, 0.97, 8), (2, 3, 2, 48, 0.9, 1), (3, 2, 3, 9, 1.0, 5)]
    {
        let layer = oracle::sample(kv_heads, group, 8, 48, 48, 24, seed);
        let options = json!({ "kind": "echo", "budget": { "keep": 0.5 }, "chunk": CHUNK, "window": window, "fade": fade, "recent": recent });
        let policy = policy(options);
        assert_eq!(policy.scorer.window(), recent);
        let echo = echo(&layer, CHUNK, 48);
        let got = with(&layer, 24, |input| {
            let gathered = Gathered { echo: &[&echo], ..input.gathered };
            policy.scorer.score(&LayerInput { gathered, ..*input })
        });
        // Without look-ahead: what the last queries give, times the length of the value.
        let last = oracle::lookahead::score(&layer, window, fade, recent, 0, 1.0);
        let (repeated, mut taken) = (echo.finish(), [0, 0]);
        for (head, (got, last)) in got.unwrap().iter().zip(&last).enumerate() {
            for (slot, (&got, &last)) in got.iter().zip(last).enumerate() {
                let of_group = &repeated[(slot * kv_heads + head) * group..][..group];
                let most = of_group.iter().copied().fold(0.0, f32::max);
                let again = f64::from(most) * oracle::norm(layer.value(head, slot));
                assert!((f64::from(got) - again.max(last)).abs() < 1e-5, "{slot}: {got} {again} {last}");
                taken[usize::from(last > again)] += 1;
            }
        }
        assert!(taken.iter().all(|&count| count > 0), "{taken:?}");
    }
}
