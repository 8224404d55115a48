//! Key files and rule files in memory.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files::{self, FileRead, Loaded};

/// Key files: the Security Associations (SAs) of a network with their algorithms and keys.
///
/// The content decides the format of each file: YAML as `docs/` of this project describes it, Wireshark's `esp_sa`, the output
/// of `ip xfrm state`, a charon log of strongSwan with keys, `setkey` files, `ipsecctl`, and secrets of IKE SAs. A file may
/// also hold rules.
///
/// ```
/// use dietesp::Keys;
///
/// let keys = Keys::parse("keys.yaml", b"sas: [{ spi: 7, encr: ENCR_NULL, integ: NONE }]")?;
/// assert!(Keys::parse("keys.yaml", b"sas: [{ spi: 7, encr: ENCR_ROT13 }]").is_err());
/// # Ok::<(), dietesp::Error>(())
/// ```
pub struct Keys(Vec<FileRead>);

/// Rule files: for each SA with Diet-ESP, the context that both ends negotiated. It says which header fields are not sent,
/// and how the receiver restores them.
///
/// Without a rule, an SA is standard ESP (RFC 4303).
///
/// ```
/// use dietesp::Rules;
///
/// let rules = Rules::load(["samples/probe/rules.yaml"])?;
/// # Ok::<(), dietesp::Error>(())
/// ```
#[derive(Default)]
pub struct Rules(Vec<FileRead>);

impl Keys {
    /// Reads key files. `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read. [`Error::File`] with file and line if it cannot be used.
    pub fn load<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Keys, Error> {
        read(paths).map(Keys)
    }

    /// Reads the content of one key file. Messages call it `name`.
    ///
    /// # Errors
    /// [`Error::File`] with `name` and line if it cannot be used.
    pub fn parse(name: &str, content: &[u8]) -> Result<Keys, Error> {
        parsed(name, content).map(Keys)
    }
}

impl Rules {
    /// Reads rule files. `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read. [`Error::File`] with file and line if it cannot be used.
    pub fn load<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Rules, Error> {
        read(paths).map(Rules)
    }

    /// Reads the content of one rule file. Messages call it `name`.
    ///
    /// # Errors
    /// [`Error::File`] with `name` and line if it cannot be used.
    pub fn parse(name: &str, content: &[u8]) -> Result<Rules, Error> {
        parsed(name, content).map(Rules)
    }
}

/// Keys and rules together. A file that was named as both is read once.
pub(super) fn load(keys: &Keys, rules: &Rules) -> Result<Loaded, Error> {
    files::load_read(keys.0.iter().chain(&rules.0))
}

fn read<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Result<Vec<FileRead>, Error> {
    let paths: Vec<PathBuf> = paths.into_iter().map(|path| path.as_ref().to_owned()).collect();
    checked(FileRead::open_all(&paths)?)
}

fn parsed(name: &str, content: &[u8]) -> Result<Vec<FileRead>, Error> {
    checked(vec![FileRead::from_bytes(Path::new(name), content)])
}

/// The files are parsed again together with the others. This finds errors where the files are named.
fn checked(files: Vec<FileRead>) -> Result<Vec<FileRead>, Error> {
    files::load_read(&files).map(|_| files)
}

/// The names of the files, and no keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|file| &file.path)).finish()
    }
}

/// The names of the files: they may hold keys, too.
impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|file| &file.path)).finish()
    }
}
