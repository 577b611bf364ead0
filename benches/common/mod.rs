//! What the benches run on: noise, and caches that were filled with it.

#![allow(dead_code, reason = "each bench uses its own part")]

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, KvShape, Ragged, Selection};

/// The shape of SmolLM2-135M: 30 layers, 3 KV heads of 64 numbers, 3 query heads each.
pub const SMOLLM2: KvShape = KvShape { layers: 30, kv_heads: 3, group: 3, head_dim: 64 };

/// Reproducible numbers in (-1, 1).
pub fn noise(n: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// An f16 cache with so many slots of noise in every head.
pub fn cache(shape: KvShape, slots: usize) -> KvCache {
    cache_in(Codec::F16, shape, slots)
}

/// The same in another codec.
pub fn cache_in(codec: Codec, shape: KvShape, slots: usize) -> KvCache {
    let pool = BlockPool::new(block_layout(shape.head_dim, codec), None).expect("a layout");
    let mut cache = KvCache::new(pool, shape).expect("a shape");
    let row = shape.kv_heads * shape.head_dim;
    let numbers = noise(512 * row);
    for layer in 0..shape.layers {
        for first in (0..slots).step_by(512) {
            let rows = &numbers[..(slots - first).min(512) * row];
            cache.append(layer, rows, rows, first as u32).expect("memory");
        }
    }
    cache
}

/// The same after a compaction that left every layer with `lengths[head]` slots.
pub fn compacted_cache(shape: KvShape, slots: usize, lengths: &[usize]) -> KvCache {
    let mut cache = cache(shape, slots);
    // Evenly spaced survivors.
    let survivors = |&length: &usize| (0..length).map(|i| (i * slots / length) as u32).collect();
    let kept = Ragged::from_rows(lengths.iter().map(survivors));
    let selection = Selection::new(kept, &vec![slots; lengths.len()]).expect("ascending slots");
    cache.compact_all(&vec![selection; shape.layers]).expect("memory");
    cache.pool().trim();
    cache
}

/// Lengths of `heads` heads that grow geometrically, the last `ratio` times the first, and add up to `total`.
pub fn spread(heads: usize, total: usize, ratio: f64) -> Vec<usize> {
    let weight = |head: usize| ratio.powf(head as f64 / (heads - 1) as f64);
    let sum: f64 = (0..heads).map(weight).sum();
    let mut lengths: Vec<usize> = (0..heads).map(|head| (total as f64 * weight(head) / sum) as usize).collect();
    lengths[heads - 1] += total - lengths.iter().sum::<usize>();
    lengths
}
