//! What a restored packet is, in the few fields that records show.

use std::net::IpAddr;

use crate::context::IpVersion;
use crate::link::{self, Frame, Outer};

/// Addresses, protocol and ports of a restored packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// IP version.
    pub version: IpVersion,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The upper-layer protocol, behind extension headers.
    pub protocol: u8,
    /// Source and destination port, where the protocol has ports and the packet is no fragment.
    pub ports: Option<(u16, u16)>,
}

impl Inner {
    /// Reads an IP packet; `None` if it is none.
    pub fn of(packet: &[u8]) -> Option<Inner> {
        let summary = |outer: Outer, protocol, ports| {
            Some(Inner { version: outer.version, src: outer.src, dst: outer.dst, protocol, ports })
        };
        match link::parse(crate::capture::LINKTYPE_RAW, packet) {
            Frame::Datagram(datagram) => {
                summary(datagram.outer, datagram.protocol, link::ports(datagram.protocol, datagram.payload))
            }
            Frame::Fragment(fragment) => summary(fragment.outer, fragment.protocol, None),
            Frame::NotIp(_) | Frame::Malformed { .. } => None,
        }
    }
}
