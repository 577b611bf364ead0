use headwise_core::{Error, Result, Scores};
use headwise_kernels::{Block, Pool1d, Window, WindowScores, group_reduce, window_scores};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::slice::ChunksExact;
use ts_rs::TS;

use super::{Score, with_window};
use crate::about::{About, Asks, Describe, Reads};
use crate::output_norms::Weights;
use crate::{LayerInput, Needs, Weight, WeightBy, attention, checks};

/// SnapKV (arXiv 2404.14469): how much the last prompt queries attend to a slot.
///
/// Softmax of the window's queries over all slots (the window's own are in the denominator, then dropped), reduced over the
/// window's rows and over the query heads of a KV head, and pooled along the positions so that neighbours of an important slot
/// stay too. The window itself is protected.
///
/// The defaults are those of the AdaKV repository's experiments (window 32, max pooling 7, means): the best published record of
/// the variants. kvpress is `{ window: 64, pool: { kind: "average", kernel: 5 }, order: "poolFirst" }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default)]
pub struct SnapKV {
    /// Last tokens whose queries vote and which stay, 1 to 4096. Default 32.
    #[ts(optional, as = "Option<_>")]
    pub window: usize,
    /// Last tokens that stay in any case. Fewer than the window: its other tokens compete by what the queries behind them give. Default: the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub recent: Option<usize>,
    /// How the window's rows are reduced. Default `"mean"`.
    #[ts(optional, as = "Option<_>")]
    pub rows: RowReduce,
    /// What is left of a row's attention for each row behind it, in (0, 1]. Default 1: all count alike.
    #[ts(optional, as = "Option<_>")]
    pub fade: f64,
    /// What attention is multiplied with, before the group is reduced. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub weight: Option<Weight>,
    /// How the query heads of a KV head are reduced. Default `"mean"`.
    #[ts(optional, as = "Option<_>")]
    pub group: GroupReduce,
    /// Pooling along the positions. Default `{ kind: "max", kernel: 7 }`.
    #[ts(optional, as = "Option<_>")]
    pub pool: Pooling,
    /// Whether the group is reduced before pooling. Default `"groupFirst"`.
    #[ts(optional, as = "Option<_>")]
    pub order: PoolOrder,
}

impl Describe for SnapKV {
    const ABOUT: About = About {
        source: "arXiv 2404.14469",
        asks: Asks::Aware,
        reads: &[Reads::Keys],
        deviates: "The query heads of a KV head are reduced before they choose; defaults are the AdaKV repository's (window 32, maximum of 7).",
    };
}

impl Default for SnapKV {
    fn default() -> Self {
        Self {
            window: 32,
            recent: None,
            rows: RowReduce::Mean,
            fade: 1.0,
            weight: None,
            group: GroupReduce::Mean,
            pool: Pooling::Max { kernel: 7 },
            order: PoolOrder::GroupFirst,
        }
    }
}

/// Reduction over the rows of the observation window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum RowReduce {
    /// Mean attention.
    Mean,
    /// The row that attends most: one query that needs a slot is enough.
    Max,
    /// Square root of the sum of squares.
    L2,
    /// Sum of squares (KV-Compress).
    Squares,
    /// Sum; orders like the mean.
    Sum,
}

/// Reduction over the query heads that share a KV head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum GroupReduce {
    /// Mean over the group.
    Mean,
    /// The query head that attends most.
    Max,
    /// Sum; orders like the mean.
    Sum,
}

