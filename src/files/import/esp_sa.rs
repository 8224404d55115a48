//! Wireshark's `esp_sa` (the "ESP SAs" table of its ESP preferences): lines of quoted fields.
//!
//! Protocol, source, destination, SPI, encryption, its key, authentication, its key; since 4.4 also the width of the
//! sequence number and its high half. The names are those of Wireshark 4.0 to 4.6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::entry::{self, EntryError, wrong};
use super::esp_sa_algorithms::keys;
use super::skipped::Skipped;
use crate::cipher::Cipher;
use crate::context::Origin;
use crate::files::values::{address, prefix, spi};
use crate::net::{IpVersion, Selector};
use crate::sa::Sa;

/// The prefix of an entry in `-o uat:esp_sa:...` of Wireshark.
const OPTION: &str = "uat:esp_sa:";
const HELP: &str = "a line has 8 fields in quotes, separated by commas (10 with the columns of Wireshark 4.4)";

const READ_AS_CCM: &str = "AES-CTR with a nonce that begins with 03 and an ICV that is not checked is read as AES-CCM, \
                           here and in the rest of the file: Wireshark has no name for AES-CCM. Give an SA that uses AES-CTR in YAML";

/// Whether `line` is an entry: its first field is in quotes or is the IP version, so that the reader can report missing
/// quotes, or it follows `uat:esp_sa:`, as in an option of Wireshark.
pub(crate) fn is_line(line: &str) -> bool {
    if line.contains(OPTION) {
        return true;
    }
    let first_is_version = |(first, _): (&str, &str)| {
        let first = first.trim();
        first.eq_ignore_ascii_case("IPv4") || first.eq_ignore_ascii_case("IPv6")
    };
    let first_is_quoted = || {
        let (_, after) = line.strip_prefix('"')?.split_once('"')?;
        Some(after.trim_start().starts_with(','))
    };
    line.split_once(',').is_some_and(first_is_version) || first_is_quoted().unwrap_or(false)
}

/// The entry of a line: the text after `uat:esp_sa:` without the quotes of the shell, or the whole line.
fn entry_of(line: &str) -> Zeroizing<String> {
    let Some((before, entry)) = line.split_once(OPTION) else { return Zeroizing::new(line.to_owned()) };
    let entry = match before.chars().next_back() {
        Some(quote @ ('"' | '\'')) => entry.rsplit_once(quote).map_or(entry, |(entry, _)| entry),
        _ => entry,
    };
    // Inside double quotes, the shell requires a backslash before each quote.
    Zeroizing::new(entry.replace("\\\"", "\""))
}

/// Appends the SAs of `text`.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let file: Arc<Path> = path.into();
    let mut fields = vec![];
    let mut ccm_noted = false;
    for (line, number) in text.lines().zip(1u64..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = Origin { path: file.clone(), line: number };
        let read = match line.starts_with('"') {
            true => split(line, &mut fields).and_then(|()| sa(&fields, origin, skipped)),
            false => {
                let (entry, mut fields) = (entry_of(line), vec![]);
                split(&entry, &mut fields).and_then(|()| sa(&fields, origin, skipped))
            }
        };
        match read {
            Ok(sa) => {
                if sa.read_as_ccm && !std::mem::replace(&mut ccm_noted, true) {
                    skipped.note(number, READ_AS_CCM);
                }
                sas.push(Arc::new(sa));
            }
            Err(error) => error.warn(number, HELP, skipped),
        }
    }
}

/// A field without quotes and escapes.
enum Field<'t> {
    AsWritten(&'t str),
    Unescaped(Zeroizing<String>),
}

impl Deref for Field<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Field::AsWritten(text) => text,
            Field::Unescaped(text) => text,
        }
    }
}

