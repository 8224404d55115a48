//! SAs and contexts as entries of native files, in JSON, which is also YAML. Every attribute is written, even if it has
//! its default.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::rule_text::{length_name, target_json};
use crate::context::{
    Context, Custom, Dialect, DscpCda, Ehc, FlowLabelCda, HeaderCda, Ietf, Mode, Range, SixLo, TcpHeader,
    UdpLiteCoverage,
};
use crate::error::Error;
use crate::net::{IpVersion, LinkAddress};
use crate::sa::Sa;
use crate::schc::{Direction, FieldDescriptor, FieldLength, Matching, Rule, Target};

/// JSON whose objects keep their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Json {
    /// A scalar.
    Value(Value),
    /// An array.
    List(Vec<Json>),
    /// An object without duplicate keys.
    Object(Vec<(&'static str, Json)>),
}

impl<T: Into<Value>> From<T> for Json {
    fn from(value: T) -> Json {
        Json::Value(value.into())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Value(value) => value.serialize(serializer),
            Json::List(items) => serializer.collect_seq(items),
            Json::Object(members) => serializer.collect_map(members.iter().map(|(name, value)| (*name, value))),
        }
    }
}

/// An SA as an entry of `sas`, with its secrets.
///
/// # Errors
/// Native files cannot express the SA: it matches every SPI, or its ICV is not checked.
pub fn sa_entry(sa: &Sa) -> Result<Json, Error> {
    let refused = |what: &str| {
        let help = "give it with a native key file";
        Error::line(&sa.origin.path, sa.origin.line, format!("SA {}: {what}", sa.name), help)
    };
    let spi = sa.spi.ok_or_else(|| refused("it matches every SPI"))?;
    let hex = |bytes: &[u8]| Json::from(hex::encode(bytes));
    let mut members = vec![
        ("name", sa.name.as_str().into()),
        ("spi", format!("0x{spi:08x}").into()),
        ("src", sa.src.to_string().into()),
        ("dst", sa.dst.to_string().into()),
        ("encr", sa.keys.suite().name.into()),
    ];
    for (name, address) in [("link_src", sa.link_src), ("link_dst", sa.link_dst)] {
        members.extend(address.map(|address| (name, link_address(address))));
    }
    if !sa.keys.key().is_empty() {
        members.push(("key", hex(sa.keys.key().expose())));
    }
    if !sa.keys.salt().is_empty() {
        members.push(("salt", hex(sa.keys.salt().expose())));
    }
    match sa.keys.integ() {
        Some((integ, _)) if integ.hash.is_none() => return Err(refused("its ICV is not checked")),
        Some((integ, key)) => {
            members.push(("integ", integ.name.into()));
            members.push(("integ_key", hex(key.expose())));
        }
        None if !sa.keys.suite().is_aead() => members.push(("integ", "NONE".into())),
        None => {}
    }
    members.push(("esn", sa.esn.into()));
    Ok(Json::Object(members))
}

fn link_address(address: LinkAddress) -> Json {
    match address {
        LinkAddress::Short(short) => format!("0x{short:04x}").into(),
        LinkAddress::Extended(eui64) => hex::encode(eui64).into(),
        LinkAddress::Bluetooth(device) => hex::encode(device).into(),
    }
}

/// A context as an entry of `contexts`, for the SA of this name.
pub fn context_entry(context: &Context, sa: &str) -> Json {
    let mut members: Vec<(&'static str, Json)> = vec![
        ("sa", sa.into()),
        ("dialect", context.dialect.name().into()),
        ("ipsec_mode", if context.mode == Mode::Tunnel { "Tunnel" } else { "Transport" }.into()),
    ];
    if let Some((src, dst)) = context.tunnel_ip {
        let ends = vec![("src", src.to_string().into()), ("dst", dst.to_string().into())];
        members.push(("tunnel_ip", Json::Object(ends)));
    }
    let selectors = &context.selectors;
    if let Some(version) = selectors.version {
        members.push(("ts_ip_version", if version == IpVersion::V4 { "IPv4-only" } else { "IPv6-only" }.into()));
        let [src, dst] = [selectors.src, selectors.dst].map(|range| ends(range, version));
        members.extend([("ts_ip_src_start", src.0), ("ts_ip_src_end", src.1)]);
        members.extend([("ts_ip_dst_start", dst.0), ("ts_ip_dst_end", dst.1)]);
    }
    members.push(("ts_proto", selectors.protocol.map_or("ANY".into(), Json::from)));
    let port = |value: u128| Json::from(value as u16);
    members.extend([
        ("ts_port_src_start", port(selectors.src_port.start)),
        ("ts_port_src_end", port(selectors.src_port.end)),
        ("ts_port_dst_start", port(selectors.dst_port.start)),
        ("ts_port_dst_end", port(selectors.dst_port.end)),
    ]);
    members.extend(context.esp_sn.map(|sn| ("esp_sn", sn.into())));
    members.push(("protocol", context.protocol.into()));
    members.extend(match &context.dialect {
        Dialect::Ietf(attributes) => ietf(attributes),
        Dialect::Ehc(attributes) => ehc(attributes),
        Dialect::SixLo(attributes) => sixlo(attributes),
        Dialect::Custom(rules) => custom(rules),
    });
    Json::Object(members)
}