/// Pooling along the positions, stride 1, as long as its input.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Pooling {
    /// None.
    None {},
    /// Mean over an odd kernel, always divided by the kernel; beyond the ends there are zeros.
    Average {
        /// Odd width, default 5.
        #[serde(default = "average_kernel")]
        #[ts(optional, as = "Option<_>")]
        kernel: usize,
    },
    /// Maximum over an odd kernel.
    Max {
        /// Odd width, default 7.
        #[serde(default = "max_kernel")]
        #[ts(optional, as = "Option<_>")]
        kernel: usize,
    },
    /// s'_j = max over 0 ≤ d ≤ span of decay^d · s_(j−d): importance reaches forward.
    LookAhead {
        /// Reach in slots, at most 4096. Default 24.
        #[serde(default = "look_ahead_span")]
        #[ts(optional, as = "Option<_>")]
        span: usize,
        /// What is left after each slot, in (0, 1]. Default 0.9.
        #[serde(default = "look_ahead_decay")]
        #[ts(optional, as = "Option<_>")]
        decay: f64,
    },
}

fn average_kernel() -> usize {
    5
}

fn max_kernel() -> usize {
    7
}

fn look_ahead_span() -> usize {
    24
}

fn look_ahead_decay() -> f64 {
    0.9
}

/// Which comes first. It matters where one of the two is a maximum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum PoolOrder {
    /// Reduce the group, then pool once per KV head (AdaKV, KVCache-Factory).
    GroupFirst,
    /// Pool every query head, then reduce the group (kvpress).
    PoolFirst,
}

impl SnapKV {
    /// The most that one of the last `window` queries gives in any query head of a KV head, votes fading with age; the last `recent` tokens stay.
    pub(crate) fn strongest_vote(window: usize, fade: f64, recent: usize) -> Self {
        Self {
            window,
            recent: Some(recent),
            rows: RowReduce::Max,
            fade,
            weight: None,
            group: GroupReduce::Max,
            pool: Pooling::None {},
            order: PoolOrder::GroupFirst,
        }
    }

    /// Scores of the slots that are before the last ones, `[kv head][slot]`. `who` asks, for errors.
    pub(super) fn open<B: Block>(&self, who: &str, layer: &LayerInput<B>) -> Result<Vec<Vec<f32>>> {
        let (queries, positions) = layer.window(who, self.window)?;
        let window = Window { queries, positions, query_heads: layer.shape.query_heads(), scale: layer.scale };
        let weights = self.weight.map(|weight| weight.of(who, layer)).transpose()?;
        // A layer may come alone.
        let heads = (0..layer.heads.len()).into_par_iter();
        heads.map(|head| self.head(layer, &window, weights.as_ref(), head)).collect::<Vec<_>>().into_iter().collect()
    }

    /// Scores of the slots of a head that are before the last ones.
    fn head<B: Block>(
        &self,
        layer: &LayerInput<B>,
        window: &Window,
        weights: Option<&Weights>,
        head: usize,
    ) -> Result<Vec<f32>> {
        let start = layer.seen.saturating_sub(self.window());
        let (length, open) = (layer.heads[head].len, layer.slots_before(head, start));
        if open == 0 {
            return Ok(Vec::new());
        }
        let kernel = WindowScores { rows: self.rows.into(), fade: self.fade as f32 };
        let attention = match weights {
            Some(Weights { by: WeightBy::Change, output: Some(norms), .. }) => {
                let rows = attention::changes(layer, "snapKV", self.window, head, norms)?;
                rows.of_query_heads().flat_map(|rows| self.rows.reduce(rows, self.fade)).collect()
            }
            weights => {
                let mut attention =
                    kernel.run(window, head, layer.heads.len(), layer.heads[head], layer.positions[head])?;
                if self.rows == RowReduce::Squares {
                    attention.iter_mut().for_each(|norm| *norm *= *norm);
                }
                if let Some(weights) = weights {
                    let weights = weights.by_query_head(layer, head)?;
                    attention.iter_mut().zip(&*weights).for_each(|(score, weight)| *score *= weight);
                }
                attention
            }
        };
        let rows = attention.chunks_exact(length).map(|row| &row[..open]);
        let (group, reduce) = (layer.shape.group, self.group.into());
        match self.order {
            PoolOrder::GroupFirst => self.pool.run(group_reduce(&rows.collect::<Vec<_>>().concat(), group, reduce)?),
            PoolOrder::PoolFirst => {
                let pooled = rows.map(|row| self.pool.run(row.to_vec())).collect::<Result<Vec<_>>>()?;
                group_reduce(&pooled.concat(), group, reduce)
            }
        }
    }
}

