//! Lines of `esp_sa`, Wireshark's list of ESP keys.
//!
//! Wireshark 4.0 to 4.6 reads a line as follows. It has 8 quoted fields, or 10 with extended sequence numbers; 4.0
//! rejects a file with such a line. The protocol is that of the outer header. The salt is appended to the key.
//! Wireshark uses the first line that matches a packet, even if its key is wrong. Address prefixes are not
//! supported.

use std::fmt::Write as _;
use std::net::IpAddr;

use zeroize::Zeroizing;

use crate::cipher::{Cipher, Keys};
use crate::net::IpVersion;
use crate::sa::UsedKeys;

/// One line of `esp_sa`.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Version of the outer header.
    pub version: IpVersion,
    /// Outer source address; `None` matches every address.
    pub src: Option<IpAddr>,
    /// Outer destination address; `None` matches every address.
    pub dst: Option<IpAddr>,
    /// The SPI; `None` matches every SPI.
    pub spi: Option<u32>,
    /// Cipher suite and secrets.
    pub keys: &'a Keys,
    /// The high half, for extended sequence numbers.
    pub esn_high: Option<u32>,
}

/// Wireshark has no name for a cipher suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Wireshark cannot decrypt {0}")]
pub struct Unnamed(&'static str);

impl Line<'_> {
    /// Appends the line and its line end to `text`, which then contains secrets.
    ///
    /// # Errors
    ///
    /// Wireshark does not support the cipher or integrity algorithm: implicit IVs (RFC 8750) and AES-GMAC. Nothing
    /// is appended then.
    pub fn append_to(&self, text: &mut Zeroizing<String>) -> Result<(), Unnamed> {
        let (suite, integ) = (self.keys.suite(), self.keys.integ());
        let names = suite.wireshark.ok_or(Unnamed(suite.name))?;
        let authentication = names.authentication.or(integ.map(|(integ, _)| integ.wireshark)).unwrap_or("NULL");
        let mut key_hex = Zeroizing::new(String::with_capacity(128));
        push_hex(&mut key_hex, self.keys.key().expose());
        if suite.cipher == Cipher::AesCcm {
            // Its keystream is that of AES-CTR if the flags byte 03 precedes the salt (RFC 3610 §2.3, RFC 4309 §4).
            key_hex.push_str("03");
        }
        push_hex(&mut key_hex, self.keys.salt().expose());
        let mut integ_hex = Zeroizing::new(String::with_capacity(128));
        if let Some((_, key)) = integ {
            push_hex(&mut integ_hex, key.expose());
        }
        let prefixed = |digits: &str| if digits.is_empty() { "" } else { "0x" };
        let any = || "*".to_owned();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\"IPv{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}{}\",\"{authentication}\",\"{}{}\"",
            self.version.number(),
            self.src.map_or_else(any, |address| address.to_string()),
            self.dst.map_or_else(any, |address| address.to_string()),
            self.spi.map_or_else(any, |spi| format!("0x{spi:08x}")),
            names.encryption,
            prefixed(&key_hex),
            key_hex.as_str(),
            prefixed(&integ_hex),
            integ_hex.as_str(),
        );
        if let Some(high) = self.esn_high {
            let _ = write!(text, ",\"64-bit\",\"{high:x}\"");
        }
        text.push('\n');
        Ok(())
    }

    /// The first version of Wireshark that can read the line. Earlier versions reject the whole file because of it.
    pub fn since(&self) -> &'static str {
        match (self.keys.suite().cipher, self.esn_high) {
            (Cipher::ChaCha20Poly1305, _) => "4.6",
            (_, Some(_)) => "4.4",
            _ => "4.0",
        }
    }
}

