//! Reads the packets of a capture in windows.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::foreign::{Foreign, HELP};
use super::frame_numbers::FrameNumbers;
use super::input::{Got, Input, MAGIC_LEN};
use super::live::Stop;
use super::pcap::{Flavour, Header};
use super::source::{Form, Source};
use super::window::{READ_LEN, Record, Window};
use super::{Interface, pcapng};
use crate::error::{Error, Remedy};

/// Reads a capture packet by packet, from a file or a live pipe. Workers take turns: each locks it, fills its
/// window, and unlocks it.
pub struct Reader {
    input: Input,
    format: Format,
    section: Section,
    /// Bytes that were read but not used yet: the start of a packet.
    carry: Vec<u8>,
    /// Number of the last frame.
    number: u64,
    warnings: Vec<String>,
    done: bool,
    /// The capture is truncated or damaged: more packets may have followed.
    incomplete: bool,
    /// Frames to return; all if `None`.
    frames: Option<FrameNumbers>,
}

impl Reader {
    /// Opens a capture; `-` is standard input. gzip and zstd are recognized by their first bytes, not by the name.
    ///
    /// # Errors
    /// The file cannot be opened or read, is empty, or is not a capture.
    pub fn open(path: &Path) -> Result<Reader, Error> {
        Reader::open_as(path, &Source::default())
    }

    /// Opens an input in the form that `source` names. It is read until `source` stops it.
    ///
    /// # Errors
    /// As [`Reader::open`], or it was stopped before the first packet.
    pub fn open_as(path: &Path, source: &Source) -> Result<Reader, Error> {
        Reader::new(Input::open(path, source)?, source.form)
    }

