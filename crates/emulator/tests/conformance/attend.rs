use crate::cuda::{OnDevice, emulators};
use crate::support::*;
use headwise_core::{Codec, Error};
use headwise_emulator::Emulator;
use headwise_kernels::attend::{ColumnReduce, Query, cuda, reference};
use headwise_kernels::gpu::{download, upload};
use headwise_kernels::{BlockLayout, HeadView};

type View<'a> = HeadView<'a, Vec<u8>>;

fn run(gpu: &Emulator, heads: &OnDevice, q: &[f32], rows: usize, bias: Option<&[f32]>, scale: f32) -> Vec<f32> {
    attend(gpu, heads, q, rows, bias, scale, None).0
}

/// How columns are reduced, the factors of the rows, and what is in them before.
type Wanted<'a> = (ColumnReduce, Option<&'a [f32]>, &'a [f32]);

/// The output and the columns.
fn attend(
    gpu: &Emulator,
    heads: &OnDevice,
    q: &[f32],
    rows: usize,
    bias: Option<&[f32]>,
    scale: f32,
    wanted: Option<Wanted<'_>>,
) -> (Vec<f32>, Vec<f32>) {
    let (query, bias) = (upload(gpu, q).expect("memory"), bias.map(|bias| upload(gpu, bias).expect("memory")));
    let query_heads = q.len() / rows / heads.head_dim();
    let query = cuda::Query { q: &query, rows, query_heads, heads: &heads.heads, bias: bias.as_ref(), scale };
    let factors = wanted.and_then(|(_, factors, _)| factors).map(|factors| upload(gpu, factors).expect("memory"));
    let mut out = upload(gpu, wanted.map_or(&[][..], |(.., before)| before)).expect("memory");
    let columns = wanted.map(|(reduce, ..)| cuda::Columns { reduce, out: &mut out, factors: factors.as_ref() });
    let attended = cuda::attend(gpu, &query, columns).expect("a valid query");
    let columns = download(gpu, &out, wanted.map_or(0, |(.., before)| before.len())).expect("columns");
    (download(gpu, &attended, q.len()).expect("an output"), columns)
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}

/// Noise, every fifth of it -∞.
fn biases(shape: &Shape, noise: &mut Noise) -> Vec<Vec<f32>> {
    let mut bias: Vec<Vec<f32>> = shape.lengths.iter().map(|&n| noise.numbers(n)).collect();
    bias.iter_mut().flatten().step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
    bias
}

fn scale(shape: &Shape) -> f32 {
    1.0 / (shape.head_dim as f32).sqrt()
}

fn queries(shape: &Shape, noise: &mut Noise) -> Vec<f32> {
    noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim)
}

/// Longer than a chunk of either way, a head_dim of 256, more query heads than a tile has vectors, one row more than is decoded.
const MORE: [Shape; 4] = [
    Shape { lengths: &[2100, 70], group: 2, head_dim: 40, block_slots: 32, rows: 70 },
    Shape { lengths: &[90, 140], group: 3, head_dim: 256, block_slots: 16, rows: 30 },
    Shape { lengths: &[30], group: 70, head_dim: 16, block_slots: 32, rows: 3 },
    Shape { lengths: &[1030, 9], group: 1, head_dim: 192, block_slots: 48, rows: 9 },
];

#[test]
fn attention_equals_its_reference() {
    let mut noise = Noise(1);
    for shape in SHAPES.iter().chain(&MORE) {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            let views: Vec<View> = heads.iter().map(Head::view).collect();
            let q = queries(shape, &mut noise);
            let bias = biases(shape, &mut noise);
            let rows: Vec<&[f32]> = bias.iter().map(Vec::as_slice).collect();
            let scale = scale(shape);
            for biased in [false, true] {
                let reference_bias = biased.then_some(&rows[..]);
                let query = Query { q: &q, rows: shape.rows, heads: &views, bias: reference_bias, scale };
                let expected = reference::attend(query);
                let got = emulators().map(|gpu| {
                    let device = OnDevice::new(&gpu, &heads);
                    run(&gpu, &device, &q, shape.rows, biased.then_some(&bias.concat()[..]), scale)
                });
                assert_close(&got[0], &expected, 1e-5, &format!("{shape:?} {codec:?} bias {biased}"));
                assert!(bits(&got[0]) == bits(&got[1]), "{shape:?}: the order of threads shows");
            }
        }
    }
}

