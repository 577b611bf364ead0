//! Properties of `Policy::compress` over random caches and policies: the budget is met exactly, nothing protected is lost,
//! the answer does not depend on the number of threads.

use headwise_core::{Codec, Error, KvShape, Rotation, Scores, Selection};
use headwise_kernels::matmul::{GgmlDType, Matrix};
use headwise_kernels::{BlockLayout, HeadView};
use headwise_policy::gather::{ChunkAttention, ChunkGrid, Echo, Gather, QueryMoments, TokenClass};
use headwise_policy::{
    AcrossLayers, Admit, Budget, Candidates, Gathered, LayerInput, ModelView, OutputLengths, Policy, PolicySpec,
    Scorer, Select, Stream, Streamed,
};
use proptest::prelude::*;
use serde_json::{Value, json};

const SLOTS: usize = 8;

/// A cache with random keys. `gaps` removes some slots, so that heads have different lengths.
#[derive(Debug, Clone)]
struct Cache {
    shape: KvShape,
    seen: usize,
    /// `[layer][head]`
    positions: Vec<Vec<Vec<u32>>>,
    blocks: Vec<Vec<Vec<Vec<u8>>>>,
    queries: Vec<f32>,
    rows: usize,
    /// What a session would have gathered, `[layer]`.
    sums: Vec<Vec<f32>>,
    moments: QueryMoments,
    chunks: Vec<ChunkAttention>,
    echo: Echo,
    /// W_O in bytes.
    output: Vec<u8>,
}

/// Positions do not matter here.
#[derive(Debug)]
struct Still;

impl Rotation for Still {
    fn push_angles(&self, _: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.extend([1.0; 2]);
        sin.extend([0.0; 2]);
    }

    fn rotate(&self, _: &mut [f32], _: &[f32], _: &[f32]) {}
}

/// Rows of W_O.
const HIDDEN: usize = 6;

impl Cache {
    fn new(shape: KvShape, seen: usize, rows: usize, gaps: bool, seed: u64) -> Self {
        let mut state = seed | 1;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let layout = Self::layout(shape);
        let mut positions = Vec::new();
        let mut blocks = Vec::new();
        for _ in 0..shape.layers {
            let heads: Vec<Vec<u32>> = (0..shape.kv_heads)
                .map(|head| {
                    (0..seen as u32)
                        .filter(|p| !gaps || head == 0 || !(p * 7 + head as u32).is_multiple_of(5))
                        .collect()
                })
                .collect();
            let mut fill = |slots: usize| -> Vec<Vec<u8>> {
                let numbers = layout.bytes() / 4;
                let block = |_| (0..numbers).flat_map(|_| random().to_ne_bytes()).collect();
                (0..slots.div_ceil(SLOTS)).map(block).collect()
            };
            blocks.push(heads.iter().map(|head| fill(head.len())).collect());
            positions.push(heads);
        }
        let rows = rows.min(seen);
        let width = shape.query_heads() * shape.head_dim;
        let queries: Vec<f32> = (0..rows * width).map(|_| 3.0 * random()).collect();
        let mut moments = QueryMoments::new(shape);
        moments.take(&queries);
        let sums = |heads: &Vec<Vec<u32>>| heads.iter().map(Vec::len).sum::<usize>() * shape.group;
        let sums = positions.iter().map(|heads| (0..sums(heads)).map(|_| random().abs()).collect()).collect();
        // One layer's stands for all; the grids of the scorers below.
        let chunks =
            [ChunkGrid { chunk: 256, start: 0, end: 0 }, ChunkGrid { chunk: 256, start: 8, end: 4 }].map(|grid| {
                let mut gathered = ChunkAttention::new(shape, grid);
                let mut row = |heads: usize| (0..seen * heads * shape.head_dim).map(|_| random()).collect::<Vec<_>>();
                let (queries, keys) = (row(shape.query_heads()), row(shape.kv_heads));
                gathered.take(&(queries, keys));
                gathered
            });
        let mut echo = Echo::new(shape, 512);
        let keys: Vec<f32> = (0..rows * shape.kv_heads * shape.head_dim).map(|_| random()).collect();
        echo.take(&Echo::moved(&queries, &keys, &Still, 512, shape));
        let output = (0..HIDDEN * width).flat_map(|_| random().to_ne_bytes()).collect();
        Self { shape, seen, positions, blocks, queries, rows, sums, moments, chunks: chunks.into(), echo, output }
    }

