//! GRE (RFC 2784, RFC 2890), the enhanced GRE of PPTP (RFC 2637 §4.1), and ERSPAN, which mirrors Ethernet frames
//! over GRE (draft-foschiano-erspan-03 §4):
//!
//! ```text
//! | C 0 K S reserved, version 3 bits = 0 | EtherType 2 | checksum, reserved 0/4 | key 0/4 | sequence number 0/4 | packet
//! | 0 0 1 S 0000 A 0000, version = 1 | 880b | length 2, call 2 | sequence number 0/4 | acknowledgment 0/4 | PPP frame
//! | ERSPAN type II 8, or type III 12 or 20 | Ethernet frame
//! ```

use super::{ETHERNET, IPV4, Next, ppp};
use crate::bytes::Reader;
use crate::error::Fault;
use crate::net::{IpVersion, ip};

const SEQUENCE: u16 = 0x1000;
/// A second EtherType for Transparent Ethernet Bridging, used by some GRE implementations.
const TEB_6400: u16 = 0x6400;
const WCCP: u16 = 0x883e;
const ERSPAN_I_II: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
const PPP: u16 = 0x880b;

/// Reads a GRE header.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const ACKNOWLEDGMENT: u16 = 0x0080;
    *reader = reader.named("GRE header");
    let flags = reader.u16()?;
    let protocol = reader.u16()?;
    let optional = match (flags & 7, protocol) {
        // Routing Present of RFC 1701, which RFC 2784 removed.
        (0, _) if flags & ROUTING == 0 => [CHECKSUM, KEY, SEQUENCE],
        (1, PPP) => [KEY, SEQUENCE, ACKNOWLEDGMENT],
        _ => return Ok(Next::Other("a version of GRE that is not known")),
    };
    let words = optional.iter().filter(|bit| flags & **bit != 0).count();
    reader.take(words * 4)?;
    Ok(match protocol {
        TEB_6400 => ETHERNET,
        PPP => Next::Header(ppp::header),
        WCCP => Next::Header(wccp),
        // Type I has no header and no sequence number.
        ERSPAN_I_II if flags & SEQUENCE == 0 => ETHERNET,
        ERSPAN_I_II => Next::Header(erspan_ii),
        ERSPAN_III => Next::Header(erspan_iii),
        ether_type => Next::EtherType(ether_type),
    })
}

fn erspan_ii(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    reader.take(8)?;
    Ok(ETHERNET)
}

fn erspan_iii(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    let [.., flags] = reader.array::<12>()?;
    // The platform-specific subheader is optional.
    reader.take(if flags & 1 == 1 { 8 } else { 0 })?;
    Ok(ETHERNET)
}

/// Web Cache Communication Protocol: version 2 has 4 bytes before the IPv4 packet.
fn wccp(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    if !reader.rest().is_empty() && ip::version(reader.rest()) != Some(IpVersion::V4) {
        reader.take(4)?;
    }
    Ok(IPV4)
}