/// Replaces `fields` with the fields of a line.
fn split<'t>(line: &'t str, fields: &mut Vec<Field<'t>>) -> Result<(), EntryError> {
    fields.clear();
    let mut rest = line;
    loop {
        let Some(inside) = rest.trim_start().strip_prefix('"') else {
            return wrong(format!("field {} does not begin with a quote", fields.len() + 1), HELP);
        };
        // Fields are short, so this loop is faster than the library's search.
        let end = inside.bytes().position(|byte| byte == b'"');
        let Some((field, after)) = end.and_then(|end| Some((inside.get(..end)?, inside.get(end + 1..)?))) else {
            return wrong(format!("field {} does not end with a quote", fields.len() + 1), HELP);
        };
        fields.push(match field.contains('\\') {
            true => Field::Unescaped(Zeroizing::new(unescaped(field))),
            false => Field::AsWritten(field),
        });
        match after.trim_start() {
            "" => return Ok(()),
            after => match after.strip_prefix(',') {
                Some(next) => rest = next,
                None => return wrong(format!("no comma after field {}", fields.len()), HELP),
            },
        }
    }
}

/// Wireshark writes quotes, backslashes and unprintable characters as `\xHH`.
fn unescaped(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut rest = field;
    while let Some((before, after)) = rest.split_once("\\x") {
        text.push_str(before);
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                text.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                text.push_str("\\x");
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text
}

fn sa(fields: &[Field<'_>], origin: Origin, skipped: &mut Skipped) -> Result<Sa, EntryError> {
    let (head, numbers) = match fields.split_first_chunk::<8>() {
        Some((head, [])) => (head, None),
        Some((head, [width, high])) => (head, Some((&**width, &**high))),
        _ => return wrong(format!("{} fields", fields.len()), HELP),
    };
    let [protocol, src, dst, spi_field, encryption, key, authentication, auth_key] =
        head.each_ref().map(|field| field.trim());
    let version = match protocol {
        _ if protocol.eq_ignore_ascii_case("IPv4") => IpVersion::V4,
        _ if protocol.eq_ignore_ascii_case("IPv6") => IpVersion::V6,
        _ => return wrong("the protocol is neither IPv4 nor IPv6", "the first field is \"IPv4\" or \"IPv6\""),
    };
    let src = selector(src, version, "source")?;
    let dst = selector(dst, version, "destination")?;
    let spi = match spi_field {
        "*" => None,
        _ => match spi(spi_field) {
            Ok(spi) => Some(spi),
            Err(_) if spi_field.contains('*') => {
                return wrong("an SPI with a `*` in it", "write the whole SPI, or `*` alone for every SPI");
            }
            Err(value_error) => return wrong(format!("SPI: {}", value_error.problem), "write `0x` and 8 hex digits"),
        },
    };
    let (esn, sn_hint) = match numbers {
        None => (false, None),
        Some(numbers) => sequence_numbers(numbers)?,
    };
    let keys = keys([encryption, key, authentication, auth_key], origin.line, skipped)?;
    let read_as_ccm = keys.suite().cipher == Cipher::AesCcm;
    Ok(Sa { esn, sn_hint, read_as_ccm, ..entry::sa(spi, [src, dst], keys, origin) })
}

/// Width and high half of the sequence number.
fn sequence_numbers((width, high): (&str, &str)) -> Result<(bool, Option<u64>), EntryError> {
    let digits = high.trim_start_matches("0x");
    let high = match u32::from_str_radix(digits, 16) {
        Ok(high) => high,
        Err(_) if digits.is_empty() => 0,
        Err(_) => {
            return wrong("the upper sequence number is not a hex number of 32 bits", "write `0` if it is not known");
        }
    };
    match width {
        "32-bit" => Ok((false, None)),
        "64-bit" => Ok((true, Some(u64::from(high) << 32).filter(|hint| *hint != 0))),
        _ => wrong("the width of the sequence number is neither \"32-bit\" nor \"64-bit\"", "correct the ninth field"),
    }
}

/// `*`, an address, address/length, or an address whose last parts are `*`.
fn selector(word: &str, version: IpVersion, which: &str) -> Result<Selector, EntryError> {
    let every = match version {
        IpVersion::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpVersion::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    if word == "*" {
        return Ok(Selector::Prefix { address: every, len: 0 });
    }
    let (separator, part_bits) = match version {
        IpVersion::V4 => ('.', 8),
        IpVersion::V6 => (':', 16),
    };
    let parsed = match word.rsplit(separator).take_while(|part| *part == "*").count() {
        0 => prefix(word),
        parts => match word.strip_suffix(&format!("{separator}*").repeat(parts)) {
            Some(head) => address(&format!("{head}{}", format!("{separator}0").repeat(parts))).map(|address| {
                let wild_bits = u32::try_from(parts).unwrap_or(u32::MAX).saturating_mul(part_bits);
                (address, u8::try_from(version.address_bits().saturating_sub(wild_bits)).unwrap_or(0))
            }),
            // All parts are `*`.
            None => Ok((every, 0)),
        },
    };
    let help = "an address, address/length without host bits, `*`, or `*` for its last parts (10.0.*.*)";
    match parsed {
        Ok((address, len)) if IpVersion::of(address) == version => Ok(Selector::Prefix { address, len }),
        Ok(_) => wrong(format!("the {which} address is not of the IP version of the first field"), help),
        Err(value_error) => wrong(format!("{which} address: {}", value_error.problem), help),
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::read_text;
    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff";

    fn one(line: &str) -> Arc<Sa> {
        let (sas, warnings) = read_text(read, line);
        assert_eq!(warnings, [""; 0]);
        let mut sas = sas.unwrap();
        assert_eq!(sas.len(), 1);
        sas.remove(0)
    }

    fn line(head: &str, encryption: &str, key: &str, authentication: &str, auth_key: &str) -> String {
        format!("{head},\"{encryption}\",\"{key}\",\"{authentication}\",\"{auth_key}\"")
    }

    const HEAD: &str = r#""IPv4","10.0.0.1","10.0.0.2","0x00000001""#;

    #[test]
    fn every_cipher_and_authentication_of_wireshark() {
        let any = |bits: usize| format!("ANY {bits} bit authentication [no checking]");
        let hmac = "HMAC-SHA-256-128 [RFC4868]".to_owned();
        let null = "NULL".to_owned();
        for (encryption, salt, authentication, auth_len, suite, integ_icv_len) in [
            ("NULL", 0, &hmac, 32, "ENCR_NULL", Some(16)),
            ("NULL", 0, &any(256), 0, "ENCR_NULL", Some(32)),
            ("AES-CBC [RFC3602]", 0, &null, 0, "ENCR_AES_CBC", None),
            ("AES-CBC [RFC3602]", 0, &"HMAC-SHA-1-96 [RFC2404]".into(), 20, "ENCR_AES_CBC", Some(12)),
            ("AES-CBC [RFC3602]", 0, &"HMAC-SHA-384-192 [RFC4868]".into(), 48, "ENCR_AES_CBC", Some(24)),
            ("AES-CBC [RFC3602]", 0, &"HMAC-SHA-512-256 [RFC4868]".into(), 64, "ENCR_AES_CBC", Some(32)),
            ("AES-CBC [RFC3602]", 0, &any(192), 0, "ENCR_AES_CBC", Some(24)),
            ("AES-CTR [RFC3686]", 4, &hmac, 32, "ENCR_AES_CTR", Some(16)),
            ("AES-CTR [RFC3686]", 4, &any(64), 0, "ENCR_AES_CTR", Some(8)),
            ("AES-GCM [RFC4106]", 4, &any(128), 0, "ENCR_AES_GCM_16", None),
            ("AES-GCM [RFC4106]", 4, &any(96), 0, "ENCR_AES_GCM_12", None),
            ("AES-GCM [RFC4106]", 4, &any(64), 0, "ENCR_AES_GCM_8", None),
            ("AES-GCM with 8 octet ICV [RFC4106]", 4, &null, 0, "ENCR_AES_GCM_8", None),
            ("AES-GCM with 12 octet ICV [RFC4106]", 4, &null, 0, "ENCR_AES_GCM_12", None),
            ("AES-GCM with 16 octet ICV [RFC4106]", 4, &null, 0, "ENCR_AES_GCM_16", None),
            ("AES-GCM with 16 octet ICV [RFC4106]", 4, &any(128), 0, "ENCR_AES_GCM_16", None),
            ("ChaCha20 with Poly1305 [RFC7634]", 4, &null, 0, "ENCR_CHACHA20_POLY1305", None),
        ] {
            let key_len = match suite {
                "ENCR_NULL" => 0,
                "ENCR_CHACHA20_POLY1305" => 32,
                _ => 16,
            };
            let salt_digits = "a0a1a2a3".get(..salt * 2).unwrap();
            let key = format!("0x{}{salt_digits}", "11".repeat(key_len));
            let auth_key = if auth_len > 0 { format!("0x{}", "22".repeat(auth_len)) } else { String::new() };
            let sa = one(&line(HEAD, encryption, &key, authentication, &auth_key));
            assert_eq!((sa.name.as_str(), sa.spi, sa.esn), ("0x00000001", Some(1), false));
            assert_eq!(sa.keys.suite().name, suite);
            assert_eq!(sa.keys.key().expose(), vec![0x11; key_len]);
            assert_eq!(hex::encode(sa.keys.salt().expose()), salt_digits);
            assert_eq!(sa.keys.integ().map(|(integ, _)| integ.icv_len), integ_icv_len, "{encryption} {authentication}");
            assert_eq!(sa.keys.integ().map_or(0, |(_, key)| key.len()), auth_len);
        }
    }

    #[test]
    fn ctr_with_nonce_03_and_unchecked_icv_is_ccm() {
        for (bits, ccm) in [(64, "ENCR_AES_CCM_8"), (96, "ENCR_AES_CCM_12"), (128, "ENCR_AES_CCM_16")] {
            let authentication = format!("ANY {bits} bit authentication [no checking]");
            let text = line(HEAD, "AES-CTR [RFC3686]", &format!("0x{KEY}03a0a1a2"), &authentication, "");
            let before = line(HEAD, "NULL", "", "NULL", "");
            let (sas, warnings) = read_text(read, &format!("{before}\n{text}\n{text}"));
            let sas = sas.unwrap();
            let [_, first, second] = sas.as_slice() else { panic!() };
            for (sa, line) in [(first, 2), (second, 3)] {
                assert_eq!((sa.keys.suite().name, sa.read_as_ccm, sa.origin.line), (ccm, true, line));
                assert_eq!(hex::encode(sa.keys.key().expose()), KEY);
                assert_eq!(hex::encode(sa.keys.salt().expose()), "a0a1a2");
            }
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].starts_with("f:2: AES-CTR with a nonce that begins with 03 "), "{warnings:?}");
        }
        for (nonce, authentication) in [
            ("04a0a1a2", "ANY 64 bit authentication [no checking]"),
            ("03a0a1a2", "ANY 192 bit authentication [no checking]"),
        ] {
            let sa = one(&line(HEAD, "AES-CTR [RFC3686]", &format!("0x{KEY}{nonce}"), authentication, ""));
            assert_eq!((sa.keys.suite().name, sa.read_as_ccm), ("ENCR_AES_CTR", false));
        }
    }

    #[test]
    fn addresses_spis_and_keys_in_wiresharks_spellings() {
        let sa = |head: &str, key: &str| one(&line(head, "AES-CBC [RFC3602]", key, "NULL", ""));
        let key = format!("0x{KEY}");
        let prefix = |address: &str, len| Selector::Prefix { address: address.parse().unwrap(), len };
        for (protocol, written, selector) in [
            ("IPv4", "10.0.0.1", prefix("10.0.0.1", 32)),
            ("IPv4", "*", prefix("0.0.0.0", 0)),
            ("ipv6", "*", prefix("::", 0)),
            ("IPv4", "192.168.0.0/16", prefix("192.168.0.0", 16)),
            ("IPv4", "192.168.*.*", prefix("192.168.0.0", 16)),
            ("IPv4", "*.*.*.*", prefix("0.0.0.0", 0)),
            ("IPv6", "fd00::/8", prefix("fd00::", 8)),
            ("IPv6", "2001:db8::*", prefix("2001:db8::", 112)),
            ("IPv6", "2001:DB8:0:0:0:0:*:*", prefix("2001:db8::", 96)),
        ] {
            let sa = sa(&format!("\"{protocol}\", \"{written}\" ,\"*\",\"0x00000001\""), &key);
            assert_eq!(sa.src, selector, "{written}");
        }
        for (written, spi, name) in [
            ("0xfd761b86", Some(0xfd76_1b86), "0xfd761b86"),
            ("0xFD761B86", Some(0xfd76_1b86), "0xfd761b86"),
            ("4252375942", Some(0xfd76_1b86), "0xfd761b86"),
            ("*", None, "any"),
        ] {
            let sa = sa(&format!("\"IPv4\",\"*\",\"*\",\"{written}\""), &key);
            assert_eq!((sa.spi, sa.name.as_str()), (spi, name));
        }
        for (written, expected) in [
            (format!("0X{KEY}"), KEY.to_owned()),
            // Wireshark adds a leading zero to an odd number of digits.
            ("0x0112233445566778899aabbccddeeff".to_owned(), KEY.to_owned()),
            ("0123456789abcdef".to_owned(), "30313233343536373839616263646566".to_owned()),
            (r"0123456789abcd\x22\x5c".to_owned(), "3031323334353637383961626364225c".to_owned()),
        ] {
            assert_eq!(hex::encode(sa(HEAD, &written).keys.key().expose()), expected, "{written}");
        }
    }

    #[test]
    fn extended_sequence_numbers_have_two_more_fields() {
        let with = |fields: &str| one(&format!("{}{fields}", line(HEAD, "NULL", "", "NULL", "")));
        let sa = |fields: &str| {
            let sa = with(fields);
            (sa.esn, sa.sn_hint)
        };
        assert_eq!(sa(""), (false, None));
        assert_eq!(sa(",\"32-bit\",\"0\""), (false, None));
        assert_eq!(sa(",\"64-bit\",\"0\""), (true, None));
        assert_eq!(sa(",\"64-bit\",\"\""), (true, None));
        assert_eq!(sa(",\"64-bit\",\"1f\""), (true, Some(0x1f_0000_0000)));
        assert_eq!(sa(",\"64-bit\",\"0xffffffff\""), (true, Some(0xffff_ffff_0000_0000)));
    }

    #[test]
    fn unsupported_lines_are_skipped_with_a_warning() {
        let key = format!("0x{KEY}");
        let lines = [
            "# This file is automatically generated, DO NOT MODIFY.".to_owned(),
            line(HEAD, "TripleDES-CBC [RFC2451]", "zz", "NULL", ""),
            line(HEAD, "AES-CBC [RFC3602]", &key, "HMAC-MD2 [RFC9999]", &key),
            line(HEAD, "AES-GCM with 16 octet ICV [RFC4106]", &key, "HMAC-SHA-1-96 [RFC2404]", &key),
            line(HEAD, &key, "AES-CBC [RFC3602]", "NULL", ""),
            line(HEAD, "AES-CBC [RFC3602]", &key, "NULL", ""),
        ];
        let (sas, warnings) = read_text(read, &lines.join("\r\n"));
        assert_eq!(sas.unwrap().len(), 1);
        assert_eq!(
            warnings,
            [
                "f:2: skipped: encryption `TripleDES-CBC [RFC2451]` is not supported",
                "f:3: skipped: authentication `HMAC-MD2 [RFC9999]` is not supported",
                "f:4: skipped: ENCR_AES_GCM_16 requires authentication \"NULL\"",
                "f:5: skipped: encryption (not shown: it may be a secret) is not supported",
            ]
        );
        let many = format!("{}\n", lines[1]).repeat(50);
        let warnings = read_text(read, &many).1;
        assert_eq!((warnings.len(), warnings[20].as_str()), (21, "f: 30 more entries with a warning"));
    }

    #[test]
    fn assumptions_about_a_line_are_noted() {
        let key = format!("0x{KEY}");
        let hmac = "HMAC-SHA-256-128 [RFC4868]";
        for (text, suite, icv_len, authenticates, note) in [
            (
                line(HEAD, "AES-CBC [RFC3602]", &key, "HMAC-MD5-96 [RFC2403]", &key),
                "ENCR_AES_CBC",
                12,
                false,
                "authentication `HMAC-MD5-96 [RFC2403]` is not supported: its ICV of 12 bytes is not checked",
            ),
            (
                line(HEAD, "AES-CBC [RFC3602]", &key, hmac, ""),
                "ENCR_AES_CBC",
                16,
                false,
                "authentication `HMAC-SHA-256-128 [RFC4868]` has no key in this file: its ICV of 16 bytes is not checked",
            ),
            (
                line(HEAD, "AES-GCM [RFC4106]", &format!("{key}00000000"), "NULL", ""),
                "ENCR_AES_GCM_16",
                16,
                true,
                "\"AES-GCM [RFC4106]\" does not say how long the ICV is: read as 16 bytes",
            ),
        ] {
            let (sas, warnings) = read_text(read, &text);
            let keys = &sas.unwrap()[0].keys;
            assert_eq!((keys.suite().name, keys.icv_len(), keys.authenticates()), (suite, icv_len, authenticates));
            assert_eq!(warnings, [format!("f:1: {note}")]);
        }
    }

    #[test]
    fn several_lines_may_have_the_same_spi() {
        let text = line(HEAD, "NULL", "", "NULL", "");
        assert_eq!(read_text(read, &format!("{text}\n{text}\n")).0.unwrap().len(), 2);
    }

    #[test]
    fn an_invalid_line_does_not_affect_the_others() {
        let good = line(HEAD, "AES-CBC [RFC3602]", &format!("0x{KEY}"), "NULL", "");
        let (sas, warnings) = read_text(read, &format!("{}\n{good}\n{good},", good.replacen("10.0.0.1", "gate", 1)));
        assert_eq!(sas.unwrap().len(), 1);
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].starts_with("f:1: skipped: source address: not an IP address; an address, "),
            "{warnings:?}"
        );
        assert!(warnings[1].starts_with("f:3: skipped: field 9 does not begin with a quote; "), "{warnings:?}");
    }

    #[test]
    fn a_file_of_invalid_lines_is_rejected() {
        let good = line(HEAD, "AES-CBC [RFC3602]", &format!("0x{KEY}"), "NULL", "");
        let addresses = "an address, address/length without host bits, `*`, or `*` for its last parts (10.0.*.*)";
        for (from, to, problem, help) in [
            (",\"\"", "", "7 fields", HELP),
            (",\"\"", ",\"\",\"32-bit\"", "9 fields", HELP),
            (",\"\"", ",", "field 8 does not begin with a quote", HELP),
            ("\"IPv4\"", "IPv4", "field 1 does not begin with a quote", HELP),
            (",\"\"", ",\"", "field 8 does not end with a quote", HELP),
            ("\"10.0.0.1\",", "\"10.0.0.1\"", "no comma after field 2", HELP),
            ("IPv4", "IPv5", "the protocol is neither IPv4 nor IPv6", "the first field is \"IPv4\" or \"IPv6\""),
            ("10.0.0.1", "::1", "the source address is not of the IP version of the first field", addresses),
            ("10.0.0.2", "10.0.*.2", "destination address: not an IP address", addresses),
            ("10.0.0.2", "10.0.0.2/8", "destination address: bits after the first 8 are set", addresses),
            ("0x00000001", "0x0000000*", "an SPI with a `*` in it", "write the whole SPI, or `*` alone for every SPI"),
            ("0x00000001", "0x000000001f", "", ""),
            ("0x00000001", "1x", "SPI: not an SPI of 32 bits", "write `0x` and 8 hex digits"),
            ("0x0011", "0xg011", "a key has characters other than hex digits", "write `0x` and the key in hexadecimal"),
            (
                "0x0011",
                "0x11",
                "key of ENCR_AES_CBC is 16, 24 or 32 bytes, not 15",
                "the key is followed by its salt (nonce): 4 bytes for AES-CTR, AES-GCM and ChaCha20",
            ),
            (
                ",\"\"",
                ",\"\",\"48-bit\",\"0\"",
                "the width of the sequence number is neither \"32-bit\" nor \"64-bit\"",
                "correct the ninth field",
            ),
            (
                ",\"\"",
                ",\"\",\"64-bit\",\"100000000\"",
                "the upper sequence number is not a hex number of 32 bits",
                "write `0` if it is not known",
            ),
        ] {
            let text = format!("# head\n{}", good.replacen(from, to, 1));
            let expected = if problem.is_empty() { None } else { Some((format!("f:2: {problem}"), help.to_owned())) };
            assert_eq!(read_text(read, &text).0.err(), expected, "{text}");
        }
    }
}