    fn layout(shape: KvShape) -> BlockLayout {
        BlockLayout { codec: Codec::F32, head_dim: shape.head_dim, slots: SLOTS }
    }

    fn gaps(&self) -> bool {
        self.positions.iter().flatten().any(|row| row.len() < self.seen)
    }

    fn slots(&self) -> usize {
        self.positions.iter().flatten().map(Vec::len).sum()
    }

    fn compress(&self, policy: &Policy) -> headwise_core::Result<Vec<Selection>> {
        self.with_layers(|layers| policy.compress(layers))
    }

    fn with_layers<R>(&self, f: impl FnOnce(&[LayerInput<Vec<u8>>]) -> R) -> R {
        let layout = Self::layout(self.shape);
        let query_positions: Vec<u32> = (self.seen - self.rows..self.seen).map(|p| p as u32).collect();
        let views: Vec<Vec<HeadView<Vec<u8>>>> = std::iter::zip(&self.blocks, &self.positions)
            .map(|(blocks, positions)| {
                let view = |(blocks, positions): (_, &Vec<u32>)| HeadView { layout, blocks, len: positions.len() };
                std::iter::zip(blocks.iter().map(|blocks| &blocks[..]), positions).map(view).collect()
            })
            .collect();
        let positions: Vec<Vec<&[u32]>> =
            self.positions.iter().map(|heads| heads.iter().map(|head| &head[..]).collect()).collect();
        let class = |position| [TokenClass::Other, TokenClass::Special, TokenClass::Punctuation][position % 3];
        let classes: Vec<TokenClass> = (0..self.seen).map(class).collect();
        let echoes = [&self.echo];
        let chunks: Vec<&ChunkAttention> = self.chunks.iter().collect();
        let width = self.shape.query_heads() * self.shape.head_dim;
        let output = Matrix::new(&self.output, GgmlDType::F32, HIDDEN, width).unwrap();
        let layers: Vec<_> = (0..self.shape.layers)
            .map(|layer| LayerInput {
                layer,
                heads: &views[layer],
                positions: &positions[layer],
                renumbered: None,
                queries: &self.queries,
                query_positions: &query_positions,
                gathered: Gathered {
                    running_sums: Some(&self.sums[layer]),
                    echo: &echoes,
                    token_classes: Some(&classes),
                    probe: Some(&self.sums[layer]),
                    query_moments: Some(&self.moments),
                    chunk_attention: &chunks,
                },
                model: ModelView { output: Some(output), rotation: Some(&Still) },
                shape: self.shape,
                seen: self.seen,
                scale: 0.5,
                output_lengths: None,
                budget: 0,
            })
            .collect();
        f(&layers)
    }
}

fn caches() -> impl Strategy<Value = Cache> {
    (1usize..5, 1usize..4, 1usize..4, 1usize..90, any::<bool>(), any::<u64>()).prop_map(
        |(layers, kv_heads, group, seen, gaps, seed)| {
            Cache::new(KvShape { layers, kv_heads, group, head_dim: 4 }, seen, 12, gaps, seed)
        },
    )
}

