//! The JSON Schemas (draft 2020-12) of rule and key files. They use the tables of the readers where possible.
//!
//! The reader checks more than the schema: for example, conditions on two keys, such as the ends of an address range.

use serde_json::{Map, Value, json};

use crate::cipher::{INTEGS, SUITES};
use crate::files::native::rule_table::{ACTIONS, DIRECTIONS, FUNCTION, OPERATORS, ROW_KEYS, VARIABLE};
use crate::schc::fields::FIELDS;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaOf {
    /// Rule files: contexts, or rules outside contexts.
    Rules,
    /// Key files.
    Keys,
}

/// The schema of a kind of file, with a line feed at the end.
pub fn schema(of: SchemaOf) -> String {
    let (title, one_of) = match of {
        SchemaOf::Rules => (
            "dietesp rule file",
            vec![file(), json!({"$ref": "#/$defs/rows"}), json!({"$ref": "#/$defs/rule"}), rule_list(), rule_set()],
        ),
        SchemaOf::Keys => ("dietesp key file", vec![file()]),
    };
    let mut definitions = json!({ "sa": sa(), "link_key": link_key(), "context": context() });
    for (name, value) in [
        ("row", row()),
        ("rows", json!({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/row"}})),
        ("rule", rule()),
        ("value", json!({"type": ["string", "integer"]})),
        ("hex", json!({"type": ["string", "integer"], "pattern": "^(0[xX])?[0-9a-fA-F :_]+$", "minimum": 0})),
        ("address", json!({"type": "string", "pattern": "^[0-9a-fA-F:.]+$"})),
        ("prefix", json!({"type": "string", "pattern": "^[0-9a-fA-F:.]+(/ *[0-9]{1,3})?$"})),
        (
            "selector",
            json!({"type": "string", "pattern": format!("^([0-9a-fA-F:.]+(/ *[0-9]{{1,3}})?|{}|[*])$", any_case("any"))}),
        ),
    ] {
        insert(&mut definitions, name, value);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "anyOf": one_of,
        "$defs": definitions,
    });
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value);
    }
}

/// An object without other keys.
fn object(required: &[&str], properties: Vec<(&str, Value)>) -> Value {
    let properties: Map<String, Value> = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// One file may hold secrets and contexts.
fn file() -> Value {
    let list = |of: &str| json!({ "type": ["array", "null"], "items": { "$ref": format!("#/$defs/{of}") } });
    let lowpan = json!({
        "type": ["object", "null"],
        "patternProperties": { "^(0[xX])?[0-9a-fA-F]+$": { "$ref": "#/$defs/prefix" } },
        "additionalProperties": false,
    });
    let mut file = object(
        &[],
        vec![
            ("sas", list("sa")),
            ("link_keys", list("link_key")),
            ("contexts", list("context")),
            ("lowpan_contexts", lowpan),
        ],
    );
    insert(&mut file, "minProperties", 1.into());
    file
}

/// Numbers may be written in decimal, or in hexadecimal as a string.
fn number(most: u64) -> Value {
    json!({ "type": ["integer", "string"], "minimum": 0, "maximum": most, "pattern": "^([0-9]+|0[xX][0-9a-fA-F]+)$" })
}

/// Words that are compared case-insensitively.
fn words<'w>(words: impl IntoIterator<Item = &'w str>) -> Value {
    let words: Vec<&str> = words.into_iter().collect();
    let pattern: Vec<String> = words.iter().map(|word| any_case(word)).collect();
    json!({ "type": ["string"], "pattern": format!("^({})$", pattern.join("|")), "examples": words })
}

/// A regular expression (ECMA-262) that matches `word` in any case, because JSON Schema has no flag for it.
fn any_case(word: &str) -> String {
    let letter = |c: char| match c {
        c if c.is_ascii_alphabetic() => format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()),
        '.' | '(' | ')' | '*' | '+' => format!("[{c}]"),
        c => c.to_string(),
    };
    word.chars().map(letter).collect()
}

fn boolean() -> Value {
    let mut value = words(["true", "false", "yes", "no", "on", "off"]);
    insert(&mut value, "type", json!(["boolean", "string"]));
    value
}

