//! Reads a file as text.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::error::Error;

/// Bytes of the largest file that is read.
const MAX_FILE_LEN: u64 = 256 * 1024 * 1024;

/// A file that was read.
pub(crate) struct FileRead {
    /// Its name in messages.
    pub(crate) path: PathBuf,
    /// Its path without symbolic links; `None` if it is not from the disk.
    pub(super) real_path: Option<PathBuf>,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl FileRead {
    /// Reads files, each of them once; `-` is standard input.
    ///
    /// # Errors
    /// A file cannot be read, or is too large.
    pub(crate) fn open_all(paths: &[PathBuf]) -> Result<Vec<FileRead>, Error> {
        let mut files: Vec<FileRead> = vec![];
        for path in paths {
            let real_path = Some(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone()));
            if files.iter().all(|file| file.real_path != real_path) {
                files.push(FileRead { path: path.clone(), real_path, bytes: read(path)? });
            }
        }
        Ok(files)
    }

    /// A file that messages call `path`.
    pub(crate) fn from_bytes(path: &Path, bytes: &[u8]) -> FileRead {
        FileRead { path: path.to_owned(), real_path: None, bytes: Zeroizing::new(bytes.to_vec()) }
    }
}

/// The bytes of a file, or of standard input for `-`.
///
/// # Errors
/// The file cannot be read, or is too large.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(vec![]);
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        // A growing buffer would leave copies of the keys in memory.
        let len = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_FILE_LEN);
        bytes.reserve_exact(len as usize + 1);
        file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)
    };
    read.map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        let problem = format!("larger than {} MiB", MAX_FILE_LEN >> 20);
        return Err(Error::file(path, problem, "is this a key or rule file? If so, split it"));
    }
    Ok(bytes)
}

/// The text that `bytes` are, without a byte order mark. `path` is for messages.
///
/// # Errors
/// The bytes are not UTF-8.
pub(super) fn text<'t>(path: &Path, bytes: &'t [u8]) -> Result<&'t str, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        Error::line(path, line, "not UTF-8 text", "is this a key or rule file? If so, save it as UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}
