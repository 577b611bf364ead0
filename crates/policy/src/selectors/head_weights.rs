use headwise_core::{Error, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, lengths};
use crate::about::{About, Asks, Describe};
use crate::apportion;

/// The heads of all layers share the budget by given weights: those of a calibration or of a search, as in HeadKV (arXiv 2410.19258). Each keeps its own
/// best slots.
///
/// What a head cannot fill goes to the others in proportion, so that the sum is exact. Weights are about slots that compete; protected ones come on top.
/// Unlike the list of allocator `weights`, which stands for whole layers, this one has to fit the model: a head that nobody weighed is an error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, TS)]
pub struct HeadWeights {
    /// `[layer][KV head]`, finite and not negative; only their proportions matter.
    pub weights: Vec<Vec<f64>>,
}

impl Describe for HeadWeights {
    const ABOUT: About = About {
        source: "arXiv 2410.19258",
        asks: Asks::Either,
        reads: &[],
        deviates: "The weights are given: HeadKV's tests that find them are not here, nor its base share.",
    };
}

impl Select for HeadWeights {
    fn spans_layers(&self) -> bool {
        true
    }

    fn counts_of_layers(&self, layers: &[Candidates], budgets: &[usize]) -> Result<Vec<Vec<usize>>> {
        let caps: Vec<Vec<usize>> = layers.iter().map(|layer| lengths(&layer.scores)).collect();
        fits("layers in headWeights.weights", caps.len(), self.weights.len())?;
        for (layer, (caps, weights)) in caps.iter().zip(&self.weights).enumerate() {
            fits(&format!("KV heads in headWeights.weights[{layer}]"), caps.len(), weights.len())?;
        }
        let counts = apportion(budgets.iter().sum(), &self.weights.concat(), &caps.concat());
        let mut counts = counts.into_iter();
        Ok(caps.iter().map(|caps| counts.by_ref().take(caps.len()).collect()).collect())
    }

    fn validate(&self) -> Result<()> {
        match self.weights.iter().flatten().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            Some(weight) => Err(Error::invalid("headWeights.weights", weight, "finite numbers, not negative")),
            None if self.weights.is_empty() => Err(Error::invalid("headWeights.weights", "[]", "a row for each layer")),
            None => Ok(()),
        }
    }
}

fn fits(what: &str, expected: usize, got: usize) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => Err(Error::ShapeMismatch { what: what.into(), expected: vec![expected], got: vec![got] }),
    }
}
