//! One session inside the engine thread: its cache, what it observes and the call that is running.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use headwise_cache::{BlockHandle, KvCache};
use headwise_core::{Error, KvShape, Result, Selection};
use headwise_kernels::HeadView;
use headwise_model::Model;
use headwise_model::tokenizer::{DecodeStream, Tokenizer};
use headwise_policy::gather::TokenClass;
use headwise_policy::{Gathered, LayerInput, ModelView, Policy, Renumbered};
use tokio::sync::{mpsc, oneshot};

use crate::layered::Layered;
use crate::observer::Observer;
use crate::options::GenerateOptions;
use crate::probe::ProbePass;
use crate::report::{
    CompressReport, FinishReason, KeptPositions, LikelihoodReport, Memory, PrefillReport, SessionStats, Step,
};
use crate::sampler::Sampler;
use crate::stop::StopMatcher;

/// Set by the caller, read by the engine between steps and by the model between layers.
pub type CancelToken = Arc<AtomicBool>;

/// A session's state. Lives in the engine thread alone.
pub(crate) struct SessionState {
    pub cache: KvCache,
    pub observer: Observer,
    pub policy: Policy,
    /// Logits after the last token in the cache.
    pub logits: Option<Vec<f32>>,
    /// The token that was drawn from them but has not gone through the model yet.
    pub unfed: Option<u32>,
    /// By whom, so that a draw which nobody came to see can be taken back.
    pub last_draw: Option<LastDraw>,
    /// The tokens in the cache, evicted ones too, in the order in which they came.
    pub history: Vec<u32>,
    /// Tokens that the repetition penalty falls on.
    pub vocabulary: HashSet<u32>,
    pub job: Option<Job>,
    pub figures: Figures,
}

/// The draw that gave the unfed token.
#[derive(Clone, Copy)]
pub(crate) struct LastDraw {
    pub call: u64,
    /// The how manieth of its call.
    pub count: usize,
    /// The session had not seen the token before.
    pub new: bool,
}

/// Running totals for [`SessionStats`].
#[derive(Clone, Default)]
pub(crate) struct Figures {
    pub prefill_tokens: usize,
    pub prefill_ms: f64,
    pub decode_tokens: usize,
    pub decode_ms: f64,
    pub compressions: usize,
    pub compress_ms: f64,
}

/// A call that takes several steps.
pub(crate) struct Job {
    /// Prompt tokens; `done` of them are in the cache.
    pub prompt: Vec<u32>,
    pub done: usize,
    pub ms: f64,
    /// What compresses once the prompt is in; gone when it has.
    pub compress: Option<Policy>,
    /// The prompt goes through the layers one by one and is cut on the way.
    pub layered: Option<Box<Layered>>,
    /// What that did.
    pub cut: Option<CompressReport>,
    /// What compression reads for it.
    pub probe: Option<Box<ProbePass>>,
    pub cancel: CancelToken,
    pub then: Then,
    /// The first prompt token was drawn by an earlier call and had yet to be fed.
    pub carried: bool,
    /// What to go back to when the prompt does not get in whole or the call is given up before its probe is done.
    pub undo: Option<Box<Undo>>,
}

/// A session before a call.
pub(crate) struct Undo {
    position: u32,
    observer: Observer,
    logits: Option<Vec<f32>>,
    unfed: Option<u32>,
    figures: Figures,
    vocabulary: HashSet<u32>,
}

/// What follows once the prompt is in.
pub(crate) enum Then {
    Report(oneshot::Sender<Result<PrefillReport>>),
    Compress(oneshot::Sender<Result<CompressReport>>),
    LogLikelihood(Likelihood),
    Decode(Box<Decode>),
}

/// Logarithms of the probabilities of the prompt's tokens so far, and who waits for them.
pub(crate) struct Likelihood {
    pub log_probs: Vec<Option<f64>>,
    pub reply: oneshot::Sender<Result<LikelihoodReport>>,
}

