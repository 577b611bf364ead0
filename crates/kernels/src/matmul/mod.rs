//! Products of activations with weights in GGML block format.
//!
//! Contract: `out[m][rows] = x[m][cols] · wᵀ + bias`, with a weight `[rows = out][cols = in]` as it lies in the file.
//! Activations stay f32; weights are widened to f32 exactly as ggml widens them, in registers for one row of `x` and into a tile
//! that stays in the cache for several, so that a prefill chunk reads and widens each weight once.
//!
//! Every output is the same fixed tree of f32 operations over one row of `x` and one row of `w`. It depends neither on the other
//! rows, nor on how many there are, nor on the number of threads: a token decoded alone, in a batch, or inside a prefill chunk
//! gets the same bits. (Instruction sets differ from each other: with fused multiply-add a product is rounded once.)

mod cpu;
mod formats;
mod formats_k;
pub mod reference;
mod simd_dots;
mod simd_parts;
mod simd_quants;

pub use candle_core::quantized::GgmlDType;
use headwise_core::{Error, Result};

use crate::simd::Level;

/// A borrowed weight matrix `[rows = out][cols = in]`, row-major, each row a whole number of GGML blocks.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [u8],
    dtype: GgmlDType,
    rows: usize,
    cols: usize,
}

impl<'a> Matrix<'a> {
    /// Views `data` as a matrix; no alignment is asked for.
    ///
    /// Errors: [`Error::InvalidArgument`] when `cols` is 0 or no whole number of blocks, [`Error::ShapeMismatch`] (in bytes)
    /// when `data` has another length than the shape says.
    pub fn new(data: &'a [u8], dtype: GgmlDType, rows: usize, cols: usize) -> Result<Self> {
        let block = dtype.block_size();
        if cols == 0 || !cols.is_multiple_of(block) {
            return Err(Error::invalid(
                "cols",
                cols,
                &format!("a positive multiple of {block}, the block of {dtype:?}"),
            ));
        }
        let bytes = (cols / block).checked_mul(dtype.type_size()).and_then(|row| row.checked_mul(rows));
        let bytes = bytes.ok_or_else(|| Error::invalid("rows", rows, "a matrix that fits the address space"))?;
        check("bytes of a weight matrix", &[bytes], &[data.len()])?;
        Ok(Self { data, dtype, rows, cols })
    }

    /// Format of the weights.
    pub fn dtype(&self) -> GgmlDType {
        self.dtype
    }

    /// Output features.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Input features.
    pub fn cols(&self) -> usize {
        self.cols
    }

    fn row_bytes(&self) -> usize {
        self.cols / self.dtype.block_size() * self.dtype.type_size()
    }

    /// Bytes of rows `first .. first + count`.
    fn row_range(&self, first: usize, count: usize) -> &'a [u8] {
        &self.data[first * self.row_bytes()..(first + count) * self.row_bytes()]
    }
}

/// One product of a [`linear_all`]: `out[m][w.rows] = x · wᵀ + bias`.
#[derive(Debug)]
pub struct Product<'a> {
    /// `[m][w.rows()]`, overwritten.
    pub out: &'a mut [f32],
    /// The weight.
    pub w: Matrix<'a>,
    /// `[w.rows()]`.
    pub bias: Option<&'a [f32]>,
}

/// `out[m][rows] = x[m][cols] · wᵀ + bias`; m is `x.len() / cols` and may be 0.
///
/// Errors: [`Error::ShapeMismatch`] when the lengths do not agree.
pub fn linear(out: &mut [f32], x: &[f32], w: Matrix, bias: Option<&[f32]>) -> Result<()> {
    linear_all(x, &mut [Product { out, w, bias }])
}

/// Several products of the same `x` at once (query, key and value; gate and up), as [`linear`] for each, but with one
/// hand-over to the threads instead of one per product.
///
/// Errors: [`Error::ShapeMismatch`] when the lengths do not agree or the products have different `cols`.
pub fn linear_all(x: &[f32], products: &mut [Product]) -> Result<()> {
    linear_at(Level::detect(), x, products)
}

/// [`linear_all`] on a given level, which must be one of [`Level::available`].
fn linear_at(level: Level, x: &[f32], products: &mut [Product]) -> Result<()> {
    let Some(cols) = products.first().map(|product| product.w.cols) else { return Ok(()) };
    let m = x.len() / cols;
    for Product { out, w, bias } in products.iter() {
        check("x of a product", &[m, w.cols], &[m, cols])?;
        check("numbers in x of a product", &[m * cols], &[x.len()])?;
        check("out of a product", &[m * w.rows], &[out.len()])?;
        check("bias of a product", &[w.rows], &[bias.map_or(w.rows, <[f32]>::len)])?;
    }
    if m == 0 {
        return Ok(());
    }
    cpu::multiply(level, x, cols, products);
    Ok(())
}

/// Widens row `row` of `w` (an embedding) into `out: [cols]`.
///
/// Errors: [`Error::InvalidArgument`] when the row does not exist, [`Error::ShapeMismatch`] when `out` is not one row long.
pub fn dequantize_row(w: Matrix, row: usize, out: &mut [f32]) -> Result<()> {
    if row >= w.rows {
        return Err(Error::invalid("row", row, &format!("below {}", w.rows)));
    }
    check("a dequantized row", &[w.cols], &[out.len()])?;
    cpu::dequantize(Level::detect(), w, row, out);
    Ok(())
}

fn check(what: &str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::ShapeMismatch { what: what.into(), expected: expected.into(), got: got.into() })
}

#[cfg(test)]
mod tests;
