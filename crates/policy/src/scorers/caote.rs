use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, Scorer, SnapKV, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs};

/// CAOTE: another scorer's scores as weights of the values, and of each slot how much their weighted mean moves when it is taken away.
///
/// α = s / Σ s over the head's slots before the base's window; α / (1 − α) · ‖o − v‖₂ with o = Σ α v, which is ‖o − o'‖₂ with o' the mean of the
/// others by their α, renormalised. Computed as α · ‖o' − v‖₂, so that a slot with all the weight gets its own length and not 0 / 0.
///
/// For scores that are not negative; one that is, is an error, and so is a base that gives slots a number only for them to stay. Each row of attention by itself: `snapKV` with `weight: { by: "change" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Caote {
    /// Whose scores. Default `{ kind: "snapKV" }`.
    #[ts(optional, as = "Option<Scorer>")]
    pub base: Box<Scorer>,
}

impl Describe for Caote {
    const ABOUT: About = About {
        source: "arXiv 2504.14051",
        asks: Asks::Either,
        reads: &[Reads::Values],
        deviates: "Once for the whole prompt, where the paper evicts block by block. The window of the base is left out of the mean.",
    };
}

impl Default for Caote {
    fn default() -> Self {
        Self { base: Box::new(SnapKV::default().into()) }
    }
}

/// How far the weighted mean of `values` moves without each slot, `[slots]`.
fn moves(weights: &[f32], values: &[f32], dim: usize) -> Vec<f32> {
    let sum: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
    let slots = || weights.iter().map(|&weight| f64::from(weight) / sum).zip(values.chunks_exact(dim));
    if sum == 0.0 {
        return vec![0.0; weights.len()];
    }
    let mut mean = vec![0.0f64; dim];
    for (share, value) in slots() {
        mean.iter_mut().zip(value).for_each(|(mean, &x)| *mean += share * f64::from(x));
    }
    let of_slot = |(share, value): (f64, &[f32])| {
        let rest = 1.0 - share;
        let others = |mean: f64, x: f64| if rest > f64::EPSILON { (mean - share * x) / rest } else { 0.0 };
        let apart = mean.iter().zip(value).map(|(&mean, &x)| (others(mean, f64::from(x)) - f64::from(x)).powi(2));
        (share * apart.sum::<f64>().sqrt()) as f32
    };
    slots().map(of_slot).collect()
}

impl Score for Caote {
    fn needs(&self) -> Needs {
        self.base.needs()
    }

    fn window(&self) -> usize {
        self.base.window()
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let (scores, dim) = (self.base.score(layer)?, layer.shape.head_dim);
        let start = layer.seen.saturating_sub(self.window());
        let of_head = |(head, row): (usize, &[f32])| {
            let open = &row[..layer.slots_before(head, start)];
            match open.iter().find(|&&score| score < 0.0) {
                Some(score) => Err(Error::invalid("score of caote's base", score, "not negative")),
                None => Ok(moves(open, &layer.heads[head].all_values()[..open.len() * dim], dim)),
            }
        };
        let rows = scores.iter().enumerate().map(of_head).collect::<Result<Vec<_>>>()?;
        Ok(with_window(rows, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        self.base.validate()?;
        match self.base.has_placeholders() {
            true => Err(Error::invalid(
                "caote's base",
                "with slots that stay unjudged",
                "first (and last) 0: protect.sinks keeps them too",
            )),
            false => Ok(()),
        }
    }
}
