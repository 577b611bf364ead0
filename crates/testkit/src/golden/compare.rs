//! Comparisons, with the tolerances of golden/README.md.

use headwise_core::{Scores, Selection};

use super::case::{Case, Outcome, fail};

/// Scores agree within 1e-5 · max(1, |x|), or what the kind allows. The expected rows may leave out the last slots of ours (the window).
pub fn scores(case: &Case, name: &str, got: &Scores) -> Outcome {
    // Two references are ill-conditioned in float32, see golden/README.md.
    let tolerance = if matches!(case.kind.as_str(), "leverage" | "compactor") { 5e-3 } else { 1e-5 };
    let (shape, expected) = case.floats(name)?;
    let [heads @ .., length] = shape else { return fail(format!("{name} has no axes")) };
    let (heads, length) = (heads.iter().product::<usize>(), *length);
    if heads != got.rows() || got.iter().any(|row| row.len() < length) {
        return fail(format!("{name}: {heads} rows of {length} expected, got {:?}", got.indptr()));
    }
    for (head, expected) in expected.chunks(length.max(1)).enumerate() {
        floats(&format!("{name} of head {head}"), &got.row(head)[..length], expected, tolerance)?;
    }
    Ok(())
}

/// Every number within `tolerance · max(1, |expected|)`; NaN never agrees.
pub fn floats(what: &str, got: &[f32], expected: &[f32], tolerance: f32) -> Outcome {
    if got.len() != expected.len() {
        return fail(format!("{what}: {} numbers expected, got {}", expected.len(), got.len()));
    }
    let wrong = |(got, expected): (&f32, &f32)| {
        let close = (got - expected).abs() <= tolerance * expected.abs().max(1.0);
        !(close || got == expected)
    };
    match got.iter().zip(expected).position(wrong) {
        Some(index) => fail(format!("{what}[{index}]: expected {}, got {}", expected[index], got[index])),
        None => Ok(()),
    }
}

/// Integers are equal.
pub fn integers(what: &str, got: impl IntoIterator<Item = usize>, expected: &[i64]) -> Outcome {
    let got: Vec<i64> = got.into_iter().map(|value| value as i64).collect();
    match got == expected {
        true => Ok(()),
        false => fail(format!("{what}: expected {expected:?}, got {got:?}")),
    }
}

/// The kept slots of `kept_<tag>` and `kept_<tag>_len`, layers then heads, are exactly those of the selections.
pub fn kept(case: &Case, tag: &str, got: &[Selection]) -> Outcome {
    let name = format!("kept_{tag}");
    let (_, positions) = case.integers(&name)?;
    let (_, lengths) = case.integers(&format!("{name}_len"))?;
    let heads: Vec<&[u32]> = got.iter().flat_map(|layer| (0..layer.heads()).map(|head| layer.head(head))).collect();
    integers(&format!("{name}_len"), heads.iter().map(|head| head.len()), lengths)?;
    let mut start = 0;
    for (index, head) in heads.iter().enumerate() {
        let Some(expected) = positions.get(start..start + head.len()) else {
            return fail(format!("{name} ends before its lengths do"));
        };
        start += head.len();
        if let Some(at) = head.iter().zip(expected).position(|(&got, &expected)| got as i64 != expected) {
            return fail(format!("{name}, head {index}, entry {at}: expected {}, got {}", expected[at], head[at]));
        }
    }
    if start != positions.len() {
        return fail(format!("{name} has {} entries more than its lengths say", positions.len() - start));
    }
    Ok(())
}
