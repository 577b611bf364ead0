//! Every format, shape, number of rows and instruction set against candle's weights in f64.

use candle_core::{
    Device, Tensor,
    quantized::{GgmlDType, QTensor},
};
use headwise_core::Error;

use super::{Matrix, Product, cpu, dequantize_row, linear, linear_all, linear_at, reference};
use crate::simd::Level;

const DTYPES: [GgmlDType; 15] = [
    GgmlDType::F32,
    GgmlDType::F16,
    GgmlDType::BF16,
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q5_1,
    GgmlDType::Q8_0,
    GgmlDType::Q8_1,
    GgmlDType::Q2K,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
    GgmlDType::Q8K,
];

/// Numbers in −1 .. 1 from a linear congruential generator.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
    .take(count)
    .collect()
}

/// Noise that candle quantizes. The magnitude differs from row to row.
fn weight(dtype: GgmlDType, rows: usize, cols: usize) -> Vec<u8> {
    let mut values = noise(rows * cols, 7 + rows as u64);
    values
        .chunks_mut(cols)
        .enumerate()
        .for_each(|(i, row)| row.iter_mut().for_each(|v| *v *= (1 + i % 5) as f32 * 0.1));
    let tensor = Tensor::from_vec(values, (rows, cols), &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, dtype).unwrap().data().unwrap().into_owned()
}

fn shapes(dtype: GgmlDType) -> Vec<(usize, usize)> {
    match dtype.block_size() {
        1 => vec![(1, 1), (3, 31), (37, 33), (5, 1056), (35, 1100)],
        32 => vec![(1, 32), (3, 96), (37, 160), (9, 1056), (33, 2080)],
        block => vec![(1, block), (37, 3 * block), (9, 5 * block)],
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn run(level: Level, x: &[f32], w: Matrix, bias: Option<&[f32]>) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len() / w.cols() * w.rows()];
    linear_at(level, x, &mut [Product { out: &mut out, w, bias }]).unwrap();
    out
}

