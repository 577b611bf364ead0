//! napi glue only: convert, call, convert back. Options and reports cross as JSON text whose types are generated from the
//! Rust structs (`ts/generated`); errors cross as the JSON form of `headwise_core::Error` in the message.
#![allow(missing_docs, reason = "the public API with its docs is ts/; this is what stands behind it")]

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use headwise_core::Error;
use headwise_engine::{Engine, Input, Model, Session, SessionOptions, Steps, Stopper};
use napi::bindgen_prelude::{Either, FnArgs, PromiseRaw, Uint32Array, spawn_blocking};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// `(done, total)` bytes of loading.
type OnProgress = ThreadsafeFunction<FnArgs<(f64, f64)>, (), FnArgs<(f64, f64)>, Status, false>;

#[napi]
pub struct NativeModel {
    engine: Mutex<Option<Arc<Engine>>>,
}

#[napi]
impl NativeModel {
    /// Loads a .gguf file, a .safetensors file or a folder and starts its engine.
    #[napi(factory)]
    pub async fn load(
        path: String,
        options: String,
        #[napi(ts_arg_type = "((done: number, total: number) => void) | undefined | null")] on_progress: Option<
            OnProgress,
        >,
    ) -> napi::Result<NativeModel> {
        let load = move || {
            let options = parse("options", &options)?;
            let model = Model::load(Path::new(&path), &mut |progress| {
                if let Some(report) = &on_progress {
                    let figures = (progress.done as f64, progress.total as f64);
                    report.call(figures.into(), ThreadsafeFunctionCallMode::NonBlocking);
                }
            })?;
            Engine::start(model, options)
        };
        let loaded = spawn_blocking(move || std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)));
        let internal = |reason: String| thrown(Error::Internal { reason });
        let loaded = loaded.await.map_err(|error| internal(error.to_string()))?;
        let engine = loaded.map_err(|_| internal("panic while loading a model".into()))?.map_err(thrown)?;
        Ok(NativeModel { engine: Mutex::new(Some(Arc::new(engine))) })
    }

    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        json(self.engine()?.info())
    }

    #[napi]
    pub fn encode(&self, text: String, parse_special: bool) -> napi::Result<Uint32Array> {
        let engine = self.engine()?;
        let tokens = engine.model().tokenizer().and_then(|tokenizer| tokenizer.encode(&text, parse_special));
        tokens.map(Uint32Array::new).map_err(thrown)
    }

    #[napi]
    pub fn decode(&self, tokens: Uint32Array) -> napi::Result<String> {
        let engine = self.engine()?;
        engine.model().tokenizer().and_then(|tokenizer| tokenizer.decode(&tokens)).map_err(thrown)
    }

    /// The text of a chat, `[{role, content}, …]` as JSON, in the model's own template.
    #[napi]
    pub fn render_chat(&self, messages: String, add_generation_prompt: bool) -> napi::Result<String> {
        let messages: Vec<headwise_engine::ChatMessage> = parse("messages", &messages).map_err(thrown)?;
        self.engine()?.render_chat(&messages, add_generation_prompt).map_err(thrown)
    }

    #[napi]
    pub async fn create_session(&self, options: String) -> napi::Result<NativeSession> {
        let engine = self.engine()?;
        let options = SessionOptions::from_json(&options).map_err(thrown)?;
        engine.create_session(options).await.map(NativeSession::new).map_err(thrown)
    }

    #[napi]
    pub async fn dispose(&self) {
        let engine = self.engine.lock().expect("never poisoned: nothing panics under it").take();
        if let Some(engine) = engine {
            engine.dispose().await;
        }
    }

    fn engine(&self) -> napi::Result<Arc<Engine>> {
        let engine = self.engine.lock().expect("never poisoned: nothing panics under it").clone();
        engine.ok_or_else(|| thrown(Error::Disposed { what: "model".into() }))
    }
}

/// Cancels the calls that it is handed to.
#[napi]
#[derive(Default)]
pub struct NativeCancel(headwise_engine::CancelToken);

#[napi]
impl NativeCancel {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    #[napi]
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[napi]
pub struct NativeSession {
    session: Mutex<Option<Arc<Session>>>,
}

/// Row starts and positions of what each head holds.
#[napi(object)]
pub struct NativeKept {
    pub indptr: Uint32Array,
    pub positions: Uint32Array,
}

#[napi]
impl NativeSession {
    fn new(session: Session) -> Self {
        Self { session: Mutex::new(Some(Arc::new(session))) }
    }

