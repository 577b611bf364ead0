use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, HeadView};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;
use crate::about::{About, Asks, Describe, Reads};
use crate::rows::{each_key, each_value};

/// LagKV (arXiv 2504.04704): slots stay whose keys and values spread most when they are measured by those that follow.
///
/// Behind the first slots come partitions of `lag` slots. Channel by channel a partition is scaled by the least and the largest number of the
/// next one, z = (x − min) / (max − min); a slot's spread is the standard deviation of its z over the channels (divisor D − 1), softmax over the
/// partition; keys and values are averaged. Then slots are ranked within their partition, (0 … lag − 1) / lag, so that each keeps as many: ranks
/// of different partitions tie, and the lower position wins. First slots, the last whole partition and what follows it get 1. A text shorter
/// than two partitions keeps its most recent slots. Needs no queries.
///
/// A channel in which the next partition does not vary divides by zero in the source; here it counts as 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
pub struct LagKV {
    /// First slots that get the largest score. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub first: usize,
    /// Slots of a partition. Default 128.
    #[ts(optional, as = "Option<_>")]
    pub lag: usize,
    /// Let slots of different partitions compete by their softmax instead of ranking them within their own. Default false.
    #[ts(optional, as = "Option<_>")]
    pub cross_partition: bool,
}

impl Describe for LagKV {
    const ABOUT: About = About {
        source: "arXiv 2504.04704",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Values],
        deviates: "A channel in which the next partition does not vary counts as 0; the source divides by zero.",
    };
}

impl Default for LagKV {
    fn default() -> Self {
        Self { first: 4, lag: 128, cross_partition: false }
    }
}

impl Score for LagKV {
    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        Ok(Scores::from_rows(layer.heads.iter().map(|&head| self.head(head))))
    }

    fn validate(&self) -> Result<()> {
        match self.lag {
            0 => Err(Error::invalid("lagKV.lag", 0, "at least one slot")),
            _ => Ok(()),
        }
    }
}

impl LagKV {
    fn head<B: Block>(&self, head: HeadView<B>) -> Vec<f32> {
        let (len, first, lag) = (head.len, self.first.min(head.len), self.lag);
        if len < first + 2 * lag {
            let rest = (len - first) as f32;
            return (0..len).map(|slot| if slot < first { 1.0 } else { (slot - first) as f32 / rest }).collect();
        }
        let dim = head.layout.head_dim;
        let (mut keys, mut values) = (vec![0.0; len * dim], vec![0.0; len * dim]);
        each_key(head, |slot, key| keys[slot * dim..][..dim].copy_from_slice(key));
        each_value(head, |slot, value| values[slot * dim..][..dim].copy_from_slice(value));
        let mut scores = vec![1.0; len];
        for start in (first..).step_by(lag).take((len - first) / lag - 1) {
            let spread = |rows: &[f32]| {
                let part = &rows[start * dim..][..2 * lag * dim];
                let (own, next) = part.split_at(lag * dim);
                softmax(spreads(own, next, dim))
            };
            let mean: Vec<f64> = spread(&keys).iter().zip(spread(&values)).map(|(k, v)| (k + v) / 2.0).collect();
            let scores = &mut scores[start..][..lag];
            if self.cross_partition {
                scores.iter_mut().zip(&mean).for_each(|(score, &mean)| *score = mean as f32);
                continue;
            }
            let mut order: Vec<usize> = (0..lag).collect();
            order.sort_by(|&a, &b| mean[a].total_cmp(&mean[b]));
            order.iter().enumerate().for_each(|(rank, &slot)| scores[slot] = rank as f32 / lag as f32);
        }
        scores
    }
}

/// How far the numbers of each row of `own` spread once every channel is scaled to the range that it has in `next`.
fn spreads(own: &[f32], next: &[f32], dim: usize) -> Vec<f64> {
    let bounds: Vec<(f64, f64)> = (0..dim)
        .map(|channel| {
            let numbers = next.iter().skip(channel).step_by(dim);
            numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &x| (low.min(x.into()), high.max(x.into())))
        })
        .collect();
    let scale = |(&x, &(low, high)): (&f32, &(f64, f64))| match high > low {
        true => (f64::from(x) - low) / (high - low),
        false => 0.0,
    };
    let deviation = |row: &[f32]| {
        let z: Vec<f64> = row.iter().zip(&bounds).map(scale).collect();
        let mean = z.iter().sum::<f64>() / dim as f64;
        (z.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / (dim.max(2) - 1) as f64).sqrt()
    };
    own.chunks_exact(dim).map(deviation).collect()
}

fn softmax(mut numbers: Vec<f64>) -> Vec<f64> {
    let max = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    numbers.iter_mut().for_each(|x| *x = (*x - max).exp());
    let sum: f64 = numbers.iter().sum();
    numbers.iter_mut().for_each(|x| *x /= sum);
    numbers
}
