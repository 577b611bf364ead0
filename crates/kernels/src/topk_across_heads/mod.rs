//! The k highest scores of all heads together, in O(n): heads compete, so their shares differ. Source: Feng et al. 2024 (Ada-KV).
//!
//! Equal scores go to the lower slot, then to the lower head; +0 and -0 are equal.

pub mod cpu;
pub mod cuda;
pub mod reference;

use crate::simd::Level;
use crate::topk::check;
use headwise_core::{Result, Scores, Selection};

/// The `k` highest of `scores` over all heads; exactly `k` slots in all. ±∞ allowed.
///
/// # Errors
/// `NotANumber` for a NaN (index into the flat scores); `InvalidArgument` when `k` is more than there are scores.
pub fn topk_across_heads(scores: &Scores, k: usize) -> Result<Selection> {
    check(scores.data(), k)?;
    let lengths: Vec<usize> = scores.iter().map(<[f32]>::len).collect();
    Selection::new(cpu::topk_across_heads(Level::detect(), scores, k), &lengths)
}
