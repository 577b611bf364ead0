//! Euclidean norms of the keys of a head. Source: Devoto et al. 2024 (keys with a small norm draw the attention).

pub mod cpu;
pub mod reference;

use crate::simd::Level;
use crate::{Block, HeadView};
use headwise_core::Result;

/// `‖k_s‖₂` of every slot, `[head.len]`. A NaN in a key gives NaN.
///
/// # Errors
/// `ShapeMismatch` and `InvalidArgument` for a view that does not hold its `len` slots.
pub fn key_norm<B: Block>(head: HeadView<'_, B>) -> Result<Vec<f32>> {
    cpu::key_norm(Level::detect(), head)
}
