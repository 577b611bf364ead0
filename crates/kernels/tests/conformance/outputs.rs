//! Kernels of what a head puts out, and how far a value moves it.

use crate::support::*;
use headwise_core::Error;
use headwise_kernels::Strips;
use headwise_kernels::gram;
use headwise_kernels::image_norms::{self, ImageNorms, Measure};
use headwise_kernels::output_changes::{self, Outputs, output_changes, output_changes_at};
use headwise_kernels::weighted_sums::{reference, weighted_sums, weighted_sums_at};

#[test]
fn image_norms_equal_their_reference() {
    let mut noise = Noise(27);
    for (rows, cols, n) in
        [(1, 1, 1), (31, 5, 7), (33, 64, 12), (576, 64, 203), (64, 64, 97), (80, 80, 13), (32, 128, 6)]
    {
        let (x, maps) = (noise.numbers(n * cols), [(); 3].map(|()| noise.numbers(rows * cols)));
        for measure in [Measure::Magnitude, Measure::Form] {
            if measure == Measure::Form && rows != cols {
                assert!(matches!(ImageNorms::new(measure, &maps, cols), Err(Error::ShapeMismatch { .. })));
                continue;
            }
            let kernel = ImageNorms::new(measure, &maps, cols).expect("whole rows");
            let strips = Strips::new(&x, cols);
            for level in levels() {
                let all = kernel.run_at(level, 0..3, &strips).expect("vectors as long as rows");
                for (map, got) in maps.iter().zip(all.chunks_exact(n)) {
                    let expected = image_norms::reference::image_norms(&x, map, cols, measure);
                    // Terms of a form cancel each other.
                    let scale = expected.iter().fold(0.0f64, |most, x| most.max(x.abs()));
                    for (got, expected) in got.iter().zip(&expected) {
                        assert!(
                            (f64::from(*got) - expected).abs() <= 2e-6 * scale,
                            "{rows} {cols} {level:?}: {got} {expected}"
                        );
                    }
                }
                // A vector and a map alone have the same bits.
                let last = Strips::new(&x[(n - 1) * cols..], cols);
                let one = kernel.run_at(level, 1..2, &last).expect("vectors as long as rows");
                assert_eq!(one, [all[2 * n - 1]]);
            }
        }
    }
    let kernel = ImageNorms::new(Measure::Magnitude, &[vec![f32::NAN, 1.0]], 2).expect("whole rows");
    assert!(kernel.run(0..1, &Strips::new(&[1.0, 1.0], 2)).expect("vectors as long as rows")[0].is_nan());
    let kernel = ImageNorms::new(Measure::Form, &[vec![1.0, 0.0, 0.0, 1.0]], 2).expect("square");
    assert!(kernel.run(0..1, &Strips::new(&[1.0, f32::NAN], 2)).expect("vectors as long as rows")[0].is_nan());
    assert!(matches!(kernel.run(0..1, &Strips::new(&[1.0; 3], 3)), Err(Error::ShapeMismatch { .. })));
    assert!(matches!(ImageNorms::new(Measure::Magnitude, &[vec![1.0; 3]], 2), Err(Error::ShapeMismatch { .. })));
}

#[test]
fn output_changes_equal_their_reference() {
    let mut noise = Noise(28);
    for (rows, slots, dim, hidden) in [(1, 1, 4, 3), (2, 5, 3, 8), (12, 16, 64, 96), (13, 33, 16, 5), (32, 203, 64, 96)]
    {
        let (values, w) = (noise.numbers(slots * dim), noise.numbers(dim * hidden));
        let mut attention: Vec<f32> = noise.numbers(rows * slots).iter().map(|x| (4.0 * x).exp()).collect();
        for row in attention.chunks_exact_mut(slots) {
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|a| *a /= sum);
        }
        let gram = |a: usize, b: usize| (0..hidden).map(|h| w[a * hidden + h] * w[b * hidden + h]).sum::<f32>();
        let gram: Vec<f32> = (0..dim * dim).map(|i| gram(i / dim, i % dim)).collect();
        let times_gram = |x: &[f32]| -> Vec<f32> {
            gram.chunks_exact(dim).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
        };
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        let lengths: Vec<f32> = values.chunks_exact(dim).map(|v| dot(v, &times_gram(v)).sqrt()).collect();
        let (mut images, mut squares) = (Vec::new(), Vec::new());
        for row in attention.chunks_exact(slots) {
            let weighed = |d: usize| row.iter().zip(values[d..].iter().step_by(dim)).map(|(a, v)| a * v).sum::<f32>();
            let output: Vec<f32> = (0..dim).map(weighed).collect();
            squares.push(dot(&output, &times_gram(&output)));
            images.extend(times_gram(&output));
        }
        let expected = output_changes::reference::output_changes(&attention, &values, &w, dim);
        // A slot that holds all attention is its own output; what is left is rounding.
        let scale = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        let outputs = Outputs { images: &images, squares: &squares, lengths: &lengths };
        for level in levels() {
            let mut got = attention.clone();
            output_changes_at(level, &mut got, &Strips::new(&values, dim), outputs).expect("lengths agree");
            for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let alone = attention[at] == 1.0;
                assert!(
                    alone || (f64::from(*got) - expected).abs() <= 2e-5 * scale,
                    "{rows} {slots} {level:?} {at}: {got} {expected}"
                );
            }
        }
        let undefined = vec![f32::NAN; values.len()];
        let mut got = attention.clone();
        let of_nan = Outputs { squares: &vec![f32::NAN; rows], ..outputs };
        output_changes(&mut got, &Strips::new(&undefined, dim), of_nan).expect("lengths agree");
        assert!(got.iter().all(|x| x.is_nan()), "NaN stays");
        let short = Outputs { lengths: &lengths[1..], ..outputs };
        let result = output_changes(&mut attention, &Strips::new(&values, dim), short);
        assert!(matches!(result, Err(Error::ShapeMismatch { .. })), "{result:?}");
    }
}

