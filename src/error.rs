//! Two kinds of errors: an [`Error`] ends the run, a [`Fault`] ends only one packet.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The run cannot start or continue. `main` prints what happened, then what to do, and exits with status 2.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or stream could not be opened, read or written.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file, or `-` for a standard stream.
        path: PathBuf,
        /// The action that failed: `open`, `read`, `write`, ...
        action: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A capture, key or rule file has content that cannot be used.
    #[error("{}{}: {problem}", path.display(), Place(*line, *column))]
    File {
        /// The file, or `-` for standard input.
        path: PathBuf,
        /// Line, from 1.
        line: Option<u64>,
        /// Column, from 1.
        column: Option<u64>,
        /// What is wrong, naming the YAML key but never the value of a secret.
        problem: String,
        /// What to do about it; may be empty.
        help: String,
        #[doc(hidden)]
        remedy: Option<Remedy>,
    },
    /// `compress` was told to stop at a packet that its context does not match.
    #[error("frame {frame}: {problem}")]
    Mismatch {
        /// The frame.
        frame: u64,
        /// The field and its value.
        problem: String,
    },
    /// The command-line arguments contradict each other.
    #[error("{problem}")]
    Usage {
        /// What is wrong.
        problem: String,
        /// What to do about it; may be empty.
        help: String,
        #[doc(hidden)]
        remedy: Option<Remedy>,
    },
}

/// What helps against an error where the command line has an option for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Contexts, for `compress`.
    Contexts,
    /// For a plain fragment that the context does not match: a context of tunnel mode, or to skip the fragment.
    TunnelContext,
    /// For a packet that the context does not match: an SA for standard ESP, or to skip the packet.
    StandardSa,
    /// Keys that the input does not use.
    OtherKeys,
    /// Lines of hex digits in the right form.
    HexLines,
    /// For text that is not a capture: to read it as another kind of file.
    TextFile,
}

impl Remedy {
    /// What to do, for users of the library.
    fn help(self) -> &'static str {
        match self {
            Remedy::Contexts => "load a rule file with `contexts`",
            Remedy::TunnelContext => "skip the fragments, or use a context of tunnel mode for them",
            Remedy::StandardSa => "add one to the key file, or skip such packets",
            Remedy::OtherKeys => "encrypt the output with keys that the input does not use",
            Remedy::HexLines => "each line has the form `time,src,dst,hex`",
            Remedy::TextFile => {
                "it is text: is it a key or rule file? A capture is a pcap or pcapng file, which may be compressed (.gz, .zst)"
            }
        }
    }
}

/// What to do about an error.
#[derive(Debug)]
pub(crate) struct Help {
    text: String,
    remedy: Option<Remedy>,
}

impl<T: Into<String>> From<T> for Help {
    fn from(text: T) -> Help {
        Help { text: text.into(), remedy: None }
    }
}

impl From<Remedy> for Help {
    fn from(remedy: Remedy) -> Help {
        Help { text: remedy.help().to_owned(), remedy: Some(remedy) }
    }
}

struct Place(Option<u64>, Option<u64>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (Some(line), Some(column)) => write!(f, ":{line}:{column}"),
            (Some(line), None) => write!(f, ":{line}"),
            _ => Ok(()),
        }
    }
}

