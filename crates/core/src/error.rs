//! One error type for the whole engine: a variant per way to be wrong, with the offending values as fields.
//!
//! The serde form is what crosses into TypeScript: `{"code": "BudgetBelowProtected", "budget": 3, "protected": 8}`.

use serde::Serialize;

/// Everything that can go wrong in headwise. The variant name is the public `code`.
#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "code", rename_all_fields = "camelCase")]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named in the message of their variant")]
pub enum Error {
    // ---- arguments ----
    /// An argument has a value outside its range.
    #[error("{name} = {value}: {expected}")]
    InvalidArgument { name: String, value: String, expected: String },
    /// A tensor or slice has another shape than its contract says.
    #[error("{what}: expected shape {expected:?}, got {got:?}")]
    ShapeMismatch { what: String, expected: Vec<usize>, got: Vec<usize> },
    /// A policy is not valid JSON for any known policy.
    #[error("not a policy: {reason}")]
    InvalidPolicy { reason: String },
    /// A number that must be finite is not (`what[index]`).
    #[error("{what}[{index}] is not a number")]
    NotANumber { what: String, index: usize },

    // ---- budgets and selection ----
    /// The budget is smaller than the set that may not be evicted.
    #[error("budget of {budget} slots is below the {protected} protected slots ({what})")]
    BudgetBelowProtected { budget: usize, protected: usize, what: String },
    /// A scorer needs something that was not gathered during prefill.
    #[error("{scorer} needs the {what} of {need} tokens, but those of {have} were observed")]
    ObservationMissing { scorer: String, what: String, need: usize, have: usize },
    /// A selection is not ascending, not unique, or points past the end of its head.
    #[error("selection of head {head} is invalid at index {index}")]
    InvalidSelection { head: usize, index: usize },

    // ---- memory ----
    /// The KV budget of the engine does not allow this many bytes.
    #[error("{requested} more KV bytes asked for, {held} of {limit} bytes are held")]
    KvBudgetExceeded { requested: usize, held: usize, limit: usize },
    /// The operating system gave no memory.
    #[error("could not map {bytes} bytes: {reason}")]
    OutOfMemory { bytes: usize, reason: String },

    // ---- files ----
    /// A file could not be opened or read.
    #[error("{path}: {reason}")]
    Io { path: String, reason: String },
    /// A file ends before what it promises.
    #[error("{path}: truncated: {what} needs {need} bytes, the file has {have}")]
    TruncatedFile { path: String, what: String, need: u64, have: u64 },
    /// A file is not what it claims to be.
    #[error("{path}: malformed: {reason}")]
    MalformedFile { path: String, reason: String },
    /// The model's architecture is not supported.
    #[error("architecture {architecture:?} is not supported (supported: {supported})")]
    UnsupportedArchitecture { architecture: String, supported: String },
    /// A feature of the model is not supported.
    #[error("{feature} {value:?} is not supported")]
    UnsupportedFeature { feature: String, value: String },
    /// A tensor that the architecture needs is not in the file.
    #[error("{path}: tensor {tensor:?} is missing")]
    MissingTensor { path: String, tensor: String },
    /// The tokenizer could not be built or applied.
    #[error("tokenizer: {reason}")]
    Tokenizer { reason: String },
    /// The chat template failed.
    #[error("chat template: {reason}")]
    ChatTemplate { reason: String },

    // ---- life of a session ----
    /// The prompt and what is to be generated do not fit the model's context.
    #[error("{needed} tokens do not fit a context of {limit}")]
    ContextExceeded { needed: usize, limit: usize },
    /// The model or session was disposed.
    #[error("the {what} is disposed")]
    Disposed { what: String },
    /// The session is busy with another call.
    #[error("session {session} is busy with {running}")]
    SessionBusy { session: u64, running: String },
    /// The call was cancelled.
    #[error("aborted")]
    Aborted {},
    /// A bug in headwise: a panic that was caught at the boundary.
    #[error("internal error: {reason}")]
    Internal { reason: String },
}

/// Result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// [`Error::InvalidArgument`] without the ceremony.
    pub fn invalid(name: &str, value: impl ToString, expected: &str) -> Self {
        Self::InvalidArgument { name: name.into(), value: value.to_string(), expected: expected.into() }
    }
}
