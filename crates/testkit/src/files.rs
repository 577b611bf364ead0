//! Reading files of folders that somebody else filled.

use std::path::Path;

/// Fails unless `path` is a regular file or a link to one: reading a pipe or a device may never end.
pub fn regular(path: &Path) -> Result<(), String> {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok(()),
        Ok(_) => Err(format!("{}: not a regular file", path.display())),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// The bytes of a regular file.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    regular(path)?;
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
