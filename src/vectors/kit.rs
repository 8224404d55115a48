//! The file format: one JSON object. Each item of its lists is on a separate line, so that kits can be compared
//! line by line.

use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::codec::Codec;
use crate::codec::overhead::sent_bits;
use crate::error::Error;
use crate::files::{Json, context_entry, rule_rows, sa_entry};
use crate::sa::table::PreparedSa;

/// The value of `format`.
const FORMAT: &str = "dietesp vectors 1";
/// The value of `test_keys`.
const TEST_KEYS: &str =
    "TEST KEYS, in the clear on purpose: whoever has this file has them. Never protect anything with them.";
/// The lists, in the order of the file.
const LISTS: [&str; 5] = ["sas", "contexts", "tables", "packets", "failures"];
/// The last member: SHA-256 of all bytes before its line.
const DIGEST: &str = "sha256";

/// The text of a kit.
pub(super) fn write(lists: [&[Json]; 5]) -> Result<String, Error> {
    let wrong = |error: serde_json::Error| Error::usage(error.to_string(), "");
    let mut text = format!("{{\n\"format\": {},\n\"test_keys\": {},\n", Value::from(FORMAT), Value::from(TEST_KEYS));
    for (name, items) in LISTS.iter().zip(lists) {
        let lines = items.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(wrong)?;
        text += &format!("\"{name}\": [\n{}\n],\n", lines.join(",\n"));
    }
    text += &format!("\"{DIGEST}\": \"{}\"\n}}\n", hex::encode(Sha256::digest(text.as_bytes())));
    Ok(text)
}

/// The lines of one SA: key file entry, context and rule tables.
pub(super) fn lines_of(entry: &PreparedSa) -> Result<[Json; 3], Error> {
    let name = &entry.sa.name;
    let context = entry.context.as_ref().map_or(Value::Null.into(), |context| context_entry(context, name));
    Ok([sa_entry(&entry.sa)?, context, tables(entry)])
}

fn tables(entry: &PreparedSa) -> Json {
    let tables = entry.context.as_ref().map(|context| Codec::tables(context, entry.cipher().block()));
    let rule = |table: &crate::codec::NamedRule| {
        let sent = table.rule.fields.iter().map(|row| sent_bits(row).map_or(Value::Null, Value::from).into());
        Json::Object(vec![
            ("name", table.name.into()),
            ("fields", rule_rows(&table.rule)),
            ("sent_bits", Json::List(sent.collect())),
        ])
    };
    let rules = tables.unwrap_or_default().iter().map(rule).collect();
    Json::Object(vec![("sa", entry.sa.name.as_str().into()), ("rules", Json::List(rules))])
}

/// A kit that was parsed. Its values are not checked yet.
pub(super) struct Kit {
    /// `sas` and `contexts`, as a native file.
    pub file: String,
    /// The lists, in the order of the file.
    pub lists: [Vec<Value>; 5],
    /// `sha256` as found in the file, and as computed.
    pub digest: [String; 2],
}

/// Parses the text of a kit.
pub(super) fn read(path: &Path, text: &str) -> Result<Kit, Error> {
    const HELP: &str = "check that `dietesp vectors make` wrote this file";
    let wrong = |problem: String| Error::file(path, problem, HELP);
    let mut root: Value = serde_json::from_str(text).map_err(|error| {
        // The line may contain a key, so the message shows only its number.
        Error::line(path, error.line() as u64, "not JSON, or truncated", HELP)
    })?;
    let members = root.as_object_mut().ok_or_else(|| wrong("not a JSON object".to_owned()))?;
    let mut take = |name: &str| members.remove(name).ok_or_else(|| wrong(format!("`{name}` is missing")));
    if take("format")? != FORMAT {
        return Err(wrong(format!("`format` is not `{FORMAT}`")));
    }
    if take("test_keys")? != TEST_KEYS {
        return Err(wrong(format!("`test_keys` does not say: {TEST_KEYS}")));
    }
    let mut lists: [Vec<Value>; 5] = Default::default();
    for (list, name) in lists.iter_mut().zip(LISTS) {
        match take(name)? {
            Value::Array(items) => *list = items,
            _ => return Err(wrong(format!("`{name}` is not a list"))),
        }
    }
    let stated = take(DIGEST)?;
    if let Some(other) = members.keys().next() {
        return Err(wrong(format!("{} is not a member of a kit", Value::from(other.as_str()))));
    }
    let front = text.find(&format!("\n\"{DIGEST}\":")).and_then(|at| text.get(..=at)).unwrap_or(text);
    let digest = [stated.as_str().unwrap_or_default().to_owned(), hex::encode(Sha256::digest(front))];
    let [sas, contexts, ..] = &lists;
    let file = serde_json::json!({ "sas": sas, "contexts": contexts }).to_string();
    Ok(Kit { file, lists, digest })
}

/// Bytes as the kit writes them.
pub(super) fn hex_of(bytes: &[u8]) -> Json {
    hex::encode(bytes).into()
}
