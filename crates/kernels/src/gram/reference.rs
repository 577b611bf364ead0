//! Gram matrices in f64, one number at a time.

/// `[dim][dim]` of `x = [n][dim]`.
pub fn gram(x: &[f32], dim: usize) -> Vec<f64> {
    let product = |a: usize, b: usize| x.chunks_exact(dim).map(|x| f64::from(x[a]) * f64::from(x[b])).sum();
    (0..dim * dim).map(|at| product(at / dim, at % dim)).collect()
}
