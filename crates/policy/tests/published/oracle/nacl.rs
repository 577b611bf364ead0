//! NACL, arXiv 2408.03675 (ACL 2024; official code PaddlePaddle/Research `NLP/ACL2024-NACL/src/llama_nacl_patch.py`).
//!
//! Formula: proxy tokens are the prompt's last ones; the score of token i is the sum of the proxy rows' attention to i. No pooling.
//!
//! Parameters (code): proxies = 1% of the prompt (the paper speaks of up to 10%); kept by score 12%, kept by chance 7%,
//! protected 1% including 256 sinks - all as shares of the prompt's length.
//!
//! The random part: per head and independently, from the tokens neither protected (sinks, recent) nor kept by score, draw
//! `random` tokens WITHOUT replacement with probabilities softmax(score) over just those tokens (`probabilities`).
//! The kept set is sinks + recent + kept by score + drawn: its size is fixed, its protected and scored part is deterministic.
//!
//! Open or in disagreement:
//! (0) The paper protects the proxies themselves and takes the UNION of the scored set and a set drawn from softmax(score)
//!     over all tokens (the two may overlap, which keeps fewer); the code excludes what is already kept, so sizes are exact.
//!     The code's exclusion is what `probabilities` describes. In the code the protected window is its own parameter.
//! (1) The code's flash-attention call for the proxies is NOT causal (its row normalisation includes later proxies); causal here,
//!     as in the model's own attention. The difference is a factor per row, so it can change the order of tokens.
//! (2) Sum or mean over the proxy rows: same ranking, but the softmax of the random part depends on it. Sum, as in the code.
//!     Sums of probabilities over few rows are small, so that softmax is nearly uniform.
//! (3) GQA: the code indexes the per-query-head scores by KV head (it was written for equal counts). Group mean here.
//!
//! Property: with `random` = 0 the kept set is the plain top-k; with `random` > 0 every token kept by score is still kept, two
//! seeds differ only in tokens outside it, and two heads with equal scores may keep different tokens.

use super::*;

pub fn score(layer: &Layer, w: usize, proxies: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let per_head: Vec<Vec<f64>> = window_attention(layer, proxies)
        .iter()
        .map(|rows| (0..slots).map(|i| column(rows, i).iter().sum()).collect())
        .collect();
    group_mean(&per_head, layer.group)
}

/// First-draw probabilities of the random part for one head: zero for the tokens kept by score, a softmax over the rest.
pub fn probabilities(scores: &[f64], kept: &[usize]) -> Vec<f64> {
    let rest: Vec<usize> = (0..scores.len()).filter(|i| !kept.contains(i)).collect();
    let weights = softmax(&rest.iter().map(|&i| scores[i]).collect::<Vec<_>>());
    let mut out = vec![0.0; scores.len()];
    for (&i, p) in rest.iter().zip(weights) {
        out[i] = p;
    }
    out
}
