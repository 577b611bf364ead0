//! What a model is: dimensions, normalisation, rotary settings. Read from `config.json` (Hugging Face) or GGUF metadata.

use headwise_core::{Error, KvShape, Result};

mod gguf;
mod hf;

/// Architectures that the decoder runs, as messages name them.
pub const SUPPORTED: &str = "llama, mistral, qwen2, qwen3";

/// A decoder of the Llama family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Llama 1 to 3, SmolLM2, and what else is stored as such.
    Llama,
    /// Mistral 7B and its kin; Llama with an optional sliding window.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on q, k and v.
    Qwen2,
    /// Qwen3: RMS norm of each query and key head before rotation.
    Qwen3,
}

/// Which numbers of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopePairing {
    /// Number `i` with `i + head_dim / 2` (Hugging Face weights; GGUF of qwen2 and qwen3).
    Halves,
    /// Number `2i` with `2i + 1` (GGUF of llama, whose q and k rows are permuted to match).
    Neighbours,
}

/// How rotary frequencies are changed to reach longer contexts.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// All frequencies divided by a factor (position interpolation, arXiv 2306.15595).
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by a factor, high ones kept, a linear blend between.
    Llama3 {
        /// The divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the pre-training, in tokens.
        original_context: f64,
    },
}

/// Rotary position embedding (arXiv 2104.09864).
#[derive(Debug, Clone, PartialEq)]
pub struct RopeConfig {
    /// Base of the frequencies: `theta^(-2i / head_dim)`.
    pub theta: f64,
    /// Frequency scaling.
    pub scaling: RopeScaling,
    /// Which numbers rotate together.
    pub pairing: RopePairing,
}

/// Everything about a model but its weights.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Kind of decoder.
    pub architecture: Architecture,
    /// Decoder layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Numbers in one head; not always `hidden / heads`.
    pub head_dim: usize,
    /// Tokens in the vocabulary.
    pub vocab: usize,
    /// Positions that the model can use. When the model has an active sliding window this is at most the window: within it
    /// full attention and windowed attention are the same, beyond it they are not.
    pub context: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// Rotary settings.
    pub rope: RopeConfig,
    /// Whether the output head is the embedding table. GGUF files do not say: there, a missing head means tied.
    pub tied_embeddings: Option<bool>,
    /// Whether q, k and v must have biases.
    pub qkv_bias: bool,
    /// Whether the attention output must have a bias.
    pub output_bias: bool,
    /// Whether gate, up and down must have biases.
    pub mlp_bias: bool,
    /// Token that starts a text, when the config names one.
    pub bos_token: Option<u32>,
    /// Tokens that end a text.
    pub eos_tokens: Vec<u32>,
}

impl Config {
    /// From the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::UnsupportedArchitecture`], [`Error::UnsupportedFeature`] or [`Error::MalformedFile`].
    pub fn from_json(text: &str, path: &str) -> Result<Self> {
        hf::read(text, path)?.checked(path)
    }

    /// From GGUF metadata.
    ///
    /// # Errors
    /// As [`Config::from_json`].
    pub fn from_gguf(file: &crate::gguf::Gguf<'_>) -> Result<Self> {
        gguf::read(file)?.checked(file.path())
    }

    /// Dimensions of the KV cache.
    pub fn kv_shape(&self) -> KvShape {
        KvShape {
            layers: self.layers,
            kv_heads: self.kv_heads,
            group: self.heads / self.kv_heads,
            head_dim: self.head_dim,
        }
    }

    /// Whether queries and keys are normalised head by head.
    pub fn qk_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Limits that keep every later product of two dimensions small, and what the arithmetic relies on.
    fn checked(self, path: &str) -> Result<Self> {
        const MAX: usize = 1 << 24;
        let malformed = |reason: String| Err(Error::MalformedFile { path: path.into(), reason });
        for (name, value) in [
            ("layers", self.layers),
            ("hidden size", self.hidden),
            ("intermediate size", self.intermediate),
            ("heads", self.heads),
            ("KV heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("vocabulary", self.vocab),
            ("context", self.context),
        ] {
            if value == 0 || value > MAX {
                return malformed(format!("{name} = {value} is not between 1 and {MAX}"));
            }
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return malformed(format!("{} query heads do not divide among {} KV heads", self.heads, self.kv_heads));
        }
        if !self.head_dim.is_multiple_of(2) {
            return malformed(format!("head_dim = {} is odd and cannot be rotated", self.head_dim));
        }
        if self.heads * self.head_dim > MAX {
            return malformed(format!("{} heads of {} numbers are too many", self.heads, self.head_dim));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            return malformed(format!("norm epsilon {} is not positive", self.norm_eps));
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        let scaling_is_valid = match self.rope.scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { factor } => positive(factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                [factor, low_freq_factor, high_freq_factor, original_context].into_iter().all(positive)
                    && high_freq_factor > low_freq_factor
            }
        };
        if !positive(self.rope.theta) || !scaling_is_valid {
            return malformed(format!("rotary settings {:?} are out of range", self.rope));
        }
        Ok(self)
    }
}

fn unsupported(feature: &str, value: impl ToString) -> Error {
    Error::UnsupportedFeature { feature: feature.into(), value: value.to_string() }
}
