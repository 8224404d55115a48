//! Algorithms and keys as Wireshark's `esp_sa` names them.

use super::entry::{EntryError, invalid, wrong};
use super::integrity::Integrity;
use super::skipped::Skipped;
use crate::cipher::{Cipher, INTEGS, Integ, IntegKey, Keys, SUITES, Suite};
use crate::files::values::{NO_HEX_DIGIT, hex_digit, shown};
use crate::secret::Secret;

/// A key as Wireshark reads it: `0x` and hex digits (an odd number means a leading zero), otherwise the characters
/// themselves.
fn ascii_or_hex(field: &str) -> Result<Secret, EntryError> {
    let Some(digits) = field.strip_prefix("0x").or_else(|| field.strip_prefix("0X")) else {
        return Ok(Secret::new(field.as_bytes().to_vec()));
    };
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    let (odd, pairs) = digits.as_bytes().as_rchunks::<2>();
    let odd = odd.first().map(|low| [b'0', *low]);
    let mut wrong_digit = false;
    for [high, low] in odd.iter().chain(pairs) {
        let (high, low) = (hex_digit(*high), hex_digit(*low));
        wrong_digit |= high.max(low) == NO_HEX_DIGIT;
        bytes.push(high << 4 | low);
    }
    let secret = Secret::new(bytes);
    if wrong_digit {
        return wrong("a key has characters other than hex digits", "write `0x` and the key in hexadecimal");
    }
    Ok(secret)
}

/// The keys, from the names of encryption and authentication and their keys.
pub(super) fn keys(
    [encryption, key, authentication, auth_key]: [&str; 4],
    line: u64,
    skipped: &mut Skipped,
) -> Result<Keys, EntryError> {
    let integ = INTEGS.iter().find(|integ| integ.wireshark == authentication);
    let suite = suite(encryption, integ, line, skipped)?;
    let integ_key = match integ {
        None if authentication == "NULL" => IntegKey::None,
        None => unknown(authentication).key(line, skipped).map_err(EntryError::Skipped)?,
        // An AEAD needs no authentication algorithm, but users often enter the length of its ICV here.
        Some(integ) if suite.is_aead() && integ.hash.is_none() && integ.icv_len == suite.icv_len => IntegKey::None,
        Some(_) if suite.is_aead() => {
            return Err(EntryError::Skipped(format!("{} requires authentication \"NULL\"", suite.name)));
        }
        Some(integ) if integ.hash.is_none() => IntegKey::Algorithm(integ, Secret::default()),
        Some(integ) => {
            let (iana, key) = (integ.name, ascii_or_hex(auth_key)?);
            let integrity = Integrity { shown_name: shown(authentication), iana, icv_len: None, key };
            integrity.key(line, skipped).map_err(EntryError::Skipped)?
        }
    };
    let key = ascii_or_hex(key)?;
    if let Some(ccm) = ccm(encryption, &key, authentication) {
        return Ok(ccm);
    }
    let help = "the key is followed by its salt (nonce): 4 bytes for AES-CTR, AES-GCM and ChaCha20";
    Keys::from_parts(suite, key, None, integ_key).map_err(|error| invalid(error.to_string()).with_help(help))
}

/// An authentication of Wireshark that is not supported here.
fn unknown(name: &str) -> Integrity<'static> {
    let icv_len = matches!(name, "HMAC-MD5-96 [RFC2403]" | "MAC-RIPEMD-160-96 [RFC2857]").then_some(12);
    Integrity { shown_name: shown(name), iana: "", icv_len, key: Secret::default() }
}

/// AES-CCM has no name in Wireshark and is written as AES-CTR (its keystream) with a nonce of byte 03 and the salt:
/// CCM's counter block begins with the flags byte 03 (RFC 3610 §2.3 with L = 4), CTR's with the nonce.
fn ccm(encryption: &str, key: &Secret, authentication: &str) -> Option<Keys> {
    let ccm = SUITES.iter().find(|suite| {
        suite.cipher == Cipher::AesCcm
            && suite
                .wireshark
                .is_some_and(|names| names.encryption == encryption && names.authentication == Some(authentication))
    })?;
    let (key, nonce) = key.expose().split_last_chunk::<4>()?;
    let salt = nonce.strip_prefix(&[3])?;
    Keys::new(ccm, Secret::new(key.to_vec()), Secret::new(salt.to_vec()), IntegKey::None).ok()
}

fn suite(
    encryption: &str,
    integ: Option<&Integ>,
    line: u64,
    skipped: &mut Skipped,
) -> Result<&'static Suite, EntryError> {
    // Before 4.0, AES-GCM had a single name, and the authentication algorithm gave the length of its ICV.
    let name = match (encryption, integ.map(|integ| integ.icv_len)) {
        ("AES-GCM [RFC4106]", Some(8)) => "AES-GCM with 8 octet ICV [RFC4106]",
        ("AES-GCM [RFC4106]", Some(12)) => "AES-GCM with 12 octet ICV [RFC4106]",
        ("AES-GCM [RFC4106]", Some(16)) => "AES-GCM with 16 octet ICV [RFC4106]",
        // RFC 4106 §6: all implementations support 16 bytes. With another length, the ICV does not verify.
        ("AES-GCM [RFC4106]", _) => {
            let what = "\"AES-GCM [RFC4106]\" does not say how long the ICV is: read as 16 bytes";
            skipped.note(line, what);
            "AES-GCM with 16 octet ICV [RFC4106]"
        }
        _ => encryption,
    };
    let of_that_name = |suite: &&Suite| {
        // AES-CCM is written with the name of AES-CTR.
        suite.wireshark.is_some_and(|names| names.encryption == name) && suite.cipher != Cipher::AesCcm
    };
    SUITES
        .iter()
        .find(of_that_name)
        .ok_or_else(|| EntryError::Skipped(format!("encryption {} is not supported", shown(encryption))))
}
