use headwise_core::{Error, Result};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Allocate, Share, by_weight};
use crate::about::{About, Asks, Describe};

/// PyramidKV (arXiv 2406.02069): a straight line from the first layer down to the last.
///
/// With b slots a layer on average, the last layer gets b/β and the first 2b − b/β. The line is over the slots that compete
/// (protected ones come on top), is rounded by largest remainder, and what a layer cannot fill goes to the others, so that
/// the sum is exact; the published implementations lose or repeat slots there (see `compat`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Pyramid {
    /// Steepness β, at least 1 (flat). Default 20, as in the paper.
    #[ts(optional, as = "Option<_>")]
    pub beta: usize,
}

impl Describe for Pyramid {
    const ABOUT: About = About {
        source: "arXiv 2406.02069",
        asks: Asks::Either,
        reads: &[],
        deviates: "Largest remainder, so that the sum is the budget; the published codes lose or repeat slots.",
    };
}

impl Default for Pyramid {
    fn default() -> Self {
        Self { beta: 20 }
    }
}

impl Allocate for Pyramid {
    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        let last = 1.0 / self.beta as f64;
        let step = (2.0 - 2.0 * last) / layers.len().saturating_sub(1).max(1) as f64;
        let line: Vec<f64> = (0..layers.len()).map(|layer| (2.0 - last - layer as f64 * step).max(0.0)).collect();
        by_weight(budget, &line, layers)
    }

    fn validate(&self) -> Result<()> {
        match self.beta {
            0 => Err(Error::invalid("pyramid.beta", 0, "at least 1")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pyramid: Pyramid, budget: usize, available: &[usize]) -> Vec<usize> {
        let layers: Vec<Share> =
            available.iter().map(|&available| Share { available, weight: 1.0, scores: None }).collect();
        pyramid.allocate(budget, &layers)
    }

    #[test]
    fn the_line_falls_from_twice_the_mean_to_a_twentieth_of_it() {
        let lengths = split(Pyramid::default(), 300, &[1000; 3]);
        assert_eq!(lengths, [195, 100, 5]);
        assert_eq!(split(Pyramid { beta: 1 }, 300, &[1000; 3]), [100; 3]);
        assert_eq!(split(Pyramid::default(), 300, &[1000]), [300]);
    }

    #[test]
    fn what_a_layer_cannot_fill_goes_to_the_others() {
        assert_eq!(split(Pyramid::default(), 300, &[150; 3]), [150, 143, 7]);
        assert_eq!(split(Pyramid::default(), 1000, &[150; 3]), [150; 3]);
    }
}
