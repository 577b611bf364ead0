//! The obvious loop in f64, over weights that candle dequantizes.

use std::borrow::Cow;

use candle_core::CpuStorage;
use headwise_core::{Error, Result};

use super::Matrix;

/// All weights of `w` as candle reads them, `[rows][cols]`.
///
/// Errors: [`Error::Internal`] with candle's reason.
pub fn dequantize(w: Matrix) -> Result<Vec<f32>> {
    // candle asks for aligned blocks; a Vec of words is aligned for all of them.
    let mut words = vec![0u64; w.data.len().div_ceil(8)];
    let bytes = &mut bytemuck::cast_slice_mut::<u64, u8>(&mut words)[..w.data.len()];
    bytes.copy_from_slice(w.data);
    match w.dtype.from_data(Cow::Borrowed(bytes)).dequantize(w.rows * w.cols) {
        Ok(CpuStorage::F32(values)) => Ok(values),
        Ok(_) => Err(Error::Internal { reason: "candle dequantized to another type than f32".into() }),
        Err(error) => Err(Error::Internal { reason: error.to_string() }),
    }
}

/// `out[m][rows] = x[m][cols] · wᵀ + bias`, as [`super::linear`].
///
/// Errors: as [`dequantize`].
pub fn linear(x: &[f32], w: Matrix, bias: Option<&[f32]>) -> Result<Vec<f64>> {
    let weights = dequantize(w)?;
    let mut out = Vec::with_capacity(x.len() / w.cols * w.rows);
    for x in x.chunks_exact(w.cols) {
        for (row, weights) in weights.chunks_exact(w.cols).enumerate() {
            let dot: f64 = x.iter().zip(weights).map(|(&x, &w)| f64::from(x) * f64::from(w)).sum();
            out.push(dot + bias.map_or(0.0, |bias| f64::from(bias[row])));
        }
    }
    Ok(out)
}
