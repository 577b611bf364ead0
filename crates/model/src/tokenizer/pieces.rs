//! The bytes of every token, in one flat table.

use headwise_core::{Error, Result};

use super::malformed;

/// How far ids may reach past the number of tokens: files leave holes, but a hostile id must not size an allocation.
const MAX_HOLES: usize = 1 << 16;

/// What a token is to encoding and decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Part of a text.
    Normal,
    /// Part of a text that is one token wherever it stands, before any other rule.
    UserDefined,
    /// No part of a text.
    Control,
    /// An id without a token.
    Hole,
}

/// `id → (bytes, kind)`. Token `id` has the bytes `bytes[indptr[id]..indptr[id + 1]]`.
#[derive(Debug)]
pub(super) struct Pieces {
    bytes: Vec<u8>,
    indptr: Vec<usize>,
    kinds: Vec<Kind>,
}

impl Pieces {
    /// A table of `(id, bytes, kind)` in any order.
    pub(super) fn new(path: &str, mut tokens: Vec<(u32, Vec<u8>, Kind)>) -> Result<Self> {
        tokens.sort_by_key(|&(id, ..)| id);
        let count = tokens.last().map_or(0, |&(id, ..)| id as usize + 1);
        if count > tokens.len() + MAX_HOLES {
            return Err(malformed(path, format!("token id {} in a vocabulary of {} tokens", count - 1, tokens.len())));
        }
        let mut pieces = Self { bytes: Vec::new(), indptr: vec![0], kinds: Vec::new() };
        for (id, bytes, kind) in tokens {
            if (id as usize) < pieces.kinds.len() {
                return Err(malformed(path, format!("two tokens have the id {id}")));
            }
            while pieces.kinds.len() < id as usize {
                pieces.push(&[], Kind::Hole);
            }
            pieces.push(&bytes, kind);
        }
        Ok(pieces)
    }

    fn push(&mut self, bytes: &[u8], kind: Kind) {
        self.bytes.extend_from_slice(bytes);
        self.indptr.push(self.bytes.len());
        self.kinds.push(kind);
    }

    /// Number of ids, holes included.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// A token; none for holes and for ids past the end.
    pub(super) fn get(&self, id: u32) -> Option<(&[u8], Kind)> {
        let id = id as usize;
        let kind = *self.kinds.get(id).filter(|&&kind| kind != Kind::Hole)?;
        Some((&self.bytes[self.indptr[id]..self.indptr[id + 1]], kind))
    }

    /// The lowest id with these bytes, control tokens first. Linear: for set-up and the odd look-up.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        let matching = || (0..self.len() as u32).filter(|&id| self.get(id).is_some_and(|(piece, _)| piece == bytes));
        matching().find(|&id| self.kinds[id as usize] == Kind::Control).or_else(|| matching().next())
    }

    /// An id that a file gives a meaning to.
    pub(super) fn check(&self, path: &str, name: &str, id: Option<u64>) -> Result<Option<u32>, Error> {
        let Some(id) = id else { return Ok(None) };
        match u32::try_from(id).ok().filter(|&id| self.get(id).is_some()) {
            Some(id) => Ok(Some(id)),
            None => {
                Err(malformed(path, format!("{name} token {id} is not in the vocabulary of {} tokens", self.len())))
            }
        }
    }
}

/// The printable character that byte-level BPE (GPT-2, `bytes_to_unicode`) writes for each byte.
pub(super) fn byte_alphabet() -> [char; 256] {
    let printable = |byte: u32| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut alphabet = ['\0'; 256];
    let mut next = 256;
    for (byte, slot) in (0u32..).zip(&mut alphabet) {
        let code = if printable(byte) { byte } else { next };
        next += u32::from(!printable(byte));
        *slot = char::from_u32(code).expect("below 0x200");
    }
    alphabet
}

/// The bytes of byte-level tokens.
pub(super) struct ByteLevel(std::collections::HashMap<char, u8>);

impl ByteLevel {
    pub(super) fn new() -> Self {
        Self((0..=255).zip(byte_alphabet()).map(|(byte, char)| (char, byte)).collect())
    }

    /// The bytes that `token` stands for; a token with characters outside the alphabet stands for itself.
    pub(super) fn bytes(&self, token: &str) -> Vec<u8> {
        let bytes: Option<Vec<u8>> = token.chars().map(|char| self.0.get(&char).copied()).collect();
        bytes.unwrap_or_else(|| token.as_bytes().to_vec())
    }
}

/// The byte of a SentencePiece byte token such as `<0x0A>`.
pub(super) fn fallback_byte(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// The text of a SentencePiece token: U+2581 stands for a space.
pub(super) fn unescape(token: &str) -> Vec<u8> {
    token.replace('\u{2581}', " ").into_bytes()
}
