//! Which slots stay, scores given.

use crate::{layer, layers, narrow, oracle, policy, with};
use headwise_core::Scores;
use headwise_policy::{Anchor, Candidates, Composite, Crush, Policy, Score, Select};
use serde_json::json;

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
