//! Finds the IP packet that may carry ESP in a captured frame, and writes a frame back.
//!
//! A [`Receiver`] reads the frames of a capture in order. It reassembles fragments of IP and 6LoWPAN, decrypts and
//! decompresses radio frames, and recognizes repeated ones. [`parse`] reads a single frame without regard to
//! earlier ones. [`udp_encapsulation`] finds ESP in UDP port 4500. [`rebuild`] writes a frame with a new payload.

mod bluetooth;
mod encap;
mod fragments;
mod ieee802154;
mod link_key;
mod link_type;
mod logged;
mod lora;
mod lowpan;
mod names;
mod rebuild;
mod receiver;
mod repeats;
mod udp;
mod unwrap;
mod wireless;

use self::encap::tunnel;
pub(crate) use self::encap::tunnel::may_be_tunnel;
use crate::error::Fault;
use crate::net::{
    Datagram, FRAGMENT_HEADER_LEN, Fragment, IpLocation, IpVersion, LinkAddresses, Located, OuterHeader, locate,
    locate_plain, outer_at, protocol,
};

pub use fragments::{Reassembled, Reassembler};
pub use ieee802154::fcs::Fcs;
pub use link_key::LinkKey;
pub(crate) use link_type::UNSUPPORTED;
pub(crate) use names::{common_name, link_type_name};
pub use rebuild::encapsulate;
pub use rebuild::rebuild;
pub use rebuild::replace;
pub(crate) use rebuild::{UdpChecksum, append, begin, begin_encapsulated};
pub use receiver::Content;
pub use receiver::Receiver;
pub use receiver::Settings;
pub(crate) use receiver::{InnerReceiver, Received};
pub(crate) use repeats::REPEATS_KEPT;
pub use udp::EspPorts;
pub use udp::udp_encapsulation;

/// Reads a frame captured on `link_type` (a `LINKTYPE_` value of the tcpdump.org registry).
///
/// Supported link types: NULL 0, Ethernet 1, PPP 9, 50, 51, 166 and 204, FDDI 10, raw IP 12, 14, 101, 228, 229,
/// Cisco HDLC 104 and 205, IEEE 802.11 in the clear 105 and 127, Frame Relay 107 and 206, LOOP 108, ENC 109, Linux
/// cooked 113 and 276, PFLOG 117, PPI 192, NFLOG 239, IPoIB 242; with VLAN tags, MPLS, NSH, PPPoE and similar
/// headers. The frames of IEEE 802.15.4 (195, 215, 230, 283), of Bluetooth LE (187, 201, 251, 254, 256, 272) and of
/// LoRaTAP 270 need a [`Receiver`], and so do tunnels and frames with several packets (A-MSDU of IEEE 802.11).
pub fn parse(link_type: u16, frame: &[u8]) -> LinkContent<'_> {
    match link_type::network(link_type, frame) {
        Ok(link_type::Network::Ip { offset, version }) => parse_ip(frame, offset, version),
        Ok(link_type::Network::Enclosed { offset, version }) => match parse_ip(frame, offset, version) {
            LinkContent::Datagram(datagram) => LinkContent::Datagram(Datagram { rebuilt: true, ..datagram }),
            other => other,
        },
        Ok(link_type::Network::Aggregate { .. }) => LinkContent::NotIp("an aggregate of IEEE 802.11 (A-MSDU)"),
        Ok(link_type::Network::Radio(_) | link_type::Network::Lowpan { .. }) => LinkContent::NotIp("IEEE 802.15.4"),
        Ok(link_type::Network::Bluetooth) => LinkContent::NotIp("Bluetooth"),
        Ok(link_type::Network::Other(reason)) => LinkContent::NotIp(reason),
        Err(fault) => LinkContent::Malformed { outer: None, fault },
    }
}

/// Reads the IP packet at `offset` of `frame`. `version` is the IP version that the link header named.
fn parse_ip(frame: &[u8], offset: usize, version: Option<IpVersion>) -> LinkContent<'_> {
    match locate(frame, offset, version) {
        Ok(Located::Packet(place)) => match place.datagram(frame) {
            Some(datagram) => LinkContent::Datagram(datagram),
            None => LinkContent::NotIp("the frame is longer than 4 GiB"),
        },
        Ok(Located::Fragment(fragment)) => LinkContent::Fragment(fragment),
        Err(fault) => LinkContent::Malformed { outer: outer_at(frame, offset, version), fault },
    }
}

