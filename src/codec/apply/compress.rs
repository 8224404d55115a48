//! From a packet to its residue.

use super::{append, options_bits, read, target_bits};
use crate::bits::BitWriter;
use crate::schc::fields::{FieldId, IPV4_IHL, IPV4_OPTIONS};
use crate::schc::{
    Action, Direction, FieldDescriptor, FieldLength, Matching, Rule, RuleError, Target, header_order, index_bits,
};

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
    ///
    /// # Errors
    /// No rule matches a field of the packet, or the packet is malformed.
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
                let bits_after: usize = order.iter().skip(step + 1).map(|(index, _)| fixed(index)).sum();
                let left = has_bits.saturating_sub(at + bits_after);
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
