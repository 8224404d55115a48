//! The fields of a record, under the names that scripts use.

use std::net::IpAddr;

use super::record::Record;
use crate::capture::Timestamp;
use crate::codec::{Provenance, Restorable};
use crate::decoder::status::{Method, Reason, Status};
use crate::decoder::warnings::Warnings;
use crate::files::near;

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

/// What the values of a field are.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A whole number.
    Number,
    /// An SPI: a number, shown in hex.
    Spi,
    /// One of these names.
    Name(fn() -> Vec<&'static str>),
    /// Text.
    Text,
    /// An IP address.
    Address,
    /// A time.
    Time,
    /// Bytes, shown in hex.
    Bytes,
    /// A list of numbers.
    Numbers,
    /// A list of these names.
    Names(fn() -> Vec<&'static str>),
}

/// One field: its name, the JSON objects that enclose it, and the function that reads it from a record.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Enclosing objects, outermost first.
    pub path: &'static [&'static str],
    /// Name of the member.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    read: for<'a> fn(&Record<'a>) -> Option<Value<'a>>,
}

/// Every field, in the order of the JSON record.
pub(crate) const FIELDS: &[Field] = &[
    field(&[], "frame", Kind::Number, |r| Some(Value::Number(r.frame()))),
    field(&[], "part", Kind::Number, |r| r.part().map(|part| Value::Number(part.into()))),
    field(&[], "inside", Kind::Number, |r| r.inside().map(|part| Value::Number(part.into()))),
    field(&[], "time", Kind::Time, |r| r.time().map(Value::Time)),
    field(&[], "status", Kind::Name(|| Status::ALL.map(Status::name).to_vec()), |r| {
        Some(Value::Name(r.status().name()))
    }),
    field(&[], "reason", Kind::Text, |r| r.reason().map(Value::Reason)),
    field(&[], "sa", Kind::Text, |r| r.sa().map(Value::Text)),
    field(&[], "repeat_of", Kind::Number, |r| r.repeat_of().map(Value::Number)),
    field(&[], "fragments", Kind::Numbers, |r| (!r.fragments().is_empty()).then_some(Value::Frames(r.fragments()))),
    field(&["outer"], "version", Kind::Number, |r| Some(Value::Number(r.outer()?.version.number().into()))),
    field(&["outer"], "src", Kind::Address, |r| Some(Value::Address(r.outer()?.src))),
    field(&["outer"], "dst", Kind::Address, |r| Some(Value::Address(r.outer()?.dst))),
    field(&["outer"], "hop_limit", Kind::Number, |r| Some(Value::Number(r.outer()?.hop_limit.into()))),
    field(&["esp"], "spi", Kind::Spi, |r| Some(Value::Spi(r.esp()?.spi))),
    field(&["esp"], "sequence", Kind::Number, |r| Some(Value::Number(r.esp()?.sequence))),
    field(&["esp", "wire"], "spi_bits", Kind::Number, |r| Some(Value::Number(r.esp()?.spi_bits.into()))),
    field(&["esp", "wire"], "sn_bits", Kind::Number, |r| Some(Value::Number(r.esp()?.sn_bits.into()))),
    field(&["esp", "wire"], "bytes", Kind::Number, |r| Some(Value::Number(r.esp()?.wire_bytes as u64))),
    field(&["esp"], "icv", Kind::Name(|| vec!["verified", "none"]), |r| {
        Some(Value::Name(if r.esp()?.verified { "verified" } else { "none" }))
    }),
    field(&["esp"], "method", Kind::Name(|| Method::ALL.map(Method::name).to_vec()), |r| {
        Some(Value::Name(r.esp()?.method.name()))
    }),
    field(&["esp"], "tries", Kind::Number, |r| Some(Value::Number(r.esp()?.tries))),
    field(&["esp"], "revision", Kind::Name(|| (0..=u8::MAX).filter_map(revision_name).collect()), |r| {
        r.esp()?.revision.and_then(revision_name).map(Value::Name)
    }),
    field(&["inner"], "version", Kind::Number, |r| Some(Value::Number(r.inner()?.version.number().into()))),
    field(&["inner"], "src", Kind::Address, |r| Some(Value::Address(r.inner()?.src))),
    field(&["inner"], "dst", Kind::Address, |r| Some(Value::Address(r.inner()?.dst))),
    field(&["inner"], "protocol", Kind::Number, |r| Some(Value::Number(r.upper()?.protocol.into()))),
    field(&["inner"], "src_port", Kind::Number, |r| Some(Value::Number(r.upper()?.ports?.0.into()))),
    field(&["inner"], "dst_port", Kind::Number, |r| Some(Value::Number(r.upper()?.ports?.1.into()))),
    field(&[], "packet", Kind::Bytes, |r| r.packet().map(Value::Bytes)),
    field(&["restored"], "dscp", SOURCE, |r| source(r, Restorable::Dscp)),
    field(&["restored"], "ecn", SOURCE, |r| source(r, Restorable::Ecn)),
    field(&["restored"], "flow_label", SOURCE, |r| source(r, Restorable::FlowLabel)),
    field(&["restored"], "identification", SOURCE, |r| source(r, Restorable::Identification)),
    field(&["restored"], "hop_limit", SOURCE, |r| source(r, Restorable::HopLimit)),
    field(&["restored"], "ttl", SOURCE, |r| source(r, Restorable::Ttl)),
    field(&["restored"], "header_checksum", SOURCE, |r| source(r, Restorable::HeaderChecksum)),
    field(&["restored"], "src", SOURCE, |r| source(r, Restorable::Src)),
    field(&["restored"], "dst", SOURCE, |r| source(r, Restorable::Dst)),
    field(&["restored"], "src_port", SOURCE, |r| source(r, Restorable::SrcPort)),
    field(&["restored"], "dst_port", SOURCE, |r| source(r, Restorable::DstPort)),
    field(&["restored"], "udp.length", SOURCE, |r| source(r, Restorable::UdpLength)),
    field(&["restored"], "udp.checksum", SOURCE, |r| source(r, Restorable::UdpChecksum)),
    field(&["restored"], "udplite.coverage", SOURCE, |r| source(r, Restorable::UdpLiteCoverage)),
    field(&["restored"], "udplite.checksum", SOURCE, |r| source(r, Restorable::UdpLiteChecksum)),
    field(&["restored"], "tcp.sequence", SOURCE, |r| source(r, Restorable::TcpSequence)),
    field(&["restored"], "tcp.acknowledgment", SOURCE, |r| source(r, Restorable::TcpAcknowledgment)),
    field(&["restored"], "tcp.flags", SOURCE, |r| source(r, Restorable::TcpFlags)),
    field(&["restored"], "tcp.window", SOURCE, |r| source(r, Restorable::TcpWindow)),
    field(&["restored"], "tcp.checksum", SOURCE, |r| source(r, Restorable::TcpChecksum)),
    field(&["restored"], "tcp.urgent_pointer", SOURCE, |r| source(r, Restorable::TcpUrgentPointer)),
    field(&["restored"], "sctp.verification_tag", SOURCE, |r| source(r, Restorable::SctpVerificationTag)),
    field(&["restored"], "sctp.checksum", SOURCE, |r| source(r, Restorable::SctpChecksum)),
    field(&["bytes"], "diet", Kind::Number, |r| Some(Value::Number(r.bytes()?.diet))),
    field(&["bytes"], "esp", Kind::Number, |r| Some(Value::Number(r.bytes()?.esp))),
    field(&["bytes"], "saved", Kind::Number, |r| Some(Value::Signed(r.bytes()?.saved()))),
    field(&[], "warnings", Kind::Names(|| Warnings::NAMES.to_vec()), |r| {
        (r.status() == Status::Ok || r.warnings() != Warnings::NONE).then_some(Value::Warnings(r.warnings()))
    }),
];

