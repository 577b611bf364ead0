//! Token ids to text, one token at a time.

use headwise_core::Result;

use super::Tokenizer;

/// Turns tokens into text as they come and never hands out part of a character.
///
/// The parts, put together, are what [`Tokenizer::decode`] makes of all tokens at once (or, for a stream made by
/// [`DecodeStream::continuing`], of the tokens behind a text that was not empty).
#[derive(Debug, Clone)]
pub struct DecodeStream {
    /// The beginning of a character whose end has not come yet: at most three bytes.
    pending: Vec<u8>,
    first: bool,
}

impl DecodeStream {
    /// A stream whose first token begins a text.
    pub fn new(tokenizer: &Tokenizer) -> Self {
        Self { pending: Vec::new(), first: tokenizer.space_prefix }
    }

    /// A stream whose first token continues a text, such as an answer after its prompt: a leading space belongs to the text.
    pub fn continuing() -> Self {
        Self { pending: Vec::new(), first: false }
    }

    /// What `id` adds to the text; empty when it ends inside of a character or is a control token.
    ///
    /// # Errors
    /// [`headwise_core::Error::Tokenizer`] for an id outside the vocabulary; the stream stays as it was.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        let bytes = tokenizer.text_bytes(id, &mut self.first)?;
        self.pending.extend_from_slice(bytes);
        let whole = match self.pending.utf8_chunks().last() {
            Some(chunk) if is_incomplete(chunk.invalid()) => self.pending.len() - chunk.invalid().len(),
            _ => self.pending.len(),
        };
        let text = String::from_utf8_lossy(&self.pending[..whole]).into_owned();
        self.pending.drain(..whole);
        Ok(text)
    }

    /// Ends the stream: a character that was never finished becomes U+FFFD.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could still make a character of `bytes`.
fn is_incomplete(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
