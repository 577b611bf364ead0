//! How long vectors become under a linear map, y = W x, without y ever being stored: Σ |y_r| or Σ y_r · x_r.
//!
//! The first is the L1 norm of an image. The second is xᵀ W x: with W = A Aᵀ, a Gram matrix, ‖Aᵀ x‖₂², so that the Euclidean norm of an image in many
//! dimensions takes a product in as many as x has.
//!
//! Of a form only the lower triangle is needed, W + Wᵀ below the diagonal. Sums are fixed trees of f32 operations over one x and W, the same for any
//! number of vectors, maps and threads.

pub mod cpu;
pub mod reference;

use crate::simd::Level;
use crate::strips::{Strips, pack_rows};
use headwise_core::{Error, Result};
use std::ops::Range;

/// What is added up over the rows of W.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Σ |y_r|.
    Magnitude,
    /// Σ y_r · x_r, for a square W.
    Form,
}

/// Maps of vectors of one length, ready to measure images with.
pub struct ImageNorms {
    measure: Measure,
    cols: usize,
    /// Rows of each map, packed for products with strips.
    packed: Vec<Vec<f32>>,
}

impl ImageNorms {
    /// Of maps `[rows][cols]`.
    ///
    /// # Errors
    /// `ShapeMismatch` when one is not whole rows, or is not square and has to be.
    pub fn new(measure: Measure, maps: &[Vec<f32>], cols: usize) -> Result<Self> {
        let pack = |w: &Vec<f32>| {
            let rows = w.len() / cols.max(1);
            let expected = if measure == Measure::Form { cols } else { rows };
            check("numbers of a map", expected * cols, w.len())?;
            Ok(pack_rows(rows, cols, |r, c| match measure {
                Measure::Form if c < r => w[r * cols + c] + w[c * cols + r],
                Measure::Form if c > r => 0.0,
                _ => w[r * cols + c],
            }))
        };
        Ok(Self { measure, cols, packed: maps.iter().map(pack).collect::<Result<_>>()? })
    }

    /// The measure of the images of each vector under these of the maps, `[maps][n]`. Panics where there are not so many.
    ///
    /// # Errors
    /// `ShapeMismatch` when vectors are not as long as the maps' rows.
    pub fn run(&self, maps: Range<usize>, x: &Strips) -> Result<Vec<f32>> {
        self.run_at(Level::detect(), maps, x)
    }

    /// [`ImageNorms::run`] with the instructions of a level, for tests.
    pub fn run_at(&self, level: Level, maps: Range<usize>, x: &Strips) -> Result<Vec<f32>> {
        check("numbers of a vector", self.cols, x.dim())?;
        Ok(cpu::image_norms(level, self.measure, &self.packed[maps], x))
    }
}

fn check(what: &str, expected: usize, got: usize) -> Result<()> {
    match expected == got {
        true => Ok(()),
        false => Err(Error::ShapeMismatch { what: what.into(), expected: vec![expected], got: vec![got] }),
    }
}