/// Where a restored field came from.
const SOURCE: Kind = Kind::Name(|| Provenance::ALL.map(|source| source.name()).to_vec());

/// Fields that a JSON record has only on request.
pub(crate) const REQUESTED_FIELDS: &[Field] = &[
    field(&[], "payload", Kind::Bytes, |r| r.payload().map(Value::Bytes)),
    field(&[], "wire", Kind::Bytes, |r| r.wire().map(Value::Bytes)),
];

const fn field(
    path: &'static [&'static str],
    name: &'static str,
    kind: Kind,
    read: for<'a> fn(&Record<'a>) -> Option<Value<'a>>,
) -> Field {
    Field { path, name, kind, read }
}

fn source<'a>(record: &Record<'a>, field: Restorable) -> Option<Value<'a>> {
    record.source(field).map(|source| Value::Name(source.name()))
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
        Field::all().find(|field| field.full_name() == name)
    }

    /// All fields, also those on request.
    pub(crate) fn all() -> impl Iterator<Item = Field> {
        FIELDS.iter().chain(REQUESTED_FIELDS).copied()
    }

    /// The fields of an object, such as `esp` or `esp.wire`.
    pub(crate) fn all_of(object: &str) -> impl Iterator<Item = Field> {
        let is_in = move |field: &&Field| {
            (1..=field.path.len()).any(|depth| field.path.get(..depth).unwrap_or_default().join(".") == object)
        };
        FIELDS.iter().filter(is_in).copied()
    }

    /// What to do about a name that no field has.
    pub(crate) fn suggestion(name: &str) -> String {
        let names: Vec<String> = Field::all().map(|field| field.full_name()).collect();
        let mut similar = near(name, names.iter().map(String::as_str));
        if similar.is_empty() {
            // The last part of a name alone, or in another object. Where a field came from is asked for less often.
            let same = |other: &&str| other.rsplit('.').next() == name.rsplit('.').next();
            let is_origin = |other: &str| other.starts_with("restored.");
            similar = names.iter().map(String::as_str).filter(same).collect();
            if !similar.iter().all(|other| is_origin(other)) {
                similar.retain(|other| !is_origin(other));
            }
        }
        match similar.split_first() {
            Some((first, [])) => format!("did you mean `{first}`?"),
            Some(_) => format!("did you mean `{}`?", similar.join("` or `")),
            None => format!("fields: {}", names.join(" ")),
        }
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