#[test]
fn columns_equal_their_reference_and_do_not_change_the_output() {
    let mut noise = Noise(2);
    for (index, shape) in SHAPES.iter().chain(&MORE).enumerate() {
        // Of the large ones, every codec and every way in some.
        let large = shape.lengths.iter().sum::<usize>() * shape.rows * shape.group * shape.head_dim > 400_000;
        for &codec in if large { &CODECS[index % 4..][..1] } else { &CODECS[..] } {
            let heads = heads(shape, codec, &mut noise);
            let views: Vec<View> = heads.iter().map(Head::view).collect();
            let q = queries(shape, &mut noise);
            let bias = biases(shape, &mut noise);
            let rows: Vec<&[f32]> = bias.iter().map(Vec::as_slice).collect();
            let factors: Vec<f32> = (0..shape.rows).map(|row| 0.1 + (row % 7) as f32).collect();
            let before = noise.numbers(shape.group * shape.lengths.iter().sum::<usize>());
            let ways = [
                (ColumnReduce::Sum, None, false),
                (ColumnReduce::Sum, Some(&factors[..]), true),
                (ColumnReduce::Max, None, true),
                (ColumnReduce::Max, Some(&factors), false),
            ];
            for (way, (reduce, factors, biased)) in ways.into_iter().enumerate() {
                if large && (way + index / 4) % 2 == 0 {
                    continue;
                }
                let what = format!("{shape:?} {codec:?} {reduce:?} factors {} bias {biased}", factors.is_some());
                let biased_by = biased.then_some(&rows[..]);
                let query = Query { q: &q, rows: shape.rows, heads: &views, bias: biased_by, scale: scale(shape) };
                let grown = reference::columns(query, reduce, factors);
                let expected: Vec<f64> = before
                    .iter()
                    .zip(grown)
                    .map(|(&before, grown)| match reduce {
                        ColumnReduce::Sum => f64::from(before) + grown,
                        ColumnReduce::Max => f64::from(before).max(grown),
                    })
                    .collect();
                let bias = bias.concat();
                let bias = biased.then_some(&bias[..]);
                let wanted = (reduce, factors, &before[..]);
                let [got, other] = emulators().map(|gpu| {
                    let device = OnDevice::new(&gpu, &heads);
                    attend(&gpu, &device, &q, shape.rows, bias, scale(shape), Some(wanted))
                });
                let device = OnDevice::new(&emulators()[0], &heads);
                let without = run(&emulators()[0], &device, &q, shape.rows, bias, scale(shape));
                assert!(bits(&got.0) == bits(&without), "{what}: the output changed");
                assert_close(&got.1, &expected, 4e-6, &what);
                assert!(bits(&got.1) == bits(&other.1), "{what}: the order of threads shows");
            }
        }
    }
}

#[test]
fn however_a_prompt_is_cut_prefill_has_the_same_bits_and_sums_are_the_same_but_for_rounding() {
    let (gpu, mut noise) = (Emulator::default(), Noise(4));
    for (codec, block_slots) in [(Codec::F16, 32), (Codec::Int8, 60)] {
        let layout = BlockLayout { codec, head_dim: 64, slots: block_slots };
        let (len, row_len) = (1100, 2 * 3 * 64);
        // Only the last rows are asked for, which see the ends of two chunks.
        let first = 960;
        let heads: Vec<Head> = (0..2).map(|_| Head::noise(layout, len, &mut noise)).collect();
        let q = noise.numbers((len - first) * row_len);
        let chunked = |rows: usize| {
            let (mut out, mut sums) = (Vec::new(), vec![Vec::new(); 6]);
            let mut start = first;
            while start < len {
                // The last rows join the chunk before them where they would be decoded.
                let end = if len - start < rows + 9 { len } else { start + rows };
                let prefixes: Vec<Head> = heads.iter().map(|head| Head { len: end, ..head.clone() }).collect();
                let device = OnDevice::new(&gpu, &prefixes);
                sums.iter_mut().for_each(|sums| sums.resize(end, 0.0));
                let before = sums.concat();
                let q = &q[(start - first) * row_len..(end - first) * row_len];
                let wanted = Some((ColumnReduce::Sum, None, &before[..]));
                let (rows, grown) = attend(&gpu, &device, q, end - start, None, 0.125, wanted);
                out.extend(rows);
                sums = grown.chunks(end).map(<[f32]>::to_vec).collect();
                start = end;
            }
            (out, sums.concat())
        };
        let (whole, sums) = chunked(len - first);
        let sums: Vec<f64> = sums.into_iter().map(f64::from).collect();
        for rows in [9, 22, 65, 100] {
            let (out, other) = chunked(rows);
            assert!(bits(&out) == bits(&whole), "{codec:?}, chunks of {rows}");
            assert_close(&other, &sums, 4e-6, &format!("{codec:?}, chunks of {rows}"));
        }
    }
}

#[test]
fn more_queries_than_are_launched_together_are_attended_to_in_turns() {
    let (gpu, mut noise) = (Emulator::default(), Noise(5));
    // 64 chunks, so 16 tiles of 64 vectors at a time.
    let shape = Shape { lengths: &[9; 64], group: 115, head_dim: 16, block_slots: 16, rows: 9 };
    let heads = heads(&shape, Codec::F16, &mut noise);
    let views: Vec<View> = heads.iter().map(Head::view).collect();
    let q = queries(&shape, &mut noise);
    let expected = reference::attend(Query { q: &q, rows: shape.rows, heads: &views, bias: None, scale: 0.25 });
    let got = run(&gpu, &OnDevice::new(&gpu, &heads), &q, shape.rows, None, 0.25);
    assert_close(&got, &expected, 1e-5, "in turns");
}

