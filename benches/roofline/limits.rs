//! What this machine can do at most: bytes read from memory and f32 operations, per second.

use std::hint::black_box;
use std::time::Instant;

use headwise_kernels::dispatch;
use headwise_kernels::simd::Level;
use headwise_kernels::simd_vector::{Vector, VectorOf};
use memmap2::MmapMut;
use rayon::ThreadPool;

/// Bytes that are read in one pass: many times any last-level cache.
const BUFFER_BYTES: usize = 256 << 20;
/// Places that a thread reads from in turn. One alone is slower, with prefetch instructions or without (31 GB/s instead of 38 on an
/// EPYC): the hardware's own prefetching stops at page borders, and of four streams only one is at a border at a time.
const STREAMS: usize = 4;
/// Vectors that are read from each in one round.
const VECTORS: usize = 4;
/// Independent chains of multiply-adds: latency times ports of any CPU that we know, and still in 16 registers.
const CHAINS: usize = 12;
/// Multiply-adds of each chain in one timing: some milliseconds.
const LINKS: usize = 1 << 19;
/// Timings of each limit per [`Limits::measure`].
const PASSES: usize = 5;

/// Measures the limits again and again with the same buffers.
pub struct Limits {
    /// In huge pages where the system has them, as caches are.
    huge_pages: MmapMut,
    /// In small ones.
    small_pages: MmapMut,
}

/// Timings of both limits, with one pool.
#[derive(Clone, Default)]
pub struct Measured {
    /// Bytes per second, one number a pass.
    bandwidth: Vec<f64>,
    /// The same from small pages.
    small_pages: Vec<f64>,
    /// f32 operations per second, one number a timing.
    peak: Vec<f64>,
}

impl Limits {
    /// Takes the memory and touches every page.
    pub fn new() -> Self {
        let [mut huge_pages, mut small_pages] = [(); 2].map(|()| MmapMut::map_anon(BUFFER_BYTES).expect("memory"));
        #[cfg(target_os = "linux")]
        {
            let _ = huge_pages.advise(memmap2::Advice::HugePage);
            let _ = small_pages.advise(memmap2::Advice::NoHugePage);
        }
        for buffer in [&mut huge_pages, &mut small_pages] {
            bytemuck::cast_slice_mut(buffer).fill(1.0f32);
        }
        Self { huge_pages, small_pages }
    }

    /// Times a few passes on all threads of a pool.
    pub fn measure(&self, pool: &ThreadPool) -> Measured {
        let threads = pool.current_num_threads();
        let level = Level::detect();
        // A multiple of what one round reads, whatever the vector.
        let round = STREAMS * VECTORS * 16;
        let share = BUFFER_BYTES / 4 / threads / round * round;
        let read = |buffer: &MmapMut| {
            let numbers: &[f32] = bytemuck::cast_slice(buffer);
            let seconds = time(pool, |thread| {
                // Every number is a one, and sums of so few are exact: this is the proof that all were read.
                assert_eq!(sum(level, &numbers[thread * share..][..share]), share as f32);
            });
            (threads * share * 4) as f64 / seconds
        };
        let (_, lanes) = multiply(level, 0.5, 0);
        let mut measured = Measured::default();
        for _ in 0..PASSES {
            measured.bandwidth.push(read(&self.huge_pages));
            measured.small_pages.push(read(&self.small_pages));
            let seconds = time(pool, |_| {
                black_box(multiply(level, black_box(0.5), LINKS));
            });
            measured.peak.push((threads * 2 * lanes * CHAINS * LINKS) as f64 / seconds);
        }
        measured
    }
}

impl Measured {
    /// Both measurements together.
    pub fn and(&self, other: &Measured) -> Measured {
        Self {
            bandwidth: [&self.bandwidth[..], &other.bandwidth].concat(),
            small_pages: [&self.small_pages[..], &other.small_pages].concat(),
            peak: [&self.peak[..], &other.peak].concat(),
        }
    }

    /// Median bytes per second.
    pub fn bandwidth(&self) -> f64 {
        median(self.bandwidth.clone())
    }

    /// The same from small pages.
    pub fn small_pages(&self) -> f64 {
        median(self.small_pages.clone())
    }

    /// Most f32 operations per second, a multiply-add counting as two. Not the median: between registers only other programs slow a
    /// timing down, while the memory belongs to all neighbours at any time.
    pub fn peak(&self) -> f64 {
        self.peak.iter().copied().fold(0.0, f64::max)
    }
}

/// The middle number; of an even count the upper one of the two.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    let middle = numbers.len() / 2;
    *numbers.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// Seconds until `work(thread)` has run on every thread of the pool.
fn time(pool: &ThreadPool, work: impl Fn(usize) + Sync) -> f64 {
    let start = Instant::now();
    pool.broadcast(|context| work(context.index()));
    start.elapsed().as_secs_f64()
}

dispatch! {
    /// The sum of all numbers: one addition a vector, so that nothing but reading takes time.
    fn sum(level, data: &[f32]) -> f32 = sum_body::<VectorOf<Target>>;
}

dispatch! {
    /// [`CHAINS`] chains of multiply-adds between registers; gives a number that depends on all, and the lanes of a vector.
    fn multiply(level, factor: f32, links: usize) -> (f32, usize) = multiply_body::<VectorOf<Target>>;
}

#[inline(always)]
fn sum_body<V: Vector>(data: &[f32]) -> f32 {
    let round = VECTORS * V::LANES;
    let stream = data.len() / STREAMS;
    let mut sums = [[V::splat(0.0); VECTORS]; STREAMS];
    for at in (0..stream).step_by(round) {
        for (s, sums) in sums.iter_mut().enumerate() {
            let numbers = &data[s * stream + at..][..round];
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = sum.add(V::load(&numbers[v * V::LANES..]));
            }
        }
    }
    sums.into_iter().flatten().map(V::sum).sum()
}

#[inline(always)]
fn multiply_body<V: Vector>(factor: f32, links: usize) -> (f32, usize) {
    let factor = V::splat(factor);
    let mut chains: [V; CHAINS] = std::array::from_fn(|i| V::splat(i as f32));
    for _ in 0..links {
        for chain in &mut chains {
            *chain = chain.mul_add(factor, factor);
        }
    }
    (chains.into_iter().map(V::sum).sum(), V::LANES)
}
