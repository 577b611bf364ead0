use headwise_core::{Ragged, Result, Scores};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Select, lengths, top_of_heads};
use crate::apportion;

/// Every head keeps the same number of slots, its own best ones (SnapKV, PyramidKV, key norm).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct PerHead {}

impl Select for PerHead {
    fn select(&self, scores: &Scores, budget: usize) -> Result<Ragged<u32>> {
        top_of_heads(scores, &apportion(budget, &vec![1.0; scores.rows()], &lengths(scores)))
    }
}
