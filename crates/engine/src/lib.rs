//! The engine: sessions, scheduling, sampling, stop rules and the compression driver. The only place where a policy and a
//! model meet.

mod chat;
mod command;
mod engine;
mod export;
mod layered;
mod likelihood;
mod observer;
mod options;
mod probe;
mod report;
mod sampler;
mod scheduler;
mod session;
mod stop;

pub use engine::{Engine, Input, Session, Steps, Stopper};
pub use export::generated_files;
pub use observer::{Observer, QueryWindow, RunningSums};
pub use options::{EngineOptions, GenerateOptions, LikelihoodOptions, PrefillOptions, SamplerOptions, SessionOptions};
pub use report::{
    CompressReport, FinishReason, KeptPositions, LikelihoodReport, Memory, ModelInfo, PrefillReport, SessionStats, Step,
};
pub use sampler::Sampler;
pub use session::CancelToken;
pub use stop::{Released, StopMatcher};

pub use headwise_model::{Model, chat_template::Message as ChatMessage};
pub use headwise_policy::PolicySpec;
