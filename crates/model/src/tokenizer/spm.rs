//! SentencePiece BPE (`tokenizer.ggml.model = llama`): the best-scored pair of neighbours merges, the leftmost of equals first.
//!
//! Kudo & Richardson 2018, "SentencePiece"; characters that the vocabulary lacks fall back to their UTF-8 bytes.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use headwise_core::Result;

use super::failed;

/// The pieces that text is made of, with their scores.
#[derive(Debug)]
pub(super) struct Spm {
    pub(super) pieces: HashMap<Box<str>, (u32, f32)>,
    /// The tokens of single bytes.
    pub(super) bytes: Option<Box<[u32; 256]>>,
    /// What stands for an unknown character where there are no byte tokens.
    pub(super) unknown: Option<u32>,
    /// Every stretch of text begins with a space.
    pub(super) space_prefix: bool,
    /// Bytes of the longest piece.
    pub(super) longest: usize,
}

/// A stretch of the text that is one piece so far; merged away when `len` is 0.
struct Symbol {
    start: usize,
    len: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

/// A possible merge of symbol `left` with its neighbour; outdated when their lengths no longer sum up to `len`.
struct Candidate {
    score: f32,
    left: usize,
    len: usize,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Candidate {}

impl Spm {
    /// Appends the ids of `text`, which is not empty. O(n log n).
    pub(super) fn encode(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let prefix = if self.space_prefix { " " } else { "" };
        let text = format!("{prefix}{text}").replace(' ', "\u{2581}");
        let count = text.chars().count();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(i, (start, char))| Symbol {
                start,
                len: char.len_utf8(),
                previous: i.checked_sub(1),
                next: (i + 1 < count).then_some(i + 1),
            })
            .collect();
        let mut queue: BinaryHeap<Candidate> =
            (0..count).filter_map(|left| self.candidate(&text, &symbols, Some(left))).collect();
        while let Some(Candidate { left, len, .. }) = queue.pop() {
            let Some(right) = symbols[left].next.filter(|_| symbols[left].len > 0) else { continue };
            if symbols[left].len + symbols[right].len != len {
                continue;
            }
            symbols[left].len = len;
            symbols[left].next = symbols[right].next;
            symbols[right].len = 0;
            if let Some(next) = symbols[left].next {
                symbols[next].previous = Some(left);
            }
            queue.extend(self.candidate(&text, &symbols, symbols[left].previous));
            queue.extend(self.candidate(&text, &symbols, Some(left)));
        }
        let mut was_unknown = false;
        for symbol in symbols.iter().filter(|symbol| symbol.len > 0) {
            let piece = &text[symbol.start..symbol.start + symbol.len];
            let known = self.pieces.get(piece);
            match (known, &self.bytes, self.unknown) {
                (Some(&(id, _)), ..) => ids.push(id),
                (None, Some(bytes), _) => ids.extend(piece.bytes().map(|byte| bytes[byte as usize])),
                // A run of unknown characters is one unknown token.
                (None, None, Some(unknown)) if !was_unknown => ids.push(unknown),
                (None, None, Some(_)) => {}
                (None, None, None) => return Err(failed(format!("the vocabulary has no token for {piece:?}"))),
            }
            was_unknown = known.is_none();
        }
        Ok(())
    }

    fn candidate(&self, text: &str, symbols: &[Symbol], left: Option<usize>) -> Option<Candidate> {
        let left = left?;
        let Symbol { start, len, next, .. } = symbols[left];
        let len = len + symbols[next?].len;
        if len > self.longest {
            return None;
        }
        let &(_, score) = self.pieces.get(&text[start..start + len])?;
        Some(Candidate { score, left, len })
    }
}
