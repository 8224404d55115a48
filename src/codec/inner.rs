//! The inner packet: payload data <-> packet (IIPC, draft-ietf-ipsecme-diet-esp-07 §5.1).
//!
//! ```text
//! [RuleID] residue of the IP header (tunnel mode), IPv4 options, residue of the transport header,
//! 0 bits up to a whole byte | payload
//! ```
//!
//! Dialects differ only in their rules. The steps are the same for all.

use super::Compressed;
use super::compute::{ComputedField, udplite};
use super::headers::{self, IPV4_LEN, IPV6_LEN, Ip, NotIp, TransportSplit, UpperLayer};
use super::restored::{Form, Mismatch, MismatchReason, Provenance, Restorable, Restored, Source, Warnings};
use super::state::{State, TcpLsb};
use super::trailer::PayloadData;
use crate::bits;
use crate::context::{Mode, Range, TrafficSelectors};
use crate::error::{Fault, Stage};
use crate::net::protocol::{self, TCP};
use crate::net::{IpHeaders, IpVersion, OuterHeader};
use crate::schc::{
    Action, Compiled, Direction, FieldDescriptor, FieldMismatch, ResidueError, Rule, RuleError, header_order,
};

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

/// The rule of the IP header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IpRule {
    version: IpVersion,
    /// The residue contains the length of the packet.
    length_sent: bool,
    header: HeaderRule,
}

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

/// A compiled rule with the actions and selectors of its fields.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HeaderRule {
    rule: Compiled,
    computed: Box<[ComputedField]>,
    sources: Provenance,
    selected: Box<[SelectorField]>,
}

/// A field that the traffic selectors restrict to a range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SelectorField {
    /// Its name in messages.
    pub field: &'static str,
    /// Offset in its header, in bits.
    pub at: usize,
    /// Its length in bits.
    pub bits: usize,
    /// The selected values.
    pub range: Range,
    /// A rule already checks the whole range, because the range is a prefix.
    pub is_prefix: bool,
}

/// Source and destination address in an IP header of `version`, if the rules check only the common prefix of a
/// range.
pub(crate) fn addresses(selectors: &TrafficSelectors, version: IpVersion) -> [SelectorField; 2] {
    let [src, dst] = match version {
        IpVersion::V4 => [12 * 8, 16 * 8],
        IpVersion::V6 => [8 * 8, 24 * 8],
    };
    let bits = version.address_bits();
    [SelectorField::new("src", src, bits, selectors.src), SelectorField::new("dst", dst, bits, selectors.dst)]
}

/// Source and destination port in a transport header, if the rules check only the common prefix of a range.
pub(crate) fn ports(selectors: &TrafficSelectors) -> [SelectorField; 2] {
    [
        SelectorField::new("src_port", 0, 16, selectors.src_port),
        SelectorField::new("dst_port", 16, 16, selectors.dst_port),
    ]
}

/// The fields that the selectors restrict and that no rule checks completely.
pub(crate) fn limits(selected: [SelectorField; 2]) -> Box<[SelectorField]> {
    let limiting = selected.into_iter().filter(|field| field.range != Range::whole(field.bits as u32));
    limiting.map(|field| SelectorField { is_prefix: false, ..field }).collect()
}

impl SelectorField {
    fn new(field: &'static str, at: usize, bits: u32, range: Range) -> SelectorField {
        let behind_prefix = bits - range.common_prefix(bits);
        let host = u128::MAX.checked_shr(128 - behind_prefix).unwrap_or(0);
        let is_prefix = range.start & host == 0 && range.end & host == host;
        SelectorField { field, at, bits: bits as usize, range, is_prefix }
    }

    /// The value in `header`, if it is outside the range.
    fn outside(&self, header: &[u8]) -> Option<u128> {
        bits::read(header, self.at, self.bits).filter(|value| !self.range.contains(*value))
    }

    fn mismatch(&self, got: u128) -> Mismatch {
        let Range { start, end } = self.range;
        Mismatch { field: self.field, reason: MismatchReason::Outside { got, start, end, bits: self.bits as u8 } }
    }

    fn check(all: &[SelectorField], header: &[u8]) -> Result<(), Mismatch> {
        match all.iter().find_map(|selected| Some(selected.mismatch(selected.outside(header)?))) {
            Some(mismatch) => Err(mismatch),
            None => Ok(()),
        }
    }
}

impl HeaderRule {
    /// Compiles `rule`. The actions `extra` are added to those of its rows. `selected` are fields of this header.
    pub(super) fn new(
        rule: &Rule,
        extra: &[ComputedField],
        selected: Vec<SelectorField>,
    ) -> Result<HeaderRule, RuleError> {
        HeaderRule::of_direction(rule, Direction::Both, extra, selected)
    }

