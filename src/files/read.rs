//! Reads a file as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::Error;

/// Bytes of the largest file that is read.
const MAX_FILE_LEN: u64 = 256 * 1024 * 1024;

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
