//! docs/lookahead.md, steps 1 to 3.

use super::{Layer, norm, window_attention};

/// Scores of the slots before the last `recent`, `[kv head][slot]`.
pub fn score(layer: &Layer, window: usize, fade: f64, recent: usize, span: usize, decay: f64) -> Vec<Vec<f64>> {
    let attention = window_attention(layer, window);
    let open = layer.len - recent;
    let worth = |kv: usize, slot: usize| {
        let votes = (0..layer.group).flat_map(|g| (0..window).map(move |row| (kv * layer.group + g, row)));
        let faded = votes.map(|(head, row)| attention[head][row][slot] * fade.powi((window - 1 - row) as i32));
        faded.fold(0.0, f64::max) * norm(layer.value(kv, slot))
    };
    let reach = |row: &[f64], slot: usize| {
        (0..=span.min(slot)).map(|d| decay.powi(d as i32) * row[slot - d]).fold(0.0, f64::max)
    };
    (0..layer.kv_heads)
        .map(|kv| {
            let row: Vec<f64> = (0..open).map(|slot| worth(kv, slot)).collect();
            (0..open).map(|slot| reach(&row, slot)).collect()
        })
        .collect()
}
