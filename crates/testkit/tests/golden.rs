//! The vendored golden cases and models, and what the runner makes of bad ones.

use std::path::{Path, PathBuf};

use headwise_testkit::golden::{self, Tally};

fn vendored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn every_case_of_a_supported_kind_passes() {
    let report = golden::run_folder(&vendored("golden"));
    assert!(report.failures.is_empty(), "{report}");
    for (kind, least) in [
        ("n_kept", 1),
        ("snapkv", 4),
        ("snapkv_repo", 4),
        ("pyramidkv", 4),
        ("pyramid_budgets", 1),
        ("adakv_snapkv", 4),
        ("adakv_base", 4),
        ("adakv_repo", 6),
        ("adakv_repo_pyramid", 4),
        ("knorm", 4),
        ("keydiff", 4),
        ("tova", 4),
        ("observed_attention", 4),
        ("h2o", 4),
        ("streaming_llm", 4),
        ("streaming_llm_repo", 4),
        ("e2e", 12),
    ] {
        assert_eq!(report.kinds[kind], Tally { passed: least, failed: 0, skipped: 0 }, "{kind}");
    }
}

#[test]
fn an_expected_value_that_is_wrong_is_noticed() {
    let folder = Folder::new("wrong");
    let cases = ["snapkv-0", "adakv_repo-0", "n_kept-0", "pyramid_budgets-0", "streaming_llm_repo-0", "e2e_knorm-0"];
    for case in cases {
        folder.copy(&format!("{case}.json"));
        let mut bytes = std::fs::read(vendored("golden").join(format!("{case}.safetensors"))).unwrap();
        // Every last byte of an I64 or the sign of an F32: whichever tensor is expected is wrong now.
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        bytes[header..].iter_mut().skip(7).step_by(8).for_each(|byte| *byte ^= 0x80);
        std::fs::write(folder.0.join(format!("{case}.safetensors")), bytes).unwrap();
    }
    for file in ["e2e_model.safetensors", "e2e_model.config.json"] {
        folder.copy(file);
    }
    let report = golden::run_folder(&folder.0);
    assert_eq!(report.total(), Tally { passed: 0, failed: cases.len(), skipped: 0 }, "{report}");
}

#[test]
fn a_case_that_cannot_be_read_is_a_failure_with_a_message() {
    let folder = Folder::new("hostile");
    let write = |name: &str, text: &str| std::fs::write(folder.0.join(name), text).unwrap();
    write("a.json", "{");
    write("b.json", r#"{"kind":"snapkv","params":{}}"#);
    for (name, params) in [
        ("c", r#"{"Hq":8,"Hkv":0,"T":96,"D":16,"window":8,"kernel":5}"#),
        ("d", r#"{"Hq":8,"Hkv":2,"T":99999999999,"D":16,"window":8,"kernel":5}"#),
        ("e", r#"{"Hq":8,"Hkv":2,"T":1000000,"D":1000000,"window":8,"kernel":5}"#),
        ("f", r#"{"Hq":8,"Hkv":2,"T":95,"D":16,"window":8,"kernel":5}"#),
        ("g", r#"{"Hq":8,"Hkv":2,"T":96,"D":16,"window":9999,"kernel":5}"#),
    ] {
        let budgets = r#"[{"tag":"b0","compression_ratio":0.82}]"#;
        write(&format!("{name}.json"), &format!(r#"{{"kind":"snapkv","params":{params},"budgets":{budgets}}}"#));
        let tensors = vendored("golden").join("snapkv-0.safetensors");
        std::fs::copy(tensors, folder.0.join(format!("{name}.safetensors"))).unwrap();
    }
    write("h.json", r#"{"kind":"e2e","params":{"policy":"full","model":"../../secret","config":"x","T":1,"steps":1}}"#);
    std::fs::copy(vendored("golden").join("e2e_full-0.safetensors"), folder.0.join("h.safetensors")).unwrap();
    write("i.json", r#"{"kind":"something_new"}"#);
    let report = golden::run_folder(&folder.0);
    assert_eq!(report.total(), Tally { passed: 0, failed: 8, skipped: 1 }, "{report}");
    assert!(report.failures.iter().all(|failure| !failure.contains("panicked")), "{report}");
}

#[test]
fn an_empty_or_missing_folder_is_a_failure() {
    let folder = Folder::new("empty");
    assert_eq!(golden::run_folder(&folder.0).total().failed, 1);
    assert_eq!(golden::run_folder(&folder.0.join("missing")).total().failed, 1);
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("headwise-golden-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn copy(&self, file: &str) {
        std::fs::copy(vendored("golden").join(file), self.0.join(file)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
