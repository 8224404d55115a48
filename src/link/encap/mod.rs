//! Headers between the link layer and the IP packet that may carry ESP, and the headers inside tunnels.
//!
//! Each header has its own file or function, which reads it and returns what follows. [`walk`] calls them one after
//! the other. [`Nesting`] limits how many there may be.

mod ethertype;
mod frame_relay;
mod geneve;
mod gre;
mod gtpu;
mod l2tp;
mod lisp;
pub(super) mod llc;
mod mpls;
mod nsh;
pub(super) mod ppp;
mod teredo;
pub(super) mod tunnel;
mod vxlan;

pub(super) use ethertype::{Addresses, ethernet_header};
pub(super) use frame_relay::header as frame_relay;

use super::ieee802154::carrier::Radio;
use super::ieee802154::fcs::Trailer;
use super::link_type::Network;
use crate::bytes::Reader;
use crate::error::Fault;
use crate::net::IpVersion;

/// Reads one header and returns what follows it.
type Header = for<'r, 'a> fn(&'r mut Reader<'a>) -> Result<Next, Fault>;

/// What follows a header.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// An IP packet, of this version if the header names one.
    Ip(Option<IpVersion>),
    /// The header that this EtherType announces.
    EtherType(u16),
    /// Another header, and the function that reads it.
    Header(Header),
    /// A frame of IEEE 802.15.4.
    Radio,
    /// A 6LoWPAN frame.
    Lowpan,
    /// Something else, which the text names.
    Other(&'static str),
}

const IPV4: Next = Next::Ip(Some(IpVersion::V4));
const IPV6: Next = Next::Ip(Some(IpVersion::V6));
const ETHERNET: Next = Next::Header(ethertype::ethernet);

/// How many more encapsulations of any kind a frame may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nesting(u8);

impl Nesting {
    /// More than real networks use.
    const MOST: u8 = 32;

    /// The reason given for a frame with more encapsulations.
    pub(super) const TOO_DEEP: &str = "more than 32 encapsulations inside each other";

    /// The limit at the start of a frame.
    pub(super) fn new() -> Nesting {
        Nesting(Nesting::MOST)
    }

    /// Counts one encapsulation. Returns false if there are too many.
    pub(super) fn enter(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// Reads headers from `next` on, with `reader` at its start, until it reaches a header that is not known here.
/// `in_place`: the headers before `next` can be written again before another IP packet. `addresses` are those of an
/// Ethernet header.
pub(super) fn walk<'a>(
    mut next: Next,
    mut reader: Reader<'a>,
    mut in_place: bool,
    mut addresses: Option<Addresses>,
    nesting: &mut Nesting,
) -> Result<Network<'a>, Fault> {
    loop {
        let is_ip = matches!(next, Next::EtherType(ether_type) if ethertype::is_ip(ether_type));
        if !is_ip && matches!(next, Next::EtherType(_) | Next::Header(_)) && !nesting.enter() {
            return Ok(Network::Other(Nesting::TOO_DEEP));
        }
        next = match next {
            Next::Ip(version) => {
                let offset = reader.position();
                return Ok(if in_place {
                    Network::Ip { offset, version }
                } else {
                    Network::Enclosed { offset, version }
                });
            }
            Next::Radio => return Ok(Network::Radio(Radio::bare(reader.rest(), Trailer::Unknown))),
            Next::Lowpan => {
                let link = addresses.unwrap_or_default().link();
                return Ok(Network::Lowpan { offset: reader.position(), link });
            }
            Next::Other(what) => return Ok(Network::Other(what)),
            // One EtherType may announce another one.
            Next::EtherType(ether_type) => ethertype::header(ether_type, &mut reader)?,
            // The header may contain a length, or it cannot name another protocol. So it cannot be written again.
            Next::Header(header) => {
                in_place = false;
                addresses = None;
                header(&mut reader)?
            }
        };
    }
}
