//! The overhead of a context and the bytes it saves, measured with sample packets that match it.

use std::net::IpAddr;

use super::compute::ComputedField;
use super::{Codec, Mismatch, NamedRule, State, fields};
use crate::bits;
use crate::context::{Context, Dialect, TrafficSelectors};
use crate::error::Error;
use crate::net::ipv4::{self, Ipv4};
use crate::net::ipv6::{self, Ipv6};
use crate::net::protocol::{self, SCTP, TCP, UDP, UDP_LITE};
use crate::net::tcp::Tcp;
use crate::net::{IpVersion, OuterHeader, esp, set_ports, transport_header_len};
use crate::schc::{Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Rule, header_order, index_bits};

/// Payload lengths of the sample packets. They include every remainder modulo every alignment.
const PAYLOAD_LENS: std::ops::Range<usize> = 1..65;

/// The bytes that a cipher adds to each packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CipherLens {
    /// Clear texts are a multiple of this many bytes.
    pub block: usize,
    /// Bytes of the explicit IV.
    pub iv: usize,
    /// Bytes of the ICV.
    pub icv: usize,
}

/// Minimum and maximum number of bytes, over all payload lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// The minimum.
    pub least: isize,
    /// The maximum.
    pub most: isize,
}

/// Bytes per packet of one header kind. The IV is not included, because it is the same in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Overhead {
    /// The headers: `IPv6 UDP`.
    pub headers: String,
    /// Bits of the residue of the inner headers.
    pub residue_bits: usize,
    /// ESP payload of Diet-ESP, without the payload of the innermost header.
    pub diet: Span,
    /// ESP payload of standard ESP, without the payload of the innermost header.
    pub esp: Span,
    /// ESP payload of Diet-ESP minus the protected data: the inner packet, or in transport mode its segment.
    pub overhead: Span,
    /// Bytes saved compared with standard ESP.
    pub saved: Span,
}

/// Bits that a row sends; `None` if the length of the field varies.
pub(crate) fn sent_bits(row: &FieldDescriptor) -> Option<usize> {
    match (row.action, row.length) {
        (Action::NotSent | Action::Compute(_), _) => Some(0),
        (Action::MappingSent, _) => Some(index_bits(row.target.list().len())),
        (Action::Lsb, FieldLength::Fixed(bits)) => match row.matching {
            Matching::Msb(msb) => Some(usize::from(bits.saturating_sub(msb))),
            _ => Some(bits.into()),
        },
        (Action::ValueSent, FieldLength::Fixed(bits)) => Some(bits.into()),
        (Action::Nearest(low), _) => Some(low.into()),
        (Action::ValueSent | Action::Lsb, _) => None,
    }
}

/// Bits that all rows of fixed length send, and whether there are rows of variable length.
pub(crate) fn rule_bits(rule: &Rule) -> (usize, bool) {
    let sent = rule.fields.iter().map(sent_bits);
    (sent.clone().flatten().sum(), sent.clone().any(|bits| bits.is_none()))
}

/// A header kind for which no sample packet matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SampleMismatch {
    /// The headers: `IPv6 UDP`.
    pub headers: String,
    /// What does not match.
    pub mismatch: Mismatch,
}

/// Compresses sample packets of each header kind.
///
/// # Errors
///
/// The context does not result in valid rules.
pub(crate) fn overhead(context: &Context, cipher: CipherLens) -> Result<Vec<Result<Overhead, SampleMismatch>>, Error> {
    let codec = Codec::new(Some(context), cipher.block)?;
    let tables = Codec::tables(context, cipher.block);
    let versions = match context.selectors.version.or(known_version(&tables)) {
        Some(version) => vec![version],
        None => vec![IpVersion::V6, IpVersion::V4],
    };
    let mut found = vec![];
    for version in versions {
        let protocols = match context.selectors.protocol.or(known_protocol(&tables)) {
            Some(protocol) => vec![protocol],
            None => vec![UDP, TCP, UDP_LITE, SCTP],
        };
        for protocol in protocols {
            let headers = format!("IPv{} {}", version.number(), protocol_name(protocol));
            found.push(match of_kind(context, &codec, &tables, version, protocol, cipher) {
                Ok(overhead) => Ok(Overhead { headers, ..overhead }),
                Err(mismatch) => Err(SampleMismatch { headers, mismatch }),
            });
        }
    }
    Ok(found)
}