fn specs() -> impl Strategy<Value = Value> {
    let pools = prop_oneof![
        Just(json!({ "kind": "none" })),
        Just(json!({ "kind": "average", "kernel": 3 })),
        Just(json!({ "kind": "max" })),
        Just(json!({ "kind": "lookAhead", "span": 5 })),
    ];
    let choice = |words: &'static [&'static str]| prop::sample::select(words);
    let fade = prop::sample::select(&[1.0, 0.9][..]);
    let snap = (
        1usize..12,
        pools,
        choice(&["mean", "max", "l2", "sum"]),
        choice(&["mean", "max", "sum"]),
        any::<bool>(),
        fade,
    )
        .prop_map(|(window, pool, rows, group, first, fade)| {
            let order = if first { "groupFirst" } else { "poolFirst" };
            json!({ "kind": "snapKV", "window": window, "pool": pool, "rows": rows, "group": group, "order": order, "fade": fade })
        });
    // Every registered scorer with its defaults, windows cut down to these small caches.
    let registered = (prop::sample::select(Scorer::KINDS), 2usize..12, 1usize..9).prop_map(|(kind, window, length)| {
        let mut scorer =
            serde_json::to_value(serde_json::from_value::<Scorer>(json!({ "kind": kind })).unwrap()).unwrap();
        for (name, value) in [("window", window), ("length", length), ("lag", length), ("block", length)] {
            if scorer.get(name).is_some() {
                scorer[name] = json!(value);
            }
        }
        for part in ["/base", "/of/0", "/of/1"] {
            if let Some(width) = scorer.pointer_mut(&format!("{part}/window")) {
                *width = json!(window);
            }
        }
        scorer
    });
    let scorer = prop_oneof![1 => snap, 3 => registered];
    let allocator = prop_oneof![
        Just(json!({ "kind": "uniform" })),
        (1usize..30).prop_map(|beta| json!({ "kind": "pyramid", "beta": beta })),
        Just(json!({ "kind": "weights", "weights": [3.0, 0.0, 1.5] })),
        Just(json!({ "kind": "cake", "window": 8 })),
        Just(json!({ "kind": "entropy" })),
        (0.0f64..1.0).prop_map(|least| json!({ "kind": "dynamicKV", "least": least })),
    ];
    let selector = prop_oneof![
        Just(json!({ "kind": "perHead" })),
        (0.0f64..1.0, any::<bool>()).prop_map(|(floor, normalize)| {
            json!({ "kind": "acrossHeads", "floor": floor, "normalize": normalize })
        }),
        (0.0f64..1.0, any::<bool>()).prop_map(|(floor, normalize)| {
            json!({ "kind": "acrossLayers", "floor": floor, "normalize": normalize })
        }),
        Just(json!({ "kind": "shared" })),
        (1usize..9, 1usize..3)
            .prop_map(|(length, reuse)| json!({ "kind": "chunks", "length": length, "reuse": reuse })),
        (1usize..9).prop_map(|length| json!({ "kind": "perChunk", "length": length })),
        // As many layers and heads as any cache has; `fitted` cuts them down.
        prop::collection::vec(prop::collection::vec(prop_oneof![1 => Just(0.0), 4 => 0.0f64..9.0], 3), 4)
            .prop_map(|weights| json!({ "kind": "headWeights", "weights": weights })),
        (0.0f64..=1.0, choice(&["mean", "alternating", "zeros", "ones"]))
            .prop_map(|(share, anchor)| json!({ "kind": "crush", "share": share, "anchor": anchor })),
        Just(json!({ "kind": "composite" })),
    ];
    let filter = prop_oneof![
        5 => Just(Value::Null),
        1 => Just(json!({ "kind": "nucleus", "mass": 0.7 })),
        1 => Just(json!({ "kind": "threshold", "least": 0.1 })),
        1 => Just(json!({ "kind": "normRule", "loss": 0.1 })),
        1 => Just(json!({ "kind": "gVote", "samples": 2 })),
        1 => Just(json!({ "kind": "simLayer", "threshold": 0.3, "initial": 1, "recent": 5 })),
        1 => (0.01f64..2.0).prop_map(|error| json!({ "kind": "certificate", "error": error, "window": 8 })),
        1 => (0.0f64..1.0).prop_map(|recovery| json!({ "kind": "fastGen", "recovery": recovery, "window": 8 })),
    ];
    let stage = prop_oneof![
        2 => Just(Value::Null),
        1 => (0.0f64..1.0).prop_map(|first| json!({ "first": first })),
    ];
    let budget = prop_oneof![
        (1usize..100).prop_map(|tokens| json!({ "tokensPerHead": tokens })),
        (0.01f64..1.0).prop_map(|keep| json!({ "keep": keep })),
        (0.0f64..0.99).prop_map(|ratio| json!({ "ratio": ratio })),
        (1usize..30_000).prop_map(|bytes| json!({ "bytes": bytes })),
    ];
    let protect = (0usize..6, 0usize..2, 0u32..50, 0u32..8).prop_map(|(sinks, layers, start, length)| {
        json!({ "sinks": sinks, "layers": layers, "spans": [{ "start": start, "end": start + length }] })
    });
    (scorer, allocator, selector, filter, stage, budget, protect).prop_map(
        |(scorer, mut allocator, selector, filter, mut stage, budget, protect)| {
            // What cannot be combined is refused (`spec.rs`).
            let kind = selector["kind"].as_str().unwrap();
            if ["acrossLayers", "headWeights", "composite"].contains(&kind) {
                allocator = json!({ "kind": "uniform" });
            }
            if ["shared", "chunks", "perChunk", "crush"].contains(&kind) {
                stage = Value::Null;
            }
            let mut spec = json!({
                "kind": "custom", "scorer": scorer, "allocator": allocator, "selector": selector, "budget": budget,
                "protect": protect,
            });
            for (name, part) in [("filter", filter), ("secondStage", stage)] {
                if !part.is_null() {
                    spec[name] = part;
                }
            }
            spec
        },
    )
}

