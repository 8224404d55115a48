//! Explains a packet bit by bit: a row for each field that a rule names, with the bits of it that were sent.
//!
//! The rules exist as data ([`Codec::tables`]). They are read again along the restored packet, in the order in which a
//! sender applies them. Every row is checked: a receiver must restore the field of the packet from the bits that the row
//! shows. An explanation that is wrong is an error, never an output.

mod inner;
mod row;
mod trailer;

use std::fmt;

pub use row::{FieldValue, Origin, ResidueRow, RowStage};

use super::{Codec, EspHeader, NamedRule, Restorable, Restored};
use crate::bits;
use crate::context::{Context, Dialect};
use crate::net::OuterHeader;
use crate::schc::fields::{ESP_NXT, ESP_PAD, ESP_PAD_LEN, ESP_SEQ, FieldId};
use crate::schc::{Direction, FieldDescriptor, FieldLength, Rule, header_order};

/// The name of RuleIDs in rows.
const RULE_ID: &str = "RuleID";

/// A packet that was decrypted.
#[derive(Debug, Clone, Copy)]
pub struct OpenedPacket<'a> {
    /// The ESP payload as captured.
    pub payload: &'a [u8],
    /// The Security Parameters Index.
    pub spi: u32,
    /// The Sequence Number, 64 bits with ESN.
    pub sequence: u64,
    /// The clear text.
    pub clear: &'a [u8],
    /// The IP header that carried it.
    pub outer: &'a OuterHeader,
    /// The packet that was restored; `None` if the clear text is malformed.
    pub restored: Option<(&'a Restored, &'a [u8])>,
}

/// What the bits of a packet are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The fields in the order of the wire.
    pub rows: Vec<ResidueRow>,
    /// Whether rules describe the inner headers; otherwise they were sent as they are.
    pub compresses_inner: bool,
    /// What follows the inner headers; `None` if the clear text is malformed.
    pub inner: Option<AfterHeaders>,
}

/// The part of a clear text between the inner headers and the trailer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AfterHeaders {
    /// Bits that fill the residue to a whole byte.
    pub pad_bits: usize,
    /// Where the payload is in the clear text, in bytes. Of a TCP header of which only the ports are compressed, the rest is
    /// part of it.
    pub payload: std::ops::Range<usize>,
}

/// The rules do not explain the bits of a packet: at this field the restored packet and the wire differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unexplained {
    /// The compressor.
    pub stage: RowStage,
    /// The field.
    pub field: &'static str,
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the rule of {} ({}) does not explain the bits of this packet", self.field, self.stage.name())
    }
}

impl Codec {
    /// Explains a packet that this codec restored. `context` is the one that it was compiled from, for a cipher of
    /// `cipher_block` bytes.
    ///
    /// # Errors
    /// The rules and the packet contradict each other. That is a defect of this program.
    pub fn explain(
        &self,
        context: Option<&Context>,
        cipher_block: usize,
        packet: &OpenedPacket<'_>,
    ) -> Result<Explanation, Unexplained> {
        self.explain_parts(context, cipher_block, packet, true)
    }

    /// [`Codec::explain`] without the ESP header: what is in `packet` about it is ignored.
    pub(crate) fn explain_clear_text(
        &self,
        context: Option<&Context>,
        cipher_block: usize,
        packet: &OpenedPacket<'_>,
    ) -> Result<Explanation, Unexplained> {
        self.explain_parts(context, cipher_block, packet, false)
    }

    fn explain_parts(
        &self,
        context: Option<&Context>,
        cipher_block: usize,
        packet: &OpenedPacket<'_>,
        esp_header: bool,
    ) -> Result<Explanation, Unexplained> {
        let tables = context.map_or_else(standard, |context| Codec::tables(context, cipher_block));
        let direction = match context.map(|context| &context.dialect) {
            Some(Dialect::Custom(custom)) => custom.direction,
            _ => Direction::Both,
        };
        let mut explainer = Explainer { codec: self, tables: &tables, direction, packet, rows: vec![] };
        if esp_header {
            explainer.esp_header()?;
        }
        let inner = explainer.inner()?;
        explainer.trailer()?;
        Ok(Explanation { rows: explainer.rows, compresses_inner: tables.iter().any(is_inner), inner })
    }
}

/// The rules of standard ESP: everything is sent.
fn standard() -> Vec<NamedRule> {
    let padding = FieldDescriptor { length: FieldLength::Function, ..FieldDescriptor::sent(ESP_PAD) };
    let [pad_len, next_header] = [ESP_PAD_LEN, ESP_NXT].map(FieldDescriptor::sent);
    let trailer = Rule { fields: vec![padding, pad_len, next_header] };
    vec![
        NamedRule { name: "ctec", rule: trailer },
        NamedRule { name: "eec", rule: EspHeader::low_bits(32, 32).table() },
    ]
}

/// Whether a rule is of an inner header.
fn is_inner(table: &NamedRule) -> bool {
    table.name.starts_with("iipc")
}

/// Collects the rows of a packet, in the order of the wire.
struct Explainer<'a> {
    codec: &'a Codec,
    tables: &'a [NamedRule],
    direction: Direction,
    packet: &'a OpenedPacket<'a>,
    rows: Vec<ResidueRow>,
}

