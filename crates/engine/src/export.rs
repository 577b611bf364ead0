//! The TypeScript side of options and reports, generated from the types of this crate.

use headwise_core::Result;
use headwise_policy::{Declarations, HEADER, PolicySpec, presets_ts, types_ts};

use crate::options::{EngineOptions, GenerateOptions, LikelihoodOptions, PrefillOptions, SessionOptions};
use crate::report::{CompressReport, LikelihoodReport, ModelInfo, PrefillReport, SessionStats, Step};

/// Every generated file of `ts/generated`: its name and its text.
pub fn generated_files() -> Result<[(&'static str, String); 3]> {
    Ok([("policy.ts", types_ts()), ("presets.ts", presets_ts()?), ("engine.ts", engine_ts())])
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
