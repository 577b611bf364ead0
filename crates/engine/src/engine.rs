//! The public handles. They are cheap, talk to the engine thread over a channel and never block.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use headwise_cache::{BlockPool, block_layout};
use headwise_core::{Error, Result};
use headwise_model::Model;
use headwise_model::chat_template::Message as ChatMessage;
use headwise_policy::{Policy, PolicySpec};
use tokio::sync::{mpsc, oneshot};

use crate::options::{EngineOptions, GenerateOptions, PrefillOptions, SessionOptions};
use crate::report::{CompressReport, KeptPositions, ModelInfo, PrefillReport, SessionStats, Step};
use crate::scheduler::{Command, Prompt, Reply, Scheduler};
use crate::session::CancelToken;

/// Text or token ids.
#[derive(Debug, Clone)]
pub enum Input {
    /// Text for the model's tokenizer.
    Text(String),
    /// Token ids, taken as they are (no BOS is added).
    Tokens(Vec<u32>),
}

/// A model that runs: one engine thread, any number of sessions.
pub struct Engine {
    model: Arc<Model>,
    commands: Sender<Command>,
    info: ModelInfo,
}

impl Engine {
    /// Starts the engine thread and its workers.
    pub fn start(model: Model, options: EngineOptions) -> Result<Engine> {
        options.validate()?;
        let shape = model.shape();
        let codec = options.kv_codec;
        let pool = BlockPool::new(block_layout(shape.head_dim, codec), options.kv_limit_bytes)?;
        let threads = options.threads.unwrap_or_else(num_cpus::get_physical);
        let workers =
            rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("headwise-{i}")).build();
        let workers = workers.map_err(|error| Error::Internal { reason: error.to_string() })?;
        let info = ModelInfo {
            architecture: model.architecture().into(),
            layers: shape.layers,
            query_heads: shape.query_heads(),
            kv_heads: shape.kv_heads,
            head_dim: shape.head_dim,
            vocab_size: model.vocab_size(),
            context_length: model.context_length(),
            parameters: model.parameters() as usize,
            threads,
            slot_bytes: shape.slot_bytes(codec),
            has_chat_template: model.chat_template().is_some(),
        };
        let model = Arc::new(model);
        let scheduler = Scheduler::new(model.clone(), pool, options.prefill_chunk);
        let (commands, inbox) = channel();
        // The scheduler runs as a task of the pool's own thread would, so that every kernel finds the right workers.
        let body = move || workers.install(move || scheduler.run(inbox));
        let thread = std::thread::Builder::new().name("headwise-engine".into()).spawn(body);
        thread.map_err(|error| Error::Internal { reason: format!("engine thread: {error}") })?;
        Ok(Engine { model, commands, info })
    }

    /// The model: tokenizer, chat template, configuration.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model in figures.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// A chat in the model's own template. With `add_generation_prompt` it ends where the assistant's answer begins.
    pub fn render_chat(&self, messages: &[ChatMessage], add_generation_prompt: bool) -> Result<String> {
        let template = self.model.chat_template();
        let template = template.ok_or_else(|| Error::ChatTemplate { reason: "the model came without one".into() })?;
        let tokenizer = self.model.tokenizer()?;
        let text = |id: Option<u32>| match id {
            Some(id) => tokenizer.token_bytes(id).map(|bytes| Some(String::from_utf8_lossy(bytes).into_owned())),
            None => Ok(None),
        };
        let (bos, eos) = (text(tokenizer.bos())?, text(tokenizer.eos())?);
        template.render(messages, add_generation_prompt, bos.as_deref(), eos.as_deref())
    }

    /// A new, empty session.
    pub async fn create_session(&self, options: SessionOptions) -> Result<Session> {
        let policy = options.policy.resolve()?;
        let observe = options.observe;
        let id = ask(&self.commands, |reply| Command::Create { policy, observe, reply }).await?;
        Ok(Session { id, model: self.model.clone(), commands: self.commands.clone() })
    }

    /// Ends every session and the engine thread. Running calls fail with `Disposed`.
    pub async fn dispose(&self) {
        // An engine that is gone already answers by a closed channel, which is what was asked for.
        let _ = ask(&self.commands, |reply| Command::Shutdown { reply: Some(reply) }).await;
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Shutdown { reply: None });
    }
}

