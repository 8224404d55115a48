//! The rule of the inner headers: an IP header, a transport header, or both.

use super::RowError;
use super::rows::Rows;
use crate::codec::inner::{InnerRules, IpRule, TransportRule, addresses, limits, ports};
use crate::context::{Context, Custom, Mode};
use crate::net::protocol::SCTP;
use crate::net::{IpVersion, transport_header_len};
use crate::schc::fields::*;
use crate::schc::{Action, Matching, Target};

/// The compiled rule of the IP header, and its rows.
type Ip<'a> = (IpRule, Rows<'a>);

/// Compiles the rule of the inner headers.
pub(super) fn compile(context: &Context, custom: &Custom) -> Result<InnerRules, RowError> {
    let Context { mode, selectors, .. } = context;
    let mut rows = Rows::of("iipc", &custom.iipc, custom.direction);
    if rows.rows.is_empty() && !custom.iipc.fields.is_empty() {
        return Err(rows.wrong(Some(0), "no row applies to the `direction` of this SA"));
    }
    let ip = take_ip(context, &mut rows)?;
    let transport = take_transport(context, ip.as_ref(), &mut rows)?;
    if let Some((position, row)) = rows.rows.first() {
        let problem = format!("{}: a row of this header is not allowed here", row.fid.name);
        return Err(rows.wrong(Some(*position), problem));
    }
    let protocol = transport.as_ref().map(|transport| transport.protocol).or(selectors.protocol);
    if let (Some(protocol), Some((_, header))) = (protocol, &ip) {
        check_next_header(protocol, header)?;
    }
    let version = ip.as_ref().map(|(rule, _)| rule.version()).or(selectors.version);
    Ok(InnerRules {
        addresses: match selectors.version {
            Some(version) if ip.is_none() => limits(addresses(selectors, version)),
            _ => [].into(),
        },
        ports: limits(ports(selectors)),
        ip: ip.map(|(rule, _)| rule),
        transports: transport.into_iter().collect(),
        ..InnerRules::uncompressed(Some(*mode), version, protocol)
    })
}

/// Takes the rows of an IP header from the start of `rows`, if there is one.
fn take_ip<'a>(context: &Context, rows: &mut Rows<'a>) -> Result<Option<Ip<'a>>, RowError> {
    let Some(form) = rows.header().filter(|form| form.protocol.is_none()) else { return Ok(None) };
    let first = rows.rows.first().map(|(position, _)| *position);
    if context.mode == Mode::Transport {
        let problem = "transport mode does not compress the IP header: remove the rows of its fields";
        return Err(rows.wrong(first, problem));
    }
    let version = if form.bits == 160 { IpVersion::V4 } else { IpVersion::V6 };
    if context.selectors.version.is_some_and(|stated| stated != version) {
        let problem = format!("IPv{} fields, but the selectors `ts_ip_*` have the other version", version.number());
        return Err(rows.wrong(first, problem));
    }
    let header = rows.take_header(form);
    header.check_complete(form)?;
    Ok(Some((ip_rule(context, version, &header)?, header)))
}

/// Takes the rows of a transport header from the start of `rows`, if there is one.
fn take_transport(
    context: &Context,
    ip: Option<&Ip<'_>>,
    rows: &mut Rows<'_>,
) -> Result<Option<TransportRule>, RowError> {
    let Context { mode, selectors, .. } = context;
    let Some(form) = rows.header() else { return Ok(None) };
    let first = rows.rows.first().map(|(position, _)| *position);
    let Some(protocol) = form.protocol else {
        let problem = "a second IP header: a rule describes the fields of one packet, in their order";
        return Err(rows.wrong(first, problem));
    };
    if *mode == Mode::Tunnel && ip.is_none() {
        return Err(rows.wrong(first, "the rows of the IP header are missing before this row"));
    }
    if selectors.protocol.is_some_and(|selected| selected != protocol) {
        return Err(rows.wrong(first, format!("{} fields, but `ts_proto` names another protocol", form.name)));
    }
    let header = rows.take_header(form);
    header.check_complete(form)?;
    let mut header = header.compile_header(limits(ports(selectors)).into())?;
    // The checksum of SCTP does not depend on addresses.
    if protocol != SCTP && ip.is_some_and(|(rule, _)| rule.loses_addresses()) {
        header.note_checksums();
    }
    let min_len = transport_header_len(protocol);
    Ok(Some(TransportRule { protocol, min_len, ports_only: false, tcp_lsb: None, header }))
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
