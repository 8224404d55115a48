//! IP in IP (RFC 2003, RFC 2473) and GRE (RFC 2784, RFC 2890) in front of ESP.
//!
//! ```text
//! | C 0 K S reserved, version 2 | EtherType 2 | checksum, reserved 0/4 | key 0/4 | sequence number 0/4 | packet
//! ```

use etherparse::{EtherType, ether_type};

use super::{Datagram, Frame, UDP, ip, udp_encapsulation};
use crate::bytes::Reader;
use crate::context::IpVersion;
use crate::error::{Fault, Stage};

const IPV4: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
/// More tunnels in tunnels than anyone builds.
const MAX_DEPTH: usize = 8;

pub(super) fn is_tunnel(protocol: u8) -> bool {
    matches!(protocol, IPV4 | IPV6 | GRE)
}

/// The outermost packet inside `datagram`, at any depth, of a protocol that is wanted or of UDP-encapsulated ESP.
pub(super) fn innermost<'a>(datagram: &Datagram<'a>, wants: impl Fn(u8) -> bool) -> Option<Datagram<'a>> {
    let mut outer = *datagram;
    for _ in 0..MAX_DEPTH {
        let (offset, version) = match outer.protocol {
            IPV4 => (0, IpVersion::V4),
            IPV6 => (0, IpVersion::V6),
            GRE => gre(outer.payload).ok().flatten()?,
            _ => return None,
        };
        let Frame::Datagram(mut inner) = ip::parse(outer.payload, offset, Some(version)) else { return None };
        // The capture lacks what is at the end of all of them.
        inner.missing = inner.missing.max(if inner.missing > 0 { outer.missing } else { 0 });
        inner.frame_offset = inner.frame_offset.saturating_add(outer.frame_offset).saturating_add(outer.header.len());
        inner.rebuilt = true;
        inner.link = outer.link;
        if wants(inner.protocol) || inner.protocol == UDP && matches!(udp_encapsulation(&inner), Ok(Some(_))) {
            return Some(inner);
        }
        outer = inner;
    }
    None
}

/// Where the IP packet behind a GRE header starts.
fn gre(payload: &[u8]) -> Result<Option<(usize, IpVersion)>, Fault> {
    let mut reader = Reader::new(Stage::Link, "GRE header", payload);
    let flags = reader.u16()?;
    let protocol = reader.u16()?;
    // Bit 1 is the Routing Present of RFC 1701; version 1 is PPTP.
    if flags & 0x4007 != 0 {
        return Ok(None);
    }
    let optional = [0x8000, 0x2000, 0x1000].iter().filter(|bit| flags & **bit != 0).count();
    reader.take(optional * 4)?;
    Ok(match EtherType(protocol) {
        ether_type::IPV4 => Some((reader.position(), IpVersion::V4)),
        ether_type::IPV6 => Some((reader.position(), IpVersion::V6)),
        _ => None,
    })
}
