//! Random histories of a cache and its forks against plain vectors.

use std::collections::HashSet;
use std::sync::Arc;

use half::{bf16, f16};
use headwise_cache::{BlockLayout, BlockPool, KvCache};
use headwise_core::{Codec, Error, KvShape, Ragged, Selection};
use headwise_kernels::Block;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// What a slot must read as: its position, the bytes of its key, the bytes of its value.
type Slot = (u32, Vec<u8>, Vec<u8>);

/// A cache and the plain vectors `[layer][head][slot]` that it must equal.
struct Pair {
    cache: KvCache,
    model: Vec<Vec<Vec<Slot>>>,
    next: Vec<u32>,
}

/// The bytes of a row.
fn stored(codec: Codec, numbers: &[f32]) -> Vec<u8> {
    let numbers = numbers.iter();
    match codec {
        Codec::F32 => numbers.flat_map(|x| x.to_ne_bytes()).collect(),
        Codec::Bf16 => numbers.flat_map(|&x| bf16::from_f32_const(x).to_ne_bytes()).collect(),
        Codec::F16 => numbers.flat_map(|&x| f16::from_f32_const(x).to_ne_bytes()).collect(),
        Codec::Int8 => {
            let largest = numbers.clone().fold(0.0f32, |largest, x| largest.max(x.abs()));
            let near = largest / 127.0;
            let enough = |scale: &f32| f64::from(*scale) * 127.0 >= f64::from(largest);
            let scale = [near.next_down(), near, near.next_up()].into_iter().find(enough).unwrap();
            numbers.map(|x| (x / scale).round_ties_even() as i8 as u8).chain(scale.to_ne_bytes()).collect()
        }
    }
}

