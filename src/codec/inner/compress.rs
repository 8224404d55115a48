//! From the packet to payload data.

use super::InnerRules;
use super::selectors::SelectorField;
use super::transport::TransportRule;
use crate::bits;
use crate::codec::Compressed;
use crate::codec::compute::ComputedField;
use crate::codec::restored::Mismatch;
use crate::codec::state::State;
use crate::context::Mode;
use crate::net::{IpHeader, IpVersion, OuterHeader, TransportSplit, ipv4};

impl InnerRules {
    /// Appends payload data to `clear`. After a mismatch, the content of `clear` is undefined and `state` is
    /// unchanged.
    pub(in crate::codec) fn compress(
        &self,
        packet: &[u8],
        outer: &OuterHeader,
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        let ip = IpHeader::parse(packet).map_err(|bad| Mismatch::says(bad.field, "is not that of an IP packet"))?;
        if let Some(version) = self.version.filter(|version| *version != ip.version) {
            return Err(Mismatch::differs("version", ip.version.number(), version.number()));
        }
        if ip.packet_len != packet.len() {
            return Err(Mismatch::says(ip.length_field(), "is not the length of the packet"));
        }
        if ip.version == IpVersion::V4 {
            ComputedField::HeaderChecksum.check(packet, 0)?;
        }
        clear.extend(self.rule_id);
        match self.mode {
            Some(Mode::Transport) => self.compress_transport(packet, &ip, state, clear),
            _ => self.compress_tunnel(packet, &ip, outer, state, clear),
        }
    }

    fn compress_tunnel(
        &self,
        packet: &[u8],
        ip: &IpHeader,
        outer: &OuterHeader,
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        self.check_protocol(ip.protocol)?;
        if self.protocol.is_some() && ip.fragment {
            return Err(Mismatch::says("fragment_offset", "is that of a fragment"));
        }
        let next_header = ip.version.next_header();
        let compressed = Compressed { payload_offset: 0, protocol_offset: 0, next_header, residue_bits: 0 };
        let segment = packet.get(ip.header_len..).unwrap_or_default();
        let Some(rule) = self.ip_rule(outer) else {
            SelectorField::check(&self.addresses, packet)?;
            self.check_ports(ip.protocol, ip.fragment, segment)?;
            clear.extend_from_slice(packet);
            return Ok(compressed);
        };
        let transport = if ip.fragment { None } else { self.transport(ip.protocol) };
        let options_bits = match ip.version {
            IpVersion::V4 => (ip.header_len - ipv4::HEADER_LEN) * 8,
            IpVersion::V6 => 0,
        };
        let transport_bits = transport.map_or(0, |transport| transport.header.rule.residue_bits());
        let residue_bits = rule.header.rule.residue_bits() + options_bits + transport_bits;
        let start = clear.len();
        let residue = room(residue_bits, clear);

        let mut at = rule.header.compress(packet, residue, 0)?;
        if options_bits > 0 {
            let copied = bits::copy(packet, ipv4::HEADER_LEN * 8, residue, at, options_bits);
            debug_assert!(copied.is_some());
            at += options_bits;
        }
        match transport {
            Some(transport) => transport.check(packet, ip.header_len, state)?,
            None => self.check_ports(ip.protocol, ip.fragment, segment)?,
        }
        compress_segment(transport, segment, at, (start, residue_bits), state, clear)?;
        Ok(Compressed { residue_bits, ..compressed })
    }

    fn compress_transport(
        &self,
        packet: &[u8],
        ip: &IpHeader,
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        let split = TransportSplit::of(packet, ip);
        // Transport mode protects only whole packets (RFC 4303 §3.1.1).
        if split.is_fragment(ip) {
            return Err(Mismatch::says("fragment_offset", "is that of a fragment"));
        }
        self.check_protocol(split.protocol)?;
        SelectorField::check(&self.addresses, packet)?;
        let segment = packet.get(split.segment..).unwrap_or_default();
        let transport = self.transport(split.protocol);
        match transport {
            Some(transport) => transport.check(packet, split.segment, state)?,
            None => self.check_ports(split.protocol, false, segment)?,
        }
        let start = clear.len();
        let residue_bits = transport.map_or(0, |transport| transport.header.rule.residue_bits());
        room(residue_bits, clear);
        compress_segment(transport, segment, 0, (start, residue_bits), state, clear)?;
        Ok(Compressed {
            payload_offset: split.segment,
            protocol_offset: split.protocol_offset,
            next_header: split.protocol,
            residue_bits,
        })
    }
}

/// Appends zeros for a residue and one more word, because `bits` writes whole words.
fn room(residue_bits: usize, clear: &mut Vec<u8>) -> &mut [u8] {
    const WORD: usize = 8;
    let start = clear.len();
    clear.resize(start + residue_bits.div_ceil(8) + WORD, 0);
    clear.get_mut(start..).unwrap_or_default()
}

/// Writes the residue of a transport header at bit `at` after byte `start` of `clear`, where there is [`room`] for all
/// `clear` has [`room`] for all `residue_bits`.
fn compress_segment(
    transport: Option<&TransportRule>,
    segment: &[u8],
    at: usize,
    (start, residue_bits): (usize, usize),
    state: &mut State,
    clear: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    match transport {
        Some(transport) => transport.compress(segment, at, (start, residue_bits), state, clear),
        None => {
            clear.truncate(start + residue_bits.div_ceil(8));
            clear.extend_from_slice(segment);
            Ok(())
        }
    }
}
