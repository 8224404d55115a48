//! Dialect `custom`: three rules that the user defines (wire format §5), as field tables of RFC 8724.
//!
//! A rule must name every field of a header, in packet order. Otherwise the position of a field would not be known.
//! Tables are checked row by row when they are loaded.

use std::fmt;

use super::inner::{HeaderRule, InnerRules, IpRule, SelectorField, TransportRule, addresses, limits, ports};
use super::trailer::{NextHeader, Trailer};
use super::{Codec, EspHeader, NamedRule};
use crate::context::{Context, Custom, Dialect, Mode};
use crate::net::protocol::{SCTP, TCP, UDP, UDP_LITE};
use crate::net::{IpVersion, transport_header_len};
use crate::schc::fields::*;
use crate::schc::{Action, Direction, FieldDescriptor, FieldLength, Matching, Rule, Target, header_order};

/// An invalid rule of dialect `custom`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowError {
    /// The rule: `iipc`, `ctec` or `eec`.
    pub rule: &'static str,
    /// The row, from 0; `None` for the rule as a whole.
    pub row: Option<usize>,
    /// What is wrong, naming the field.
    pub problem: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.problem)
    }
}

/// Checks the rules of a context of dialect `custom`, as far as possible without the keys.
///
/// # Errors
///
/// The first invalid row.
pub(crate) fn check(context: &Context) -> Result<(), RowError> {
    match &context.dialect {
        Dialect::Custom(custom) => compile(context, custom, 1).map(|_| ()),
        _ => Ok(()),
    }
}

/// Compiles a context for a cipher of `cipher_block` bytes.
pub(super) fn compile(context: &Context, custom: &Custom, cipher_block: usize) -> Result<Codec, RowError> {
    check_direction(custom)?;
    let inner = inner(context, custom)?;
    Ok(Codec {
        header: esp_header(&Rows::of("eec", &custom.eec, custom.direction))?,
        trailer: trailer(&Rows::of("ctec", &custom.ctec, custom.direction), custom, &inner, cipher_block)?,
        inner,
    })
}

/// A row for one direction, or a field named after one end of the link (DEV or APP), depends on the direction of
/// the packets.
fn check_direction(custom: &Custom) -> Result<(), RowError> {
    if custom.direction != Direction::Both {
        return Ok(());
    }
    for (rule, table) in [("iipc", &custom.iipc), ("ctec", &custom.ctec), ("eec", &custom.eec)] {
        let needs = |row: &FieldDescriptor| row.direction != Direction::Both || row.fid.by_direction(false).is_some();
        if let Some((position, row)) = table.fields.iter().enumerate().find(|(_, row)| needs(row)) {
            let problem =
                format!("{}: it depends on the direction: add `direction: Up` or `direction: Dw`", row.fid.name);
            return Err(RowError { rule, row: Some(position), problem });
        }
    }
    Ok(())
}

/// The rules as data. Fields of the ESP header and trailer without rows are sent.
pub(super) fn tables(context: &Context, custom: &Custom) -> Vec<NamedRule> {
    let mut tables = vec![];
    if !custom.iipc.fields.is_empty() {
        tables.push(NamedRule { name: "iipc", rule: custom.iipc.clone() });
    }
    let or_sent = |rule: &Rule, sent: Rule| if rule.fields.is_empty() { sent } else { rule.clone() };
    let ctec = or_sent(&custom.ctec, Trailer::standard(1).table(context));
    tables.push(NamedRule { name: "ctec", rule: ctec });
    tables.push(NamedRule { name: "eec", rule: or_sent(&custom.eec, EspHeader::low_bits(32, 32).table()) });
    tables
}

/// The rows of a rule that apply, each with its position in the table.
struct Rows<'a> {
    rule: &'static str,
    direction: Direction,
    rows: Vec<(usize, &'a FieldDescriptor)>,
}