impl Pooling {
    /// The scores of a head's slots, pooled.
    pub(super) fn run(self, row: Vec<f32>) -> Result<Vec<f32>> {
        match self {
            Self::None {} => Ok(row),
            Self::Average { kernel } => Pool1d::Average { kernel }.run(&row),
            Self::Max { kernel } => Pool1d::Max { kernel }.run(&row),
            Self::LookAhead { span, decay } => Pool1d::LookAhead { span, decay: decay as f32 }.run(&row),
        }
    }
}

impl RowReduce {
    /// `[rows][slots]` to `[slots]`, each row times `fade` for every row behind it.
    fn reduce(self, rows: ChunksExact<f32>, fade: f64) -> Vec<f32> {
        let count = rows.len();
        let mut reduced = vec![0.0f32; rows.clone().next().map_or(0, <[f32]>::len)];
        for (row, behind) in rows.zip((0..count as i32).rev()) {
            let left = fade.powi(behind) as f32;
            for (sum, x) in reduced.iter_mut().zip(row.iter().map(|x| x * left)) {
                match self {
                    Self::Mean | Self::Sum => *sum += x,
                    Self::Max => *sum = sum.max(x),
                    Self::L2 | Self::Squares => *sum += x * x,
                }
            }
        }
        match self {
            Self::Mean => reduced.iter_mut().for_each(|x| *x /= count as f32),
            Self::L2 => reduced.iter_mut().for_each(|x| *x = x.sqrt()),
            Self::Max | Self::Sum | Self::Squares => {}
        }
        reduced
    }
}

impl From<RowReduce> for window_scores::RowReduce {
    fn from(reduce: RowReduce) -> Self {
        match reduce {
            RowReduce::Mean => Self::Mean,
            RowReduce::Max => Self::Max,
            RowReduce::L2 | RowReduce::Squares => Self::L2,
            RowReduce::Sum => Self::Sum,
        }
    }
}

impl From<GroupReduce> for window_scores::GroupReduce {
    fn from(reduce: GroupReduce) -> Self {
        match reduce {
            GroupReduce::Mean => Self::Mean,
            GroupReduce::Max => Self::Max,
            GroupReduce::Sum => Self::Sum,
        }
    }
}

impl Score for SnapKV {
    fn needs(&self) -> Needs {
        Needs { window_queries: self.window, ..Needs::default() }
    }

    fn window(&self) -> usize {
        self.recent.unwrap_or(self.window)
    }

    fn score<B: Block>(&self, layer: &LayerInput<B>) -> Result<Scores> {
        Ok(with_window(self.open("snapKV", layer)?, &layer.lengths()))
    }

    fn validate(&self) -> Result<()> {
        checks::window("snapKV.window", self.window, 1)?;
        if !(self.fade > 0.0 && self.fade <= 1.0) {
            return Err(Error::invalid("snapKV.fade", self.fade, "more than 0, at most 1"));
        }
        match self.pool {
            Pooling::Average { kernel } | Pooling::Max { kernel } if kernel % 2 == 0 || kernel > 4095 => {
                Err(Error::invalid("snapKV.pool.kernel", kernel, "odd, at most 4095"))
            }
            Pooling::LookAhead { span, .. } if span > 4096 => {
                Err(Error::invalid("snapKV.pool.span", span, "at most 4096"))
            }
            Pooling::LookAhead { decay, .. } if !(decay > 0.0 && decay <= 1.0) => {
                Err(Error::invalid("snapKV.pool.decay", decay, "more than 0, at most 1"))
            }
            _ => Ok(()),
        }
    }
}
