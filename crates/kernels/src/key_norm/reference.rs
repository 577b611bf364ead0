//! Key norms in f64.

use crate::{Block, HeadView};

/// `[head.len]`.
pub fn key_norm<B: Block>(head: HeadView<'_, B>) -> Vec<f64> {
    let square = |slot: usize, d: usize| (head.key(slot, d) as f64).powi(2);
    (0..head.len).map(|slot| (0..head.layout.head_dim).map(|d| square(slot, d)).sum::<f64>().sqrt()).collect()
}
