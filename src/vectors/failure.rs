//! Packets that must fail, and the step at which they fail.

use super::kit::hex_of;
use super::packet::{Failed, Problem, Vector, datagram, open, seal, sn_values};
use crate::codec::State;
use crate::error::Stage;
use crate::files::Json;
use crate::sa::table::{PreparedSa, SaTable};

/// The inputs of a failure vector.
#[derive(Debug, Clone)]
pub(super) enum Case<'a> {
    /// Packet `of`, `vector`, with one bit of `wire` inverted.
    Flipped { kind: &'static str, of: usize, bit: usize, vector: &'a Vector },
    /// A modified clear text with a valid ICV.
    ClearText { outer_header: &'a [u8], sn: u64, iv: &'a [u8], clear_text: &'a [u8] },
    /// A packet that the context does not match.
    NoMatch { outer_header: &'a [u8], inner_packet: &'a [u8] },
}

/// The possible values of `kind`.
pub(super) const ICV: &str = "icv";
/// A bit of the SPI's residue is wrong.
pub(super) const SPI: &str = "spi";
/// The RuleID before the ESP header is wrong.
pub(super) const RULE_ID: &str = "rule-id";
pub(super) const CLEAR_TEXT: &str = "clear-text";
pub(super) const NO_MATCH: &str = "no-match";

/// The bits of `wire` that are inverted, and the kind of each.
pub(super) fn flips(entry: &PreparedSa, vector: &Vector) -> Vec<(&'static str, usize)> {
    let mut flips = vec![];
    if entry.authenticates() {
        flips.push((ICV, vector.wire.len() * 8 - 1));
    }
    let rule_bits = vector.header_rule_id.len() * 8;
    if rule_bits > 0 {
        flips.push((RULE_ID, rule_bits - 1));
    }
    let spi_bits = usize::from(entry.codec.spi_bits());
    if spi_bits > 0 {
        flips.push((SPI, rule_bits + spi_bits - 1));
    }
    flips
}

/// Modified clear texts of `vector` that may be malformed. The length of each is a multiple of the cipher block.
pub(super) fn damaged(entry: &PreparedSa, vector: &Vector) -> Vec<Vec<u8>> {
    let Vector { clear_rule_id, payload_data, trailer, residue_bits, .. } = vector;
    let payload_at = clear_rule_id.len();
    let residue_len = residue_bits.div_ceil(8);
    let with = |payload: &[u8], trailer: &[u8]| [clear_rule_id.as_slice(), payload, trailer].concat();
    // After a RuleID of the inner packet, the residue starts one byte later.
    let filled = |byte: u8, from: usize| {
        let mut payload = payload_data.clone();
        payload.iter_mut().skip(from).take(residue_len).for_each(|at| *at = byte);
        with(&payload, trailer)
    };
    let mut found = vec![vec![]];
    // Without payload data, or with half of its residue.
    found.push(with(&[], trailer));
    found.push(with(payload_data.get(..residue_len / 2).unwrap_or_default(), trailer));
    // An index that is not in the list of a mapping, an IHL of 15, and an IHL of 0.
    found.extend([filled(0xff, 0), filled(0xff, 1), filled(0, 0), filled(0, 1)]);
    // Pad Length and Next Header, counted from the end.
    for from_end in 1..=trailer.len().min(2) {
        let mut trailer = trailer.clone();
        let at = trailer.len() - from_end;
        if let Some(byte) = trailer.get_mut(at) {
            *byte = 0xff;
        }
        found.push(with(payload_data, &trailer));
    }
    // The RuleIDs of the trailer and of the inner packet.
    for at in [0, payload_at] {
        let mut clear = vector.clear_text.clone();
        if let Some(byte) = clear.get_mut(at) {
            *byte ^= 1;
        }
        found.push(clear);
    }
    found.retain(|clear| clear.len().is_multiple_of(entry.cipher().block()));
    let mut distinct: Vec<Vec<u8>> = vec![];
    for clear in found {
        if !distinct.contains(&clear) {
            distinct.push(clear);
        }
    }
    distinct
}

