//! `tokenizer.json` of the `tokenizers` library, with what `tokenizer_config.json` and `generation_config.json` add to it.
//!
//! Formats: <https://huggingface.co/docs/tokenizers>, <https://huggingface.co/docs/transformers/main_classes/tokenizer>.

use std::collections::HashMap;
use std::path::Path;

use headwise_core::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer as Inner;

use super::pieces::{ByteLevel, Kind, Pieces, fallback_byte, unescape};
use super::{Encoder, Roles, Tokenizer, bpe, guarded, malformed, unsupported};

/// How much all normalizer steps together may lengthen a text.
const MAX_GROWTH: usize = 64;

const NORMALIZERS: [&str; 8] = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Strip", "Prepend", "Replace"];
const PRE_TOKENIZERS: [&str; 7] =
    ["ByteLevel", "Split", "Digits", "Metaspace", "Punctuation", "Whitespace", "WhitespaceSplit"];

/// What is read of a `tokenizer.json` besides what the `tokenizers` crate reads.
#[derive(Deserialize)]
struct Outline {
    model: Model,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    vocab: Value,
    #[serde(default)]
    merges: Vec<Merge>,
    dropout: Option<f32>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Line(String),
    Pair(String, String),
}

/// The parts of `tokenizer_config.json` that say what tokens mean.
#[derive(Deserialize, Default)]
struct Config {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    add_bos_token: Option<bool>,
}

/// A token is given as its text or as an object around it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Added { content: String },
}

impl TokenText {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Added { content: text } => text,
        }
    }
}

/// `generation_config.json`: the ids that end generation, one or several.
#[derive(Deserialize)]
struct GenerationConfig {
    #[serde(default)]
    eos_token_id: Value,
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model's folder and, where they are there, `tokenizer_config.json` and
    /// `generation_config.json`.
    ///
    /// # Errors
    /// [`Error::Io`] when the first cannot be read; otherwise as [`Tokenizer::from_json`].
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read(&path)
                .map_err(|error| Error::Io { path: path.display().to_string(), reason: error.to_string() })
        };
        let path = folder.join("tokenizer.json").display().to_string();
        let config = read("tokenizer_config.json").ok();
        let generation = read("generation_config.json").ok();
        Self::from_json(&path, &read("tokenizer.json")?, config.as_deref(), generation.as_deref())
    }

    /// A tokenizer from the contents of these files; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::UnsupportedFeature`] for models other than BPE and for steps that are not known to keep text whole;
    /// [`Error::MalformedFile`] for files that are not what they should be, among them merges of unknown tokens, two tokens
    /// of one id and ids far outside the vocabulary; [`Error::Tokenizer`] for what the `tokenizers` crate refuses.
    pub fn from_json(path: &str, json: &[u8], config: Option<&[u8]>, generation: Option<&[u8]>) -> Result<Self> {
        let outline: Outline = parse(path, "tokenizer.json", json)?;
        outline.check(path)?;
        let decoder = Decoder::read(&outline.decoder)?;
        let config: Config =
            config.map_or(Ok(Config::default()), |bytes| parse(path, "tokenizer_config.json", bytes))?;
        let generation: Option<GenerationConfig> =
            generation.map(|bytes| parse(path, "generation_config.json", bytes)).transpose()?;

        let mut parsing = guarded("read tokenizer.json", || Inner::from_bytes(json))?;
        guarded("switch truncation off", || parsing.with_truncation(None).map(|_| ()))?;
        parsing.with_padding(None);
        let pieces = decoder.pieces(path, &parsing)?;

        let role = |name: &str, token: &Option<TokenText>| match token {
            None => Ok(None),
            Some(token) => match parsing.token_to_id(token.text()) {
                Some(id) => Ok(Some(id)),
                None => Err(malformed(path, format!("the {name} token {:?} is not in the vocabulary", token.text()))),
            },
        };
        let begins_with =
            guarded("read the post-processor", || parsing.encode_fast("", true))?.get_ids().first().copied();
        let bos = role("begin-of-sequence", &config.bos_token)?;
        let roles = Roles {
            bos,
            add_bos: config.add_bos_token.unwrap_or(bos.is_some() && begins_with == bos),
            eos: role("end-of-sequence", &config.eos_token)?,
            end: generation.map_or(Ok(Vec::new()), |generation| generation.ids(path, &pieces))?,
        };
        let mut plain = parsing.clone();
        plain.set_encode_special_tokens(true);
        let encoder = Encoder::Json { parsing: Box::new(parsing), plain: Box::new(plain) };
        Ok(Self::assemble(encoder, pieces, roles, decoder.space_prefix))
    }
}

