//! Rules in the YANG data model of RFC 9363, in its JSON form (RFC 7951).

use std::path::Path;

use serde::Serialize;

use super::rule_set::{NumberedRule, RuleId};
use crate::error::Error;
use crate::files::native::fields::{Entry, Fields};
use crate::files::native::keys::items;
use crate::files::native::rule_table::MAX_ROWS;
use crate::files::native::yaml::Node;
use crate::files::values::{ValueError, byte, number, shown, value_error};
use crate::schc::fields::*;
use crate::schc::{Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Rule, Target};

/// The top-level container.
pub(crate) const ROOT: &str = "ietf-schc:schc";

/// Identities of fields, RFC 9363 §6.
const FIELD_IDENTITIES: [(&str, FieldId); 16] = [
    ("fid-ipv6-version", IPV6_VER),
    ("fid-ipv6-trafficclass", IPV6_TC),
    ("fid-ipv6-trafficclass-ds", IPV6_DSCP),
    ("fid-ipv6-trafficclass-ecn", IPV6_ECN),
    ("fid-ipv6-flowlabel", IPV6_FL),
    ("fid-ipv6-payload-length", IPV6_LEN),
    ("fid-ipv6-nextheader", IPV6_NXT),
    ("fid-ipv6-hoplimit", IPV6_HOP_LMT),
    ("fid-ipv6-devprefix", IPV6_DEV_PREFIX),
    ("fid-ipv6-deviid", IPV6_DEV_IID),
    ("fid-ipv6-appprefix", IPV6_APP_PREFIX),
    ("fid-ipv6-appiid", IPV6_APP_IID),
    ("fid-udp-dev-port", UDP_DEV_PORT),
    ("fid-udp-app-port", UDP_APP_PORT),
    ("fid-udp-length", UDP_LEN),
    ("fid-udp-checksum", UDP_CKSUM),
];
const DIRECTIONS: [(&str, Direction); 3] =
    [("di-bidirectional", Direction::Both), ("di-up", Direction::Up), ("di-down", Direction::Down)];
const OPERATORS: [(&str, Matching); 4] = [
    ("mo-equal", Matching::Equal),
    ("mo-ignore", Matching::Ignore),
    ("mo-msb", Matching::Msb(0)),
    ("mo-match-mapping", Matching::MatchMapping),
];
/// `None` is `cda-compute`: the field determines the computation.
const ACTIONS: [(&str, Option<Action>); 5] = [
    ("cda-not-sent", Some(Action::NotSent)),
    ("cda-value-sent", Some(Action::ValueSent)),
    ("cda-mapping-sent", Some(Action::MappingSent)),
    ("cda-lsb", Some(Action::Lsb)),
    ("cda-compute", None),
];
const VARIABLE: &str = "fl-variable";
const COMPRESSION: &str = "nature-compression";

/// Reads the document `root`.
pub(crate) fn rules(path: &Path, root: &Node) -> Result<Vec<NumberedRule>, Error> {
    let mut fields = Fields::new(path, "a document of RFC 9363", root)?;
    let Some(container) = fields.entry(ROOT) else { return Err(fields.missing(ROOT, "add it")) };
    fields.finish()?;
    let mut fields = Fields::new(path, "ietf-schc:schc", container.node)?;
    let Some(list) = fields.entry("rule") else { return Err(fields.missing("rule", "add a list of rules")) };
    fields.finish()?;
    let rules = items(path, "rule", list.node)?.iter().map(|node| rule(path, node)).collect::<Result<Vec<_>, _>>()?;
    match rules.is_empty() {
        true => Err(list.node.place.error(path, "no rule in it", "add a rule")),
        false => Ok(rules),
    }
}

fn rule(path: &Path, node: &Node) -> Result<NumberedRule, Error> {
    let mut fields = Fields::new(path, "a rule", node)?;
    let help = "RFC 9363 §5 requires it";
    let value = fields.required("rule-id-value", help, |word| number(word, 0..=u64::from(u32::MAX)))? as u32;
    let bits = fields.required("rule-id-length", help, |word| byte(word, 0..=32))?;
    fields.required("rule-nature", help, |word| match bare(word) {
        COMPRESSION => Ok(()),
        other => Err(value_error(format!("{} cannot be imported", shown(other)), "only nature-compression can")),
    })?;
    let Some(list) = fields.entry("entry") else { return Err(fields.missing("entry", "add the fields of the rule")) };
    fields.finish()?;
    let rows = items(path, "entry", list.node)?.iter().map(|node| entry(path, node)).collect::<Result<Vec<_>, _>>()?;
    if rows.len() > MAX_ROWS {
        let problem = format!("entry: more than {MAX_ROWS} rows");
        return Err(list.node.place.error(path, problem, "no header has so many fields"));
    }
    if rows.is_empty() {
        return Err(list.node.place.error(path, "entry: the rule has no rows", "add the fields of the rule"));
    }
    if u64::from(value) >> bits != 0 {
        let problem = format!("rule-id-value: longer than {bits} bits");
        return Err(node.place.error(path, problem, "correct `rule-id-length`"));
    }
    Ok(NumberedRule { id: Some(RuleId { value, bits }), rule: Rule { fields: rows } })
}

