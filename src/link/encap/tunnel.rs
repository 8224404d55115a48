//! IP packets in IP packets: IP in IP (RFC 2003, RFC 2473), GRE, and tunnels over UDP.

use super::{ETHERNET, IPV4, IPV6, Nesting, Next, geneve, gre, gtpu, l2tp, lisp, mpls, teredo, vxlan, walk};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::link::link_type::Network;
use crate::link::{LinkContent, parse_ip, udp};
use crate::net::protocol::{self, UDP};
use crate::net::{Datagram, Fragment, ports};

/// Whether an IP protocol is a tunnel. Tunnels over UDP are recognized by port instead.
pub(in crate::link) fn is_tunnel(protocol: u8) -> bool {
    protocol != UDP && of_protocol(protocol).is_some()
}

/// Returns what follows the IP header of a tunnel.
fn of_protocol(protocol: u8) -> Option<Next> {
    Some(match protocol {
        protocol::IPV4 => IPV4,
        protocol::IPV6 => IPV6,
        protocol::GRE => Next::Header(gre::header),
        protocol::ETHER_IP => Next::Header(ether_ip),
        protocol::MPLS_IN_IP => Next::Header(mpls::header),
        protocol::ETHERNET => ETHERNET,
        _ => return None,
    })
}

/// The tunnel that uses a UDP port (IANA "Service Name and Transport Protocol Port Number Registry").
fn of_port(port: u16) -> Option<Next> {
    Some(Next::Header(match port {
        1701 => l2tp::header,
        2152 => gtpu::header,
        3544 => teredo::header,
        4341 => lisp::header,
        // GRE in UDP (RFC 8086).
        4754 => gre::header,
        4789 => vxlan::header,
        4790 => vxlan::gpe,
        6081 => geneve::header,
        // MPLS in UDP (RFC 7510).
        6635 => mpls::header,
        _ => return None,
    }))
}

/// The ports of [`of_port`].
const PORTS: [u16; 9] = [1701, 2152, 3544, 4341, 4754, 4789, 4790, 6081, 6635];

/// Whether a UDP datagram comes from or goes to the port of a tunnel.
#[inline(always)]
pub(crate) fn may_be_tunnel(ports: [u16; 2]) -> bool {
    // One bit for each port below 8192.
    static TUNNELS: [u64; 128] = {
        let (mut bits, mut ports) = ([0; 128], PORTS.as_slice());
        while let [port, others @ ..] = ports {
            #[expect(clippy::indexing_slicing, reason = "evaluated at compile time")]
            {
                bits[(*port >> 6) as usize] |= 1 << (*port & 63);
            }
            ports = others;
        }
        bits
    };
    let is_tunnel = |port: u16| TUNNELS.get(usize::from(port >> 6)).is_some_and(|bits| bits >> (port & 63) & 1 != 0);
    let [a, b] = ports;
    is_tunnel(a) || is_tunnel(b)
}

/// Reads the version of EtherIP (4 bits) and 12 reserved bits.
fn ether_ip(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    reader.take(2)?;
    Ok(ETHERNET)
}

/// The packet inside an IP packet.
pub(in crate::link) enum TunnelContent<'a> {
    /// Another IP packet.
    Packet(Datagram<'a>),
    /// A fragment of an IP packet.
    Fragment(Fragment<'a>),
    /// No readable IP packet.
    Nothing,
    /// Too many encapsulations.
    TooDeep,
}

/// The IP packet directly inside `outer`.
pub(in crate::link) fn inner_packet<'a>(outer: &Datagram<'a>, nesting: &mut Nesting) -> TunnelContent<'a> {
    let Some((next, at, payload)) = tunnel(outer) else { return TunnelContent::Nothing };
    if !nesting.enter() {
        return TunnelContent::TooDeep;
    }
    let reader = Reader::new(Stage::Link, "tunnel header", payload);
    let (offset, version) = match walk(next, reader, false, None, nesting) {
        Ok(Network::Ip { offset, version } | Network::Enclosed { offset, version }) => (offset, version),
        Ok(Network::Other(Nesting::TOO_DEEP)) => return TunnelContent::TooDeep,
        _ => return TunnelContent::Nothing,
    };
    // Offset of `payload` in the frame.
    let before = outer.frame_offset.saturating_add(outer.header.len()).saturating_add(at);
    // All packets are truncated at the same place, so each lacks the same number of bytes.
    let missing = |inner: usize| inner.max(if inner > 0 { outer.missing } else { 0 });
    match parse_ip(payload, offset, version) {
        LinkContent::Datagram(inner) => TunnelContent::Packet(Datagram {
            missing: missing(inner.missing),
            frame_offset: inner.frame_offset.saturating_add(before),
            rebuilt: true,
            link: outer.link,
            ..inner
        }),
        LinkContent::Fragment(inner) => TunnelContent::Fragment(Fragment {
            missing: missing(inner.missing),
            frame_offset: inner.frame_offset.saturating_add(before),
            ..inner
        }),
        LinkContent::NotIp(_) | LinkContent::Malformed { .. } => TunnelContent::Nothing,
    }
}

/// The first header inside a tunnel, the bytes from there on, and their offset in the payload of `outer`.
fn tunnel<'a>(outer: &Datagram<'a>) -> Option<(Next, usize, &'a [u8])> {
    if outer.protocol != UDP {
        return Some((of_protocol(outer.protocol)?, 0, outer.payload));
    }
    let [src, dst] = ports(outer.payload)?;
    // Most tunnels use their port only as destination port.
    let next = of_port(dst).or_else(|| of_port(src))?;
    let udp = udp::segment(outer).ok()?;
    Some((next, udp.udp_header.len(), udp.payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ports_of_tunnels_are_those_of_the_table() {
        for port in 0..=u16::MAX {
            let expected = of_port(port).is_some();
            assert_eq!((may_be_tunnel([port, 4500]), may_be_tunnel([4500, port])), (expected, expected), "{port}");
        }
    }
}
