//! Writes `ts/generated` from the Rust types. A test of this crate fails when the committed files are stale.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ts/generated");
    std::fs::create_dir_all(&folder)?;
    for (name, text) in headwise_engine::generated_files()? {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