    /// Compiles the rows for one direction. All of them apply to its packets.
    pub(super) fn of_direction(
        rule: &Rule,
        direction: Direction,
        extra: &[ComputedField],
        selected: Vec<SelectorField>,
    ) -> Result<HeaderRule, RuleError> {
        let mut computed = vec![];
        for row in &rule.fields {
            if let Action::Compute(compute) = row.action {
                let problem = "this field cannot be computed by this action";
                computed.push(ComputedField::of(row.fid, compute).ok_or(RuleError { field: row.fid, problem })?);
            }
        }
        computed.extend(extra);
        let mut header = HeaderRule {
            rule: rule.compile(direction)?,
            sources: computed.iter().fold(Provenance::default(), |all, field| all.and(field.source())),
            computed: computed.into(),
            selected: selected.into(),
        };
        let rows: Vec<&FieldDescriptor> = rule.fields.iter().collect();
        let order = header_order(&rows, direction).into_iter();
        let lost: Vec<_> = order.filter(|(index, _)| rows.get(*index).is_some_and(|row| row.is_lossy())).collect();
        for field in lost.iter().flat_map(|(_, field)| Restorable::of(*field)) {
            header.sources.set(field, Source::TargetValue);
        }
        if !lost.is_empty() {
            header.note_checksums();
        }
        Ok(header)
    }

    /// Records that computed checksums differ from the original ones, because they cover values that were not sent.
    pub(super) fn note_checksums(&mut self) {
        for field in self.computed.iter().filter_map(|field| field.checksum()) {
            self.sources.set(field, Source::Computed);
        }
    }

    /// Writes the residue of `header` at bit `at`. Returns the position after it.
    fn compress(&self, header: &[u8], residue: &mut [u8], at: usize) -> Result<usize, Mismatch> {
        let end = self.rule.compress(header, residue, at).map_err(|unmatched| self.mismatch(unmatched))?;
        for selected in self.selected.iter().filter(|selected| !selected.is_prefix) {
            if let Some(got) = selected.outside(header) {
                return Err(selected.mismatch(got));
            }
        }
        Ok(end)
    }

    #[cold]
    fn mismatch(&self, FieldMismatch { field, got, expected }: FieldMismatch) -> Mismatch {
        let bits = field.bits.map(usize::from);
        let selected = self.selected.iter().find(|selected| selected.field == field.key && Some(selected.bits) == bits);
        match (selected, expected) {
            (Some(selected), _) if !selected.range.contains(got) => selected.mismatch(got),
            _ => FieldMismatch { field, got, expected }.into(),
        }
    }

    /// Whether a rebuilt header has values outside the selectors.
    fn is_outside(&self, header: &[u8]) -> bool {
        self.selected.iter().any(|selected| !selected.is_prefix && selected.outside(header).is_some())
    }
}

impl IpRule {
    /// The rule of an IP header of `version`, as in [`HeaderRule::new`].
    pub(super) fn new(version: IpVersion, length_sent: bool, header: HeaderRule) -> IpRule {
        IpRule { version, length_sent, header }
    }

    /// Whether the addresses may be restored to other values. The checksums of most transports cover addresses.
    pub(super) fn loses_addresses(&self) -> bool {
        [Restorable::Src, Restorable::Dst].iter().any(|field| self.header.sources.of(*field).is_some())
    }
}

/// Reads a residue.
struct ResidueReader<'a> {
    bytes: &'a [u8],
    /// Number of bits read.
    at: usize,
    /// Offset of `bytes` in the clear text.
    offset: usize,
}

impl<'a> ResidueReader<'a> {
    /// Restores a header and appends it.
    fn expand(&mut self, rule: &Compiled, packet: &mut Vec<u8>) -> Result<(), Fault> {
        self.at = rule.expand(self.bytes, self.at, packet).map_err(|unreadable| match unreadable {
            ResidueError::Short { needs_bits } => self.short(needs_bits),
            ResidueError::Index { field, got, at } => {
                let offset = self.offset + at / 8;
                Fault::value(Stage::Inner, offset, field.key, got, "an index in the list of the context")
            }
        })?;
        Ok(())
    }

    /// Appends `len` whole bytes, which may start at any bit.
    fn take(&mut self, len: usize, packet: &mut Vec<u8>) -> Result<(), Fault> {
        let start = packet.len();
        packet.resize(start + len, 0);
        let to = packet.get_mut(start..).unwrap_or_default();
        bits::copy(self.bytes, self.at, to, 0, len * 8).ok_or_else(|| self.short(self.at + len * 8))?;
        self.at += len * 8;
        Ok(())
    }

