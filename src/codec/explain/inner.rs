//! The rows of the inner headers.

use super::row::{self, FieldValue, RowStage};
use super::{AfterHeaders, Explainer, Header, Unexplained, is_inner};
use crate::codec::Form;
use crate::codec::trailer::PayloadData;
use crate::net::protocol::{SCTP, TCP, UDP, UDP_LITE};
use crate::net::{IpHeader, IpVersion, PORTS_LEN, ipv4, tcp};
use crate::schc::FieldDescriptor;
use crate::schc::fields::{IPV4_OPTIONS, TCP_CKSUM};

/// The rule of dialect `ehc` for packets that an IPv4 header carries.
const OVER_IPV4: &str = "iipc ipv6, outer ipv4";
const STAGE: RowStage = RowStage::Iipc;

impl<'a> Explainer<'a> {
    /// The RuleIDs of the clear text, then the inner headers. Returns what follows them.
    pub(super) fn inner(&mut self) -> Result<Option<AfterHeaders>, Unexplained> {
        let clear = self.packet.clear;
        let Ok(opened) = self.codec.trailer.open(clear) else { return Ok(None) };
        if let Some(rule_id) = self.codec.trailer.rule_id {
            self.rule_id(RowStage::Ctec, clear, 0, rule_id)?;
        }
        let Some((restored, packet)) = self.packet.restored else { return Ok(None) };
        let mut at = opened.offset * 8;
        if restored.form == Form::Dummy {
            return self.after_headers(&opened, at, &[]).map(Some);
        }
        if let Some(rule_id) = self.codec.inner.rule_id {
            at = self.rule_id(STAGE, clear, at, rule_id)?;
        }
        let ip_rows = if restored.form == Form::Tunnel { self.ip_rows() } else { vec![] };
        let is_compressed = !ip_rows.is_empty();
        if is_compressed {
            at = self.header(self.header_of(ip_rows, packet, 0), at)?;
            at = self.options(packet, at)?;
        }
        let ip = IpHeader::parse(packet).ok().filter(|_| is_compressed);
        let (rest, protocol) = match (restored.form, ip) {
            (Form::Tunnel, None) => (packet, None),
            (Form::Tunnel, Some(ip)) => {
                let protocol = Some(ip.protocol).filter(|_| !ip.fragment);
                (packet.get(ip.header_len..).unwrap_or_default(), protocol)
            }
            _ => (packet.get(restored.payload_offset..).unwrap_or_default(), Some(restored.next_header)),
        };
        let rows = protocol.map(|protocol| self.transport_rows(protocol)).unwrap_or_default();
        if rows.is_empty() {
            return self.after_headers(&opened, at, &[rest]).map(Some);
        }
        self.transport(rows, (&opened, packet.len() - rest.len()), at).map(Some)
    }

