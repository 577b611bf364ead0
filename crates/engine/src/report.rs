//! What calls give back, as plain data.

use serde::Serialize;
use ts_rs::TS;

/// Bytes of a session's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Slots over all layers and KV heads.
    pub slots: usize,
    /// Bytes of those slots.
    pub logical_bytes: usize,
    /// Bytes of the blocks that hold them.
    pub physical_bytes: usize,
    /// Of the physical bytes, those in blocks that a fork holds too.
    pub shared_bytes: usize,
}

/// What a compression did.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct CompressReport {
    /// The cache before. Where it was cut layer by layer while the prompt was read: what all of it would have taken, but physically the most that was
    /// there at once.
    pub before: Memory,
    /// The cache after.
    pub after: Memory,
    /// Milliseconds for scoring, selection and compaction, and for the probe.
    pub ms: f64,
    /// Tokens that the policy's probe read for it, 0 where it has none.
    pub probe_tokens: usize,
    /// Milliseconds of `ms` that the probe took.
    pub probe_ms: f64,
}

/// What a prefill did.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct PrefillReport {
    /// Tokens of this call.
    pub tokens: usize,
    /// Tokens that the session has seen in all: the position of the next one.
    pub seen: usize,
    /// Milliseconds in the model, without waiting for other sessions.
    pub ms: f64,
    /// The compression that followed, if any.
    pub compression: Option<CompressReport>,
    /// The cache now.
    pub memory: Memory,
}

/// How likely a text was.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct LikelihoodReport {
    /// The tokens of the text, behind the BOS token where the model wants one and the session was empty.
    pub tokens: Vec<u32>,
    /// Natural logarithm of the probability of each, given all tokens before it; null for the first token of an empty session.
    pub log_probs: Vec<Option<f64>>,
    /// Tokens that the session has seen in all: the position of the next one.
    pub seen: usize,
    /// Milliseconds in the model, without waiting for other sessions.
    pub ms: f64,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub enum FinishReason {
    /// The model ended its text.
    Eos,
    /// A stop text or stop token was met.
    Stop,
    /// `maxTokens` or the end of the model's context was reached.
    Length,
}

/// One piece of a generation. The last one carries `finishReason`.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Text that became certain with this token; empty while a character or a possible stop text is incomplete.
    pub text: String,
    /// The token.
    pub token: u32,
    /// Set on the last piece.
    pub finish_reason: Option<FinishReason>,
}

/// A session in figures.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct SessionStats {
    /// Tokens that the session has seen: the position of the next one.
    pub seen: usize,
    /// Slots held, `[layer][KV head]`.
    pub lengths: Vec<Vec<usize>>,
    /// Bytes held.
    pub memory: Memory,
    /// Bytes of the queries that the session remembers for policies with an observation window.
    pub observation_bytes: usize,
    /// Tokens that went through prefill (since the fork, for a fork).
    pub prefill_tokens: usize,
    /// Milliseconds of prefill.
    pub prefill_ms: f64,
    /// Tokens that went through decode steps.
    pub decode_tokens: usize,
    /// Milliseconds of the decode steps that this session took part in (a step serves all running sessions).
    pub decode_ms: f64,
    /// Compressions so far.
    pub compressions: usize,
    /// Milliseconds of compression.
    pub compress_ms: f64,
}

/// A model in figures.
#[derive(Debug, Clone, PartialEq, Serialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    /// Architecture by its name in the file.
    pub architecture: String,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads of a layer.
    pub query_heads: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Numbers in one key or value.
    pub head_dim: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
    /// Most tokens that a session may see.
    pub context_length: usize,
    /// Weights in the file.
    pub parameters: usize,
    /// Kernel threads.
    pub threads: usize,
    /// Bytes of one slot (K and V of one head).
    pub slot_bytes: usize,
    /// The token that goes in front of a text in an empty session (not of token ids); null where the model wants none.
    pub bos_token: Option<u32>,
    /// A chat template came with the model.
    pub has_chat_template: bool,
}

/// Which tokens each head still holds.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptPositions {
    /// Row starts, one row a (layer, KV head), layer-major: `layers * kv_heads + 1` numbers.
    pub indptr: Vec<u32>,
    /// Ascending positions, row after row.
    pub positions: Vec<u32>,
}
