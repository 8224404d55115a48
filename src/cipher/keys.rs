//! Keys of one SA: a cipher suite with secrets of valid lengths.

use std::fmt;

#[cfg(feature = "cli")]
use super::Random;
use super::{Integ, Suite};
use crate::error::Error;
use crate::secret::{Secret, SecretSlice};

/// A cipher suite with its secrets, whose lengths are checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    suite: &'static Suite,
    /// Key, salt and integrity key in one buffer, to save memory with thousands of SAs.
    secrets: Secret,
    integ: Option<&'static Integ>,
    /// Length of the integrity key in bytes.
    integ_key_len: u32,
}

/// The integrity algorithm for new [`Keys`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum IntegKey {
    /// No algorithm is given, which is valid only for AEADs.
    #[default]
    Missing,
    /// `NONE`: there is no ICV except that of an AEAD. With other ciphers, packets are not authenticated.
    None,
    /// An algorithm and its key.
    Algorithm(&'static Integ, Secret),
}

impl Keys {
    /// Checks the lengths of `key` (without salt), `salt` and the integrity key. A cipher that is not an AEAD needs
    /// [`IntegKey::None`] or [`IntegKey::Algorithm`]. An AEAD allows no algorithm.
    ///
    /// # Errors
    /// A key, a salt or an integrity key has the wrong length, or the suite needs another integrity algorithm.
    pub fn new(suite: &'static Suite, key: Secret, salt: Secret, integ: IntegKey) -> Result<Keys, KeyError> {
        let key_fits = if suite.key_lens.is_empty() { key.is_empty() } else { suite.key_lens.contains(&key.len()) };
        if !key_fits {
            return Err(KeyError::length(suite.name, Part::Key, suite.key_lens, key.len()));
        }
        if salt.len() != suite.salt_len {
            return Err(KeyError::length(suite.name, Part::Salt, &[suite.salt_len], salt.len()));
        }
        Ok(Keys::of(suite, key, salt, Keys::checked_integ(suite, integ)?))
    }

    fn checked_integ(suite: &'static Suite, integ: IntegKey) -> Result<Option<(&'static Integ, Secret)>, KeyError> {
        match integ {
            IntegKey::Missing if !suite.is_aead() => Err(KeyError::IntegMissing { encr: suite.name }),
            IntegKey::Missing | IntegKey::None => Ok(None),
            IntegKey::Algorithm(integ, _) if suite.is_aead() => {
                Err(KeyError::IntegRefused { encr: suite.name, integ: integ.name })
            }
            IntegKey::Algorithm(integ, key) if !integ.accepts_key_of(key.len()) => {
                Err(KeyError::length(integ.name, Part::IntegKey, &[integ.key_len], key.len()))
            }
            IntegKey::Algorithm(integ, key) => Ok(Some((integ, key))),
        }
    }

