use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Allocate, Share, by_weight};
use crate::about::{About, Asks, Describe, Reads};
use crate::attention::{self, Moments};
use crate::{LayerInput, Needs, Scorer, checks};

/// CAKE (arXiv 2503.12491, ICLR 2025): layers share the budget by how widely and how changeably their window looks, H^(1/τ₁) · V^(1/τ₂).
///
/// H = −Σ a ln a (the published code adds 1e−10 for the sake of 0) and V = Σ of the variance over the window's rows (divisor rows − 1), both over all query heads and the slots before the
/// window, whose attention is that of the whole row and so does not sum to 1. The published code cuts earlier layers again after each layer, which leads
/// to the same shares; here all are known at once. The paper's τ for Llama 3.1 are 1.6 and 0.4 at 1024 slots, 1.6 and 0.6 at 128.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct CakeLayers {
    /// Last tokens whose queries count, 2 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// τ₁, positive. Default 1.
    #[ts(optional, as = "Option<_>")]
    pub spread: f64,
    /// τ₂, positive. Default 1.
    #[ts(optional, as = "Option<_>")]
    pub shift: f64,
}

impl Describe for CakeLayers {
    const ABOUT: About = About {
        source: "arXiv 2503.12491",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "All layers are known at once, where the code trims earlier ones as it goes; τ₁ = τ₂ = 1, which the paper tunes.",
    };
}

impl Default for CakeLayers {
    fn default() -> Self {
        Self { window: 32, spread: 1.0, shift: 1.0 }
    }
}

impl CakeLayers {
    fn of_moments(&self, moments: &[Vec<Vec<Moments>>]) -> f64 {
        let (mut entropy, mut variance) = (0.0, 0.0);
        for slot in moments.iter().flatten().flatten() {
            entropy += slot.entropy;
            variance += slot.variance;
        }
        entropy.max(0.0).powf(1.0 / self.spread) * variance.powf(1.0 / self.shift)
    }
}

impl Allocate for CakeLayers {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn weighs(&self) -> bool {
        true
    }

    fn weigh<B: Block>(&self, layer: &LayerInput<B>, _: &Scores) -> Result<f64> {
        Ok(self.of_moments(&attention::moments(layer, "cake", self.window)?))
    }

    fn judge<B: Block>(&self, scorer: &Scorer, layer: &LayerInput<B>) -> Result<Option<(Scores, f64)>> {
        let Scorer::Cake(scorer) = scorer else { return Ok(None) };
        if scorer.window != self.window {
            return Ok(None);
        }
        let moments = attention::moments(layer, "cake", self.window)?;
        Ok(Some((scorer.of_moments(layer, &moments)?, self.of_moments(&moments))))
    }

    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        let weights: Vec<f64> = layers.iter().map(|layer| layer.weight).collect();
        by_weight(budget, &weights, layers)
    }

    fn validate(&self) -> Result<()> {
        checks::window("cake.window", self.window, 2)?;
        let positive = |name: &str, x: f64| match x > 0.0 && x.is_finite() {
            true => Ok(()),
            false => Err(Error::invalid(name, x, "a positive finite number")),
        };
        positive("cake.spread", self.spread)?;
        positive("cake.shift", self.shift)
    }
}