#[test]
fn rows_without_weight_give_zeros_and_nan_stays_visible() {
    let gpu = Emulator::default();
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 40, &mut Noise(9));
    let q = Noise(10).numbers(20 * 16);
    let device = OnDevice::new(&gpu, std::slice::from_ref(&head));
    let nothing = [f32::NEG_INFINITY; 40];
    for rows in [2, 20] {
        for reduce in [ColumnReduce::Sum, ColumnReduce::Max] {
            let columns = Some((reduce, None, &[0.0; 40][..]));
            let (out, columns) = attend(&gpu, &device, &q[..rows * 16], rows, Some(&nothing), 1.0, columns);
            assert!(out.iter().chain(&columns).all(|&x| x == 0.0), "{rows} rows {reduce:?}");
        }
    }
    let mut poisoned = head;
    poisoned.blocks[4][5 * 32..][..2].copy_from_slice(&half::f16::NAN.to_ne_bytes()); // the key of slot 37
    let device = OnDevice::new(&gpu, &[poisoned]);
    let sums = Some((ColumnReduce::Sum, None, &[0.0; 40][..]));
    let (out, columns) = attend(&gpu, &device, &q, 20, None, 1.0, sums);
    for (row, out) in out.chunks_exact(16).enumerate() {
        assert!(out.iter().all(|x| x.is_nan() == (row >= 17)), "row {row}");
    }
    assert!(columns.iter().all(|x| x.is_nan()));
    let decoded = attend(&gpu, &device, &q[..16], 1, None, 1.0, sums);
    assert!(decoded.0.iter().chain(&decoded.1).all(|x| x.is_nan()));
}

#[test]
fn a_head_does_not_depend_on_the_others() {
    let gpu = Emulator::default();
    let mut noise = Noise(6);
    for shape in [&SHAPES[3], &SHAPES[10]] {
        let all = heads(shape, Codec::F16, &mut noise);
        let q = queries(shape, &mut noise);
        let row = shape.group * shape.head_dim;
        // The numbers of one head.
        let of = |index: usize, all: &[f32]| -> Vec<f32> {
            all.chunks_exact(row * shape.lengths.len()).flat_map(|all| &all[index * row..][..row]).copied().collect()
        };
        let together = run(&gpu, &OnDevice::new(&gpu, &all), &q, shape.rows, None, 0.125);
        for (index, head) in all.into_iter().enumerate() {
            let alone = run(&gpu, &OnDevice::new(&gpu, &[head]), &of(index, &q), shape.rows, None, 0.125);
            assert!(alone == of(index, &together), "{} rows, head {index}", shape.rows);
        }
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let gpu = Emulator::default();
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let device = OnDevice::new(&gpu, &[Head::noise(layout, 20, &mut Noise(11))]);
    let q = upload(&gpu, &[0.5f32; 64]).expect("memory");
    let query = |rows: usize, query_heads: usize, scale: f32| cuda::Query {
        q: &q,
        rows,
        query_heads,
        heads: &device.heads,
        bias: None,
        scale,
    };
    let call = |rows, query_heads, scale| cuda::attend(&gpu, &query(rows, query_heads, scale), None).err();
    assert_eq!(call(1, 4, 1.0), None);
    assert!(matches!(call(0, 4, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(21, 1, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(1, 0, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(1, 4, f32::NAN), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(2, 4, 1.0), Some(Error::ShapeMismatch { .. })));
    assert!(matches!(call(16, 1 << 27, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(2, usize::MAX, 1.0), Some(Error::InvalidArgument { .. })));
    let columns = |numbers: usize, factors: usize| {
        let mut out = upload(&gpu, &vec![3.0f32; numbers]).expect("memory");
        let factors = upload(&gpu, &vec![1.0f32; factors]).expect("memory");
        let columns = cuda::Columns { reduce: ColumnReduce::Sum, out: &mut out, factors: Some(&factors) };
        let refused = cuda::attend(&gpu, &query(2, 2, 1.0), Some(columns)).err();
        let left: Vec<f32> = download(&gpu, &out, numbers).expect("columns");
        assert!(refused.is_none() || left.iter().all(|&sum| sum == 3.0));
        refused
    };
    let short = |what: &str, expected, got| {
        Some(Error::ShapeMismatch { what: what.into(), expected: vec![expected], got: vec![got] })
    };
    assert_eq!(columns(40, 2), None);
    assert_eq!(columns(39, 2), short("columns", 40, 39));
    assert_eq!(columns(40, 1), short("factors of rows", 2, 1));
}
