//! From payload data to the packet.

use super::InnerRules;
use super::header_rule::IpRule;
use super::residue::ResidueReader;
use super::selectors::SelectorField;
use super::transport::TransportRule;
use crate::bits;
use crate::codec::restored::{Form, Provenance, Restored, Warnings};
use crate::codec::state::State;
use crate::codec::trailer::PayloadData;
use crate::error::{Fault, Stage};
use crate::net::ipv4::{self, Ipv4};
use crate::net::ipv6::{self, Ipv6};
use crate::net::{InvalidField, IpHeader, IpHeaders, IpVersion, UpperLayer, ip, protocol};

/// What a length field of an IP header can hold.
const MAX_LEN: usize = 65_535;

impl InnerRules {
    /// The position of the packet in the clear text, if the rules do not change it ([`InnerRules::is_identity`])
    /// and the mode is tunnel mode. In this case, its properties are stored in `restored`.
    #[inline]
    pub(in crate::codec) fn restore_in_place(
        &self,
        opened: &PayloadData,
        restored: &mut Option<Restored>,
    ) -> Option<std::ops::Range<usize>> {
        let (form, next_header) = self.announced(opened).ok()?;
        if form != Form::Tunnel {
            return None;
        }
        let ip = whole_packet(next_header, opened.payload, opened.offset).ok()?;
        let packet = opened.payload.get(..ip.packet_len)?;
        let restored = restored.insert(Restored {
            form,
            next_header: ip.version.next_header(),
            payload_offset: 0,
            sources: Provenance::default(),
            warnings: opened.warnings,
            length_hiding: opened.excess_padding + (opened.payload.len() - packet.len()) as u32,
            upper: None,
        });
        UpperLayer::find_into(packet, &ip, &mut restored.upper);
        if self.selects() {
            let outside = self.is_outside(packet, &ip, restored.upper);
            restored.warnings.add_if(outside, Warnings::OUTSIDE_SELECTOR);
        }
        Some(opened.offset..opened.offset + packet.len())
    }

