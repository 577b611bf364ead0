//! Cases that compare nothing, or say something else than they hold, are failures: a pass means that something was compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use headwise_testkit::golden::{self, Report, Tally};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

const FAILED: Tally = Tally { passed: 0, failed: 1, skipped: 0 };

#[test]
fn an_expected_tensor_that_is_missing_is_a_failure() {
    for (case, tensor) in [
        ("snapkv-0", "scores"),
        ("adakv_repo-0", "capacity_b0"),
        ("pyramidkv-0", "layer_budget"),
        ("streaming_llm-0", "scores_b1"),
        ("pyramid_budgets-0", "adakv_params"),
        ("e2e_snapkv-0", "logits_b0"),
        ("e2e_snapkv-0", "tokens_full"),
        ("e2e_full-0", "tokens_full"),
    ] {
        let remove = |_: &mut Value, tensors: &mut Tensors| assert!(tensors.remove(tensor).is_some());
        refused(case, &format!("tensor {tensor} is missing"), remove);
    }
}

#[test]
fn a_full_case_without_tokens_or_logits_is_a_failure_even_when_it_names_none() {
    for tensor in ["tokens_full", "logits_full"] {
        refused("e2e_full-0", &format!("tensor {tensor} is missing"), |json, tensors| {
            tensors.remove(tensor);
            json["tensors"].as_object_mut().unwrap().remove(tensor);
        });
    }
}

#[test]
fn a_tensor_that_is_not_as_described_is_a_failure() {
    refused("snapkv-0", "tensor kept_b0_len is I64 [2]", |json, _| {
        json["tensors"]["kept_b0_len"]["dtype"] = json!("F32")
    });
    refused("snapkv-0", "tensor kept_b0_len is I64 [2]", |json, _| {
        json["tensors"]["kept_b0_len"]["shape"] = json!([1, 2]);
    });
    refused("snapkv-0", "tensor scores is F32", |json, _| json["tensors"]["scores"] = json!("scores"));
}

#[test]
fn a_case_without_budgets_is_a_failure() {
    for case in ["snapkv-0", "knorm-0", "adakv_base-0", "snapkv_repo-0", "streaming_llm_repo-0", "e2e_snapkv-0"] {
        refused(case, "no budgets", |json, _| json["budgets"] = json!([]));
        refused(case, "no budgets", |json, _| assert!(json.as_object_mut().unwrap().remove("budgets").is_some()));
    }
}

#[test]
fn layer_budgets_of_another_shape_are_a_failure() {
    refused("pyramidkv-0", "layer_budget has 5 columns", |json, tensors| {
        resize(json, tensors, "layer_budget", &[3, 5]);
    });
    refused("pyramidkv-0", "layer_budget does not have one row", |json, tensors| {
        resize(json, tensors, "layer_budget", &[2, 4]);
    });
    for shape in [&[3, 0][..], &[0, 4], &[12]] {
        refused("pyramidkv-0", "layer_budget has shape", |json, tensors| resize(json, tensors, "layer_budget", shape));
    }
    refused("pyramidkv-0", "layer_budget has 4 columns", |json, _| json["params"]["num_layers"] = json!(5));
    refused("pyramidkv-0", "num_layers is not a count", |json, _| {
        json["params"].as_object_mut().unwrap().remove("num_layers");
    });
}

#[test]
fn pyramid_budgets_of_another_shape_are_a_failure() {
    for (tensor, shape, reason) in [
        ("kvcf_budget", &[122, 0][..], "kvcf_budget has shape"),
        ("kvcf_budget", &[0, 33], "kvcf_budget has shape"),
        ("kvcf_params", &[0, 5], "kvcf_params has shape"),
        ("kvcf_params", &[121, 5], "differ in length"),
        ("kvcf_budget", &[121, 33], "differ in length"),
        ("kvcf_budget", &[122, 1], "1 columns for"),
    ] {
        refused("pyramid_budgets-0", reason, |json, tensors| resize(json, tensors, tensor, shape));
    }
    // A row of no layers would be compared with padding only.
    refused("pyramid_budgets-0", "33 columns for 0 layers", |_, tensors| {
        tensors.get_mut("kvpress_params").unwrap().2[..8].fill(0);
    });
    for tensor in ["params", "n_kept"] {
        refused("n_kept-0", "has shape", |json, tensors| {
            let width = tensors[tensor].1[1];
            resize(json, tensors, tensor, &[0, width]);
        });
    }
}

#[test]
fn a_parameter_of_the_wrong_type_is_a_failure_not_a_default() {
    for (case, name, wrong) in [
        ("adakv_repo-0", "gqa_support", json!("yes")),
        ("adakv_repo-0", "gqa_support", json!(null)),
        ("adakv_repo-0", "normalize", json!(0)),
        ("adakv_repo-0", "gqa_func", json!(null)),
        ("snapkv-0", "pooling", json!(5)),
        ("streaming_llm_repo-0", "variant", json!(3)),
        ("streaming_llm_repo-0", "variant", json!(null)),
        ("streaming_llm_repo-0", "window", json!("8")),
        ("pyramidkv-0", "layer_idx", json!(0.5)),
        ("knorm-0", "Hq", json!(0)),
        ("e2e_full-0", "T", json!("200")),
        ("e2e_full-0", "T", json!(199)),
    ] {
        refused(case, "", |json, _| json["params"][name] = wrong);
    }
}

