//! The tables of ciphers and integrity algorithms: one row each.

/// One row of the table of ciphers: an IKEv2 Encryption Algorithm transform (IANA "Transform Type 1") for ESP.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Suite {
    /// IANA name.
    pub name: &'static str,
    /// The algorithm.
    pub cipher: Cipher,
    /// Valid lengths of the key in bytes, without the salt; empty if there is no key.
    pub key_lens: &'static [usize],
    /// Length of the salt in bytes (the "nonce" of RFC 3686).
    pub salt_len: usize,
    /// Length of the IV on the wire in bytes; 0 for implicit IVs (RFC 8750) and `ENCR_NULL`.
    pub iv_len: usize,
    /// Length of the ICV in bytes; 0 if a separate algorithm checks integrity.
    pub icv_len: usize,
    /// Cipher block in bytes, which the clear text must fill (AES-CBC 16, all others 1).
    pub block: usize,
    /// The sequence number is used as the IV (RFC 8750).
    pub implicit_iv: bool,
    /// Its name in Wireshark's `esp_sa`; `None` if Wireshark 4.0 to 4.6 cannot decrypt it.
    pub wireshark: Option<WiresharkNames>,
}

/// The algorithm of a [`Suite`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// AES-CCM, RFC 4309.
    AesCcm,
    /// AES-GCM, RFC 4106.
    AesGcm,
    /// AES-GMAC, RFC 4543.
    AesGmac,
    /// ChaCha20-Poly1305, RFC 7634.
    ChaCha20Poly1305,
    /// AES-CBC, RFC 3602.
    AesCbc,
    /// AES-CTR, RFC 3686.
    AesCtr,
    /// NULL, RFC 2410.
    Null,
}

/// Fields 5 and 7 of a line of Wireshark's `esp_sa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WiresharkNames {
    /// Name of the encryption algorithm. The key field contains the key followed by the salt. AES-CCM is listed as
    /// AES-CTR, because both have the same key stream: its key field contains the key, the byte 03 and the salt.
    pub encryption: &'static str,
    /// Name of the authentication algorithm of an AEAD; `None` if it is the [`Integ::wireshark`] of the SA.
    pub authentication: Option<&'static str>,
}

/// One row of the table of integrity algorithms (IANA "Transform Type 3").
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Integ {
    /// IANA name. If the ICV is not checked, this is the name that Wireshark uses.
    pub name: &'static str,
    /// The algorithm; `None` if there is an ICV that is not checked.
    pub hash: Option<Hash>,
    /// Length in bytes of the key that IKE negotiates (RFC 2404, RFC 4868). Other lengths are valid, too; see
    /// [`Integ::accepts_key_of`].
    pub key_len: usize,
    /// Length of the ICV in bytes.
    pub icv_len: usize,
    /// Its name in Wireshark's `esp_sa`.
    pub wireshark: &'static str,
}

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Suite {
    /// The row with an IANA name. Case is ignored.
    pub fn by_name(name: &str) -> Option<&'static Suite> {
        SUITES.iter().find(|suite| suite.name.eq_ignore_ascii_case(name))
    }

    /// For a row with an implicit IV (RFC 8750): the corresponding row that sends its IV. Otherwise the row itself.
    pub fn with_explicit_iv(&'static self) -> &'static Suite {
        let twin = |row: &&Suite| row.cipher == self.cipher && row.icv_len == self.icv_len && !row.implicit_iv;
        SUITES.iter().find(twin).unwrap_or(self)
    }

    /// Whether the cipher checks integrity itself, so that it allows no separate integrity algorithm.
    pub fn is_aead(&self) -> bool {
        match self.cipher {
            Cipher::AesCcm | Cipher::AesGcm | Cipher::AesGmac | Cipher::ChaCha20Poly1305 => true,
            Cipher::AesCbc | Cipher::AesCtr | Cipher::Null => false,
        }
    }
}

impl Integ {
    /// Whether a key may have this length in bytes: any length but 0 (RFC 2104 §2). Without check there is no key.
    pub fn accepts_key_of(&self, len: usize) -> bool {
        (1..=MAX_INTEG_KEY_LEN).contains(&len) == self.hash.is_some()
    }

    /// The row without check whose ICV has this length in bytes.
    pub fn unchecked(icv_len: usize) -> Option<&'static Integ> {
        INTEGS.iter().find(|integ| integ.hash.is_none() && integ.icv_len == icv_len)
    }

    /// The row with a name. Case is ignored. `NONE` is not a row: see [`super::IntegKey::None`].
    pub fn by_name(name: &str) -> Option<&'static Integ> {
        INTEGS.iter().find(|integ| integ.name.eq_ignore_ascii_case(name))
    }
}

