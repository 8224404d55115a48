//! What a capture is read as, and how its reading ends early.

use super::Stop;

/// How to open a capture.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// What the bytes are.
    pub form: Form,
    /// Ends the reading early.
    pub stop: Stop,
}

/// What the bytes of an input are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// pcap or pcapng.
    #[default]
    Capture,
    /// Lines `time,src,dst,hex`, a packet each; they become frames of [`super::LINKTYPE_RAW`].
    Hex(HexIs),
}

/// What the last field of a line of hex holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HexIs {
    /// The ESP payload; `src` and `dst` are the addresses of the outer header.
    #[default]
    Esp,
    /// The whole IP packet; `src` and `dst` are not looked at.
    Ip,
}