#[test]
fn a_model_that_is_asked_nothing_is_a_failure() {
    for tensor in ["input_ids", "greedy"] {
        let folder = Folder::model("llama");
        folder.edit("llama/expected", |tensors| {
            let (_, shape, bytes) = tensors.get_mut(tensor).unwrap();
            (*shape, *bytes) = (vec![0], Vec::new());
        });
        let report = folder.run_models();
        assert_eq!(report.total(), FAILED, "{report}");
        assert!(report.failures[0].ends_with(&format!("{tensor} is empty")), "{report}");
    }
}

#[test]
fn the_report_names_the_models_that_need_rounded_frequencies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden-models");
    let mut report = Report::default();
    golden::run_models(&folder, &mut report);
    assert_eq!(report.total(), Tally { passed: 9, failed: 0, skipped: 0 }, "{report}");
    let text = report.to_string();
    let lines: Vec<&str> = text.lines().rev().collect();
    assert_eq!(lines[0], "9 passed, 0 failed, 0 skipped");
    assert_eq!(
        lines[1],
        "models: llama-sharded-f16, llama-tied-bf16 match only with rotary frequencies rounded to the weights' precision, \
         as the generator rounded them"
    );
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_read() {
    use std::os::unix::fs::symlink;
    let device = Path::new("/dev/null");
    let folder = Folder::new();
    symlink(device, folder.0.join("a.json")).unwrap();
    folder.copy("golden", "snapkv-0.json");
    symlink(device, folder.0.join("snapkv-0.safetensors")).unwrap();
    folder.copy("golden", "e2e_full-0.json");
    folder.copy("golden", "e2e_full-0.safetensors");
    folder.copy("golden", "e2e_model.config.json");
    symlink(device, folder.0.join("e2e_model.safetensors")).unwrap();
    let report = golden::run_folder(&folder.0);
    assert_eq!(report.total(), Tally { passed: 0, failed: 3, skipped: 0 }, "{report}");
    assert!(report.failures.iter().all(|failure| failure.contains("not a regular file")), "{report}");

    for file in ["config.json", "expected.json", "expected.safetensors", "model.safetensors"] {
        let folder = Folder::model("llama");
        let path = folder.0.join("llama").join(file);
        std::fs::remove_file(&path).unwrap();
        symlink(device, &path).unwrap();
        let report = folder.run_models();
        assert_eq!(report.total(), FAILED, "{report}");
        assert!(report.failures[0].ends_with(&format!("{file}: not a regular file")), "{report}");
    }
}

/// A vendored case passes as it is, and after `edit` fails with a reason that has `reason` in it, without a panic.
fn refused(case: &str, reason: &str, edit: impl FnOnce(&mut Value, &mut Tensors)) {
    let folder = Folder::new();
    for file in [&format!("{case}.json"), &format!("{case}.safetensors")] {
        folder.copy("golden", file);
    }
    if case.starts_with("e2e") {
        folder.copy("golden", "e2e_model.safetensors");
        folder.copy("golden", "e2e_model.config.json");
    }
    let report = golden::run_folder(&folder.0);
    assert_eq!(report.total(), Tally { passed: 1, failed: 0, skipped: 0 }, "{report}");

    let path = folder.0.join(format!("{case}.json"));
    let mut json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    folder.edit(case, |tensors| edit(&mut json, tensors));
    std::fs::write(&path, json.to_string()).unwrap();
    let report = golden::run_folder(&folder.0);
    assert_eq!(report.total(), FAILED, "{case}, {reason}: {report}");
    let failure = &report.failures[0];
    assert!(failure.contains(reason) && !failure.contains("panicked"), "{reason}: {failure}");
}

/// Cuts an integer tensor, or fills it with zeros, to a shape, in the file and in its description.
fn resize(json: &mut Value, tensors: &mut Tensors, name: &str, shape: &[usize]) {
    let (_, old, bytes) = tensors.get_mut(name).unwrap();
    *old = shape.to_vec();
    bytes.resize(8 * shape.iter().product::<usize>(), 0);
    json["tensors"][name]["shape"] = json!(shape);
}

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("headwise-vacuous-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A folder with a copy of a vendored model.
    fn model(name: &str) -> Self {
        let folder = Self::new();
        std::fs::create_dir(folder.0.join(name)).unwrap();
        for file in ["config.json", "expected.json", "expected.safetensors", "model.safetensors"] {
            folder.copy("golden-models", &format!("{name}/{file}"));
        }
        folder
    }

    fn copy(&self, from: &str, file: &str) {
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(from).join(file), self.0.join(file)).unwrap();
    }

    /// Changes the tensors of `<name>.safetensors`.
    fn edit(&self, name: &str, edit: impl FnOnce(&mut Tensors)) {
        let path = self.0.join(format!("{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let owned = |view: TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let mut tensors: Tensors = file.tensors().into_iter().map(|(name, view)| (name, owned(view))).collect();
        edit(&mut tensors);
        let view = |(dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).unwrap();
        let views = tensors.iter().map(|(name, (dtype, shape, bytes))| (name, view((*dtype, shape.clone(), bytes))));
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    fn run_models(&self) -> Report {
        let mut report = Report::default();
        golden::run_models(&self.0, &mut report);
        report
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
