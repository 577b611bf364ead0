use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Allocate, Share, by_weight};
use crate::LayerInput;
use crate::about::{About, Asks, Describe};

/// LAVa (arXiv 2509.09754): layers share the budget by the entropy of their scores, −Σ p ln p / ln N with p the scores of all heads divided by their
/// sum: a layer whose scores are spread evenly needs more slots. For scores that are not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Entropy {}

impl Describe for Entropy {
    const ABOUT: About = About {
        source: "arXiv 2509.09754",
        asks: Asks::Either,
        reads: &[],
        deviates: "All layers are known at once, and shares are rounded by largest remainder; the code truncates as it goes.",
    };
}

impl Entropy {
    /// In [0, 1]: 0 when one slot has everything, 1 when all have the same.
    pub fn of(scores: &Scores) -> f64 {
        let scores = scores.data();
        let sum: f64 = scores.iter().map(|&score| f64::from(score.max(0.0))).sum();
        if scores.len() < 2 || sum <= 0.0 || !sum.is_finite() {
            return 0.0;
        }
        let shares = scores.iter().map(|&score| f64::from(score.max(0.0)) / sum).filter(|&p| p > 0.0);
        -shares.map(|p| p * p.ln()).sum::<f64>() / (scores.len() as f64).ln()
    }
}

impl Allocate for Entropy {
    fn weighs(&self) -> bool {
        true
    }

    fn weigh<B: Block>(&self, _: &LayerInput<B>, scores: &Scores) -> Result<f64> {
        Ok(Self::of(scores).max(0.0))
    }

    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        let weights: Vec<f64> = layers.iter().map(|layer| layer.weight).collect();
        by_weight(budget, &weights, layers)
    }
}