fn content(cache: &KvCache) -> Vec<Vec<Vec<Slot>>> {
    let KvShape { layers, kv_heads, .. } = cache.shape();
    let slots = |layer, head| {
        let view = cache.head(layer, head);
        let rows = |half: fn(&headwise_cache::HeadView<'_, headwise_cache::BlockHandle>, usize) -> Vec<u8>| {
            let bytes: Vec<u8> = (0..view.block_count()).flat_map(|block| half(&view, block)).collect();
            bytes.chunks(view.layout.row_bytes()).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let (keys, values) = (rows(|v, b| v.keys(b).to_vec()), rows(|v, b| v.values(b).to_vec()));
        assert_eq!((keys.len(), view.len), (cache.len(layer, head), cache.len(layer, head)));
        let positions = cache.positions(layer, head).iter().copied();
        positions.zip(keys).zip(values).map(|((p, k), v)| (p, k, v)).collect()
    };
    (0..layers).map(|layer| (0..kv_heads).map(|head| slots(layer, head)).collect()).collect()
}

impl Pair {
    fn new(pool: &Arc<BlockPool>, shape: KvShape) -> Self {
        let cache = KvCache::new(pool.clone(), shape).unwrap();
        Self { cache, model: vec![vec![vec![]; shape.kv_heads]; shape.layers], next: vec![0; shape.layers] }
    }

    fn fork(&self) -> Self {
        Self { cache: self.cache.fork(), model: self.model.clone(), next: self.next.clone() }
    }

    fn check(&self) {
        assert!(content(&self.cache) == self.model, "the cache differs from its model");
        assert_eq!(self.cache.next_position(), *self.next.iter().min().unwrap());
        let slots: usize = self.model.iter().flatten().map(Vec::len).sum();
        assert_eq!(self.cache.logical_bytes(), slots * self.cache.shape().slot_bytes(self.cache.pool().layout().codec));
        let layout = self.cache.pool().layout();
        let blocks: usize = self.model.iter().flatten().map(|head| layout.blocks_for(head.len())).sum();
        assert_eq!(self.cache.physical_bytes(), blocks * self.cache.pool().block_bytes());
    }

    /// One random change. A refused one must be a refusal by the limit, and change nothing (which `check` sees).
    fn step(&mut self, rng: &mut StdRng) -> Result<(), Error> {
        let KvShape { layers, kv_heads, head_dim, .. } = self.cache.shape();
        let codec = self.cache.pool().layout().codec;
        let layer = rng.random_range(0..layers);
        match rng.random_range(0..20) {
            0..10 => {
                let rows = *[0, 1, 1, 1, 2, 5, 17].choose(rng).unwrap();
                let first = self.next[layer] + if rng.random_bool(0.1) { 3 } else { 0 };
                let mut numbers =
                    || -> Vec<f32> { (0..rows * kv_heads * head_dim).map(|_| rng.random_range(-9.0..9.0)).collect() };
                let (keys, values) = (numbers(), numbers());
                self.cache.append(layer, &keys, &values, first)?;
                for row in 0..rows {
                    for head in 0..kv_heads {
                        let at = (row * kv_heads + head) * head_dim;
                        let part = |all: &[f32]| stored(codec, &all[at..at + head_dim]);
                        self.model[layer][head].push((first + row as u32, part(&keys), part(&values)));
                    }
                    self.next[layer] = first + row as u32 + 1;
                }
            }
            10..16 => {
                let kind = rng.random_range(0..5);
                let keep = Ragged::from_rows(self.model[layer].iter().map(|slots| {
                    let len = slots.len() as u32;
                    let (a, b) = (rng.random_range(0..=len), rng.random_range(0..=len));
                    match kind {
                        0 => (0..a).collect(),
                        1 => (0..a.min(b)).chain(a.max(b)..len).collect(),
                        2 => (0..len).collect(),
                        3 => (0..len).filter(|_| rng.random_bool(0.9)).collect::<Vec<_>>(),
                        _ => (0..len).filter(|_| rng.random_bool(0.3)).collect(),
                    }
                }));
                let selection = Selection::new(keep, &self.cache.lengths(layer)).unwrap();
                self.cache.compact(layer, &selection)?;
                for (head, slots) in self.model[layer].iter_mut().enumerate() {
                    *slots = selection.head(head).iter().map(|&slot| slots[slot as usize].clone()).collect();
                }
            }
            16..19 => {
                let position = rng.random_range(0..=self.next.iter().max().unwrap() + 2);
                self.cache.truncate(position);
                self.model.iter_mut().flatten().for_each(|slots| slots.retain(|slot| slot.0 < position));
                self.next.iter_mut().for_each(|next| *next = position.min(*next));
            }
            _ => {
                if rng.random_bool(0.3) {
                    self.cache.clear();
                    self.model.iter_mut().flatten().for_each(Vec::clear);
                    self.next.fill(0);
                }
                self.cache.pool().trim();
            }
        }
        Ok(())
    }
}

fn random_pool(rng: &mut StdRng) -> (Arc<BlockPool>, KvShape) {
    let codec = *[Codec::F32, Codec::Bf16, Codec::F16, Codec::Int8].choose(rng).unwrap();
    let head_dim = *[1, 3, 8, 40, 64].choose(rng).unwrap();
    let slots = *[1, 2, 4, 7, 32].choose(rng).unwrap();
    let layout = BlockLayout { codec, head_dim, slots };
    let blocks = rng.random_bool(0.5).then(|| rng.random_range(4..60));
    let limit = blocks.map(|blocks| blocks * layout.bytes().next_multiple_of(64));
    let shape = KvShape { layers: rng.random_range(1..4), kv_heads: rng.random_range(1..4), group: 1, head_dim };
    (BlockPool::new(layout, limit).unwrap(), shape)
}

#[test]
fn random_histories_of_forks_equal_plain_vectors() {
    let mut refused = 0;
    for seed in 0..1500 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let (pool, shape) = random_pool(rng);
        let mut pairs = vec![Pair::new(&pool, shape)];
        for _ in 0..40 {
            let chosen = rng.random_range(0..pairs.len());
            match rng.random_range(0..8) {
                0 if pairs.len() < 5 => pairs.push(pairs[chosen].fork()),
                1 if pairs.len() > 1 => drop(pairs.swap_remove(chosen)),
                _ => match pairs[chosen].step(rng) {
                    Err(Error::KvBudgetExceeded { held, limit, requested }) => {
                        assert_eq!((held, Some(limit)), (pool.held_bytes(), pool.limit_bytes()), "seed {seed}");
                        assert!(held + requested > limit, "seed {seed}");
                        refused += 1;
                    }
                    other => other.unwrap(),
                },
            }
            assert!(pool.limit_bytes().is_none_or(|limit| pool.held_bytes() <= limit), "seed {seed}");
            pairs.iter().for_each(Pair::check);
            // Who holds a block, from the addresses that kernels see.
            let addresses = |pair: &Pair| -> Vec<usize> {
                let heads = (0..shape.layers).flat_map(|layer| pair.cache.heads(layer));
                heads.flat_map(|head| head.blocks.iter().map(|b| b.bytes().as_ptr() as usize)).collect()
            };
            let all: Vec<usize> = pairs.iter().flat_map(addresses).collect();
            let union: HashSet<usize> = all.iter().copied().collect();
            assert_eq!(pool.held_bytes(), union.len() * pool.block_bytes(), "seed {seed}");
            for pair in &pairs {
                let own = addresses(pair);
                let shared = own.iter().filter(|a| all.iter().filter(|b| b == a).count() > 1).count();
                assert_eq!(pair.cache.shared_bytes(), shared * pool.block_bytes(), "seed {seed}");
            }
        }
        drop(pairs);
        assert_eq!(pool.held_bytes(), 0, "seed {seed}");
        pool.trim();
        assert_eq!(pool.mapped_bytes(), 0, "seed {seed}");
    }
    assert!(refused > 100, "the limit was met only {refused} times");
}

#[test]
fn forks_may_change_on_different_threads_at_once() {
    for seed in 0..20 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let layout = BlockLayout { codec: Codec::F16, head_dim: 8, slots: 4 };
        let pool = BlockPool::new(layout, None).unwrap();
        let mut first = Pair::new(&pool, KvShape { layers: 2, kv_heads: 2, group: 1, head_dim: 8 });
        (0..30).for_each(|_| first.step(rng).unwrap());
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut pair = first.fork();
                scope.spawn(move || {
                    let rng = &mut StdRng::seed_from_u64(1000 * seed + thread);
                    for _ in 0..100 {
                        pair.step(rng).unwrap();
                        pair.check();
                    }
                });
            }
        });
        first.check();
        assert_eq!(first.cache.shared_bytes(), 0);
        drop(first);
        assert_eq!(pool.held_bytes(), 0);
    }
}