fn sa() -> Value {
    let integs = INTEGS.iter().filter(|integ| integ.hash.is_some()).map(|integ| integ.name);
    object(
        &["spi", "encr"],
        vec![
            ("name", json!({"$ref": "#/$defs/value"})),
            ("spi", number(u32::MAX.into())),
            ("src", json!({"$ref": "#/$defs/selector"})),
            ("dst", json!({"$ref": "#/$defs/selector"})),
            ("encr", words(SUITES.iter().map(|suite| suite.name))),
            ("key", json!({"$ref": "#/$defs/hex"})),
            ("salt", json!({"$ref": "#/$defs/hex"})),
            ("integ", words(integs.chain(["NONE"]))),
            ("integ_key", json!({"$ref": "#/$defs/hex"})),
            ("esn", boolean()),
            ("link_src", json!({"$ref": "#/$defs/hex"})),
            ("link_dst", json!({"$ref": "#/$defs/hex"})),
        ],
    )
}

fn link_key() -> Value {
    let hex = json!({"$ref": "#/$defs/hex"});
    object(
        &["eui64", "mode", "key"],
        vec![("eui64", hex.clone()), ("short", hex.clone()), ("mode", number(3)), ("index", number(255)), ("key", hex)],
    )
}

fn rule() -> Value {
    object(
        &["fields"],
        vec![
            ("RuleID", number(u32::MAX.into())),
            ("RuleIDLength", number(32)),
            ("fields", json!({"$ref": "#/$defs/rows"})),
        ],
    )
}

