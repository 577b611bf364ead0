//! The committed TypeScript types are those of the Rust types.

use std::path::Path;

#[test]
fn generated_files_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ts/generated");
    for (name, text) in headwise_engine::generated_files().unwrap() {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(
            committed == text,
            "ts/generated/{name} is stale: cargo run --release -p headwise-engine --bin export_types"
        );
    }
}
