use bytemuck::cast_slice;
use headwise_core::{Error, Result, Rotation, Scores};
use headwise_kernels::Block;
use headwise_kernels::matmul::{GgmlDType, Matrix, linear};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, with_first};
use crate::about::{About, Asks, Describe, Reads};
use crate::gather::{Moments, QueryMoments};
use crate::{LayerInput, Needs, checks, rows};

/// Expected Attention (arXiv 2510.00636, kvpress): the attention that queries still to come are expected to give, from the mean μ and the covariance Σ
/// of the prompt's queries before their rotation.
///
/// With R̄ the mean rotation of the next `future` positions, μ' = R̄ μ and Σ' = R̄ Σ R̄ᵀ (R̄ is no rotation, its norm is below 1, and is used as it is):
/// z_j = μ'ᵀ k_j / √d + k_jᵀ Σ' k_j / (2 d), softmax over the slots behind the first ones, mean over the query heads of a KV head, (s + ε) · ‖v_j‖₂.
/// The first slots take no part in the statistics and get the layer's largest score + 1. Needs no question: for contexts that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, rename_all = "camelCase")]
pub struct ExpectedAttention {
    /// First slots that get the largest score, at most 16. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub first: usize,
    /// Positions to come that are averaged over, 1 to 65536. Default 512.
    #[ts(optional, as = "Option<_>")]
    pub future: usize,
    /// Use the covariance, not the mean alone. Default true.
    #[ts(optional, as = "Option<_>")]
    pub covariance: bool,
    /// Multiply by ‖v‖₂. Default true.
    #[ts(optional, as = "Option<_>")]
    pub value_norm: bool,
    /// ε, added before the value's norm comes in, not negative. Default 0 (kvpress's leaderboard uses 0.01 to 0.02 where heads compete).
    #[ts(optional, as = "Option<_>")]
    pub epsilon: f64,
}

impl Describe for ExpectedAttention {
    const ABOUT: About = About {
        source: "arXiv 2510.00636, kvpress",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Values, Reads::Rotation],
        deviates: "",
    };
}

impl Default for ExpectedAttention {
    fn default() -> Self {
        Self { first: 4, future: 512, covariance: true, value_norm: true, epsilon: 0.0 }
    }
}

/// The mean rotation of some positions.
pub(super) struct MeanTurn<'a> {
    rotation: &'a dyn Rotation,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl<'a> MeanTurn<'a> {
    pub fn new(rotation: &'a dyn Rotation, first: usize, count: usize, half: usize) -> Self {
        let (mut cos, mut sin) = (vec![0.0f64; half], vec![0.0f64; half]);
        let (mut c, mut s) = (Vec::with_capacity(half), Vec::with_capacity(half));
        for position in first..first + count {
            c.clear();
            s.clear();
            rotation.push_angles(position as u32, &mut c, &mut s);
            cos.iter_mut().zip(&c).for_each(|(sum, &x)| *sum += f64::from(x));
            sin.iter_mut().zip(&s).for_each(|(sum, &x)| *sum += f64::from(x));
        }
        let mean = |sums: Vec<f64>| sums.into_iter().map(|sum| (sum / count as f64) as f32).collect();
        Self { rotation, cos: mean(cos), sin: mean(sin) }
    }

    pub fn apply(&self, row: &mut [f32]) {
        self.rotation.rotate(row, &self.cos, &self.sin);
    }

    /// R̄ Σ R̄ᵀ.
    fn around(&self, covariance: &[f64], dim: usize) -> Vec<f32> {
        let mut matrix: Vec<f32> = covariance.iter().map(|&x| x as f32).collect();
        for _ in 0..2 {
            matrix.chunks_exact_mut(dim).for_each(|row| self.apply(row));
            // Rows were turned; now the columns, which the transpose has as rows.
            matrix = (0..dim * dim).map(|i| matrix[i % dim * dim + i / dim]).collect();
        }
        matrix
    }
}

impl ExpectedAttention {
    /// Scores of the slots from `first` on, `[slots − first]`, before the first slots get theirs.
    fn head<B: Block>(
        &self,
        layer: &LayerInput<B>,
        moments: &QueryMoments,
        turn: &MeanTurn<'_>,
        head: usize,
        first: usize,
    ) -> Result<Vec<f32>> {
        let (view, dim, group) = (layer.heads[head], layer.shape.head_dim, layer.shape.group);
        let keys = &view.all_keys()[first * dim..];
        let count = keys.len() / dim;
        let scale = f64::from(layer.scale);
        let mut scores = vec![0.0f64; count];
        let mut products = vec![0.0; keys.len()];
        for query_head in head * group..(head + 1) * group {
            let Moments { mean, covariance } = moments.of(query_head, self.first);
            let mut mean: Vec<f32> = mean.iter().map(|&x| x as f32).collect();
            turn.apply(&mut mean);
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
            let mut logits: Vec<f64> = keys.chunks_exact(dim).map(|key| dot(&mean, key) * scale).collect();
            if self.covariance {
                let around = turn.around(&covariance, dim);
                linear(&mut products, keys, Matrix::new(cast_slice(&around), GgmlDType::F32, dim, dim)?, None)?;
                for ((logit, product), key) in
                    logits.iter_mut().zip(products.chunks_exact(dim)).zip(keys.chunks_exact(dim))
                {
                    *logit += dot(product, key) * scale * scale / 2.0;
                }
            }
            let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            logits.iter_mut().for_each(|logit| *logit = (*logit - max).exp());
            let sum: f64 = logits.iter().sum();
            scores.iter_mut().zip(&logits).for_each(|(score, exp)| *score += exp / sum / group as f64);
        }
        if self.value_norm {
            let norms = rows::value_norms(view);
            let weigh = |(score, &norm): (&mut f64, &f32)| *score = (*score + self.epsilon) * f64::from(norm);
            scores.iter_mut().zip(&norms[first..]).for_each(weigh);
        }
        Ok(scores.into_iter().map(|score| score as f32).collect())
    }
}

impl Score for ExpectedAttention {
    fn needs(&self) -> Needs {
        Needs { query_moments: true, ..Needs::default() }
    }

    fn has_placeholders(&self) -> bool {
        self.first > 0
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let moments = layer.query_moments("expectedAttention")?;
        let rotation = layer.rotation("expectedAttention")?;
        let turn = MeanTurn::new(rotation, layer.next_rotary_position(), self.future, layer.shape.head_dim / 2);
        let heads = (0..layer.heads.len()).into_par_iter();
        let scored = heads.map(|head| {
            let first = layer.slots_before(head, self.first);
            Ok((first, self.head(layer, moments, &turn, head, first)?))
        });
        Ok(with_first(scored.collect::<Result<Vec<_>>>()?))
    }

    fn validate(&self) -> Result<()> {
        if self.first > QueryMoments::MOST_SKIPPED {
            return Err(Error::invalid("expectedAttention.first", self.first, "at most 16"));
        }
        if !(1..=65536).contains(&self.future) {
            return Err(Error::invalid("expectedAttention.future", self.future, "between 1 and 65536"));
        }
        checks::not_negative("expectedAttention.epsilon", self.epsilon)
    }
}
