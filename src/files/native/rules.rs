//! Rule files: `contexts` and `lowpan_contexts`. This module reads the keys that all dialects share; the module of each
//! dialect reads the others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use super::fields::{Entry, Fields};
use super::keys::items;
use super::yaml::{Node, Value};
use super::{custom, ehc, ietf, sixlo};
use crate::context::{Context, Dialect, Mode, Origin, Range, SaReference, TrafficSelectors};
use crate::error::Error;
use crate::files::values::{
    ValueError, address, byte, choice, near, number, prefix, protocol, refuse_opaque, selector, shown, spi, text,
    value_error,
};
use crate::net::{IpVersion, address_value, protocol};

/// Reads the items of `contexts`.
pub(crate) fn contexts(path: &Path, list: &Node) -> Result<Vec<Context>, Error> {
    let path: Arc<Path> = path.into();
    let items = items(&path, "contexts", list)?;
    let mut contexts = Vec::with_capacity(items.len());
    for node in items {
        contexts.push(context(&path, node)?);
    }
    Ok(contexts)
}

/// Reads one item of `contexts`.
pub(crate) fn context(path: &Arc<Path>, node: &Node) -> Result<Context, Error> {
    let mut fields = Fields::new(path, "a context", node)?;
    let origin = Origin { path: path.clone(), line: u64::from(fields.place().line) };
    let sa = sa_reference(&mut fields)?;
    let reader = match fields.optional("dialect", dialect)? {
        None => ietf_attributes,
        Some(reader) => reader,
    };
    let mode = fields.required("ipsec_mode", "add `ipsec_mode: Tunnel` or `ipsec_mode: Transport`", |word| {
        choice(word, &[("Tunnel", Mode::Tunnel), ("Transport", Mode::Transport)])
    })?;
    let tunnel_ip = tunnel_ip(&mut fields)?;
    let esp_sn = fields.optional("esp_sn", |word| number(word, 0..=u64::MAX))?;
    let protocol = fields.optional("protocol", |word| byte(word, 1..=255))?.unwrap_or(protocol::ESP);
    let Attributes { dialect, needs_version } = reader(&mut fields, mode)?;
    let selectors = selectors(&mut fields, needs_version)?;
    let context = Context { sa, mode, tunnel_ip, selectors, esp_sn, protocol, dialect, origin };
    match context.dialect {
        Dialect::SixLo(_) => sixlo::check(&context, &mut fields)?,
        Dialect::Custom(_) => custom::check(&context, &mut fields)?,
        Dialect::Ietf(_) | Dialect::Ehc(_) => {}
    }
    fields.finish()?;
    Ok(context)
}

/// The part of a context that the dialect's module reads.
pub(crate) struct Attributes {
    pub(crate) dialect: Dialect,
    /// `ts_ip_version` is required.
    pub(crate) needs_version: bool,
}

type Reader = fn(&mut Fields, Mode) -> Result<Attributes, Error>;

fn dialect(word: &str) -> Result<Reader, ValueError> {
    const NAMES: [&str; 4] = ["ietf", "ehc", "6lo", "custom"];
    match word.to_ascii_lowercase().as_str() {
        "ietf" => Ok(ietf_attributes),
        "ehc" => Ok(ehc::attributes),
        "6lo" => Ok(sixlo::attributes),
        "custom" => Ok(custom::attributes),
        other => Err(value_error(
            format!("{} is not a known dialect", shown(word)),
            match near(other, NAMES.into_iter()).first() {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("one of: {}", NAMES.join(", ")),
            },
        )),
    }
}

fn ietf_attributes(fields: &mut Fields, mode: Mode) -> Result<Attributes, Error> {
    let ietf = ietf::attributes(fields)?;
    // If the inner packet is sent uncompressed, its version field shows the IP version.
    let needs_version = mode == Mode::Tunnel && ietf.compress_inner;
    Ok(Attributes { dialect: Dialect::Ietf(ietf), needs_version })
}

