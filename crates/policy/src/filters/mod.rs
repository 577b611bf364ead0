//! Which slots may compete at all: budgets that come out of the text. The policy's own budget stays a hard cap.

use headwise_core::{Result, Scores};
use headwise_kernels::Block;

use crate::registry::registry;
use crate::{LayerInput, Needs};

/// Leaves out slots that are not worth a place even where there is one.
pub trait Admit {
    /// What has to be gathered during prefill.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// Whether the scorer's scores are looked at.
    fn uses_scores(&self) -> bool {
        true
    }

    /// For every slot of the layer, `[kv head][slot]`, whether it may compete; protected slots stay whatever is said of them.
    /// `scores` are those of all slots (of none where [`uses_scores`](Self::uses_scores) is false).
    fn admit<B: Block>(&self, layer: &LayerInput<B>, scores: &Scores) -> Result<Vec<Vec<bool>>>;

    /// Checks the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

registry! {
    ($)
    /// Which slots may compete at all.
    pub enum Filter via with_filter {
        nucleus::Nucleus = "nucleus",
        threshold::Threshold = "threshold",
        norm_rule::NormRule = "normRule",
        g_vote::GVote = "gVote",
        sim_layer::SimLayer = "simLayer",
        fast_gen::FastGen = "fastGen",
    }
}

impl Admit for Filter {
    fn needs(&self) -> Needs {
        with_filter!(self, filter => filter.needs())
    }

    fn uses_scores(&self) -> bool {
        with_filter!(self, filter => filter.uses_scores())
    }

    fn admit<B: Block>(&self, layer: &LayerInput<B>, scores: &Scores) -> Result<Vec<Vec<bool>>> {
        with_filter!(self, filter => filter.admit(layer, scores))
    }

    fn validate(&self) -> Result<()> {
        with_filter!(self, filter => filter.validate())
    }
}
