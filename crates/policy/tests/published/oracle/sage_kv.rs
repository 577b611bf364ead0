//! SAGE-KV, arXiv 2503.08879 (workshop paper, no public code found).
//!
//! Formula: attention of the prompt's LAST query alone to the middle tokens; one selection per head after the prefill, then
//! sinks + selected + recent window + last token are kept and the recent window slides during decode.
//!
//! Parameters: sinks, top-k and recent share the budget (the paper splits it in fixed shares per model; not checked here).
//!
//! Open or in disagreement: (1) how a GQA group is reduced was not found in the paper's text available; `Reduce` gives mean
//! (chosen), sum (same ranking) and max of the probabilities. A third-party vLLM backend sums the LOGITS over the group instead
//! (`score_logits`), i.e. it ranks by the product of the key with the sum of the group's queries: another ranking. (2) With one query
//! head per KV head all of these rank alike (softmax is monotone). Probabilities are normalised over all `len` tokens.
//! (3) No pooling. (4) That backend selects with the first DECODE query, the paper with the prompt's last one. (5) The recent window
//! only slides at decode: an old recent token is dropped, never scored again.
//!
//! Property: with one query head per KV head the ranking equals that of the raw products q_last · k_i.

use super::*;

#[derive(Clone, Copy)]
pub enum Reduce {
    Mean,
    Sum,
    Max,
}

pub fn score(layer: &Layer, w: usize, reduce: Reduce) -> Vec<Vec<f64>> {
    let per_head: Vec<Vec<f64>> =
        window_attention(layer, 1).iter().map(|rows| rows[0][..layer.len - w].to_vec()).collect();
    match reduce {
        Reduce::Mean => group_mean(&per_head, layer.group),
        Reduce::Sum => group_sum(&per_head, layer.group),
        Reduce::Max => group_max(&per_head, layer.group),
    }
}

/// Sum of the scaled products over the group.
pub fn score_logits(layer: &Layer, w: usize) -> Vec<Vec<f64>> {
    let per_head: Vec<Vec<f64>> = (0..layer.heads())
        .map(|head| {
            (0..layer.len - w)
                .map(|i| layer.scale * dot(layer.query(layer.rows - 1, head), layer.key(head / layer.group, i)))
                .collect()
        })
        .collect();
    group_sum(&per_head, layer.group)
}
