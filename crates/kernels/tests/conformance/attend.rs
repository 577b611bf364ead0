use crate::support::*;
use headwise_core::{Codec, Error};
use headwise_kernels::attend::{
    DECODE_ROWS, Job, Partial, Query, attend, attend_batch, attend_partial, cpu, reference,
};
use headwise_kernels::simd::Level;
use headwise_kernels::{BlockLayout, HeadView};

type View<'a> = HeadView<'a, Vec<u8>>;

/// The usual codec and the one with scales, in blocks of a number of slots that is a power of two and of one that is not.
const STORED: [(Codec, usize); 2] = [(Codec::F16, 32), (Codec::Int8, 60)];

fn run(level: Level, query: Query<'_, Vec<u8>>) -> Vec<f32> {
    let mut out = vec![f32::NAN; query.q.len()];
    cpu::attend_batch(level, &mut [Job { query, out: &mut out, columns: None }]).expect("a valid query");
    out
}

fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

#[test]
fn attention_equals_its_reference() {
    let mut noise = Noise(1);
    for shape in &SHAPES {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            let views: Vec<View> = heads.iter().map(Head::view).collect();
            let q = noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim);
            let mut bias: Vec<Vec<f32>> = shape.lengths.iter().map(|&n| noise.numbers(n)).collect();
            bias.iter_mut().flatten().step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
            let bias: Vec<&[f32]> = bias.iter().map(Vec::as_slice).collect();
            for bias in [None, Some(&bias[..])] {
                let query = Query { q: &q, rows: shape.rows, heads: &views, bias, scale: scale(shape.head_dim) };
                let expected = reference::attend(query);
                for level in levels() {
                    let what = format!("{shape:?} {codec:?} {level:?} bias {}", bias.is_some());
                    assert_close(&run(level, query), &expected, 1e-5, &what);
                }
            }
        }
    }
}

#[test]
fn hard_numbers_are_exact_enough() {
    // Logits of ±10,000, subnormal values, equal keys.
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 32 };
    let mut noise = Noise(2);
    let len = 200;
    let steep: Vec<f32> = noise.numbers(len * 16).iter().map(|x| x * 600.0).collect();
    let subnormal: Vec<f32> = noise.numbers(len * 16).iter().map(|x| x * 6e-5).collect();
    let equal = vec![1.0; len * 16];
    for keys in [&steep, &subnormal, &equal] {
        for values in [&subnormal, &steep] {
            let head = Head::new(layout, keys, values);
            for rows in [1, 40] {
                let q: Vec<f32> = noise.numbers(rows * 2 * 16).iter().map(|x| x * 2.0).collect();
                let query = Query { q: &q, rows, heads: &[head.view()], bias: None, scale: 1.0 };
                let expected = reference::attend(query);
                for level in levels() {
                    // Logits of 10⁴ carry an f32 rounding of 10⁻³.
                    let tolerance = if std::ptr::eq(keys, &steep) { 4e-3 } else { 1e-6 };
                    let largest = values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
                    let got: Vec<f32> = run(level, query).iter().map(|x| x / largest).collect();
                    let expected: Vec<f64> = expected.iter().map(|x| x / largest as f64).collect();
                    assert_close(&got, &expected, tolerance, &format!("{level:?} {rows} rows"));
                }
            }
        }
    }
}

#[test]
fn every_row_is_a_convex_combination_of_the_values_it_sees() {
    let mut noise = Noise(3);
    for shape in &SHAPES {
        let heads = heads(shape, Codec::F32, &mut noise);
        let views: Vec<View> = heads.iter().map(Head::view).collect();
        let query_heads = shape.lengths.len() * shape.group;
        let q = noise.numbers(shape.rows * query_heads * shape.head_dim);
        let mut out = vec![0.0; q.len()];
        attend(&q, shape.rows, &views, None, scale(shape.head_dim), &mut out).expect("valid");
        for (i, x) in out.iter().enumerate() {
            let (row, d) = (i / shape.head_dim / query_heads, i % shape.head_dim);
            let view = &views[i / shape.head_dim % query_heads / shape.group];
            let seen = (0..view.len - shape.rows + row + 1).map(|slot| view.value(slot, d));
            let (low, high) = seen.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
            assert!(*x >= low - 1e-6 && *x <= high + 1e-6, "{shape:?}: {x} is outside {low}..{high}");
        }
    }
}

