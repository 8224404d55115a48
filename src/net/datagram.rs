//! IP packets and fragments, and the fields of the IP header that carries an ESP packet.

use std::net::IpAddr;

use super::ipv4::Ipv4;
use super::ipv6::Ipv6;
use super::{IpVersion, LinkAddresses, ip};

/// The addresses of an outer IP header, and the fields from which the inner header may be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterHeader {
    /// IP version.
    pub version: IpVersion,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Differentiated Services Code Point, 6 bits.
    pub dscp: u8,
    /// Explicit Congestion Notification, 2 bits.
    pub ecn: u8,
    /// Hop Limit or TTL.
    pub hop_limit: u8,
    /// IPv6 Flow Label, 20 bits; the IPv4 Identification, 16 bits.
    pub flow_label: u32,
}

/// A whole IP packet, from one frame or reassembled from fragments.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The fields of the outer IP header.
    pub outer: OuterHeader,
    /// The IP header with options and extension headers, up to the header that `protocol` names. An Authentication
    /// Header is included, and so is the Fragment header of an atomic fragment (RFC 6946).
    pub header: &'a [u8],
    /// Offset in `header` of the byte that names `protocol`.
    pub protocol_offset: usize,
    /// The protocol of `payload`: 50 for ESP, 17 for UDP, ...
    pub protocol: u8,
    /// The bytes after `header`, up to the IP length.
    pub payload: &'a [u8],
    /// Bytes that the IP length includes, but that were not captured (snap length).
    pub missing: usize,
    /// Offset in the frame at which the IP header starts; 0 for a reassembled packet.
    pub frame_offset: usize,
    /// The packet cannot be replaced in its frame: it came from 6LoWPAN or a tunnel, or the bytes around it contain
    /// a length or a trailer. It is written back without link header.
    pub rebuilt: bool,
    /// Addresses of the radio frame, or of its mesh header.
    pub link: Option<LinkAddresses>,
}

/// The IP header before a payload, as bytes and as fields.
#[derive(Debug, Clone, Copy)]
pub struct IpHeaders<'a> {
    /// The fields of the IP header.
    pub outer: &'a OuterHeader,
    /// The IP header with options and extension headers.
    pub header: &'a [u8],
    /// Offset in `header` of the byte that names the protocol of the payload.
    pub protocol_offset: usize,
}

/// One fragment of an IP packet (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// The fields of the outer IP header.
    pub outer: OuterHeader,
    /// IPv4: the header with its options. IPv6: the headers before the Fragment header.
    pub header: &'a [u8],
    /// Offset in `header` of the byte that names `protocol` (IPv4) or the Fragment header (IPv6).
    pub protocol_offset: usize,
    /// The protocol of the first fragmented header, according to this fragment.
    pub protocol: u8,
    /// The Identification, 16 or 32 bits.
    pub identification: u32,
    /// Offset of `payload` in the fragmented data, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// The data of this fragment, up to the IP length.
    pub payload: &'a [u8],
    /// Bytes that the IP length includes, but that were not captured (snap length).
    pub missing: usize,
    /// Offset in the frame at which the IP header starts.
    pub frame_offset: usize,
}

impl OuterHeader {
    /// The fields of the IP header at the start of `packet`; `None` if it cannot be read.
    #[inline]
    pub fn of(packet: &[u8]) -> Option<OuterHeader> {
        match ip::version(packet)? {
            IpVersion::V4 => Ipv4::parse(packet).ok().map(|header| header.outer()),
            IpVersion::V6 => Ipv6::parse(packet).ok().map(|header| header.outer()),
        }
    }
}
