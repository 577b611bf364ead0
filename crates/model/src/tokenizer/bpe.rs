//! Byte-level BPE (`tokenizer.ggml.model = gpt2`) on the `tokenizers` crate. Sennrich et al. 2016; Radford et al. 2019.

use std::collections::{HashMap, HashSet};

use headwise_core::Result;
use tokenizers::Tokenizer;
use tokenizers::models::bpe::{BPE, Vocab};

use super::pretokenizers::PreTokenizer;
use super::{guarded, malformed};

/// Stands for bytes that the vocabulary lacks. Byte-level text never holds this character, so no merge can reach across it.
const MISSING: &str = "\0";

/// A tokenizer over `tokens`, in which bytes without a token become the id `missing`.
///
/// # Errors
/// [`headwise_core::Error::MalformedFile`] for merges of tokens, or into tokens, that the vocabulary does not have.
pub(super) fn build(
    path: &str,
    tokens: &HashMap<&str, u32>,
    merges: &[impl AsRef<str>],
    missing: u32,
    pre_tokenizer: PreTokenizer,
) -> Result<Tokenizer> {
    let mut seen = HashSet::new();
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges.iter().map(AsRef::as_ref) {
        let pair = merge.split_once(' ').filter(|(left, right)| !left.is_empty() && !right.is_empty());
        let Some((left, right)) = pair else {
            return Err(malformed(path, format!("merge {merge:?} is not a pair")));
        };
        check_merge(path, left, right, |token| tokens.contains_key(token))?;
        // The first of equal merges is the one that counts.
        if seen.insert(pair) {
            pairs.push((left.to_owned(), right.to_owned()));
        }
    }
    let mut vocabulary: Vocab = tokens.iter().map(|(&token, &id)| (token.to_owned(), id)).collect();
    vocabulary.insert(MISSING.to_owned(), missing);
    let model = guarded("build the vocabulary", || {
        BPE::builder()
            .vocab_and_merges(vocabulary, pairs)
            .unk_token(MISSING.to_owned())
            .ignore_merges(pre_tokenizer.whole_words)
            .build()
    })?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(pre_tokenizer.build()?));
    Ok(tokenizer)
}

/// Checks that both halves of a merge and what they merge into are tokens.
pub(super) fn check_merge(path: &str, left: &str, right: &str, known: impl Fn(&str) -> bool) -> Result<()> {
    let merged = format!("{left}{right}");
    match [left, right, &merged].into_iter().find(|token| !known(token)) {
        None => Ok(()),
        Some(token) => Err(malformed(path, format!("merge {left:?} {right:?} needs the unknown token {token:?}"))),
    }
}

/// Appends the ids of `text`.
pub(super) fn encode(tokenizer: &Tokenizer, text: &str, ids: &mut Vec<u32>) -> Result<()> {
    ids.extend_from_slice(guarded("encode", || tokenizer.encode_fast(text, false))?.get_ids());
    Ok(())
}
