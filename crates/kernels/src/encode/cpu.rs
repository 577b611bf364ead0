//! Encoding on the CPU, a row at a time.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use headwise_core::Codec;

/// See [`super::encode`].
pub fn encode(codec: Codec, numbers: &[f32], bytes: &mut [u8]) {
    match codec {
        Codec::F32 => bytes.copy_from_slice(bytemuck::cast_slice(numbers)),
        Codec::Bf16 => bytemuck::cast_slice_mut::<u8, bf16>(bytes).convert_from_f32_slice(numbers),
        Codec::F16 => bytemuck::cast_slice_mut::<u8, f16>(bytes).convert_from_f32_slice(numbers),
        Codec::Int8 => encode_int8(numbers, bytes),
    }
}

fn encode_int8(numbers: &[f32], bytes: &mut [u8]) {
    let (codes, scale_bytes) = bytes.split_at_mut(numbers.len());
    let scale = int8_scale(numbers);
    scale_bytes.copy_from_slice(&scale.to_ne_bytes());
    if scale > 0.0 {
        for (code, x) in codes.iter_mut().zip(numbers) {
            // The sum is rounded to a whole number, which its low bits hold as two's complement.
            *code = (x / scale + 12_582_912.0).to_bits() as u8; // 1.5 · 2^23
        }
    } else {
        codes.fill(0);
    }
}

/// 0 for zeros, NaN where a number is not finite.
fn int8_scale(numbers: &[f32]) -> f32 {
    // Without their sign, the bits of floats are ordered as the floats are, then infinity, then NaN.
    let largest = numbers.iter().fold(0, |largest, x| (x.to_bits() as i32 & i32::MAX).max(largest));
    let largest = f32::from_bits(largest as u32);
    if !largest.is_finite() {
        return f32::NAN;
    }
    let scale = largest / 127.0;
    // Rounded down, it could ask for 128 where it is subnormal. The products are exact.
    if f64::from(scale) * 127.0 < f64::from(largest) { scale.next_up() } else { scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit patterns from the definition of the formats, at every place of a slice: the vector body and the tail must agree.
    #[test]
    fn ties_round_to_even_at_every_place_of_a_slice() {
        let half = [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (2048.0 + 1.0, 0x6800),
            (2050.0 + 1.0, 0x6802),
            (65504.0, 0x7bff),
            (65519.996, 0x7bff),
            (65520.0, 0x7c00),
            (-1e9, 0xfc00),
            (2f32.powi(-24), 0x0001),
            (2f32.powi(-25), 0x0000),
            (2f32.powi(-25) * 1.0001, 0x0001),
        ];
        let brain = [
            (1.0 + 2f32.powi(-8), 0x3f80),
            (1.0 + 3.0 * 2f32.powi(-8), 0x3f82),
            (-3.4e38, 0xff80),
            (1.0 + 2f32.powi(-8) + 2f32.powi(-20), 0x3f81),
        ];
        for (codec, table) in [(Codec::F16, &half[..]), (Codec::Bf16, &brain)] {
            for &(number, bits) in table {
                for place in 0..37 {
                    let mut numbers = [1.0; 37];
                    numbers[place] = number;
                    let mut stored = [0u16; 37];
                    encode(codec, &numbers, bytemuck::cast_slice_mut(&mut stored));
                    let one = if codec == Codec::F16 { 0x3c00 } else { 0x3f80 };
                    let expected: Vec<u16> = (0..37).map(|i| if i == place { bits } else { one }).collect();
                    assert_eq!(stored[..], expected, "{codec:?} {number}");
                }
            }
        }
    }

    fn int8(numbers: &[f32]) -> (Vec<i8>, f32) {
        let mut row = vec![0xaa; Codec::Int8.row_bytes(numbers.len())];
        encode(Codec::Int8, numbers, &mut row);
        let (codes, scale) = row.split_at(numbers.len());
        (codes.iter().map(|&code| code as i8).collect(), f32::from_ne_bytes(scale.try_into().unwrap()))
    }

    #[test]
    fn a_row_of_bytes_comes_back_within_half_a_scale() {
        let mut state = 1u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        // From subnormal rows to those whose largest number is nearly the largest of all.
        for exponent in (-149..=127).chain([-148, -143, -142, -141, 127]) {
            for len in [1, 3, 16, 37, 64, 128] {
                let numbers: Vec<f32> = (0..len).map(|_| (f64::from(noise()) * 2f64.powi(exponent)) as f32).collect();
                let (codes, scale) = int8(&numbers);
                let largest = numbers.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
                assert!(f64::from(scale) * 127.0 >= f64::from(largest), "2^{exponent}: {largest} in scales of {scale}");
                assert!(f64::from(scale.next_down()) * 127.0 < f64::from(largest) || largest == 0.0, "2^{exponent}");
                for (&code, &x) in codes.iter().zip(&numbers) {
                    let back = f64::from(code) * f64::from(scale);
                    // The quotient was rounded to f32 first.
                    let most = f64::from(scale) * (0.5 + 1e-5);
                    assert!(
                        code > -128 && (back - f64::from(x)).abs() <= most,
                        "2^{exponent}: {x} came back as {back}"
                    );
                }
            }
        }
    }

    #[test]
    fn bytes_round_ties_to_even_at_every_place_of_a_row() {
        for (number, code) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (126.5, 126), (-126.5, -126), (2.501, 3)]
        {
            for place in 0..36 {
                let mut numbers = [-3.0; 37];
                numbers[36] = 127.0;
                numbers[place] = number;
                let expected: Vec<i8> = numbers.iter().map(|&x| if x == number { code } else { x as i8 }).collect();
                assert_eq!(int8(&numbers), (expected, 1.0), "{number} at {place}");
            }
        }
    }

    #[test]
    fn rows_of_zeros_and_rows_at_the_ends_of_f32_keep_what_they_can() {
        assert_eq!(int8(&[0.0, -0.0, 0.0]), (vec![0; 3], 0.0));
        assert_eq!(int8(&[]), (vec![], 0.0));
        // Whole numbers of the smallest one: exact, up to 127 of them.
        let one = f32::from_bits(1);
        assert_eq!(int8(&[7.0 * one, -3.0 * one, 127.0 * one]), (vec![7, -3, 127], one));
        assert_eq!(int8(&[190.0 * one, -one]), (vec![95, 0], 2.0 * one));
        let (codes, scale) = int8(&[f32::MAX, -f32::MAX, f32::MAX / 4.0]);
        assert_eq!((codes, scale.is_finite()), (vec![127, -127, 32], true));
    }

    #[test]
    fn a_row_that_is_not_finite_is_nan_and_no_other_is() {
        for special in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in 0..37 {
                let mut numbers = [1.0; 37];
                numbers[place] = special;
                let (codes, scale) = int8(&numbers);
                assert!(scale.is_nan() && codes == [0; 37], "{special} at {place}");
            }
        }
    }
}
