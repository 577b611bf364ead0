//! Methods without golden vectors, compared with formulas that somebody else wrote from their papers (`oracle/`), and one property that each paper
//! claims. Scores agree within float32, kept sets and budgets exactly.

mod oracle;

use headwise_core::{Codec, KvShape, Rotation, Scores};
use headwise_kernels::attend::{Columns, Job, Query, attend_batch};
use headwise_kernels::matmul::{GgmlDType, Matrix};
use headwise_kernels::{BlockLayout, HeadView};
use headwise_policy::gather::{Echo, Gather, ProbeRows, QueryMoments, TokenClass};
use headwise_policy::{
    Admit, Allocate, Allocator, Anchor, Candidates, CapKV, Composite, Crush, DynamicKVLayers, Entropy, Filter, GVote,
    Gathered, LayerInput, ModelView, Policy, PolicySpec, Renumbered, Score, Select, Share,
};
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

/// Turns pairs of neighbours, slower from pair to pair.
#[derive(Debug)]
struct Pairs;

impl Rotation for Pairs {
    fn push_angles(&self, position: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        let angles = (0..4).map(|pair| position as f32 * 0.3f32.powi(pair));
        angles.for_each(|angle| (cos.push(angle.cos()), sin.push(angle.sin())).0);
    }

    fn rotate(&self, row: &mut [f32], cos: &[f32], sin: &[f32]) {
        for head in row.chunks_exact_mut(8) {
            for ((pair, cos), sin) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[0] * sin + pair[1] * cos);
            }
        }
    }
}

/// Where gaps were closed, what turns queries and keys back and forth goes by where they are turned to and not by which tokens they are of.
#[test]
fn rotary_positions_are_those_after_the_cut() {
    const LATER: u32 = 4096;
    let scorers = [
        json!({ "kind": "expectedAttention", "first": 0 }),
        json!({ "kind": "capKV", "first": 0 }),
        json!({ "kind": "leverage" }),
        json!({ "kind": "local", "base": { "kind": "leverage" }, "length": LATER }),
    ];
    let mut votes = 0;
    for scorer in scorers {
        let filter = json!({ "kind": "gVote", "mass": 0.3, "samples": 2 });
        let spec = json!({ "kind": "custom", "scorer": scorer, "filter": filter, "budget": { "keep": 0.5 } });
        let policy = policy(spec);
        let judge = |input: &LayerInput<Vec<u8>>| {
            let scores = policy.scorer.score(input).unwrap();
            let open: Vec<Vec<u32>> = input.heads.iter().map(|head| (0..head.len as u32).collect()).collect();
            let admitted = policy.filter.as_ref().unwrap().admit(input, &scores, &open).unwrap();
            (scores, admitted)
        };
        for layer in layers() {
            with(&layer, 20, |input| {
                let model = ModelView { rotation: Some(&Pairs), ..input.model };
                let plain = judge(&LayerInput { model, ..*input });
                let rotary: Vec<Vec<u32>> = input.positions.iter().map(|row| row.to_vec()).collect();
                let tokens: Vec<Vec<u32>> = rotary.iter().map(|row| row.iter().map(|p| p + LATER).collect()).collect();
                let tokens: Vec<&[u32]> = tokens.iter().map(|row| &row[..]).collect();
                let later: Vec<u32> = input.query_positions.iter().map(|p| p + LATER).collect();
                let closed = |positions: &[Vec<u32>], next: usize| {
                    judge(&LayerInput {
                        model,
                        positions: &tokens,
                        query_positions: &later,
                        renumbered: Some(Renumbered { positions, next: next as u32 }),
                        seen: input.seen + LATER as usize,
                        ..*input
                    })
                };
                assert_eq!(closed(&rotary, input.seen), plain, "{scorer}");
                // And they do go by it.
                let wider: Vec<Vec<u32>> = rotary.iter().map(|row| row.iter().map(|p| 2 * p).collect()).collect();
                let other = closed(&wider, input.seen + 3);
                assert_ne!(other.0, plain.0, "{scorer}");
                votes += usize::from(other.1 != plain.1);
            });
        }
    }
    assert!(votes > 0);
}

#[test]
fn la_prox_is_attention_times_what_the_value_becomes() {
    let scorer = policy(json!({ "kind": "laProx", "budget": { "keep": 0.5 } })).scorer;
    // The oracle divides by the layer's sum; so does the selector of the preset.
    for layer in layers() {
        let got = with(&layer, 40, |input| scorer.score(input)).unwrap();
        let expected = oracle::la_prox::score(&layer, 32, 7);
        let open = |row: &[f32]| row[..layer.len - 32].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let sum: f64 = got.iter().flat_map(open).sum();
        for (got, expected) in got.iter().zip(expected) {
            open(got).iter().zip(expected).for_each(|(got, expected)| assert!((got / sum - expected).abs() < 1e-6));
        }
    }
}

