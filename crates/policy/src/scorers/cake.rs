use headwise_core::{Result, Scores};
use headwise_kernels::{Block, Pool1d};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::attention::{self, Moments};
use crate::{LayerInput, Needs, checks};

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

impl Cake {
    /// Scores from what [`attention::moments`] says of each KV head.
    pub(crate) fn of_moments<B: Block>(&self, layer: &LayerInput<B>, moments: &[Vec<Vec<Moments>>]) -> Result<Scores> {
        let start = layer.seen.saturating_sub(self.window);
        let head = |(head, moments): (usize, &Vec<Vec<Moments>>)| {
            let mut scores = vec![0.0f32; layer.slots_before(head, start)];
            for moments in moments {
                let own = moments.iter().map(|slot| slot.mean + self.gamma * slot.variance);
                let own = own.map(|score| (score / layer.shape.group as f64) as f32);
                scores.iter_mut().zip(own).for_each(|(score, own)| *score += own);
            }
            Pool1d::Average { kernel: self.kernel }.run(&scores)
        };
        Ok(with_window(moments.iter().enumerate().map(head).collect::<Result<Vec<_>>>()?, &layer.lengths()))
    }
}

impl Score for Cake {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        self.of_moments(layer, &attention::moments(layer, "cake", self.window)?)
    }

    fn validate(&self) -> Result<()> {
        checks::window("cake.window", self.window, 2)?;
        checks::kernel("cake.kernel", self.kernel)?;
        checks::not_negative("cake.gamma", self.gamma)
    }
}