    #[cold]
    fn short(&self, needs_bits: usize) -> Fault {
        Fault::short(Stage::Inner, self.offset, "residue", needs_bits.div_ceil(8), self.bytes.len())
    }

    /// The bytes after the residue, and whether its padding bits are 0.
    fn payload(&self) -> (&'a [u8], bool) {
        let pad_bits = self.at.next_multiple_of(8) - self.at;
        let zero = bits::read(self.bytes, self.at, pad_bits).unwrap_or(0) == 0;
        (self.bytes.get(self.at.div_ceil(8)..).unwrap_or_default(), zero)
    }
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

    /// The position of the packet in the clear text, if the rules do not change it ([`InnerRules::is_identity`])
    /// and the mode is tunnel mode. In this case, its properties are stored in `restored`.
    #[inline]
    pub(super) fn restore_in_place(
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
    pub(super) fn restore(
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
        restored.upper = Ip::parse(packet).ok().map(|ip| UpperLayer::find(packet, &ip));
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
        residue.expand(&ip.header.rule, packet)?;
        // A rule may send the version.
        let version = packet.first().map_or(0, |byte| byte >> 4);
        if version != ip.version.number() {
            let expected = "the IP version of the context";
            return Err(Fault::value(Stage::Inner, residue.offset, "version", version.into(), expected));
        }
        let (protocol, fragment) = match ip.version {
            IpVersion::V6 => (packet.get(6).copied(), false),
            IpVersion::V4 => {
                let ihl = packet.first().map_or(0, |byte| usize::from(byte & 0x0f));
                let Some(option_words) = ihl.checked_sub(IPV4_LEN / 4) else {
                    let fault = Fault::value(Stage::Inner, residue.offset, "IHL", ihl as u64, "5 to 15");
                    return Err(fault);
                };
                residue.take(option_words * 4, packet)?;
                let frag = bits::read(packet, 6 * 8, 16).unwrap_or(0);
                (packet.get(9).copied(), frag & 0x3fff != 0)
            }
        };
        if self.protocol.is_some_and(|known| protocol != Some(known)) {
            // A rule may send the protocol.
            if !self.transports.is_empty() {
                let (got, expected) = (protocol.unwrap_or(0).into(), "the protocol of the context");
                return Err(Fault::value(Stage::Inner, residue.offset, "Next Header", got, expected));
            }
            restored.warnings.add_if(true, Warnings::OUTSIDE_SELECTOR);
        }
        let segment = packet.len();
        let transport = protocol.filter(|_| !fragment).and_then(|protocol| self.transport(protocol));
        let offset = residue.offset;
        let min_len = segment + self.restore_segment(transport, residue, packet, restored)?;

        if ip.length_sent {
            // Bytes after the length would be TFC padding (RFC 4303 §2.7).
            let len = match ip.version {
                IpVersion::V4 => bits::read(packet, 2 * 8, 16).unwrap_or(0) as usize,
                IpVersion::V6 => IPV6_LEN + bits::read(packet, 4 * 8, 16).unwrap_or(0) as usize,
            };
            if !(min_len..=packet.len()).contains(&len) {
                return Err(Fault::value(Stage::Inner, 0, "IP length", len as u64, "the length of the clear text"));
            }
            restored.length_hiding += (packet.len() - len) as u32;
            packet.truncate(len);
        }
        let len_limit = match ip.version {
            IpVersion::V4 => 65535,
            IpVersion::V6 => IPV6_LEN + 65535,
        };
        if packet.len() > len_limit {
            return Err(Fault::value(Stage::Inner, 0, "rebuilt packet", packet.len() as u64, "65535 bytes at most"));
        }
        for field in &ip.header.computed {
            field.apply(packet, segment, outer_ip.outer);
        }
        restored.sources = restored.sources.and(ip.header.sources);
        let outside_ports = transport.is_none() && !fragment && self.is_port_outside(protocol, packet.get(segment..));
        let outside = outside_ports || ip.header.is_outside(packet);
        restored.warnings.add_if(outside, Warnings::OUTSIDE_SELECTOR);
        finish_segment(transport, segment, (offset, outer_ip), state, packet)
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
        self.restore_segment(transport, residue, packet, restored)?;
        headers::repair_carrier(packet, segment, outer_ip.protocol_offset, restored.next_header)?;
        let outside_ports =
            transport.is_none() && self.is_port_outside(Some(restored.next_header), packet.get(segment..));
        let outside = outside_ports || SelectorField::check(&self.addresses, packet).is_err();
        restored.warnings.add_if(outside, Warnings::OUTSIDE_SELECTOR);
        finish_segment(transport, segment, (offset, outer_ip), state, packet)
    }

    /// Appends the transport header and the payload. Computed fields are filled in later. Returns the length of the
    /// transport header in bytes.
    fn restore_segment(
        &self,
        transport: Option<&TransportRule>,
        mut residue: ResidueReader,
        packet: &mut Vec<u8>,
        restored: &mut Restored,
    ) -> Result<usize, Fault> {
        let segment = packet.len();
        if let Some(transport) = transport {
            residue.expand(&transport.header.rule, packet)?;
            let header = packet.get(segment..).unwrap_or_default();
            restored.warnings.add_if(transport.header.is_outside(header), Warnings::OUTSIDE_SELECTOR);
            restored.sources = restored.sources.and(transport.header.sources);
        }
        let (payload, zero) = residue.payload();
        restored.warnings.add_if(!zero, Warnings::NONZERO_PAD_BITS);
        let Some(transport) = transport else {
            packet.extend_from_slice(payload);
            return Ok(0);
        };
        if transport.ports_only {
            let (front, back) = payload.split_at_checked(TCP_CHECKSUM - 4).unwrap_or((payload, &[]));
            if back.len() < 2 {
                let offset = residue.offset + residue.at.div_ceil(8);
                return Err(Fault::short(Stage::Inner, offset, "TCP header", TCP_LEN - 4 - 2, payload.len()));
            }
            packet.extend_from_slice(front);
            packet.extend_from_slice(&[0; 2]);
            packet.extend_from_slice(back);
        } else {
            packet.extend_from_slice(payload);
        }
        Ok(transport.min_len)
    }
}

/// Length of a TCP header without options and the offset of its checksum, in bytes (RFC 9293 §3.1).
pub(crate) const TCP_LEN: usize = 20;
const TCP_CHECKSUM: usize = 16;

/// `offset` is the position of the residue in the clear text.
fn finish_segment(
    transport: Option<&TransportRule>,
    segment: usize,
    (offset, outer_ip): (usize, &IpHeaders),
    state: &mut State,
    packet: &mut [u8],
) -> Result<(), Fault> {
    let Some(transport) = transport else { return Ok(()) };
    if transport.protocol == protocol::UDP_LITE
        && transport.header.sources.of(Restorable::UdpLiteCoverage) != Some(Source::TargetValue)
        && udplite(packet, segment).is_none()
    {
        let coverage = bits::read(packet, (segment + 4) * 8, 16).unwrap_or(0) as u64;
        return Err(Fault::value(Stage::Inner, offset, "udplite.coverage", coverage, "0, or 8 to the length"));
    }
    if let Some(tcp_lsb) = &transport.tcp_lsb {
        tcp_lsb.fill(packet.get_mut(segment..).unwrap_or_default(), state);
    }
    for field in &transport.header.computed {
        field.apply(packet, segment, outer_ip.outer);
    }
    Ok(())
}

/// Reads the IP header of an uncompressed packet at the start of `bytes`, which are at `offset` of the clear text.
/// All of the packet must be there. Bytes after it are TFC padding (RFC 4303 §2.7).
fn whole_packet(next_header: Option<u8>, bytes: &[u8], offset: usize) -> Result<Ip, Fault> {
    let ip = Ip::parse(bytes)
        .map_err(|NotIp { field, got, expected }| Fault::value(Stage::Inner, offset, field, got, expected))?;
    if next_header.is_some_and(|announced| announced != ip.version.next_header()) {
        let version = ip.version.number().into();
        return Err(Fault::value(Stage::Inner, offset, "version", version, "the version that Next Header announces"));
    }
    if ip.packet_len > bytes.len() {
        return Err(Fault::short(Stage::Inner, offset, "inner packet", ip.packet_len, bytes.len()));
    }
    Ok(ip)
}

impl InnerRules {
    /// Appends payload data to `clear`. After a mismatch, the content of `clear` is undefined and `state` is
    /// unchanged.
    pub(super) fn compress(
        &self,
        packet: &[u8],
        outer: &OuterHeader,
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        let ip = Ip::parse(packet).map_err(|bad| Mismatch::says(bad.field, "is not that of an IP packet"))?;
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
        ip: &Ip,
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
            IpVersion::V4 => (ip.header_len - IPV4_LEN) * 8,
            IpVersion::V6 => 0,
        };
        let transport_bits = transport.map_or(0, |transport| transport.header.rule.residue_bits());
        let residue_bits = rule.header.rule.residue_bits() + options_bits + transport_bits;
        let start = clear.len();
        let residue = room(residue_bits, clear);

