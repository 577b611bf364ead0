//! Products of a few f32 rows with many stored rows: what decode attention, window scores and key norms are made of.
//! Stored numbers are converted in registers; each stored row is read once for up to [`QUERIES`] f32 rows.

use crate::format::{Format, with_format};
use crate::simd_vector::{Vector, prefetch};
use headwise_core::Codec;

/// f32 rows that are worked on together.
pub(crate) const QUERIES: usize = 4;

/// How far ahead stored rows are asked for, in bytes: about the latency of memory. The hardware stops at page borders.
const AHEAD: usize = 2048;

/// Asks for the first rows of a block that will be read soon; inside a block the products do so themselves.
#[inline(always)]
pub(crate) fn prefetch_start(block: &[u8]) {
    for line in (0..AHEAD).step_by(64) {
        prefetch(block, line);
    }
}

/// f32 rows of `dim` numbers, padded with zeros so that whole vectors can be loaded.
pub(crate) struct PaddedRows {
    /// `[rows][stride]`.
    pub data: Vec<f32>,
    /// Numbers from one row to the next, a multiple of every vector length.
    pub stride: usize,
}

impl PaddedRows {
    /// `rows` rows of zeros.
    pub fn zeros(rows: usize, dim: usize) -> Self {
        let stride = dim.next_multiple_of(16);
        Self { data: vec![0.0; rows * stride], stride }
    }

    /// Row `index` with its padding.
    pub fn row_mut(&mut self, index: usize) -> &mut [f32] {
        &mut self.data[index * self.stride..][..self.stride]
    }
}

/// `out[r * out_stride + s] = x_r · y_s` for the rows `x` (padded, `[count][x_stride]`) and the stored rows `y` (`[slots][dim]`).
#[inline(always)]
pub(crate) fn dots<V: Vector>(
    x: &[f32],
    x_stride: usize,
    y: &[u8],
    codec: Codec,
    dim: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let rows = x.chunks(QUERIES * x_stride).zip(out.chunks_mut(QUERIES * out_stride));
    with_format!(codec, F => for (x, out) in rows {
        match x.len() / x_stride {
            1 => dots_of::<V, F, 1>(x, x_stride, y, dim, out, out_stride),
            2 => dots_of::<V, F, 2>(x, x_stride, y, dim, out, out_stride),
            3 => dots_of::<V, F, 3>(x, x_stride, y, dim, out, out_stride),
            _ => dots_of::<V, F, 4>(x, x_stride, y, dim, out, out_stride),
        }
    });
}

#[inline(always)]
fn dots_of<V: Vector, F: Format, const Q: usize>(
    x: &[f32],
    x_stride: usize,
    y: &[u8],
    dim: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let row_bytes = dim * F::BYTES;
    let mut slot = 0;
    let mut fours = y.chunks_exact(4 * row_bytes);
    for four in &mut fours {
        for line in (0..four.len()).step_by(64) {
            prefetch(four, AHEAD + line);
        }
        let rows = [0, 1, 2, 3].map(|i| &four[i * row_bytes..][..row_bytes]);
        let mut sums = [[V::splat(0.0); 4]; Q];
        accumulate_dots::<V, F, Q, 4>(x, x_stride, rows, &mut sums);
        for r in 0..Q {
            out[r * out_stride + slot..][..4].copy_from_slice(&V::sum4(sums[r]));
        }
        slot += 4;
    }
    for row in fours.remainder().chunks_exact(row_bytes) {
        let mut sums = [[V::splat(0.0); 1]; Q];
        accumulate_dots::<V, F, Q, 1>(x, x_stride, [row], &mut sums);
        for r in 0..Q {
            out[r * out_stride + slot] = sums[r][0].sum();
        }
        slot += 1;
    }
}

#[inline(always)]
fn accumulate_dots<V: Vector, F: Format, const Q: usize, const S: usize>(
    x: &[f32],
    x_stride: usize,
    y: [&[u8]; S],
    sums: &mut [[V; S]; Q],
) {
    let vector_bytes = V::LANES * F::BYTES;
    let whole = y[0].len() / vector_bytes;
    for c in 0..whole {
        let mut loaded = [V::splat(0.0); S];
        for s in 0..S {
            loaded[s] = F::load::<V>(&y[s][c * vector_bytes..][..vector_bytes]);
        }
        for r in 0..Q {
            let factor = V::load(&x[r * x_stride + c * V::LANES..]);
            for s in 0..S {
                sums[r][s] = factor.mul_add(loaded[s], sums[r][s]);
            }
        }
    }
    if whole * vector_bytes < y[0].len() {
        for s in 0..S {
            let loaded = F::load_partial::<V>(&y[s][whole * vector_bytes..]);
            for r in 0..Q {
                sums[r][s] = V::load(&x[r * x_stride + whole * V::LANES..]).mul_add(loaded, sums[r][s]);
            }
        }
    }
}

