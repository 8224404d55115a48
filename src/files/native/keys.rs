//! Native key files: `sas` and `link_keys`.

use std::path::Path;
use std::sync::Arc;

use super::fields::{Entry, Fields};
use super::yaml::{Node, Value};
use crate::cipher::{INTEGS, Integ, IntegKey, KeyError, Keys, Part, SUITES, Suite};
use crate::context::Origin;
use crate::error::Error;
use crate::files::values::{
    ValueError, boolean, byte, hex, link_address, near, selector, shown, spi, spi_name, value_error,
};
use crate::link::LinkKey;
use crate::net::{LinkAddress, Selector};
use crate::sa::Sa;

/// An SA, and whether its name was given.
pub(crate) type NamedSa = (Arc<Sa>, bool);

/// Reads the items of `sas`.
pub(crate) fn sas(path: &Path, list: &Node) -> Result<Vec<NamedSa>, Error> {
    let path: Arc<Path> = path.into();
    let items = items(&path, "sas", list)?;
    let mut sas = Vec::with_capacity(items.len());
    for node in items {
        sas.push(sa(&path, node)?);
    }
    Ok(sas)
}

/// The items of the list `node`. An empty value is an empty list.
pub(crate) fn items<'n, 'a>(path: &Path, name: &str, node: &'n Node<'a>) -> Result<&'n [Node<'a>], Error> {
    match &node.value {
        Value::List(items) => Ok(items),
        _ if node.is_null() => Ok(&[]),
        _ => Err(node.place.error(path, format!("{name}: not a list"), "begin each entry with `- `")),
    }
}

/// Reads one item of `sas`.
pub(crate) fn sa(path: &Arc<Path>, node: &Node) -> Result<NamedSa, Error> {
    let mut fields = Fields::new(path, "an SA", node)?;
    let origin = Origin { path: path.clone(), line: u64::from(fields.place().line) };
    let given_name = fields.optional("name", name)?;
    let spi = fields.required("spi", "add `spi: 0x` and 8 hex digits", spi)?;
    let src = fields.optional("src", selector)?.unwrap_or(Selector::Any);
    let dst_entry = fields.entry("dst");
    let dst = dst_entry.map(|entry| fields.read(entry, selector)).transpose()?.unwrap_or(Selector::Any);
    if let Some(entry) = dst_entry.filter(|_| !src.is_same_version_as(dst)) {
        return Err(
            fields.wrong(entry, value_error("another IP version than `src`", "both belong to one outer header"))
        );
    }
    let keys = keys(&mut fields)?;
    let esn = fields.optional("esn", boolean)?.unwrap_or(false);
    let link_src = fields.optional("link_src", link_address)?;
    let link_dst = fields.optional("link_dst", link_address)?;
    fields.finish()?;
    let named = given_name.is_some();
    let name = given_name.unwrap_or_else(|| spi_name(spi));
    let spi = Some(spi);
    let sa = Sa { name, spi, src, dst, link_src, link_dst, keys, esn, sn_hint: None, read_as_ccm: false, origin };
    Ok((Arc::new(sa), named))
}

/// `encr`, `key`, `salt`, `integ`, `integ_key`.
fn keys(fields: &mut Fields) -> Result<Keys, Error> {
    let suite = fields.required("encr", "add `encr:` and the cipher, such as ENCR_AES_CCM_8", cipher)?;
    let entries = ["key", "salt", "integ", "integ_key"].map(|name| fields.entry(name));
    let [key_entry, salt_entry, integ_entry, integ_key_entry] = entries;
    let bytes = |entry: Option<Entry>| entry.map(|entry| fields.read(entry, hex)).transpose();
    let key = bytes(key_entry)?;
    let salt = bytes(salt_entry)?;
    let integ_key = bytes(integ_key_entry)?;
    let integ = match (integ_entry.map(|entry| fields.read(entry, integrity)).transpose()?, integ_key) {
        (Some(Some(integ)), key) => IntegKey::Algorithm(integ, key.unwrap_or_default()),
        (Some(None), None) => IntegKey::None,
        (None, None) => IntegKey::Missing,
        (_, Some(_)) => {
            let help = "add `integ:` and the algorithm, or remove `integ_key`";
            return Err(fields.at(integ_key_entry).error(fields.path(), "`integ_key` requires an algorithm", help));
        }
    };
    Keys::from_parts(suite, key.unwrap_or_default(), salt, integ).map_err(|error| {
        let entry = match &error {
            KeyError::Length { part: Part::Key, .. } => key_entry,
            KeyError::Length { part: Part::Salt, .. } => salt_entry,
            KeyError::Length { part: Part::IntegKey, .. } => integ_key_entry,
            KeyError::IntegRefused { .. } => integ_entry,
            _ => None,
        };
        if let KeyError::Length { part, algorithm, expected, got: 0 } = &error {
            let lens: Vec<String> = expected.iter().map(usize::to_string).collect();
            let or = if *part == Part::Salt { ", or append it to `key`" } else { "" };
            let help = format!("{algorithm} needs {} bytes: add `{}:`{or}", lens.join(" or "), part.name());
            return fields.missing(part.name(), &help);
        }
        let help = match &error {
            KeyError::IntegMissing { .. } => {
                "add `integ:` with an algorithm, such as AUTH_HMAC_SHA2_256_128, or with NONE"
            }
            _ => "compare `encr`, `integ` and the secrets with the peers' configuration",
        };
        fields.at(entry).error(fields.path(), error.to_string(), help)
    })
}

