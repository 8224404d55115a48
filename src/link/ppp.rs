//! PPP (RFC 1661, RFC 1662) and PPPoE (RFC 2516).
//!
//! ```text
//! | ff 03 or nothing | protocol 2, or 1 if it is odd | packet
//! | version, type 1 | code 1 | session 2 | length 2 | protocol 2 | packet
//! ```

use super::frame::Network;
use crate::bytes::Reader;
use crate::context::IpVersion;
use crate::error::{Fault, Stage};

/// Reads a PPP frame. `has_direction`: a byte in front says in or out (`LINKTYPE_PPP_WITH_DIR`).
pub(super) fn ppp(frame: &[u8], has_direction: bool) -> Result<Network<'_>, Fault> {
    let mut reader = Reader::new(Stage::Link, "PPP header", frame);
    if has_direction {
        reader.u8()?;
    }
    // Address and control may be left out; pppd writes the direction, 0 or 1, in place of the address.
    if matches!(reader.rest(), [0xff | 1] | [0xff | 0 | 1, 3, ..]) {
        reader.take(2)?;
    }
    let version = protocol(&mut reader)?;
    Ok(match version {
        Some(version) => Network::Ip { offset: reader.position(), version: Some(version) },
        None => Network::Other("the PPP protocol is not IP"),
    })
}

/// `LINKTYPE_PPP_HDLC`: PPP, or Cisco HDLC, which has an EtherType.
pub(super) fn serial(frame: &[u8]) -> Result<Network<'_>, Fault> {
    const CISCO_UNICAST: u8 = 0x0f;
    const CISCO_MULTICAST: u8 = 0x8f;
    match frame {
        [CISCO_UNICAST | CISCO_MULTICAST, 0, rest @ ..] => {
            let mut reader = Reader::new(Stage::Link, "Cisco HDLC header", rest);
            let version = match reader.u16()? {
                0x0800 => IpVersion::V4,
                0x86dd => IpVersion::V6,
                _ => return Ok(Network::Other("the EtherType is not IP")),
            };
            Ok(Network::Ip { offset: 4, version: Some(version) })
        }
        [CISCO_UNICAST | CISCO_MULTICAST] => Err(Fault::short(Stage::Link, 0, "Cisco HDLC header", 4, 1)),
        _ => ppp(frame, false),
    }
}

/// A PPPoE header and PPP without address and control, that `reader` is at.
pub(super) fn pppoe<'a>(mut reader: Reader<'a>) -> Result<Network<'a>, Fault> {
    let at = reader.position();
    let [version, code, ..] = reader.array::<6>()?;
    if version != 0x11 {
        return Err(Fault::value(Stage::Link, at, "PPPoE version and type", u64::from(version), "0x11 (17)"));
    }
    if code != 0 {
        return Ok(Network::Other("PPPoE discovery"));
    }
    let version = protocol(&mut reader)?;
    Ok(match version {
        Some(version) => Network::Enclosed { offset: reader.position(), version },
        None => Network::Other("the PPP protocol is not IP"),
    })
}

fn protocol(reader: &mut Reader<'_>) -> Result<Option<IpVersion>, Fault> {
    const IPV4: u16 = 0x0021;
    const IPV6: u16 = 0x0057;
    let first = reader.u8()?;
    let protocol = if first & 1 == 1 { u16::from(first) } else { u16::from_be_bytes([first, reader.u8()?]) };
    Ok(match protocol {
        IPV4 => Some(IpVersion::V4),
        IPV6 => Some(IpVersion::V6),
        _ => None,
    })
}
