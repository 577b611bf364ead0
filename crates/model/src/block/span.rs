//! What goes into a forward pass.

use headwise_cache::KvCache;

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

/// Buffers of a forward pass, kept between passes so that a steady state allocates nothing large but the logits.
/// Grows to the largest pass that it has seen.
#[derive(Debug, Default)]
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
}

/// The first `len` numbers of a buffer that grows when it must.
pub(crate) fn at_least(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
