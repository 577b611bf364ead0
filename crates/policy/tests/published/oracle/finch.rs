//! FINCH, TACL 2024, arXiv 2408.00167 (code: kvpress `finch_press.py`; the paper's text was read).
//!
//! Formula (kvpress, `score`): the question's rows (the window) score the context: attention of a row times the number of tokens the
//! row can see, mean over the rows, group mean; no pooling. The kept keys are rotated again to consecutive positions.
//! Formula (paper, `score_layer`): attention SUMMED over all heads of the layer, cut to question rows x context columns, times
//! count(non-zero)/(number of context columns), summed over the question's rows: one selection per layer, the same in every head.
//!
//! Parameters: window = the question (kvpress finds it by a delimiter); the paper reads the document in chunks and lets the cache
//! grow by chunk/ratio per step, kvpress takes everything at once or the same kept share per chunk.
//!
//! Open or in disagreement: (1) Heads: per layer in the paper, per KV head in kvpress. (2) The factor: kvpress multiplies the row
//! at position p by p, although it sees p + 1 tokens (`Count::Before` is kvpress, `Count::Seen` is p + 1). In the paper the count is
//! taken over the cut matrix, whose entries are all non-zero when the question follows the context: the factor is then 1 for
//! every row (`Count::One`) and the correction does nothing. (3) Mean or sum over rows: same ranking. (4) The paper orders the kept
//! keys by relevance when it gives them new positions; kvpress keeps the text's order.
//!
//! Property: with one row the three counts rank alike; with uniform attention in every row the score is 1 for every slot
//! (`Count::Seen`); `score_layer` ranks like the mean over KV heads of `score` with `Count::One`.

use super::*;

#[derive(Clone, Copy, PartialEq)]
pub enum Count {
    /// Tokens before the row's own: position p.
    Before,
    /// Tokens the row sees: p + 1.
    Seen,
    /// No weighting.
    One,
}

/// The paper's form, repeated for every KV head.
pub fn score_layer(layer: &Layer, w: usize) -> Vec<Vec<f64>> {
    let attention = window_attention(layer, w);
    let sums = (0..layer.len - w).map(|i| attention.iter().flatten().map(|row| row[i]).sum()).collect();
    vec![sums; layer.kv_heads]
}

/// kvpress's form for `Count::Before`.
pub fn score(layer: &Layer, w: usize, count: Count) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let factor = |row: usize| match count {
        Count::Before => (slots + row) as f64,
        Count::Seen => (slots + row + 1) as f64,
        Count::One => 1.0,
    };
    let per_head: Vec<Vec<f64>> = window_attention(layer, w)
        .iter()
        .map(|rows| {
            (0..slots)
                .map(|i| mean(&rows.iter().enumerate().map(|(r, row)| row[i] * factor(r)).collect::<Vec<_>>()))
                .collect()
        })
        .collect();
    group_mean(&per_head, layer.group)
}
