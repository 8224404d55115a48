//! Applies one rule to one packet, field by field (RFC 8724 §7.2). This is used for human-readable output, and for
//! rules with fields of variable length (§7.4.2), which [`crate::schc::Compiled`] does not support.

use std::net::IpAddr;

use super::compute::ComputedField;
use crate::bits::{self, BitWriter};
use crate::net::{IpVersion, OuterHeader, ipv4, ipv6};
use crate::schc::fields::{FieldId, IPV4_IHL, IPV4_OPTIONS, IPV4_VER, IPV6_VER};
use crate::schc::{
    Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Rule, RuleError, Target, header_order,
    index_bits,
};

/// Longest IPv6 packet in bytes, without jumbo payload option.
const MAX_PACKET_LEN: usize = ipv6::HEADER_LEN + 65_535;

/// A packet that matches a rule. Offsets and lengths are in bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The result of each row that applies, in the order of the rule.
    pub fields: Vec<AppliedField>,
    /// Length of the header that the rule describes.
    pub header_bits: usize,
    /// The compression residue without RuleID, padded with 0 bits to a whole byte.
    pub residue: Vec<u8>,
    /// Length of the residue.
    pub residue_bits: usize,
}

/// A field of a packet and its residue. Offsets and lengths are in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppliedField {
    /// FID of the row.
    pub fid: FieldId,
    /// FP of the row.
    pub position: u8,
    /// Offset of the field in the packet.
    pub at: usize,
    /// Length of the field in the packet.
    pub bits: usize,
    /// Offset of its part of the residue.
    pub residue_at: usize,
    /// Length of its part of the residue.
    pub residue_bits: usize,
}

/// Why a rule does not apply to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError {
    /// The rule is invalid.
    Rule(RuleError),
    /// The packet ends before the end of this field.
    Short {
        /// FID of the row.
        field: FieldId,
        /// Bits needed from the start of the packet.
        needs_bits: usize,
    },
    /// The matching operator of this row does not match the field.
    Unmatched {
        /// The row.
        row: FieldDescriptor,
        /// Offset of the field in the packet, in bits.
        at: usize,
        /// Its length in bits.
        bits: usize,
    },
}

/// A packet rebuilt from a residue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The packet.
    pub packet: Vec<u8>,
    /// Fields that cannot be restored here, because they depend on other headers. Their bits are 0.
    pub unknown: Vec<FieldId>,
    /// Bits of the residue that were read.
    pub residue_bits: usize,
}

/// Bits as text of `0` and `1`.
pub fn digits(bytes: &[u8], at: usize, count: usize) -> String {
    (at..at.saturating_add(count))
        .map_while(|at| bits::read(bytes, at, 1))
        .map(|bit| if bit == 1 { '1' } else { '0' })
        .collect()
}

/// [`bits::read`] for any number of bits. `None` if the bits do not fit into an integer.
fn read(bytes: &[u8], at: usize, count: usize) -> Option<u128> {
    if count > 128 { None } else { bits::read(bytes, at, count) }
}

/// A field of the packet: offset and length in bits.
#[derive(Debug, Clone, Copy)]
struct FieldLocation {
    at: usize,
    bits: usize,
}

impl Rule {
    /// Compresses `packet`. The fields follow each other from its first bit, in the order of the rows (as in
    /// [`Rule::compile`]).
    ///
    /// For compute actions, it does not check that the receiver will compute the same value.
    pub fn apply(&self, direction: Direction, packet: &[u8]) -> Result<Applied, ApplyError> {
        let rows = self.rows(direction);
        for row in &rows {
            row.check().map_err(|problem| ApplyError::Rule(RuleError { field: row.fid, problem }))?;
        }
        let cuts = cut(&rows, direction, packet)?;
        let mut residue = vec![];
        let mut writer = FieldWriter { bits: 0, writer: BitWriter::new(&mut residue) };
        let mut fields = Vec::with_capacity(rows.len());
        for (row, FieldLocation { at, bits }) in rows.iter().zip(&cuts) {
            let (at, bits) = (*at, *bits);
            if !matches(row, packet, at, bits) {
                return Err(ApplyError::Unmatched { row: (*row).clone(), at, bits });
            }
            let residue_at = writer.bits;
            writer.field(row, packet, at, bits)?;
            let residue_bits = writer.bits - residue_at;
            fields.push(AppliedField { fid: row.fid, position: row.position, at, bits, residue_at, residue_bits });
        }
        let residue_bits = writer.bits;
        let header_bits = cuts.iter().map(|cut| cut.at + cut.bits).max().unwrap_or(0);
        Ok(Applied { fields, header_bits, residue, residue_bits })
    }

