//! Packet to Datagram: from a captured frame to the IP packet that may carry ESP, and back.

use std::net::IpAddr;

use crate::context::IpVersion;

/// One IP packet, whole: taken from one frame, or put together from fragments.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// What the outer IP header says.
    pub outer: Outer,
    /// The IP header with its options and extension headers, up to the header that `protocol` names.
    pub header: &'a [u8],
    /// Offset inside `header` of the byte that names `protocol`.
    pub protocol_offset: usize,
    /// The protocol of what follows `header`: 50 for ESP, 17 for UDP, ...
    pub protocol: u8,
    /// What follows `header`, cut at the IP length.
    pub payload: &'a [u8],
    /// Bytes that the IP length promises and the capture does not have (snap length).
    pub missing: usize,
    /// Where in the frame the IP header starts; 0 for a reassembled packet.
    pub frame_offset: usize,
}

/// The fields of an outer IP header that the inner one may be restored from, and its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
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