#[test]
fn lookahead_is_the_formula_of_its_page() {
    for (window, fade, recent, span, decay) in [(24, 0.97, 8, 24, 0.9), (32, 0.8, 1, 3, 1.0)] {
        let options = json!({ "kind": "lookahead", "budget": { "keep": 0.5 }, "window": window, "fade": fade, "recent": recent, "span": span, "decay": decay });
        let scorer = policy(options).scorer;
        for layer in layers() {
            let got = with(&layer, 40, |input| scorer.score(input)).unwrap();
            let expected = oracle::lookahead::score(&layer, window, fade, recent, span, decay);
            for (got, expected) in got.iter().zip(&expected) {
                let pairs = || got.iter().map(|&x| f64::from(x)).zip(expected);
                assert!(
                    pairs().count() == layer.len - recent && pairs().all(|(a, b)| (a - b).abs() <= 2e-6 * b.max(1.0))
                );
            }
        }
    }
}

#[test]
fn rest_kv_is_the_change_of_the_output() {
    use oracle::rest_kv::{Order, property_removal, score};
    // A steep beta, so that widths and shifts differ.
    for (beta, kernel) in [(2000.0, 5), (3.0, 1)] {
        let scorer = json!({ "kind": "restKV", "window": 16, "beta": beta, "kernel": kernel });
        agree(scorer, 30, |layer| score(layer, 16, 14, 0.3, beta, kernel, Order::PerRow));
    }
    // One row: what removing a slot and dividing anew does to the layer's output.
    let layer = layer(1, 1, 50, 9);
    let spec = json!({ "kind": "snapKV", "window": 1, "pool": { "kind": "none" }, "weight": { "by": "change" }, "budget": { "keep": 0.5 } });
    let scores = with(&layer, 10, |input| policy(spec).scorer.score(input)).unwrap();
    for slot in 0..49 {
        assert!((f64::from(scores.row(0)[slot]) - property_removal(&layer, 0, slot)).abs() < 1e-5);
    }
}

#[test]
fn mix_kv_is_attention_where_keys_differ_and_diversity_where_they_do_not() {
    agree(json!({ "kind": "mixKV", "window": 16 }), 30, |layer| oracle::mix_kv::score(layer, 16, 5));
    // All keys but one are parallel: the odd one is kept first, whatever the attention.
    let mut odd = layer(1, 1, 60, 4);
    let first: Vec<f64> = odd.keys[..8].to_vec();
    odd.keys.chunks_exact_mut(8).for_each(|key| key.copy_from_slice(&first));
    odd.keys[20 * 8..21 * 8].iter_mut().for_each(|x| *x = -*x);
    let mixed = policy(json!({ "kind": "mixKV", "window": 8, "budget": { "keep": 0.5 } }));
    let scores = with(&odd, 20, |input| mixed.scorer.score(input)).unwrap();
    assert!((0..52).all(|slot| slot == 20 || scores.row(0)[slot] < scores.row(0)[20]));
}

#[test]
fn aha_kv_sharpens_attention_as_much_as_length_blunts_it() {
    use oracle::aha_kv::{Length, score};
    for budget in [20, 45, 1000] {
        let scorer = json!({ "kind": "ahaKV", "window": 16 });
        agree(scorer, budget, |layer| score(layer, 16, budget, 7, Length::PerRow, layer.len));
    }
    // Values times a constant change nothing.
    let own = policy(json!({ "kind": "ahaKV", "window": 16, "budget": { "keep": 0.5 } }));
    let mut scaled = layer(2, 2, 64, 3);
    let before = with(&scaled, 20, |input| own.scorer.score(input)).unwrap();
    scaled.values.iter_mut().for_each(|x| *x *= 4.0);
    assert_eq!(with(&scaled, 20, |input| own.scorer.score(input)).unwrap(), before);
}

#[test]
fn cap_kv_is_leverage_among_weighed_values() {
    use oracle::cap_kv::{leverages, property_log_det, weights};
    let cap = CapKV { epsilon: 0.0, ..CapKV::default() };
    for layer in layers() {
        let anchor = oracle::cap_kv::anchor(&layer, 16);
        for head in 0..layer.heads() {
            let (kv, dim) = (head / layer.group, layer.dim);
            let of = |data: &[f64]| narrow(&data[(kv * layer.len + 4) * dim..(kv + 1) * layer.len * dim]);
            let mu = &anchor[head * dim..][..dim];
            let c = weights(&layer, head, &anchor, 5.0, 4, true);
            let got = cap.leverages(&of(&layer.keys), &of(&layer.values), &narrow(mu)).unwrap();
            let expected = leverages(&layer, head, &c, 4, 0.0);
            got.iter().zip(&expected).for_each(|(got, expected)| assert!((got - expected).abs() < 1e-5));
            // Each is below 1, together at most the dimension; taking one away lowers the capacity by −ln(1 − s).
            assert!(got.iter().all(|s| (0.0..1.0).contains(s)) && got.iter().sum::<f64>() <= dim as f64);
            assert!((property_log_det(&layer, head, &c, 4, 3) + (1.0 - got[3]).ln()).abs() < 1e-4);
        }
    }
}

