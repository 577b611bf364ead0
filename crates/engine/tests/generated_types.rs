//! The committed TypeScript types and the table of policies are those of the Rust types.

use std::path::Path;

#[test]
fn generated_files_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (path, text) in headwise_engine::generated_files().unwrap() {
        let committed = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(committed == text, "{path} is stale: cargo run --release -p headwise-engine --bin export_types");
    }
}
