//! Writes `ts/generated` and `docs/policies.md` from the Rust types. A test of this crate fails when the committed files are stale.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, text) in headwise_engine::generated_files()? {
        std::fs::write(root.join(path), text)?;
    }
    Ok(())
}
