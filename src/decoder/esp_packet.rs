//! Finds ESP in a packet, directly in IP or in UDP (RFC 3948), and its parts under an SA.

use super::status::Reason;
use crate::link;
use crate::net::{Datagram, IpLocation, LinkAddresses, OuterHeader, protocol};
use crate::sa::table::{Lookup, PreparedSa, SaTable};

/// A packet that contains ESP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EspPacket<'a> {
    /// The ESP payload.
    pub payload: EspPayload<'a>,
    /// See [`IpHeaders`](crate::net::IpHeaders).
    pub header: &'a [u8],
    /// See [`IpHeaders`](crate::net::IpHeaders).
    pub protocol_offset: usize,
    /// The link-layer addresses, if a codec may restore addresses from them.
    pub link: Option<LinkAddresses>,
    /// `header`, if the destination is a multicast address.
    pub multicast: Option<&'a [u8]>,
}

impl<'a> EspPacket<'a> {
    /// Finds ESP in `datagram`, or the reason why there is none.
    pub(crate) fn of(table: &SaTable, datagram: &Datagram<'a>) -> Result<EspPacket<'a>, Reason> {
        let payload = EspPayload::of(table, datagram)?;
        let Datagram { outer, header, protocol_offset, link, .. } = *datagram;
        let multicast = outer.dst.is_multicast().then_some(header);
        Ok(EspPacket { payload, header, protocol_offset, link, multicast })
    }

    /// Finds ESP in the packet at `place` in `frame`, or the reason why there is none.
    #[inline(always)]
    pub(crate) fn in_frame(table: &SaTable, frame: &'a [u8], place: IpLocation) -> Result<EspPacket<'a>, Reason> {
        let payload = EspPayload::in_frame(table, frame, place)?;
        let header = place.header(frame);
        let multicast = place.is_multicast(frame).then_some(header);
        Ok(EspPacket { payload, header, protocol_offset: place.protocol_offset(), link: None, multicast })
    }

    pub(crate) fn lookup<'l>(&'l self, outer: &'l OuterHeader) -> Lookup<'l> {
        Lookup { protocol: self.payload.protocol, outer, link: self.link, payload: self.payload.bytes }
    }
}

/// The ESP payload of a datagram, and the headers before it.
#[derive(Debug, Clone, Copy)]
pub struct EspPayload<'a> {
    /// IP protocol number: 50, or one that a context names. Also 50 for UDP encapsulation.
    pub protocol: u8,
    /// The UDP header, if ESP is encapsulated in UDP.
    pub udp_header: Option<&'a [u8; 8]>,
    /// From the first byte of SPI or RuleID to the end of the ICV.
    pub bytes: &'a [u8],
    /// Bytes that the length fields include, but that were not captured (snap length).
    pub missing: usize,
}

impl<'a> EspPayload<'a> {
    /// Finds the ESP payload of a datagram, or the reason why there is none.
    pub fn of(table: &SaTable, datagram: &Datagram<'a>) -> Result<EspPayload<'a>, Reason> {
        let Datagram { protocol, payload, missing, .. } = *datagram;
        if matches!(protocol, protocol::UDP | protocol::UDP_LITE) && !table.uses_protocol(protocol) {
            return match link::udp_encapsulation(datagram, table.esp_ports()) {
                Ok(Some(udp)) => Ok(EspPayload {
                    protocol: protocol::ESP,
                    udp_header: Some(udp.udp_header),
                    bytes: udp.payload,
                    missing: udp.missing,
                }),
                Ok(None) => Err(Reason::Protocol(protocol)),
                Err(fault) => Err(Reason::Fault(fault)),
            };
        }
        EspPayload::plain(table, protocol, payload, missing)
    }

    /// Finds the ESP payload of the packet at `place` in `frame`.
    #[inline(always)]
    pub(crate) fn in_frame(table: &SaTable, frame: &'a [u8], place: IpLocation) -> Result<EspPayload<'a>, Reason> {
        if place.protocol == protocol::UDP
            && let Some(datagram) = place.datagram(frame)
        {
            return EspPayload::of(table, &datagram);
        }
        EspPayload::plain(table, place.protocol, place.payload(frame), place.missing())
    }

    fn plain(table: &SaTable, protocol: u8, bytes: &'a [u8], missing: usize) -> Result<EspPayload<'a>, Reason> {
        match table.uses_protocol(protocol) {
            true => Ok(EspPayload { protocol, udp_header: None, bytes, missing }),
            false => Err(Reason::Protocol(protocol)),
        }
    }
}

/// The packet after its ESP header; `None` if it is too short.
pub(crate) fn body<'a>(entry: &PreparedSa, payload: &'a [u8]) -> Option<&'a [u8]> {
    if payload.len() < entry.least_len() { None } else { payload.get(entry.header_len()..) }
}

/// The SPI of a packet under an SA: that of the SA, or, if the SA matches every SPI, the one on the wire.
pub(crate) fn spi(entry: &PreparedSa, payload: &[u8]) -> u32 {
    let wire = || payload.first_chunk().map_or(0, |word| u32::from_be_bytes(*word));
    entry.spi().unwrap_or_else(wire)
}

/// The explicit IV of a packet, if it is 8 bytes long.
pub(crate) fn explicit_iv(entry: &PreparedSa, payload: &[u8]) -> Option<u64> {
    if entry.iv_len() != 8 {
        return None;
    }
    payload.get(entry.header_len()..)?.first_chunk().map(|iv| u64::from_be_bytes(*iv))
}
