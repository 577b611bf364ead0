//! How products are cut into parts that threads work on: a part is a number, so that nothing is allocated.

use std::{marker::PhantomData, ops::Range};

use rayon::prelude::*;

use super::{Matrix, Product};

/// A range of weight rows, a range of rows of `x`, and the numbers of `out` that these make.
pub(super) struct Part<'a> {
    pub w: Matrix<'a>,
    /// Rows of `w`.
    pub rows: Range<usize>,
    /// Rows of `x`.
    pub x: Range<usize>,
    bias: Option<&'a [f32]>,
    /// `[m][w.rows()]`, of which `[x][rows]` are this part's alone.
    out: *mut f32,
    borrowed: PhantomData<&'a mut [f32]>,
}

impl Part<'_> {
    /// Where the products of rows `self.x.start + i ..` of `x` belong, a number for each of the weight rows.
    #[inline(always)]
    pub fn out<const M: usize>(&mut self, i: usize) -> [&mut [f32]; M] {
        assert!(i + M <= self.x.len());
        let first = (self.x.start + i) * self.w.rows + self.rows.start;
        std::array::from_fn(|m| {
            // SAFETY: `for_each_part` made `out` point to `[m][w.rows]` numbers that nobody else touches and gave `[x][rows]` of
            // them, ranges within that shape, to this part alone. The slices are in different rows, and `&mut self` keeps other
            // slices of these away.
            unsafe { std::slice::from_raw_parts_mut(self.out.add(first + m * self.w.rows), self.rows.len()) }
        })
    }

    /// Adds the bias, if there is one.
    pub fn add_bias(&mut self) {
        let Some(bias) = self.bias else { return };
        let bias = &bias[self.rows.clone()];
        for i in 0..self.x.len() {
            let [out] = self.out(i);
            out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// Products that many threads write into.
struct Shared<'a, 'b> {
    first: *mut Product<'b>,
    count: usize,
    borrowed: PhantomData<&'a mut [Product<'b>]>,
}

// SAFETY: threads read matrices, biases and pointers through it, and write disjoint numbers of `out` (`for_each_part`).
unsafe impl Sync for Shared<'_, '_> {}

impl<'b> Shared<'_, 'b> {
    /// The matrix, the bias, and where `out` begins.
    fn product(&self, index: usize) -> (Matrix<'b>, Option<&'b [f32]>, *mut f32) {
        assert!(index < self.count);
        // SAFETY: `index` is below the number of products, which stay mutably borrowed; their fields are only read. No
        // reference to the numbers of `out` is made.
        unsafe {
            let product = self.first.add(index);
            ((*product).w, (*product).bias, (&raw mut *(*product).out).cast())
        }
    }
}

/// Calls `work` for all parts, at most `rows` weight rows times `x_rows` of the `m` rows of `x` each, in any order, on all threads.
pub(super) fn for_each_part(
    products: &mut [Product],
    m: usize,
    rows: usize,
    x_rows: usize,
    work: impl Fn(Part) + Sync,
) {
    assert!(products.iter().all(|product| product.out.len() == m * product.w.rows));
    let parts_of = |w: Matrix| w.rows.div_ceil(rows) * m.div_ceil(x_rows);
    let parts = products.iter().map(|product| parts_of(product.w)).sum::<usize>();
    let shared = Shared { first: products.as_mut_ptr(), count: products.len(), borrowed: PhantomData };
    let shared = &shared;
    (0..parts).into_par_iter().with_max_len(1).for_each(|mut number| {
        let mut index = 0;
        let (w, bias, out) = loop {
            let product = shared.product(index);
            let parts = parts_of(product.0);
            if number < parts {
                break product;
            }
            (index, number) = (index + 1, number - parts);
        };
        // Different numbers get different products or different pairs of multiples: disjoint parts of an `out`.
        let (x, row) = (number / w.rows.div_ceil(rows) * x_rows, number % w.rows.div_ceil(rows) * rows);
        work(Part {
            w,
            rows: row..(row + rows).min(w.rows),
            x: x..(x + x_rows).min(m),
            bias,
            out,
            borrowed: PhantomData,
        });
    });
}
