use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Score, Scorer};
use crate::about::{About, Asks, Describe};
use crate::{Knorm, LayerInput};

/// Another scorer's scores, computed for each chunk of neighbouring positions as if there were no other (kvpress's ChunkPress).
///
/// For scorers that look at keys and values alone; one that needs queries or what was gathered is refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Local {
    /// Whose scores. Default `{ kind: "knorm" }`.
    #[ts(optional, as = "Option<Scorer>")]
    pub base: Box<Scorer>,
    /// Positions of a chunk. Default 1024.
    #[ts(optional, as = "Option<_>")]
    pub length: usize,
}

impl Describe for Local {
    const ABOUT: About = About { source: "kvpress", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Default for Local {
    fn default() -> Self {
        Self { base: Box::new(Knorm {}.into()), length: 1024 }
    }
}

impl Score for Local {
    fn has_placeholders(&self) -> bool {
        self.base.has_placeholders()
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let mut rows: Vec<Vec<f32>> = layer.heads.iter().map(|head| Vec::with_capacity(head.len)).collect();
        for start in (0..layer.seen).step_by(self.length) {
            let ranges = (0..layer.heads.len())
                .map(|head| layer.slots_before(head, start)..layer.slots_before(head, start + self.length));
            let slots: Vec<Vec<u32>> = ranges.map(|range| range.map(|slot| slot as u32).collect()).collect();
            let scores = layer.excerpt(&slots).with(layer, |part| self.base.score(part))?;
            rows.iter_mut().zip(scores.iter()).for_each(|(row, part)| row.extend_from_slice(part));
        }
        Ok(Scores::from_rows(rows))
    }

    fn validate(&self) -> Result<()> {
        self.base.validate()?;
        if self.length == 0 {
            return Err(Error::invalid("local.length", 0, "at least one position"));
        }
        match self.base.needs() == Default::default() && self.base.window() == 0 {
            true => Ok(()),
            false => Err(Error::InvalidPolicy {
                reason: format!("local over {}, which needs more than keys and values", self.base.kind()),
            }),
        }
    }
}
