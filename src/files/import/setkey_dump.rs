//! The output of `setkey -D`: the SAs of a kernel (KAME on BSD, ipsec-tools on Linux).
//!
//! ```text
//! 192.0.2.1[4500] 192.0.2.2[4500]
//!     esp-udp mode=tunnel spi=3237998081(0xc0ffee01) reqid=1(0x00000001)
//!     E: aes-cbc  00010203 04050607 08090a0b 0c0d0e0f
//!     A: hmac-sha1  10111213 14151617 18191a1b 1c1d1e1f 20212223
//!     seq=0x00000000 replay=4 flags=0x00000000 state=mature
//! ```

use std::path::Path;
use std::sync::Arc;

use super::entry::{self, EntryError, invalid, invalid_field};
use super::setkey::{self, SHA256_ICV};
use super::skipped::Skipped;
use crate::context::Origin;
use crate::files::values::{address, hex, spi, spi_name};
use crate::net::Selector;
use crate::sa::Sa;
use crate::secret::Secret;

const HELP: &str = "give the complete output of `setkey -D`";
/// SADB_X_SAFLAGS_ESN of FreeBSD's `net/pfkeyv2.h`.
const FLAG_ESN: u64 = 0x400;

/// Whether `line` begins an SA: two addresses, optionally with ports in brackets.
pub(crate) fn is_line(line: &str) -> bool {
    heading(line).is_some()
}

fn heading(line: &str) -> Option<[&str; 2]> {
    let mut words = line.split_whitespace();
    let pair = [words.next()?, words.next()?].map(|word| word.split('[').next().unwrap_or_default());
    (words.next().is_none() && pair.iter().all(|word| address(word).is_ok())).then_some(pair)
}

/// The relevant values from the lines of one SA.
struct Dump<'t> {
    line: u64,
    addresses: [&'t str; 2],
    protocol: &'t str,
    spi: Option<&'t str>,
    encryption: Option<&'t str>,
    authentication: Option<&'t str>,
    esn: bool,
    sn: u64,
}

/// Appends the SAs of `text`.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let file: Arc<Path> = path.into();
    let mut short_icv_noted = false;
    let mut dump: Option<Dump<'_>> = None;
    let mut finish = |dump: Option<Dump<'_>>, skipped: &mut Skipped| {
        let Some(dump) = dump.filter(|dump| dump.protocol.starts_with("esp")) else { return };
        let line = dump.line;
        match dump.sa(&file, skipped) {
            Ok(sa) => {
                if setkey::is_sha256(&sa) && !std::mem::replace(&mut short_icv_noted, true) {
                    skipped.note(line, SHA256_ICV);
                }
                sas.push(Arc::new(sa));
            }
            Err(error) => error.warn(line, HELP, skipped),
        }
    };
    for (line, number) in text.lines().zip(1u64..) {
        if let Some(addresses) = heading(line) {
            finish(dump.take(), skipped);
            dump = Some(Dump {
                line: number,
                addresses,
                protocol: "",
                spi: None,
                encryption: None,
                authentication: None,
                esn: false,
                sn: 0,
            });
        } else if let Some(dump) = &mut dump {
            dump.take(line.trim());
        }
    }
    finish(dump, skipped);
}

impl<'t> Dump<'t> {
    fn take(&mut self, line: &'t str) {
        if let Some(rest) = line.strip_prefix("E: ") {
            self.encryption = Some(rest.trim());
        } else if let Some(rest) = line.strip_prefix("A: ") {
            self.authentication = Some(rest.trim());
        } else if line.contains(" mode=") || line.contains(" spi=") {
            self.protocol = line.split_whitespace().next().unwrap_or_default();
            self.spi = value(line, "spi=").and_then(|value| value.split('(').next());
        } else if line.starts_with("seq=") {
            let hex = |name| {
                let digits = value(line, name)?.strip_prefix("0x")?;
                u64::from_str_radix(digits, 16).ok()
            };
            self.sn = hex("seq=").unwrap_or(0);
            self.esn = hex("flags=").is_some_and(|flags| flags & FLAG_ESN != 0);
        }
    }