/// A running generation.
pub(crate) struct Decode {
    pub options: GenerateOptions,
    pub sampler: Sampler,
    pub stop: StopMatcher,
    pub text: DecodeStream,
    pub ends: HashSet<u32>,
    pub drawn: usize,
    pub steps: mpsc::UnboundedSender<Result<Step>>,
    /// The call's number.
    pub call: u64,
    /// Pieces that were asked for so far. None is drawn before, so that a session is where its consumer is.
    pub wanted: usize,
    /// When the last piece went out.
    pub sent: Instant,
}

impl Job {
    /// The call's name, for errors.
    pub fn name(&self) -> &'static str {
        match self.then {
            Then::Report(_) => "prefill",
            Then::Compress(_) => "compress",
            Then::LogLikelihood(_) => "logLikelihood",
            Then::Decode(_) => "generate",
        }
    }

    /// Prompt tokens of this call, without one that was drawn by an earlier call and had yet to be fed.
    pub fn tokens(&self) -> usize {
        self.prompt.len() - usize::from(self.carried)
    }

    /// Nobody waits for it any more.
    pub fn is_cancelled(&self) -> bool {
        let gone = match &self.then {
            Then::Report(reply) => reply.is_closed(),
            Then::Compress(reply) => reply.is_closed(),
            Then::LogLikelihood(likelihood) => likelihood.reply.is_closed(),
            Then::Decode(decode) => decode.steps.is_closed(),
        };
        gone || self.cancel.load(Ordering::Relaxed)
    }

    /// There is something to do: tokens are left to read, or the next piece is asked for.
    pub fn is_runnable(&self) -> bool {
        self.is_reading() || self.is_wanted()
    }

    /// Tokens of the prompt or of a probe are left to go through the model.
    pub fn is_reading(&self) -> bool {
        self.in_prompt() || self.probe.as_ref().is_some_and(|probe| !probe.is_done())
    }

    /// The next piece of a generation is asked for.
    pub fn is_wanted(&self) -> bool {
        matches!(&self.then, Then::Decode(decode) if decode.wanted > decode.drawn)
    }

    /// Prompt tokens are left to go through the model.
    pub fn in_prompt(&self) -> bool {
        self.done < self.prompt.len()
    }

    /// Ends the call with an error.
    pub fn fail(self, error: Error) {
        match self.then {
            Then::Report(reply) => drop(reply.send(Err(error))),
            Then::Compress(reply) => drop(reply.send(Err(error))),
            Then::LogLikelihood(likelihood) => drop(likelihood.reply.send(Err(error))),
            Then::Decode(decode) => drop(decode.steps.send(Err(error))),
        }
    }
}

impl SessionState {
    /// Tokens seen: the position of the next one.
    pub fn seen(&self) -> usize {
        self.cache.next_position() as usize
    }

    /// Positions of the model's context that are taken: as many tokens, unless gaps were closed.
    pub fn taken(&self) -> usize {
        self.cache.next_rotary_position() as usize
    }

    /// A copy that shares the cache's blocks and runs nothing.
    pub fn fork(&self) -> Self {
        Self {
            cache: self.cache.fork(),
            observer: self.observer.clone(),
            policy: self.policy.clone(),
            logits: self.logits.clone(),
            unfed: self.unfed,
            history: self.history.clone(),
            vocabulary: self.vocabulary.clone(),
            last_draw: None,
            job: None,
            figures: Figures::default(),
        }
    }

    /// Fails unless the session is idle.
    pub fn idle(&self, session: u64) -> Result<()> {
        match &self.job {
            Some(job) => Err(Error::SessionBusy { session, running: job.name().into() }),
            None => Ok(()),
        }
    }

