//! Products with weights: every format for one row (decode), eight (a batch of sessions) and 512 (a prefill chunk), and all layers
//! of a 135M-parameter Llama (30 layers, width 576, Q4_1) for one token and for eight.

#![allow(missing_docs, reason = "a program")]

mod roofline;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use headwise_kernels::matmul::{GgmlDType, Matrix, Product, linear, linear_all};
use roofline::{Group, Work};

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

/// Weights that no cache holds.
const MEMORY: usize = 128 << 20;

/// Any bytes are weights; these make every scale an ordinary small number.
const BYTE: u8 = 0x1b;

fn bytes(dtype: GgmlDType, rows: usize, cols: usize) -> usize {
    rows * cols / dtype.block_size() * dtype.type_size()
}

fn formats(criterion: &mut Criterion) {
    let (rows, cols) = (4096, 1536);
    let memory = vec![BYTE; MEMORY];
    for (m, milliseconds) in [(1, 250), (8, 250), (512, 700)] {
        let mut group = Group::new(criterion, &format!("linear, {m} x 1536 times 1536 x 4096"), 10, milliseconds);
        let x = vec![0.5; m * cols];
        let mut out = vec![0.0; m * rows];
        for dtype in DTYPES {
            let bytes = bytes(dtype, rows, cols);
            // One weight after another, so that each comes from memory.
            let mut weights = memory.chunks_exact(bytes).cycle();
            group.bench(&format!("{dtype:?}"), Work { bytes, operations: 2 * m * rows * cols }, || {
                let data = weights.next().expect("at least one weight fits");
                let w = Matrix::new(data, dtype, rows, cols).expect("the bytes fit the shape");
                linear(black_box(&mut out), &x, w, None).expect("the shapes agree");
            });
        }
        group.finish();
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
            let weight = |cols, rows| vec![BYTE; bytes(dtype, rows, cols)];
            STEPS.iter().flat_map(|&(cols, rows)| rows.iter().map(move |&rows| weight(cols, rows))).collect()
        })
        .collect();
    let bytes = layers.iter().flatten().map(Vec::len).sum();
    let weights: usize = STEPS.iter().map(|(cols, rows)| cols * rows.iter().sum::<usize>()).sum();
    let mut group = Group::new(criterion, "linear_all, the layers of SmolLM2-135M in Q4_1", 20, 800);
    for m in [1, 8] {
        let x = vec![0.5; m * INNER];
        group.bench(&format!("{m} x"), Work { bytes, operations: 2 * m * 30 * weights }, || {
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
    }
    group.finish();
}

criterion_group!(benches, formats, token);
criterion_main!(benches);
