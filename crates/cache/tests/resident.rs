//! Memory that is evicted really leaves the process. One test alone in its process, because resident memory is the process's.

use std::time::Instant;

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, KvShape, Ragged, Selection};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::index::sample};

/// SmolLM2-135M.
const SHAPE: KvShape = KvShape { layers: 30, kv_heads: 3, group: 3, head_dim: 64 };
const TOKENS: usize = 4096;
const CHUNK: usize = 512;

fn resident_bytes() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    let page: usize =
        smaps.lines().find_map(|line| line.strip_prefix("KernelPageSize:"))?.split_whitespace().next()?.parse().ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<usize>().ok()? * page * 1024)
}

/// Runs `work` and reports its time.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("{what}: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
    result
}

/// Keeps a fifth of the slots of a layer, scattered at random, with different lengths per head.
fn fifth(cache: &KvCache, layer: usize, rng: &mut StdRng) -> Selection {
    let lengths = cache.lengths(layer);
    let kept = lengths.iter().zip([0.5, 1.0, 1.5]).map(|(&len, share)| {
        let mut row: Vec<u32> =
            sample(rng, len, (len as f64 * 0.2 * share) as usize).iter().map(|s| s as u32).collect();
        row.sort_unstable();
        row
    });
    Selection::new(Ragged::from_rows(kept), &lengths).unwrap()
}

fn prefill(cache: &mut KvCache, rng: &mut StdRng) {
    let width = SHAPE.kv_heads * SHAPE.head_dim;
    let keys: Vec<f32> = (0..CHUNK * width).map(|_| rng.random_range(-8.0..8.0)).collect();
    for chunk in 0..TOKENS / CHUNK {
        for layer in 0..SHAPE.layers {
            cache.append(layer, &keys, &keys, (chunk * CHUNK) as u32).unwrap();
        }
    }
}

#[test]
fn evicted_bytes_go_back_to_the_operating_system() {
    let Some(start) = resident_bytes() else {
        eprintln!("SKIPPED: resident memory is read from /proc, which only Linux has");
        return;
    };
    let rng = &mut StdRng::seed_from_u64(7);
    let pool = BlockPool::new(block_layout(SHAPE.head_dim, Codec::F16), None).unwrap();
    let mut cache = KvCache::new(pool.clone(), SHAPE).unwrap();
    timed("append 4096 tokens to 30 layers, first use of the memory", || prefill(&mut cache, rng));
    let full = cache.logical_bytes();
    assert_eq!(full, TOKENS * SHAPE.layers * SHAPE.kv_heads * 2 * 64 * 2);
    let before = resident_bytes().unwrap();
    assert!(before - start >= full, "all of the cache is resident");

    let keep: Vec<Selection> = (0..SHAPE.layers).map(|layer| fifth(&cache, layer, rng)).collect();
    let fork = timed("fork", || cache.fork());
    drop(fork);
    timed("compact to a fifth", || {
        keep.iter().enumerate().for_each(|(layer, keep)| cache.compact(layer, keep).unwrap());
    });
    timed("trim", || pool.trim());
    let after = resident_bytes().unwrap();
    let (logical, physical) = (cache.logical_bytes(), cache.physical_bytes());
    let evicted = full - logical;
    let fallen = (before - after) as f64 / evicted as f64;
    println!(
        "cache {full} -> {logical} bytes ({physical} physical), resident {before} -> {after}: {:.1}%",
        fallen * 100.0
    );
    assert!(evicted * 100 >= full * 79);
    assert!(fallen >= 0.95, "resident memory fell by {:.1}% of the evicted bytes", fallen * 100.0);
    let heads = SHAPE.layers * SHAPE.kv_heads;
    assert!(physical * 10 <= logical * 11 + heads * pool.block_bytes() * 10);
    assert_eq!(pool.held_bytes(), physical);

    // A second life in the same memory, and one more compaction where every block is shared and must be copied.
    cache.clear();
    timed("append 4096 tokens again, half of them to memory that was given back", || prefill(&mut cache, rng));
    let mut fork = cache.fork();
    timed("compact a fork to a fifth", || {
        keep.iter().enumerate().for_each(|(layer, keep)| fork.compact(layer, keep).unwrap());
    });
    let width = SHAPE.kv_heads * SHAPE.head_dim;
    timed("append one token to 30 layers", || {
        (0..SHAPE.layers).for_each(|layer| cache.append(layer, &vec![1.0; width], &vec![1.0; width], 4096).unwrap());
    });
    drop((cache, fork));
    assert_eq!(pool.held_bytes(), 0);
    timed("trim", || pool.trim());
    assert_eq!(pool.mapped_bytes(), 0);
    let end = resident_bytes().unwrap();
    // The maps are gone; what stays is the heap's: block tables and positions, which the allocator keeps for later.
    assert!(end < start + full / 10, "{} bytes stay resident", end - start);
}
