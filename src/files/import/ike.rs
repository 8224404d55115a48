//! Secrets of IKE SAs: lines with SK_d, and Wireshark's `ikev2_decryption_table`. One file may hold both.
//!
//! ```text
//! ispi=0123456789abcdef rspi=fedcba9876543210 prf=HMAC-SHA2-256 SK_d=...
//! 0123456789abcdef,fedcba9876543210,SK_ei,SK_er,"AES-CBC-128 [RFC3602]",SK_ai,SK_ar,"HMAC_SHA2_256_128 [RFC4868]"
//! ```
//!
//! The names in the table are those of Wireshark 4.0 to 4.6; the key of an AEAD or of AES-CTR has its salt appended.

use std::path::Path;
use std::sync::Arc;

use super::entry::{EntryError, invalid, invalid_field, wrong};
use super::skipped::Skipped;
use crate::cipher::{Hash, Integ, IntegKey, Keys, Suite};
use crate::context::Origin;
use crate::files::values::{hex, shown};
use crate::ike::{ChildSecret, MessageKeys, Secrets, Spis};
use crate::secret::Secret;

const HELP: &str = "a line is `ispi=... rspi=... prf=HMAC-SHA2-256 SK_d=...`, or one of Wireshark's ikev2_decryption_table with 8 fields";

/// Whether a line is one of these.
pub(crate) fn is_line(line: &str) -> bool {
    has_sk_d(line) || line.split_once(',').is_some_and(|(first, _)| spi(first).is_ok())
}

/// Whether a line consists of words `name=value`, one of which is `SK_d`.
fn has_sk_d(line: &str) -> bool {
    let mut names = line.split_whitespace().map(|word| word.split_once('=').map(|(name, _)| name));
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let begins = names.clone().next().flatten().is_some_and(is_name);
    begins && names.any(|name| name.is_some_and(|name| name.eq_ignore_ascii_case("sk_d")))
}

/// Appends the secrets of `text`.
pub(crate) fn read(path: &Path, text: &str, secrets: &mut Secrets, skipped: &mut Skipped) {
    let file: Arc<Path> = path.into();
    for (line, number) in text.lines().zip(1u64..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = Origin { path: file.clone(), line: number };
        let read = match has_sk_d(line) {
            true => child_secret(line, origin).map(|secret| secrets.children.push(secret)),
            false => message_keys(line, origin).map(|keys| secrets.messages.push(keys)),
        };
        match read {
            Ok(()) => {}
            Err(error) => error.warn(number, HELP, skipped),
        }
    }
}

fn child_secret(line: &str, origin: Origin) -> Result<ChildSecret, EntryError> {
    let (mut spi_i, mut spi_r, mut prf, mut sk_d) = (None, None, None, None);
    for word in line.split_whitespace() {
        let Some((name, value)) = word.split_once('=') else {
            return wrong(format!("{} is not `name=value`", shown(word)), HELP);
        };
        match name.to_ascii_lowercase().as_str() {
            "ispi" => spi_i = Some(spi(value)?),
            "rspi" => spi_r = Some(spi(value)?),
            "prf" => prf = Some(hash(value)?),
            "sk_d" => sk_d = Some(secret("SK_d", value)?),
            _ => return wrong(format!("{} is not known", shown(name)), HELP),
        }
    }
    let (Some(initiator), Some(responder), Some(sk_d)) = (spi_i, spi_r, sk_d) else {
        return wrong("`ispi`, `rspi` or `SK_d` is missing", HELP);
    };
    // SK_d is as long as the key that the prf prefers (RFC 7296 §2.14), an HMAC's output.
    let fits = |hash: &Hash| hash.output_len() == sk_d.len();
    if !prf.as_ref().map_or([Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512].iter().any(fits), fits) {
        let problem = format!("SK_d of {} bytes is not as long as the output of its prf", sk_d.len());
        return wrong(problem, "20 bytes with HMAC-SHA1, 32, 48, 64 with HMAC-SHA2-256, -384, -512");
    }
    Ok(ChildSecret { spis: Spis { initiator, responder }, prf, sk_d, origin })
}

