//! How many slots a layer or a head gets, and how many it needs.

use crate::{agree, layer, layers, narrow, oracle, policy, with};
use headwise_core::Scores;
use headwise_policy::gather::TokenClass;
use headwise_policy::{
    Admit, Allocate, Allocator, DynamicKVLayers, Entropy, Filter, GVote, Gathered, LayerInput, Score, Share,
};
use serde_json::json;

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
