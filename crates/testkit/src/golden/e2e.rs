//! Cases of a whole model: prefill, compress with the policy, decode greedily; tokens, kept sets and logits are compared.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::{Codec, Selection};
use headwise_model::{LayerStep, LayerTap, Model, Span, Wanted, Workspace};
use headwise_policy::{Gathered, LayerInput, ModelView, Policy};

use super::case::{Case, Outcome, fail, number};
use super::compare;
use super::policies::{kvpress_policy, tag};
use crate::files;

/// Tokens in one forward pass of the prefill, so that the query window crosses chunk borders.
const CHUNK: usize = 48;
/// What the logits may differ by.
const TOLERANCE: f32 = 2e-3;

/// Runs an end-to-end case; the model lies beside it.
pub fn run(case: &Case, path: &Path) -> Outcome {
    let policy = case.word("policy")?;
    // An unknown policy is known to be unknown without running the model.
    let policies = case
        .budgets
        .iter()
        .map(|budget| Ok((tag(budget)?, kvpress_policy(case, policy, number(budget, "compression_ratio")?)?)));
    let policies = policies.collect::<Outcome<Vec<_>>>()?;
    if policies.is_empty() && policy != "full" {
        return fail("no budgets");
    }
    if policy == "full" {
        case.integers("tokens_full")?;
        case.floats("logits_full")?;
    }
    let model = load(case, path)?;
    let (_, prompt) = case.integers("prompt")?;
    let prompt = prompt.iter().map(|&id| u32::try_from(id).map_err(|_| format!("token {id} in the prompt")));
    let prompt = prompt.collect::<Result<Vec<u32>, String>>()?;
    if let Some(length) = case.optional("T", Case::count)?.filter(|&length| length != prompt.len()) {
        return fail(format!("T is {length}, but the prompt has {} tokens", prompt.len()));
    }
    let steps = case.count("steps")?;

    let mut full = Sequence::prefill(&model, &prompt, &policies)?;
    for (tag, policy) in &policies {
        let mut sequence = full.fork();
        let kept = sequence.compress(policy)?;
        compare::kept(case, tag, &kept)?;
        sequence.decode(case, tag, steps)?;
    }
    if case.has("tokens_full") { full.decode(case, "full", steps) } else { Ok(()) }
}

/// The model of a case in the folder layout that models are loaded from.
fn load(case: &Case, path: &Path) -> Outcome<Model> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let beside = |name: &str| match Path::new(name).file_name() {
        Some(file) if file == name => Ok(path.with_file_name(name)),
        _ => fail(format!("{name:?} is not the name of a file beside the case")),
    };
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder = Scratch(std::env::temp_dir().join(format!("headwise-golden-{}-{number}", std::process::id())));
    let copy = |from: PathBuf, to: &str| {
        files::regular(&from)?;
        std::fs::copy(&from, folder.0.join(to)).map_err(|error| format!("{}: {error}", from.display()))
    };
    std::fs::create_dir_all(&folder.0).map_err(|error| format!("{}: {error}", folder.0.display()))?;
    copy(beside(case.word("model")?)?, "model.safetensors")?;
    copy(beside(case.word("config")?)?, "config.json")?;
    Ok(Model::load(&folder.0, &mut |_| {})?)
}

/// A folder that is removed when it is no longer needed. A loaded model may still have its files mapped, which Unix allows.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Keeps the last queries of every layer, `[layers][at most rows][query heads][head_dim]`.
#[derive(Clone)]
struct Window {
    rows: usize,
    layers: Vec<Vec<f32>>,
}

impl LayerTap for Window {
    fn layer(&mut self, step: &LayerStep) {
        let queries = &mut self.layers[step.layer];
        queries.extend_from_slice(step.queries);
        let most = step.queries.len() / step.rows * self.rows;
        queries.drain(..queries.len().saturating_sub(most));
    }
}