fn on_threads<T: Send>(threads: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

#[test]
fn products_equal_the_reference_for_every_format_shape_row_count_and_level() {
    for dtype in DTYPES {
        for (rows, cols) in shapes(dtype) {
            let data = weight(dtype, rows, cols);
            let w = Matrix::new(&data, dtype, rows, cols).unwrap();
            let bias = noise(rows, 3);
            let weights = reference::dequantize(w).unwrap();
            for m in [1, 2, 3, 5, 8, 9, 33, 130] {
                let x = noise(m * cols, m as u64);
                for bias in [None, Some(&bias[..])] {
                    let want = reference::linear(&x, w, bias).unwrap();
                    for level in Level::available() {
                        let got = run(level, &x, w, bias);
                        assert_eq!(got.len(), want.len());
                        for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                            // Rounding is bounded by the length of the longest chain of additions times Σ |x·w|.
                            let (x, w) = (&x[i / rows * cols..][..cols], &weights[i % rows * cols..][..cols]);
                            let size: f64 = x.iter().zip(w).map(|(x, w)| f64::from((x * w).abs())).sum::<f64>() + 1.0;
                            let chain = (1024.min(cols) / 16 + 8 + cols / 1024) as f64;
                            let error = (f64::from(*got) - want).abs();
                            assert!(
                                error <= chain * size * 2f64.powi(-24),
                                "{dtype:?} [{rows}, {cols}] m = {m} {level:?} out[{i}]: {got} instead of {want}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_alone_in_a_batch_and_in_a_chunk_gets_the_same_bits() {
    for dtype in DTYPES {
        for (rows, cols) in shapes(dtype) {
            let data = weight(dtype, rows, cols);
            let w = Matrix::new(&data, dtype, rows, cols).unwrap();
            let x = noise(133 * cols, 11);
            for level in Level::available() {
                let alone: Vec<f32> = x.chunks(cols).flat_map(|x| run(level, x, w, None)).collect();
                for m in [2, 3, 7, 17, 129, 133] {
                    let together = run(level, &x[..m * cols], w, None);
                    let same = bits(&together) == bits(&alone[..m * rows]);
                    assert!(same, "{dtype:?} [{rows}, {cols}] m = {m} {level:?}");
                }
            }
        }
    }
}

#[test]
fn any_number_of_rows_gives_the_bits_of_a_prefill_chunk() {
    for dtype in DTYPES {
        let (rows, cols) = (67, if dtype.block_size() == 256 { 1536 } else { 1120 });
        let data = weight(dtype, rows, cols);
        let w = Matrix::new(&data, dtype, rows, cols).unwrap();
        let bias = noise(rows, 3);
        let x = noise(140 * cols, 13);
        for level in Level::available() {
            let chunk = bits(&run(level, &x, w, Some(&bias)));
            for m in 1..=32 {
                for first in [0, 107] {
                    let few = run(level, &x[first * cols..(first + m) * cols], w, Some(&bias));
                    assert!(bits(&few) == chunk[first * rows..(first + m) * rows], "{dtype:?} m = {m} {level:?}");
                }
            }
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for dtype in [GgmlDType::Q4_1, GgmlDType::Q6K, GgmlDType::BF16] {
        let (rows, cols) = (203, 1536);
        let data = weight(dtype, rows, cols);
        let w = Matrix::new(&data, dtype, rows, cols).unwrap();
        for m in [1, 3, 150] {
            let x = noise(m * cols, 5);
            let one = on_threads(1, || run(Level::detect(), &x, w, None));
            for threads in [2, 4] {
                let many = on_threads(threads, || run(Level::detect(), &x, w, None));
                assert!(bits(&one) == bits(&many), "{dtype:?} m = {m}, {threads} threads");
            }
        }
    }
}

#[test]
fn a_dequantized_row_has_the_bits_of_candle_on_every_level() {
    for dtype in DTYPES {
        for (rows, cols) in shapes(dtype) {
            let data = weight(dtype, rows, cols);
            let w = Matrix::new(&data, dtype, rows, cols).unwrap();
            let want = reference::dequantize(w).unwrap();
            for (row, want) in want.chunks(cols).enumerate() {
                for level in Level::available() {
                    let mut got = vec![f32::NAN; cols];
                    cpu::dequantize(level, w, row, &mut got);
                    assert!(bits(&got) == bits(want), "{dtype:?} [{rows}, {cols}] row {row} {level:?}");
                }
            }
        }
    }
}

#[test]
fn arbitrary_block_bytes_are_read_as_candle_reads_them() {
    for dtype in DTYPES {
        let cols = dtype.block_size().max(32);
        let rows = 200;
        let mut data: Vec<u8> = noise(rows * cols / dtype.block_size() * dtype.type_size(), 23)
            .iter()
            .map(|v| (v.to_bits() >> 3) as u8)
            .collect();
        // Any bytes are a block, but a scale that is not a number has no bits to compare.
        if dtype.block_size() == 1 {
            data.iter_mut().for_each(|byte| *byte &= 0x3f);
        }
        let w = Matrix::new(&data, dtype, rows, cols).unwrap();
        for (row, want) in reference::dequantize(w).unwrap().chunks(cols).enumerate() {
            let mut got = vec![0.0; cols];
            dequantize_row(w, row, &mut got).unwrap();
            for (got, want) in got.iter().zip(want) {
                assert!(got == want || got.is_nan() && want.is_nan(), "{dtype:?} row {row}: {got} instead of {want}");
            }
        }
    }
}

#[test]
fn products_together_equal_products_alone() {
    let (q, k) = (weight(GgmlDType::Q4_1, 96, 160), weight(GgmlDType::Q8_0, 33, 160));
    let (q, k) =
        (Matrix::new(&q, GgmlDType::Q4_1, 96, 160).unwrap(), Matrix::new(&k, GgmlDType::Q8_0, 33, 160).unwrap());
    let bias = noise(33, 1);
    for m in [1, 6] {
        let x = noise(m * 160, 2);
        let (mut out_q, mut out_k) = (vec![0.0; m * 96], vec![0.0; m * 33]);
        let mut products =
            [Product { out: &mut out_q, w: q, bias: None }, Product { out: &mut out_k, w: k, bias: Some(&bias) }];
        linear_all(&x, &mut products).unwrap();
        assert_eq!(bits(&out_q), bits(&run(Level::detect(), &x, q, None)));
        assert_eq!(bits(&out_k), bits(&run(Level::detect(), &x, k, Some(&bias))));
    }
}

#[test]
fn no_rows_are_no_work() {
    let data = weight(GgmlDType::Q4_0, 2, 32);
    linear(&mut [], &[], Matrix::new(&data, GgmlDType::Q4_0, 2, 32).unwrap(), None).unwrap();
    linear(&mut [], &[0.0; 64], Matrix::new(&[], GgmlDType::Q4_0, 0, 32).unwrap(), None).unwrap();
    linear_all(&[1.0], &mut []).unwrap();
}

#[test]
fn wrong_lengths_are_refused_by_name() {
    let data = weight(GgmlDType::Q4_0, 2, 32);
    let new = |len: usize, rows, cols| Matrix::new(&data[..len], GgmlDType::Q4_0, rows, cols).map(|_| ());
    assert!(matches!(new(36, 2, 0), Err(Error::InvalidArgument { name, .. }) if name == "cols"));
    assert!(matches!(new(36, 2, 33), Err(Error::InvalidArgument { name, .. }) if name == "cols"));
    assert!(matches!(new(36, usize::MAX / 2, 32), Err(Error::InvalidArgument { name, .. }) if name == "rows"));
    assert!(
        matches!(new(35, 2, 32), Err(Error::ShapeMismatch { expected, got, .. }) if (&expected[..], &got[..]) == (&[36], &[35]))
    );

    let w = Matrix::new(&data, GgmlDType::Q4_0, 2, 32).unwrap();
    let mut out = [0.0; 4];
    let refused = |result| assert!(matches!(result, Err(Error::ShapeMismatch { .. })), "{result:?}");
    refused(linear(&mut out[..2], &[0.0; 33], w, None));
    refused(linear(&mut out[..3], &[0.0; 64], w, None));
    refused(linear(&mut out[..2], &[0.0; 31], w, None));
    refused(linear(&mut out[..2], &[0.0; 32], w, Some(&[0.0; 3])));
    refused(dequantize_row(w, 1, &mut [0.0; 31]));
    assert!(matches!(dequantize_row(w, 2, &mut [0.0; 32]), Err(Error::InvalidArgument { name, .. }) if name == "row"));
}
