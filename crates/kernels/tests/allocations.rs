//! Products allocate nothing once every thread has its buffers. Alone in this file: the allocator counts for all threads.

use std::alloc::System;

use headwise_kernels::matmul::{GgmlDType, Matrix, Product, linear_all};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Formats, one with padded rows, and columns.
const WEIGHTS: [(GgmlDType, usize); 5] = [
    (GgmlDType::Q4K, 1536),
    (GgmlDType::Q6K, 1536),
    (GgmlDType::Q8_0, 576),
    (GgmlDType::Q4_1, 576),
    (GgmlDType::F16, 1000),
];
const ROWS: [usize; 3] = [576, 192, 193];
const MOST: usize = 512;

/// Output of every weight.
type Out = [Vec<f32>; 3];

fn outs() -> Out {
    ROWS.map(|rows| vec![0.0; MOST * rows])
}

#[test]
fn products_of_any_number_of_rows_allocate_nothing() {
    let x = vec![0.5; MOST * 1536];
    let data =
        WEIGHTS.map(|(dtype, cols)| ROWS.map(|rows| vec![0x1b; rows * cols / dtype.block_size() * dtype.type_size()]));
    let step = |m: usize, [first, second, third]: &mut Out| {
        for (&(dtype, cols), data) in WEIGHTS.iter().zip(&data) {
            let w = |i: usize| Matrix::new(&data[i], dtype, ROWS[i], cols).unwrap();
            let mut products = [
                Product { out: &mut first[..m * ROWS[0]], w: w(0), bias: None },
                Product { out: &mut second[..m * ROWS[1]], w: w(1), bias: Some(&x[..ROWS[1]]) },
                Product { out: &mut third[..m * ROWS[2]], w: w(2), bias: None },
            ];
            linear_all(&x[..m * cols], &mut products).unwrap();
        }
    };
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        // Every thread calls and takes part once; which ones take part in the steps below is up to chance.
        pool.broadcast(|_| step(MOST, &mut outs()));
        pool.install(|| {
            let mut out = outs();
            let region = Region::new(ALLOCATOR);
            (1..=64).chain([200, MOST]).for_each(|m| step(m, &mut out));
            let change = region.change();
            assert_eq!(change.allocations + change.reallocations, 0, "{threads} threads");
        });
    }
}