impl<'a> Rows<'a> {
    fn of(rule: &'static str, table: &'a Rule, direction: Direction) -> Rows<'a> {
        let rows = table.fields.iter().enumerate().filter(|(_, row)| row.direction.applies_to(direction));
        Rows { rule, direction, rows: rows.collect() }
    }

    fn wrong(&self, row: Option<usize>, problem: impl Into<String>) -> RowError {
        RowError { rule: self.rule, row, problem: problem.into() }
    }

    fn as_rule(&self) -> Rule {
        Rule { fields: self.rows.iter().map(|(_, row)| (*row).clone()).collect() }
    }

    fn header(&self) -> Option<&'static HeaderForm> {
        let (_, first) = self.rows.first()?;
        HEADERS.iter().find(|form| form.has(first.fid))
    }

    /// The row of `field` and its position.
    fn row(&self, field: FieldId) -> Option<(usize, &'a FieldDescriptor)> {
        self.rows.iter().copied().find(|(_, row)| row.fid == field)
    }

    /// Splits off the rows after the header of the first row.
    fn split_behind(mut self, form: &HeaderForm) -> (Rows<'a>, Rows<'a>) {
        let behind = self.rows.iter().position(|(_, row)| !form.has(row.fid)).unwrap_or(self.rows.len());
        let rest = self.rows.split_off(behind);
        let rest = Rows { rule: self.rule, direction: self.direction, rows: rest };
        (self, rest)
    }

    /// Checks that the rows are all fields of a header, in its order.
    fn check_complete(&self, form: &HeaderForm) -> Result<(), RowError> {
        let rows: Vec<&FieldDescriptor> = self.rows.iter().map(|(_, row)| *row).collect();
        let mut at = 0;
        for (index, field) in header_order(&rows, self.direction) {
            let Some((position, row)) = self.rows.get(index) else { continue };
            let wrong = |problem: String| Err(self.wrong(Some(*position), format!("{}: {problem}", row.fid.name)));
            let own_bits = field.bits.unwrap_or(0);
            if field == IPV4_OPTIONS {
                return wrong("omit this row: options are sent after the addresses, and IHL gives their length".into());
            }
            let Some(offset) = form.offset(field) else {
                return wrong(format!("not a field of the {} header", form.name));
            };
            if row.length != FieldLength::Fixed(own_bits) {
                return wrong(format!("its length must be {own_bits} bits"));
            }
            // FP 0 means any position.
            if row.position > 1 {
                return wrong("the header has this field once: FP must be 1".into());
            }
            if offset > at {
                return wrong(format!("the row of {} is missing before it", form.field_at(at)));
            }
            if offset < at {
                return wrong("its row must come earlier, or is repeated".into());
            }
            at += own_bits;
        }
        match self.rows.last() {
            Some((position, last)) if at < form.bits => {
                let problem = format!("{}: the row of {} is missing after it", last.fid.name, form.field_at(at));
                Err(self.wrong(Some(*position), problem))
            }
            _ => Ok(()),
        }
    }

    fn compile_header(&self, selected: Vec<SelectorField>) -> Result<HeaderRule, RowError> {
        HeaderRule::of_direction(&self.as_rule(), self.direction, &[], selected).map_err(|error| {
            let row = self.rows.iter().find(|(_, row)| row.fid == error.field).map(|(position, _)| *position);
            self.wrong(row, error.to_string())
        })
    }
}

/// A header whose fields have rows.
struct HeaderForm {
    name: &'static str,
    /// Its length in bits without options.
    bits: u16,
    protocol: Option<u8>,
    /// Its fields with their offset in bits.
    fields: &'static [(FieldId, u16)],
}

impl HeaderForm {
    /// Whether `field` belongs to this header, under any of its names.
    fn has(&self, field: FieldId) -> bool {
        field.name.split_once('.').is_some_and(|(header, _)| header == self.name)
    }

    fn offset(&self, field: FieldId) -> Option<u16> {
        self.fields.iter().find(|(known, _)| *known == field).map(|(_, offset)| *offset)
    }