/// The IP version of a rule.
fn known_version(tables: &[NamedRule]) -> Option<IpVersion> {
    let first = tables.iter().filter_map(|table| table.rule.fields.first());
    first.map(|row| row.fid.name).find_map(|name| match name.split_once('.') {
        Some(("IPV4", _)) => Some(IpVersion::V4),
        Some(("IPV6", _)) => Some(IpVersion::V6),
        _ => None,
    })
}

/// The protocol of a rule.
fn known_protocol(tables: &[NamedRule]) -> Option<u8> {
    let rows = tables.iter().flat_map(|table| &table.rule.fields);
    let is_protocol = |row: &&FieldDescriptor| matches!(row.fid, fields::IPV6_NXT | fields::IPV4_PROTO);
    rows.filter(is_protocol).find_map(|row| row.target.value()).and_then(|value| u8::try_from(value).ok())
}

fn protocol_name(protocol: u8) -> String {
    protocol::name(protocol).map_or_else(|| format!("protocol {protocol}"), str::to_owned)
}

fn of_kind(
    context: &Context,
    codec: &Codec,
    tables: &[NamedRule],
    version: IpVersion,
    protocol: u8,
    cipher: CipherLens,
) -> Result<Overhead, Mismatch> {
    let outer = outer(context, version);
    let mut clear = vec![];
    let mut spans: Option<[Span; 4]> = None;
    for payload_len in PAYLOAD_LENS {
        let (packet, header_len) = sample(context, tables, version, protocol, payload_len);
        clear.clear();
        let compressed = codec.compress(&packet, &outer, &mut State::default(), &mut clear)?;
        let protected = packet.len() - compressed.payload_offset;
        let payload = packet.len() - header_len;
        let diet = codec.header_len() + clear.len() + cipher.icv;
        let esp = esp::standard_len(protected, 0, cipher.block, cipher.icv);
        let signed = |len: usize| len as isize;
        let values = [
            signed(diet) - signed(payload),
            signed(esp) - signed(payload),
            signed(diet) - signed(protected),
            signed(esp) - signed(diet),
        ];
        let spans = spans.get_or_insert(values.map(|value| Span { least: value, most: value }));
        for (span, value) in spans.iter_mut().zip(values) {
            *span = Span { least: span.least.min(value), most: span.most.max(value) };
        }
    }
    let none = Span { least: 0, most: 0 };
    let [diet, esp, overhead, saved] = spans.unwrap_or([none; 4]);
    let kind = tables.iter().filter(|table| is_of(table, version, protocol));
    let residue_bits =
        kind.filter(|table| is_for_outer(table, tables, outer.version)).map(|table| rule_bits(&table.rule).0).sum();
    Ok(Overhead { headers: String::new(), residue_bits, diet, esp, overhead, saved })
}

/// Whether a rule applies to the inner headers of these packets.
fn is_of(table: &NamedRule, version: IpVersion, protocol: u8) -> bool {
    let Some(first) = table.rule.fields.first() else { return false };
    let header = first.fid.name.split('.').next().unwrap_or_default();
    match header {
        "IPV6" => version == IpVersion::V6,
        "IPV4" => version == IpVersion::V4,
        "UDP" => protocol == UDP,
        "UDPLITE" => protocol == UDP_LITE,
        "TCP" => protocol == TCP,
        "SCTP" => protocol == SCTP,
        _ => false,
    }
}

/// Dialect `ehc` has a separate rule for an outer header of the other version (wire format §3, bypass).
fn is_for_outer(table: &NamedRule, tables: &[NamedRule], outer: IpVersion) -> bool {
    let suffix = if outer == IpVersion::V4 { ", outer ipv4" } else { ", outer ipv6" };
    match table.name.split_once(',') {
        Some(_) => table.name.ends_with(suffix),
        None => !tables.iter().any(|other| other.name.strip_suffix(suffix) == Some(table.name)),
    }
}

fn outer(context: &Context, version: IpVersion) -> OuterHeader {
    let nobody = IpAddr::from([0; 16]);
    let (src, dst) = context.tunnel_ip.unwrap_or((nobody, nobody));
    let version = if context.tunnel_ip.is_some() { IpVersion::of(src) } else { version };
    OuterHeader { version, src, dst, dscp: 0, ecn: 0, hop_limit: 64, flow_label: 0 }
}

