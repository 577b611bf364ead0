//! Published implementations, reproduced with their rounding: for golden vectors and comparisons with their papers' tables.
//!
//! `compat` changes how budgets become lengths and how slots are selected. Scorer options (window, pooling, …) keep headwise's
//! defaults: give the ones that the source uses, among them `norm: "l1"` where values are measured behind W_O.

pub mod adakv;
mod defensive_kv;
pub mod kvcache_factory;
pub mod kvpress;

use headwise_core::{Error, Ragged, Result, Scores, Selection};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::policy::each;
use crate::{Allocator, Budget, LayerInput, Policy, Protect, Score, Scorer, selectors};

/// Whose arithmetic to reproduce. What the source does not have is refused by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum Compat {
    /// kvpress 0.5.5: the window competes with a score of max + 1 and is lost when the budget is below it.
    Kvpress,
    /// FFY0/AdaKV at efe4e2ee: window on top; a layer's capacities are rounded head by head, so their sum drifts.
    Adakv,
    /// Zefan-Cai/KVCache-Factory at c97f9d70: window on top; pyramids are integers, flat for short prompts.
    KvcacheFactory,
    /// FFY0/DefensiveKV at 9251b95e: window and first stage compete with the layer's largest score, by which a layer can lose them.
    DefensiveKv,
}

impl Compat {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::Kvpress, Self::Adakv, Self::KvcacheFactory, Self::DefensiveKv];

    /// Its name in JSON, where it is public, and what of its arithmetic is reproduced.
    pub fn about(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Kvpress => (
                "kvpress",
                "github.com/NVIDIA/kvpress 0.5.5",
                "T · (1 − ratio) is truncated, in a pyramid rounded half to even. The window competes with the largest score + 1 and is lost when \
                 the budget is below it.",
            ),
            Self::Adakv => (
                "adakv",
                "github.com/FFY0/AdaKV at efe4e2ee",
                "The window comes on top. Heads are rounded one by one, so that their sum drifts; pyramids are integers.",
            ),
            Self::KvcacheFactory => (
                "kvcacheFactory",
                "github.com/Zefan-Cai/KVCache-Factory at c97f9d70",
                "The window comes on top. Pyramids are integers, and flat for short prompts. In streamingLLM sinks take what the recent tokens leave.",
            ),
            Self::DefensiveKv => (
                "defensiveKv",
                "github.com/FFY0/DefensiveKV at 9251b95e",
                "Window and first stage compete with the largest score of their layer, by which a layer can lose them. The window's share is read \
                 from the columns before it. Its scores need `norm: \"l1\"`.",
            ),
        }
    }

    /// [`Error::UnsupportedFeature`] for what the source does not have.
    pub(crate) fn validate(self, policy: &Policy) -> Result<()> {
        let sinks = if matches!(policy.scorer, Scorer::Recency(_)) { policy.protect.sinks } else { 0 };
        if policy.protect != (Protect { sinks, ..Protect::default() }) {
            return Err(self.lacks("protected spans, layers and sinks beside streamingLLM's"));
        }
        if matches!(policy.budget, Budget::Bytes(_)) {
            return Err(self.lacks("budgets in bytes"));
        }
        if self != Self::Kvpress && (policy.filter.is_some() || policy.second_stage.is_some()) {
            return Err(self.lacks("filters and second stages"));
        }
        self.lengths(policy, 1, 1).map(|_| ()).or_else(|error| match error {
            Error::UnsupportedFeature { .. } => Err(error),
            _ => Ok(()),
        })
    }

    /// Scores as the source has them, `[kv head][slot]`.
    pub(crate) fn score<B: Block>(self, policy: &Policy, layer: &LayerInput<B>) -> Result<Scores> {
        match self {
            Self::Kvpress => kvpress::score(policy, layer),
            Self::DefensiveKv => defensive_kv::score(policy, layer),
            Self::Adakv | Self::KvcacheFactory => policy.scorer.score(layer),
        }
    }

    /// Slots that each layer `0..layers` keeps per head, window included, for a prompt of `seen` tokens; where heads compete,
    /// what they keep on average before rounding.
    pub fn lengths(self, policy: &Policy, seen: usize, layers: usize) -> Result<Vec<usize>> {
        match self {
            Self::Kvpress => kvpress::lengths(policy, seen, layers),
            Self::Adakv => adakv::lengths(policy, seen, layers),
            Self::KvcacheFactory => kvcache_factory::lengths(policy, seen, layers),
            Self::DefensiveKv => defensive_kv::lengths(policy, seen, layers),
        }
    }

    /// What stays of every layer. The sources know one-shot compression after prefill only, so every head must hold all slots.
    pub(crate) fn compress<B: Block>(self, policy: &Policy, layers: &[LayerInput<B>]) -> Result<Vec<Selection>> {
        for layer in layers {
            if layer.heads.iter().any(|head| head.len != layer.seen) {
                return Err(self.lacks("compression of a cache that was compressed before"));
            }
            if layer.layer >= layer.shape.layers {
                return Err(Error::invalid("layer", layer.layer, "an index below the number of layers"));
            }
        }
        let kept = match self {
            Self::Kvpress => each(layers, |layer| kvpress::select(policy, layer))?,
            Self::Adakv => each(layers, |layer| adakv::select(policy, layer))?,
            Self::KvcacheFactory => each(layers, |layer| kvcache_factory::select(policy, layer))?,
            Self::DefensiveKv => defensive_kv::select(policy, layers)?,
        };
        kept.into_iter().zip(layers).map(|(kept, layer)| Selection::new(kept, &layer.lengths())).collect()
    }

    fn lacks(self, what: &str) -> Error {
        let (name, ..) = self.about();
        Error::UnsupportedFeature { feature: format!("compat {name}"), value: what.into() }
    }
}