#[test]
fn nacl_keeps_the_best_and_draws_the_rest() {
    let spec = |random: f64, seed: u32| json!({ "kind": "nacl", "window": 8, "random": random, "seed": seed, "budget": { "tokensPerHead": 28 } });
    let top = |layer: &Layer, spec: Value| -> Vec<Vec<usize>> {
        let scores = with(layer, 28, |input| policy(spec.clone()).scorer.score(input)).unwrap();
        let open = |row: &[f32]| row[..layer.len - 8].iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        scores.iter().map(|row| oracle::top_k(&open(row), 20)).collect()
    };
    for layer in layers() {
        let plain = oracle::nacl::score(&layer, 8, 8);
        let best = |count: usize| -> Vec<Vec<usize>> { plain.iter().map(|row| oracle::top_k(row, count)).collect() };
        assert_eq!(top(&layer, spec(0.0, 1)), best(20));
        let [one, other] = [1, 2].map(|seed| top(&layer, spec(0.4, seed)));
        for (kept, best) in one.iter().chain(&other).zip(best(12).iter().chain(&best(12))) {
            assert!(best.iter().all(|slot| kept.contains(slot)), "the best twelve stay");
        }
        assert_ne!(one, other);
    }
    // Draws follow softmax(score): over many seeds each slot is first as often as it should be.
    let one = layer(1, 1, 40, 77);
    let plain = oracle::nacl::score(&one, 32, 32);
    let expected = oracle::nacl::probabilities(&plain[0], &[]);
    let mut first = [0.0f64; 8];
    for seed in 0..4000 {
        let spec =
            json!({ "kind": "nacl", "window": 32, "random": 1.0, "seed": seed, "budget": { "tokensPerHead": 33 } });
        let scores = with(&one, 33, |input| policy(spec).scorer.score(input)).unwrap();
        let winner = (0..8).max_by(|&a, &b| scores.row(0)[a].total_cmp(&scores.row(0)[b])).unwrap();
        first[winner] += 1.0 / 4000.0;
    }
    first.iter().zip(expected).for_each(|(got, expected)| assert!((got - expected).abs() < 0.03, "{got} {expected}"));
}

#[test]
fn sage_kv_asks_the_last_query_alone() {
    use oracle::sage_kv::{Reduce, score};
    let preset = policy(json!({ "kind": "sageKV", "budget": { "keep": 0.5 } }));
    for layer in layers() {
        let got = with(&layer, 40, |input| preset.scorer.score(input)).unwrap();
        for (got, expected) in got.iter().zip(score(&layer, 32, Reduce::Mean)) {
            got.iter().zip(expected).for_each(|(got, expected)| assert!((f64::from(*got) - expected).abs() < 1e-6));
        }
    }
}

#[test]
fn kv_compress_prefers_one_sharp_look_to_many_faint_ones() {
    let scorer =
        json!({ "kind": "snapKV", "window": 32, "rows": "squares", "group": "sum", "pool": { "kind": "none" } });
    agree(scorer, 40, |layer| oracle::kv_compress::score(layer, 32, 32, 1));
    assert_eq!(
        policy(json!({ "kind": "kvCompress", "budget": { "keep": 0.5 } })).scorer,
        policy(json!({ "kind": "snapKV", "window": 32, "rows": "squares", "group": "sum", "pool": { "kind": "none" }, "budget": { "keep": 0.5 } })).scorer
    );
}

#[test]
fn finch_weighs_rows_by_what_they_see() {
    agree(json!({ "kind": "finch", "window": 16 }), 30, |layer| {
        oracle::finch::score(layer, 16, oracle::finch::Count::Seen)
    });
    // Where every row looks everywhere alike, every slot has 1.
    let mut flat = layer(2, 2, 64, 5);
    flat.queries.fill(0.0);
    let finch = policy(json!({ "kind": "finch", "window": 16, "budget": { "keep": 0.5 } }));
    let scores = with(&flat, 30, |input| finch.scorer.score(input)).unwrap();
    assert!(scores.iter().all(|row| row[..48].iter().all(|score| (score - 1.0).abs() < 1e-5)));
}

#[test]
fn cake_shares_by_how_widely_and_how_changeably_a_layer_looks() {
    agree(json!({ "kind": "cakeScores", "window": 16 }), 30, |layer| oracle::cake::score(layer, 16, 200.0, 5));
    let none = Scores::from_rows([]);
    for layer in layers() {
        for (spread, shift) in [(1.0, 1.0), (1.6, 0.4)] {
            let allocator: Allocator =
                serde_json::from_value(json!({ "kind": "cake", "window": 16, "spread": spread, "shift": shift }))
                    .unwrap();
            let got = with(&layer, 30, |input| allocator.weigh(input, &none)).unwrap();
            let expected = oracle::cake::preference(&layer, 16, spread, shift);
            assert!((got - expected).abs() < 1e-4 * expected, "{got} {expected}");
            // Scores of the same window come with the weight, and are the same.
            let [same, other] = [16, 15].map(|window| {
                policy(json!({ "kind": "cakeScores", "window": window, "budget": { "keep": 0.5 } })).scorer
            });
            let both = with(&layer, 30, |input| (allocator.judge(&same, input), same.score(input)));
            assert_eq!(both.0, both.1.map(|scores| Some((scores, got))));
            assert_eq!(with(&layer, 30, |input| allocator.judge(&other, input)), Ok(None));
        }
    }
}