    fn field_at(&self, at: u16) -> &'static str {
        // An offset inside a field is the second half of an address, or ECN.
        self.fields.iter().find(|(_, offset)| *offset == at).map_or("a field", |(field, _)| field.name)
    }
}

const HEADERS: [HeaderForm; 6] = [
    HeaderForm {
        name: "IPV6",
        bits: 320,
        protocol: None,
        fields: &[
            (IPV6_VER, 0),
            (IPV6_TC, 4),
            (IPV6_DSCP, 4),
            (IPV6_ECN, 10),
            (IPV6_FL, 12),
            (IPV6_LEN, 32),
            (IPV6_NXT, 48),
            (IPV6_HOP_LMT, 56),
            (IPV6_SRC, 64),
            (IPV6_SRC_PREFIX, 64),
            (IPV6_SRC_IID, 128),
            (IPV6_DST, 192),
            (IPV6_DST_PREFIX, 192),
            (IPV6_DST_IID, 256),
        ],
    },
    HeaderForm {
        name: "IPV4",
        bits: 160,
        protocol: None,
        fields: &[
            (IPV4_VER, 0),
            (IPV4_IHL, 4),
            (IPV4_DSCP, 8),
            (IPV4_ECN, 14),
            (IPV4_LEN, 16),
            (IPV4_ID, 32),
            (IPV4_FLAGS, 48),
            (IPV4_FRAG, 51),
            (IPV4_TTL, 64),
            (IPV4_PROTO, 72),
            (IPV4_CKSUM, 80),
            (IPV4_SRC, 96),
            (IPV4_DST, 128),
        ],
    },
    HeaderForm {
        name: "UDP",
        bits: 64,
        protocol: Some(UDP),
        fields: &[(UDP_SRC_PORT, 0), (UDP_DST_PORT, 16), (UDP_LEN, 32), (UDP_CKSUM, 48)],
    },
    HeaderForm {
        name: "UDPLITE",
        bits: 64,
        protocol: Some(UDP_LITE),
        fields: &[(UDPLITE_SRC_PORT, 0), (UDPLITE_DST_PORT, 16), (UDPLITE_COVERAGE, 32), (UDPLITE_CKSUM, 48)],
    },
    HeaderForm {
        name: "TCP",
        bits: 160,
        protocol: Some(TCP),
        fields: &[
            (TCP_SRC_PORT, 0),
            (TCP_DST_PORT, 16),
            (TCP_SEQ, 32),
            (TCP_ACK, 64),
            (TCP_DOFF_FLAGS, 96),
            (TCP_WINDOW, 112),
            (TCP_CKSUM, 128),
            (TCP_URG, 144),
        ],
    },
    HeaderForm {
        name: "SCTP",
        bits: 96,
        protocol: Some(SCTP),
        fields: &[(SCTP_SRC_PORT, 0), (SCTP_DST_PORT, 16), (SCTP_VTAG, 32), (SCTP_CKSUM, 64)],
    },
];

