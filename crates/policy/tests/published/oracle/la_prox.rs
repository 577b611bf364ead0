//! LaProx, arXiv 2605.07234 (no official code; two third-party re-implementations were read for comparison).
//!
//! Formula: per query head `p[h][i] = ‖A_h[:, i]‖₂ · ‖W_O^h v_i‖₂` (the Frobenius norm of what token i adds to the layer's output
//! over the window rows); mean over the group; average pool; divided by the sum over all KV heads and slots of the layer.
//! The layer-normalised numbers then compete in ONE top-K over all layers and KV heads (K = layers · kv_heads · budget without
//! the window, which is always kept).
//!
//! Parameters: `w` = 32 rows, `kernel` = 7 (average).
//!
//! Open: (1) the paper says attention is averaged inside a GQA group but not how that meets the query head's own W_O; here the
//! complete per-head product is averaged (one replication does the same, another takes the sum - equal after normalisation -
//! and a third averages the logits before the softmax, which is a different score). (2) Pooling after the group's mean; mean and
//! average pool commute, so the order does not matter. (3) Both pooling and the sum run over the scored slots only, i.e. without
//! the window. (4) A replication adds 1e-12 to the attention norm; not here.
//!
//! Property: the scores of a layer sum to 1, and multiplying all of the layer's values (or W_O) by one constant changes nothing;
//! see `property_frobenius` for the meaning of p.

use super::*;

pub fn score(layer: &Layer, w: usize, kernel: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    let pooled: Vec<Vec<f64>> =
        group_mean(&products(layer, w), layer.group).iter().map(|xs| avg_pool(xs, kernel)).collect();
    assert!(pooled.iter().all(|xs| xs.len() == slots));
    let total: f64 = pooled.iter().flatten().sum();
    pooled.iter().map(|xs| xs.iter().map(|x| x / total).collect()).collect()
}

/// `p[h][i]` per query head, before the group's mean.
pub fn products(layer: &Layer, w: usize) -> Vec<Vec<f64>> {
    let slots = layer.len - w;
    window_attention(layer, w)
        .iter()
        .enumerate()
        .map(|(head, rows)| {
            let norms = output_norms(layer, head, slots);
            (0..slots).map(|i| norm(&column(rows, i)) * norms[i]).collect()
        })
        .collect()
}

/// ‖A_h V W_O^h - (the same without token i's term)‖_F, computed by building both matrices: equals `products(..)[head][i]`.
pub fn property_frobenius(layer: &Layer, w: usize, head: usize, i: usize) -> f64 {
    let attention = &window_attention(layer, w)[head];
    let build = |skip: Option<usize>| -> Vec<f64> {
        attention
            .iter()
            .flat_map(|row| {
                let mut mixed = vec![0.0; layer.dim];
                for token in (0..layer.len).filter(|&t| Some(t) != skip) {
                    for (m, v) in mixed.iter_mut().zip(layer.value(head / layer.group, token)) {
                        *m += row[token] * v;
                    }
                }
                layer.project(head, &mixed)
            })
            .collect()
    };
    let (full, without) = (build(None), build(Some(i)));
    norm(&full.iter().zip(&without).map(|(a, b)| a - b).collect::<Vec<_>>())
}