/// What the paper claims of its closed form: that it is what happens. The mean is made anew without each slot.
#[test]
fn caote_is_how_far_the_mean_moves_without_a_slot() {
    // How far the mean of the rows of `values` moves without each, by as many weights as there are.
    let moves = |weights: &[f64], values: &[f64], dim: usize| -> Vec<f64> {
        let mean = |without: Option<usize>| -> Vec<f64> {
            let slots = (0..weights.len()).filter(|&slot| Some(slot) != without);
            let sum: f64 = slots.clone().map(|slot| weights[slot]).sum();
            (0..dim)
                .map(|d| slots.clone().map(|slot| weights[slot] * values[slot * dim + d]).sum::<f64>() / sum)
                .collect()
        };
        let moved = |slot: usize| {
            let apart = |(a, b): (&f64, &f64)| (a - b).powi(2);
            mean(None).iter().zip(&mean(Some(slot))).map(apart).sum::<f64>().sqrt()
        };
        (0..weights.len()).map(moved).collect()
    };
    // Scores that are known: a slot's position.
    agree(json!({ "kind": "caote", "base": { "kind": "recency" } }), 20, |layer| {
        let weights: Vec<f64> = (0..layer.len).map(|slot| slot as f64).collect();
        layer.values.chunks(layer.len * layer.dim).map(|values| moves(&weights, values, layer.dim)).collect()
    });
    // What the base does not judge has no part in the mean, and stays.
    let window = 16;
    let base = json!({ "kind": "snapKV", "window": window, "pool": { "kind": "none" } });
    let plain = policy(json!({ "kind": "custom", "scorer": base, "budget": { "keep": 0.5 } }));
    let moved =
        policy(json!({ "kind": "custom", "scorer": { "kind": "caote", "base": base }, "budget": { "keep": 0.5 } }));
    for layer in layers() {
        let weights = with(&layer, 1, |input| plain.scorer.score(input)).unwrap();
        let scores = with(&layer, 1, |input| moved.scorer.score(input)).unwrap();
        for (head, values) in layer.values.chunks(layer.len * layer.dim).enumerate() {
            let open = layer.len - window;
            let weights: Vec<f64> = weights.row(head)[..open].iter().map(|&weight| f64::from(weight)).collect();
            for (&score, expected) in scores.row(head)[..open].iter().zip(moves(&weights, values, layer.dim)) {
                assert!((f64::from(score) - expected).abs() < 1e-5 + 1e-3 * expected, "{score} {expected}");
            }
            let best = scores.iter().flat_map(|row| &row[..open]).copied().fold(0.0, f32::max);
            assert_eq!(scores.row(head)[open..], vec![best + 1.0; window]);
        }
    }
    for base in [json!({ "kind": "expectedAttention" }), json!({ "kind": "local", "base": { "kind": "cur" } })] {
        let scorer = json!({ "kind": "caote", "base": base });
        let spec = json!({ "kind": "custom", "scorer": scorer, "budget": { "keep": 0.5 } });
        let refused = PolicySpec::from_value(spec).and_then(|spec| spec.resolve()).unwrap_err();
        assert!(refused.to_string().contains("caote"), "{refused}");
    }
    let score = |len: usize, base: &str| {
        let scorer = json!({ "kind": "caote", "base": { "kind": base } });
        let policy = policy(json!({ "kind": "custom", "scorer": scorer, "budget": { "keep": 0.5 } }));
        let layer = layer(1, 1, len, 5);
        (with(&layer, 1, |input| policy.scorer.score(input)), layer)
    };
    // All weight on one slot, which is then worth its length; no weight at all.
    let (scores, layer) = score(2, "recency");
    let length = layer.values[layer.dim..].iter().map(|x| x * x).sum::<f64>().sqrt();
    let scores = scores.unwrap();
    assert!(scores.row(0)[0] == 0.0 && (f64::from(scores.row(0)[1]) - length).abs() < 1e-6 * length);
    assert_eq!(score(1, "recency").0.unwrap().row(0), [0.0]);
    let error = score(9, "knorm").0.unwrap_err();
    assert!(error.to_string().contains("caote"), "{error}");
}

