//! Tokens that are cut out of a text before anything else looks at it.

/// Tokens by text.
#[derive(Debug)]
pub(super) struct Specials {
    /// Indexed by the first byte, longest text first.
    by_first: Vec<Vec<Special>>,
}

#[derive(Debug)]
struct Special {
    text: Box<str>,
    id: u32,
    control: bool,
}

/// A stretch of a text.
#[derive(Debug, PartialEq)]
pub(super) enum Segment<'t> {
    Text(&'t str),
    Token(u32),
}

impl Specials {
    /// `(text, id, control)`: control tokens are found only when asked for, the others always.
    pub(super) fn new<'a>(tokens: impl IntoIterator<Item = (&'a str, u32, bool)>) -> Self {
        let mut by_first: Vec<Vec<Special>> = (0..256).map(|_| Vec::new()).collect();
        for (text, id, control) in tokens {
            if let Some(&first) = text.as_bytes().first() {
                by_first[first as usize].push(Special { text: text.into(), id, control });
            }
        }
        for bucket in &mut by_first {
            bucket.sort_by_key(|special| std::cmp::Reverse(special.text.len()));
        }
        Self { by_first }
    }

    /// Cuts `text` at its leftmost, longest tokens. No text segment is empty.
    pub(super) fn split<'t>(&self, text: &'t str, parse_control: bool) -> Vec<Segment<'t>> {
        let bytes = text.as_bytes();
        let mut segments = Vec::new();
        let (mut start, mut at) = (0, 0);
        while at < bytes.len() {
            let found = self.by_first[bytes[at] as usize].iter().find(|special| {
                (parse_control || !special.control) && bytes[at..].starts_with(special.text.as_bytes())
            });
            let Some(special) = found else {
                at += 1;
                continue;
            };
            // Both ends are character boundaries: the first byte of a token is never a continuation byte.
            if start < at {
                segments.push(Segment::Text(&text[start..at]));
            }
            segments.push(Segment::Token(special.id));
            at += special.text.len();
            start = at;
        }
        if start < bytes.len() {
            segments.push(Segment::Text(&text[start..]));
        }
        segments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Segment::{Text, Token};

    fn specials() -> Specials {
        Specials::new([("<s>", 1, true), ("<s><s>", 2, true), ("  ", 3, false), ("é", 4, false)])
    }

    #[test]
    fn the_leftmost_longest_token_wins() {
        assert_eq!(specials().split("a<s><s><s>b", true), [Text("a"), Token(2), Token(1), Text("b")]);
    }

    #[test]
    fn control_tokens_stay_text_unless_asked_for() {
        assert_eq!(specials().split("<s>   é", false), [Text("<s>"), Token(3), Text(" "), Token(4)]);
        assert_eq!(specials().split("", true), []);
    }
}
