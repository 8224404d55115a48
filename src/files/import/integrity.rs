//! Integrity algorithms as the files of other programs give them.

use std::sync::Arc;

use super::skipped::Skipped;
use crate::cipher::{Integ, IntegKey};
use crate::sa::Sa;
use crate::secret::Secret;

/// An integrity algorithm of a file.
pub(crate) struct Integrity<'t> {
    /// As [`shown`](crate::files::values::shown).
    pub(crate) shown_name: String,
    /// The IANA name; empty if the algorithm is not supported.
    pub(crate) iana: &'t str,
    /// Length of the ICV in bytes, if the file states it or the program has a default.
    pub(crate) icv_len: Option<usize>,
    pub(crate) key: Secret,
}

impl Integrity<'_> {
    /// The key for this algorithm. If only the length of the ICV is known, packets are decrypted without checking it,
    /// and a note is added.
    ///
    /// # Errors
    /// The length of the ICV is not known either.
    pub(crate) fn key(self, line: u64, skipped: &mut Skipped) -> Result<IntegKey, String> {
        let Integrity { shown_name, iana, icv_len, key } = self;
        let known = Integ::by_name(iana);
        if let Some(integ) = known.filter(|_| !key.is_empty()) {
            return Ok(IntegKey::Algorithm(integ, key));
        }
        let icv_len = known.map(|integ| integ.icv_len).or(icv_len);
        let Some(unchecked) = icv_len.and_then(Integ::unchecked) else {
            return Err(format!("authentication {shown_name} is not supported"));
        };
        let why = if known.is_some() { "has no key in this file" } else { "is not supported" };
        let len = unchecked.icv_len;
        skipped.note(line, format_args!("authentication {shown_name} {why}: its ICV of {len} bytes is not checked"));
        Ok(IntegKey::Algorithm(unchecked, Secret::default()))
    }
}

/// A warning for each file with integrity keys of a length that IKE does not produce. They may be valid (RFC 2104) or
/// mistyped.
pub(crate) fn odd_keys(sas: &[Arc<Sa>]) -> Vec<String> {
    let is_odd =
        |sa: &&Arc<Sa>| sa.keys.integ().is_some_and(|(integ, key)| integ.hash.is_some() && key.len() != integ.key_len);
    // SAs of a file are adjacent.
    let of_files = sas.chunk_by(|a, b| a.origin.path == b.origin.path);
    let warnings = of_files.filter_map(|of_file| {
        let mut odd = of_file.iter().filter(is_odd);
        let first = odd.next()?;
        let (integ, key) = first.keys.integ()?;
        let more = match odd.count() {
            0 => String::new(),
            count => format!("; {count} more SAs of this file have such keys"),
        };
        let (name, len, usual) = (integ.name, key.len(), integ.key_len);
        Some(format!("{}: {name} has a key of {len} bytes, not the {usual} that IKE makes{more}", first.origin))
    });
    warnings.collect()
}