#[test]
fn lava_shares_by_entropy() {
    agree(json!({ "kind": "lavaScores", "window": 16 }), 30, |layer| oracle::lava::score(layer, 16, 7));
    for layer in layers() {
        let scores = oracle::lava::score(&layer, 16, 7);
        let got = Entropy::of(&Scores::from_rows(scores.iter().map(|row| narrow(row))));
        assert!((got - oracle::lava::weight(&scores)).abs() < 1e-5);
    }
    assert!((Entropy::of(&Scores::from_rows([vec![2.0; 5], vec![2.0; 5]])) - 1.0).abs() < 1e-12);
    assert_eq!(Entropy::of(&Scores::from_rows([vec![0.0, 3.0], vec![0.0, 0.0]])), 0.0);
}

#[test]
fn dynamic_kv_counts_the_best_of_all_layers() {
    let all: Vec<Vec<Vec<f64>>> = (0..5u32)
        .map(|seed| {
            let scores = oracle::la_prox::score(&layer(2, 2, 120, 500 + u64::from(seed)), 32, 7);
            scores.iter().map(|row| row.iter().map(|x| f64::from((x * f64::from(seed + 1)) as f32)).collect()).collect()
        })
        .collect();
    let scores: Vec<Scores> = all.iter().map(|layer| Scores::from_rows(layer.iter().map(|row| narrow(row)))).collect();
    let shares: Vec<Share> = scores
        .iter()
        .map(|scores| Share { available: scores.data().len(), weight: 1.0, scores: Some(scores) })
        .collect();
    for total in [10, 60, 150, 300] {
        // The oracle counts tokens per head, two heads a layer.
        let expected: Vec<usize> = oracle::dynamic_kv::layer_budgets(&all, total, 0.1).iter().map(|n| 2 * n).collect();
        let got = DynamicKVLayers { least: 0.1 }.allocate(2 * total, &shares);
        assert_eq!(got.iter().sum::<usize>(), 2 * total);
        let near = got.iter().zip(&expected).all(|(got, expected)| got.abs_diff(*expected) <= 3);
        assert!(near, "{got:?} {expected:?}");
    }
}

#[test]
fn refree_kv_stops_where_the_norm_of_the_last_row_is_there() {
    let none = json!({ "kind": "recency", "window": 0 });
    for layer in layers() {
        for loss in [0.3, 0.05, 0.01, 0.001] {
            let recency = policy(json!({ "kind": "custom", "scorer": none, "budget": { "keep": 0.9 } }));
            let filter: Filter = serde_json::from_value(json!({ "kind": "normRule", "loss": loss })).unwrap();
            let got =
                with(&layer, 10, |input| filter.admit(input, &recency.scorer.score(input).unwrap(), &[])).unwrap();
            let expected = oracle::refree_kv::kept(&layer, loss, 4);
            for (got, expected) in got.iter().zip(expected) {
                assert_eq!((0..got.len()).filter(|&slot| got[slot]).collect::<Vec<_>>(), expected);
            }
        }
    }
}

#[test]
fn g_vote_unites_what_drawn_queries_look_at() {
    for layer in layers() {
        let (dim, group) = (layer.dim, layer.group);
        // Eight rows of the window stand for the drawn queries.
        let sampled = &layer.queries[..8 * layer.heads() * dim];
        let expected = oracle::gvote::kept(&layer, sampled, 0.9);
        let vote = GVote { mass: 0.9, samples: 8, seed: 0 };
        let attention = oracle::window_attention(&layer, 1);
        for (kv, expected) in expected.iter().enumerate() {
            let heads = kv * group..(kv + 1) * group;
            let last: Vec<Vec<f32>> = heads.clone().map(|head| narrow(&attention[head][0])).collect();
            let of_head = |head: usize| -> Vec<f32> {
                let row = |row: usize| narrow(&sampled[(row * layer.heads() + head) * dim..][..dim]);
                (0..8).flat_map(row).collect()
            };
            let drawn: Vec<Vec<f32>> = heads.map(of_head).collect();
            let keys = narrow(&layer.keys[kv * layer.len * dim..(kv + 1) * layer.len * dim]);
            let got = vote.vote(&last, &drawn, &keys, dim);
            assert_eq!((0..got.len()).filter(|&slot| got[slot]).collect::<Vec<_>>(), *expected);
        }
        // More voters admit more.
        let admitted = |samples: usize| {
            let filter: Filter = serde_json::from_value(json!({ "kind": "gVote", "samples": samples })).unwrap();
            with(&layer, 10, |input| filter.admit(input, &Scores::from_rows([]), &[])).unwrap()
        };
        let (few, many) = (admitted(2).concat(), admitted(9).concat());
        assert!(few.iter().zip(&many).all(|(few, many)| !few || *many));
    }
}

/// LaProx scores of a layer as float32 and as the oracles have them, `heads` KV heads.
fn scored(heads: usize, len: usize, seed: u64) -> (Candidates, Vec<Vec<f64>>) {
    let exact = |row: &Vec<f64>| row.iter().map(|&x| f64::from(x as f32)).collect::<Vec<_>>();
    let scores: Vec<Vec<f64>> = oracle::la_prox::score(&layer(heads, 1, len, seed), 32, 7).iter().map(exact).collect();
    let positions = scores.iter().map(|row| (0..row.len() as u32).collect()).collect();
    (Candidates { scores: Scores::from_rows(scores.iter().map(|row| narrow(row))), positions }, scores)
}

