//! Rules as text: this program's rows in YAML, OpenSCHC's JSON, the JSON of RFC 9363.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde_json::Value;

use crate::error::Error;
use crate::files::import::rfc9363;
use crate::files::import::rule_set::{NumberedRule, RuleSet};
use crate::files::values::{ValueError, value_error};
use crate::schc::{Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Target};

/// A format for rules of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleForm {
    /// OpenSCHC's JSON.
    OpenSchc,
    /// RFC 9363 in JSON.
    Rfc9363,
}

impl RuleSet {
    /// As rows in YAML, which [`crate::files::load_rules`] reads.
    pub fn to_yaml(&self) -> String {
        let mut text = String::new();
        match (&self.device, self.rules.as_slice()) {
            (Some(device), rules) => {
                text += &format!("DeviceID: {}\nSoR:\n", Value::from(device.as_str()));
                rules.iter().for_each(|rule| text += &yaml_rule(rule, "  - ", "    "));
            }
            (None, [rule]) => text += &yaml_rule(rule, "", ""),
            (None, rules) => rules.iter().for_each(|rule| text += &yaml_rule(rule, "- ", "  ")),
        }
        text
    }

    /// The rules in the JSON of another program, with a line feed at the end.
    ///
    /// # Errors
    /// The format cannot express something in the rules, which the error names.
    pub fn to_json(&self, form: RuleForm) -> Result<String, Error> {
        let written = match form {
            RuleForm::OpenSchc => self.open_schc(),
            RuleForm::Rfc9363 if self.device.is_some() => {
                Err(value_error("RFC 9363 cannot express DeviceID", "remove it, or export as OpenSCHC"))
            }
            RuleForm::Rfc9363 => rfc9363::write(&self.rules).and_then(pretty),
        };
        written.map_err(|ValueError { problem, help }| Error::usage(problem, help))
    }

    fn open_schc(&self) -> Result<String, ValueError> {
        let rules = self.rules.iter().map(open_schc_rule).collect::<Result<Vec<_>, _>>()?;
        match &self.device {
            Some(device) => pretty(OpenSchcSet { device_id: device, rules }),
            None => pretty(rules),
        }
    }
}

fn pretty(value: impl Serialize) -> Result<String, ValueError> {
    let text = serde_json::to_string_pretty(&value).map_err(|error| value_error(error.to_string(), ""))?;
    Ok(text + "\n")
}

fn yaml_rule(rule: &NumberedRule, first: &str, next: &str) -> String {
    let mut text = String::new();
    let rows = match rule.id {
        Some(id) => {
            text += &format!("{first}RuleID: {}\n{next}RuleIDLength: {}\n{next}fields:\n", id.value, id.bits);
            format!("{next}  - ")
        }
        None if first.is_empty() => "- ".to_owned(),
        None => {
            text += &format!("{first}fields:\n");
            format!("{next}  - ")
        }
    };
    rule.rule.fields.iter().for_each(|row| text += &format!("{rows}{}\n", yaml_row(row)));
    text
}

/// `{ FID: IPV6.VER, FL: 4, TV: 6, MO: equal, CDA: not-sent }`, without keys that have their default.
fn yaml_row(row: &FieldDescriptor) -> String {
    let mut text = format!("{{ FID: {}, FL: {}", row.fid.name, length_name(row.length));
    if row.position != 1 {
        text += &format!(", FP: {}", row.position);
    }
    if row.direction != Direction::Both {
        text += &format!(", DI: {}", row.direction.name());
    }
    match &row.target {
        Target::Empty => {}
        // JSON values are YAML values.
        Target::Value(value) => text += &format!(", TV: {}", target_json(row, *value)),
        Target::List(values) => {
            let values: Vec<String> = values.iter().map(|value| target_json(row, *value).to_string()).collect();
            text += &format!(", TV: [{}]", values.join(", "));
        }
    }
    text += &format!(", MO: {}", row.matching.name());
    if let Matching::Msb(bits) = row.matching {
        text += &format!(", MO.VAL: {bits}");
    }
    text + &format!(", CDA: {} }}", row.action.name())
}

/// FL as rule tables write it.
pub(crate) fn length_name(length: FieldLength) -> String {
    match length {
        FieldLength::Fixed(bits) => bits.to_string(),
        FieldLength::Variable => crate::files::native::rule_table::VARIABLE.to_owned(),
        FieldLength::Function => crate::files::native::rule_table::FUNCTION.to_owned(),
    }
}

