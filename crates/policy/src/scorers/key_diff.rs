use half::{bf16, f16};
use headwise_core::{Codec, Result, Scores};
use headwise_kernels::{Block, HeadView, key_norm};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;

/// KeyDiff (arXiv 2504.15364): score −cos(k, anchor), where the anchor is the mean of the head's normalised keys: keys that are
/// unlike the others stay. Needs no queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
pub struct KeyDiff {}

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

/// Calls `f` with every slot and its key, `[head_dim]`.
fn each_key<B: Block>(head: HeadView<B>, mut f: impl FnMut(usize, &[f32])) {
    let layout = head.layout;
    let mut key = vec![0.0; layout.head_dim];
    for block in 0..head.block_count() {
        for (row, bytes) in head.keys(block).chunks_exact(layout.row_bytes()).enumerate() {
            let numbers = bytes.chunks_exact(layout.codec.bytes());
            key.iter_mut().zip(numbers).for_each(|(out, bytes)| *out = number(layout.codec, bytes));
            f(block * layout.slots + row, &key);
        }
    }
}

fn number(codec: Codec, bytes: &[u8]) -> f32 {
    match codec {
        Codec::F32 => f32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
        Codec::Bf16 => bf16::from_ne_bytes([bytes[0], bytes[1]]).to_f32(),
        Codec::F16 => f16::from_ne_bytes([bytes[0], bytes[1]]).to_f32(),
    }
}
