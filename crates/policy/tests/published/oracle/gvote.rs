//! GVote, arXiv 2509.03136 (no public code; from summaries of the paper).
//!
//! Formula: (1) K = the smallest number of keys whose attention from the last real query reaches `nucleus`; (2) fit a gaussian to the
//! layer's (normalised) hidden states, sample S of them, map each through W_Q and rotate it to a future position; (3) keep the
//! union over the samples of the K keys with the largest product. The number kept is a result, not an input.
//!
//! Parameters: nucleus 0.95, S ≥ 8. The sampling itself is the caller's: `sampled_queries` are already rotated.
//!
//! Open (the paper's step 1, "K from the last real query", is confirmed by its reviews): (1) GQA: K is counted per query head, and a KV head keeps the union over its query heads and the samples.
//! (2) The last real query's own top-K set is NOT added (the paper's union runs over the synthetic queries). (3) K counts keys
//! of the whole causal row, the last token's own key included, and the top-K of a sample runs over all `len` keys too. (4) `≥`
//! nucleus. (5) Diagonal or full covariance, and which future positions, is not settled. (6) No sinks, recents or cap here.
//!
//! Property: a sample equal to the last real query yields exactly its nucleus set; adding samples only adds keys; every KV head
//! keeps at least max K and at most Σ K · S of its query heads.

use super::*;

/// Smallest number of entries of a distribution whose sum reaches `nucleus`.
pub fn nucleus_size(weights: &[f64], nucleus: f64) -> usize {
    let mut sum = 0.0;
    for (n, i) in ranking(weights).into_iter().enumerate() {
        sum += weights[i];
        if sum >= nucleus {
            return n + 1;
        }
    }
    weights.len()
}

/// `sampled_queries`: [samples][heads][dim]. Ascending positions per KV head.
pub fn kept(layer: &Layer, sampled_queries: &[f64], nucleus: f64) -> Vec<Vec<usize>> {
    let per_sample = layer.heads() * layer.dim;
    let samples = sampled_queries.len() / per_sample;
    let last = window_attention(layer, 1);
    (0..layer.kv_heads)
        .map(|kv| {
            let mut keep = vec![false; layer.len];
            for head in kv * layer.group..(kv + 1) * layer.group {
                let k = nucleus_size(&last[head][0], nucleus);
                for sample in 0..samples {
                    let query = &sampled_queries[sample * per_sample + head * layer.dim..][..layer.dim];
                    let products: Vec<f64> = (0..layer.len).map(|i| dot(query, layer.key(kv, i))).collect();
                    for i in top_k(&products, k) {
                        keep[i] = true;
                    }
                }
            }
            (0..layer.len).filter(|&i| keep[i]).collect()
        })
        .collect()
}
