//! Rotary position embedding (RoFormer, arXiv 2104.09864) with linear (arXiv 2306.15595) and Llama 3.1 frequency scaling.

use std::f64::consts::TAU;

use headwise_core::{Error, Result, Rotation};

use crate::config::{RopeConfig, RopePairing, RopeScaling};

/// Angular frequencies of one model, in radians a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    frequencies: Vec<f64>,
    pairing: RopePairing,
}

/// A 16-bit float that an oracle was rounded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfFloat {
    /// bfloat16.
    Bf16,
    /// 16-bit IEEE float.
    F16,
}

impl Rope {
    /// Frequencies `[head_dim / 2]` of `config`, each divided by its entry of `factors` when there are any (GGUF stores Llama 3
    /// scaling so, as the tensor `rope_freqs.weight`).
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there are not `head_dim / 2` factors, [`Error::InvalidArgument`] when one is not positive.
    pub fn new(config: &RopeConfig, head_dim: usize, factors: Option<&[f32]>) -> Result<Self> {
        let half = head_dim / 2;
        let mut frequencies: Vec<f64> = (0..half)
            .map(|i| scaled(config.theta.powf(-((2 * i) as f64) / head_dim as f64), &config.scaling))
            .collect();
        if let Some(factors) = factors {
            if factors.len() != half {
                return Err(Error::ShapeMismatch {
                    what: "rope frequency factors".into(),
                    expected: vec![half],
                    got: vec![factors.len()],
                });
            }
            for (frequency, &factor) in frequencies.iter_mut().zip(factors) {
                if !(factor.is_finite() && factor > 0.0) {
                    return Err(Error::invalid("rope frequency factor", factor, "a positive number"));
                }
                *frequency /= factor as f64;
            }
        }
        Ok(Self { frequencies, pairing: config.pairing })
    }

    /// The angular frequencies, `[head_dim / 2]`.
    pub fn frequencies(&self) -> &[f64] {
        &self.frequencies
    }

    /// Rounds every frequency to `precision`; see [`crate::Model::round_frequencies`].
    pub fn round(&mut self, precision: HalfFloat) {
        for frequency in &mut self.frequencies {
            *frequency = match precision {
                HalfFloat::F16 => half::f16::from_f64(*frequency).to_f64(),
                HalfFloat::Bf16 => half::bf16::from_f64(*frequency).to_f64(),
            };
        }
    }
}

impl Rotation for Rope {
    fn push_angles(&self, position: u32, cos: &mut Vec<f32>, sin: &mut Vec<f32>) {
        for frequency in &self.frequencies {
            let (s, c) = (frequency * position as f64).sin_cos();
            cos.push(c as f32);
            sin.push(s as f32);
        }
    }

    fn rotate(&self, row: &mut [f32], cos: &[f32], sin: &[f32]) {
        let half = self.frequencies.len();
        let (cos, sin) = (&cos[..half], &sin[..half]);
        for head in row.chunks_exact_mut(2 * half) {
            match self.pairing {
                RopePairing::Halves => {
                    let (low, high) = head.split_at_mut(half);
                    for (((a, b), c), s) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                        (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
                    }
                }
                RopePairing::Neighbours => {
                    for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
                        (pair[0], pair[1]) = (pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s);
                    }
                }
            }
        }
    }
}

fn scaled(frequency: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor,
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let turns = original_context * frequency / TAU;
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            kept * frequency + (1.0 - kept) * frequency / factor
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(scaling: RopeScaling, pairing: RopePairing) -> RopeConfig {
        RopeConfig { theta: 500_000.0, scaling, pairing }
    }

    #[test]
    fn a_pair_turns_by_position_times_frequency() {
        for (pairing, pairs) in [(RopePairing::Halves, [(0, 2), (1, 3)]), (RopePairing::Neighbours, [(0, 1), (2, 3)])] {
            let rope = Rope::new(&config(RopeScaling::None, pairing), 4, None).unwrap();
            let (mut cos, mut sin) = (vec![], vec![]);
            rope.push_angles(3, &mut cos, &mut sin);
            for (i, &(x, y)) in pairs.iter().enumerate() {
                let mut row = [0.0; 8];
                row[4 + x] = 1.0;
                rope.rotate(&mut row, &cos, &sin);
                let angle = 3.0 * 500_000f64.powf(-(i as f64) / 2.0);
                assert!((row[4 + x] as f64 - angle.cos()).abs() < 1e-7);
                assert!((row[4 + y] as f64 - angle.sin()).abs() < 1e-7);
                assert_eq!(row[..4], [0.0; 4]);
            }
        }
    }

    #[test]
    fn linear_scaling_reads_position_n_as_n_over_the_factor() {
        let plain = Rope::new(&config(RopeScaling::None, RopePairing::Halves), 16, None).unwrap();
        let slow = Rope::new(&config(RopeScaling::Linear { factor: 4.0 }, RopePairing::Halves), 16, None).unwrap();
        let (mut a, mut b, mut c, mut d) = (vec![], vec![], vec![], vec![]);
        plain.push_angles(25, &mut a, &mut b);
        slow.push_angles(100, &mut c, &mut d);
        assert_eq!((a, b), (c, d));
    }

    #[test]
    fn llama3_scaling_keeps_short_waves_and_divides_long_ones() {
        let scaling =
            RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192.0 };
        let plain = Rope::new(&config(RopeScaling::None, RopePairing::Halves), 128, None).unwrap();
        let scaled = Rope::new(&config(scaling, RopePairing::Halves), 128, None).unwrap();
        let mut blended = 0;
        for (&before, &after) in plain.frequencies().iter().zip(scaled.frequencies()) {
            let wavelength = TAU / before;
            if wavelength < 8192.0 / 4.0 {
                assert_eq!(after, before);
            } else if wavelength > 8192.0 {
                assert!((after - before / 8.0).abs() <= 1e-15 * before);
            } else {
                blended += 1;
                assert!(before / 8.0 < after && after < before);
            }
        }
        assert_eq!(blended, 6);
    }

    #[test]
    fn factors_divide_frequencies_and_are_checked() {
        let config = config(RopeScaling::None, RopePairing::Halves);
        let plain = Rope::new(&config, 4, None).unwrap();
        let halved = Rope::new(&config, 4, Some(&[1.0, 2.0])).unwrap();
        assert_eq!(halved.frequencies(), [plain.frequencies()[0], plain.frequencies()[1] / 2.0]);
        assert!(matches!(Rope::new(&config, 4, Some(&[1.0])), Err(Error::ShapeMismatch { .. })));
        assert!(matches!(Rope::new(&config, 4, Some(&[1.0, 0.0])), Err(Error::InvalidArgument { .. })));
    }
}
