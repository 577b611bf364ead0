//! Buffers of borrowed things that outlive what they borrowed.

/// An empty vector with the memory of `buffer`, for elements of the same type with another lifetime.
///
/// A loop that needs a list of borrows each time round keeps the memory in between as a `Vec<T<'static>>`, which is empty then:
/// `let mut list = recycle(mem::take(&mut kept)); … kept = recycle(list)`. `T` and `U` must be the same type but for lifetimes; the
/// standard library then collects in place, so nothing is allocated.
pub fn recycle<T, U>(mut buffer: Vec<T>) -> Vec<U> {
    const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
    buffer.clear();
    buffer.into_iter().map(|_| unreachable!("the buffer was cleared")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_is_the_same() {
        let mut kept: Vec<&'static [u32]> = Vec::with_capacity(10);
        let memory = kept.as_ptr() as usize;
        for round in 0..3 {
            let numbers = [round; 4];
            let mut list: Vec<&[u32]> = recycle(kept);
            list.push(&numbers);
            assert_eq!((list.as_ptr() as usize, list.capacity()), (memory, 10));
            kept = recycle(list);
            assert!(kept.is_empty());
        }
        assert_eq!((kept.as_ptr() as usize, kept.capacity()), (memory, 10));
    }
}
