//! Cuts that close the gaps, against plain vectors.

use headwise_cache::{BlockLayout, BlockPool, KvCache};
use headwise_core::{Codec, Error, KvShape, Ragged, Rotation, Selection};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const LAYOUT: BlockLayout = BlockLayout { codec: Codec::F32, head_dim: 2, slots: 4 };

/// Turning adds the position to the first number, so that a key whose second number is its token shows where it is turned to.
#[derive(Debug)]
struct Adding;

impl Rotation for Adding {
    fn push_angles(&self, position: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        cos.push(0.0);
        sin.push(position as f32);
    }

    fn rotate(&self, row: &mut [f32], _: &[f32], sin: &[f32]) {
        row.chunks_exact_mut(2).for_each(|head| head[0] += sin[0]);
    }
}

/// A cache and its `[layer][head][slot]` of (token, rotary position).
struct Pair {
    cache: KvCache,
    model: Vec<Vec<Vec<(u32, u32)>>>,
    /// The next token, and where it is turned to.
    next: (u32, u32),
}

impl Pair {
    fn fork(&self) -> Self {
        Self { cache: self.cache.fork(), model: self.model.clone(), next: self.next }
    }

    fn append(&mut self, rows: u32) -> Result<(), Error> {
        let KvShape { layers, kv_heads, .. } = self.cache.shape();
        let tokens: Vec<(u32, u32)> = (0..rows).map(|row| (self.next.0 + row, self.next.1 + row)).collect();
        assert_eq!(self.cache.next_rotary_position(), self.next.1);
        let keys: Vec<f32> = tokens.iter().flat_map(|&(t, r)| [r as f32, t as f32].repeat(kv_heads)).collect();
        let values: Vec<f32> = tokens.iter().flat_map(|&(t, _)| [t as f32, 0.5].repeat(kv_heads)).collect();
        for layer in 0..layers {
            if let Err(error) = self.cache.append(layer, &keys, &values, self.next.0) {
                self.cache.truncate(self.next.0);
                return Err(error);
            }
        }
        self.model.iter_mut().flatten().for_each(|slots| slots.extend(&tokens));
        self.next = (self.next.0 + rows, self.next.1 + rows);
        Ok(())
    }

    fn cut(&mut self, rng: &mut StdRng) -> Result<(), Error> {
        let keep = *[0.0, 0.3, 0.9, 1.0].choose(rng).unwrap();
        let selections: Vec<Selection> = self
            .model
            .iter()
            .enumerate()
            .map(|(layer, heads)| {
                let mut kept = |len| (0..len as u32).filter(|_| rng.random_bool(keep)).collect();
                let rows = Ragged::from_rows(heads.iter().map(|slots| kept(slots.len())).collect::<Vec<Vec<u32>>>());
                Selection::new(rows, &self.cache.lengths(layer)).unwrap()
            })
            .collect();
        self.cache.renumber_all(&selections, &Adding)?;
        for (heads, selection) in self.model.iter_mut().zip(&selections) {
            for (head, slots) in heads.iter_mut().enumerate() {
                *slots = selection.head(head).iter().map(|&slot| slots[slot as usize]).collect();
            }
        }
        let longest = self.model.iter().flatten().map(Vec::len).max().unwrap() as u32;
        for slots in self.model.iter_mut().flatten() {
            let first = longest - slots.len() as u32;
            slots.iter_mut().zip(first..).for_each(|(slot, rotary)| slot.1 = rotary);
        }
        self.next.1 = longest;
        Ok(())
    }

    /// Tokens and rotary positions of every head, as the bytes and as the cache say.
    fn check(&self) {
        for (layer, heads) in self.model.iter().enumerate() {
            for (head, slots) in heads.iter().enumerate() {
                let view = self.cache.head(layer, head);
                let floats = |bytes: &[u8]| -> Vec<[f32; 2]> {
                    let number = |at: &[u8]| f32::from_ne_bytes(at.try_into().unwrap());
                    bytes.chunks(8).map(|row| [number(&row[..4]), number(&row[4..])]).collect()
                };
                let keys: Vec<_> = (0..view.block_count()).flat_map(|block| floats(view.keys(block))).collect();
                let values: Vec<_> = (0..view.block_count()).flat_map(|block| floats(view.values(block))).collect();
                assert_eq!(keys, slots.iter().map(|&(t, r)| [r as f32, t as f32]).collect::<Vec<_>>());
                assert_eq!(values, slots.iter().map(|&(t, _)| [t as f32, 0.5]).collect::<Vec<_>>());
                let (tokens, rotary): (Vec<u32>, Vec<u32>) = slots.iter().copied().unzip();
                assert_eq!(self.cache.positions(layer, head), tokens);
                assert_eq!(self.cache.rotary_positions(layer, head), rotary);
            }
        }
        assert_eq!((self.cache.next_position(), self.cache.next_rotary_position()), self.next);
    }
}

fn empty(blocks: Option<usize>, shape: KvShape) -> Pair {
    let pool = BlockPool::new(LAYOUT, blocks.map(|blocks| blocks * LAYOUT.bytes())).unwrap();
    let cache = KvCache::new(pool, shape).unwrap();
    Pair { cache, model: vec![vec![vec![]; shape.kv_heads]; shape.layers], next: (0, 0) }
}