/// The `esp_sa` lines of SAs, which contain secrets, and warnings about SAs that Wireshark cannot decrypt.
pub fn lines(sas: &[UsedKeys]) -> (Zeroizing<String>, Vec<String>) {
    let mut text = Zeroizing::new(String::new());
    let mut warnings = vec![];
    for sa in sas {
        let (src, dst) = (sa.src.single(), sa.dst.single());
        let versions: &[IpVersion] = match src.or(dst) {
            Some(address) => &[IpVersion::of(address)],
            None => &[IpVersion::V4, IpVersion::V6],
        };
        let esn_high = sa.esn.then_some(0);
        let mut since = "4.0";
        let named = versions.iter().try_for_each(|version| {
            let line = Line { version: *version, src, dst, spi: sa.spi, keys: &sa.keys, esn_high };
            since = line.since();
            line.append_to(&mut text)
        });
        if let Err(unnamed) = named {
            warnings.push(format!("SA {}: {unnamed}", sa.name));
        } else if since == "4.6" {
            warnings.push(format!("SA {}: needs Wireshark 4.6; an earlier one refuses the whole esp_sa file", sa.name));
        } else if sa.esn {
            warnings.push(format!(
                "SA {}: extended Sequence Numbers need Wireshark 4.4, which verifies only those below 2^32",
                sa.name
            ));
        }
    }
    (text, warnings)
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cipher::{INTEGS, Integ, IntegKey, SUITES, Suite};
    use crate::secret::Secret;

    fn keys(suite: &'static Suite, integ: Option<&'static Integ>) -> Keys {
        let key_len = suite.key_lens.first().copied().unwrap_or(0);
        let integ = match integ {
            Some(integ) => IntegKey::Algorithm(integ, Secret::new(vec![0x22; integ.key_len])),
            None => IntegKey::None,
        };
        let salt = Secret::new((0xa0..).take(suite.salt_len).collect());
        Keys::new(suite, Secret::new(vec![0x11; key_len]), salt, integ).unwrap()
    }

    fn text(line: Line) -> Result<String, Unnamed> {
        let mut text = Zeroizing::new(String::new());
        line.append_to(&mut text).map(|()| text.to_string())
    }

    fn line(keys: &Keys) -> Line<'_> {
        let address = |text: &str| Some(text.parse().unwrap());
        Line {
            version: IpVersion::V6,
            src: address("fd01::1"),
            dst: address("fd01::2"),
            spi: Some(0xa1b2),
            keys,
            esn_high: None,
        }
    }

    #[test]
    fn lines_have_the_form_that_wireshark_writes() {
        let suite = |name| Suite::by_name(name).unwrap();
        let key = "11".repeat(16);
        let head = "\"IPv6\",\"fd01::1\",\"fd01::2\",\"0x0000a1b2\"";
        for (keys, rest) in [
            (
                keys(suite("ENCR_AES_CCM_8"), None),
                format!("\"AES-CTR [RFC3686]\",\"0x{key}03a0a1a2\",\"ANY 64 bit authentication [no checking]\",\"\""),
            ),
            (
                keys(suite("ENCR_AES_CCM_16"), None),
                format!("\"AES-CTR [RFC3686]\",\"0x{key}03a0a1a2\",\"ANY 128 bit authentication [no checking]\",\"\""),
            ),
            (
                keys(suite("ENCR_AES_GCM_16"), None),
                format!("\"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{key}a0a1a2a3\",\"NULL\",\"\""),
            ),
            (
                keys(suite("ENCR_AES_CBC"), Integ::by_name("AUTH_HMAC_SHA2_256_128")),
                format!("\"AES-CBC [RFC3602]\",\"0x{key}\",\"HMAC-SHA-256-128 [RFC4868]\",\"0x{}\"", "22".repeat(32)),
            ),
            (keys(suite("ENCR_NULL"), None), "\"NULL\",\"\",\"NULL\",\"\"".into()),
        ] {
            assert_eq!(text(line(&keys)).unwrap(), format!("{head},{rest}\n"));
            assert_eq!(line(&keys).since(), "4.0");
            let esn =
                Line { version: IpVersion::V4, src: None, dst: None, spi: None, esn_high: Some(0x1f), ..line(&keys) };
            assert_eq!(text(esn).unwrap(), format!("\"IPv4\",\"*\",\"*\",\"*\",{rest},\"64-bit\",\"1f\"\n"));
        }
    }

    #[test]
    fn written_lines_are_read_back() {
        let mut named = 0;
        for suite in SUITES {
            let integs = if suite.is_aead() { vec![None] } else { INTEGS.iter().map(Some).chain([None]).collect() };
            for integ in integs {
                let keys = keys(suite, integ);
                let Ok(text) = text(line(&keys)) else {
                    assert!(suite.implicit_iv || suite.cipher == Cipher::AesGmac);
                    continue;
                };
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join("esp_sa");
                std::fs::write(&path, text).unwrap();
                let loaded = crate::files::load(&[path], &[]).unwrap();
                let Some(sa) = loaded.sas.first() else { panic!("{:?}", loaded.warnings) };
                assert_eq!((&sa.keys, sa.spi), (&keys, Some(0xa1b2)));
                named += 1;
            }
        }
        assert_eq!(named, 7 + 3 * (INTEGS.len() + 1));
    }

    #[test]
    fn unsupported_ciphers_get_no_line() {
        for name in ["ENCR_NULL_AUTH_AES_GMAC", "ENCR_AES_CCM_8_IIV"] {
            let error = text(line(&keys(Suite::by_name(name).unwrap(), None))).unwrap_err();
            assert_eq!(error.to_string(), format!("Wireshark cannot decrypt {name}"));
        }
    }
}
