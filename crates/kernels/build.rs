//! Compiles the `.cu` files of each folder with nvcc, for the features `nvcc` and `cuda`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Machine code for Ampere, Ada and Hopper, and PTX for what comes later. The first one is enough to check that kernels compile.
const ARCHITECTURES: [&str; 4] = [
    "arch=compute_80,code=sm_80",
    "arch=compute_89,code=sm_89",
    "arch=compute_90,code=sm_90",
    "arch=compute_90,code=compute_90",
];

fn main() {
    println!("cargo:rerun-if-changed=src");
    if std::env::var_os("CARGO_FEATURE_NVCC").is_none() {
        return;
    }
    let built = if std::env::var_os("CARGO_FEATURE_CUDA").is_some() { &ARCHITECTURES[..] } else { &ARCHITECTURES[..1] };
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    let nvcc = nvcc();
    let mut running = Vec::new();
    let folders = std::fs::read_dir("src").expect("a folder").flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flat_map(Iterator::flatten);
    for source in files.map(|file| file.path()).filter(|file| file.extension().is_some_and(|name| name == "cu")) {
        // `attend/kernel.cu` is attend.fatbin, `attend/prefill.cu` is attend_prefill.fatbin.
        let name = source.with_extension("").display().to_string().replace("src/", "").replace('/', "_");
        let target = out.join(name.trim_end_matches("_kernel")).with_extension("fatbin");
        running.push((source.clone(), compile(&nvcc, &source, &target, built)));
    }
    for (source, mut child) in running {
        let status = child.wait().expect("nvcc runs");
        assert!(status.success(), "nvcc does not compile {}", source.display());
    }
}

fn compile(nvcc: &Path, source: &Path, target: &Path, architectures: &[&str]) -> std::process::Child {
    let mut command = Command::new(nvcc);
    command.args(["-fatbin", "-std=c++17", "-O3", "-lineinfo", "-Werror", "all-warnings", "-Isrc/gpu", "-o"]);
    command.arg(target).arg(source);
    for architecture in architectures {
        command.args(["-gencode", architecture]);
    }
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}; scripts/cuda.sh gets one", nvcc.display()))
}

/// That of the toolkit that the environment names, or the one on the path.
fn nvcc() -> PathBuf {
    for variable in ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"] {
        println!("cargo:rerun-if-env-changed={variable}");
        if let Some(folder) = std::env::var_os(variable) {
            return Path::new(&folder).join("bin/nvcc");
        }
    }
    "nvcc".into()
}
