//! The vocabularies inside GGUF files. Keys: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, `tokenizer.ggml.*`.

use std::borrow::Cow;
use std::collections::HashMap;

use headwise_core::Result;

use super::pieces::{ByteLevel, Kind, Pieces, fallback_byte, unescape};
use super::pretokenizers::PreTokenizer;
use super::specials::Specials;
use super::spm::Spm;
use super::{END_TEXTS, Encoder, Roles, Tokenizer, bpe, malformed, unsupported};
use crate::gguf::{Array, Gguf};

/// `tokenizer.ggml.token_type`.
mod token_type {
    pub(super) const UNKNOWN: i64 = 2;
    pub(super) const CONTROL: i64 = 3;
    pub(super) const USER_DEFINED: i64 = 4;
    pub(super) const BYTE: i64 = 6;
}

/// A vocabulary as a GGUF file holds it.
#[derive(Debug, Clone, Default)]
pub struct GgufVocabulary<'a> {
    /// The file's name, for messages.
    pub path: String,
    /// `tokenizer.ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `tokenizer.ggml.pre`: the name of the pre-tokenizer of a `gpt2` vocabulary; `default` where there is none.
    pub pre: Option<String>,
    /// The tokens by id.
    pub tokens: Vec<Cow<'a, str>>,
    /// Merges of a `gpt2` vocabulary, best first: two tokens with a space between.
    pub merges: Vec<Cow<'a, str>>,
    /// Scores of a `llama` vocabulary by id, higher merges first.
    pub scores: Vec<f64>,
    /// Token types by id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; empty if all are normal.
    pub token_types: Vec<i64>,
    /// The token that begins a sequence.
    pub bos: Option<u64>,
    /// The token that ends a sequence.
    pub eos: Option<u64>,
    /// The token that ends a turn.
    pub eot: Option<u64>,
    /// The token that ends a message.
    pub eom: Option<u64>,
    /// The token that stands for unknown characters.
    pub unknown: Option<u64>,
    /// Whether a sequence begins with `bos`; each kind of vocabulary has its own default.
    pub add_bos: Option<bool>,
    /// Whether a `llama` vocabulary puts a space before a text; it does by default.
    pub add_space_prefix: Option<bool>,
}

impl<'a> GgufVocabulary<'a> {
    /// Reads the vocabulary's metadata.
    ///
    /// # Errors
    /// [`headwise_core::Error::MalformedFile`] for keys that are missing or have another type.
    pub fn read(gguf: &Gguf<'a>) -> Result<Self> {
        let path = gguf.path();
        let wrong = |key: &str| malformed(path, format!("metadata key {key:?} is not an array of numbers"));
        let (scores, types) = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type");
        let floats = |array: Array| array.floats().ok_or_else(|| wrong(scores));
        let integers = |array: Array| array.integers().ok_or_else(|| wrong(types));
        let required = |key: &str| malformed(path, format!("metadata key {key:?} is missing"));
        let name = |key: &str| Ok(gguf.string(key)?.map(Cow::into_owned));
        Ok(Self {
            path: path.to_owned(),
            model: name("tokenizer.ggml.model")?.ok_or_else(|| required("tokenizer.ggml.model"))?,
            pre: name("tokenizer.ggml.pre")?,
            tokens: gguf.strings("tokenizer.ggml.tokens")?.ok_or_else(|| required("tokenizer.ggml.tokens"))?,
            merges: gguf.strings("tokenizer.ggml.merges")?.unwrap_or_default(),
            scores: gguf.array(scores)?.map_or(Ok(Vec::new()), floats)?,
            token_types: gguf.array(types)?.map_or(Ok(Vec::new()), integers)?,
            bos: gguf.u64("tokenizer.ggml.bos_token_id")?,
            eos: gguf.u64("tokenizer.ggml.eos_token_id")?,
            eot: gguf.u64("tokenizer.ggml.eot_token_id")?,
            eom: gguf.u64("tokenizer.ggml.eom_token_id")?,
            unknown: gguf.u64("tokenizer.ggml.unknown_token_id")?,
            add_bos: gguf.bool("tokenizer.ggml.add_bos_token")?,
            add_space_prefix: gguf.bool("tokenizer.ggml.add_space_prefix")?,
        })
    }

    /// The kind of a token: a known end of turn is control even if a file says otherwise.
    fn kind(&self, id: usize) -> Kind {
        match self.token_types.get(id).copied() {
            Some(token_type::UNKNOWN | token_type::CONTROL) => Kind::Control,
            _ if END_TEXTS.contains(&self.tokens[id].as_ref()) => Kind::Control,
            Some(token_type::USER_DEFINED) => Kind::UserDefined,
            _ => Kind::Normal,
        }
    }

