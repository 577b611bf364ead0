use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::LayerInput;
use crate::about::{About, Asks, Describe};

/// The control that any other policy has to beat: scores drawn evenly from [0, 1), independently for every layer, head and token.
///
/// A token's draw depends on the seed, its layer, head and position alone (SplitMix64 over them), so that a second compression goes on with the
/// scores of the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Random {
    /// Other seeds, other draws. Default 0.
    #[ts(optional, as = "Option<_>")]
    pub seed: u32,
}

impl Describe for Random {
    const ABOUT: About = About { source: "common", asks: Asks::Agnostic, reads: &[], deviates: "" };
}

impl Score for Random {
    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let seed = mix(mix(u64::from(self.seed)) ^ layer.layer as u64);
        let rows = layer.positions.iter().enumerate().map(|(head, positions)| {
            let seed = mix(seed ^ head as u64);
            positions.iter().map(|&position| unit(mix(seed ^ u64::from(position)))).collect()
        });
        Ok(Scores::from_rows(rows))
    }
}

/// A step of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The upper 24 bits as a number in [0, 1).
fn unit(x: u64) -> f32 {
    (x >> 40) as f32 / (1 << 24) as f32
}

/// A number in (0, 1) from all bits.
pub(super) fn uniform(x: u64) -> f64 {
    ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The `index`th number of a normal distribution of mean 0 and variance 1 (Box and Muller 1958).
pub(crate) fn gaussian(seed: u64, index: u64) -> f64 {
    let draw = |x: u64| uniform(mix(seed ^ mix(x)));
    (-2.0 * draw(2 * index).ln()).sqrt() * (std::f64::consts::TAU * draw(2 * index + 1)).cos()
}