/// T · keep in f64: what a budget asks for per head before any rounding.
fn wanted(budget: Budget, seen: usize) -> f64 {
    match budget {
        Budget::TokensPerHead(tokens) => tokens as f64,
        Budget::Keep(keep) => seen as f64 * keep,
        Budget::Ratio(ratio) => seen as f64 * (1.0 - ratio),
        Budget::Bytes(_) => seen as f64,
    }
}

/// What of `count` of the `seen` tokens a budget asks for before any rounding.
fn wanted_of(budget: Budget, seen: usize, count: usize) -> f64 {
    match budget {
        Budget::TokensPerHead(tokens) => count as f64 * tokens as f64 / seen.max(1) as f64,
        _ => wanted(budget, count),
    }
}

/// The capacity per head, window included, that the integer sources are called with.
fn capacity(policy: &Policy, seen: usize) -> Result<i64> {
    let (capacity, window) = (policy.budget.slots(seen, 1, 1), policy.scorer.window());
    if capacity < window {
        let what = format!("the window of {window}; per head");
        return Err(Error::BudgetBelowProtected { budget: capacity, protected: window, what });
    }
    Ok(i64::try_from(capacity).unwrap_or(i64::MAX).min(1 << 40))
}

/// The integer pyramid of both repositories: slots of a layer before the window is added. `beta` of a uniform allocator is none.
fn integer_layer(policy: &Policy, capacity: i64, seen: usize, layer: usize, layers: usize) -> i64 {
    let window = policy.scorer.window() as i64;
    let base = capacity - window;
    let Allocator::Pyramid(pyramid) = policy.allocator else { return base };
    let room = seen as i64 - window;
    let mut min = base.div_euclid(pyramid.beta as i64);
    let mut max = 2 * base - min;
    if max >= room {
        max = room;
        min = 2 * base - max;
    }
    let step = if layers > 1 { (max - min).div_euclid(layers as i64 - 1) } else { 0 };
    max - layer as i64 * step
}

/// Each head's top `counts` of the slots before the window, then the window.
fn top_and_window(scores: &Scores, counts: &[usize], seen: usize) -> Result<Ragged<u32>> {
    let top = selectors::top_of_heads(scores, counts)?;
    let rows = top.iter().zip(scores.iter()).map(|(top, row)| {
        let window = row.len() as u32..seen as u32;
        top.iter().copied().chain(window).collect()
    });
    Ok(Ragged::from_rows(rows))
}

/// The scores of the slots before the last `window`.
fn before_window(scores: &Scores, window: usize) -> Scores {
    Scores::from_rows(scores.iter().map(|row| row[..row.len().saturating_sub(window)].to_vec()))
}

/// Keeps all `seen` slots of `heads` heads.
fn everything(heads: usize, seen: usize) -> Ragged<u32> {
    Ragged::from_rows((0..heads).map(|_| (0..seen as u32).collect()))
}

/// The first `sinks` and the last `recent` slots of every head, everything where they meet.
fn ends(heads: usize, seen: usize, sinks: usize, recent: usize) -> Ragged<u32> {
    let sinks = sinks.min(seen);
    let recent = seen.saturating_sub(recent).max(sinks);
    Ragged::from_rows((0..heads).map(|_| (0..sinks as u32).chain(recent as u32..seen as u32).collect()))
}