/// Names are printed to terminals and in tables.
fn name(word: &str) -> Result<String, ValueError> {
    match word.chars().any(char::is_control) {
        true => Err(value_error("a control character in a name", "write letters, digits, spaces and signs")),
        false => Ok(word.to_owned()),
    }
}

fn cipher(word: &str) -> Result<&'static Suite, ValueError> {
    Suite::by_name(word).ok_or_else(|| unknown(word, "cipher", SUITES.iter().map(|suite| suite.name).collect()))
}

/// `None` for `NONE`.
fn integrity(word: &str) -> Result<Option<&'static Integ>, ValueError> {
    if word.eq_ignore_ascii_case("NONE") {
        return Ok(None);
    }
    // Only files of Wireshark can name algorithms that are not checked.
    match Integ::by_name(word).filter(|integ| integ.hash.is_some()) {
        Some(integ) => Ok(Some(integ)),
        None => {
            let checked = INTEGS.iter().filter(|integ| integ.hash.is_some()).map(|integ| integ.name);
            Err(unknown(word, "integrity algorithm", checked.chain(["NONE"]).collect()))
        }
    }
}

fn unknown(word: &str, kind: &str, names: Vec<&'static str>) -> ValueError {
    let help = match near(word, names.iter().copied()).first() {
        Some(name) => format!("did you mean {name}?"),
        None => format!("one of: {}", names.join(", ")),
    };
    value_error(format!("{} is not a known {kind}", shown(word)), help)
}

/// Reads the items of `link_keys` (IEEE 802.15.4 §9.3).
pub(crate) fn link_keys(path: &Path, list: &Node) -> Result<Vec<LinkKey>, Error> {
    items(path, "link_keys", list)?.iter().map(|node| link_key(path, node)).collect()
}

fn link_key(path: &Path, node: &Node) -> Result<LinkKey, Error> {
    let mut fields = Fields::new(path, "a link key", node)?;
    let origin = Origin { path: path.into(), line: u64::from(fields.place().line) };
    let eui64 = fields.required("eui64", "add `eui64:`, the sender's extended address of 8 bytes", |word| {
        <[u8; 8]>::try_from(hex(word)?.expose()).map_err(|_| value_error("not 8 bytes", "write 16 hex digits"))
    })?;
    let short = fields.optional("short", |word| match link_address(word)? {
        LinkAddress::Short(short) => Ok(short),
        _ => Err(value_error("not 2 bytes", "write `0x` and 4 hex digits")),
    })?;
    let mode = fields.required("mode", "add `mode:`, the Key Identifier Mode 0 to 3", |word| byte(word, 0..=3))?;
    let index = fields.optional("index", |word| byte(word, 0..=255))?;
    if index.is_none() && mode != 0 {
        return Err(fields.missing("index", "add `index:`, the Key Index of the auxiliary security header"));
    }
    let key = fields.required("key", "add `key:` of 16 bytes", |word| {
        let key = hex(word)?;
        if key.len() != 16 {
            let problem = format!("AES-CCM* of 802.15.4 needs 16 bytes, not {}", key.len());
            return Err(value_error(problem, "write 32 hex digits"));
        }
        Ok(key)
    })?;
    fields.finish()?;
    Ok(LinkKey { eui64, short, mode, index, key, origin })
}