fn message_keys(line: &str, origin: Origin) -> Result<MessageKeys, EntryError> {
    let fields = fields(line)?;
    let [spi_i, spi_r, sk_ei, sk_er, encryption, sk_ai, sk_ar, integrity] = fields.as_slice() else {
        return wrong(format!("{} fields", fields.len()), HELP);
    };
    let spis = Spis { initiator: spi(spi_i)?, responder: spi(spi_r)? };
    let suite = suite(encryption)?;
    let integ = integ(integrity)?;
    let keys = |sk_e: &str, e: &'static str, sk_a: &str, a: &'static str| {
        let key = if sk_e.is_empty() { Secret::default() } else { secret(e, sk_e)? };
        let integ = match integ {
            Some(integ) if integ.hash.is_none() => IntegKey::Algorithm(integ, Secret::default()),
            Some(integ) => IntegKey::Algorithm(integ, secret(a, sk_a)?),
            None => IntegKey::None,
        };
        let help = "compare the algorithms with the keys; the salt of an AEAD and of AES-CTR is appended to SK_e";
        Keys::from_parts(suite, key, None, integ).map_err(|error| invalid(format!("{e}, {a}: {error}")).with_help(help))
    };
    let initiator = keys(sk_ei, "SK_ei", sk_ai, "SK_ai")?;
    let responder = keys(sk_er, "SK_er", sk_ar, "SK_ar")?;
    Ok(MessageKeys { spis, initiator, responder, origin })
}

/// Fields separated by commas, with or without quotes.
fn fields(line: &str) -> Result<Vec<&str>, EntryError> {
    let mut fields = vec![];
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.strip_prefix('"') {
            Some(inside) => {
                let Some((field, after)) = inside.split_once('"') else {
                    return wrong(format!("field {} does not end with a quote", fields.len() + 1), HELP);
                };
                (field, after.trim_start())
            }
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        fields.push(field.trim());
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return wrong(format!("no comma after field {}", fields.len()), HELP),
        }
    }
}

fn spi(word: &str) -> Result<u64, EntryError> {
    let word = word.trim();
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    let parsed = u64::from_str_radix(digits, 16).ok();
    match parsed.filter(|_| digits.len() == 16 && digits.bytes().all(|c| c.is_ascii_hexdigit())) {
        Some(spi) => Ok(spi),
        None => wrong("an SPI of the IKE SA is not 16 hex digits", HELP),
    }
}

fn secret(name: &str, word: &str) -> Result<Secret, EntryError> {
    hex(word).map_err(invalid_field(name)).map_err(|error| error.with_help("write it in hexadecimal"))
}

/// IANA names of "Transform Type 2", with or without `PRF_`, `-` for `_`; strongSwan writes the same.
fn hash(word: &str) -> Result<Hash, EntryError> {
    let name = word.to_ascii_uppercase().replace('-', "_");
    match name.strip_prefix("PRF_").unwrap_or(&name) {
        "HMAC_SHA1" => Ok(Hash::Sha1),
        "HMAC_SHA2_256" | "HMAC_SHA256" => Ok(Hash::Sha256),
        "HMAC_SHA2_384" | "HMAC_SHA384" => Ok(Hash::Sha384),
        "HMAC_SHA2_512" | "HMAC_SHA512" => Ok(Hash::Sha512),
        _ => wrong(
            format!("prf {} is not supported", shown(word)),
            "one of: HMAC-SHA1, HMAC-SHA2-256, HMAC-SHA2-384, HMAC-SHA2-512",
        ),
    }
}

