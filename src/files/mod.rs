//! Key and rule files: YAML, and the formats of other tools. Messages name file, line and key, never a secret.

mod bind;
mod export;
mod formats;
mod import;
mod loader;
mod native;
mod overlap;
mod read;
mod values;

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::bind::bind;
pub(crate) use self::bind::split_named;
pub(crate) use self::export::entries::rule_rows;
pub use self::export::entries::{Json, context_entry, sa_entry};
pub use self::export::rule_text::RuleForm;
pub(crate) use self::export::rule_text::{length_name, target_text};
pub use self::export::schema::{SchemaOf, schema};
pub use self::import::rule_set::parse_rules;
pub(crate) use self::import::rule_set::{NumberedRule, RuleSet, load_custom_rules, load_rules};
use self::loader::Loader;
pub(crate) use self::read::FileRead;
pub(crate) use self::values::near;
use crate::context::Context;
use crate::error::Error;
use crate::ike::Secrets;
use crate::link::LinkKey;
use crate::sa::Sa;

/// The content of key and rule files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The Security Associations, in the order of the files.
    pub sas: Vec<Arc<Sa>>,
    /// The contexts, in the order of the files; see [`bind`].
    pub contexts: Vec<Context>,
    /// 6LoWPAN contexts: Context Identifier (0 to 15) to prefix and its length in bits (RFC 6282 §3.1.2).
    pub lowpan_contexts: BTreeMap<u8, (Ipv6Addr, u8)>,
    /// Keys of IEEE 802.15.4 frames.
    pub link_keys: Vec<LinkKey>,
    /// Secrets of IKE SAs. With a capture, the SAs of their children are derived from them; see
    /// [`derive`](crate::ike::derive()).
    pub ike: Secrets,
    /// Warnings, such as skipped entries: one sentence each, with file and line.
    pub warnings: Vec<String>,
}

/// Reads key and rule files; `-` is standard input. A file may hold both kinds, so it may be named under either or
/// both options: it is read once.
///
/// The content decides the format: YAML with `sas`, `link_keys`, `contexts`, `lowpan_contexts`; Wireshark's `esp_sa`;
/// output and commands of `ip xfrm`, also inside the output of libreswan's `ipsec look`; a charon log of strongSwan
/// with keys; a `setkey` file and the output of `setkey -D`; `ipsecctl -sa -k` and `ipsec.conf` of OpenBSD; secrets of
/// `tcpdump -E`; SK_d of IKE SAs and Wireshark's `ikev2_decryption_table`.
///
/// In files of other programs, entries that cannot be used are skipped with a warning. In YAML files, they are errors.
///
/// # Errors
/// A file cannot be read or used; two SAs have the same name; two SAs in YAML have the same SPI and overlapping
/// selectors.
pub fn load(key_files: &[PathBuf], rule_files: &[PathBuf]) -> Result<Loaded, Error> {
    let mut loader = Loader::default();
    let mut seen = HashSet::new();
    for path in key_files.iter().chain(rule_files) {
        if seen.insert(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())) {
            loader.add(path, read::read(path)?)?;
        }
    }
    loader.finish()
}

/// As [`load`], from files that were read.
///
/// # Errors
/// A file cannot be used, or files contradict each other.
pub(crate) fn load_read<'f>(files: impl IntoIterator<Item = &'f FileRead>) -> Result<Loaded, Error> {
    let mut loader = Loader::default();
    let mut seen = HashSet::new();
    for FileRead { path, real_path, bytes } in files {
        if real_path.as_ref().is_none_or(|real_path| seen.insert(real_path)) {
            loader.add(path, bytes.clone())?;
        }
    }
    loader.finish()
}

/// Reads the content of one key or rule file, as [`load`]; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Loaded, Error> {
    let mut loader = Loader::default();
    loader.add(path, Zeroizing::new(bytes.to_vec()))?;
    loader.finish()
}

#[cfg(test)]
mod tests;
