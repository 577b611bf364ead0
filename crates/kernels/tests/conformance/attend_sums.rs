use crate::support::*;
use headwise_core::{Codec, Error};
use headwise_kernels::attend::{ColumnReduce, Columns, Job, Query, attend_batch, cpu, reference};
use headwise_kernels::simd::Level;
use headwise_kernels::{BlockLayout, HeadView};

type View<'a> = HeadView<'a, Vec<u8>>;

/// The output, and what the sums grow by from zeros.
fn run(level: Level, query: Query<'_, Vec<u8>>, sums: usize) -> (Vec<f32>, Vec<f32>) {
    columns(level, query, sums, ColumnReduce::Sum, None)
}

fn columns(
    level: Level,
    query: Query<'_, Vec<u8>>,
    len: usize,
    reduce: ColumnReduce,
    factors: Option<&[f32]>,
) -> (Vec<f32>, Vec<f32>) {
    let (mut out, mut columns) = (vec![f32::NAN; query.q.len()], vec![0.0; len]);
    let job = Job { query, out: &mut out, columns: Some(Columns { reduce, out: &mut columns, factors }) };
    cpu::attend_batch(level, &mut [job]).expect("a valid query");
    (out, columns)
}

fn sums(out: &mut [f32]) -> Columns<'_> {
    Columns { reduce: ColumnReduce::Sum, out, factors: None }
}

fn without(level: Level, query: Query<'_, Vec<u8>>) -> Vec<f32> {
    let mut out = vec![f32::NAN; query.q.len()];
    cpu::attend_batch(level, &mut [Job { query, out: &mut out, columns: None }]).expect("a valid query");
    out
}

/// Long enough for several parts, several key tiles and more tiles of queries than there are strands.
const LONG: [Shape; 3] = [
    Shape { lengths: &[1500, 300], group: 3, head_dim: 64, block_slots: 64, rows: 3 },
    Shape { lengths: &[900, 520], group: 6, head_dim: 32, block_slots: 32, rows: 500 },
    Shape { lengths: &[900], group: 1, head_dim: 16, block_slots: 24, rows: 850 },
];

#[test]
fn sums_equal_their_reference_and_do_not_change_the_output() {
    let mut noise = Noise(21);
    for shape in SHAPES.iter().chain(&LONG) {
        // The long ones are as slow in every codec.
        for &codec in if shape.rows * shape.lengths[0] > 100_000 { &CODECS[2..] } else { &CODECS[..] } {
            let heads = heads(shape, codec, &mut noise);
            let views: Vec<View> = heads.iter().map(Head::view).collect();
            let q = noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim);
            let mut bias: Vec<Vec<f32>> = shape.lengths.iter().map(|&n| noise.numbers(n)).collect();
            bias.iter_mut().flatten().step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
            let bias: Vec<&[f32]> = bias.iter().map(Vec::as_slice).collect();
            for bias in [None, Some(&bias[..])] {
                let scale = 1.0 / (shape.head_dim as f32).sqrt();
                let query = Query { q: &q, rows: shape.rows, heads: &views, bias, scale };
                let factors: Vec<f32> = (0..shape.rows).map(|row| 0.1 + (row % 7) as f32).collect();
                // Once for all levels: the reference is slow.
                let kinds = [
                    (ColumnReduce::Sum, None),
                    (ColumnReduce::Sum, Some(&factors[..])),
                    (ColumnReduce::Max, None),
                    (ColumnReduce::Max, Some(&factors)),
                ]
                .map(|(reduce, factors)| (reduce, factors, reference::columns(query, reduce, factors)));
                for level in levels() {
                    let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    let out = without(level, query);
                    for (reduce, factors, expected) in &kinds {
                        let what = format!(
                            "{shape:?} {codec:?} {level:?} bias {} {reduce:?} factors {}",
                            bias.is_some(),
                            factors.is_some()
                        );
                        let (same, columns) = columns(level, query, expected.len(), *reduce, *factors);
                        assert_close(&columns, expected, 4e-6, &what);
                        // Not NaN, and no other zero.
                        assert!(same == out && bits(&same) == bits(&out), "{what}: the output changed");
                    }
                }
            }
        }
    }
}

#[test]
fn the_sums_of_a_head_grow_by_one_a_row() {
    let mut noise = Noise(22);
    for shape in SHAPES.iter().chain(&LONG) {
        let heads = heads(shape, Codec::F16, &mut noise);
        let views: Vec<View> = heads.iter().map(Head::view).collect();
        let q = noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim);
        let query = Query { q: &q, rows: shape.rows, heads: &views, bias: None, scale: 1.0 };
        for level in levels() {
            let (_, sums) = run(level, query, shape.group * shape.lengths.iter().sum::<usize>());
            let mut rest = &sums[..];
            for &len in shape.lengths.iter().flat_map(|len| std::iter::repeat_n(len, shape.group)) {
                let (head, after) = rest.split_at(len);
                rest = after;
                let total: f64 = head.iter().map(|&x| f64::from(x)).sum();
                assert!((total - shape.rows as f64).abs() < 1e-5 * shape.rows as f64, "{shape:?} {level:?}: {total}");
            }
        }
    }
}