/// Wireshark's name of an encryption algorithm, without the part in brackets. The key also shows its length.
fn suite(name: &str) -> Result<&'static Suite, EntryError> {
    let bare = name.split(" [").next().unwrap_or_default();
    let (cipher, icv) = bare.split_once(" with ").unwrap_or((bare, ""));
    let cipher = ["-128", "-192", "-256"].iter().find_map(|len| cipher.strip_suffix(len)).unwrap_or(cipher);
    let name_here = match (cipher, icv) {
        ("AES-CBC", "") => "ENCR_AES_CBC",
        ("AES-CTR", "") => "ENCR_AES_CTR",
        ("AES-CCM", "8 octet ICV") => "ENCR_AES_CCM_8",
        ("AES-CCM", "12 octet ICV") => "ENCR_AES_CCM_12",
        ("AES-CCM", "16 octet ICV") => "ENCR_AES_CCM_16",
        ("AES-GCM", "8 octet ICV") => "ENCR_AES_GCM_8",
        ("AES-GCM", "12 octet ICV") => "ENCR_AES_GCM_12",
        ("AES-GCM", "16 octet ICV") => "ENCR_AES_GCM_16",
        ("ChaCha20", "Poly1305") => "ENCR_CHACHA20_POLY1305",
        ("NULL", "") => "ENCR_NULL",
        _ => "",
    };
    Suite::by_name(name_here).ok_or_else(|| EntryError::Skipped(format!("encryption {} is not supported", shown(name))))
}

