//! Which instruction set is chosen, and what happens on a machine that lacks one. On the machine at hand this says little; the
//! suite `isa` (`scripts/isa.mjs`) runs it on emulated CPUs and sets what they are:
//! - `HEADWISE_EXPECT_LEVEL`: the level that the CPU must be found to have.
//! - `HEADWISE_TRY_LEVEL`: a level to run whether the CPU has it or not. On a CPU without it the process must die of an
//!   illegal instruction, or the emulator lets everything pass and proves nothing.

use headwise_core::Codec;
use headwise_kernels::simd::{Level, first_cache};
use headwise_kernels::{BlockLayout, HeadView, key_norm};

#[test]
fn the_level_is_the_best_that_the_cpu_has() {
    let level = Level::detect();
    println!("{level:?}");
    assert!(Level::available().contains(&level));
    if let Ok(expected) = std::env::var("HEADWISE_EXPECT_LEVEL") {
        assert_eq!(format!("{level:?}"), expected);
        assert_eq!(Level::available().last(), Some(&level));
    }
}

/// Against what the operating system says of the real CPU.
#[test]
fn the_first_cache_is_as_large_as_linux_says() {
    let said = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index0/size").ok();
    let said = said.and_then(|size| size.trim().strip_suffix('K')?.parse::<usize>().ok());
    match said {
        Some(kib) if cfg!(target_arch = "x86_64") && std::env::var("HEADWISE_EXPECT_LEVEL").is_err() => {
            assert_eq!(first_cache(), kib << 10);
        }
        _ => println!("nothing to compare with: {} bytes", first_cache()),
    }
}

#[test]
fn a_kernel_runs_at_each_level_that_is_asked_for() {
    let asked = std::env::var("HEADWISE_TRY_LEVEL").ok();
    let all = [Level::Baseline, Level::Avx2, Level::Avx512];
    let levels = match &asked {
        Some(name) => all.into_iter().filter(|level| format!("{level:?}") == *name).collect(),
        None => Level::available(),
    };
    assert!(!levels.is_empty(), "there is no level {asked:?}");
    // 32 keys (3, 4, 3, 4, …), whose norm is 5 √8.
    let keys: Vec<u8> = [3.0f32, 4.0].repeat(32 * 8).iter().flat_map(|x| x.to_ne_bytes()).collect();
    let layout = BlockLayout { codec: Codec::F32, head_dim: 16, slots: 32 };
    let blocks = [[&keys[..], &keys[..]].concat()];
    for level in levels {
        let norms =
            key_norm::cpu::key_norm(level, HeadView { layout, blocks: &blocks, len: 32 }).expect("a valid view");
        assert_eq!(norms, [200f32.sqrt(); 32], "{level:?}");
    }
}