#[test]
fn kv_crush_spends_part_of_the_budget_on_those_who_stand_for_the_rest() {
    use oracle::kv_crush::{self, Spacing, representatives_spaced};
    let anchors = [
        (Anchor::Mean, kv_crush::Anchor::Mean),
        (Anchor::Alternating, kv_crush::Anchor::Alternating),
        (Anchor::Zeros, kv_crush::Anchor::Zeros),
        (Anchor::Ones, kv_crush::Anchor::Ones),
    ];
    for (heads, len, count) in [(1, 80, 7), (2, 100, 40), (5, 160, 30), (8, 200, 120), (3, 96, 64)] {
        let (candidates, scores) = scored(heads, len, 40 + len as u64);
        let len = scores[0].len();
        let kept: Vec<Vec<usize>> = scores.iter().map(|row| oracle::top_k(row, count)).collect();
        let bits: Vec<Vec<bool>> =
            kept.iter().map(|kept| (0..len).map(|slot| kept.contains(&slot)).collect()).collect();
        for (share, (own, anchor)) in
            [0.0, 0.25, 0.6, 1.0].into_iter().flat_map(|share| anchors.iter().map(move |a| (share, a)))
        {
            let crush = Crush { share, anchor: *own };
            let got = crush.pick(&candidates, &vec![count; heads]).unwrap();
            let others = (count as f64 * share) as usize;
            for (head, row) in scores.iter().enumerate() {
                let mut expected = oracle::top_k(row, count - others);
                let rest: Vec<usize> = (0..len).filter(|slot| !expected.contains(slot)).collect();
                expected.extend(representatives_spaced(&bits, &rest, others, anchor.clone(), Spacing::Ends));
                expected.sort_unstable();
                let got: Vec<usize> = got.row(head).iter().map(|&slot| slot as usize).collect();
                assert_eq!(got, expected, "{heads} heads, share {share}, head {head}");
                // Whatever is judged alike often enough is represented.
                let step = (rest.len() - 1).div_ceil(others.saturating_sub(1).max(1));
                let order = kv_crush::by_distance(&bits, &rest, anchor);
                let distance = |&slot: &usize| {
                    let anchor = kv_crush::anchor_bits(&bits, anchor);
                    bits.iter().zip(anchor).filter(|(bits, a)| bits[slot] != *a).count()
                };
                for alike in order.chunk_by(|a, b| distance(a) == distance(b)).filter(|alike| alike.len() >= step) {
                    assert!(others < 2 || alike.iter().any(|slot| got.contains(slot)));
                }
            }
        }
    }
    // Where nothing has to represent others, it is the policy that it stands on.
    let crush = policy(json!({ "kind": "kvCrush", "share": 0, "budget": { "tokensPerHead": 40 } }));
    let snap = policy(json!({ "kind": "snapKV", "budget": { "tokensPerHead": 40 } }));
    for layer in layers() {
        let kept = |policy: &Policy| with(&layer, 40, |input| policy.compress(std::slice::from_ref(input))).unwrap();
        assert_eq!(kept(&crush), kept(&snap));
    }
}

#[test]
fn kv_compose_lets_layers_compete_rank_by_rank() {
    use oracle::kv_compose::layer_budgets;
    let (layers, all): (Vec<Candidates>, Vec<Vec<Vec<f64>>>) = (0..5).map(|seed| scored(3, 120, 700 + seed)).unzip();
    for tokens in [0, 1, 10, 60, 150, 300, 440] {
        let got = Composite {}.counts_of_layers(&layers, &[3 * tokens]).unwrap();
        let expected: Vec<Vec<usize>> =
            layer_budgets(&all, tokens, false).into_iter().map(|count| vec![count; 3]).collect();
        assert_eq!(got, expected, "heads of a layer keep as many");
        // What is left of a composite token goes to the first heads of its layer.
        let more = Composite {}.counts_of_layers(&layers, &[3 * tokens.min(439) + 2]).unwrap();
        assert_eq!(more.concat().iter().sum::<usize>(), 3 * tokens.min(439) + 2);
        assert!(more.iter().all(|heads| heads.is_sorted_by(|a, b| a >= b) && heads[0] - heads[2] <= 1));
    }
    // Permuting a head's slots changes no budget.
    let turned: Vec<Candidates> = layers
        .iter()
        .map(|layer| {
            let rows = layer.scores.iter().map(|row| row.iter().rev().copied().collect());
            Candidates { scores: Scores::from_rows(rows), positions: layer.positions.clone() }
        })
        .collect();
    let budgets = |layers: &[Candidates]| Composite {}.counts_of_layers(layers, &[200]).unwrap();
    assert_eq!(budgets(&layers), budgets(&turned));
}

