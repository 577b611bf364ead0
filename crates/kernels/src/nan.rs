//! Numbers that cannot be ranked.

/// Index of the first NaN. Without an early exit the compiler looks at many at once.
pub fn first_nan(numbers: &[f32]) -> Option<usize> {
    let any = numbers.iter().fold(false, |nan, x| nan | x.is_nan());
    if any { numbers.iter().position(|x| x.is_nan()) } else { None }
}
