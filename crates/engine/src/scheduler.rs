//! The engine thread: takes commands, runs steps, keeps every session going.
//!
//! A step is one decode pass over all generating sessions (who reads the weights how often: `Model::forward`) and then at most one
//! prompt chunk of one session (or one of its probe, or one layer of a larger chunk where it is cut by layer), the sessions with a prompt taking turns.

use std::collections::{BTreeMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use headwise_cache::{BlockPool, KvCache};
use headwise_core::{Error, Result, recycle};
use headwise_model::tokenizer::DecodeStream;
use headwise_model::{Model, Span, Wanted, Workspace};
use headwise_policy::{Needs, Policy};

use crate::command::{Command, GenerateCall, Prompt, Reply, answer};
use crate::likelihood::log_probs;
use crate::observer::Observer;
use crate::report::{LikelihoodReport, PrefillReport};
use crate::sampler::Sampler;
use crate::session::{Decode, Drawn, Figures, Job, Likelihood, SessionState, Then, milliseconds, remember};
use crate::stop::StopMatcher;

/// A prompt chunk while other sessions are busy: short, so that their tokens keep coming.
const BUSY_CHUNK: usize = 128;

/// A chunk of a text whose likelihood is asked for: the logits of all its tokens are held at once.
const LIKELIHOOD_CHUNK: usize = 64;

/// A prompt's last chunk is never shorter than this (unless the prompt is): attention computes so few rows by another order of
/// additions, and results must not depend on how a prompt was cut.
const SHORTEST_CHUNK: usize = 16;

/// How many of the tokens that are left to read at once: about `most`, and none are left that would be too few.
pub(crate) fn stretch(left: usize, most: usize) -> usize {
    if left < most + SHORTEST_CHUNK { left } else { most }
}

/// How long a batch waits for a consumer that got its token a moment ago and will want the next one in a moment.
const GATHER: Duration = Duration::from_millis(1);

/// Everything that the engine thread owns.
pub(crate) struct Scheduler {
    model: Arc<Model>,
    pool: Arc<BlockPool>,
    chunk: usize,
    /// Ordered, so that batches are put together the same way every time.
    sessions: BTreeMap<u64, SessionState>,
    next_id: u64,
    /// The session whose prompt had the last chunk.
    last_prefilled: u64,
    decode_space: Workspace,
    prefill_space: Workspace,
    /// The sessions of a decode pass, their tokens and spans; kept for their memory.
    ids: Vec<u64>,
    tokens: Vec<u32>,
    spans: Vec<Span<'static>>,
}

impl Scheduler {
    pub fn new(model: Arc<Model>, pool: Arc<BlockPool>, chunk: usize) -> Self {
        Self {
            model,
            pool,
            chunk,
            sessions: BTreeMap::new(),
            next_id: 1,
            last_prefilled: 0,
            decode_space: Workspace::default(),
            prefill_space: Workspace::default(),
            ids: Vec::new(),
            tokens: Vec::new(),
            spans: Vec::new(),
        }
    }

    /// Runs until told to shut down or until every handle is gone.
    pub fn run(mut self, commands: Receiver<Command>) {
        loop {
            let mut next = match (self.is_runnable(), self.gathering()) {
                (true, None) => commands.try_recv(),
                (true, Some(rest)) => commands.recv_timeout(rest).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                }),
                (false, _) => commands.recv().map_err(|_| TryRecvError::Disconnected),
            };
            loop {
                match next {
                    Ok(Command::Shutdown { reply }) => return self.shut_down(reply),
                    Ok(command) => self.serve(command),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return self.shut_down(None),
                }
                next = commands.try_recv();
            }
            if self.gathering().is_none() {
                self.step();
            }
        }
    }

    fn is_runnable(&self) -> bool {
        self.sessions
            .values()
            .filter_map(|session| session.job.as_ref())
            .any(|job| job.is_runnable() || job.is_cancelled())
    }

    /// How much longer to wait for consumers that have just been served.
    fn gathering(&self) -> Option<Duration> {
        let jobs = self.sessions.values().filter_map(|session| session.job.as_ref());
        jobs.filter(|job| !job.is_runnable())
            .filter_map(|job| match &job.then {
                Then::Decode(decode) => GATHER.checked_sub(decode.sent.elapsed()),
                Then::Report(_) | Then::Compress(_) | Then::LogLikelihood(_) => None,
            })
            .max()
    }

    fn shut_down(self, reply: Option<Reply<()>>) {
        for (_, mut session) in self.sessions {
            if let Some(job) = session.job.take() {
                job.fail(Error::Disposed { what: "model".into() });
            }
        }
        self.pool.trim();
        answer(reply, Ok(()));
    }

    fn serve(&mut self, command: Command) {
        let model = self.model.clone();
        match command {
            Command::Create { policy, needs, reply } => {
                let result = guarded(|| self.create(policy, needs));
                answer(Some(reply), result);
            }
            Command::Prefill { session, prompt, compress, cancel, reply } => match self.prepare(session, prompt, 0) {
                Ok((state, prompt)) => {
                    let compress = compress.unwrap_or(state.policy.compresses_after_prefill());
                    let compress = compress.then(|| state.policy.clone());
                    state.start(prompt, compress, cancel, Then::Report(reply));
                    self.begin(session, &model);
                }
                Err(error) => answer(Some(reply), Err(error)),
            },
            Command::LogLikelihood { session, prompt, cancel, reply } => match self.prepare(session, prompt, 0) {
                Ok((state, prompt)) => {
                    let likelihood = Likelihood { log_probs: Vec::with_capacity(prompt.len()), reply };
                    state.start(prompt, None, cancel, Then::LogLikelihood(likelihood));
                    self.settle(session);
                }
                Err(error) => answer(Some(reply), Err(error)),
            },
            Command::Generate { session, prompt, call } => {
                let steps = call.steps.clone();
                if let Err(error) = self.generate(session, prompt, call) {
                    let _ = steps.send(Err(error));
                }
            }
            Command::Pull { session, call } => {
                let job = self.sessions.get_mut(&session).and_then(|state| state.job.as_mut());
                if let Some(Job { then: Then::Decode(decode), .. }) = job
                    && decode.call == call
                {
                    decode.wanted += 1;
                    self.settle(session);
                }
            }
            Command::Stop { session, call, delivered, reply } => {
                if let Some(state) = self.sessions.get_mut(&session) {
                    let running =
                        matches!(&state.job, Some(Job { then: Then::Decode(decode), .. }) if decode.call == call);
                    state.take_back(call, delivered);
                    if running {
                        self.fail(session, Error::Aborted {});
                    }
                }
                answer(reply, Ok(()));
            }
            Command::Compress { session, policy, cancel, reply } => match self.idle(session) {
                Ok(state) => {
                    let policy = policy.unwrap_or_else(|| state.policy.clone());
                    state.start(Vec::new(), Some(policy), cancel, Then::Compress(reply));
                    self.settle(session);
                }
                Err(error) => answer(Some(reply), Err(error)),
            },
            Command::Fork { session, reply } => {
                let fork = self.idle(session).map(|state| state.fork());
                answer(Some(reply), fork.map(|state| self.add(state)));
            }
            Command::Stats { session, reply } => answer(Some(reply), self.session(session).map(|s| s.stats())),
            Command::Kept { session, reply } => answer(Some(reply), self.session(session).map(|s| s.kept())),
            Command::Dispose { session, reply } => {
                if let Some(mut state) = self.sessions.remove(&session) {
                    if let Some(job) = state.job.take() {
                        job.fail(Error::Disposed { what: "session".into() });
                    }
                    drop(state);
                    self.pool.trim();
                }
                answer(reply, Ok(()));
            }
            Command::Shutdown { reply } => answer(reply, Ok(())),
        }
    }

    fn create(&mut self, policy: Policy, needs: Needs) -> Result<u64> {
        let shape = self.model.shape();
        let observer = Observer::new(shape, &needs);
        let cache = KvCache::new(self.pool.clone(), shape)?;
        let (logits, unfed, history, vocabulary, job) = (None, None, Vec::new(), HashSet::new(), None);
        Ok(self.add(SessionState {
            cache,
            observer,
            policy,
            logits,
            unfed,
            last_draw: None,
            history,
            vocabulary,
            job,
            figures: Figures::default(),
        }))
    }

    fn add(&mut self, state: SessionState) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.sessions.insert(id, state);
        id
    }

    fn session(&mut self, id: u64) -> Result<&mut SessionState> {
        self.sessions.get_mut(&id).ok_or_else(|| Error::Disposed { what: "session".into() })
    }

    fn idle(&mut self, id: u64) -> Result<&mut SessionState> {
        let state = self.session(id)?;
        state.idle(id)?;
        Ok(state)
    }

    /// The idle session, and the tokens to feed: BOS where the model wants one, and a token that was drawn but not fed.
    fn prepare(&mut self, session: u64, prompt: Prompt, more: usize) -> Result<(&mut SessionState, Vec<u32>)> {
        let (limit, vocabulary) = (self.model.context_length(), self.model.vocab_size());
        let state = self.idle(session)?;
        let bos = prompt.bos.filter(|_| state.seen() == 0 && !prompt.tokens.is_empty());
        let tokens: Vec<u32> = state.unfed.into_iter().chain(bos).chain(prompt.tokens).collect();
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocabulary) {
            return Err(Error::invalid("tokens", token, &format!("below the vocabulary's {vocabulary}")));
        }
        let needed = state.taken() + tokens.len() + more;
        if needed > limit {
            return Err(Error::ContextExceeded { needed, limit });
        }
        Ok((state, tokens))
    }

    fn generate(&mut self, session: u64, prompt: Prompt, call: GenerateCall) -> Result<()> {
        let model = self.model.clone();
        let GenerateCall { number, options, cancel, steps } = call;
        let sampler = Sampler::new(options.sampler.clone())?;
        let stop = StopMatcher::new(options.stop.clone());
        // An answer goes on from its prompt: a leading space is part of it.
        let text = DecodeStream::continuing();
        let ends = match self.model.tokenizer() {
            Ok(tokenizer) if !options.ignore_eos => tokenizer.eog().iter().copied().collect(),
            _ => HashSet::new(),
        };
        let has_prompt = !prompt.tokens.is_empty();
        let (state, prompt) = self.prepare(session, prompt, 1)?;
        if prompt.is_empty() && state.logits.is_none() {
            return Err(Error::invalid("prompt", "none", "a prompt: the session has seen no token to go on from"));
        }
        // A prompt that follows a prefill is a question about what is there, not the thing to be compressed.
        let compress = has_prompt && state.seen() == 0 && state.policy.compresses_after_prefill();
        let compress = compress.then(|| state.policy.clone());
        let sent = Instant::now();
        let decode = Decode { options, sampler, stop, text, ends, drawn: 0, steps, call: number, wanted: 0, sent };
        state.start(prompt, compress, cancel, Then::Decode(Box::new(decode)));
        self.begin(session, &model);
        Ok(())
    }

    /// Sets a call that has just started on its way.
    fn begin(&mut self, id: u64, model: &Model) {
        let Some(state) = self.sessions.get_mut(&id) else { return };
        let begun = guarded(|| {
            state.cut_by_layer(model);
            Ok(())
        });
        match begun {
            Ok(()) => self.settle(id),
            Err(error) => self.fail(id, error),
        }
    }

    /// One decode pass for all that generate, one prompt chunk for one that has a prompt.
    fn step(&mut self) {
        self.drop_cancelled();
        self.decode();
        self.read();
    }

    fn drop_cancelled(&mut self) {
        let cancelled = |state: &SessionState| state.job.as_ref().is_some_and(Job::is_cancelled);
        let ids: Vec<u64> = self.sessions.iter().filter(|(_, state)| cancelled(state)).map(|(&id, _)| id).collect();
        ids.into_iter().for_each(|id| self.fail(id, Error::Aborted {}));
    }

    fn decode(&mut self) {
        let generating =
            |state: &SessionState| state.job.as_ref().is_some_and(|job| !job.is_reading() && job.is_wanted());
        let mut ids = std::mem::take(&mut self.ids);
        ids.clear();
        ids.extend(self.sessions.iter().filter(|(_, state)| generating(state)).map(|(&id, _)| id));
        if !ids.is_empty() {
            self.decode_batch(&ids);
        }
        self.ids = ids;
    }

    /// Feeds the drawn token of each of these sessions (ascending) and draws the next ones.
    fn decode_batch(&mut self, ids: &[u64]) {
        let start = Instant::now();
        self.tokens.clear();
        self.tokens.extend(ids.iter().filter_map(|id| self.sessions[id].unfed));
        let mut spans: Vec<Span<'_>> = recycle(std::mem::take(&mut self.spans));
        let states = self.sessions.iter_mut().filter(|(id, _)| ids.binary_search(id).is_ok());
        spans.extend(states.zip(self.tokens.chunks(1)).map(|((_, state), tokens)| Span {
            tokens,
            cache: &mut state.cache,
            tap: &mut state.observer,
            logits: Wanted::Last,
        }));
        let result = guarded(|| self.model.forward(&mut spans, &mut self.decode_space, None));
        self.spans = recycle(spans);
        let of_batch = |(id, _): &(&u64, &mut SessionState)| ids.binary_search(id).is_ok();
        let result = result.and_then(|logits| {
            guarded(|| {
                self.sessions.iter_mut().filter(of_batch).for_each(|(_, state)| state.observer.commit());
                Ok(logits)
            })
        });
        let ms = milliseconds(start);
        let states = self.sessions.iter_mut().filter(of_batch);
        match result {
            Ok(logits) => {
                for (index, (_, state)) in states.enumerate() {
                    state.history.extend(state.unfed.take());
                    remember(&mut state.logits, logits.span(index));
                    state.figures.decode_tokens += 1;
                    state.figures.decode_ms += ms;
                }
                ids.iter().for_each(|&id| self.settle(id));
            }
            Err(error) if ids.len() == 1 || matches!(error, Error::Internal { .. }) => {
                ids.iter().for_each(|&id| self.fail(id, error.clone()));
            }
            // One session is out of memory, say, while the others could go on: each by itself.
            Err(_) => {
                states.for_each(|(_, state)| state.observer.discard());
                ids.iter().for_each(|id| self.decode_batch(std::slice::from_ref(id)));
            }
        }
    }

    /// One chunk of the prompt or of the probe of a session that has one.
    fn read(&mut self) {
        let waiting = |(_, state): &(&u64, &mut SessionState)| state.job.as_ref().is_some_and(Job::is_reading);
        let turn = self.last_prefilled;
        let next = self.sessions.range_mut(turn + 1..).find(waiting).map(|(&id, _)| id);
        let Some(id) = next.or_else(|| self.sessions.range_mut(..=turn).find(waiting).map(|(&id, _)| id)) else {
            return;
        };
        self.last_prefilled = id;
        let others = self.sessions.values().filter(|state| state.job.is_some()).count() > 1;
        let state = self.sessions.get_mut(&id).expect("just found");
        let job = state.job.as_mut().expect("just found");
        let most = self.chunk.min(if others { BUSY_CHUNK } else { usize::MAX });
        if let Some(probe) = job.probe.as_mut().filter(|probe| !probe.is_done()) {
            let (space, cancel) = (&mut self.prefill_space, &job.cancel);
            match guarded(|| probe.step(&self.model, space, cancel, most)) {
                Ok(()) => self.settle(id),
                Err(error) => self.fail_compression(id, error),
            }
            return;
        }
        if let Some(layered) = &mut job.layered {
            let start = Instant::now();
            // A layer of a whole chunk takes less than all layers of the chunk that others wait for.
            let result = guarded(|| {
                let (cache, observer) = (&mut state.cache, &mut state.observer);
                layered.step(&self.model, cache, observer, &mut self.prefill_space, self.chunk)
            });
            match result {
                Ok(done) => {
                    if let Some((logits, report)) = done {
                        state.observer.commit();
                        state.history.extend_from_slice(&job.prompt);
                        state.vocabulary.extend(&job.prompt);
                        remember(&mut state.logits, logits);
                        state.figures.prefill_tokens += job.prompt.len();
                        state.figures.compressions += 1;
                        state.figures.compress_ms += report.ms;
                        (job.done, job.layered) = (job.prompt.len(), None);
                        // What compressing took is told by itself.
                        job.ms -= report.ms;
                        state.figures.prefill_ms -= report.ms;
                        job.cut = Some(report);
                    }
                    let ms = milliseconds(start);
                    job.ms += ms;
                    state.figures.prefill_ms += ms;
                    self.settle(id);
                }
                Err(error) => self.fail(id, error),
            }
            return;
        }
        let likelihood = matches!(job.then, Then::LogLikelihood(_));
        let most = if likelihood { most.min(LIKELIHOOD_CHUNK) } else { most };
        let end = job.done + stretch(job.prompt.len() - job.done, most);
        let wanted = match end == job.prompt.len() {
            _ if likelihood => Wanted::All,
            true => Wanted::Last,
            false => Wanted::None,
        };
        let start = Instant::now();
        let result = guarded(|| {
            let span = Span {
                tokens: &job.prompt[job.done..end],
                cache: &mut state.cache,
                tap: &mut state.observer,
                logits: wanted,
            };
            let logits = self.model.forward(&mut [span], &mut self.prefill_space, Some(&job.cancel))?;
            state.observer.commit();
            Ok(logits)
        });
        match result {
            Ok(logits) => {
                let ms = milliseconds(start);
                job.ms += ms;
                state.figures.prefill_ms += ms;
                state.figures.prefill_tokens += end - job.done;
                state.unfed = None;
                state.history.extend_from_slice(&job.prompt[job.done..end]);
                let logits = logits.span(0);
                if let Then::LogLikelihood(likelihood) = &mut job.then {
                    let before = state.logits.as_deref();
                    likelihood.log_probs.extend(log_probs(before, logits, &job.prompt[job.done..end]));
                }
                match logits.len().checked_sub(self.model.vocab_size()) {
                    None => state.logits = None,
                    Some(last) => remember(&mut state.logits, &logits[last..]),
                }
                job.done = end;
                if !job.in_prompt() {
                    state.vocabulary.extend(&job.prompt);
                }
                self.settle(id);
            }
            Err(error) => self.fail(id, error),
        }
    }

    /// Moves a job on that has nothing left to feed: compress, report, draw.
    fn settle(&mut self, id: u64) {
        let room = self.model.context_length();
        let Some(state) = self.sessions.get_mut(&id) else { return };
        let Some(mut job) = state.job.take() else { return };
        if job.is_reading() {
            state.job = Some(job);
            return;
        }
        let mut compression = job.cut.take();
        if let Some(policy) = job.compress.take() {
            let result = guarded(|| match job.probe.take() {
                None => match state.probe(&self.model, &policy)? {
                    Some(probe) if !probe.is_done() => Ok(Err(probe)),
                    nothing_to_read => state.compress(&self.model, &policy, nothing_to_read).map(Ok),
                },
                probe => state.compress(&self.model, &policy, probe).map(Ok),
            });
            match result {
                Ok(Ok(report)) => compression = Some(report),
                // To be read first.
                Ok(Err(probe)) => {
                    (job.probe, job.compress) = (Some(probe), Some(policy));
                    state.job = Some(job);
                    return;
                }
                Err(error) => {
                    state.job = Some(job);
                    return self.fail_compression(id, error);
                }
            }
        }
        job.undo = None;
        let tokens = job.tokens();
        match job.then {
            Then::Report(reply) => {
                let (seen, ms, memory) = (state.seen(), job.ms, state.memory());
                answer(Some(reply), Ok(PrefillReport { tokens, seen, ms, compression, memory }));
            }
            Then::Compress(reply) => {
                let report = compression.ok_or_else(|| Error::Internal { reason: "no compression".into() });
                answer(Some(reply), report);
            }
            Then::LogLikelihood(Likelihood { mut log_probs, reply }) => {
                let (seen, ms, mut tokens) = (state.seen(), job.ms, job.prompt);
                let carried = ..usize::from(job.carried);
                tokens.drain(carried);
                log_probs.drain(carried);
                answer(Some(reply), Ok(LikelihoodReport { tokens, log_probs, seen, ms }));
            }
            Then::Decode(ref mut decode) => {
                if state.unfed.is_some() || decode.wanted <= decode.drawn {
                    state.job = Some(job);
                    return;
                }
                let room = room.saturating_sub(state.taken() + 1);
                let Some(logits) = &state.logits else {
                    return job.fail(Error::Internal { reason: "no logits".into() });
                };
                match decode.draw(logits, self.model.tokenizer().ok(), &mut state.vocabulary, room) {
                    Ok(Drawn { token, draw, finished }) => {
                        state.unfed = Some(token);
                        state.last_draw = Some(draw);
                        if !finished {
                            state.job = Some(job);
                        }
                    }
                    Err(error) => job.fail(error),
                }
            }
        }
    }

    /// Ends a session's call because its compression failed. A generation that fails before its first token leaves no trace, nor does what was given
    /// up; a prefill's tokens stay otherwise.
    fn fail_compression(&mut self, id: u64, error: Error) {
        let job = self.sessions.get_mut(&id).and_then(|state| state.job.as_mut());
        if let Some(job) = job.filter(|job| !matches!(job.then, Then::Decode(_)) && !matches!(error, Error::Aborted {}))
        {
            job.undo = None;
        }
        self.fail(id, error);
    }

    /// Ends a session's call with an error. A prompt that did not get in whole leaves no trace.
    fn fail(&mut self, id: u64, error: Error) {
        let Some(state) = self.sessions.get_mut(&id) else { return };
        let job = state.undo();
        if matches!(error, Error::Internal { .. }) {
            // After a panic nobody knows what the session's cache holds.
            self.sessions.remove(&id);
        }
        if let Some(job) = job {
            job.fail(error);
        }
        // Behind the job, which may have held a probe's fork.
        self.pool.trim();
    }
}

/// Runs `body`; a panic becomes an error.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
        let reason = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into());
        Err(Error::Internal { reason })
    })
}
