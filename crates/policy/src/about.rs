//! What `docs/policies.md` says of each part beside what its code and its docstring say.

use ts_rs::TS;

/// A part of a policy describes itself in its own file. The registry asks for it, so that a part without it does not compile.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not describe itself: `impl Describe for {Self}` in its own file"
)]
pub trait Describe {
    /// What neither types nor docstring tell.
    const ABOUT: About;
}

/// What the table says of a part that cannot be read off its code.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Where it comes from: arXiv ids, a repository, `"ours"`, or `"common"` for what everybody does.
    pub source: &'static str,
    /// Whether it has to see the question.
    pub asks: Asks,
    /// What it reads with its default options, beside what was gathered for it. A test changes each of these and looks.
    pub reads: &'static [Reads],
    /// One sentence: in what it differs from its source. Empty: in nothing.
    pub deviates: &'static str,
}

/// Whether a part has to see the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// It judges by the last queries: for prompts that end with the question.
    Aware,
    /// No query of the question has a special say: for texts that are asked about later.
    Agnostic,
    /// As what it is combined with.
    Either,
}

/// What a part reads of the cache and the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Keys of the cache.
    Keys,
    /// Values of the cache.
    Values,
    /// W_O of the model.
    Output,
    /// The rotary embedding of the model.
    Rotation,
}

impl Reads {
    /// In a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Values => "values",
            Self::Output => "W_O",
            Self::Rotation => "rotation",
        }
    }
}

/// A member of a registry, described.
#[derive(Debug, Clone)]
pub struct Described {
    /// Its name in JSON.
    pub kind: &'static str,
    /// The first sentence of its docstring, without the source.
    pub what: String,
    /// What it says of itself.
    pub about: About,
}

impl Described {
    /// The part of type `T`.
    pub fn of<T: Describe + TS>(kind: &'static str) -> Self {
        Self { kind, what: summary(&T::docs().unwrap_or_default()), about: T::ABOUT }
    }
}

/// The first sentence of a docstring in the form of JSDoc, less what stands in parentheses there about arXiv.
fn summary(docs: &str) -> String {
    let lines = docs.lines().map(|line| line.trim().trim_start_matches(['/', '*']).trim());
    let paragraph: Vec<&str> = lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()).collect();
    let mut text = paragraph.join(" ");
    if let Some(end) = text.find(". ") {
        text.truncate(end + 1);
    }
    while let Some(start) = text.find(" (arXiv") {
        let end = text[start..].find(')').map_or(text.len(), |end| start + end + 1);
        text.replace_range(start..end, "");
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_summary_is_the_first_sentence_without_its_source() {
        let docs = "/**\n * A rule (arXiv 1234.56789, X): what\n * it does. More.\n *\n * Else.\n */\n";
        assert_eq!(super::summary(docs), "A rule: what it does.");
    }
}
