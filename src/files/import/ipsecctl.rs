//! SAs of OpenBSD: `ipsecctl -sa -k`, and `ipsec.conf` with keys.
//!
//! ```text
//! esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0xc0ffee01 auth hmac-sha2-256 enc aes \
//!         authkey 0x3030303030303030303030303030303030303030303030303030303030303030 \
//!         enckey 0x000102030405060708090a0b0c0d0e0f
//! ```
//!
//! In `ipsec.conf` the SA of the other direction may follow a colon: `spi 0x1:0x2`, `enckey 0x...:0x...`.

use std::path::Path;
use std::sync::Arc;

use super::entry::{self, EntryError, invalid, invalid_field, lines_of_words};
use super::integrity::Integrity;
use super::skipped::Skipped;
use crate::cipher::{IntegKey, Keys, Suite};
use crate::context::Origin;
use crate::files::values::{address, hex, shown, spi, spi_name};
use crate::net::Selector;
use crate::sa::Sa;
use crate::secret::Secret;

const HELP: &str = "an SA is `esp from SRC to DST spi 0x... auth ALGORITHM enc ALGORITHM authkey 0x... enckey 0x...`";

/// Whether `line` begins an SA or a flow, or is a heading of `ipsecctl -sa`.
pub(crate) fn is_line(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(4).collect();
    matches!(
        words.as_slice(),
        ["FLOWS:" | "SAD:"]
            | ["flow", "esp" | "ah", "in" | "out" | "from", ..]
            | ["esp" | "ah", "from", ..]
            | ["esp" | "ah", "tunnel" | "transport", "from", ..]
    )
}

/// Appends the SAs of `text`.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let file: Arc<Path> = path.into();
    for (line, words) in lines_of_words(text) {
        if let ["esp", rest @ ..] = words.as_slice()
            && rest.contains(&"spi")
        {
            let entry = Entry { origin: Origin { path: file.clone(), line }, words: rest };
            let both = entry.value("spi").is_some_and(|spi| spi.contains(':'));
            for reverse in [false, true].into_iter().take(1 + usize::from(both)) {
                match entry.sa(reverse, skipped) {
                    Ok(sa) => sas.push(Arc::new(sa)),
                    Err(error) => error.warn(line, HELP, skipped),
                }
            }
        }
    }
}

/// The words of an SA without `esp`.
struct Entry<'w, 't> {
    origin: Origin,
    words: &'w [&'t str],
}

impl<'t> Entry<'_, 't> {
    fn value(&self, name: &str) -> Option<&'t str> {
        let at = self.words.iter().position(|word| *word == name)?;
        self.words.get(at + 1).copied()
    }

    /// The value of one direction, if a colon separates two.
    fn value_of(&self, name: &str, reverse: bool) -> Option<&'t str> {
        let value = self.value(name)?;
        match value.split_once(':') {
            Some((first, second)) => Some(if reverse { second } else { first }),
            None => Some(value),
        }
    }

    fn secret(&self, name: &str, reverse: bool) -> Result<Secret, EntryError> {
        match self.value_of(name, reverse) {
            None => Ok(Secret::default()),
            Some("file") => Err(invalid(format!("`{name}` is in another file: write its hex digits here"))),
            Some(digits) => hex(digits).map_err(invalid_field(name)),
        }
    }

    fn sa(&self, reverse: bool, skipped: &mut Skipped) -> Result<Sa, EntryError> {
        let address = |name: &str| {
            let word = self.value(name).ok_or_else(|| invalid(format!("no `{name}`")))?;
            address(word).map(Selector::address).map_err(invalid_field(&format!("`{name}`")))
        };
        let (from, to) = (address("from")?, address("to")?);
        if !from.is_same_version_as(to) {
            return Err(invalid("`from` and `to` have different IP versions"));
        }
        let addresses = if reverse { [to, from] } else { [from, to] };
        let spi = spi(self.value_of("spi", reverse).unwrap_or_default()).map_err(invalid_field("SPI"))?;
        Ok(entry::sa(Some(spi), addresses, self.keys(spi, reverse, skipped)?, self.origin.clone()))
    }

    fn keys(&self, spi: u32, reverse: bool, skipped: &mut Skipped) -> Result<Keys, EntryError> {
        // ipsec.conf(5): the defaults are AES and HMAC-SHA2-256.
        let encryption = self.value("enc").unwrap_or("aes");
        let suite = suite(encryption)?;
        let key = self.secret("enckey", reverse)?;
        if key.is_empty() && !suite.key_lens.is_empty() {
            let why = "the SA has no key: run `ipsecctl -s all -k` as root";
            return Err(invalid(format!("SPI {}: {why}", spi_name(spi))));
        }
        let integ = if suite.is_aead() {
            IntegKey::None
        } else {
            let integrity = integrity(self.value("auth").unwrap_or("hmac-sha2-256"), self.secret("authkey", reverse)?);
            integrity
                .map_or(Ok(IntegKey::None), |own| own.key(self.origin.line, skipped))
                .map_err(EntryError::Skipped)?
        };
        Keys::from_parts(suite, key, None, integ).map_err(|error| invalid(error.to_string()))
    }
}