fn rule_list() -> Value {
    json!({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/rule"}})
}

fn rule_set() -> Value {
    object(&["SoR"], vec![("DeviceID", json!({"$ref": "#/$defs/value"})), ("SoR", rule_list())])
}

fn row() -> Value {
    let value = json!({"$ref": "#/$defs/value"});
    let bits = |least: u64| json!({ "type": ["integer", "string"], "minimum": least, "maximum": 128 });
    let of = |key: &str| match key {
        "FID" => words(FIELDS.iter().map(|field| field.name)),
        "FL" => {
            let mut length = bits(1);
            insert(
                &mut length,
                "pattern",
                format!("^([0-9]+|{}|{}|{})$", any_case(VARIABLE), any_case("variable"), any_case(FUNCTION)).into(),
            );
            length
        }
        "FP" => number(255),
        "DI" => words(DIRECTIONS.iter().map(|(name, _)| *name)),
        "TV" => json!({"anyOf": [{"type": "null"}, value, {"type": "array", "minItems": 1, "items": value}]}),
        "MO" => {
            let names: Vec<String> = OPERATORS.iter().map(|(name, _)| any_case(name)).collect();
            let msb = any_case("MSB");
            json!({
                "type": "string",
                "pattern": format!("^({}|{msb}[(] *[0-9]{{1,3}} *[)])$", names.join("|")),
                "examples": OPERATORS.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            })
        }
        "MO.VAL" => json!({"anyOf": [{"type": "null"}, bits(0)]}),
        _ => words(ACTIONS.iter().map(|(name, _)| *name)),
    };
    object(&["FID", "MO", "CDA"], ROW_KEYS.into_iter().map(|key| (key, of(key))).collect())
}

const DIALECTS: [&str; 4] = ["ietf", "ehc", "6lo", "custom"];

fn context() -> Value {
    let dialects: Vec<Value> = DIALECTS.iter().map(|dialect| of_dialect(dialect)).collect();
    json!({ "type": "object", "anyOf": dialects })
}

/// A context of one dialect.
fn of_dialect(dialect: &str) -> Value {
    let mut properties = common();
    properties.extend(match dialect {
        "ietf" => ietf(),
        "ehc" => ehc(),
        "6lo" => sixlo(),
        _ => custom(),
    });
    properties.push(("dialect", words([dialect])));
    let mut required = vec!["ipsec_mode"];
    match dialect {
        "ietf" => {}
        "custom" => required.extend(["dialect", "rules"]),
        _ => required.push("dialect"),
    }
    let mut context = object(&required, properties);
    insert(&mut context, "oneOf", json!([{"required": ["sa"]}, {"required": ["spi"]}]));
    context
}

/// The keys that all dialects share.
fn common() -> Vec<(&'static str, Value)> {
    let reference = |name: &str| json!({"$ref": format!("#/$defs/{name}")});
    let tunnel_ip = object(&["src", "dst"], vec![("src", reference("address")), ("dst", reference("address"))]);
    let addresses =
        json!({"type": "string", "pattern": format!("^([0-9a-fA-F:.]+(/ *[0-9]{{1,3}})?|{})$", any_case("any"))});
    let ports = json!({
        "type": ["integer", "string"],
        "minimum": 0,
        "maximum": 65_535,
        "pattern": format!("^((0[xX][0-9a-fA-F]+|[0-9]+)( *- *(0[xX][0-9a-fA-F]+|[0-9]+))?|{})$", any_case("any")),
    });
    let mut keys = vec![
        ("sa", reference("value")),
        ("spi", number(u32::MAX.into())),
        ("src", reference("selector")),
        ("dst", reference("selector")),
        ("ipsec_mode", words(["Tunnel", "Transport"])),
        ("tunnel_ip", tunnel_ip),
        ("esp_sn", number(u64::MAX)),
        ("protocol", number(255)),
        ("ts_ip_version", words(["IPv4-only", "IPv6-only"])),
        ("ts_proto", json!({"type": ["integer", "string"], "minimum": 0, "maximum": 255})),
    ];
    for key in ["ts_ip_src_start", "ts_ip_src_end", "ts_ip_dst_start", "ts_ip_dst_end"] {
        keys.push((key, reference("address")));
    }
    for key in ["ts_port_src_start", "ts_port_src_end", "ts_port_dst_start", "ts_port_dst_end"] {
        keys.push((key, number(65_535)));
    }
    keys.extend([("ts_ip_src", addresses.clone()), ("ts_ip_dst", addresses)]);
    keys.extend([("ts_port_src", ports.clone()), ("ts_port_dst", ports)]);
    keys
}

fn bits(choices: &[u32]) -> Value {
    let digits: Vec<String> = choices.iter().map(u32::to_string).collect();
    let written = format!("^({}) *({}[Ss]?)?$", digits.join("|"), any_case("bit"));
    json!({ "anyOf": [{ "enum": choices }, { "type": "string", "pattern": written }] })
}

fn ietf() -> Vec<(&'static str, Value)> {
    let sent_or_lower = || words(["not_compressed", "lower"]);
    let mut yes_or_no = words(["no", "yes", "false", "true"]);
    insert(&mut yes_or_no, "type", json!(["boolean", "string"]));
    vec![
        ("iipc_profile", words(["iipc_diet-esp", "iipc_not_compressed"])),
        ("dscp_cda", words(["not_compressed", "lower", "sa"])),
        ("dscp_list", json!({"type": "array", "minItems": 1, "uniqueItems": true, "items": number(63)})),
        ("ecn_cda", sent_or_lower()),
        ("flow_label_cda", words(["not_compressed", "lower", "generated", "zero"])),
        ("alignment", alignment()),
        ("esp_trailer", words(["Mandatory", "Optional"])),
        ("esp_spi_lsb", number(32)),
        ("esp_sn_lsb", number(32)),
        ("esp_spi_sn", number(32)),
        ("rule_id", words(["elided", "one_byte"])),
        ("rule_id_value", number(255)),
        ("any_transport", words(["by_next_header", "none"])),
        ("tcp_header", words(["header_order", "ports_only", "none"])),
        ("sctp_checksum", words(["crc32c", "sent"])),
        ("udplite_coverage", words(["length", "sent"])),
        ("hop_limit_cda", sent_or_lower()),
        ("payload_length_cda", sent_or_lower()),
        ("ipv4_flags_frag", words(["sent", "df", "zero"])),
        ("trailer_counts_elided_next_header", yes_or_no),
        ("flow_label_generated", words(["hash", "zero"])),
        ("revision", revision()),
    ]
}

fn alignment() -> Value {
    bits(&[8, 16, 32, 64])
}

fn revision() -> Value {
    let mut value = words(["ietf-06", "ietf-07", "ietf-08", "ietf-09", "ietf-10", "06", "07", "08", "09", "10"]);
    insert(&mut value, "type", json!(["integer", "string"]));
    value
}

fn ehc() -> Vec<(&'static str, Value)> {
    let coverage = json!({
        "type": ["integer", "string"],
        "minimum": 8,
        "maximum": 65_535,
        "pattern": format!("^({}|{}|[0-9]+|0[xX][0-9a-fA-F]+)$", any_case("uncompressed"), any_case("Length")),
    });
    vec![
        ("esp_spi_lsb", number(4)),
        ("esp_sn_lsb", number(4)),
        ("esp_spi_sn", number(4)),
        ("esp_sn_gen", words(["incremental", "time"])),
        ("esp_sn_period", json!({"type": ["number", "string"], "exclusiveMinimum": 0, "pattern": "^[0-9.]+$"})),
        ("esp_align", bits(&[8, 16, 24, 32])),
        ("tcp_lsb", number(4)),
        ("tcp_sn", number(u32::MAX.into())),
        ("tcp_ack", number(u32::MAX.into())),
        ("tcp_options", boolean()),
        ("tcp_urgent", boolean()),
        ("udplite_coverage", coverage),
    ]
}

fn sixlo() -> Vec<(&'static str, Value)> {
    let presence = || words(["present", "removed"]);
    vec![
        ("SPI_SIZE", number(4)),
        ("SN_SIZE", number(4)),
        ("NH", presence()),
        ("PAD", presence()),
        ("ALIGN", alignment()),
    ]
}

fn custom() -> Vec<(&'static str, Value)> {
    let table = || json!({"type": ["array", "null"], "items": {"$ref": "#/$defs/row"}});
    vec![
        ("rules", object(&[], vec![("iipc", table()), ("ctec", table()), ("eec", table())])),
        ("direction", words(DIRECTIONS.iter().map(|(name, _)| *name))),
        ("alignment", alignment()),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::files::native::{rules, yaml};

    fn keys(properties: Vec<(&'static str, Value)>) -> BTreeSet<&'static str> {
        properties.into_iter().map(|(name, _)| name).collect()
    }

    /// The keys that the reader lists when it finds an unknown key.
    fn known_to_the_reader(dialect: &str, more: &str) -> BTreeSet<String> {
        let text = format!("- {{ sa: a, dialect: {dialect}, ipsec_mode: Transport, unlike_any_other: 1{more} }}");
        let node = yaml::parse(Path::new("f"), &text).unwrap().unwrap();
        let error = rules::contexts(Path::new("f"), &node).unwrap_err();
        let names = error.help().strip_prefix("known keys: ").unwrap_or_else(|| panic!("{error}: {}", error.help()));
        names.split(", ").map(str::to_owned).collect()
    }

    #[test]
    fn the_schema_has_the_keys_of_the_reader() {
        let dialects = [
            ("ietf", ietf(), ""),
            ("ehc", ehc(), ""),
            ("6lo", sixlo(), ""),
            ("custom", custom(), ", rules: { iipc: [], ctec: [], eec: [] }"),
        ];
        for (dialect, own, more) in dialects {
            let mut wanted = known_to_the_reader(dialect, more);
            // With `sa`, the reader does not ask for the addresses that belong to `spi`.
            wanted.extend(["spi", "src", "dst", "dialect"].map(str::to_owned));
            let mut found: BTreeSet<String> = keys(common()).into_iter().map(str::to_owned).collect();
            found.extend(keys(own).into_iter().map(str::to_owned));
            found.insert("dialect".to_owned());
            assert_eq!(found, wanted, "{dialect}");
        }
    }

    #[test]
    fn words_match_in_any_case() {
        assert_eq!(any_case("iipc_8"), "[Ii][Ii][Pp][Cc]_8");
    }
}
