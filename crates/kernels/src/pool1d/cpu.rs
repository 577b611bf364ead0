//! Pooling on the CPU: one pass over the slots per distance, each a plain loop over two slices.

use super::Pool1d;
use crate::dispatch;

dispatch! {
    /// `[n]` from `[n]`. The options must be valid.
    pub fn pool1d(level, pool: Pool1d, scores: &[f32]) -> Vec<f32> = body;
}

#[inline(always)]
fn body(pool: Pool1d, scores: &[f32]) -> Vec<f32> {
    let n = scores.len();
    match pool {
        Pool1d::Average { kernel } => {
            let mut out = vec![0.0; n];
            centred(kernel, scores, &mut out, |sum, x| sum + x);
            out.iter_mut().for_each(|x| *x /= kernel as f32);
            out
        }
        Pool1d::Max { kernel } => {
            let mut out = vec![f32::NEG_INFINITY; n];
            centred(kernel, scores, &mut out, |max, x| if x > max { x } else { max });
            out
        }
        Pool1d::LookAhead { span, decay } => {
            let mut out = scores.to_vec();
            for (d, weight) in (1..=span.min(n.saturating_sub(1))).zip(super::weights(decay)) {
                for (out, &x) in out[d..].iter_mut().zip(scores) {
                    let faded = weight * x;
                    *out = if faded > *out { faded } else { *out };
                }
            }
            out
        }
    }
}

/// `out[j] = join(out[j], scores[j + shift])` for every shift of the kernel, in ascending order, where the slot exists.
#[inline(always)]
fn centred(kernel: usize, scores: &[f32], out: &mut [f32], join: impl Fn(f32, f32) -> f32) {
    let (n, reach) = (scores.len(), kernel / 2);
    for back in (1..=reach.min(n)).rev() {
        for (out, &x) in out[back..].iter_mut().zip(scores) {
            *out = join(*out, x);
        }
    }
    for ahead in 0..=reach.min(n) {
        for (out, &x) in out.iter_mut().zip(&scores[ahead..]) {
            *out = join(*out, x);
        }
    }
}
