//! Files of rules outside contexts: a list of rows, a rule with its RuleID, or a set of rules, as this program, OpenSCHC
//! or the RFC 9363 data model in JSON (RFC 7951) write them. JSON is YAML, so one reader does.

use std::path::Path;

use super::rfc9363;
use crate::error::Error;
use crate::files::native::fields::Fields;
use crate::files::native::keys::items;
use crate::files::native::yaml::{Node, Value};
use crate::files::native::{rule_table, yaml};
use crate::files::values::{byte, number, value_error};
use crate::schc::Rule;

/// Rules of a file, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// OpenSCHC's DeviceID.
    pub device: Option<String>,
    /// The rules, at least one.
    pub rules: Vec<NumberedRule>,
}

/// A rule and its RuleID (RFC 8724 §6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedRule {
    /// The RuleID, if it has one.
    pub id: Option<RuleId>,
    /// The rule.
    pub rule: Rule,
}

/// RuleID: `value` in `bits` (0 to 32) bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleId {
    /// The value.
    pub value: u32,
    /// Its length in bits.
    pub bits: u8,
}

/// Reads a file of rules; `-` is standard input.
///
/// # Errors
/// The file cannot be read or used. The error names what the rules of this program cannot express.
pub(crate) fn load_rules(path: &Path) -> Result<RuleSet, Error> {
    read_text(path, |text| parse_rules(path, text))
}

/// Reads a file of rules, or the `iipc` rules of custom contexts, numbered from 0 in 8 bits.
///
/// # Errors
/// As [`load_rules`]; no custom context.
pub(crate) fn load_custom_rules(path: &Path) -> Result<RuleSet, Error> {
    read_text(path, |text| match yaml::parse(path, text)? {
        Some(root) if has(&root, "contexts") => Ok(RuleSet { device: None, rules: contexts(path, &root)? }),
        _ => parse_rules(path, text),
    })
}

fn read_text(path: &Path, take: impl FnOnce(&str) -> Result<RuleSet, Error>) -> Result<RuleSet, Error> {
    let bytes = crate::files::read::read(path)?;
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Error::file(path, "not UTF-8 text", "is this a rule file? If so, save it as UTF-8"))?;
    take(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// Reads the text of a file of rules, as [`load_rules`]; `path` is for messages.
///
/// # Errors
/// As [`load_rules`].
pub fn parse_rules(path: &Path, text: &str) -> Result<RuleSet, Error> {
    let Some(root) = yaml::parse(path, text)? else {
        return Err(Error::file(path, "no rule in it", "write a list of rows, see `dietesp rules schema rules`"));
    };
    let of_rules = |rules: Vec<NumberedRule>| Ok(RuleSet { device: None, rules });
    if has(&root, rfc9363::ROOT) {
        return of_rules(rfc9363::rules(path, &root)?);
    }
    if has(&root, "SoR") {
        let mut fields = Fields::new(path, "a set of rules", &root)?;
        let device = fields.optional("DeviceID", |word| Ok(word.to_owned()))?;
        let rules = fields.entry("SoR").map(|entry| rules(path, entry.node)).transpose()?.unwrap_or_default();
        fields.finish()?;
        return Ok(RuleSet { device, rules });
    }
    match &root.value {
        Value::List(nodes) if nodes.first().is_some_and(|first| has(first, "FID")) || nodes.is_empty() => {
            of_rules(vec![NumberedRule { id: None, rule: rule_table::rule(path, "a rule", &root)? }])
        }
        Value::List(_) => of_rules(rules(path, &root)?),
        _ => of_rules(vec![numbered(path, &root)?]),
    }
}

fn has(node: &Node, name: &str) -> bool {
    matches!(&node.value, Value::Map(entries) if entries.iter().any(|(key, _)| key.text == name))
}

fn rules(path: &Path, list: &Node) -> Result<Vec<NumberedRule>, Error> {
    let rules = items(path, "rules", list)?.iter().map(|node| numbered(path, node)).collect::<Result<Vec<_>, _>>()?;
    match rules.is_empty() {
        true => Err(list.place.error(path, "no rule in it", "add a rule")),
        false => Ok(rules),
    }
}

fn numbered(path: &Path, node: &Node) -> Result<NumberedRule, Error> {
    let mut fields = Fields::new(path, "a rule", node)?;
    fields.not_both("RuleID", "RuleIDValue")?;
    let entry = fields.entry("RuleID").or(fields.entry("RuleIDValue"));
    let id = match entry {
        Some(entry) => {
            let value = fields.read(entry, |word| number(word, 0..=u64::from(u32::MAX)))?;
            let bits =
                fields.required("RuleIDLength", "add the length of the RuleID in bits", |word| byte(word, 0..=32))?;
            if value >> bits != 0 {
                return Err(
                    fields.wrong(entry, value_error(format!("longer than {bits} bits"), "correct `RuleIDLength`"))
                );
            }
            Some(RuleId { value: value as u32, bits })
        }
        None => None,
    };
    for (name, what) in [("Fragmentation", "a fragmentation rule"), ("NoCompression", "a rule without compression")] {
        if let Some(entry) = fields.entry(name) {
            let help = "Diet-ESP has only compression rules: remove this rule";
            return Err(fields.wrong(entry, value_error(format!("{what} cannot be imported"), help)));
        }
    }
    fields.not_both("fields", "Compression")?;
    let Some(entry) = fields.entry("fields").or(fields.entry("Compression")) else {
        return Err(fields.missing("fields", "add `fields:` and the rows of the rule"));
    };
    let rule = rule_table::rule(path, entry.name, entry.node)?;
    fields.finish()?;
    Ok(NumberedRule { id, rule })
}

/// The `iipc` rules of custom contexts, numbered from 0 in 8 bits.
fn contexts(path: &Path, root: &Node) -> Result<Vec<NumberedRule>, Error> {
    let Value::Map(entries) = &root.value else { return Ok(vec![]) };
    let lists = entries.iter().filter(|(key, _)| key.text == "contexts").map(|(_, node)| node);
    let mut found = vec![];
    for list in lists {
        for context in items(path, "contexts", list)? {
            let iipc = child(context, "rules").and_then(|rules| child(rules, "iipc"));
            if let Some(node) = iipc {
                let id = RuleId { value: found.len() as u32 & 0xff, bits: 8 };
                found.push(NumberedRule { id: Some(id), rule: rule_table::rule(path, "iipc", node)? });
            }
        }
    }
    if found.is_empty() {
        let help =
            "only contexts of dialect `custom` hold rules of their own; `dietesp rules show` shows those of others";
        return Err(root.place.error(path, "no context has an `iipc` rule", help));
    }
    Ok(found)
}

fn child<'n, 'a>(node: &'n Node<'a>, name: &str) -> Option<&'n Node<'a>> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
        _ => None,
    }
}
