//! Text to token ids and back: one [`Tokenizer`] for `tokenizer.json` files and for the vocabularies inside GGUF files.

mod bpe;
mod gguf;
mod json;
mod pieces;
mod pretokenizers;
mod specials;
mod spm;
mod stream;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use headwise_core::{Error, Result};

pub use gguf::GgufVocabulary;
pub use stream::DecodeStream;

use pieces::{Kind, Pieces};
use specials::{Segment, Specials};

/// Texts that end a turn or a document in the model families that headwise runs. A token of such a text stops generation even
/// if the file names another one as its end of sequence: chat models end a turn with one and a document with the other.
const END_TEXTS: [&str; 9] = [
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endofturn|>",
    "<｜end▁of▁sentence｜>",
];

/// A vocabulary with everything that text needs on its way to token ids and back.
///
/// Control tokens (`<|im_start|>`, `</s>`, …) come out of a text only where the caller asks for it, so that text of a user cannot
/// forge them; no id is ever added at the start or at the end, see [`Tokenizer::bos_to_add`].
#[derive(Debug)]
pub struct Tokenizer {
    encoder: Encoder,
    pieces: Pieces,
    bos: Option<u32>,
    add_bos: bool,
    eos: Option<u32>,
    eog: BTreeSet<u32>,
    /// The encoder puts a space before a text that the decoder has to take away again.
    space_prefix: bool,
}

#[derive(Debug)]
enum Encoder {
    /// A `tokenizer.json`, once with its special tokens and once with them switched off.
    Json { parsing: Box<tokenizers::Tokenizer>, plain: Box<tokenizers::Tokenizer> },
    /// A GGUF vocabulary of kind `gpt2`.
    Bpe { specials: Specials, model: Box<tokenizers::Tokenizer> },
    /// A GGUF vocabulary of kind `llama`.
    Spm { specials: Specials, model: spm::Spm },
}

impl Tokenizer {
    /// Token ids of `text`. With `parse_special`, texts of control tokens become those tokens; without, they are text.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] when the vocabulary cannot express the text.
    pub fn encode(&self, text: &str, parse_special: bool) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        match &self.encoder {
            Encoder::Json { parsing, plain } => {
                let tokenizer = if parse_special { parsing } else { plain };
                ids = guarded("encode", || tokenizer.encode_fast(text, false))?.get_ids().to_vec();
            }
            Encoder::Bpe { specials, model } => {
                for segment in specials.split(text, parse_special) {
                    match segment {
                        Segment::Token(id) => ids.push(id),
                        Segment::Text(text) => bpe::encode(model, text, &mut ids)?,
                    }
                }
                // Bytes that the vocabulary lacks came out as the one id past its end.
                ids.retain(|&id| (id as usize) < self.pieces.len());
            }
            Encoder::Spm { specials, model } => {
                for segment in specials.split(text, parse_special) {
                    match segment {
                        Segment::Token(id) => ids.push(id),
                        Segment::Text(text) => model.encode(text, &mut ids)?,
                    }
                }
            }
        }
        Ok(ids)
    }

    /// The text of `ids`, control tokens left out; bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut bytes = Vec::new();
        let mut first = self.space_prefix;
        for &id in ids {
            bytes.extend_from_slice(self.text_bytes(id, &mut first)?);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of one token, those of control tokens included. A token need not be a whole number of characters.
    ///
    /// # Errors
    /// [`Error::Tokenizer`] for an id outside the vocabulary.
    pub fn token_bytes(&self, id: u32) -> Result<&[u8]> {
        match self.pieces.get(id) {
            Some((bytes, _)) => Ok(bytes),
            None => Err(failed(format!("token {id} is not in the vocabulary of {} tokens", self.pieces.len()))),
        }
    }

    /// The id of a token by its text, control tokens included.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        self.pieces.find(text.as_bytes())
    }

    /// Number of ids: every id is below it, though a file may leave some ids without a token.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a sequence, if the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token to put before position 0, if the model wants one there.
    pub fn bos_to_add(&self) -> Option<u32> {
        self.bos.filter(|_| self.add_bos)
    }

    /// The token that ends a sequence, if the model has one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// All tokens that end generation: end of sequence, of turn, of message.
    pub fn eog(&self) -> &BTreeSet<u32> {
        &self.eog
    }

    /// Whether `id` is a control token, which [`Tokenizer::decode`] leaves out.
    pub fn is_control(&self, id: u32) -> bool {
        self.pieces.get(id).is_some_and(|(_, kind)| kind == Kind::Control)
    }

    /// What a token adds to a text. While `first` holds, no text came before, and the space that encoding put there goes.
    fn text_bytes(&self, id: u32, first: &mut bool) -> Result<&[u8]> {
        let bytes = self.token_bytes(id)?;
        if self.is_control(id) || bytes.is_empty() {
            return Ok(&[]);
        }
        let strip = std::mem::take(first) && matches!(self.pieces.get(id), Some((_, Kind::Normal)));
        Ok(if strip { bytes.strip_prefix(b" ").unwrap_or(bytes) } else { bytes })
    }

    /// Puts the parts together; `end` are further ids that end generation.
    fn assemble(encoder: Encoder, pieces: Pieces, roles: Roles, space_prefix: bool) -> Self {
        let Roles { bos, add_bos, eos, end } = roles;
        let known = END_TEXTS.iter().filter_map(|text| pieces.find(text.as_bytes()));
        let eog = eos.into_iter().chain(end).chain(known).collect();
        Self { encoder, pieces, bos, add_bos, eos, eog, space_prefix }
    }
}

/// The ids with a meaning for the engine.
#[derive(Debug, Default)]
struct Roles {
    bos: Option<u32>,
    add_bos: bool,
    eos: Option<u32>,
    end: Vec<u32>,
}

fn failed(reason: impl Into<String>) -> Error {
    Error::Tokenizer { reason: reason.into() }
}

fn malformed(path: &str, reason: impl Into<String>) -> Error {
    Error::MalformedFile { path: path.into(), reason: reason.into() }
}

fn unsupported(feature: &str, value: impl Into<String>) -> Error {
    Error::UnsupportedFeature { feature: feature.into(), value: value.into() }
}

/// Runs the `tokenizers` crate on what a file says: its errors become ours, and so do its panics (it indexes and unwraps on
/// tables and regular expressions that come from the file).
fn guarded<T>(what: &str, run: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failed(format!("could not {what}: {error}"))),
        Err(_) => Err(failed(format!("could not {what}: the vocabulary is inconsistent"))),
    }
}
