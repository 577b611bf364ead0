use headwise_kernels::attend::ColumnReduce;

/// Text that is read behind the cache when it is to be compressed, by a pass that leaves no trace in it: how much its tokens attend to each slot
/// shows what will be asked for. It costs as much as reading so many more tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What is read.
    pub text: ProbeText,
    /// What each slot gets of it.
    pub rows: ProbeRows,
}

/// What a [`Probe`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeText {
    /// Everything that was read, once more, in parts of so many tokens, each behind the request to repeat it (KVzip, arXiv 2505.23416). Each part
    /// is a probe of its own, and only the slots of its tokens are judged by it.
    Repeat {
        /// Tokens of a part.
        chunk: usize,
    },
    /// This text.
    Instruction(String),
}

/// How the attention of a [`Probe`]'s tokens is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeRows {
    /// Mean over the tokens.
    Mean,
    /// The largest.
    Max,
    /// The largest, each token's attention divided by the length of its hidden state before the layer's projections.
    MaxByInput,
}

impl ProbeRows {
    /// What attention is asked for.
    pub fn reduce(self) -> ColumnReduce {
        match self {
            Self::Mean => ColumnReduce::Sum,
            Self::Max | Self::MaxByInput => ColumnReduce::Max,
        }
    }
}