impl Error {
    /// Makes an [`Error::Io`] for `path`, to be used with `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { path, action, source }
    }

    /// Makes an [`Error::File`] about the whole file.
    pub(crate) fn file(path: &Path, problem: impl Into<String>, help: impl Into<Help>) -> Error {
        let Help { text: help, remedy } = help.into();
        Error::File { path: path.to_owned(), line: None, column: None, problem: problem.into(), help, remedy }
    }

    /// Makes an [`Error::File`] about one line.
    pub(crate) fn line(path: &Path, line: u64, problem: impl Into<String>, help: impl Into<Help>) -> Error {
        let Help { text: help, remedy } = help.into();
        Error::File { path: path.to_owned(), line: Some(line), column: None, problem: problem.into(), help, remedy }
    }

    /// Makes an [`Error::Usage`].
    pub(crate) fn usage(problem: impl Into<String>, help: impl Into<Help>) -> Error {
        let Help { text: help, remedy } = help.into();
        Error::Usage { problem: problem.into(), help, remedy }
    }

    /// What the user can do about it; may be empty.
    pub fn help(&self) -> &str {
        match self {
            Error::Io { action, source, .. } => io_help(action, source.kind()),
            Error::Mismatch { .. } => "nothing was written",
            Error::File { help, .. } | Error::Usage { help, .. } => help,
        }
    }

    /// What helps, if the command line has an option for it.
    #[cfg(feature = "cli")]
    pub(crate) fn remedy(&self) -> Option<Remedy> {
        match self {
            Error::File { remedy, .. } | Error::Usage { remedy, .. } => *remedy,
            Error::Io { .. } | Error::Mismatch { .. } => None,
        }
    }

    /// Whether the program that reads our output has exited. This is not a failure.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn io_help(action: &str, kind: io::ErrorKind) -> &'static str {
    use io::ErrorKind::{IsADirectory, NotFound, PermissionDenied, StorageFull};
    match (action, kind) {
        ("open" | "read", NotFound) => "check the name and the folder",
        ("open" | "read", IsADirectory) => "name a file in it",
        ("open" | "read", PermissionDenied) => "run as a user who may read it, or copy it",
        (_, NotFound) => "create its folder first, or choose another one",
        (_, IsADirectory) => "name a file in it",
        (_, PermissionDenied) => "choose a folder and a file that you may write to",
        (_, StorageFull) => "free some space, or write to another disk",
        _ => "",
    }
}

/// The step at which a packet failed, in processing order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Link layer, IP header, UDP encapsulation, reassembly.
    Link,
    /// ESP header compression (EEC), RFC 4303 SPI and Sequence Number, IV, ICV lengths.
    EspHeader,
    /// Decryption and integrity check.
    Open,
    /// ESP trailer (CTEC): Padding, Pad Length, Next Header.
    Trailer,
    /// Inner packet (IIPC): inner IP and transport headers.
    Inner,
}

impl Stage {
    /// The name shown to users.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Link => "link",
            Stage::EspHeader => "esp header",
            Stage::Open => "open",
            Stage::Trailer => "esp trailer",
            Stage::Inner => "inner packet",
        }
    }
}

/// Why one packet failed: the step, the place in the packet, and what is wrong there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// The step.
    pub stage: Stage,
    /// Offset in bytes from the start of what the step reads: the frame ([`Stage::Link`]), the ESP payload
    /// ([`Stage::EspHeader`], [`Stage::Open`]) or the clear text ([`Stage::Trailer`], [`Stage::Inner`]).
    pub offset: usize,
    /// What is wrong at this place.
    pub kind: FaultKind,
}

/// What is wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// The structure or field `what` is truncated.
    Short {
        /// The structure or field.
        what: &'static str,
        /// Bytes that it needs.
        needs: usize,
        /// Bytes that are left.
        has: usize,
    },
    /// The field `what` has an invalid value.
    Value {
        /// The field.
        what: &'static str,
        /// The value found.
        got: u64,
        /// Which values are valid, in words.
        expected: &'static str,
    },
    /// The packet uses a feature that this program or this context does not support.
    Unsupported(&'static str),
}

impl Fault {
    /// Makes a [`FaultKind::Short`].
    pub(crate) fn short(stage: Stage, offset: usize, what: &'static str, needs: usize, has: usize) -> Fault {
        Fault { stage, offset, kind: FaultKind::Short { what, needs, has } }
    }

    /// Makes a [`FaultKind::Value`].
    pub(crate) fn value(stage: Stage, offset: usize, what: &'static str, got: u64, expected: &'static str) -> Fault {
        Fault { stage, offset, kind: FaultKind::Value { what, got, expected } }
    }

    /// Makes a [`FaultKind::Unsupported`].
    pub(crate) fn unsupported(stage: Stage, offset: usize, what: &'static str) -> Fault {
        Fault { stage, offset, kind: FaultKind::Unsupported(what) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { stage, offset, kind } = self;
        write!(f, "{} at byte {offset}: ", stage.name())?;
        match kind {
            FaultKind::Short { what, needs, has } => write!(f, "{what} needs {needs} bytes, {has} left"),
            FaultKind::Value { what, got, expected } => write!(f, "{what} is {got}, expected {expected}"),
            FaultKind::Unsupported(what) => write!(f, "{what}"),
        }
    }
}
