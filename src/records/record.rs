//! The record of one packet of a frame, and its fields under the names that scripts use.

use std::net::IpAddr;

use crate::capture::{Frame, Timestamp};
use crate::codec::{Provenance, Restorable};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::{Bytes, Esp, Reason, Status};
use crate::decoder::warnings::Warnings;
use crate::net::{OuterHeader, UpperLayer};
use crate::records::inner::Inner;
use crate::sa::table::{PreparedSa, SaTable};

/// What is reported about one packet of a frame. Each value is read from its source only when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    frame: &'a Frame<'a>,
    outcome: &'a Outcome<'a>,
    entry: Option<&'a PreparedSa>,
    packet: &'a [u8],
}

impl<'a> Record<'a> {
    /// The record of a packet of `frame`. `table` and `arena` belong to the decoder that made the outcome.
    #[inline]
    pub fn new(frame: &'a Frame<'a>, outcome: &'a Outcome<'a>, table: &'a SaTable, arena: &'a Arena) -> Record<'a> {
        let entry = outcome.sa.and_then(|sa| table.entry(sa));
        Record { frame, outcome, entry, packet: outcome.packet(arena) }
    }

    /// Frame number, from 1.
    pub fn frame(&self) -> u64 {
        self.frame.number
    }

    /// The number of the packet within its frame, from 1; `None` if the frame has only one.
    pub fn part(&self) -> Option<u16> {
        Some(self.outcome.part).filter(|part| *part > 0)
    }

    /// The part of the frame that contained the packet.
    pub fn inside(&self) -> Option<u16> {
        Some(self.outcome.inside).filter(|part| *part > 0)
    }

    /// Capture time, if the capture has one.
    pub fn time(&self) -> Option<Timestamp> {
        self.frame.time
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.outcome.status
    }

    /// Why the status is not `ok`.
    pub fn reason(&self) -> Option<Reason> {
        self.outcome.reason
    }

    /// Name of the SA that verified the packet, or of its only candidate.
    pub fn sa(&self) -> Option<&'a str> {
        self.entry.map(|entry| entry.sa.name.as_str())
    }

    /// The frame numbers of all fragments of a reassembled packet.
    pub fn fragments(&self) -> &'a [u64] {
        self.outcome.fragments()
    }

    /// The frame that this one repeats.
    pub fn repeat_of(&self) -> Option<u64> {
        self.outcome.repeat_of
    }

    /// The outer IP header, if the frame has one.
    #[inline]
    pub fn outer(&self) -> Option<OuterHeader> {
        self.outcome.outer()
    }

    /// The restored ESP header, if the packet verified: its status is `ok`, `malformed` or `unsupported`.
    pub fn esp(&self) -> Option<&'a Esp> {
        self.outcome.esp.as_ref()
    }

    /// The restored SPI. For a packet that did not verify: the SPI of its only candidate SA.
    pub fn spi(&self) -> Option<u32> {
        self.esp().map(|esp| esp.spi).or_else(|| self.entry?.spi())
    }

    /// Summary of [`Record::packet`], if the status is `ok`.
    #[inline]
    pub fn inner(&self) -> Option<Inner> {
        Inner::of(self.packet()?, self.outcome.restored.as_ref()?)
    }

    /// The upper layer of [`Record::packet`], if the status is `ok`.
    pub fn upper(&self) -> Option<UpperLayer> {
        self.packet().and(self.outcome.restored.as_ref()?.upper)
    }

    /// The restored packet, if the status is `ok`.
    pub fn packet(&self) -> Option<&'a [u8]> {
        (self.status() == Status::Ok && !self.packet.is_empty()).then_some(self.packet)
    }

    /// Fields of the packet that were not sent but taken from another source, if the status is `ok`.
    pub fn restored(&self) -> Option<Provenance> {
        self.outcome.restored.as_ref().filter(|_| self.status() == Status::Ok).map(|restored| restored.sources)
    }

    /// Bytes on the wire compared with standard ESP, if the status is `ok`.
    pub fn bytes(&self) -> Option<Bytes> {
        self.outcome.bytes
    }

    /// Warnings.
    pub fn warnings(&self) -> Warnings {
        self.outcome.warnings
    }
}

