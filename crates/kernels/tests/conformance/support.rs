//! The table of shapes and what is needed to fill it.

use half::{bf16, f16};
use headwise_core::Codec;
use headwise_kernels::simd::Level;
use headwise_kernels::{BlockLayout, HeadView};

pub const CODECS: [Codec; 4] = [Codec::F32, Codec::Bf16, Codec::F16, Codec::Int8];

/// Sizes of one layer: lengths per KV head, query heads per KV head, head_dim, slots of a block, query rows.
#[derive(Debug, Clone)]
pub struct Shape {
    pub lengths: &'static [usize],
    pub group: usize,
    pub head_dim: usize,
    pub block_slots: usize,
    pub rows: usize,
}

const fn shape(lengths: &'static [usize], group: usize, head_dim: usize, block_slots: usize, rows: usize) -> Shape {
    Shape { lengths, group, head_dim, block_slots, rows }
}

/// One slot, odd lengths, wildly different lengths, every group and head_dim of real models, both ways of attention.
pub const SHAPES: [Shape; 16] = [
    shape(&[1], 1, 16, 32, 1),
    shape(&[1, 1, 1], 3, 64, 32, 1),
    shape(&[33, 7, 64], 3, 64, 32, 1),
    shape(&[1, 1300, 65], 3, 64, 64, 1),
    shape(&[129, 513], 8, 128, 32, 1),
    shape(&[577], 5, 80, 64, 2),
    shape(&[40, 31], 1, 24, 16, 4),
    shape(&[8, 700], 3, 64, 32, 8),
    shape(&[19, 6, 5], 2, 20, 7, 5),
    shape(&[9], 1, 16, 32, 9),
    shape(&[128, 129, 127], 3, 64, 32, 20),
    shape(&[300, 77], 8, 80, 64, 77),
    shape(&[401], 1, 128, 32, 65),
    shape(&[150, 1000], 3, 24, 24, 150),
    shape(&[67, 260], 7, 64, 64, 33),
    shape(&[50], 4, 17, 9, 50),
];

/// The instruction sets to test, worst first; says aloud which ones this machine leaves out.
pub fn levels() -> Vec<Level> {
    let available = Level::available();
    for level in [Level::Baseline, Level::Avx2, Level::Avx512] {
        if !available.contains(&level) {
            eprintln!("skipped: this machine has no {level:?}");
        }
    }
    available
}

/// Reproducible noise (splitmix64).
pub struct Noise(pub u64);

impl Noise {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// In (-1, 1).
    pub fn number(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn numbers(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.number()).collect()
    }
}

/// One head with the blocks that hold it.
#[derive(Clone)]
pub struct Head {
    pub layout: BlockLayout,
    pub blocks: Vec<Vec<u8>>,
    pub len: usize,
}

impl Head {
    /// Stores `keys` and `values`, `[len][head_dim]`; what is not filled is NaN, so that reading it shows.
    pub fn new(layout: BlockLayout, keys: &[f32], values: &[f32]) -> Self {
        let len = keys.len() / layout.head_dim;
        let mut blocks = vec![vec![0xff; layout.bytes()]; layout.blocks_for(len)];
        let per_block = layout.slots * layout.head_dim;
        for (block, (k, v)) in blocks.iter_mut().zip(keys.chunks(per_block).zip(values.chunks(per_block))) {
            let (front, back) = block.split_at_mut(layout.half_bytes());
            store(layout, k, front);
            store(layout, v, back);
        }
        Self { layout, blocks, len }
    }

    pub fn noise(layout: BlockLayout, len: usize, noise: &mut Noise) -> Self {
        let keys: Vec<f32> = noise.numbers(len * layout.head_dim).iter().map(|x| 3.0 * x).collect();
        Self::new(layout, &keys, &noise.numbers(len * layout.head_dim))
    }

    pub fn view(&self) -> HeadView<'_, Vec<u8>> {
        HeadView { layout: self.layout, blocks: &self.blocks, len: self.len }
    }

    /// The first `len` slots.
    pub fn prefix(&self, len: usize) -> HeadView<'_, Vec<u8>> {
        HeadView { len, ..self.view() }
    }
}

fn store(layout: BlockLayout, numbers: &[f32], bytes: &mut [u8]) {
    for (row, to) in numbers.chunks(layout.head_dim).zip(bytes.chunks_exact_mut(layout.row_bytes())) {
        let stored: Vec<u8> = match layout.codec {
            Codec::F32 => row.iter().flat_map(|x| x.to_ne_bytes()).collect(),
            Codec::Bf16 => row.iter().flat_map(|x| bf16::from_f32(*x).to_ne_bytes()).collect(),
            Codec::F16 => row.iter().flat_map(|x| f16::from_f32(*x).to_ne_bytes()).collect(),
            Codec::Int8 => int8(row),
        };
        to.copy_from_slice(&stored);
    }
}

/// In f64, whatever the cache does.
fn int8(row: &[f32]) -> Vec<u8> {
    let largest = row.iter().fold(0.0, |largest: f64, x| largest.max(f64::from(x.abs())));
    let finite = row.iter().all(|x| x.is_finite());
    let scale = if finite { (largest / 127.0) as f32 } else { f32::NAN };
    let code = |x: &f32| if scale > 0.0 { (f64::from(*x) / f64::from(scale)).round() as i8 as u8 } else { 0 };
    row.iter().map(code).chain(scale.to_ne_bytes()).collect()
}

/// The heads of a shape, filled with noise.
pub fn heads(shape: &Shape, codec: Codec, noise: &mut Noise) -> Vec<Head> {
    let layout = BlockLayout { codec, head_dim: shape.head_dim, slots: shape.block_slots };
    shape.lengths.iter().map(|&len| Head::noise(layout, len, noise)).collect()
}

/// Each number within `tolerance · max(1, |expected|)`.
#[track_caller]
pub fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let equal = got as f64 == expected;
        let close = (got as f64 - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(equal || close, "{what}: [{i}] is {got}, expected {expected}");
    }
}

/// Runs `f` on rayon pools of 1, 2 and 4 threads; all results must be the same, bit for bit.
#[track_caller]
pub fn assert_same_for_any_threads(f: impl Fn() -> Vec<f32> + Send + Sync) {
    let runs = [1, 2, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a thread pool");
        pool.install(&f).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    });
    assert!(runs[0] == runs[1] && runs[0] == runs[2]);
}