    /// Reads a capture from `input`. Messages call it `path`.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_read(path: &Path, input: Box<dyn Read + Send>) -> Result<Reader, Error> {
        Reader::from_read_as(path, input, &Source::default())
    }

    /// Like [`Reader::from_read`], for an input in the form that `source` names.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_read_as(path: &Path, input: Box<dyn Read + Send>, source: &Source) -> Result<Reader, Error> {
        Reader::new(Input::new(path, input, None, source)?, source.form)
    }

    /// Starts to read an input that was opened.
    pub(super) fn new(mut input: Input, form: Form) -> Result<Reader, Error> {
        let mut window = Window::default();
        let mut section = Section::default();
        let path = input.path().to_owned();
        loop {
            let content = window.content(0);
            match Format::detect(&mut section, content) {
                Detected::Format { format, len } => {
                    let carry = content.get(len..).unwrap_or_default().to_vec();
                    return Ok(Reader {
                        input,
                        format,
                        section,
                        carry,
                        number: 0,
                        warnings: Vec::new(),
                        done: false,
                        incomplete: false,
                        frames: None,
                    });
                }
                Detected::Problem(problem) => return Err(Error::file(&path, problem, HELP)),
                // The first read only returns the bytes that identify the compression.
                Detected::Other if content.len() > MAGIC_LEN => {
                    let (problem, help) = Foreign::of(content).problem_and_help(&path);
                    return Err(Error::file(&path, problem, help));
                }
                Detected::Other => {}
                Detected::More => {}
            }
            let got = input.read(window.spare())?;
            if input.is_stopped() && !matches!(got, Got::Bytes(1..)) {
                return Err(Error::file(&path, "stopped before a capture was read; nothing was written", ""));
            }
            match got {
                Got::Bytes(0) if form != Form::Capture => {
                    let problem = match input.problems().into_iter().next() {
                        Some(problem) => format!("no usable line; the first problem: {problem}"),
                        None => "no line with a packet".to_owned(),
                    };
                    return Err(Error::file(&path, problem, Remedy::HexLines));
                }
                Got::Bytes(0) if window.content(0).is_empty() => {
                    return Err(Error::file(&path, "the file is empty", HELP));
                }
                Got::Bytes(0) => return Err(Error::file(&path, "too short to be a capture", HELP)),
                Got::Truncated(format) => {
                    let problem = format!("truncated: the {format} data ends before the first packet");
                    return Err(Error::file(&path, problem, HELP));
                }
                Got::Damage(problem) => return Err(Error::file(&path, problem, "")),
                Got::Bytes(len) => window.filled(len),
            }
        }
    }

    /// Replaces the content of `window` with the next packets: those of one read (about 128 KiB), but at least one,
    /// so that a live pipe shows each packet at once. Returns false at the end, with an empty window. If the
    /// capture ends early, a warning gives the reason.
    ///
    /// # Errors
    /// The operating system cannot read the file.
    pub fn fill(&mut self, window: &mut Window) -> Result<bool, Error> {
        window.restart(&self.carry);
        self.carry.clear();
        self.section.forget_window();
        let mut used = 0;
        while !self.done {
            if self.input.is_stopped() && !self.input.is_live() {
                self.stop();
                break;
            }
            let damage = self.parse(window, &mut used);
            if let Some(frames) = &self.frames {
                window.keep(frames);
            }
            if !window.is_empty() {
                // The next call finds the damage after valid packets again, as its first content.
                self.carry.extend_from_slice(window.content(used));
                return Ok(true);
            }
            if let Some(problem) = damage {
                self.end("damaged", &problem);
                break;
            }
            window.discard(used);
            used = 0;
            match self.input.read(window.spare())? {
                Got::Bytes(0) | Got::Truncated(_) | Got::Damage(_) if self.input.is_stopped() => self.stop(),
                Got::Bytes(0) if window.content(0).is_empty() => self.done = true,
                Got::Bytes(0) => self.end("file truncated", ""),
                Got::Truncated(format) => self.end("file truncated", &format!("its {format} data is truncated")),
                Got::Damage(problem) => self.end("damaged", &problem),
                Got::Bytes(len) => window.filled(len),
            }
        }
        Ok(false)
    }

    /// Takes all packets of the content from `used` on. Returns what is wrong after them, if anything is.
    fn parse(&mut self, window: &mut Window, used: &mut usize) -> Option<String> {
        loop {
            let (len, found) = match self.format.step(&mut self.section, window.content(*used)) {
                Step::Next { len, found } => (len, found),
                Step::More => return None,
                Step::Damage(problem) => return Some(problem),
            };
            match found {
                Found::Packet(record) => {
                    self.number += 1;
                    let interface = self.section.index_in_window(record.interface, window);
                    window.push(Record {
                        number: self.number,
                        interface,
                        data: record.data + *used as u32,
                        options: record.options + *used as u32,
                        ..record
                    });
                }
                Found::OtherFrame => self.number += 1,
                Found::Nothing => {}
            }
            *used += len;
        }
    }

    fn stop(&mut self) {
        self.done = true;
        if self.input.stopper().is_at_once() {
            return;
        }
        self.warnings.push(format!("stopped after frame {}; the packets read so far are complete", self.number));
    }

    fn end(&mut self, what: &str, problem: &str) {
        (self.done, self.incomplete) = (true, true);
        let place = match self.number {
            0 => "before the first frame".to_owned(),
            number => format!("after frame {number}"),
        };
        let colon = if problem.is_empty() { "" } else { ": " };
        self.warnings.push(format!("{}: {what} {place}{colon}{problem}", self.input.path().display()));
    }

    /// Whether the capture is truncated or damaged. A [`Stop`](super::Stop) does not count.
    pub fn is_incomplete(&self) -> bool {
        self.incomplete
    }

    /// Takes the warnings since the last call, one line each.
    pub fn warnings(&mut self) -> Vec<String> {
        let mut warnings = self.input.problems();
        warnings.append(&mut self.warnings);
        warnings
    }

    /// The interfaces described so far in the current section.
    pub fn interfaces(&self) -> impl ExactSizeIterator<Item = &Arc<Interface>> {
        self.section.interfaces.iter().map(|slot| &slot.interface)
    }

    /// From now on, returns only these frames, as if no others had been captured.
    pub(crate) fn only(&mut self, frames: FrameNumbers) {
        self.frames = Some(frames);
    }

    /// Ends the reading from another thread.
    pub(crate) fn stopper(&self) -> Stop {
        self.input.stopper().clone()
    }

    /// Bytes read so far. For a compressed file, these are compressed bytes.
    pub fn bytes_read(&self) -> u64 {
        self.input.position()
    }

    /// Length of the file, compressed or not; `None` for a pipe.
    pub fn total_len(&self) -> Option<u64> {
        self.input.total_len()
    }

    /// Whether the whole capture is known to fit into one window.
    pub(crate) fn fits_window(&self) -> bool {
        self.input.capture_len().is_some_and(|len| len <= READ_LEN as u64)
    }
}

