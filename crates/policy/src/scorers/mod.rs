//! How much a slot is worth: one file a scorer, one line in the registry below.

use headwise_core::{Result, Scores};
use headwise_kernels::Block;

use crate::registry::registry;
use crate::{LayerInput, Needs};

/// Scores the slots of a layer.
pub trait Score {
    /// What has to be gathered during prefill.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// The last tokens that this scorer cannot judge and therefore protects.
    fn window(&self) -> usize {
        0
    }

    /// Whether some slots before [`Score::window`] get a number that is no score, only because they are to stay.
    fn has_placeholders(&self) -> bool {
        false
    }

    /// One number per (KV head, slot), higher = keep. The slots of [`Score::window`] carry the layer's largest score + 1.
    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores>;

    /// Checks the options.
    fn validate(&self) -> Result<()> {
        Ok(())
    }
}

registry! {
    ($)
    /// How much a slot is worth.
    pub enum Scorer via with_scorer {
        snap_kv::SnapKV = "snapKV",
        knorm::Knorm = "knorm",
        key_diff::KeyDiff = "keyDiff",
        tova::Tova = "tova",
        lag_kv::LagKV = "lagKV",
        cur::Cur = "cur",
        observed_attention::ObservedAttention = "observedAttention",
        h2o::H2O = "h2o",
        expected_attention::ExpectedAttention = "expectedAttention",
        leverage::LeverageScore = "leverage",
        non_causal::NonCausal = "nonCausal",
        compactor::Compactor = "compactor",
        defensive::Defensive = "defensive",
        rest_kv::RestKV = "restKV",
        mix_kv::MixKV = "mixKV",
        aha_kv::AhaKV = "ahaKV",
        nacl::Nacl = "nacl",
        finch::Finch = "finch",
        cake::Cake = "cakeScores",
        lava::Lava = "lavaScores",
        cap_kv::CapKV = "capKV",
        reconstruction::Reconstruction = "reconstruction",
        echo_scores::EchoScores = "echoScores",
        instruction::Instruction = "instruction",
        local::Local = "local",
        weighted::Weighted = "weighted",
        caote::Caote = "caote",
        either::Either = "either",
        recency::Recency = "recency",
        random::Random = "random",
    }
}

pub(crate) use defensive::Parts;
pub(crate) use leverage::cholesky;
pub(crate) use random::{gaussian, mix};
pub use snap_kv::{GroupReduce, PoolOrder, Pooling, RowReduce};

impl Score for Scorer {
    fn needs(&self) -> Needs {
        with_scorer!(self, scorer => scorer.needs())
    }

    fn window(&self) -> usize {
        with_scorer!(self, scorer => scorer.window())
    }

    fn has_placeholders(&self) -> bool {
        with_scorer!(self, scorer => scorer.has_placeholders())
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        with_scorer!(self, scorer => scorer.score(layer))
    }

    fn validate(&self) -> Result<()> {
        with_scorer!(self, scorer => scorer.validate())
    }
}

/// Rows that hold scores of the slots before the window, filled up to `lengths` with the layer's largest score + 1.
pub(crate) fn with_window(mut rows: Vec<Vec<f32>>, lengths: &[usize]) -> Scores {
    let best = rows.iter().flatten().copied().reduce(f32::max).unwrap_or(0.0);
    for (row, &length) in rows.iter_mut().zip(lengths) {
        row.resize(length, best + 1.0);
    }
    Scores::from_rows(rows)
}

/// Rows that hold scores of the slots behind the first ones, each with how many these are, which get the layer's largest score + 1 (and 1 at least).
pub(crate) fn with_first(rows: Vec<(usize, Vec<f32>)>) -> Scores {
    let best = rows.iter().flat_map(|(_, scores)| scores).copied().fold(0.0, f32::max);
    Scores::from_rows(rows.into_iter().map(|(first, scores)| {
        let mut row = vec![best + 1.0; first];
        row.extend(scores);
        row
    }))
}

/// Makes all numbers z-scores: minus their mean, divided by their standard deviation (divisor n − 1), which is taken as 1e−6 at least.
pub(crate) fn standardize(rows: &mut [Vec<f64>]) {
    let count = rows.iter().map(Vec::len).sum::<usize>();
    let mean = rows.iter().flatten().sum::<f64>() / count.max(1) as f64;
    let squares: f64 = rows.iter().flatten().map(|x| (x - mean).powi(2)).sum();
    let deviation = (squares / count.saturating_sub(1).max(1) as f64).sqrt().max(1e-6);
    rows.iter_mut().flatten().for_each(|x| *x = (*x - mean) / deviation);
}