    /// Starts a call.
    pub fn start(&mut self, prompt: Vec<u32>, compress: Option<Policy>, cancel: CancelToken, then: Then) {
        let undo = (!prompt.is_empty()).then(|| {
            Box::new(Undo {
                position: self.cache.next_position(),
                observer: self.observer.clone(),
                logits: self.logits.clone(),
                unfed: self.unfed,
                figures: self.figures.clone(),
                vocabulary: self.vocabulary.clone(),
            })
        });
        self.last_draw = None;
        let carried = self.unfed.is_some();
        let (layered, cut, probe) = (None, None, None);
        self.job = Some(Job { prompt, done: 0, ms: 0.0, compress, layered, cut, probe, cancel, then, carried, undo });
    }

    /// Takes the running call away; if its prompt was not in whole, the session is as before the call.
    pub fn undo(&mut self) -> Option<Job> {
        self.observer.discard();
        let mut job = self.job.take()?;
        if let Some(undo) = job.undo.take() {
            self.restore(*undo);
        }
        Some(job)
    }

    /// Back to before a call, whose tokens must still be in the cache as they came.
    pub fn restore(&mut self, undo: Undo) {
        let Undo { position, observer, logits, unfed, figures, vocabulary } = undo;
        self.cache.truncate(position);
        self.history.truncate(position as usize);
        (self.observer, self.logits, self.unfed) = (observer, logits, unfed);
        (self.figures, self.vocabulary) = (figures, vocabulary);
    }

    /// Takes back a draw of a call whose consumer saw only `delivered` pieces.
    pub fn take_back(&mut self, call: u64, delivered: usize) {
        let Some(draw) = self.last_draw.filter(|draw| draw.call == call && draw.count == delivered + 1) else { return };
        if let Some(token) = self.unfed.take().filter(|_| draw.new) {
            self.vocabulary.remove(&token);
        }
        self.last_draw = None;
    }

    /// What the cache holds.
    pub fn memory(&self) -> Memory {
        memory(&self.cache)
    }

    /// Has the prompt of the call that has just started cut layer by layer, where that can be done.
    pub fn cut_by_layer(&mut self, model: &Model) {
        let Some(job) = &mut self.job else { return };
        let Some(policy) = &job.compress else { return };
        job.layered = Layered::new(model, policy, &self.observer, &mut self.cache, &job.prompt);
        if job.layered.is_some() {
            job.compress = None;
        }
    }

    /// The probe that the policy asks for, if it has one and anything is to be evicted.
    pub fn probe(&self, model: &Model, policy: &Policy) -> Result<Option<Box<ProbePass>>> {
        let (shape, codec) = (self.cache.shape(), self.cache.pool().layout().codec);
        let idle = policy.keeps_all() || policy.fits(self.memory().slots, self.seen(), shape, shape.slot_bytes(codec));
        match policy.needs().probe.filter(|_| !idle) {
            Some(probe) => ProbePass::new(model, &probe, self.cache.fork(), &self.history).map(Box::new).map(Some),
            None => Ok(None),
        }
    }

    /// Evicts what the policy does not keep and gives the memory back. `probe` is the policy's, done.
    pub fn compress(
        &mut self,
        model: &Model,
        policy: &Policy,
        probe: Option<Box<ProbePass>>,
    ) -> Result<CompressReport> {
        let start = Instant::now();
        let (probe_tokens, probe_ms) = probe.as_ref().map_or((0, 0.0), |probe| (probe.tokens, probe.ms));
        let selections = self.select(model, policy, probe.as_deref().map(ProbePass::columns))?;
        // Its fork would keep the blocks that are to be given back.
        drop(probe);
        let before = self.memory();
        if let Some(selections) = selections {
            self.cut(model, policy, &selections)?;
            self.observer.compact(&selections);
            self.cache.pool().trim();
        }
        let ms = milliseconds(start) + probe_ms;
        self.figures.compressions += 1;
        self.figures.compress_ms += ms;
        Ok(CompressReport { before, after: self.memory(), ms, probe_tokens, probe_ms })
    }

