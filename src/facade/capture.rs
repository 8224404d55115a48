//! Captures, and the frames of captures and of hosts.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::capture::{self, Interface, Options, Reader, Timestamp, Window};
use crate::error::Error;

/// A capture file: pcap or pcapng, also compressed with gzip or zstd.
///
/// ```
/// use dietesp::Capture;
///
/// let mut capture = Capture::open("samples/probe/diet-esp.pcapng")?;
/// let mut bytes = 0;
/// while let Some(frame) = capture.next_frame()? {
///     bytes += frame.bytes().len();
/// }
/// assert!(bytes > 0 && capture.warnings().is_empty());
/// # Ok::<(), dietesp::Error>(())
/// ```
pub struct Capture {
    reader: Reader,
    /// `None` if it cannot be read twice.
    path: Option<PathBuf>,
    window: Window,
    /// The position of the next frame in the window.
    next: usize,
}

impl Capture {
    /// Opens a capture. `-` is standard input.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read. [`Error::File`] if it is empty or not a capture.
    pub fn open(path: impl AsRef<Path>) -> Result<Capture, Error> {
        let path = path.as_ref();
        let reader = Reader::open(path)?;
        let path = Some(path.to_owned()).filter(|path| path != Path::new("-"));
        Ok(Capture { reader, path, window: Window::default(), next: 0 })
    }

    /// Reads a capture from `input`. Messages call it `name`.
    ///
    /// # Errors
    /// As [`Capture::open`].
    pub fn read(name: &str, input: impl Read + Send + 'static) -> Result<Capture, Error> {
        let reader = Reader::from_read(Path::new(name), Box::new(input))?;
        Ok(Capture { reader, path: None, window: Window::default(), next: 0 })
    }

    /// The next frame, or `None` at the end. The end of a truncated or damaged capture is the last complete frame, and
    /// [`Capture::warnings`] has the reason.
    ///
    /// # Errors
    /// [`Error::Io`] if the operating system cannot read the file.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, Error> {
        while self.next >= self.window.len() {
            self.next = 0;
            if !self.reader.fill(&mut self.window)? {
                return Ok(None);
            }
        }
        self.next += 1;
        Ok(self.window.get(self.next - 1).map(Frame::captured))
    }

    /// What is wrong with the part of the capture that was read since the last call, one sentence each.
    pub fn warnings(&mut self) -> Vec<String> {
        self.reader.warnings()
    }

    /// The same capture from its start.
    pub(super) fn again(&self) -> Result<Option<Reader>, Error> {
        self.path.as_deref().map(Reader::open).transpose()
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture").field("path", &self.path).finish_non_exhaustive()
    }
}

/// One captured frame: its number, link type and bytes, and optionally time, interface and original length.
///
/// ```
/// use dietesp::Frame;
///
/// const LINKTYPE_ETHERNET: u16 = 1;
/// let bytes = [0u8; 60];
/// let frame = Frame::new(1, LINKTYPE_ETHERNET, &bytes).with_original_length(1514);
/// assert_eq!((frame.number(), frame.bytes().len()), (1, 60));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    number: u64,
    source: Source<'a>,
    time: Option<Timestamp>,
    original_length: Option<u32>,
    bytes: &'a [u8],
}

#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Capture(&'a Arc<Interface>, Options<'a>),
    /// Link type, and number of the interface.
    Host(u16, u32),
}

impl<'a> Frame<'a> {
    /// A frame with the number `number`, counted from 1, that starts with a header of `link_type` (a `LINKTYPE_` value of the
    /// [registry](https://www.tcpdump.org/linktypes.html) of tcpdump.org; 1 is Ethernet, 101 is raw IP).
    pub fn new(number: u64, link_type: u16, bytes: &'a [u8]) -> Frame<'a> {
        Frame { number, source: Source::Host(link_type, 0), time: None, original_length: None, bytes }
    }

    /// With the time of capture. Without it, fragments never expire, and sequence numbers that follow the clock are
    /// searched like all others.
    #[must_use]
    pub fn with_time(self, time: SystemTime) -> Frame<'a> {
        Frame { time: timestamp(time), ..self }
    }