    /// `(id, token, kind)` of all tokens.
    fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0u32..).zip(&self.tokens).map(|(id, token)| (id, token.as_ref(), self.kind(id as usize)))
    }

    /// Tables of one value a token must be as long as the vocabulary, and no two tokens may be equal.
    fn check(&self) -> Result<()> {
        let count = self.tokens.len();
        if count == 0 || u32::try_from(count).is_err() {
            return Err(malformed(&self.path, format!("a vocabulary of {count} tokens")));
        }
        if !self.token_types.is_empty() && self.token_types.len() != count {
            return Err(malformed(&self.path, format!("{} token types for {count} tokens", self.token_types.len())));
        }
        let mut ids = HashMap::with_capacity(count);
        for (id, token, _) in self.iter() {
            if let Some(other) = ids.insert(token, id) {
                return Err(malformed(&self.path, format!("tokens {other} and {id} are both {token:?}")));
            }
        }
        Ok(())
    }

    fn specials(&self) -> Specials {
        let cut = self.iter().filter(|(.., kind)| *kind != Kind::Normal);
        Specials::new(cut.map(|(id, token, kind)| (token, id, kind == Kind::Control)))
    }

    fn bpe(&self, pieces: &Pieces, pre_tokenizer: PreTokenizer) -> Result<Encoder> {
        // Control tokens stay out of the model: no text may merge into one.
        let tokens =
            self.iter().filter(|(.., kind)| *kind != Kind::Control).map(|(id, token, _)| (token, id)).collect();
        let model = bpe::build(&self.path, &tokens, &self.merges, pieces.len() as u32, pre_tokenizer)?;
        Ok(Encoder::Bpe { specials: self.specials(), model: Box::new(model) })
    }

    fn spm(&self, pieces: &Pieces, space_prefix: bool) -> Result<Encoder> {
        if self.scores.len() != self.tokens.len() {
            let (scores, tokens) = (self.scores.len(), self.tokens.len());
            return Err(malformed(&self.path, format!("{scores} scores for {tokens} tokens")));
        }
        if let Some(id) = self.scores.iter().position(|score| score.is_nan()) {
            return Err(malformed(&self.path, format!("the score of token {id} is not a number")));
        }
        let mut bytes = [None; 256];
        let mut mergeable: HashMap<Box<str>, (u32, f32)> = HashMap::new();
        for (id, token, kind) in self.iter() {
            match self.byte(id as usize) {
                Some(byte) => bytes[byte as usize] = Some(id),
                None if kind == Kind::Control => {}
                None => _ = mergeable.insert(token.into(), (id, self.scores[id as usize] as f32)),
            }
        }
        let present = bytes.iter().flatten().count();
        let bytes = match present {
            0 => None,
            256 => Some(Box::new(bytes.map(Option::unwrap_or_default))),
            _ => return Err(unsupported("byte fallback", format!("{present} of 256 byte tokens"))),
        };
        let longest = mergeable.keys().map(|piece| piece.len()).max().unwrap_or(0);
        let unknown = pieces.check(&self.path, "unknown", self.unknown)?;
        let model = Spm { pieces: mergeable, bytes, unknown, space_prefix, longest };
        Ok(Encoder::Spm { specials: self.specials(), model })
    }

    /// The byte that a byte token of a `llama` vocabulary stands for.
    fn byte(&self, id: usize) -> Option<u8> {
        match self.token_types.get(id) {
            Some(&token_type::BYTE) => fallback_byte(&self.tokens[id]),
            _ => None,
        }
    }
}

impl Tokenizer {
    /// The tokenizer inside a GGUF file.
    ///
    /// # Errors
    /// As [`GgufVocabulary::read`] and [`Tokenizer::from_vocabulary`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        Self::from_vocabulary(&GgufVocabulary::read(gguf)?)
    }

    /// A tokenizer for a vocabulary in the form of GGUF files.
    ///
    /// # Errors
    /// [`headwise_core::Error::UnsupportedFeature`] for a kind of vocabulary or a pre-tokenizer that is not known;
    /// [`headwise_core::Error::MalformedFile`] for tables of different lengths, equal tokens, merges of unknown tokens, ids
    /// outside the vocabulary and scores that are not numbers.
    pub fn from_vocabulary(vocabulary: &GgufVocabulary) -> Result<Self> {
        let path = &vocabulary.path;
        vocabulary.check()?;
        let spm = match vocabulary.model.as_str() {
            "gpt2" => false,
            "llama" => true,
            other => return Err(unsupported("tokenizer model", other)),
        };
        let byte_level = ByteLevel::new();
        let bytes = |id: u32, token: &str, kind| match kind {
            Kind::Normal if !spm => byte_level.bytes(token),
            Kind::Normal => vocabulary.byte(id as usize).map_or_else(|| unescape(token), |byte| vec![byte]),
            _ => token.as_bytes().to_vec(),
        };
        let tokens = vocabulary.iter().map(|(id, token, kind)| (id, bytes(id, token, kind), kind)).collect();
        let pieces = Pieces::new(path, tokens)?;

        let space_prefix = spm && vocabulary.add_space_prefix.unwrap_or(true);
        let (encoder, adds_bos) = if spm {
            (vocabulary.spm(&pieces, space_prefix)?, true)
        } else {
            let pre_tokenizer = PreTokenizer::named(vocabulary.pre.as_deref().unwrap_or("default"))?;
            let adds_bos = pre_tokenizer.adds_bos;
            (vocabulary.bpe(&pieces, pre_tokenizer)?, adds_bos)
        };
        let end =
            [pieces.check(path, "end-of-turn", vocabulary.eot)?, pieces.check(path, "end-of-message", vocabulary.eom)?];
        let roles = Roles {
            bos: pieces.check(path, "begin-of-sequence", vocabulary.bos)?,
            add_bos: vocabulary.add_bos.unwrap_or(adds_bos),
            eos: pieces.check(path, "end-of-sequence", vocabulary.eos)?,
            end: end.into_iter().flatten().collect(),
        };
        Ok(Self::assemble(encoder, pieces, roles, space_prefix))
    }
}