fn parse<'a, T: Deserialize<'a>>(path: &str, what: &str, json: &'a [u8]) -> Result<T> {
    serde_json::from_slice(json).map_err(|error| malformed(path, format!("{what}: {error}")))
}

impl GenerationConfig {
    fn ids(&self, path: &str, pieces: &Pieces) -> Result<Vec<u32>> {
        let ids = match &self.eos_token_id {
            Value::Array(ids) => ids.as_slice(),
            Value::Null => &[],
            id => std::slice::from_ref(id),
        };
        let check = |id: &Value| match id.as_u64() {
            Some(id) => pieces.check(path, "end-of-sequence", Some(id)),
            None => Err(malformed(path, format!("generation_config.json: {id} is no token id"))),
        };
        Ok(ids.iter().map(check).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }
}

impl Outline {
    /// Refuses what we cannot invert, what is random, and what makes the `tokenizers` crate panic or grow texts without bound.
    fn check(&self, path: &str) -> Result<()> {
        let Model { kind, vocab, merges, dropout, continuing_subword_prefix, end_of_word_suffix } = &self.model;
        if kind != "BPE" {
            return Err(unsupported("tokenizer model", kind));
        }
        for (name, affix) in
            [("continuing_subword_prefix", continuing_subword_prefix), ("end_of_word_suffix", end_of_word_suffix)]
        {
            if let Some(affix) = affix.as_deref().filter(|affix| !affix.is_empty()) {
                return Err(unsupported(&format!("tokenizer model with {name}"), affix));
            }
        }
        if let Some(dropout) = dropout.filter(|&dropout| dropout != 0.0) {
            return Err(unsupported("tokenizer model with dropout", dropout.to_string()));
        }
        let Value::Object(vocab) = vocab else { return Err(malformed(path, "the vocabulary is not an object")) };
        let mut tokens = HashMap::with_capacity(vocab.len());
        for (token, id) in vocab {
            let Some(id) = id.as_u64().filter(|&id| id < u64::from(u32::MAX)) else {
                return Err(malformed(path, format!("the id of token {token:?} is {id}")));
            };
            if let Some(other) = tokens.insert(id, token) {
                return Err(malformed(path, format!("tokens {other:?} and {token:?} have the id {id}")));
            }
        }
        for merge in merges {
            let (left, right) = match merge {
                Merge::Pair(left, right) => (left.as_str(), right.as_str()),
                Merge::Line(line) if line.starts_with("#version") => continue,
                Merge::Line(line) => match line.split_once(' ') {
                    Some(pair) => pair,
                    None => return Err(malformed(path, format!("merge {line:?} is not a pair"))),
                },
            };
            bpe::check_merge(path, left, right, |token| vocab.contains_key(token))?;
        }
        self.check_steps(path)
    }