/// A sequence with its cache, its last queries and the logits of its last token.
struct Sequence<'m> {
    model: &'m Model,
    cache: KvCache,
    window: Window,
    space: Workspace,
    logits: Vec<f32>,
    seen: usize,
}

impl<'m> Sequence<'m> {
    fn prefill(model: &'m Model, prompt: &[u32], policies: &[(&str, Policy)]) -> Outcome<Self> {
        let shape = model.shape();
        let rows = policies.iter().map(|(_, policy)| policy.needs().window_queries).max().unwrap_or(0);
        let cache = KvCache::new(BlockPool::new(block_layout(shape.head_dim, Codec::F32), None)?, shape)?;
        let (window, space) = (Window { rows, layers: vec![Vec::new(); shape.layers] }, Workspace::default());
        let mut sequence = Self { model, cache, window, space, logits: Vec::new(), seen: 0 };
        for tokens in prompt.chunks(CHUNK) {
            sequence.feed(tokens)?;
        }
        Ok(sequence)
    }

    fn fork(&self) -> Self {
        Self {
            model: self.model,
            cache: self.cache.fork(),
            window: self.window.clone(),
            space: Workspace::default(),
            logits: self.logits.clone(),
            seen: self.seen,
        }
    }

    fn feed(&mut self, tokens: &[u32]) -> Outcome {
        let span = Span { tokens, cache: &mut self.cache, tap: &mut self.window, logits: Wanted::Last };
        let logits = self.model.forward(&mut [span], &mut self.space, None)?;
        self.logits = logits.span(0).to_vec();
        self.seen += tokens.len();
        Ok(())
    }

    fn compress(&mut self, policy: &Policy) -> Outcome<Vec<Selection>> {
        let shape = self.cache.shape();
        let rows = self.window.rows.min(self.seen);
        let query_positions: Vec<u32> = (self.seen - rows..self.seen).map(|position| position as u32).collect();
        let layers = 0..shape.layers;
        let views: Vec<Vec<_>> = layers.clone().map(|layer| self.cache.heads(layer).collect()).collect();
        let of_layer = |layer| (0..shape.kv_heads).map(|head| self.cache.positions(layer, head)).collect();
        let positions: Vec<Vec<&[u32]>> = layers.clone().map(of_layer).collect();
        let inputs: Vec<_> = layers
            .map(|layer| LayerInput {
                layer,
                heads: &views[layer],
                positions: &positions[layer],
                renumbered: None,
                queries: &self.window.layers[layer],
                query_positions: &query_positions,
                gathered: Gathered::default(),
                model: ModelView {
                    output: self.model.output_projection(layer).ok(),
                    rotation: Some(self.model.rotation()),
                },
                shape,
                seen: self.seen,
                scale: 1.0 / (shape.head_dim as f32).sqrt(),
                output_lengths: None,
                budget: 0,
            })
            .collect();
        let kept = policy.compress(&inputs)?;
        for (layer, selection) in kept.iter().enumerate() {
            self.cache.compact(layer, selection)?;
        }
        Ok(kept)
    }

    /// Feeds the best token `steps` times and compares `tokens_<tag>` and `logits_<tag>` (the first row is the prompt's last).
    fn decode(&mut self, case: &Case, tag: &str, steps: usize) -> Outcome {
        let (mut tokens, mut logits) = (Vec::new(), self.logits.clone());
        for _ in 0..steps {
            let best = (0..self.logits.len()).rev().max_by(|&a, &b| self.logits[a].total_cmp(&self.logits[b]));
            let Some(best) = best else { return fail("the model gave no logits") };
            tokens.push(best);
            self.feed(&[best as u32])?;
            logits.extend(&self.logits);
        }
        let (_, expected) = case.integers(&format!("tokens_{tag}"))?;
        compare::integers(&format!("tokens_{tag}"), tokens, expected)?;
        let name = format!("logits_{tag}");
        if case.has(&name) {
            compare::floats(&name, &logits, case.floats(&name)?.1, TOLERANCE)?;
        }
        Ok(())
    }
}
