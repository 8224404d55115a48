//! Writes a frame again with the headers of a datagram and a new payload.

use std::net::IpAddr;
use std::ops::Range;

use super::link_type;
use crate::error::{Fault, Stage};
use crate::net::ipv4::{self, Ipv4};
use crate::net::ipv6::{self, Ipv6};
use crate::net::udp::{self, Udp};
use crate::net::{Datagram, IpVersion, OuterHeader, ip};

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
    udp_header: Option<&[u8; udp::HEADER_LEN]>,
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
    } else if let Some(v6) = header.as_array::<{ ipv6::HEADER_LEN }>() {
        out.extend_from_slice(v6);
    } else if let Some(v4) = header.as_array::<{ ipv4::HEADER_LEN }>() {
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
        ip::write_length(out.get_mut(packet..).unwrap_or_default())?;
        let Some(udp) = udp else { return Ok(None) };
        let end = out.len();
        let is_v4 = out.get(packet..).and_then(ip::version) == Some(IpVersion::V4);
        let Some(mut header) = Udp::at_mut(out, udp) else { return Ok(None) };
        header.set_length(u16::try_from(end - udp).unwrap_or(u16::MAX));
        // 0 means that there is no checksum, which IPv4 allows (RFC 768).
        let has_none = is_v4 && header.checksum() == 0;
        Ok((!has_none).then_some(UdpChecksum { packet: packet..end, udp }))
    }
}

impl UdpChecksum {
    /// Writes the checksum into the buffer that contains the frame.
    pub(crate) fn put(&self, out: &mut [u8]) {
        let UdpChecksum { packet, udp } = self;
        let Some(packet_bytes) = out.get_mut(packet.clone()) else { return };
        udp::write_checksum(packet_bytes, udp - packet.start);
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
///
/// # Errors
/// The new packet is too long for its length fields.
pub fn rebuild(
    link_header: &[u8],
    datagram: &Datagram<'_>,
    protocol: u8,
    udp_header: Option<&[u8; udp::HEADER_LEN]>,
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
///
/// # Errors
/// The new packet is too long for its length fields.
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
            let mut header = Ipv4::new(src, dst);
            header.set_dscp(outer.dscp);
            header.set_ecn(outer.ecn);
            // Low 16 bits of a Flow Label.
            header.set_identification(outer.flow_label as u16);
            header.set_ttl(outer.hop_limit);
            header.set_protocol(protocol);
            out.extend_from_slice(header.as_bytes());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut header = Ipv6::new(src, dst);
            header.set_dscp(outer.dscp);
            header.set_ecn(outer.ecn);
            header.set_flow_label(outer.flow_label);
            header.set_hop_limit(outer.hop_limit);
            header.set_next_header(protocol);
            out.extend_from_slice(header.as_bytes());
        }
        _ => return Err(Fault::unsupported(Stage::Link, 0, "source and destination are of two IP versions")),
    }
    Ok(FrameHeaders { packet, udp: None })
}

/// Replaces the content of `out` by a frame that contains only an IP packet: `link_header` (of a frame on
/// `link_type`, with its protocol field set to the version of `packet`), then `packet`.
///
/// Returns a fault if `link_type` cannot carry this IP version.
///
/// # Errors
/// The new packet is too long for a length field of the link header.
pub fn replace(link_type: u16, link_header: &[u8], packet: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.clear();
    append(link_type, link_header, packet, out)
}

/// Appends a frame as in [`alone`].
pub(crate) fn append(link_type: u16, link_header: &[u8], packet: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    let version = ip::version(packet).unwrap_or(IpVersion::V6);
    link_type::write(link_type, link_header, version, out)?;
    out.extend_from_slice(packet);
    Ok(())
}
