//! The few fields of a restored packet that records show.

use std::net::IpAddr;

use crate::codec::Restored;
use crate::net::{self, IpVersion};

/// Addresses, protocol and ports of a restored packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// IP version.
    pub version: IpVersion,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// The upper-layer protocol, after all extension headers.
    pub protocol: u8,
    /// Source and destination port, if the protocol has ports and the packet is long enough.
    pub ports: Option<(u16, u16)>,
}

impl Inner {
    /// Reads the headers of a packet that a codec restored.
    pub fn of(packet: &[u8], restored: &Restored) -> Option<Inner> {
        let upper = restored.upper?;
        let (src, dst) = net::addresses(packet)?;
        let version = IpVersion::of(src);
        Some(Inner { version, src, dst, protocol: upper.protocol, ports: upper.ports })
    }
}