#[test]
fn hard_logits_give_exact_enough_sums() {
    // Maxima that rise late by hundreds, so that weights which were kept early vanish; and rows without any weight.
    let layout = BlockLayout { codec: Codec::F32, head_dim: 16, slots: 32 };
    let len = 1400;
    let mut noise = Noise(23);
    let rising: Vec<f32> = (0..len).flat_map(|slot| [slot as f32 * 0.2; 16]).map(|x| x + noise.number()).collect();
    let head = Head::new(layout, &rising, &noise.numbers(len * 16));
    for rows in [1, 7, 40] {
        let q: Vec<f32> = noise.numbers(rows * 2 * 16).iter().map(|x| x.abs()).collect();
        let nothing: &[f32] = &vec![f32::NEG_INFINITY; len];
        for bias in [None, Some(&[nothing][..])] {
            let query = Query { q: &q, rows, heads: &[head.view()], bias, scale: 1.0 };
            let expected = reference::sums(query);
            for level in levels() {
                // Logits of 10³ carry an f32 rounding of 10⁻⁴.
                assert_close(&run(level, query, 2 * len).1, &expected, 1e-3, &format!("{level:?} {rows} rows"));
            }
        }
    }
}

#[test]
fn however_a_prompt_is_cut_the_sums_are_the_same_but_for_rounding() {
    let mut noise = Noise(24);
    let layout = |codec| BlockLayout { codec, head_dim: 64, slots: 32 };
    let (len, row_len) = (420, 2 * 3 * 64);
    let heads: Vec<Head> =
        [Codec::F16, Codec::Int8].into_iter().map(|codec| Head::noise(layout(codec), len, &mut noise)).collect();
    let q = noise.numbers(len * row_len);
    let views: Vec<View> = heads.iter().map(Head::view).collect();
    let expected = reference::sums(Query { q: &q, rows: len, heads: &views, bias: None, scale: 0.125 });
    for level in levels() {
        for chunk in [1, 5, 9, 100, 211, len] {
            let mut sums: Vec<Vec<f32>> = vec![Vec::new(); 6];
            for start in (0..len).step_by(chunk) {
                let end = (start + chunk).min(len);
                let views: Vec<View> = heads.iter().map(|head| head.prefix(end)).collect();
                let q = &q[start * row_len..end * row_len];
                let query = Query { q, rows: end - start, heads: &views, bias: None, scale: 0.125 };
                sums.iter_mut().for_each(|sums| sums.resize(end, 0.0));
                let (mut out, mut flat) = (vec![0.0; q.len()], sums.concat());
                let job = Job { query, out: &mut out, columns: Some(self::sums(&mut flat)) };
                cpu::attend_batch(level, &mut [job]).expect("valid");
                sums = flat.chunks(end).map(<[f32]>::to_vec).collect();
            }
            assert_close(&sums.concat(), &expected, 1e-5, &format!("{level:?}, chunks of {chunk}"));
        }
    }
}

#[test]
fn sums_are_the_same_for_any_number_of_threads_and_in_any_batch() {
    let mut noise = Noise(25);
    let shapes = [&SHAPES[3], &LONG[0], &SHAPES[11], &LONG[1], &SHAPES[7]];
    let sessions: Vec<(Vec<Head>, Vec<f32>)> = shapes
        .map(|shape| {
            let q = noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim);
            (heads(shape, if shape.group == 3 { Codec::Int8 } else { Codec::F16 }, &mut noise), q)
        })
        .into();
    let views: Vec<Vec<View>> = sessions.iter().map(|(heads, ..)| heads.iter().map(Head::view).collect()).collect();
    let query = |i: usize| Query { q: &sessions[i].1, rows: shapes[i].rows, heads: &views[i], bias: None, scale: 0.2 };
    let len = |i: usize| shapes[i].group * shapes[i].lengths.iter().sum::<usize>();
    let together = || -> Vec<f32> {
        let mut outs: Vec<Vec<f32>> = (0..5).map(|i| vec![0.0; query(i).q.len()]).collect();
        let mut sums: Vec<Vec<f32>> = (0..5).map(|i| vec![0.0; len(i)]).collect();
        let jobs = outs.iter_mut().zip(&mut sums).enumerate();
        // The third asks for none.
        let mut jobs: Vec<_> = jobs
            .map(|(i, (out, sums))| Job { query: query(i), out, columns: (i != 2).then(|| self::sums(sums)) })
            .collect();
        attend_batch(&mut jobs).expect("valid");
        outs.into_iter().zip(sums).flat_map(|(out, sums)| [out, sums]).flatten().collect()
    };
    assert_same_for_any_threads(together);
    let alone = (0..5).flat_map(|i| {
        let (out, sums) = run(Level::detect(), query(i), len(i));
        [out, if i == 2 { vec![0.0; len(i)] } else { sums }]
    });
    assert!(alone.flatten().collect::<Vec<_>>() == together());
}

#[test]
fn sums_of_another_size_are_refused_before_anything_is_written() {
    let layout = BlockLayout { codec: Codec::F32, head_dim: 16, slots: 32 };
    let head = Head::noise(layout, 20, &mut Noise(26));
    let q = [0.5; 32];
    let query = Query { q: &q, rows: 1, heads: &[head.view()], bias: None, scale: 1.0 };
    for wrong in [0, 20, 39, 41] {
        let (mut out, mut sums) = ([7.0; 32], vec![3.0; wrong]);
        let refused = attend_batch(&mut [Job { query, out: &mut out, columns: Some(self::sums(&mut sums)) }]);
        let expected = Error::ShapeMismatch { what: "columns".into(), expected: vec![40], got: vec![wrong] };
        assert_eq!(refused, Err(expected));
        assert!(out == [7.0; 32] && sums.iter().all(|&sum| sum == 3.0));
    }
}
