//! Models with known outputs: does the decoder say what another implementation says?
//!
//! A folder holds a model in the Hugging Face layout and `expected.safetensors`: `input_ids [T]`, `logits_last [vocab]`,
//! `logits_every_8 [ceil(T / 8)][vocab]` (positions 0, 8, 16, …) and `greedy [n]`, the greedy continuation.

use std::path::Path;

use headwise_cache::{BlockPool, KvCache, block_layout};
use headwise_core::Codec;
use headwise_model::rope::HalfFloat;
use headwise_model::{Model, NoTap, Span, Wanted, Workspace};
use safetensors::{Dtype, SafeTensors};

use crate::files;

/// Logits may differ by this much, plus this much of the expected value.
pub const TOLERANCE: f32 = 2e-3;
/// Every how many positions `logits_every_8` has a row.
const STRIDE: usize = 8;
/// Prompt tokens in one forward pass; the whole prompt is tried too.
const CHUNKS: [usize; 3] = [1, 7, 32];

/// What a model should say.
#[derive(Debug, Clone, PartialEq)]
pub struct Expected {
    /// The prompt.
    pub input_ids: Vec<u32>,
    /// Logits at the last position, `[vocab]`.
    pub logits_last: Vec<f32>,
    /// Logits at positions 0, 8, 16, …, `[n][vocab]`.
    pub logits_every_8: Vec<f32>,
    /// Greedy continuation.
    pub greedy: Vec<u32>,
}

impl Expected {
    /// Reads `expected.safetensors` of a folder.
    ///
    /// # Errors
    /// Says what is missing or has another type.
    pub fn read(folder: &Path) -> Result<Self, String> {
        let path = folder.join("expected.safetensors");
        let bytes = files::read(&path)?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
        let tensor = |name: &str, dtype: Dtype| match file.tensor(name) {
            Ok(tensor) if tensor.dtype() == dtype => Ok(tensor.data().to_vec()),
            Ok(tensor) => Err(format!("{name} is {:?}, not {dtype:?}", tensor.dtype())),
            Err(error) => Err(format!("{name}: {error}")),
        };
        let tokens = |name: &str| {
            let ids = tensor(name, Dtype::I64)?;
            let ids = ids.as_chunks::<8>().0.iter().map(|&id| u32::try_from(i64::from_le_bytes(id)));
            ids.collect::<Result<Vec<u32>, _>>().map_err(|error| format!("{name}: {error}"))
        };
        let floats = |name: &str| {
            Ok::<_, String>(
                tensor(name, Dtype::F32)?.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x)).collect(),
            )
        };
        Ok(Self {
            input_ids: tokens("input_ids")?,
            logits_last: floats("logits_last")?,
            logits_every_8: floats("logits_every_8")?,
            greedy: tokens("greedy")?,
        })
    }
}

/// How a model met what was expected of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// The largest logit error as a fraction of what is allowed.
    pub worst: f32,
    /// The oracle's rotary frequencies were rounded to the type of its weights (see [`Model::round_frequencies`]), and the
    /// model agrees with it only when its own are rounded too.
    pub rounded_frequencies: bool,
}

/// Runs the model of `folder` over its prompt in chunks of 1, 7, 32 and whole with a float32 cache, and compares logits and
/// greedy tokens with the expected ones.
///
/// Oracles of models in half precision are often cast as a whole and have rounded frequencies. Where such a folder does not
/// agree, it gets a second try with frequencies rounded to the `weights_dtype` of its `expected.json`, and the result says so.
///
/// # Errors
/// The first difference, or why the folder could not be read, in words.
pub fn check(folder: &Path) -> Result<Match, String> {
    only_regular_files(folder)?;
    let expected = Expected::read(folder)?;
    let mut model = Model::load(folder, &mut |_| {}).map_err(|error| error.to_string())?;
    match (check_model(&model, &expected), half_precision(folder)) {
        (Ok(worst), _) => Ok(Match { worst, rounded_frequencies: false }),
        (Err(difference), None) => Err(difference),
        (Err(difference), Some(precision)) => {
            model.round_frequencies(precision);
            match check_model(&model, &expected) {
                Ok(worst) => Ok(Match { worst, rounded_frequencies: true }),
                Err(rounded) => Err(format!("{difference}; with frequencies in {precision:?}: {rounded}")),
            }
        }
    }
}

