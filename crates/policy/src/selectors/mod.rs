//! Which slots stay, given their scores and the budget.

use headwise_core::{Error, Ragged, Result, Scores};
use headwise_kernels::topk;
use rayon::prelude::*;

use crate::registry::registry;

/// The slots of one layer that compete.
pub struct Candidates {
    /// Their scores, `[kv head][candidate]`.
    pub scores: Scores,
    /// Their positions in the text, ascending, `[kv head][candidate]`.
    pub positions: Vec<Vec<u32>>,
}

/// Decides how many slots each head keeps, and which. One of the two counts must be given.
pub trait Select: Sync {
    /// Whether layers compete with each other, so that no allocator has a say.
    fn spans_layers(&self) -> bool {
        false
    }

    /// How many slots each head of one layer keeps, `[kv heads]`: exactly `min(budget, all)` together.
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        Ok(self.counts_of_layers(std::slice::from_ref(layer), &[budget])?.concat())
    }

    /// [`counts`](Self::counts) of every layer, `[layers][kv heads]`; where layers compete, of all of them together.
    fn counts_of_layers(&self, layers: &[Candidates], budgets: &[usize]) -> Result<Vec<Vec<usize>>> {
        layers.par_iter().zip(budgets).map(|(layer, &budget)| self.counts(layer, budget)).collect()
    }

    /// Whether a head keeps its best slots, whichever they are, so that a second stage may choose in its place.
    fn keeps_the_best(&self) -> bool {
        true
    }

    /// Ascending indices of the candidates that stay, as many as counted.
    fn pick(&self, layer: &Candidates, counts: &[usize]) -> Result<Ragged<u32>> {
        top_of_heads(&layer.scores, counts)
    }

    /// How many layers share one choice: the first of them decides. 1: each for itself.
    fn layers_per_choice(&self) -> usize {
        1
    }

    /// Checks the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

registry! {
    ($)
    /// Which slots stay.
    pub enum Selector via with_selector {
        per_head::PerHead = "perHead",
        across_heads::AcrossHeads = "acrossHeads",
        across_layers::AcrossLayers = "acrossLayers",
        shared::Shared = "shared",
        chunks::Chunks = "chunks",
        per_chunk::PerChunk = "perChunk",
        head_weights::HeadWeights = "headWeights",
        crush::Crush = "crush",
        composite::Composite = "composite",
    }
}

impl Select for Selector {
    fn spans_layers(&self) -> bool {
        with_selector!(self, selector => selector.spans_layers())
    }

    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        with_selector!(self, selector => selector.counts(layer, budget))
    }

    fn counts_of_layers(&self, layers: &[Candidates], budgets: &[usize]) -> Result<Vec<Vec<usize>>> {
        with_selector!(self, selector => selector.counts_of_layers(layers, budgets))
    }

    fn keeps_the_best(&self) -> bool {
        with_selector!(self, selector => selector.keeps_the_best())
    }

    fn pick(&self, layer: &Candidates, counts: &[usize]) -> Result<Ragged<u32>> {
        with_selector!(self, selector => selector.pick(layer, counts))
    }

    fn layers_per_choice(&self) -> usize {
        with_selector!(self, selector => selector.layers_per_choice())
    }

    fn validate(&self) -> Result<()> {
        with_selector!(self, selector => selector.validate())
    }
}

pub(crate) use across_heads::counts;
pub use across_layers::Stream;
pub(crate) use chunks::best_chunks;
pub use crush::Anchor;

impl Default for Selector {
    fn default() -> Self {
        Self::PerHead(PerHead {})
    }
}

/// The top `counts[head]` of every head, ascending.
pub(crate) fn top_of_heads(scores: &Scores, counts: &[usize]) -> Result<Ragged<u32>> {
    let rows = scores.iter().zip(counts).map(|(row, &count)| topk(row, count));
    Ok(Ragged::from_rows(rows.collect::<Result<Vec<_>>>()?))
}

/// Lengths of the rows.
pub(crate) fn lengths(scores: &Scores) -> Vec<usize> {
    scores.iter().map(<[f32]>::len).collect()
}

/// As many slots for each head, as far as it has them.
pub(crate) fn even_counts(layer: &Candidates, budget: usize) -> Vec<usize> {
    let caps = lengths(&layer.scores);
    crate::apportion(budget, &vec![1.0; caps.len()], &caps)
}

impl Candidates {
    /// The sum of the heads' scores, `[candidate]`. [`Error::UnsupportedFeature`] when the heads do not hold the same positions.
    fn joined(&self, selector: &str) -> Result<Vec<f32>> {
        if self.positions.iter().any(|row| *row != self.positions[0]) {
            return Err(Error::UnsupportedFeature {
                feature: format!("selector {selector} on"),
                value: "heads in which different positions compete".into(),
            });
        }
        let mut sum = vec![0.0f64; self.positions.first().map_or(0, Vec::len)];
        for row in self.scores.iter() {
            sum.iter_mut().zip(row).for_each(|(sum, &score)| *sum += f64::from(score));
        }
        Ok(sum.into_iter().map(|sum| sum as f32).collect())
    }
}
