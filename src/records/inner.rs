//! The few fields of a restored packet that records show.

use std::net::IpAddr;

use crate::codec::Restored;
use crate::net::IpVersion;

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
        let (version, src, dst) = if packet.first()? >> 4 == 4 {
            let at = |offset: usize| packet.get(offset..)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
            (IpVersion::V4, at(12)?, at(16)?)
        } else {
            let at = |offset: usize| packet.get(offset..)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
            (IpVersion::V6, at(8)?, at(24)?)
        };
        Some(Inner { version, src, dst, protocol: upper.protocol, ports: upper.ports })
    }
}
