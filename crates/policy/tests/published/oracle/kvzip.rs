//! KVzip, arXiv 2505.23416 (code snu-mllab/KVzip; also kvpress `kvzip_press.py`).
//!
//! Formula: the model repeats the context, teacher-forced, in chunks. For a chunk, every probe query takes ONE softmax over
//! [sinks | the chunk's cached keys | the probe's own keys up to and including itself]; the score of a chunk token is the largest of
//! these probabilities over the probe rows and the group's query heads. Other context tokens are not in the denominator.
//!
//! KVzip+ multiplies each probability by ‖W_O^h v_i‖ / ‖x_row‖ (x_row = hidden state entering the layer's attention) before the max.
//!
//! Parameters: chunks of 2048 tokens; the probe = "repeat the previous context" (later chunks: "... starting with" + the last 8
//! tokens of the chunk before) + the chunk's tokens.
//!
//! Open or in disagreement: (1) sinks in the denominator: the authors' code takes the whole system prompt, kvpress min(4, start of
//! the chunk). An argument here, cut at the chunk's start. (2) Both codes use ALL probe rows in the max, including those of the
//! instruction text before the repeated tokens. (3) kvpress gives the first n_sink tokens the score 1 (beyond the reach of the
//! plain score, not of KVzip+), the authors keep the system prompt outside the competition. (4) x_row: kvpress uses the hidden
//! state given to the attention module, i.e. after the input norm.
//! (5) Selection: one threshold over all layers and heads (kept: strictly above it), or per layer.
//!
//! Property: scores lie in (0, 1]; more probe rows never lower a score, and more keys in the denominator never raise one; a probe
//! row aligned with a single key drives that token's score towards 1.

use super::*;

/// Scores of the tokens `start..end`, `[kv_heads][end - start]`.
/// `probe_queries`: [rows][heads][dim], `probe_keys`: [kv_heads][rows][dim], both rotated to their own positions.
pub fn score(
    layer: &Layer,
    probe_queries: &[f64],
    probe_keys: &[f64],
    sinks: usize,
    start: usize,
    end: usize,
) -> Vec<Vec<f64>> {
    maxima(layer, probe_queries, probe_keys, sinks, start, end, |_, _, p| p)
}

/// KVzip+. `hidden_norms`: ‖x‖₂ per probe row.
pub fn score_plus(
    layer: &Layer,
    probe_queries: &[f64],
    probe_keys: &[f64],
    hidden_norms: &[f64],
    sinks: usize,
    start: usize,
    end: usize,
) -> Vec<Vec<f64>> {
    let norms: Vec<Vec<f64>> = (0..layer.heads()).map(|head| output_norms(layer, head, layer.len)).collect();
    maxima(layer, probe_queries, probe_keys, sinks, start, end, |head, (row, token), p| {
        p * norms[head][token] / hidden_norms[row]
    })
}

fn maxima(
    layer: &Layer,
    probe_queries: &[f64],
    probe_keys: &[f64],
    sinks: usize,
    start: usize,
    end: usize,
    weigh: impl Fn(usize, (usize, usize), f64) -> f64,
) -> Vec<Vec<f64>> {
    let rows = probe_queries.len() / (layer.heads() * layer.dim);
    let sinks = sinks.min(start);
    let mut out = vec![vec![f64::NEG_INFINITY; end - start]; layer.kv_heads];
    for head in 0..layer.heads() {
        let kv = head / layer.group;
        for row in 0..rows {
            let query = &probe_queries[(row * layer.heads() + head) * layer.dim..][..layer.dim];
            let own = (0..=row).map(|r| &probe_keys[(kv * rows + r) * layer.dim..][..layer.dim]);
            let logits: Vec<f64> = (0..sinks)
                .chain(start..end)
                .map(|token| layer.key(kv, token))
                .chain(own)
                .map(|key| layer.scale * dot(query, key))
                .collect();
            let weights = softmax(&logits);
            for (i, best) in out[kv].iter_mut().enumerate() {
                *best = best.max(weigh(head, (row, start + i), weights[sinks + i]));
            }
        }
    }
    out
}
