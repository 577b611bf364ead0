use headwise_core::{Error, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Allocate, Share, by_weight};
use crate::about::{About, Asks, Describe};

/// Layers share the budget by given weights: those of a calibration, or of a search as in EvolKV (arXiv 2509.08315); kvpress's
/// PerLayerCompressionPress.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
pub struct Weights {
    /// One number a layer, not negative; only their proportions matter. Layers that the list does not reach weigh as much as its last.
    pub weights: Vec<f64>,
}

impl Describe for Weights {
    const ABOUT: About = About {
        source: "arXiv 2509.08315, kvpress",
        asks: Asks::Either,
        reads: &[],
        deviates: "The weights are given: EvolKV's search for them is not here.",
    };
}

impl Allocate for Weights {
    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        let last = self.weights.last().copied().unwrap_or(1.0);
        let weights: Vec<f64> =
            (0..layers.len()).map(|layer| self.weights.get(layer).copied().unwrap_or(last)).collect();
        by_weight(budget, &weights, layers)
    }

    fn validate(&self) -> Result<()> {
        match self.weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            Some(weight) => Err(Error::invalid("weights.weights", weight, "finite numbers, not negative")),
            None if self.weights.is_empty() => Err(Error::invalid("weights.weights", "[]", "at least one number")),
            None => Ok(()),
        }
    }
}
