//! The form of an input, and how to stop reading it early.

use super::Stop;

/// How to open a capture.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The form of the bytes.
    pub form: Form,
    /// Ends the reading early.
    pub stop: Stop,
}

/// The form of the bytes of an input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// pcap or pcapng.
    #[default]
    Capture,
    /// Lines `time,src,dst,hex`, a packet each; they become frames of [`super::LINKTYPE_RAW`].
    Hex(HexIs),
}

/// The content of the last field of a line of hex.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HexIs {
    /// The ESP payload; `src` and `dst` are the addresses of the outer header.
    #[default]
    Esp,
    /// The whole IP packet; `src` and `dst` are ignored.
    Ip,
}
