//! Reads and writes captures: pcap and pcapng, compressed or not, from files and pipes.
//!
//! * pcap (draft-ietf-opsawg-pcap): a 24-byte header with one link type, then records of a 16-byte header and the frame.
//! * pcapng (draft-ietf-opsawg-pcapng): blocks of type, length, body, length. A Section Header Block sets the byte
//!   order of the blocks after it. Interface Description Blocks give the link type and the unit of time. Enhanced
//!   Packet Blocks carry frames and options such as comments.
//!
//! Reading is as lenient as in Wireshark: all packets before a damaged or truncated place are delivered, followed by a
//! warning and the end of the capture. pcap uses the raw calls of `pcap_file`. pcapng blocks are framed here for three
//! reasons. `pcap_file` rejects files that Wireshark reads (block lengths without the padding, options of a wrong
//! length, text that is not UTF-8). It stores times in nanoseconds, although an interface may count 10^-12 s. It writes
//! a block only from a complete body, which costs a copy.
//!
//! A [`Reader`] returns [`Window`]s of whole packets, so that several workers can share it. Each worker turns its
//! packets into a [`Batch`], and the [`Writer`] writes the batches in order.

#[cfg(feature = "cli")]
mod batch;
#[cfg(feature = "cli")]
mod encoder;
mod foreign;
mod frame_numbers;
mod hex_lines;
mod input;
mod live;
mod options;
mod pcap;
mod pcap_variants;
mod pcapng;
#[cfg(feature = "cli")]
mod pcapng_blocks;
mod read;
#[cfg(feature = "cli")]
mod rereadable;
#[cfg(feature = "cli")]
mod sink;
mod source;
mod time;
mod window;
#[cfg(feature = "cli")]
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

#[cfg(feature = "cli")]
pub(crate) use batch::Batch;
pub(crate) use frame_numbers::FrameNumbers;
#[cfg(feature = "cli")]
pub(crate) use input::read_whole;
pub(crate) use live::Stop;
pub use options::Options;
pub use read::Reader;
#[cfg(feature = "cli")]
pub(crate) use rereadable::Rereadable;
#[cfg(feature = "cli")]
pub(crate) use sink::{Sink, is_standard_output, resolve, write_whole};
pub use source::{Form, HexIs, Source};
pub use time::Timestamp;
pub(crate) use time::{NO_TIME, deadline, parse_rfc3339};
pub use window::Window;
#[cfg(feature = "cli")]
pub use write::Writer;

/// LINKTYPE_RAW: the frame is an IPv4 or IPv6 packet.
pub const LINKTYPE_RAW: u16 = 101;

/// The longest frame that Wireshark accepts for most link types (WTAP_MAX_PACKET_SIZE_STANDARD).
const MAX_PACKET_LEN: u32 = 262_144;

/// One captured frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Frame number from 1, as Wireshark counts.
    pub number: u64,
    /// Where it was captured.
    pub interface: &'a Arc<Interface>,
    /// When it was captured; `None` for a Simple Packet Block, which has no time stamp.
    pub time: Option<Timestamp>,
    /// Length of the frame on the wire in bytes; `data` may be shorter.
    pub orig_len: u32,
    /// The captured bytes of the frame, starting with the link-layer header.
    pub data: &'a [u8],
    /// pcapng options of the packet, comments among them.
    pub options: Options<'a>,
}

impl Frame<'_> {
    /// The same packet with other data, which is not truncated.
    pub fn with_data<'b>(&'b self, data: &'b [u8]) -> Frame<'b> {
        Frame { data, orig_len: u32::try_from(data.len()).unwrap_or(u32::MAX), ..*self }
    }

    /// Length of the frame check sequence at the end of the frame, as declared by its flags or its interface.
    pub fn fcs_len(&self) -> u32 {
        match options::fcs_len(self.options) {
            0 => self.interface.fcs_len(),
            len => len,
        }
    }

    /// When it was captured, in nanoseconds since 1970, or [`NO_TIME`].
    #[inline]
    pub fn time_ns(&self) -> i64 {
        self.time.map_or(NO_TIME, |time| time.nanos_i64())
    }

    /// The link type (LINKTYPE_ value of the tcpdump.org registry) that says what `data` starts with.
    pub fn link_type(&self) -> u16 {
        self.interface.link_type
    }
}

/// A captured frame that outlives the window it was read into.
#[derive(Debug, Clone)]
pub(crate) struct OwnedFrame {
    /// As in [`Frame`].
    pub number: u64,
    interface: Arc<Interface>,
    time: Option<Timestamp>,
    orig_len: u32,
    data: Vec<u8>,
    options: options::OwnedOptions,
}

