use headwise_core::{Result, Scores};
use headwise_kernels::{Block, Pool1d};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, attention, checks};

/// CAKE's scores (arXiv 2503.12491, ICLR 2025): mean attention of the window's rows plus γ times its variance over them (divisor rows − 1), averaged over
/// `kernel` neighbours, mean over the query heads of a KV head. A slot that is wanted now and then counts as one that is wanted always.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Cake {
    /// Last tokens whose queries vote and which stay, 2 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// γ, weight of the variance, not negative. Default 200.
    #[ts(optional, as = "Option<_>")]
    pub gamma: f64,
    /// Odd width of the average. Default 5.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
}

impl Describe for Cake {
    const ABOUT: About = About { source: "arXiv 2503.12491", asks: Asks::Aware, reads: &[Reads::Keys], deviates: "" };
}

impl Default for Cake {
    fn default() -> Self {
        Self { window: 32, gamma: 200.0, kernel: 5 }
    }
}

/// Mean and variance (divisor rows − 1) of each of the first `open` slots over the rows of one query head.
pub(crate) fn mean_and_variance(rows: &[Vec<f32>], open: usize) -> Vec<(f64, f64)> {
    let count = rows.len().max(1) as f64;
    let of_slot = |slot: usize| {
        let mean = rows.iter().map(|row| f64::from(row[slot])).sum::<f64>() / count;
        let squares: f64 = rows.iter().map(|row| (f64::from(row[slot]) - mean).powi(2)).sum();
        (mean, squares / (count - 1.0).max(1.0))
    };
    (0..open).map(of_slot).collect()
}

impl Score for Cake {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let start = layer.seen.saturating_sub(self.window);
        let head = |head: usize| {
            let open = layer.slots_before(head, start);
            let mut scores = vec![0.0f32; open];
            for rows in attention::rows(layer, "cake", self.window, head)? {
                let moments = mean_and_variance(&rows, open).into_iter();
                let own = moments.map(|(mean, variance)| (mean + self.gamma * variance) / layer.shape.group as f64);
                scores.iter_mut().zip(own).for_each(|(score, own)| *score += own as f32);
            }
            Pool1d::Average { kernel: self.kernel }.run(&scores)
        };
        let rows = (0..layer.heads.len()).map(head).collect::<Result<Vec<_>>>()?;
        Ok(with_window(rows, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("cake.window", self.window, 2)?;
        checks::kernel("cake.kernel", self.kernel)?;
        checks::not_negative("cake.gamma", self.gamma)
    }
}