/// A packet that has the first values of the selectors and the target values of the rules, and the length of its
/// headers.
fn sample(
    context: &Context,
    tables: &[NamedRule],
    version: IpVersion,
    protocol: u8,
    payload_len: usize,
) -> (Vec<u8>, usize) {
    let selectors = &context.selectors;
    let segment = if version == IpVersion::V4 { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN };
    let transport_len = transport_header_len(protocol);
    let header_len = segment + transport_len;
    let mut packet = ip_header(selectors, version, protocol);
    packet.resize(header_len + payload_len, 0);
    if transport_len > 0 {
        let ports = [selectors.src_port, selectors.dst_port].map(|range| range.start as u16);
        set_ports(packet.get_mut(segment..).unwrap_or_default(), ports);
    }
    if protocol == TCP
        && let Some(mut tcp) = Tcp::at_mut(&mut packet, segment)
    {
        tcp.set_data_offset(5);
        if let Dialect::Ehc(ehc) = &context.dialect {
            tcp.set_numbers([ehc.tcp_sn, ehc.tcp_ack]);
        }
    }
    for table in tables.iter().filter(|table| is_of(table, version, protocol)) {
        let is_ip = table.rule.fields.first().is_some_and(|row| row.fid.name.starts_with("IPV"));
        overlay(&table.rule, if is_ip { 0 } else { segment * 8 }, &mut packet);
    }
    let outer = outer(context, version);
    let lengths = match version {
        IpVersion::V4 => vec![(fields::IPV4_LEN, Compute::Length), (fields::IPV4_CKSUM, Compute::Checksum)],
        IpVersion::V6 => vec![(fields::IPV6_LEN, Compute::Length)],
    };
    let transport = match protocol {
        UDP => vec![(fields::UDP_LEN, Compute::Length), (fields::UDP_CKSUM, Compute::Checksum)],
        UDP_LITE => vec![(fields::UDPLITE_COVERAGE, Compute::Length), (fields::UDPLITE_CKSUM, Compute::Checksum)],
        TCP => vec![(fields::TCP_CKSUM, Compute::Checksum)],
        SCTP => vec![(fields::SCTP_CKSUM, Compute::Checksum)],
        _ => vec![],
    };
    for fill in lengths.into_iter().chain(transport).filter_map(|(field, compute)| ComputedField::of(field, compute)) {
        // The headers are complete.
        let _ = fill.apply(&mut packet, segment, &outer);
    }
    (packet, header_len)
}

/// An IP header without options between the first addresses of the selectors.
fn ip_header(selectors: &TrafficSelectors, version: IpVersion, protocol: u8) -> Vec<u8> {
    const HOP_LIMIT: u8 = 64;
    match version {
        IpVersion::V4 => {
            let mut header = Ipv4::new((selectors.src.start as u32).into(), (selectors.dst.start as u32).into());
            header.set_ttl(HOP_LIMIT);
            header.set_protocol(protocol);
            header.as_bytes().to_vec()
        }
        IpVersion::V6 => {
            let mut header = Ipv6::new(selectors.src.start.into(), selectors.dst.start.into());
            header.set_hop_limit(HOP_LIMIT);
            header.set_next_header(protocol);
            header.as_bytes().to_vec()
        }
    }
}

/// Writes the values that a rule knows into a header that starts at bit `start`.
fn overlay(rule: &Rule, start: usize, packet: &mut [u8]) {
    let rows = rule.rows(Direction::Both);
    let mut at = start;
    for (index, _) in header_order(&rows, Direction::Both) {
        let Some(row) = rows.get(index) else { continue };
        let FieldLength::Fixed(bits) = row.length else { return };
        let bits = usize::from(bits);
        let value = row.target.value().or(row.target.list().first().copied());
        let known = match row.matching {
            Matching::Msb(msb) => usize::from(msb),
            Matching::Equal | Matching::MatchMapping => bits,
            Matching::Ignore => 0,
        };
        if let Some(value) = value.filter(|_| known > 0) {
            // A field outside the packet is not written, because the rule does not apply to this packet.
            let _ = bits::write(packet, at, known, value >> (bits - known));
        }
        at += bits;
    }
}
