//! The public handles. They are cheap, talk to the engine thread over a channel and never block.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use headwise_cache::{BlockPool, block_layout};
use headwise_core::{Error, Result};
use headwise_model::Model;
use headwise_model::chat_template::Message as ChatMessage;
use headwise_policy::{Needs, Policy, PolicySpec};
use tokio::sync::{mpsc, oneshot};

use crate::command::{Command, GenerateCall, Prompt, Reply};
use crate::options::{EngineOptions, GenerateOptions, LikelihoodOptions, PrefillOptions, SessionOptions};
use crate::report::{CompressReport, KeptPositions, LikelihoodReport, ModelInfo, PrefillReport, SessionStats, Step};
use crate::scheduler::Scheduler;
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
        let threads = options.threads.unwrap_or_else(default_threads);
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
            bos_token: model.tokenizer().ok().and_then(|tokenizer| tokenizer.bos_to_add()),
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
        crate::chat::render(&self.model, messages, add_generation_prompt)
    }

    /// A new, empty session. It lives on when this handle is dropped, until the model is disposed.
    pub async fn create_session(&self, options: SessionOptions) -> Result<Session> {
        options.validate()?;
        let policy = options.policy.resolve()?;
        let mut needs = policy.needs().and(Needs { window_queries: options.observe, ..Needs::default() });
        for later in &options.observe_for {
            needs = needs.and(later.resolve()?.needs());
        }
        let id = ask(&self.commands, |reply| Command::Create { policy, needs, reply }).await?;
        Ok(Session::new(id, Arc::downgrade(&self.model), self.commands.clone()))
    }

    /// Ends every session and the engine thread. Running calls fail with `Disposed`.
    pub async fn dispose(&self) {
        // An engine that is gone already answers by a closed channel, which is what was asked for.
        let _ = ask(&self.commands, |reply| Command::Shutdown { reply: Some(reply) }).await;
    }
}

/// Physical cores, or as many as the process may use where that is less.
fn default_threads() -> usize {
    let allowed = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
    num_cpus::get_physical().min(allowed).max(1)
}

/// One decoding session. Dropping it frees its cache.
///
/// A call claims the session when it is made, not when it is first polled: calls cannot overtake each other, and a second one
/// fails with `SessionBusy` while the first runs.
pub struct Session {
    id: u64,
    model: Weak<Model>,
    commands: Sender<Command>,
    running: Arc<Mutex<Option<Running>>>,
}

/// The call that has claimed a session.
struct Running {
    name: &'static str,
    cancel: CancelToken,
}

/// Frees the session for the next call when dropped.
struct Claim(Arc<Mutex<Option<Running>>>);

impl Drop for Claim {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Session {
    fn new(id: u64, model: Weak<Model>, commands: Sender<Command>) -> Self {
        Self { id, model, commands, running: Arc::default() }
    }

    /// The session's number, as errors name it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Puts text into the cache and, as the policy's schedule or the options say, compresses.
    ///
    /// An aborted or failed prefill leaves the session as it was. If only the compression fails (a budget below the
    /// protected set, say), the tokens stay and the error is returned.
    pub fn prefill(
        &self,
        input: Input,
        options: PrefillOptions,
        cancel: CancelToken,
    ) -> impl Future<Output = Result<PrefillReport>> + Send + use<> {
        let claim = self.claim("prefill", &cancel);
        let (session, model, commands) = (self.id, self.model.clone(), self.commands.clone());
        async move {
            let _claim = claim?;
            let prompt = tokenize(&model, input, options.parse_special)?;
            let compress = options.compress;
            ask(&commands, |reply| Command::Prefill { session, prompt, compress, cancel, reply }).await
        }
    }

    /// Reads text as [`Session::prefill`] does, without compressing, and says how likely each of its tokens was.
    ///
    /// The loss of a text behind a compressed cache is minus the mean of these logarithms.
    pub fn log_likelihood(
        &self,
        input: Input,
        options: LikelihoodOptions,
        cancel: CancelToken,
    ) -> impl Future<Output = Result<LikelihoodReport>> + Send + use<> {
        let claim = self.claim("logLikelihood", &cancel);
        let (session, model, commands) = (self.id, self.model.clone(), self.commands.clone());
        async move {
            let _claim = claim?;
            let prompt = tokenize(&model, input, options.parse_special)?;
            ask(&commands, |reply| Command::LogLikelihood { session, prompt, cancel, reply }).await
        }
    }

    /// Generates, after an optional prompt. The prompt of an empty session is compressed as a prefill would be; one that
    /// follows a prefill is a question about what is there and is not. If it fails before its first token, the session is as
    /// it was.
    pub fn generate(
        &self,
        prompt: Option<Input>,
        options: GenerateOptions,
        cancel: CancelToken,
    ) -> impl Future<Output = Result<Steps>> + Send + use<> {
        static CALLS: AtomicU64 = AtomicU64::new(0);
        let claim = self.claim("generate", &cancel);
        let (session, model, commands) = (self.id, self.model.clone(), self.commands.clone());
        async move {
            let claim = claim?;
            options.validate()?;
            let input = prompt.unwrap_or(Input::Tokens(Vec::new()));
            let prompt = tokenize(&model, input, options.parse_special)?;
            let (steps, receiver) = mpsc::unbounded_channel();
            let number = CALLS.fetch_add(1, Ordering::Relaxed);
            let call = GenerateCall { number, options, cancel, steps };
            commands.send(Command::Generate { session, prompt, call }).map_err(|_| disposed())?;
            let claim = Arc::new(Mutex::new(Some(claim)));
            Ok(Steps { receiver, stopper: Stopper { session, call: number, commands, claim }, taken: 0 })
        }
    }

