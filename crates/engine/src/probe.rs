//! Probe passes: text that is read behind a fork of the cache, to see which slots it attends to. The session's own cache never holds any of it.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Instant;

use headwise_cache::{BlockHandle, KvCache};
use headwise_core::{Error, KvShape, Result};
use headwise_kernels::HeadView;
use headwise_kernels::attend::Columns;
use headwise_model::chat_template::Message;
use headwise_model::{LayerStep, LayerTap, Model, Span, Wanted, Workspace};
use headwise_policy::gather::{Probe, ProbeRows, ProbeText};

use crate::chat;
use crate::observer::RunningSums;
use crate::scheduler::stretch;
use crate::session::{CancelToken, milliseconds};

/// What asks for the text, and for a later part of it, followed by the last tokens before that part (KVzip, arXiv 2505.23416).
const REPEAT: &str = "\n\nRepeat the previous context exactly.";
const REPEAT_FROM: &str = "\n\nRepeat the part of the previous context exactly, starting with";
const TOKENS_BEFORE: usize = 8;

/// Fewest tokens of a part that is not the last.
const SHORTEST_PART: usize = 16;

/// A probe under way, step by step.
pub(crate) struct ProbePass {
    /// A fork of the session's; the parts are read behind it, one after another in the same place.
    cache: KvCache,
    /// Its length without them, in tokens.
    seen: u32,
    /// What is still to be read.
    parts: VecDeque<Part>,
    /// Tokens of the first of them that were read.
    done: usize,
    tap: ProbeTap,
    /// What the slots got so far, per layer as [`headwise_policy::Gathered::probe`] has it.
    columns: Vec<Vec<f32>>,
    /// Tokens that were read.
    pub tokens: usize,
    /// Milliseconds that it took.
    pub ms: f64,
}

/// A text to read, and the positions that it judges.
struct Part {
    tokens: Vec<u32>,
    judges: Range<u32>,
}

impl Part {
    /// The slots, of those at `positions`, that it judges.
    fn judged(&self, positions: &[u32]) -> Range<usize> {
        let before = |end: u32| positions.partition_point(|&position| position < end);
        before(self.judges.start)..before(self.judges.end)
    }
}

impl ProbePass {
    /// Nothing is read yet. `history` are the tokens that the session has seen.
    ///
    /// # Errors
    /// [`Error::ContextExceeded`] when the model's context has no room for a probe behind the text, that of the tokenizer for
    /// an instruction where there is none.
    pub fn new(model: &Model, probe: &Probe, cache: KvCache, history: &[u32]) -> Result<Self> {
        let parts = match &probe.text {
            ProbeText::Repeat { chunk } => {
                let room = model.context_length().saturating_sub(cache.next_rotary_position() as usize);
                repetition(model, *chunk, history, room)?
            }
            ProbeText::Instruction(text) => {
                let tokens = model.tokenizer()?.encode(text, true)?;
                VecDeque::from([Part { tokens, judges: 0..u32::MAX }])
            }
        };
        let (shape, seen) = (cache.shape(), cache.next_position());
        let slots = |layer: usize| -> usize { cache.lengths(layer).iter().sum() };
        let columns = (0..shape.layers).map(|layer| vec![0.0; shape.group * slots(layer)]).collect();
        let tap = ProbeTap { rows: probe.rows, columns: RunningSums::new(shape), factors: Vec::new(), tokens: 0 };
        // Of a part whose slots are all gone nothing is asked: a long stream is not read again from its start.
        let judges_any = |part: &Part| {
            (0..shape.layers)
                .flat_map(|layer| (0..shape.kv_heads).map(move |head| (layer, head)))
                .any(|(layer, head)| !part.judged(cache.positions(layer, head)).is_empty())
        };
        let parts = parts.into_iter().filter(|part| !part.tokens.is_empty() && judges_any(part)).collect();
        Ok(Self { cache, seen, parts, done: 0, tap, columns, tokens: 0, ms: 0.0 })
    }

    /// Everything was read.
    pub fn is_done(&self) -> bool {
        self.parts.is_empty()
    }

    /// What the slots of each layer got.
    pub fn columns(&self) -> &[Vec<f32>] {
        &self.columns
    }

    /// Reads on, about `most` tokens.
    pub fn step(&mut self, model: &Model, space: &mut Workspace, cancel: &CancelToken, most: usize) -> Result<()> {
        let Some(part) = self.parts.front() else { return Ok(()) };
        let start = Instant::now();
        let count = stretch(part.tokens.len() - self.done, most);
        self.tap.tokens = part.tokens.len();
        let span = Span {
            tokens: &part.tokens[self.done..self.done + count],
            cache: &mut self.cache,
            tap: &mut self.tap,
            logits: Wanted::None,
        };
        model.forward(&mut [span], space, Some(cancel))?;
        self.tap.columns.commit();
        self.done += count;
        self.tokens += count;
        if self.done == part.tokens.len() {
            self.finish_part();
        }
        self.ms += milliseconds(start);
        Ok(())
    }

