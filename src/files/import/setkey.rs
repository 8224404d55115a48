//! Files of `setkey` (KAME, ipsec-tools, the BSDs): statements that end with `;`, of which `add` gives an SA.
//!
//! ```text
//! add 192.0.2.1 192.0.2.2 esp 0x10001 -m tunnel
//!     -E rijndael-cbc 0x00112233445566778899aabbccddeeff
//!     -A hmac-sha1 "twenty characters ok" ;
//! ```
//!
//! The key of `aes-ctr`, `aes-gcm-16`, `aes-gmac` and `chacha20-poly1305` has its 4 bytes of salt at the end.

use std::path::Path;
use std::sync::Arc;

use super::entry::{self, EntryError, invalid, invalid_field};
use super::integrity::Integrity;
use super::skipped::Skipped;
use crate::cipher::{IntegKey, Keys, Suite};
use crate::context::Origin;
use crate::files::values::{address, hex, shown, spi};
use crate::net::Selector;
use crate::sa::Sa;
use crate::secret::Secret;

const HELP: &str =
    "a statement is `add SRC DST esp SPI -E ALGORITHM KEY -A ALGORITHM KEY ;`, a key \"text\" or 0x and hex digits";

/// The statements of setkey(8).
const STATEMENTS: [&str; 16] = [
    "add",
    "update",
    "delete",
    "deleteall",
    "get",
    "getspi",
    "flush",
    "dump",
    "spdadd",
    "spdupdate",
    "spddelete",
    "spdflush",
    "spddump",
    "exit",
    "quit",
    "bye",
];

/// Whether `line` begins with a statement.
pub(crate) fn is_line(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    STATEMENTS.contains(&word.trim_end_matches(';'))
}

/// A word, or a string in quotes, with the number of its line.
#[derive(Debug, Clone, Copy)]
struct Token<'t> {
    line: u64,
    text: &'t str,
    quoted: bool,
}

/// Appends the SAs of `text`.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let mut statement: Vec<Token<'_>> = vec![];
    let mut short_icv_noted = false;
    for token in (Tokens { rest: text, line: 1 }) {
        let token = match token {
            Ok(token) => token,
            Err(line) => {
                skipped.invalid(line, "a string does not end with a quote", HELP);
                return;
            }
        };
        if token.quoted || token.text != ";" {
            statement.push(token);
            continue;
        }
        let whole = std::mem::take(&mut statement);
        let Some(first) = whole.first() else { continue };
        match sa(path, &whole, skipped) {
            Ok(Some(sa)) => {
                if is_sha256(&sa) && !std::mem::replace(&mut short_icv_noted, true) {
                    skipped.note(first.line, SHA256_ICV);
                }
                sas.push(Arc::new(sa));
            }
            Ok(None) => {}
            Err(error) => error.warn(first.line, HELP, skipped),
        }
    }
    if let Some(token) = statement.first() {
        skipped.invalid(token.line, "a statement does not end with `;`", HELP);
    }
}

/// Splits text into tokens. The error is the line number of an unterminated string.
struct Tokens<'t> {
    rest: &'t str,
    line: u64,
}

impl<'t> Tokens<'t> {
    fn advance(&mut self, len: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        self.line += taken.bytes().filter(|byte| *byte == b'\n').count() as u64;
        taken
    }
}

impl<'t> Iterator for Tokens<'t> {
    type Item = Result<Token<'t>, u64>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let blank = self.rest.len() - self.rest.trim_start().len();
            self.advance(blank);
            let line = self.line;
            let first = self.rest.chars().next()?;
            match first {
                '#' => _ = self.advance(self.rest.find('\n').unwrap_or(self.rest.len())),
                ';' => return Some(Ok(Token { line, text: self.advance(1), quoted: false })),
                '"' => {
                    self.advance(1);
                    let Some(len) = self.rest.find('"') else {
                        self.rest = "";
                        return Some(Err(line));
                    };
                    let text = self.advance(len);
                    self.advance(1);
                    return Some(Ok(Token { line, text, quoted: true }));
                }
                _ => {
                    let ends = |c: char| c.is_whitespace() || matches!(c, ';' | '"' | '#');
                    let len = self.rest.find(ends).unwrap_or(self.rest.len());
                    return Some(Ok(Token { line, text: self.advance(len), quoted: false }));
                }
            }
        }
    }
}

