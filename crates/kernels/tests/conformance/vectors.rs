//! Each operation of the vectors against plain arithmetic, lane by lane, on every level.

use crate::support::*;
use half::{bf16, f16};
use headwise_kernels::dispatch;
use headwise_kernels::simd_vector::{Vector, VectorOf};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Most lanes of any level.
const LANES: usize = 16;

/// Equal bits, or both NaN.
#[track_caller]
fn assert_same(got: &[f32], expected: &[f32], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let same = got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan();
        assert!(same, "{what}: [{i}] is {got:e}, expected {expected:e}");
    }
}

/// A way to load a vector, named by what it reads.
#[derive(Clone, Copy)]
enum Load {
    Numbers,
    F32,
    Bf16,
    F16,
    SplatF16,
    Splat4,
    I8,
    Bits { shift: u32, mask: u8 },
}

dispatch! {
    /// Loads from every `step` bytes, as far as there are `bytes` for one lane each.
    fn load_all(level, how: Load, bytes: &[u8], lane_bytes: usize) -> Vec<f32> = load_all_body::<VectorOf<Target>>;
}

#[inline(always)]
fn load_all_body<V: Vector>(how: Load, bytes: &[u8], lane_bytes: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for chunk in bytes.chunks_exact(V::LANES * lane_bytes) {
        let mut lanes = [0.0; LANES];
        match how {
            Load::Numbers => {
                let numbers: Vec<f32> =
                    chunk.as_chunks().0.iter().map(|bytes: &[u8; 4]| f32::from_ne_bytes(*bytes)).collect();
                V::load(&numbers).store(&mut lanes);
            }
            Load::F32 => V::load_f32(chunk).store(&mut lanes),
            Load::Bf16 => V::load_bf16(chunk).store(&mut lanes),
            Load::F16 => V::load_f16(chunk).store(&mut lanes),
            Load::SplatF16 => V::splat_f16(chunk).store(&mut lanes),
            Load::Splat4 => V::splat4([0, 1, 2, 3].map(|i| f32::from(chunk[i]))).store(&mut lanes),
            Load::I8 => V::load_i8(chunk).store(&mut lanes),
            Load::Bits { shift, mask } => V::load_bits(chunk, shift, mask).store(&mut lanes),
        }
        out.extend(&lanes[..V::LANES]);
    }
    out
}

#[test]
fn every_half_and_every_bfloat_is_widened_exactly() {
    let bits: Vec<u16> = (0..=u16::MAX).collect();
    let bytes: Vec<u8> = bits.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let halves: Vec<f32> = bits.iter().map(|&x| f16::from_bits(x).to_f32()).collect();
    let bfloats: Vec<f32> = bits.iter().map(|&x| bf16::from_bits(x).to_f32()).collect();
    // Sixteen times the same half, so that the first of a vector is the half to splat whatever the number of lanes.
    let repeated: Vec<u8> = bits.iter().flat_map(|x| x.to_ne_bytes().repeat(LANES)).collect();
    let splat: Vec<f32> = halves.iter().flat_map(|&x| [x; LANES]).collect();
    for level in levels() {
        assert_same(&load_all(level, Load::F16, &bytes, 2), &halves, &format!("{level:?} halves"));
        assert_same(&load_all(level, Load::Bf16, &bytes, 2), &bfloats, &format!("{level:?} bfloats"));
        assert_same(&load_all(level, Load::SplatF16, &repeated, 2), &splat, &format!("{level:?} splat"));
    }
}

#[test]
fn bytes_and_their_bits_become_numbers() {
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    let fours: Vec<u8> = bytes.chunks(4).flat_map(|four| four.repeat(LANES / 4)).collect();
    let numbers: Vec<f32> = fours.iter().map(|&byte| f32::from(byte)).collect();
    for level in levels() {
        assert_same(&load_all(level, Load::Splat4, &fours, 1), &numbers, &format!("{level:?} fours"));
    }
    let signed: Vec<f32> = bytes.iter().map(|&x| f32::from(x as i8)).collect();
    for level in levels() {
        assert_same(&load_all(level, Load::I8, &bytes, 1), &signed, &format!("{level:?} signed"));
        for shift in 0..8 {
            for mask in [1, 3, 15, 16, 255] {
                let expected: Vec<f32> = bytes.iter().map(|&x| f32::from(x >> shift & mask)).collect();
                let got = load_all(level, Load::Bits { shift, mask }, &bytes, 1);
                assert_same(&got, &expected, &format!("{level:?} shift {shift} mask {mask}"));
            }
        }
    }
}

