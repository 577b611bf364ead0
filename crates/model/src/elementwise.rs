//! What a decoder does between its products: norms, activation, residuals. Row by row, in a fixed order, so that a row's result
//! depends on nothing but the row.

use headwise_kernels::dispatch;
use headwise_kernels::simd::Level;
use rayon::prelude::*;

/// Numbers below which a second thread costs more than it saves.
const PARALLEL_FROM: usize = 1 << 15;
const LANES: usize = 16;

/// Runs `body(i, row)` over the rows of `data`.
pub(crate) fn for_each_row(data: &mut [f32], width: usize, body: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if data.len() < PARALLEL_FROM {
        data.chunks_exact_mut(width).enumerate().for_each(|(i, row)| body(i, row));
    } else {
        data.par_chunks_exact_mut(width).enumerate().for_each(|(i, row)| body(i, row));
    }
}

/// `out[i] = x[i] / sqrt(mean(x²) + eps) * weight[i]` for each row `[weight.len()]` (RMSNorm, arXiv 1910.07467).
pub(crate) fn rms_norm(out: &mut [f32], x: &[f32], weight: &[f32], eps: f32) {
    let width = weight.len();
    let level = Level::detect();
    for_each_row(out, width, |i, row| {
        row.copy_from_slice(&x[i * width..(i + 1) * width]);
        rms_norm_row(level, row, weight, eps);
    });
}

/// [`rms_norm`] of every head of one row, in place; a head is `weight.len()` wide.
pub(crate) fn rms_norm_heads(row: &mut [f32], weight: &[f32], eps: f32) {
    let level = Level::detect();
    row.chunks_exact_mut(weight.len()).for_each(|head| rms_norm_row(level, head, weight, eps));
}

/// `gate = silu(gate) * up`, rows of `width`.
pub(crate) fn swiglu(gate: &mut [f32], up: &[f32], width: usize) {
    let level = Level::detect();
    for_each_row(gate, width, |i, row| swiglu_row(level, row, &up[i * width..(i + 1) * width]));
}

/// `x += y`.
pub(crate) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

dispatch! {
    fn rms_norm_row(level, row: &mut [f32], weight: &[f32], eps: f32) = rms_norm_body;
}

dispatch! {
    fn swiglu_row(level, gate: &mut [f32], up: &[f32]) = swiglu_body;
}

#[inline(always)]
fn rms_norm_body(row: &mut [f32], weight: &[f32], eps: f32) {
    let mut sums = [0.0f32; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
        *sum += x * x;
    }
    let mean = sums.iter().sum::<f32>() / row.len() as f32;
    let scale = 1.0 / (mean + eps).sqrt();
    for (x, w) in row.iter_mut().zip(weight) {
        *x = *x * scale * w;
    }
}

#[inline(always)]
fn swiglu_body(gate: &mut [f32], up: &[f32]) {
    for (g, u) in gate.iter_mut().zip(up) {
        *g = *g / (1.0 + exp(-*g)) * u;
    }
}

/// `e^x` within two units in the last place, without branches: `2^n · e^r` with `|r| ≤ ln 2 / 2`. Beyond ±87 the result
/// stays at the edge, which a sigmoid cannot tell from infinity. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding 1.5 · 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with few enough bits that n times it is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor, degree 7: the rest is below 2^-27 on this interval.
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let mut e = 1.0 / 5040.0;
    for c in series {
        e = e * r + c;
    }
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    e * f32::from_bits(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_follows_the_exact_one() {
        for i in -87_000..=87_000 {
            let x = i as f32 / 1000.0;
            let exact = (x as f64).exp();
            assert!((exp(x) as f64 - exact).abs() <= 2.5e-7 * exact, "{x}: {} {exact}", exp(x));
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(f32::INFINITY), exp(87.0));
    }

    #[test]
    fn swiglu_follows_its_formula_at_both_ends_too() {
        let x = [-200.0, -3.0, -1e-3, 0.0, 0.7, 5.0, 200.0];
        let mut gate = x;
        swiglu(&mut gate, &[2.0; 7], 7);
        for (got, x) in gate.into_iter().zip(x) {
            let exact = x as f64 / (1.0 + (-x as f64).exp()) * 2.0;
            assert!((got as f64 - exact).abs() < 1e-6 * (1.0 + exact.abs()), "{x}: {got} {exact}");
        }
    }

    #[test]
    fn rms_norm_follows_its_formula_for_every_length_and_level() {
        for width in [1, 15, 16, 17, 33, 576] {
            let x: Vec<f32> = (0..3 * width).map(|i| ((i * 37 % 23) as f32 - 11.0) / 7.0).collect();
            let weight: Vec<f32> = (0..width).map(|i| 0.5 + i as f32 / width as f32).collect();
            let mut out = vec![0.0; 3 * width];
            rms_norm(&mut out, &x, &weight, 1e-5);
            for (row, x) in out.chunks(width).zip(x.chunks(width)) {
                let mean = x.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / width as f64;
                for ((&got, &x), &w) in row.iter().zip(x).zip(&weight) {
                    let exact = x as f64 / (mean + 1e-5).sqrt() * w as f64;
                    assert!((got as f64 - exact).abs() < 1e-5, "{width}: {got} {exact}");
                }
                for level in Level::available() {
                    let mut again = x.to_vec();
                    rms_norm_row(level, &mut again, &weight, 1e-5);
                    assert_eq!(again, row, "{level:?}");
                }
            }
        }
    }

    #[test]
    fn many_rows_give_what_one_row_gives() {
        let (width, rows) = (64, 2 * PARALLEL_FROM / 64);
        let x: Vec<f32> = (0..rows * width).map(|i| (i as f32).sin()).collect();
        let weight = vec![1.5; width];
        let mut out = vec![0.0; x.len()];
        rms_norm(&mut out, &x, &weight, 1e-6);
        let mut one = vec![0.0; width];
        rms_norm(&mut one, &x[7 * width..8 * width], &weight, 1e-6);
        assert_eq!(out[7 * width..8 * width], one);
    }
}
