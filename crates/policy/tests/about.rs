//! What parts say of themselves in `docs/policies.md` is complete and true: all kinds stand there, and what they say that they read is what they read.

use headwise_core::{Codec, Error, KvShape, Result, Rotation};
use headwise_kernels::matmul::{GgmlDType, Matrix};
use headwise_kernels::{BlockLayout, HeadView};
use headwise_policy::gather::{ChunkAttention, ChunkGrid, Echo, Gather, QueryMoments, TokenClass};
use headwise_policy::{
    Admit, Allocate, Allocator, Asks, Budget, Compat, Describe, Described, Filter, Gathered, LayerInput, ModelView,
    Policy, PolicySpec, Preset, Protect, Reads, Recency, Score, Scorer, SecondStage, Selector, policies_md,
};
use serde_json::json;
use ts_rs::{Config, TS};

fn families() -> [(&'static [&'static str], Vec<Described>); 5] {
    [
        (Preset::KINDS, Preset::described()),
        (Scorer::KINDS, Scorer::described()),
        (Filter::KINDS, Filter::described()),
        (Allocator::KINDS, Allocator::described()),
        (Selector::KINDS, Selector::described()),
    ]
}

#[test]
fn every_kind_stands_in_the_table_and_says_where_it_comes_from() {
    let table = policies_md().unwrap();
    for (kinds, parts) in families() {
        assert_eq!(parts.iter().map(|part| part.kind).collect::<Vec<_>>(), kinds);
        for Described { kind, what, about } in parts {
            assert!(table.contains(&format!("\n| `{kind}` | {}", what.replace('|', "\\|"))), "{kind}");
            assert!(!about.source.is_empty() && what.ends_with('.'), "{kind}: {} {what}", about.source);
            assert!(about.deviates.is_empty() || about.deviates.ends_with('.'), "{kind}: {}", about.deviates);
        }
    }
    assert!(table.contains(SecondStage::ABOUT.source.trim_start_matches("arXiv ")));
    assert_eq!(Compat::inline(&Config::default()).split('|').count(), Compat::ALL.len());
    for compat in Compat::ALL {
        let (name, source, _) = compat.about();
        assert_eq!(serde_json::to_value(compat).unwrap(), name);
        assert!(table.contains(&format!("\n| `{name}` | [{source}]")), "{name}");
    }
}

#[test]
fn what_asks_for_the_last_queries_is_aware_and_what_does_not_is_agnostic() {
    let check = |kind: &str, asks: Asks, window: usize| match asks {
        Asks::Aware => assert!(window > 0, "{kind}"),
        Asks::Agnostic => assert_eq!(window, 0, "{kind}"),
        Asks::Either => {}
    };
    for part in Scorer::described() {
        let scorer: Scorer = serde_json::from_value(json!({ "kind": part.kind })).unwrap();
        check(part.kind, part.about.asks, scorer.needs().window_queries);
    }
    for part in Preset::described().into_iter().filter(|part| part.kind != "custom") {
        let policy = PolicySpec::named(part.kind).unwrap().with_budget(Budget::Keep(0.5)).resolve().unwrap();
        check(part.kind, part.about.asks, policy.needs().window_queries);
    }
}

const SHAPE: KvShape = KvShape { layers: 1, kv_heads: 2, group: 2, head_dim: 4 };
const LAYOUT: BlockLayout = BlockLayout { codec: Codec::F32, head_dim: 4, slots: 8 };
const LEN: usize = 320;
const HIDDEN: usize = 6;

#[derive(Debug)]
struct Still;

impl Rotation for Still {
    fn push_angles(&self, _: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.extend([1.0; 2]);
        sin.extend([0.0; 2]);
    }

    fn rotate(&self, _: &mut [f32], _: &[f32], _: &[f32]) {}
}

fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_ne_bytes()).collect()
}

/// Runs `f` on a layer in which `other` is another one, or is not there.
fn with<R>(other: Option<Reads>, f: impl FnOnce(&LayerInput<Vec<u8>>) -> R) -> R {
    let seed = |reads: Reads| if other == Some(reads) { 77 } else { 7 };
    let block = |index: usize| {
        let half = |reads: Reads| random(1000 * seed(reads) + index as u64, LAYOUT.half_bytes() / 4);
        bytes(&[half(Reads::Keys), half(Reads::Values)].concat())
    };
    let blocks: Vec<Vec<u8>> = (0..2 * LEN / LAYOUT.slots).map(block).collect();
    let views: Vec<_> =
        blocks.chunks(LEN / LAYOUT.slots).map(|blocks| HeadView { layout: LAYOUT, blocks, len: LEN }).collect();
    let row: Vec<u32> = (0..LEN as u32).collect();
    let width = SHAPE.query_heads() * SHAPE.head_dim;
    let queries = random(3, LEN * width);
    let mut moments = QueryMoments::new(SHAPE);
    moments.take(&queries);
    let chunks = [(0, 0), (8, 4)].map(|(start, end)| {
        let mut gathered = ChunkAttention::new(SHAPE, ChunkGrid { chunk: 256, start, end });
        gathered.take(&(queries.clone(), random(5, LEN * SHAPE.kv_heads * SHAPE.head_dim)));
        gathered
    });
    let mut echo = Echo::new(SHAPE, 512);
    echo.take(&Echo::moved(&queries, &random(5, LEN * SHAPE.kv_heads * SHAPE.head_dim), &Still, 512, SHAPE));
    let class = |position| if position % 9 == 0 { TokenClass::Punctuation } else { TokenClass::Other };
    let classes: Vec<TokenClass> = (0..LEN).map(class).collect();
    let sums: Vec<f32> = random(9, LEN * SHAPE.query_heads()).into_iter().map(f32::abs).collect();
    let output = bytes(&random(11, HIDDEN * width));
    let output = Matrix::new(&output, GgmlDType::F32, HIDDEN, width).unwrap();
    f(&LayerInput {
        layer: 0,
        heads: &views,
        positions: &[&row, &row],
        renumbered: None,
        queries: &queries,
        query_positions: &row,
        gathered: Gathered {
            running_sums: Some(&sums),
            query_moments: Some(&moments),
            chunk_attention: &chunks.each_ref(),
            echo: &[&echo],
            token_classes: Some(&classes),
            probe: Some(&sums),
        },
        model: ModelView {
            output: Some(output).filter(|_| other != Some(Reads::Output)),
            rotation: Some(&Still as &dyn Rotation).filter(|_| other != Some(Reads::Rotation)),
        },
        shape: SHAPE,
        seen: LEN,
        scale: 0.5,
        output_lengths: None,
        budget: LEN / 4,
    })
}

