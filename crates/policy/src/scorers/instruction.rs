use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, GroupReduce, group_reduce};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::Score;
use crate::about::{About, Asks, Describe};
use crate::gather::{Probe, ProbeRows, ProbeText};
use crate::{LayerInput, Needs};

/// CItruS (arXiv 2406.12018): attention of an instruction's tokens, which are read behind the text and leave no trace.
///
/// Mean over the tokens and over the query heads of a KV head. The instruction stands for what will be asked; the text itself need not hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct Instruction {
    /// What is read. Default `"\n\nWhat are the key facts of the text above?"`.
    #[ts(optional, as = "Option<_>")]
    pub text: String,
}

impl Describe for Instruction {
    const ABOUT: About = About {
        source: "arXiv 2406.12018",
        asks: Asks::Agnostic,
        reads: &[],
        deviates: "The default text is ours; each KV head has its own mean, which `shared` adds up to the code's choice for the layer.",
    };
}

impl Default for Instruction {
    fn default() -> Self {
        Self { text: "\n\nWhat are the key facts of the text above?".into() }
    }
}

impl Score for Instruction {
    fn needs(&self) -> Needs {
        let probe = Probe { text: ProbeText::Instruction(self.text.clone()), rows: ProbeRows::Mean };
        Needs { probe: Some(probe), ..Needs::default() }
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        let head = |head| group_reduce(layer.probe("instruction", head)?, layer.shape.group, GroupReduce::Mean);
        Ok(Scores::from_rows((0..layer.heads.len()).map(head).collect::<Result<Vec<_>>>()?))
    }

    fn validate(&self) -> Result<()> {
        match self.text.is_empty() {
            true => Err(Error::invalid("instruction.text", "\"\"", "a text to read")),
            false => Ok(()),
        }
    }
}