fn entry(path: &Path, node: &Node) -> Result<FieldDescriptor, Error> {
    let mut fields = Fields::new(path, "an entry", node)?;
    let help = "RFC 9363 §5 requires it";
    let fid = fields.required("field-id", help, |word| identity(word, &FIELD_IDENTITIES))?;
    let length = fields.required("field-length", help, |word| match bare(word) {
        VARIABLE => Ok(FieldLength::Variable),
        _ => number(word, 1..=128).map(|bits| FieldLength::Fixed(bits as u16)),
    })?;
    let position = fields.required("field-position", help, |word| byte(word, 0..=255))?;
    let direction = fields.required("direction-indicator", help, |word| identity(word, &DIRECTIONS))?;
    let matching = fields.required("matching-operator", help, |word| identity(word, &OPERATORS))?;
    let action = fields.required("comp-decomp-action", help, |word| {
        let action = identity(word, &ACTIONS)?.or(Compute::of(fid).map(Action::Compute));
        action.ok_or_else(|| value_error(format!("{} cannot be computed", fid.name), "send it, or give its value"))
    })?;
    let mut values = |name| match fields.entry(name) {
        Some(entry) => binaries(path, entry),
        None => Ok(vec![]),
    };
    let targets = values("target-value")?;
    let arguments = values("matching-operator-value")?;
    if !values("comp-decomp-action-value")?.is_empty() {
        let help = "none of the actions of RFC 8724 has one";
        return Err(fields.place().error(path, "comp-decomp-action-value: cannot be imported", help));
    }
    let wrong = |problem: String| {
        let help = "see RFC 8724 §7.3 and RFC 9363 §5";
        fields.place().error(path, format!("{}: {problem}", fid.name), help)
    };
    let matching = match (matching, arguments.as_slice()) {
        (Matching::Msb(_), [bits @ 0..=128]) => Matching::Msb(*bits as u16),
        (Matching::Msb(_), _) => return Err(wrong("mo-msb needs one matching-operator-value of 0 to 128".into())),
        (matching, []) => matching,
        _ => return Err(wrong("matching-operator-value requires mo-msb".into())),
    };
    let target = match (matching, targets.as_slice()) {
        (_, []) => Target::Empty,
        (Matching::MatchMapping, _) => Target::List(targets),
        (_, [value]) => Target::Value(*value),
        _ => return Err(wrong("several target values without mo-match-mapping".into())),
    };
    let row = FieldDescriptor { fid, length, position, direction, target, matching, action };
    row.check().map_err(|problem| wrong(problem.into()))?;
    fields.finish()?;
    Ok(row)
}

/// The part of an identity after the name of its module (RFC 7951 §6.8).
fn bare(word: &str) -> &str {
    word.strip_prefix("ietf-schc:").unwrap_or(word)
}

fn identity<T: Copy>(word: &str, known: &[(&'static str, T)]) -> Result<T, ValueError> {
    let found = known.iter().find(|(name, _)| *name == bare(word));
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        value_error(format!("{} cannot be imported", shown(word)), format!("known: {}", names.join(", ")))
    })
}

/// The integers of a list of `tv-struct`, by their index from 0.
fn binaries(path: &Path, list: Entry) -> Result<Vec<u128>, Error> {
    let mut values = vec![];
    for node in items(path, list.name, list.node)? {
        let mut fields = Fields::new(path, "a value", node)?;
        let index = fields.required("index", "RFC 9363 §5 requires it", |word| number(word, 0..=65_535))?;
        let value = fields.required("value", "RFC 9363 §5 requires it", |word| {
            let bytes =
                base64_bytes(word).ok_or_else(|| value_error("not base64", "write bytes in base64 (RFC 4648 §4)"))?;
            let digits = bytes.iter().skip_while(|byte| **byte == 0);
            if digits.clone().count() > 16 {
                return Err(value_error("longer than 128 bits", "only fields of up to 128 bits can be imported"));
            }
            Ok(digits.fold(0u128, |value, byte| value << 8 | u128::from(*byte)))
        })?;
        fields.finish()?;
        values.push((index, value));
    }
    values.sort_by_key(|(index, _)| *index);
    if let Some((_, (index, _))) = (0u64..).zip(&values).find(|(wanted, (index, _))| wanted != index) {
        let help = "the indexes of a list count from 0 without gaps";
        return Err(list.node.place.error(path, format!("{}: index {index} is out of order", list.name), help));
    }
    Ok(values.into_iter().map(|(_, value)| value).collect())
}

/// The whole document.
#[derive(Serialize)]
pub(crate) struct Document {
    #[serde(rename = "ietf-schc:schc")]
    schc: Container,
}