/// Noise of every magnitude, and everything that is special about f32.
fn hard_numbers(n: usize, seed: u64) -> Vec<f32> {
    const SPECIAL: [f32; 10] =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-41, -1e-45, f32::MAX, f32::MIN_POSITIVE, 1.0];
    let mut noise = Noise(seed);
    (0..n)
        .map(|_| match noise.below(3) {
            0 => SPECIAL[noise.below(SPECIAL.len())],
            1 => noise.number(),
            _ => noise.number() * 2f32.powi(noise.below(200) as i32 - 100),
        })
        .collect()
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Add,
    Sub,
    Mul,
    MulAdd,
    Max,
    SelectGe,
}

impl Operation {
    const ALL: [Operation; 6] = [Self::Add, Self::Sub, Self::Mul, Self::MulAdd, Self::Max, Self::SelectGe];

    fn scalar(self, a: f32, b: f32, c: f32, fused: bool) -> f32 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::MulAdd if fused => a.mul_add(b, c),
            Self::MulAdd => a * b + c,
            Self::Max => {
                if a > b {
                    a
                } else {
                    b
                }
            }
            Self::SelectGe => {
                if a >= b {
                    c
                } else {
                    a
                }
            }
        }
    }
}

dispatch! {
    fn apply_all(level, operation: Operation, a: &[f32], b: &[f32], c: &[f32]) -> Vec<f32> = apply_all_body::<VectorOf<Target>>;
}

#[inline(always)]
fn apply_all_body<V: Vector>(operation: Operation, a: &[f32], b: &[f32], c: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; a.len()];
    for (i, out) in out.chunks_exact_mut(V::LANES).enumerate() {
        let [a, b, c] = [a, b, c].map(|numbers| V::load(&numbers[i * V::LANES..]));
        let result = match operation {
            Operation::Add => a.add(b),
            Operation::Sub => a.sub(b),
            Operation::Mul => a.mul(b),
            Operation::MulAdd => a.mul_add(b, c),
            Operation::Max => a.max(b),
            Operation::SelectGe => V::select_ge(a, b, c, a),
        };
        result.store(out);
    }
    out
}

#[test]
fn arithmetic_is_that_of_f32_lane_by_lane() {
    let n = 1 << 14;
    let (a, b, c) = (hard_numbers(n, 60), hard_numbers(n, 61), hard_numbers(n, 62));
    for level in levels() {
        let fused = cfg!(target_arch = "aarch64") || level > headwise_kernels::simd::Level::Baseline;
        for operation in Operation::ALL {
            let expected: Vec<f32> = (0..n).map(|i| operation.scalar(a[i], b[i], c[i], fused)).collect();
            assert_same(&apply_all(level, operation, &a, &b, &c), &expected, &format!("{level:?} {operation:?}"));
        }
        let bytes: Vec<u8> = a.iter().flat_map(|x| x.to_ne_bytes()).collect();
        assert_same(&load_all(level, Load::Numbers, &bytes, 4), &a, &format!("{level:?} numbers"));
        // One byte further, nothing is aligned.
        assert_same(&load_all(level, Load::F32, &[&[0], &bytes[..]].concat()[1..], 4), &a, &format!("{level:?} bytes"));
    }
}

dispatch! {
    fn sums_and_largest(level, numbers: &[f32]) -> Vec<[f32; 6]> = sums_and_largest_body::<VectorOf<Target>>;
}

/// Of four vectors in turn: their sums together, the sum of the first alone, its largest lane.
#[inline(always)]
fn sums_and_largest_body<V: Vector>(numbers: &[f32]) -> Vec<[f32; 6]> {
    let quads = numbers.chunks_exact(4 * LANES);
    quads
        .map(|quad| {
            let at = |i: usize| V::load(&quad[i * LANES..]);
            let [a, b, c, d] = V::sum4([at(0), at(1), at(2), at(3)]);
            [a, b, c, d, at(0).sum(), at(0).max_lane()]
        })
        .collect()
}

dispatch! {
    fn lanes(level) -> usize = lanes_body::<VectorOf<Target>>;
}

#[inline(always)]
fn lanes_body<V: Vector>() -> usize {
    V::LANES
}