#[test]
fn critical_kv_chooses_the_rest_by_what_values_do_to_the_output() {
    // Scores of any sign, with many and with few that come near the best.
    let scorers = [json!({ "kind": "snapKV", "window": 8 }), json!({ "kind": "knorm" }), json!({ "kind": "tova" })];
    for (scorer, first) in scorers.into_iter().flat_map(|scorer| [0.0, 0.5, 1.0].map(|first| (scorer.clone(), first))) {
        let policy = policy(json!({
            "kind": "custom", "scorer": scorer, "secondStage": { "first": first, "norm": "l1" }, "budget": { "tokensPerHead": 28 },
        }));
        for layer in layers() {
            let scores = with(&layer, 28, |input| policy.scorer.score(input)).unwrap();
            let kept = with(&layer, 28, |input| policy.compress(std::slice::from_ref(input))).unwrap();
            let window = policy.scorer.window();
            let (open, count) = (layer.len - window, 28 - window);
            for head in 0..layer.kv_heads {
                let scores: Vec<f64> = scores.row(head)[..open].iter().map(|&x| f64::from(x)).collect();
                let best = oracle::top_k(&scores, (count as f64 * first) as usize);
                let magnitude = |query_head: usize, slot: usize| -> f64 {
                    layer.project(query_head, layer.value(head, slot)).iter().map(|x| x.abs()).sum()
                };
                let weigh = |slot: usize| -> f64 {
                    let heads = head * layer.group..(head + 1) * layer.group;
                    let mean = heads.map(|head| magnitude(head, slot)).sum::<f64>() / layer.group as f64;
                    if best.contains(&slot) { f64::INFINITY } else { (scores[slot] + 1e-4) * mean }
                };
                let mut expected = oracle::top_k(&(0..open).map(weigh).collect::<Vec<_>>(), count);
                expected.extend(open..layer.len);
                let got: Vec<usize> = kept[0].head(head).iter().map(|&slot| slot as usize).collect();
                assert_eq!(got, expected, "{scorer} {first}");
            }
        }
    }
}

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

#[test]
fn fast_gen_takes_the_cheapest_parts_that_recover_the_attention_of_a_head() {
    let classes = |len: usize| -> Vec<TokenClass> {
        let class = |at: usize| match at {
            0 => TokenClass::Special,
            at if at % 9 == 4 => TokenClass::Punctuation,
            _ => TokenClass::Other,
        };
        (0..len).map(class).collect()
    };
    let (mut sizes, mut seen) = (Vec::new(), [0usize; 4]);
    for layer in layers() {
        let own = classes(layer.len);
        let theirs: Vec<_> = own
            .iter()
            .map(|class| match class {
                TokenClass::Special => oracle::fast_gen::Class::Special,
                TokenClass::Punctuation => oracle::fast_gen::Class::Punctuation,
                TokenClass::Other => oracle::fast_gen::Class::Other,
            })
            .collect();
        let attention = oracle::window_attention(&layer, 16);
        sizes.clear();
        for recovery in [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0] {
            let filter: Filter =
                serde_json::from_value(json!({ "kind": "fastGen", "recovery": recovery, "window": 16 })).unwrap();
            let got = with(&layer, 10, |input| {
                let gathered = Gathered { token_classes: Some(&own), ..input.gathered };
                filter.admit(&LayerInput { gathered, ..*input }, &Scores::from_rows([]), &[])
            })
            .unwrap();
            for (head, got) in got.iter().enumerate() {
                let group = &attention[head * layer.group..(head + 1) * layer.group];
                let mean = |row: usize, slot: usize| {
                    group.iter().map(|rows| rows[row][slot]).sum::<f64>() / layer.group as f64
                };
                let rows: Vec<Vec<f64>> =
                    (0..16).map(|row| (0..layer.len).map(|slot| mean(row, slot)).collect()).collect();
                let expected = oracle::fast_gen::kept(&rows, &theirs, recovery, 0.3, 0.3);
                let got: Vec<usize> = (0..got.len()).filter(|&slot| got[slot]).collect();
                assert_eq!(got, expected, "recovery {recovery}");
                seen[[1, layer.len / 6, layer.len / 2].iter().filter(|&&size| got.len() > size).count()] += 1;
            }
            sizes.push(got.concat().iter().filter(|&&kept| kept).count());
        }
        // More to recover never keeps less; nothing to recover keeps the special token alone.
        assert!(sizes.is_sorted() && sizes[0] == layer.kv_heads);
    }
    assert!(seen.iter().all(|&count| count > 0), "all kinds of heads: {seen:?}");
}

