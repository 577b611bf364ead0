/// What kind of token a position holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenClass {
    /// A control token of the tokenizer: begin of sequence, roles of a chat.
    Special,
    /// Nothing but punctuation.
    Punctuation,
    /// Anything else.
    Other,
}

impl TokenClass {
    /// That of a token which is no control token, from its bytes: punctuation if nothing but ASCII punctuation is left without white space.
    pub fn of(bytes: &[u8]) -> Self {
        let mut visible = bytes.iter().filter(|byte| !byte.is_ascii_whitespace()).peekable();
        match visible.peek().is_some() && visible.all(u8::is_ascii_punctuation) {
            true => Self::Punctuation,
            false => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctuation_is_nothing_but_punctuation() {
        for text in [".", " ,", "...\n", "\"", "?!"] {
            assert_eq!(TokenClass::of(text.as_bytes()), TokenClass::Punctuation, "{text:?}");
        }
        for text in ["", " ", "\n", "a.", "3", "–", "é"] {
            assert_eq!(TokenClass::of(text.as_bytes()), TokenClass::Other, "{text:?}");
        }
    }
}
