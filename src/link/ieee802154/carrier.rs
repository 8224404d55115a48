//! Headers that captures add before an IEEE 802.15.4 frame.
//!
//! `LINKTYPE_IEEE802_15_4_TAP`, little-endian; a TLV is padded to 4 bytes:
//!
//! ```text
//! | version 1 = 0 | reserved 1 | length 2 | ( type 2 | length 2 | value | padding ) ... | frame
//! ```
//!
//! ZEP, the ZigBee Encapsulation Protocol on UDP port 17754, big-endian:
//!
//! ```text
//! | "EX" | 1 | channel 1 | device 2 | CRC mode 1 | LQI 1 | reserved 7 | length 1 | frame
//! | "EX" | 2 | type 1 = 1 | channel 1 | device 2 | CRC mode 1 | LQI 1 | time 8 | number 4 | reserved 10 | length 1 | frame
//! | "EX" | 2 | type 1 = 2 (ACK) | number 4
//! ```
//!
//! `LINKTYPE_IEEE802_15_4_NONASK_PHY`: preamble of 4 bytes 0, SFD a7, frame length (7 bits), frame.

use super::fcs::Trailer;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// The UDP port of ZEP.
pub(in crate::link) const ZEP_PORT: u16 = 17_754;

/// A MAC frame as it was captured.
#[derive(Debug, Clone, Copy)]
pub(in crate::link) struct Radio<'a> {
    /// The frame with its trailer.
    pub frame: &'a [u8],
    /// What the capture says about the trailer.
    pub trailer: Trailer,
    /// Absolute Slot Number of TSCH, if the capture contains it.
    pub asn: Option<u64>,
    /// Number of bytes of the frame that were not captured.
    pub missing: usize,
}

impl<'a> Radio<'a> {
    /// A frame without a header before it.
    pub(in crate::link) fn bare(frame: &'a [u8], trailer: Trailer) -> Radio<'a> {
        Radio { frame, trailer, asn: None, missing: 0 }
    }
}

pub(in crate::link) fn tap(data: &[u8]) -> Result<Radio<'_>, Fault> {
    const FCS_TYPE: u16 = 0;
    const ASN: u16 = 7;
    let mut reader = Reader::new(Stage::Link, "TAP header", data);
    let version = reader.u8()?;
    if version != 0 {
        return Err(Fault::value(Stage::Link, 0, "TAP version", u64::from(version), "0"));
    }
    reader.u8()?;
    let len = usize::from(super::u16_le(&mut reader)?);
    let Some(tlvs_len) = len.checked_sub(4) else {
        return Err(Fault::value(Stage::Link, 2, "TAP length", len as u64, "4 or more"));
    };
    let mut tlvs = Reader::new(Stage::Link, "TAP TLV", reader.take(tlvs_len)?);
    let mut radio = Radio::bare(reader.rest(), Trailer::None);
    while tlvs.left() > 0 {
        let (kind, len) = (super::u16_le(&mut tlvs)?, usize::from(super::u16_le(&mut tlvs)?));
        let value = tlvs.take(len)?;
        // The padding of the last TLV may be missing.
        tlvs.take(tlvs.left().min(len.next_multiple_of(4) - len))?;
        match (kind, value) {
            (FCS_TYPE, [1, ..]) => radio.trailer = Trailer::Crc16,
            (FCS_TYPE, [2, ..]) => radio.trailer = Trailer::Crc32,
            (ASN, value) => radio.asn = value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes)),
            _ => {}
        }
    }
    Ok(radio)
}

/// The first bytes of a ZEP datagram.
pub(in crate::link) const ZEP_PREAMBLE: &[u8; 2] = b"EX";

/// The frame in a ZEP datagram, which starts with [`ZEP_PREAMBLE`]; `None` for an acknowledgment of ZEP. `missing`
/// bytes of `data` were not captured.
pub(in crate::link) fn zep(data: &[u8], missing: usize) -> Result<Option<Radio<'_>>, Fault> {
    let mut reader = Reader::new(Stage::Link, "ZEP header", data);
    reader.take(ZEP_PREAMBLE.len())?;
    let crc_mode = match reader.u8()? {
        1 => {
            reader.take(3)?;
            let mode = reader.u8()?;
            reader.take(8)?;
            mode
        }
        2 => {
            const ACK: u8 = 2;
            if reader.u8()? == ACK {
                return Ok(None);
            }
            reader.take(3)?;
            let mode = reader.u8()?;
            reader.take(1 + 8 + 4 + 10)?;
            mode
        }
        version => return Err(Fault::value(Stage::Link, 2, "ZEP version", u64::from(version), "1 or 2")),
    };
    let len = usize::from(reader.u8()? & 0x7f);
    let rest = reader.rest();
    if rest.len().saturating_add(missing) < len {
        return Err(Fault::short(Stage::Link, reader.position(), "ZEP frame", len, rest.len()));
    }
    // CRC mode 0: the last two bytes are the metadata of a TI radio.
    let trailer = if crc_mode == 0 { Trailer::Ti } else { Trailer::Unknown };
    let frame = rest.get(..len).unwrap_or(rest);
    Ok(Some(Radio { frame, trailer, asn: None, missing: len - frame.len() }))
}

pub(in crate::link) fn non_ask_phy(data: &[u8]) -> Result<Radio<'_>, Fault> {
    const SFD: u8 = 0xa7;
    let mut reader = Reader::new(Stage::Link, "PHY header", data);
    reader.take(4)?;
    let sfd = reader.u8()?;
    if sfd != SFD {
        return Err(Fault::value(Stage::Link, 4, "start-of-frame delimiter", u64::from(sfd), "0xa7 (167)"));
    }
    let len = usize::from(reader.u8()? & 0x7f);
    let rest = reader.rest();
    let frame = rest.get(..len).unwrap_or(rest);
    Ok(Radio { missing: len - frame.len(), ..Radio::bare(frame, Trailer::Crc16) })
}
