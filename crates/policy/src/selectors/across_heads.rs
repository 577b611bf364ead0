use headwise_core::{Error, Result, Scores};
use headwise_kernels::{topk, topk_across_heads};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, lengths};
use crate::about::{About, Asks, Describe};
use crate::apportion;

/// Ada-KV (arXiv 2407.11550, NeurIPS 2025): the heads of a layer compete for its slots.
///
/// c_h counts how many of the layer's best B scores lie in head h; the head gets c_h · (1 − α) + α · B/H slots (the
/// interpolation of the paper's code; its Algorithm 2 prints α the other way round). Rounded by largest remainder, so the sum
/// is exactly B. α = `floor` guards a head against being starved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct AcrossHeads {
    /// Share α in [0, 1] that every head gets regardless of its scores. Default 0.2, as in the paper's experiments.
    #[ts(optional, as = "Option<_>")]
    pub floor: f64,
    /// Weigh a head's scores by the mass that its own best B/H slots hold before the heads compete (an option of the paper's
    /// code; for scores that are not negative). Default false.
    #[ts(optional, as = "Option<_>")]
    pub normalize: bool,
}

impl Describe for AcrossHeads {
    const ABOUT: About = About {
        source: "arXiv 2407.11550",
        asks: Asks::Either,
        reads: &[],
        deviates: "α as in the code (the paper's Algorithm 2 prints it the other way round); the sum is exact, the code's drifts.",
    };
}

impl Default for AcrossHeads {
    fn default() -> Self {
        Self { floor: 0.2, normalize: false }
    }
}

impl AcrossHeads {
    /// c_h: how many of the `budget` best scores of the layer lie in each head. `base` is the even share of a head.
    pub(crate) fn wins(&self, scores: &Scores, budget: usize, base: usize) -> Result<Vec<usize>> {
        if !self.normalize {
            return counts(scores, budget);
        }
        let mut weighed = scores.clone();
        for head in 0..scores.rows() {
            let row = scores.row(head);
            let best: f64 = topk(row, base.min(row.len()))?.iter().map(|&slot| row[slot as usize] as f64).sum();
            let all: f64 = row.iter().map(|&score| score as f64).sum();
            let mass = if all > 0.0 { (best / all) as f32 } else { 1.0 };
            weighed.row_mut(head).iter_mut().for_each(|score| *score *= mass);
        }
        counts(&weighed, budget)
    }
}

/// How many of the `budget` best scores lie in each head.
pub(crate) fn counts(scores: &Scores, budget: usize) -> Result<Vec<usize>> {
    let best = topk_across_heads(scores, budget)?;
    Ok((0..best.heads()).map(|head| best.head(head).len()).collect())
}

impl Select for AcrossHeads {
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        let scores = &layer.scores;
        let caps = lengths(scores);
        let budget = budget.min(caps.iter().sum());
        let heads = caps.len().max(1);
        let base = budget as f64 / heads as f64;
        let counts = self.wins(scores, budget, budget / heads)?;
        let shares: Vec<f64> =
            counts.iter().map(|&count| count as f64 * (1.0 - self.floor) + self.floor * base).collect();
        Ok(apportion(budget, &shares, &caps))
    }

    fn validate(&self) -> Result<()> {
        match (0.0..=1.0).contains(&self.floor) {
            true => Ok(()),
            false => Err(Error::invalid("acrossHeads.floor", self.floor, "between 0 and 1")),
        }
    }
}
