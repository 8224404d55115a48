//! The IP header of a packet that is compressed or was rebuilt, and its upper layer.

use crate::error::{Fault, Stage};
use crate::net::IpVersion;
use crate::net::protocol::{
    self, AH, DESTINATION_OPTIONS, HIP, HOP_BY_HOP, MOBILITY, ROUTING, SCTP, SHIM6, TCP, UDP, UDP_LITE,
};

/// Length of an IPv6 header, RFC 8200 §3.
pub(crate) const IPV6_LEN: usize = 40;
/// Length of an IPv4 header without options, RFC 791 §3.1.
pub(crate) const IPV4_LEN: usize = 20;

/// The first IP header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ip {
    pub version: IpVersion,
    /// Length in bytes of the header with IPv4 options, without IPv6 extension headers.
    pub header_len: usize,
    /// Length in bytes of the packet as its length field says.
    pub packet_len: usize,
    /// The Protocol or Next Header field.
    pub protocol: u8,
    /// An IPv4 fragment: More Fragments is set or the offset is not 0.
    pub fragment: bool,
    /// An IPv4 fragment other than the first one.
    pub later_fragment: bool,
}

/// Why a header is invalid: the field, its value, and the valid values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotIp {
    pub field: &'static str,
    pub got: u64,
    pub expected: &'static str,
}

impl Ip {
    /// Reads the header at the start of `packet`. The length field must include the header, but is not compared
    /// with the packet.
    pub(crate) fn parse(packet: &[u8]) -> Result<Ip, NotIp> {
        let bad = |field, got: usize, expected| Err(NotIp { field, got: got as u64, expected });
        let version = packet.first().map_or(0, |byte| byte >> 4);
        match version {
            6 => {
                let Some(header) = packet.first_chunk::<IPV6_LEN>() else {
                    return bad("payload_length", packet.len(), "at least the 40 bytes of an IPv6 header");
                };
                let [_, _, _, _, len @ .., protocol, _] = header.first_chunk::<8>().copied().unwrap_or_default();
                Ok(Ip {
                    version: IpVersion::V6,
                    header_len: IPV6_LEN,
                    packet_len: IPV6_LEN + usize::from(u16::from_be_bytes(len)),
                    protocol,
                    fragment: false,
                    later_fragment: false,
                })
            }
            4 => {
                let Some(header) = packet.first_chunk::<IPV4_LEN>() else {
                    return bad("total_length", packet.len(), "at least the 20 bytes of an IPv4 header");
                };
                let [ihl, _, len_high, len_low, _, _, frag_high, frag_low, _, protocol, ..] = *header;
                let header_len = usize::from(ihl & 0x0f) * 4;
                let packet_len = usize::from(u16::from_be_bytes([len_high, len_low]));
                let frag = u16::from_be_bytes([frag_high, frag_low]);
                if header_len < IPV4_LEN || header_len > packet.len() {
                    return bad("ihl", header_len / 4, "5, or the words of a header with options");
                }
                if packet_len < header_len {
                    return bad("total_length", packet_len, "at least the length of the header");
                }
                Ok(Ip {
                    version: IpVersion::V4,
                    header_len,
                    packet_len,
                    protocol,
                    fragment: frag & 0x3fff != 0,
                    later_fragment: frag & 0x1fff != 0,
                })
            }
            _ => bad("version", usize::from(version), "4 or 6"),
        }
    }

    /// Offset in the header of the byte that names the next protocol.
    pub(crate) fn protocol_offset(&self) -> usize {
        match self.version {
            IpVersion::V4 => 9,
            IpVersion::V6 => 6,
        }
    }

    /// The name of the packet's length field.
    pub(crate) fn length_field(&self) -> &'static str {
        match self.version {
            IpVersion::V4 => "total_length",
            IpVersion::V6 => "payload_length",
        }
    }
}

/// Source and destination address of the IP header at the start of `packet`, one after the other. `None` if there
/// is no such header.
pub(crate) fn both_addresses(packet: &[u8]) -> Option<&[u8]> {
    match packet.first()? >> 4 {
        4 => packet.get(12..20),
        6 => packet.get(8..40),
        _ => None,
    }
}

/// The upper layer of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperLayer {
    /// Its protocol, after all extension headers. If an extension header is truncated, its own number.
    pub protocol: u8,
    /// Offset in bytes at which it starts.
    pub offset: usize,
    /// Source and destination port of UDP, TCP, UDP-Lite and SCTP. `None` for fragments other than the first one.
    pub ports: Option<(u16, u16)>,
    /// Whether the packet is a fragment.
    pub fragment: bool,
}

impl UpperLayer {
    /// Like [`UpperLayer::find`], but written into `upper` in place. Packets without extension headers take a fast
    /// path.
    #[inline]
    pub(crate) fn find_into(packet: &[u8], ip: &Ip, upper: &mut Option<UpperLayer>) {
        if !has_ports(ip.protocol) {
            *upper = Some(UpperLayer::find(packet, ip));
            return;
        }
        let segment = packet.get(ip.header_len..).unwrap_or_default();
        let ports = if ip.later_fragment { None } else { ports(ip.protocol, segment) };
        *upper = Some(UpperLayer { protocol: ip.protocol, offset: ip.header_len, ports, fragment: ip.fragment });
    }

