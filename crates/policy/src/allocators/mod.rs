//! How the budget is split over the layers.

use headwise_core::{Result, Scores};
use headwise_kernels::Block;

use crate::registry::registry;
use crate::{LayerInput, Needs, Scorer};

/// What a layer has to offer.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    /// Slots that compete.
    pub available: usize,
    /// What [`Allocate::weigh`] said.
    pub weight: f64,
    /// Scores of the competing slots, where the allocator asked for them.
    pub scores: Option<&'a Scores>,
}

/// Splits the slots that no protection has taken.
pub trait Allocate {
    /// What has to be gathered during prefill.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether layers are weighed, or judged by their scores: all layers are scored first then.
    fn weighs(&self) -> bool {
        false
    }

    /// What a layer weighs, not negative; `scores` are those of its competing slots.
    fn weigh<B: Block>(&self, layer: &LayerInput<B>, scores: &Scores) -> Result<f64> {
        let _ = (layer, scores);
        Ok(1.0)
    }

    /// A layer's scores and its weight at once, where the two come from the same observation.
    fn judge<B: Block>(&self, scorer: &Scorer, layer: &LayerInput<B>) -> Result<Option<(Scores, f64)>> {
        let _ = (scorer, layer);
        Ok(None)
    }

    /// Slots per layer, `[layers]`: none above what it has available, summing to exactly `min(budget, Σ available)`.
    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize>;

    /// Checks the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

registry! {
    ($)
    /// How the budget is split over the layers.
    pub enum Allocator via with_allocator {
        uniform::Uniform = "uniform",
        pyramid::Pyramid = "pyramid",
        weights::Weights = "weights",
        cake::CakeLayers = "cake",
        entropy::Entropy = "entropy",
        dynamic_kv::DynamicKVLayers = "dynamicKV",
    }
}

impl Allocate for Allocator {
    fn needs(&self) -> Needs {
        with_allocator!(self, allocator => allocator.needs())
    }

    fn weighs(&self) -> bool {
        with_allocator!(self, allocator => allocator.weighs())
    }

    fn weigh<B: Block>(&self, layer: &LayerInput<B>, scores: &Scores) -> Result<f64> {
        with_allocator!(self, allocator => allocator.weigh(layer, scores))
    }

    fn judge<B: Block>(&self, scorer: &Scorer, layer: &LayerInput<B>) -> Result<Option<(Scores, f64)>> {
        with_allocator!(self, allocator => allocator.judge(scorer, layer))
    }

    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        with_allocator!(self, allocator => allocator.allocate(budget, layers))
    }

    fn validate(&self) -> Result<()> {
        with_allocator!(self, allocator => allocator.validate())
    }
}

impl Default for Allocator {
    fn default() -> Self {
        Self::Uniform(Uniform {})
    }
}

/// In proportion to these weights, as far as the layers have slots.
pub(crate) fn by_weight(budget: usize, weights: &[f64], layers: &[Share<'_>]) -> Vec<usize> {
    let available: Vec<usize> = layers.iter().map(|layer| layer.available).collect();
    crate::apportion(budget, weights, &available)
}