    /// The rows of the inner IP header; none if it is not compressed.
    fn ip_rows(&self) -> Vec<&'a FieldDescriptor> {
        let has_other = self.tables.iter().any(|table| table.name == OVER_IPV4);
        let over_ipv4 = has_other && self.packet.outer.version == IpVersion::V4;
        let tables = self.tables.iter().filter(|table| is_inner(table) && (table.name == OVER_IPV4) == over_ipv4);
        tables.flat_map(|table| table.rule.rows(self.direction)).filter(|row| protocol_of(row).is_none()).collect()
    }

    /// The rows of the transport header `protocol`; none if it is not compressed.
    fn transport_rows(&self, protocol: u8) -> Vec<&'a FieldDescriptor> {
        let rows = self.tables.iter().filter(|table| is_inner(table)).flat_map(|table| table.rule.rows(self.direction));
        rows.filter(|row| protocol_of(row) == Some(protocol)).collect()
    }

    fn header_of(&self, rows: Vec<&'a FieldDescriptor>, packet: &'a [u8], offset: usize) -> Header<'a> {
        let bytes = packet.get(offset..).unwrap_or_default();
        Header { stage: STAGE, rows, wire: self.packet.clear, bytes, packet_offset: Some(offset), apart: None }
    }

    /// IPv4 options follow the residue of the IP header. Returns the bit after them.
    fn options(&mut self, packet: &[u8], at: usize) -> Result<usize, Unexplained> {
        let wrong = Unexplained { stage: STAGE, field: IPV4_OPTIONS.name };
        let ip = IpHeader::parse(packet).map_err(|_| wrong)?;
        let options = match ip.version {
            IpVersion::V4 => packet.get(ipv4::HEADER_LEN..ip.header_len).ok_or(wrong)?,
            IpVersion::V6 => &[],
        };
        if options.is_empty() {
            return Ok(at);
        }
        let (clear, count) = (self.packet.clear, options.len() * 8);
        if row::digits(options, 0, count) != row::digits(clear, at, count) {
            return Err(wrong);
        }
        let value = FieldValue::Bytes(options.to_vec());
        let end = self.sent_whole(STAGE, IPV4_OPTIONS.name, clear, (at, count), value).ok_or(wrong)?;
        if let Some(row) = self.rows.last_mut() {
            row.packet_offset = Some(ipv4::HEADER_LEN * 8);
        }
        Ok(end)
    }

    /// A transport header, `segment` bytes into the packet.
    fn transport(
        &mut self,
        rows: Vec<&'a FieldDescriptor>,
        (opened, segment): (&PayloadData<'a>, usize),
        at: usize,
    ) -> Result<AfterHeaders, Unexplained> {
        let packet = self.packet.restored.map_or(&[][..], |(_, packet)| packet);
        let ports_only = rows.first().and_then(|row| protocol_of(row)).is_some_and(|protocol| {
            self.codec.inner.transports.iter().any(|transport| transport.protocol == protocol && transport.ports_only)
        });
        let field_bits = |row: &&FieldDescriptor| row.fid.bits.map_or(0, usize::from);
        let header_len = rows.iter().map(field_bits).sum::<usize>() / 8;
        let header = self.header_of(rows, packet, segment);
        let apart = ports_only.then_some((TCP_CKSUM, tcp::CHECKSUM_OFFSET * 8));
        let at = self.header(Header { apart, ..header }, at)?;
        let rest = |from: usize| packet.get(segment + from..).unwrap_or_default();
        if !ports_only {
            return self.after_headers(opened, at, &[rest(header_len)]);
        }
        // The rest of the header without its checksum.
        let before = packet.get(segment + PORTS_LEN..segment + tcp::CHECKSUM_OFFSET).unwrap_or_default();
        self.after_headers(opened, at, &[before, rest(tcp::CHECKSUM_OFFSET + 2)])
    }

    /// What follows the residue, which ends at bit `at`. It must begin with `expected`, the rest of the restored packet;
    /// padding that hides the length of the packet may follow (RFC 4303 §2.7).
    fn after_headers(
        &self,
        opened: &PayloadData<'_>,
        at: usize,
        expected: &[&[u8]],
    ) -> Result<AfterHeaders, Unexplained> {
        let payload = at.div_ceil(8)..opened.offset + opened.payload.len();
        let mut bytes = self.packet.clear.get(payload.clone()).unwrap_or_default();
        for part in expected {
            bytes = bytes.strip_prefix(*part).ok_or(Unexplained { stage: STAGE, field: "payload" })?;
        }
        Ok(AfterHeaders { pad_bits: at.next_multiple_of(8) - at, payload })
    }
}

/// The protocol number of the transport header that a row is of; `None` for an IP header.
fn protocol_of(row: &FieldDescriptor) -> Option<u8> {
    match row.fid.name.split_once('.')?.0 {
        "UDP" => Some(UDP),
        "UDPLITE" => Some(UDP_LITE),
        "TCP" => Some(TCP),
        "SCTP" => Some(SCTP),
        _ => None,
    }
}
