//! The TypeScript side of the policies, generated from the types of this crate.

use std::any::TypeId;
use std::collections::{BTreeMap, HashSet};

use headwise_core::{Error, Result};
use ts_rs::{Config, TS, TypeVisitor};

use crate::PolicySpec;

/// First line of every generated file.
pub const HEADER: &str =
    "// Generated from the Rust types by `cargo run --release -p headwise-engine --bin export_types`. Do not edit.\n";

/// `ts/generated/policy.ts`: [`PolicySpec`] and every type below it, with their documentation.
pub fn types_ts() -> String {
    let mut declarations = Declarations::default();
    declarations.add::<PolicySpec>();
    format!("{HEADER}\n{}", declarations.text())
}

/// `ts/generated/presets.ts`: the names that [`PolicySpec::named`] knows, and the defaults of each.
pub fn presets_ts() -> Result<String> {
    let mut lines = vec![
        format!("{HEADER}\nimport type {{ PolicySpec }} from './policy.js'\n"),
        "/** Every policy by the name that CLIs take, with its defaults and no budget. */".into(),
        "export const presets = {".into(),
    ];
    for name in PolicySpec::names() {
        let json = serde_json::to_string(&PolicySpec::named(&name)?);
        let json = json.map_err(|error| Error::InvalidPolicy { reason: error.to_string() })?;
        lines.push(format!("  {name}: {json},"));
    }
    lines.push("} as const satisfies Record<string, PolicySpec>\n".into());
    lines.push("/** A name in {@link presets}. */\nexport type PresetName = keyof typeof presets\n".into());
    Ok(lines.join("\n"))
}

/// TypeScript declarations of types and of all that they mention, each once, in alphabetical order.
pub struct Declarations {
    config: Config,
    seen: HashSet<TypeId>,
    types: BTreeMap<String, String>,
}

impl Default for Declarations {
    fn default() -> Self {
        Self { config: Config::new().with_large_int("number"), seen: HashSet::new(), types: BTreeMap::new() }
    }
}

impl Declarations {
    /// Declares a type and what it mentions.
    pub fn add<T: TS + 'static + ?Sized>(&mut self) {
        self.visit::<T>();
    }

    /// A type that is declared elsewhere, with all that it mentions.
    pub fn skip<T: TS + 'static + ?Sized>(&mut self) {
        let types = std::mem::take(&mut self.types);
        self.visit::<T>();
        self.types = types;
    }

    /// The declarations.
    pub fn text(self) -> String {
        let text = self.types.into_values().collect::<Vec<_>>().join("\n");
        text.lines().map(|line| or_undefined(line) + "\n").collect()
    }
}

/// An optional field may also be given as `undefined`, which JSON leaves out: `seed?: number | undefined,`.
fn or_undefined(line: &str) -> String {
    match (line.contains("?: "), line.rfind(',')) {
        (true, Some(end)) => format!("{} | undefined{}", &line[..end], &line[end..]),
        _ => line.to_owned(),
    }
}

impl TypeVisitor for Declarations {
    fn visit<T: TS + 'static + ?Sized>(&mut self) {
        // Only types of our own have a file to be written to; numbers and arrays do not.
        if T::output_path().is_none() || !self.seen.insert(TypeId::of::<T>()) {
            return;
        }
        let docs = T::docs().unwrap_or_default();
        self.types.insert(T::ident(&self.config), format!("{docs}export {}\n", T::decl(&self.config)));
        T::visit_dependencies(self);
    }
}
