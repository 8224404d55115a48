//! Cipher suites of ESP as one table of rows; opening and sealing.

use crate::secret::Secret;

/// One row of the table of ciphers: an IKEv2 Encryption Algorithm transform (IANA "Transform Type 1") for ESP.
#[derive(Debug, PartialEq, Eq)]
pub struct Suite {
    /// IANA name.
    pub name: &'static str,
    /// The algorithm.
    pub cipher: Cipher,
    /// Lengths of the key in bytes, salt not counted.
    pub key_lens: &'static [usize],
    /// Length of the salt in bytes.
    pub salt_len: usize,
    /// Length of the IV on the wire in bytes; 0 for implicit IVs (RFC 8750) and `ENCR_NULL`.
    pub iv_len: usize,
    /// Length of the ICV in bytes; 0 where the integrity check is an algorithm of its own.
    pub icv_len: usize,
    /// Cipher block in bytes that the clear text must fill (AES-CBC 16, else 1).
    pub block: usize,
    /// The IV is the Sequence Number (RFC 8750).
    pub implicit_iv: bool,
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

/// One row of the table of integrity algorithms (IANA "Transform Type 3").
#[derive(Debug, PartialEq, Eq)]
pub struct Integ {
    /// IANA name.
    pub name: &'static str,
    /// The algorithm, `None` where the ICV is there but not checked.
    pub hash: Option<Hash>,
    /// Length of the key in bytes (RFC 2404, RFC 4868).
    pub key_len: usize,
    /// Length of the ICV in bytes.
    pub icv_len: usize,
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

/// A cipher suite with its secrets, lengths checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// The cipher.
    pub suite: &'static Suite,
    /// Its key, salt not included; empty for `ENCR_NULL`.
    pub key: Secret,
    /// Its salt; empty where the cipher has none.
    pub salt: Secret,
    /// The integrity algorithm and its key; `None` for AEADs and for `integ: NONE`.
    pub integ: Option<(&'static Integ, Secret)>,
}
