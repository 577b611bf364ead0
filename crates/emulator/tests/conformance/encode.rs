use crate::cuda::{OnDevice, emulators};
use crate::support::*;
use headwise_core::{Codec, Error};
use headwise_emulator::Emulator;
use headwise_kernels::BlockLayout;
use headwise_kernels::encode::{cuda, encode};
use headwise_kernels::gpu::upload;

/// Numbers of all sizes, and now and then one that no format likes.
fn numbers(n: usize, noise: &mut Noise) -> Vec<f32> {
    const HARD: [f32; 12] =
        [0.0, -0.0, 65_504.0, 65_519.996, 65_520.0, 1e-41, -6e-8, 2.9e-8, f32::MAX, f32::INFINITY, f32::NAN, -1e38];
    let mut number = |_| match noise.below(40) {
        0 => HARD[noise.below(12)],
        _ => noise.number() * 2f32.powi(noise.below(40) as i32 - 25),
    };
    (0..n).map(&mut number).collect()
}

#[test]
fn encoding_has_the_bits_of_the_cpu() {
    let mut noise = Noise(50);
    for shape in &SHAPES {
        for codec in CODECS {
            let heads = heads(shape, codec, &mut noise);
            let rows = shape.rows.min(heads.iter().map(|head| head.len).min().unwrap_or(0));
            let (dim, all) = (shape.head_dim, rows * heads.len());
            // Rows of int8 without anything odd too, or every one would be NaN.
            let keys: Vec<f32> = noise.numbers(all * dim);
            let values = numbers(all * dim, &mut noise);
            for gpu in emulators() {
                let mut device = OnDevice::new(&gpu, &heads);
                let [k, v] = [&keys, &values].map(|numbers| upload(&gpu, numbers).expect("memory"));
                cuda::encode(&gpu, &mut device.heads, rows, &k, &v).expect("valid");
                for (index, head) in heads.iter().enumerate() {
                    let layout = head.layout;
                    let mut expected = head.blocks.clone();
                    for row in 0..rows {
                        let slot = head.len - rows + row;
                        let at = slot % layout.slots * layout.row_bytes();
                        let from = (row * heads.len() + index) * dim;
                        for (half, numbers) in [(0, &keys), (layout.half_bytes(), &values)] {
                            // Aligned as the numbers want it.
                            let mut bytes = vec![0u32; layout.row_bytes().div_ceil(4)];
                            let bytes = &mut bytemuck::cast_slice_mut(&mut bytes)[..layout.row_bytes()];
                            encode(codec, &numbers[from..from + dim], bytes);
                            expected[slot / layout.slots][half + at..][..layout.row_bytes()].copy_from_slice(bytes);
                        }
                    }
                    for (got, expected) in device.bytes(&gpu, index).iter().zip(&expected) {
                        assert!(same(codec, got, expected), "{shape:?} {codec:?} head {index}");
                    }
                }
            }
        }
    }
}

/// Equal bytes; a NaN of f16 and bf16 may be any other.
fn same(codec: Codec, a: &[u8], b: &[u8]) -> bool {
    let nan = |bits: u16| match codec {
        Codec::F16 => half::f16::from_bits(bits).is_nan(),
        _ => half::bf16::from_bits(bits).is_nan(),
    };
    match codec {
        Codec::F32 | Codec::Int8 => a == b,
        Codec::F16 | Codec::Bf16 => a.chunks_exact(2).zip(b.chunks_exact(2)).all(|(a, b)| {
            let [a, b] = [a, b].map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
            a == b || (nan(a) && nan(b))
        }),
    }
}

#[test]
fn rows_that_do_not_fit_are_refused() {
    let gpu = Emulator::default();
    let layout = BlockLayout { codec: Codec::F16, head_dim: 16, slots: 8 };
    let head = Head::noise(layout, 20, &mut Noise(51));
    let mut device = OnDevice::new(&gpu, std::slice::from_ref(&head));
    let memory = upload(&gpu, &[1.0f32; 32]).expect("memory");
    let short = cuda::encode(&gpu, &mut device.heads, 3, &memory, &memory).err();
    assert!(matches!(short, Some(Error::ShapeMismatch { .. })));
    let many = cuda::encode(&gpu, &mut device.heads, 21, &memory, &memory).err();
    assert!(matches!(many, Some(Error::InvalidArgument { .. })));
    assert!(device.bytes(&gpu, 0) == head.blocks);
}
