//! What handles ask of the engine thread.

use headwise_core::Result;
use headwise_policy::{Needs, Policy};
use tokio::sync::{mpsc, oneshot};

use crate::options::GenerateOptions;
use crate::report::{CompressReport, KeptPositions, LikelihoodReport, PrefillReport, SessionStats, Step};
use crate::session::CancelToken;

pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// Prompt tokens, and whether a model that wants a BOS token gets it when the session is still empty.
pub(crate) struct Prompt {
    pub tokens: Vec<u32>,
    pub bos: Option<u32>,
}

/// What handles ask of the engine thread.
pub(crate) enum Command {
    Create {
        policy: Policy,
        needs: Needs,
        reply: Reply<u64>,
    },
    Prefill {
        session: u64,
        prompt: Prompt,
        compress: Option<bool>,
        cancel: CancelToken,
        reply: Reply<PrefillReport>,
    },
    LogLikelihood {
        session: u64,
        prompt: Prompt,
        cancel: CancelToken,
        reply: Reply<LikelihoodReport>,
    },
    Generate {
        session: u64,
        prompt: Prompt,
        call: GenerateCall,
    },
    /// The consumer of a generation wants its next piece.
    Pull {
        session: u64,
        call: u64,
    },
    /// The consumer of a generation has seen so many pieces and wants no more.
    Stop {
        session: u64,
        call: u64,
        delivered: usize,
        reply: Option<Reply<()>>,
    },
    Compress {
        session: u64,
        policy: Option<Policy>,
        cancel: CancelToken,
        reply: Reply<CompressReport>,
    },
    Fork {
        session: u64,
        reply: Reply<u64>,
    },
    Stats {
        session: u64,
        reply: Reply<SessionStats>,
    },
    Kept {
        session: u64,
        reply: Reply<KeptPositions>,
    },
    Dispose {
        session: u64,
        reply: Option<Reply<()>>,
    },
    Shutdown {
        reply: Option<Reply<()>>,
    },
}

/// A call of `generate`, by its number.
pub(crate) struct GenerateCall {
    pub number: u64,
    pub options: GenerateOptions,
    pub cancel: CancelToken,
    pub steps: mpsc::UnboundedSender<Result<Step>>,
}

/// Answers, if anybody waits.
pub(crate) fn answer<T>(reply: Option<Reply<T>>, result: Result<T>) {
    if let Some(reply) = reply {
        // Nobody waits any more: nothing to do.
        let _ = reply.send(result);
    }
}