    /// Appends the restored packet to the empty `packet`.
    pub(in crate::codec) fn restore(
        &self,
        opened: &PayloadData,
        outer_ip: &IpHeaders,
        state: &mut State,
        packet: &mut Vec<u8>,
    ) -> Result<Restored, Fault> {
        let (form, next_header) = self.announced(opened)?;
        let mut restored = Restored {
            form,
            next_header: protocol::NO_NEXT_HEADER,
            payload_offset: 0,
            sources: Provenance::default(),
            warnings: opened.warnings,
            length_hiding: opened.excess_padding,
            upper: None,
        };
        if form == Form::Dummy {
            restored.length_hiding += opened.payload.len() as u32;
            restored.warnings.add_if(true, Warnings::DUMMY);
            return Ok(restored);
        }

        let mut residue = ResidueReader { bytes: opened.payload, at: 0, offset: opened.offset };
        if let Some(rule_id) = self.rule_id {
            let got = bits::read(residue.bytes, 0, 8).ok_or_else(|| residue.short(8))?;
            if got != u128::from(rule_id) {
                let what = "the RuleID is not that of the context";
                return Err(Fault::unsupported(Stage::Inner, residue.offset, what));
            }
            residue.at = 8;
        }
        match (restored.form, self.ip_rule(outer_ip.outer)) {
            (Form::Tunnel, Some(ip)) => {
                restored.next_header = ip.version.next_header();
                self.restore_tunnel(ip, residue, outer_ip, state, packet, &mut restored)?;
            }
            (Form::Tunnel, None) => {
                let ip = whole_packet(next_header, residue.bytes, residue.offset)?;
                packet.extend_from_slice(residue.bytes.get(..ip.packet_len).unwrap_or_default());
                restored.length_hiding += (residue.bytes.len() - packet.len()) as u32;
                let upper = Some(UpperLayer::find(packet, &ip));
                restored.warnings.add_if(self.is_outside(packet, &ip, upper), Warnings::OUTSIDE_SELECTOR);
                restored.next_header = ip.version.next_header();
            }
            _ => {
                restored.next_header = next_header.unwrap_or(0);
                self.restore_transport(residue, outer_ip, state, packet, &mut restored)?;
            }
        }
        restored.upper = IpHeader::parse(packet).ok().map(|ip| UpperLayer::find(packet, &ip));
        Ok(restored)
    }
    fn restore_tunnel(
        &self,
        ip: &IpRule,
        mut residue: ResidueReader,
        outer_ip: &IpHeaders,
        state: &mut State,
        packet: &mut Vec<u8>,
        restored: &mut Restored,
    ) -> Result<(), Fault> {
        let (protocol, fragment) = restore_ip_header(ip, &mut residue, packet)?;
        if self.protocol.is_some_and(|known| protocol != known) {
            // A rule may send the protocol.
            if !self.transports.is_empty() {
                let (got, expected) = (protocol.into(), "the protocol of the context");
                return Err(Fault::value(Stage::Inner, residue.offset, "Next Header", got, expected));
            }
            restored.warnings.add_if(true, Warnings::OUTSIDE_SELECTOR);
        }
        let segment = packet.len();
        let transport = if fragment { None } else { self.transport(protocol) };
        let offset = residue.offset;
        restore_segment(transport, residue, packet, restored)?;
        if ip.length_sent {
            let least = segment + transport.map_or(0, |transport| transport.min_len);
            restored.length_hiding += cut_to_length(packet, least)?;
        }
        let header_len = if ip.version == IpVersion::V4 { 0 } else { ipv6::HEADER_LEN };
        if packet.len() > header_len + MAX_LEN {
            return Err(Fault::value(Stage::Inner, 0, "rebuilt packet", packet.len() as u64, "65535 bytes at most"));
        }
        for field in &ip.header.computed {
            // The rule has the whole header.
            let _ = field.apply(packet, segment, outer_ip.outer);
        }
        restored.sources = restored.sources.and(ip.header.sources);
        let outside_ports = transport.is_none() && !fragment && self.is_port_outside(protocol, packet.get(segment..));
        let outside = outside_ports || ip.header.is_outside(packet);
        restored.warnings.add_if(outside, Warnings::OUTSIDE_SELECTOR);
        transport.map_or(Ok(()), |transport| transport.finish(segment, (offset, outer_ip), state, packet))
    }

    fn restore_transport(
        &self,
        residue: ResidueReader,
        outer_ip: &IpHeaders,
        state: &mut State,
        packet: &mut Vec<u8>,
        restored: &mut Restored,
    ) -> Result<(), Fault> {
        packet.extend_from_slice(outer_ip.header);
        let segment = packet.len();
        restored.payload_offset = segment;
        let transport = self.transport(restored.next_header);
        let offset = residue.offset;
        restore_segment(transport, residue, packet, restored)?;
        write_outer_fields(packet, outer_ip, restored.next_header)?;
        let outside_ports = transport.is_none() && self.is_port_outside(restored.next_header, packet.get(segment..));
        let outside = outside_ports || SelectorField::check(&self.addresses, packet).is_err();
        restored.warnings.add_if(outside, Warnings::OUTSIDE_SELECTOR);
        transport.map_or(Ok(()), |transport| transport.finish(segment, (offset, outer_ip), state, packet))
    }
}

