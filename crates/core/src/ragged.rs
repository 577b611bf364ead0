//! Flat data with one length per head.

use crate::{Error, Result};

/// Row starts of a ragged array: `indptr[i]..indptr[i + 1]` is row `i`. Always starts with 0 and never falls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indptr(Vec<usize>);

impl Indptr {
    /// Row starts for rows of these lengths.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        for length in lengths {
            end += length;
            starts.push(end);
        }
        Self(starts)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.0.len() - 1
    }

    /// Sum of all lengths.
    pub fn total(&self) -> usize {
        self.0[self.rows()]
    }

    /// Where row `i` lies in the flat data.
    pub fn range(&self, row: usize) -> std::ops::Range<usize> {
        self.0[row]..self.0[row + 1]
    }

    /// Length of row `i`.
    pub fn length(&self, row: usize) -> usize {
        self.0[row + 1] - self.0[row]
    }

    /// The `n + 1` row starts.
    pub fn starts(&self) -> &[usize] {
        &self.0
    }
}

/// Rows of different lengths in one flat allocation; the only encoding of "different lengths per head".
#[derive(Debug, Clone, PartialEq)]
pub struct Ragged<T> {
    indptr: Indptr,
    data: Vec<T>,
}

impl<T> Ragged<T> {
    /// `data` cut into rows by `indptr`. The lengths must add up.
    pub fn new(indptr: Indptr, data: Vec<T>) -> Result<Self> {
        if indptr.total() != data.len() {
            return Err(Error::ShapeMismatch {
                what: "ragged data".into(),
                expected: vec![indptr.total()],
                got: vec![data.len()],
            });
        }
        Ok(Self { indptr, data })
    }

    /// Concatenates rows.
    pub fn from_rows(rows: impl IntoIterator<Item = Vec<T>>) -> Self {
        let mut data = Vec::new();
        let mut starts = vec![0];
        for row in rows {
            data.extend(row);
            starts.push(data.len());
        }
        Self { indptr: Indptr(starts), data }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.indptr.rows()
    }

    /// Row `i`.
    pub fn row(&self, row: usize) -> &[T] {
        &self.data[self.indptr.range(row)]
    }

    /// Row `i`, to write.
    pub fn row_mut(&mut self, row: usize) -> &mut [T] {
        &mut self.data[self.indptr.range(row)]
    }

    /// All rows in order.
    pub fn iter(&self) -> impl Iterator<Item = &[T]> {
        (0..self.rows()).map(|row| self.row(row))
    }

    /// The row starts.
    pub fn indptr(&self) -> &Indptr {
        &self.indptr
    }

    /// All values, rows one after another.
    pub fn data(&self) -> &[T] {
        &self.data
    }

    /// All values, to write.
    pub fn data_mut(&mut self) -> &mut [T] {
        &mut self.data
    }
}

impl<T: Clone + Default> Ragged<T> {
    /// Default values in rows of these lengths.
    pub fn zeros(indptr: Indptr) -> Self {
        let data = vec![T::default(); indptr.total()];
        Self { indptr, data }
    }
}

/// Importance of each slot, `[kv head][slot]`, after the GQA group was reduced. Higher = keep.
pub type Scores = Ragged<f32>;

/// What stays of one layer: per KV head ascending, unique slot indices.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection(Ragged<u32>);

impl Selection {
    /// Checks that every row is ascending, unique and below its head's length.
    pub fn new(kept: Ragged<u32>, lengths: &[usize]) -> Result<Self> {
        if kept.rows() != lengths.len() {
            return Err(Error::ShapeMismatch {
                what: "selection".into(),
                expected: vec![lengths.len()],
                got: vec![kept.rows()],
            });
        }
        for (head, (row, &length)) in kept.iter().zip(lengths).enumerate() {
            for (index, &slot) in row.iter().enumerate() {
                if slot as usize >= length || (index > 0 && row[index - 1] >= slot) {
                    return Err(Error::InvalidSelection { head, index });
                }
            }
        }
        Ok(Self(kept))
    }

    /// Keeps everything.
    pub fn all(lengths: &[usize]) -> Self {
        Self(Ragged::from_rows(lengths.iter().map(|&n| (0..n as u32).collect())))
    }

    /// Number of KV heads.
    pub fn heads(&self) -> usize {
        self.0.rows()
    }

    /// Kept slots of a head, ascending.
    pub fn head(&self, head: usize) -> &[u32] {
        self.0.row(head)
    }

    /// Kept slots over all heads.
    pub fn total(&self) -> usize {
        self.0.data().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_different_lengths() {
        let ragged = Ragged::from_rows([vec![1, 2], vec![], vec![3]]);
        assert_eq!(ragged.indptr().starts(), [0, 2, 2, 3]);
        assert_eq!(ragged.iter().collect::<Vec<_>>(), [&[1, 2][..], &[], &[3]]);
        assert!(Ragged::new(Indptr::from_lengths([2, 2]), vec![0; 3]).is_err());
    }

    #[test]
    fn a_selection_is_ascending_unique_and_in_range() {
        let check = |row: Vec<u32>| Selection::new(Ragged::from_rows([row]), &[4]);
        assert!(check(vec![0, 2, 3]).is_ok());
        assert_eq!(check(vec![0, 0]), Err(Error::InvalidSelection { head: 0, index: 1 }));
        assert_eq!(check(vec![2, 1]), Err(Error::InvalidSelection { head: 0, index: 1 }));
        assert_eq!(check(vec![4]), Err(Error::InvalidSelection { head: 0, index: 0 }));
    }
}
