//! One row of an explanation: a field, its bits on the wire, its value, and where that came from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bits;
use crate::codec::overhead::sent_bits;
use crate::schc::fields::{ESP_SPI, FieldId, IPV4_DST, IPV4_SRC};
use crate::schc::{Action, Compute, FieldDescriptor, Matching, Target};

/// One field of a packet and the bits of it that were sent. Offsets and lengths are in bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidueRow {
    /// The compressor that the row belongs to.
    pub stage: RowStage,
    /// FID of the row, `RuleID`, or `IPV4.OPTIONS`.
    pub field: &'static str,
    /// The row of the rule; `None` for `RuleID` and `IPV4.OPTIONS`.
    pub rule: Option<FieldDescriptor>,
    /// Length of the field.
    pub field_bits: usize,
    /// Where its bits begin: counted from the ESP payload in [`RowStage::Eec`], otherwise from the clear text.
    pub bit_offset: usize,
    /// The bits that were sent, as text of `0` and `1`.
    pub bits: String,
    /// The value.
    pub value: FieldValue,
    /// Where the bits came from that were not sent.
    pub origin: Origin,
    /// Where the field is in the restored packet.
    pub packet_offset: Option<usize>,
    /// Whether the value is that of the original packet for sure.
    pub is_certain: bool,
}

impl ResidueRow {
    /// The name of the action in rule tables.
    pub fn action(&self) -> &'static str {
        self.rule.as_ref().map_or("value-sent", |row| row.action.name())
    }

    /// How many bits were sent.
    pub fn sent_bits(&self) -> usize {
        self.bits.len()
    }
}

/// The compressor that a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowStage {
    /// The ESP header.
    Eec,
    /// The inner headers.
    Iipc,
    /// The ESP trailer.
    Ctec,
}

impl RowStage {
    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            RowStage::Eec => "eec",
            RowStage::Iipc => "iipc",
            RowStage::Ctec => "ctec",
        }
    }
}

/// Where the bits of a field came from that were not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// All bits were sent.
    Sent,
    /// A target value of the rule.
    Rule,
    /// The SA.
    Sa,
    /// The outer IP header.
    Outer,
    /// Computed from the restored packet: a length or a checksum.
    Computed,
    /// A hash of the restored packet, or 0.
    Generated,
    /// The packet before.
    Previous,
    /// The sequence number: the decoder found it.
    Found,
}

impl Origin {
    /// The name in records. That of [`Origin::Found`] is the method of the decoder.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Sent => "sent",
            Origin::Rule => "rule",
            Origin::Sa => "sa",
            Origin::Outer => "outer",
            Origin::Computed => "computed",
            Origin::Generated => "generated",
            Origin::Previous => "previous",
            Origin::Found => "found",
        }
    }

    /// The origin of what a row of a rule restores.
    pub(super) fn of(row: &FieldDescriptor) -> Origin {
        match row.action {
            Action::ValueSent => Origin::Sent,
            Action::Lsb if row.matching == Matching::Msb(0) => Origin::Sent,
            Action::NotSent | Action::MappingSent | Action::Lsb => Origin::Rule,
            Action::Nearest(_) => Origin::Previous,
            Action::Compute(Compute::Lower) => Origin::Outer,
            Action::Compute(Compute::Generated | Compute::GeneratedZero) => Origin::Generated,
            Action::Compute(Compute::Length | Compute::LengthAtMost(_) | Compute::Checksum) => Origin::Computed,
        }
    }
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// A number.
    Number(u64),
    /// An address.
    Address(IpAddr),
    /// The first 64 bits of an IPv6 address.
    Prefix(u64),
    /// The last 64 bits of an IPv6 address.
    InterfaceId(u64),
    /// A Security Parameters Index.
    Spi(u32),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl FieldValue {
    /// The value of a field of `count` bits.
    pub(super) fn of(field: FieldId, value: u128, count: usize) -> FieldValue {
        match count {
            128 => FieldValue::Address(Ipv6Addr::from(value).into()),
            64 if field.name.ends_with("_PREFIX") => FieldValue::Prefix(value as u64),
            64 if field.name.ends_with("_IID") => FieldValue::InterfaceId(value as u64),
            32 if field == IPV4_SRC || field == IPV4_DST => FieldValue::Address(Ipv4Addr::from(value as u32).into()),
            32 if field == ESP_SPI => FieldValue::Spi(value as u32),
            0..=64 => FieldValue::Number(value as u64),
            _ => FieldValue::Bytes(value.to_be_bytes().into_iter().skip(16 - count.div_ceil(8)).collect()),
        }
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldValue::Number(number) => number.fmt(f),
            FieldValue::Address(address) => address.fmt(f),
            FieldValue::Prefix(prefix) => write!(f, "{}/64", Ipv6Addr::from(u128::from(*prefix) << 64)),
            FieldValue::InterfaceId(iid) => match Ipv6Addr::from(u128::from(*iid)).to_string() {
                // Never in the notation with an embedded IPv4 address.
                text if text.contains('.') => {
                    let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (iid >> shift) as u16);
                    write!(f, "::{a:x}:{b:x}:{c:x}:{d:x}")
                }
                text => f.write_str(&text),
            },
            FieldValue::Spi(spi) => write!(f, "0x{spi:08x}"),
            FieldValue::Bytes(bytes) => f.write_str(&hex::encode(bytes)),
        }
    }
}

/// Bits as text of `0` and `1`; `None` if there are fewer.
pub(super) fn digits(bytes: &[u8], at: usize, count: usize) -> Option<String> {
    (at..at.checked_add(count)?).map(|at| Some(if bits::read(bytes, at, 1)? == 1 { '1' } else { '0' })).collect()
}

/// The bits that a row of fixed length sent: how many, and their value.
pub(super) fn sent(row: &FieldDescriptor, bytes: &[u8], at: usize) -> Option<(usize, u128)> {
    let count = sent_bits(row).filter(|count| *count <= 128)?;
    Some((count, bits::read(bytes, at, count)?))
}

/// Whether a receiver restores `value`, a field of `field_bits` bits, from the bits that were sent. `knows_target`: the
/// target value of the row is that of the rule.
pub(super) fn restores(
    row: &FieldDescriptor,
    (sent_bits, sent): (usize, u128),
    (field_bits, value): (usize, u128),
    knows_target: bool,
) -> bool {
    let low = |value: u128, count: usize| value & u128::MAX.checked_shr(128 - count as u32).unwrap_or(0);
    let target = row.target.value().filter(|_| knows_target);
    match (row.action, row.matching) {
        (Action::MappingSent, _) => match &row.target {
            Target::List(values) => usize::try_from(sent).ok().and_then(|index| values.get(index)) == Some(&value),
            _ => false,
        },
        (Action::NotSent, _) => target.is_none_or(|target| target == value),
        (Action::Lsb, Matching::Msb(msb)) => {
            let high = |value: u128| value.checked_shr((field_bits.saturating_sub(msb.into())) as u32).unwrap_or(0);
            low(value, sent_bits) == sent && target.is_none_or(|target| high(target) == high(value))
        }
        (Action::ValueSent | Action::Lsb | Action::Nearest(_), _) => low(value, sent_bits) == sent,
        (Action::Compute(_), _) => true,
    }
}
