use crate::cuda::{OnDevice, emulators};
use crate::support::*;
use headwise_core::{Codec, Error};
use headwise_emulator::Emulator;
use headwise_kernels::attend::{Query, cuda, reference};
use headwise_kernels::gpu::{download, upload};
use headwise_kernels::{BlockLayout, HeadView};

type View<'a> = HeadView<'a, Vec<u8>>;

fn run(gpu: &Emulator, heads: &OnDevice, q: &[f32], rows: usize, bias: Option<&[f32]>, scale: f32) -> Vec<f32> {
    let (query, bias) = (upload(gpu, q).expect("memory"), bias.map(|bias| upload(gpu, bias).expect("memory")));
    let query_heads = q.len() / rows / heads.head_dim();
    let query = cuda::Query { q: &query, rows, query_heads, heads: &heads.heads, bias: bias.as_ref(), scale };
    let out = cuda::attend(gpu, &query).expect("a valid query");
    download(gpu, &out, q.len()).expect("an output")
}

#[test]
fn attention_equals_its_reference() {
    let mut noise = Noise(1);
    for shape in SHAPES.iter().filter(|shape| shape.rows <= 20) {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            let views: Vec<View> = heads.iter().map(Head::view).collect();
            let q = noise.numbers(shape.rows * shape.lengths.len() * shape.group * shape.head_dim);
            let mut bias: Vec<Vec<f32>> = shape.lengths.iter().map(|&n| noise.numbers(n)).collect();
            bias.iter_mut().flatten().step_by(5).for_each(|x| *x = f32::NEG_INFINITY);
            let rows: Vec<&[f32]> = bias.iter().map(Vec::as_slice).collect();
            let scale = 1.0 / (shape.head_dim as f32).sqrt();
            for biased in [false, true] {
                let reference_bias = biased.then_some(&rows[..]);
                let query = Query { q: &q, rows: shape.rows, heads: &views, bias: reference_bias, scale };
                let expected = reference::attend(query);
                let mut bits = Vec::new();
                for gpu in emulators() {
                    let device = OnDevice::new(&gpu, &heads);
                    let got = run(&gpu, &device, &q, shape.rows, biased.then_some(&bias.concat()[..]), scale);
                    assert_close(&got, &expected, 1e-5, &format!("{shape:?} {codec:?} bias {biased}"));
                    bits.push(got.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
                }
                assert!(bits[0] == bits[1], "{shape:?}: the order of threads shows");
            }
        }
    }
}

#[test]
fn rows_without_weight_give_zeros_and_nan_stays_visible() {
    let gpu = Emulator::default();
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 40, &mut Noise(9));
    let q = Noise(10).numbers(20 * 16);
    let device = OnDevice::new(&gpu, std::slice::from_ref(&head));
    let nothing = [f32::NEG_INFINITY; 40];
    assert!(run(&gpu, &device, &q, 20, Some(&nothing), 1.0).iter().all(|&x| x == 0.0));
    let mut poisoned = head;
    poisoned.blocks[4][5 * 32..][..2].copy_from_slice(&half::f16::NAN.to_ne_bytes()); // the key of slot 37
    let device = OnDevice::new(&gpu, &[poisoned]);
    let out = run(&gpu, &device, &q, 20, None, 1.0);
    for (row, out) in out.chunks_exact(16).enumerate() {
        assert!(out.iter().all(|x| x.is_nan() == (row >= 17)), "row {row}");
    }
}

#[test]
fn a_head_does_not_depend_on_the_others() {
    let gpu = Emulator::default();
    let mut noise = Noise(6);
    let shape = &SHAPES[3];
    let all = heads(shape, Codec::F16, &mut noise);
    let q = noise.numbers(all.len() * shape.group * shape.head_dim);
    let together = run(&gpu, &OnDevice::new(&gpu, &all), &q, 1, None, 0.125);
    let row = shape.group * shape.head_dim;
    for (index, head) in all.into_iter().enumerate() {
        let alone = run(&gpu, &OnDevice::new(&gpu, &[head]), &q[index * row..][..row], 1, None, 0.125);
        assert!(alone == together[index * row..][..row], "head {index}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let gpu = Emulator::default();
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let device = OnDevice::new(&gpu, &[Head::noise(layout, 20, &mut Noise(11))]);
    let q = upload(&gpu, &[0.5f32; 64]).expect("memory");
    let call = |rows: usize, query_heads: usize, scale: f32| {
        cuda::attend(&gpu, &cuda::Query { q: &q, rows, query_heads, heads: &device.heads, bias: None, scale }).err()
    };
    assert_eq!(call(1, 4, 1.0), None);
    assert!(matches!(call(0, 4, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(21, 1, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(1, 0, 1.0), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(1, 4, f32::NAN), Some(Error::InvalidArgument { .. })));
    assert!(matches!(call(2, 4, 1.0), Some(Error::ShapeMismatch { .. })));
}
