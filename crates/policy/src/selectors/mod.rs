//! Which slots of a layer stay, given their scores and the layer's budget.

use headwise_core::{Ragged, Result, Scores};
use headwise_kernels::topk;

use crate::registry::registry;

/// Picks slots of one layer.
pub trait Select {
    /// `scores` holds the competing slots only. Returns ascending indices into its rows, exactly `min(budget, all)` of them.
    fn select(&self, scores: &Scores, budget: usize) -> Result<Ragged<u32>>;

    /// Checks the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

registry! {
    ($)
    /// Which slots of a layer stay.
    pub enum Selector via with_selector {
        per_head::PerHead = "perHead",
        across_heads::AcrossHeads = "acrossHeads",
    }
}

impl Select for Selector {
    fn select(&self, scores: &Scores, budget: usize) -> Result<Ragged<u32>> {
        with_selector!(self, selector => selector.select(scores, budget))
    }

    fn validate(&self) -> Result<()> {
        with_selector!(self, selector => selector.validate())
    }
}

pub(crate) use across_heads::counts;

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
