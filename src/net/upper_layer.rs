//! The upper layer of a packet: where it starts after the extension headers, and its ports.

use super::extension::{self, Extension};
use super::header::set_u16;
use super::ip::{self, HeaderError};
use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};
use super::protocol::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING, SCTP, TCP, UDP, UDP_LITE};
use super::{IpVersion, sctp, tcp, udp, udp_lite};

/// The first IP header of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IpHeader {
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
pub(crate) struct InvalidField {
    pub field: &'static str,
    pub got: u64,
    pub expected: &'static str,
}

impl InvalidField {
    #[cold]
    fn new(field: &'static str, got: usize, expected: &'static str) -> InvalidField {
        InvalidField { field, got: got as u64, expected }
    }

    #[cold]
    fn v4(error: HeaderError) -> InvalidField {
        let ihl = |words| InvalidField::new("ihl", words, "5, or the words of a header with options");
        match error {
            HeaderError::Short { needs: ipv4::HEADER_LEN, has, .. } => {
                InvalidField::new("total_length", has, "at least the 20 bytes of an IPv4 header")
            }
            HeaderError::Short { needs, .. } => ihl(needs / 4),
            HeaderError::Ihl(words) => ihl(words.into()),
            HeaderError::Version { got, .. } => InvalidField::new("version", got.into(), "4"),
        }
    }
}

impl IpHeader {
    /// Reads the header at the start of `packet`. The length field must include the header, but is not compared
    /// with the packet.
    pub(crate) fn parse(packet: &[u8]) -> Result<IpHeader, InvalidField> {
        match ip::version(packet) {
            Some(IpVersion::V6) => {
                let Some(header) = Ipv6::of(packet) else {
                    let expected = "at least the 40 bytes of an IPv6 header";
                    return Err(InvalidField::new("payload_length", packet.len(), expected));
                };
                Ok(IpHeader {
                    version: IpVersion::V6,
                    header_len: ipv6::HEADER_LEN,
                    packet_len: ipv6::HEADER_LEN + header.payload_len(),
                    protocol: header.next_header(),
                    fragment: false,
                    later_fragment: false,
                })
            }
            Some(IpVersion::V4) => {
                let header = Ipv4::parse(packet).map_err(InvalidField::v4)?;
                let (header_len, packet_len) = (header.header_len(), header.total_len());
                if packet_len < header_len {
                    let expected = "at least the length of the header";
                    return Err(InvalidField::new("total_length", packet_len, expected));
                }
                Ok(IpHeader {
                    version: IpVersion::V4,
                    header_len,
                    packet_len,
                    protocol: header.protocol(),
                    fragment: header.is_fragment(),
                    later_fragment: header.fragment_offset() != 0,
                })
            }
            None => Err(InvalidField::new("version", ip::version_nibble(packet).into(), "4 or 6")),
        }
    }

    /// Offset in the header of the byte that names the next protocol.
    pub(crate) fn protocol_offset(&self) -> usize {
        match self.version {
            IpVersion::V4 => ipv4::PROTOCOL_OFFSET,
            IpVersion::V6 => ipv6::PROTOCOL_OFFSET,
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
    pub(crate) fn find_into(packet: &[u8], ip: &IpHeader, upper: &mut Option<UpperLayer>) {
        if !has_ports(ip.protocol) {
            *upper = Some(UpperLayer::find(packet, ip));
            return;
        }
        let segment = packet.get(ip.header_len..).unwrap_or_default();
        let ports = if ip.later_fragment { None } else { ports_of(ip.protocol, segment) };
        *upper = Some(UpperLayer { protocol: ip.protocol, offset: ip.header_len, ports, fragment: ip.fragment });
    }

    /// Finds the upper layer of `packet`, whose first header is `ip`.
    pub(crate) fn find(packet: &[u8], ip: &IpHeader) -> UpperLayer {
        let mut upper = UpperLayer { protocol: ip.protocol, offset: ip.header_len, ports: None, fragment: ip.fragment };
        let mut later_fragment = ip.later_fragment;
        // Each iteration consumes at least 8 bytes.
        while ip.version == IpVersion::V6 && !later_fragment {
            let rest = packet.get(upper.offset..).unwrap_or_default();
            let Some((next_header, len)) = extension::next(upper.protocol, rest) else { break };
            if upper.protocol == FRAGMENT
                && let Some(header) = Extension::of(rest)
            {
                later_fragment = header.fragment_offset() != 0;
                upper.fragment |= later_fragment || header.more_fragments();
            }
            upper.protocol = next_header;
            upper.offset += len;
        }
        if !later_fragment {
            upper.ports = ports_of(upper.protocol, packet.get(upper.offset..).unwrap_or_default());
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
    pub(crate) fn of(packet: &[u8], ip: &IpHeader) -> TransportSplit {
        let mut split =
            TransportSplit { segment: ip.header_len, protocol: ip.protocol, protocol_offset: ip.protocol_offset() };
        while ip.version == IpVersion::V6 && matches!(split.protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            let rest = packet.get(split.segment..).unwrap_or_default();
            let Some((next_header, len)) = extension::next(split.protocol, rest) else { break };
            split =
                TransportSplit { segment: split.segment + len, protocol: next_header, protocol_offset: split.segment };
        }
        split
    }

    /// Whether a Fragment header is at the position of the segment.
    pub(crate) fn is_fragment(&self, ip: &IpHeader) -> bool {
        ip.fragment || (ip.version == IpVersion::V6 && self.protocol == FRAGMENT)
    }
}

/// Bytes of source and destination port, with which the headers of UDP, TCP, UDP-Lite and SCTP start.
pub(crate) const PORTS_LEN: usize = 4;

fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | UDP_LITE)
}

/// Bytes of the shortest header of a protocol with ports; 0 for other protocols.
pub(crate) fn transport_header_len(protocol: u8) -> usize {
    match protocol {
        UDP => udp::HEADER_LEN,
        UDP_LITE => udp_lite::HEADER_LEN,
        TCP => tcp::HEADER_LEN,
        SCTP => sctp::HEADER_LEN,
        _ => 0,
    }
}

/// Writes the ports at the start of a segment.
pub(crate) fn set_ports(segment: &mut [u8], [src, dst]: [u16; 2]) {
    set_u16(segment, 0, src);
    set_u16(segment, 2, dst);
}

/// Source and destination port of a segment of UDP, or of any other protocol that starts with them.
#[inline]
pub(crate) fn ports(segment: &[u8]) -> Option<[u16; 2]> {
    let &[a, b, c, d] = segment.first_chunk()?;
    Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
}

/// The ports at the start of a segment, if its protocol has them.
#[inline]
pub(crate) fn ports_of(protocol: u8, segment: &[u8]) -> Option<(u16, u16)> {
    if has_ports(protocol) { ports(segment).map(|[src, dst]| (src, dst)) } else { None }
}
