//! Σ x xᵀ: the Gram matrix W Wᵀ of the map y = x W, of whose columns x is one each.

pub mod cpu;
pub mod reference;

use crate::simd::Level;
use headwise_core::{Error, Result};

/// `[dim][dim]`, symmetric, of vectors `x = [n][dim]`. A sum is one of sums over 64 vectors each, both in order.
///
/// # Errors
/// `ShapeMismatch` when `x` are not whole vectors.
pub fn gram(x: &[f32], dim: usize) -> Result<Vec<f32>> {
    gram_at(Level::detect(), x, dim)
}

/// [`gram`] with the instructions of a level, for tests.
pub fn gram_at(level: Level, x: &[f32], dim: usize) -> Result<Vec<f32>> {
    match dim > 0 && x.len().is_multiple_of(dim) {
        true => Ok(cpu::gram(level, x, dim)),
        false => Err(Error::ShapeMismatch { what: "vectors".into(), expected: vec![dim], got: vec![x.len()] }),
    }
}
