//! KVCompose, arXiv 2509.05165 (code: kvpress `kvcompose_press.py`).
//!
//! Formula: token score per query head = largest attention from the probe rows (by default the context read a second time behind
//! the cache); group mean; plus the mean of that over the layer's KV heads. Budgets: sort every head's scores, average the heads
//! rank by rank ("composite tokens"), and keep the best composite tokens of ALL layers; a layer keeps as many ranks as it has in that
//! selection. Every head then keeps its own best tokens, so heads of a layer have equal lengths but different tokens.
//!
//! Parameters (kvpress): max over probe rows, mean over the group and over heads, no value norm, head mean added.
//!
//! Open or in disagreement: (1) the softmax runs over all `len` context keys and the probe's own keys up to the row's own (unlike
//! KVzip, no chunks). (2) kvpress gives layer 0 the rank-wise maximum over all layers, so that its budget is the largest;
//! `layer_budgets` does so if `first_is_largest`. (3) The value norm is an option in kvpress, off by default; not here.
//! (4) Ties in the global selection: lower layer, then lower rank.
//!
//! Property: budgets sum to the number asked for; equal layers get equal budgets (up to one); adding one constant to all of a
//! layer's scores can only raise its budget, while permuting a head's tokens changes no budget.

use super::*;

/// `[kv_heads][len]`. `probe_queries`: [rows][heads][dim], `probe_keys`: [kv_heads][rows][dim], rotated to their own positions.
pub fn score(layer: &Layer, probe_queries: &[f64], probe_keys: &[f64], add_head_mean: bool) -> Vec<Vec<f64>> {
    let rows = probe_queries.len() / (layer.heads() * layer.dim);
    let per_head: Vec<Vec<f64>> = (0..layer.heads())
        .map(|head| {
            let kv = head / layer.group;
            let mut best = vec![0.0f64; layer.len];
            for row in 0..rows {
                let query = &probe_queries[(row * layer.heads() + head) * layer.dim..][..layer.dim];
                let own = (0..=row).map(|r| &probe_keys[(kv * rows + r) * layer.dim..][..layer.dim]);
                let keys = (0..layer.len).map(|token| layer.key(kv, token)).chain(own);
                let weights = softmax(&keys.map(|key| layer.scale * dot(query, key)).collect::<Vec<_>>());
                for (b, w) in best.iter_mut().zip(&weights) {
                    *b = b.max(*w);
                }
            }
            best
        })
        .collect();
    let scores = group_mean(&per_head, layer.group);
    if !add_head_mean {
        return scores;
    }
    let common = group_mean(&scores, layer.kv_heads).remove(0);
    scores.iter().map(|xs| xs.iter().zip(&common).map(|(x, c)| x + c).collect()).collect()
}

/// Rank-wise mean over heads of the scores sorted from the best.
pub fn composite(scores: &[Vec<f64>]) -> Vec<f64> {
    let sorted: Vec<Vec<f64>> = scores.iter().map(|xs| ranking(xs).into_iter().map(|i| xs[i]).collect()).collect();
    (0..scores[0].len()).map(|rank| mean(&column(&sorted, rank))).collect()
}

/// Tokens per head for each layer; they sum to `total`.
pub fn layer_budgets(scores_of_layers: &[Vec<Vec<f64>>], total: usize, first_is_largest: bool) -> Vec<usize> {
    let mut composites: Vec<Vec<f64>> = scores_of_layers.iter().map(|s| composite(s)).collect();
    if first_is_largest {
        composites[0] = (0..composites[0].len())
            .map(|rank| column(&composites, rank).into_iter().fold(f64::NEG_INFINITY, f64::max))
            .collect();
    }
    let len = composites[0].len();
    let mut out = vec![0; composites.len()];
    for i in top_k(&composites.concat(), total) {
        out[i / len] += 1;
    }
    out
}

/// Ascending tokens per head for one layer.
pub fn kept(scores: &[Vec<f64>], budget: usize) -> Vec<Vec<usize>> {
    scores.iter().map(|xs| top_k(xs, budget)).collect()
}
