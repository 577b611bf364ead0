use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Allocate, Share, by_weight};
use crate::about::{About, Asks, Describe};

/// Every layer gets the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct Uniform {}

impl Describe for Uniform {
    const ABOUT: About = About { source: "common", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Allocate for Uniform {
    fn allocate(&self, budget: usize, layers: &[Share<'_>]) -> Vec<usize> {
        by_weight(budget, &vec![1.0; layers.len()], layers)
    }
}
