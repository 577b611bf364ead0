use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{GroupReduce, PoolOrder, Pooling, RowReduce, Score, SnapKV, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::{LayerInput, Needs, checks, rows};

/// LAVa's scores (arXiv 2509.09754): SnapKV's attention (maximum pooling) times the largest ‖v‖₁ of the head's slots before the window; maximum over the
/// query heads of a KV head.
///
/// The factor is one number a head: it moves slots between heads and layers, never within a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Lava {
    /// Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Odd width of the maximum. Default 7.
    #[ts(optional, as = "Option<_>")]
    pub kernel: usize,
}

impl Describe for Lava {
    const ABOUT: About = About {
        source: "arXiv 2509.09754",
        asks: Asks::Aware,
        reads: &[Reads::Keys, Reads::Values],
        deviates: "As in the code: the largest value is looked for before the window, not in all of the head.",
    };
}

impl Default for Lava {
    fn default() -> Self {
        Self { window: 32, kernel: 7 }
    }
}

impl Lava {
    fn attention(&self) -> SnapKV {
        SnapKV {
            window: self.window,
            rows: RowReduce::Mean,
            group: GroupReduce::Max,
            pool: Pooling::Max { kernel: self.kernel },
            order: PoolOrder::GroupFirst,
            ..SnapKV::default()
        }
    }
}

impl Score for Lava {
    fn needs(&self) -> Needs {
        self.attention().needs()
    }

    fn window(&self) -> usize {
        self.window
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let mut scores = self.attention().open("lava", layer)?;
        for (row, &view) in scores.iter_mut().zip(layer.heads) {
            let mut most = 0.0f32;
            rows::each_value(view, |slot, value| {
                if slot < row.len() {
                    most = most.max(value.iter().map(|x| x.abs()).sum());
                }
            });
            row.iter_mut().for_each(|score| *score *= most);
        }
        Ok(with_window(scores, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("lava.window", self.window, 1)?;
        checks::kernel("lava.kernel", self.kernel)
    }
}
