use crate::cuda::{OnDevice, emulators};
use crate::support::*;
use headwise_core::{Codec, Error, Ragged};
use headwise_emulator::Emulator;
use headwise_kernels::gpu::{Rows, upload};
use headwise_kernels::window_scores::{cuda, reference};
use headwise_kernels::{GroupReduce, Pool1d, RowReduce, Window, WindowScores, group_reduce, pool1d};

/// Positions with gaps, as after an eviction.
fn positions(first: u32, n: usize, noise: &mut Noise) -> Vec<u32> {
    let mut position = first;
    let mut next = || {
        position += 1 + noise.below(3) as u32;
        position
    };
    (0..n).map(|_| next()).collect()
}

#[test]
fn window_scores_equal_their_reference() {
    let mut noise = Noise(20);
    for (index, shape) in SHAPES.iter().enumerate() {
        // Every codec and every reduction over some of the shapes.
        let codecs =
            if shape.lengths.iter().sum::<usize>() * shape.rows > 20_000 { &CODECS[index % 4..][..1] } else { &CODECS };
        let reductions = [(RowReduce::Mean, 1.0), (RowReduce::Max, 0.97), (RowReduce::L2, 0.5), (RowReduce::Sum, 1e-3)];
        // Another one first for each shape.
        let reductions = reductions.into_iter().cycle().skip(index);
        for (&codec, (rows, fade)) in codecs.iter().zip(reductions) {
            let heads = heads(shape, codec, &mut noise);
            let slots: Vec<Vec<u32>> = heads.iter().map(|head| positions(0, head.len, &mut noise)).collect();
            let query_heads = heads.len() * shape.group;
            let queries = noise.numbers(shape.rows * query_heads * shape.head_dim);
            // Rows around the last slots of the shortest head: in it, the first rows lie before every slot.
            let last = slots.iter().filter_map(|slots| slots.last()).min().copied().unwrap_or(0);
            let window = positions(last.saturating_sub(2 * shape.rows as u32), shape.rows, &mut noise);
            let kernel = WindowScores { rows, fade };
            let mut bits = Vec::new();
            for gpu in emulators() {
                let device = OnDevice::new(&gpu, &heads);
                let [slot_positions, positions] =
                    [&slots.concat(), &window].map(|all| upload(&gpu, all).expect("memory"));
                let window = cuda::Window {
                    queries: &upload(&gpu, &queries).expect("memory"),
                    positions: &positions,
                    rows: shape.rows,
                    query_heads,
                    scale: 0.4,
                    heads: &device.heads,
                    slot_positions: &slot_positions,
                };
                let scores = cuda::window_scores(&gpu, kernel, &window).expect("a valid window");
                bits.push(scores.download(&gpu).expect("scores"));
            }
            assert!(bits[0] == bits[1], "{shape:?}: the order of threads shows");
            let window = Window { queries: &queries, positions: &window, query_heads, scale: 0.4 };
            for (kv_head, head) in heads.iter().enumerate() {
                let expected =
                    reference::window_scores(kernel, &window, kv_head, heads.len(), head.view(), &slots[kv_head]);
                let got: Vec<f32> =
                    (0..shape.group).flat_map(|g| bits[0].row(kv_head * shape.group + g)).copied().collect();
                assert_close(&got, &expected, 2e-6, &format!("{shape:?} {codec:?} {rows:?} head {kv_head}"));
            }
        }
    }
}

/// Rows of noise with zeros of both signs and infinities.
fn rows(lengths: &[usize], noise: &mut Noise) -> Ragged<f32> {
    const HARD: [f32; 4] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY];
    Ragged::from_rows(lengths.iter().map(|&n| {
        let mut row = noise.numbers(n);
        row.iter_mut().skip(7).step_by(23).for_each(|x| *x = HARD[noise.below(4)]);
        row
    }))
}

