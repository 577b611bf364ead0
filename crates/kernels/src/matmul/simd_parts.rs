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
    own: PhantomData<&'a mut f32>,
}

impl Part<'_> {
    /// Where the products of row `self.x.start + i` of `x` belong, a number for each of the weight rows.
    #[inline(always)]
    pub fn out(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.x.len());
        let at = (self.x.start + i) * self.w.rows + self.rows.start;
        // SAFETY: `for_each_part` made `out` point to `[m][w.rows]` numbers that nobody else touches and gave `[x][rows]` of them,
        // ranges within that shape, to this part alone; `&mut self` keeps a second slice of it away.
        unsafe { std::slice::from_raw_parts_mut(self.out.add(at), self.rows.len()) }
    }

    /// Adds the bias, if there is one.
    pub fn add_bias(&mut self) {
        let Some(bias) = self.bias else { return };
        let bias = &bias[self.rows.clone()];
        for i in 0..self.x.len() {
            self.out(i).iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// Where the products lie, for many threads at once.
struct Shared<'a, 'b>(*mut Product<'b>, usize, PhantomData<&'a mut [Product<'b>]>);

// SAFETY: threads read matrices and biases through it, and write disjoint numbers of `out` (`for_each_part`).
unsafe impl Sync for Shared<'_, '_> {}

/// Calls `work` for all parts, at most `rows` weight rows times `x_rows` of the `m` rows of `x` each, in any order, on all threads.
/// Every `out` holds `m` rows.
pub(super) fn for_each_part(
    products: &mut [Product],
    m: usize,
    rows: usize,
    x_rows: usize,
    work: impl Fn(Part) + Sync,
) {
    let parts_of = |product: &Product| product.w.rows.div_ceil(rows) * m.div_ceil(x_rows);
    let count = products
        .iter()
        .map(|product| {
            assert!(product.out.len() == m * product.w.rows);
            parts_of(product)
        })
        .sum::<usize>();
    let shared = Shared(products.as_mut_ptr(), products.len(), PhantomData);
    let shared = &shared;
    (0..count).into_par_iter().for_each(|mut number| {
        for index in 0..shared.1 {
            // SAFETY: `index` is below the number of products, which are mutably borrowed until all threads are done.
            let product = unsafe { shared.0.add(index) };
            // SAFETY: as above; `w` and `bias` are only read by everyone.
            let (w, bias) = unsafe { ((*product).w, (*product).bias) };
            let count = w.rows.div_ceil(rows) * m.div_ceil(x_rows);
            if number >= count {
                number -= count;
                continue;
            }
            // SAFETY: as above; the pointer in `out` is read, the numbers behind it are not touched.
            let out = unsafe { &raw mut *(*product).out }.cast();
            let (first, first_x) = (number % w.rows.div_ceil(rows) * rows, number / w.rows.div_ceil(rows) * x_rows);
            // Different numbers get different products or different pairs of multiples: disjoint parts of `out`.
            return work(Part {
                w,
                rows: first..(first + rows).min(w.rows),
                x: first_x..(first_x + x_rows).min(m),
                bias,
                out,
                own: PhantomData,
            });
        }
    });
}