/// Most bytes of an integrity key. Other programs accept far less.
const MAX_INTEG_KEY_LEN: usize = 4096;

const AES_KEY_LENS: &[usize] = &[16, 24, 32];

const fn ccm(name: &'static str, icv_len: usize, wireshark: &'static str) -> Suite {
    Suite {
        name,
        cipher: Cipher::AesCcm,
        key_lens: AES_KEY_LENS,
        salt_len: 3,
        iv_len: 8,
        icv_len,
        block: 1,
        implicit_iv: false,
        wireshark: Some(WiresharkNames { encryption: "AES-CTR [RFC3686]", authentication: Some(wireshark) }),
    }
}

const fn gcm(name: &'static str, icv_len: usize, wireshark: &'static str) -> Suite {
    Suite {
        name,
        cipher: Cipher::AesGcm,
        key_lens: AES_KEY_LENS,
        salt_len: 4,
        iv_len: 8,
        icv_len,
        block: 1,
        implicit_iv: false,
        wireshark: Some(WiresharkNames { encryption: wireshark, authentication: Some("NULL") }),
    }
}

const CHACHA: Suite = Suite {
    name: "ENCR_CHACHA20_POLY1305",
    cipher: Cipher::ChaCha20Poly1305,
    key_lens: &[32],
    salt_len: 4,
    iv_len: 8,
    icv_len: 16,
    block: 1,
    implicit_iv: false,
    // Since Wireshark 4.6.
    wireshark: Some(WiresharkNames { encryption: "ChaCha20 with Poly1305 [RFC7634]", authentication: Some("NULL") }),
};

/// Derives the row of the same AEAD with the sequence number as its IV (RFC 8750).
const fn implicit(name: &'static str, explicit: Suite) -> Suite {
    Suite { name, iv_len: 0, implicit_iv: true, wireshark: None, ..explicit }
}

const fn not_aead(
    name: &'static str,
    cipher: Cipher,
    key_lens: &'static [usize],
    [salt_len, iv_len, block]: [usize; 3],
    wireshark: &'static str,
) -> Suite {
    Suite {
        name,
        cipher,
        key_lens,
        salt_len,
        iv_len,
        icv_len: 0,
        block,
        implicit_iv: false,
        wireshark: Some(WiresharkNames { encryption: wireshark, authentication: None }),
    }
}

/// All ciphers.
pub static SUITES: &[Suite] = &[
    ccm("ENCR_AES_CCM_8", 8, "ANY 64 bit authentication [no checking]"),
    ccm("ENCR_AES_CCM_12", 12, "ANY 96 bit authentication [no checking]"),
    ccm("ENCR_AES_CCM_16", 16, "ANY 128 bit authentication [no checking]"),
    gcm("ENCR_AES_GCM_8", 8, "AES-GCM with 8 octet ICV [RFC4106]"),
    gcm("ENCR_AES_GCM_12", 12, "AES-GCM with 12 octet ICV [RFC4106]"),
    gcm("ENCR_AES_GCM_16", 16, "AES-GCM with 16 octet ICV [RFC4106]"),
    CHACHA,
    implicit("ENCR_AES_CCM_8_IIV", ccm("", 8, "")),
    implicit("ENCR_AES_GCM_16_IIV", gcm("", 16, "")),
    implicit("ENCR_CHACHA20_POLY1305_IIV", CHACHA),
    Suite {
        name: "ENCR_NULL_AUTH_AES_GMAC",
        cipher: Cipher::AesGmac,
        key_lens: AES_KEY_LENS,
        salt_len: 4,
        iv_len: 8,
        icv_len: 16,
        block: 1,
        implicit_iv: false,
        wireshark: None,
    },
    not_aead("ENCR_AES_CBC", Cipher::AesCbc, AES_KEY_LENS, [0, 16, 16], "AES-CBC [RFC3602]"),
    not_aead("ENCR_AES_CTR", Cipher::AesCtr, AES_KEY_LENS, [4, 8, 1], "AES-CTR [RFC3686]"),
    not_aead("ENCR_NULL", Cipher::Null, &[], [0, 0, 1], "NULL"),
];

