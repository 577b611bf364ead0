//! Key norms on the CPU: f32 sums of squares, f64 where those would overflow or fade away.

use crate::format::{Format, with_format};
use crate::simd::Level;
use crate::simd_vector::{Vector, VectorOf};
use crate::{AnyHead, Block, Half, HeadView, dispatch};
use headwise_core::Result;

/// See [`super::key_norm`].
pub fn key_norm<B: Block>(level: Level, head: HeadView<'_, B>) -> Result<Vec<f32>> {
    head.check()?;
    Ok(norms(level, head.any()))
}

dispatch! {
    fn norms(level, head: AnyHead<'_>) -> Vec<f32> = body::<VectorOf<Target>>;
}

#[inline(always)]
fn body<V: Vector>(head: AnyHead<'_>) -> Vec<f32> {
    let mut out = Vec::with_capacity(head.len);
    for block in 0..head.block_count() {
        let keys = head.rows(block, Half::Keys).chunks_exact(head.layout.row_bytes());
        // A loop: what iterator adaptors call is compiled for the baseline, and every intrinsic in it would be a call.
        with_format!(head.layout.codec, F => for key in keys {
            out.push(norm::<V, F>(&key[..head.layout.head_dim * F::BYTES]) * F::scale(key));
        });
    }
    out
}

#[inline(always)]
fn norm<V: Vector, F: Format>(numbers: &[u8]) -> f32 {
    let mut sum = V::splat(0.0);
    let mut vectors = numbers.chunks_exact(V::LANES * F::BYTES);
    for vector in &mut vectors {
        let x = F::load::<V>(vector);
        sum = x.mul_add(x, sum);
    }
    if !vectors.remainder().is_empty() {
        let x = F::load_partial::<V>(vectors.remainder());
        sum = x.mul_add(x, sum);
    }
    let square = sum.sum();
    // Outside these bounds squares may have overflowed, or lost bits to underflow.
    if (1e-30..=1e30).contains(&square) {
        return square.sqrt();
    }
    numbers.chunks_exact(F::BYTES).map(|x| (F::number(x) as f64).powi(2)).sum::<f64>().sqrt() as f32
}
