use headwise_core::{Error, KvShape, Result, Scores};
use headwise_kernels::{Block, GroupReduce, Strips, group_reduce};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::about::{About, Asks, Describe};
use crate::gather::{Probe, ProbeRows, ProbeText};
use crate::output_norms::{Norm, OutputNorms};
use crate::{LayerInput, Needs};

/// KVzip (arXiv 2505.23416): what the model looks at when it is made to repeat the text.
///
/// `s_j = max a_ij` over the query heads of a KV head and the tokens i of the repetition of j's part, whose own keys and all of the cache are in the
/// softmax. Normalized (KVzip+): `max a_ij · ‖W_O v_j‖₂ / ‖x_i‖₂`, x_i the normed hidden state of i. The published code computes the
/// softmax over the first 4 tokens, the part and its repetition alone, because it computes it beside the attention; here it is the attention itself,
/// which is the same for a text of one part. It asks for no observation, but for one more reading of the text when the cache is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Reconstruction {
    /// Tokens that are repeated at a time, 16 or more; fewer where the model's context has no room for as many behind the text. Default 2048.
    #[ts(optional, as = "Option<_>")]
    pub chunk: usize,
    /// Weigh attention by what the value adds to the hidden state (KVzip+). Default false.
    #[ts(optional, as = "Option<_>")]
    pub normalized: bool,
}

impl Describe for Reconstruction {
    const ABOUT: About = About {
        source: "arXiv 2505.23416",
        asks: Asks::Agnostic,
        reads: &[],
        deviates: "The softmax is that of the attention, over the whole cache; the code's is over 4 sinks, the part and its repetition.",
    };
}

impl Default for Reconstruction {
    fn default() -> Self {
        Self { chunk: 2048, normalized: false }
    }
}

impl Score for Reconstruction {
    fn needs(&self) -> Needs {
        let rows = if self.normalized { ProbeRows::MaxByInput } else { ProbeRows::Max };
        let probe = Probe { text: ProbeText::Repeat { chunk: self.chunk }, rows };
        Needs { probe: Some(probe), ..Needs::default() }
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let KvShape { group, .. } = layer.shape;
        let norms = match self.normalized {
            true => Some(OutputNorms::of_layer("reconstruction", layer, Norm::L2)?),
            false => None,
        };
        let head = |head: usize| {
            let mut attention = layer.probe("reconstruction", head)?.to_vec();
            if let Some(norms) = &norms {
                let lengths = norms.of_group(head, &Strips::values(layer.heads[head]))?;
                attention.iter_mut().zip(lengths).for_each(|(a, length)| *a *= length);
            }
            group_reduce(&attention, group, GroupReduce::Max)
        };
        Ok(Scores::from_rows((0..layer.heads.len()).map(head).collect::<Result<Vec<_>>>()?))
    }

    fn validate(&self) -> Result<()> {
        match self.chunk >= 16 {
            true => Ok(()),
            false => Err(Error::invalid("reconstruction.chunk", self.chunk, "at least 16 tokens")),
        }
    }
}