fn bits(row: &[f32]) -> Vec<u32> {
    row.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn pooling_has_the_bits_of_the_cpu() {
    let (gpu, mut noise) = (Emulator::default(), Noise(30));
    let scores = rows(&[1, 0, 33, 2500, 7], &mut noise);
    let pools = [
        Pool1d::Average { kernel: 1 },
        Pool1d::Average { kernel: 5 },
        Pool1d::Max { kernel: 7 },
        Pool1d::Max { kernel: 99 },
        Pool1d::LookAhead { span: 24, decay: 0.9 },
        Pool1d::LookAhead { span: 0, decay: 1.0 },
        Pool1d::LookAhead { span: usize::MAX, decay: 0.5 },
    ];
    for pool in pools {
        let device = Rows::new(&gpu, &scores).expect("memory");
        let pooled = pool1d::cuda::pool1d(&gpu, pool, &device).expect("valid").download(&gpu).expect("scores");
        for (index, row) in scores.iter().enumerate() {
            let expected = pool1d::cpu::pool1d(headwise_kernels::simd::Level::detect(), pool, row);
            let (got, expected) = (pooled.row(index), &expected[..]);
            let equal = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            assert!(got.len() == expected.len() && got.iter().zip(expected).all(equal), "{pool:?} row {index}");
        }
    }
    let poisoned = Ragged::from_rows([vec![1.0, f32::NAN, 9.0, 1.0, 1.0]]);
    for pool in [Pool1d::Average { kernel: 3 }, Pool1d::Max { kernel: 3 }, Pool1d::LookAhead { span: 1, decay: 0.5 }] {
        let device = Rows::new(&gpu, &poisoned).expect("memory");
        let pooled = pool1d::cuda::pool1d(&gpu, pool, &device).expect("valid").download(&gpu).expect("scores");
        let nan: Vec<bool> = pooled.row(0).iter().map(|x| x.is_nan()).collect();
        let before = !matches!(pool, Pool1d::LookAhead { .. });
        assert_eq!(nan, [before, true, true, false, false], "{pool:?}");
    }
    let device = Rows::new(&gpu, &scores).expect("memory");
    let even = pool1d::cuda::pool1d(&gpu, Pool1d::Max { kernel: 2 }, &device).err();
    assert!(matches!(even, Some(Error::InvalidArgument { .. })));
}

#[test]
fn groups_reduce_with_the_bits_of_the_cpu() {
    let (gpu, mut noise) = (Emulator::default(), Noise(31));
    let scores = Ragged::from_rows([1, 1, 1, 0, 0, 0, 1300, 1300, 1300].map(|n: usize| noise.numbers(n)));
    for reduce in [GroupReduce::Mean, GroupReduce::Max, GroupReduce::Sum] {
        let device = Rows::new(&gpu, &scores).expect("memory");
        let got = cuda::group_reduce(&gpu, &device, 3, reduce).expect("valid").download(&gpu).expect("scores");
        assert_eq!(got.rows(), 3);
        for head in 0..3 {
            let group: Vec<f32> = (0..3).flat_map(|g| scores.row(3 * head + g)).copied().collect();
            let expected = group_reduce(&group, 3, reduce).expect("valid");
            assert_eq!(bits(got.row(head)), bits(&expected), "{reduce:?} head {head}");
        }
        for group in [0, 2, 9] {
            let error = cuda::group_reduce(&gpu, &device, group, reduce).err();
            assert!(matches!(error, Some(Error::ShapeMismatch { .. })), "{group}");
        }
    }
}

#[test]
fn windows_that_do_not_fit_are_refused() {
    let gpu = Emulator::default();
    let layout = headwise_kernels::BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let device = OnDevice::new(&gpu, &[Head::noise(layout, 20, &mut Noise(32))]);
    let queries = upload(&gpu, &[0.5f32; 2 * 3 * 16]).expect("memory");
    let slot_positions = upload(&gpu, &(0..20).collect::<Vec<u32>>()).expect("memory");
    let positions = upload(&gpu, &[18u32, 19]).expect("memory");
    let call = |rows: usize, query_heads: usize, scale: f32, fade: f32| {
        let (queries, positions, slot_positions) = (&queries, &positions, &slot_positions);
        let window =
            cuda::Window { queries, positions, rows, query_heads, scale, heads: &device.heads, slot_positions };
        cuda::window_scores(&gpu, WindowScores { rows: RowReduce::Mean, fade }, &window).err()
    };
    assert_eq!(call(2, 3, 1.0, 1.0), None);
    assert!(matches!(call(0, 3, 1.0, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(2, 0, 1.0, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(2, 3, f32::INFINITY, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(3, 2, 1.0, 1.0), Some(Error::ShapeMismatch { .. })));
    assert!(matches!(call(2, 4, 1.0, 1.0), Some(Error::ShapeMismatch { .. })));
    assert!(matches!(call(2, 3, 1.0, 0.0), Some(Error::InvalidArgument { .. })));
}
