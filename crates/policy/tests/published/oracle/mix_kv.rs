//! MixKV, arXiv 2510.20707 (ICLR 2026; official code xuyang-liu16/MixKV, mode `headwisemixkv`).
//!
//! Formula: `s = r·div + (1 - r)·imp` per KV head. imp = window attention (mean over rows, group mean, average pool) plus the
//! value norm ‖v_i‖₂; div = minus the inner product of the unit key with the mean of the unit keys; value norm and div are each
//! min-max scaled to [0, 1] over the scored slots and then multiplied so that their mean equals the mean attention score.
//! r = mean cosine over pairs of different keys, `(T·‖mean k̂‖² - 1)/(T - 1)` (same as `(T²‖m‖² - T)/(T(T - 1))`).
//!
//! Parameters: `w` = 32, `kernel` = 5 (average; a max pool exists in the code's AdaKV variant).
//!
//! Open or in disagreement:
//! (1) r: the paper computes it online from the prompt's keys; the code has that function but then reads r from a table measured
//!     offline per model. Online here. r can be slightly negative for spread-out keys; not clamped.
//! (2) The mean key runs over ALL `len` keys, window included, and is not normalised again; the scaled scores cover the slots
//!     before the window only.
//! (3) The code adds 1e-8 to most denominators (not to the value norm's range); not here. A part without any range is all zeros,
//!     which is what the code's epsilon makes of the diversity (its value norm would be 0/0).
//! (4) Which keys: post-RoPE, as cached.
//! (5) Pooling applies to the attention part only.
//! (6) In the AdaKV form the head budgets come from the attention part alone, not from s.
//!
//! Property: with pairwise orthogonal keys r = 0 and the score is the importance alone; when all keys but one are parallel, r is near
//! 1 and the odd one is kept first, whatever the attention. Always: attention, value norm and diversity have the same mean.

use super::*;

/// Mean cosine of pairs of different tokens' keys in one KV head.
pub fn redundancy(layer: &Layer, kv: usize) -> f64 {
    let m = mean_key(layer, kv);
    let t = layer.len as f64;
    (t * dot(&m, &m) - 1.0) / (t - 1.0)
}

fn unit(x: &[f64]) -> Vec<f64> {
    let n = norm(x);
    x.iter().map(|v| v / n).collect()
}

fn mean_key(layer: &Layer, kv: usize) -> Vec<f64> {
    let mut sum = vec![0.0; layer.dim];
    for token in 0..layer.len {
        for (s, x) in sum.iter_mut().zip(unit(layer.key(kv, token))) {
            *s += x;
        }
    }
    sum.iter().map(|s| s / layer.len as f64).collect()
}

/// Min-max to [0, 1], then scaled to the mean `target`.
fn rescale(xs: &[f64], target: f64) -> Vec<f64> {
    let low = xs.iter().copied().fold(f64::INFINITY, f64::min);
    let high = xs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if high == low {
        return vec![0.0; xs.len()];
    }
    let unit: Vec<f64> = xs.iter().map(|x| (x - low) / (high - low)).collect();
    let factor = target / mean(&unit);
    unit.iter().map(|x| x * factor).collect()
}

/// Attention part per KV head.
pub fn attention_part(layer: &Layer, w: usize, kernel: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let per_head: Vec<Vec<f64>> =
        window_attention(layer, w).iter().map(|rows| (0..slots).map(|i| mean(&column(rows, i))).collect()).collect();
    group_mean(&per_head, layer.group).iter().map(|xs| avg_pool(xs, kernel)).collect()
}

pub fn score(layer: &Layer, w: usize, kernel: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    attention_part(layer, w, kernel)
        .iter()
        .enumerate()
        .map(|(kv, attention)| {
            let target = mean(attention);
            let m = mean_key(layer, kv);
            let diversity: Vec<f64> = (0..slots).map(|i| -dot(&unit(layer.key(kv, i)), &m)).collect();
            let norms: Vec<f64> = (0..slots).map(|i| norm(layer.value(kv, i))).collect();
            let (diversity, norms) = (rescale(&diversity, target), rescale(&norms, target));
            let r = redundancy(layer, kv);
            (0..slots).map(|i| r * diversity[i] + (1.0 - r) * (attention[i] + norms[i])).collect()
        })
        .collect()
}

/// r by its definition: the mean over ordered pairs of different tokens of the cosine of their keys.
pub fn property_redundancy(layer: &Layer, kv: usize) -> f64 {
    let mut cosines = Vec::new();
    for i in 0..layer.len {
        for j in (0..layer.len).filter(|&j| j != i) {
            cosines.push(dot(&unit(layer.key(kv, i)), &unit(layer.key(kv, j))));
        }
    }
    mean(&cosines)
}
