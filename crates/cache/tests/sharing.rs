//! What forks share, and what is refused.

use headwise_cache::{BlockLayout, BlockPool, KvCache};
use headwise_core::{Codec, Error, KvShape, Ragged, Selection};
use headwise_kernels::Block;

const SHAPE: KvShape = KvShape { layers: 2, kv_heads: 2, group: 3, head_dim: 2 };
const LAYOUT: BlockLayout = BlockLayout { codec: Codec::F32, head_dim: 2, slots: 4 };
/// Block bytes: 4 slots of two rows of two f32 numbers.
const BLOCK: usize = 64;

/// A cache of `rows` tokens; token `t` has the key `[t, head]` and the value `[-t, layer]`.
fn filled(rows: u32, limit_blocks: Option<usize>) -> KvCache {
    let pool = BlockPool::new(LAYOUT, limit_blocks.map(|blocks| blocks * BLOCK)).unwrap();
    let mut cache = KvCache::new(pool, SHAPE).unwrap();
    for layer in 0..SHAPE.layers {
        append(&mut cache, layer, 0..rows).unwrap();
    }
    cache
}

fn append(cache: &mut KvCache, layer: usize, tokens: std::ops::Range<u32>) -> Result<(), Error> {
    let keys: Vec<f32> = tokens.clone().flat_map(|t| [t as f32, 0.0, t as f32, 1.0]).collect();
    let values: Vec<f32> = tokens.clone().flat_map(|t| [-(t as f32), layer as f32].repeat(2)).collect();
    cache.append(layer, &keys, &values, tokens.start)
}

fn tokens(cache: &KvCache, layer: usize, head: usize) -> Vec<u32> {
    let view = cache.head(layer, head);
    let floats = |bytes: &[u8]| -> Vec<[f32; 2]> {
        bytes.chunks(8).map(|row| [0, 4].map(|at| f32::from_ne_bytes(row[at..at + 4].try_into().unwrap()))).collect()
    };
    let keys: Vec<_> = (0..view.block_count()).flat_map(|block| floats(view.keys(block))).collect();
    let values: Vec<_> = (0..view.block_count()).flat_map(|block| floats(view.values(block))).collect();
    assert!(keys.iter().all(|key| key[1] == head as f32) && values.iter().all(|value| value[1] == layer as f32));
    assert!(keys.iter().zip(&values).all(|(key, value)| key[0] == -value[0]));
    let tokens: Vec<u32> = keys.iter().map(|key| key[0] as u32).collect();
    assert_eq!(tokens, cache.positions(layer, head));
    tokens
}

fn select(cache: &KvCache, rows: [&[u32]; 2]) -> Selection {
    Selection::new(Ragged::from_rows(rows.map(<[u32]>::to_vec)), &cache.lengths(0)).unwrap()
}

#[test]
fn a_fork_costs_nothing_until_it_writes_and_then_only_the_block_it_writes_to() {
    let first = filled(10, None);
    let held = first.pool().held_bytes();
    let mut second = first.fork();
    assert_eq!((first.pool().held_bytes(), second.shared_bytes()), (held, held));
    append(&mut second, 0, 10..11).unwrap();
    assert_eq!(first.pool().held_bytes(), held + 2 * BLOCK, "one tail block per head");
    assert_eq!(first.shared_bytes(), held - 2 * BLOCK);
    assert_eq!(tokens(&first, 0, 1), (0..10).collect::<Vec<_>>());
    assert_eq!(tokens(&second, 0, 1), (0..11).collect::<Vec<_>>());
}

#[test]
fn a_full_tail_is_never_copied() {
    let first = filled(8, None);
    let mut second = first.fork();
    append(&mut second, 0, 8..9).unwrap();
    assert_eq!(second.shared_bytes(), first.physical_bytes());
}

#[test]
fn siblings_that_write_the_same_slot_do_not_see_each_other() {
    let mut first = filled(9, None);
    let mut second = first.fork();
    let mut third = second.fork();
    append(&mut second, 1, 9..10).unwrap();
    append(&mut third, 1, 20..22).unwrap();
    append(&mut first, 1, 30..31).unwrap();
    let nine = (0..9).collect::<Vec<_>>();
    assert_eq!(tokens(&first, 1, 0), [&nine[..], &[30]].concat());
    assert_eq!(tokens(&second, 1, 0), [&nine[..], &[9]].concat());
    assert_eq!(tokens(&third, 1, 0), [&nine[..], &[20, 21]].concat());
}

#[test]
fn a_prefix_that_is_kept_stays_shared_through_compaction() {
    let first = filled(16, None);
    let mut second = first.fork();
    // Head 0 keeps two blocks as they are, then moves; head 1 only loses its end, in the middle of a block.
    let keep = select(&first, [&[0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 15], &[0, 1, 2, 3, 4, 5]]);
    second.compact(0, &keep).unwrap();
    assert_eq!(tokens(&second, 0, 0), keep.head(0));
    assert_eq!(tokens(&second, 0, 1), keep.head(1));
    assert_eq!(tokens(&first, 0, 0), (0..16).collect::<Vec<_>>());
    let same = |head: usize, block: usize| {
        first.head(0, head).blocks[block].bytes().as_ptr() == second.head(0, head).blocks[block].bytes().as_ptr()
    };
    assert!(same(0, 0) && same(0, 1) && !same(0, 2));
    assert!(same(1, 0) && same(1, 1));
    assert_eq!(second.len(0, 1), 6);
    // Its tail is shared and only half its own: appending must copy it.
    append(&mut second, 0, 16..17).unwrap();
    assert_eq!(tokens(&second, 0, 1), [0, 1, 2, 3, 4, 5, 16]);
    assert_eq!(tokens(&first, 0, 1), (0..16).collect::<Vec<_>>());
}

