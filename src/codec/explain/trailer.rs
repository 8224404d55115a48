//! The rows of the ESP trailer.

use super::row::{self, FieldValue, Origin, ResidueRow, RowStage};
use super::{Explainer, Unexplained};
use crate::codec::trailer::NextHeader;
use crate::schc::FieldDescriptor;
use crate::schc::fields::{ESP_NXT, ESP_PAD, ESP_PAD_LEN};

const STAGE: RowStage = RowStage::Ctec;

/// A field of the trailer, in bits of the clear text.
struct Place {
    at: usize,
    sent_bits: usize,
    field_bits: usize,
}

impl Explainer<'_> {
    /// Padding, Pad Length and Next Header.
    pub(super) fn trailer(&mut self) -> Result<(), Unexplained> {
        let clear = self.packet.clear;
        let Ok(opened) = self.codec.trailer.open(clear) else { return Ok(()) };
        let start = (opened.offset + opened.payload.len()) * 8;
        let pad = self.codec.trailer.pad;
        let pad_bits = if pad { usize::from(self.pad_len(start)?) * 8 } else { 0 };
        let pad_len_bits = if pad { 8 } else { 0 };
        let next_header = self.packet.restored.map(|(restored, _)| restored.next_header).or(opened.next_header);
        for row in self.rows_of("ctec") {
            let wrong = Unexplained { stage: STAGE, field: row.fid.name };
            let (place, value) = match row.fid {
                ESP_PAD => {
                    let padding = clear.get(start / 8..(start + pad_bits) / 8).ok_or(wrong)?;
                    let place = Place { at: start, sent_bits: pad_bits, field_bits: pad_bits };
                    (place, FieldValue::Bytes(padding.to_vec()))
                }
                ESP_PAD_LEN => {
                    let place = Place { at: start + pad_bits, sent_bits: pad_len_bits, field_bits: 8 };
                    (place, FieldValue::Number((pad_bits / 8) as u64))
                }
                ESP_NXT => {
                    let at = start + pad_bits + pad_len_bits;
                    let place = Place { at, sent_bits: self.next_header_bits(), field_bits: 8 };
                    // Of a malformed clear text it may be unknown.
                    let Some(value) = next_header else { continue };
                    self.check_next_header(row, &place, value)?;
                    (place, FieldValue::Number(value.into()))
                }
                _ => return Err(wrong),
            };
            self.trailer_row(row, &place, value).ok_or(wrong)?;
        }
        Ok(())
    }

    /// Pad Length, checked: it is the last byte before Next Header, and the padding begins at bit `start`.
    fn pad_len(&self, start: usize) -> Result<u8, Unexplained> {
        let wrong = Unexplained { stage: STAGE, field: ESP_PAD_LEN.name };
        let clear = self.packet.clear;
        let end = clear.len().checked_sub(self.next_header_bits().div_ceil(8) + 1).ok_or(wrong)?;
        let pad_len = *clear.get(end).ok_or(wrong)?;
        if start / 8 + usize::from(pad_len) == end { Ok(pad_len) } else { Err(wrong) }
    }

    fn next_header_bits(&self) -> usize {
        match &self.codec.trailer.next_header {
            NextHeader::Sent => 8,
            NextHeader::Elided | NextHeader::Known(_) => 0,
            NextHeader::Rule(rule) => rule.residue_bits(),
        }
    }

    fn check_next_header(&self, row: &FieldDescriptor, place: &Place, value: u8) -> Result<(), Unexplained> {
        let wrong = Unexplained { stage: STAGE, field: ESP_NXT.name };
        let sent = row::sent(row, self.packet.clear, place.at).ok_or(wrong)?;
        let restores = sent.0 == place.sent_bits && row::restores(row, sent, (8, value.into()), true);
        if restores { Ok(()) } else { Err(wrong) }
    }

    fn trailer_row(&mut self, row: &FieldDescriptor, place: &Place, value: FieldValue) -> Option<()> {
        let Place { at, sent_bits, field_bits } = *place;
        self.rows.push(ResidueRow {
            stage: STAGE,
            field: row.fid.name,
            rule: Some(row.clone()),
            field_bits,
            bit_offset: at,
            bits: row::digits(self.packet.clear, at, sent_bits)?,
            value,
            origin: Origin::of(row),
            packet_offset: None,
            is_certain: true,
        });
        Some(())
    }
}