/// What a range of bytes starts with.
pub(super) enum Step {
    /// A complete structure of `len` bytes.
    Next { len: usize, found: Found },
    /// The start of a structure, of which more bytes are needed.
    More,
    /// Damage: the start of the next structure is not known.
    Damage(String),
}

/// A structure in a capture.
pub(super) enum Found {
    /// A packet. Its offsets count from the start of the bytes, and its interface number is that of its section.
    Packet(Record),
    /// Not a captured frame, but Wireshark counts it as one.
    OtherFrame,
    Nothing,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Pcap(Flavour),
    Pcapng,
}

/// Whether `bytes` starts like a capture.
enum Detected {
    /// Yes, with a header of `len` bytes.
    Format { format: Format, len: usize },
    /// Not enough bytes to decide.
    More,
    /// No.
    Other,
    /// It does, but it cannot be read for this reason.
    Problem(String),
}

impl Format {
    fn detect(section: &mut Section, bytes: &[u8]) -> Detected {
        let Some(magic) = bytes.first_chunk::<4>() else {
            return Detected::More;
        };
        if u32::from_le_bytes(*magic) == pcapng::SECTION_HEADER_BLOCK {
            return match pcapng::block(section, bytes) {
                Step::Next { len, .. } => Detected::Format { format: Format::Pcapng, len },
                Step::More => Detected::More,
                Step::Damage(problem) => Detected::Problem(problem),
            };
        }
        match Header::of(bytes) {
            Header::Pcap { flavour, interface, len } => {
                section.push(Arc::new(interface));
                Detected::Format { format: Format::Pcap(flavour), len }
            }
            Header::More => Detected::More,
            Header::Other => Detected::Other,
            Header::Problem(problem) => Detected::Problem(problem),
        }
    }

    #[inline]
    fn step(self, section: &mut Section, bytes: &[u8]) -> Step {
        match self {
            Format::Pcap(flavour) => flavour.record(section, bytes),
            Format::Pcapng => pcapng::block(section, bytes),
        }
    }
}

/// Settings for the following packets: those of a pcapng section, or of a whole pcap file.
#[derive(Debug, Default)]
pub(super) struct Section {
    pub(super) big_endian: bool,
    interfaces: Vec<Slot>,
    /// Number of interfaces in earlier sections.
    earlier: u32,
    /// Number of the current window, from 1.
    window: u64,
}

#[derive(Debug)]
struct Slot {
    interface: Arc<Interface>,
    /// The last window that used this interface, and its index there.
    window: u64,
    index: u32,
}

impl Section {
    /// Starts a new section, without interfaces.
    pub(super) fn restart(&mut self, big_endian: bool) {
        self.big_endian = big_endian;
        self.earlier = self.next_index();
        self.interfaces.clear();
    }

    pub(super) fn interface_count(&self) -> usize {
        self.interfaces.len()
    }

    /// The interface that this section calls `id`.
    #[inline]
    pub(super) fn interface(&self, id: u32) -> Option<&Interface> {
        self.interfaces.get(id as usize).map(|slot| &*slot.interface)
    }

    /// Index of the next interface, over the whole file.
    pub(super) fn next_index(&self) -> u32 {
        self.earlier.saturating_add(self.interfaces.len() as u32)
    }

    pub(super) fn push(&mut self, interface: Arc<Interface>) {
        self.interfaces.push(Slot { interface, window: 0, index: 0 });
    }

    fn forget_window(&mut self) {
        self.window += 1;
    }

    /// Index in `window` of the interface that this section calls `id`. It must exist.
    #[inline]
    fn index_in_window(&mut self, id: u32, window: &mut Window) -> u32 {
        let Some(slot) = self.interfaces.get_mut(id as usize) else {
            return u32::MAX;
        };
        if slot.window != self.window {
            slot.window = self.window;
            slot.index = window.push_interface(&slot.interface);
        }
        slot.index
    }
}
