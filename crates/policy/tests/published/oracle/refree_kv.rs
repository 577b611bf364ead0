//! ReFreeKV, first version DBudgetKV, arXiv 2502.16886 (code Patrick-Ni/ReFreeKV).
//!
//! Formula: rank the positions without looking at them: 0..sinks first, then newest to oldest. a = attention of the last query
//! (mean of the last k rows; k = 1). Keep the shortest prefix of the ranking with `1 - √(Σ kept a²) / ‖a‖₂ < T`.
//!
//! Parameters: 4 sinks, T = 1%, k = 1; the first two layers are never pruned.
//!
//! Open or in disagreement:
//! (1) The paper ranks and stops per layer and per attention head and says nothing of GQA. `kept`: the group's mean attention
//!     decides for the KV head. The code works with repeated KV.
//! (2) The code decides once per LAYER: it compares the mean over query heads of ‖a_h‖ with the mean of √(Σ kept a_h²), so all
//!     heads keep the same positions (`kept_layer`). It also keeps the sinks unconditionally and leaves them OUT of the norm,
//!     and tests ≤ T. Leaving the (heavy) sinks out keeps far more tokens than the paper's rule on the same T.
//! (3) Published script: T = 0.05 with an attention-ranked base method; the paper's number is 1% with the positional ranking.
//! (4) k > 1 rows: the paper divides a token's sum by the number of rows that can see it (`kept_rows`), which favours the newest
//!     tokens, seen by few rows, over a division by k. With k = 1 there is no difference.
//! (5) T ≤ 0 keeps everything in `kept`.
//!
//! Property: what is kept is `0..min(sinks, n)` plus a contiguous run of the newest positions; it grows when T shrinks; the
//! relative error of the kept norm is below T, and with one token less it is not.

use super::*;

/// Sinks first, then newest to oldest.
pub fn positions(len: usize, sinks: usize) -> Vec<usize> {
    let sinks = sinks.min(len);
    (0..sinks).chain((sinks..len).rev()).collect()
}

/// The stop rule for one attention vector; ascending positions.
pub fn prefix(attention: &[f64], threshold: f64, sinks: usize) -> Vec<usize> {
    let order = positions(attention.len(), sinks);
    let full = norm(attention);
    let mut squares = 0.0;
    let mut kept = Vec::new();
    for i in order {
        squares += attention[i] * attention[i];
        kept.push(i);
        if 1.0 - squares.sqrt() / full < threshold {
            break;
        }
    }
    kept.sort_unstable();
    kept
}

/// Kept positions per KV head among all `len` tokens, last row only.
pub fn kept(layer: &Layer, threshold: f64, sinks: usize) -> Vec<Vec<usize>> {
    kept_rows(layer, threshold, sinks, 1)
}

/// The same with the last `rows` rows, each token averaged over the rows that see it.
pub fn kept_rows(layer: &Layer, threshold: f64, sinks: usize, rows: usize) -> Vec<Vec<usize>> {
    let per_head: Vec<Vec<f64>> = window_attention(layer, rows)
        .iter()
        .map(|block| {
            (0..layer.len)
                .map(|i| {
                    let blind = (i + rows).saturating_sub(layer.len);
                    mean(&column(&block[blind..], i))
                })
                .collect()
        })
        .collect();
    group_mean(&per_head, layer.group).iter().map(|a| prefix(a, threshold, sinks)).collect()
}

/// The code's rule: one answer for all heads of the layer, sinks always kept and outside the norm, `≤ T`.
pub fn kept_layer(layer: &Layer, threshold: f64, sinks: usize) -> Vec<usize> {
    let attention = window_attention(layer, 1);
    let length = |from: usize| mean(&attention.iter().map(|rows| norm(&rows[0][from..])).collect::<Vec<_>>());
    let full = length(sinks);
    let from = (sinks..layer.len).rev().find(|&from| (full - length(from)) / full <= threshold).unwrap_or(sinks);
    (0..sinks).chain(from..layer.len).collect()
}