/// The policy with as many weights as this cache has layers and heads.
fn fitted(mut spec: Value, shape: KvShape) -> Policy {
    if let Some(layers) = spec["selector"].get_mut("weights").and_then(Value::as_array_mut) {
        layers.truncate(shape.layers);
        layers.iter_mut().filter_map(Value::as_array_mut).for_each(|heads| heads.truncate(shape.kv_heads));
    }
    policy(spec)
}

/// Last tokens that a scorer protects, from the JSON.
fn window_of(scorer: &Value) -> u64 {
    match scorer["kind"].as_str().unwrap() {
        "tova" => 1,
        _ if scorer["base"].is_object() => window_of(&scorer["base"]),
        _ if scorer["of"].is_array() => scorer["of"].as_array().unwrap().iter().map(window_of).max().unwrap(),
        _ => scorer["recent"].as_u64().or(scorer["window"].as_u64()).unwrap_or(0),
    }
}

/// Whether this slot may not be evicted, from the JSON: not through the code under test.
fn protected(spec: &Value, layer: usize, position: u32, seen: usize) -> bool {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let (protect, position) = (&spec["protect"], u64::from(position));
    let window = window_of(&spec["scorer"]);
    let span = &protect["spans"][0];
    (layer as u64) < number(&protect["layers"])
        || position < number(&protect["sinks"])
        || position + window >= seen as u64
        || (position >= number(&span["start"]) && position < number(&span["end"]))
}

/// Slots that the budget allows, from the JSON.
fn budget(spec: &Value, shape: KvShape, seen: usize) -> usize {
    let heads = shape.layers * shape.kv_heads;
    let budget = &spec["budget"];
    if let Some(tokens) = budget["tokensPerHead"].as_u64() {
        tokens as usize * heads
    } else if let Some(bytes) = budget["bytes"].as_u64() {
        bytes as usize / (2 * shape.head_dim * 4)
    } else if let Some(keep) = budget["keep"].as_f64() {
        ((seen as f64 * keep).floor() as usize).max(1) * heads
    } else {
        ((seen as f64 * (1.0 - budget["ratio"].as_f64().unwrap())).trunc() as usize).max(1) * heads
    }
}