/// `out_r += Σ_s weights[r * weight_stride + s] · y_s` for the padded rows `out` (`[count][out_stride]`) and the stored rows `y`.
#[inline(always)]
pub(crate) fn add_weighted<V: Vector>(
    weights: &[f32],
    weight_stride: usize,
    y: &[u8],
    codec: Codec,
    dim: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let rows = weights.chunks(QUERIES * weight_stride).zip(out.chunks_mut(QUERIES * out_stride));
    with_format!(codec, F => for (weights, out) in rows {
        match out.len() / out_stride {
            1 => add_weighted_to::<V, F, 1>(weights, weight_stride, y, dim, out, out_stride),
            2 => add_weighted_to::<V, F, 2>(weights, weight_stride, y, dim, out, out_stride),
            3 => add_weighted_to::<V, F, 3>(weights, weight_stride, y, dim, out, out_stride),
            _ => add_weighted_to::<V, F, 4>(weights, weight_stride, y, dim, out, out_stride),
        }
    });
}

#[inline(always)]
fn add_weighted_to<V: Vector, F: Format, const Q: usize>(
    weights: &[f32],
    weight_stride: usize,
    y: &[u8],
    dim: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let mut start = 0;
    while start < dim {
        let left = dim - start;
        if V::REGISTERS >= 32 && left >= 4 * V::LANES {
            add_columns::<V, F, Q, 4>(weights, weight_stride, y, dim, start, out, out_stride);
            start += 4 * V::LANES;
        } else if left >= 2 * V::LANES {
            add_columns::<V, F, Q, 2>(weights, weight_stride, y, dim, start, out, out_stride);
            start += 2 * V::LANES;
        } else {
            add_columns::<V, F, Q, 1>(weights, weight_stride, y, dim, start, out, out_stride);
            start += V::LANES;
        }
    }
}

/// The same for the `C` vectors of columns from `start` on, of which the last may reach past `dim`.
#[inline(always)]
fn add_columns<V: Vector, F: Format, const Q: usize, const C: usize>(
    weights: &[f32],
    weight_stride: usize,
    y: &[u8],
    dim: usize,
    start: usize,
    out: &mut [f32],
    out_stride: usize,
) {
    let vector_bytes = V::LANES * F::BYTES;
    let row_bytes = dim * F::BYTES;
    let slots = y.len() / row_bytes;
    let from = start * F::BYTES;
    let to = (from + C * vector_bytes).min(row_bytes);
    let mut sums = [[V::splat(0.0); C]; Q];
    for r in 0..Q {
        for c in 0..C {
            sums[r][c] = V::load(&out[r * out_stride + start + c * V::LANES..]);
        }
    }
    let mut weight_rows = [&weights[..slots]; Q];
    for (r, row) in weight_rows.iter_mut().enumerate() {
        *row = &weights[r * weight_stride..][..slots];
    }
    let whole = to - from == C * vector_bytes;
    for (s, row) in y.chunks_exact(row_bytes).enumerate() {
        let row = &row[from..to];
        for line in (0..C * vector_bytes).step_by(64) {
            prefetch(row, AHEAD + line);
        }
        let mut loaded = [V::splat(0.0); C];
        if whole {
            for c in 0..C {
                loaded[c] = F::load::<V>(&row[c * vector_bytes..][..vector_bytes]);
            }
        } else {
            loaded[0] = F::load_partial::<V>(row);
        }
        for r in 0..Q {
            let weight = V::splat(weight_rows[r][s]);
            for c in 0..C {
                sums[r][c] = weight.mul_add(loaded[c], sums[r][c]);
            }
        }
    }
    for r in 0..Q {
        for c in 0..C {
            sums[r][c].store(&mut out[r * out_stride + start + c * V::LANES..]);
        }
    }
}

/// Replaces `x` by `e^(x - max)`; gives the maximum and the sum of the results. `x.len()` is a multiple of every vector
/// length; -∞ becomes 0, also where all are.
#[inline(always)]
pub(crate) fn exp_in_place<V: Vector>(x: &mut [f32]) -> (f32, f32) {
    let mut max = V::splat(f32::NEG_INFINITY);
    for chunk in x.chunks_exact(V::LANES) {
        max = V::load(chunk).max(max);
    }
    let max = max.max_lane();
    // With a finite base -∞ - base stays -∞ where everything is masked.
    let base = V::splat(max.max(f32::MIN));
    let mut sum = V::splat(0.0);
    for chunk in x.chunks_exact_mut(V::LANES) {
        let p = V::load(chunk).sub(base).exp();
        p.store(chunk);
        sum = sum.add(p);
    }
    (max, sum.sum())
}

/// f32 numbers of stored bytes. `out` holds exactly as many.
#[inline(always)]
pub(crate) fn widen<V: Vector>(source: &[u8], codec: Codec, out: &mut [f32]) {
    with_format!(codec, F => {
        let mut from = source.chunks_exact(V::LANES * F::BYTES);
        let mut to = out.chunks_exact_mut(V::LANES);
        for (from, to) in (&mut from).zip(&mut to) {
            F::load::<V>(from).store(to);
        }
        for (from, to) in from.remainder().chunks_exact(F::BYTES).zip(to.into_remainder()) {
            *to = F::number(from);
        }
    });
}
