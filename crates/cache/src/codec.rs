//! Numbers into their storage format.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use headwise_core::Codec;

/// Writes `numbers` in `codec` to `bytes`, which must be `codec.row_bytes(numbers.len())` long and aligned to one number.
/// Rounds to nearest, ties to even; what is beyond the range of f16 (65504) becomes infinite.
pub(crate) fn encode(codec: Codec, numbers: &[f32], bytes: &mut [u8]) {
    match codec {
        Codec::F32 => bytes.copy_from_slice(bytemuck::cast_slice(numbers)),
        Codec::Bf16 => bytemuck::cast_slice_mut::<u8, bf16>(bytes).convert_from_f32_slice(numbers),
        Codec::F16 => bytemuck::cast_slice_mut::<u8, f16>(bytes).convert_from_f32_slice(numbers),
    }
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
}
