use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, Pool1d, Strips};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::slice::ChunksExact;
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::{Norm, OutputNorms};
use crate::{LayerInput, Needs, attention, checks, rows};

/// DefensiveKV (arXiv 2510.13334): against the worst case instead of the mean. A slot is worth the most that any query of the window gave it.
///
/// Attention of each query head and window row is averaged over `kernel` neighbours and scaled back to the mass that it had; s_j is the maximum over
/// rows and query heads, but at least the head's mean; times u_j, the mean over the query heads of ‖v_j W_O‖ as a share of its sum over the layer's
/// KV heads. The slots that together hold `mass` of a head's mean attention, the window's own share included, but no more than a head's even share of
/// the budget, come before all others (+ 1: s · u is at most 1).
///
/// The published code takes the window's share from the wrong columns, leaves out the slot that crosses the bound, and gives protected slots and the
/// window the layer's maximum, by which a layer can lose its window to others: see `compat`. Its normalisation over heads (the paper's text says
/// tokens) is kept, for the published results come from it. It measures ‖v_j W_O‖ by L1; by L2 it costs a tenth, and nearly all that stays is the same
/// (docs/performance.md).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Defensive {
    /// Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Odd width of the average. Default 5.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
    /// Share of the mean attention that is put first, in [0, 1]. Default 0.9.
    #[ts(optional, as = "Option<_>")]
    pub mass: f64,
    /// How the length of v W_O is measured. Default `"l2"`; the paper's is `"l1"`.
    #[ts(optional, as = "Option<_>")]
    pub norm: Norm,
}

impl Describe for Defensive {
    const ABOUT: About = About {
        source: "arXiv 2510.13334",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values, Reads::Output],
        deviates: "The window's share is that of the window and the slot that crosses `mass` is in, where the code errs; normalised over heads as in the code; ‖v W_O‖₂ for ‖v W_O‖₁ (`norm`).",
    };
}

impl Default for Defensive {
    fn default() -> Self {
        Self { window: 32, kernel: 5, mass: 0.9, norm: Norm::L2 }
    }
}

/// One KV head.
pub(crate) struct Parts {
    /// Mean attention of the slots before the window.
    pub mean: Vec<f64>,
    /// s · u of these slots.
    pub scores: Vec<f32>,
    /// Mean attention to the window itself.
    pub window: f64,
}

impl Defensive {
    /// What the scores are made of, for each KV head.
    pub(crate) fn parts<B: Block>(&self, layer: &LayerInput<B>) -> Result<Vec<Parts>> {
        let start = layer.seen.saturating_sub(self.window);
        let norms = OutputNorms::of_layer("defensive", layer, self.norm)?;
        let heads = (0..layer.heads.len()).into_par_iter();
        let all = heads.map(|head| {
            let open = layer.slots_before(head, start);
            let attention = attention::rows(layer, "defensive", self.window, head)?;
            let count = attention.all().len().max(1) as f64;
            let of_query_head = |rows: ChunksExact<f32>| {
                let mut parts = Parts { mean: vec![0.0; open], scores: vec![0.0; open], window: 0.0 };
                for row in rows {
                    let (before, window) = row.split_at(open);
                    parts.window += rows::sum(window);
                    parts.mean.iter_mut().zip(before).for_each(|(mean, &p)| *mean += f64::from(p));
                    let pooled = Pool1d::Average { kernel: self.kernel }.run(before)?;
                    let kept = rows::sum(&pooled);
                    let scale = if kept > 0.0 { (rows::sum(before) / kept) as f32 } else { 0.0 };
                    parts.scores.iter_mut().zip(&pooled).for_each(|(best, &p)| *best = best.max(p * scale));
                }
                Ok(parts)
            };
            let query_heads = attention.of_query_heads().collect::<Vec<_>>().into_par_iter().map(of_query_head);
            let mut parts = Parts { mean: vec![0.0; open], scores: vec![0.0; open], window: 0.0 };
            for part in query_heads.collect::<Vec<Result<Parts>>>() {
                let Parts { mean, scores, window } = part?;
                parts.window += window;
                parts.mean.iter_mut().zip(mean).for_each(|(mean, p)| *mean += p);
                parts.scores.iter_mut().zip(scores).for_each(|(best, p)| *best = best.max(p));
            }
            parts.window /= count;
            parts.mean.iter_mut().for_each(|mean| *mean /= count);
            let floor = rows::sum(&parts.scores) / open.max(1) as f64;
            parts.scores.iter_mut().for_each(|score| *score = score.max(floor as f32));
            let mut norms = norms.mean(head, &Strips::values(layer.heads[head]))?;
            norms.truncate(open);
            Ok((parts, norms))
        });
        let (mut parts, norms): (Vec<Parts>, Vec<Vec<f32>>) = all.collect::<Result<Vec<_>>>()?.into_iter().unzip();
        let positions: Vec<&[u32]> =
            layer.positions.iter().zip(&norms).map(|(row, norms)| &row[..norms.len()]).collect();
        for (head, parts) in parts.iter_mut().enumerate() {
            for (slot, score) in parts.scores.iter_mut().enumerate() {
                // Heads that no longer hold the token have no say.
                let share = |(row, norms): (&&[u32], &Vec<f32>)| match row.get(slot) == Some(&positions[head][slot]) {
                    true => norms[slot],
                    false => row.binary_search(&positions[head][slot]).map_or(0.0, |at| norms[at]),
                };
                let sum: f32 = positions.iter().zip(&norms).map(share).sum();
                *score *= if sum > 0.0 { norms[head][slot] / sum } else { 0.0 };
            }
        }
        Ok(parts)
    }
}

impl Score for Defensive {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let rows = self.parts(layer)?.into_iter().map(|Parts { mean, mut scores, window }| {
            let all = mean.iter().sum::<f64>() + window;
            let mut held = window;
            // No more than the head's even share of the budget: a head that looks everywhere would take all.
            let most = layer.budget.saturating_sub(self.window);
            for slot in rows::falling(&mean).into_iter().take(most) {
                if held >= self.mass * all {
                    break;
                }
                held += mean[slot];
                scores[slot] += 1.0;
            }
            scores
        });
        Ok(with_window(rows.collect(), &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("defensive.window", self.window, 1)?;
        checks::kernel("defensive.kernel", self.kernel)?;
        match (0.0..=1.0).contains(&self.mass) {
            true => Ok(()),
            false => Err(Error::invalid("defensive.mass", self.mass, "between 0 and 1")),
        }
    }
}
