//! Results of a codec in addition to the packet: the sources of restored fields, warnings, and why a packet does
//! not match.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::net::UpperLayer;
use crate::schc::FieldMismatch;
use crate::schc::fields::FieldId;

/// The result of [`super::Codec::restore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// The kind of packet.
    pub form: Form,
    /// The Next Header of RFC 4303 §2.6, as sent or as agreed: 4, 41, 59, or the upper-layer protocol.
    pub next_header: u8,
    /// Offset in the packet of the payload data of standard ESP: 0 in tunnel mode, the segment in transport mode.
    pub payload_offset: usize,
    /// The sources of restored fields, but only of fields that may differ from the original.
    pub sources: Provenance,
    /// Unusual properties of the clear text.
    pub warnings: Warnings,
    /// Bytes that hide the length of the packet and that standard ESP would send, too: TFC padding (RFC 4303 §2.7),
    /// the content of a dummy packet, and Padding beyond the alignment.
    pub length_hiding: u32,
    /// The upper layer of the packet; `None` for a dummy.
    pub upper: Option<UpperLayer>,
}

/// What a clear text contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An inner IP packet.
    Tunnel,
    /// A segment, placed after the outer header.
    Transport,
    /// A dummy packet: Next Header 59 (RFC 4303 §2.6).
    Dummy,
}

/// The source of a restored field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The outer IP header.
    OuterHeader,
    /// A hash of the packet, or 0.
    Generated,
    /// Computed from the packet.
    Computed,
    /// The length of the segment.
    Length,
    /// The target value of a rule (RFC 8724 §7.1), whatever value the field had.
    TargetValue,
}

impl Source {
    /// The name used in records.
    pub fn name(self) -> &'static str {
        match self {
            Source::OuterHeader => "outer",
            Source::Generated => "generated",
            Source::Computed => "computed",
            Source::Length => "length",
            Source::TargetValue => "target-value",
        }
    }
}

/// A field whose source [`Provenance`] records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restorable {
    /// `dscp`.
    Dscp,
    /// `ecn`.
    Ecn,
    /// `flow_label`.
    FlowLabel,
    /// `identification`.
    Identification,
    /// `hop_limit`.
    HopLimit,
    /// `ttl`.
    Ttl,
    /// `header_checksum`.
    HeaderChecksum,
    /// `src`.
    Src,
    /// `dst`.
    Dst,
    /// `src_port`.
    SrcPort,
    /// `dst_port`.
    DstPort,
    /// `udp.length`.
    UdpLength,
    /// `udp.checksum`.
    UdpChecksum,
    /// `udplite.coverage`.
    UdpLiteCoverage,
    /// `udplite.checksum`.
    UdpLiteChecksum,
    /// `tcp.sequence`.
    TcpSequence,
    /// `tcp.acknowledgment`.
    TcpAcknowledgment,
    /// `tcp.flags`, with the Data Offset.
    TcpFlags,
    /// `tcp.window`.
    TcpWindow,
    /// `tcp.checksum`.
    TcpChecksum,
    /// `tcp.urgent_pointer`.
    TcpUrgentPointer,
    /// `sctp.verification_tag`.
    SctpVerificationTag,
    /// `sctp.checksum`.
    SctpChecksum,
}

impl Restorable {
    /// The [`Restorable`] fields of a header field. A Traffic Class has two; fields that are always restored
    /// exactly have none.
    pub(crate) fn of(field: FieldId) -> impl Iterator<Item = Restorable> {
        let is_named = move |name: &str| match field.key {
            "traffic_class" => matches!(name, "dscp" | "ecn"),
            key => name == key,
        };
        RESTORABLE.iter().filter(move |(name, _)| is_named(name)).map(|(_, restorable)| *restorable)
    }
}

