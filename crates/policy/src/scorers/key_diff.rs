use headwise_core::{Result, Scores};
use headwise_kernels::{Block, HeadView, key_norm};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;
use crate::about::{About, Asks, Describe, Reads};
use crate::rows::each_key;

/// KeyDiff (arXiv 2504.15364): score −cos(k, anchor), where the anchor is the mean of the head's normalised keys: keys that are
/// unlike the others stay. Needs no queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct KeyDiff {}

impl Describe for KeyDiff {
    const ABOUT: About =
        About { source: "arXiv 2504.15364", asks: Asks::Agnostic, reads: &[Reads::Keys], deviates: "" };
}

impl Score for KeyDiff {
    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let rows = layer.heads.iter().map(|&head| unlikeness(head)).collect::<Result<Vec<_>>>()?;
        Ok(Scores::from_rows(rows))
    }
}

fn unlikeness<B: Block>(head: HeadView<B>) -> Result<Vec<f32>> {
    let norms = key_norm(head)?;
    let mut anchor = vec![0.0f64; head.layout.head_dim];
    each_key(head, |slot, key| {
        let norm = f64::from(norms[slot]).max(1e-12);
        anchor.iter_mut().zip(key).for_each(|(sum, &x)| *sum += f64::from(x) / norm);
    });
    anchor.iter_mut().for_each(|sum| *sum /= head.len.max(1) as f64);
    let length = anchor.iter().map(|x| x * x).sum::<f64>().sqrt().max(1e-8);
    let mut scores = vec![0.0; head.len];
    each_key(head, |slot, key| {
        let dot: f64 = anchor.iter().zip(key).map(|(a, &x)| a * f64::from(x)).sum();
        scores[slot] = (-dot / (f64::from(norms[slot]).max(1e-8) * length)) as f32;
    });
    Ok(scores)
}