    /// Rebuilds the packet: the header from the residue, then `payload` from its bit `payload_at` on, then the
    /// computed fields. An error names the field that cannot be read.
    pub fn expand(
        &self,
        direction: Direction,
        residue: &[u8],
        payload: &[u8],
        payload_at: usize,
    ) -> Result<Expanded, RuleError> {
        let rows = self.rows(direction);
        let mut reader = FieldReader { bytes: residue, at: 0 };
        // Values and their length in bits, in the order of the rows.
        let mut values: Vec<(Vec<u8>, usize)> = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let wrong = |problem| RuleError { field: row.fid, problem };
            row.check().map_err(wrong)?;
            let before = rows.iter().take(index).zip(&values);
            let ihl =
                before.filter(|(row, _)| row.fid == IPV4_IHL).find_map(|(_, (bytes, bits))| read(bytes, 0, *bits));
            values.push(reader.field(row, ihl).ok_or_else(|| wrong("cannot be read from the residue"))?);
        }
        let mut packet = vec![];
        let mut writer = BitWriter::new(&mut packet);
        let mut header_bits = 0;
        let mut segment_bits = None;
        let mut fills = vec![];
        let mut unknown = vec![];
        let order = header_order(&rows, direction);
        for (index, field) in order {
            let (Some(row), Some((bytes, bits))) = (rows.get(index), values.get(index)) else { continue };
            if !is_ip(field) {
                segment_bits.get_or_insert(header_bits);
            }
            if let Action::Compute(compute) = row.action {
                match ComputedField::of(field, compute).filter(|_| compute != Compute::Lower) {
                    Some(fill) => fills.push((fill, field)),
                    None => unknown.push(row.fid),
                }
            }
            append(&mut writer, bytes, 0, *bits);
            header_bits += bits;
        }
        append(&mut writer, payload, payload_at, (payload.len() * 8).saturating_sub(payload_at));
        let segment = segment_bits.unwrap_or(header_bits);
        let has_ip = match rows.first().map(|row| row.fid) {
            Some(IPV6_VER) => segment >= ipv6::HEADER_LEN * 8,
            Some(IPV4_VER) => segment >= ipv4::HEADER_LEN * 8,
            _ => false,
        };
        // Such a field is not copied from the residue.
        let nobody = IpAddr::from([0; 16]);
        let outer = OuterHeader {
            version: IpVersion::V6,
            src: nobody,
            dst: nobody,
            dscp: 0,
            ecn: 0,
            hop_limit: 0,
            flow_label: 0,
        };
        for (fill, field) in fills {
            // A checksum of the transport header depends on addresses; a length does not.
            let alone = matches!(fill, ComputedField::UdpLength | ComputedField::UdpLiteCoverage) && segment == 0;
            let known = segment.is_multiple_of(8) && packet.len() <= MAX_PACKET_LEN && (has_ip || alone);
            let written = known.then(|| fill.apply(&mut packet, segment / 8, &outer));
            if written.flatten().is_none() {
                unknown.push(field);
            }
        }
        Ok(Expanded { packet, unknown, residue_bits: reader.at })
    }
}

fn is_ip(field: FieldId) -> bool {
    field.name.starts_with("IPV6.") || field.name.starts_with("IPV4.")
}

