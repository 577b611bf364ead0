//! The k highest scores of one row, in O(n). Equal scores go to the lower slot; +0 and -0 are equal.

pub mod cpu;
pub mod reference;

use crate::nan::first_nan;
use crate::simd::Level;
use headwise_core::{Error, Result};

/// Slots of the `k` highest of `scores` (`[n]`, ±∞ allowed), ascending.
///
/// # Errors
/// `NotANumber` for a NaN; `InvalidArgument` when `k` is more than there are scores (a budget is a count, never "about").
pub fn topk(scores: &[f32], k: usize) -> Result<Vec<u32>> {
    check(scores, k)?;
    Ok(cpu::topk(Level::detect(), scores, k))
}

/// What separates the `k` highest of `scores` from the rest: all that are above the number are among them, and so many of those that equal it, the first
/// ones. ∞ and none for `k = 0`.
///
/// # Errors
/// As [`topk`].
pub fn threshold(scores: &[f32], k: usize) -> Result<(f32, usize)> {
    check(scores, k)?;
    let threshold = cpu::threshold(Level::detect(), scores, k);
    Ok(threshold.map_or((f32::INFINITY, 0), |cpu::Threshold { score, equals }| (score, equals)))
}

/// Refuses what cannot be ranked.
pub(crate) fn check(scores: &[f32], k: usize) -> Result<()> {
    if k > scores.len() || scores.len() > u32::MAX as usize {
        return Err(Error::invalid("k", k, "at most the number of scores"));
    }
    match first_nan(scores) {
        Some(index) => Err(Error::NotANumber { what: "scores".into(), index }),
        None => Ok(()),
    }
}