    fn check_steps(&self, path: &str) -> Result<()> {
        let mut growth = 1usize;
        for step in steps(&self.normalizer, "normalizers") {
            let kind = known("normalizer", step, &NORMALIZERS)?;
            if kind == "Replace" {
                let found = step["pattern"]["String"].as_str().map_or(1, str::len).max(1);
                let put = step["content"].as_str().map_or(0, str::len);
                growth = growth.saturating_mul(put.div_ceil(found).max(1));
            }
        }
        if growth > MAX_GROWTH {
            return Err(malformed(path, format!("the normalizer makes a text up to {growth} times as long")));
        }
        let mut byte_levels = 0;
        for step in steps(&self.pre_tokenizer, "pretokenizers") {
            byte_levels += usize::from(known("pre-tokenizer", step, &PRE_TOKENIZERS)? == "ByteLevel");
        }
        if byte_levels > 1 {
            return Err(malformed(path, format!("the byte-level pre-tokenizer occurs {byte_levels} times")));
        }
        Ok(())
    }
}

/// The steps of a component that may be a (nested) sequence.
fn steps<'v>(component: &'v Value, children: &str) -> Vec<&'v Value> {
    match (component, &component[children]) {
        (Value::Null, _) => Vec::new(),
        (_, Value::Array(items)) => items.iter().flat_map(|item| steps(item, children)).collect(),
        _ => vec![component],
    }
}

/// The type of a step, if it is one of `allowed`.
fn known<'v>(what: &str, step: &'v Value, allowed: &[&str]) -> Result<&'v str> {
    let kind = step["type"].as_str().unwrap_or("");
    if allowed.contains(&kind) { Ok(kind) } else { Err(unsupported(what, kind)) }
}

/// What a file's decoder does to one token.
struct Decoder {
    byte_level: bool,
    /// U+2581 stands for a space.
    escaped_spaces: bool,
    /// Tokens such as `<0x0A>` stand for bytes.
    byte_fallback: bool,
    /// The first space of a text goes.
    space_prefix: bool,
}

impl Decoder {
    fn read(decoder: &Value) -> Result<Self> {
        let mut read = Self { byte_level: false, escaped_spaces: false, byte_fallback: false, space_prefix: false };
        for step in steps(decoder, "decoders") {
            let kind = known("decoder", step, &["ByteLevel", "Metaspace", "Replace", "ByteFallback", "Fuse", "Strip"])?;
            match kind {
                "ByteLevel" => read.byte_level = true,
                "Metaspace" if step["replacement"] == "\u{2581}" => {
                    read.escaped_spaces = true;
                    read.space_prefix = match &step["prepend_scheme"] {
                        Value::String(scheme) => scheme != "never",
                        _ => step["add_prefix_space"] != false,
                    };
                }
                "Replace" if step["pattern"]["String"] == "\u{2581}" && step["content"] == " " => {
                    read.escaped_spaces = true;
                }
                "ByteFallback" => read.byte_fallback = true,
                "Fuse" => {}
                "Strip" if step["content"] == " " && step["stop"] == 0 && step["start"] == 1 => {
                    read.space_prefix = true
                }
                _ => return Err(unsupported("decoder", step.to_string())),
            }
        }
        if read.byte_level == read.escaped_spaces {
            return Err(unsupported("decoder", decoder.to_string()));
        }
        Ok(read)
    }

    /// The table of all tokens of `tokenizer`.
    fn pieces(&self, path: &str, tokenizer: &Inner) -> Result<Pieces> {
        let byte_level = ByteLevel::new();
        let added = tokenizer.get_added_tokens_decoder();
        let mut tokens: Vec<(u32, Vec<u8>, Kind)> = added
            .iter()
            .map(|(&id, token)| {
                let kind = if token.special { Kind::Control } else { Kind::UserDefined };
                (id, token.content.as_bytes().to_vec(), kind)
            })
            .collect();
        for (token, id) in tokenizer.get_vocab(false) {
            if added.contains_key(&id) {
                continue;
            }
            let byte = if self.byte_fallback { fallback_byte(&token) } else { None };
            let bytes = match byte {
                Some(byte) => vec![byte],
                None if self.byte_level => byte_level.bytes(&token),
                None => unescape(&token),
            };
            tokens.push((id, bytes, Kind::Normal));
        }
        Pieces::new(path, tokens)
    }
}
