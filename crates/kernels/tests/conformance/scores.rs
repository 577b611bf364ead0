use crate::support::*;
use headwise_core::{Codec, Error};
use headwise_kernels::{
    BlockLayout, GroupReduce, Pool1d, ReuseBuffers, RowReduce, Strips, Window, WindowScores, group_reduce,
};
use headwise_kernels::{image_norms, key_norm, pool1d, window_rows, window_scores, window_sums};

const ROWS: [RowReduce; 4] = [RowReduce::Mean, RowReduce::Max, RowReduce::L2, RowReduce::Sum];

/// Positions with gaps, as after an eviction.
fn positions(first: u32, n: usize, noise: &mut Noise) -> Vec<u32> {
    let mut position = first;
    (0..n)
        .map(|_| {
            position += 1 + noise.below(3) as u32;
            position
        })
        .collect()
}

#[test]
fn window_scores_equal_their_reference() {
    let mut noise = Noise(20);
    for shape in &SHAPES {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            for (kv_head, head) in heads.iter().enumerate() {
                let slots = positions(0, head.len, &mut noise);
                let query_heads = heads.len() * shape.group;
                let queries = noise.numbers(shape.rows * query_heads * shape.head_dim);
                // Rows around the last slots; in short heads the first rows lie before every slot.
                let first = slots[head.len - 1].saturating_sub(2 * shape.rows as u32);
                let rows = positions(first, shape.rows, &mut noise);
                let window = Window { queries: &queries, positions: &rows, query_heads, scale: 0.4 };
                for (rows, fade) in ROWS.into_iter().zip([1.0, 0.97, 0.5, 1e-3]) {
                    let kernel = WindowScores { rows, fade };
                    let expected = window_scores::reference::window_scores(
                        kernel,
                        &window,
                        kv_head,
                        heads.len(),
                        head.view(),
                        &slots,
                    );
                    for level in levels() {
                        let got = window_scores::cpu::window_scores(
                            level,
                            kernel,
                            &window,
                            kv_head,
                            heads.len(),
                            head.view(),
                            &slots,
                        );
                        let what = format!("{shape:?} {codec:?} {rows:?} {level:?}");
                        // The error of a logit, a sum of up to 128 products, becomes one of the probability's digits.
                        assert_close(&got.expect("valid"), &expected, 2e-6, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn window_rows_are_those_that_window_scores_reduce() {
    let mut noise = Noise(24);
    for shape in &SHAPES {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            let (kv_head, head) = (heads.len() - 1, &heads[heads.len() - 1]);
            let slots = positions(0, head.len, &mut noise);
            let (query_heads, width) = (heads.len() * shape.group, heads.len() * shape.group * shape.head_dim);
            let queries = noise.numbers(shape.rows * width);
            let rows = positions(slots[head.len - 1].saturating_sub(2 * shape.rows as u32), shape.rows, &mut noise);
            let window = Window { queries: &queries, positions: &rows, query_heads, scale: 0.4 };
            for level in levels() {
                let got = window_scores::cpu::window_rows(level, &window, kv_head, heads.len(), head.view(), &slots);
                let got = got.expect("valid");
                for (i, row) in rows.iter().enumerate() {
                    // The sum over a window of one row is the row.
                    let queries = &queries[i * width..][..width];
                    let one = Window { queries, positions: std::slice::from_ref(row), query_heads, scale: 0.4 };
                    let kernel = WindowScores { rows: RowReduce::Sum, fade: 1.0 };
                    let expected = window_scores::reference::window_scores(
                        kernel,
                        &one,
                        kv_head,
                        heads.len(),
                        head.view(),
                        &slots,
                    );
                    let of_head = |g: usize| &got[(g * rows.len() + i) * head.len..][..head.len];
                    let got: Vec<f32> = (0..shape.group).flat_map(of_head).copied().collect();
                    assert_close(&got, &expected, 2e-6, &format!("{shape:?} {codec:?} row {i} {level:?}"));
                }
            }
        }
    }
}

#[test]
fn a_window_row_does_not_depend_on_the_others() {
    let mut noise = Noise(31);
    let (head_dim, group, len) = (20, 2, 77);
    let head = Head::noise(BlockLayout { codec: Codec::F16, head_dim, slots: 24 }, len, &mut noise);
    let slots: Vec<u32> = (0..len as u32).collect();
    for count in [1, 3, 4, 5, 7, 8, 10, 11, 12, 13, 24, 80] {
        let width = group * head_dim;
        let mut queries = noise.numbers(count * width);
        // Of the first query head one row is no number.
        let bad = count / 2;
        queries[bad * width + 3] = f32::NAN;
        let positions: Vec<u32> = (0..count as u32).map(|row| 60 + row).collect();
        let window = Window { queries: &queries, positions: &positions, query_heads: group, scale: 0.3 };
        for level in levels() {
            let bits = |rows: &[f32]| rows.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
            let all = window_scores::cpu::window_rows(level, &window, 0, 1, head.view(), &slots).expect("valid");
            for row in 0..count {
                let one =
                    Window { queries: &queries[row * width..][..width], positions: &positions[row..=row], ..window };
                let one = window_scores::cpu::window_rows(level, &one, 0, 1, head.view(), &slots).expect("valid");
                for g in 0..group {
                    let (got, alone) = (&all[(g * count + row) * len..][..len], &one[g * len..][..len]);
                    let seen = positions[row] as usize + 1;
                    assert_eq!(bits(got), bits(alone), "{count} rows, {row} {level:?}");
                    assert!(got[..seen.min(len)].iter().all(|p| p.is_nan() == (g == 0 && row == bad)));
                }
            }
            for rows in ROWS {
                let kernel = WindowScores { rows, fade: 1.0 };
                let scores = window_scores::cpu::window_scores(level, kernel, &window, 0, 1, head.view(), &slots);
                let scores = scores.expect("valid");
                assert!(scores[..len.min(60)].iter().all(|x| x.is_nan()), "{rows:?} forgets a NaN");
                assert!(scores[len..].iter().all(|x| x.is_finite()));
            }
        }
    }
}

#[test]
fn a_hidden_key_that_is_no_number_is_not_seen() {
    let mut noise = Noise(32);
    let layout = BlockLayout { codec: Codec::F32, head_dim: 16, slots: 8 };
    let (mut keys, queries) = (noise.numbers(40 * 16), noise.numbers(2 * 16));
    let slots: Vec<u32> = (0..40).collect();
    let window = Window { queries: &queries, positions: &[20, 30], query_heads: 1, scale: 0.3 };
    let rows = |keys: &[f32]| window_rows(&window, 0, 1, Head::new(layout, keys, keys).view(), &slots).expect("valid");
    let clean = rows(&keys);
    keys[25 * 16] = f32::NAN;
    keys[35 * 16] = f32::INFINITY;
    let got = rows(&keys);
    assert_eq!(got[..40], clean[..40], "the first row sees neither");
    assert!(got[40..].iter().all(|p| p.is_nan()), "the second sees one");
}

#[test]
fn window_sums_are_those_of_the_rows() {
    let mut noise = Noise(28);
    for shape in &SHAPES {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            let (kv_head, head) = (heads.len() - 1, &heads[heads.len() - 1]);
            let slots = positions(0, head.len, &mut noise);
            let query_heads = heads.len() * shape.group;
            // Logits large enough that some slots have next to nothing.
            let queries: Vec<f32> =
                noise.numbers(shape.rows * query_heads * shape.head_dim).iter().map(|x| 8.0 * x).collect();
            let rows = positions(slots[head.len - 1].saturating_sub(2 * shape.rows as u32), shape.rows, &mut noise);
            let window = Window { queries: &queries, positions: &rows, query_heads, scale: 0.4 };
            for level in levels() {
                let all = window_scores::cpu::window_rows(level, &window, kv_head, heads.len(), head.view(), &slots);
                let got = window_scores::cpu::window_sums(level, &window, kv_head, heads.len(), head.view(), &slots);
                let (all, got) = (all.expect("valid"), got.expect("valid"));
                let mut expected = Vec::new();
                for of_head in all.chunks_exact(rows.len() * head.len) {
                    let term = |f: fn(f64) -> f64| -> Vec<f64> {
                        let sum = |slot: usize| of_head.chunks_exact(head.len).map(|row| f(f64::from(row[slot]))).sum();
                        (0..head.len).map(sum).collect()
                    };
                    expected.extend(term(|p| p));
                    expected.extend(term(|p| p * p));
                    expected.extend(term(|p| if p > 0.0 { -p * p.ln() } else { 0.0 }));
                }
                assert_close(&got, &expected, 4e-6, &format!("{shape:?} {codec:?} {level:?}"));
            }
        }
    }
}

#[test]
fn the_probabilities_of_a_window_row_sum_to_one_and_stop_at_its_position() {
    let mut noise = Noise(21);
    let layout = BlockLayout { codec: Codec::F16, head_dim: 64, slots: 32 };
    let head = Head::noise(layout, 500, &mut noise);
    let slots: Vec<u32> = (0..500).map(|i| 2 * i + 7).collect();
    for position in [7, 8, 506, 2000] {
        let queries = noise.numbers(3 * 64);
        let window = Window { queries: &queries, positions: &[position], query_heads: 3, scale: 0.2 };
        let scores =
            WindowScores { rows: RowReduce::Sum, fade: 1.0 }.run(&window, 0, 1, head.view(), &slots).expect("valid");
        for row in scores.chunks(500) {
            let visible = slots.partition_point(|&slot| slot <= position);
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
            assert!(row[..visible].iter().all(|&p| p > 0.0) && row[visible..].iter().all(|&p| p == 0.0));
        }
    }
    let early = Window { queries: &[1.0; 64], positions: &[6], query_heads: 1, scale: 0.2 };
    let scores =
        WindowScores { rows: RowReduce::Mean, fade: 1.0 }.run(&early, 0, 1, head.view(), &slots).expect("valid");
    assert!(scores.iter().all(|&p| p == 0.0), "a row before all slots adds nothing");
}

#[test]
fn window_scores_are_the_same_for_any_number_of_threads() {
    let mut noise = Noise(22);
    let layout = BlockLayout { codec: Codec::F16, head_dim: 64, slots: 32 };
    let head = Head::noise(layout, 900, &mut noise);
    let slots: Vec<u32> = (0..900).collect();
    let queries = noise.numbers(32 * 9 * 64);
    let rows: Vec<u32> = (868..900).collect();
    assert_same_for_any_threads(|| {
        let window = Window { queries: &queries, positions: &rows, query_heads: 9, scale: 0.125 };
        WindowScores { rows: RowReduce::Mean, fade: 1.0 }.run(&window, 1, 3, head.view(), &slots).expect("valid")
    });
}

#[test]
fn nothing_is_left_of_what_was_in_a_buffer_before() {
    let _reuse = ReuseBuffers::start();
    let mut noise = Noise(71);
    for (len, dim) in [(600, 64), (257, 17), (17, 20), (1, 1)] {
        let layout = BlockLayout { codec: Codec::F32, head_dim: dim, slots: 32 };
        let (keys, queries) = (noise.numbers(len * dim), noise.numbers(13 * 2 * dim));
        let (slots, at): (Vec<u32>, Vec<u32>) = ((0..len as u32).collect(), (0..13).map(|row| row * 50).collect());
        let window = Window { queries: &queries, positions: &at, query_heads: 2, scale: 0.1 };
        let bits = |keys: &[f32]| {
            let head = Head::new(layout, keys, keys);
            let scores = WindowScores { rows: RowReduce::L2, fade: 0.9 };
            let norms = image_norms::ImageNorms::new(image_norms::Measure::Magnitude, &[keys[..dim].to_vec()], dim)
                .expect("a row");
            let numbers = [
                window_rows(&window, 0, 1, head.view(), &slots).expect("valid").to_vec(),
                scores.run(&window, 0, 1, head.view(), &slots).expect("valid"),
                window_sums(&window, 0, 1, head.view(), &slots).expect("valid"),
                norms.run(0..1, &Strips::values(head.view())).expect("valid"),
                norms.run(0..1, &Strips::new(keys, dim)).expect("valid"),
                head.view().all_keys().to_vec(),
                head.view().all_values().to_vec(),
            ];
            numbers.concat().into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = bits(&keys);
        bits(&vec![f32::NAN; len * dim]);
        assert_eq!(bits(&keys), expected, "{len} vectors of {dim}");
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 10, &mut Noise(23));
    let slots: Vec<u32> = (0..10).collect();
    let kernel = WindowScores { rows: RowReduce::Max, fade: 1.0 };
    let good = Window { queries: &[0.0; 64], positions: &[8, 9], query_heads: 2, scale: 1.0 };
    let fails = |window: Window, kv_head: usize, kv_heads: usize, slots: &[u32]| {
        kernel.run(&window, kv_head, kv_heads, head.view(), slots).is_err()
    };
    assert!(!fails(good, 0, 1, &slots));
    assert!(fails(good, 1, 1, &slots));
    assert!(fails(good, 0, 0, &slots));
    assert!(fails(good, 0, 3, &slots));
    assert!(fails(good, 0, 1, &slots[1..]));
    assert!(fails(good, 0, 1, &[0; 10]));
    assert!(fails(Window { positions: &[9, 8], ..good }, 0, 1, &slots));
    assert!(fails(Window { positions: &[], queries: &[], ..good }, 0, 1, &slots));
    assert!(fails(Window { queries: &[0.0; 63], ..good }, 0, 1, &slots));
    assert!(fails(Window { query_heads: usize::MAX, ..good }, 0, 1, &slots));
    assert!(fails(Window { scale: f32::INFINITY, ..good }, 0, 1, &slots));
    for fade in [0.0, -0.5, 1.001, f32::NAN] {
        assert!(WindowScores { fade, ..kernel }.run(&good, 0, 1, head.view(), &slots).is_err());
    }
    let empty = headwise_kernels::HeadView { len: 0, ..head.view() };
    assert_eq!(kernel.run(&good, 0, 1, empty, &[]), Ok(vec![]));
}

#[test]
fn groups_are_reduced_as_the_reference_says() {
    let mut noise = Noise(24);
    for (group, n) in [(1, 1), (3, 0), (3, 17), (8, 1000)] {
        let scores = noise.numbers(group * n);
        for reduce in [GroupReduce::Mean, GroupReduce::Max, GroupReduce::Sum] {
            let got = group_reduce(&scores, group, reduce).expect("valid");
            assert_close(&got, &window_scores::reference::group_reduce(&scores, group, reduce), 1e-6, "group");
        }
    }
    assert!(group_reduce(&[0.0; 7], 3, GroupReduce::Max).is_err());
    assert!(group_reduce(&[], 0, GroupReduce::Max).is_err());
    assert!(group_reduce(&[0.0, f32::NAN], 2, GroupReduce::Max).is_err());
}

#[test]
fn pooling_equals_its_reference() {
    let mut noise = Noise(25);
    let pools = [1, 3, 5, 7, 13, 63].map(|kernel| [Pool1d::Average { kernel }, Pool1d::Max { kernel }]);
    let ahead = [(0, 0.9), (1, 0.5), (24, 0.9), (24, 1.0), (5000, 0.01), (usize::MAX, 0.9)];
    let ahead = ahead.map(|(span, decay)| Pool1d::LookAhead { span, decay });
    for pool in pools.into_iter().flatten().chain(ahead) {
        for n in [0, 1, 2, 3, 7, 64, 1001] {
            let mut scores = noise.numbers(n);
            for what in ["noise", "equal", "infinite", "subnormal"] {
                match what {
                    "equal" => scores.fill(0.25),
                    "infinite" => scores.iter_mut().step_by(9).for_each(|x| *x = f32::INFINITY),
                    "subnormal" => scores.iter_mut().for_each(|x| *x = -1e-41),
                    _ => {}
                }
                let expected = pool1d::reference::pool1d(pool, &scores);
                for level in levels() {
                    let got = pool1d::cpu::pool1d(level, pool, &scores);
                    assert_close(&got, &expected, 2e-6, &format!("{pool:?} n {n} {what} {level:?}"));
                }
                assert!(pool.run(&scores).is_ok());
            }
        }
    }
}

#[test]
fn pooled_values_are_those_of_the_definition() {
    let scores = [0.0, 4.0, 0.0, 0.0, 0.0, -2.0];
    let third = 4.0 / 3.0;
    assert_eq!(Pool1d::Average { kernel: 3 }.run(&scores).unwrap(), [third, third, third, 0.0, -2.0 / 3.0, -2.0 / 3.0]);
    assert_eq!(Pool1d::Max { kernel: 3 }.run(&scores).unwrap(), [4.0, 4.0, 4.0, 0.0, 0.0, 0.0]);
    let ahead = Pool1d::LookAhead { span: 2, decay: 0.5 };
    assert_eq!(ahead.run(&scores).unwrap(), [0.0, 4.0, 2.0, 1.0, 0.0, 0.0]);
    assert_eq!(ahead.run(&[f32::NEG_INFINITY; 3]).unwrap(), [f32::NEG_INFINITY; 3]);
    assert_eq!(ahead.run(&[-8.0, -8.0, -8.0]).unwrap(), [-8.0, -4.0, -2.0], "the definition, for negative scores too");
}

#[test]
fn pooling_refuses_even_kernels_bad_decays_and_nan() {
    for pool in [Pool1d::Average { kernel: 4 }, Pool1d::Max { kernel: 0 }] {
        assert!(matches!(pool.run(&[1.0]), Err(Error::InvalidArgument { .. })));
    }
    for decay in [0.0, -0.5, 1.5, f32::NAN, f32::INFINITY] {
        assert!(matches!(Pool1d::LookAhead { span: 3, decay }.run(&[1.0]), Err(Error::InvalidArgument { .. })));
    }
    for pool in [Pool1d::Average { kernel: 3 }, Pool1d::Max { kernel: 3 }, Pool1d::LookAhead { span: 3, decay: 0.9 }] {
        let result = pool.run(&[1.0, 2.0, f32::NAN]);
        assert_eq!(result, Err(Error::NotANumber { what: "pooled scores".into(), index: 2 }));
    }
    assert!(Pool1d::Average { kernel: 3 }.run(&[f32::INFINITY, f32::NEG_INFINITY]).is_err());
}

#[test]
fn key_norms_equal_their_reference() {
    let mut noise = Noise(26);
    for shape in &SHAPES {
        for codec in CODECS {
            for factor in [1.0, 1e-25, 1e25, 6e-6, 2e4] {
                let layout = BlockLayout { codec, head_dim: shape.head_dim, slots: shape.block_slots };
                let keys: Vec<f32> =
                    noise.numbers(shape.lengths[0] * shape.head_dim).iter().map(|x| x * factor).collect();
                if codec == Codec::F16 && factor == 1e25 {
                    continue; // infinite in f16
                }
                let head = Head::new(layout, &keys, &keys);
                let expected: Vec<f64> = key_norm::reference::key_norm(head.view());
                let scaled = |x: f64| if factor < 1.0 { x / factor as f64 } else { x };
                for level in levels() {
                    let got = key_norm::cpu::key_norm(level, head.view()).expect("valid");
                    let got: Vec<f32> = got.iter().map(|&x| scaled(x as f64) as f32).collect();
                    let expected: Vec<f64> = expected.iter().map(|&x| scaled(x)).collect();
                    assert_close(&got, &expected, 2e-6, &format!("{shape:?} {codec:?} {factor} {level:?}"));
                }
            }
        }
    }
    let layout = BlockLayout { codec: Codec::F32, head_dim: 16, slots: 8 };
    assert_eq!(key_norm(Head::new(layout, &[], &[]).view()), Ok(vec![]));
    let infinite = Head::new(layout, &[f32::INFINITY; 16], &[0.0; 16]);
    assert_eq!(key_norm(infinite.view()), Ok(vec![f32::INFINITY]));
}