#[test]
fn prefill_is_bit_identical_however_the_prompt_is_cut() {
    for (codec, slots) in STORED {
        prefill_is_bit_identical(BlockLayout { codec, head_dim: 64, slots });
    }
}

fn prefill_is_bit_identical(layout: BlockLayout) {
    let mut noise = Noise(4);
    let len = 420;
    let heads: Vec<Head> = (0..2).map(|_| Head::noise(layout, len, &mut noise)).collect();
    let row_len = 2 * 3 * 64;
    let q = noise.numbers(len * row_len);
    let chunked = |level: Level, chunk: usize| -> Vec<f32> {
        let mut out = Vec::new();
        let mut start = 0;
        while start < len {
            // The last rows join the chunk before them where they would be decoded.
            let end = if len - start < chunk + DECODE_ROWS + 1 { len } else { start + chunk };
            let views: Vec<View> = heads.iter().map(|head| head.prefix(end)).collect();
            let q = &q[start * row_len..end * row_len];
            out.extend(run(level, Query { q, rows: end - start, heads: &views, bias: None, scale: 0.125 }));
            start = end;
        }
        out
    };
    for level in levels() {
        let whole = chunked(level, len);
        for chunk in [9, 17, 32, 100, 128, 211] {
            assert!(chunked(level, chunk) == whole, "{layout:?} {level:?}, chunks of {chunk}");
        }
    }
}

#[test]
fn decode_agrees_with_prefill() {
    for (codec, slots) in STORED {
        decode_agrees(BlockLayout { codec, head_dim: 64, slots });
    }
}

fn decode_agrees(layout: BlockLayout) {
    let mut noise = Noise(5);
    let head = Head::noise(layout, 1500, &mut noise);
    let rows = DECODE_ROWS + 4;
    let q = noise.numbers(rows * 3 * 64);
    for level in levels() {
        let prefill = run(level, Query { q: &q, rows, heads: &[head.view()], bias: None, scale: 0.125 });
        for row in 0..rows {
            let view = head.prefix(head.len - rows + row + 1);
            let q = &q[row * 192..][..192];
            let decoded = run(level, Query { q, rows: 1, heads: &[view], bias: None, scale: 0.125 });
            let expected: Vec<f64> = prefill[row * 192..][..192].iter().map(|&x| x as f64).collect();
            assert_close(&decoded, &expected, 2e-6, &format!("{layout:?} {level:?} row {row}"));
        }
    }
}

#[test]
fn results_are_the_same_for_any_number_of_threads_and_in_any_batch() {
    let mut noise = Noise(6);
    let shapes = [&SHAPES[3], &SHAPES[7], &SHAPES[11], &SHAPES[13]];
    let sessions: Vec<(Vec<Head>, Vec<f32>, usize, usize)> = shapes
        .into_iter()
        .zip(STORED.into_iter().cycle())
        .map(|(shape, (codec, _))| {
            let heads = heads(shape, codec, &mut noise);
            let q = noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim);
            (heads, q, shape.rows, shape.head_dim)
        })
        .collect();
    let views: Vec<Vec<View>> = sessions.iter().map(|(heads, ..)| heads.iter().map(Head::view).collect()).collect();
    let query = |i: usize| {
        let (_, q, rows, head_dim) = &sessions[i];
        Query { q, rows: *rows, heads: &views[i], bias: None, scale: scale(*head_dim) }
    };
    let together = || -> Vec<f32> {
        let mut outs: Vec<Vec<f32>> = (0..4).map(|i| vec![0.0; query(i).q.len()]).collect();
        let mut jobs: Vec<_> =
            outs.iter_mut().enumerate().map(|(i, out)| Job { query: query(i), out, columns: None }).collect();
        attend_batch(&mut jobs).expect("valid");
        outs.concat()
    };
    assert_same_for_any_threads(together);
    let alone: Vec<f32> = (0..4).flat_map(|i| run(Level::detect(), query(i))).collect();
    assert!(alone == together());
}

