use headwise_core::{Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::about::{About, Asks, Describe};
use crate::{LayerInput, Needs, checks};

/// What the text's own queries would look at if it were read once more: our estimate of KVzip's reconstruction without a second reading.
///
/// `s_j` = the largest softmax weight that j gets from a query of its chunk and a query head of the KV head, when the chunk's queries and keys stand
/// behind the chunk a second time ([`crate::gather::Echo`]). It is gathered while tokens are read: the session must have this policy from the
/// start. Needs no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct EchoScores {
    /// Positions of a chunk, 4 to 4096. Default 512.
    #[ts(optional, as = "Option<_>")]
    pub chunk: usize,
}

impl Describe for EchoScores {
    const ABOUT: About = About { source: "ours", asks: Asks::Agnostic, reads: &[], deviates: "" };
}

impl Default for EchoScores {
    fn default() -> Self {
        Self { chunk: 512 }
    }
}

impl Score for EchoScores {
    fn needs(&self) -> Needs {
        Needs { echo: vec![self.chunk], ..Needs::default() }
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let largest = layer.echo("echoScores", self.chunk)?.finish();
        let (heads, group) = (layer.shape.query_heads(), layer.shape.group);
        let head = |head: usize| -> Vec<f32> {
            let score = |&position: &u32| {
                // A slot that was read before the policy was there has none.
                let row = position as usize * heads;
                let of_group = largest.get(row + head * group..row + (head + 1) * group);
                of_group.map_or(0.0, |all| all.iter().copied().fold(0.0, f32::max))
            };
            layer.positions[head].iter().map(score).collect()
        };
        Ok(Scores::from_rows((0..layer.heads.len()).map(head)))
    }

    fn validate(&self) -> Result<()> {
        checks::window("echoScores.chunk", self.chunk, 4)
    }
}
