use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::LayerInput;
use crate::about::{About, Asks, Describe};

/// Slots whose score is at least a number (as in kvpress's DMSPress).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Threshold {
    /// The least score, in the scorer's own units.
    pub least: f64,
}

impl Describe for Threshold {
    const ABOUT: About = About { source: "kvpress", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Admit for Threshold {
    fn admit<B: Block>(&self, _: &LayerInput<B>, scores: &Scores, _: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        Ok(scores.iter().map(|row| row.iter().map(|&score| f64::from(score) >= self.least).collect()).collect())
    }

    fn validate(&self) -> Result<()> {
        match self.least.is_finite() {
            true => Ok(()),
            false => Err(Error::invalid("threshold.least", self.least, "a finite number")),
        }
    }
}