/// The SA of a statement; `None` if the statement adds no ESP SA.
fn sa(path: &Path, statement: &[Token<'_>], skipped: &mut Skipped) -> Result<Option<Sa>, EntryError> {
    let Some((verb, rest)) = statement.split_first() else { return Ok(None) };
    if !matches!(verb.text, "add" | "update") {
        return match STATEMENTS.contains(&verb.text) && !verb.quoted {
            true => Ok(None),
            false => Err(invalid(format!("{} is not a setkey statement", shown(verb.text)))),
        };
    }
    let is_address_flag = |token: &&Token<'_>| matches!(token.text, "-4" | "-6" | "-n" | "-4n" | "-6n" | "-n4" | "-n6");
    let flags = rest.iter().take_while(is_address_flag).count();
    let Some((&[src, dst, protocol, spi_token], mut options)) =
        rest.get(flags..).and_then(|rest| rest.split_first_chunk::<4>())
    else {
        return Err(invalid("`add` without source, destination, protocol and SPI"));
    };
    match protocol.text {
        "esp" | "esp-udp" => {}
        "ah" | "ah-old" | "ipcomp" | "tcp" => return Ok(None),
        "esp-old" => return Err(EntryError::Skipped("esp-old (RFC 1827) is not supported".into())),
        other => return Err(invalid(format!("{} is not a setkey protocol", shown(other))).in_line(protocol.line)),
    }
    let selector = |token: Token<'_>| {
        // The port of UDP encapsulation follows the address in brackets.
        let host = token.text.split('[').next().unwrap_or_default();
        let address = address(host).map_err(invalid_field("address"));
        address.map(Selector::address).map_err(|error| error.in_line(token.line))
    };
    let (src, dst) = (selector(src)?, selector(dst)?);
    if !src.is_same_version_as(dst) {
        return Err(invalid("source and destination have different IP versions"));
    }
    let spi = spi(spi_token.text).map_err(invalid_field("SPI")).map_err(|error| error.in_line(spi_token.line))?;
    let (mut encryption, mut integrity, mut esn) = (None, None, false);
    while let Some((option, after)) = options.split_first() {
        options = after;
        match option.text {
            "-E" => encryption = Some(algorithm(option, &mut options)?),
            "-A" => integrity = Some(algorithm(option, &mut options)?),
            "-esn" => esn = true,
            // Options such as -m MODE and -lh SECONDS are ignored.
            _ => {}
        }
    }
    let Some((name, key)) = encryption else { return Err(invalid("ESP without -E")) };
    let integrity = integrity.map(|(name, key)| (name.text, key));
    let keys = keys((name.text, key), integrity, verb.line, skipped).map_err(|error| error.in_line(name.line))?;
    let origin = Origin { path: path.into(), line: verb.line };
    Ok(Some(Sa { esn, ..entry::sa(Some(spi), [src, dst], keys, origin) }))
}

/// Name and key after -E or -A. `null` needs no key.
fn algorithm<'t>(option: &Token<'t>, rest: &mut &[Token<'t>]) -> Result<(Token<'t>, Secret), EntryError> {
    let Some((name, after)) = rest.split_first() else {
        return Err(invalid(format!("{} without an algorithm", option.text)).in_line(option.line));
    };
    *rest = after;
    let key =
        after.first().filter(|token| token.quoted || token.text.starts_with("0x") || token.text.starts_with("0X"));
    match key {
        Some(token) => {
            *rest = after.get(1..).unwrap_or_default();
            let secret = if token.quoted {
                Secret::new(token.text.as_bytes().to_vec())
            } else {
                hex(token.text).map_err(invalid_field("key")).map_err(|error| error.in_line(token.line))?
            };
            Ok((*name, secret))
        }
        None if name.text == "null" => Ok((*name, Secret::default())),
        None => Err(invalid(format!("{} {} without a key", option.text, shown(name.text))).in_line(name.line)),
    }
}

/// setkey does not state the length of this ICV, and kernels differ.
pub(crate) const SHA256_ICV: &str = "setkey does not say how long the ICV of HMAC-SHA2-256 is: read as 16 bytes (RFC 4868). \
                                     Old Linux kernels send 12: give such an SA in YAML, with AUTH_HMAC_SHA2_256_96";

/// Whether the warning [`SHA256_ICV`] applies.
pub(crate) fn is_sha256(sa: &Sa) -> bool {
    sa.keys.integ().is_some_and(|(integ, _)| integ.name == "AUTH_HMAC_SHA2_256_128")
}