fn inner(context: &Context, custom: &Custom) -> Result<InnerRules, RowError> {
    let Context { mode, selectors, .. } = context;
    let mut rows = Rows::of("iipc", &custom.iipc, custom.direction);
    if rows.rows.is_empty() && !custom.iipc.fields.is_empty() {
        return Err(rows.wrong(Some(0), "no row applies to the `direction` of this SA"));
    }
    let mut version = selectors.version;
    let mut ip = None;
    if let Some(form) = rows.header().filter(|form| form.protocol.is_none()) {
        let first = rows.rows.first().map(|(position, _)| *position);
        if *mode == Mode::Transport {
            return Err(rows.wrong(
                first,
                "transport mode does not compress the IP header: remove the rows of its \
                 fields",
            ));
        }
        let named = if form.bits == 160 { IpVersion::V4 } else { IpVersion::V6 };
        if version.is_some_and(|stated| stated != named) {
            let problem = format!("IPv{} fields, but the selectors `ts_ip_*` have the other version", named.number());
            return Err(rows.wrong(first, problem));
        }
        let (header, rest) = rows.split_behind(form);
        rows = rest;
        header.check_complete(form)?;
        ip = Some((named, ip_rule(context, named, &header)?, header));
        version = Some(named);
    }

    let mut protocol = selectors.protocol;
    let mut transport = None;
    if let Some(form) = rows.header() {
        let first = rows.rows.first().map(|(position, _)| *position);
        let Some(named) = form.protocol else {
            return Err(rows.wrong(
                first,
                "a second IP header: a rule describes the fields of one packet, in their \
                 order",
            ));
        };
        if *mode == Mode::Tunnel && ip.is_none() {
            return Err(rows.wrong(first, "the rows of the IP header are missing before this row"));
        }
        if protocol.is_some_and(|selected| selected != named) {
            return Err(rows.wrong(first, format!("{} fields, but `ts_proto` names another protocol", form.name)));
        }
        let (header, rest) = rows.split_behind(form);
        rows = rest;
        header.check_complete(form)?;
        protocol = Some(named);
        let mut header = header.compile_header(limits(ports(selectors)).into())?;
        // The checksum of SCTP does not depend on addresses.
        if named != SCTP && ip.as_ref().is_some_and(|(_, rule, _)| rule.loses_addresses()) {
            header.note_checksums();
        }
        transport = Some(TransportRule {
            protocol: named,
            min_len: transport_header_len(named),
            ports_only: false,
            tcp_lsb: None,
            header,
        });
    }
    if let Some((position, row)) = rows.rows.first() {
        let problem = format!("{}: a row of this header is not allowed here", row.fid.name);
        return Err(rows.wrong(Some(*position), problem));
    }
    if let (Some(protocol), Some((_, _, header))) = (protocol, &ip) {
        check_next_header(protocol, header)?;
    }
    Ok(InnerRules {
        addresses: match selectors.version {
            Some(version) if ip.is_none() => limits(addresses(selectors, version)),
            _ => [].into(),
        },
        ports: limits(ports(selectors)),
        ip: ip.map(|(_, rule, _)| rule),
        transports: transport.into_iter().collect(),
        ..InnerRules::uncompressed(Some(*mode), version, protocol)
    })
}

/// Fields whose exact values a receiver needs to parse and rebuild the packet.
const STRUCTURE: [FieldId; 9] =
    [IPV6_VER, IPV6_LEN, IPV6_NXT, IPV4_VER, IPV4_IHL, IPV4_LEN, IPV4_FLAGS, IPV4_FRAG, IPV4_PROTO];

fn ip_rule(context: &Context, version: IpVersion, header: &Rows) -> Result<IpRule, RowError> {
    let mut length_sent = true;
    for (position, row) in &header.rows {
        let wrong = |problem: &str| Err(header.wrong(Some(*position), format!("{}: {problem}", row.fid.name)));
        if STRUCTURE.contains(&row.fid) && row.action == Action::NotSent && row.matching != Matching::Equal {
            return wrong("not-sent needs `equal` here: the receiver needs the exact value to rebuild the packet");
        }
        if [IPV6_VER, IPV4_VER].contains(&row.fid)
            && row.matching == Matching::Equal
            && row.target != Target::Value(version.number().into())
        {
            return wrong("its target value must be the IP version of the header");
        }
        if [IPV6_LEN, IPV4_LEN].contains(&row.fid) {
            length_sent = !matches!(row.action, Action::Compute(_));
        }
    }
    let selectors = &context.selectors;
    let selected = if selectors.version.is_some() { limits(addresses(selectors, version)) } else { [].into() };
    Ok(IpRule::new(version, length_sent, header.compile_header(selected.into())?))
}

