//! GGUF headers (versions 2 and 3, little-endian), read in place from untrusted bytes.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Every length is checked against what is left of the
//! file before it is used, and nothing is copied: strings and arrays borrow the file. The only allocations are the two tables,
//! which grow with entries that were really read, so memory is bounded by the size of the file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use candle_core::quantized::GgmlDType;
use headwise_core::{Error, Result};

mod value;
pub use value::{Array, Value};

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_DIMENSIONS: u32 = 4;
const MAX_ARRAY_DEPTH: u32 = 4;

/// A parsed header: metadata and tensor directory.
#[derive(Debug)]
pub struct Gguf<'a> {
    path: String,
    metadata: BTreeMap<&'a str, Value<'a>>,
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// Block format of the data.
    pub dtype: GgmlDType,
    /// Dimensions in GGUF order: the first one is contiguous. A weight `[rows][cols]` is `[cols, rows]` here.
    pub dimensions: Vec<usize>,
    /// Bytes of the file that hold the data.
    pub range: Range<usize>,
}

impl<'a> Gguf<'a> {
    /// Parses the header at the start of `bytes`, which must be the whole file; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::TruncatedFile`] when the file ends before what its header promises; [`Error::MalformedFile`] for everything
    /// that cannot be (wrong magic, duplicate keys or tensors, overlapping or misaligned data, sizes that overflow);
    /// [`Error::UnsupportedFeature`] for versions, byte orders, splits and tensor types that headwise does not read.
    pub fn parse(bytes: &'a [u8], path: &str) -> Result<Self> {
        let mut reader = Reader { bytes, position: 0, path };
        if reader.take(4, "the magic")? != MAGIC {
            return Err(reader.malformed("not a GGUF file (wrong magic)".into()));
        }
        match reader.u32("the version")? {
            2 | 3 => {}
            version if (2..=3).contains(&version.swap_bytes()) => {
                return Err(unsupported("GGUF byte order", "big-endian"));
            }
            version => return Err(unsupported("GGUF version", version)),
        }
        let tensor_count = reader.u64("the tensor count")?;
        let metadata_count = reader.u64("the metadata count")?;

        let mut metadata = BTreeMap::new();
        for _ in 0..metadata_count {
            let key = reader.name("a metadata key")?;
            let kind = reader.u32("a metadata type")?;
            let value = reader.value(kind, key)?;
            if metadata.insert(key, value).is_some() {
                return Err(reader.malformed(format!("metadata key {key:?} occurs twice")));
            }
        }
        let mut gguf = Self { path: path.to_owned(), metadata, tensors: BTreeMap::new() };
        if gguf.u64("split.count")?.is_some_and(|count| count > 1) {
            return Err(unsupported("GGUF", "split into several files"));
        }
        let alignment = gguf.u64("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || !(8..=1 << 20).contains(&alignment) {
            return Err(reader.malformed(format!("alignment {alignment} is not a power of two of at least 8")));
        }
        gguf.tensors = reader.tensors(tensor_count, alignment)?;
        Ok(gguf)
    }

    /// The file's name, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tensor directory by name.
    pub fn tensors(&self) -> &BTreeMap<&'a str, TensorInfo> {
        &self.tensors
    }

    /// A metadata value.
    pub fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.metadata.get(key)
    }

    /// All metadata keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.metadata.keys().copied()
    }

    /// A non-negative integer of any width.
    ///
    /// # Errors
    /// This and the other typed getters: [`Error::MalformedFile`] when the key is there with another type.
    pub fn u64(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "a non-negative integer", Value::as_u64)
    }

    /// A float of any width, or an integer.
    pub fn f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", Value::as_bool)
    }

    /// A string; bytes that are not UTF-8 become U+FFFD.
    pub fn string(&self, key: &str) -> Result<Option<Cow<'a, str>>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// An array.
    pub fn array(&self, key: &str) -> Result<Option<Array<'a>>> {
        self.typed(key, "an array", Value::as_array)
    }

    /// An array of strings; bytes that are not UTF-8 become U+FFFD.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<Cow<'a, str>>>> {
        self.typed(key, "an array of strings", |value| value.as_array()?.strings())
    }

    fn typed<T>(&self, key: &str, expected: &str, get: impl Fn(&Value<'a>) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.metadata.get(key) else { return Ok(None) };
        match get(value) {
            Some(value) => Ok(Some(value)),
            None => Err(Error::MalformedFile {
                path: self.path.clone(),
                reason: format!("metadata key {key:?} is not {expected}"),
            }),
        }
    }
}

fn unsupported(feature: &str, value: impl ToString) -> Error {
    Error::UnsupportedFeature { feature: feature.into(), value: value.to_string() }
}

/// A cursor that cannot leave its file.
#[derive(Clone)]
struct Reader<'a, 'p> {
    bytes: &'a [u8],
    position: usize,
    path: &'p str,
}