/// Fails when a json or safetensors file of the folder is none that can be read to its end.
fn only_regular_files(folder: &Path) -> Result<(), String> {
    let describe = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(describe)? {
        let path = entry.map_err(describe)?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "safetensors") {
            files::regular(&path)?;
        }
    }
    Ok(())
}

/// The type of the oracle's weights, when it is one that rounds.
fn half_precision(folder: &Path) -> Option<HalfFloat> {
    let json: serde_json::Value = serde_json::from_slice(&files::read(&folder.join("expected.json")).ok()?).ok()?;
    match json["weights_dtype"].as_str()? {
        "bfloat16" => Some(HalfFloat::Bf16),
        "float16" => Some(HalfFloat::F16),
        _ => None,
    }
}

/// Compares a model that is loaded already, as [`check`] does but with its frequencies as they are. Returns the largest logit
/// error as a fraction of what is allowed.
///
/// # Errors
/// The first difference, in words.
pub fn check_model(model: &Model, expected: &Expected) -> Result<f32, String> {
    for (name, tokens) in [("input_ids", &expected.input_ids), ("greedy", &expected.greedy)] {
        if tokens.is_empty() {
            return Err(format!("{name} is empty"));
        }
    }
    let whole = expected.input_ids.len();
    let mut worst = 0f32;
    for chunk in CHUNKS.into_iter().filter(|&chunk| chunk < whole).chain([whole]) {
        let error = check_chunked(model, expected, chunk).map_err(|error| format!("chunks of {chunk}: {error}"))?;
        worst = worst.max(error);
    }
    Ok(worst)
}

fn check_chunked(model: &Model, expected: &Expected, chunk: usize) -> Result<f32, String> {
    let vocab = model.vocab_size();
    let mut runner = Runner::new(model)?;
    let mut logits = Vec::new();
    for tokens in expected.input_ids.chunks(chunk) {
        logits.extend(runner.feed(tokens, Wanted::All)?);
    }
    let rows: Vec<&[f32]> = logits.chunks_exact(vocab).collect();
    let sampled: Vec<f32> = rows.iter().step_by(STRIDE).flat_map(|row| row.iter().copied()).collect();
    let Some(last) = rows.last().copied() else { return Err("input_ids is empty".into()) };
    let mut worst = compare("logits_every_8", &sampled, &expected.logits_every_8)?;
    worst = worst.max(compare("logits_last", last, &expected.logits_last)?);

    let mut next = argmax(last);
    for (step, &token) in expected.greedy.iter().enumerate() {
        if next != token {
            return Err(format!("greedy token {step} is {next}, not {token}"));
        }
        next = argmax(&runner.feed(&[next], Wanted::Last)?);
    }
    Ok(worst)
}

/// One sequence of a model, with a float32 cache.
struct Runner<'m> {
    model: &'m Model,
    cache: KvCache,
    space: Workspace,
}

impl<'m> Runner<'m> {
    fn new(model: &'m Model) -> Result<Self, String> {
        let shape = model.shape();
        let cache = BlockPool::new(block_layout(shape.head_dim, Codec::F32), None)
            .and_then(|pool| KvCache::new(pool, shape))
            .map_err(|error| error.to_string())?;
        Ok(Self { model, cache, space: Workspace::default() })
    }

    fn feed(&mut self, tokens: &[u32], logits: Wanted) -> Result<Vec<f32>, String> {
        let span = Span { tokens, cache: &mut self.cache, tap: &mut NoTap, logits };
        let logits = self.model.forward(&mut [span], &mut self.space, None).map_err(|error| error.to_string())?;
        Ok(logits.span(0).to_vec())
    }
}

/// The largest error as a fraction of the tolerance.
fn compare(what: &str, got: &[f32], expected: &[f32]) -> Result<f32, String> {
    if got.len() != expected.len() {
        return Err(format!("{what} has {} numbers, not {}", got.len(), expected.len()));
    }
    let mut worst = 0f32;
    for (index, (&got, &expected)) in got.iter().zip(expected).enumerate() {
        let fraction = (got - expected).abs() / (TOLERANCE + TOLERANCE * expected.abs());
        if fraction.is_nan() || fraction > 1.0 {
            return Err(format!("{what}[{index}] is {got}, not {expected}"));
        }
        worst = worst.max(fraction);
    }
    Ok(worst)
}

/// Index of the largest logit; ties go to the lower one.
fn argmax(logits: &[f32]) -> u32 {
    let best = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
    (0..logits.len()).reduce(best).unwrap_or(0) as u32
}