        let mut at = rule.header.compress(packet, residue, 0)?;
        if options_bits > 0 {
            let copied = bits::copy(packet, IPV4_LEN * 8, residue, at, options_bits);
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
        ip: &Ip,
        state: &mut State,
        clear: &mut Vec<u8>,
    ) -> Result<Compressed, Mismatch> {
        let split = TransportSplit::split(packet, ip);
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

    fn check_protocol(&self, protocol: u8) -> Result<(), Mismatch> {
        match self.protocol {
            Some(selected) if selected != protocol => Err(Mismatch::differs("next_header", protocol, selected)),
            _ if protocol == protocol::NO_NEXT_HEADER => {
                Err(Mismatch::says("next_header", "is that of a dummy packet"))
            }
            _ => Ok(()),
        }
    }

    fn check_ports(&self, protocol: u8, fragment: bool, segment: &[u8]) -> Result<(), Mismatch> {
        if fragment || headers::ports(protocol, segment).is_none() {
            return Ok(());
        }
        SelectorField::check(&self.ports, segment)
    }

    /// Whether there are selectors that no rule checks.
    #[inline]
    fn selects(&self) -> bool {
        self.protocol.is_some() || !self.addresses.is_empty() || !self.ports.is_empty()
    }

    /// Whether an uncompressed packet has values outside the selectors.
    fn is_outside(&self, packet: &[u8], ip: &Ip, upper: Option<UpperLayer>) -> bool {
        let segment = packet.get(ip.header_len..).unwrap_or_default();
        let is_of = |protocol| protocol == ip.protocol || upper.is_some_and(|upper| upper.protocol == protocol);
        self.protocol.is_some_and(|protocol| !is_of(protocol))
            || SelectorField::check(&self.addresses, packet).is_err()
            || self.check_ports(ip.protocol, ip.fragment, segment).is_err()
    }

    /// Whether the ports of an uncompressed transport header are outside the selectors.
    fn is_port_outside(&self, protocol: Option<u8>, segment: Option<&[u8]>) -> bool {
        let (protocol, segment) = (protocol.unwrap_or(0), segment.unwrap_or_default());
        !self.ports.is_empty() && self.check_ports(protocol, false, segment).is_err()
    }
}

impl TransportRule {
    /// Whether the receiver restores the segment of `packet` at byte `segment` exactly.
    fn check(&self, packet: &[u8], segment: usize, state: &State) -> Result<(), Mismatch> {
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
            && let Some(data_offset) = bytes.get(12).map(|byte| byte >> 4).filter(|data_offset| *data_offset < 5)
        {
            return Err(Mismatch::differs("tcp.data_offset", data_offset, 5u8));
        }
        if let Some(tcp_lsb) = &self.tcp_lsb {
            tcp_lsb.check(bytes, state)?;
        }
        self.header.computed.iter().try_for_each(|field| field.check(packet, segment))
    }
}

/// Appends zeros for a residue and one more word, because `bits` writes whole words.
fn room(residue_bits: usize, clear: &mut Vec<u8>) -> &mut [u8] {
    const WORD: usize = 8;
    let start = clear.len();
    clear.resize(start + residue_bits.div_ceil(8) + WORD, 0);
    clear.get_mut(start..).unwrap_or_default()
}

/// Writes the residue of a transport header, at bit `at` after byte `start` of `clear`, and appends the payload.
/// `clear` has [`room`] for all `residue_bits`.
fn compress_segment(
    transport: Option<&TransportRule>,
    segment: &[u8],
    at: usize,
    (start, residue_bits): (usize, usize),
    state: &mut State,
    clear: &mut Vec<u8>,
) -> Result<(), Mismatch> {
    let residue_end = start + residue_bits.div_ceil(8);
    let Some(transport) = transport else {
        clear.truncate(residue_end);
        clear.extend_from_slice(segment);
        return Ok(());
    };
    transport.header.compress(segment, clear.get_mut(start..).unwrap_or_default(), at)?;
    clear.truncate(residue_end);
    if transport.tcp_lsb.is_some() {
        state.note(segment);
    }
    let payload = segment.get(transport.header.rule.header_len()..).unwrap_or_default();
    if transport.ports_only {
        let (front, back) = payload.split_at_checked(TCP_CHECKSUM - 4).unwrap_or((payload, &[]));
        clear.extend_from_slice(front);
        clear.extend_from_slice(back.get(2..).unwrap_or_default());
    } else {
        clear.extend_from_slice(payload);
    }
    Ok(())
}
