//! Compiles the CUDA kernels for the emulator, where a C++ compiler and `ucontext` can be had.

use std::path::Path;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(emulator)");
    println!("cargo:rerun-if-changed=cpp");
    println!("cargo:rerun-if-changed=../kernels/src");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux")
        || std::env::var("HOST").ok() != std::env::var("TARGET").ok()
    {
        return;
    }
    // One file, so that no entry point is left out by the linker.
    let kernels = Path::new("../kernels/src").canonicalize().expect("the kernels beside this crate");
    let mut all = "#include \"emulator.cpp\"\n".to_string();
    let folders = std::fs::read_dir(&kernels).expect("a folder").flatten();
    let files = folders.filter_map(|folder| std::fs::read_dir(folder.path()).ok()).flat_map(Iterator::flatten);
    let mut files: Vec<_> = files.map(|file| file.path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|name| name == "cu")) {
        all += &format!("#include \"{}\"\n", file.display());
    }
    let out = std::env::var("OUT_DIR").expect("cargo sets it");
    let file = Path::new(&out).join("all.cpp");
    std::fs::write(&file, all).expect("a file in OUT_DIR");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").file(file).define("HEADWISE_EMULATOR", None).include("cpp");
    build.include(kernels.join("gpu")).flag_if_supported("-Wno-unknown-pragmas").opt_level(2);
    match build.try_compile("headwise_emulator") {
        Ok(()) => println!("cargo::rustc-cfg=emulator"),
        Err(error) if std::env::var("CI").is_ok() => panic!("the CUDA kernels do not compile: {error}"),
        Err(error) => println!("cargo:warning=without the emulator of CUDA kernels: {error}"),
    }
}
