//! Writes the files with which Wireshark decrypts ESP: `esp_sa` lines and preferences.
//!
//! Wireshark 4.0 to 4.6 reads a line as follows. It has 8 quoted fields, or 10 with extended sequence numbers; 4.0
//! rejects a file with such a line. The protocol is that of the outer header. The salt is appended to the key.
//! Wireshark uses the first line that matches a packet, even if its key is wrong. Address prefixes are not
//! supported.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::cipher::{Cipher, Keys};
use crate::error::Error;
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

/// The preferences that make Wireshark decrypt and verify ESP.
pub(crate) const PREFERENCES: &str = "esp.enable_encryption_decode: TRUE\nesp.enable_authentication_check: TRUE\n";

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

/// The folder that [`write_folder`] writes, and its files.
pub(crate) fn paths(folder: &Path) -> [PathBuf; 3] {
    [folder.to_owned(), folder.join("esp_sa"), folder.join("preferences")]
}

/// Rejects a folder for [`write_folder`] that already contains a different Wireshark profile.
///
/// # Errors
///
/// The folder contains one.
pub(crate) fn check_folder(folder: &Path) -> Result<(), Error> {
    let is_own = match std::fs::read_to_string(folder.join("preferences")) {
        Ok(preferences) => preferences == PREFERENCES,
        Err(_) => !folder.join("preferences").exists() && !folder.join("esp_sa").exists(),
    };
    match is_own {
        true => Ok(()),
        false => Err(Error::usage(
            format!("{} holds a Wireshark profile, whose esp_sa and preferences would be lost", folder.display()),
            "give another folder with --wireshark",
        )),
    }
}

/// Writes `esp_sa` and `preferences` into `folder`, to be used as `WIRESHARK_CONFIG_DIR`. Creates the folder if it
/// is missing. The files contain keys, so on Unix only their owner may read them, and only the owner may enter a
/// new folder.
///
/// # Errors
///
/// The operating system refuses to create or write them.
pub fn write_folder(folder: &Path, esp_sa: &str) -> Result<(), Error> {
    make_private(folder).map_err(Error::io(folder, "create"))?;
    for (name, text) in [("esp_sa", esp_sa), ("preferences", PREFERENCES)] {
        let path = folder.join(name);
        let write = || {
            // Created with mode 0600, and renamed when complete.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(Error::io(&path, "write"))?;
    }
    Ok(())
}

#[cfg(unix)]
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    // An existing folder keeps its permissions, because other users may need it.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
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

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_the_keys() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("OUT.wireshark");
        // An existing folder keeps its permissions, but the files in it are private.
        for (text, folder_mode) in [("first\n", 0o700), ("second\n", 0o755)] {
            write_folder(&folder, text).unwrap();
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&folder), folder_mode);
            assert_eq!((mode(&folder.join("esp_sa")), mode(&folder.join("preferences"))), (0o600, 0o600));
            assert_eq!(std::fs::read_to_string(folder.join("esp_sa")).unwrap(), text);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
    }
}
