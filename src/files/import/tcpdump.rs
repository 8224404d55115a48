//! Secrets of `tcpdump -E`: its argument, or the lines of the file that `-E "file NAME"` names.
//!
//! ```text
//! 0xa1b2@192.0.2.2 aes128-cbc-hmac96:0x00112233445566778899aabbccddeeff
//! 0xa1b3@2001:db8::1 aes256-cbc:thirty-two characters of a key..
//! aes128-cbc:0x00112233445566778899aabbccddeeff           for every SPI and address
//! 0xa1b4@192.0.2.2 none-hmac96:
//! tcpdump -r x.pcap -E "0xa1b2@192.0.2.2 aes128-cbc-hmac96:0x00112233445566778899aabbccddeeff"
//! ```
//!
//! The address is the destination. tcpdump does not check the ICV: `-hmac96` means that there is one of 12 bytes;
//! otherwise there is none. If several lines are for the same SA, tcpdump uses the last one.

use std::path::Path;
use std::sync::Arc;

use super::entry::{self, EntryError, invalid, invalid_field};
use super::skipped::Skipped;
use crate::cipher::{Integ, IntegKey, Keys, Suite};
use crate::context::Origin;
use crate::files::values::{address, hex, shown, spi};
use crate::net::Selector;
use crate::sa::Sa;
use crate::secret::Secret;

const HELP: &str = "a line is `SPI@ADDRESS aes128-cbc-hmac96:0xKEY`, as for tcpdump -E";

/// Whether `line` contains such a secret.
pub(crate) fn is_line(line: &str) -> bool {
    is_secret(line) || argument(line).is_some()
}

/// The argument of -E in a command line of tcpdump.
fn argument(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let command = words.find(|word| *word != "sudo")?;
    if command != "tcpdump" && !command.ends_with("/tcpdump") {
        return None;
    }
    let (_, after) = line.split_once(" -E")?;
    let after = after.trim_start();
    match after.chars().next()? {
        quote @ ('"' | '\'') => after.get(1..)?.split(quote).next(),
        _ => after.split_whitespace().next(),
    }
}

fn is_secret(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let (Some(first), second) = (words.next(), words.next()) else { return false };
    match first.split_once('@') {
        Some((number, host)) => spi(number).is_ok() && address(host).is_ok(),
        None if second.is_none() => first
            .split_once(':')
            .is_some_and(|(name, _)| name.ends_with("-cbc") || name.ends_with("-hmac96") || name == "none"),
        None => first == "ikev2" && matches!(second, Some("I" | "R")),
    }
}

/// Appends the SAs of `text`, the last line first.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let file: Arc<Path> = path.into();
    let mut found = vec![];
    for (line, number) in text.lines().zip(1u64..) {
        if line.trim_start().starts_with('#') {
            continue;
        }
        let argument = argument(line);
        if argument.is_some_and(|argument| argument.starts_with("file ")) {
            skipped.invalid(number, "the secrets are in the file that -E names", "load that file instead");
            continue;
        }
        for secret in secrets(argument.unwrap_or(line)) {
            match sa(secret, Origin { path: file.clone(), line: number }) {
                Ok(sa) => found.push(sa),
                Err(error) => error.warn(number, HELP, skipped),
            }
        }
    }
    // A secret for every SA is used only if no other one matches.
    found.reverse();
    found.sort_by_key(|sa| sa.spi.is_none());
    sas.extend(found.into_iter().map(Arc::new));
}

/// Commas separate the secrets in the argument of -E. A key that is text may also contain a comma, so only a comma
/// before the start of a secret is a separator.
fn secrets(line: &str) -> Vec<&str> {
    let mut secrets: Vec<&str> = vec![];
    let mut start = 0;
    for (at, _) in line.match_indices(',') {
        if line.get(at + 1..).is_some_and(is_secret) {
            secrets.extend(line.get(start..at));
            start = at + 1;
        }
    }
    secrets.extend(line.get(start..));
    secrets.into_iter().map(str::trim).filter(|secret| !secret.is_empty()).collect()
}

fn sa(line: &str, origin: Origin) -> Result<Sa, EntryError> {
    let (whose, rest) = match line.split_once([' ', '\t']) {
        Some(("ikev2", _)) => {
            return Err(EntryError::Skipped(
                "a secret of IKE messages: no SA can be derived from it without SK_d".into(),
            ));
        }
        Some((whose, rest)) => (Some(whose), rest.trim_start()),
        None => (None, line),
    };
    let (spi, dst) = match whose.map(|whose| whose.split_once('@')) {
        None => (None, Selector::Any),
        Some(None) => return Err(invalid("no `SPI@ADDRESS` before the algorithm")),
        Some(Some((number, host))) => {
            let spi = spi(number).map_err(invalid_field("SPI"))?;
            let dst = address(host).map_err(invalid_field("address"))?;
            (Some(spi), Selector::address(dst))
        }
    };
    let Some((algorithm, secret)) = rest.split_once(':') else {
        return Err(invalid("no `:` between algorithm and key"));
    };
    let (cipher, integ) = match algorithm.strip_suffix("-hmac96") {
        Some(cipher) => (cipher, Integ::by_name("ANY 96 bit authentication [no checking]")),
        None => (algorithm, None),
    };
    let unchecked = integ.map_or(IntegKey::None, |integ| IntegKey::Algorithm(integ, Secret::default()));
    let (suite, key) = match cipher {
        "none" => ("ENCR_NULL", Secret::default()),
        // tcpdump passes the name before `-cbc` to OpenSSL.
        _ => match cipher.strip_suffix("-cbc").unwrap_or(cipher) {
            "aes128" | "aes-128" => ("ENCR_AES_CBC", key(secret, 16)?),
            "aes192" | "aes-192" => ("ENCR_AES_CBC", key(secret, 24)?),
            "aes256" | "aes-256" => ("ENCR_AES_CBC", key(secret, 32)?),
            _ => return Err(EntryError::Skipped(format!("algorithm {} is not supported", shown(algorithm)))),
        },
    };
    let suite = Suite::by_name(suite).ok_or_else(|| invalid(HELP))?;
    let keys = Keys::new(suite, key, Secret::default(), unchecked).map_err(|error| invalid(error.to_string()))?;
    Ok(entry::sa(spi, [Selector::Any, dst], keys, origin))
}

