//! How much the last queries of a prompt attend to each slot: what SnapKV and its relatives score by.
//!
//! Per window row `i` and query head: `softmax_s(scale · q_i · k_s)` over the slots `s` whose position is not after the row's
//! position; then the rows are reduced ([`RowReduce`]). The columns of the window itself are in the result (and in the
//! softmax); the caller drops them. Source: Li et al. 2024 (SnapKV); reductions: Feng et al. 2024 (Ada-KV repository),
//! KVCache-Factory (sum). L2 is ours. [`group_reduce`] then joins the query heads that share the KV head.

pub mod cpu;
pub mod cuda;
pub mod reference;

use crate::nan::first_nan;
use crate::simd::Level;
use crate::{Block, Buffer, HeadView};
use headwise_core::{Error, Result};

/// How the rows of the window are reduced to one number per slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowReduce {
    /// Sum divided by the number of rows.
    Mean,
    /// Largest.
    Max,
    /// Square root of the sum of squares.
    L2,
    /// Sum.
    Sum,
}

/// How the query heads of a group are reduced to one number per slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupReduce {
    /// Sum divided by the number of heads.
    Mean,
    /// Largest.
    Max,
    /// Sum.
    Sum,
}

/// The observed queries of one layer.
#[derive(Debug, Clone, Copy)]
pub struct Window<'a> {
    /// `[rows][query heads][head_dim]`, after RoPE.
    pub queries: &'a [f32],
    /// Position of each row, ascending. `[rows]`
    pub positions: &'a [u32],
    /// Query heads of the layer.
    pub query_heads: usize,
    /// Factor of `q · k`, usually `1 / √head_dim`.
    pub scale: f32,
}

/// The kernel and its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowScores {
    /// Reduction over the rows of the window.
    pub rows: RowReduce,
    /// What is left of a row's probabilities, before the reduction, for each row behind it, in (0, 1]. 1: all rows count alike.
    pub fade: f32,
}

impl WindowScores {
    /// Scores `[group][head.len]` of KV head `kv_head` of `kv_heads`; `slot_positions` (`[head.len]`, ascending) are the true
    /// positions of its slots. A row before all slots adds nothing.
    ///
    /// # Errors
    /// `ShapeMismatch` and `InvalidArgument` when an argument does not fit the contract (an empty window included).
    pub fn run<B: Block>(
        &self,
        window: &Window<'_>,
        kv_head: usize,
        kv_heads: usize,
        head: HeadView<'_, B>,
        slot_positions: &[u32],
    ) -> Result<Vec<f32>> {
        self.check()?;
        cpu::window_scores(Level::detect(), *self, window, kv_head, kv_heads, head, slot_positions)
    }

    fn check(&self) -> Result<()> {
        match self.fade > 0.0 && self.fade <= 1.0 {
            true => Ok(()),
            false => Err(Error::invalid("fade", self.fade, "a number in (0, 1]")),
        }
    }
}

/// What is left of row `row` of `rows`.
fn faded(fade: f32, row: usize, rows: usize) -> f32 {
    f64::from(fade).powi((rows - 1 - row) as i32) as f32
}

/// The softmax rows themselves, `[group][rows][head.len]`, of KV head `kv_head` of `kv_heads`: what [`WindowScores::run`] reduces.
///
/// # Errors
/// As [`WindowScores::run`].
pub fn window_rows<B: Block>(
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Buffer> {
    cpu::window_rows(Level::detect(), window, kv_head, kv_heads, head, slot_positions)
}

/// Numbers of a slot in [`window_sums`].
pub const SUMS: usize = 3;

/// Sums over the rows of the window of p, p² and −p ln p, `[group][SUMS][head.len]`, of KV head `kv_head` of `kv_heads`: for means, variances and
/// entropies in one pass. The logarithm is taken of the logits, so that 0 ln 0 is 0.
///
/// # Errors
/// As [`WindowScores::run`].
pub fn window_sums<B: Block>(
    window: &Window<'_>,
    kv_head: usize,
    kv_heads: usize,
    head: HeadView<'_, B>,
    slot_positions: &[u32],
) -> Result<Vec<f32>> {
    cpu::window_sums(Level::detect(), window, kv_head, kv_heads, head, slot_positions)
}

/// Reduces `[group][n]` to `[n]`. An empty group is refused.
///
/// # Errors
/// `ShapeMismatch` when `scores` is not `group` rows of one length; `NotANumber` for a NaN, whose maximum has no meaning.
pub fn group_reduce(scores: &[f32], group: usize, reduce: GroupReduce) -> Result<Vec<f32>> {
    if group == 0 || !scores.len().is_multiple_of(group) {
        return Err(Error::ShapeMismatch {
            what: "scores of a group".into(),
            expected: vec![group],
            got: vec![scores.len()],
        });
    }
    if let Some(index) = first_nan(scores) {
        return Err(Error::NotANumber { what: "scores of a group".into(), index });
    }
    Ok(cpu::group_reduce(scores, group, reduce))
}

impl Window<'_> {
    /// Checks everything; gives the size of the query group.
    fn check<B: Block>(
        &self,
        kv_head: usize,
        kv_heads: usize,
        head: HeadView<'_, B>,
        positions: &[u32],
    ) -> Result<usize> {
        head.check()?;
        if self.positions.is_empty() {
            return Err(Error::invalid("window", 0, "at least one row"));
        }
        if kv_head >= kv_heads || self.query_heads == 0 || !self.query_heads.is_multiple_of(kv_heads) {
            return Err(Error::invalid(
                "query_heads",
                self.query_heads,
                "a multiple of the KV heads, one of which is asked for",
            ));
        }
        let expected = [self.positions.len(), self.query_heads, head.layout.head_dim];
        let product = expected.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        if product != Some(self.queries.len()) {
            return Err(Error::ShapeMismatch {
                what: "window queries".into(),
                expected: expected.to_vec(),
                got: vec![self.queries.len()],
            });
        }
        if positions.len() != head.len {
            return Err(Error::ShapeMismatch {
                what: "slot positions".into(),
                expected: vec![head.len],
                got: vec![positions.len()],
            });
        }
        if !self.scale.is_finite() {
            return Err(Error::invalid("scale", self.scale, "a finite factor"));
        }
        let ascending = |positions: &[u32]| positions.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending(positions) || !ascending(self.positions) {
            return Err(Error::invalid("positions", "not ascending", "ascending and unique"));
        }
        Ok(self.query_heads / kv_heads)
    }
}