#[test]
fn partial_results_over_two_parts_merge_to_the_whole() {
    let mut noise = Noise(7);
    let layout = BlockLayout { codec: Codec::F32, head_dim: 64, slots: 32 };
    let whole = Head::noise(layout, 333, &mut noise);
    let q = noise.numbers(2 * 64);
    let query = |head: View<'_>, out: &mut Vec<Partial>| {
        out.push(attend_partial(Query { q: &q, rows: 1, heads: &[head], bias: None, scale: 0.3 }).expect("valid"));
    };
    let mut parts = Vec::new();
    query(whole.prefix(160), &mut parts);
    query(HeadView { layout, blocks: &whole.blocks[5..], len: 333 - 160 }, &mut parts);
    let mut merged = Partial::empty(2, 64);
    for part in &parts {
        merged.merge(part).expect("the same queries");
    }
    let mut out = vec![0.0; 128];
    out.chunks_mut(64).enumerate().for_each(|(i, out)| merged.finish(i, out));
    let expected = reference::attend(Query { q: &q, rows: 1, heads: &[whole.view()], bias: None, scale: 0.3 });
    assert_close(&out, &expected, 1e-6, "merged");
    assert!(merged.merge(&Partial::empty(3, 64)).is_err());
    assert!(merged.merge(&Partial::empty(2, 32)).is_err());
}

#[test]
fn a_bias_of_log_n_counts_a_slot_n_times() {
    // The closed form behind merging policies: three equal slots are one slot with a logit higher by ln 3.
    let layout = BlockLayout { codec: Codec::F32, head_dim: 16, slots: 8 };
    let mut noise = Noise(8);
    let (k, v) = (noise.numbers(32), noise.numbers(32));
    let thrice = |x: &[f32]| [&x[..16], &x[..16], &x[..16], &x[16..]].concat();
    let (once, thrice) = (Head::new(layout, &k, &v), Head::new(layout, &thrice(&k), &thrice(&v)));
    let q = noise.numbers(16);
    let bias: &[f32] = &[3f32.ln(), 0.0];
    let query = Query { q: &q, rows: 1, heads: &[once.view()], bias: Some(&[bias]), scale: 1.0 };
    let expected = reference::attend(Query { q: &q, rows: 1, heads: &[thrice.view()], bias: None, scale: 1.0 });
    assert_close(&run(Level::detect(), query), &expected, 1e-6, "votes");
}

#[test]
fn rows_without_weight_give_zeros_and_nan_stays_visible() {
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 40, &mut Noise(9));
    let nothing: &[f32] = &[f32::NEG_INFINITY; 40];
    let mut poisoned = head.clone();
    poisoned.blocks[4][5 * 32..][..2].copy_from_slice(&half::f16::NAN.to_ne_bytes()); // the key of slot 37
    for level in levels() {
        for rows in [2, 20] {
            let q = Noise(10).numbers(rows * 16);
            let query = Query { q: &q, rows, heads: &[head.view()], bias: Some(&[nothing]), scale: 1.0 };
            assert!(run(level, query).iter().all(|&x| x == 0.0));
        }
        let q = Noise(10).numbers(20 * 16);
        let out = run(level, Query { q: &q, rows: 20, heads: &[poisoned.view()], bias: None, scale: 1.0 });
        let poisoned_rows: Vec<usize> =
            (0..20).filter(|row| out[row * 16..][..16].iter().all(|x| x.is_nan())).collect();
        assert_eq!(poisoned_rows, [17, 18, 19], "{level:?}: rows that see slot 37");
        assert!(out[..17 * 16].iter().all(|x| x.is_finite()));
        let decoded = run(level, Query { q: &q[..16], rows: 1, heads: &[poisoned.view()], bias: None, scale: 1.0 });
        assert!(decoded.iter().all(|x| x.is_nan()), "{level:?}");
    }
}

