//! The TypeScript side of options and reports, generated from the types of this crate.

use headwise_core::Result;
use headwise_policy::{Declarations, HEADER, PolicySpec, policies_md, presets_ts, types_ts};

use crate::options::{EngineOptions, GenerateOptions, LikelihoodOptions, PrefillOptions, SessionOptions};
use crate::report::{CompressReport, LikelihoodReport, ModelInfo, PrefillReport, SessionStats, Step};

/// Every file that is generated from the types: its path in the repository and its text.
pub fn generated_files() -> Result<[(&'static str, String); 4]> {
    Ok([
        ("ts/generated/policy.ts", types_ts()),
        ("ts/generated/presets.ts", presets_ts()?),
        ("ts/generated/engine.ts", engine_ts()),
        ("docs/policies.md", policies_md()?),
    ])
}

fn engine_ts() -> String {
    let mut declarations = Declarations::default();
    declarations.skip::<PolicySpec>();
    declarations.add::<EngineOptions>();
    declarations.add::<SessionOptions>();
    declarations.add::<GenerateOptions>();
    declarations.add::<PrefillOptions>();
    declarations.add::<LikelihoodOptions>();
    declarations.add::<CompressReport>();
    declarations.add::<ModelInfo>();
    declarations.add::<PrefillReport>();
    declarations.add::<LikelihoodReport>();
    declarations.add::<SessionStats>();
    declarations.add::<Step>();
    format!("{HEADER}\nimport type {{ PolicySpec }} from './policy.js'\n\n{}", declarations.text())
}