#[test]
fn histories_of_forks_with_closed_gaps_equal_plain_vectors() {
    let mut refused = 0;
    for seed in 0..500 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let shape = KvShape { layers: rng.random_range(1..3), kv_heads: rng.random_range(1..4), group: 1, head_dim: 2 };
        let mut pairs = vec![empty(rng.random_bool(0.5).then(|| rng.random_range(4..60)), shape)];
        for _ in 0..30 {
            let chosen = rng.random_range(0..pairs.len());
            let done = match rng.random_range(0..10) {
                0 if pairs.len() < 4 => {
                    pairs.push(pairs[chosen].fork());
                    Ok(())
                }
                1..4 => pairs[chosen].cut(rng),
                _ => pairs[chosen].append(*[1, 2, 5, 17].choose(rng).unwrap()),
            };
            match done {
                Err(Error::KvBudgetExceeded { .. }) => refused += 1,
                other => other.unwrap(),
            }
            pairs.iter().for_each(Pair::check);
        }
    }
    assert!(refused > 100, "the limit was met only {refused} times");
}

#[test]
fn blocks_in_which_nothing_turns_stay_shared() {
    // Memory for what is there, and for the one block that changes.
    let mut first = empty(Some(4), KvShape { layers: 1, kv_heads: 1, group: 1, head_dim: 2 });
    first.append(12).unwrap();
    let mut second = first.fork();
    let all = Selection::new(Ragged::from_rows([(0..12).collect()]), &[12]).unwrap();
    second.cache.renumber_all(std::slice::from_ref(&all), &Adding).unwrap();
    assert_eq!(second.cache.shared_bytes(), 3 * LAYOUT.bytes());
    let keep = Selection::new(Ragged::from_rows([vec![0, 1, 2, 3, 4, 5, 6, 7, 10]]), &[12]).unwrap();
    second.cache.renumber_all(std::slice::from_ref(&keep), &Adding).unwrap();
    assert_eq!(second.cache.shared_bytes(), 2 * LAYOUT.bytes());
    assert_eq!(second.cache.rotary_positions(0, 0), (0..9).collect::<Vec<_>>());
    first.check();
}

#[test]
fn what_would_leave_gaps_again_is_refused_and_a_cleared_cache_begins_anew() {
    let mut pair = empty(None, KvShape { layers: 2, kv_heads: 1, group: 1, head_dim: 2 });
    pair.append(6).unwrap();
    let keep = |kept: &[u32], len| Selection::new(Ragged::from_rows([kept.to_vec()]), &[len]).unwrap();
    let cuts = [keep(&[0, 4, 5], 6), keep(&[5], 6)];
    pair.cache.renumber_all(&cuts, &Adding).unwrap();
    assert_eq!((pair.cache.rotary_positions(0, 0), pair.cache.rotary_positions(1, 0)), (vec![0, 1, 2], vec![2]));
    let again = pair.cache.compact_all(&[keep(&[0], 3), keep(&[0], 1)]).unwrap_err();
    assert!(matches!(again, Error::InvalidArgument { .. }), "{again}");
    // What is forgotten leaves its rotary positions behind.
    pair.cache.truncate(5);
    assert_eq!((pair.cache.next_position(), pair.cache.next_rotary_position()), (5, 3));
    pair.cache.append(0, &[3.0, 5.0], &[0.0, 0.0], 5).unwrap();
    let uneven = pair.cache.renumber_all(&[keep(&[0], 3), keep(&[], 0)], &Adding).unwrap_err();
    assert!(matches!(uneven, Error::InvalidArgument { .. }), "{uneven}");
    assert_eq!(pair.cache.rotary_positions(0, 0), [0, 1, 3]);
    pair.cache.clear();
    assert_eq!((pair.cache.is_renumbered(), pair.cache.next_rotary_position()), (false, 0));
}

/// A key that is turned is read in its codec, turned, and rounded to the codec once more; values are not touched. More bytes than one thread moves.
#[test]
fn every_codec_turns_what_it_stores() {
    let rng = &mut StdRng::seed_from_u64(1);
    let (tokens, dim) = (4000, 64);
    let shape = KvShape { layers: 1, kv_heads: 2, group: 1, head_dim: dim };
    let row = || -> Vec<f32> { (0..tokens * 2 * dim).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let mut row = row;
    let (keys, values) = (row(), row());
    let keep: Vec<u32> = (0..tokens as u32).filter(|slot| slot % 700 != 1).collect();
    for (codec, rounding) in
        [(Codec::F32, 0.0), (Codec::F16, 5e-4), (Codec::Bf16, 4e-3), (Codec::Int8, 0.5 / 127.0 + 1e-3)]
    {
        let pool = BlockPool::new(BlockLayout { codec, head_dim: dim, slots: 32 }, None).unwrap();
        let mut cache = KvCache::new(pool, shape).unwrap();
        cache.append(0, &keys, &values, 0).unwrap();
        let stored = |cache: &KvCache, head: usize| {
            let view = cache.head(0, head);
            (view.all_keys(), view.all_values())
        };
        let before = [0, 1].map(|head| stored(&cache, head));
        let selection = Selection::new(Ragged::from_rows([keep.clone(), keep.clone()]), &[tokens; 2]).unwrap();
        cache.renumber_all(&[selection], &Adding).unwrap();
        for (head, (old_keys, old_values)) in before.iter().enumerate() {
            let (keys, values) = stored(&cache, head);
            for (to, &from) in keep.iter().enumerate() {
                let of = |rows: &[f32], slot: usize| rows[slot * dim..][..dim].to_vec();
                assert_eq!(of(&values, to), of(old_values, from as usize));
                let mut turned = of(old_keys, from as usize);
                // Of each pair the first number.
                turned.iter_mut().step_by(2).for_each(|x| *x -= (from as usize - to) as f32);
                let largest = turned.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                for (got, expected) in of(&keys, to).iter().zip(&turned) {
                    assert!((got - expected).abs() <= rounding * largest, "{codec:?} {to}: {got} {expected}");
                }
            }
        }
    }
}