    /// The lengths must be valid. `key` may include the salt at its end.
    fn of(suite: &'static Suite, key: Secret, salt: Secret, integ: Option<(&'static Integ, Secret)>) -> Keys {
        let (integ, integ_key) = integ.unzip();
        let integ_key = integ_key.unwrap_or_default();
        let integ_key_len = integ_key.len() as u32;
        let secrets = match salt.is_empty() && integ_key.is_empty() {
            true => key,
            // Allocated at full size, because a growing buffer would leave copies of the keys in memory.
            false => Secret::new([key.expose(), salt.expose(), integ_key.expose()].concat()),
        };
        Keys { suite, secrets, integ, integ_key_len }
    }

    /// Like [`Keys::new`]. If the cipher has a salt and `salt` is not given, the last bytes of `key` are the salt.
    ///
    /// # Errors
    /// As [`Keys::new`].
    pub fn from_parts(
        suite: &'static Suite,
        key: Secret,
        salt: Option<Secret>,
        integ: IntegKey,
    ) -> Result<Keys, KeyError> {
        if let Some(salt) = salt {
            return Keys::new(suite, key, salt, integ);
        }
        // Key lengths with and without salt never coincide.
        match key.len().checked_sub(suite.salt_len) {
            Some(key_len) if suite.key_lens.contains(&key_len) => {
                Ok(Keys::of(suite, key, Secret::default(), Keys::checked_integ(suite, integ)?))
            }
            _ => Keys::new(suite, key, Secret::default(), integ),
        }
    }

    /// Generates new keys for an AEAD, or for another cipher together with HMAC-SHA2-256-128.
    ///
    /// # Errors
    ///
    /// The operating system provides no random bytes.
    #[cfg(feature = "cli")]
    pub fn generate(suite: &'static Suite, random: &mut Random) -> Result<Keys, Error> {
        let mut secret = |len: usize| {
            let mut bytes = vec![0; len];
            random.fill(&mut bytes).map(|()| Secret::new(bytes))
        };
        // ChaCha20-Poly1305 only has keys of 32 bytes. For AES, 16 bytes are enough.
        let key = secret(suite.key_lens.first().copied().unwrap_or(0))?;
        let salt = secret(suite.salt_len)?;
        let integ = match Integ::by_name("AUTH_HMAC_SHA2_256_128") {
            Some(integ) if !suite.is_aead() => Some((integ, secret(integ.key_len)?)),
            _ => None,
        };
        Ok(Keys::of(suite, key, salt, integ))
    }

    /// The same keys for the corresponding suite that sends its IV, if this one does not (RFC 8750).
    pub fn with_explicit_iv(&self) -> Keys {
        Keys { suite: self.suite.with_explicit_iv(), ..self.clone() }
    }

    /// A fingerprint of the keys. Keys under which a nonce must not be used twice have the same fingerprint, such
    /// as two suites that share key and salt. It reveals nothing about the keys.
    pub fn fingerprint(&self) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        let (key, salt) = (self.key().expose(), self.salt().expose());
        let hash = Sha256::new().chain_update(b"dietesp keys").chain_update([key.len() as u8]);
        // Counter blocks of AES-CCM start with 3 and the salt; those of AES-GCM and AES-CTR start with four bytes
        // of salt.
        let before_salt: &[u8] = if salt.len() == 3 { &[3] } else { &[] };
        hash.chain_update(key).chain_update(before_salt).chain_update(salt).finalize().into()
    }

    /// The cipher.
    pub fn suite(&self) -> &'static Suite {
        self.suite
    }

    /// Length of the ICV in bytes, checked or not.
    pub fn icv_len(&self) -> usize {
        self.suite.icv_len + self.integ.map_or(0, |integ| integ.icv_len)
    }

    /// Whether the ICV of opened packets is checked.
    pub fn authenticates(&self) -> bool {
        self.suite.is_aead() || self.integ.is_some_and(|integ| integ.hash.is_some())
    }

    /// The key without the salt; empty for `ENCR_NULL`.
    pub fn key(&self) -> SecretSlice<'_> {
        self.part(0, self.key_len())
    }

    /// The salt; empty if the cipher has none.
    pub fn salt(&self) -> SecretSlice<'_> {
        self.part(self.key_len(), self.suite.salt_len)
    }

    /// The integrity algorithm and its key; `None` for AEADs and for `integ: NONE`.
    pub fn integ(&self) -> Option<(&'static Integ, SecretSlice<'_>)> {
        let integ = self.integ?;
        Some((integ, self.part(self.key_len() + self.suite.salt_len, self.integ_key_len as usize)))
    }

    fn key_len(&self) -> usize {
        self.secrets.len() - self.suite.salt_len - self.integ_key_len as usize
    }

    fn part(&self, start: usize, len: usize) -> SecretSlice<'_> {
        SecretSlice::new(self.secrets.expose().get(start..start + len).unwrap_or_default())
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Keys { suite, secrets, integ, integ_key_len: _ } = self;
        let integ = integ.map(|integ| integ.name);
        f.debug_struct("Keys").field("suite", &suite.name).field("secrets", secrets).field("integ", &integ).finish()
    }
}

/// Why the given secrets are not valid [`Keys`]. Shows lengths, never bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A secret has the wrong length.
    Length {
        /// IANA name of the algorithm.
        algorithm: &'static str,
        /// The secret.
        part: Part,
        /// The valid lengths in bytes; empty if the algorithm has no such secret.
        expected: Vec<usize>,
        /// The length found, in bytes.
        got: usize,
    },
    /// A cipher that is not an AEAD, and no integrity setting.
    IntegMissing {
        /// IANA name of the cipher.
        encr: &'static str,
    },
    /// An AEAD and an integrity algorithm.
    IntegRefused {
        /// IANA name of the cipher.
        encr: &'static str,
        /// Name of the integrity algorithm.
        integ: &'static str,
    },
}

/// One of the secrets of an SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `key`.
    Key,
    /// `salt`.
    Salt,
    /// `integ_key`.
    IntegKey,
}

impl Part {
    /// Its name in a key file.
    pub fn name(self) -> &'static str {
        match self {
            Part::Key => "key",
            Part::Salt => "salt",
            Part::IntegKey => "integ_key",
        }
    }
}

impl KeyError {
    fn length(algorithm: &'static str, part: Part, expected: &[usize], got: usize) -> KeyError {
        let expected = expected.iter().copied().filter(|&len| len > 0).collect();
        KeyError::Length { algorithm, part, expected, got }
    }
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Length { algorithm, part, expected, got } => {
                let part = part.name();
                match (expected.as_slice(), got) {
                    ([], got) => write!(f, "{algorithm} has no {part}, but {got} bytes are given: omit it"),
                    ([one], 0) => write!(
                        f,
                        "{algorithm} needs {} {part} of {one} bytes",
                        if part.starts_with('i') { "an" } else { "a" }
                    ),
                    ([one], got) => write!(f, "{part} of {algorithm} is {one} bytes, not {got}"),
                    ([some @ .., last], got) => {
                        write!(f, "{part} of {algorithm} is ")?;
                        for (n, len) in some.iter().enumerate() {
                            write!(f, "{}{len}", if n == 0 { "" } else { ", " })?;
                        }
                        write!(f, " or {last} bytes, not {got}")
                    }
                }
            }
            KeyError::IntegMissing { encr } => {
                write!(f, "{encr} does not check integrity: give integ and integ_key, or integ: NONE")
            }
            KeyError::IntegRefused { encr, integ } => {
                write!(f, "{encr} checks integrity itself: omit integ ({integ}) and integ_key")
            }
        }
    }
}

