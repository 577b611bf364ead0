use crate::cuda::{OnDevice, emulators};
use crate::support::*;
use headwise_core::{Codec, Error, Ragged, Scores};
use headwise_emulator::Emulator;
use headwise_kernels::compact::{cuda::compact, reference};
use headwise_kernels::gpu::Rows;
use headwise_kernels::topk_across_heads::cuda::{Kept, topk_across_heads};
use headwise_kernels::{BlockLayout, topk_across_heads as on_cpu};

fn choose(gpu: &Emulator, scores: &Scores, k: usize) -> headwise_core::Result<headwise_core::Selection> {
    let device = Rows::new(gpu, scores).expect("memory");
    topk_across_heads(gpu, &device, k)?.download(gpu)
}

/// Rows of scores that are hard to rank: noise, ties, infinities, both zeros, subnormal numbers.
fn hard(kind: usize, n: usize, noise: &mut Noise) -> Vec<f32> {
    const HARD: [f32; 8] = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-41, -1e-41, 1.0, 0.5];
    match kind {
        0 => noise.numbers(n),
        1 => vec![0.5; n],
        2 => (0..n).map(|_| noise.below(4) as f32 - 2.0).collect(),
        _ => (0..n).map(|_| HARD[noise.below(8)]).collect(),
    }
}

#[test]
fn the_choice_is_that_of_the_cpu() {
    let mut noise = Noise(41);
    for lengths in [&[1usize][..], &[0, 5, 0], &[33, 7, 64], &[1, 9000, 65], &[200; 8], &[2; 300]] {
        for kind in 0..4 {
            let scores = Scores::from_rows(lengths.iter().map(|&n| hard(kind, n, &mut noise)));
            let n = scores.data().len();
            for k in [0, 1, n / 5, n / 2, n - 1, n] {
                let expected = on_cpu(&scores, k).expect("valid");
                for gpu in emulators() {
                    let got = choose(&gpu, &scores, k).expect("valid");
                    assert_eq!(got.total(), k);
                    for head in 0..lengths.len() {
                        assert_eq!(got.head(head), expected.head(head), "{lengths:?} kind {kind} k {k} head {head}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_ranked_is_refused() {
    let gpu = Emulator::default();
    let scores = Scores::from_rows([vec![1.0; 5000], vec![2.0, f32::NAN, 3.0, -f32::NAN]]);
    for k in [0, 1, 5004] {
        assert_eq!(choose(&gpu, &scores, k).err(), Some(Error::NotANumber { what: "scores".into(), index: 5001 }));
    }
    assert!(matches!(choose(&gpu, &scores, 5005), Err(Error::InvalidArgument { .. })));
}

#[test]
fn survivors_move_and_only_they() {
    let mut noise = Noise(42);
    for shape in &SHAPES {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            for keep_one_in in [1, 2, 50] {
                let keep = |head: &Head, noise: &mut Noise| {
                    (0..head.len as u32).filter(|slot| slot % 7 < 2 || noise.below(keep_one_in) == 0).collect()
                };
                let keep: Vec<Vec<u32>> = heads.iter().map(|head| keep(head, &mut noise)).collect();
                for gpu in emulators() {
                    let mut device = OnDevice::new(&gpu, &heads);
                    let lengths: Vec<usize> = heads.iter().map(|head| head.len).collect();
                    let kept = Kept::new(&gpu, Ragged::from_rows(keep.clone()), &lengths).expect("a valid choice");
                    compact(&gpu, &mut device.heads, &kept).expect("valid");
                    for (index, (head, keep)) in heads.iter().zip(&keep).enumerate() {
                        let before: Vec<&[u8]> = head.blocks.iter().map(Vec::as_slice).collect();
                        let expected = reference::compact(&before, head.layout, keep);
                        let after = device.bytes(&gpu, index);
                        let (row, half) = (head.layout.row_bytes(), head.layout.half_bytes());
                        for slot in 0..head.blocks.len() * head.layout.slots {
                            let (block, at) = (slot / head.layout.slots, slot % head.layout.slots * row);
                            // The slots behind the survivors were not touched.
                            let old = (before[block][at..][..row].to_vec(), before[block][half + at..][..row].to_vec());
                            let (k, v) = expected.get(slot).unwrap_or(&old);
                            assert!(after[block][at..][..row] == k[..], "{shape:?} {codec:?} key {slot}");
                            assert!(after[block][half + at..][..row] == v[..], "{shape:?} {codec:?} value {slot}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_choice_among_other_heads_moves_nothing() {
    let gpu = Emulator::default();
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 20, &mut Noise(43));
    let mut device = OnDevice::new(&gpu, std::slice::from_ref(&head));
    for lengths in [&[21][..], &[20, 20]] {
        let kept = Kept::new(&gpu, Ragged::from_rows(vec![vec![3]; lengths.len()]), lengths).expect("memory");
        assert!(matches!(compact(&gpu, &mut device.heads, &kept), Err(Error::ShapeMismatch { .. })));
    }
    let descending = Kept::new(&gpu, Ragged::from_rows([vec![5, 3]]), &[20]).err();
    assert_eq!(descending, Some(Error::InvalidSelection { head: 0, index: 1 }));
    assert!(device.bytes(&gpu, 0) == head.blocks);
}
