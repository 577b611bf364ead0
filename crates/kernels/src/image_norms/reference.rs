//! Image norms in f64.

use super::Measure;

/// `[n]` of `x = [n][cols]` and `w = [rows][cols]`, not packed.
pub fn image_norms(x: &[f32], w: &[f32], cols: usize, measure: Measure) -> Vec<f64> {
    let of = |x: &[f32]| {
        let mut sum = 0.0;
        for (r, row) in w.chunks_exact(cols).enumerate() {
            let y: f64 = row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
            sum += match measure {
                Measure::Magnitude => y.abs(),
                Measure::Form => y * f64::from(x[r]),
            };
        }
        sum
    };
    x.chunks_exact(cols).map(of).collect()
}