    /// Compresses now, with this policy or the session's own. On an error nothing was evicted.
    pub fn compress(
        &self,
        policy: Option<PolicySpec>,
        cancel: CancelToken,
    ) -> impl Future<Output = Result<CompressReport>> + Send + use<> {
        let claim = self.claim("compress", &cancel);
        let (session, commands) = (self.id, self.commands.clone());
        async move {
            let _claim = claim?;
            let policy: Option<Policy> = policy.map(|spec| spec.resolve()).transpose()?;
            ask(&commands, |reply| Command::Compress { session, policy, cancel, reply }).await
        }
    }

    /// A second session with the same past. Both share the cache's blocks until one changes them.
    pub fn fork(&self) -> impl Future<Output = Result<Session>> + Send + use<> {
        let claim = self.claim("fork", &CancelToken::default());
        let (session, model, commands) = (self.id, self.model.clone(), self.commands.clone());
        async move {
            let _claim = claim?;
            let id = ask(&commands, |reply| Command::Fork { session, reply }).await?;
            Ok(Session::new(id, model, commands))
        }
    }

    /// The session in figures.
    pub async fn stats(&self) -> Result<SessionStats> {
        ask(&self.commands, |reply| Command::Stats { session: self.id, reply }).await
    }

    /// The positions that each head still holds.
    pub async fn kept(&self) -> Result<KeptPositions> {
        ask(&self.commands, |reply| Command::Kept { session: self.id, reply }).await
    }

    /// Ends the session and frees its cache; a running call is cancelled and fails with `Disposed` or `Aborted`.
    pub async fn dispose(&self) {
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.cancel.store(true, Ordering::Relaxed);
        }
        let _ = ask(&self.commands, |reply| Command::Dispose { session: self.id, reply: Some(reply) }).await;
    }

    fn claim(&self, name: &'static str, cancel: &CancelToken) -> Result<Claim> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Running { name, .. }) = &*running {
            return Err(Error::SessionBusy { session: self.id, running: (*name).into() });
        }
        *running = Some(Running { name, cancel: cancel.clone() });
        Ok(Claim(self.running.clone()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Dispose { session: self.id, reply: None });
    }
}

fn tokenize(model: &Weak<Model>, input: Input, parse_special: bool) -> Result<Prompt> {
    match input {
        Input::Tokens(tokens) => Ok(Prompt { tokens, bos: None }),
        Input::Text(text) => {
            let model = model.upgrade().ok_or_else(disposed)?;
            let tokenizer = model.tokenizer()?;
            Ok(Prompt { tokens: tokenizer.encode(&text, parse_special)?, bos: tokenizer.bos_to_add() })
        }
    }
}

/// The pieces of a running generation. Each is made when it is asked for. Dropping it ends the generation where its consumer is.
pub struct Steps {
    receiver: mpsc::UnboundedReceiver<Result<Step>>,
    stopper: Stopper,
    taken: usize,
}

impl Steps {
    /// The next piece; nothing after the one with a finish reason, or after an error.
    pub async fn next(&mut self) -> Result<Option<Step>> {
        if !self.stopper.is_running() {
            return Ok(None);
        }
        let Stopper { session, call, ref commands, .. } = self.stopper;
        let _ = commands.send(Command::Pull { session, call });
        let step = self.receiver.recv().await.unwrap_or_else(|| Err(disposed()));
        self.taken += 1;
        if step.as_ref().map_or(true, |step| step.finish_reason.is_some()) {
            self.stopper.release();
        }
        step.map(Some)
    }

    /// Ends the generation early, also while [`Steps::next`] is waiting.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        let Stopper { session, call, commands, .. } = &self.stopper;
        let stop = Command::Stop { session: *session, call: *call, delivered: self.taken, reply: None };
        let _ = commands.send(stop);
    }
}

/// Ends a generation early.
#[derive(Clone)]
pub struct Stopper {
    session: u64,
    call: u64,
    commands: Sender<Command>,
    /// Gone when the generation has ended.
    claim: Arc<Mutex<Option<Claim>>>,
}

impl Stopper {
    fn is_running(&self) -> bool {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn release(&self) {
        *self.claim.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Ends the generation behind `delivered` pieces. One that was made ahead is taken back, as if it had never been drawn.
    pub async fn stop(&self, delivered: usize) {
        let (session, call) = (self.session, self.call);
        let _ = ask(&self.commands, |reply| Command::Stop { session, call, delivered, reply: Some(reply) }).await;
        self.release();
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