/// Which of the inputs make a difference to `f`.
fn reads<R: PartialEq>(kind: &str, f: impl Fn(&LayerInput<Vec<u8>>) -> Result<R>) -> Vec<Reads> {
    let usual = with(None, &f).unwrap_or_else(|error| panic!("{kind}: {error}"));
    let all = [Reads::Keys, Reads::Values, Reads::Output, Reads::Rotation];
    let matters = |other: &Reads| match with(Some(*other), &f) {
        Ok(result) => result != usual,
        Err(Error::UnsupportedFeature { .. }) => true,
        Err(error) => panic!("{kind}: {error}"),
    };
    all.into_iter().filter(matters).collect()
}

#[test]
fn parts_read_what_they_say() {
    for part in Scorer::described().into_iter().filter(|part| part.kind != "local") {
        // A weight reads values besides what its base does, here nothing.
        let nothing = json!({ "kind": "random" });
        let options = json!({ "kind": part.kind, "base": nothing, "of": [nothing] });
        let scorer: Scorer = serde_json::from_value(options).unwrap();
        let found = reads(part.kind, |layer| scorer.score(layer).map(|scores| scores.data().to_vec()));
        assert_eq!(found, part.about.reads, "{}", part.kind);
    }
    for part in Filter::described() {
        // What keeps all in a text as short as this one says nothing.
        let options = json!({ "kind": part.kind, "least": 0, "recent": 100, "mass": 0.2, "recovery": 0.4 });
        let filter: Filter = serde_json::from_value(options).unwrap();
        let open = vec![(0..LEN as u32).collect::<Vec<u32>>(); SHAPE.kv_heads];
        let scores = with(None, |layer| Scorer::from(Recency::default()).score(layer)).unwrap();
        let found = match &filter {
            // Says yes or no to a whole layer.
            Filter::SimLayer(rule) => reads(part.kind, |layer| rule.laziness(layer)),
            filter => reads(part.kind, |layer| filter.admit(layer, &scores, &open)),
        };
        assert_eq!(found, part.about.reads, "{}", part.kind);
    }
    for part in Allocator::described() {
        let allocator: Allocator = serde_json::from_value(json!({ "kind": part.kind, "weights": [1] })).unwrap();
        let scores = with(None, |layer| Scorer::from(Recency::default()).score(layer)).unwrap();
        let found = reads(part.kind, |layer| allocator.weigh(layer, &scores));
        assert_eq!(found, part.about.reads, "{}", part.kind);
    }
    for part in Preset::described().into_iter().filter(|part| part.about.asks != Asks::Either) {
        let policy = PolicySpec::named(part.kind).unwrap().with_budget(Budget::Keep(0.9)).resolve().unwrap();
        let mut policy = Policy { protect: Protect::default(), ..policy };
        if let Some(Filter::NormRule(rule)) = &mut policy.filter {
            // A hundredth asks for nearly all of attention that is as even as here.
            rule.loss = 0.3;
        }
        let found =
            reads(part.kind, |layer| Ok((policy.score(layer)?.data().to_vec(), policy.compress(&[layer_of(layer)])?)));
        assert_eq!(found, part.about.reads, "{}", part.kind);
    }
}

/// The layer once more, for those who want to own it.
fn layer_of<'a>(layer: &LayerInput<'a, Vec<u8>>) -> LayerInput<'a, Vec<u8>> {
    LayerInput { ..*layer }
}

#[test]
fn the_compositions_of_the_guide_are_policies() {
    let guide = include_str!("../../../docs/choose.md");
    let policies: Vec<&str> = guide.split("```json").skip(1).filter_map(|text| text.split("```").next()).collect();
    assert_eq!(policies.len(), 3);
    for policy in policies {
        PolicySpec::from_json(policy)
            .and_then(|spec| spec.resolve())
            .unwrap_or_else(|error| panic!("{policy}: {error}"));
    }
}
