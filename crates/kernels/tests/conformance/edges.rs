//! Numbers and sizes at the edge of what the contracts allow, on every level.

use crate::support::*;
use headwise_core::Codec;
use headwise_kernels::attend::{Job, Partial, Query, cpu, reference};
use headwise_kernels::simd::Level;
use headwise_kernels::{BlockLayout, HeadView, RowReduce, Window, WindowScores, key_norm, window_scores};

type View<'a> = HeadView<'a, Vec<u8>>;

const NEVER: f32 = f32::NEG_INFINITY;
/// Rows of a decode step, of the most that still goes the decode way, and of a prefill chunk.
const ROWS: [usize; 3] = [1, 8, 20];

fn attend(level: Level, query: Query<'_, Vec<u8>>) -> Vec<f32> {
    let mut out = vec![f32::NAN; query.q.len()];
    cpu::attend_batch(level, &mut [Job { query, out: &mut out, columns: None }]).expect("a valid query");
    out
}

fn layout(codec: Codec, head_dim: usize) -> BlockLayout {
    BlockLayout { codec, head_dim, slots: 32 }
}

#[test]
fn heads_of_different_codecs_and_lengths_attend_side_by_side() {
    let mut noise = Noise(70);
    let lengths = [20, 700, 33, 64, 511, 29];
    let heads: Vec<Head> =
        lengths.iter().zip(CODECS.iter().cycle()).map(|(&n, &c)| Head::noise(layout(c, 24), n, &mut noise)).collect();
    let views: Vec<View> = heads.iter().map(Head::view).collect();
    for rows in ROWS {
        let q = noise.numbers(rows * 6 * 2 * 24);
        let query = Query { q: &q, rows, heads: &views, bias: None, scale: 0.2 };
        let expected = reference::attend(query);
        for level in levels() {
            assert_close(&attend(level, query), &expected, 1e-5, &format!("{level:?} {rows} rows"));
        }
    }
}

#[test]
fn one_head_may_be_ten_thousand_times_as_long_as_another() {
    let mut noise = Noise(71);
    let heads = [1, 10_007, 2].map(|n| Head::noise(layout(Codec::F16, 128), n, &mut noise));
    let views: Vec<View> = heads.iter().map(Head::view).collect();
    let q = noise.numbers(3 * 4 * 128);
    let query = Query { q: &q, rows: 1, heads: &views, bias: None, scale: 0.09 };
    let expected = reference::attend(query);
    for level in levels() {
        assert_close(&attend(level, query), &expected, 1e-5, &format!("{level:?}"));
    }
}

#[test]
fn extreme_biases_choose_slots_and_do_not_overflow() {
    let mut noise = Noise(72);
    let n = 1300;
    let head = Head::noise(layout(Codec::F32, 16), n, &mut noise);
    let only = |slot: usize, low: f32, high: f32| {
        let mut bias = vec![low; n];
        bias[slot] = high;
        bias
    };
    let biases = [
        ("one slot is left, and none in most parts", only(0, NEVER, 0.0)),
        ("a later slot is left", only(1279, NEVER, 0.0)),
        ("one slot outweighs all", only(5, 0.0, 1e30)),
        ("all are equally and immensely unlikely", vec![-1e30; n]),
        ("as unlikely as f32 can say", only(700, f32::MIN, -1.0)),
        ("the first half never", [vec![NEVER; 650], noise.numbers(650)].concat()),
        ("the second half never", [noise.numbers(650), vec![NEVER; 650]].concat()),
    ];
    for rows in ROWS {
        let q = noise.numbers(rows * 3 * 16);
        for (what, bias) in &biases {
            let query = Query { q: &q, rows, heads: &[head.view()], bias: Some(&[bias]), scale: 0.25 };
            let expected = reference::attend(query);
            for level in levels() {
                assert_close(&attend(level, query), &expected, 1e-5, &format!("{level:?} {rows} rows: {what}"));
            }
        }
    }
}

#[test]
fn subnormal_values_are_not_flushed_to_zero() {
    let mut noise = Noise(73);
    // A weight times a scale must be more than a few bits, too.
    let int8 = (Codec::Int8, 1e-36, 1e-3);
    for (codec, size, tolerance) in
        [(Codec::F32, 1e-41, 1e-3), (Codec::Bf16, 1e-39, 1e-3), (Codec::F16, 6e-7, 1e-5), int8]
    {
        let values: Vec<f32> = noise.numbers(100 * 20).iter().map(|x| x * size).collect();
        let head = Head::new(layout(codec, 20), &noise.numbers(100 * 20), &values);
        for rows in ROWS {
            let q = noise.numbers(rows * 2 * 20);
            let query = Query { q: &q, rows, heads: &[head.view()], bias: None, scale: 0.3 };
            let enlarged = |x: f64| x / f64::from(size);
            let expected: Vec<f64> = reference::attend(query).into_iter().map(enlarged).collect();
            assert!(expected.iter().any(|x| x.abs() > 0.05), "the reference has something to compare");
            for level in levels() {
                let got: Vec<f32> = attend(level, query).iter().map(|&x| enlarged(x.into()) as f32).collect();
                assert_close(&got, &expected, tolerance, &format!("{codec:?} {level:?} {rows} rows"));
            }
        }
    }
}