/// One target value of a row in human-readable form: an address, a number, or `0x` and hex digits.
pub(crate) fn target_text(row: &FieldDescriptor, value: u128) -> String {
    match target_json(row, value) {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

pub(crate) fn target_json(row: &FieldDescriptor, value: u128) -> Value {
    let name = row.fid.name;
    match row.length {
        FieldLength::Fixed(128) => Ipv6Addr::from(value).to_string().into(),
        FieldLength::Fixed(64) if name.ends_with("_PREFIX") => format!("{}/64", Ipv6Addr::from(value << 64)).into(),
        FieldLength::Fixed(64) if name.ends_with("_IID") => iid(value).into(),
        FieldLength::Fixed(32) if matches!(name, "IPV4.SRC" | "IPV4.DST") => {
            Ipv4Addr::from(value as u32).to_string().into()
        }
        FieldLength::Fixed(..=20) => Value::from(value as u32),
        FieldLength::Fixed(bits) => format!("0x{value:0digits$x}", digits = usize::from(bits).div_ceil(4)).into(),
        FieldLength::Variable | FieldLength::Function => {
            let bytes = (128 - value.leading_zeros() as usize).div_ceil(8);
            let digits = if value == 0 { String::new() } else { format!("{value:0digits$x}", digits = bytes * 2) };
            format!("0x{digits}").into()
        }
    }
}

/// An Interface Identifier as an address whose first 64 bits are zero, never in the notation with an embedded IPv4
/// address.
fn iid(value: u128) -> String {
    let text = Ipv6Addr::from(value).to_string();
    if text.contains('.') {
        let [a, b, c, d] = [48, 32, 16, 0].map(|shift| (value >> shift) as u16);
        return format!("::{a:x}:{b:x}:{c:x}:{d:x}");
    }
    text
}

#[derive(Serialize)]
struct OpenSchcSet<'a> {
    #[serde(rename = "DeviceID")]
    device_id: &'a str,
    #[serde(rename = "SoR")]
    rules: Vec<OpenSchcRule>,
}

#[derive(Serialize)]
struct OpenSchcRule {
    #[serde(rename = "RuleID")]
    id: u32,
    #[serde(rename = "RuleIDLength")]
    id_bits: u8,
    #[serde(rename = "Compression")]
    rows: Vec<OpenSchcRow>,
}

#[derive(Serialize)]
struct OpenSchcRow {
    #[serde(rename = "FID")]
    fid: &'static str,
    #[serde(rename = "FL")]
    length: Value,
    #[serde(rename = "FP")]
    position: u8,
    #[serde(rename = "DI")]
    direction: &'static str,
    #[serde(rename = "TV", skip_serializing_if = "Option::is_none")]
    target: Option<Value>,
    #[serde(rename = "MO")]
    matching: &'static str,
    #[serde(rename = "MO.VAL", skip_serializing_if = "Option::is_none")]
    msb: Option<u16>,
    #[serde(rename = "CDA")]
    action: &'static str,
}

fn open_schc_rule(rule: &NumberedRule) -> Result<OpenSchcRule, ValueError> {
    let help = "OpenSCHC needs one: add `RuleID` and `RuleIDLength`";
    let id = rule.id.ok_or_else(|| value_error("a rule without RuleID", help))?;
    let rows = rule.rule.fields.iter().map(open_schc_row).collect::<Result<_, _>>()?;
    Ok(OpenSchcRule { id: id.value, id_bits: id.bits, rows })
}

/// The fields of IPv6 and UDP that OpenSCHC knows.
const OPEN_SCHC_FIELDS: [&str; 14] = [
    "IPV6.VER",
    "IPV6.TC",
    "IPV6.FL",
    "IPV6.LEN",
    "IPV6.NXT",
    "IPV6.HOP_LMT",
    "IPV6.DEV_PREFIX",
    "IPV6.DEV_IID",
    "IPV6.APP_PREFIX",
    "IPV6.APP_IID",
    "UDP.DEV_PORT",
    "UDP.APP_PORT",
    "UDP.LEN",
    "UDP.CKSUM",
];

fn open_schc_row(row: &FieldDescriptor) -> Result<OpenSchcRow, ValueError> {
    let no_word = |what: &str| {
        value_error(
            format!("{}: OpenSCHC cannot express {what}", row.fid.name),
            "this rule cannot be exported in this format",
        )
    };
    if !OPEN_SCHC_FIELDS.contains(&row.fid.name) {
        return Err(no_word("this field"));
    }
    let known = matches!(row.action, Action::Compute(Compute::Length | Compute::Checksum));
    if !known && matches!(row.action, Action::Compute(_)) {
        return Err(no_word(row.action.name()));
    }
    Ok(OpenSchcRow {
        fid: row.fid.name,
        length: match row.length {
            FieldLength::Fixed(bits) => bits.into(),
            FieldLength::Variable => "var".into(),
            FieldLength::Function => return Err(no_word("its length")),
        },
        position: row.position,
        direction: match row.direction {
            Direction::Up => "UP",
            Direction::Down => "DW",
            Direction::Both => "BI",
        },
        target: match &row.target {
            Target::Empty => None,
            Target::Value(value) => Some(target_json(row, *value)),
            Target::List(values) => Some(values.iter().map(|value| target_json(row, *value)).collect()),
        },
        matching: row.matching.name(),
        msb: match row.matching {
            Matching::Msb(bits) => Some(bits),
            _ => None,
        },
        action: row.action.name(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::files::import::rule_set::parse_rules as parse;

    fn read(text: &str) -> RuleSet {
        parse(Path::new("f"), text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    /// Rules that all three formats can express.
    const COMMON: &str = r#"
- RuleID: 5
  RuleIDLength: 3
  fields:
    - { FID: IPV6.VER, TV: 6, MO: equal, CDA: not-sent }
    - { FID: IPV6.TC, TV: 0, MO: ignore, CDA: not-sent }
    - { FID: IPV6.FL, TV: 0x23456, MO: MSB, MO.VAL: 12, CDA: LSB }
    - { FID: IPV6.LEN, MO: ignore, CDA: compute-length }
    - { FID: IPV6.NXT, TV: 17, MO: equal, CDA: value-sent }
    - { FID: IPV6.HOP_LMT, DI: Up, TV: [64, 255, 1], MO: match-mapping, CDA: mapping-sent }
    - { FID: IPV6.HOP_LMT, DI: Dw, MO: ignore, CDA: value-sent }
    - { FID: IPV6.DEV_PREFIX, TV: ["2001:db8::/64", "fe80::/64"], MO: match-mapping, CDA: mapping-sent }
    - { FID: IPV6.DEV_IID, TV: "::1", MO: equal, CDA: not-sent }
    - { FID: IPV6.APP_PREFIX, TV: "::/64", MO: equal, CDA: not-sent }
    - { FID: IPV6.APP_IID, FP: 1, TV: "::ffff:0a00:0001", MO: equal, CDA: not-sent }
    - { FID: UDP.DEV_PORT, TV: 5680, MO: MSB(12), CDA: LSB }
    - { FID: UDP.APP_PORT, MO: ignore, CDA: value-sent }
    - { FID: UDP.LEN, TV: 0, MO: ignore, CDA: compute-length }
    - { FID: UDP.CKSUM, MO: ignore, CDA: compute-checksum }
- RuleID: 6
  RuleIDLength: 3
  fields:
    - { FID: IPV6.VER, FP: 2, MO: ignore, CDA: value-sent }
"#;

    #[test]
    fn rules_are_unchanged_after_export_and_import() {
        let rules = read(COMMON);
        assert_eq!(rules.rules.len(), 2);
        assert_eq!(read(&rules.to_yaml()), rules);
        assert_eq!(read(&rules.to_json(RuleForm::OpenSchc).unwrap()), rules);
        assert_eq!(read(&rules.to_json(RuleForm::Rfc9363).unwrap()), rules);
        let of_device = RuleSet { device: Some("lorawan:\"7\"".into()), ..rules };
        assert_eq!(read(&of_device.to_yaml()), of_device);
        assert_eq!(read(&of_device.to_json(RuleForm::OpenSchc).unwrap()), of_device);
        assert!(of_device.to_json(RuleForm::Rfc9363).unwrap_err().to_string().contains("DeviceID"));
    }

    #[test]
    fn our_format_can_express_every_rule() {
        let text = r#"
- { FID: IPV6.SRC, TV: "::ffff:10.0.0.1", MO: MSB, MO.VAL: 64, CDA: LSB }
- { FID: IPV6.FL, MO: ignore, CDA: compute-generated }
- { FID: IPV4.SRC, TV: 10.0.0.1, MO: equal, CDA: not-sent }
- { FID: IPV4.OPTIONS, FL: var, TV: [0x, 0x94040000], MO: match-mapping, CDA: mapping-sent }
- { FID: ESP.SPI, TV: 0x0000a1b2, MO: MSB, MO.VAL: 24, CDA: LSB }
- { FID: ESP.PAD, MO: ignore, CDA: compute }
"#;
        let rules = read(text);
        assert_eq!(read(&rules.to_yaml()), rules);
    }

    #[test]
    fn rules_that_a_format_cannot_express_are_named() {
        let refused = |row: &str, form| {
            let text = format!("RuleID: 0\nRuleIDLength: 8\nfields: [{{ {row} }}]");
            read(&text).to_json(form).unwrap_err().to_string()
        };
        let cases = [
            (
                "FID: IPV6.DST, MO: ignore, CDA: value-sent",
                RuleForm::Rfc9363,
                "IPV6.DST: RFC 9363 cannot express this field",
            ),
            (
                "FID: IPV6.DSCP, MO: ignore, CDA: value-sent",
                RuleForm::OpenSchc,
                "IPV6.DSCP: OpenSCHC cannot express this field",
            ),
            (
                "FID: IPV6.FL, MO: ignore, CDA: generated",
                RuleForm::Rfc9363,
                "IPV6.FL: RFC 9363 cannot express compute-generated",
            ),
            (
                "FID: IPV6.FL, MO: ignore, CDA: compute",
                RuleForm::OpenSchc,
                "IPV6.FL: OpenSCHC cannot express compute-lower",
            ),
        ];
        for (row, form, message) in cases {
            assert_eq!(refused(row, form), message);
        }
        let unnumbered = read("[{ FID: IPV6.VER, MO: ignore, CDA: value-sent }]");
        assert!(unnumbered.to_json(RuleForm::OpenSchc).unwrap_err().to_string().contains("RuleID"));
    }

    #[test]
    fn unsupported_rules_of_other_programs_are_named() {
        let refused = |text: &str| parse(Path::new("f"), text).unwrap_err().to_string();
        let fragmentation = r#"[{"RuleID": 1, "RuleIDLength": 3, "Fragmentation": {"FRMode": "NoAck"}}]"#;
        assert_eq!(refused(fragmentation), "f:1:52: Fragmentation: a fragmentation rule cannot be imported");
        let device = r#"[{"RuleID": 1, "RuleIDLength": 3, "Compression": [{"FID": "IPV6.DEV_IID", "TV": "::1", "MO": "equal", "CDA": "DEVIID"}]}]"#;
        assert!(refused(device).ends_with("CDA: `DEVIID` is not a valid value"), "{}", refused(device));
        let coap = r#"[{"RuleID": 1, "RuleIDLength": 3, "Compression": [{"FID": "COAP.VER", "TV": 1, "MO": "equal", "CDA": "not-sent"}]}]"#;
        assert!(refused(coap).ends_with("FID: `COAP.VER` is not a known field"), "{}", refused(coap));
        let yang = r#"{"ietf-schc:schc": {"rule": [{"rule-id-value": 0, "rule-id-length": 8, "rule-nature": "ietf-schc:nature-fragmentation"}]}}"#;
        assert!(refused(yang).contains("rule-nature: `nature-fragmentation` cannot be imported"), "{}", refused(yang));
    }

    /// Values as examples/datamodel/rules.json of OpenSCHC has them: integers, right-aligned.
    #[test]
    fn values_of_another_writer_are_read() {
        let text = r#"{"ietf-schc:schc": {"rule": [{"rule-id-value": 5, "rule-id-length": 3, "rule-nature": "ietf-schc:nature-compression", "entry": [
            {"field-id": "ietf-schc:fid-ipv6-flowlabel", "field-length": 20, "field-position": 1, "direction-indicator": "ietf-schc:di-bidirectional",
             "matching-operator": "ietf-schc:mo-ignore", "comp-decomp-action": "ietf-schc:cda-not-sent", "target-value": [{"index": 0, "value": "AjRW"}]},
            {"field-id": "fid-udp-dev-port", "field-length": 16, "field-position": 1, "direction-indicator": "di-up",
             "matching-operator": "mo-msb", "matching-operator-value": [{"index": 0, "value": "DA=="}], "comp-decomp-action": "cda-lsb",
             "target-value": [{"index": 0, "value": "FjA="}]}]}]}}"#;
        let wanted = "RuleID: 5\nRuleIDLength: 3\nfields:
  - { FID: IPV6.FL, TV: 0x23456, MO: ignore, CDA: not-sent }
  - { FID: UDP.DEV_PORT, DI: Up, TV: 5680, MO: MSB, MO.VAL: 12, CDA: LSB }";
        assert_eq!(read(text), read(wanted));
    }
}
