//! CAKE, arXiv 2503.12491 (ICLR 2025; code antgroup/cakekv).
//!
//! Formula: token score = mean over the window's rows + γ · variance over them, average pool, group mean. Layer preference
//! `P = H^(1/τ1) · V^(1/τ2)` with H = -Σ a ln a over all heads, rows and scored slots, and V = Σ over heads and scored slots of the
//! variance over rows. Budgets: `B_l = P_l / ΣP · total`, recomputed after every layer over the layers seen so far, capped at the
//! scored length with the excess shared evenly; layers already done are trimmed by their stored scores.
//!
//! Parameters: w = 32, γ = 200, kernel 5 (average), τ per model and budget (default 1 and 1 in the code).
//!
//! Open or in disagreement: (1) the variance has divisor w - 1 (PyTorch's default; the paper does not say). (2) The attention
//! is cut to the slots before the window AFTER the softmax over everything, so rows do not sum to 1 and H is not the entropy of a
//! distribution. (3) The logarithm gets a + 1e-10. (4) Pool, then group mean (they commute). (5) The paper divides neither H nor
//! V by the number of rows or heads; a common factor cancels in P/ΣP only if every layer has the same shape. (6) The cap's and the
//! rounding's remainders go to the first layers that still have room (`cake/utils.py`); `budgets` leaves them fractional.
//!
//! Property: the ranking of layers by P does not depend on a common factor of either H or V; a layer whose rows all attend alike
//! has V = 0, hence P = 0 and no budget beyond the window. For a token attended alike by all rows the score is just its mean.

use super::*;

fn block(layer: &Layer, w: usize) -> Vec<Vec<Vec<f64>>> {
    let slots = layer.len - w;
    window_attention(layer, w)
        .into_iter()
        .map(|rows| rows.into_iter().map(|row| row[..slots].to_vec()).collect())
        .collect()
}

pub fn score(layer: &Layer, w: usize, gamma: f64, kernel: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let per_head: Vec<Vec<f64>> = block(layer, w)
        .iter()
        .map(|rows| {
            let raw: Vec<f64> = (0..slots)
                .map(|i| {
                    let xs = column(rows, i);
                    mean(&xs) + gamma * variance(&xs, true)
                })
                .collect();
            avg_pool(&raw, kernel)
        })
        .collect();
    group_mean(&per_head, layer.group)
}

pub fn preference(layer: &Layer, w: usize, tau1: f64, tau2: f64) -> f64 {
    let (dispersion, shift) = parts(layer, w);
    dispersion.powf(1.0 / tau1) * shift.powf(1.0 / tau2)
}

/// H and V.
pub fn parts(layer: &Layer, w: usize) -> (f64, f64) {
    let slots = layer.len - w;
    let attention = block(layer, w);
    let dispersion: f64 = attention.iter().flatten().flatten().map(|a| -a * (a + 1e-10).ln()).sum();
    let shift: f64 =
        attention.iter().map(|rows| (0..slots).map(|i| variance(&column(rows, i), true)).sum::<f64>()).sum();
    (dispersion, shift)
}

/// Shares of `total` before the cap and the rounding.
pub fn budgets(preferences: &[f64], total: f64) -> Vec<f64> {
    let sum: f64 = preferences.iter().sum();
    preferences.iter().map(|p| p / sum * total).collect()
}