#[test]
fn parts_merge_to_the_whole_and_parts_without_weight_add_nothing() {
    let mut noise = Noise(74);
    let n = 333;
    let whole = Head::noise(layout(Codec::F16, 64), n, &mut noise);
    let parts = [0..160, 160..224, 224..n];
    let q = noise.numbers(2 * 64);
    for nothing in [None, Some(0), Some(1), Some(2)] {
        let mut bias = noise.numbers(n);
        if let Some(part) = nothing {
            bias[parts[part].clone()].fill(NEVER);
        }
        let all = Query { q: &q, rows: 1, heads: &[whole.view()], bias: Some(&[&bias]), scale: 0.3 };
        let expected = reference::attend(all);
        for level in levels() {
            let mut merged = Partial::empty(2, 64);
            for part in parts.clone() {
                let blocks = &whole.blocks[part.start / 32..part.end.div_ceil(32)];
                let view = HeadView { layout: whole.layout, blocks, len: part.len() };
                let query = Query { heads: &[view], bias: Some(&[&bias[part]]), ..all };
                let partial = cpu::attend_partial(level, query).expect("a valid query");
                merged.merge(&partial).expect("the same queries");
            }
            let mut out = vec![0.0; 2 * 64];
            out.chunks_mut(64).enumerate().for_each(|(i, out)| merged.finish(i, out));
            assert_close(&out, &expected, 1e-6, &format!("{level:?}, no weight in part {nothing:?}"));
        }
    }
}

#[test]
fn every_level_gives_the_same_bits_for_any_number_of_threads() {
    let mut noise = Noise(75);
    let lengths = [900, 40, 2000];
    let codecs = [Codec::F16, Codec::Bf16, Codec::Int8];
    let heads: Vec<Head> =
        lengths.iter().zip(codecs).map(|(&n, codec)| Head::noise(layout(codec, 64), n, &mut noise)).collect();
    let views: Vec<View> = heads.iter().map(Head::view).collect();
    for rows in [1, 32] {
        let q = noise.numbers(rows * 9 * 64);
        let positions: Vec<u32> = (2000 - rows as u32..2000).collect();
        let slots: Vec<u32> = (0..2000).collect();
        for level in levels() {
            assert_same_for_any_threads(|| {
                attend(level, Query { q: &q, rows, heads: &views, bias: None, scale: 0.125 })
            });
            assert_same_for_any_threads(|| {
                let window = Window { queries: &q, positions: &positions, query_heads: 9, scale: 0.125 };
                let kernel = WindowScores { rows: RowReduce::Mean, fade: 1.0 };
                window_scores::cpu::window_scores(level, kernel, &window, 2, 3, views[2], &slots).expect("valid")
            });
        }
    }
}

#[test]
fn window_scores_of_hard_numbers_equal_their_reference() {
    let mut noise = Noise(76);
    let (n, d, group) = (333, 20, 3);
    let slots: Vec<u32> = (0..n as u32).map(|i| 3 * i + 1).collect();
    let numbers =
        |factor: f32, noise: &mut Noise| -> Vec<f32> { noise.numbers(n * d).iter().map(|x| x * factor).collect() };
    let keys = [
        ("steep", numbers(2000.0, &mut noise), 4e-3),
        ("subnormal", numbers(1e-41, &mut noise), 1e-6),
        ("equal", vec![0.5; n * d], 1e-6),
        ("zero", vec![0.0; n * d], 1e-6),
    ];
    let positions: Vec<u32> = [0, 1, 2, 500, 996, 997, 2_000_000_000].into();
    let queries = noise.numbers(positions.len() * group * d);
    for (what, keys, tolerance) in &keys {
        let head = Head::new(layout(Codec::F32, d), keys, keys);
        for scale in [0.0, 0.25, -0.25] {
            let window = Window { queries: &queries, positions: &positions, query_heads: group, scale };
            for rows in [RowReduce::Mean, RowReduce::Max, RowReduce::L2, RowReduce::Sum] {
                let kernel = WindowScores { rows, fade: 1.0 };
                let expected = window_scores::reference::window_scores(kernel, &window, 0, 1, head.view(), &slots);
                for level in levels() {
                    let got = window_scores::cpu::window_scores(level, kernel, &window, 0, 1, head.view(), &slots);
                    let what = format!("{what} scale {scale} {rows:?} {level:?}");
                    assert_close(&got.expect("valid"), &expected, *tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn the_norm_of_a_key_with_nan_or_infinity_says_so_and_its_neighbours_do_not() {
    for codec in CODECS {
        for (special, bad) in [(f32::NAN, 3), (f32::INFINITY, 0), (f32::NEG_INFINITY, 16)] {
            let mut keys = vec![1.0; 40 * 17];
            keys[9 * 17 + bad] = special;
            let head = Head::new(layout(codec, 17), &keys, &keys);
            for level in levels() {
                for (slot, norm) in key_norm::cpu::key_norm(level, head.view()).expect("valid").into_iter().enumerate()
                {
                    let good = match slot {
                        // One scale for all of a row.
                        9 if special.is_nan() || codec == Codec::Int8 => norm.is_nan(),
                        9 => norm == f32::INFINITY,
                        _ => (norm - 17f32.sqrt()).abs() < 1e-6,
                    };
                    assert!(good, "{codec:?} {level:?}: the norm of slot {slot} is {norm}");
                }
            }
        }
    }
}
