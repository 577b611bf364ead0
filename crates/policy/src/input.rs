//! What a policy sees of one layer.

use headwise_core::{Error, KvShape, Result};
use headwise_kernels::{Block, HeadView};

/// What must be gathered while the prompt is read. Keys and values need no gathering: they are in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Post-RoPE queries of this many last positions, every layer.
    pub window_queries: usize,
    /// The attention that each slot gets, summed over all queries, every layer. It cannot be had later.
    pub running_sums: bool,
}

impl Needs {
    /// What serves both.
    pub fn and(self, other: Self) -> Self {
        Self {
            window_queries: self.window_queries.max(other.window_queries),
            running_sums: self.running_sums || other.running_sums,
        }
    }
}

/// One layer of a session, borrowed.
pub struct LayerInput<'a, B> {
    /// Index of the layer.
    pub layer: usize,
    /// The cache, `[kv_heads]`.
    pub heads: &'a [HeadView<'a, B>],
    /// Position of each slot, ascending, `[kv_heads][slots]`.
    pub positions: &'a [&'a [u32]],
    /// Post-RoPE queries of the last observed tokens, `[rows][query heads][head_dim]`; may be more than the policy needs.
    pub queries: &'a [f32],
    /// Positions of these queries, ascending, `[rows]`; the last is `seen − 1`.
    pub query_positions: &'a [u32],
    /// The attention that each slot got from all queries since it was stored, summed: per query head one number for each slot of its KV head,
    /// head after head. `None` where it was not gathered.
    pub running_sums: Option<&'a [f32]>,
    /// Dimensions of the whole cache.
    pub shape: KvShape,
    /// Tokens seen so far (the next position), not slots left.
    pub seen: usize,
    /// What attention logits are multiplied with, 1/√D for most models.
    pub scale: f32,
}

impl<'a, B: Block> LayerInput<'a, B> {
    /// Slots of each head.
    pub fn lengths(&self) -> Vec<usize> {
        self.heads.iter().map(|head| head.len).collect()
    }

    /// Slots of a head whose position is below `position`; positions ascend, so they are its first ones.
    pub fn slots_before(&self, head: usize, position: usize) -> usize {
        self.positions[head].partition_point(|&p| (p as usize) < position)
    }

    /// The last `min(window, seen)` observed queries and their positions. [`Error::ObservationMissing`] if fewer were observed.
    pub fn window(&self, scorer: &str, window: usize) -> Result<(&'a [f32], &'a [u32])> {
        let need = window.min(self.seen);
        let have = self.query_positions.len();
        if have < need {
            return Err(missing(scorer, "queries", need, have));
        }
        let row = self.shape.query_heads() * self.shape.head_dim;
        Ok((&self.queries[(have - need) * row..], &self.query_positions[have - need..]))
    }

    /// The sums of a KV head, `[group][slots]`. [`Error::ObservationMissing`] if none were gathered.
    pub fn running_sums(&self, scorer: &str, head: usize) -> Result<&'a [f32]> {
        let sums = self.running_sums.ok_or_else(|| missing(scorer, "running attention sums", self.seen, 0))?;
        let numbers = |heads: &[HeadView<B>]| self.shape.group * heads.iter().map(|head| head.len).sum::<usize>();
        Ok(&sums[numbers(&self.heads[..head])..numbers(&self.heads[..=head])])
    }

    /// Checks that all slices have the shapes that their documentation says.
    pub fn validate(&self) -> Result<()> {
        let shape = |what: &str, expected: usize, got: usize| match expected == got {
            true => Ok(()),
            false => Err(Error::ShapeMismatch {
                what: format!("{what} of layer {}", self.layer),
                expected: vec![expected],
                got: vec![got],
            }),
        };
        shape("KV heads", self.shape.kv_heads, self.heads.len())?;
        shape("positions", self.heads.len(), self.positions.len())?;
        for (head, positions) in self.heads.iter().zip(self.positions) {
            shape("head_dim", self.shape.head_dim, head.layout.head_dim)?;
            shape("slot positions", head.len, positions.len())?;
            if head.blocks.len() < head.block_count() {
                return shape("blocks", head.block_count(), head.blocks.len());
            }
            let ascending = positions.windows(2).all(|pair| pair[0] < pair[1]);
            if !ascending || positions.last().is_some_and(|&last| last as usize >= self.seen) {
                return Err(Error::invalid(
                    "positions",
                    format!("layer {}", self.layer),
                    "ascending, each below the number of tokens seen",
                ));
            }
        }
        let row = self.shape.query_heads() * self.shape.head_dim;
        shape("window queries", self.query_positions.len() * row, self.queries.len())?;
        if let Some(sums) = self.running_sums {
            let slots: usize = self.heads.iter().map(|head| head.len).sum();
            shape("running sums", self.shape.group * slots, sums.len())?;
        }
        match self.query_positions.last() {
            Some(&last) if last as usize + 1 != self.seen => {
                Err(Error::invalid("query_positions", last, "a window that ends with the last token seen"))
            }
            _ => Ok(()),
        }
    }
}

fn missing(scorer: &str, what: &str, need: usize, have: usize) -> Error {
    Error::ObservationMissing { scorer: scorer.into(), what: what.into(), need, have }
}
