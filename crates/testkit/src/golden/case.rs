//! One case: `<case>.json` with `<case>.safetensors` beside it.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::files;

/// Why a case did not pass.
#[derive(Debug, PartialEq)]
pub enum Miss {
    /// Something is wrong: with headwise, or with the case.
    Failed(String),
    /// headwise does not have this yet.
    Unsupported(String),
}

impl From<String> for Miss {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

impl From<headwise_core::Error> for Miss {
    fn from(error: headwise_core::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Result of a case or of a step of it.
pub type Outcome<T = ()> = Result<T, Miss>;

/// A failure with this reason.
pub fn fail<T>(reason: impl Into<String>) -> Outcome<T> {
    Err(Miss::Failed(reason.into()))
}

/// Parameters of a case.
#[derive(Debug, Deserialize)]
struct Header {
    kind: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    params: Map<String, Value>,
    #[serde(default)]
    budgets: Vec<Map<String, Value>>,
    /// `dtype` and `shape` of every tensor, by name.
    #[serde(default)]
    tensors: Map<String, Value>,
}

/// Numbers of a tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

/// A tensor of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// The numbers.
    pub data: Data,
}

/// A loaded case.
pub struct Case {
    /// Which family of cases.
    pub kind: String,
    /// Which reference the values come from.
    pub source: String,
    /// Parameters.
    pub params: Map<String, Value>,
    /// One entry a budget, with its `tag`.
    pub budgets: Vec<Map<String, Value>>,
    tensors: BTreeMap<String, Tensor>,
}

impl Case {
    /// The `kind` of a case file.
    pub fn kind_of(path: &Path) -> Outcome<String> {
        header(path).map(|header| header.kind)
    }

    /// Reads the json at `path` and the tensors beside it. Every tensor that the json names must be there as it is described:
    /// an expected value that is missing would not be compared.
    pub fn load(path: &Path) -> Outcome<Self> {
        let Header { kind, source, params, budgets, tensors: described } = header(path)?;
        let tensors = read_tensors(&path.with_extension("safetensors"))?;
        for (name, described) in &described {
            let Some(Tensor { shape, data }) = tensors.get(name) else {
                return fail(format!("tensor {name} is missing"));
            };
            let dtype = match data {
                Data::F32(_) => "F32",
                Data::I64(_) => "I64",
            };
            let (wanted, sizes) = (&described["dtype"], &described["shape"]);
            if *wanted != dtype || *sizes != Value::from(shape.clone()) {
                return fail(format!("tensor {name} is {dtype} {shape:?}, described as {wanted} {sizes}"));
            }
        }
        Ok(Self { kind, source, params, budgets, tensors })
    }

    /// Whether the case has this tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// A tensor of floats with its shape.
    pub fn floats(&self, name: &str) -> Outcome<(&[usize], &[f32])> {
        match self.tensors.get(name) {
            Some(Tensor { shape, data: Data::F32(data) }) => Ok((shape, data)),
            Some(_) => fail(format!("tensor {name} is not F32")),
            None => fail(format!("tensor {name} is missing")),
        }
    }

    /// A tensor of integers with its shape.
    pub fn integers(&self, name: &str) -> Outcome<(&[usize], &[i64])> {
        match self.tensors.get(name) {
            Some(Tensor { shape, data: Data::I64(data) }) => Ok((shape, data)),
            Some(_) => fail(format!("tensor {name} is not I64")),
            None => fail(format!("tensor {name} is missing")),
        }
    }

    /// A parameter that is a count, below 2^20.
    pub fn count(&self, name: &str) -> Outcome<usize> {
        count(&self.params, name)
    }

    /// A parameter that is a number.
    pub fn number(&self, name: &str) -> Outcome<f64> {
        number(&self.params, name)
    }

    /// A parameter that is a word.
    pub fn word(&self, name: &str) -> Outcome<&str> {
        match self.params.get(name).and_then(Value::as_str) {
            Some(word) => Ok(word),
            None => fail(format!("params.{name} is not a string")),
        }
    }

    /// A parameter that is true or false.
    pub fn flag(&self, name: &str) -> Outcome<bool> {
        match self.params.get(name).and_then(Value::as_bool) {
            Some(flag) => Ok(flag),
            None => fail(format!("params.{name} is not a boolean")),
        }
    }

    /// What `read` makes of a parameter if the case has it; one of the wrong type is a failure.
    pub fn optional<'a, T>(&'a self, name: &str, read: fn(&'a Self, &str) -> Outcome<T>) -> Outcome<Option<T>> {
        self.params.contains_key(name).then(|| read(self, name)).transpose()
    }
}

/// A count in a json object, below 2^20.
pub fn count(object: &Map<String, Value>, name: &str) -> Outcome<usize> {
    match object.get(name).and_then(Value::as_u64).filter(|&count| count < 1 << 20) {
        Some(count) => Ok(count as usize),
        None => fail(format!("{name} is not a count below 2^20")),
    }
}

/// A number in a json object.
pub fn number(object: &Map<String, Value>, name: &str) -> Outcome<f64> {
    match object.get(name).and_then(Value::as_f64) {
        Some(number) => Ok(number),
        None => fail(format!("{name} is not a number")),
    }
}

fn header(path: &Path) -> Outcome<Header> {
    serde_json::from_slice(&files::read(path)?).map_err(|error| Miss::Failed(format!("{}: {error}", path.display())))
}

/// All tensors of a safetensors file; anything but F32 and I64 is a failure.
pub fn read_tensors(path: &Path) -> Outcome<BTreeMap<String, Tensor>> {
    let bytes = files::read(path)?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let bytes = view.data();
        let data = match view.dtype() {
            Dtype::F32 => Data::F32(bytes.as_chunks().0.iter().map(|&le| f32::from_le_bytes(le)).collect()),
            Dtype::I64 => Data::I64(bytes.as_chunks().0.iter().map(|&le| i64::from_le_bytes(le)).collect()),
            other => return fail(format!("tensor {name} is {other:?}, not F32 or I64")),
        };
        tensors.insert(name, Tensor { shape: view.shape().to_vec(), data });
    }
    Ok(tensors)
}
