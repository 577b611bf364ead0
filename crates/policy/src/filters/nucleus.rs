use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Admit;
use crate::LayerInput;
use crate::about::{About, Asks, Describe};

/// Of each head the fewest slots, best first, that together hold the share `mass` of its scores: a head that looks at little keeps little. For scores
/// that are not negative.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Nucleus {
    /// Share of the scores' sum, in (0, 1]. Default 0.95.
    #[ts(optional, as = "Option<_>")]
    pub mass: f64,
}

impl Describe for Nucleus {
    const ABOUT: About = About { source: "common", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Default for Nucleus {
    fn default() -> Self {
        Self { mass: 0.95 }
    }
}

impl Admit for Nucleus {
    fn admit<B: Block>(&self, _: &LayerInput<B>, scores: &Scores, _: &[Vec<u32>]) -> Result<Vec<Vec<bool>>> {
        Ok(scores.iter().map(|row| best_of(row, self.mass)).collect())
    }

    fn validate(&self) -> Result<()> {
        match self.mass > 0.0 && self.mass <= 1.0 {
            true => Ok(()),
            false => Err(Error::invalid("nucleus.mass", self.mass, "more than 0, at most 1")),
        }
    }
}

/// The best slots (ties: the lower one) that together hold the share `mass` of the sum, at least one.
pub(super) fn best_of(row: &[f32], mass: f64) -> Vec<bool> {
    let all: f64 = row.iter().map(|&score| f64::from(score.max(0.0))).sum();
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]));
    let (mut admitted, mut held) = (vec![false; row.len()], 0.0);
    for slot in order {
        admitted[slot] = true;
        held += f64::from(row[slot].max(0.0));
        if held >= mass * all {
            break;
        }
    }
    admitted
}
