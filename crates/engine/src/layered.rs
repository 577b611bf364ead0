//! A prompt that is cut layer by layer while it is read, so that the cache never holds more than the budget and one layer.

use std::time::Instant;

use headwise_cache::KvCache;
use headwise_core::{KvShape, Result};
use headwise_model::{LayerPass, LayerStep, LayerTap, Model, Workspace};
use headwise_policy::{Gathered, Needs, Policy, Streamed};

use crate::observer::Observer;
use crate::report::{CompressReport, Memory};
use crate::scheduler::stretch;
use crate::session::{layer_input, memory, milliseconds};

/// A prompt on its way through the layers.
pub(crate) struct Layered {
    pass: LayerPass,
    policy: Policy,
    streamed: Streamed,
    tail: Tail,
    /// Most bytes that the cache has held.
    peak: usize,
    compress_ms: f64,
}

impl Layered {
    /// For the first prompt of a session, if its policy can choose layer by layer and something is to be evicted. What stands against that is
    /// reported when the prompt has been read in the ordinary way.
    pub fn new(
        model: &Model,
        policy: &Policy,
        observer: &Observer,
        cache: &mut KvCache,
        prompt: &[u32],
    ) -> Option<Box<Self>> {
        let (shape, seen) = (cache.shape(), prompt.len());
        let needs = policy.needs();
        let only_window = needs == Needs { window_queries: needs.window_queries, ..Needs::default() };
        let slot_bytes = shape.slot_bytes(cache.pool().layout().codec);
        // Where the survivors are turned to is known when the last layer has been cut.
        let idle = policy.renumber
            || policy.keeps_all()
            || policy.fits(seen * shape.layers * shape.kv_heads, seen, shape, slot_bytes);
        if cache.next_position() > 0 || idle || !only_window || !observer.gathers_queries_only() {
            return None;
        }
        let streamed = Streamed::new(policy, shape, seen, slot_bytes).ok()?;
        let pass = model.layer_pass(prompt.to_vec(), cache).ok()?;
        let tail =
            Tail { most: observer.window().window(), width: shape.query_heads() * shape.head_dim, queries: Vec::new() };
        Some(Box::new(Self { pass, policy: policy.clone(), streamed, tail, peak: 0, compress_ms: 0.0 }))
    }

    /// Reads on: `most` tokens through the layer at hand. Gives the last token's logits, and what was evicted, once all layers are done.
    pub fn step<'w>(
        &mut self,
        model: &Model,
        cache: &mut KvCache,
        observer: &mut Observer,
        space: &'w mut Workspace,
        most: usize,
    ) -> Result<Option<(&'w [f32], CompressReport)>> {
        let layer = self.pass.layer();
        let rows = stretch(self.pass.left(), most);
        let logits = model.advance(&mut self.pass, rows, cache, &mut self.tail, space)?;
        self.peak = self.peak.max(cache.physical_bytes());
        if self.pass.layer() == layer {
            return Ok(None);
        }
        let start = Instant::now();
        self.cut(model, cache, observer, layer)?;
        self.compress_ms += milliseconds(start);
        let Some(logits) = logits else { return Ok(None) };
        cache.pool().trim();
        let KvShape { layers, kv_heads, .. } = cache.shape();
        let slots = self.pass.tokens().len() * layers * kv_heads;
        let logical_bytes = slots * cache.shape().slot_bytes(cache.pool().layout().codec);
        let before = Memory { slots, logical_bytes, physical_bytes: self.peak, shared_bytes: 0 };
        let report =
            CompressReport { before, after: memory(cache), ms: self.compress_ms, probe_tokens: 0, probe_ms: 0.0 };
        Ok(Some((logits.span(0), report)))
    }

    /// Evicts from the layer that has just been filled and from those before.
    fn cut(&mut self, model: &Model, cache: &mut KvCache, observer: &mut Observer, layer: usize) -> Result<()> {
        let seen = self.pass.tokens().len();
        let held = self.tail.queries.len() / self.tail.width;
        let need = self.policy.needs().window_queries.min(held);
        let queries = &self.tail.queries[(held - need) * self.tail.width..];
        let query_positions: Vec<u32> = (seen - need..seen).map(|position| position as u32).collect();
        let views: Vec<_> = cache.heads(layer).collect();
        let positions: Vec<&[u32]> = (0..views.len()).map(|head| cache.positions(layer, head)).collect();
        let input =
            layer_input(model, layer, seen, &views, &positions, queries, &query_positions, Gathered::default())?;
        let selections = self.streamed.push(&input)?;
        cache.compact_first(&selections)?;
        observer.remember(layer, &self.tail.queries);
        self.tail.queries.clear();
        Ok(())
    }
}

/// The last queries of the layer at hand.
struct Tail {
    most: usize,
    /// Numbers of a row.
    width: usize,
    queries: Vec<f32>,
}

impl LayerTap for Tail {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.queries.extend_from_slice(step.queries);
        let spare = (self.queries.len() / self.width).saturating_sub(self.most);
        self.queries.drain(..spare * self.width);
    }
}
