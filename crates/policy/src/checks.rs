//! Bounds that options of several parts share.

use headwise_core::{Error, Result};

/// A window of at least `least` and at most 4096 tokens.
pub(crate) fn window(name: &str, window: usize, least: usize) -> Result<()> {
    match (least..=4096).contains(&window) {
        true => Ok(()),
        false => Err(Error::invalid(name, window, &format!("between {least} and 4096"))),
    }
}

/// The width of a pool, which has a middle.
pub(crate) fn kernel(name: &str, kernel: usize) -> Result<()> {
    match kernel % 2 == 1 && kernel <= 4095 {
        true => Ok(()),
        false => Err(Error::invalid(name, kernel, "odd, at most 4095")),
    }
}

/// A weight.
pub(crate) fn not_negative(name: &str, x: f64) -> Result<()> {
    match x >= 0.0 && x.is_finite() {
        true => Ok(()),
        false => Err(Error::invalid(name, x, "a finite number, not negative")),
    }
}
