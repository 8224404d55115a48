//! Attributes and options of dialect `ietf` (draft-ietf-ipsecme-diet-esp-07 §4).

use super::fields::Fields;
use super::rules::distinct;
use crate::context::{DscpCda, FlowLabelCda, HeaderCda, Ietf, TcpHeader};
use crate::error::Error;
use crate::files::values::{ValueError, byte, choice, value_error};

const IIPC_PROFILE: [(&str, bool); 2] = [("iipc_diet-esp", true), ("iipc_not_compressed", false)];
const ECN_CDA: [(&str, HeaderCda); 2] = [("not_compressed", HeaderCda::Sent), ("lower", HeaderCda::Lower)];
const FLOW_LABEL_CDA: [(&str, FlowLabelCda); 4] = [
    ("not_compressed", FlowLabelCda::Sent),
    ("lower", FlowLabelCda::Lower),
    ("generated", FlowLabelCda::Generated),
    ("zero", FlowLabelCda::Zero),
];
const ESP_TRAILER: [(&str, bool); 2] = [("Mandatory", true), ("Optional", false)];
const ANY_TRANSPORT: [(&str, bool); 2] = [("by_next_header", true), ("none", false)];
const TCP_HEADER: [(&str, TcpHeader); 3] =
    [("header_order", TcpHeader::HeaderOrder), ("ports_only", TcpHeader::PortsOnly), ("none", TcpHeader::None)];
const SCTP_CHECKSUM: [(&str, bool); 2] = [("crc32c", false), ("sent", true)];
const UDPLITE_COVERAGE: [(&str, bool); 2] = [("length", false), ("sent", true)];
const IPV4_FLAGS_FRAG: [(&str, Option<u16>); 3] = [("sent", None), ("df", Some(0x4000)), ("zero", Some(0x0000))];
/// A bare `no` or `yes` is often written as the boolean it is in older YAML.
const NO_OR_YES: [(&str, bool); 4] = [("no", false), ("yes", true), ("false", false), ("true", true)];
const FLOW_LABEL_GENERATED: [(&str, bool); 2] = [("hash", true), ("zero", false)];
const REVISIONS: [(&str, u8); 10] = [
    ("ietf-07", 7),
    ("ietf-06", 6),
    ("ietf-08", 8),
    ("ietf-09", 9),
    ("ietf-10", 10),
    ("07", 7),
    ("06", 6),
    ("08", 8),
    ("09", 9),
    ("10", 10),
];

/// Reads the attributes that only this dialect has.
pub(crate) fn attributes(fields: &mut Fields) -> Result<Ietf, Error> {
    let standard = Ietf::default();
    let (spi_bits, sn_bits) = header_bits(fields, &standard)?;
    Ok(Ietf {
        compress_inner: one_of(fields, "iipc_profile", &IIPC_PROFILE, standard.compress_inner)?,
        dscp_cda: dscp(fields)?,
        ecn_cda: one_of(fields, "ecn_cda", &ECN_CDA, standard.ecn_cda)?,
        flow_label_cda: one_of(fields, "flow_label_cda", &FLOW_LABEL_CDA, standard.flow_label_cda)?,
        alignment: fields.optional("alignment", alignment)?.unwrap_or(standard.alignment),
        trailer_mandatory: one_of(fields, "esp_trailer", &ESP_TRAILER, standard.trailer_mandatory)?,
        spi_bits,
        sn_bits,
        rule_id: rule_id(fields)?,
        any_transport: one_of(fields, "any_transport", &ANY_TRANSPORT, standard.any_transport)?,
        tcp_header: one_of(fields, "tcp_header", &TCP_HEADER, standard.tcp_header)?,
        sctp_checksum_sent: one_of(fields, "sctp_checksum", &SCTP_CHECKSUM, standard.sctp_checksum_sent)?,
        udplite_coverage_sent: one_of(fields, "udplite_coverage", &UDPLITE_COVERAGE, standard.udplite_coverage_sent)?,
        hop_limit_sent: sent_or_lower(fields, "hop_limit_cda", standard.hop_limit_sent)?,
        payload_length_sent: sent_or_lower(fields, "payload_length_cda", standard.payload_length_sent)?,
        ipv4_flags_frag: one_of(fields, "ipv4_flags_frag", &IPV4_FLAGS_FRAG, standard.ipv4_flags_frag)?,
        trailer_counts_elided_next_header: one_of(
            fields,
            "trailer_counts_elided_next_header",
            &NO_OR_YES,
            standard.trailer_counts_elided_next_header,
        )?,
        flow_label_hash: one_of(fields, "flow_label_generated", &FLOW_LABEL_GENERATED, standard.flow_label_hash)?,
        revision: one_of(fields, "revision", &REVISIONS, standard.revision)?,
    })
}