const RESTORABLE: [(&str, Restorable); 23] = [
    ("dscp", Restorable::Dscp),
    ("ecn", Restorable::Ecn),
    ("flow_label", Restorable::FlowLabel),
    ("identification", Restorable::Identification),
    ("hop_limit", Restorable::HopLimit),
    ("ttl", Restorable::Ttl),
    ("header_checksum", Restorable::HeaderChecksum),
    ("src", Restorable::Src),
    ("dst", Restorable::Dst),
    ("src_port", Restorable::SrcPort),
    ("dst_port", Restorable::DstPort),
    ("udp.length", Restorable::UdpLength),
    ("udp.checksum", Restorable::UdpChecksum),
    ("udplite.coverage", Restorable::UdpLiteCoverage),
    ("udplite.checksum", Restorable::UdpLiteChecksum),
    ("tcp.sequence", Restorable::TcpSequence),
    ("tcp.acknowledgment", Restorable::TcpAcknowledgment),
    ("tcp.flags", Restorable::TcpFlags),
    ("tcp.window", Restorable::TcpWindow),
    ("tcp.checksum", Restorable::TcpChecksum),
    ("tcp.urgent_pointer", Restorable::TcpUrgentPointer),
    ("sctp.verification_tag", Restorable::SctpVerificationTag),
    ("sctp.checksum", Restorable::SctpChecksum),
];

/// The sources of the fields. Each [`Restorable`] has one bit in each word. Its bits together are 0 or the number
/// of a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Provenance([u32; 3]);

impl Provenance {
    pub(crate) const ALL: [Source; 5] =
        [Source::OuterHeader, Source::Generated, Source::Computed, Source::Length, Source::TargetValue];

    /// Records that `field` came from `source`, replacing an earlier source.
    pub fn set(&mut self, field: Restorable, source: Source) {
        let number = source as u32 + 1;
        for (bit, word) in self.0.iter_mut().enumerate() {
            *word = *word & !(1 << field as u32) | (number >> bit & 1) << field as u32;
        }
    }

    /// The source of a field, if it has one.
    #[inline]
    pub fn of(self, field: Restorable) -> Option<Source> {
        let [low, middle, high] = self.0;
        if (low | middle | high) >> field as u32 & 1 == 0 {
            return None;
        }
        let [low, middle, high] = self.0.map(|word| word >> field as u32 & 1);
        let number = high << 2 | middle << 1 | low;
        Provenance::ALL.get((number as usize).checked_sub(1)?).copied()
    }

    /// Merges two sets without common fields.
    pub fn and(self, other: Provenance) -> Provenance {
        let ([a, b, c], [d, e, f]) = (self.0, other.0);
        Provenance([a | d, b | e, c | f])
    }

    /// The names of the fields in records (`dscp`, ...) with their sources, in the order of the records.
    pub fn iter(self) -> impl Iterator<Item = (&'static str, Source)> {
        RESTORABLE.iter().filter_map(move |(name, field)| Some((*name, self.of(*field)?)))
    }
}

/// Unusual properties of a clear text that could be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Warnings(u8);

impl Warnings {
    /// Padding bytes that are not 1, 2, 3, ... (RFC 4303 §2.4).
    pub const PADDING: Warnings = Warnings(1);
    /// An address or port outside the traffic selectors.
    pub const OUTSIDE_SELECTOR: Warnings = Warnings(2);
    /// Padding bits after the residue that are not 0.
    pub const NONZERO_PAD_BITS: Warnings = Warnings(4);
    /// A dummy packet.
    pub const DUMMY: Warnings = Warnings(8);

    const NAMES: [(Warnings, &str); 4] = [
        (Warnings::PADDING, "padding"),
        (Warnings::OUTSIDE_SELECTOR, "outside-selector"),
        (Warnings::NONZERO_PAD_BITS, "nonzero-pad-bits"),
        (Warnings::DUMMY, "dummy"),
    ];

    /// Adds the flags of `other` if `condition` holds.
    pub fn add_if(&mut self, condition: bool, other: Warnings) {
        if condition {
            self.0 |= other.0;
        }
    }