/// Like tcpdump, truncates text to the length of the key or pads it with zeros. tcpdump does the same with hex digits;
/// here, hex digits of another length are an error.
fn key(secret: &str, len: usize) -> Result<Secret, EntryError> {
    if secret.starts_with("0x") {
        let key = hex(secret).map_err(invalid_field("key"))?;
        return match key.len() == len {
            true => Ok(key),
            false => Err(invalid(format!("the key is {len} bytes, not {}", key.len()))),
        };
    }
    if secret.is_empty() {
        return Err(invalid("no key after the `:`"));
    }
    let mut bytes: Vec<u8> = secret.bytes().take(len).collect();
    bytes.resize(len, 0);
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::entry::read_text;
    use super::*;

    /// As print-esp.c parses them.
    #[test]
    fn lines_of_a_file_and_the_argument() {
        let (sas, warnings) = read_text(
            read,
            "# comment
aes128-cbc-hmac96:0x00112233445566778899aabbccddeeff
0xa1b2@192.0.2.2 aes128-cbc-hmac96:0x00112233445566778899aabbccddeeff
41394@2001:db8::1\taes256-cbc:thirty-two, characters of a key.
0x12@192.0.2.2 aes192:short,0x13@192.0.2.2 aes128-cbc:too long to be a key
ikev2 I 0x0011223344556677 0x8899aabbccddeeff sha1:0x00 aes128-cbc:0x00
0x14@192.0.2.2 3des-cbc:0x00",
        );
        let sas = sas.unwrap();
        let seen: Vec<String> = sas
            .iter()
            .map(|sa| {
                let integ = sa.keys.integ().map_or(0, |(integ, _)| integ.icv_len);
                format!("{} {} {} {} {integ} {}", sa.origin.line, sa.name, sa.src, sa.dst, sa.keys.key().len())
            })
            .collect();
        assert_eq!(
            seen,
            [
                "5 0x00000013 any 192.0.2.2 0 16",
                "5 0x00000012 any 192.0.2.2 0 24",
                "4 0x0000a1b2 any 2001:db8::1 0 32",
                "3 0x0000a1b2 any 192.0.2.2 12 16",
                "2 any any any 12 16",
            ]
        );
        let (sas_of_command, none) =
            read_text(read, "sudo tcpdump -n -E '0x1@192.0.2.2 none:,0x2@192.0.2.2 none-hmac96:' -r x.pcap");
        assert_eq!(none, [""; 0]);
        let seen: Vec<_> =
            sas_of_command.unwrap().iter().map(|sa| (sa.spi, sa.keys.suite().name, sa.keys.icv_len())).collect();
        assert_eq!(seen, [(Some(2), "ENCR_NULL", 12), (Some(1), "ENCR_NULL", 0)]);
        let (error, _) = read_text(read, "tcpdump -E 'file /tmp/secrets' -r x.pcap");
        assert_eq!(error.unwrap_err().0, "f:1: the secrets are in the file that -E names");
        assert!(sas[0].keys.key().expose() == b"too long to be a");
        assert!(sas[1].keys.key().expose() == b"short\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert!(sas[2].keys.key().expose() == b"thirty-two, characters of a key.");
        assert_eq!(
            warnings,
            [
                "f:6: skipped: a secret of IKE messages: no SA can be derived from it without SK_d",
                "f:7: skipped: algorithm `3des-cbc` is not supported"
            ]
        );
    }

    #[test]
    fn errors_do_not_show_keys() {
        for (line, problem) in [
            ("0x1@192.0.2.2 aes128-cbc:0x0011", "the key is 16 bytes, not 2"),
            ("0x1@192.0.2.2 aes128-cbc:0x001g", "key: character 6 is not a hex digit"),
            ("0x1@192.0.2.2 aes128-cbc:", "no key after the `:`"),
            ("0x1@192.0.2.2 aes128-cbc", "no `:` between algorithm and key"),
            ("0x1@gate aes128-cbc:k", "address: not an IP address"),
            ("x@192.0.2.2 aes128-cbc:k", "SPI: not an SPI of 32 bits"),
            ("0x1 aes128-cbc:k", "no `SPI@ADDRESS` before the algorithm"),
        ] {
            assert_eq!(read_text(read, line).0.unwrap_err().0, format!("f:1: {problem}"), "{line}");
        }
    }
}