/// Checks that packets of `protocol` can match the IP header.
fn check_next_header(protocol: u8, header: &Rows) -> Result<(), RowError> {
    let Some((position, row)) = header.row(IPV6_NXT).or(header.row(IPV4_PROTO)) else { return Ok(()) };
    match &row.target {
        Target::Value(value) if row.matching == Matching::Equal && *value != u128::from(protocol) => {
            let problem = format!(
                "{}: its target value is {value}, but the next rows or `ts_proto` require {protocol}",
                row.fid.name
            );
            Err(header.wrong(Some(position), problem))
        }
        _ => Ok(()),
    }
}

/// Checks that `rows` are those of `fields`, in this order. No rows at all are also valid.
fn in_order(rows: &Rows, fields: &[FieldId]) -> Result<(), RowError> {
    for (index, (position, row)) in rows.rows.iter().enumerate() {
        if fields.get(index) != Some(&row.fid) {
            let names: Vec<_> = fields.iter().map(|field| field.name).collect();
            let problem = format!("{}: the rows must be {}, in this order", row.fid.name, names.join(", "));
            return Err(rows.wrong(Some(*position), problem));
        }
        if row.position > 1 {
            return Err(
                rows.wrong(Some(*position), format!("{}: the header has this field once: FP must be 1", row.fid.name))
            );
        }
    }
    match fields.get(rows.rows.len()) {
        Some(missing) if !rows.rows.is_empty() => {
            let last = rows.rows.last().map(|(position, _)| *position);
            Err(rows.wrong(last, format!("the row of {} is missing", missing.name)))
        }
        _ => Ok(()),
    }
}

/// The rule of one field of 8 or 32 bits.
fn single_field(rows: &Rows, position: usize, row: &FieldDescriptor) -> Result<crate::schc::Compiled, RowError> {
    let own_bits = row.fid.bits.unwrap_or(0);
    if row.length != FieldLength::Fixed(own_bits) {
        let problem = format!("{}: its length must be {own_bits} bits", row.fid.name);
        return Err(rows.wrong(Some(position), problem));
    }
    let rule = Rule { fields: vec![row.clone()] };
    rule.compile(rows.direction).map_err(|error| rows.wrong(Some(position), error.to_string()))
}

/// The rule of Padding, Pad Length and Next Header. The fields that are sent follow the payload.
fn trailer(rows: &Rows, custom: &Custom, inner: &InnerRules, cipher_block: usize) -> Result<Trailer, RowError> {
    in_order(rows, &[ESP_PAD, ESP_PAD_LEN, ESP_NXT])?;
    let mut trailer = Trailer {
        rule_id: None,
        pad: true,
        next_header: NextHeader::Sent,
        // Both are powers of 2.
        align: cipher_block.max(custom.alignment.into()),
        uncounted: 0,
    };
    let [Some(padding), Some(pad_len), Some(next_header)] =
        [ESP_PAD, ESP_PAD_LEN, ESP_NXT].map(|field| rows.row(field))
    else {
        return Ok(trailer);
    };
    let [padding_sent, pad_len_sent] = [is_sent(rows, padding)?, is_sent(rows, pad_len)?];
    if padding_sent != pad_len_sent {
        let problem = "ESP.PAD_LEN: send either both ESP.PAD and ESP.PAD_LEN, or neither";
        return Err(rows.wrong(Some(pad_len.0), problem));
    }
    if !padding_sent && trailer.align > 1 {
        let problem = "ESP.PAD: it can be omitted only with `alignment: 8 bit` and a cipher without blocks";
        return Err(rows.wrong(Some(padding.0), problem));
    }
    trailer.pad = padding_sent;

    let (position, row) = next_header;
    let wrong = |problem: &str| Err(rows.wrong(Some(position), format!("ESP.NXT: {problem}")));
    let known = match inner.mode {
        Some(Mode::Tunnel) => inner.version.map(IpVersion::next_header),
        _ => inner.protocol,
    };
    trailer.next_header = match (row.matching, row.action) {
        (Matching::Ignore, Action::ValueSent) => NextHeader::Sent,
        // In tunnel mode, Next Header follows from the IP version of the packet.
        (_, Action::Compute(_)) if known.is_some() || inner.mode == Some(Mode::Tunnel) => NextHeader::Elided,
        (_, Action::Compute(_)) => return wrong("it cannot be computed: give a single `ts_proto`, or send it"),
        (Matching::Equal, Action::NotSent) => {
            // Compiled only to check the row.
            single_field(rows, position, row)?;
            let value = row.target.value().unwrap_or(0) as u8;
            if known.is_some_and(|known| known != value) {
                return wrong("its target value does not match the packets of this SA");
            }
            NextHeader::Known(value)
        }
        (_, Action::NotSent) => return wrong("not-sent needs `equal` here: the receiver needs the exact value"),
        (_, Action::Nearest(_)) => return wrong("this action is not supported for this field"),
        _ => NextHeader::Rule(single_field(rows, position, row)?),
    };
    Ok(trailer)
}

