use headwise_core::Result;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPolicy, Expand};
use crate::about::{About, Asks, Describe, Reads};
use crate::{AcrossLayers, Common, GroupReduce, Pooling, RowReduce, SnapKV};

/// KV-Compress (arXiv 2410.00161): squared attention of the last queries, summed over them and the query heads of a KV head; layers and heads compete. One
/// sharp look counts more than many faint ones. (The published system evicts whole blocks of slots; here slot by slot.)
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct KVCompressPolicy {
    /// Last tokens whose queries vote and which stay. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    #[allow(missing_docs)]
    #[serde(flatten)]
    pub common: Common,
}

impl Describe for KVCompressPolicy {
    const ABOUT: About = About {
        source: "arXiv 2410.00161",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "Slot by slot, where the published system evicts whole blocks.",
    };
}

impl Default for KVCompressPolicy {
    fn default() -> Self {
        Self { window: 32, common: Common::default() }
    }
}

impl Expand for KVCompressPolicy {
    fn expand(&self) -> Result<CustomPolicy> {
        let scorer = SnapKV {
            window: self.window,
            rows: RowReduce::Squares,
            group: GroupReduce::Sum,
            pool: Pooling::None {},
            ..SnapKV::default()
        };
        Ok(CustomPolicy {
            selector: AcrossLayers { normalize: false, ..AcrossLayers::default() }.into(),
            common: self.common.clone(),
            ..CustomPolicy::new(scorer)
        })
    }

    fn common_mut(&mut self) -> Option<&mut Common> {
        Some(&mut self.common)
    }
}
