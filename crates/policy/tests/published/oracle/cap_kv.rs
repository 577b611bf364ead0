//! CapKV, arXiv 2604.25975 (code: kvpress `cap_press.py`).
//!
//! Formula, per query head: `c_i = exp(τ ⟨k_i, μ⟩)`, `M = I + Σ c_i v_i v_iᵀ`, `s_i = c_i · v_iᵀ M⁻¹ v_i` (ridge leverage of token i);
//! then the group's mean.
//!
//! Parameters: τ = 5, ε = 1e-6, 4 sinks, 512 future positions in the anchor (kvpress).
//!
//! The score covers the slots `sinks..len` - no window is protected in kvpress - and the sinks come first as +∞
//! (kvpress: maximum + 1). Result `[kv_heads][len]`.
//!
//! Open or in disagreement:
//! (1) μ: the paper averages historical queries (a re-implementation: the last 32 of the prompt, over the group too); kvpress averages the un-rotated queries of all tokens after the sinks and rotates
//!     the mean by the average rotation of the next 512 positions. The anchor is an argument here (`[heads][dim]`);
//!     `anchor` gives the plain mean of the recorded post-RoPE queries as a stand-in.
//! (2) kvpress takes the cosine ⟨k̂, μ̂⟩ clamped to [-1, 1] and subtracts the head's largest logit before exp (so the best token has
//!     c = 1); the paper uses the raw product. Because of the I in M this is NOT the same ranking (a re-implementation that
//!     also divides by √d and shifts claims it is). `normalised` chooses.
//! (3) kvpress adds ε to c inside M (its root's argument) but not in front of the leverage; here too, ε = 0 turns it off.
//! (4) Output direction: the raw value, not W_O v.
//!
//! Property (ε = 0): every s lies in [0, 1); per query head `Σ s_i = d - tr(M⁻¹) ≤ d`; and removing token i lowers ln det M by
//! exactly -ln(1 - s_i) (`property_log_det`).

use super::*;

/// Mean of the recorded post-RoPE queries of the last `w` rows, `[heads][dim]`.
pub fn anchor(layer: &Layer, w: usize) -> Vec<f64> {
    let mut out = Vec::new();
    for head in 0..layer.heads() {
        for d in 0..layer.dim {
            let sum: f64 = (layer.rows - w..layer.rows).map(|row| layer.query(row, head)[d]).sum();
            out.push(sum / w as f64);
        }
    }
    out
}

/// c_i of one query head over the tokens `sinks..len`.
pub fn weights(layer: &Layer, head: usize, anchor: &[f64], tau: f64, sinks: usize, normalised: bool) -> Vec<f64> {
    let mu = &anchor[head * layer.dim..][..layer.dim];
    let logits: Vec<f64> = (sinks..layer.len)
        .map(|i| {
            let key = layer.key(head / layer.group, i);
            let product = dot(key, mu);
            tau * if normalised { (product / (norm(key) * norm(mu))).clamp(-1.0, 1.0) } else { product }
        })
        .collect();
    let top = if normalised { logits.iter().copied().fold(f64::NEG_INFINITY, f64::max) } else { 0.0 };
    logits.iter().map(|x| (x - top).exp()).collect()
}

/// M, row-major `[dim][dim]`, with the token `skip` (counted from the sinks' end) left out.
pub fn capacity(layer: &Layer, head: usize, c: &[f64], sinks: usize, epsilon: f64, skip: Option<usize>) -> Vec<f64> {
    let d = layer.dim;
    let mut m = vec![0.0; d * d];
    for i in 0..d {
        m[i * d + i] = 1.0;
    }
    for (t, &weight) in c.iter().enumerate() {
        if Some(t) == skip {
            continue;
        }
        let v = layer.value(head / layer.group, sinks + t);
        for i in 0..d {
            for j in 0..d {
                m[i * d + j] += (weight + epsilon) * v[i] * v[j];
            }
        }
    }
    m
}

/// Leverages of one query head.
pub fn leverages(layer: &Layer, head: usize, c: &[f64], sinks: usize, epsilon: f64) -> Vec<f64> {
    let m = capacity(layer, head, c, sinks, epsilon, None);
    c.iter()
        .enumerate()
        .map(|(t, weight)| {
            let v = layer.value(head / layer.group, sinks + t);
            weight * dot(v, &solve(&m, v).0)
        })
        .collect()
}

pub fn score(layer: &Layer, anchor: &[f64], tau: f64, sinks: usize, epsilon: f64, normalised: bool) -> Vec<Vec<f64>> {
    let per_head: Vec<Vec<f64>> = (0..layer.heads())
        .map(|head| {
            let c = weights(layer, head, anchor, tau, sinks, normalised);
            let mut out = vec![f64::INFINITY; sinks];
            out.extend(leverages(layer, head, &c, sinks, epsilon));
            out
        })
        .collect();
    group_mean(&per_head, layer.group)
}

/// ln det M - ln det (M without token t), which equals -ln(1 - s_t) for ε = 0.
pub fn property_log_det(layer: &Layer, head: usize, c: &[f64], sinks: usize, t: usize) -> f64 {
    let zero = vec![0.0; layer.dim];
    let full = solve(&capacity(layer, head, c, sinks, 0.0, None), &zero).1;
    let without = solve(&capacity(layer, head, c, sinks, 0.0, Some(t)), &zero).1;
    full - without
}

/// Gaussian elimination with row pivots: the solution of m·x = b and ln |det m|.
pub fn solve(m: &[f64], b: &[f64]) -> (Vec<f64>, f64) {
    let n = b.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut row = m[i * n..(i + 1) * n].to_vec();
            row.push(b[i]);
            row
        })
        .collect();
    let mut log_det = 0.0;
    for col in 0..n {
        let pivot = (col..n).max_by(|&a, &b| rows[a][col].abs().total_cmp(&rows[b][col].abs())).unwrap();
        rows.swap(col, pivot);
        log_det += rows[col][col].abs().ln();
        for below in col + 1..n {
            let factor = rows[below][col] / rows[col][col];
            let upper = rows[col].clone();
            for (x, u) in rows[below][col..].iter_mut().zip(&upper[col..]) {
                *x -= factor * u;
            }
        }
    }
    let mut x = vec![0.0; n];
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| rows[i][k] * x[k]).sum();
        x[i] = (rows[i][n] - known) / rows[i][i];
    }
    (x, log_det)
}
