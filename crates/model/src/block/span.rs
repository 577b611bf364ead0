//! What goes into a forward pass.

use std::ops::Range;

use headwise_cache::{BlockHandle, KvCache};
use headwise_kernels::HeadView;
use headwise_kernels::attend::Job;

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
    /// Residual stream `[rows][hidden]`.
    pub(crate) x: Vec<f32>,
    /// Normed input of a product, then the output of the next one `[rows][hidden]`.
    pub(crate) y: Vec<f32>,
    pub(crate) q: Vec<f32>,
    pub(crate) k: Vec<f32>,
    pub(crate) v: Vec<f32>,
    pub(crate) attention: Vec<f32>,
    pub(crate) gate: Vec<f32>,
    pub(crate) up: Vec<f32>,
    /// `[rows][head_dim / 2]`.
    pub(crate) cos: Vec<f32>,
    pub(crate) sin: Vec<f32>,
    /// `[wanted rows][vocabulary]`
    pub(crate) logits: Vec<f32>,
    /// Position of each span's first token.
    pub(crate) first: Vec<u32>,
    /// Rows of each span.
    pub(crate) rows: Vec<Range<usize>>,
    /// Rows of each span that serve logits.
    pub(crate) wanted: Vec<Range<usize>>,
    /// The heads of a layer, of all spans. Empty between layers, as are the next two.
    pub(crate) heads: Vec<HeadView<'static, BlockHandle>>,
    /// Where each span's tap wants the attention of the slots.
    pub(crate) sums: Vec<Option<&'static mut [f32]>>,
    pub(crate) jobs: Vec<Job<'static, BlockHandle>>,
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

/// The first `len` numbers of a buffer that grows when it must.
pub(crate) fn at_least(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