#[test]
fn sums_and_the_largest_lane_are_those_of_the_lanes() {
    let numbers = Noise(63).numbers(4 * LANES * 200);
    for level in levels() {
        let lanes = lanes(level);
        let results = sums_and_largest(level, &numbers);
        assert_eq!(results.len(), 200);
        for (quad, got) in numbers.chunks(4 * LANES).zip(results) {
            let vectors: Vec<&[f32]> = quad.chunks(LANES).map(|numbers| &numbers[..lanes]).collect();
            let mut expected: Vec<f64> = vectors.iter().map(|lanes| lanes.iter().map(|&x| x as f64).sum()).collect();
            expected.push(expected[0]);
            assert_close(&got[..5], &expected, 1e-6, &format!("{level:?} sums"));
            assert_eq!(got[4].to_bits(), got[0].to_bits(), "{level:?}: a sum does not depend on its neighbours");
            assert_eq!(got[5], vectors[0].iter().copied().fold(f32::NEG_INFINITY, f32::max), "{level:?}");
        }
    }
}

dispatch! {
    fn one_too_short(level, which: usize) = one_too_short_body::<VectorOf<Target>>;
}

#[inline(always)]
fn one_too_short_body<V: Vector>(which: usize) {
    let (numbers, bytes, mut target) = ([0.0; LANES], [0u8; 4 * LANES], [0.0; LANES]);
    let short = V::LANES - 1;
    let vector = match which {
        0 => V::load(&numbers[..short]),
        1 => V::load_f32(&bytes[..4 * V::LANES - 1]),
        2 => V::load_bf16(&bytes[..2 * V::LANES - 1]),
        3 => V::load_f16(&bytes[..2 * V::LANES - 1]),
        4 => V::splat_f16(&bytes[..1]),
        5 => V::load_i8(&bytes[..short]),
        6 => V::load_bits(&bytes[..short], 0, 1),
        _ => V::splat(0.0),
    };
    let length = if which == 7 { short } else { LANES };
    vector.store(&mut target[..length]);
}

#[test]
fn slices_that_are_too_short_panic_and_nothing_else_is_written() {
    for level in levels() {
        for which in 0..8 {
            let result = catch_unwind(AssertUnwindSafe(|| one_too_short(level, which)));
            assert!(result.is_err(), "{level:?} {which}");
        }
        one_too_short(level, 8); // long enough
        let mut target = [7.0; LANES + 1];
        store_one(level, &mut target);
        let lanes = lanes(level);
        assert!(target[..lanes].iter().all(|&x| x == 1.0) && target[lanes..].iter().all(|&x| x == 7.0), "{level:?}");
    }
}

dispatch! {
    fn store_one(level, target: &mut [f32]) = store_one_body::<VectorOf<Target>>;
}

#[inline(always)]
fn store_one_body<V: Vector>(target: &mut [f32]) {
    V::splat(1.0).store(target);
}

dispatch! {
    fn exp_of(level, x: &[f32]) -> Vec<f32> = exp_body::<VectorOf<Target>>;
}

#[inline(always)]
fn exp_body<V: Vector>(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(V::LANES).zip(out.chunks_exact_mut(V::LANES)) {
        V::load(x).exp().store(out);
    }
    out
}

#[test]
fn the_vector_exponential_is_within_two_ulp() {
    let x: Vec<f32> = (0..1 << 16).map(|i| i as f32 * (-87.0 / 65536.0)).chain([-0.0, -87.0].repeat(8)).collect();
    let edges = [-87.5, -1e4, -3.4e38, f32::NEG_INFINITY, f32::NAN, 0.0, -87.0001, -1e-40];
    for level in levels() {
        for (got, x) in exp_of(level, &x).iter().zip(&x) {
            let expected = (*x as f64).exp();
            assert!((*got as f64 - expected).abs() <= 2.4e-7 * expected, "{level:?}: e^{x} = {got}");
        }
        let got = exp_of(level, &edges.repeat(2));
        // Computed ones have no payload; others must not get lost with it.
        let nan = [0x7f80_0001, 0x7fff_ffff, 0xff80_0180, 0xffff_ffff].map(f32::from_bits);
        assert!(exp_of(level, &nan.repeat(4)).iter().all(|x| x.is_nan()), "{level:?}");
        assert!(got[..4] == [0.0; 4] && got[4].is_nan() && got[5] == 1.0 && got[6] == 0.0 && got[7] == 1.0, "{got:?}");
    }
}
