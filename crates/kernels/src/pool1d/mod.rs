//! Pooling of scores along the slots: an important slot pulls its neighbours along.
//!
//! Average and max as in SnapKV (Li et al. 2024) and its implementations: stride 1, `kernel / 2` on both sides. Look-ahead is
//! ours: `s'_j = max over 0 ≤ d ≤ span of decay^d · s_(j-d)`; importance reaches forward only, because a head that attends
//! to the start of a span will want its continuation next.

pub mod cpu;
pub mod cuda;
pub mod reference;

use crate::nan::first_nan;
use headwise_core::{Error, Result};

/// The kernel and its options. Lengths are in slots.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pool1d {
    /// Mean over `kernel` slots centred on each; outside counts as 0 and the divisor is always `kernel`.
    Average {
        /// Odd.
        kernel: usize,
    },
    /// Largest of `kernel` slots centred on each; outside counts as -∞.
    Max {
        /// Odd.
        kernel: usize,
    },
    /// Largest of the slot itself and the `span` slots before it, each faded by `decay` per slot of distance.
    LookAhead {
        /// Slots that importance reaches forward.
        span: usize,
        /// In (0, 1].
        decay: f32,
    },
}

impl Pool1d {
    /// Pools `scores` (`[n]`), gives `[n]`.
    ///
    /// # Errors
    /// `InvalidArgument` for an even kernel or a decay outside (0, 1]; `NotANumber` for a NaN in `scores`, and for an average
    /// over +∞ and -∞.
    pub fn run(&self, scores: &[f32]) -> Result<Vec<f32>> {
        self.check()?;
        refuse_nan(scores)?;
        let pooled = cpu::pool1d(crate::simd::Level::detect(), *self, scores);
        refuse_nan(&pooled)?;
        Ok(pooled)
    }

    /// Refuses options that have no meaning.
    pub fn check(&self) -> Result<()> {
        match *self {
            Pool1d::Average { kernel } | Pool1d::Max { kernel } if kernel.is_multiple_of(2) => {
                Err(Error::invalid("kernel", kernel, "an odd number of slots"))
            }
            Pool1d::LookAhead { decay, .. } if !(decay > 0.0 && decay <= 1.0) => {
                Err(Error::invalid("decay", decay, "a number in (0, 1]"))
            }
            _ => Ok(()),
        }
    }
}

/// What look-ahead leaves after 1, 2, … slots. Never 0, so that a faded infinity stays one.
fn weights(decay: f32) -> impl Iterator<Item = f32> {
    (1..).map(move |d| (f64::from(decay).powi(d) as f32).max(f32::MIN_POSITIVE))
}

fn refuse_nan(scores: &[f32]) -> Result<()> {
    match first_nan(scores) {
        Some(index) => Err(Error::NotANumber { what: "pooled scores".into(), index }),
        None => Ok(()),
    }
}