/// The keys of an SA whose first line is `line`, from the names of setkey.
pub(crate) fn keys(
    (encryption, key): (&str, Secret),
    integrity: Option<(&str, Secret)>,
    line: u64,
    skipped: &mut Skipped,
) -> Result<Keys, EntryError> {
    let suite = suite(encryption)?;
    let integ = match integrity.and_then(|(name, key)| integ(name, key)) {
        Some(_) if suite.is_aead() => IntegKey::None,
        Some(integrity) => integrity.key(line, skipped).map_err(EntryError::Skipped)?,
        None => IntegKey::None,
    };
    let key = if suite.key_lens.is_empty() { Secret::default() } else { key };
    Keys::from_parts(suite, key, None, integ).map_err(|error| invalid(error.to_string()))
}

fn suite(name: &str) -> Result<&'static Suite, EntryError> {
    let iana = match name {
        "rijndael-cbc" | "aes-cbc" => "ENCR_AES_CBC",
        "aes-ctr" => "ENCR_AES_CTR",
        "aes-gcm-16" | "aes-gcm" | "aes-gcm16" => "ENCR_AES_GCM_16",
        "aes-gmac" => "ENCR_NULL_AUTH_AES_GMAC",
        "chacha20-poly1305" => "ENCR_CHACHA20_POLY1305",
        "null" => "ENCR_NULL",
        _ => "",
    };
    Suite::by_name(iana).ok_or_else(|| EntryError::Skipped(format!("encryption {} is not supported", shown(name))))
}

/// `None` for `null`.
fn integ(name: &str, key: Secret) -> Option<Integrity<'static>> {
    let (iana, icv_len) = match name {
        "null" | "none" => return None,
        "hmac-sha1" => ("AUTH_HMAC_SHA1_96", 12),
        "hmac-sha256" | "hmac-sha2-256" => ("AUTH_HMAC_SHA2_256_128", 16),
        "hmac-sha384" | "hmac-sha2-384" => ("AUTH_HMAC_SHA2_384_192", 24),
        "hmac-sha512" | "hmac-sha2-512" => ("AUTH_HMAC_SHA2_512_256", 32),
        "hmac-md5" | "keyed-md5" | "keyed-sha1" | "hmac-ripemd160" | "aes-xcbc-mac" => ("", 12),
        _ => ("", 0),
    };
    Some(Integrity { shown_name: shown(name), iana, icv_len: Some(icv_len), key })
}

#[cfg(test)]
mod tests {
    use super::super::entry::read_text;
    use super::*;

    /// Statements in the forms of setkey(8).
    #[test]
    fn a_file_with_all_statements() {
        let (sas, warnings) = read_text(
            read,
            "#!/usr/sbin/setkey -f
flush ; spdflush;
add 2001:db8::1 2001:db8::2 esp 123457 -m tunnel -E rijndael-cbc 0x00112233445566778899aabbccddeeff
    -A hmac-sha1 \"a key; of # twenty B\" ;   # after it
add -6 2001:db8::1 2001:db8::2 ah 123456 -A hmac-sha1 \"AH SA configuration!\" ;
add 192.0.2.1[4500] 192.0.2.2[4500] esp-udp 0x10002 -u 7 -lh 3600 -f nocyclic-seq
\t-E aes-gcm-16 0x00112233445566778899aabbccddeeffa0a1a2a3;
add 192.0.2.1 192.0.2.2 esp 0x10003 -E null -A null;
spdadd 10.0.11.41/32[21] 10.0.11.33/32[any] any -P out ipsec esp/tunnel/192.168.0.1-192.168.1.2/require ;
dump esp ;",
        );
        assert_eq!(warnings, [""; 0]);
        let sas = sas.unwrap();
        let [a, b, c] = sas.as_slice() else { panic!("{} SAs", sas.len()) };
        assert_eq!(
            (a.spi, a.origin.line, a.src.to_string(), a.dst.to_string()),
            (Some(123_457), 3, "2001:db8::1".into(), "2001:db8::2".into())
        );
        assert_eq!((a.keys.suite().name, a.keys.key().len()), ("ENCR_AES_CBC", 16));
        let (integ, key) = a.keys.integ().unwrap();
        assert!(integ.name == "AUTH_HMAC_SHA1_96" && key.expose() == b"a key; of # twenty B");
        assert_eq!((b.name.as_str(), b.dst.to_string(), b.origin.line), ("0x00010002", "192.0.2.2".to_owned(), 6));
        assert_eq!(b.keys.suite().name, "ENCR_AES_GCM_16");
        assert!(b.keys.salt().expose() == [0xa0, 0xa1, 0xa2, 0xa3]);
        assert_eq!((c.keys.suite().name, c.keys.integ().is_none()), ("ENCR_NULL", true));
    }

