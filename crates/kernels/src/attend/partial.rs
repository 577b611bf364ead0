//! Attention results before the division, and how they are merged.

use headwise_core::{Error, Result};
use std::ops::Range;

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
            let numerator = &other.numerator[i * head_dim..][..head_dim];
            self.query(i, head_dim).merge_parts(numerator, other.denominator[i], other.max[i]);
        }
        Ok(())
    }

    /// Writes `numerator / denominator` of query `i`: zeros where there was no weight.
    pub fn finish(&self, i: usize, out: &mut [f32]) {
        let head_dim = out.len();
        out.copy_from_slice(&self.numerator[i * head_dim..][..head_dim]);
        divide(out, self.denominator[i]);
    }

    /// Query `i`.
    pub(super) fn query(&mut self, i: usize, head_dim: usize) -> Sum<'_> {
        Sum {
            numerator: &mut self.numerator[i * head_dim..][..head_dim],
            denominator: &mut self.denominator[i],
            max: &mut self.max[i],
        }
    }
}

/// `numerator / denominator`, zeros where there was no weight.
pub(super) fn divide(numerator: &mut [f32], denominator: f32) {
    let inverse = inverse(denominator);
    numerator.iter_mut().for_each(|x| *x *= inverse);
}

/// `1 / denominator`, zero where there was no weight.
pub(super) fn inverse(denominator: f32) -> f32 {
    if denominator == 0.0 { 0.0 } else { 1.0 / denominator }
}

/// One query of a [`Partial`].
pub(super) struct Sum<'a> {
    pub numerator: &'a mut [f32],
    pub denominator: &'a mut f32,
    pub max: &'a mut f32,
}

impl Sum<'_> {
    /// Adds the same query over other slots.
    pub fn merge(self, other: &Sum<'_>) {
        self.merge_parts(other.numerator, *other.denominator, *other.max);
    }

    /// Takes over a result.
    pub fn copy(self, other: &Sum<'_>) {
        self.numerator.copy_from_slice(other.numerator);
        (*self.denominator, *self.max) = (*other.denominator, *other.max);
    }

    fn merge_parts(self, numerator: &[f32], denominator: f32, max: f32) {
        let highest = if max > *self.max { max } else { *self.max };
        // With a finite base -∞ - base stays -∞ where neither side has a slot.
        let base = highest.max(f32::MIN);
        let (here, there) = ((*self.max - base).exp(), (max - base).exp());
        *self.max = highest;
        *self.denominator = *self.denominator * here + denominator * there;
        for (x, y) in self.numerator.iter_mut().zip(numerator) {
            *x = *x * here + y * there;
        }
    }
}

/// A [`Partial`] in somebody else's memory.
pub(super) struct Sums<'a> {
    pub numerator: &'a mut [f32],
    pub denominator: &'a mut [f32],
    pub max: &'a mut [f32],
}

impl<'a> Sums<'a> {
    /// Numbers that `queries` queries take.
    pub fn len(queries: usize, head_dim: usize) -> usize {
        queries * (head_dim + 2)
    }

    /// The first `queries` queries of `memory`.
    pub fn split(memory: &'a mut [f32], queries: usize, head_dim: usize) -> Self {
        let (numerator, rest) = memory.split_at_mut(queries * head_dim);
        let (denominator, rest) = rest.split_at_mut(queries);
        Self { numerator, denominator, max: &mut rest[..queries] }
    }

    /// The queries `queries`.
    pub fn part(&mut self, queries: Range<usize>, head_dim: usize) -> Sums<'_> {
        Sums {
            numerator: &mut self.numerator[queries.start * head_dim..queries.end * head_dim],
            denominator: &mut self.denominator[queries.clone()],
            max: &mut self.max[queries],
        }
    }

    /// Query `i`.
    pub fn query(&mut self, i: usize, head_dim: usize) -> Sum<'_> {
        Sum {
            numerator: &mut self.numerator[i * head_dim..][..head_dim],
            denominator: &mut self.denominator[i],
            max: &mut self.max[i],
        }
    }
}
