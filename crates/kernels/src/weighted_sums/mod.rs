//! Σ a v: what a head puts out for rows of attention that are there already, as [`crate::window_rows`] makes them.

pub mod cpu;
pub mod reference;

use crate::simd::Level;
use headwise_core::{Error, Result};

/// Sums `[rows][dim]` of `values = [slots][dim]`, with weights `[rows][slots]`. A sum is one of sums over 64 slots each, both in
/// order, and does not depend on the other rows.
///
/// # Errors
/// `ShapeMismatch` when `values` are not whole, or the weights no whole rows of as many slots.
pub fn weighted_sums(weights: &[f32], values: &[f32], dim: usize) -> Result<Vec<f32>> {
    weighted_sums_at(Level::detect(), weights, values, dim)
}

/// [`weighted_sums`] with the instructions of a level, for tests.
pub fn weighted_sums_at(level: Level, weights: &[f32], values: &[f32], dim: usize) -> Result<Vec<f32>> {
    for (what, len, unit) in [("values", values.len(), dim), ("weights", weights.len(), values.len() / dim.max(1))] {
        if unit == 0 || !len.is_multiple_of(unit) {
            return Err(Error::ShapeMismatch { what: what.into(), expected: vec![unit], got: vec![len] });
        }
    }
    Ok(cpu::weighted_sums(level, weights, values, dim))
}