    /// Finds the upper layer of `packet`, whose first header is `ip`.
    pub(crate) fn find(packet: &[u8], ip: &Ip) -> UpperLayer {
        let mut upper = UpperLayer { protocol: ip.protocol, offset: ip.header_len, ports: None, fragment: ip.fragment };
        let mut later_fragment = ip.later_fragment;
        // Each iteration consumes at least 8 bytes.
        while ip.version == IpVersion::V6 && !later_fragment {
            let Some((next_header, len)) = extension_header(upper.protocol, packet.get(upper.offset..)) else {
                break;
            };
            if upper.protocol == protocol::FRAGMENT {
                let frag = packet.get(upper.offset + 2..).and_then(|rest| rest.first_chunk());
                let frag = frag.map_or(0, |bytes| u16::from_be_bytes(*bytes));
                // The offset is in the 13 high bits, More Fragments in the lowest one (RFC 8200 §4.5).
                upper.fragment |= frag & 0xfff9 != 0;
                later_fragment = frag & 0xfff8 != 0;
            }
            upper.protocol = next_header;
            upper.offset += len;
        }
        if !later_fragment {
            upper.ports = ports(upper.protocol, packet.get(upper.offset..).unwrap_or_default());
        }
        upper
    }
}

/// The headers that precede ESP in transport mode (RFC 4303 §3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransportSplit {
    /// Offset of the segment.
    pub segment: usize,
    /// Its protocol.
    pub protocol: u8,
    /// Offset of the byte that names this protocol.
    pub protocol_offset: usize,
}

impl TransportSplit {
    /// Splits `packet`, whose first header is `ip`. Hop-by-hop, routing and destination options precede ESP.
    pub(super) fn split(packet: &[u8], ip: &Ip) -> TransportSplit {
        let mut split =
            TransportSplit { segment: ip.header_len, protocol: ip.protocol, protocol_offset: ip.protocol_offset() };
        while ip.version == IpVersion::V6 && matches!(split.protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            let Some((next_header, len)) = extension_header(split.protocol, packet.get(split.segment..)) else {
                break;
            };
            split.protocol = next_header;
            split.protocol_offset = split.segment;
            split.segment += len;
        }
        split
    }

    /// Whether a Fragment header is at the position of the segment.
    pub(super) fn is_fragment(&self, ip: &Ip) -> bool {
        ip.fragment || (ip.version == IpVersion::V6 && self.protocol == protocol::FRAGMENT)
    }
}

/// Next Header and length in bytes of the extension header `protocol` at the start of `bytes`. `None` if it is
/// truncated or not an extension header. RFC 8200 §4, RFC 4302 §2 (Authentication Header, with a length in words of
/// 4 bytes), RFC 6275, RFC 7401, RFC 5533.
fn extension_header(protocol: u8, bytes: Option<&[u8]>) -> Option<(u8, usize)> {
    let bytes = bytes?;
    let [next_header, len, ..] = *bytes.first_chunk::<8>()?;
    let len = match protocol {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6 => (usize::from(len) + 1) * 8,
        protocol::FRAGMENT => 8,
        AH => ((usize::from(len) + 2) * 4).max(8),
        _ => return None,
    };
    (len <= bytes.len()).then_some((next_header, len))
}

fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | UDP_LITE)
}

/// The ports at the start of a segment, if its protocol has them.
#[inline]
pub(crate) fn ports(protocol: u8, segment: &[u8]) -> Option<(u16, u16)> {
    if !has_ports(protocol) {
        return None;
    }
    let [src_high, src_low, dst_high, dst_low] = *segment.first_chunk()?;
    Some((u16::from_be_bytes([src_high, src_low]), u16::from_be_bytes([dst_high, dst_low])))
}

/// Writes the lengths and the checksum of an outer header `packet[..header_len]` whose payload is of `protocol` and
/// ends at the end of `packet`.
pub(crate) fn repair_carrier(
    packet: &mut [u8],
    header_len: usize,
    protocol_offset: usize,
    protocol: u8,
) -> Result<(), Fault> {
    let fault = |what, got: usize| Fault::value(Stage::Inner, 0, what, got as u64, "65535 bytes at most");
    let packet_len = packet.len();
    if let Some(byte) = packet.get_mut(..header_len).and_then(|header| header.get_mut(protocol_offset)) {
        *byte = protocol;
    }
    let first = packet.first().copied().unwrap_or(0);
    match first >> 4 {
        4 => {
            let len = u16::try_from(packet_len).map_err(|_| fault("rebuilt packet", packet_len))?;
            let ihl = usize::from(first & 0x0f) * 4;
            fill_u16(packet, 2, len);
            fill_u16(packet, 10, 0);
            let checksum = crate::net::checksum::internet(packet.get(..ihl).unwrap_or_default());
            fill_u16(packet, 10, checksum);
        }
        _ => {
            let len = packet_len.saturating_sub(IPV6_LEN);
            fill_u16(packet, 4, u16::try_from(len).map_err(|_| fault("rebuilt packet", packet_len))?);
        }
    }
    Ok(())
}

/// Stores `value` at byte `offset`, if `packet` is long enough.
pub(crate) fn fill_u16(packet: &mut [u8], offset: usize, value: u16) {
    if let Some(place) = packet.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_be_bytes();
    }
}
