//! How likely tokens are, from logits.

/// Natural logarithms of the probabilities of `tokens`: of the first one by the logits `before` it, if there are any, of each next one by its
/// predecessor's row of `logits`, `[tokens][vocabulary]`.
pub(crate) fn log_probs<'a>(
    before: Option<&'a [f32]>,
    logits: &'a [f32],
    tokens: &'a [u32],
) -> impl Iterator<Item = Option<f64>> + 'a {
    let rows = logits.chunks_exact(logits.len() / tokens.len()).map(Some);
    let rows = std::iter::once(before).chain(rows);
    rows.zip(tokens).map(|(row, &token)| row.map(|row| log_prob(row, token)))
}

/// ln softmax(logits)[token], in f64.
fn log_prob(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    f64::from(logits[token as usize] - max) - sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_token_is_judged_by_what_came_before_and_the_others_by_their_predecessors() {
        let before = [0.0, 3f32.ln()];
        let logits = [0.0, 0.0, 1.0, 1.0 + 4f32.ln()];
        let found: Vec<_> = log_probs(Some(&before), &logits, &[1, 0]).collect();
        let expected = [0.75f64.ln(), 0.5f64.ln()];
        assert!(found.iter().zip(expected).all(|(found, expected)| (found.unwrap() - expected).abs() < 1e-6));
        assert_eq!(log_probs(None, &logits, &[1, 0]).next(), Some(None));
    }
}