/// Wireshark's name of an integrity algorithm.
fn integ(name: &str) -> Result<Option<&'static Integ>, EntryError> {
    let bare = name.split(" [").next().unwrap_or_default();
    let name_here = match bare {
        "NONE" => return Ok(None),
        "HMAC_SHA1_96" | "HMAC_SHA2_256_128" | "HMAC_SHA2_384_192" | "HMAC_SHA2_512_256" => format!("AUTH_{bare}"),
        // "ANY 96-bits of Authentication [No Checking]"
        _ => match bare.strip_prefix("ANY ").and_then(|rest| rest.strip_suffix("-bits of Authentication")) {
            Some(bits) => format!("ANY {bits} bit authentication [no checking]"),
            None => String::new(),
        },
    };
    match Integ::by_name(&name_here) {
        Some(integ) => Ok(Some(integ)),
        None => Err(EntryError::Skipped(format!("integrity algorithm {} is not supported", shown(name)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Result<Secrets, String>, Vec<String>) {
        let path = Path::new("f");
        let mut skipped = Skipped::new(path);
        let (mut secrets, mut warnings) = (Secrets::default(), vec![]);
        read(path, text, &mut secrets, &mut skipped);
        let result = skipped.finish(!secrets.is_empty(), &mut warnings);
        (result.map(|()| secrets).map_err(|error| error.to_string()), warnings)
    }

    const SPIS: &str = "0123456789abcdef,fedcba9876543210";

    /// Every name of Wireshark 4.0.17's table that is supported.
    #[test]
    fn names_of_the_decryption_table() {
        let key = |len: usize| "5a".repeat(len);
        for (encryption, sk_e, integrity, sk_a, suite, integ) in [
            ("AES-CBC-192 [RFC3602]", 24, "HMAC_SHA1_96 [RFC2404]", 20, "ENCR_AES_CBC", "AUTH_HMAC_SHA1_96"),
            ("AES-CTR-128 [RFC5930]", 20, "HMAC_SHA2_256_128 [RFC4868]", 32, "ENCR_AES_CTR", "AUTH_HMAC_SHA2_256_128"),
            ("AES-CBC-256 [RFC3602]", 32, "HMAC_SHA2_384_192 [RFC4868]", 48, "ENCR_AES_CBC", "AUTH_HMAC_SHA2_384_192"),
            ("NULL [RFC2410]", 0, "HMAC_SHA2_512_256 [RFC4868]", 64, "ENCR_NULL", "AUTH_HMAC_SHA2_512_256"),
            (
                "AES-CBC-128 [RFC3602]",
                16,
                "ANY 96-bits of Authentication [No Checking]",
                0,
                "ENCR_AES_CBC",
                "ANY 96 bit authentication [no checking]",
            ),
            ("AES-CCM-256 with 8 octet ICV [RFC5282]", 35, "NONE [RFC4306]", 0, "ENCR_AES_CCM_8", ""),
            ("AES-CCM-128 with 12 octet ICV [RFC5282]", 19, "NONE [RFC4306]", 0, "ENCR_AES_CCM_12", ""),
            ("AES-CCM-128 with 16 octet ICV [RFC5282]", 19, "NONE [RFC4306]", 0, "ENCR_AES_CCM_16", ""),
            ("AES-GCM-192 with 8 octet ICV [RFC5282]", 28, "NONE [RFC4306]", 0, "ENCR_AES_GCM_8", ""),
            ("AES-GCM-128 with 12 octet ICV [RFC5282]", 20, "NONE [RFC4306]", 0, "ENCR_AES_GCM_12", ""),
            ("AES-GCM-256 with 16 octet ICV [RFC5282]", 36, "NONE [RFC4306]", 0, "ENCR_AES_GCM_16", ""),
        ] {
            let (e, a) = (key(sk_e), key(sk_a));
            let (secrets, warnings) = read_text(&format!("{SPIS},{e},{e},\"{encryption}\",{a},{a},\"{integrity}\""));
            assert_eq!(warnings, [""; 0]);
            let keys = secrets.unwrap().messages.remove(0);
            assert_eq!(keys.initiator.suite().name, suite);
            assert_eq!(keys.responder.integ().map_or("", |(integ, _)| integ.name), integ);
            assert_eq!((keys.spis.initiator, keys.spis.responder), (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210));
        }
        let (secrets, warnings) = read_text(&format!("{SPIS},00,00,\"3DES [RFC2451]\",00,00,\"NONE [RFC4306]\""));
        assert!(secrets.unwrap().is_empty());
        assert_eq!(warnings, ["f:1: skipped: encryption `3DES [RFC2451]` is not supported"]);
    }

    #[test]
    fn lines_with_sk_d() {
        let sk_d = "0a".repeat(20);
        let text = format!("ISPI=0x0123456789abcdef rspi=fedcba9876543210 SK_d={sk_d}\n# comment\n");
        let secrets = read_text(&text).0.unwrap();
        assert_eq!((secrets.children[0].prf, secrets.children[0].sk_d.len()), (None, 20));
        for (name, hash, len) in [
            ("HMAC-SHA1", Hash::Sha1, 20),
            ("PRF_HMAC_SHA2_256", Hash::Sha256, 32),
            ("hmac-sha2-384", Hash::Sha384, 48),
            ("HMAC_SHA2_512", Hash::Sha512, 64),
        ] {
            let sk_d = "0a".repeat(len);
            let text = format!("ispi=0123456789abcdef rspi=fedcba9876543210 prf={name} SK_d={sk_d}");
            assert_eq!(read_text(&text).0.unwrap().children[0].prf, Some(hash));
        }
    }

    #[test]
    fn errors_do_not_show_secrets() {
        let table = |rest: &str| format!("{SPIS},{rest}");
        let sk_d = |rest: &str| format!("ispi=0123456789abcdef rspi=fedcba9876543210 {rest}");
        for (line, problem) in [
            (sk_d("SK_d=00"), "SK_d of 1 bytes is not as long as the output of its prf"),
            (
                sk_d(&format!("prf=HMAC-SHA2-256 SK_d={}", "00".repeat(20))),
                "SK_d of 20 bytes is not as long as the output of its prf",
            ),
            (sk_d("SK_d=0x"), "SK_d: no hex digits"),
            (sk_d("prf=AES-XCBC SK_d=00"), "prf `AES-XCBC` is not supported"),
            (sk_d("SK_d=00 SK_ei=00112233445566778899"), "`SK_ei` is not known"),
            (sk_d("SK_d=00 00112233445566778899"), "(not shown: it may be a secret) is not `name=value`"),
            ("ispi=0123 SK_d=00".into(), "an SPI of the IKE SA is not 16 hex digits"),
            ("ispi=0123456789abcdef SK_d=".to_owned() + &"00".repeat(20), "`ispi`, `rspi` or `SK_d` is missing"),
            (table("00,00"), "4 fields"),
            (
                table("0,00,\"AES-CBC-128 [RFC3602]\",00,00,\"NONE [RFC4306]\""),
                "SK_ei: 1 hex digits are not whole bytes",
            ),
            (
                table("00,00,\"AES-CBC-128 [RFC3602]\",00,00,\"NONE [RFC4306]\""),
                "SK_ei, SK_ai: key of ENCR_AES_CBC is 16, 24 or 32 bytes, not 1",
            ),
            (table("00,00,\"AES-CBC-128 [RFC3602],00,00,NONE"), "field 5 does not end with a quote"),
            (table("00,00,\"AES-CBC-128\" x,00,00,NONE"), "no comma after field 5"),
        ] {
            assert_eq!(read_text(&line).0.map(|_| ()), Err(format!("f:1: {problem}")));
        }
    }

    #[test]
    fn other_files_are_not_recognized() {
        for line in ["sas:", "sk_d", "src a dst b", "\"IPv4\",\"a\"", "0123456789abcdef", "{ispi: 1, SK_d: 2}"] {
            assert!(!is_line(line), "{line}");
        }
        // YAML or JSON with the same name.
        for line in ["{\"sas\":[{\"name\":\"x SK_d=1\"}]}", "- { name: x SK_d=1 }", "name: SK_d=00"] {
            assert!(!is_line(line), "{line}");
        }
        assert!(is_line("x=1 sk_d=00") && is_line(&format!("{SPIS},")));
    }

    use proptest::prelude::*;

    proptest! {
        /// Random combinations of the words in all formats cause no panic.
        #[test]
        fn no_text_panics(words in prop::collection::vec(
            prop_oneof![
                "\\PC{0,12}",
                prop::sample::select(&[
                    "\n", ";", "\"", "add ::1 ::2 esp 1 -E ", "0x00112233445566778899aabbccddeeff ",
                    "0x1@::1 aes128-cbc:", "10[CHD] ", "  using AES_CBC for encryption\n", "adding inbound ESP SA\n",
                    "encryption initiator key => 20 bytes\n", "   0: 00 11 ", "SPI 0x00000001, src ::1 dst ::2\n",
                    "ispi=0123456789abcdef ", "SK_d=00", "0123456789abcdef,", "XFRM state:\n", "src ::1 dst ::2\n",
                    "\tproto esp spi 0x1 ", "enc cbc(aes) 0x00112233445566778899aabbccddeeff ", "ip xfrm state add ", "\\\n",
                    "::1 ::2\n", "\tesp mode=any spi=1(0x1)\n", "\tE: null\n", "esp from ::1 to ::2 spi 1:2 ", "enc null ",
                    "auth none ", "```\n", "root@gw:~# ", "uat:esp_sa:", "\"IPv4\",",
                ][..]).prop_map(String::from),
            ],
            0..40,
        )) {
            let text = words.concat();
            let path = Path::new("f");
            let _ = crate::files::parse(path, text.as_bytes());
            let mut skipped = Skipped::new(path);
            read(path, &text, &mut Secrets::default(), &mut skipped);
            let mut sas = vec![];
            let readers = [
                crate::files::import::charon::read,
                crate::files::import::setkey::read,
                crate::files::import::setkey_dump::read,
                crate::files::import::tcpdump::read,
                crate::files::import::xfrm::read,
                crate::files::import::ipsecctl::read,
                crate::files::import::esp_sa::read,
            ];
            for read in readers {
                read(path, &text, &mut sas, &mut skipped);
            }
            prop_assert!(sas.len() <= words.len() * readers.len());
        }
    }
}