impl OwnedFrame {
    /// Borrows the frame.
    pub(crate) fn as_frame(&self) -> Frame<'_> {
        Frame {
            number: self.number,
            interface: &self.interface,
            time: self.time,
            orig_len: self.orig_len,
            data: &self.data,
            options: self.options.as_options(),
        }
    }
}

impl From<&Frame<'_>> for OwnedFrame {
    fn from(frame: &Frame<'_>) -> Self {
        OwnedFrame {
            number: frame.number,
            interface: Arc::clone(frame.interface),
            time: frame.time,
            orig_len: frame.orig_len,
            data: frame.data.to_vec(),
            options: frame.options.to_owned(),
        }
    }
}

/// The interface of packets: a pcapng Interface Description Block (§4.2), or the same information from a pcap header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Index over the whole input file, over all sections; 0 for an interface that was not read.
    pub index: u32,
    /// LINKTYPE_ value of the tcpdump.org registry.
    pub link_type: u16,
    /// The maximum captured length of a frame in bytes; 0 means no limit.
    pub snap_len: u32,
    /// if_tsresol: the unit of time stamps is 10^-n seconds, or 2^-n with the top bit set.
    pub ts_resolution: u8,
    /// if_tsoffset: seconds to be added to each time stamp.
    pub ts_offset: i64,
    /// All options, little-endian.
    options: Vec<u8>,
    /// The interface for frames whose frame check sequence was removed; `None` if this interface declares none.
    without_fcs: Option<Arc<Interface>>,
}

impl Interface {
    /// An interface for packets that this program makes, with time stamps in nanoseconds. Packets of one interface share
    /// the `Arc`: another call makes another interface in the output.
    pub fn new(link_type: u16) -> Arc<Interface> {
        let mut options = Vec::new();
        options::push(&mut options, options::IF_TSRESOL, &[9]);
        Arc::new(Interface::from_options(0, link_type, 0, options))
    }

    /// All options of the interface: if_name, if_description, ...
    pub fn options(&self) -> Options<'_> {
        Options::new(&self.options, false)
    }

    fn from_options(index: u32, link_type: u16, snap_len: u32, options: Vec<u8>) -> Interface {
        let (mut ts_resolution, mut ts_offset, mut fcs) = (6, 0, 0);
        for (code, value) in Options::new(&options, false).iter() {
            match (code, value) {
                (options::IF_TSRESOL, [resolution, ..]) => ts_resolution = *resolution,
                (options::IF_TSOFFSET, value) => {
                    ts_offset = value.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
                }
                (options::IF_FCSLEN, [len, ..]) => fcs = *len,
                _ => {}
            }
        }
        let without_fcs = (fcs > 0).then(|| {
            let mut rest = Vec::new();
            options::copy_for_frames_without_fcs(&mut rest, Options::new(&options, false));
            Arc::new(Interface::from_options(index, link_type, snap_len, rest))
        });
        Interface { index, link_type, snap_len, ts_resolution, ts_offset, options, without_fcs }
    }

    /// The interface for frames that were captured on this interface and whose frame check sequence was removed. It is
    /// the same for all packets of this interface.
    fn without_fcs(self: &Arc<Self>) -> &Arc<Interface> {
        self.without_fcs.as_ref().unwrap_or(self)
    }

    /// Bytes of the frame check sequence that the interface declares.
    fn fcs_len(&self) -> u32 {
        let declared = self.options().iter().find(|(code, _)| *code == options::IF_FCSLEN);
        // The draft counts bits, but its example is 4, so some programs count bytes.
        match declared {
            Some((_, [bytes @ ..=8, ..])) => u32::from(*bytes),
            Some((_, [bits, ..])) => u32::from(bits / 8),
            _ => 0,
        }
    }

    /// Whether the unit of time stamps is smaller than a microsecond.
    fn finer_than_micros(&self) -> bool {
        // 2^-19 s is 1.9 us, 2^-20 s is 0.95 us.
        match self.ts_resolution {
            power_of_two @ 0x80.. => power_of_two & 0x7f > 19,
            power_of_ten => power_of_ten > 6,
        }
    }

    /// The longest plausible frame; a longer one means that the file is damaged. As in Wireshark, three link types
    /// allow longer frames.
    fn max_packet_len(&self) -> u32 {
        const DBUS: u16 = 231;
        const USBPCAP: u16 = 249;
        const EBHSCR: u16 = 279;
        match self.link_type {
            DBUS | USBPCAP => 128 << 20,
            EBHSCR => 8 << 20,
            _ => MAX_PACKET_LEN,
        }
    }
}