/// The value of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A name.
    Name(&'static str),
    /// Text from a file.
    Text(&'a str),
    /// A sentence.
    Reason(Reason),
    /// A number.
    Number(u64),
    /// A number that may be negative.
    Signed(i64),
    /// A number written as `0x` and 8 hex digits.
    Spi(u32),
    /// An address.
    Address(IpAddr),
    /// A time, RFC 3339.
    Time(Timestamp),
    /// Bytes, in hex.
    Bytes(&'a [u8]),
    /// Frame numbers.
    Frames(&'a [u64]),
    /// Names of warnings.
    Warnings(Warnings),
}

/// One field: its name, the JSON objects that enclose it, and the function that reads it from a record.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Enclosing objects, outermost first.
    pub path: &'static [&'static str],
    /// Name of the member.
    pub name: &'static str,
    read: for<'a> fn(&Record<'a>) -> Option<Value<'a>>,
}

/// Every field, in the order of the JSON record.
pub(crate) const FIELDS: &[Field] = &[
    field(&[], "frame", |r| Some(Value::Number(r.frame()))),
    field(&[], "part", |r| r.part().map(|part| Value::Number(part.into()))),
    field(&[], "inside", |r| r.inside().map(|part| Value::Number(part.into()))),
    field(&[], "time", |r| r.time().map(Value::Time)),
    field(&[], "status", |r| Some(Value::Name(r.status().name()))),
    field(&[], "reason", |r| r.reason().map(Value::Reason)),
    field(&[], "sa", |r| r.sa().map(Value::Text)),
    field(&[], "repeat_of", |r| r.repeat_of().map(Value::Number)),
    field(&[], "fragments", |r| (!r.fragments().is_empty()).then_some(Value::Frames(r.fragments()))),
    field(&["outer"], "version", |r| Some(Value::Number(r.outer()?.version.number().into()))),
    field(&["outer"], "src", |r| Some(Value::Address(r.outer()?.src))),
    field(&["outer"], "dst", |r| Some(Value::Address(r.outer()?.dst))),
    field(&["outer"], "hop_limit", |r| Some(Value::Number(r.outer()?.hop_limit.into()))),
    field(&["esp"], "spi", |r| Some(Value::Spi(r.esp()?.spi))),
    field(&["esp"], "sequence", |r| Some(Value::Number(r.esp()?.sequence))),
    field(&["esp", "wire"], "spi_bits", |r| Some(Value::Number(r.esp()?.spi_bits.into()))),
    field(&["esp", "wire"], "sn_bits", |r| Some(Value::Number(r.esp()?.sn_bits.into()))),
    field(&["esp", "wire"], "bytes", |r| Some(Value::Number(r.esp()?.wire_bytes as u64))),
    field(&["esp"], "icv", |r| Some(Value::Name(if r.esp()?.verified { "verified" } else { "none" }))),
    field(&["esp"], "method", |r| Some(Value::Name(r.esp()?.method.name()))),
    field(&["esp"], "tries", |r| Some(Value::Number(r.esp()?.tries))),
    field(&["esp"], "revision", |r| r.esp()?.revision.and_then(revision_name).map(Value::Name)),
    field(&["inner"], "version", |r| Some(Value::Number(r.inner()?.version.number().into()))),
    field(&["inner"], "src", |r| Some(Value::Address(r.inner()?.src))),
    field(&["inner"], "dst", |r| Some(Value::Address(r.inner()?.dst))),
    field(&["inner"], "protocol", |r| Some(Value::Number(r.upper()?.protocol.into()))),
    field(&["inner"], "src_port", |r| Some(Value::Number(r.upper()?.ports?.0.into()))),
    field(&["inner"], "dst_port", |r| Some(Value::Number(r.upper()?.ports?.1.into()))),
    field(&[], "packet", |r| r.packet().map(Value::Bytes)),
    field(&["restored"], "dscp", |r| source(r, Restorable::Dscp)),
    field(&["restored"], "ecn", |r| source(r, Restorable::Ecn)),
    field(&["restored"], "flow_label", |r| source(r, Restorable::FlowLabel)),
    field(&["restored"], "identification", |r| source(r, Restorable::Identification)),
    field(&["restored"], "hop_limit", |r| source(r, Restorable::HopLimit)),
    field(&["restored"], "ttl", |r| source(r, Restorable::Ttl)),
    field(&["restored"], "header_checksum", |r| source(r, Restorable::HeaderChecksum)),
    field(&["restored"], "src", |r| source(r, Restorable::Src)),
    field(&["restored"], "dst", |r| source(r, Restorable::Dst)),
    field(&["restored"], "src_port", |r| source(r, Restorable::SrcPort)),
    field(&["restored"], "dst_port", |r| source(r, Restorable::DstPort)),
    field(&["restored"], "udp.length", |r| source(r, Restorable::UdpLength)),
    field(&["restored"], "udp.checksum", |r| source(r, Restorable::UdpChecksum)),
    field(&["restored"], "udplite.coverage", |r| source(r, Restorable::UdpLiteCoverage)),
    field(&["restored"], "udplite.checksum", |r| source(r, Restorable::UdpLiteChecksum)),
    field(&["restored"], "tcp.sequence", |r| source(r, Restorable::TcpSequence)),
    field(&["restored"], "tcp.acknowledgment", |r| source(r, Restorable::TcpAcknowledgment)),
    field(&["restored"], "tcp.flags", |r| source(r, Restorable::TcpFlags)),
    field(&["restored"], "tcp.window", |r| source(r, Restorable::TcpWindow)),
    field(&["restored"], "tcp.checksum", |r| source(r, Restorable::TcpChecksum)),
    field(&["restored"], "tcp.urgent_pointer", |r| source(r, Restorable::TcpUrgentPointer)),
    field(&["restored"], "sctp.verification_tag", |r| source(r, Restorable::SctpVerificationTag)),
    field(&["restored"], "sctp.checksum", |r| source(r, Restorable::SctpChecksum)),
    field(&["bytes"], "diet", |r| Some(Value::Number(r.bytes()?.diet))),
    field(&["bytes"], "esp", |r| Some(Value::Number(r.bytes()?.esp))),
    field(&["bytes"], "saved", |r| Some(Value::Signed(r.bytes()?.saved()))),
    field(&[], "warnings", |r| {
        (r.status() == Status::Ok || r.warnings() != Warnings::NONE).then_some(Value::Warnings(r.warnings()))
    }),
];

