//! Derives the keys of a child SA from SK_d and the two messages that created it (RFC 7296 §2.17).

use super::message::Proposal;
use crate::cipher::{Hash, Integ, IntegKey, Keys, Suite, prf_plus};
use crate::secret::Secret;

/// Transform types (RFC 7296 §3.3.2).
const ENCR: u8 = 1;
const PRF: u8 = 2;
const INTEG: u8 = 3;
const ESN: u8 = 5;

/// Keys of both directions.
pub(super) struct ChildKeys {
    /// Keys of packets from the initiator of the exchange.
    pub(super) initiator: Keys,
    /// Keys of packets from the responder.
    pub(super) responder: Keys,
    /// Whether extended sequence numbers are used.
    pub(super) esn: bool,
}

/// Takes the keys of a chosen ESP proposal from KEYMAT = prf+(SK_d, Ni | Nr). Those for packets from the initiator
/// of the exchange come first, and the encryption key (with the salt at its end) comes before the integrity key. An
/// error names what is not supported.
pub(super) fn keys(prf: Hash, sk_d: &Secret, nonces: [&[u8]; 2], chosen: &Proposal) -> Result<ChildKeys, String> {
    let encr = chosen.transform(ENCR).ok_or("the chosen proposal has no encryption algorithm")?;
    let suite = suite(encr.id).ok_or_else(|| format!("encryption algorithm {} of IKEv2 is not supported", encr.id))?;
    let key_len = match (encr.key_bits, suite.key_lens) {
        // ChaCha20-Poly1305 has one key length, and NULL has none.
        (_, []) => 0,
        (Some(bits), _) => usize::from(bits) / 8,
        (None, [one]) => *one,
        (None, _) => return Err(format!("{} needs a key length, which the proposal does not have", suite.name)),
    };
    if !suite.key_lens.is_empty() && !suite.key_lens.contains(&key_len) {
        return Err(format!("{} has no keys of {key_len} bytes", suite.name));
    }
    let integ = match chosen.transform(INTEG).map(|transform| transform.id).filter(|id| *id != 0) {
        Some(_) if suite.is_aead() => return Err(format!("{} with an integrity algorithm", suite.name)),
        Some(id) => Some(integrity(id).ok_or_else(|| format!("integrity algorithm {id} of IKEv2 is not supported"))?),
        None => None,
    };
    let encr_len = key_len + suite.salt_len;
    let integ_len = integ.map_or(0, |(_, key_len)| key_len);
    let keymat = prf_plus(prf, sk_d, &nonces, 2 * (encr_len + integ_len)).ok_or("too many keys")?;
    let mut rest = keymat.expose();
    let mut take = |len: usize| {
        let (taken, after) = rest.split_at_checked(len).unwrap_or_default();
        rest = after;
        Secret::new(taken.to_vec())
    };
    let mut direction = || {
        let (key, salt) = (take(key_len), take(suite.salt_len));
        let integ = match integ.map(|(integ, key_len)| (integ, take(key_len))) {
            Some((integ, key)) if integ.hash.is_some() => IntegKey::Algorithm(integ, key),
            Some((unchecked, _)) => IntegKey::Algorithm(unchecked, Secret::default()),
            None => IntegKey::None,
        };
        Keys::new(suite, key, salt, integ).map_err(|error| error.to_string())
    };
    let (initiator, responder) = (direction()?, direction()?);
    Ok(ChildKeys { initiator, responder, esn: chosen.transform(ESN).is_some_and(|esn| esn.id == 1) })
}

/// The prf of a chosen IKE proposal, if it is supported.
pub(super) fn prf(chosen: &Proposal) -> Option<Hash> {
    match chosen.transform(PRF)?.id {
        2 => Some(Hash::Sha1),
        5 => Some(Hash::Sha256),
        6 => Some(Hash::Sha384),
        7 => Some(Hash::Sha512),
        _ => None,
    }
}

/// IANA "IKEv2 Transform Type 1".
fn suite(id: u16) -> Option<&'static Suite> {
    Suite::by_name(match id {
        11 => "ENCR_NULL",
        12 => "ENCR_AES_CBC",
        13 => "ENCR_AES_CTR",
        14 => "ENCR_AES_CCM_8",
        15 => "ENCR_AES_CCM_12",
        16 => "ENCR_AES_CCM_16",
        18 => "ENCR_AES_GCM_8",
        19 => "ENCR_AES_GCM_12",
        20 => "ENCR_AES_GCM_16",
        21 => "ENCR_NULL_AUTH_AES_GMAC",
        28 => "ENCR_CHACHA20_POLY1305",
        29 => "ENCR_AES_CCM_8_IIV",
        30 => "ENCR_AES_GCM_16_IIV",
        31 => "ENCR_CHACHA20_POLY1305_IIV",
        _ => return None,
    })
}

/// IANA "IKEv2 Transform Type 3", with the length of the key in bytes. For algorithms that are not supported, the
/// ICV is not checked.
fn integrity(id: u16) -> Option<(&'static Integ, usize)> {
    let unchecked = |icv_len, key_len| Integ::unchecked(icv_len).map(|integ| (integ, key_len));
    match id {
        // HMAC-MD5-96, AES-XCBC-96, AES-CMAC-96; HMAC-MD5-128; HMAC-SHA1-160.
        1 | 5 | 8 => return unchecked(12, 16),
        6 => return unchecked(16, 16),
        7 => return unchecked(20, 20),
        _ => {}
    }
    let integ = Integ::by_name(match id {
        2 => "AUTH_HMAC_SHA1_96",
        12 => "AUTH_HMAC_SHA2_256_128",
        13 => "AUTH_HMAC_SHA2_384_192",
        14 => "AUTH_HMAC_SHA2_512_256",
        _ => return None,
    })?;
    Some((integ, integ.key_len))
}
