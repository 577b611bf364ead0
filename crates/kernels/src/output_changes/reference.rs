//! Output changes in f64, with W and the difference of the vectors themselves.

/// `[rows][slots]` of attention `[rows][slots]`, values `[slots][dim]` and `w = [dim][hidden]`.
pub fn output_changes(attention: &[f32], values: &[f32], w: &[f32], dim: usize) -> Vec<f64> {
    let (slots, hidden) = (values.len() / dim, w.len() / dim);
    let of_row = |row: &[f32]| {
        let weighed = |d: usize| (0..slots).map(|slot| f64::from(row[slot]) * f64::from(values[slot * dim + d])).sum();
        let output: Vec<f64> = (0..dim).map(weighed).collect();
        let of_slot = |slot: usize| {
            let part =
                |h: usize, d: usize| (output[d] - f64::from(values[slot * dim + d])) * f64::from(w[d * hidden + h]);
            let square: f64 = (0..hidden).map(|h| (0..dim).map(|d| part(h, d)).sum::<f64>().powi(2)).sum();
            let a = f64::from(row[slot]);
            a / (1.0 - a).max(f64::from(f32::EPSILON) / 2.0) * square.sqrt()
        };
        (0..slots).map(of_slot).collect::<Vec<_>>()
    };
    attention.chunks_exact(slots).flat_map(of_row).collect()
}