#[test]
fn a_certificate_holds_for_every_query_of_its_window() {
    const WINDOW: usize = 8;
    let mut shares = Vec::new();
    for layer in layers().filter(|layer| layer.len > 60) {
        let attention = oracle::window_attention(&layer, WINDOW);
        let output = |row: usize, stays: &dyn Fn(usize, usize) -> bool| -> Vec<f64> {
            let mut sum = vec![0.0; layer.hidden];
            for (head, rows) in attention.iter().enumerate() {
                let kv = head / layer.group;
                let held: f64 = (0..layer.len).filter(|&slot| stays(kv, slot)).map(|slot| rows[row][slot]).sum();
                let mut out = vec![0.0; layer.dim];
                for slot in (0..layer.len).filter(|&slot| stays(kv, slot)) {
                    let p = rows[row][slot] / held;
                    out.iter_mut().zip(layer.value(kv, slot)).for_each(|(out, v)| *out += p * v);
                }
                sum.iter_mut().zip(layer.project(head, &out)).for_each(|(sum, x)| *sum += x);
            }
            sum
        };
        // Of what is gone in each row: Σ a ‖v W‖ and Σ a ‖o W‖, each over the share that is left.
        let bound = |row: usize, gone: &dyn Fn(usize, usize) -> bool| -> f64 {
            let of_head = |(head, rows): (usize, &Vec<Vec<f64>>)| {
                let kv = head / layer.group;
                let length = |x: &[f64]| oracle::norm(&layer.project(head, x));
                let mut out = vec![0.0; layer.dim];
                for (slot, p) in rows[row].iter().enumerate() {
                    out.iter_mut().zip(layer.value(kv, slot)).for_each(|(out, v)| *out += p * v);
                }
                let (mut mass, mut moved) = (0.0, 0.0);
                for slot in (0..layer.len).filter(|&slot| gone(kv, slot)) {
                    mass += rows[row][slot];
                    moved += rows[row][slot] * length(layer.value(kv, slot));
                }
                (moved + mass * length(&out)) / (1.0 - mass)
            };
            attention.iter().enumerate().map(of_head).sum()
        };
        let mut before: Option<Vec<Vec<bool>>> = None;
        for error in [0.02, 0.2, 0.5, 1.5] {
            let policy = policy(json!({
                "kind": "custom",
                "scorer": { "kind": "snapKV", "window": WINDOW, "rows": "l2", "pool": { "kind": "none" }, "weight": {} },
                "filter": { "kind": "certificate", "error": error, "window": WINDOW },
                "protect": { "sinks": 2 },
                "budget": { "keep": 1.0 },
            }));
            let kept = with(&layer, layer.len, |input| policy.compress(std::slice::from_ref(input))).unwrap();
            let stays: Vec<Vec<bool>> = (0..layer.kv_heads)
                .map(|head| (0..layer.len as u32).map(|slot| kept[0].head(head).contains(&slot)).collect())
                .collect();
            for row in 0..WINDOW {
                let (whole, left) = (output(row, &|_, _| true), output(row, &|head, slot| stays[head][slot]));
                let change: Vec<f64> = whole.iter().zip(&left).map(|(a, b)| a - b).collect();
                let (change, limit) = (oracle::norm(&change), error * oracle::norm(&whole));
                assert!(change <= limit * 1.0001, "error {error}: {change} of {limit}");
            }
            // As many go as the bound allows: with the one that would be next it is too large.
            let limits: Vec<f64> = (0..WINDOW).map(|row| error * oracle::norm(&output(row, &|_, _| true))).collect();
            let bounds =
                |gone: &dyn Fn(usize, usize) -> bool| (0..WINDOW).map(|row| bound(row, gone)).collect::<Vec<_>>();
            let held = bounds(&|head, slot| !stays[head][slot]);
            assert!(held.iter().zip(&limits).all(|(bound, limit)| *bound <= limit * 1.0001), "{held:?} {limits:?}");
            let scores = with(&layer, layer.len, |input| policy.scorer.score(input)).unwrap();
            let open = (0..layer.kv_heads).flat_map(|head| (2..layer.len - WINDOW).map(move |slot| (head, slot)));
            let score = |&(head, slot): &(usize, usize)| scores.row(head)[slot];
            let next = open.filter(|&(head, slot)| stays[head][slot]).min_by(|a, b| score(a).total_cmp(&score(b)));
            if let Some(next) = next {
                let more = bounds(&|head, slot| !stays[head][slot] || (head, slot) == next);
                assert!(more.iter().zip(&limits).any(|(bound, limit)| *bound > limit * 0.9999), "{more:?} {limits:?}");
            }
            let count = |stays: &[Vec<bool>]| stays.concat().iter().filter(|&&stays| stays).count();
            if let Some(before) = &before {
                // More error, and less of the same stays.
                assert!(before.concat().iter().zip(stays.concat()).all(|(&before, now)| before || !now));
                shares.push(count(before).cmp(&count(&stays)));
            }
            assert!(
                stays.iter().all(|head| head[0] && head[1] && head[layer.len - WINDOW..].iter().all(|&stays| stays))
            );
            before = Some(stays);
        }
    }
    assert!(shares.iter().filter(|order| order.is_gt()).count() * 4 > shares.len() * 3, "{shares:?}");
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