impl Case<'_> {
    /// The line of failure `number`, or `None` if the packet does not fail.
    pub(super) fn line(&self, table: &SaTable, sa: usize, number: usize) -> Result<Option<Json>, Problem> {
        let Some(entry) = table.entries().get(sa) else {
            return Err(Problem::Wrong("sa", "there is no such SA".to_owned()));
        };
        let spi = entry.sa.spi.unwrap_or(0);
        let mut members: Vec<(&'static str, Json)> =
            vec![("failure", number.into()), ("sa", entry.sa.name.as_str().into())];
        let of_sn = |sn| {
            let [low, high] = sn_values(sn, entry.sa.esn);
            [("spi", hex_of(&spi.to_be_bytes())), ("sn", low), ("sn_high", high)]
        };
        let failed = match self {
            Case::Flipped { kind, of, bit, vector } => {
                let mut wire = vector.wire.clone();
                if let Some(byte) = wire.get_mut(bit / 8) {
                    *byte ^= 0x80 >> (bit % 8);
                }
                let whole = [vector.outer_header.as_slice(), &wire].concat();
                members.extend([("kind", (*kind).into()), ("of", (*of).into()), ("bit", (*bit).into())]);
                members.extend(of_sn(vector.sn));
                members.extend([("outer_header", hex_of(&vector.outer_header)), ("wire", hex_of(&wire))]);
                open(table, sa, vector.sn, &whole, &mut State::default()).err()
            }
            Case::ClearText { outer_header, sn, iv, clear_text } => {
                let (header, wire) = packet_of(entry, outer_header, *sn, iv, clear_text)?;
                members.push(("kind", CLEAR_TEXT.into()));
                members.extend(of_sn(*sn));
                members.extend([
                    ("outer_header", hex_of(&header)),
                    ("clear_text", hex_of(clear_text)),
                    ("iv", hex_of(iv)),
                    ("wire", hex_of(&wire)),
                ]);
                let failed = open(table, sa, *sn, &[header, wire].concat(), &mut State::default()).err();
                failed.filter(|failed| matches!(failed.stage, Stage::Trailer | Stage::Inner))
            }
            Case::NoMatch { outer_header, inner_packet } => {
                let no_match = no_match(entry, outer_header, inner_packet)?;
                return Ok(no_match.map(|no_match| {
                    members.extend(no_match);
                    Json::Object(members)
                }));
            }
        };
        Ok(failed.map(|Failed { stage, status, field, reason }| {
            members.extend([
                ("stage", stage.name().into()),
                ("status", status.name().into()),
                ("field", field.into()),
                ("reason", reason.into()),
            ]);
            Json::Object(members)
        }))
    }
}

/// The outer header and the ESP payload of the packet that encrypts a clear text.
fn packet_of(
    entry: &PreparedSa,
    outer_header: &[u8],
    sn: u64,
    iv: &[u8],
    clear_text: &[u8],
) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let mut wire = vec![];
    entry.codec.encode_header(entry.sa.spi.unwrap_or(0), sn, &mut wire);
    wire.extend(seal(entry, sn, iv, clear_text)?);
    let mut whole = vec![];
    crate::link::rebuild(&[], &datagram(outer_header)?, entry.protocol, None, &[&wire], &mut whole)
        .map_err(|fault| Problem::Wrong("outer_header", fault.to_string()))?;
    whole.truncate(whole.len().saturating_sub(wire.len()));
    Ok((whole, wire))
}

/// The members of a failure whose packet the context does not match; `None` if it does.
fn no_match(
    entry: &PreparedSa,
    outer_header: &[u8],
    inner_packet: &[u8],
) -> Result<Option<[(&'static str, Json); 7]>, Problem> {
    let outer = datagram(outer_header)?.outer;
    let compressed = entry.codec.compress(inner_packet, &outer, &mut State::default(), &mut vec![]);
    Ok(compressed.err().map(|mismatch| {
        [
            ("kind", NO_MATCH.into()),
            ("outer_header", hex_of(outer_header)),
            ("inner_packet", hex_of(inner_packet)),
            ("stage", "match".into()),
            ("status", NO_MATCH.into()),
            ("field", mismatch.field.into()),
            ("reason", mismatch.to_string().into()),
        ]
    }))
}
