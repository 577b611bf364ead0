//! Metadata values, borrowed from the file and decoded on demand.

use std::borrow::Cow;

pub(super) const STRING: u32 = 8;
pub(super) const ARRAY: u32 = 9;

/// One metadata value. Integers and floats keep only their value, not their width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// An unsigned integer (types 0, 2, 4, 10).
    Unsigned(u64),
    /// A signed integer (types 1, 3, 5, 11).
    Signed(i64),
    /// A float (types 6, 12).
    Float(f64),
    /// A boolean (type 7); every byte but 0 is true.
    Bool(bool),
    /// A string, not necessarily UTF-8.
    String(&'a [u8]),
    /// An array.
    Array(Array<'a>),
}

impl<'a> Value<'a> {
    /// A non-negative integer.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(value) => Some(value),
            Value::Signed(value) => value.try_into().ok(),
            _ => None,
        }
    }

    /// An integer.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::Unsigned(value) => value.try_into().ok(),
            Value::Signed(value) => Some(value),
            _ => None,
        }
    }

    /// A number.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Value::Unsigned(value) => Some(value as f64),
            Value::Signed(value) => Some(value as f64),
            Value::Float(value) => Some(value),
            _ => None,
        }
    }

    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(value) = *self { Some(value) } else { None }
    }

    /// A string; bytes that are not UTF-8 become U+FFFD.
    pub fn as_str(&self) -> Option<Cow<'a, str>> {
        if let Value::String(bytes) = *self { Some(String::from_utf8_lossy(bytes)) } else { None }
    }

    /// An array.
    pub fn as_array(&self) -> Option<Array<'a>> {
        if let Value::Array(array) = *self { Some(array) } else { None }
    }
}

/// Elements of one type, still encoded; their bounds were checked when the header was parsed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Array<'a> {
    kind: u32,
    len: usize,
    bytes: &'a [u8],
}

impl<'a> Array<'a> {
    pub(super) fn new(kind: u32, len: usize, bytes: &'a [u8]) -> Self {
        Self { kind, len, bytes }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements of an array of numbers or booleans.
    pub fn scalars(&self) -> Option<impl Iterator<Item = Value<'static>> + use<'a>> {
        let kind = self.kind;
        let width = scalar_width(kind)?;
        Some(self.bytes.chunks_exact(width).map(move |bytes| scalar(kind, bytes)))
    }

    /// The elements of an array of integers.
    pub fn integers(&self) -> Option<Vec<i64>> {
        self.scalars()?.map(|value| value.as_i64()).collect()
    }

    /// The elements of an array of numbers.
    pub fn floats(&self) -> Option<Vec<f64>> {
        self.scalars()?.map(|value| value.as_f64()).collect()
    }

    /// The elements of an array of strings; bytes that are not UTF-8 become U+FFFD.
    pub fn strings(&self) -> Option<Vec<Cow<'a, str>>> {
        if self.kind != STRING {
            return None;
        }
        let mut rest = self.bytes;
        let mut strings = Vec::with_capacity(self.len);
        while let Some((length, tail)) = rest.split_first_chunk() {
            let (text, tail) = tail.split_at_checked(u64::from_le_bytes(*length).try_into().ok()?)?;
            strings.push(String::from_utf8_lossy(text));
            rest = tail;
        }
        Some(strings)
    }
}

/// Bytes of a number or boolean; none for strings, arrays and unknown types.
pub(super) fn scalar_width(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// Decodes `scalar_width(kind)` bytes.
pub(super) fn scalar(kind: u32, bytes: &[u8]) -> Value<'static> {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    match kind {
        1 => Value::Signed(bits as i8 as i64),
        3 => Value::Signed(bits as i16 as i64),
        5 => Value::Signed(bits as i32 as i64),
        6 => Value::Float(f32::from_bits(bits as u32) as f64),
        7 => Value::Bool(bits != 0),
        11 => Value::Signed(bits as i64),
        12 => Value::Float(f64::from_bits(bits)),
        _ => Value::Unsigned(bits),
    }
}
