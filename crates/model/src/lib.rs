//! Models of headwise: configuration, weights (GGUF, safetensors), rotary embedding, decoder, tokenizer, chat template, and
//! [`LayerTap`], the one way for a policy to see a forward pass.
//!
//! Everything that comes from a file is checked before it is used; what the decoder cannot run is refused by name at load.

pub mod block;
pub mod chat_template;
pub mod config;
mod elementwise;
pub mod gguf;
mod load;
pub mod mmap;
pub mod rope;
pub mod safetensors;
pub mod tap;
pub mod tokenizer;
pub mod weights;

use std::sync::atomic::AtomicBool;

use headwise_cache::KvCache;
use headwise_core::{Error, KvShape, Result, Rotation};
use headwise_kernels::matmul::Matrix;

pub use block::{LayerPass, Logits, Span, Wanted, Workspace};
pub use config::{Architecture, Config};
pub use load::{LoadPhase, LoadProgress};
pub use tap::{LayerStep, LayerTap, NoTap, Turn};

use block::llama::Decoder;
use chat_template::ChatTemplate;
use tokenizer::Tokenizer;

/// A language model that is ready to run. Immutable: sequences live in caches, buffers in workspaces.
#[derive(Debug)]
pub struct Model {
    decoder: Decoder,
    tokenizer: Option<Tokenizer>,
    chat_template: Option<ChatTemplate>,
}

impl Model {
    /// Runs one batch: the next tokens of any number of sequences. Every weight is read once for all of them; where at least
    /// 2 · threads² decode a token each, those of the layers once for each thread.
    ///
    /// A span's numbers do not depend on the other spans. `cancel` is looked at before every layer. Allocates nothing once the
    /// workspace has grown, but for what the caches grow by.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an unknown token or no token, [`Error::ShapeMismatch`] for the cache of another model,
    /// [`Error::ContextExceeded`], what the caches report (`KvBudgetExceeded`, `OutOfMemory`), [`Error::Aborted`] when
    /// cancelled, [`Error::NotANumber`] when the weights lead to logits that are none. After an error every cache is as before.
    pub fn forward<'w>(
        &self,
        spans: &mut [Span<'_>],
        space: &'w mut Workspace,
        cancel: Option<&AtomicBool>,
    ) -> Result<Logits<'w>> {
        self.decoder.forward(spans, space, cancel)
    }

    /// Begins to take a prompt through the model layer by layer: [`advance`](Self::advance).
    ///
    /// # Errors
    /// As [`forward`](Self::forward) for its tokens and its cache.
    pub fn layer_pass(&self, tokens: Vec<u32>, cache: &mut KvCache) -> Result<LayerPass> {
        self.decoder.layer_pass(tokens, cache)
    }

    /// Takes the next `rows` tokens of the prompt, or as many as are left, through the layer that is being filled. Gives the last token's logits behind
    /// the last layer.
    ///
    /// Between two layers the caches of those before may be cut. After an error the prompt's tokens are in some layers and not in others:
    /// [`KvCache::truncate`].
    pub fn advance<'w>(
        &self,
        pass: &mut LayerPass,
        rows: usize,
        cache: &mut KvCache,
        tap: &mut dyn LayerTap,
        space: &'w mut Workspace,
    ) -> Result<Option<Logits<'w>>> {
        self.decoder.advance(pass, rows, cache, tap, space)
    }

    /// Rounds the rotary frequencies to `precision`, for comparisons only.
    ///
    /// A transformers model that was cast as a whole (`model.to(torch.bfloat16)`, `model.half()`) has rounded its frequencies
    /// with its weights, and keeps them so when it is cast back. With 8 bits the error is a full turn after some hundred
    /// positions; models are not trained so, and headwise computes frequencies in f64 whatever the weights are.
    pub fn round_frequencies(&mut self, precision: rope::HalfFloat) {
        self.decoder.rope.round(precision);
    }

    /// The rotary embedding.
    pub fn rotation(&self) -> &dyn Rotation {
        &self.decoder.rope
    }

    /// W_O of a layer, `[hidden][query heads · head_dim]`: what a head's output becomes in the residual stream.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a layer that the model does not have.
    pub fn output_projection(&self, layer: usize) -> Result<Matrix<'_>> {
        let layers = &self.decoder.weights.layers;
        let found =
            layers.get(layer).ok_or_else(|| Error::invalid("layer", layer, "an index below the number of layers"))?;
        found.o.weight.matrix()
    }

    /// Dimensions and settings.
    pub fn config(&self) -> &Config {
        &self.decoder.config
    }

    /// Dimensions of the KV caches that fit this model.
    pub fn shape(&self) -> KvShape {
        self.config().kv_shape()
    }

    /// Architecture as GGUF names it.
    pub fn architecture(&self) -> &'static str {
        match self.config().architecture {
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
        }
    }

    /// Rows of the embedding table.
    pub fn vocab_size(&self) -> usize {
        self.config().vocab
    }

    /// Positions that the model can use; see [`Config::context`].
    pub fn context_length(&self) -> usize {
        self.config().context
    }

    /// Numbers in all weights.
    pub fn parameters(&self) -> u64 {
        self.decoder.weights.parameters()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the model came without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.tokenizer
            .as_ref()
            .ok_or_else(|| Error::Tokenizer { reason: "the model came without one; only token ids work".into() })
    }

    /// The chat template, when the model came with one.
    pub fn chat_template(&self) -> Option<&ChatTemplate> {
        self.chat_template.as_ref()
    }
}
