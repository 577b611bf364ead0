//! AhaKV, arXiv 2506.03762 (no official code; written from two notes made from the paper's text, not from the paper itself).
//!
//! Formula: `S_j = γ̄_j · Σ over the last r rows of softmax(λ q·k)_j` with `λ = √(2 ln(i/k)/d)` (i tokens seen by the row, k = cache
//! budget) on the RAW product q·k, and `γ̄ = AvgPool(‖v‖²) / max AvgPool(‖v‖²)`.
//!
//! Parameters: r = 32 rows (also the protected window), k = budget (1000 in the paper's main table), pool size not found in any
//! source (an argument here).
//!
//! Open:
//! (1) λ replaces 1/√d, it does not multiply it: the derivation takes logits of variance λ²d, E[entropy] = ln i - λ²d/2, and
//!     asks for ln k. At i = k·√e the two scales coincide.
//! (2) i ≤ k gives no real λ. Nothing would be evicted there; the ordinary 1/√d is used.
//! (3) i is taken per row (tokens the row sees), as in the derivation (entropy of row i); `Length::Total` uses `len` in every row.
//! (4) The paper's sum runs over i = n-r..n, which is r + 1 rows if read literally; r rows here.
//! (5) The pool and the maximum of the value prior run over the first `prior` tokens: pass `len` to use all values (chosen
//!     default), `len - w` to stay within the scored slots. The maximum is only a factor per head; the edge of the pool is not.
//! (6) GQA is not discussed: group mean of the attention sums, prior once per KV head (same order either way).
//! (7) During decode the paper keeps updating the sums with the same softmax; only the state after the prefill is here.
//!
//! Property: with equal value norms and no pooling the ranking is the ranking of the rescaled attention; multiplying all values of
//! a head by a constant changes nothing; for gaussian logits the mean entropy of the rows stays near ln k whatever the length.

use super::*;

#[derive(Clone, Copy, PartialEq)]
pub enum Length {
    PerRow,
    Total,
}

pub fn gain(tokens: usize, budget: usize, dim: usize) -> f64 {
    if tokens <= budget {
        return 1.0 / (dim as f64).sqrt();
    }
    (2.0 * (tokens as f64 / budget as f64).ln() / dim as f64).sqrt()
}

/// AvgPool(‖v‖²)/max over the first `end` tokens of one KV head.
pub fn prior(layer: &Layer, kv: usize, kernel: usize, end: usize) -> Vec<f64> {
    let squares: Vec<f64> = (0..end).map(|i| dot(layer.value(kv, i), layer.value(kv, i))).collect();
    let pooled = avg_pool(&squares, kernel);
    let top = pooled.iter().copied().fold(0.0, f64::max);
    pooled.iter().map(|x| x / top).collect()
}

pub fn score(layer: &Layer, w: usize, budget: usize, kernel: usize, length: Length, prior_end: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let attention = window_attention_with(layer, w, |seen| {
        let tokens = if length == Length::PerRow { seen } else { layer.len };
        gain(tokens, budget, layer.dim)
    });
    let sums: Vec<Vec<f64>> =
        attention.iter().map(|rows| (0..slots).map(|i| column(rows, i).iter().sum()).collect()).collect();
    group_mean(&sums, layer.group)
        .iter()
        .enumerate()
        .map(|(kv, xs)| {
            let weights = prior(layer, kv, kernel, prior_end);
            xs.iter().zip(&weights).map(|(x, g)| x * g).collect()
        })
        .collect()
}
