//! A prompt that goes through one layer after another, so that a layer's cache can be cut before the next one is filled.

use headwise_cache::KvCache;
use headwise_core::Result;

use super::llama::Decoder;
use super::span::{Logits, Span, Wanted, Workspace};
use crate::tap::{LayerTap, NoTap};

/// A prompt on its way through the layers, all of it through each before the next begins. Holds the residual stream of all its tokens, in place of
/// the keys and values of all layers.
///
/// Every number is that of passes over parts of the prompt, bit for bit, as long as a layer's cache is left alone until all of the prompt went
/// through it.
#[derive(Debug)]
pub struct LayerPass {
    tokens: Vec<u32>,
    /// Position of the first.
    first: u32,
    /// `[tokens][hidden]`
    stream: Vec<f32>,
    layer: usize,
    /// Tokens that went through it.
    done: usize,
}

impl LayerPass {
    /// The layer that is being filled; how many there are, when all have been.
    pub fn layer(&self) -> usize {
        self.layer
    }

    /// Tokens that have still to go through it.
    pub fn left(&self) -> usize {
        self.tokens.len() - self.done
    }

    /// Tokens of the prompt.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }
}

impl Decoder {
    /// See [`crate::Model::layer_pass`].
    pub fn layer_pass(&self, tokens: Vec<u32>, cache: &mut KvCache) -> Result<LayerPass> {
        self.check(&[Span { tokens: &tokens, cache, tap: &mut NoTap, logits: Wanted::Last }])?;
        let stream = vec![0.0; tokens.len() * self.config.hidden];
        Ok(LayerPass { tokens, first: cache.next_position(), stream, layer: 0, done: 0 })
    }

    /// See [`crate::Model::advance`].
    pub fn advance<'w>(
        &self,
        pass: &mut LayerPass,
        rows: usize,
        cache: &mut KvCache,
        tap: &mut dyn LayerTap,
        space: &'w mut Workspace,
    ) -> Result<Option<Logits<'w>>> {
        let hidden = self.config.hidden;
        let range = pass.done..(pass.done + rows).min(pass.tokens.len());
        let whole = range.end == pass.tokens.len();
        let logits = if whole { Wanted::Last } else { Wanted::None };
        let stream = &mut pass.stream[range.start * hidden..range.end * hidden];
        let first = pass.first + range.start as u32;
        let span = Span { tokens: &pass.tokens[range.clone()], cache, tap, logits };
        if space.teams.is_empty() {
            space.teams.push(Default::default());
        }
        self.run_layer(pass.layer, span, first, stream, &mut space.teams[0])?;
        pass.done = range.end;
        if !whole {
            return Ok(None);
        }
        (pass.layer, pass.done) = (pass.layer + 1, 0);
        match pass.layer == self.config.kv_shape().layers {
            true => self.logits_of_one(space).map(Some),
            false => Ok(None),
        }
    }
}
