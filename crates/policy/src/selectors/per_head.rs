use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Candidates, Select, even_counts};
use crate::about::{About, Asks, Describe};

/// Every head keeps the same number of slots, its own best ones (SnapKV, PyramidKV, key norm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct PerHead {}

impl Describe for PerHead {
    const ABOUT: About = About { source: "common", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Select for PerHead {
    fn counts(&self, layer: &Candidates, budget: usize) -> Result<Vec<usize>> {
        Ok(even_counts(layer, budget))
    }
}