    /// Keeps what was selected, and closes the gaps where the policy, or one before it, says so.
    fn cut(&mut self, model: &Model, policy: &Policy, selections: &[Selection]) -> Result<()> {
        if !policy.renumber && !self.cache.is_renumbered() {
            return self.cache.compact_all(selections);
        }
        let before = self.cache.next_rotary_position();
        self.cache.renumber_all(selections, model.rotation())?;
        self.observer.turn_back(model.rotation(), before - self.cache.next_rotary_position());
        Ok(())
    }

    /// What the policy keeps of each layer, or nothing to do. `probe`: what its probe found, per layer.
    fn select(&self, model: &Model, policy: &Policy, probe: Option<&[Vec<f32>]>) -> Result<Option<Vec<Selection>>> {
        let shape: KvShape = self.cache.shape();
        let seen = self.seen();
        if policy.keeps_all() || seen == 0 {
            return Ok(None);
        }
        // Fewer than the policy needs is its error to raise: it knows the scorer's name.
        let (window, gathered) = (self.observer.window(), self.observer.gathered(shape.layers));
        let need = policy.needs().window_queries.min(window.len());
        let queries: Vec<Vec<f32>> = (0..shape.layers).map(|layer| window.last(layer, need)).collect();
        let query_positions: Vec<u32> = (seen - need..seen).map(|position| position as u32).collect();
        let classes = policy.needs().token_classes.then(|| self.token_classes(model)).transpose()?;
        let views: Vec<Vec<_>> = (0..shape.layers).map(|layer| self.cache.heads(layer).collect()).collect();
        let positions: Vec<Vec<&[u32]>> =
            (0..shape.layers).map(|l| (0..shape.kv_heads).map(|h| self.cache.positions(l, h)).collect()).collect();
        let rotary = |layer| (0..shape.kv_heads).map(|head| self.cache.rotary_positions(layer, head)).collect();
        let rotary: Option<Vec<Vec<Vec<u32>>>> =
            self.cache.is_renumbered().then(|| (0..shape.layers).map(rotary).collect());
        let next = self.cache.next_rotary_position();
        let layers: Vec<_> = (0..shape.layers)
            .map(|layer| {
                let gathered = Gathered {
                    token_classes: classes.as_deref(),
                    probe: probe.map(|probe| &probe[layer][..]),
                    ..gathered.layer(layer)
                };
                let (views, positions, queries) = (&views[layer], &positions[layer], &queries[layer]);
                let renumbered = rotary.as_ref().map(|rotary| Renumbered { positions: &rotary[layer], next });
                let input = layer_input(model, layer, seen, views, positions, queries, &query_positions, gathered)?;
                Ok(LayerInput { renumbered, ..input })
            })
            .collect::<Result<_>>()?;
        policy.compress(&layers).map(Some)
    }

    /// What kind of token each position holds.
    fn token_classes(&self, model: &Model) -> Result<Vec<TokenClass>> {
        let tokenizer = model.tokenizer()?;
        let class = |&token: &u32| match tokenizer.is_control(token) {
            true => Ok(TokenClass::Special),
            false => tokenizer.token_bytes(token).map(TokenClass::of),
        };
        self.history.iter().map(class).collect()
    }

    /// The session in figures.
    pub fn stats(&self) -> SessionStats {
        let Figures { prefill_tokens, prefill_ms, decode_tokens, decode_ms, compressions, compress_ms } = self.figures;
        SessionStats {
            seen: self.seen(),
            lengths: (0..self.cache.shape().layers).map(|layer| self.cache.lengths(layer)).collect(),
            memory: self.memory(),
            observation_bytes: self.observer.bytes(),
            prefill_tokens,
            prefill_ms,
            decode_tokens,
            decode_ms,
            compressions,
            compress_ms,
        }
    }

