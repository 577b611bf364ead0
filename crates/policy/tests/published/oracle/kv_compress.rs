//! KV-Compress, arXiv 2410.00161 (code IsaacRe/vllm-kvcompress).
//!
//! Formula: metric of token i = Σ over the last w queries and the group's heads of attention². Whole blocks of the lowest tokens
//! are evicted per KV head, at rates that differ between heads and layers (one order over all heads of all layers).
//!
//! Parameters: w = 32 rows ("prefill_metric_collection_window_size"), "L2-sum", 32 protected tokens; max pool 7 is an option of
//! the code (`maxpool_metrics`), applied per query head before the group's sum.
//!
//! Open or in disagreement: (1) the group is SUMMED, which matters once heads of different layers or groups compete.
//! (2) The code can leave out the rows closer than a buffer to the token (`kv_metric_buffer_len`); with the window protected this
//! touches no scored slot as long as the buffer is not longer than the distance, and is not modelled. (3) "L2-avg" additionally
//! rescales by position; not here. (4) The code also adds per-head biases learned elsewhere; zero here. (5) At decode every step
//! adds the new row's squares.
//!
//! Property: squares prefer one sharp look over the same mass spread over rows: a token with attention a in one row and 0 in the
//! others outranks one with a/w in each of w rows, which the plain sum cannot tell apart.

use super::*;

/// `pool`: kernel of the optional max pool (1 = none).
pub fn score(layer: &Layer, w: usize, rows: usize, pool: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let per_head: Vec<Vec<f64>> = window_attention(layer, rows)
        .iter()
        .map(|block| {
            let squares: Vec<f64> = (0..slots).map(|i| dot(&column(block, i), &column(block, i))).collect();
            max_pool(&squares, pool)
        })
        .collect();
    group_sum(&per_head, layer.group)
}
