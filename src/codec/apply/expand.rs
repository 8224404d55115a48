//! From a residue to a packet.

use std::net::IpAddr;

use super::{append, options_bits, read, target_bits};
use crate::bits::BitWriter;
use crate::codec::compute::ComputedField;
use crate::net::{IpVersion, OuterHeader, ipv4, ipv6};
use crate::schc::fields::{FieldId, IPV4_IHL, IPV4_OPTIONS, IPV4_VER, IPV6_VER};
use crate::schc::{
    Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Rule, RuleError, header_order, index_bits,
};

/// Longest IPv6 packet in bytes, without jumbo payload option.
const MAX_PACKET_LEN: usize = ipv6::HEADER_LEN + 65_535;

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

impl Rule {
    /// Rebuilds the packet: the header from the residue, then `payload` from its bit `payload_at` on, then the
    /// computed fields. An error names the field that cannot be read.
    ///
    /// # Errors
    /// The rule and the residue do not fit together.
    pub fn expand(
        &self,
        direction: Direction,
        residue: &[u8],
        payload: &[u8],
        payload_at: usize,
    ) -> Result<Expanded, RuleError> {
        let rows = self.rows(direction);
        let mut reader = FieldReader { bytes: residue, at: 0 };
        let values = reader.fields(&rows)?;
        let mut packet = vec![];
        let mut writer = BitWriter::new(&mut packet);
        let mut header_bits = 0;
        let mut segment_bits = None;
        let mut computed = vec![];
        let mut unknown = vec![];
        for (index, field) in header_order(&rows, direction) {
            let (Some(row), Some((bytes, bits))) = (rows.get(index), values.get(index)) else { continue };
            if !is_ip(field) {
                segment_bits.get_or_insert(header_bits);
            }
            if let Action::Compute(compute) = row.action {
                match ComputedField::of(field, compute).filter(|_| compute != Compute::Lower) {
                    Some(action) => computed.push((action, field)),
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
        unknown.extend(write_computed(&computed, &mut packet, segment, has_ip));
        Ok(Expanded { packet, unknown, residue_bits: reader.at })
    }
}

/// Writes the computed fields of a packet whose segment starts at bit `segment`. Returns those that cannot be computed.
fn write_computed(
    computed: &[(ComputedField, FieldId)],
    packet: &mut [u8],
    segment: usize,
    has_ip: bool,
) -> Vec<FieldId> {
    // No field is copied from the outer header.
    let nobody = IpAddr::from([0; 16]);
    let (version, dscp, ecn, hop_limit, flow_label) = (IpVersion::V6, 0, 0, 0, 0);
    let outer = OuterHeader { version, src: nobody, dst: nobody, dscp, ecn, hop_limit, flow_label };
    let mut unknown = vec![];
    for (action, field) in computed {
        // A checksum of the transport header depends on addresses; a length does not.
        let is_length = matches!(action, ComputedField::UdpLength | ComputedField::UdpLiteCoverage) && segment == 0;
        let known = segment.is_multiple_of(8) && packet.len() <= MAX_PACKET_LEN && (has_ip || is_length);
        let written = known.then(|| action.apply(packet, segment / 8, &outer));
        if written.flatten().is_none() {
            unknown.push(*field);
        }
    }
    unknown
}

fn is_ip(field: FieldId) -> bool {
    field.name.starts_with("IPV6.") || field.name.starts_with("IPV4.")
}

struct FieldReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl FieldReader<'_> {
    /// The values of all rows and their length in bits.
    fn fields(&mut self, rows: &[&FieldDescriptor]) -> Result<Vec<(Vec<u8>, usize)>, RuleError> {
        let mut values: Vec<(Vec<u8>, usize)> = Vec::with_capacity(rows.len());
        for (index, row) in rows.iter().enumerate() {
            let wrong = |problem| RuleError { field: row.fid, problem };
            row.check().map_err(wrong)?;
            let before = rows.iter().take(index).zip(&values);
            let ihl =
                before.filter(|(row, _)| row.fid == IPV4_IHL).find_map(|(_, (bytes, bits))| read(bytes, 0, *bits));
            values.push(self.field(row, ihl).ok_or_else(|| wrong("cannot be read from the residue"))?);
        }
        Ok(values)
    }

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
