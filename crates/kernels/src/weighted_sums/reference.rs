//! Weighted sums in f64, one number at a time.

/// `[rows][dim]` of `weights = [rows][slots]` and `values = [slots][dim]`.
pub fn weighted_sums(weights: &[f32], values: &[f32], dim: usize) -> Vec<f64> {
    let of_row = |row: &[f32]| {
        let sum =
            |d: usize| row.iter().zip(values.chunks_exact(dim)).map(|(&a, v)| f64::from(a) * f64::from(v[d])).sum();
        (0..dim).map(sum).collect::<Vec<f64>>()
    };
    weights.chunks_exact(values.len() / dim).flat_map(of_row).collect()
}