fn cases() -> u32 {
    std::env::var("HEADWISE_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    // HEADWISE_CASES=100000 for a long run.
    #![proptest_config(ProptestConfig { max_global_rejects: 2 * cases().max(1024), ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn the_budget_is_met_exactly_and_nothing_protected_is_lost(cache in caches(), spec in specs()) {
        let policy = fitted(spec.clone(), cache.shape);
        let total = budget(&spec, cache.shape, cache.seen);
        let guarded: usize = cache.positions.iter().enumerate().map(|(layer, heads)| {
            heads.iter().flatten().filter(|&&p| protected(&spec, layer, p, cache.seen)).count()
        }).sum();
        match cache.compress(&policy) {
            Err(Error::BudgetBelowProtected { budget, protected, .. }) => {
                prop_assert!(total < guarded && total < cache.slots());
                prop_assert!(budget < protected);
            }
            // Methods that keep the same slots in all heads want heads that hold the same.
            Err(Error::UnsupportedFeature { feature, .. }) => {
                let shared = ["tova", "shared", "chunks"].iter().any(|name| feature.contains(name));
                prop_assert!(shared && (cache.gaps() || spec.get("filter").is_some()), "{feature}");
            }
            Err(error) => prop_assert!(false, "{error}"),
            Ok(kept) => {
                prop_assert!(total >= guarded || total >= cache.slots());
                let sum: usize = kept.iter().map(Selection::total).sum();
                match spec.get("filter") {
                    None => prop_assert_eq!(sum, total.min(cache.slots())),
                    Some(_) => prop_assert!(sum <= total.min(cache.slots()) && sum >= guarded.min(cache.slots())),
                }
                for (layer, (kept, heads)) in kept.iter().zip(&cache.positions).enumerate() {
                    for (head, positions) in heads.iter().enumerate() {
                        for (slot, &position) in positions.iter().enumerate() {
                            let stays = kept.head(head).contains(&(slot as u32));
                            prop_assert!(stays || !protected(&spec, layer, position, cache.seen));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_larger_budget_takes_nothing_away(cache in caches(), spec in specs(), more in 1usize..20) {
        let mut spec = spec;
        let selector = spec["selector"]["kind"].as_str().unwrap().to_owned();
        // Heads and layers that share by what they won are promised nothing; nor are scores that look at the budget.
        if !["perHead", "acrossLayers", "composite"].contains(&selector.as_str()) {
            spec["selector"] = json!({ "kind": "perHead" });
        }
        spec["allocator"] = json!({ "kind": "uniform" });
        spec.as_object_mut().unwrap().remove("secondStage");
        let budgeted = ["nacl", "ahaKV", "restKV", "defensive"];
        if budgeted.contains(&spec["scorer"]["kind"].as_str().unwrap()) {
            spec["scorer"] = json!({ "kind": "knorm" });
        }
        let heads = cache.shape.layers * cache.shape.kv_heads;
        let with = |tokens: usize| {
            let mut spec = spec.clone();
            spec["budget"] = json!({ "bytes": tokens * 2 * cache.shape.head_dim * 4 });
            cache.compress(&PolicySpec::from_value(spec).unwrap().resolve().unwrap())
        };
        let few = 1 + cache.seen * heads / 3;
        if let (Ok(few), Ok(many)) = (with(few), with(few + more)) {
            for (few, many) in few.iter().zip(&many) {
                for head in 0..few.heads() {
                    prop_assert!(few.head(head).iter().all(|slot| many.head(head).contains(slot)));
                }
            }
        }
    }

    #[test]
    fn layers_can_be_chosen_from_one_by_one(
        layers in prop::collection::vec(prop::collection::vec(prop::collection::vec(0u8..20, 0..30), 1..4), 1..6),
        budget in 0usize..200,
        floor in 0.0f64..1.0,
        normalize in any::<bool>(),
    ) {
        let rule = AcrossLayers { floor, normalize };
        let scores = |layer: &Vec<Vec<u8>>| Scores::from_rows(layer.iter().map(|row| row.iter().map(|&x| f32::from(x)).collect()));
        let candidates: Vec<Candidates> = layers.iter().map(|layer| Candidates { scores: scores(layer), positions: Vec::new() }).collect();
        let offline: Vec<usize> = rule.counts_of_layers(&candidates, &[budget]).unwrap().concat();
        let mut stream = Stream::new(rule, budget, layers.iter().map(Vec::len).sum());
        for layer in &candidates {
            stream.push(&layer.scores);
            // Before the next layer comes, no more is held than the budget.
            prop_assert!(stream.counts().iter().sum::<usize>() <= budget);
        }
        prop_assert_eq!(stream.counts(), offline);
    }

    #[test]
    fn a_cache_that_comes_layer_by_layer_keeps_the_same_and_never_holds_more_than_the_budget_and_a_layer(
        cache in caches(), spec in specs(), floor in 0.0f64..1.0, normalize in any::<bool>(),
    ) {
        prop_assume!(!cache.gaps());
        let mut spec = spec;
        let parts = spec.as_object_mut().unwrap();
        ["filter", "secondStage", "allocator"].iter().for_each(|part| drop(parts.remove(*part)));
        spec["selector"] = json!({ "kind": "acrossLayers", "floor": floor, "normalize": normalize });
        let policy = policy(spec);
        let (shape, seen) = (cache.shape, cache.seen);
        let slot_bytes = shape.slot_bytes(Codec::F32);
        let budget = policy.budget.slots(seen, shape.layers * shape.kv_heads, slot_bytes);
        let mut held: Vec<Vec<Vec<u32>>> = Vec::new();
        let mut most = 0;
        let streamed = cache.with_layers(|layers| {
            let mut streamed = Streamed::new(&policy, shape, seen, slot_bytes)?;
            for layer in layers {
                held.push(vec![(0..seen as u32).collect(); shape.kv_heads]);
                let slots = |held: &[Vec<Vec<u32>>]| held.iter().flatten().map(Vec::len).sum::<usize>();
                most = most.max(slots(&held));
                for (held, selection) in held.iter_mut().zip(streamed.push(layer)?) {
                    for (head, kept) in held.iter_mut().enumerate() {
                        *kept = selection.head(head).iter().map(|&slot| kept[slot as usize]).collect();
                    }
                }
                assert_eq!(streamed.held(), slots(&held));
            }
            Ok(())
        });
        match (cache.compress(&policy), streamed) {
            (Ok(whole), Ok(())) => {
                let whole: Vec<Vec<Vec<u32>>> =
                    whole.iter().map(|layer| (0..shape.kv_heads).map(|head| layer.head(head).to_vec()).collect()).collect();
                prop_assert_eq!(held, whole);
                prop_assert!(most <= budget + shape.kv_heads * seen, "{} of {}", most, budget);
            }
            (whole, streamed) => prop_assert_eq!(whole.err(), streamed.err()),
        }
    }

    #[test]
    fn the_answer_does_not_depend_on_the_number_of_threads(cache in caches(), spec in specs()) {
        let policy = fitted(spec, cache.shape);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| cache.compress(&policy))
        };
        prop_assert_eq!(with(1), with(3));
    }
}

fn policy(spec: Value) -> Policy {
    PolicySpec::from_value(spec).unwrap().resolve().unwrap()
}

fn small(seen: usize, rows: usize) -> Cache {
    Cache::new(KvShape { layers: 2, kv_heads: 2, group: 2, head_dim: 4 }, seen, rows, false, 7)
}

#[test]
fn streaming_llm_keeps_sinks_and_the_most_recent() {
    let kept =
        small(50, 0).compress(&policy(json!({ "kind": "streamingLLM", "budget": { "tokensPerHead": 10 } }))).unwrap();
    assert!(kept.iter().all(|layer| (0..2).all(|h| layer.head(h) == [0, 1, 2, 3, 44, 45, 46, 47, 48, 49])));
}

#[test]
fn a_budget_below_the_protected_set_says_the_numbers() {
    let spec = json!({ "kind": "snapKV", "window": 8, "protect": { "sinks": 4 }, "budget": { "tokensPerHead": 11 } });
    let error = small(50, 8).compress(&policy(spec)).unwrap_err();
    let Error::BudgetBelowProtected { budget, protected, what } = error else { panic!("{error}") };
    assert_eq!((budget, protected), (11, 12));
    assert!(what.contains("window of 8") && what.contains("4 sinks"), "{what}");
    let enough = json!({ "kind": "snapKV", "window": 8, "protect": { "sinks": 4 }, "budget": { "tokensPerHead": 12 } });
    let kept = small(50, 8).compress(&policy(enough)).unwrap();
    assert_eq!(kept[1].head(1), [0, 1, 2, 3, 42, 43, 44, 45, 46, 47, 48, 49]);
}

#[test]
fn a_short_cache_is_kept_whole_whatever_is_protected() {
    let spec = json!({ "kind": "snapKV", "budget": { "tokensPerHead": 20 } });
    assert_eq!(small(20, 12).compress(&policy(spec)).unwrap()[0].total(), 40);
}

#[test]
fn a_window_that_was_not_observed_is_an_error() {
    let spec = json!({ "kind": "snapKV", "window": 9, "budget": { "tokensPerHead": 20 } });
    let missing = Error::ObservationMissing { scorer: "snapKV".into(), what: "queries".into(), need: 9, have: 8 };
    assert_eq!(small(50, 8).compress(&policy(spec)).unwrap_err(), missing);
}

#[test]
fn a_key_that_is_not_a_number_is_an_error_and_not_an_order() {
    let mut cache = small(50, 8);
    cache.blocks[1][0][2][..4].copy_from_slice(&f32::NAN.to_ne_bytes());
    for kind in ["knorm", "keyDiff", "snapKV"] {
        let spec = PolicySpec::named(kind).unwrap().with_budget(Budget::TokensPerHead(40));
        let mut cache = cache.clone();
        if kind == "snapKV" {
            cache = Cache { queries: vec![f32::NAN; 32 * 16], rows: 32, ..cache };
        }
        let error = cache.compress(&spec.resolve().unwrap()).unwrap_err();
        assert!(matches!(error, Error::NotANumber { .. }), "{kind}: {error}");
    }
}

#[test]
fn what_parts_of_a_policy_share_is_what_each_would_compute() {
    let weighed = |norm: &str| json!({ "kind": "snapKV", "window": 4, "weight": { "norm": norm } });
    for scorer in [weighed("l2"), weighed("l1"), json!({ "kind": "restKV", "window": 4 })] {
        let policy = policy(json!({
            "kind": "custom", "scorer": scorer, "filter": { "kind": "certificate", "error": 0.3, "window": 4 },
            "budget": { "tokensPerHead": 40 },
        }));
        let cache = small(50, 8);
        let admitted = cache.with_layers(|layers| {
            let of_layer = |layer: &LayerInput<Vec<u8>>| {
                let scores = policy.score(layer).unwrap();
                let open: Vec<Vec<u32>> =
                    layer.positions.iter().map(|row| (0..row.len() as u32 - 4).collect()).collect();
                let admit = |layer: &LayerInput<Vec<u8>>| policy.filter.as_ref().unwrap().admit(layer, &scores, &open);
                let (alone, shared) = (admit(layer).unwrap(), OutputLengths::new(layer.heads.len()));
                let sharing = LayerInput { output_lengths: Some(&shared), ..*layer };
                assert_eq!(policy.score(&sharing).unwrap().data(), scores.data());
                assert_eq!(admit(&sharing).unwrap(), alone);
                alone
            };
            layers.iter().map(of_layer).collect::<Vec<_>>()
        });
        let gone = |head: &Vec<bool>| head.iter().filter(|admitted| !**admitted).count();
        assert!(admitted.iter().flatten().map(gone).sum::<usize>() > 0, "nothing was left out");
        for (selection, admitted) in cache.compress(&policy).unwrap().iter().zip(&admitted) {
            for (head, admitted) in admitted.iter().enumerate() {
                assert!(selection.head(head).iter().all(|&slot| admitted[slot as usize]));
            }
        }
    }
}

#[test]
fn heads_get_what_their_weights_say() {
    let with = |weights: Value| {
        let spec = json!({
            "kind": "custom", "scorer": { "kind": "recency", "window": 2 },
            "selector": { "kind": "headWeights", "weights": weights }, "budget": { "tokensPerHead": 12 },
        });
        small(50, 0).compress(&policy(spec))
    };
    let lengths = |weights: Value| -> Vec<Vec<usize>> {
        with(weights).unwrap().iter().map(|layer| (0..2).map(|head| layer.head(head).len()).collect()).collect()
    };
    // Forty slots compete; two of every head are protected.
    assert_eq!(lengths(json!([[1, 2], [0, 5]])), [[7, 12], [2, 27]]);
    assert_eq!(lengths(json!([[0, 0], [0, 0]])), [[12; 2]; 2]);
    assert_eq!(lengths(json!([[1, 1], [1, 0]])), [[16, 15], [15, 2]]);
    // What does not fit into a head goes to the others.
    assert_eq!(lengths(json!([[0, 0], [0, 1]])), [[2, 2], [2, 42]]);
    let wrong = |weights: Value| match with(weights).unwrap_err() {
        Error::ShapeMismatch { what, expected, got } => (what, expected, got),
        error => panic!("{error}"),
    };
    assert_eq!(wrong(json!([[1, 1]])), ("layers in headWeights.weights".into(), vec![2], vec![1]));
    assert_eq!(wrong(json!([[1, 1], [1, 1, 1]])), ("KV heads in headWeights.weights[1]".into(), vec![2], vec![3]));
}

#[test]
fn equal_scores_go_to_the_lower_position() {
    let mut cache = small(50, 0);
    cache.blocks.iter_mut().flatten().flatten().for_each(|block| block.fill(0));
    let kept = cache.compress(&policy(json!({ "kind": "knorm", "budget": { "tokensPerHead": 3 } }))).unwrap();
    assert!(kept.iter().all(|layer| (0..2).all(|head| layer.head(head) == [0, 1, 2])));
}

#[test]
fn heads_compete_only_with_ada_kv_and_never_below_the_floor() {
    let mut cache = small(80, 0);
    // Head 0 has the smaller keys, so its slots have all the best scores.
    let scale = |block: &mut Vec<u8>| {
        for bytes in block.as_chunks_mut::<4>().0 {
            *bytes = (f32::from_ne_bytes(*bytes) * 0.01).to_ne_bytes();
        }
    };
    cache.blocks.iter_mut().for_each(|heads| heads[0].iter_mut().for_each(scale));
    let lengths = |floor: f64| {
        let spec =
            json!({ "kind": "adaKV", "base": { "kind": "knorm" }, "floor": floor, "budget": { "tokensPerHead": 20 } });
        let kept = cache.compress(&policy(spec)).unwrap();
        [kept[0].head(0).len(), kept[0].head(1).len()]
    };
    assert_eq!(lengths(0.0), [40, 0]);
    assert_eq!(lengths(0.2), [36, 4]);
    assert_eq!(lengths(1.0), [20, 20]);
}

#[test]
fn kv_crush_can_cut_what_it_has_cut() {
    let cache = small(60, 12);
    let first = policy(json!({ "kind": "kvCrush", "window": 4, "budget": { "tokensPerHead": 30 } }));
    let kept = cache.compress(&first).unwrap();
    assert!(kept.iter().any(|layer| layer.head(0) != layer.head(1)), "the heads hold the same");
    let cut = Cache::new(cache.shape, 60, 12, true, 7);
    assert!(cut.gaps());
    let second = policy(json!({ "kind": "kvCrush", "window": 4, "budget": { "tokensPerHead": 20 } }));
    let kept = cut.compress(&second).unwrap();
    assert_eq!(kept.iter().map(Selection::total).sum::<usize>(), 20 * 4);
}
