//! Attention and the selection kernels at the sizes of SmolLM2-135M: 30 layers, 3 KV heads, 3 query heads each, 64 dimensions, f16.
//!
//! `HEADWISE_SIMD=baseline|avx2` measures a lower instruction set, `RAYON_NUM_THREADS` another number of threads.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use headwise_core::Codec;
use headwise_kernels::{BlockLayout, HeadView, Pool1d, RowReduce, Window, WindowScores, attend, key_norm, topk};
use std::hint::black_box;

const LAYERS: usize = 30;
const KV_HEADS: usize = 3;
const QUERY_HEADS: usize = 9;
const HEAD_DIM: usize = 64;
const SLOTS: usize = 2048;
const LAYOUT: BlockLayout = BlockLayout { codec: Codec::F16, head_dim: HEAD_DIM, slots: 64 };

/// Reproducible numbers in (-1, 1).
fn noise(n: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The blocks of every (layer, head).
fn cache() -> Vec<Vec<Vec<u8>>> {
    let numbers = noise(LAYOUT.bytes() / 2);
    let block: Vec<u8> = numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_ne_bytes()).collect();
    vec![vec![block; SLOTS / LAYOUT.slots]; LAYERS * KV_HEADS]
}

fn heads(cache: &[Vec<Vec<u8>>], layer: usize, len: usize) -> Vec<HeadView<'_, Vec<u8>>> {
    let layer = &cache[layer * KV_HEADS..][..KV_HEADS];
    layer.iter().map(|blocks| HeadView { layout: LAYOUT, blocks, len }).collect()
}

fn decode(c: &mut Criterion) {
    let cache = cache();
    let q = noise(QUERY_HEADS * HEAD_DIM);
    let mut out = vec![0.0; q.len()];
    let mut group = c.benchmark_group("attend, one token, all layers");
    for len in [128, 400, SLOTS] {
        group.throughput(Throughput::Bytes((LAYERS * KV_HEADS * len * 2 * LAYOUT.row_bytes()) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{len} slots")), |b| {
            b.iter(|| {
                for layer in 0..LAYERS {
                    attend(&q, 1, &heads(&cache, layer, len), None, 0.125, &mut out).expect("valid");
                }
            });
        });
    }
}

fn prefill(c: &mut Criterion) {
    let cache = cache();
    let rows = 512;
    let q = noise(rows * QUERY_HEADS * HEAD_DIM);
    let mut out = vec![0.0; q.len()];
    let mut group = c.benchmark_group("attend, 512 rows, one layer");
    group.sample_size(20);
    for len in [512, SLOTS] {
        // Multiplications and additions of Q·K and of P·V over the slots that the rows see, in "elements".
        let seen = rows * (2 * len - rows + 1) / 2;
        group.throughput(Throughput::Elements((seen * QUERY_HEADS * HEAD_DIM * 4) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{len} slots")), |b| {
            b.iter(|| attend(&q, rows, &heads(&cache, 0, len), None, 0.125, &mut out).expect("valid"));
        });
    }
}

fn selection(c: &mut Criterion) {
    let cache = cache();
    let head = heads(&cache, 0, SLOTS)[0];
    let mut group = c.benchmark_group("selection, one KV head of 2048 slots");
    let queries = noise(32 * QUERY_HEADS * HEAD_DIM);
    let rows: Vec<u32> = (SLOTS as u32 - 32..SLOTS as u32).collect();
    let slots: Vec<u32> = (0..SLOTS as u32).collect();
    let window = Window { queries: &queries, positions: &rows, query_heads: QUERY_HEADS, scale: 0.125 };
    let kernel = WindowScores { rows: RowReduce::Mean };
    group.bench_function("window_scores, 32 rows", |b| {
        b.iter(|| kernel.run(black_box(&window), 0, KV_HEADS, head, &slots).expect("valid"));
    });
    let scores = noise(SLOTS);
    let ahead = Pool1d::LookAhead { span: 24, decay: 0.9 };
    group.bench_function("look-ahead pooling", |b| b.iter(|| ahead.run(black_box(&scores)).expect("valid")));
    group.bench_function("key_norm", |b| b.iter(|| key_norm(black_box(head)).expect("valid")));
    group.bench_function("topk", |b| b.iter(|| topk(black_box(&scores), SLOTS / 5).expect("valid")));
}

criterion_group!(benches, decode, prefill, selection);
criterion_main!(benches);
