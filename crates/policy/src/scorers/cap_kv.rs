use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::expected_attention::MeanTurn;
use super::leverage::{Factor, cholesky};
use super::{Score, with_first};
use crate::about::{About, Asks, Describe, Reads};
use crate::gather::QueryMoments;
use crate::{LayerInput, Needs, checks};

/// CapKV (arXiv 2604.25975, as in kvpress): how much of what the values can say is lost with a slot, by its leverage among values that are weighed by the
/// attention which queries to come are expected to give.
///
/// Per query head: c_j = exp(τ (cos(k_j, μ) − the largest)), with μ the mean query turned to the next positions (as in `expectedAttention`);
/// M = I + Σ (c_j + ε) v_j v_jᵀ; s_j = c_j · v_jᵀ M⁻¹ v_j, mean over the query heads of a KV head. The first slots take no part and get the layer's largest
/// score + 1. The paper takes the product ⟨k, μ⟩ itself, which ranks otherwise. Computed in f64.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct CapKV {
    /// First slots that get the largest score, at most 16. Default 4.
    #[ts(optional, as = "Option<_>")]
    pub first: usize,
    /// τ, not negative. Default 5.
    #[ts(optional, as = "Option<_>")]
    pub temperature: f64,
    /// ε, not negative. Default 1e-6.
    #[ts(optional, as = "Option<_>")]
    pub epsilon: f64,
    /// Positions to come that are averaged over, 1 to 65536. Default 512.
    #[ts(optional, as = "Option<_>")]
    pub future: usize,
}

impl Describe for CapKV {
    const ABOUT: About = About {
        source: "arXiv 2604.25975, kvpress",
        asks: Asks::Agnostic,
        reads: &[Reads::Keys, Reads::Values, Reads::Rotation],
        deviates: "Weights come from the cosine, as in kvpress; the paper takes the product itself, which ranks otherwise.",
    };
}

impl Default for CapKV {
    fn default() -> Self {
        Self { first: 4, temperature: 5.0, epsilon: 1e-6, future: 512 }
    }
}

impl CapKV {
    /// Leverages of one query head, given the mean query as it will be turned.
    pub fn leverages(&self, keys: &[f32], values: &[f32], anchor: &[f32]) -> Result<Vec<f64>> {
        let dim = anchor.len();
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let norm = |a: &[f32]| dot(a, a).sqrt().max(1e-12);
        let cosine = |key: &[f32]| (dot(key, anchor) / (norm(key) * norm(anchor))).clamp(-1.0, 1.0);
        let cosines: Vec<f64> = keys.chunks_exact(dim).map(cosine).collect();
        let most = cosines.iter().copied().fold(-1.0, f64::max);
        let weights: Vec<f64> = cosines.iter().map(|cosine| (self.temperature * (cosine - most)).exp()).collect();
        let mut gram = vec![0.0; dim * dim];
        (0..dim).for_each(|i| gram[i * dim + i] = 1.0);
        for (value, weight) in values.chunks_exact(dim).zip(&weights) {
            for i in 0..dim {
                let scaled = (weight + self.epsilon) * f64::from(value[i]);
                gram[i * dim..][..=i].iter_mut().zip(value).for_each(|(sum, &x)| *sum += scaled * f64::from(x));
            }
        }
        if !cholesky(&mut gram, dim) {
            return Err(Error::NotANumber { what: "the Gram matrix of values".into(), index: 0 });
        }
        let factor = Factor { lower: &gram, dim };
        let mut row = vec![0.0; dim];
        let leverage = |(value, weight): (&[f32], &f64)| {
            row.iter_mut().zip(value).for_each(|(wide, &x)| *wide = f64::from(x));
            weight * factor.leverage(&row)
        };
        Ok(values.chunks_exact(dim).zip(&weights).map(leverage).collect())
    }
}

impl Score for CapKV {
    fn needs(&self) -> Needs {
        Needs { query_moments: true, ..Needs::default() }
    }

    fn has_placeholders(&self) -> bool {
        self.first > 0
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let moments = layer.query_moments("capKV")?;
        let (dim, group) = (layer.shape.head_dim, layer.shape.group);
        let turn = MeanTurn::new(layer.rotation("capKV")?, layer.next_rotary_position(), self.future, dim / 2);
        let scored = (0..layer.heads.len()).into_par_iter().map(|head| {
            let (view, first) = (layer.heads[head], layer.slots_before(head, self.first));
            let (keys, values) = (view.all_keys(), view.all_values());
            let mut scores = vec![0.0f64; view.len - first];
            for query_head in head * group..(head + 1) * group {
                let mut anchor: Vec<f32> = moments.of(query_head, self.first).mean.iter().map(|&x| x as f32).collect();
                turn.apply(&mut anchor);
                let own = self.leverages(&keys[first * dim..], &values[first * dim..], &anchor)?;
                scores.iter_mut().zip(own).for_each(|(score, own)| *score += own / group as f64);
            }
            Ok((first, scores.into_iter().map(|score| score as f32).collect::<Vec<_>>()))
        });
        Ok(with_first(scored.collect::<Result<Vec<_>>>()?))
    }

    fn validate(&self) -> Result<()> {
        if self.first > QueryMoments::MOST_SKIPPED {
            return Err(Error::invalid("capKV.first", self.first, "at most 16"));
        }
        if !(1..=65536).contains(&self.future) {
            return Err(Error::invalid("capKV.future", self.future, "between 1 and 65536"));
        }
        checks::not_negative("capKV.temperature", self.temperature)?;
        checks::not_negative("capKV.epsilon", self.epsilon)
    }
}
