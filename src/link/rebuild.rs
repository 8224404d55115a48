//! Writes a frame again with the headers of a datagram and a new payload.

use std::net::IpAddr;
use std::ops::Range;

use etherparse::{IpFragOffset, Ipv4Header, Ipv6FlowLabel, Ipv6Header};

use super::link_type;
use crate::error::{Fault, Stage};
use crate::net::protocol::UDP;
use crate::net::{Datagram, IpVersion, OuterHeader, checksum, ip};

/// The headers of a frame that is being written: its payload follows, then [`FrameHeaders::finish`]. Offsets are those of the
/// buffer that the frame is written to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHeaders {
    /// Where the IP header starts.
    packet: usize,
    /// Where the UDP header is, if there is one.
    udp: Option<usize>,
}

/// A UDP checksum that is written later, because the payload will still change.
#[derive(Debug, Clone)]
pub(crate) struct UdpChecksum {
    /// The IP packet up to its end.
    packet: Range<usize>,
    /// Where the UDP header is.
    udp: usize,
}

/// Appends the headers of a frame: `link_header` (the bytes before the IP header; for a reassembled packet, those
/// of the fragment that completed it), `header`, the IP header with its options and extension headers, and
/// `udp_header` if there is one.
///
/// The last IP header names `protocol`, at `protocol_offset`.
pub(crate) fn begin(
    link_header: &[u8],
    (header, protocol_offset): (&[u8], usize),
    protocol: u8,
    udp_header: Option<&[u8; 8]>,
    out: &mut Vec<u8>,
) -> FrameHeaders {
    append_header(link_header, out);
    let packet = out.len();
    append_header(header, out);
    if let Some(byte) = out.get_mut(packet.saturating_add(protocol_offset)) {
        *byte = protocol;
    }
    let udp = udp_header.map(|udp_header| {
        let start = out.len();
        out.extend_from_slice(udp_header);
        start
    });
    FrameHeaders { packet, udp }
}

/// Most headers have one of a few lengths. Copying these needs no function call.
#[inline]
fn append_header(header: &[u8], out: &mut Vec<u8>) {
    if let Some(ethernet) = header.as_array::<14>() {
        out.extend_from_slice(ethernet);
    } else if let Some(v6) = header.as_array::<{ ip::V6_HEADER_LEN }>() {
        out.extend_from_slice(v6);
    } else if let Some(v4) = header.as_array::<20>() {
        out.extend_from_slice(v4);
    } else {
        out.extend_from_slice(header);
    }
}

impl FrameHeaders {
    /// Writes the lengths and the IPv4 checksum of a frame whose payload ends at the end of `out`. The caller
    /// computes a UDP checksum.
    ///
    /// Returns a fault if the packet is too long for a length field.
    pub(crate) fn finish(self, out: &mut [u8]) -> Result<Option<UdpChecksum>, Fault> {
        let FrameHeaders { packet, udp } = self;
        ip::finish(out.get_mut(packet..).unwrap_or_default())?;
        let Some(udp) = udp else { return Ok(None) };
        let end = out.len();
        let is_v4 = out.get(packet).is_some_and(|byte| byte >> 4 == 4);
        let segment = out.get_mut(udp..).unwrap_or_default();
        ip::put(segment, 4, u16::try_from(segment.len()).unwrap_or(u16::MAX));
        // 0 means that there is no checksum, which IPv4 allows (RFC 768).
        let has_none = is_v4 && segment.get(6..8) == Some(&[0, 0]);
        Ok((!has_none).then_some(UdpChecksum { packet: packet..end, udp }))
    }
}

impl UdpChecksum {
    /// Writes the checksum into the buffer that contains the frame.
    pub(crate) fn put(&self, out: &mut [u8]) {
        let UdpChecksum { packet, udp } = self;
        let Some(packet_bytes) = out.get_mut(packet.clone()) else { return };
        let Some(OuterHeader { src, dst, .. }) = OuterHeader::of(packet_bytes) else { return };
        let segment = packet_bytes.get_mut(udp - packet.start..).unwrap_or_default();
        ip::put(segment, 6, 0);
        let checksum = checksum::upper_layer(src, dst, UDP, segment);
        // 0 would mean that there is no checksum (RFC 768).
        ip::put(segment, 6, if checksum == 0 { 0xffff } else { checksum });
    }
}

/// Replaces the content of `out` by a frame: `link_header` (the bytes before `datagram.frame_offset`; for a
/// reassembled packet, those of the fragment that completed it), the IP header of `datagram` with its options and
/// extension headers, `udp_header` if there is one, then all parts of `payload`.
///
/// The last IP header names `protocol`. IP and UDP lengths and checksums are computed again. Over IPv4, a UDP
/// checksum of 0 (none) stays 0. Bytes after the IP packet, such as Ethernet padding, are not written.
///
/// Returns a fault if the packet is too long for a length field.
pub fn rebuild(
    link_header: &[u8],
    datagram: &Datagram<'_>,
    protocol: u8,
    udp_header: Option<&[u8; 8]>,
    payload: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.clear();
    let begun = begin(link_header, (datagram.header, datagram.protocol_offset), protocol, udp_header, out);
    for part in payload {
        out.extend_from_slice(part);
    }
    if let Some(checksum) = begun.finish(out)? {
        checksum.put(out);
    }
    Ok(())
}

/// Replaces the content of `out` by a frame with a new IP header, for a packet that is encapsulated in a tunnel. It
/// consists of `link_header` (of a frame on `link_type`, with its protocol field set to the new IP version), a
/// header without options made from `outer`, and `payload`. In IPv4, Don't Fragment is not set.
///
/// Returns a fault if the packet is too long, or `link_type` cannot carry this IP version.
pub fn encapsulate(
    link_type: u16,
    link_header: &[u8],
    outer: &OuterHeader,
    protocol: u8,
    payload: &[&[u8]],
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    out.clear();
    let begun = begin_encapsulated(link_type, link_header, outer, protocol, out)?;
    for part in payload {
        out.extend_from_slice(part);
    }
    begun.finish(out).map(|_| ())
}

/// Appends the headers of a frame as in [`encapsulate`].
///
/// Returns a fault if `link_type` cannot carry this IP version.
pub(crate) fn begin_encapsulated(
    link_type: u16,
    link_header: &[u8],
    outer: &OuterHeader,
    protocol: u8,
    out: &mut Vec<u8>,
) -> Result<FrameHeaders, Fault> {
    link_type::write(link_type, link_header, outer.version, out)?;
    let packet = out.len();
    match (outer.src, outer.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header {
                dscp: outer.dscp.try_into().unwrap_or_default(),
                ecn: outer.ecn.try_into().unwrap_or_default(),
                // The low 16 bits of a Flow Label.
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
    Ok(FrameHeaders { packet, udp: None })
}

/// Replaces the content of `out` by a frame that contains only an IP packet: `link_header` (of a frame on
/// `link_type`, with its protocol field set to the version of `packet`), then `packet`.
///
/// Returns a fault if `link_type` cannot carry this IP version.
pub fn replace(link_type: u16, link_header: &[u8], packet: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    append(link_type, link_header, packet, out)
}

/// Appends a frame as in [`alone`].
pub(crate) fn append(link_type: u16, link_header: &[u8], packet: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let version = match packet.first() {
        Some(first) if first >> 4 == 4 => IpVersion::V4,
        _ => IpVersion::V6,
    };
    link_type::write(link_type, link_header, version, out)?;
    out.extend_from_slice(packet);
    Ok(())
}