/// Whether Padding or Pad Length is sent. A part of it cannot be sent.
fn is_sent(rows: &Rows, (position, row): (usize, &FieldDescriptor)) -> Result<bool, RowError> {
    match (row.matching, row.action) {
        (Matching::Ignore, Action::ValueSent) => Ok(true),
        (Matching::Ignore | Matching::Equal, Action::NotSent | Action::Compute(_))
            if matches!(row.target, Target::Empty | Target::Value(0)) =>
        {
            Ok(false)
        }
        _ => Err(rows
            .wrong(Some(position), format!("{}: use value-sent, or not-sent with no target value or 0", row.fid.name))),
    }
}

/// The rule of SPI and Sequence Number. The SA knows all bits of the SPI. A receiver finds the high bits of the
/// sequence number by the integrity check. So their target values are those of the SA and of each packet, and may
/// be omitted.
fn esp_header(rows: &Rows) -> Result<EspHeader, RowError> {
    in_order(rows, &[ESP_SPI, ESP_SEQ])?;
    let (Some((spi_position, spi)), Some((sn_position, sn))) = (rows.row(ESP_SPI), rows.row(ESP_SEQ)) else {
        return Ok(EspHeader::low_bits(32, 32));
    };
    let low = |row: &FieldDescriptor| match (row.matching, row.action) {
        (_, Action::ValueSent) => Some(32),
        (_, Action::NotSent) => Some(0),
        (Matching::Msb(msb), Action::Lsb) if msb <= 32 => Some(32 - msb as u8),
        _ => None,
    };
    let Some(sn_bits) = low(sn) else {
        let problem = "ESP.SEQ: use value-sent, not-sent, or MSB with LSB, because every packet has another number";
        return Err(rows.wrong(Some(sn_position), problem));
    };
    if matches!(sn.matching, Matching::Equal | Matching::MatchMapping) {
        let problem = "ESP.SEQ: use `ignore` or `MSB`, because every packet has another number";
        return Err(rows.wrong(Some(sn_position), problem));
    }
    if matches!(spi.action, Action::Compute(_) | Action::Nearest(_)) {
        return Err(rows.wrong(Some(spi_position), "ESP.SPI: it cannot be computed: use not-sent to omit it"));
    }
    let mut header = EspHeader::low_bits(low(spi).unwrap_or(32), sn_bits);
    if spi.target != Target::Empty {
        let rule = single_field(rows, spi_position, spi)?;
        header = EspHeader { spi_bits: rule.residue_bits() as u8, spi_rule: Some(rule), ..header };
    } else if low(spi).is_none() {
        // The error of the compiled row tells what is wrong.
        single_field(rows, spi_position, spi)?;
    }
    let bits = header.spi_bits + header.sn_bits;
    if !bits.is_multiple_of(8) {
        let problem = format!("{bits} bits of SPI and Sequence Number are sent, which is not a whole number of bytes");
        return Err(rows.wrong(Some(sn_position), problem));
    }
    Ok(header)
}