/// A header and the rows that describe it.
struct Header<'a> {
    stage: RowStage,
    rows: Vec<&'a FieldDescriptor>,
    /// What holds the residue.
    wire: &'a [u8],
    /// The restored header.
    bytes: &'a [u8],
    /// Where it is in the restored packet, in bytes.
    packet_offset: Option<usize>,
    /// A field that is not where the one before it ends, and its offset in bits.
    apart: Option<(FieldId, usize)>,
}

impl<'a> Explainer<'a> {
    /// The rows of a rule that apply to this packet.
    fn rows_of(&self, name: &str) -> Vec<&'a FieldDescriptor> {
        let table = self.tables.iter().find(|table| table.name == name);
        table.map(|table| table.rule.rows(self.direction)).unwrap_or_default()
    }

    /// RuleID, SPI and Sequence Number.
    fn esp_header(&mut self) -> Result<(), Unexplained> {
        let OpenedPacket { payload, spi, sequence, .. } = *self.packet;
        let mut at = 0;
        if let Some(rule_id) = self.codec.header.rule_id {
            at = self.rule_id(RowStage::Eec, payload, at, rule_id)?;
        }
        let bytes = (u64::from(spi) << 32 | sequence & u64::from(u32::MAX)).to_be_bytes();
        let rows = self.rows_of("eec");
        let first = self.rows.len();
        self.header(
            Header { stage: RowStage::Eec, rows, wire: payload, bytes: &bytes, packet_offset: None, apart: None },
            at,
        )?;
        for row in self.rows.iter_mut().skip(first) {
            let is_sequence = row.field == ESP_SEQ.name;
            row.origin = match row.sent_bits() == row.field_bits {
                _ if is_sequence => Origin::Found,
                true => Origin::Sent,
                false => Origin::Sa,
            };
            if is_sequence {
                row.value = FieldValue::Number(sequence);
            }
        }
        Ok(())
    }

    /// A RuleID at bit `at` of `wire`. Returns the bit after it.
    fn rule_id(&mut self, stage: RowStage, wire: &[u8], at: usize, value: u8) -> Result<usize, Unexplained> {
        let wrong = Unexplained { stage, field: RULE_ID };
        if bits::read(wire, at, 8) != Some(value.into()) {
            return Err(wrong);
        }
        self.sent_whole(stage, RULE_ID, wire, (at, 8), FieldValue::Number(value.into())).ok_or(wrong)
    }

    /// A field without a row in the rules: all its bits are sent. Returns the bit after them.
    fn sent_whole(
        &mut self,
        stage: RowStage,
        field: &'static str,
        wire: &[u8],
        (at, count): (usize, usize),
        value: FieldValue,
    ) -> Option<usize> {
        self.rows.push(ResidueRow {
            stage,
            field,
            rule: None,
            field_bits: count,
            bit_offset: at,
            bits: row::digits(wire, at, count)?,
            value,
            origin: Origin::Sent,
            packet_offset: None,
            is_certain: true,
        });
        Some(at + count)
    }

    /// The rows of a header whose residue begins at bit `at`. Returns the bit after the residue.
    fn header(&mut self, header: Header<'_>, mut at: usize) -> Result<usize, Unexplained> {
        let Header { stage, rows, wire, bytes, packet_offset, apart } = header;
        let mut places = vec![None; rows.len()];
        let mut offset = 0;
        for (index, field) in header_order(&rows, self.direction) {
            let Some(FieldLength::Fixed(count)) = rows.get(index).map(|row| row.length) else { continue };
            if let Some(place) = places.get_mut(index) {
                let own = apart.filter(|(other, _)| *other == field).map_or(offset, |(_, own)| own);
                *place = Some((field, own, usize::from(count)));
            }
            offset += usize::from(count);
        }
        for (row, place) in rows.into_iter().zip(places) {
            let wrong = Unexplained { stage, field: row.fid.name };
            let (field, offset, field_bits) = place.ok_or(wrong)?;
            let value = bits::read(bytes, offset, field_bits).ok_or(wrong)?;
            let (sent_bits, sent) = row::sent(row, wire, at).ok_or(wrong)?;
            // The target values of the ESP header are those of the SA and of the packet.
            if !row::restores(row, (sent_bits, sent), (field_bits, value), stage != RowStage::Eec) {
                return Err(wrong);
            }
            self.rows.push(ResidueRow {
                stage,
                field: row.fid.name,
                rule: Some(row.clone()),
                field_bits,
                bit_offset: at,
                bits: row::digits(wire, at, sent_bits).ok_or(wrong)?,
                value: FieldValue::of(field, value, field_bits),
                origin: Origin::of(row),
                packet_offset: packet_offset.map(|start| start * 8 + offset),
                is_certain: self.is_certain(field),
            });
            at += sent_bits;
        }
        Ok(at)
    }

    /// Whether records do not list the field among those that may differ from the original.
    fn is_certain(&self, field: FieldId) -> bool {
        let Some((restored, _)) = self.packet.restored else { return true };
        Restorable::of(field).all(|restorable| restored.sources.of(restorable).is_none())
    }
}
