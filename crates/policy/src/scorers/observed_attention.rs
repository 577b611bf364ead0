use headwise_core::{Result, Scores};
use headwise_kernels::{Block, GroupReduce, group_reduce};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::about::{About, Asks, Describe};
use crate::{LayerInput, Needs};

/// Observed attention (kvpress, after H2O): the mean attention that a slot has got from the queries that could see it.
///
/// `s_j = Σ_i a_ij / (T − j)` per query head, mean over the query heads of a KV head. The sums are gathered while tokens are read, so the
/// session must have this policy (or `h2o`) from the start. No slot is protected, not even the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct ObservedAttention {}

impl Describe for ObservedAttention {
    const ABOUT: About = About { source: "kvpress", asks: Asks::Agnostic, reads: &[], deviates: "" };
}

impl Score for ObservedAttention {
    fn needs(&self) -> Needs {
        Needs { running_sums: true, ..Needs::default() }
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let head = |head: usize| {
            let sums = layer.running_sums("observedAttention", head)?;
            let mut scores = group_reduce(sums, layer.shape.group, GroupReduce::Mean)?;
            for (score, &position) in scores.iter_mut().zip(layer.positions[head]) {
                *score /= (layer.seen - position as usize) as f32;
            }
            Ok(scores)
        };
        Ok(Scores::from_rows((0..layer.heads.len()).map(head).collect::<Result<Vec<_>>>()?))
    }
}
