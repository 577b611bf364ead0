//! The one way to look into a forward pass.

use headwise_cache::BlockHandle;
use headwise_core::Rotation;
use headwise_kernels::HeadView;
use headwise_kernels::attend::Columns;

/// What a layer hands to a [`LayerTap`]: one span's rows, after its keys and values went into the cache and before attention.
#[derive(Debug, Clone, Copy)]
pub struct LayerStep<'a> {
    /// Decoder layer, from 0.
    pub layer: usize,
    /// Position of the first row. Positions count all tokens that were seen, not the slots that are left.
    pub first_position: u32,
    /// Tokens of the span.
    pub rows: usize,
    /// Queries after rotation (and after the per-head norm, where a model has one), not scaled: `[rows][query heads][head_dim]`.
    /// In GGUF files of llama the numbers of a head are permuted, in queries and keys alike, so that dot products are the same.
    pub queries: &'a [f32],
    /// Keys after rotation, as they were before they went into the cache: `[rows][KV heads][head_dim]`.
    pub keys: &'a [f32],
    /// What turned both.
    pub turn: Turn<'a>,
    /// Normed hidden states that queries, keys and values were made of: `[rows][hidden]`.
    pub inputs: &'a [f32],
}

/// How the rows of a step were turned by their positions.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The rotary embedding.
    pub rotation: &'a dyn Rotation,
    /// Cosines, `[rows][head_dim / 2]`.
    pub cos: &'a [f32],
    /// Sines, `[rows][head_dim / 2]`.
    pub sin: &'a [f32],
}

/// Sees what a policy asked for. A tap is called once a layer and span, layers ascending; taps of different spans may be
/// called at once.
///
/// A pass that fails may have called the tap for some layers; whoever needs all or nothing stages what it sees.
pub trait LayerTap: Send {
    /// Called after the layer's keys and values were appended.
    fn layer(&mut self, step: &LayerStep<'_>);

    /// What is wanted of the attention that each slot of the layer gets from the span's rows; called after [`layer`](Self::layer), with the
    /// heads as attention will see them. The last layer then attends with all rows, too, where it would have done with fewer; logits keep their
    /// bits.
    fn columns(&mut self, layer: usize, heads: &[HeadView<'_, BlockHandle>]) -> Option<Columns<'_>> {
        let _ = (layer, heads);
        None
    }
}

/// Looks at nothing and costs nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTap;

impl LayerTap for NoTap {
    fn layer(&mut self, _step: &LayerStep<'_>) {}
}