#[test]
fn weighted_sums_equal_their_reference() {
    let mut noise = Noise(29);
    for (rows, slots, dim) in [(1, 1, 1), (5, 64, 16), (12, 65, 20), (13, 200, 64), (96, 1000, 128), (0, 7, 8)] {
        let weights: Vec<f32> = noise.numbers(rows * slots).iter().map(|x| x.abs()).collect();
        let values = noise.numbers(slots * dim);
        let expected = reference::weighted_sums(&weights, &values, dim);
        // Terms cancel each other.
        let scale = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        for level in levels() {
            let got = weighted_sums_at(level, &weights, &values, dim).expect("whole rows");
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(&expected) {
                assert!(
                    (f64::from(*got) - expected).abs() <= 1e-5 * scale,
                    "{rows} {slots} {dim} {level:?}: {got} {expected}"
                );
            }
            if rows > 0 {
                let last = weighted_sums_at(level, &weights[(rows - 1) * slots..], &values, dim);
                assert_eq!(last.as_deref(), Ok(&got[(rows - 1) * dim..]), "a row alone has the same bits");
            }
        }
    }
    // What follows an attention sink is small, and nearly all the same.
    let weights: Vec<f32> = (0..100_000).map(|slot| if slot == 0 { 0.9 } else { 1e-6 }).collect();
    let values: Vec<f32> = noise.numbers(100_000).iter().map(|x| 1.0 + 0.01 * x).collect();
    let expected = reference::weighted_sums(&weights, &values, 1);
    for level in levels() {
        let got = weighted_sums_at(level, &weights, &values, 1).expect("whole rows");
        assert_close(&got, &expected, 1e-6, &format!("{level:?}"));
    }
    let (weights, values) = (noise.numbers(25 * 300), noise.numbers(300 * 64));
    assert_same_for_any_threads(|| weighted_sums(&weights, &values, 64).expect("whole rows"));
    let sums = weighted_sums(&[0.0, 1.0], &[f32::NAN, 2.0, 3.0, 4.0], 2).expect("whole rows");
    assert!(sums[0].is_nan() && sums[1] == 4.0, "NaN stays, even of a slot without weight");
    // Of no slots there is no telling how many rows there are.
    for (weights, values, dim) in [(3, 4, 2), (2, 5, 2), (2, 4, 0), (0, 0, 2)] {
        let result = weighted_sums(&vec![1.0; weights], &vec![1.0; values], dim);
        assert!(matches!(result, Err(Error::ShapeMismatch { .. })), "{result:?}");
    }
}

#[test]
fn gram_matrices_equal_their_reference() {
    let mut noise = Noise(30);
    for (n, dim) in [(0, 3), (1, 1), (7, 5), (576, 64), (40, 80), (33, 16), (9, 128)] {
        let x = noise.numbers(n * dim);
        let expected = gram::reference::gram(&x, dim);
        let scale = expected.iter().fold(1.0f64, |most, x| most.max(x.abs()));
        for level in levels() {
            let got = gram::gram_at(level, &x, dim).expect("whole vectors");
            assert_eq!(got.len(), dim * dim);
            for (at, (&got, expected)) in got.iter().zip(&expected).enumerate() {
                assert!(
                    (f64::from(got) - expected).abs() <= 1e-5 * scale,
                    "{n} {dim} {level:?} {at}: {got} {expected}"
                );
            }
            let turned = |at: usize| got[at % dim * dim + at / dim];
            assert!((0..got.len()).all(|at| got[at] == turned(at)), "symmetric");
        }
    }
    assert!(gram::gram(&[f32::NAN, 1.0], 2).expect("whole vectors")[0].is_nan());
    for (len, dim) in [(3, 2), (2, 0)] {
        assert!(matches!(gram::gram(&vec![1.0; len], dim), Err(Error::ShapeMismatch { .. })));
    }
}