    /// Whether all flags of `other` are set.
    pub fn contains(self, other: Warnings) -> bool {
        self.0 & other.0 == other.0
    }

    /// The names used in records.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Warnings::NAMES.into_iter().filter(move |(warning, _)| self.contains(*warning)).map(|(_, name)| name)
    }
}

/// Why a packet cannot be compressed: the field that does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mismatch {
    /// The field as named in records: `version`, `dst_port`, `udp.length`, ...
    pub field: &'static str,
    /// Why it does not match.
    pub reason: MismatchReason,
}

/// Why a field does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MismatchReason {
    /// The value differs from that of the context.
    Differs {
        /// The field.
        got: u128,
        /// The value that would match.
        expected: u128,
    },
    /// The value is outside a range of the context.
    Outside {
        /// The field.
        got: u128,
        /// First value that matches.
        start: u128,
        /// Last value that matches.
        end: u128,
        /// Bits of the field: 32 and 128 are addresses.
        bits: u8,
    },
    /// The value is not in a list of the context.
    NotListed {
        /// The field.
        got: u128,
    },
    /// Any other reason, as a phrase that follows the name of the field.
    Says(&'static str),
}

impl Mismatch {
    pub(crate) fn differs(field: &'static str, got: impl Into<u128>, expected: impl Into<u128>) -> Mismatch {
        Mismatch { field, reason: MismatchReason::Differs { got: got.into(), expected: expected.into() } }
    }

    pub(crate) fn says(field: &'static str, what: &'static str) -> Mismatch {
        Mismatch { field, reason: MismatchReason::Says(what) }
    }
}

impl From<FieldMismatch> for Mismatch {
    fn from(FieldMismatch { field, got, expected }: FieldMismatch) -> Mismatch {
        match expected {
            Some(expected) => Mismatch::differs(field.key, got, expected),
            None => Mismatch { field: field.key, reason: MismatchReason::NotListed { got } },
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.field)?;
        match self.reason {
            MismatchReason::Differs { got, expected } => write!(f, "is {got}, not {expected}"),
            MismatchReason::Outside { got, start, end, bits } => {
                let [got, start, end] = [got, start, end].map(|value| Value { value, bits });
                write!(f, "is {got}, outside {start} to {end}")
            }
            MismatchReason::NotListed { got } => write!(f, "is {got}, which is not in the list"),
            MismatchReason::Says(what) => f.write_str(what),
        }
    }
}

struct Value {
    value: u128,
    bits: u8,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits {
            128 => Ipv6Addr::from(self.value).fmt(f),
            32 => Ipv4Addr::from(self.value as u32).fmt(f),
            _ => self.value.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_of_the_fields() {
        for (index, (name, field)) in RESTORABLE.iter().enumerate() {
            assert_eq!(*field as usize, index);
            for source in Provenance::ALL {
                let mut sources = Provenance::default();
                sources.set(*field, source);
                assert_eq!(sources.iter().collect::<Vec<_>>(), [(*name, source)]);
            }
        }
    }

    #[test]
    fn a_mismatch_reads_as_a_sentence() {
        let outside = |bits, got, start, end| Mismatch {
            field: "dst",
            reason: MismatchReason::Outside { got, start, end, bits },
        };
        let v6 = outside(128, 0x2001_0db8 << 96, 1, 2);
        assert_eq!(v6.to_string(), "dst is 2001:db8::, outside ::1 to ::2");
        assert_eq!(outside(32, 0x0a00_0001, 0, 1).to_string(), "dst is 10.0.0.1, outside 0.0.0.0 to 0.0.0.1");
        assert_eq!(Mismatch::differs("dscp", 3u8, 4u8).to_string(), "dscp is 3, not 4");
        let short = Mismatch::says("udp", "header is truncated");
        assert_eq!(short.to_string(), "udp header is truncated");
    }
}
