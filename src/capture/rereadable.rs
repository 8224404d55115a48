//! A capture that is read twice. A file is opened twice. The bytes that the first pass reads from a pipe are kept in an
//! unnamed temporary file, which is deleted at the end of the process.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::input::{Input, open_live};
use super::live::Live;
use super::read::Reader;
use super::source::Source;
use crate::Error;

/// A capture, to be read with [`Rereadable::first_pass`], and then again with [`Rereadable::second_pass`].
pub(crate) struct Rereadable {
    path: PathBuf,
    source: Source,
    pipe: Option<Pipe>,
}

/// The bytes not read yet, and the copy of those already read.
struct Pipe {
    live: Shared,
    kept: File,
}

impl Rereadable {
    /// Opens a capture as [`Reader::open_as`] does.
    ///
    /// # Errors
    /// It cannot be opened, or there is no room for a temporary file.
    pub(crate) fn open(path: &Path, source: &Source) -> Result<Rereadable, Error> {
        let pipe = match open_live(path, source)? {
            Some(live) => {
                let kept = tempfile::tempfile().map_err(no_copy)?;
                Some(Pipe { live: Shared(Arc::new(Mutex::new(live))), kept })
            }
            None => None,
        };
        Ok(Rereadable { path: path.to_owned(), source: source.clone(), pipe })
    }

    /// Whether it is a pipe, which ends early when the source is stopped.
    pub(crate) fn is_pipe(&self) -> bool {
        self.pipe.is_some()
    }

    /// Reads it for the first time. The reader may be dropped anywhere.
    ///
    /// # Errors
    /// As [`Reader::open_as`].
    pub(crate) fn first_pass(&mut self) -> Result<Reader, Error> {
        let Some(Pipe { live, kept }) = &self.pipe else { return Reader::open_as(&self.path, &self.source) };
        let kept = kept.try_clone().map_err(no_copy)?;
        self.live(Keeping { live: live.clone(), kept })
    }

    /// Reads it from its start again.
    ///
    /// # Errors
    /// As [`Reader::open_as`].
    pub(crate) fn second_pass(mut self) -> Result<Reader, Error> {
        let Some(Pipe { live, mut kept }) = self.pipe.take() else {
            return Reader::open_as(&self.path, &self.source);
        };
        kept.rewind().map_err(no_copy)?;
        self.live(kept.chain(live))
    }

    fn live(&self, bytes: impl Read + Send + 'static) -> Result<Reader, Error> {
        Reader::new(Input::new(&self.path, Box::new(bytes), None, &self.source)?, self.source.form)
    }
}

fn no_copy(source: io::Error) -> Error {
    Error::Io { path: std::env::temp_dir(), action: "use a temporary file", source }
}

/// A pipe that two readers use, one after the other.
#[derive(Clone)]
struct Shared(Arc<Mutex<Live>>);

impl Read for Shared {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buffer)
    }
}

/// Copies all bytes it reads.
struct Keeping {
    live: Shared,
    kept: File,
}

impl Read for Keeping {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.live.read(buffer)?;
        self.kept.write_all(buffer.get(..len).unwrap_or_default()).map_err(|error| {
            io::Error::new(error.kind(), format!("no room for a copy in {}: {error}", std::env::temp_dir().display()))
        })?;
        Ok(len)
    }
}