const fn hmac(name: &'static str, hash: Hash, key_len: usize, icv_len: usize, wireshark: &'static str) -> Integ {
    Integ { name, hash: Some(hash), key_len, icv_len, wireshark }
}

const fn unchecked(name: &'static str, icv_len: usize) -> Integ {
    Integ { name, hash: None, key_len: 0, icv_len, wireshark: name }
}

/// All integrity algorithms.
pub static INTEGS: &[Integ] = &[
    hmac("AUTH_HMAC_SHA1_96", Hash::Sha1, 20, 12, "HMAC-SHA-1-96 [RFC2404]"),
    // Linux's default for SHA-256, from an early draft. IANA has no number for it.
    hmac("AUTH_HMAC_SHA2_256_96", Hash::Sha256, 32, 12, "HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]"),
    hmac("AUTH_HMAC_SHA2_256_128", Hash::Sha256, 32, 16, "HMAC-SHA-256-128 [RFC4868]"),
    hmac("AUTH_HMAC_SHA2_384_192", Hash::Sha384, 48, 24, "HMAC-SHA-384-192 [RFC4868]"),
    hmac("AUTH_HMAC_SHA2_512_256", Hash::Sha512, 64, 32, "HMAC-SHA-512-256 [RFC4868]"),
    // Wireshark 4.0 writes lengths 64, 96, 128, 192 and 256. It only reads the others.
    unchecked("ANY 64 bit authentication [no checking]", 8),
    unchecked("ANY 96 bit authentication [no checking]", 12),
    unchecked("ANY 128 bit authentication [no checking]", 16),
    unchecked("ANY 160 bit authentication [no checking]", 20),
    unchecked("ANY 192 bit authentication [no checking]", 24),
    unchecked("ANY 256 bit authentication [no checking]", 32),
    unchecked("ANY 384 bit authentication [no checking]", 48),
    unchecked("ANY 512 bit authentication [no checking]", 64),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// (name, key lengths, salt, IV, ICV, block) of RFC 4309 §3 to §7, RFC 4106 §3 to §8, RFC 7634 §2, RFC 8750 §3,
    /// RFC 4543 §3, RFC 3602 §2 and §3, RFC 3686 §3 to §5.
    #[test]
    fn lengths_are_those_of_the_rfcs() {
        const AES: &[usize] = &[16, 24, 32];
        let expected: &[(&str, &[usize], [usize; 4])] = &[
            ("ENCR_AES_CCM_8", AES, [3, 8, 8, 1]),
            ("ENCR_AES_CCM_12", AES, [3, 8, 12, 1]),
            ("ENCR_AES_CCM_16", AES, [3, 8, 16, 1]),
            ("ENCR_AES_GCM_8", AES, [4, 8, 8, 1]),
            ("ENCR_AES_GCM_12", AES, [4, 8, 12, 1]),
            ("ENCR_AES_GCM_16", AES, [4, 8, 16, 1]),
            ("ENCR_CHACHA20_POLY1305", &[32], [4, 8, 16, 1]),
            ("ENCR_AES_CCM_8_IIV", AES, [3, 0, 8, 1]),
            ("ENCR_AES_GCM_16_IIV", AES, [4, 0, 16, 1]),
            ("ENCR_CHACHA20_POLY1305_IIV", &[32], [4, 0, 16, 1]),
            ("ENCR_NULL_AUTH_AES_GMAC", AES, [4, 8, 16, 1]),
            ("ENCR_AES_CBC", AES, [0, 16, 0, 16]),
            ("ENCR_AES_CTR", AES, [4, 8, 0, 1]),
            ("ENCR_NULL", &[], [0, 0, 0, 1]),
        ];
        assert_eq!(SUITES.len(), expected.len());
        for (name, key_lens, lens) in expected {
            let suite = Suite::by_name(&name.to_lowercase()).unwrap();
            assert_eq!((suite.name, suite.key_lens), (*name, *key_lens));
            assert_eq!([suite.salt_len, suite.iv_len, suite.icv_len, suite.block], *lens, "{name}");
            assert_eq!(suite.implicit_iv, name.ends_with("_IIV"));
            assert_eq!(suite.is_aead(), suite.icv_len > 0);
        }
        assert_eq!(Suite::by_name("ENCR_AES_GCM"), None);
        assert_eq!(Integ::by_name("NONE"), None);
        assert_eq!(Integ::by_name("auth_hmac_sha1_96").map(|integ| (integ.key_len, integ.icv_len)), Some((20, 12)));
    }
}