pub(crate) fn one_of<T: Copy>(
    fields: &mut Fields,
    name: &'static str,
    choices: &[(&'static str, T)],
    standard: T,
) -> Result<T, Error> {
    Ok(fields.optional(name, |word| choice(word, choices))?.unwrap_or(standard))
}

fn sent_or_lower(fields: &mut Fields, name: &'static str, standard: bool) -> Result<bool, Error> {
    one_of(fields, name, &[("lower", false), ("not_compressed", true)], standard)
}

/// `esp_spi_lsb` and `esp_sn_lsb`: together whole bytes (§5.3).
fn header_bits(fields: &mut Fields, standard: &Ietf) -> Result<(u8, u8), Error> {
    fields.not_both("esp_sn_lsb", "esp_spi_sn")?;
    let spi_entry = fields.entry("esp_spi_lsb");
    let sn_entry = fields.entry("esp_sn_lsb").or(fields.entry("esp_spi_sn"));
    let bits = |word: &str| byte(word, 0..=32);
    let spi = spi_entry.map(|entry| fields.read(entry, bits)).transpose()?.unwrap_or(standard.spi_bits);
    let sn = sn_entry.map(|entry| fields.read(entry, bits)).transpose()?.unwrap_or(standard.sn_bits);
    match sn_entry.or(spi_entry) {
        Some(entry) if !(spi + sn).is_multiple_of(8) => Err(fields.wrong(
            entry,
            value_error(
                format!(
                    "`esp_spi_lsb` {spi} and `esp_sn_lsb` {sn} make {} bits, which is not a whole number of bytes",
                    spi + sn
                ),
                "their sum must be a multiple of 8",
            ),
        )),
        _ => Ok((spi, sn)),
    }
}

fn dscp(fields: &mut Fields) -> Result<DscpCda, Error> {
    #[derive(Clone, Copy)]
    enum Action {
        Sent,
        Lower,
        List,
    }
    let choices = [("not_compressed", Action::Sent), ("lower", Action::Lower), ("sa", Action::List)];
    let action = one_of(fields, "dscp_cda", &choices, Action::Sent)?;
    let entry = fields.entry("dscp_list");
    let list = entry.map(|entry| distinct(fields, entry, |word| byte(word, 0..=63))).transpose()?;
    match (action, entry, list) {
        (Action::Sent, ..) => Ok(DscpCda::Sent),
        (Action::Lower, ..) => Ok(DscpCda::Lower),
        (Action::List, Some(entry), Some(list)) if list.is_empty() => {
            Err(fields.wrong(entry, value_error("an empty list", "`dscp_cda: sa` needs at least one DSCP value")))
        }
        (Action::List, _, Some(list)) => Ok(DscpCda::List(list)),
        (Action::List, ..) => {
            Err(fields.missing("dscp_list", "`dscp_cda: sa` needs it: add `dscp_list: [46, 0]`, the values in order"))
        }
    }
}

/// `8 bit` to `64 bit`, in bytes.
pub(crate) fn alignment(word: &str) -> Result<u8, ValueError> {
    let bits = word.to_ascii_lowercase().replace(' ', "");
    match bits.strip_suffix("bits").or(bits.strip_suffix("bit")).unwrap_or(&bits) {
        "8" => Ok(1),
        "16" => Ok(2),
        "32" => Ok(4),
        "64" => Ok(8),
        _ => Err(value_error("not a valid alignment", "one of: 8 bit, 16 bit, 32 bit, 64 bit")),
    }
}

fn rule_id(fields: &mut Fields) -> Result<Option<u8>, Error> {
    let one_byte = one_of(fields, "rule_id", &[("elided", false), ("one_byte", true)], false)?;
    let entry = fields.entry("rule_id_value");
    let value = entry.map(|entry| fields.read(entry, |word| byte(word, 0..=255))).transpose()?;
    match entry {
        Some(entry) if !one_byte => {
            Err(fields.wrong(entry, value_error("requires `rule_id: one_byte`", "add that, or remove this")))
        }
        _ => Ok(one_byte.then_some(value.unwrap_or(0))),
    }
}
