//! What a slot is worth.

use crate::oracle::Layer;
use crate::{agree, layer, layers, narrow, oracle, policy, with};
use headwise_core::Rotation;
use headwise_policy::{Admit, CapKV, LayerInput, ModelView, PolicySpec, Renumbered, Score};
use serde_json::{Value, json};

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
