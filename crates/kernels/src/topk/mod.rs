//! The k highest scores of one row, in O(n). Equal scores go to the lower slot; +0 and -0 are equal.

pub mod cpu;
pub mod reference;

use headwise_core::{Error, Result};

/// Slots of the `k` highest of `scores` (`[n]`, ±∞ allowed), ascending.
///
/// # Errors
/// `NotANumber` for a NaN; `InvalidArgument` when `k` is more than there are scores (a budget is a count, never "about").
pub fn topk(scores: &[f32], k: usize) -> Result<Vec<u32>> {
    if k > scores.len() || scores.len() > u32::MAX as usize {
        return Err(Error::invalid("k", k, "at most the number of scores"));
    }
    // Without an early exit the compiler looks at many at once.
    if scores.iter().fold(false, |nan, x| nan | x.is_nan()) {
        let index = scores.iter().position(|x| x.is_nan()).unwrap_or_default();
        return Err(Error::NotANumber { what: "scores".into(), index });
    }
    Ok(cpu::topk(scores, k))
}
