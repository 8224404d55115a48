//! Datagram to frame: the headers as they were, around another payload.

use std::net::IpAddr;

use etherparse::{IpFragOffset, Ipv4Header, Ipv6FlowLabel, Ipv6Header};

use super::{Datagram, Outer, UDP, frame, ip};
use crate::checksum;
use crate::context::IpVersion;
use crate::error::{Fault, Stage};

/// Replaces the content of `out` by a frame: `link_header` (what stood before `datagram.frame_offset`; for a
/// reassembled packet, before that of the fragment that completed it), the IP header of `datagram` with its options
/// and extension headers, `udp_header` if there is one, then `payload`, whose parts follow each other.
///
/// `protocol` becomes the protocol named by the last IP header. IP and UDP lengths and checksums are written anew; over
/// IPv4 a UDP checksum of 0 (none) stays 0. Bytes behind the IP packet, such as Ethernet padding, are not written.
///
/// A fault if the packet is longer than a length field can say.
pub fn rebuild(
    link_header: &[u8],
    datagram: &Datagram<'_>,
    protocol: u8,
    udp_header: Option<&[u8; 8]>,
    payload: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.clear();
    out.extend_from_slice(link_header);
    out.extend_from_slice(datagram.header);
    let named = link_header.len().saturating_add(datagram.protocol_offset);
    if let Some(byte) = out.get_mut(named) {
        *byte = protocol;
    }
    let upper = out.len();
    out.extend_from_slice(udp_header.map_or(&[], |header| header.as_slice()));
    for part in payload {
        out.extend_from_slice(part);
    }
    let packet = out.get_mut(link_header.len()..).unwrap_or_default();
    ip::finish(packet)?;
    if udp_header.is_some() {
        finish_udp(&datagram.outer, out.get_mut(upper..).unwrap_or_default());
    }
    Ok(())
}

/// The length and checksum of a UDP datagram whose length the IP header can say.
fn finish_udp(outer: &Outer, segment: &mut [u8]) {
    let len = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    ip::put(segment, 4, len);
    if outer.version == IpVersion::V4 && segment.get(6..8) == Some(&[0, 0]) {
        return;
    }
    ip::put(segment, 6, 0);
    let checksum = checksum::upper_layer(outer.src, outer.dst, UDP, segment);
    // 0 would mean none (RFC 768).
    ip::put(segment, 6, if checksum == 0 { 0xffff } else { checksum });
}

/// Replaces the content of `out` by a frame with a new IP header, for a packet that goes into a tunnel: `link_header`
/// (of a frame on `link_type`, its protocol field set to the new version), a header without options made of `outer`,
/// then `payload`. IPv4: Don't Fragment is not set.
///
/// A fault if the packet is too long, or `link_type` cannot carry this IP version.
pub fn encapsulate(
    link_type: u16,
    link_header: &[u8],
    outer: &Outer,
    protocol: u8,
    payload: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.clear();
    frame::write(link_type, link_header, outer.version, out)?;
    match (outer.src, outer.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header {
                dscp: outer.dscp.try_into().unwrap_or_default(),
                ecn: outer.ecn.try_into().unwrap_or_default(),
                // Low 16 bits of a Flow Label.
                identification: outer.flow_label as u16,
                dont_fragment: false,
                fragment_offset: IpFragOffset::ZERO,
                time_to_live: outer.hop_limit,
                protocol: protocol.into(),
                source: src.octets(),
                destination: dst.octets(),
                ..Ipv4Header::default()
            };
            out.extend_from_slice(&header.to_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                traffic_class: outer.dscp << 2 | outer.ecn & 3,
                flow_label: Ipv6FlowLabel::try_new(outer.flow_label & 0xf_ffff).unwrap_or_default(),
                payload_length: 0,
                next_header: protocol.into(),
                hop_limit: outer.hop_limit,
                source: src.octets(),
                destination: dst.octets(),
            };
            out.extend_from_slice(&header.to_bytes());
        }
        _ => return Err(Fault::unsupported(Stage::Link, 0, "source and destination are of two IP versions")),
    }
    for part in payload {
        out.extend_from_slice(part);
    }
    ip::finish(out.get_mut(link_header.len()..).unwrap_or_default())
}

/// Replaces the content of `out` by a frame that holds an IP packet alone: `link_header` (of a frame on `link_type`, its
/// protocol field set to the version of `packet`), then `packet`.
///
/// A fault if `link_type` cannot carry this IP version.
pub fn replace(link_type: u16, link_header: &[u8], packet: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    let version = match packet.first() {
        Some(first) if first >> 4 == 4 => IpVersion::V4,
        _ => IpVersion::V6,
    };
    frame::write(link_type, link_header, version, out)?;
    out.extend_from_slice(packet);
    Ok(())
}