    #[napi]
    pub fn prefill<'env>(
        &self,
        env: &'env Env,
        input: Either<String, Uint32Array>,
        options: String,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let session = self.session()?;
        let options = parse("options", &options).map_err(thrown)?;
        let call = session.prefill(convert(input), options, cancel.0.clone());
        env.spawn_future(async move { json(&call.await.map_err(thrown)?) })
    }

    #[napi]
    pub fn log_likelihood<'env>(
        &self,
        env: &'env Env,
        input: Either<String, Uint32Array>,
        options: String,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let session = self.session()?;
        let options = parse("options", &options).map_err(thrown)?;
        let call = session.log_likelihood(convert(input), options, cancel.0.clone());
        env.spawn_future(async move { json(&call.await.map_err(thrown)?) })
    }

    #[napi]
    pub fn generate<'env>(
        &self,
        env: &'env Env,
        prompt: Option<Either<String, Uint32Array>>,
        options: String,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, NativeSteps>> {
        let session = self.session()?;
        let options = parse("options", &options).map_err(thrown)?;
        let call = session.generate(prompt.map(convert), options, cancel.0.clone());
        env.spawn_future(async move {
            let steps = call.await.map_err(thrown)?;
            Ok(NativeSteps { stopper: steps.stopper(), steps: tokio::sync::Mutex::new(steps) })
        })
    }

    #[napi]
    pub fn compress<'env>(
        &self,
        env: &'env Env,
        policy: Option<String>,
        cancel: &NativeCancel,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let policy = policy.map(|text| headwise_engine::PolicySpec::from_json(&text)).transpose().map_err(thrown)?;
        let call = self.session()?.compress(policy, cancel.0.clone());
        env.spawn_future(async move { json(&call.await.map_err(thrown)?) })
    }

    #[napi]
    pub fn fork<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, NativeSession>> {
        let call = self.session()?.fork();
        env.spawn_future(async move { call.await.map(NativeSession::new).map_err(thrown) })
    }

    #[napi]
    pub async fn stats(&self) -> napi::Result<String> {
        json(&self.session()?.stats().await.map_err(thrown)?)
    }

    #[napi]
    pub async fn kept(&self) -> napi::Result<NativeKept> {
        let kept = self.session()?.kept().await.map_err(thrown)?;
        Ok(NativeKept { indptr: Uint32Array::new(kept.indptr), positions: Uint32Array::new(kept.positions) })
    }

    #[napi]
    pub async fn dispose(&self) {
        let session = self.session.lock().expect("never poisoned: nothing panics under it").take();
        if let Some(session) = session {
            session.dispose().await;
        }
    }

    fn session(&self) -> napi::Result<Arc<Session>> {
        let session = self.session.lock().expect("never poisoned: nothing panics under it").clone();
        session.ok_or_else(|| thrown(Error::Disposed { what: "session".into() }))
    }
}

/// The pieces of a running generation.
#[napi]
pub struct NativeSteps {
    steps: tokio::sync::Mutex<Steps>,
    stopper: Stopper,
}

#[napi]
impl NativeSteps {
    /// The next piece as JSON, or null after the last.
    #[napi]
    pub async fn next(&self) -> napi::Result<Option<String>> {
        let step = self.steps.lock().await.next().await.map_err(thrown)?;
        step.map(|step| json(&step)).transpose()
    }

    /// Ends the generation where its consumer is: behind this many pieces.
    #[napi]
    pub async fn stop(&self, delivered: u32) {
        self.stopper.stop(delivered as usize).await;
    }
}

fn convert(input: Either<String, Uint32Array>) -> Input {
    match input {
        Either::A(text) => Input::Text(text),
        Either::B(tokens) => Input::Tokens(tokens.to_vec()),
    }
}

fn parse<T: DeserializeOwned>(name: &str, text: &str) -> headwise_core::Result<T> {
    serde_json::from_str(text).map_err(|error| Error::invalid(name, text, &error.to_string()))
}

fn json<T: Serialize>(value: &T) -> napi::Result<String> {
    serde_json::to_string(value).map_err(|error| thrown(Error::Internal { reason: error.to_string() }))
}

/// The error as JSON: its code, its values and its message.
fn thrown(error: Error) -> napi::Error {
    #[derive(Serialize)]
    struct Thrown<'a> {
        #[serde(flatten)]
        error: &'a Error,
        message: String,
    }
    let text = serde_json::to_string(&Thrown { error: &error, message: error.to_string() });
    napi::Error::new(Status::GenericFailure, text.unwrap_or_else(|_| error.to_string()))
}
