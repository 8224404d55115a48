//! The rules of the ESP header and trailer.

use super::RowError;
use super::rows::{Rows, in_order, single_field};
use crate::codec::EspHeader;
use crate::codec::inner::InnerRules;
use crate::codec::trailer::{NextHeader, Trailer};
use crate::context::{Custom, Mode};
use crate::net::IpVersion;
use crate::schc::fields::*;
use crate::schc::{Action, FieldDescriptor, Matching, Target};

/// The rule of Padding, Pad Length and Next Header. The fields that are sent follow the payload.
pub(super) fn trailer(
    rows: &Rows,
    custom: &Custom,
    inner: &InnerRules,
    cipher_block: usize,
) -> Result<Trailer, RowError> {
    in_order(rows, &[ESP_PAD, ESP_PAD_LEN, ESP_NXT])?;
    let mut trailer = Trailer {
        rule_id: None,
        pad: true,
        next_header: NextHeader::Sent,
        // Both are powers of 2.
        align: cipher_block.max(custom.alignment.into()),
        uncounted: 0,
    };
    let [Some(padding), Some(pad_len), Some(next_header)] =
        [ESP_PAD, ESP_PAD_LEN, ESP_NXT].map(|field| rows.row(field))
    else {
        return Ok(trailer);
    };
    let [padding_sent, pad_len_sent] = [is_sent(rows, padding)?, is_sent(rows, pad_len)?];
    if padding_sent != pad_len_sent {
        let problem = "ESP.PAD_LEN: send either both ESP.PAD and ESP.PAD_LEN, or neither";
        return Err(rows.wrong(Some(pad_len.0), problem));
    }
    if !padding_sent && trailer.align > 1 {
        let problem = "ESP.PAD: it can be omitted only with `alignment: 8 bit` and a cipher without blocks";
        return Err(rows.wrong(Some(padding.0), problem));
    }
    trailer.pad = padding_sent;
    trailer.next_header = next_header_rule(rows, next_header, inner)?;
    Ok(trailer)
}

/// How the Next Header field is sent.
fn next_header_rule(
    rows: &Rows,
    (position, row): (usize, &FieldDescriptor),
    inner: &InnerRules,
) -> Result<NextHeader, RowError> {
    let wrong = |problem: &str| Err(rows.wrong(Some(position), format!("ESP.NXT: {problem}")));
    let known = match inner.mode {
        Some(Mode::Tunnel) => inner.version.map(IpVersion::next_header),
        _ => inner.protocol,
    };
    Ok(match (row.matching, row.action) {
        (Matching::Ignore, Action::ValueSent) => NextHeader::Sent,
        // In tunnel mode, Next Header follows from the IP version of the packet.
        (_, Action::Compute(_)) if known.is_some() || inner.mode == Some(Mode::Tunnel) => NextHeader::Elided,
        (_, Action::Compute(_)) => return wrong("it cannot be computed: give a single `ts_proto`, or send it"),
        (Matching::Equal, Action::NotSent) => {
            // Compiled only to check the row.
            single_field(rows, position, row)?;
            let value = row.target.value().unwrap_or(0) as u8;
            if known.is_some_and(|known| known != value) {
                return wrong("its target value does not match the packets of this SA");
            }
            NextHeader::Known(value)
        }
        (_, Action::NotSent) => return wrong("not-sent needs `equal` here: the receiver needs the exact value"),
        (_, Action::Nearest(_)) => return wrong("this action is not supported for this field"),
        _ => NextHeader::Rule(single_field(rows, position, row)?),
    })
}

/// Whether Padding or Pad Length is sent. A part of it cannot be sent.
fn is_sent(rows: &Rows, (position, row): (usize, &FieldDescriptor)) -> Result<bool, RowError> {
    match (row.matching, row.action) {
        (Matching::Ignore, Action::ValueSent) => Ok(true),
        (Matching::Ignore | Matching::Equal, Action::NotSent | Action::Compute(_))
            if matches!(row.target, Target::Empty | Target::Value(0)) =>
        {
            Ok(false)
        }
        _ => Err(rows
            .wrong(Some(position), format!("{}: use value-sent, or not-sent with no target value or 0", row.fid.name))),
    }
}

/// The rule of SPI and Sequence Number. The SA knows all bits of the SPI. A receiver finds the high bits of the
/// sequence number by the integrity check. So their target values are those of the SA and of each packet, and may
/// be omitted.
pub(super) fn header(rows: &Rows) -> Result<EspHeader, RowError> {
    in_order(rows, &[ESP_SPI, ESP_SEQ])?;
    let (Some((spi_position, spi)), Some((sn_position, sn))) = (rows.row(ESP_SPI), rows.row(ESP_SEQ)) else {
        return Ok(EspHeader::low_bits(32, 32));
    };
    let low = |row: &FieldDescriptor| match (row.matching, row.action) {
        (_, Action::ValueSent) => Some(32),
        (_, Action::NotSent) => Some(0),
        (Matching::Msb(msb), Action::Lsb) if msb <= 32 => Some(32 - msb as u8),
        _ => None,
    };
    let Some(sn_bits) = low(sn) else {
        let problem = "ESP.SEQ: use value-sent, not-sent, or MSB with LSB, because every packet has another number";
        return Err(rows.wrong(Some(sn_position), problem));
    };
    if matches!(sn.matching, Matching::Equal | Matching::MatchMapping) {
        let problem = "ESP.SEQ: use `ignore` or `MSB`, because every packet has another number";
        return Err(rows.wrong(Some(sn_position), problem));
    }
    if matches!(spi.action, Action::Compute(_) | Action::Nearest(_)) {
        return Err(rows.wrong(Some(spi_position), "ESP.SPI: it cannot be computed: use not-sent to omit it"));
    }
    let mut header = EspHeader::low_bits(low(spi).unwrap_or(32), sn_bits);
    if spi.target != Target::Empty {
        let rule = single_field(rows, spi_position, spi)?;
        header = EspHeader { spi_bits: rule.residue_bits() as u8, spi_rule: Some(rule), ..header };
    } else if low(spi).is_none() {
        // The error of the compiled row says what is wrong.
        single_field(rows, spi_position, spi)?;
    }
    let bits = header.spi_bits + header.sn_bits;
    if !bits.is_multiple_of(8) {
        let problem = format!("{bits} bits of SPI and Sequence Number are sent, which is not a whole number of bytes");
        return Err(rows.wrong(Some(sn_position), problem));
    }
    Ok(header)
}