/// One decoding session. Dropping it frees its cache.
pub struct Session {
    id: u64,
    model: Arc<Model>,
    commands: Sender<Command>,
}

impl Session {
    /// The session's number, as errors name it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Puts text into the cache and, as the policy's schedule or the options say, compresses.
    ///
    /// An aborted or failed prefill leaves the session as it was. If only the compression fails (a budget below the
    /// protected set, say), the tokens stay and the error is returned.
    pub async fn prefill(&self, input: Input, options: PrefillOptions, cancel: CancelToken) -> Result<PrefillReport> {
        let prompt = self.prompt(input, options.parse_special)?;
        let (session, compress) = (self.id, options.compress);
        ask(&self.commands, |reply| Command::Prefill { session, prompt, compress, cancel, reply }).await
    }

    /// Generates, after an optional prompt. The prompt of an empty session is compressed as a prefill would be; one that
    /// follows a prefill is a question about what is there and is not.
    pub fn generate(&self, prompt: Option<Input>, options: GenerateOptions, cancel: CancelToken) -> Result<Steps> {
        options.validate()?;
        let prompt = self.prompt(prompt.unwrap_or(Input::Tokens(Vec::new())), options.parse_special)?;
        let (steps, receiver) = mpsc::unbounded_channel();
        let command = Command::Generate { session: self.id, prompt, options, cancel, steps };
        self.commands.send(command).map_err(|_| disposed())?;
        Ok(Steps { receiver, finished: false })
    }

    /// Compresses now, with this policy or the session's own.
    pub async fn compress(&self, policy: Option<PolicySpec>) -> Result<CompressReport> {
        let policy: Option<Policy> = policy.map(|spec| spec.resolve()).transpose()?;
        let session = self.id;
        ask(&self.commands, |reply| Command::Compress { session, policy, reply }).await
    }

    /// A second session with the same past. Both share the cache's blocks until one changes them.
    pub async fn fork(&self) -> Result<Session> {
        let id = ask(&self.commands, |reply| Command::Fork { session: self.id, reply }).await?;
        Ok(Session { id, model: self.model.clone(), commands: self.commands.clone() })
    }

    /// The session in figures.
    pub async fn stats(&self) -> Result<SessionStats> {
        ask(&self.commands, |reply| Command::Stats { session: self.id, reply }).await
    }

    /// The positions that each head still holds.
    pub async fn kept(&self) -> Result<KeptPositions> {
        ask(&self.commands, |reply| Command::Kept { session: self.id, reply }).await
    }

    /// Ends the session and frees its cache; a running call fails with `Disposed`.
    pub async fn dispose(&self) {
        let _ = ask(&self.commands, |reply| Command::Dispose { session: self.id, reply: Some(reply) }).await;
    }

    fn prompt(&self, input: Input, parse_special: bool) -> Result<Prompt> {
        match input {
            Input::Tokens(tokens) => Ok(Prompt { tokens, bos: None }),
            Input::Text(text) => {
                let tokenizer = self.model.tokenizer()?;
                Ok(Prompt { tokens: tokenizer.encode(&text, parse_special)?, bos: tokenizer.bos_to_add() })
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Dispose { session: self.id, reply: None });
    }
}

/// The pieces of a running generation. Dropping it cancels the generation.
pub struct Steps {
    receiver: mpsc::UnboundedReceiver<Result<Step>>,
    finished: bool,
}

impl Steps {
    /// The next piece; nothing after the one with a finish reason, or after an error.
    pub async fn next(&mut self) -> Result<Option<Step>> {
        if self.finished {
            return Ok(None);
        }
        let step = self.receiver.recv().await.unwrap_or_else(|| Err(disposed()));
        self.finished = step.as_ref().map_or(true, |step| step.finish_reason.is_some());
        step.map(Some)
    }
}

async fn ask<T>(commands: &Sender<Command>, command: impl FnOnce(Reply<T>) -> Command) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    commands.send(command(reply)).map_err(|_| disposed())?;
    answer.await.map_err(|_| disposed())?
}

fn disposed() -> Error {
    Error::Disposed { what: "model".into() }
}