    fn sa(self, file: &Arc<Path>, skipped: &mut Skipped) -> Result<Sa, EntryError> {
        let spi = self.spi.and_then(|word| spi(word).ok()).ok_or_else(|| invalid("an SA without `spi=`"))?;
        let [src, dst] = self.addresses.map(|word| address(word).map_or(Selector::Any, Selector::address));
        if !src.is_same_version_as(dst) {
            return Err(invalid("source and destination have different IP versions"));
        }
        let Some(encryption) = self.encryption else {
            // State larval, or dead.
            return Err(EntryError::Skipped(format!("SPI {}: the SA has no keys", spi_name(spi))));
        };
        let named_key = |text: &'t str| {
            let (name, digits) = text.split_once([' ', '\t']).unwrap_or((text, ""));
            // `null` has no digits.
            let key = if digits.trim().is_empty() { Ok(Secret::default()) } else { hex(digits.trim()) };
            key.map(|key| (name, key)).map_err(invalid_field("key"))
        };
        let encryption = named_key(encryption)?;
        let authentication = self.authentication.map(named_key).transpose()?;
        let keys = setkey::keys(encryption, authentication, self.line, skipped)?;
        let origin = Origin { path: file.clone(), line: self.line };
        let sn_hint = Some(self.sn).filter(|sn| *sn != 0);
        Ok(Sa { esn: self.esn, sn_hint, ..entry::sa(Some(spi), [src, dst], keys, origin) })
    }
}

/// The value of `name` in a line of `name=value`.
fn value<'t>(line: &'t str, name: &str) -> Option<&'t str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::super::entry::read_text;
    use super::*;

    /// In the form of ipsec-tools 0.8 (`dump_print` of `pfkey_dump.c`).
    #[test]
    fn all_states() {
        let (sas, warnings) = read_text(
            read,
            "2001:db8::1 2001:db8::2
\tesp mode=transport spi=16(0x00000010) reqid=0(0x00000000)
\tE: aes-gcm-16  00010203 04050607 08090a0b 0c0d0e0f a0a1a2a3
\tseq=0x00000007 replay=4 flags=0x00000440 state=mature
192.0.2.1 192.0.2.2
\tah mode=tunnel spi=17(0x00000011) reqid=0(0x00000000)
\tA: hmac-sha1  10111213 14151617 18191a1b 1c1d1e1f 20212223
192.0.2.1 192.0.2.2
\tesp mode=tunnel spi=18(0x00000012) reqid=0(0x00000000)
\tseq=0x00000000 replay=0 flags=0x00000000 state=larval
192.0.2.1[4500] 192.0.2.2[4500]
\tesp-udp mode=tunnel spi=19(0x00000013) reqid=0(0x00000000)
\tE: null  \n\tA: hmac-md5  00010203 04050607 08090a0b 0c0d0e0f
192.0.2.1 192.0.2.2
\tesp mode=tunnel spi=20(0x00000014) reqid=0(0x00000000)
\tE: aes-cbc  00010203
",
        );
        let sas = sas.unwrap();
        let [a, b] = sas.as_slice() else { panic!("{} SAs: {warnings:?}", sas.len()) };
        assert_eq!((a.spi, a.esn, a.sn_hint, a.keys.suite().name), (Some(16), true, Some(7), "ENCR_AES_GCM_16"));
        assert!(a.keys.salt().expose() == [0xa0, 0xa1, 0xa2, 0xa3]);
        assert_eq!(
            (b.spi, b.keys.suite().name, b.keys.icv_len(), b.keys.authenticates()),
            (Some(19), "ENCR_NULL", 12, false)
        );
        assert_eq!(b.src.to_string(), "192.0.2.1");
        assert_eq!(
            warnings,
            [
                "f:8: skipped: SPI 0x00000012: the SA has no keys",
                "f:11: authentication `hmac-md5` is not supported: its ICV of 12 bytes is not checked",
                "f:15: skipped: key of ENCR_AES_CBC is 16, 24 or 32 bytes, not 4; give the complete output of `setkey -D`",
            ]
        );
    }
}
