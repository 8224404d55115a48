//! Bytes of a capture from a file or standard input. They are decompressed if the first bytes are those of gzip or
//! zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::hex_lines::HexLines;
use super::live::{Live, Stop};
use super::source::{Form, Source};
use crate::Error;

/// Bytes needed to recognize how a file is compressed.
pub(super) const MAGIC_LEN: usize = 4;
const COMPRESSED_BUFFER_LEN: usize = 64 * 1024;

/// A stream of capture bytes, and the position in the file.
pub(super) struct Input {
    path: PathBuf,
    bytes: Box<dyn Read + Send>,
    compression: Option<&'static str>,
    form: Form,
    counter: Arc<Counter>,
    total_len: Option<u64>,
    stop: Stop,
    problems: Arc<Mutex<Vec<String>>>,
}

/// The result of a read.
pub(super) enum Got {
    /// This many bytes; 0 at the end.
    Bytes(usize),
    /// The compressed stream, of this format, is truncated.
    Truncated(&'static str),
    /// The compressed stream is damaged, as described. No more bytes can be read.
    Damage(String),
}

impl Input {
    pub(super) fn open(path: &Path, source: &Source) -> Result<Input, Error> {
        if let Some(live) = open_live(path, source)? {
            return Input::new(path, Box::new(live), None, source);
        }
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        let len = file.metadata().map_err(Error::io(path, "open"))?.len();
        Input::new(path, Box::new(file), Some(len), source)
    }

    pub(super) fn new(
        path: &Path,
        input: Box<dyn Read + Send>,
        total_len: Option<u64>,
        source: &Source,
    ) -> Result<Input, Error> {
        let counter = Arc::new(Counter::default());
        let mut input = Counted { input, counter: Arc::clone(&counter) };
        let mut magic = Vec::with_capacity(MAGIC_LEN);
        input.by_ref().take(MAGIC_LEN as u64).read_to_end(&mut magic).map_err(Error::io(path, "read"))?;
        let gzip = magic.starts_with(&[0x1f, 0x8b]);
        let zstd = is_zstd(&magic);
        let compressor = if magic.starts_with(&[0xfd, b'7', b'z', b'X']) {
            Some("xz")
        } else if magic.starts_with(b"BZh") {
            Some("bzip2")
        } else if magic == [0x04, 0x22, 0x4d, 0x18] {
            Some("lz4")
        } else {
            None
        };
        if let Some(compressor) = compressor {
            let help = format!("decompress it first: {compressor} -dc FILE | dietesp ... -");
            return Err(Error::file(path, format!("compressed with {compressor}: format not supported"), help));
        }
        let whole = Cursor::new(magic).chain(input);
        let buffered = |whole| BufReader::with_capacity(COMPRESSED_BUFFER_LEN, whole);
        let (bytes, compression): (Box<dyn Read + Send>, _) = if gzip {
            (Box::new(MultiGzDecoder::new(buffered(whole))), Some("gzip"))
        } else if zstd {
            (Box::new(Zstd::new(buffered(whole))), Some("zstd"))
        } else {
            (Box::new(whole), None)
        };
        let problems = Arc::new(Mutex::new(vec![]));
        let bytes = match source.form {
            Form::Capture => bytes,
            Form::Hex(hex_is) => Box::new(HexLines::new(path, bytes, hex_is, Arc::clone(&problems))),
        };
        let stop = source.stop.clone();
        Ok(Input { path: path.to_owned(), bytes, compression, form: source.form, counter, total_len, stop, problems })
    }

