//! Weights in the safetensors format: one file, or shards with an index (`model.safetensors.index.json`).
//!
//! Headers are parsed and validated by the `safetensors` crate; the data stays in the map.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::GgmlDType;
use headwise_core::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use crate::mmap::MappedFile;
use crate::weights::{Tensor, Tensors};

const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";
/// What the reference implementation allows too.
const MAX_HEADER: u64 = 100_000_000;

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// All tensors of a model folder: the shards of its index, or its `model.safetensors`.
///
/// # Errors
/// [`Error::Io`], [`Error::TruncatedFile`], [`Error::MalformedFile`]; [`Error::MissingTensor`] where the index promises a tensor
/// that its shard lacks; [`Error::UnsupportedFeature`] for number types other than F32, F16 and BF16.
pub fn open_folder(folder: &Path) -> Result<Tensors> {
    let index_path = folder.join(INDEX);
    if !index_path.exists() {
        return open_file(&folder.join(SINGLE));
    }
    let malformed = |reason: String| Error::MalformedFile { path: index_path.display().to_string(), reason };
    let text = crate::load::read_text(&index_path)?;
    let index: Index = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
    let mut tensors = Tensors::new(index_path.display().to_string());
    for shard in shards {
        let path = shard_path(folder, shard).ok_or_else(|| malformed(format!("{shard:?} is not a file name")))?;
        let listed = |name: &str| index.weight_map.get(name).is_some_and(|file| file == shard);
        add_file(&mut tensors, &path, listed)?;
    }
    for (name, shard) in &index.weight_map {
        if !tensors.contains(name) {
            return Err(Error::MissingTensor { path: shard.clone(), tensor: name.clone() });
        }
    }
    Ok(tensors)
}

/// All tensors of one file.
///
/// # Errors
/// As [`open_folder`].
pub fn open_file(path: &Path) -> Result<Tensors> {
    let mut tensors = Tensors::new(path.display().to_string());
    add_file(&mut tensors, path, |_| true)?;
    Ok(tensors)
}

/// A shard lies in the folder itself: a name with a directory in it could reach anywhere.
fn shard_path(folder: &Path, shard: &str) -> Option<PathBuf> {
    let mut components = Path::new(shard).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(name)), None) => Some(folder.join(name)),
        _ => None,
    }
}

fn add_file(tensors: &mut Tensors, path: &Path, wanted: impl Fn(&str) -> bool) -> Result<()> {
    let file = Arc::new(MappedFile::open(path)?);
    let (data_start, metadata) = header(file.bytes(), &path.display().to_string())?;
    for (name, info) in metadata.tensors() {
        if !wanted(&name) {
            continue;
        }
        let TensorInfo { dtype, shape, data_offsets: (start, end) } = info;
        let dtype = match dtype {
            Dtype::F32 => GgmlDType::F32,
            Dtype::F16 => GgmlDType::F16,
            Dtype::BF16 => GgmlDType::BF16,
            other => {
                return Err(Error::UnsupportedFeature {
                    feature: format!("safetensors type of {name:?}"),
                    value: format!("{other:?}"),
                });
            }
        };
        let range = data_start + start..data_start + end;
        tensors.insert(name, Tensor { file: file.clone(), range, dtype, shape: shape.clone() })?;
    }
    Ok(())
}

/// Start of the data and the directory, every range of which lies in `bytes`.
fn header(bytes: &[u8], path: &str) -> Result<(usize, Metadata)> {
    let truncated = |what: &str, need: u64| Error::TruncatedFile {
        path: path.into(),
        what: what.into(),
        need,
        have: bytes.len() as u64,
    };
    let malformed = |reason: String| Error::MalformedFile { path: path.into(), reason };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Err(truncated("the header length", 8)) };
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER {
        return Err(malformed(format!("a header of {length} bytes")));
    }
    let Some((header, data)) = rest.split_at_checked(length as usize) else {
        return Err(truncated("the header", 8 + length));
    };
    let metadata: Metadata = serde_json::from_slice(header).map_err(|error| malformed(error.to_string()))?;
    let data_start = 8 + header.len();
    match metadata.data_len() {
        need if need > data.len() => Err(truncated("the tensors", (data_start as u64).saturating_add(need as u64))),
        need if need < data.len() => Err(malformed(format!("{} bytes after the last tensor", data.len() - need))),
        _ => Ok((data_start, metadata)),
    }
}
