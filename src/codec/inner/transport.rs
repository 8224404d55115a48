//! The rule of a transport header: what must hold for a segment to come back as it was, and the segment itself.

use super::header_rule::HeaderRule;
use super::residue::ResidueReader;
use crate::codec::restored::{Mismatch, Restorable, Restored, Source, Warnings};
use crate::codec::state::{State, TcpLsb};
use crate::error::{Fault, Stage};
use crate::net::protocol::{self, TCP};
use crate::net::tcp::{self, Tcp};
use crate::net::udp_lite::{self, UdpLite};
use crate::net::{IpHeaders, PORTS_LEN};

/// The rule of a transport header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TransportRule {
    pub protocol: u8,
    /// Segments shorter than this do not match.
    pub min_len: usize,
    /// The rule only contains the ports. The rest of a TCP header follows in the payload, without its checksum.
    pub ports_only: bool,
    /// TCP numbers of which only the low bits are sent.
    pub tcp_lsb: Option<TcpLsb>,
    pub header: HeaderRule,
}

impl TransportRule {
    /// Whether the receiver restores the segment of `packet` at byte `segment` exactly.
    pub(super) fn check(&self, packet: &[u8], segment: usize, state: &State) -> Result<(), Mismatch> {
        let bytes = packet.get(segment..).unwrap_or_default();
        if bytes.len() < self.min_len {
            let name = match self.protocol {
                protocol::UDP => "udp",
                protocol::UDP_LITE => "udplite",
                TCP => "tcp",
                _ => "sctp",
            };
            return Err(Mismatch::says(name, "header is truncated"));
        }
        if self.protocol == TCP
            && let Some(data_offset) =
                Tcp::of(bytes).map(|tcp| tcp.data_offset()).filter(|data_offset| *data_offset < 5)
        {
            return Err(Mismatch::differs("tcp.data_offset", data_offset, 5u8));
        }
        if let Some(tcp_lsb) = &self.tcp_lsb {
            tcp_lsb.check(bytes, state)?;
        }
        self.header.computed.iter().try_for_each(|field| field.check(packet, segment))
    }

    /// Appends the transport header and the payload of `residue`. Computed fields are written later.
    pub(super) fn restore(
        &self,
        mut residue: ResidueReader,
        packet: &mut Vec<u8>,
        restored: &mut Restored,
    ) -> Result<(), Fault> {
        let segment = packet.len();
        residue.expand(&self.header.rule, packet)?;
        let header = packet.get(segment..).unwrap_or_default();
        restored.warnings.add_if(self.header.is_outside(header), Warnings::OUTSIDE_SELECTOR);
        restored.sources = restored.sources.and(self.header.sources);
        let payload = residue.payload(&mut restored.warnings);
        if !self.ports_only {
            packet.extend_from_slice(payload);
            return Ok(());
        }
        let (front, back) = payload.split_at_checked(BEFORE_TCP_CHECKSUM).unwrap_or((payload, &[]));
        if back.len() < 2 {
            let offset = residue.offset + residue.at.div_ceil(8);
            let needs = tcp::HEADER_LEN - PORTS_LEN - 2;
            return Err(Fault::short(Stage::Inner, offset, "TCP header", needs, payload.len()));
        }
        packet.extend_from_slice(front);
        packet.extend_from_slice(&[0; 2]);
        packet.extend_from_slice(back);
        Ok(())
    }

    /// Writes the computed fields of the segment at byte `segment` of `packet`. `offset` is the position of the residue in
    /// the clear text.
    pub(super) fn finish(
        &self,
        segment: usize,
        (offset, outer_ip): (usize, &IpHeaders),
        state: &mut State,
        packet: &mut [u8],
    ) -> Result<(), Fault> {
        if self.protocol == protocol::UDP_LITE
            && self.header.sources.of(Restorable::UdpLiteCoverage) != Some(Source::TargetValue)
            && udp_lite::checksum_of(packet, segment).is_none()
        {
            let header = packet.get(segment..).and_then(UdpLite::of);
            let coverage = header.map_or(0, |header| header.coverage()).into();
            return Err(Fault::value(Stage::Inner, offset, "udplite.coverage", coverage, "0, or 8 to the length"));
        }
        if let Some(tcp_lsb) = &self.tcp_lsb {
            tcp_lsb.fill(packet.get_mut(segment..).unwrap_or_default(), state);
        }
        for field in &self.header.computed {
            // The rule has the whole header.
            let _ = field.apply(packet, segment, outer_ip.outer);
        }
        Ok(())
    }

    /// Writes the residue of the header of `segment`, at bit `at` after byte `start` of `clear`, and appends the payload.
    /// `clear` has room for all `residue_bits`.
    pub(super) fn compress(
        &self,
        segment: &[u8],
        at: usize,
        (start, residue_bits): (usize, usize),
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<(), Mismatch> {
        self.header.compress(segment, clear.get_mut(start..).unwrap_or_default(), at)?;
        clear.truncate(start + residue_bits.div_ceil(8));
        if self.tcp_lsb.is_some() {
            state.note(segment);
        }
        let payload = segment.get(self.header.rule.header_len()..).unwrap_or_default();
        if self.ports_only {
            let (front, back) = payload.split_at_checked(BEFORE_TCP_CHECKSUM).unwrap_or((payload, &[]));
            clear.extend_from_slice(front);
            clear.extend_from_slice(back.get(2..).unwrap_or_default());
        } else {
            clear.extend_from_slice(payload);
        }
        Ok(())
    }
}

/// Bytes of a TCP header between its ports and its Checksum.
const BEFORE_TCP_CHECKSUM: usize = tcp::CHECKSUM_OFFSET - PORTS_LEN;