fn suite(name: &str) -> Result<&'static Suite, EntryError> {
    let iana = match name {
        "aes" | "aes-128" | "aes-192" | "aes-256" => "ENCR_AES_CBC",
        "aesctr" | "aes-128-ctr" | "aes-192-ctr" | "aes-256-ctr" => "ENCR_AES_CTR",
        "aes-gcm" | "aes-128-gcm" | "aes-192-gcm" | "aes-256-gcm" => "ENCR_AES_GCM_16",
        "aes-gmac" | "aes-128-gmac" | "aes-192-gmac" | "aes-256-gmac" => "ENCR_NULL_AUTH_AES_GMAC",
        "chacha20-poly1305" => "ENCR_CHACHA20_POLY1305",
        "null" => "ENCR_NULL",
        _ => "",
    };
    Suite::by_name(iana).ok_or_else(|| EntryError::Skipped(format!("encryption {} is not supported", shown(name))))
}

/// `None` for `none`.
fn integrity(name: &str, key: Secret) -> Option<Integrity<'static>> {
    let (iana, icv_len) = match name {
        "none" => return None,
        "hmac-sha1" => ("AUTH_HMAC_SHA1_96", Some(12)),
        "hmac-sha2-256" => ("AUTH_HMAC_SHA2_256_128", Some(16)),
        "hmac-sha2-384" => ("AUTH_HMAC_SHA2_384_192", Some(24)),
        "hmac-sha2-512" => ("AUTH_HMAC_SHA2_512_256", Some(32)),
        "hmac-md5" | "hmac-ripemd160" => ("", Some(12)),
        _ => ("", None),
    };
    Some(Integrity { shown_name: shown(name), iana, icv_len, key })
}

#[cfg(test)]
mod tests {
    use super::super::entry::read_text;
    use super::*;

    #[test]
    fn output_and_configuration() {
        let key = |digit: &str, len: usize| format!("0x{}", digit.repeat(len));
        let text = format!(
            "FLOWS:\nflow esp in from 10.0.0.0/8 to 10.1.0.0/16 peer 192.0.2.1 type require\n\nSAD:\n\
             esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0x00001001 enc aes-256-gcm \\\n\tenckey {}\n\
             \tsa: spi 0x00001001 auth none enc aes-gcm\n\
             esp transport from fd00::1 to fd00::2 spi 0x1002:0x1003 auth hmac-sha1 enc aesctr \\\n\
             \tauthkey {}:{} \\\n\tenckey {}:{}\n\
             esp from 192.0.2.1 to 192.0.2.2 spi 0x1004 auth hmac-md5 enc 3des-cbc enckey 0x00\n\
             esp tunnel from 192.0.2.1 to 192.0.2.2 spi 0x1005 auth hmac-sha2-256 enc aes\n",
            key("a1", 36),
            key("b1", 20),
            key("b2", 20),
            key("c1", 20),
            key("c2", 20)
        );
        let (sas, warnings) = read_text(read, &text);
        let sas = sas.unwrap();
        let seen: Vec<String> = sas
            .iter()
            .map(|sa| {
                let first = |secret: crate::secret::SecretSlice<'_>| secret.expose().first().copied().unwrap_or(0);
                let (suite, key) = (sa.keys.suite().name, first(sa.keys.key()));
                let integ =
                    sa.keys.integ().map_or("-".into(), |(integ, key)| format!("{} {:x}", integ.name, first(key)));
                format!("{}: {} {} {} {suite} {key:x} {integ}", sa.origin.line, sa.name, sa.src, sa.dst)
            })
            .collect();
        assert_eq!(
            seen,
            [
                "5: 0x00001001 192.0.2.1 192.0.2.2 ENCR_AES_GCM_16 a1 -",
                "8: 0x00001002 fd00::1 fd00::2 ENCR_AES_CTR c1 AUTH_HMAC_SHA1_96 b1",
                "8: 0x00001003 fd00::2 fd00::1 ENCR_AES_CTR c2 AUTH_HMAC_SHA1_96 b2",
            ]
        );
        assert_eq!(warnings[0], "f:11: skipped: encryption `3des-cbc` is not supported");
        assert!(
            warnings[1].starts_with("f:12: skipped: SPI 0x00001005: the SA has no key: run `ipsecctl"),
            "{warnings:?}"
        );
    }
}
