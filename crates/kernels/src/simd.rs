//! Run-time choice of the instruction set.
//!
//! A kernel body is written once as an `#[inline(always)]` function over fixed-size arrays; [`dispatch!`] compiles it for each
//! instruction set and picks the best one that the machine has, so that one portable binary runs everywhere at full speed.

use std::sync::OnceLock;

/// Instruction sets that bodies are compiled for, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What the target guarantees: SSE2 on x86-64, NEON on aarch64.
    Baseline,
    /// AVX2 + FMA + F16C (x86-64-v3).
    Avx2,
    /// AVX-512 F, BW, DQ and VL on top of that (x86-64-v4).
    Avx512,
}

impl Level {
    /// The best level of this machine. `HEADWISE_SIMD=baseline|avx2` lowers it (tests, comparisons).
    pub fn detect() -> Level {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let limit = match std::env::var("HEADWISE_SIMD").as_deref() {
                Ok("baseline") => Level::Baseline,
                Ok("avx2") => Level::Avx2,
                _ => Level::Avx512,
            };
            best_of_machine().min(limit)
        })
    }

    /// All levels that this machine can run, worst first.
    pub fn available() -> Vec<Level> {
        let best = best_of_machine();
        [Level::Baseline, Level::Avx2, Level::Avx512].into_iter().filter(|&level| level <= best).collect()
    }
}

#[cfg(target_arch = "x86_64")]
fn best_of_machine() -> Level {
    macro_rules! has {
        ($($feature:tt),*) => { true $(&& is_x86_feature_detected!($feature))* };
    }
    if !has!("avx2", "fma", "f16c") {
        Level::Baseline
    } else if !has!("avx512f", "avx512bw", "avx512dq", "avx512vl") {
        Level::Avx2
    } else {
        Level::Avx512
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn best_of_machine() -> Level {
    Level::Baseline
}

/// Bytes of a core's first-level data cache; 32 KiB where the machine does not say.
pub fn first_cache() -> usize {
    static BYTES: OnceLock<usize> = OnceLock::new();
    *BYTES.get_or_init(|| first_cache_of_machine().unwrap_or(32 << 10))
}

#[cfg(target_arch = "x86_64")]
fn first_cache_of_machine() -> Option<usize> {
    use raw_cpuid::{CacheType, CpuId};
    let mut caches = CpuId::new().get_cache_parameters()?;
    let first = caches.find(|cache| cache.level() == 1 && cache.cache_type() == CacheType::Data)?;
    Some(first.associativity() * first.physical_line_partitions() * first.coherency_line_size() * first.sets())
}

#[cfg(not(target_arch = "x86_64"))]
fn first_cache_of_machine() -> Option<usize> {
    None
}

/// What a body may know about the instruction set that it is being compiled for.
pub trait Isa: 'static {
    /// The level of [`dispatch!`].
    const LEVEL: Level;

    /// `a · b + c`: one rounding where the instruction set has a fused multiply-add, two where it would be a library call.
    #[inline(always)]
    fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        if cfg!(target_arch = "aarch64") || Self::LEVEL > Level::Baseline { a.mul_add(b, c) } else { a * b + c }
    }
}

/// [`Level::Baseline`] as a type.
pub enum Baseline {}
/// [`Level::Avx2`] as a type.
pub enum Avx2 {}
/// [`Level::Avx512`] as a type.
pub enum Avx512 {}

impl Isa for Baseline {
    const LEVEL: Level = Level::Baseline;
}
impl Isa for Avx2 {
    const LEVEL: Level = Level::Avx2;
}
impl Isa for Avx512 {
    const LEVEL: Level = Level::Avx512;
}

/// `dispatch! { fn name(level, a: A, b: B) -> R = body; }` defines `fn name(level: Level, a: A, b: B) -> R` that runs the
/// `#[inline(always)]` function `body(a, b)` compiled for `level`, which must come from [`Level::detect`] or
/// [`Level::available`]. Generic parameters are written `fn name<T: Trait>(…) = body::<T>`. In `body` the type `Target` is
/// the [`Isa`] being compiled for: `body::<T, Target>` hands it on.
#[macro_export]
macro_rules! dispatch {
    ($(#[$meta:meta])* $vis:vis fn $name:ident $(<$($g:ident : $bound:path),+>)? (level $(, $arg:ident : $ty:ty)* $(,)?) $(-> $ret:ty)? = $body:expr;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name $(<$($g: $bound),+>)? (level: $crate::simd::Level $(, $arg: $ty)*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")]
                #[allow(clippy::too_many_arguments)]
                fn avx512 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    #[allow(dead_code)]
                    type Target = $crate::simd::Avx512;
                    ($body)($($arg),*)
                }
                #[target_feature(enable = "avx2,fma,f16c")]
                #[allow(clippy::too_many_arguments)]
                fn avx2 $(<$($g: $bound),+>)? ($($arg: $ty),*) $(-> $ret)? {
                    #[allow(dead_code)]
                    type Target = $crate::simd::Avx2;
                    ($body)($($arg),*)
                }
                match level {
                    // SAFETY: this level is only handed out after its features were detected on this machine.
                    $crate::simd::Level::Avx512 => return unsafe { avx512 $(::<$($g),+>)? ($($arg),*) },
                    // SAFETY: as above.
                    $crate::simd::Level::Avx2 => return unsafe { avx2 $(::<$($g),+>)? ($($arg),*) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            #[allow(dead_code)]
            type Target = $crate::simd::Baseline;
            let _ = level;
            ($body)($($arg),*)
        }
    };
}