const fn field(
    path: &'static [&'static str],
    name: &'static str,
    read: for<'a> fn(&Record<'a>) -> Option<Value<'a>>,
) -> Field {
    Field { path, name, read }
}

fn source<'a>(record: &Record<'a>, field: Restorable) -> Option<Value<'a>> {
    // Checked last, because most fields do not depend on the status.
    let source = record.outcome.restored.as_ref()?.sources.of(field)?;
    (record.status() == Status::Ok).then_some(Value::Name(source.name()))
}

fn revision_name(revision: u8) -> Option<&'static str> {
    Some(match revision {
        6 => "ietf-06",
        7 => "ietf-07",
        8 => "ietf-08",
        9 => "ietf-09",
        10 => "ietf-10",
        _ => return None,
    })
}

impl Field {
    /// The field with this dotted name.
    pub fn by_name(name: &str) -> Option<Field> {
        FIELDS.iter().find(|field| field.full_name() == name).copied()
    }

    /// The dotted name: `esp.wire.bytes`.
    pub fn full_name(&self) -> String {
        let mut name = self.path.join(".");
        if !name.is_empty() {
            name.push('.');
        }
        name + self.name
    }

    /// Its value, if the record has one.
    pub fn read<'a>(&self, record: &Record<'a>) -> Option<Value<'a>> {
        (self.read)(record)
    }
}
