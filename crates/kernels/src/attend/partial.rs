//! Attention results before the division, and how they are merged.

use headwise_core::{Error, Result};

/// Attention of some queries over some slots, before the division: per query `numerator = Σ e^(logit - max) · v`,
/// `denominator = Σ e^(logit - max)`, `max` of the logits (-∞ and zeros where there was no slot).
#[derive(Debug, Clone, PartialEq)]
pub struct Partial {
    /// `[queries][head_dim]`.
    pub numerator: Vec<f32>,
    /// `[queries]`.
    pub denominator: Vec<f32>,
    /// `[queries]`.
    pub max: Vec<f32>,
}

impl Partial {
    /// The neutral element of [`Partial::merge`]: attention over no slots.
    pub fn empty(queries: usize, head_dim: usize) -> Self {
        Self {
            numerator: vec![0.0; queries * head_dim],
            denominator: vec![0.0; queries],
            max: vec![f32::NEG_INFINITY; queries],
        }
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.max.len()
    }

    /// Merges attention of the same queries over other slots, by log-sum-exp.
    ///
    /// # Errors
    /// `ShapeMismatch` when the other side has other queries or another head_dim.
    pub fn merge(&mut self, other: &Partial) -> Result<()> {
        let shape = |p: &Partial| vec![p.max.len(), p.denominator.len(), p.numerator.len()];
        if shape(self) != shape(other) || self.denominator.len() != self.max.len() {
            return Err(Error::ShapeMismatch { what: "partial".into(), expected: shape(self), got: shape(other) });
        }
        let head_dim = self.numerator.len() / self.queries().max(1);
        for i in 0..self.queries() {
            let max = if other.max[i] > self.max[i] { other.max[i] } else { self.max[i] };
            // With a finite base -∞ - base stays -∞ where neither side has a slot.
            let base = max.max(f32::MIN);
            let (here, there) = ((self.max[i] - base).exp(), (other.max[i] - base).exp());
            self.max[i] = max;
            self.denominator[i] = self.denominator[i] * here + other.denominator[i] * there;
            let others = &other.numerator[i * head_dim..][..head_dim];
            for (x, y) in self.numerator[i * head_dim..][..head_dim].iter_mut().zip(others) {
                *x = *x * here + y * there;
            }
        }
        Ok(())
    }

    /// Writes `numerator / denominator` of query `i`: zeros where there was no weight.
    pub fn finish(&self, i: usize, out: &mut [f32]) {
        let head_dim = out.len();
        let inverse = if self.denominator[i] == 0.0 { 0.0 } else { 1.0 / self.denominator[i] };
        for (out, x) in out.iter_mut().zip(&self.numerator[i * head_dim..][..head_dim]) {
            *out = x * inverse;
        }
    }

    /// Copies query `i` of `from` to query `to` of `self`.
    pub(super) fn copy_query(&mut self, to: usize, from: &Partial, i: usize, head_dim: usize) {
        self.max[to] = from.max[i];
        self.denominator[to] = from.denominator[i];
        self.numerator[to * head_dim..][..head_dim].copy_from_slice(&from.numerator[i * head_dim..][..head_dim]);
    }
}
