//! Pooling in f64, slot by slot as the contract says it.

use super::Pool1d;

/// `[n]` from `[n]`. The options must be valid.
pub fn pool1d(pool: Pool1d, scores: &[f32]) -> Vec<f64> {
    let centred = |j: usize, kernel: usize| {
        let first = j.saturating_sub(kernel / 2);
        scores[first..(j + kernel / 2 + 1).min(scores.len())].iter().map(|&x| x as f64)
    };
    (0..scores.len())
        .map(|j| match pool {
            Pool1d::Average { kernel } => centred(j, kernel).sum::<f64>() / kernel as f64,
            Pool1d::Max { kernel } => centred(j, kernel).fold(f64::NEG_INFINITY, f64::max),
            Pool1d::LookAhead { span, decay } => (0..=span.min(j))
                .map(|d| (decay as f64).powi(d as i32) * scores[j - d] as f64)
                .fold(f64::NEG_INFINITY, f64::max),
        })
        .collect()
}