/// The position of each row's field.
fn cut(rows: &[&FieldDescriptor], direction: Direction, packet: &[u8]) -> Result<Vec<FieldLocation>, ApplyError> {
    let order = header_order(rows, direction);
    let fixed = |index: &usize| match rows.get(*index).map(|row| row.length) {
        Some(FieldLength::Fixed(bits)) => usize::from(bits),
        _ => 0,
    };
    let has_bits = packet.len() * 8;
    let mut cuts = vec![FieldLocation { at: 0, bits: 0 }; rows.len()];
    let mut at = 0usize;
    let mut ihl = None;
    for (step, (index, field)) in order.iter().enumerate() {
        let Some(row) = rows.get(*index) else { continue };
        let bits = match (row.length, ihl) {
            (FieldLength::Fixed(bits), _) => usize::from(bits),
            (_, Some(ihl)) if *field == IPV4_OPTIONS => options_bits(ihl),
            // The bits that the following fields leave for this one.
            _ => {
                let behind: usize = order.iter().skip(step + 1).map(|(index, _)| fixed(index)).sum();
                let left = has_bits.saturating_sub(at + behind);
                left - left % 8
            }
        };
        let needs_bits = at.saturating_add(bits);
        if needs_bits > has_bits {
            return Err(ApplyError::Short { field: row.fid, needs_bits });
        }
        if *field == IPV4_IHL {
            ihl = read(packet, at, bits);
        }
        if let Some(cut) = cuts.get_mut(*index) {
            *cut = FieldLocation { at, bits };
        }
        at = needs_bits;
    }
    Ok(cuts)
}

/// Length of the IPv4 options: IHL (in words of 32 bits) minus the 5 words of the header.
fn options_bits(ihl: u128) -> usize {
    usize::try_from(ihl).unwrap_or(0).saturating_sub(5).saturating_mul(32)
}

/// Length of a target value in bits: that of the field, or whole bytes if the length varies.
fn target_bits(row: &FieldDescriptor, value: u128) -> usize {
    match row.length {
        FieldLength::Fixed(bits) => usize::from(bits),
        _ => (128 - value.leading_zeros() as usize).next_multiple_of(8),
    }
}

fn matches(row: &FieldDescriptor, packet: &[u8], at: usize, bits: usize) -> bool {
    let is = |value: u128, count: usize| {
        let own = target_bits(row, value);
        let first = own.checked_sub(count).and_then(|rest| value.checked_shr(rest as u32).or(Some(0)));
        count <= bits && first.is_some() && read(packet, at, count) == first
    };
    match row.matching {
        Matching::Ignore | Matching::Msb(0) => true,
        Matching::Equal => row.target.value().is_some_and(|value| target_bits(row, value) == bits && is(value, bits)),
        Matching::Msb(msb) => row.target.value().is_some_and(|value| is(value, msb.into())),
        Matching::MatchMapping => listed(row, packet, at, bits).is_some(),
    }
}

/// The index of the field's value in the list of target values.
fn listed(row: &FieldDescriptor, packet: &[u8], at: usize, bits: usize) -> Option<usize> {
    let Target::List(values) = &row.target else { return None };
    let got = read(packet, at, bits)?;
    values.iter().position(|value| *value == got && target_bits(row, *value) == bits)
}

struct FieldWriter<'a> {
    bits: usize,
    writer: BitWriter<'a>,
}

impl FieldWriter<'_> {
    fn field(&mut self, row: &FieldDescriptor, packet: &[u8], at: usize, bits: usize) -> Result<(), ApplyError> {
        match (row.action, row.matching) {
            (Action::NotSent | Action::Compute(_), _) => Ok(()),
            (Action::MappingSent, _) => {
                let index = listed(row, packet, at, bits).unwrap_or(0);
                self.put(index as u128, index_bits(row.target.list().len()));
                Ok(())
            }
            (Action::Lsb, Matching::Msb(msb)) => {
                self.value(row, packet, at + usize::from(msb), bits - usize::from(msb))
            }
            (Action::Lsb | Action::ValueSent, _) => self.value(row, packet, at, bits),
            (Action::Nearest(low), _) => {
                let low = usize::from(low).min(bits);
                self.value(row, packet, at + bits - low, low)
            }
        }
    }

    /// The bits of the value. If the length varies, its size in bytes comes first (RFC 8724 §7.4.2).
    fn value(&mut self, row: &FieldDescriptor, packet: &[u8], at: usize, bits: usize) -> Result<(), ApplyError> {
        if row.length == FieldLength::Variable {
            let problem = |problem| ApplyError::Rule(RuleError { field: row.fid, problem });
            if !bits.is_multiple_of(8) {
                return Err(problem("the residue of a field of variable length is not a whole number of bytes"));
            }
            match bits / 8 {
                size @ 0..=14 => self.put(size as u128, 4),
                size @ 15..=254 => self.put(0xf << 8 | size as u128, 12),
                size @ 255..=0xffff => self.put(0xfff << 16 | size as u128, 28),
                _ => return Err(problem("is longer than 65535 bytes")),
            }
        }
        self.bits += bits;
        append(&mut self.writer, packet, at, bits);
        Ok(())
    }

    fn put(&mut self, value: u128, bits: usize) {
        self.bits += bits;
        self.writer.write(value, bits as u32);
    }
}