    /// Takes over what the slots that the part judges got of it, and takes it out of the cache again.
    fn finish_part(&mut self) {
        let Some(part) = self.parts.pop_front() else { return };
        let KvShape { layers, kv_heads, group, .. } = self.cache.shape();
        let with_part: Vec<Vec<usize>> = (0..layers).map(|layer| self.cache.lengths(layer)).collect();
        self.cache.truncate(self.seen);
        for (layer, columns) in self.columns.iter_mut().enumerate() {
            let (mut rest, mut got) = (&mut columns[..], self.tap.columns.layer(layer));
            for head in 0..kv_heads {
                let positions = self.cache.positions(layer, head);
                let judged = part.judged(positions);
                for _ in 0..group {
                    let (row, after) = rest.split_at_mut(positions.len());
                    rest = after;
                    row[judged.clone()].copy_from_slice(&got[judged.clone()]);
                    got = &got[with_part[layer][head]..];
                }
            }
        }
        self.tap.columns = RunningSums::new(self.cache.shape());
        self.done = 0;
    }
}

/// The text once more, in parts of at most `chunk` tokens, each behind a request and all of it no longer than `room`. BOS is not repeated. A model without a tokenizer gets no requests.
fn repetition(model: &Model, chunk: usize, history: &[u32], room: usize) -> Result<VecDeque<Part>> {
    let (mut first, mut later, mut then) = (Vec::new(), Vec::new(), Vec::new());
    let mut start = 0;
    if let Ok(tokenizer) = model.tokenizer() {
        start = usize::from(tokenizer.bos().is_some_and(|bos| history.first() == Some(&bos)));
        (first, later) = (tokenizer.encode(REPEAT, false)?, tokenizer.encode(REPEAT_FROM, false)?);
        then = answer_begins(model, history)?;
    }
    let request = first.len().max(later.len() + TOKENS_BEFORE) + then.len();
    let for_text = room.saturating_sub(request);
    if for_text < SHORTEST_PART.min(history.len()) {
        let limit = model.context_length();
        return Err(Error::ContextExceeded { needed: limit - room + request + SHORTEST_PART, limit });
    }
    let chunk = chunk.min(for_text).max(1);
    let part = |at: usize| {
        let end = (at + chunk).min(history.len());
        let before = if at == start { &[][..] } else { &history[at.saturating_sub(TOKENS_BEFORE).max(start)..at] };
        let request = if at == start { &first } else { &later };
        Part { tokens: [request, before, &then[..], &history[at..end]].concat(), judges: at as u32..end as u32 }
    };
    Ok((start..history.len()).step_by(chunk).map(part).collect())
}

/// What ends the user's message and begins the answer, if the text is a chat in the model's own template; else a line break.
fn answer_begins(model: &Model, history: &[u32]) -> Result<Vec<u32>> {
    const CONTENT: &str = "dummy content";
    let tokenizer = model.tokenizer()?;
    let message = Message { role: "user".into(), content: CONTENT.into() };
    let rendered = chat::render(model, &[message], true).unwrap_or_default();
    if let Some((before, after)) = rendered.split_once(CONTENT) {
        // How the user's message begins, which the text must have somewhere.
        let before = tokenizer.encode(before, true)?;
        let header = &before[before.len().saturating_sub(3)..];
        if header.is_empty() || history.windows(header.len()).any(|tokens| tokens == header) {
            return tokenizer.encode(after, true);
        }
    }
    tokenizer.encode("\n", false)
}

/// Asks attention for what the slots get.
struct ProbeTap {
    rows: ProbeRows,
    columns: RunningSums,
    /// Of each row of the layer.
    factors: Vec<f32>,
    /// Of the whole part.
    tokens: usize,
}

impl LayerTap for ProbeTap {
    fn layer(&mut self, step: &LayerStep<'_>) {
        self.factors.clear();
        let hidden = step.inputs.len() / step.rows;
        match self.rows {
            ProbeRows::Mean => self.factors.resize(step.rows, 1.0 / self.tokens as f32),
            ProbeRows::Max => self.factors.resize(step.rows, 1.0),
            ProbeRows::MaxByInput => self.factors.extend(step.inputs.chunks_exact(hidden).map(|input| {
                let squares: f64 = input.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
                squares.sqrt().max(f64::from(f32::MIN_POSITIVE)).recip() as f32
            })),
        }
    }

    fn columns(&mut self, layer: usize, heads: &[HeadView<'_, BlockHandle>]) -> Option<Columns<'_>> {
        let out = self.columns.stage(layer, heads);
        Some(Columns { reduce: self.rows.reduce(), out, factors: Some(&self.factors) })
    }
}
