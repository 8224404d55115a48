//! IEEE 802.15.4 MAC frames of 2003, 2006 and 2015 (IEEE 802.15.4-2015 §7.2).
//!
//! ```text
//! | frame control 2 | sequence 0/1 | dst PAN 0/2 | dst 0/2/8 | src PAN 0/2 | src 0/2/8 | auxiliary security 0.. |
//! | header IEs 0.. | payload IEs 0.. | payload | MIC 0/4/8/16 | FCS 0/2/4 |
//! ```
//!
//! All numbers are little-endian, addresses too.

pub(super) mod carrier;
pub(super) mod fcs;
pub(super) mod security;
pub(super) mod zigbee;

use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::net::LinkAddress;

/// The headers of one MAC frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mac<'a> {
    pub src: Option<LinkAddress>,
    pub dst: Option<LinkAddress>,
    /// PAN ID of the source, or that of the destination if the source has none.
    pub pan: Option<u16>,
    pub kind: Kind,
    pub security: Option<Auxiliary>,
    /// Frame control to header IEs. A MIC covers these bytes, but they are not encrypted.
    pub header: &'a [u8],
    /// The rest: payload IEs if `payload_ies`, payload, MIC.
    pub payload: &'a [u8],
    /// `payload` starts with payload IEs.
    pub payload_ies: bool,
}

/// The type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Command,
    /// Any other type, which the text names.
    Other(&'static str),
}

/// The Auxiliary Security Header (§9.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Auxiliary {
    /// Security Level, 0 to 7.
    pub level: u8,
    /// Key Identifier Mode, 0 to 3.
    pub mode: u8,
    /// Key Index; `None` in mode 0.
    pub index: Option<u8>,
    /// Frame Counter; `None` if TSCH uses the ASN instead.
    pub counter: Option<u32>,
}

impl Auxiliary {
    /// Whether the payload is encrypted. Levels below 4 have a MIC at most.
    pub(super) fn is_encrypted(self) -> bool {
        self.level & 4 != 0
    }
}

/// Reads the headers of `frame`, a MAC frame without FCS.
pub(super) fn parse(frame: &[u8]) -> Result<Mac<'_>, Fault> {
    let mut reader = Reader::new(Stage::Link, "IEEE 802.15.4 header", frame);
    let control = u16_le(&mut reader)?;
    let flag = |bit: u32| control >> bit & 1 == 1;
    let version = control >> 12 & 3;
    if version == 3 {
        return Err(Fault::unsupported(Stage::Link, 0, "a reserved frame version of IEEE 802.15.4"));
    }
    let is_2015 = version == 2;
    let kind = match control & 7 {
        0 => Kind::Other("IEEE 802.15.4 beacon"),
        1 => Kind::Data,
        2 => Kind::Other("IEEE 802.15.4 acknowledgment"),
        3 => Kind::Command,
        // The frame control field of these types has another layout.
        5 => return Ok(Mac::other("IEEE 802.15.4 multipurpose frame")),
        6 => return Ok(Mac::other("IEEE 802.15.4 fragment frame")),
        7 => return Ok(Mac::other("IEEE 802.15.4 extended frame")),
        _ => return Ok(Mac::other("reserved frame type of IEEE 802.15.4")),
    };
    // Sequence Number, unless it is suppressed.
    if !(is_2015 && flag(8)) {
        reader.u8()?;
    }

    let (dst_mode, src_mode) = (control >> 10 & 3, control >> 14 & 3);
    let (dst_pan, src_pan) = pan_ids(is_2015, dst_mode, src_mode, flag(6));
    let pan_dst = if dst_pan { Some(u16_le(&mut reader)?) } else { None };
    let dst = address(dst_mode, &mut reader)?;
    let pan_src = if src_pan { Some(u16_le(&mut reader)?) } else { None };
    let src = address(src_mode, &mut reader)?;

    let security = match (flag(3), version) {
        (false, _) => None,
        // There is no Auxiliary Security Header. The format depends on settings of the network.
        (true, 0) => return Ok(Mac::other("link-layer security of IEEE 802.15.4-2003")),
        (true, _) => Some(auxiliary(is_2015, &mut reader)?),
    };
    let payload_ies = is_2015 && flag(9) && header_ies(&mut reader)?;
    let (header, payload) = frame.split_at_checked(reader.position()).unwrap_or((frame, &[]));
    Ok(Mac { src, dst, pan: pan_src.or(pan_dst), kind, security, header, payload, payload_ies })
}

