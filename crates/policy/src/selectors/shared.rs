use headwise_core::{Ragged, Result};
use headwise_kernels::topk;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, even_counts};
use crate::about::{About, Asks, Describe};

/// All heads of a layer keep the same slots, those whose scores sum to most over the heads. Where the budget is no multiple of the heads, the
/// first of them keep one slot more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Shared {}

impl Describe for Shared {
    const ABOUT: About = About { source: "arXiv 2406.12018", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Select for Shared {
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        Ok(even_counts(layer, budget))
    }

    fn keeps_the_best(&self) -> bool {
        false
    }

    fn pick(&self, layer: &Candidates, counts: &[usize]) -> Result<Ragged<u32>> {
        let joined = layer.joined("shared")?;
        let rows = counts.iter().map(|&count| topk(&joined, count)).collect::<Result<Vec<_>>>()?;
        Ok(Ragged::from_rows(rows))
    }
}