fn sa_reference(fields: &mut Fields) -> Result<SaReference, Error> {
    fields.not_both("sa", "spi")?;
    if let Some(name) = fields.optional("sa", |word| Ok(word.to_owned()))? {
        for key in ["src", "dst"] {
            if let Some(entry) = fields.entry(key) {
                let help = format!("name the SA by `spi:` and `{key}:`, or by `sa:` alone");
                return Err(fields.wrong(entry, value_error("conflicts with `sa`", help)));
            }
        }
        return Ok(SaReference::Name(name));
    }
    match fields.optional("spi", spi)? {
        Some(spi) => {
            let src = fields.optional("src", selector)?;
            let dst = fields.optional("dst", selector)?;
            Ok(SaReference::Spi { spi, src, dst })
        }
        None => Err(fields.missing("sa", "add `sa:` and the name of the SA in the key file, or `spi:`")),
    }
}

fn tunnel_ip(fields: &mut Fields) -> Result<Option<(IpAddr, IpAddr)>, Error> {
    let Some(entry) = fields.entry("tunnel_ip") else { return Ok(None) };
    let mut inner = Fields::new(fields.path(), "tunnel_ip", entry.node)?;
    let help = "write `tunnel_ip: { src: ..., dst: ... }`";
    let src = inner.required("src", help, address)?;
    let dst = inner.required("dst", help, |word| {
        let dst = address(word)?;
        if dst.is_ipv4() != src.is_ipv4() {
            return Err(value_error("another IP version than `src`", "both belong to one outer header"));
        }
        Ok(dst)
    })?;
    inner.finish()?;
    Ok(Some((src, dst)))
}

/// `ts_*`: draft-ietf-ipsecme-diet-esp-07 §4.
fn selectors(fields: &mut Fields, needs_version: bool) -> Result<TrafficSelectors, Error> {
    let stated = fields.optional("ts_ip_version", |word| {
        choice(word, &[("IPv4-only", IpVersion::V4), ("IPv6-only", IpVersion::V6)])
    })?;
    if stated.is_none() && needs_version {
        return Err(fields.missing("ts_ip_version", "add `ts_ip_version: IPv4-only` or `ts_ip_version: IPv6-only`"));
    }
    let src = addresses(fields, ["ts_ip_src", "ts_ip_src_start", "ts_ip_src_end"], stated)?;
    let version = stated.or(src.map(|(_, version)| version));
    let dst = addresses(fields, ["ts_ip_dst", "ts_ip_dst_start", "ts_ip_dst_end"], version)?;
    let version = version.or(dst.map(|(_, version)| version));
    let whole = Range::whole(version.map_or(128, IpVersion::address_bits));
    Ok(TrafficSelectors {
        version,
        src: src.map_or(whole, |(range, _)| range),
        dst: dst.map_or(whole, |(range, _)| range),
        protocol: fields.optional("ts_proto", protocol)?.flatten(),
        src_port: ports(fields, ["ts_port_src", "ts_port_src_start", "ts_port_src_end"])?,
        dst_port: ports(fields, ["ts_port_dst", "ts_port_dst_start", "ts_port_dst_end"])?,
    })
}

