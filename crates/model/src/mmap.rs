//! Files as read-only memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use headwise_core::{Error, Result};
use memmap2::Mmap;

/// A whole file mapped read-only.
///
/// The file must not be changed or cut while it is mapped: the operating system ends a process that reads past the new end.
#[derive(Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be opened or mapped, [`Error::TruncatedFile`] when it is empty.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |error: std::io::Error| Error::Io { path: path.display().to_string(), reason: error.to_string() };
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(Error::Io { path: path.display().to_string(), reason: "not a regular file".into() });
        }
        if metadata.len() == 0 {
            return Err(Error::TruncatedFile {
                path: path.display().to_string(),
                what: "the header".into(),
                need: 1,
                have: 0,
            });
        }
        // SAFETY: the map is read-only and private to this process; that nobody shortens the file meanwhile is the documented
        // condition of use that every reader of mapped weights has.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path: path.to_owned(), map })
    }

    /// The file's contents.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Where it lies, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks the operating system to start reading the whole file; a hint whose failure does not matter.
    pub fn prefetch(&self) {
        #[cfg(unix)]
        let _ = self.map.advise(memmap2::Advice::WillNeed);
    }
}