#[derive(Serialize)]
struct Container {
    rule: Vec<RuleOut>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct RuleOut {
    rule_id_value: u32,
    rule_id_length: u8,
    rule_nature: String,
    entry: Vec<EntryOut>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct EntryOut {
    field_id: String,
    field_length: serde_json::Value,
    field_position: u8,
    direction_indicator: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    target_value: Vec<ValueOut>,
    matching_operator: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matching_operator_value: Vec<ValueOut>,
    comp_decomp_action: String,
}

#[derive(Serialize)]
struct ValueOut {
    index: usize,
    value: String,
}

/// The document of `rules`. An error names what the data model cannot express.
pub(crate) fn write(rules: &[NumberedRule]) -> Result<Document, ValueError> {
    let mut written = Vec::with_capacity(rules.len());
    for NumberedRule { id, rule } in rules {
        let id =
            id.ok_or_else(|| value_error("a rule without RuleID", "RFC 9363 needs one: add `RuleID`, `RuleIDLength`"))?;
        // The key of the list of entries, RFC 9363 §5.
        for (index, row) in rule.fields.iter().enumerate() {
            let key = |row: &FieldDescriptor| (row.fid, row.position, row.direction);
            if rule.fields.iter().take(index).any(|other| key(other) == key(row)) {
                let problem = format!("{} appears twice with the same position and direction", row.fid.name);
                return Err(value_error(problem, "RFC 9363 identifies rows by these: change the FP of the second row"));
            }
        }
        written.push(RuleOut {
            rule_id_value: id.value,
            rule_id_length: id.bits,
            rule_nature: qualified(COMPRESSION),
            entry: rule.fields.iter().map(entry_out).collect::<Result<_, _>>()?,
        });
    }
    Ok(Document { schc: Container { rule: written } })
}

fn entry_out(row: &FieldDescriptor) -> Result<EntryOut, ValueError> {
    let no_word = |what: &str| {
        value_error(
            format!("{}: RFC 9363 cannot express {what}", row.fid.name),
            "this rule cannot be exported in this format",
        )
    };
    let field = name_of(&FIELD_IDENTITIES, &row.fid).ok_or_else(|| no_word("this field"))?;
    let field_length = match row.length {
        FieldLength::Fixed(bits) => bits.into(),
        FieldLength::Variable => qualified(VARIABLE).into(),
        FieldLength::Function => return Err(no_word("its length")),
    };
    let operator = match row.matching {
        Matching::Msb(_) => Matching::Msb(0),
        other => other,
    };
    let action = match row.action {
        Action::Compute(compute) if Compute::of(row.fid) != Some(compute) => {
            return Err(no_word(row.action.name()));
        }
        Action::Compute(_) => None,
        action => Some(action),
    };
    let bits = match row.length {
        FieldLength::Fixed(bits) => usize::from(bits),
        _ => 0,
    };
    let value = |(index, value): (usize, &u128)| {
        let own = (128 - value.leading_zeros() as usize).div_ceil(8);
        let bytes = value.to_be_bytes();
        let skipped = 16usize.saturating_sub(bits.div_ceil(8).max(own));
        ValueOut { index, value: base64(bytes.get(skipped..).unwrap_or_default()) }
    };
    let targets = match &row.target {
        Target::Empty => vec![],
        Target::Value(single) => vec![value((0, single))],
        Target::List(values) => values.iter().enumerate().map(value).collect(),
    };
    let arguments = match row.matching {
        Matching::Msb(msb) => vec![ValueOut { index: 0, value: base64(&[msb as u8]) }],
        _ => vec![],
    };
    let word = |name: Option<&str>| name.map(qualified).unwrap_or_default();
    Ok(EntryOut {
        field_id: qualified(field),
        field_length,
        field_position: row.position,
        direction_indicator: word(name_of(&DIRECTIONS, &row.direction)),
        target_value: targets,
        matching_operator: word(name_of(&OPERATORS, &operator)),
        matching_operator_value: arguments,
        comp_decomp_action: word(name_of(&ACTIONS, &action)),
    })
}

fn name_of<T: PartialEq>(known: &[(&'static str, T)], wanted: &T) -> Option<&'static str> {
    known.iter().find(|(_, value)| value == wanted).map(|(name, _)| *name)
}

fn qualified(name: &str) -> String {
    format!("ietf-schc:{name}")
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = ALPHABET.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if place <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn base64_bytes(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let digits = text.strip_suffix("==").or(text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0u32);
    for letter in digits.bytes() {
        let digit = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 6 | digit as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    // The remaining bits are padding and must be 0.
    (bits == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10.
    #[test]
    fn base64_examples_of_rfc_4648() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
            assert_eq!(base64_bytes(encoded).unwrap(), text.as_bytes());
        }
        assert!(["Zg=", "Zh==", "Z===", "Z g="].into_iter().all(|wrong| base64_bytes(wrong).is_none()));
    }
}
