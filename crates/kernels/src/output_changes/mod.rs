//! How much a head's part of the layer's output changes when a slot is taken away and the softmax renormalised:
//! a / (1 − a) · ‖(o − v) W‖₂ for each row of attention a and slot v, with o the row's output and W the head's part of W_O (the closed form of CAOTE,
//! arXiv 2504.14051, and ReST-KV, arXiv 2605.08840).
//!
//! With G = W Wᵀ the square of the length is oᵀGo − 2 (G o)ᵀ v + ‖v W‖², so that only one product of head_dim numbers is left for each row and slot. A slot
//! that holds all attention would change the output without bound; 1 − a is taken as 2⁻²⁴ at least.

pub mod cpu;
pub mod reference;

use crate::simd::Level;
use crate::strips::Strips;
use headwise_core::{Error, Result};

/// What the rows of a query head have to do with the values of its slots.
#[derive(Debug, Clone, Copy)]
pub struct Outputs<'a> {
    /// G o, `[rows][head_dim]`.
    pub images: &'a [f32],
    /// oᵀ G o, `[rows]`.
    pub squares: &'a [f32],
    /// ‖v W‖₂, `[slots]`.
    pub lengths: &'a [f32],
}

/// Attention `[rows][slots]` becomes changes. Rows are softmax probabilities over all `values`, of which there is one a slot.
///
/// # Errors
/// `ShapeMismatch` when lengths do not agree.
pub fn output_changes(attention: &mut [f32], values: &Strips, outputs: Outputs) -> Result<()> {
    output_changes_at(Level::detect(), attention, values, outputs)
}

/// [`output_changes`] with the instructions of a level, for tests.
pub fn output_changes_at(level: Level, attention: &mut [f32], values: &Strips, outputs: Outputs) -> Result<()> {
    let rows = outputs.squares.len();
    for (what, expected, got) in [
        ("attention", rows * values.len(), attention.len()),
        ("images of outputs", rows * values.dim(), outputs.images.len()),
        ("lengths of values", values.len(), outputs.lengths.len()),
    ] {
        if expected != got {
            return Err(Error::ShapeMismatch { what: what.into(), expected: vec![expected], got: vec![got] });
        }
    }
    cpu::output_changes(level, attention, values, outputs);
    Ok(())
}
