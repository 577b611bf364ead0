//! Products with weights: every format for one row (decode), eight (a batch of sessions) and 512 (a prefill chunk), and all layers
//! of a 135M-parameter Llama (30 layers, width 576, Q4_1) for one token.
//!
//! The rate is that of weight bytes for few rows and of floating-point operations, two per weight and row, for many.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use headwise_kernels::matmul::{GgmlDType, Matrix, Product, linear, linear_all};

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

/// Any bytes are weights; these make every scale an ordinary small number.
fn weight(dtype: GgmlDType, rows: usize, cols: usize) -> Vec<u8> {
    vec![0x1b; rows * cols / dtype.block_size() * dtype.type_size()]
}

fn formats(criterion: &mut Criterion) {
    let (rows, cols) = (4096, 1536);
    for m in [1, 8, 512] {
        let mut group = criterion.benchmark_group(format!("linear/{m}"));
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(10);
        let x = vec![0.5; m * cols];
        let mut out = vec![0.0; m * rows];
        for dtype in DTYPES {
            let data = weight(dtype, rows, cols);
            let w = Matrix::new(&data, dtype, rows, cols).expect("the bytes fit the shape");
            let operations = (2 * m * rows * cols) as u64;
            group.throughput(if m < 16 {
                Throughput::Bytes(data.len() as u64)
            } else {
                Throughput::Elements(operations)
            });
            group.bench_function(BenchmarkId::from_parameter(format!("{dtype:?}")), |bencher| {
                bencher.iter(|| linear(black_box(&mut out), &x, w, None).expect("the shapes agree"));
            });
        }
    }
}

fn token(criterion: &mut Criterion) {
    const WIDTH: usize = 576;
    const INNER: usize = 1536;
    /// What is multiplied at once: query, key and value; the attention's output; gate and up; down.
    const STEPS: [(usize, &[usize]); 4] =
        [(WIDTH, &[576, 192, 192]), (WIDTH, &[576]), (WIDTH, &[INNER; 2]), (INNER, &[576])];
    let dtype = GgmlDType::Q4_1;
    let layers: Vec<Vec<Vec<u8>>> = (0..30)
        .map(|_| {
            STEPS.iter().flat_map(|&(cols, rows)| rows.iter().map(move |&rows| weight(dtype, rows, cols))).collect()
        })
        .collect();
    let mut group = criterion.benchmark_group("llama-135m/layers");
    group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(2)).sample_size(20);
    for m in [1, 8] {
        let x = vec![0.5; m * INNER];
        group.throughput(Throughput::Bytes(layers.iter().flatten().map(|data| data.len() as u64).sum()));
        group.bench_function(BenchmarkId::from_parameter(m), |bencher| {
            bencher.iter(|| {
                for layer in &layers {
                    let mut weights = layer.iter();
                    for (cols, rows) in STEPS {
                        let mut out: Vec<Vec<f32>> = rows.iter().map(|rows| vec![0.0; m * rows]).collect();
                        let mut products: Vec<_> = (out.iter_mut().zip(rows).zip(&mut weights))
                            .map(|((out, &rows), data)| {
                                let w = Matrix::new(data, dtype, rows, cols).expect("the bytes fit the shape");
                                Product { out, w, bias: None }
                            })
                            .collect();
                        linear_all(&x[..m * cols], &mut products).expect("the shapes agree");
                        black_box(&out);
                    }
                }
            });
        });
    }
}

criterion_group!(benches, formats, token);
criterion_main!(benches);
