use crate::support::*;
use headwise_core::{Codec, Error, Ragged, Scores};
use headwise_kernels::{BlockLayout, compact, topk, topk_across_heads};

/// Rows of scores that are hard to rank: noise, ties, infinities, both zeros, subnormal numbers.
fn hard_rows(n: usize, noise: &mut Noise) -> Vec<Vec<f32>> {
    const HARD: [f32; 8] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-41, -1e-41, 1.0, 0.5];
    vec![
        noise.numbers(n),
        vec![0.5; n],
        (0..n).map(|_| noise.below(4) as f32 - 2.0).collect(),
        (0..n).map(|_| HARD[noise.below(8)]).collect(),
    ]
}

#[test]
fn topk_equals_a_stable_sort() {
    let mut noise = Noise(40);
    for n in [0, 1, 2, 3, 17, 64, 127, 1001, 40_000] {
        for scores in hard_rows(n, &mut noise) {
            for k in [0, 1, n / 5, n / 2, n.saturating_sub(1), n] {
                if k <= n {
                    let kept = topk::reference::topk(&scores, k);
                    for level in levels() {
                        assert_eq!(topk::cpu::topk(level, &scores, k), kept, "{level:?} n {n} k {k}");
                    }
                    assert_eq!(topk(&scores, k).expect("valid"), kept, "n {n} k {k}");
                    let (least, equals) = topk::threshold(&scores, k).expect("valid");
                    let above = scores.iter().filter(|&&score| score > least).count();
                    assert_eq!(above + equals, k, "n {n} k {k}");
                    assert!(kept.iter().all(|&slot| scores[slot as usize] >= least), "n {n} k {k}");
                }
            }
        }
    }
}

#[test]
fn ties_go_to_the_lower_slot_and_then_to_the_lower_head() {
    assert_eq!(topk(&[1.0, 2.0, 1.0, 1.0], 3).unwrap(), [0, 1, 2]);
    assert_eq!(topk(&[-0.0, 0.0, -0.0], 2).unwrap(), [0, 1], "both zeros are equal");
    let equal = Ragged::from_rows([vec![1.0; 3], vec![1.0; 3]]);
    let kept = topk_across_heads(&equal, 3).unwrap();
    assert_eq!((kept.head(0), kept.head(1)), (&[0, 1][..], &[0][..]));
}

#[test]
fn topk_across_heads_equals_a_sort_of_everything_and_keeps_exactly_k() {
    let mut noise = Noise(41);
    for lengths in [&[1usize][..], &[0, 5, 0], &[33, 7, 64], &[1, 1300, 65], &[200; 8]] {
        let rows: Vec<Vec<Vec<f32>>> = lengths.iter().map(|&n| hard_rows(n, &mut noise)).collect();
        for kind in 0..4 {
            let scores = Ragged::from_rows(rows.iter().map(|row| row[kind].clone()));
            let n = scores.data().len();
            for k in [0, 1, n / 5, n / 2, n - 1, n] {
                let kept = topk_across_heads(&scores, k).expect("valid");
                let expected = topk_across_heads::reference::topk_across_heads(&scores, k);
                for level in levels() {
                    let kept = topk_across_heads::cpu::topk_across_heads(level, &scores, k);
                    assert_eq!(kept, expected, "{level:?} {lengths:?} kind {kind} k {k}");
                }
                let kept_rows: Vec<&[u32]> = (0..kept.heads()).map(|head| kept.head(head)).collect();
                assert_eq!(kept_rows, expected.iter().collect::<Vec<_>>(), "{lengths:?} kind {kind} k {k}");
                assert_eq!(kept.total(), k);
            }
        }
    }
}

#[test]
fn nan_and_too_large_counts_are_refused() {
    let nan = Err(Error::NotANumber { what: "scores".into(), index: 1 });
    assert_eq!(topk(&[1.0, f32::NAN], 1), nan);
    assert_eq!(topk(&[1.0, -f32::NAN], 0), nan);
    assert!(matches!(topk(&[1.0], 2), Err(Error::InvalidArgument { .. })));
    let scores = Ragged::from_rows([vec![1.0], vec![f32::NAN]]);
    assert_eq!(topk_across_heads(&scores, 1).err(), nan.err());
    assert!(matches!(topk_across_heads(&Ragged::from_rows([vec![1.0]]), 2), Err(Error::InvalidArgument { .. })));
}