fn ends(range: Range, version: IpVersion) -> (Json, Json) {
    let address = |value: u128| match version {
        IpVersion::V4 => IpAddr::from(Ipv4Addr::from(value as u32)),
        IpVersion::V6 => IpAddr::from(Ipv6Addr::from(value)),
    };
    (address(range.start).to_string().into(), address(range.end).to_string().into())
}

fn bits(bytes: u8) -> Json {
    format!("{} bit", u16::from(bytes) * 8).into()
}

fn ietf(ietf: &Ietf) -> Vec<(&'static str, Json)> {
    let sent_or_lower = |sent| Json::from(if sent { "not_compressed" } else { "lower" });
    let either = |first: bool, yes: &str, no: &str| Json::from(if first { yes } else { no });
    let mut members = vec![
        ("iipc_profile", either(ietf.compress_inner, "iipc_diet-esp", "iipc_not_compressed")),
        (
            "dscp_cda",
            match ietf.dscp_cda {
                DscpCda::Sent => "not_compressed",
                DscpCda::Lower => "lower",
                DscpCda::List(_) => "sa",
            }
            .into(),
        ),
    ];
    if let DscpCda::List(values) = &ietf.dscp_cda {
        members.push(("dscp_list", Json::List(values.iter().map(|value| (*value).into()).collect())));
    }
    let flow_label = match ietf.flow_label_cda {
        FlowLabelCda::Sent => "not_compressed",
        FlowLabelCda::Lower => "lower",
        FlowLabelCda::Generated => "generated",
        FlowLabelCda::Zero => "zero",
    };
    let tcp_header = match ietf.tcp_header {
        TcpHeader::HeaderOrder => "header_order",
        TcpHeader::PortsOnly => "ports_only",
        TcpHeader::None => "none",
    };
    let flags_frag = match ietf.ipv4_flags_frag {
        None => "sent",
        Some(0) => "zero",
        Some(_) => "df",
    };
    members.extend([
        ("ecn_cda", sent_or_lower(ietf.ecn_cda == HeaderCda::Sent)),
        ("flow_label_cda", flow_label.into()),
        ("alignment", bits(ietf.alignment)),
        ("esp_trailer", either(ietf.trailer_mandatory, "Mandatory", "Optional")),
        ("esp_spi_lsb", ietf.spi_bits.into()),
        ("esp_sn_lsb", ietf.sn_bits.into()),
        ("rule_id", either(ietf.rule_id.is_some(), "one_byte", "elided")),
    ]);
    members.extend(ietf.rule_id.map(|value| ("rule_id_value", value.into())));
    members.extend([
        ("any_transport", either(ietf.any_transport, "by_next_header", "none")),
        ("tcp_header", tcp_header.into()),
        ("sctp_checksum", either(ietf.sctp_checksum_sent, "sent", "crc32c")),
        ("udplite_coverage", either(ietf.udplite_coverage_sent, "sent", "length")),
        ("hop_limit_cda", sent_or_lower(ietf.hop_limit_sent)),
        ("payload_length_cda", sent_or_lower(ietf.payload_length_sent)),
        ("ipv4_flags_frag", flags_frag.into()),
        ("trailer_counts_elided_next_header", either(ietf.trailer_counts_elided_next_header, "yes", "no")),
        ("flow_label_generated", either(ietf.flow_label_hash, "hash", "zero")),
        ("revision", format!("ietf-{:02}", ietf.revision).into()),
    ]);
    members
}

