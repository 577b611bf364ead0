//! What goes into a forward pass.

use std::ops::Range;

use headwise_cache::{BlockHandle, KvCache};
use headwise_core::Error;
use headwise_kernels::attend::{Columns, Job};
use headwise_kernels::{CacheLines, HeadView};

use crate::tap::LayerTap;

/// Which logits a span wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// None: the cache is filled, and the last layer stops there.
    #[default]
    None,
    /// Those of the last token.
    Last,
    /// Those of every token.
    All,
}

impl Wanted {
    /// Rows of logits for a span of `tokens`.
    pub(crate) fn rows(self, tokens: usize) -> usize {
        match self {
            Wanted::None => 0,
            Wanted::Last => tokens.min(1),
            Wanted::All => tokens,
        }
    }
}

/// The next tokens of one sequence. Their positions go on where the cache has stopped
/// ([`KvCache::next_position`]: tokens seen, not slots left).
pub struct Span<'a> {
    /// Token ids, at least one.
    pub tokens: &'a [u32],
    /// The sequence's past; gets the keys and values of the tokens.
    pub cache: &'a mut KvCache,
    /// Sees what a policy asked for.
    pub tap: &'a mut dyn LayerTap,
    /// Logits to compute.
    pub logits: Wanted,
}

/// Buffers of a forward pass and its results, kept between passes so that a steady state allocates nothing.
/// Grows to the largest pass that it has seen.
#[derive(Default)]
pub struct Workspace {
    /// One for each team of spans that goes through the layers by itself.
    pub(crate) teams: Vec<Team>,
    /// Normed residual stream that the logits are made of `[wanted rows][hidden]`.
    pub(crate) y: CacheLines,
    /// `[wanted rows][vocabulary]`
    pub(crate) logits: CacheLines,
    /// Rows of each span that serve logits.
    pub(crate) wanted: Vec<Range<usize>>,
}

/// What some spans work with on their way through the layers.
#[derive(Default)]
pub(crate) struct Team {
    /// Residual stream `[rows][hidden]`.
    pub x: CacheLines,
    /// Normed input of a product, then the output of the next one `[rows][hidden]`.
    pub y: CacheLines,
    pub q: CacheLines,
    pub k: CacheLines,
    pub v: CacheLines,
    pub attention: CacheLines,
    pub gate: CacheLines,
    pub up: CacheLines,
    /// `[rows][head_dim / 2]`.
    pub cos: Vec<f32>,
    pub sin: Vec<f32>,
    /// Position of each span's first token.
    pub first: Vec<u32>,
    /// Rows of each span.
    pub rows: Vec<Range<usize>>,
    /// Rows of each span that serve logits.
    pub wanted: Vec<Range<usize>>,
    /// The heads of a layer, of all spans. Empty between layers, as are the next two.
    pub heads: Vec<HeadView<'static, BlockHandle>>,
    /// What each span's tap wants of the attention of the slots.
    pub columns: Vec<Option<Columns<'static>>>,
    pub jobs: Vec<Job<'static, BlockHandle>>,
    /// What went wrong in the pass.
    pub error: Option<Error>,
}

/// The logits of a pass, borrowed from its [`Workspace`].
#[derive(Debug, Clone, Copy)]
pub struct Logits<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: &'a [Range<usize>],
    pub(crate) vocab: usize,
}

impl<'a> Logits<'a> {
    /// Those of span `index`: `[wanted rows][vocabulary]`. Panics, as indexing does, where the pass had no such span.
    pub fn span(&self, index: usize) -> &'a [f32] {
        let Range { start, end } = self.rows[index];
        &self.data[start * self.vocab..end * self.vocab]
    }
}
