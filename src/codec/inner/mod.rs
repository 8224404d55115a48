//! The inner packet: payload data <-> packet (IIPC, draft-ietf-ipsecme-diet-esp-07 §5.1).
//!
//! ```text
//! [RuleID] residue of the IP header (tunnel mode), IPv4 options, residue of the transport header,
//! 0 bits up to a whole byte | payload
//! ```
//!
//! Dialects differ only in their rules. The steps are the same for all.

mod compress;
mod header_rule;
mod residue;
mod restore;
mod selectors;
mod transport;

pub(super) use header_rule::{HeaderRule, IpRule};
pub(super) use selectors::{SelectorField, addresses, limits, ports};
pub(super) use transport::TransportRule;

use super::restored::{Form, Mismatch};
use super::trailer::PayloadData;
use crate::context::Mode;
use crate::error::{Fault, Stage};
use crate::net::{IpHeader, IpVersion, OuterHeader, UpperLayer, ports_of, protocol};

/// Converts between payload data and packets.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct InnerRules {
    /// `None`: the Next Header of the trailer gives the mode (RFC 4303).
    pub mode: Option<Mode>,
    /// The agreed IP version.
    pub version: Option<IpVersion>,
    /// The agreed protocol.
    pub protocol: Option<u8>,
    /// The RuleID before the residue.
    pub rule_id: Option<u8>,
    /// The rule of the IP header; `None` if it is not compressed.
    pub ip: Option<IpRule>,
    /// A second rule of the IP header, for packets inside an IPv4 header (dialect `ehc`).
    pub ip_over_v4: Option<IpRule>,
    /// The rules of transport headers, one for each compressed protocol.
    pub transports: Box<[TransportRule]>,
    /// Address selectors, if no rule checks them.
    pub addresses: Box<[SelectorField]>,
    /// Port selectors, at offsets from the start of the segment, for transport headers that no rule checks.
    pub ports: Box<[SelectorField]>,
}

impl InnerRules {
    /// Sends the IP packet or segment unchanged.
    pub(super) fn uncompressed(mode: Option<Mode>, version: Option<IpVersion>, protocol: Option<u8>) -> InnerRules {
        InnerRules {
            mode,
            version,
            protocol,
            rule_id: None,
            ip: None,
            ip_over_v4: None,
            transports: [].into(),
            addresses: [].into(),
            ports: [].into(),
        }
    }

    /// Whether restoring a packet depends on the previous packet.
    pub(super) fn is_stateful(&self) -> bool {
        self.transports.iter().any(|transport| transport.tcp_lsb.is_some())
    }

    /// The rule of the IP header for a packet inside `outer`.
    fn ip_rule(&self, outer: &OuterHeader) -> Option<&IpRule> {
        match &self.ip_over_v4 {
            Some(rule) if outer.version == IpVersion::V4 => Some(rule),
            _ => self.ip.as_ref(),
        }
    }

    /// Whether the payload data is always the same as in standard ESP.
    pub(super) fn is_identity(&self) -> bool {
        self.rule_id.is_none() && self.ip.is_none() && self.transports.is_empty()
    }

    fn transport(&self, protocol: u8) -> Option<&TransportRule> {
        self.transports.iter().find(|transport| transport.protocol == protocol)
    }

    /// The content that the trailer announces, and the Next Header if it is known.
    #[inline]
    fn announced(&self, opened: &PayloadData) -> Result<(Form, Option<u8>), Fault> {
        if opened.next_header == Some(protocol::NO_NEXT_HEADER) {
            return Ok((Form::Dummy, opened.next_header));
        }
        let form = match (self.mode, opened.next_header) {
            (Some(Mode::Tunnel), _) | (None, Some(4 | 41) | None) => Form::Tunnel,
            (Some(Mode::Transport) | None, _) => Form::Transport,
        };
        let known = match form {
            Form::Tunnel => self.version.map(IpVersion::next_header),
            _ => self.protocol,
        };
        if let (Some(sent), Some(known)) = (opened.next_header, known)
            && sent != known
        {
            let expected = "the protocol of the traffic selectors";
            let offset = opened.offset + opened.payload.len();
            return Err(Fault::value(Stage::Trailer, offset, "Next Header", sent.into(), expected));
        }
        Ok((form, opened.next_header.or(known)))
    }

    pub(super) fn check_protocol(&self, protocol: u8) -> Result<(), Mismatch> {
        match self.protocol {
            Some(selected) if selected != protocol => Err(Mismatch::differs("next_header", protocol, selected)),
            _ if protocol == protocol::NO_NEXT_HEADER => {
                Err(Mismatch::says("next_header", "is that of a dummy packet"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_ports(&self, protocol: u8, fragment: bool, segment: &[u8]) -> Result<(), Mismatch> {
        if fragment || ports_of(protocol, segment).is_none() {
            return Ok(());
        }
        SelectorField::check(&self.ports, segment)
    }

    /// Whether there are selectors that no rule checks.
    #[inline]
    pub(super) fn selects(&self) -> bool {
        self.protocol.is_some() || !self.addresses.is_empty() || !self.ports.is_empty()
    }

    /// Whether an uncompressed packet has values outside the selectors.
    pub(super) fn is_outside(&self, packet: &[u8], ip: &IpHeader, upper: Option<UpperLayer>) -> bool {
        let segment = packet.get(ip.header_len..).unwrap_or_default();
        let is_of = |protocol| protocol == ip.protocol || upper.is_some_and(|upper| upper.protocol == protocol);
        self.protocol.is_some_and(|protocol| !is_of(protocol))
            || SelectorField::check(&self.addresses, packet).is_err()
            || self.check_ports(ip.protocol, ip.fragment, segment).is_err()
    }

    /// Whether the ports of an uncompressed transport header are outside the selectors.
    pub(super) fn is_port_outside(&self, protocol: u8, segment: Option<&[u8]>) -> bool {
        let segment = segment.unwrap_or_default();
        !self.ports.is_empty() && self.check_ports(protocol, false, segment).is_err()
    }
}
