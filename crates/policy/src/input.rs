//! What a policy sees of one layer.

use headwise_core::{Codec, Error, KvShape, Result, Rotation};
use headwise_kernels::matmul::Matrix;
use headwise_kernels::{Block, BlockLayout, HeadView};

use crate::gather::{ChunkAttention, ChunkGrid, Echo, Gathered, QueryMoments, TokenClass};
use crate::output_norms::OutputLengths;

/// One layer of a session, borrowed.
pub struct LayerInput<'a, B> {
    /// Index of the layer.
    pub layer: usize,
    /// The cache, `[kv_heads]`.
    pub heads: &'a [HeadView<'a, B>],
    /// Position of each slot, ascending, `[kv_heads][slots]`.
    pub positions: &'a [&'a [u32]],
    /// Where keys are turned to, if not to `positions`.
    pub renumbered: Option<Renumbered<'a>>,
    /// Post-RoPE queries of the last observed tokens, `[rows][query heads][head_dim]`; may be more than the policy needs.
    pub queries: &'a [f32],
    /// Positions of these queries, ascending, `[rows]`; the last is `seen − 1`.
    pub query_positions: &'a [u32],
    /// What was gathered while the prompt was read.
    pub gathered: Gathered<'a>,
    /// What of the model a scorer may ask for.
    pub model: ModelView<'a>,
    /// Dimensions of the whole cache.
    pub shape: KvShape,
    /// Tokens seen so far (the next position), not slots left.
    pub seen: usize,
    /// What attention logits are multiplied with, 1/√D for most models.
    pub scale: f32,
    /// Where parts of a policy leave for each other what more than one asks for, of this layer as it is. [`crate::Policy::compress`] sets it; callers give
    /// `None`.
    pub output_lengths: Option<&'a OutputLengths>,
    /// Slots that a head will keep on average, for scorers that look at it. A policy sets it before it scores; 0: not known.
    pub budget: usize,
}

/// Rotary positions of a cache whose gaps were closed.
#[derive(Debug, Clone, Copy)]
pub struct Renumbered<'a> {
    /// Of each slot, ascending, `[kv_heads][slots]`.
    pub positions: &'a [Vec<u32>],
    /// Of the next token.
    pub next: u32,
}

/// What a scorer may ask of the layer's weights; `Default` is nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct ModelView<'a> {
    /// W_O, `[hidden][query heads · head_dim]`.
    pub output: Option<Matrix<'a>>,
    /// The rotary embedding.
    pub rotation: Option<&'a dyn Rotation>,
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

    /// The position that each key of a head is turned to, `[slots]`.
    pub fn rotary_positions(&self, head: usize) -> &'a [u32] {
        self.renumbered.map_or(self.positions[head], |renumbered| &renumbered.positions[head])
    }

    /// The position that the next token is turned to.
    pub fn next_rotary_position(&self) -> usize {
        self.renumbered.map_or(self.seen, |renumbered| renumbered.next as usize)
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
        let sums = self.gathered.running_sums.ok_or_else(|| missing(scorer, "running attention sums", self.seen, 0))?;
        Ok(self.columns(sums, head))
    }

    /// What the slots of a KV head get of the attention of the policy's probe, `[group][slots]`. [`Error::ObservationMissing`] if there was none.
    pub fn probe(&self, scorer: &str, head: usize) -> Result<&'a [f32]> {
        let probe = self.gathered.probe.ok_or_else(|| missing(scorer, "attention of a probe", self.seen, 0))?;
        Ok(self.columns(probe, head))
    }

    /// Of numbers per query head and slot, head after head, those of a KV head.
    fn columns(&self, all: &'a [f32], head: usize) -> &'a [f32] {
        let numbers = |heads: &[HeadView<B>]| self.shape.group * heads.iter().map(|head| head.len).sum::<usize>();
        &all[numbers(&self.heads[..head])..numbers(&self.heads[..=head])]
    }

    /// Moments of the queries. [`Error::ObservationMissing`] if none were gathered.
    pub fn query_moments(&self, scorer: &str) -> Result<&'a QueryMoments> {
        let moments = self.gathered.query_moments.filter(|moments| moments.rows() > 0);
        moments.ok_or_else(|| missing(scorer, "query moments", self.seen, 0))
    }

    /// Attention inside the chunks of this grid. [`Error::ObservationMissing`] if it was not gathered.
    pub fn chunk_attention(&self, scorer: &str, grid: ChunkGrid) -> Result<&'a ChunkAttention> {
        let found = self.gathered.chunk_attention.iter().find(|gathered| gathered.grid() == grid);
        found.copied().ok_or_else(|| missing(scorer, "attention inside chunks", self.seen, 0))
    }

    /// What the queries would look at in a second reading, in these chunks. [`Error::ObservationMissing`] if it was not gathered.
    pub fn echo(&self, scorer: &str, chunk: usize) -> Result<&'a Echo> {
        let found = self.gathered.echo.iter().find(|echo| echo.chunk() == chunk);
        found.copied().ok_or_else(|| missing(scorer, "attention of a second reading", self.seen, 0))
    }

    /// Classes of the tokens, `[seen]`. [`Error::UnsupportedFeature`] where there is no tokenizer.
    pub fn token_classes(&self, scorer: &str) -> Result<&'a [TokenClass]> {
        self.gathered.token_classes.ok_or_else(|| without_model(scorer, "tokenizer"))
    }

    /// W_O. [`Error::UnsupportedFeature`] where there is no model.
    pub fn output(&self, scorer: &str) -> Result<Matrix<'a>> {
        self.model.output.ok_or_else(|| without_model(scorer, "output projection"))
    }

    /// The rotary embedding. [`Error::UnsupportedFeature`] where there is no model.
    pub fn rotation(&self, scorer: &str) -> Result<&'a dyn Rotation> {
        self.model.rotation.ok_or_else(|| without_model(scorer, "rotary embedding"))
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
        if let Some(renumbered) = self.renumbered {
            shape("heads with rotary positions", self.heads.len(), renumbered.positions.len())?;
            for (head, row) in self.heads.iter().zip(renumbered.positions) {
                shape("rotary positions", head.len, row.len())?;
            }
        }
        let row = self.shape.query_heads() * self.shape.head_dim;
        shape("window queries", self.query_positions.len() * row, self.queries.len())?;
        let slots: usize = self.heads.iter().map(|head| head.len).sum();
        if let Some(sums) = self.gathered.running_sums {
            shape("running sums", self.shape.group * slots, sums.len())?;
        }
        if let Some(classes) = self.gathered.token_classes {
            shape("token classes", self.seen, classes.len())?;
        }
        if let Some(probe) = self.gathered.probe {
            shape("attention of a probe", self.shape.group * slots, probe.len())?;
        }
        if let Some(output) = self.model.output {
            shape("W_O", row, output.cols())?;
        }
        match self.query_positions.last() {
            Some(&last) if last as usize + 1 != self.seen => {
                Err(Error::invalid("query_positions", last, "a window that ends with the last token seen"))
            }
            _ => Ok(()),
        }
    }
}

