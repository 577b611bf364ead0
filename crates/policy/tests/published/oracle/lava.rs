//! LAVa, arXiv 2509.09754 (code MGDDestiny/Lava).
//!
//! Formula: score = MaxPool(mean over the window's rows of the attention) · max over tokens of ‖v_j‖₁, per query head, then the
//! group's maximum. Layer weight = entropy of the layer's scores (flattened over KV heads and normalised to sum 1) divided by
//! ln of their number. Layer budgets ∝ weight among the layers seen so far (earlier layers are trimmed again); inside a layer
//! one top-K over all KV heads' scores, mixed with a uniform floor.
//!
//! Parameters: w = 32, kernel = 7 (max pool), floor share as in Ada-KV.
//!
//! Open or in disagreement: (1) the value maximum runs over the slots before the window (code); the paper's bound would take all
//! tokens. (2) It is one factor per KV head, so it moves budget between heads, never the order inside one. (3) The code adds 1e-16
//! to the sum and inside the logarithm; not here (0 ln 0 = 0). (4) The weight is computed on the scores AFTER pooling and the
//! group's maximum. (5) Shares are cut to integers by truncation (code). (6) `(budget - w) · layers` is what is shared.
//!
//! Property: weight lies in [0, 1], is 1 for constant scores and 0 when one slot has everything; it does not change when all of a
//! layer's scores are multiplied by one factor.

use super::*;

pub fn score(layer: &Layer, w: usize, kernel: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let per_head: Vec<Vec<f64>> = window_attention(layer, w)
        .iter()
        .enumerate()
        .map(|(head, rows)| {
            let average: Vec<f64> = (0..slots).map(|i| mean(&column(rows, i))).collect();
            let largest = largest_value(layer, head / layer.group, slots);
            max_pool(&average, kernel).iter().map(|a| a * largest).collect()
        })
        .collect();
    group_max(&per_head, layer.group)
}

/// max ‖v_j‖₁ over the first `end` tokens of a KV head.
pub fn largest_value(layer: &Layer, kv: usize, end: usize) -> f64 {
    (0..end).map(|i| layer.value(kv, i).iter().map(|x| x.abs()).sum::<f64>()).fold(0.0, f64::max)
}

pub fn weight(scores: &[Vec<f64>]) -> f64 {
    let flat: Vec<f64> = scores.iter().flatten().copied().collect();
    let sum: f64 = flat.iter().sum();
    let entropy: f64 = flat.iter().map(|x| x / sum).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum();
    entropy / (flat.len() as f64).ln()
}

/// Integer shares of `total` over the layers seen so far, truncated.
pub fn layer_budgets(weights: &[f64], total: usize) -> Vec<usize> {
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|e| (e / sum * total as f64) as usize).collect()
}
