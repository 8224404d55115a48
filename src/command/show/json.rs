//! A packet as one line of JSON: its record, and what only `show` prints.

use serde::Serialize;
use serde_json::Value;

use super::{Candidate, ShownPacket};
use crate::codec::explain::{FieldValue, Origin, ResidueRow};
use crate::error::Error;
use crate::records::json;

/// The members that follow those of the record.
#[derive(Debug, Serialize)]
struct More<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_offset: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aad: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    clear_text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<Vec<RowLine<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unexplained: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates: Option<Vec<CandidateLine<'a>>>,
}

#[derive(Debug, Serialize)]
struct RowLine<'a> {
    stage: &'static str,
    field: &'static str,
    action: &'static str,
    sent_bits: usize,
    bit_offset: usize,
    bits: &'a str,
    value: Value,
    origin: &'a str,
}

#[derive(Debug, Serialize)]
struct CandidateLine<'a> {
    sa: &'a str,
    tried: bool,
    tries: u64,
    reason: &'a str,
}

/// Appends a packet as one JSON object and a newline.
///
/// # Errors
/// None is known; the writer of JSON may have one.
pub(crate) fn write_line(packet: &ShownPacket<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
    json::write_line(&packet.record, out);
    let opened = packet.opened.as_ref();
    let explanation = opened.map(|opened| &opened.explanation);
    let method = packet.record.esp().map_or("", |esp| esp.method.name());

    let more = More {
        payload_offset: packet.esp.as_ref().and_then(|esp| esp.offset),
        nonce: opened.and_then(|opened| opened.nonce.as_ref()).map(hex::encode),
        aad: opened.and_then(|opened| opened.aad.as_ref()).map(hex::encode),
        clear_text: opened.map(|opened| hex::encode(&opened.clear_text)),
        rows: explanation
            .and_then(|explanation| explanation.as_ref().ok())
            .map(|explanation| explanation.rows.iter().map(|row| row_line(row, method)).collect()),
        unexplained: explanation
            .and_then(|explanation| explanation.as_ref().err())
            .map(|unexplained| unexplained.to_string()),
        candidates: packet.candidates.as_ref().map(|all| all.iter().map(candidate_line).collect()),
    };
    let more = serde_json::to_vec(&more).map_err(|error| Error::usage(error.to_string(), ""))?;
    // `{...}\n` and `{...}` become one object.
    if let Some(members) = more.strip_prefix(b"{").filter(|members| *members != b"}") {
        out.truncate(out.len().saturating_sub(2));
        out.push(b',');
        out.extend_from_slice(members);
        out.push(b'\n');
    }
    Ok(())
}

fn row_line<'a>(row: &'a ResidueRow, method: &'a str) -> RowLine<'a> {
    RowLine {
        stage: row.stage.name(),
        field: row.field,
        action: row.action(),
        sent_bits: row.sent_bits(),
        bit_offset: row.bit_offset,
        bits: &row.bits,
        value: match &row.value {
            FieldValue::Number(number) => (*number).into(),
            other => other.to_string().into(),
        },
        origin: if row.origin == Origin::Found { method } else { row.origin.name() },
    }
}

fn candidate_line(candidate: &Candidate) -> CandidateLine<'_> {
    let Candidate { sa, tried, tries, reason } = candidate;
    CandidateLine { sa, tried: *tried, tries: *tries, reason }
}
