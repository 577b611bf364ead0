//! Attention, decode and prefill. `HEADWISE_SIMD=baseline|avx2` measures a lower instruction set.

#![allow(missing_docs, reason = "a program")]

mod common;
mod roofline;

use std::sync::LazyLock;

use common::{SMOLLM2, cache_in, compacted_cache, noise, spread};
use criterion::{Criterion, criterion_group, criterion_main};
use headwise_cache::KvCache;
use headwise_core::{Codec, KvShape};
use headwise_kernels::attend::{ColumnReduce, Columns, Job, Query, attend, attend_batch};
use roofline::{Group, Work};

/// A layer of a model with 8B parameters.
const WIDE: KvShape = KvShape { layers: 1, kv_heads: 8, group: 4, head_dim: 128 };

/// The codecs that are measured, and what their benches are called.
const CODECS: [(Codec, &str); 2] = [(Codec::F16, ""), (Codec::Int8, ", int8")];

/// Query rows that see `slots` slots in all, in every KV head: each number of K and V is multiplied and added once per query.
fn work(shape: KvShape, codec: Codec, slots_seen: usize, slots_stored: usize) -> Work {
    Work { bytes: slots_stored * shape.slot_bytes(codec), operations: slots_seen * shape.group * shape.head_dim * 4 }
}

/// Attention of one token in every layer of `cache`.
fn step(cache: &KvCache, q: &[f32], out: &mut [f32]) {
    let scale = (cache.shape().head_dim as f32).sqrt().recip();
    for layer in 0..cache.shape().layers {
        attend(q, 1, &cache.heads(layer).collect::<Vec<_>>(), None, scale, out).expect("valid");
    }
}

fn decode(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "decode attention, all layers of SmolLM2-135M", 20, 600);
    let row = SMOLLM2.query_heads() * SMOLLM2.head_dim;
    let (q, mut out) = (noise(row), vec![0.0; row]);
    for len in [128, 790, 2048, 7900] {
        for (codec, name) in CODECS {
            let cache = LazyLock::new(|| cache_in(codec, SMOLLM2, len));
            let slots = SMOLLM2.layers * SMOLLM2.kv_heads * len;
            let work = work(SMOLLM2, codec, slots, slots);
            group.bench(&format!("{len} slots{name}"), work, || step(&cache, &q, &mut out));
        }
    }
    let lengths = spread(SMOLLM2.kv_heads, SMOLLM2.kv_heads * 790, 10.0);
    let cache = LazyLock::new(|| compacted_cache(SMOLLM2, 7900, &lengths));
    let slots = SMOLLM2.layers * SMOLLM2.kv_heads * 790;
    let name = "790 slots on average, 10-fold between heads";
    group.bench(name, work(SMOLLM2, Codec::F16, slots, slots), || step(&cache, &q, &mut out));
    group.finish();
}

fn decode_wide(criterion: &mut Criterion) {
    let mut group = Group::new(criterion, "decode attention, 8 KV heads, group 4, d 128", 20, 800);
    let row = WIDE.query_heads() * WIDE.head_dim;
    let (q, mut out) = (noise(row), vec![0.0; row]);
    let slots = WIDE.kv_heads * (32 << 10);
    for (codec, name) in CODECS {
        let even = LazyLock::new(|| cache_in(codec, WIDE, 32 << 10));
        group.bench(&format!("32768 slots{name}"), work(WIDE, codec, slots, slots), || step(&even, &q, &mut out));
    }
    let ragged = LazyLock::new(|| {
        let lengths = spread(WIDE.kv_heads, slots, 100.0);
        compacted_cache(WIDE, lengths[WIDE.kv_heads - 1], &lengths)
    });
    let name = "32768 slots on average, 100-fold between heads";
    group.bench(name, work(WIDE, Codec::F16, slots, slots), || step(&ragged, &q, &mut out));
    group.finish();
}

fn prefill(criterion: &mut Criterion) {
    const ROWS: usize = 512;
    let one_layer = |shape: KvShape| KvShape { layers: 1, ..shape };
    for (name, shape, lengths) in [
        ("one layer of SmolLM2-135M", one_layer(SMOLLM2), &[512, 2048, 7900][..]),
        ("8 KV heads, group 4, d 128", WIDE, &[2048]),
    ] {
        let mut group = Group::new(criterion, &format!("prefill attention, 512 rows, {name}"), 10, 1000);
        let row = shape.query_heads() * shape.head_dim;
        let (q, mut out) = (noise(ROWS * row), vec![0.0; ROWS * row]);
        let scale = (shape.head_dim as f32).sqrt().recip();
        for &len in lengths {
            // The last row sees `len` slots, each row before it one less.
            let seen = shape.kv_heads * ROWS * (2 * len + 1 - ROWS) / 2;
            for (codec, name) in CODECS {
                let cache = LazyLock::new(|| cache_in(codec, shape, len));
                group.bench(&format!("{len} slots{name}"), work(shape, codec, seen, shape.kv_heads * len), || {
                    attend(&q, ROWS, &cache.heads(0).collect::<Vec<_>>(), None, scale, &mut out).expect("valid");
                });
            }
            let cache = LazyLock::new(|| cache_in(Codec::F16, shape, len));
            let mut sums = vec![0.0; shape.query_heads() * len];
            let work = work(shape, Codec::F16, seen, shape.kv_heads * len);
            group.bench(&format!("{len} slots, with running sums"), work, || {
                let heads: Vec<_> = cache.heads(0).collect();
                let query = Query { q: &q, rows: ROWS, heads: &heads, bias: None, scale };
                attend_batch(&mut [Job {
                    query,
                    out: &mut out,
                    columns: Some(Columns { reduce: ColumnReduce::Sum, out: &mut sums, factors: None }),
                }])
                .expect("valid");
            });
        }
        group.finish();
    }
}

criterion_group!(benches, decode, decode_wide, prefill);
criterion_main!(benches);
