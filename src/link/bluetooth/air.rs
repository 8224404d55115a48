//! Frames of the LE link layer (Bluetooth Core Specification, Vol 6, Part B, 2), and the headers that captures add
//! in front:
//!
//! ```text
//! | access address 4 | coding indicator 0/1 | header 2, CTE 0/1 | payload, MIC 0/4 | CRC 3
//!
//! | channel 1 | signal, noise 2 | offenses 1 | access address 4 | flags 2 |      LINKTYPE_BLUETOOTH_LE_LL_WITH_PHDR
//! | board 1 | payload length 2 | version 1 | counter 2 | type 1 |               LINKTYPE_NORDIC_BLE, version 2 and 3
//! | length 1 = 10 | flags 1 | channel 1 | RSSI 1 | event counter 2 | time 4 |
//! ```

use super::{ENCRYPTED, Side, u16_le};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

pub(super) const LE_LL: u16 = 251;
pub(super) const LE_LL_WITH_PHDR: u16 = 256;
pub(super) const NORDIC_BLE: u16 = 272;

/// The access address of advertising channels.
pub(super) const ADVERTISING: u32 = 0x8e89_bed6;
/// Bit in the header of data frames: Constant Tone Extension information follows, which the length does not
/// include.
const CTE_PRESENT: u8 = 0x20;
/// PHY in the header of the capture. The coded PHY adds one byte.
const CODED: u16 = 2;

/// One frame.
pub(super) struct Pdu<'a> {
    pub access_address: u32,
    pub from: Side,
    /// The first byte of the header.
    pub first: u8,
    pub payload: &'a [u8],
    /// The bytes that the CRC covers: header and payload.
    pub covered: &'a [u8],
    pub crc: Crc,
    /// The frame was encrypted on the air, and the sniffer decrypted it. The MIC may still be there.
    pub decrypted: bool,
}

/// Whether the frame is intact.
pub(super) enum Crc {
    /// The capture states whether the CRC is right.
    Checked { good: bool },
    /// The captured CRC, low byte first.
    Bytes([u8; 3]),
}

/// What the header of the capture says about the frame.
struct Radio {
    from: Side,
    crc_is_good: Option<bool>,
    decrypted: bool,
    coded: bool,
}

/// Reads a frame, or returns why it cannot be read.
pub(super) fn read(link_type: u16, frame: &[u8]) -> Result<Result<Pdu<'_>, &'static str>, Fault> {
    let mut reader = Reader::new(Stage::Link, "Bluetooth LE frame", frame);
    let radio = match link_type {
        LE_LL_WITH_PHDR => with_phdr(&mut reader)?,
        NORDIC_BLE => nordic(&mut reader)?,
        _ => Ok(Radio { from: Side::Unknown, crc_is_good: None, decrypted: false, coded: false }),
    };
    let radio = match radio {
        Ok(radio) => radio,
        Err(what) => return Ok(Err(what)),
    };
    let access_address = u32::from_le_bytes(reader.array()?);
    if radio.coded {
        reader.u8()?;
    }
    let start = reader.position();
    let [first, len] = reader.array()?;
    if first & CTE_PRESENT != 0 && access_address != ADVERTISING {
        reader.u8()?;
    }
    let payload = reader.take(usize::from(len))?;
    let covered = frame.get(start..reader.position()).unwrap_or_default();
    let crc = match radio.crc_is_good {
        Some(good) => Crc::Checked { good },
        None => Crc::Bytes(reader.array()?),
    };
    Ok(Ok(Pdu { access_address, from: radio.from, first, payload, covered, crc, decrypted: radio.decrypted }))
}

fn with_phdr(reader: &mut Reader<'_>) -> Result<Result<Radio, &'static str>, Fault> {
    reader.take(8)?;
    let flags = u16_le(reader)?;
    let flag = |bit: u16| flags & bit != 0;
    if !flag(0x0001) {
        return Ok(Err("a Bluetooth LE frame that is whitened"));
    }
    let from = match flags >> 7 & 7 {
        2 => Side::One,
        3 => Side::Two,
        4.. => return Ok(Err("Bluetooth LE isochronous data")),
        _ => Side::Unknown,
    };
    let crc_is_good = flag(0x0400).then(|| flag(0x0800));
    Ok(Ok(Radio { from, crc_is_good, decrypted: flag(0x0008), coded: flags >> 14 == CODED }))
}

fn nordic(reader: &mut Reader<'_>) -> Result<Result<Radio, &'static str>, Fault> {
    const ADVERTISEMENT: u8 = 2;
    const DATA: u8 = 6;
    let [_, _, _, version, _, _, kind, _, flags, ..] = reader.array::<17>()?;
    if !matches!(version, 1..=3) {
        return Ok(Err("another version of the nRF Sniffer"));
    }
    if !matches!(kind, ADVERTISEMENT | DATA) {
        return Ok(Err("a message of the nRF Sniffer"));
    }
    let from = if flags & 2 != 0 { Side::One } else { Side::Two };
    let (encrypted, mic_is_good) = (flags & 4 != 0, flags & 8 != 0);
    let (crc_is_good, coded) = (Some(flags & 1 != 0), u16::from(flags >> 4 & 7) == CODED);
    if kind == DATA && encrypted && !mic_is_good {
        return Ok(Err(ENCRYPTED));
    }
    Ok(Ok(Radio { from, crc_is_good, decrypted: kind == DATA && encrypted, coded }))
}

/// The CRC of a frame (Vol 6, Part B, 3.1.1): x^24 + x^10 + x^9 + x^6 + x^4 + x^3 + x + 1. Bits are processed low
/// bit first, as the bytes are in a capture.
pub(super) fn crc(init: u32, covered: &[u8]) -> [u8; 3] {
    const CRC24: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_24_BLE);
    let mut crc = CRC24.digest_with_initial(init);
    crc.update(covered);
    let [a, b, c, _] = crc.finalize().to_le_bytes();
    [a, b, c]
}
