//! The parts of an outcome: status, reason, restored ESP header, sizes.

use std::fmt;

use super::hints::Hint;
use crate::capture::Frame;
use crate::error::Fault;
use crate::link;
use crate::net::protocol;

/// The status of a packet, or of a frame without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The packet was restored. Its ICV verified, or its SA has no ICV.
    Ok,
    /// Not an ESP packet: another protocol, or a fragment whose packet is not complete yet.
    NotEsp,
    /// An ESP packet that no SA matches.
    NoSa,
    /// SAs match, but no ICV verified.
    AuthFailed,
    /// The packet is truncated, or its clear text is invalid.
    Malformed,
    /// The packet verified, but uses a feature that this program or this context does not support.
    Unsupported,
}

impl Status {
    /// All values, in the order of the summary.
    pub const ALL: [Status; 6] =
        [Status::Ok, Status::NotEsp, Status::NoSa, Status::AuthFailed, Status::Malformed, Status::Unsupported];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::NotEsp => "not-esp",
            Status::NoSa => "no-sa",
            Status::AuthFailed => "auth-failed",
            Status::Malformed => "malformed",
            Status::Unsupported => "unsupported",
        }
    }
}

/// Why a packet is not `ok`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A step failed: stage, offset, and what is wrong.
    Fault(Fault),
    /// Any other reason, as one sentence.
    Text(&'static str),
    /// This link type is not supported.
    LinkType(u16),
    /// An IP packet of another protocol.
    Protocol(u8),
    /// A UDP datagram that starts like ESP of a known SA, on this port.
    EspPort(u16),
    /// No SA matches the outer addresses and the first bytes of the ESP payload.
    NoSa {
        /// The first four bytes.
        head: u32,
        /// The likely cause.
        hint: Option<Hint>,
    },
    /// No candidate verified.
    NotAuthentic {
        /// Number of SAs that were tried.
        sas: u32,
        /// Number of decryption attempts.
        tries: u64,
        /// The likely cause.
        hint: Option<Hint>,
    },
}

impl Reason {
    /// The likely cause, if there is one.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Reason::NoSa { hint, .. } | Reason::NotAuthentic { hint, .. } => *hint,
            _ => None,
        }
    }

    /// Why a frame has no IP packet.
    pub(crate) fn not_ip(what: &'static str, packet: &Frame<'_>) -> Reason {
        if what == link::UNSUPPORTED { Reason::LinkType(packet.link_type()) } else { Reason::Text(what) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Fault(fault) => fault.fmt(f),
            Reason::Text(text) => f.write_str(text),
            Reason::LinkType(link_type) => match link::link_type_name(*link_type) {
                Some(name) => write!(f, "link type {link_type} ({name}) is not supported"),
                None => write!(f, "link type {link_type} is not supported"),
            },
            Reason::EspPort(port) => {
                write!(
                    f,
                    "UDP port {port}, and the payload starts with the SPI of a known SA: it may be ESP on \
                         a port of its own"
                )
            }
            Reason::Protocol(protocol) => match protocol::name(*protocol) {
                Some(name) => write!(f, "{name}"),
                None => write!(f, "IP protocol {protocol}"),
            },
            Reason::NoSa { head, .. } => {
                write!(f, "no SA matches these addresses and the leading bytes 0x{head:08x}")
            }
            Reason::NotAuthentic { sas: 1, tries: 1, .. } => {
                write!(f, "open at byte 0: the ICV does not verify (1 try)")
            }
            Reason::NotAuthentic { sas, tries, .. } => {
                let s = if *sas == 1 { "" } else { "s" };
                write!(f, "open at byte 0: the ICV does not verify ({tries} tries, {sas} SA{s})")
            }
        }?;
        self.hint().map_or(Ok(()), |hint| hint.fmt(f))
    }
}

/// The restored ESP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Esp {
    /// Security Parameters Index.
    pub spi: u32,
    /// Sequence number; 64 bits with ESN.
    pub sequence: u64,
    /// How it was found.
    pub method: Method,
    /// SPI bits on the wire.
    pub spi_bits: u8,
    /// Sequence Number bits on the wire.
    pub sn_bits: u8,
    /// From the first byte of the ESP payload to the end of the ICV.
    pub wire_bytes: usize,
    /// Whether an ICV verified; false for an SA without integrity check.
    pub verified: bool,
    /// Number of decryption attempts, including the successful one.
    pub tries: u64,
    /// `revision` of the draft that the context follows; only in dialect `ietf`.
    pub revision: Option<u8>,
}

/// `esp.method`: how the sequence number was found (wire format §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// All its bits were sent.
    Wire,
    /// Explicit IV XOR the constant that earlier packets showed.
    IvMask,
    /// Computed from the ICV.
    Icv,
    /// The nearest number to the expected one that agrees with the bits on the wire.
    Nearest,
    /// The wider search of `--resync`.
    Search,
    /// From the capture time, for `esp_sn_gen: time`.
    Time,
}

impl Method {
    /// All.
    pub(crate) const ALL: [Method; 6] =
        [Method::Wire, Method::IvMask, Method::Icv, Method::Nearest, Method::Search, Method::Time];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Method::Wire => "wire",
            Method::IvMask => "iv-mask",
            Method::Icv => "icv",
            Method::Time => "time",
            Method::Nearest => "nearest",
            Method::Search => "search",
        }
    }
}

/// Bytes of an `ok` packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bytes {
    /// From the first byte of the ESP payload to the end of the ICV, as captured.
    pub diet: u64,
    /// What standard ESP with the same cipher would need.
    pub esp: u64,
}

impl Bytes {
    /// Bytes saved; negative if standard ESP would have been smaller.
    pub fn saved(self) -> i64 {
        self.esp as i64 - self.diet as i64
    }
}