impl Mac<'_> {
    fn other(what: &'static str) -> Mac<'static> {
        Mac {
            src: None,
            dst: None,
            pan: None,
            kind: Kind::Other(what),
            security: None,
            header: &[],
            payload: &[],
            payload_ies: false,
        }
    }
}

/// Whether a destination and a source PAN ID are present. This depends on the addressing modes (0 none, 2 short, 3
/// extended) and the PAN ID Compression bit (2015: Table 7-2; before: §7.2.1.5 of 2006).
fn pan_ids(is_2015: bool, dst: u16, src: u16, compressed: bool) -> (bool, bool) {
    if !is_2015 {
        return (dst != 0, src != 0 && !(compressed && dst != 0));
    }
    match (dst, src) {
        (0, 0) => (compressed, false),
        (_, 0) => (!compressed, false),
        (0, _) => (false, !compressed),
        (3, 3) => (!compressed, false),
        _ => (true, !compressed),
    }
}

fn address(mode: u16, reader: &mut Reader<'_>) -> Result<Option<LinkAddress>, Fault> {
    Ok(match mode {
        0 => None,
        2 => Some(LinkAddress::Short(u16_le(reader)?)),
        3 => {
            let mut address = reader.array::<8>()?;
            address.reverse();
            Some(LinkAddress::Extended(address))
        }
        _ => return Err(Fault::value(Stage::Link, 0, "IEEE 802.15.4 addressing mode", 1, "0, 2 or 3")),
    })
}

fn auxiliary(is_2015: bool, reader: &mut Reader<'_>) -> Result<Auxiliary, Fault> {
    let control = reader.u8()?;
    let counter_suppressed = is_2015 && control >> 5 & 1 == 1;
    let counter = if counter_suppressed { None } else { Some(u32::from_le_bytes(reader.array()?)) };
    let mode = control >> 3 & 3;
    let index = match mode {
        0 => None,
        _ => {
            // Key Source.
            reader.take(match mode {
                2 => 4,
                3 => 8,
                _ => 0,
            })?;
            Some(reader.u8()?)
        }
    };
    Ok(Auxiliary { level: control & 7, mode, index, counter })
}

/// Skips the header IEs (§7.4.2). Returns whether payload IEs follow.
fn header_ies(reader: &mut Reader<'_>) -> Result<bool, Fault> {
    const HEADER_TERMINATION_1: u16 = 0x7e;
    const HEADER_TERMINATION_2: u16 = 0x7f;
    while reader.left() > 0 {
        let descriptor = u16_le(reader)?;
        reader.take(usize::from(descriptor & 0x7f))?;
        match descriptor >> 7 & 0xff {
            HEADER_TERMINATION_1 => return Ok(true),
            HEADER_TERMINATION_2 => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

/// Skips the payload IEs (§7.4.3) at the start of `payload` and returns the rest.
pub(super) fn behind_payload_ies(payload: &[u8]) -> Result<&[u8], Fault> {
    const PAYLOAD_TERMINATION: u16 = 0xf;
    let mut reader = Reader::new(Stage::Link, "IEEE 802.15.4 payload IE", payload);
    while reader.left() > 0 {
        let descriptor = u16_le(&mut reader)?;
        reader.take(usize::from(descriptor & 0x7ff))?;
        if descriptor >> 11 & 0xf == PAYLOAD_TERMINATION {
            break;
        }
    }
    Ok(reader.rest())
}

/// The next two bytes, little-endian.
fn u16_le(reader: &mut Reader<'_>) -> Result<u16, Fault> {
    Ok(u16::from_le_bytes(reader.array()?))
}