impl<'a> Reader<'a, '_> {
    fn malformed(&self, reason: String) -> Error {
        Error::MalformedFile { path: self.path.into(), reason }
    }

    fn truncated(&self, what: &str, need: u64) -> Error {
        Error::TruncatedFile { path: self.path.into(), what: what.into(), need, have: self.bytes.len() as u64 }
    }

    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8]> {
        let end = (self.position as u64).saturating_add(count);
        let taken = usize::try_from(end).ok().and_then(|end| self.bytes.get(self.position..end));
        let taken = taken.ok_or_else(|| self.truncated(what, end))?;
        self.position += taken.len();
        Ok(taken)
    }

    fn number<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        Ok(self.take(N as u64, what)?.try_into().expect("take returns what was asked for"))
    }

    fn u32(&mut self, what: &str) -> Result<u32> {
        self.number(what).map(u32::from_le_bytes)
    }

    fn u64(&mut self, what: &str) -> Result<u64> {
        self.number(what).map(u64::from_le_bytes)
    }

    fn string(&mut self, what: &str) -> Result<&'a [u8]> {
        let length = self.u64(what)?;
        self.take(length, what)
    }

    /// A key or tensor name: not empty, UTF-8.
    fn name(&mut self, what: &str) -> Result<&'a str> {
        match std::str::from_utf8(self.string(what)?) {
            Ok("") => Err(self.malformed(format!("{what} is empty"))),
            Ok(name) => Ok(name),
            Err(_) => Err(self.malformed(format!("{what} is not UTF-8"))),
        }
    }

    fn value(&mut self, kind: u32, key: &str) -> Result<Value<'a>> {
        match kind {
            value::STRING => self.string(key).map(Value::String),
            value::ARRAY => self.array(key, 0).map(Value::Array),
            kind => {
                let Some(width) = value::scalar_width(kind) else {
                    return Err(self.malformed(format!("metadata key {key:?} has the unknown type {kind}")));
                };
                Ok(value::scalar(kind, self.take(width as u64, key)?))
            }
        }
    }

    /// Walks an array to find its end; the elements are decoded when somebody asks for them.
    fn array(&mut self, key: &str, depth: u32) -> Result<Array<'a>> {
        if depth >= MAX_ARRAY_DEPTH {
            return Err(self.malformed(format!("metadata key {key:?} nests arrays deeper than {MAX_ARRAY_DEPTH}")));
        }
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        let start = self.position;
        match kind {
            value::STRING => {
                for _ in 0..count {
                    self.string(key)?;
                }
            }
            value::ARRAY => {
                for _ in 0..count {
                    self.array(key, depth + 1)?;
                }
            }
            kind => {
                let Some(width) = value::scalar_width(kind) else {
                    return Err(self.malformed(format!("metadata key {key:?} is an array of the unknown type {kind}")));
                };
                self.take(count.saturating_mul(width as u64), key)?;
            }
        }
        // Every element takes at least one byte of the file, so `count` fits a usize here.
        Ok(Array::new(kind, count as usize, &self.bytes[start..self.position]))
    }

    fn tensors(&mut self, count: u64, alignment: u64) -> Result<BTreeMap<&'a str, TensorInfo>> {
        let mut directory = Vec::new();
        for _ in 0..count {
            let name = self.name("a tensor name")?;
            let rank = self.u32(name)?;
            if !(1..=MAX_DIMENSIONS).contains(&rank) {
                return Err(self.malformed(format!("tensor {name:?} has {rank} dimensions")));
            }
            let dimensions = (0..rank).map(|_| self.u64(name)).collect::<Result<Vec<u64>>>()?;
            let dtype = tensor_type(self.u32(name)?)?;
            let offset = self.u64(name)?;
            let size = data_size(&dimensions, dtype).ok_or_else(|| {
                self.malformed(format!("tensor {name:?} has the impossible shape {dimensions:?} for {dtype:?}"))
            })?;
            if !offset.is_multiple_of(alignment) {
                return Err(self.malformed(format!("data of tensor {name:?} is not aligned to {alignment} bytes")));
            }
            directory.push((name, dimensions, dtype, offset, size));
        }
        let data_start = (self.position as u64).next_multiple_of(alignment);
        let mut tensors = BTreeMap::new();
        let mut ranges = Vec::new();
        for (name, dimensions, dtype, offset, size) in directory {
            let start = data_start.saturating_add(offset);
            let end = start.saturating_add(size);
            if end > self.bytes.len() as u64 {
                return Err(self.truncated(&format!("tensor {name:?}"), end));
            }
            // The end lies in the file, so all of these fit a usize.
            let info = TensorInfo {
                dtype,
                dimensions: dimensions.iter().map(|&n| n as usize).collect(),
                range: start as usize..end as usize,
            };
            ranges.push((info.range.clone(), name));
            if tensors.insert(name, info).is_some() {
                return Err(self.malformed(format!("tensor {name:?} occurs twice")));
            }
        }
        ranges.sort_by_key(|(range, _)| range.start);
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
            return Err(self.malformed(format!("tensors {:?} and {:?} overlap", pair[0].1, pair[1].1)));
        }
        Ok(tensors)
    }
}

/// Bytes of a tensor; none when a dimension is zero, a row is not a whole number of blocks, or the size overflows.
fn data_size(dimensions: &[u64], dtype: GgmlDType) -> Option<u64> {
    let elements = dimensions.iter().try_fold(1u64, |product, &n| product.checked_mul(n))?;
    let block = dtype.block_size() as u64;
    if elements == 0 || !dimensions[0].is_multiple_of(block) {
        return None;
    }
    (elements / block).checked_mul(dtype.type_size() as u64)
}

/// The tensor type of a `ggml_type` number, refused by name where headwise has no kernel.
fn tensor_type(number: u32) -> Result<GgmlDType> {
    Ok(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        9 => GgmlDType::Q8_1,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        15 => GgmlDType::Q8K,
        30 => GgmlDType::BF16,
        number => {
            let name = match number {
                16 => "IQ2_XXS",
                17 => "IQ2_XS",
                18 => "IQ3_XXS",
                19 => "IQ1_S",
                20 => "IQ4_NL",
                21 => "IQ3_S",
                22 => "IQ2_S",
                23 => "IQ4_XS",
                24 => "I8",
                25 => "I16",
                26 => "I32",
                27 => "I64",
                28 => "F64",
                29 => "IQ1_M",
                34 => "TQ1_0",
                35 => "TQ2_0",
                39 => "MXFP4",
                _ => return Err(unsupported("GGUF tensor type", number)),
            };
            return Err(unsupported("GGUF tensor type", name));
        }
    })
}