#[test]
fn compaction_moves_survivors_and_only_them() {
    let mut noise = Noise(42);
    for shape in &SHAPES {
        for codec in CODECS {
            for keep_one_in in [1, 2, 5, 50] {
                for head in heads(shape, codec, &mut noise) {
                    let keep: Vec<u32> =
                        (0..head.len as u32).filter(|slot| slot % 7 < 2 || noise.below(keep_one_in) == 0).collect();
                    let before: Vec<&[u8]> = head.blocks.iter().map(Vec::as_slice).collect();
                    let expected = compact::reference::compact(&before, head.layout, &keep);
                    let mut blocks = head.blocks.clone();
                    let mut views: Vec<&mut [u8]> = blocks.iter_mut().map(Vec::as_mut_slice).collect();
                    compact(&mut views, head.layout, &keep).expect("valid");
                    let row = head.layout.row_bytes();
                    for (slot, (k, v)) in expected.iter().enumerate() {
                        let (block, at) = (&blocks[slot / head.layout.slots], slot % head.layout.slots * row);
                        assert_eq!(&block[at..at + row], k, "{shape:?} key {slot}");
                        assert_eq!(&block[head.layout.half_bytes() + at..][..row], v, "{shape:?} value {slot}");
                    }
                    // The slots behind the survivors were not touched.
                    for slot in keep.len()..head.blocks.len() * head.layout.slots {
                        let (block, at) = (slot / head.layout.slots, slot % head.layout.slots * row);
                        assert_eq!(blocks[block][at..at + row], head.blocks[block][at..at + row]);
                    }
                }
            }
        }
    }
}

#[test]
fn selections_that_are_not_ascending_or_out_of_range_move_nothing() {
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 20, &mut Noise(43));
    let attempt = |keep: &[u32], cut: usize| {
        let mut blocks: Vec<Vec<u8>> = head.blocks.iter().map(|block| block[cut..].to_vec()).collect();
        let untouched = blocks.clone();
        let mut views: Vec<&mut [u8]> = blocks.iter_mut().map(Vec::as_mut_slice).collect();
        let result = compact(&mut views, layout, keep);
        assert!(blocks == untouched);
        result
    };
    assert_eq!(attempt(&[], 0), Ok(()));
    assert_eq!(attempt(&[3, 3], 0), Err(Error::InvalidSelection { head: 0, index: 1 }));
    assert_eq!(attempt(&[5, 3], 0), Err(Error::InvalidSelection { head: 0, index: 1 }));
    assert_eq!(attempt(&[24], 0), Err(Error::InvalidSelection { head: 0, index: 0 }));
    assert!(matches!(attempt(&[0], 1), Err(Error::ShapeMismatch { .. })));
}

/// Long rows go another way: a sample guesses the threshold, and must not be believed where it is wrong.
#[test]
fn long_rows_equal_a_stable_sort_whatever_the_sample_saw() {
    let n = 20_000;
    let noise = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6;
    let rows: [Vec<f32>; 6] = [
        (0..n).map(noise).collect(),
        (0..n).map(|i| i as f32).collect(),
        (0..n).map(|i| -(i as f32)).collect(),
        vec![1.5; n],
        // Every sampled score is high, and every one low.
        (0..n).map(|i| if i % 19 == 0 { 9.0 } else { noise(i).sin() }).collect(),
        (0..n).map(|i| if i % 19 == 0 { -9.0 } else { noise(i).floor() }).collect(),
    ];
    for (index, row) in rows.iter().enumerate() {
        for k in [0, 1, 7, 1052, 1053, 1054, 2000, 9_999, 15_000, n - 1, n] {
            assert_eq!(topk(row, k).unwrap(), topk::reference::topk(row, k), "row {index}, {k}");
        }
        let halves = Scores::from_rows([row[..n / 3].to_vec(), row[n / 3..].to_vec()]);
        let kept = topk_across_heads(&halves, 2000).unwrap();
        let expected = topk_across_heads::reference::topk_across_heads(&halves, 2000);
        assert!((0..2).all(|head| kept.head(head) == expected.row(head)), "row {index}");
    }
}