/// Like [`parse`], for frames that need no memory of others and hold their packet in the open; `None` for those that a
/// [`Receiver`] must take in their turn: fragments, radio frames, tunnels. `stops_at` as in [`Receiver::receive`].
#[inline]
pub fn parse_standalone(link_type: u16, frame: &[u8], stops_at: impl Fn(u8) -> bool) -> Option<Standalone> {
    if link_type::is_radio(link_type) {
        return None;
    }
    let (outer, fault) = match link_type::network(link_type, frame) {
        Ok(link_type::Network::Ip { offset, version }) => match locate(frame, offset, version) {
            Ok(Located::Packet(place)) => {
                return is_standalone(frame, place, stops_at).then_some(Standalone::Packet(place));
            }
            Ok(Located::Fragment(_)) => return None,
            Err(fault) => (outer_at(frame, offset, version), fault),
        },
        Ok(link_type::Network::Other(reason)) => return Some(Standalone::NotIp(reason)),
        Ok(_) => return None,
        Err(fault) => (None, fault),
    };
    Some(Standalone::Malformed { outer, fault })
}

/// A faster version for a plain packet with the usual headers; `None` for any other.
// Inlined so that the result stays in registers. Copying a struct right after its fields were written stalls the
// CPU (store forwarding fails).
#[inline(always)]
pub fn parse_plain(link_type: u16, frame: &[u8], stops_at: impl Fn(u8) -> bool) -> Option<IpLocation> {
    let (offset, version) = link_type::plain_ip(link_type, frame)?;
    let place = locate_plain(frame, offset, version)?;
    if is_standalone(frame, place, stops_at) { Some(place) } else { None }
}

/// Whether the frame needs no further unwrapping: `stops_at` accepts its protocol, or it carries no other packet.
#[inline(always)]
fn is_standalone(frame: &[u8], place: IpLocation, stops_at: impl Fn(u8) -> bool) -> bool {
    match place.protocol {
        protocol::UDP => !receiver::may_carry_packets(place.payload(frame)),
        protocol => stops_at(protocol) || protocol != protocol::UDP_LITE && !tunnel::is_tunnel(protocol),
    }
}

/// The result of [`parse_standalone`].
#[derive(Debug, Clone, Copy)]
pub enum Standalone {
    /// A whole IP packet.
    Packet(IpLocation),
    /// As [`LinkContent::NotIp`].
    NotIp(&'static str),
    /// As [`LinkContent::Malformed`].
    Malformed {
        /// The IP header, if it could be read.
        outer: Option<OuterHeader>,
        /// What is wrong; its offset counts from the start of the frame.
        fault: Fault,
    },
}

/// What a captured frame holds.
#[derive(Debug, Clone, Copy)]
pub enum LinkContent<'a> {
    /// A whole IP packet.
    Datagram(Datagram<'a>),
    /// A piece of an IP packet.
    Fragment(Fragment<'a>),
    /// Something else, which the text names.
    NotIp(&'static str),
    /// The link or IP headers are truncated or contradictory.
    Malformed {
        /// The IP header, if it could be read.
        outer: Option<OuterHeader>,
        /// What is wrong; its offset counts from the start of the frame.
        fault: Fault,
    },
}

impl<'a> LinkContent<'a> {
    /// Turns a fragment into a separate packet. `frame` is the frame that was parsed. An IPv6 Fragment header
    /// becomes the first header of the payload (RFC 8200 §4.5).
    pub fn fragment_as_packet(self, frame: &'a [u8]) -> LinkContent<'a> {
        let LinkContent::Fragment(fragment) = self else { return self };
        let Fragment { outer, header, protocol_offset, protocol, payload, missing, frame_offset, .. } = fragment;
        let (protocol, payload) = match outer.version {
            IpVersion::V4 => (protocol, payload),
            IpVersion::V6 => {
                let start = frame_offset.saturating_add(header.len());
                let end = start.saturating_add(FRAGMENT_HEADER_LEN).saturating_add(payload.len());
                (protocol::FRAGMENT, frame.get(start..end).unwrap_or_default())
            }
        };
        let (rebuilt, link) = (false, None);
        let datagram =
            Datagram { outer, header, protocol_offset, protocol, payload, missing, frame_offset, rebuilt, link };
        LinkContent::Datagram(datagram)
    }
}

#[cfg(test)]
mod tests;
