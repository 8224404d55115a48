//! Algorithms of the Linux kernel, as `ip xfrm` names them.
//!
//! ```text
//! aead rfc4106(gcm(aes)) 0x00112233445566778899aabbccddeeffa0a1a2a3 128
//! auth-trunc hmac(sha256) 0x... (256 bits) 128
//! enc ecb(cipher_null)  (0 bits)
//! ```

use std::borrow::Cow;

use super::entry::{EntryError, invalid_field, wrong};
use super::integrity::Integrity;
use crate::files::values::{hex, shown};
use crate::secret::Secret;

/// `name 0xkey bits`, or with `-s`: `name 0xkey (n bits) bits`.
pub(crate) struct Algorithm<'t> {
    name: &'t str,
    key: &'t str,
    icv_bits: Option<&'t str>,
}

impl<'t> Algorithm<'t> {
    /// From a line of output.
    pub(crate) fn printed(words: &[&'t str]) -> Algorithm<'t> {
        let name = words.first().copied().unwrap_or_default();
        // A cipher without a key, such as ecb(cipher_null), has no word for the key.
        let key =
            words.get(1).copied().filter(|word| word.starts_with("0x") || word.starts_with("<<")).unwrap_or_default();
        let last = words.last().copied().filter(|word| word.bytes().all(|c| c.is_ascii_digit()));
        Algorithm { name, key, icv_bits: last }
    }

    /// Reads the words of a command. Also returns how many words the algorithm has.
    pub(crate) fn of_command(words: &[&'t str], has_icv_bits: bool) -> (Algorithm<'t>, usize) {
        let word = |at: usize| words.get(at).copied().unwrap_or_default().trim_matches(['"', '\'']);
        let icv_bits = has_icv_bits.then(|| word(2));
        (Algorithm { name: word(0), key: word(1), icv_bits }, 2 + usize::from(has_icv_bits))
    }

    pub(crate) fn key(&self) -> Result<Secret, EntryError> {
        if self.key.starts_with("<<") {
            let help = "the kernel's keys are hidden: run `ip xfrm state` as root, without `nokeys`";
            return wrong("the keys are not in this text", help);
        }
        match self.key {
            "" | "0x" => Ok(Secret::default()),
            key if key.starts_with("0x") => hex(key).map_err(invalid_field("key")),
            // A command may give the characters themselves.
            key => Ok(Secret::new(key.as_bytes().to_vec())),
        }
    }

    /// The name without the backslashes of a command.
    fn plain_name(&self) -> Cow<'t, str> {
        if self.name.contains('\\') { Cow::Owned(self.name.replace('\\', "")) } else { Cow::Borrowed(self.name) }
    }

    fn not_supported(&self) -> EntryError {
        let bits = match self.icv_bits {
            Some(bits) if bits.len() <= 4 => format!(" with an ICV of {bits} bits"),
            // The word may be part of the key.
            Some(_) => " with an ICV of this length".to_owned(),
            None => String::new(),
        };
        EntryError::Skipped(format!("{}{bits} is not supported", shown(&self.plain_name())))
    }

    /// The IANA name of an AEAD.
    pub(crate) fn aead(&self) -> Result<&'static str, EntryError> {
        match (&*self.plain_name(), self.icv_bits) {
            ("rfc4309(ccm(aes))", Some("64")) => Ok("ENCR_AES_CCM_8"),
            ("rfc4309(ccm(aes))", Some("96")) => Ok("ENCR_AES_CCM_12"),
            ("rfc4309(ccm(aes))", Some("128")) => Ok("ENCR_AES_CCM_16"),
            ("rfc4106(gcm(aes))", Some("64")) => Ok("ENCR_AES_GCM_8"),
            ("rfc4106(gcm(aes))", Some("96")) => Ok("ENCR_AES_GCM_12"),
            ("rfc4106(gcm(aes))", Some("128")) => Ok("ENCR_AES_GCM_16"),
            ("rfc7539esp(chacha20,poly1305)", Some("128")) => Ok("ENCR_CHACHA20_POLY1305"),
            ("rfc4543(gcm(aes))", Some("128")) => Ok("ENCR_NULL_AUTH_AES_GMAC"),
            _ => Err(self.not_supported()),
        }
    }

    /// The IANA name of a cipher that is not an AEAD.
    pub(crate) fn encryption(&self) -> Result<&'static str, EntryError> {
        match &*self.plain_name() {
            "cbc(aes)" | "aes" => Ok("ENCR_AES_CBC"),
            "rfc3686(ctr(aes))" => Ok("ENCR_AES_CTR"),
            "ecb(cipher_null)" | "cipher_null" => Ok("ENCR_NULL"),
            name => Err(EntryError::Skipped(format!("{} is not supported", shown(name)))),
        }
    }

    /// `None` for `digest_null`.
    pub(crate) fn integrity(&self) -> Result<Option<Integrity<'static>>, EntryError> {
        let name = self.plain_name();
        // Without a length, the kernel uses its default (`xfrm_algo.c`).
        let default_bits = match &*name {
            "digest_null" => return Ok(None),
            "hmac(md5)" | "md5" | "hmac(sha1)" | "sha1" | "hmac(sha256)" | "sha256" | "hmac(rmd160)" | "rmd160"
            | "xcbc(aes)" | "cmac(aes)" => Some(96),
            "hmac(sha384)" | "sha384" => Some(192),
            "hmac(sha512)" | "sha512" | "hmac(sm3)" | "sm3" => Some(256),
            _ => None,
        };
        let bits: Option<usize> = match self.icv_bits {
            Some(bits) => bits.parse().ok().filter(|bits| bits % 8 == 0),
            None => default_bits,
        };
        let iana = match (&*name, bits) {
            ("hmac(sha1)" | "sha1", Some(96)) => "AUTH_HMAC_SHA1_96",
            ("hmac(sha256)" | "sha256", Some(96)) => "AUTH_HMAC_SHA2_256_96",
            ("hmac(sha256)" | "sha256", Some(128)) => "AUTH_HMAC_SHA2_256_128",
            ("hmac(sha384)" | "sha384", Some(192)) => "AUTH_HMAC_SHA2_384_192",
            ("hmac(sha512)" | "sha512", Some(256)) => "AUTH_HMAC_SHA2_512_256",
            _ => "",
        };
        let icv_len = bits.map(|bits| bits / 8);
        Ok(Some(Integrity { shown_name: shown(&name), iana, icv_len, key: self.key()? }))
    }
}
