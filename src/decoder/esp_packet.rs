//! Where a packet carries ESP: in IP, or in UDP (RFC 3948).

use super::status::Reason;
use crate::link;
use crate::net::{Datagram, IpLocation, LinkAddresses, OuterHeader, protocol};
use crate::sa::table::{Lookup, SaTable};

/// A packet that carries ESP.
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
    /// The ESP packet that `datagram` is, or why it is none.
    pub(crate) fn of(table: &SaTable, datagram: &Datagram<'a>) -> Result<EspPacket<'a>, Reason> {
        let payload = EspPayload::of(table, datagram)?;
        let Datagram { outer, header, protocol_offset, link, .. } = *datagram;
        let multicast = outer.dst.is_multicast().then_some(header);
        Ok(EspPacket { payload, header, protocol_offset, link, multicast })
    }

    /// The ESP packet at `place` in `frame`, or why there is none.
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

/// The ESP payload of a datagram, and how it is carried.
#[derive(Debug, Clone, Copy)]
pub struct EspPayload<'a> {
    /// IP protocol number: 50, or one that a context names. 50 for UDP encapsulation too.
    pub protocol: u8,
    /// The UDP header, where ESP is carried in UDP.
    pub udp_header: Option<&'a [u8; 8]>,
    /// From the first byte of SPI or RuleID to the end of the ICV.
    pub bytes: &'a [u8],
    /// Bytes that the lengths promise and the capture does not have (snap length).
    pub missing: usize,
}

impl<'a> EspPayload<'a> {
    /// Finds the ESP payload of a datagram, or says why there is none.
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

    /// The same for the packet at `place` in `frame`.
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