    /// With the number of the interface that captured it, from 0. Interfaces have separate Bluetooth connections.
    #[must_use]
    pub fn with_interface(self, number: u32) -> Frame<'a> {
        Frame { source: Source::Host(self.link_type(), number), ..self }
    }

    /// Sets the number of bytes that the frame had on the wire, if the capture contains fewer. Without it, such a
    /// frame looks damaged.
    #[must_use]
    pub fn with_original_length(self, bytes: u32) -> Frame<'a> {
        Frame { original_length: Some(bytes), ..self }
    }

    /// Its number, counted from 1 as in Wireshark.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The `LINKTYPE_` value for the first header in its bytes.
    pub fn link_type(&self) -> u16 {
        match self.source {
            Source::Capture(interface, _) => interface.link_type,
            Source::Host(link_type, _) => link_type,
        }
    }

    /// The time of capture.
    pub fn time(&self) -> Option<SystemTime> {
        self.time.and_then(system_time)
    }

    /// Its length on the wire in bytes.
    pub fn original_length(&self) -> u32 {
        self.original_length.unwrap_or_else(|| u32::try_from(self.bytes.len()).unwrap_or(u32::MAX))
    }

    /// Its bytes, starting with the link-layer header.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    fn captured(frame: capture::Frame<'a>) -> Frame<'a> {
        Frame {
            number: frame.number,
            source: Source::Capture(frame.interface, frame.options),
            time: frame.time,
            original_length: Some(frame.orig_len),
            bytes: frame.data,
        }
    }
}

/// The interfaces of frames that a host made.
#[derive(Debug, Default)]
pub(super) struct Interfaces(HashMap<(u16, u32), Arc<Interface>>);

impl Interfaces {
    /// Most interfaces that are kept. A host has only a few.
    const MOST: usize = 1024;

    /// The frame in the form that the decoder uses.
    pub(super) fn frame<'f>(&'f mut self, frame: &Frame<'f>) -> capture::Frame<'f> {
        let (interface, options) = match frame.source {
            Source::Capture(interface, options) => (interface, options),
            Source::Host(link_type, index) => (self.interface(link_type, index), Options::default()),
        };
        let Frame { number, time, bytes, .. } = *frame;
        capture::Frame { number, interface, time, orig_len: frame.original_length(), data: bytes, options }
    }

    fn interface(&mut self, link_type: u16, index: u32) -> &Arc<Interface> {
        let key = (link_type, index);
        if self.0.len() >= Self::MOST && !self.0.contains_key(&key) {
            self.0.clear();
        }
        self.0.entry(key).or_insert_with(|| {
            let mut interface = Arc::unwrap_or_clone(Interface::new(link_type));
            interface.index = index;
            Arc::new(interface)
        })
    }
}

/// `None` for times that are not near any capture.
fn timestamp(time: SystemTime) -> Option<Timestamp> {
    let (seconds, nanos) = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => (i64::try_from(after.as_secs()).ok()?, after.subsec_nanos()),
        Err(before) => {
            let before = before.duration();
            let seconds = i64::try_from(before.as_secs()).ok()?;
            match before.subsec_nanos() {
                0 => (-seconds, 0),
                nanos => (-seconds - 1, 1_000_000_000 - nanos),
            }
        }
    };
    Some(Timestamp::new(seconds, nanos))
}

/// `None` if the operating system cannot represent the time.
pub(super) fn system_time(time: Timestamp) -> Option<SystemTime> {
    let (seconds, nanos) = time.seconds_and_nanos();
    let whole = match u64::try_from(seconds) {
        Ok(after) => UNIX_EPOCH.checked_add(Duration::from_secs(after)),
        Err(_) => UNIX_EPOCH.checked_sub(Duration::from_secs(seconds.unsigned_abs())),
    };
    whole?.checked_add(Duration::from_nanos(nanos.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_come_back() {
        for (seconds, nanos) in [(0, 0), (0, 1), (1_800_000_000, 999_999_999), (-1, 0), (-1, 1), (-1, 999_999_999)] {
            let time = Timestamp::new(seconds, nanos);
            let through = timestamp(system_time(time).unwrap()).unwrap();
            assert_eq!(through.seconds_and_nanos(), (seconds, nanos));
        }
        for offset in [i64::MIN, i64::MAX] {
            // The operating system may not be able to represent the time.
            if let Some(time) = system_time(Timestamp { ticks: 0, resolution: 0, offset }) {
                assert!(timestamp(time).is_none_or(|time| time.seconds_and_nanos().0 == offset));
            }
        }
    }
}