    #[test]
    fn every_algorithm() {
        for (options, suite, key_len, salt_len, integ) in [
            ("-E aes-cbc K24 -A hmac-sha256 K32", "ENCR_AES_CBC", 24, 0, "AUTH_HMAC_SHA2_256_128"),
            ("-E rijndael-cbc K32 -A hmac-sha2-384 K48", "ENCR_AES_CBC", 32, 0, "AUTH_HMAC_SHA2_384_192"),
            ("-A hmac-sha512 K64 -E aes-ctr K36", "ENCR_AES_CTR", 32, 4, "AUTH_HMAC_SHA2_512_256"),
            ("-E aes-gcm K28", "ENCR_AES_GCM_16", 24, 4, ""),
            ("-E aes-gmac K20", "ENCR_NULL_AUTH_AES_GMAC", 16, 4, ""),
            ("-E chacha20-poly1305 K36", "ENCR_CHACHA20_POLY1305", 32, 4, ""),
            ("-E null \"\" -A hmac-sha1 K20", "ENCR_NULL", 0, 0, "AUTH_HMAC_SHA1_96"),
        ] {
            let words: Vec<String> = options
                .split(' ')
                .map(|word| match word.strip_prefix('K') {
                    Some(len) => format!("0x{}", "5a".repeat(len.parse().unwrap())),
                    None => word.to_owned(),
                })
                .collect();
            let (sas, warnings) = read_text(read, &format!("add ::1 ::2 esp 0x1000 {};", words.join(" ")));
            let keys = &sas.unwrap()[0].keys;
            assert_eq!(
                (keys.suite().name, keys.key().len(), keys.salt().len()),
                (suite, key_len, salt_len),
                "{options}"
            );
            assert_eq!(keys.integ().map_or("", |(integ, _)| integ.name), integ, "{options}");
            assert_eq!(warnings.len(), usize::from(integ == "AUTH_HMAC_SHA2_256_128"), "{options}");
        }
    }

    #[test]
    fn errors_do_not_show_keys() {
        for (text, problem) in [
            ("add ::1 ::2 esp 0x1000 -E aes-cbc 0x001122;", "1: key of ENCR_AES_CBC is 16, 24 or 32 bytes, not 3"),
            ("\nadd ::1 ::2 esp 0x1000\n-E aes-cbc 0x00112g;", "3: key: character 8 is not a hex digit"),
            ("add ::1 ::2 esp 0x1000 -E aes-cbc;", "1: -E `aes-cbc` without a key"),
            ("add ::1 ::2 esp 0x1000 -E;", "1: -E without an algorithm"),
            ("add ::1 ::2 esp 0x1000 -A hmac-sha1 \"x\";", "1: ESP without -E"),
            ("add ::1 ::2 esp;", "1: `add` without source, destination, protocol and SPI"),
            ("add gate.example.com ::2 esp 1 -E null;", "1: address: not an IP address"),
            ("add ::1 ::2 esp x -E null;", "1: SPI: not an SPI of 32 bits"),
            ("add ::1 10.0.0.2 esp 1 -E null;", "1: source and destination have different IP versions"),
            ("add ::1 ::2 exp 1 -E null;", "1: `exp` is not a setkey protocol"),
            ("flush;\nadd ::1 ::2 esp 1 -E null", "2: a statement does not end with `;`"),
            ("flush;\nadd ::1 ::2 esp 1 -E null -A hmac-sha1 \"abc\ndef;", "2: a string does not end with a quote"),
            ("flush;\nerase all;", "2: `erase` is not a setkey statement"),
        ] {
            assert_eq!(read_text(read, text).0.unwrap_err().0, format!("f:{problem}"));
        }
        let (sas, warnings) = read_text(read, "add ::1 ::2 esp 1 -E 3des-cbc 0x00;add ::1 ::2 esp-old 2 -E null;");
        assert_eq!(sas.unwrap().len(), 0);
        assert_eq!(
            warnings,
            [
                "f:1: skipped: encryption `3des-cbc` is not supported",
                "f:1: skipped: esp-old (RFC 1827) is not supported"
            ]
        );
    }
}
