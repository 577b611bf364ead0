//! Golden cases: inputs and expected outputs of published implementations, run through headwise's policies and kernels.
//!
//! A folder holds pairs `<case>.json`, `<case>.safetensors`; its format is described in `golden/README.md`.

mod case;
mod compare;
mod e2e;
mod layer;
mod policies;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use case::{Case, Miss, Outcome};

/// Counts of one kind or of a whole folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Cases that agree.
    pub passed: usize,
    /// Cases that do not, or that could not be read.
    pub failed: usize,
    /// Cases of something that headwise does not have yet.
    pub skipped: usize,
}

/// What came of a folder.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Counts by kind, in alphabetical order.
    pub kinds: BTreeMap<String, Tally>,
    /// `case: reason` of every failure.
    pub failures: Vec<String>,
    /// Models that match only with rotary frequencies rounded as their generator rounded them, see [`crate::models::Match`].
    pub rounded: Vec<String>,
}

impl Report {
    /// Counts over all kinds.
    pub fn total(&self) -> Tally {
        self.kinds.values().fold(Tally::default(), |sum, kind| Tally {
            passed: sum.passed + kind.passed,
            failed: sum.failed + kind.failed,
            skipped: sum.skipped + kind.skipped,
        })
    }

    /// Adds one result.
    pub fn add(&mut self, kind: &str, name: &str, outcome: Outcome) {
        let tally = self.kinds.entry(kind.into()).or_default();
        match outcome {
            Ok(()) => tally.passed += 1,
            Err(Miss::Unsupported(_)) => tally.skipped += 1,
            Err(Miss::Failed(reason)) => {
                tally.failed += 1;
                self.failures.push(format!("{name}: {reason}"));
            }
        }
    }
}

/// Failures, one line a kind, which models match only with rounded frequencies, and the total.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "FAILED {failure}")?;
        }
        for (kind, Tally { passed, failed, skipped }) in &self.kinds {
            let skipped = if *skipped > 0 { format!(", {skipped} not supported yet") } else { String::new() };
            writeln!(f, "{kind:<22} {passed} passed, {failed} failed{skipped}")?;
        }
        if !self.rounded.is_empty() {
            let how = "with rotary frequencies rounded to the weights' precision, as the generator rounded them";
            writeln!(f, "models: {} match only {how}", self.rounded.join(", "))?;
        }
        let Tally { passed, failed, skipped } = self.total();
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// Runs every case of a folder. A case that cannot be read is a failure; a folder that cannot be listed or has no case is one too.
pub fn run_folder(folder: &Path) -> Report {
    let mut report = Report::default();
    match cases(folder) {
        Ok(paths) if paths.is_empty() => report.add("(folder)", &folder.display().to_string(), case::fail("no case")),
        Ok(paths) => paths.iter().for_each(|path| run_case(path, &mut report)),
        Err(reason) => report.add("(folder)", &folder.display().to_string(), case::fail(reason)),
    }
    report
}

/// Runs the model check of every folder inside `folder`.
pub fn run_models(folder: &Path, report: &mut Report) {
    let before = report.total();
    match entries(folder) {
        Ok(paths) => {
            for path in paths
                .iter()
                .filter(|path| path.join("config.json").exists() || path.join("expected.safetensors").exists())
            {
                let outcome = guarded(|| crate::models::check(path).map_err(Miss::Failed));
                if outcome.as_ref().is_ok_and(|found| found.rounded_frequencies) {
                    report.rounded.push(path.file_name().unwrap_or_default().to_string_lossy().into());
                }
                report.add("models", &path.display().to_string(), outcome.map(|_| ()));
            }
            if report.total() == before {
                report.add("models", &folder.display().to_string(), case::fail("no model"));
            }
        }
        Err(reason) => report.add("models", &folder.display().to_string(), case::fail(reason)),
    }
}

fn run_case(path: &Path, report: &mut Report) {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let kind = match Case::kind_of(path) {
        Ok(kind) => kind,
        Err(miss) => return report.add("(unreadable)", &name, Err(miss)),
    };
    let outcome = guarded(|| match kind.as_str() {
        "e2e" => e2e::run(&Case::load(path)?, path),
        kind if policies::KINDS.contains(&kind) => policies::run(&Case::load(path)?),
        kind => Err(Miss::Unsupported(kind.into())),
    });
    report.add(&kind, &name, outcome);
}

/// A panic is a failure of its case, not of the run.
fn guarded<T>(run: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        case::fail(format!("panicked: {}", reason.unwrap_or("without a reason")))
    })
}

/// The case files of a folder in alphabetical order: every json but the index and model configs.
fn cases(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut paths = entries(folder)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".json") && name != "INDEX.json" && !name.ends_with("config.json")
    });
    Ok(paths)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = entries.map_err(|error: std::io::Error| error.to_string())?;
    paths.sort();
    Ok(paths)
}