    /// Reads once. Errors of the operating system are errors; errors of a decompressor are [`Got::Damage`].
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Got, Error> {
        loop {
            match (self.bytes.read(buffer), self.compression) {
                (Ok(len), _) => return Ok(Got::Bytes(len)),
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                (Err(error), Some(name)) if !self.counter.failed.load(Ordering::Relaxed) => {
                    if ends_early(&error) {
                        return Ok(Got::Truncated(name));
                    }
                    // The text after the colon shows internal structures of the decoder.
                    let error = error.to_string();
                    let error = error.split(": ").next().unwrap_or_default();
                    return Ok(Got::Damage(format!("the {name} data is damaged ({error})")));
                }
                (Err(error), _) => return Err(Error::io(&self.path, "read")(error)),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes read from the file, before decompression.
    pub(super) fn position(&self) -> u64 {
        self.counter.position.load(Ordering::Relaxed)
    }

    /// Whether a stop was requested.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_requested()
    }

    /// What requests a stop.
    pub(super) fn stopper(&self) -> &Stop {
        &self.stop
    }

    /// Whether a read may wait for bytes. Such an input ends soon after a stop.
    pub(super) fn is_live(&self) -> bool {
        self.total_len.is_none()
    }

    /// Returns the warnings about lines of hex since the last call.
    pub(super) fn problems(&self) -> Vec<String> {
        std::mem::take(&mut *self.problems.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Length of the capture, if it is a file that is neither compressed nor made of lines of hex.
    pub(super) fn capture_len(&self) -> Option<u64> {
        self.total_len.filter(|_| self.compression.is_none() && self.form == Form::Capture)
    }

    /// Length of the file, if it is one.
    pub(super) fn total_len(&self) -> Option<u64> {
        self.total_len
    }
}

/// Starts to read an input that is not a regular file and can be read only once: standard input, FIFOs, devices. `None`
/// for a file.
pub(super) fn open_live(path: &Path, source: &Source) -> Result<Option<Live>, Error> {
    let stop = source.stop.clone();
    if path == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(Error::usage(
                "standard input is a terminal, not a capture",
                "give a file, or pipe a capture in: tcpdump -w - | dietesp ...",
            ));
        }
        return Live::new(|| Ok(io::stdin().lock()), stop).map(Some).map_err(Error::io(path, "read"));
    }
    if std::fs::metadata(path).map_err(Error::io(path, "open"))?.is_file() {
        return Ok(None);
    }
    let name = path.to_owned();
    Live::new(|| File::open(name), stop).map(Some).map_err(Error::io(path, "open"))
}

/// Reads a file other than a capture, and decompresses gzip and zstd; `-` is standard input.
///
/// # Errors
/// It cannot be read, or is longer than a GiB.
#[cfg(feature = "cli")]
pub(crate) fn read_whole(path: &Path) -> Result<Vec<u8>, Error> {
    const MAX_LEN: usize = 1 << 30;
    let file: Box<dyn Read + Send> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => Box::new(File::open(path).map_err(Error::io(path, "open"))?),
    };
    let mut input = Input::new(path, file, None, &Source::default())?;
    let (mut bytes, mut buffer) = (vec![], vec![0; COMPRESSED_BUFFER_LEN]);
    loop {
        match input.read(&mut buffer)? {
            Got::Bytes(0) => return Ok(bytes),
            Got::Bytes(len) => bytes.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Got::Truncated(format) => {
                return Err(Error::file(path, format!("the {format} data is truncated"), ""));
            }
            Got::Damage(problem) => return Err(Error::file(path, problem, "")),
        }
        if bytes.len() > MAX_LEN {
            return Err(Error::file(path, "longer than 1 GiB", ""));
        }
    }
}

#[derive(Default)]
struct Counter {
    position: AtomicU64,
    failed: AtomicBool,
}

struct Counted {
    input: Box<dyn Read + Send>,
    counter: Arc<Counter>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = self.input.read(buffer);
        match &result {
            Ok(len) => _ = self.counter.position.fetch_add(*len as u64, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.counter.failed.store(true, Ordering::Relaxed),
        }
        result
    }
}

/// Whether an unexpected end of input is among the causes of a decompressor's error.
fn ends_early(error: &io::Error) -> bool {
    let inner = error.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
    let mut causes = std::iter::successors(inner, |cause| cause.source());
    let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    is_end(error) || causes.any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_end))
}

/// Whether this is a Zstandard frame or a skippable one (RFC 8878 §3.1).
fn is_zstd(magic: &[u8]) -> bool {
    matches!(magic, [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

/// All frames of a Zstandard stream (RFC 8878). The decoder of the crate reads a single frame.
///
/// Until the end of a frame, the decoder holds back as many bytes as the frame's window, so a live stream is delayed.
struct Zstd<R> {
    source: R,
    decoder: FrameDecoder,
    in_frame: bool,
    failure: Option<io::Error>,
}

impl<R: BufRead> Zstd<R> {
    fn new(source: R) -> Zstd<R> {
        Zstd { source, decoder: FrameDecoder::new(), in_frame: false, failure: None }
    }

    /// Starts the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    io::copy(&mut self.source.by_ref().take(u64::from(length)), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
    }

    /// Decodes one block. After a failure, appends an empty last block (RFC 8878 §3.1.1.2) and any checksum, so that
    /// the decoder returns the bytes it holds back.
    fn next_block(&mut self) {
        if let Err(error) = self.decoder.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1)) {
            self.failure = Some(io::Error::other(error));
            let empty_last_block = [1, 0, 0, 0, 0, 0, 0];
            if self.decoder.decode_blocks(&empty_last_block[..], BlockDecodingStrategy::All).is_err() {
                self.in_frame = false;
            }
        }
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.in_frame && self.decoder.can_collect() > 0 {
                return self.decoder.read(buffer);
            }
            if self.in_frame && !self.decoder.is_finished() {
                self.next_block();
                continue;
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.in_frame {
                self.in_frame = false;
                let stored = self.decoder.get_checksum_from_data();
                if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
                    return Err(io::Error::other("checksum mismatch"));
                }
            }
            if !self.next_frame()? {
                return Ok(0);
            }
            self.in_frame = true;
        }
    }
}
