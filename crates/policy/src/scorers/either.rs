use headwise_core::{Error, Result, Scores};
use headwise_kernels::Block;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{EchoScores, Score, Scorer, SnapKV};
use crate::about::{About, Asks, Describe};
use crate::{LayerInput, Needs};

/// The largest of what several scorers give a slot: one that needs it is enough.
///
/// For scores that mean the same, such as probabilities. The last tokens that one of them cannot judge stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Either {
    /// Whose scores. Default `[{ kind: "echoScores" }, { kind: "snapKV" }]`.
    #[ts(optional, as = "Option<Vec<Scorer>>")]
    pub of: Vec<Scorer>,
}

impl Describe for Either {
    const ABOUT: About = About { source: "ours", asks: Asks::Either, reads: &[], deviates: "" };
}

impl Default for Either {
    fn default() -> Self {
        Self { of: vec![EchoScores::default().into(), SnapKV::default().into()] }
    }
}

impl Score for Either {
    fn needs(&self) -> Needs {
        self.of.iter().fold(Needs::default(), |all, scorer| all.and(scorer.needs()))
    }

    fn window(&self) -> usize {
        self.of.iter().map(Score::window).max().unwrap_or(0)
    }

    fn has_placeholders(&self) -> bool {
        self.of.iter().any(Score::has_placeholders)
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let (first, others) = self.of.split_first().expect("validated");
        let mut scores = first.score(layer)?;
        for other in others {
            let other = other.score(layer)?;
            for head in 0..layer.heads.len() {
                // A NaN of either stays one, to be found.
                let larger = |(a, &b): (&mut f32, &f32)| *a = if a.is_nan() || *a >= b { *a } else { b };
                scores.row_mut(head).iter_mut().zip(other.row(head)).for_each(larger);
            }
        }
        Ok(scores)
    }

    fn validate(&self) -> Result<()> {
        if self.of.is_empty() {
            return Err(Error::invalid("either.of", "[]", "at least one scorer"));
        }
        let probes: Vec<_> = self.of.iter().filter_map(|scorer| scorer.needs().probe).collect();
        if probes.windows(2).any(|pair| pair[0] != pair[1]) {
            let reason = "either over scorers that each read another text behind the cache: one is read a cut".into();
            return Err(Error::InvalidPolicy { reason });
        }
        self.of.iter().try_for_each(Score::validate)
    }
}
