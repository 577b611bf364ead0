//! Buffers that begin on a cache line.

use std::ops::{Deref, DerefMut};

use bytemuck::{Pod, Zeroable};

#[derive(Debug, Clone, Copy, Zeroable, Pod)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A buffer of numbers that only grows. It begins on a cache line, so that no vector of one of its lines lies across two, which would take
/// twice as long to load.
#[derive(Debug, Clone, Default)]
pub struct CacheLines(Vec<Line>);

impl CacheLines {
    /// Holds nothing yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The first `len` numbers: what was written there before, zeros where nothing was. Grows when it must.
    #[inline(always)]
    pub fn at_least(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0.0; 16]));
        }
        &mut self[..len]
    }
}

impl Deref for CacheLines {
    type Target = [f32];

    #[inline(always)]
    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.0)
    }
}

impl DerefMut for CacheLines {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_written_on_lines_of_its_own() {
        let mut buffer = CacheLines::new();
        assert!(buffer.at_least(0).is_empty());
        buffer.at_least(3).copy_from_slice(&[1.0, 2.0, 3.0]);
        for len in [17, 4, 1000] {
            let numbers = buffer.at_least(len);
            assert_eq!((numbers.len(), numbers.as_ptr() as usize % 64), (len, 0));
            assert_eq!(numbers[..3], [1.0, 2.0, 3.0]);
        }
    }
}