#[test]
fn compaction_of_a_cache_of_its_own_needs_no_memory() {
    let mut cache = filled(16, Some(16));
    assert_eq!(cache.pool().held_bytes(), 16 * BLOCK);
    let before = cache.head(0, 0).blocks[0].bytes().as_ptr();
    cache.compact(0, &select(&cache, [&[1, 5, 6, 11, 15], &[]])).unwrap();
    assert_eq!(tokens(&cache, 0, 0), [1, 5, 6, 11, 15]);
    assert_eq!(cache.lengths(0), [5, 0]);
    assert_eq!(cache.head(0, 0).blocks[0].bytes().as_ptr(), before);
    assert_eq!(cache.pool().held_bytes(), 10 * BLOCK);
}

#[test]
fn at_the_limit_an_append_changes_no_head_and_can_be_repeated() {
    let mut cache = filled(4, Some(6));
    append(&mut cache, 0, 4..8).unwrap();
    let error = append(&mut cache, 1, 4..9).unwrap_err();
    assert_eq!(error, Error::KvBudgetExceeded { requested: 4 * BLOCK, held: 6 * BLOCK, limit: 6 * BLOCK });
    assert_eq!((cache.lengths(1), cache.next_position()), (vec![4, 4], 4));
    // The chunk is undone on the layer that had room for it.
    cache.truncate(cache.next_position());
    assert_eq!((cache.lengths(0), cache.pool().held_bytes()), (vec![4, 4], 4 * BLOCK));
    append(&mut cache, 1, 4..8).unwrap();
    assert_eq!(tokens(&cache, 1, 0), (0..8).collect::<Vec<_>>());
}

#[test]
fn at_the_limit_a_compaction_that_must_copy_changes_nothing() {
    let first = filled(8, Some(9));
    let mut second = first.fork();
    let keep = select(&first, [&[1, 2], &[0, 7]]);
    let error = second.compact(0, &keep).unwrap_err();
    assert_eq!(error, Error::KvBudgetExceeded { requested: 2 * BLOCK, held: 8 * BLOCK, limit: 9 * BLOCK });
    assert_eq!(tokens(&second, 0, 0), (0..8).collect::<Vec<_>>());
    drop(first);
    second.compact(0, &keep).unwrap();
    assert_eq!((tokens(&second, 0, 0), tokens(&second, 0, 1)), (vec![1, 2], vec![0, 7]));
}

#[test]
fn truncation_goes_by_position_also_after_compaction() {
    let mut cache = filled(10, None);
    cache.compact(0, &select(&cache, [&[0, 3, 9], &[8]])).unwrap();
    assert_eq!(cache.next_position(), 10, "an evicted token was seen all the same");
    append(&mut cache, 0, 10..14).unwrap();
    cache.truncate(10);
    assert_eq!((tokens(&cache, 0, 0), tokens(&cache, 0, 1)), (vec![0, 3, 9], vec![8]));
    cache.truncate(4);
    assert_eq!((tokens(&cache, 0, 0), tokens(&cache, 0, 1)), (vec![0, 3], vec![]));
    assert_eq!((cache.lengths(1), cache.next_position()), (vec![4, 4], 4));
    cache.clear();
    assert!(cache.is_empty());
    assert_eq!(cache.pool().held_bytes(), 0);
}

#[test]
fn wrong_shapes_layers_and_positions_are_refused_by_name() {
    let mut cache = filled(4, None);
    let shape = |result: Result<(), Error>| assert!(matches!(result, Err(Error::ShapeMismatch { .. })), "{result:?}");
    shape(cache.append(0, &[0.0; 5], &[0.0; 5], 4));
    shape(cache.append(0, &[0.0; 8], &[0.0; 4], 4));
    shape(cache.append(0, &[0.0; 4], &[0.0; 8], 4));
    shape(cache.compact(0, &Selection::all(&[4])));
    let argument =
        |result: Result<(), Error>| assert!(matches!(result, Err(Error::InvalidArgument { .. })), "{result:?}");
    argument(cache.append(2, &[0.0; 4], &[0.0; 4], 4));
    argument(cache.append(0, &[0.0; 4], &[0.0; 4], 3));
    argument(cache.append(0, &[0.0; 4], &[0.0; 4], u32::MAX));
    argument(cache.compact(2, &Selection::all(&[4, 4])));
    assert_eq!(cache.compact(1, &Selection::all(&[4, 5])), Err(Error::InvalidSelection { head: 1, index: 4 }));
    assert_eq!((cache.lengths(0), cache.lengths(1)), (vec![4, 4], vec![4, 4]));
    let pool = cache.pool();
    shape(KvCache::new(pool.clone(), KvShape { head_dim: 4, ..SHAPE }).map(|_| ()));
    argument(KvCache::new(pool.clone(), KvShape { kv_heads: 0, ..SHAPE }).map(|_| ()));
}
