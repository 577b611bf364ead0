//! ReST-KV, arXiv 2605.08840 (ICLR 2026; official code an-yongqi/rest-kv).
//!
//! Formula: importance of token n for one query is the change of the layer's output when n is removed and the softmax is
//! renormalised, `I[n] = A_n / (1 - A_n) · ‖W_O^h (o - v_n)‖₂`; an exponential mean over the window's rows (oldest row first,
//! `e = α·new + (1 - α)·e`, started with the oldest row); then a box average whose width and offset follow the drift
//! D = (mean index of the B most attended tokens in the window's first half) - (the same in its second half).
//! Width `2⌊|D|/β⌋ + 1` (never below `kernel`), centre `i + trunc(D/β)`, edges repeated.
//!
//! Parameters (code's README): `w` = 32, `alpha` = 0.3, `beta` = 2000 (its `scale`), `kernel` = 5, `top` = budget - w,
//! and the order "after".
//!
//! Open or in disagreement:
//! (1) The paper takes I per row and smooths I over the rows (`Order::PerRow`, the code's "before"). The code's published
//!     runs use "after" (`Order::Averaged`): smooth the ATTENTION over the rows, then apply the formula once, with
//!     o = Σ over the scored slots only of the smoothed attention times v (the window's own share is left out of o).
//! (2) Both halves: rows 0..w/2 and w/2..w (integer division); indices are taken over all `len` tokens, window included.
//! (3) Offset: the code takes floor(D/β) for D > 0 and floor(D/β) + 1 otherwise, which is truncation towards zero except at
//!     exact negative multiples of β (one less) and at D = 0, where it yields an offset of 1. That looks like a slip;
//!     truncation is used here. The paper writes ΔD with the other sign (rear - front).
//! (4) GQA: the code repeats KV per query head and selects per query head. `score` smooths every query head with its own
//!     width and then takes the group's mean; `score_reduced_first` takes the mean of the importance and of the drift first.
//!     Both agree where no drift reaches β.
//! (5) A = 1 gives an infinite importance in the formula; no guard here, as in the code.
//!
//! Property: with `Order::PerRow` and one row (w = 1), the importance is exactly the output change; `property_removal` computes
//! that change by removing the key and redoing the softmax.

use super::*;

#[derive(Clone, Copy, PartialEq)]
pub enum Order {
    /// Formula per row, then the exponential mean (paper).
    PerRow,
    /// Exponential mean of the attention, then the formula (code's runs).
    Averaged,
}

/// Exponential mean over rows, `[row][n]` to `[n]`.
pub fn exponential_mean(rows: &[Vec<f64>], alpha: f64) -> Vec<f64> {
    let mut state = rows[0].clone();
    for row in &rows[1..] {
        for (s, x) in state.iter_mut().zip(row) {
            *s = alpha * x + (1.0 - alpha) * *s;
        }
    }
    state
}

/// Importance per query head over the slots before the window.
pub fn importance(layer: &Layer, w: usize, alpha: f64, order: Order) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    window_attention(layer, w)
        .iter()
        .enumerate()
        .map(|(head, rows)| match order {
            Order::PerRow => {
                let per_row: Vec<Vec<f64>> =
                    rows.iter().map(|row| change(layer, head, row, layer.len)[..slots].to_vec()).collect();
                exponential_mean(&per_row, alpha)
            }
            Order::Averaged => {
                let before: Vec<Vec<f64>> = rows.iter().map(|row| row[..slots].to_vec()).collect();
                change(layer, head, &exponential_mean(&before, alpha), slots)
            }
        })
        .collect()
}

/// The closed form for one attention row over the first `end` tokens.
fn change(layer: &Layer, head: usize, row: &[f64], end: usize) -> Vec<f64> {
    let kv = head / layer.group;
    let mut mixed = vec![0.0; layer.dim];
    for (token, a) in row[..end].iter().enumerate() {
        for (m, v) in mixed.iter_mut().zip(layer.value(kv, token)) {
            *m += a * v;
        }
    }
    (0..end)
        .map(|token| {
            let gap: Vec<f64> = mixed.iter().zip(layer.value(kv, token)).map(|(o, v)| o - v).collect();
            row[token] / (1.0 - row[token]) * norm(&layer.project(head, &gap))
        })
        .collect()
}

/// Drift per query head: mean index of the `top` most attended tokens of the first half's rows minus that of the second half's.
pub fn drift(layer: &Layer, w: usize, top: usize) -> Vec<f64> {
    let centre = |rows: &[Vec<f64>]| -> f64 {
        let indices: Vec<f64> = rows.iter().flat_map(|row| top_k(row, top)).map(|i| i as f64).collect();
        mean(&indices)
    };
    window_attention(layer, w).iter().map(|rows| centre(&rows[..w / 2]) - centre(&rows[w / 2..])).collect()
}

/// Box average of width max(kernel, 2⌊|drift|/β⌋ + 1) around i + trunc(drift/β), edges repeated.
pub fn smooth(xs: &[f64], drift: f64, beta: f64, kernel: usize) -> Vec<f64> {
    let steps = (drift.abs() / beta).floor() as i64;
    let width = (2 * steps + 1).max(kernel as i64);
    let shift = if drift > 0.0 { steps } else { -steps };
    let last = xs.len() as i64 - 1;
    (0..=last)
        .map(|i| {
            let sum: f64 = (i + shift - width / 2..=i + shift + width / 2).map(|j| xs[j.clamp(0, last) as usize]).sum();
            sum / width as f64
        })
        .collect()
}

pub fn score(layer: &Layer, w: usize, top: usize, alpha: f64, beta: f64, kernel: usize, order: Order) -> Vec<Vec<f64>> {
    let drifts = drift(layer, w, top);
    let smoothed: Vec<Vec<f64>> =
        importance(layer, w, alpha, order).iter().zip(&drifts).map(|(xs, &d)| smooth(xs, d, beta, kernel)).collect();
    group_mean(&smoothed, layer.group)
}

pub fn score_reduced_first(
    layer: &Layer,
    w: usize,
    top: usize,
    alpha: f64,
    beta: f64,
    kernel: usize,
    order: Order,
) -> Vec<Vec<f64>> {
    let drifts = drift(layer, w, top);
    group_mean(&importance(layer, w, alpha, order), layer.group)
        .iter()
        .zip(drifts.chunks(layer.group))
        .map(|(xs, ds)| smooth(xs, mean(ds), beta, kernel))
        .collect()
}

/// ‖change of the layer's output‖₂ for the last query when query head `head` loses token `i` and renormalises.
pub fn property_removal(layer: &Layer, head: usize, i: usize) -> f64 {
    let kv = head / layer.group;
    let row = layer.rows - 1;
    let output = |tokens: &[usize]| -> Vec<f64> {
        let logits: Vec<f64> =
            tokens.iter().map(|&t| layer.scale * dot(layer.query(row, head), layer.key(kv, t))).collect();
        let weights = softmax(&logits);
        let mut mixed = vec![0.0; layer.dim];
        for (&t, a) in tokens.iter().zip(&weights) {
            for (m, v) in mixed.iter_mut().zip(layer.value(kv, t)) {
                *m += a * v;
            }
        }
        layer.project(head, &mixed)
    };
    let all: Vec<usize> = (0..layer.len).collect();
    let rest: Vec<usize> = all.iter().copied().filter(|&t| t != i).collect();
    let gap: Vec<f64> = output(&all).iter().zip(output(&rest)).map(|(a, b)| a - b).collect();
    norm(&gap)
}