fn ehc(ehc: &Ehc) -> Vec<(&'static str, Json)> {
    let mut members = vec![
        ("esp_spi_lsb", ehc.spi_bytes.into()),
        ("esp_sn_lsb", ehc.sn_bytes.into()),
        ("esp_sn_gen", if ehc.sn_period.is_some() { "time" } else { "incremental" }.into()),
    ];
    members.extend(ehc.sn_period.map(|period| ("esp_sn_period", seconds(period).into())));
    members.extend([
        ("esp_align", bits(ehc.align)),
        ("tcp_lsb", ehc.tcp_lsb.into()),
        ("tcp_sn", ehc.tcp_sn.into()),
        ("tcp_ack", ehc.tcp_ack.into()),
        ("tcp_options", ehc.tcp_options.into()),
        ("tcp_urgent", ehc.tcp_urgent.into()),
        (
            "udplite_coverage",
            match ehc.udplite_coverage {
                UdpLiteCoverage::Sent => "uncompressed".into(),
                UdpLiteCoverage::Length => "Length".into(),
                UdpLiteCoverage::AtMost(agreed) => agreed.into(),
            },
        ),
    ]);
    members
}

/// In decimal, with as few digits as possible.
fn seconds(period: Duration) -> String {
    let text = format!("{}.{:09}", period.as_secs(), period.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn sixlo(sixlo: &SixLo) -> Vec<(&'static str, Json)> {
    let presence = |there| Json::from(if there { "present" } else { "removed" });
    vec![
        ("SPI_SIZE", sixlo.spi_bytes.into()),
        ("SN_SIZE", sixlo.sn_bytes.into()),
        ("NH", presence(sixlo.next_header)),
        ("PAD", presence(sixlo.pad)),
        ("ALIGN", bits(sixlo.align)),
    ]
}

fn custom(custom: &Custom) -> Vec<(&'static str, Json)> {
    let tables = [("iipc", &custom.iipc), ("ctec", &custom.ctec), ("eec", &custom.eec)];
    vec![
        ("rules", Json::Object(tables.map(|(name, rule)| (name, rule_rows(rule))).into())),
        ("direction", Direction::name(custom.direction).into()),
        ("alignment", bits(custom.alignment)),
    ]
}

/// The rows of a rule, as rule files have them.
pub(crate) fn rule_rows(rule: &Rule) -> Json {
    Json::List(rule.fields.iter().map(row).collect())
}

fn row(row: &FieldDescriptor) -> Json {
    let length = match row.length {
        FieldLength::Fixed(bits) => bits.into(),
        other => length_name(other).into(),
    };
    let target = match &row.target {
        Target::Empty => Value::Null.into(),
        Target::Value(value) => target_json(row, *value).into(),
        Target::List(values) => Json::List(values.iter().map(|value| target_json(row, *value).into()).collect()),
    };
    let mut members = vec![
        ("FID", row.fid.name.into()),
        ("FL", length),
        ("FP", row.position.into()),
        ("DI", row.direction.name().into()),
        ("TV", target),
        ("MO", row.matching.name().into()),
    ];
    if let Matching::Msb(bits) = row.matching {
        members.push(("MO.VAL", bits.into()));
    }
    members.push(("CDA", row.action.name().into()));
    Json::Object(members)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::context::Origin;

    /// The content of `text`, and the content after its entries are written and read again.
    fn again(text: &str) {
        let path = Path::new("f");
        let read = crate::files::parse(path, text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let sas = Json::List(read.sas.iter().map(|sa| sa_entry(sa).unwrap()).collect());
        let contexts = read.contexts.iter().map(|context| context_entry(context, "a")).collect();
        let written =
            serde_json::to_string(&Json::Object(vec![("sas", sas), ("contexts", Json::List(contexts))])).unwrap();
        let again = crate::files::parse(path, written.as_bytes()).unwrap_or_else(|error| panic!("{error}: {written}"));
        let moved = |context: &Context| Context { origin: Origin { path: path.into(), line: 0 }, ..context.clone() };
        assert_eq!(again.sas.len(), read.sas.len());
        for (again, read) in again.sas.iter().zip(&read.sas) {
            assert!(again.keys == read.keys && (again.spi, again.esn) == (read.spi, read.esn));
            assert_eq!((&again.name, again.src, again.dst), (&read.name, read.src, read.dst));
            assert_eq!((again.link_src, again.link_dst), (read.link_src, read.link_dst));
        }
        assert_eq!(
            again.contexts.iter().map(moved).collect::<Vec<_>>(),
            read.contexts.iter().map(moved).collect::<Vec<_>>()
        );
    }

    #[test]
    fn written_entries_are_read_unchanged() {
        again(
            "sas:
  - { name: a, spi: 0x1, src: 2001:db8::/32, dst: any, encr: ENCR_AES_CBC, key: 00112233445566778899aabbccddeeff,
      integ: AUTH_HMAC_SHA1_96, integ_key: 00112233445566778899aabbccddeeff00112233, esn: true }
  - { spi: 7, encr: ENCR_NULL, integ: NONE, link_src: 0x0012, link_dst: 02:12:4b:00:06:aa:00:01 }
  - { spi: 8, encr: ENCR_AES_CCM_8, key: 00112233445566778899aabbccddeeffa0a1a2 }
contexts:
  - { sa: a, ipsec_mode: Transport }
  - { sa: a, ipsec_mode: Tunnel, tunnel_ip: { src: 192.0.2.1, dst: 192.0.2.2 }, ts_ip_version: IPv4-only, esp_sn: 5,
      ts_ip_src: 10.0.0.0/8, ts_proto: TCP, ts_port_src: 1-7, protocol: 253, iipc_profile: iipc_not_compressed,
      dscp_cda: sa, dscp_list: [46, 0], ecn_cda: lower, flow_label_cda: zero, alignment: 16 bit, esp_trailer: Mandatory,
      esp_spi_lsb: 3, esp_sn_lsb: 5, rule_id: one_byte, rule_id_value: 9, any_transport: none, tcp_header: ports_only,
      sctp_checksum: sent, udplite_coverage: sent, hop_limit_cda: not_compressed, payload_length_cda: not_compressed,
      ipv4_flags_frag: df, trailer_counts_elided_next_header: yes, flow_label_generated: zero, revision: 10 }
  - { sa: a, ipsec_mode: Transport, dscp_cda: lower, flow_label_cda: generated, tcp_header: none, ipv4_flags_frag: zero }
  - { sa: a, dialect: ehc, ipsec_mode: Transport, esp_spi_lsb: 1, esp_sn_lsb: 3, esp_sn_gen: time, esp_sn_period: 0.25,
      esp_align: 24, tcp_lsb: 2, tcp_sn: 4294967295, tcp_ack: 9, tcp_options: False, tcp_urgent: False,
      udplite_coverage: 12 }
  - { sa: a, dialect: ehc, ipsec_mode: Transport, udplite_coverage: Length }
  - { sa: a, dialect: 6lo, ipsec_mode: Transport, ts_proto: 58, SPI_SIZE: 2, SN_SIZE: 1, NH: removed, PAD: removed, ALIGN: 8 }
  - { sa: a, dialect: custom, ipsec_mode: Tunnel, direction: Up, alignment: 32, rules: { iipc: [
      { FID: IPV6.VER, TV: 6, MO: equal, CDA: not-sent },
      { FID: IPV6.TC, DI: Up, MO: ignore, CDA: compute-lower },
      { FID: IPV6.FL, MO: ignore, CDA: compute-generated },
      { FID: IPV6.LEN, MO: ignore, CDA: compute-length },
      { FID: IPV6.NXT, TV: 58, MO: equal, CDA: not-sent },
      { FID: IPV6.HOP_LMT, TV: [64, 255], MO: match-mapping, CDA: mapping-sent },
      { FID: IPV6.DEV_PREFIX, TV: 2001:db8::/64, MO: equal, CDA: not-sent },
      { FID: IPV6.DEV_IID, TV: '::1234:0', MO: MSB, MO.VAL: 48, CDA: LSB },
      { FID: IPV6.DST, TV: 2001:db8::1, MO: equal, CDA: value-sent } ],
      eec: [ { FID: ESP.SPI, MO: MSB(24), CDA: LSB }, { FID: ESP.SEQ, MO: ignore, CDA: value-sent } ] } }
",
        );
    }
}
