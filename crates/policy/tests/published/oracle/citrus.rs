//! CItruS, arXiv 2406.12018 (EMNLP 2024; code ybai-nlp/CItruS).
//!
//! Formula: the document is read in chunks; when the cache is over budget, a cached state's score is the attention it gets from the
//! INSTRUCTION tokens, averaged over the instruction's rows and over all query heads of the layer. The k best states stay, the
//! same ones in every head; the chunk just read is kept whole.
//!
//! Parameters: chunk 256 and k = 768 in the notes at hand; "standard" = the chunk's own attention, "instruction_aware_single" = the
//! above with one cache, "instruction_aware_double" = two caches, scored by chunk and by instruction.
//!
//! Open or in disagreement: (1) here the instruction is the last `w` rows of the layer, placed right behind the cached states. The code
//! does just that: [cache | instruction], WITHOUT the chunk being read in between, positions counted within the cache. If the engine
//! appends the instruction behind the chunk, the softmax has the chunk's keys in its denominator too: each row changes by a factor.
//! (2) The code averages over ALL heads (one selection per layer, `score` repeats it for every KV head); `score_per_head` averages
//! over the group only, for an engine with per-head selection. (3) No pooling.
//!
//! Property: all KV heads of a layer keep the same tokens; scores sum to at most 1 over the slots.

use super::*;

pub fn score(layer: &Layer, w: usize) -> Vec<Vec<f64>> {
    let per_head = per_query_head(layer, w);
    vec![group_mean(&per_head, layer.heads()).remove(0); layer.kv_heads]
}

pub fn score_per_head(layer: &Layer, w: usize) -> Vec<Vec<f64>> {
    group_mean(&per_query_head(layer, w), layer.group)
}

fn per_query_head(layer: &Layer, w: usize) -> Vec<Vec<f64>> {
    window_attention(layer, w).iter().map(|rows| (0..layer.len - w).map(|i| mean(&column(rows, i))).collect()).collect()
}