/// Appends `count` bits of `from`, from bit `at` on.
fn append(writer: &mut BitWriter, from: &[u8], mut at: usize, count: usize) {
    let end = at + count;
    while at < end {
        let taken = (end - at).min(64);
        writer.write(bits::read(from, at, taken).unwrap_or(0), taken as u32);
        at += taken;
    }
}

struct FieldReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl FieldReader<'_> {
    fn take(&mut self, count: usize) -> Option<u128> {
        let value = read(self.bytes, self.at, count)?;
        self.at += count;
        Some(value)
    }

    /// The value of a row and its length in bits. `None` if the residue has too few bits, or the length is not
    /// known.
    fn field(&mut self, row: &FieldDescriptor, ihl: Option<u128>) -> Option<(Vec<u8>, usize)> {
        let known = |value: u128| (number_bytes(value, target_bits(row, value)), target_bits(row, value));
        match (row.action, row.matching) {
            (Action::NotSent, _) => row.target.value().map(known),
            (Action::Compute(_), _) => match row.length {
                FieldLength::Fixed(bits) => Some((vec![0; usize::from(bits).div_ceil(8)], bits.into())),
                _ => None,
            },
            (Action::MappingSent, _) => {
                let list = row.target.list();
                let index = self.take(index_bits(list.len()))?;
                list.get(usize::try_from(index).ok()?).copied().map(known)
            }
            (Action::Lsb, Matching::Msb(msb)) => {
                let msb = usize::from(msb);
                let value = row.target.value().unwrap_or(0);
                let target_bits = target_bits(row, value);
                let first = value.checked_shr(target_bits.checked_sub(msb)? as u32).unwrap_or(0);
                self.sent(row, ihl, Some((first, msb)))
            }
            (Action::Lsb | Action::ValueSent, _) => self.sent(row, ihl, None),
            // The action depends on the previous packet.
            (Action::Nearest(_), _) => None,
        }
    }

    /// A value that was sent, appended to the bits that the rule knows.
    fn sent(
        &mut self,
        row: &FieldDescriptor,
        ihl: Option<u128>,
        known: Option<(u128, usize)>,
    ) -> Option<(Vec<u8>, usize)> {
        let (first, first_bits) = known.unwrap_or((0, 0));
        let rest_bits = match row.length {
            FieldLength::Fixed(bits) => usize::from(bits).checked_sub(first_bits)?,
            FieldLength::Variable => 8 * self.size()?,
            FieldLength::Function if row.fid == IPV4_OPTIONS => options_bits(ihl?).checked_sub(first_bits)?,
            FieldLength::Function => return None,
        };
        if self.at.checked_add(rest_bits)? > self.bytes.len().checked_mul(8)? {
            return None;
        }
        let mut bytes = vec![];
        let mut writer = BitWriter::new(&mut bytes);
        writer.write(first, first_bits as u32);
        append(&mut writer, self.bytes, self.at, rest_bits);
        self.at += rest_bits;
        Some((bytes, first_bits + rest_bits))
    }

    /// Reads the size in bytes (RFC 8724 §7.4.2).
    fn size(&mut self) -> Option<usize> {
        let size = match self.take(4)? {
            15 => match self.take(8)? {
                255 => self.take(16)?,
                size => size,
            },
            size => size,
        };
        usize::try_from(size).ok()
    }
}