    /// The positions that each head holds.
    pub fn kept(&self) -> KeptPositions {
        let shape = self.cache.shape();
        let mut kept = KeptPositions { indptr: vec![0], positions: Vec::new() };
        for (layer, head) in (0..shape.layers).flat_map(|l| (0..shape.kv_heads).map(move |h| (l, h))) {
            kept.positions.extend_from_slice(self.cache.positions(layer, head));
            kept.indptr.push(kept.positions.len() as u32);
        }
        kept
    }
}

impl Decode {
    /// Draws the next token and sends what it shows; without a tokenizer, tokens come out without text. `room` is how many
    /// more tokens fit the context.
    pub fn draw(
        &mut self,
        logits: &[f32],
        tokenizer: Option<&Tokenizer>,
        vocabulary: &mut HashSet<u32>,
        room: usize,
    ) -> Result<Drawn> {
        let token = self.sampler.sample(logits, vocabulary)?;
        let new = vocabulary.insert(token);
        self.drawn += 1;
        let ends = self.ends.contains(&token);
        let stops = self.options.stop_tokens.contains(&token);
        let mut finish = match (ends, stops) {
            (true, _) => Some(FinishReason::Eos),
            (_, true) => Some(FinishReason::Stop),
            _ if self.drawn >= self.options.max_tokens || room == 0 => Some(FinishReason::Length),
            _ => None,
        };
        let mut text = String::new();
        let mut stopped = false;
        if !ends && !stops {
            let piece = tokenizer.map_or(Ok(String::new()), |tokenizer| self.text.push(tokenizer, token))?;
            let released = self.stop.push(&piece);
            (text, stopped) = (released.text, released.stopped);
        }
        if finish.is_some() && !stopped {
            // Nothing follows that could complete a character or a stop text.
            let rest = std::mem::replace(&mut self.text, DecodeStream::continuing()).finish();
            let released = self.stop.push(&rest);
            text += &released.text;
            stopped = released.stopped;
            text += &self.stop.finish();
        }
        if stopped {
            finish = Some(FinishReason::Stop);
        }
        let step = Step { text, token, finish_reason: finish };
        // A closed stream is noticed as a cancelled job before the next step.
        let _ = self.steps.send(Ok(step));
        self.sent = Instant::now();
        let draw = LastDraw { call: self.call, count: self.drawn, new };
        Ok(Drawn { token, draw, finished: finish.is_some() })
    }
}

/// What a policy sees of a layer.
#[allow(clippy::too_many_arguments)]
pub(crate) fn layer_input<'a>(
    model: &'a Model,
    layer: usize,
    seen: usize,
    heads: &'a [HeadView<'a, BlockHandle>],
    positions: &'a [&'a [u32]],
    queries: &'a [f32],
    query_positions: &'a [u32],
    gathered: Gathered<'a>,
) -> Result<LayerInput<'a, BlockHandle>> {
    let shape = model.shape();
    Ok(LayerInput {
        layer,
        heads,
        positions,
        renumbered: None,
        queries,
        query_positions,
        gathered,
        model: ModelView { output: Some(model.output_projection(layer)?), rotation: Some(model.rotation()) },
        shape,
        seen,
        scale: 1.0 / (shape.head_dim as f32).sqrt(),
        output_lengths: None,
        budget: 0,
    })
}

/// What a cache holds.
pub(crate) fn memory(cache: &KvCache) -> Memory {
    let logical_bytes = cache.logical_bytes();
    Memory {
        slots: logical_bytes / cache.shape().slot_bytes(cache.pool().layout().codec),
        logical_bytes,
        physical_bytes: cache.physical_bytes(),
        shared_bytes: cache.shared_bytes(),
    }
}

/// A drawn token, and whether it was the last.
pub(crate) struct Drawn {
    pub token: u32,
    pub draw: LastDraw,
    pub finished: bool,
}

/// Remembers logits in the memory of those before.
pub(crate) fn remember(own: &mut Option<Vec<f32>>, logits: &[f32]) {
    let own = own.get_or_insert_default();
    own.clear();
    own.extend_from_slice(logits);
}

pub(crate) fn milliseconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}