#[test]
fn a_row_of_bytes_with_an_infinity_is_nan_to_all_that_see_it() {
    let layout = BlockLayout { codec: Codec::Int8, head_dim: 16, slots: 8 };
    let mut noise = Noise(12);
    let good = noise.numbers(40 * 16);
    let mut bad = good.clone();
    bad[37 * 16 + 3] = f32::INFINITY;
    for (head, is_key) in [(Head::new(layout, &bad, &good), true), (Head::new(layout, &good, &bad), false)] {
        let q = noise.numbers(20 * 16);
        for level in levels() {
            let out = run(level, Query { q: &q, rows: 20, heads: &[head.view()], bias: None, scale: 1.0 });
            assert!(out[17 * 16..].iter().all(|x| x.is_nan()), "{level:?}");
            // A value that is no number reaches the rows of its tile that do not see it, with a weight of 0.
            assert!(!is_key || out[..17 * 16].iter().all(|x| x.is_finite()), "{level:?}");
            let decoded = run(level, Query { q: &q[..16], rows: 1, heads: &[head.view()], bias: None, scale: 1.0 });
            assert!(decoded.iter().all(|x| x.is_nan()), "{level:?}");
            let before = run(level, Query { q: &q[..16], rows: 1, heads: &[head.prefix(37)], bias: None, scale: 1.0 });
            assert!(before.iter().all(|x| x.is_finite()), "{level:?}");
        }
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 20, &mut Noise(11));
    let view = head.view();
    let q = [0.5; 64];
    let call = |q: &[f32], rows: usize, heads: &[View], bias: Option<&[&[f32]]>, scale: f32| {
        attend(q, rows, heads, bias, scale, &mut vec![0.0; q.len()])
    };
    let invalid = |result: Result<(), Error>| matches!(result, Err(Error::InvalidArgument { .. }));
    let misshaped = |result: Result<(), Error>| matches!(result, Err(Error::ShapeMismatch { .. }));
    assert!(call(&q, 1, &[view], None, 1.0).is_ok());
    assert!(invalid(call(&q, 1, &[], None, 1.0)));
    assert!(invalid(call(&[], 0, &[view], None, 1.0)));
    assert!(invalid(call(&q, 1, &[view], None, f32::NAN)));
    assert!(invalid(call(&[0.0; 16 * 21], 21, &[view], None, 1.0)), "more rows than slots");
    assert!(misshaped(call(&q[..63], 1, &[view], None, 1.0)));
    assert!(misshaped(call(&[], 1, &[view], None, 1.0)));
    assert!(misshaped(call(&q[..48], 1, &[view, view], None, 1.0)), "3 query heads on 2 KV heads");
    assert!(misshaped(call(&q, usize::MAX, &[view], None, 1.0)));
    assert!(misshaped(call(&q, 1, &[HeadView { len: 25, ..view }], None, 1.0)), "more slots than blocks hold");
    let short: Vec<Vec<u8>> = head.blocks.iter().map(|block| block[1..].to_vec()).collect();
    assert!(misshaped(call(&q, 1, &[HeadView { blocks: &short, ..view }], None, 1.0)));
    assert!(misshaped(call(&q, 1, &[view], Some(&[&[0.0; 19]]), 1.0)));
    assert!(invalid(call(&q, 1, &[view], Some(&[&[f32::INFINITY; 20]]), 1.0)));
    assert_eq!(
        call(&q, 1, &[view], Some(&[&[f32::NAN; 20]]), 1.0),
        Err(Error::NotANumber { what: "bias".into(), index: 0 })
    );
    assert!(misshaped(attend(&q, 1, &[view], None, 1.0, &mut [0.0; 63])));
}
