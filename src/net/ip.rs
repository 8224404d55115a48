//! What IPv4 and IPv6 headers have in common: version, addresses, lengths, checksums over the pseudo-header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};
use super::{IpVersion, checksum};
use crate::error::{Fault, Stage};

/// Why bytes are no IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// The bytes end before the header does.
    Short {
        /// The version of the header.
        version: IpVersion,
        /// Bytes of the header.
        needs: usize,
        /// Bytes that are there.
        has: usize,
    },
    /// The header has another version.
    Version {
        /// Its version.
        got: u8,
        /// The version that was expected.
        expected: IpVersion,
    },
    /// IHL, which this is, counts fewer than the 5 words of a header without options.
    Ihl(u8),
}

impl HeaderError {
    /// As a fault of a frame with the header at byte `offset`.
    #[cold]
    pub(super) fn fault(self, offset: usize) -> Fault {
        match self {
            HeaderError::Short { version: IpVersion::V4, needs, has } => {
                Fault::short(Stage::Link, offset, "IPv4 header", needs, has)
            }
            HeaderError::Short { version: IpVersion::V6, needs, has } => {
                Fault::short(Stage::Link, offset, "IPv6 header", needs, has)
            }
            HeaderError::Version { got, expected } => {
                let expected = if expected == IpVersion::V4 { "4" } else { "6" };
                Fault::value(Stage::Link, offset, "IP version", u64::from(got), expected)
            }
            HeaderError::Ihl(ihl) => Fault::value(Stage::Link, offset, "IHL", u64::from(ihl), "5 or more"),
        }
    }
}

/// The version nibble at the start of `packet`; 0 if there is no byte.
#[inline]
pub(crate) fn version_nibble(packet: &[u8]) -> u8 {
    packet.first().map_or(0, |byte| byte >> 4)
}

/// The version of the IP packet that starts with these bytes; `None` if it is neither 4 nor 6.
#[inline]
pub(crate) fn version(packet: &[u8]) -> Option<IpVersion> {
    match version_nibble(packet) {
        4 => Some(IpVersion::V4),
        6 => Some(IpVersion::V6),
        _ => None,
    }
}

/// Source and destination of the IP header at the start of `packet`, as they are there; `None` if there is none.
#[inline]
pub(crate) fn address_bytes(packet: &[u8]) -> Option<&[u8]> {
    match version(packet)? {
        IpVersion::V4 => packet.get(ipv4::ADDRESSES),
        IpVersion::V6 => packet.get(ipv6::ADDRESSES),
    }
}

/// Source and destination of the IP header at the start of `packet`; `None` if there is none.
pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (version, [src, dst]) = address_values(packet)?;
    let address = |value: u128| match version {
        IpVersion::V4 => IpAddr::from(Ipv4Addr::from(value as u32)),
        IpVersion::V6 => IpAddr::from(Ipv6Addr::from(value)),
    };
    Some((address(src), address(dst)))
}

/// Source and destination as IP version and [values](super::address_value).
#[inline]
pub(crate) fn address_values(packet: &[u8]) -> Option<(IpVersion, [u128; 2])> {
    let addresses = address_bytes(packet)?;
    match version(packet)? {
        IpVersion::V4 => {
            let addresses = addresses.as_chunks::<4>().0.first_chunk()?;
            Some((IpVersion::V4, addresses.map(|address| u128::from(u32::from_be_bytes(address)))))
        }
        IpVersion::V6 => {
            let addresses = addresses.as_chunks::<16>().0.first_chunk()?;
            Some((IpVersion::V6, addresses.map(u128::from_be_bytes)))
        }
    }
}

/// Whether the IP header at the start of `packet` has a multicast destination.
#[inline]
pub(super) fn is_multicast(packet: &[u8]) -> bool {
    match version(packet) {
        Some(IpVersion::V4) => Ipv4::of(packet).is_some_and(|header| header.dst().is_multicast()),
        _ => Ipv6::of(packet).is_some_and(|header| header.dst().is_multicast()),
    }
}

/// Bytes of the packet, by the length field of its header; `None` if the header is cut short or of another version.
pub(crate) fn packet_len(packet: &[u8]) -> Option<usize> {
    match version(packet)? {
        IpVersion::V4 => Some(Ipv4::of(packet)?.total_len()),
        IpVersion::V6 => Some(ipv6::HEADER_LEN + Ipv6::of(packet)?.payload_len()),
    }
}

/// The Internet checksum of the segment at byte `segment` of `packet` with the pseudo-header of its addresses: 0 if the
/// checksum field holds the right value. `None` if there is no IP header.
#[inline]
pub(crate) fn upper_layer_checksum(packet: &[u8], segment: usize, protocol: u8) -> Option<u16> {
    let addresses = address_bytes(packet)?;
    Some(checksum::upper_layer_of(addresses, protocol, packet.get(segment..).unwrap_or_default()))
}

/// Sets the length field of `packet`, and the IPv4 Header Checksum. A packet of 65536 bytes or more (IPv6: 65576),
/// or with a Jumbo Payload option, is a fault.
pub(crate) fn write_length(packet: &mut [u8]) -> Result<(), Fault> {
    let too_long = |what, len| Fault::value(Stage::Link, 0, what, len as u64, "65535 or less");
    let len = packet.len();
    if version(packet) == Some(IpVersion::V4) {
        let total_len = u16::try_from(len).map_err(|_| too_long("IPv4 Total Length", len))?;
        match Ipv4::at_mut(packet, 0) {
            Some(mut header) if header.header_len() <= len => header.set_total_len(total_len),
            header => {
                let needs = header.map_or(ipv4::HEADER_LEN, |header| header.header_len());
                return Err(Fault::short(Stage::Link, 0, "IPv4 header", needs, len));
            }
        }
        ipv4::write_checksum(packet);
    } else {
        let Some(payload_len) = len.checked_sub(ipv6::HEADER_LEN) else {
            return Err(Fault::short(Stage::Link, 0, "IPv6 header", ipv6::HEADER_LEN, len));
        };
        if ipv6::jumbo_len(packet).is_some() {
            return Err(Fault::unsupported(Stage::Link, ipv6::HEADER_LEN, "an IPv6 jumbogram cannot be written again"));
        }
        let payload_len = u16::try_from(payload_len).map_err(|_| too_long("IPv6 Payload Length", payload_len))?;
        if let Some(mut header) = Ipv6::at_mut(packet, 0) {
            header.set_payload_len(payload_len);
        }
    }
    Ok(())
}