/// The addresses under the keys [short, start, end]; they must be of `version`, or, without it, of one version.
fn addresses(
    fields: &mut Fields,
    [short, start, end]: [&'static str; 3],
    version: Option<IpVersion>,
) -> Result<Option<(Range, IpVersion)>, Error> {
    fields.not_both(short, start)?;
    fields.not_both(short, end)?;
    let of_version = |address: IpAddr, version: Option<IpVersion>| match version {
        Some(version) if version != IpVersion::of(address) => Err(value_error(
            format!("not an IPv{} address", version.number()),
            "`ts_ip_version` and all addresses of a context's `ts_ip_*` go together",
        )),
        _ => Ok(IpVersion::of(address)),
    };
    if let Some(entry) = fields.entry(short) {
        return fields.read(entry, |word| {
            refuse_opaque(word)?;
            if word.eq_ignore_ascii_case("any") {
                return Ok(None);
            }
            let (address, len) = prefix(word)?;
            let version = of_version(address, version)?;
            let first = address_value(address);
            let host_bits = version.address_bits().saturating_sub(u32::from(len));
            let last = first | 1u128.checked_shl(host_bits).map_or(u128::MAX, |bit| bit - 1);
            Ok(Some((Range { start: first, end: last }, version)))
        });
    }
    let mut bound = |name, version| {
        fields.optional(name, |word| {
            refuse_opaque(word)?;
            let address = address(word)?;
            Ok((address_value(address), of_version(address, version)?))
        })
    };
    let first = bound(start, version)?;
    let version = version.or(first.map(|(_, version)| version));
    let last = bound(end, version)?;
    let Some(version) = version.or(last.map(|(_, version)| version)).filter(|_| first.is_some() || last.is_some())
    else {
        return Ok(None);
    };
    let whole = Range::whole(version.address_bits());
    let range =
        Range { start: first.map_or(whole.start, |(value, _)| value), end: last.map_or(whole.end, |(value, _)| value) };
    ordered(fields, range, [start, end])?;
    Ok(Some((range, version)))
}

/// The ports under the keys [short, start, end].
fn ports(fields: &mut Fields, [short, start, end]: [&'static str; 3]) -> Result<Range, Error> {
    fields.not_both(short, start)?;
    fields.not_both(short, end)?;
    if let Some(entry) = fields.entry(short) {
        return fields.read(entry, |word| {
            refuse_opaque(word)?;
            if word.eq_ignore_ascii_case("any") {
                return Ok(Range::whole(16));
            }
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = Range { start: port(first.trim())?, end: port(last.trim())? };
            if range.start > range.end {
                return Err(value_error("the first port is above the last", "write the smaller one first"));
            }
            Ok(range)
        });
    }
    let mut bound = |name| {
        fields.optional(name, |word| {
            refuse_opaque(word)?;
            port(word)
        })
    };
    let range = Range { start: bound(start)?.unwrap_or(0), end: bound(end)?.unwrap_or(0xffff) };
    ordered(fields, range, [start, end])?;
    Ok(range)
}

fn port(word: &str) -> Result<u128, ValueError> {
    number(word, 0..=0xffff).map(u128::from)
}

fn ordered(fields: &mut Fields, range: Range, [start, end]: [&'static str; 2]) -> Result<(), Error> {
    if range.start <= range.end {
        return Ok(());
    }
    match fields.entry(end).or(fields.entry(start)) {
        Some(entry) => Err(fields.wrong(entry, value_error(format!("`{start}` is above `{end}`"), "swap the two"))),
        None => Ok(()),
    }
}

/// Reads `lowpan_contexts`: Context Identifiers of RFC 6282 §3.1.2 (0 to 15) and their prefixes.
pub(crate) fn lowpan_contexts(
    path: &Path,
    node: &Node,
    contexts: &mut BTreeMap<u8, (Ipv6Addr, u8)>,
) -> Result<(), Error> {
    let entries = match &node.value {
        Value::Map(entries) => entries,
        _ if node.is_null() => return Ok(()),
        _ => {
            let help = "write `lowpan_contexts: { 0: \"fd01::/64\" }`";
            return Err(node.place.error(path, "lowpan_contexts: not a mapping", help));
        }
    };
    for (key, node) in entries {
        let wrong = |place: super::yaml::Place, value_error: ValueError| {
            place.error(path, format!("lowpan_contexts: {}", value_error.problem), value_error.help)
        };
        let id = byte(&key.text, 0..=15).map_err(|value_error| wrong(key.place, value_error))?;
        let prefix = text(node).and_then(lowpan_prefix).map_err(|value_error| wrong(node.place, value_error))?;
        if contexts.insert(id, prefix).is_some_and(|before| before != prefix) {
            let other = value_error(format!("context {id} has another prefix elsewhere"), "remove one of them");
            return Err(wrong(key.place, other));
        }
    }
    Ok(())
}

fn lowpan_prefix(word: &str) -> Result<(Ipv6Addr, u8), ValueError> {
    match prefix(word)? {
        (IpAddr::V6(address), len) => Ok((address, len)),
        _ => Err(value_error("not an IPv6 prefix", "6LoWPAN carries IPv6 only")),
    }
}

/// The items of a list of scalars as `parse` reads them. Duplicates are an error.
pub(crate) fn distinct<T: PartialEq>(
    fields: &Fields,
    entry: Entry,
    parse: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Vec<T>, Error> {
    let mut values: Vec<T> = vec![];
    for node in items(fields.path(), entry.name, entry.node)? {
        let item = Entry { node, ..entry };
        let value = fields.read(item, &parse)?;
        if values.contains(&value) {
            return Err(fields.wrong(item, value_error("the list already has this value", "remove one of them")));
        }
        values.push(value);
    }
    Ok(values)
}
