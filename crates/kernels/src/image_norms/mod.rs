//! How long vectors become under a linear map, y = W x, without y ever being stored: Σ |y_r| or Σ y_r · x_r.
//!
//! The first is the L1 norm of an image. The second is xᵀ W x: with W = A Aᵀ, a Gram matrix, ‖Aᵀ x‖₂², so that the Euclidean norm of an image in many
//! dimensions takes a product in as many as x has.
//!
//! A product with few columns spends most of its time on adding up lanes when rows of W lie along the vectors' lanes; here outputs do, and
//! the lanes are added up once a vector. W therefore comes packed ([`pack`]).
//!
//! Sums are fixed trees of f32 operations over one x and W, the same for any number of vectors and threads.

pub mod cpu;
pub mod reference;

use crate::simd::Level;
use headwise_core::{Error, Result};

/// Rows of W that lie beside each other.
pub const PANEL: usize = 32;

/// What is added up over the rows of W.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Σ |y_r|.
    Magnitude,
    /// Σ y_r · x_r, for a square W.
    Form,
}

/// `[⌈rows / 32⌉][cols][32]` of `w = [rows][cols]`, the last panel filled up with zeros.
pub fn pack(w: &[f32], cols: usize) -> Vec<f32> {
    let rows = w.len() / cols.max(1);
    let mut panels = vec![0.0; rows.next_multiple_of(PANEL) * cols];
    for (r, row) in w.chunks_exact(cols.max(1)).enumerate() {
        let panel = &mut panels[r / PANEL * PANEL * cols..];
        row.iter().enumerate().for_each(|(c, &x)| panel[c * PANEL + r % PANEL] = x);
    }
    panels
}

/// The measure of the image of each row of `x = [n][cols]`, into `out = [n]`; `panels` is what [`pack`] makes of W.
///
/// # Errors
/// `ShapeMismatch` when the lengths do not agree, or when W is not square and has to be.
pub fn image_norms(out: &mut [f32], x: &[f32], panels: &[f32], cols: usize, measure: Measure) -> Result<()> {
    let check = |what: &str, expected: usize, got: usize| match expected == got {
        true => Ok(()),
        false => Err(Error::ShapeMismatch { what: what.into(), expected: vec![expected], got: vec![got] }),
    };
    check("vectors to measure", out.len() * cols, x.len())?;
    let panel = (PANEL * cols).max(1);
    check("numbers in panels", panels.len().next_multiple_of(panel), panels.len())?;
    if measure == Measure::Form {
        check("panels of a square matrix", cols.next_multiple_of(PANEL) * cols, panels.len())?;
    }
    cpu::image_norms(Level::detect(), out, x, panels, cols, measure);
    Ok(())
}
