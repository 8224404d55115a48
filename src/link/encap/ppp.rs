//! PPP (RFC 1661, RFC 1662) and PPPoE (RFC 2516).
//!
//! ```text
//! | ff 03 or nothing | protocol 2, or 1 if it is odd | packet
//! | version, type 1 | code 1 | session 2 | length 2 | protocol 2 | packet
//! ```

use super::{IPV4, IPV6, Next, mpls};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// Reads a PPP header.
pub(in crate::link) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    *reader = reader.named("PPP header");
    // Address and control may be omitted. pppd writes the direction, 0 or 1, instead of the address.
    if matches!(reader.rest(), [0xff | 1] | [0xff | 0 | 1, 3, ..]) {
        reader.take(2)?;
    }
    protocol(reader)
}

/// Reads a PPPoE header, followed by PPP without address and control.
pub(in crate::link) fn pppoe(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    *reader = reader.named("PPPoE header");
    let at = reader.position();
    let [version, code, ..] = reader.array::<6>()?;
    if version != 0x11 {
        return Err(Fault::value(Stage::Link, at, "PPPoE version and type", u64::from(version), "0x11 (17)"));
    }
    if code != 0 {
        return Ok(Next::Other("PPPoE discovery"));
    }
    protocol(reader)
}

fn protocol(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    let first = reader.u8()?;
    let protocol = if first & 1 == 1 { u16::from(first) } else { u16::from_be_bytes([first, reader.u8()?]) };
    Ok(match protocol {
        0x0021 => IPV4,
        0x0057 => IPV6,
        // MPLS unicast and multicast (RFC 3032 §4.3).
        0x0281 | 0x0283 => Next::Header(mpls::header),
        _ => Next::Other("the PPP protocol is not IP"),
    })
}