/// Appends the IP header with IPv4 options to `packet`, which is empty. Returns its protocol, and whether it is an IPv4
/// fragment. Computed fields are written later.
fn restore_ip_header(ip: &IpRule, residue: &mut ResidueReader, packet: &mut Vec<u8>) -> Result<(u8, bool), Fault> {
    residue.expand(&ip.header.rule, packet)?;
    // A rule may send the version.
    let version = ip::version_nibble(packet);
    if version != ip.version.number() {
        let expected = "the IP version of the context";
        return Err(Fault::value(Stage::Inner, residue.offset, "version", version.into(), expected));
    }
    if let (IpVersion::V4, Some(header)) = (ip.version, Ipv4::of(packet)) {
        let (header_len, protocol, is_fragment) = (header.header_len(), header.protocol(), header.is_fragment());
        let Some(options_len) = header_len.checked_sub(ipv4::HEADER_LEN) else {
            return Err(Fault::value(Stage::Inner, residue.offset, "IHL", header_len as u64 / 4, "5 to 15"));
        };
        residue.take(options_len, packet)?;
        return Ok((protocol, is_fragment));
    }
    Ok((Ipv6::of(packet).map_or(0, |header| header.next_header()), false))
}

/// Appends the transport header and the payload. Computed fields are written later.
fn restore_segment(
    transport: Option<&TransportRule>,
    residue: ResidueReader,
    packet: &mut Vec<u8>,
    restored: &mut Restored,
) -> Result<(), Fault> {
    match transport {
        Some(transport) => transport.restore(residue, packet, restored),
        None => {
            packet.extend_from_slice(residue.payload(&mut restored.warnings));
            Ok(())
        }
    }
}

/// Cuts `packet` at the length in its IP header. The bytes after it are TFC padding (RFC 4303 §2.7): returns how many.
fn cut_to_length(packet: &mut Vec<u8>, least: usize) -> Result<u32, Fault> {
    let len = ip::packet_len(packet).unwrap_or(0);
    if !(least..=packet.len()).contains(&len) {
        return Err(Fault::value(Stage::Inner, 0, "IP length", len as u64, "the length of the clear text"));
    }
    let padding = (packet.len() - len) as u32;
    packet.truncate(len);
    Ok(padding)
}

/// Makes the outer header at the start of `packet` that of the whole packet: the protocol, the length and the IPv4 Header
/// Checksum.
fn write_outer_fields(packet: &mut [u8], outer_ip: &IpHeaders, protocol: u8) -> Result<(), Fault> {
    let len = packet.len();
    let too_long = |_| Fault::value(Stage::Inner, 0, "rebuilt packet", len as u64, "65535 bytes at most");
    if let Some(byte) =
        packet.get_mut(..outer_ip.header.len()).and_then(|front| front.get_mut(outer_ip.protocol_offset))
    {
        *byte = protocol;
    }
    match ip::version(packet) {
        Some(IpVersion::V4) => {
            let total_len = u16::try_from(len).map_err(too_long)?;
            if let Some(mut header) = Ipv4::at_mut(packet, 0) {
                header.set_total_len(total_len);
            }
            ipv4::write_checksum(packet);
        }
        _ => {
            let payload_len = u16::try_from(len.saturating_sub(ipv6::HEADER_LEN)).map_err(too_long)?;
            if let Some(mut header) = Ipv6::at_mut(packet, 0) {
                header.set_payload_len(payload_len);
            }
        }
    }
    Ok(())
}

/// Reads the IP header of an uncompressed packet at the start of `bytes`, which are at `offset` of the clear text.
/// All of the packet must be there. Bytes after it are TFC padding (RFC 4303 §2.7).
pub(super) fn whole_packet(next_header: Option<u8>, bytes: &[u8], offset: usize) -> Result<IpHeader, Fault> {
    let ip = IpHeader::parse(bytes)
        .map_err(|InvalidField { field, got, expected }| Fault::value(Stage::Inner, offset, field, got, expected))?;
    if next_header.is_some_and(|announced| announced != ip.version.next_header()) {
        let version = ip.version.number().into();
        return Err(Fault::value(Stage::Inner, offset, "version", version, "the version that Next Header announces"));
    }
    if ip.packet_len > bytes.len() {
        return Err(Fault::short(Stage::Inner, offset, "inner packet", ip.packet_len, bytes.len()));
    }
    Ok(ip)
}
