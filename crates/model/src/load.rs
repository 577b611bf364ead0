//! From a path to a [`Model`].

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use headwise_core::{Error, Result};

use crate::Model;
use crate::block::llama::Decoder;
use crate::chat_template::ChatTemplate;
use crate::config::Config;
use crate::gguf::Gguf;
use crate::mmap::MappedFile;
use crate::rope::Rope;
use crate::safetensors;
use crate::tokenizer::Tokenizer;
use crate::weights::{Names, Tensors, Weights};

/// What loading is busy with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadPhase {
    /// Reading headers, configuration and tokenizer.
    Header,
    /// Reading the weights into memory.
    Weights,
}

/// How far loading has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadProgress {
    /// What is being read.
    pub phase: LoadPhase,
    /// Bytes read in this phase.
    pub done: u64,
    /// Bytes of this phase.
    pub total: u64,
}

/// JSON files beside the weights; the largest tokenizers have some 30 MB.
const MAX_TEXT: u64 = 256 << 20;
const PAGE: usize = 4096;
const PROGRESS_STEP: usize = 16 << 20;

impl Model {
    /// Loads a `.gguf` file, a folder in the Hugging Face layout (`config.json`, `model.safetensors` or its shards and index,
    /// `tokenizer.json`), or a `.safetensors` file with its `config.json` beside it.
    ///
    /// Weights are mapped, not copied. A folder without tokenizer loads too and takes token ids only.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TruncatedFile`], [`Error::MalformedFile`], [`Error::MissingTensor`], [`Error::ShapeMismatch`],
    /// [`Error::NotANumber`]; [`Error::UnsupportedArchitecture`] and [`Error::UnsupportedFeature`] for what the decoder
    /// would get wrong; [`Error::Tokenizer`] and [`Error::ChatTemplate`].
    pub fn load(path: &Path, progress: &mut dyn FnMut(LoadProgress)) -> Result<Model> {
        progress(LoadProgress { phase: LoadPhase::Header, done: 0, total: 0 });
        if path.is_dir() {
            return load_folder(path, safetensors::open_folder(path)?, progress);
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => {
                let folder = path.parent().unwrap_or(Path::new("."));
                load_folder(folder, safetensors::open_file(path)?, progress)
            }
            // By content: GGUF files come under many names, the blobs of a cache among them.
            _ => load_gguf(path, progress),
        }
    }
}

fn load_gguf(path: &Path, progress: &mut dyn FnMut(LoadProgress)) -> Result<Model> {
    let file = Arc::new(MappedFile::open(path)?);
    let name = path.display().to_string();
    let gguf = Gguf::parse(file.bytes(), &name)?;
    let config = Config::from_gguf(&gguf)?;
    let mut tensors = Tensors::from_gguf(&gguf, &file);
    let factors = tensors.optional_vector("rope_freqs.weight", config.head_dim / 2)?;
    let tokenizer = match gguf.get("tokenizer.ggml.tokens") {
        Some(_) => Some(Tokenizer::from_gguf(&gguf)?),
        None => None,
    };
    let chat_template = ChatTemplate::from_gguf(&gguf)?;
    let decoder = build(config, tensors, &Names::GGUF, factors.as_deref(), progress)?;
    Ok(Model { decoder, tokenizer, chat_template })
}

fn load_folder(folder: &Path, tensors: Tensors, progress: &mut dyn FnMut(LoadProgress)) -> Result<Model> {
    let config_path = folder.join("config.json");
    let config = Config::from_json(&read_text(&config_path)?, &config_path.display().to_string())?;
    let tokenizer = match folder.join("tokenizer.json").exists() {
        true => Some(Tokenizer::from_folder(folder)?),
        false => None,
    };
    let chat_template = ChatTemplate::from_folder(folder)?;
    let decoder = build(config, tensors, &Names::HUGGING_FACE, None, progress)?;
    Ok(Model { decoder, tokenizer, chat_template })
}

fn build(
    config: Config,
    mut tensors: Tensors,
    names: &Names,
    factors: Option<&[f32]>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Decoder> {
    let files = tensors.files();
    let rope = Rope::new(&config.rope, config.head_dim, factors)?;
    let weights = Weights::bind(&config, &mut tensors, names)?;
    touch(&files, progress);
    Ok(Decoder { config, weights, rope })
}

/// Reads every page once, so that the first prompt does not wait for the disk.
fn touch(files: &[Arc<MappedFile>], progress: &mut dyn FnMut(LoadProgress)) {
    let total = files.iter().map(|file| file.bytes().len() as u64).sum();
    let mut done = 0;
    for file in files {
        file.prefetch();
        for part in file.bytes().chunks(PROGRESS_STEP) {
            let sum = part.iter().step_by(PAGE).fold(0u8, |sum, byte| sum.wrapping_add(*byte));
            std::hint::black_box(sum);
            done += part.len() as u64;
            progress(LoadProgress { phase: LoadPhase::Weights, done, total });
        }
    }
}

/// A text file of bearable size.
pub(crate) fn read_text(path: &Path) -> Result<String> {
    let io = |error: std::io::Error| Error::Io { path: path.display().to_string(), reason: error.to_string() };
    let file = std::fs::File::open(path).map_err(io)?;
    let mut text = String::new();
    file.take(MAX_TEXT + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_TEXT {
        let reason = format!("larger than {MAX_TEXT} bytes");
        return Err(Error::MalformedFile { path: path.display().to_string(), reason });
    }
    Ok(text)
}