/// Copies of some slots of a layer, as a layer of their own.
pub(crate) struct Excerpt {
    layout: BlockLayout,
    blocks: Vec<Vec<Vec<u8>>>,
    positions: Vec<Vec<u32>>,
    /// Empty where keys are turned to `positions`.
    rotary: Vec<Vec<u32>>,
}

impl<B: Block> LayerInput<'_, B> {
    /// The slots of each head that are named, ascending, and nothing that was gathered.
    pub(crate) fn excerpt(&self, slots: &[Vec<u32>]) -> Excerpt {
        let layout =
            self.heads.first().map_or(BlockLayout { codec: Codec::F32, head_dim: 1, slots: 1 }, |head| head.layout);
        let (row, per_block) = (layout.row_bytes(), layout.slots);
        let of_head = |(head, slots): (&HeadView<B>, &Vec<u32>)| -> Vec<Vec<u8>> {
            let mut blocks = vec![vec![0; layout.bytes()]; layout.blocks_for(slots.len())];
            for (to, &from) in slots.iter().enumerate() {
                let (block, from) = (from as usize / per_block, from as usize % per_block * row);
                let (out, to) = (&mut blocks[to / per_block], to % per_block * row);
                out[to..to + row].copy_from_slice(&head.keys(block)[from..from + row]);
                let half = layout.half_bytes();
                out[half + to..half + to + row].copy_from_slice(&head.values(block)[from..from + row]);
            }
            blocks
        };
        let blocks = self.heads.iter().zip(slots).map(of_head).collect();
        let picked = |row: &[u32], slots: &Vec<u32>| slots.iter().map(|&slot| row[slot as usize]).collect();
        let positions = self.positions.iter().zip(slots).map(|(row, slots)| picked(row, slots)).collect();
        let rotary = self.renumbered.map_or(&[][..], |renumbered| renumbered.positions);
        let rotary = rotary.iter().zip(slots).map(|(row, slots)| picked(row, slots)).collect();
        Excerpt { layout, blocks, positions, rotary }
    }
}

impl Excerpt {
    /// Runs `f` on the copy as a layer, which is in all else like `layer`.
    pub fn with<B, R>(&self, layer: &LayerInput<B>, f: impl FnOnce(&LayerInput<Vec<u8>>) -> R) -> R {
        let view = |(blocks, positions): (_, &Vec<u32>)| HeadView { layout: self.layout, blocks, len: positions.len() };
        let heads: Vec<_> = self.blocks.iter().map(|blocks| &blocks[..]).zip(&self.positions).map(view).collect();
        let positions: Vec<&[u32]> = self.positions.iter().map(|row| &row[..]).collect();
        f(&LayerInput {
            layer: layer.layer,
            heads: &heads,
            positions: &positions,
            renumbered: layer.renumbered.map(|whole| Renumbered { positions: &self.rotary, next: whole.next }),
            queries: &[],
            query_positions: &[],
            gathered: Gathered::default(),
            model: layer.model,
            shape: layer.shape,
            seen: layer.seen,
            scale: layer.scale,
            output_lengths: None,
            budget: layer.budget,
        })
    }
}

fn missing(scorer: &str, what: &str, need: usize, have: usize) -> Error {
    Error::ObservationMissing { scorer: scorer.into(), what: what.into(), need, have }
}

fn without_model(scorer: &str, what: &str) -> Error {
    Error::UnsupportedFeature { feature: format!("{scorer} without a model's"), value: what.into() }
}