impl std::error::Error for KeyError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(len: usize) -> Secret {
        Secret::new((1..=len).map(|n| n as u8).collect())
    }

    fn from_parts(encr: &str, key: usize, salt: Option<usize>, integ: IntegKey) -> Result<Keys, KeyError> {
        Keys::from_parts(Suite::by_name(encr).unwrap(), secret(key), salt.map(secret), integ)
    }

    fn sentence(keys: Result<Keys, KeyError>) -> String {
        keys.unwrap_err().to_string()
    }

    #[test]
    fn a_salt_is_taken_from_the_end_of_the_key() {
        for (encr, key, salt) in [("ENCR_AES_CCM_8", 16, 3), ("ENCR_AES_GCM_16", 24, 4), ("ENCR_AES_GCM_16", 32, 4)] {
            let keys = from_parts(encr, key + salt, None, IntegKey::Missing).unwrap();
            assert_eq!(keys.key().expose(), secret(key).expose());
            let salt: Vec<u8> = (key + 1..=key + salt).map(|n| n as u8).collect();
            assert_eq!(keys.salt().expose(), salt);
        }
    }

    #[test]
    fn errors_say_what_is_wrong_and_show_no_byte() {
        let integ = Integ::by_name("AUTH_HMAC_SHA2_256_128").unwrap();
        let missing = IntegKey::Missing;
        assert_eq!(
            sentence(from_parts("ENCR_AES_CCM_8", 15, Some(3), missing.clone())),
            "key of ENCR_AES_CCM_8 is 16, 24 or 32 bytes, not 15"
        );
        assert_eq!(
            sentence(from_parts("ENCR_AES_CCM_8", 16, Some(4), missing.clone())),
            "salt of ENCR_AES_CCM_8 is 3 bytes, not 4"
        );
        assert_eq!(
            sentence(from_parts("ENCR_AES_CCM_8", 16, None, missing.clone())),
            "ENCR_AES_CCM_8 needs a salt of 3 bytes"
        );
        assert_eq!(
            sentence(from_parts("ENCR_NULL", 16, None, IntegKey::None)),
            "ENCR_NULL has no key, but 16 bytes are given: omit it"
        );
        assert_eq!(
            sentence(from_parts("ENCR_AES_CBC", 16, Some(4), IntegKey::None)),
            "ENCR_AES_CBC has no salt, but 4 bytes are given: omit it"
        );
        assert_eq!(
            sentence(from_parts("ENCR_AES_CBC", 16, None, IntegKey::Algorithm(integ, secret(0)))),
            "AUTH_HMAC_SHA2_256_128 needs an integ_key of 32 bytes"
        );
        assert_eq!(
            sentence(from_parts("ENCR_AES_CBC", 16, None, missing.clone())),
            "ENCR_AES_CBC does not check integrity: give integ and integ_key, or integ: NONE"
        );
        assert_eq!(
            sentence(from_parts("ENCR_AES_GCM_16", 20, None, IntegKey::Algorithm(integ, secret(32)))),
            "ENCR_AES_GCM_16 checks integrity itself: omit integ (AUTH_HMAC_SHA2_256_128) and integ_key"
        );
        let shown = format!("{:?}", from_parts("ENCR_AES_CCM_8", 19, None, missing).unwrap());
        assert!(shown.contains("Secret(19 bytes)"), "{shown}");
    }

    #[test]
    fn valid_lengths_are_accepted() {
        let integ = Integ::by_name("AUTH_HMAC_SHA1_96").unwrap();
        let unchecked = Integ::by_name("ANY 96 bit authentication [no checking]").unwrap();
        // RFC 2104 allows keys of any length.
        for len in [1, 16, 20, 64, 200] {
            let keys = from_parts("ENCR_AES_CTR", 28, None, IntegKey::Algorithm(integ, secret(len))).unwrap();
            assert_eq!((keys.key().len(), keys.salt().len(), keys.integ().unwrap().1.len()), (24, 4, len));
        }
        assert!(from_parts("ENCR_AES_CTR", 20, None, IntegKey::Algorithm(unchecked, secret(0))).is_ok());
        assert!(from_parts("ENCR_NULL", 0, None, IntegKey::None).is_ok());
        assert!(from_parts("ENCR_NULL", 0, Some(0), IntegKey::Algorithm(integ, secret(20))).is_ok());
        assert!(from_parts("ENCR_AES_GCM_16", 20, None, IntegKey::None).is_ok());
    }
}