/// The low `count` bits of `value`, left-aligned.
fn number_bytes(value: u128, count: usize) -> Vec<u8> {
    let mut bytes = vec![];
    BitWriter::new(&mut bytes).write(value, count as u32);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::schc::fields::FIELDS;

    fn row() -> impl Strategy<Value = FieldDescriptor> {
        let length = prop_oneof![
            8 => (1u16..=128).prop_map(FieldLength::Fixed),
            1 => Just(FieldLength::Variable),
            1 => Just(FieldLength::Function),
        ];
        let small = prop_oneof![Just(0u128), 0u128..4, any::<u128>()];
        let target = prop_oneof![
            Just(Target::Empty),
            small.clone().prop_map(Target::Value),
            proptest::collection::vec(small, 0..5).prop_map(Target::List),
        ];
        let matching = prop_oneof![
            Just(Matching::Equal),
            Just(Matching::Ignore),
            (0u16..=130).prop_map(Matching::Msb),
            Just(Matching::MatchMapping),
        ];
        let action = prop_oneof![
            Just(Action::NotSent),
            Just(Action::ValueSent),
            Just(Action::MappingSent),
            Just(Action::Lsb),
            Just(Action::Compute(Compute::Length)),
            (0u16..130).prop_map(Action::Nearest),
        ];
        let direction = prop_oneof![Just(Direction::Both), Just(Direction::Up), Just(Direction::Down)];
        let fid = (0..FIELDS.len()).prop_map(|index| FIELDS[index]);
        (fid, length, direction, target, matching, action).prop_map(
            |(fid, length, direction, target, matching, action)| FieldDescriptor {
                fid,
                length,
                position: 1,
                direction,
                target,
                matching,
                action,
            },
        )
    }

    /// Rules with rows that make sense, so that the test reaches more than the first check.
    fn sensible() -> impl Strategy<Value = Rule> {
        proptest::collection::vec(row(), 0..40).prop_map(|mut fields| {
            fields.retain(|row| row.check().is_ok());
            Rule { fields }
        })
    }

    proptest! {
        #[test]
        fn nothing_panics(
            fields in proptest::collection::vec(row(), 0..8),
            packet in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let rule = Rule { fields };
            for direction in [Direction::Both, Direction::Up, Direction::Down] {
                let _ = rule.apply(direction, &packet);
                let _ = rule.compile(direction);
                let _ = rule.expand(direction, &packet, &[1, 2, 3], 3);
            }
        }

        /// Both implementations produce the same residue, and rebuild the packet.
        #[test]
        fn compiled_and_interpreted_rules_agree(
            rule in sensible(),
            packet in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 128),
            down: bool,
        ) {
            let direction = if down { Direction::Down } else { Direction::Up };
            let applied = rule.apply(direction, &packet);
            if let Ok(applied) = &applied {
                let back = rule.expand(direction, &applied.residue, &packet, applied.header_bits);
                let comes_back = rule.fields.iter().all(|row| {
                    matches!(row.length, FieldLength::Fixed(_) | FieldLength::Variable)
                        && !matches!(row.action, Action::Compute(_) | Action::Nearest(_))
                        && (row.action != Action::NotSent || row.matching == Matching::Equal)
                });
                if comes_back {
                    prop_assert_eq!(back.map(|back| back.packet), Ok(packet.clone()));
                }
            }
            let Ok(compiled) = rule.compile(direction) else { return Ok(()) };
            let mut residue = vec![0; compiled.residue_bits().div_ceil(8)];
            match (compiled.compress(&packet, &mut residue, 0), applied) {
                (Ok(bits), Ok(applied)) => {
                    prop_assert_eq!(bits, applied.residue_bits);
                    prop_assert_eq!(residue, applied.residue);
                    prop_assert_eq!(compiled.header_bits(), applied.header_bits);
                }
                (Err(_), Err(ApplyError::Unmatched { .. })) => {}
                (compiled, applied) => prop_assert!(false, "{compiled:?} {applied:?}"),
            }
        }
    }
}
