//! The Security Associations of the Linux kernel, as iproute2 prints and reads them.
//!
//! ```text
//! src 192.0.2.1 dst 192.0.2.2                        ip xfrm state, ip -s xfrm state: a block of lines for each SA
//!     proto esp spi 0xc0ffee01 reqid 1 mode tunnel
//!     aead rfc4106(gcm(aes)) 0x00112233445566778899aabbccddeeffa0a1a2a3 128
//! Updated src 192.0.2.1 dst 192.0.2.2                ip xfrm monitor: the same
//! src 10.0.0.0/8 dst 10.1.0.0/16                     ip xfrm policy: passed over
//!     dir out priority 371327
//! ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0xc0ffee01 enc 'cbc(aes)' 0x... auth-trunc ...
//! ```
//!
//! Libreswan's `ipsec look` has both blocks under headings of its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::entry::{self, EntryError, invalid, lines_of_words};
use super::skipped::Skipped;
use super::xfrm_algorithms::Algorithm;
use crate::cipher::{IntegKey, Keys, Suite};
use crate::context::Origin;
use crate::files::values::{spi, spi_name};
use crate::net::Selector;
use crate::sa::Sa;

const HELP: &str = "give the complete output of `ip xfrm state`";

/// Whether `line` begins an SA or a policy.
pub(crate) fn is_line(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(8).collect();
    heading(&words).is_some() || command(&words).is_some() || line.trim_end() == "XFRM state:"
}

/// Source and destination in the first line of a block, and whether `ip xfrm monitor` reports it. The monitor may
/// report an SA several times.
fn heading<'t>(words: &[&'t str]) -> Option<(&'t str, &'t str, bool)> {
    match words {
        ["src", src, "dst", dst, ..] => Some((src, dst, false)),
        ["Updated" | "Deleted" | "Expired", "src", src, "dst", dst, ..] => Some((src, dst, true)),
        _ => None,
    }
}

/// The arguments of `ip xfrm state add` or `update`. `ip` may be missing, as in a file for `ip -batch`.
fn command<'w, 't>(words: &'w [&'t str]) -> Option<&'w [&'t str]> {
    let is_ip = |word: &str| word == "sudo" || word == "ip" || word.ends_with("/ip") || word.starts_with('-');
    let start = words.iter().position(|word| !is_ip(word))?;
    match words.get(start..)? {
        ["xfrm" | "x", "state" | "s" | "sa", "add" | "a" | "update" | "upd" | "u", given @ ..] => Some(given),
        _ => None,
    }
}

/// Appends the SAs of `text`.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let mut reader = Reader { file: path.into(), sas, skipped, monitored: HashMap::new() };
    let mut block: Option<Block<'_>> = None;
    for (number, words) in lines_of_words(text) {
        if let Some((src, dst, monitored)) = heading(&words) {
            reader.finish(block.take());
            block = Some(Block { src, dst, monitored, ..Block::new(number) });
        } else if let Some(given) = command(&words) {
            reader.finish(block.take());
            reader.finish(Some(Block::of_command(number, given)));
        } else if words.first() == Some(&"proto") && block.as_ref().is_none_or(|block| block.is_whole()) {
            reader.finish(block.take());
            reader.skipped.invalid(number, "an SA does not begin with `src ... dst ...`", HELP);
        } else if let Some(block) = &mut block {
            block.line(number, &words);
        }
    }
    reader.finish(block);
}

struct Reader<'r, 'p> {
    file: Arc<Path>,
    sas: &'r mut Vec<Arc<Sa>>,
    skipped: &'r mut Skipped<'p>,
    /// For each SPI and addresses, the position in `sas` of the SA that the monitor reported last.
    monitored: HashMap<(Option<u32>, Selector, Selector), usize>,
}

impl Reader<'_, '_> {
    fn finish(&mut self, block: Option<Block<'_>>) {
        let Some(block) = block.filter(|block| !block.is_policy) else { return };
        let (line, monitored) = (block.line, block.monitored);
        match block.sa(&self.file, self.skipped) {
            Ok(sa) if monitored => {
                let at = self.monitored.entry((sa.spi, sa.src, sa.dst)).or_insert(usize::MAX);
                if self.sas.get(*at).is_none_or(|before| before.keys != sa.keys) {
                    *at = self.sas.len();
                    self.sas.push(Arc::new(sa));
                }
            }
            Ok(sa) => self.sas.push(Arc::new(sa)),
            Err(error) => error.warn(line, HELP, self.skipped),
        }
    }
}

/// The relevant values from the lines of one SA, and the line number of each algorithm.
#[derive(Default)]
struct Block<'t> {
    line: u64,
    src: &'t str,
    dst: &'t str,
    monitored: bool,
    is_policy: bool,
    protocol: Option<&'t str>,
    spi: Option<&'t str>,
    aead: Option<(u64, Algorithm<'t>)>,
    encryption: Option<(u64, Algorithm<'t>)>,
    authentication: Option<(u64, Algorithm<'t>)>,
    esn: bool,
    highest_sn: u64,
}

impl<'t> Block<'t> {
    fn new(line: u64) -> Self {
        Block { line, ..Block::default() }
    }

    /// Whether the block is complete, so that a further `proto` line belongs to another SA.
    fn is_whole(&self) -> bool {
        self.protocol.is_some() && !self.is_policy
    }

    fn line(&mut self, number: u64, words: &[&'t str]) {
        match words {
            ["dir" | "socket" | "tmpl", ..] => self.is_policy = true,
            ["proto", protocol, "spi", spi, ..] => {
                self.protocol = Some(protocol);
                // `-s` appends the decimal in parentheses.
                self.spi = spi.split('(').next();
            }
            ["aead", rest @ ..] => self.aead = Some((number, Algorithm::printed(rest))),
            ["enc", rest @ ..] => self.encryption = Some((number, Algorithm::printed(rest))),
            ["auth" | "auth-trunc", rest @ ..] => self.authentication = Some((number, Algorithm::printed(rest))),
            ["replay-window", ..] => self.esn |= from("flag", words).contains(&"esn"),
            ["anti-replay", "context:", rest @ ..] => self.sequence_numbers(rest),
            ["anti-replay", "esn", "context:", ..] => {}
            ["seq-hi", ..] => self.sequence_numbers(words),
            _ => {}
        }
    }

    /// Reads the words after `ip xfrm state add`.
    fn of_command(line: u64, words: &[&'t str]) -> Self {
        let mut block = Block::new(line);
        let mut at = 0;
        while let Some(name) = words.get(at) {
            let after = words.get(at + 1..).unwrap_or_default();
            let value = after.first().copied().unwrap_or_default();
            at += 2;
            match *name {
                "src" if block.src.is_empty() => block.src = value,
                "dst" if block.dst.is_empty() => block.dst = value,
                "proto" if block.protocol.is_none() => block.protocol = Some(value),
                "spi" => block.spi = Some(value),
                "aead" | "enc" | "auth" | "auth-trunc" => {
                    let (algorithm, len) = Algorithm::of_command(after, matches!(*name, "aead" | "auth-trunc"));
                    at += len - 1;
                    let place = match *name {
                        "aead" => &mut block.aead,
                        "enc" => &mut block.encryption,
                        _ => &mut block.authentication,
                    };
                    *place = Some((line, algorithm));
                }
                "esn" => {
                    block.esn = true;
                    at -= 1;
                }
                // Words without a value, or with a value that is ignored.
                _ => at -= 1,
            }
        }
        block
    }

    /// `seq 0x1, oseq 0x2, ...` or `seq-hi 0x0, seq 0x1, oseq-hi 0x0, oseq 0x2`.
    fn sequence_numbers(&mut self, words: &[&str]) {
        let value = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            let digits = words.get(at + 1)?.trim_end_matches(',').strip_prefix("0x")?;
            u32::from_str_radix(digits, 16).ok().map(u64::from)
        };
        for (high, low) in [("seq-hi", "seq"), ("oseq-hi", "oseq")] {
            let number = value(high).unwrap_or(0) << 32 | value(low).unwrap_or(0);
            self.highest_sn = self.highest_sn.max(number);
        }
    }

    fn sa(self, file: &Arc<Path>, skipped: &mut Skipped) -> Result<Sa, EntryError> {
        match self.protocol {
            None => return Err(invalid("an SA without a line `proto ... spi ...`")),
            Some("esp" | "50") => {}
            Some(_) => return Err(EntryError::Other),
        }
        let spi = self.spi.and_then(|word| spi(word).ok()).ok_or_else(|| invalid("invalid SPI"))?;
        let src = selector(self.src).ok_or_else(|| invalid("`src` is not an IP address"))?;
        let dst = selector(self.dst).ok_or_else(|| invalid("`dst` is not an IP address"))?;
        if !src.is_same_version_as(dst) {
            return Err(invalid("`src` and `dst` have different IP versions"));
        }
        let origin = Origin { path: file.clone(), line: self.line };
        let sn_hint = Some(self.highest_sn).filter(|number| *number != 0);
        Ok(Sa { esn: self.esn, sn_hint, ..entry::sa(Some(spi), [src, dst], self.keys(spi, skipped)?, origin) })
    }

    fn keys(&self, spi: u32, skipped: &mut Skipped) -> Result<Keys, EntryError> {
        let (line, name, algorithm) = match (&self.aead, &self.encryption, &self.authentication) {
            (Some((line, algorithm)), ..) => (*line, algorithm.aead()?, algorithm),
            (None, Some((line, algorithm)), _) => (*line, algorithm.encryption()?, algorithm),
            // The kernel creates such an SA while IKE negotiates, and reports one after it was deleted.
            (None, None, None) => {
                return Err(EntryError::Skipped(format!("SPI {}: the SA has no keys", spi_name(spi))));
            }
            (None, None, Some(_)) => {
                return Err(invalid("ESP without a line `aead` or `enc`"));
            }
        };
        let suite = Suite::by_name(name).ok_or_else(|| EntryError::Skipped(format!("{name} is not supported")))?;
        let key = algorithm.key().map_err(|error| error.in_line(line))?;
        let integ = match &self.authentication {
            Some((line, algorithm)) if !suite.is_aead() => {
                match algorithm.integrity().map_err(|error| error.in_line(*line))? {
                    Some(integrity) => integrity.key(self.line, skipped).map_err(EntryError::Skipped)?,
                    None => IntegKey::None,
                }
            }
            _ => IntegKey::None,
        };
        Keys::from_parts(suite, key, None, integ).map_err(|error| invalid(error.to_string()).in_line(line))
    }
}

/// The words from `name` on.
fn from<'w, 't>(name: &str, words: &'w [&'t str]) -> &'w [&'t str] {
    words.iter().position(|word| *word == name).and_then(|at| words.get(at..)).unwrap_or_default()
}

/// The kernel uses the unspecified address as a wildcard.
fn selector(word: &str) -> Option<Selector> {
    let address: IpAddr = word.parse().ok()?;
    Some(if address.is_unspecified() { Selector::Any } else { Selector::address(address) })
}

#[cfg(test)]
mod tests {
    use super::super::entry::read_text;
    use super::*;

    /// As iproute2 6.1 prints it.
    #[test]
    fn with_statistics() {
        let text = "src 192.0.2.1 dst 0.0.0.0
\tproto esp spi 0xc1d2e3f4(3251823604) reqid 1(0x00000001) mode tunnel
\treplay-window 0 seq 0x00000000 flag  af-unspec esn (0x00100080)
\tauth-trunc hmac(sha256) 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f (256 bits) 128
\tenc cbc(aes) 0x00112233445566778899aabbccddeeff (128 bits)
\tencap type espinudp sport 4500 dport 4500 addr 0.0.0.0
\tlastused 2026-01-02 03:04:05
\tanti-replay esn context:
\t seq-hi 0x0, seq 0x0, oseq-hi 0x2, oseq 0x10
\t replay_window 128, bitmap-length 4
\t 00000000 00000000 00000000 00000000
\tsel src 0.0.0.0/0 dst 0.0.0.0/0 uid 0
\tlifetime config:
\t  limit: soft (INF)(bytes), hard (INF)(bytes)
\tstats:
\t  replay-window 0 replay 0 failed 0

src :: dst 2001:db8::1
\tproto esp spi 0x00000002(2) reqid 1(0x00000001) mode transport
\treplay-window 32 seq 0x00000000 flag  (0x00000000)
\tenc ecb(cipher_null)  (0 bits)
\tauth-trunc hmac(sha1) 0x000102030405060708090a0b0c0d0e0f10111213 (160 bits) 96
\tanti-replay context: seq 0x2a, oseq 0x0, bitmap 0xffffffff
src 192.0.2.1 dst 192.0.2.2
\tproto comp spi 0x0000abcd(43981) reqid 1(0x00000001) mode tunnel
\tcomp deflate
";
        let (sas, warnings) = read_text(read, text);
        assert_eq!(warnings, [""; 0]);
        let sas = sas.unwrap();
        let [a, b] = sas.as_slice() else { panic!("{sas:?}") };
        assert_eq!(
            (a.name.as_str(), a.spi, a.esn, a.sn_hint),
            ("0xc1d2e3f4", Some(0xc1d2_e3f4), true, Some(0x2_0000_0010))
        );
        assert_eq!((a.src, a.dst), (Selector::address("192.0.2.1".parse().unwrap()), Selector::Any));
        assert_eq!((a.keys.suite().name, a.keys.key().len()), ("ENCR_AES_CBC", 16));
        assert_eq!(a.keys.integ().map(|(integ, key)| (integ.name, key.len())), Some(("AUTH_HMAC_SHA2_256_128", 32)));
        assert_eq!(a.origin.line, 1);
        assert_eq!((b.esn, b.sn_hint, b.src, b.origin.line), (false, Some(42), Selector::Any, 18));
        assert_eq!((b.keys.suite().name, b.keys.key().len()), ("ENCR_NULL", 0));
        assert_eq!(b.keys.integ().map(|(integ, key)| (integ.name, key.len())), Some(("AUTH_HMAC_SHA1_96", 20)));
    }

    fn block(lines: &str) -> String {
        format!("src 192.0.2.1 dst 192.0.2.2\n\tproto esp spi 0x00000001 reqid 1 mode tunnel\n{lines}\n")
    }

    #[test]
    fn every_algorithm() {
        let key = |len: usize| format!("0x{}", "ab".repeat(len));
        for (line, suite, key_len, salt_len) in [
            (format!("aead rfc4309(ccm(aes)) {} 64", key(19)), "ENCR_AES_CCM_8", 16, 3),
            (format!("aead rfc4309(ccm(aes)) {} 96", key(27)), "ENCR_AES_CCM_12", 24, 3),
            (format!("aead rfc4309(ccm(aes)) {} (280 bits) 128", key(35)), "ENCR_AES_CCM_16", 32, 3),
            (format!("aead rfc4106(gcm(aes)) {} 64", key(20)), "ENCR_AES_GCM_8", 16, 4),
            (format!("aead rfc4106(gcm(aes)) {} 96", key(20)), "ENCR_AES_GCM_12", 16, 4),
            (format!("aead rfc4106(gcm(aes)) {} 128", key(36)), "ENCR_AES_GCM_16", 32, 4),
            (format!("aead rfc7539esp(chacha20,poly1305) {} 128", key(36)), "ENCR_CHACHA20_POLY1305", 32, 4),
            (format!("aead rfc4543(gcm(aes)) {} 128", key(20)), "ENCR_NULL_AUTH_AES_GMAC", 16, 4),
            (format!("enc rfc3686(ctr(aes)) {}\nauth-trunc hmac(sha1) {} 96", key(20), key(20)), "ENCR_AES_CTR", 16, 4),
            (format!("auth-trunc hmac(sha384) {} 192\nenc cbc(aes) {}", key(48), key(32)), "ENCR_AES_CBC", 32, 0),
            (format!("auth-trunc hmac(sha512) {} 256\nenc aes {}", key(64), key(24)), "ENCR_AES_CBC", 24, 0),
            (format!("auth hmac(sha1) {}\nenc cbc(aes) {}", key(20), key(16)), "ENCR_AES_CBC", 16, 0),
            (format!("auth digest_null 0x\nenc cbc(aes) {}", key(16)), "ENCR_AES_CBC", 16, 0),
            (format!("enc cbc(aes) {}", key(16)), "ENCR_AES_CBC", 16, 0),
        ] {
            let (sas, warnings) = read_text(read, &block(&line));
            assert_eq!(warnings, [""; 0], "{line}");
            let keys = &sas.unwrap()[0].keys;
            assert_eq!((keys.suite().name, keys.key().len(), keys.salt().len()), (suite, key_len, salt_len), "{line}");
        }
    }

    #[test]
    fn unsupported_algorithms_are_skipped() {
        for (line, why) in [
            ("auth hmac(whirlpool) 0x00\nenc ecb(cipher_null)", "authentication `hmac(whirlpool)` is not supported"),
            ("auth-trunc hmac(md5) 0x00 40\nenc ecb(cipher_null)", "authentication `hmac(md5)` is not supported"),
            ("replay-window 0", "SPI 0x00000001: the SA has no keys"),
            ("enc cbc(des3_ede) 0x00", "`cbc(des3_ede)` is not supported"),
            ("aead rfc4106(gcm(aes)) 0x00 32", "`rfc4106(gcm(aes))` with an ICV of 32 bits is not supported"),
            // The rest of a truncated key.
            (
                "aead rfc4106(gcm(aes)) 0x00 00112233445566778899",
                "`rfc4106(gcm(aes))` with an ICV of this length is not supported",
            ),
        ] {
            let (sas, warnings) = read_text(read, &block(line));
            assert_eq!((sas.unwrap().len(), warnings), (0, vec![format!("f:1: skipped: {why}")]));
        }
    }

    #[test]
    fn an_unsupported_icv_of_known_length_is_skipped() {
        let key = format!("0x{}", "ab".repeat(16));
        for (auth, icv_len, note) in [
            (format!("auth-trunc hmac(md5) {key} 96"), 12, "`hmac(md5)` is not supported"),
            (format!("auth xcbc(aes) {key}"), 12, "`xcbc(aes)` is not supported"),
            (format!("auth-trunc hmac(sha256) {key} 192"), 24, "`hmac(sha256)` is not supported"),
            ("auth-trunc hmac(sha256) 0x 128".into(), 16, "`hmac(sha256)` has no key in this file"),
        ] {
            let (sas, warnings) = read_text(read, &block(&format!("{auth}\nenc cbc(aes) {key}")));
            let keys = &sas.unwrap()[0].keys;
            assert_eq!((keys.icv_len(), keys.authenticates()), (icv_len, false), "{auth}");
            assert_eq!(warnings, [format!("f:1: authentication {note}: its ICV of {icv_len} bytes is not checked")]);
        }
        // Linux's default for SHA-256.
        let (sas, warnings) = read_text(read, &block(&format!("auth hmac(sha256) {key}\nenc cbc(aes) {key}")));
        let keys = &sas.unwrap()[0].keys;
        assert_eq!((keys.integ().map(|(integ, _)| integ.name), warnings.len()), (Some("AUTH_HMAC_SHA2_256_96"), 0));
    }

    #[test]
    fn commands_monitor_and_policies() {
        let (key, hmac) = (format!("0x{}", "ab".repeat(16)), format!("0x{}", "cd".repeat(32)));
        let gcm = format!("aead rfc4106(gcm(aes)) {key}a0a1a2a3 128");
        let block = |heading: &str, spi: u32| {
            format!("{heading}src 192.0.2.1 dst 192.0.2.2\n\tproto esp spi {spi:#x}\n\t{gcm}\n")
        };
        let text = format!(
            "Flushed state proto 0\n{}{}Timestamp: Fri Jan  2 03:04:05 2026 6 usec\n{}\
             src 10.0.0.0/8 dst 10.1.0.0/16\n\tdir out priority 1\n\ttmpl src 192.0.2.1 dst 192.0.2.2\n\t\tproto esp spi 0x3\n\
             src 0.0.0.0/0 dst 0.0.0.0/0\n\tsocket in priority 0\n\
             sudo ip -6 xfrm state update dst fd00::2 src fd00::1 proto esp spi 4 mode tunnel flag esn \\\n\
             \x20 sel src 10.0.0.1 dst 10.0.0.2 auth-trunc 'hmac(sha256)' {hmac} 128 enc cbc\\(aes\\) \"sixteen-letters!\"\n\
             xfrm state add src 192.0.2.1 dst 192.0.2.2 proto ah spi 5 auth sha1 0x00\n\
             \tproto esp spi 6\n",
            block("Updated ", 1),
            block("Updated ", 2),
            block("Deleted ", 1)
        );
        let (sas, warnings) = read_text(read, &text);
        let sas = sas.unwrap();
        let seen: Vec<String> = sas
            .iter()
            .map(|sa| {
                format!("{}: {} {} {} {} {}", sa.origin.line, sa.name, sa.src, sa.dst, sa.keys.suite().name, sa.esn)
            })
            .collect();
        assert_eq!(
            seen,
            [
                "2: 0x00000001 192.0.2.1 192.0.2.2 ENCR_AES_GCM_16 false",
                "5: 0x00000002 192.0.2.1 192.0.2.2 ENCR_AES_GCM_16 false",
                "18: 0x00000004 fd00::1 fd00::2 ENCR_AES_CBC true",
            ]
        );
        assert!(sas[2].keys.key().expose() == b"sixteen-letters!");
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("f:21: skipped: an SA does not begin with `src"), "{warnings:?}");
    }

    #[test]
    fn invalid_text_is_rejected() {
        let hidden = "the kernel's keys are hidden: run `ip xfrm state` as root, without `nokeys`";
        for (text, problem, help) in [
            (block("aead rfc4106(gcm(aes)) <<Keys hidden>> 128"), "3: the keys are not in this text", hidden),
            (
                block("aead rfc4106(gcm(aes)) <<Keys hidden>> (160 bits) 128"),
                "3: the keys are not in this text",
                hidden,
            ),
            (block("enc cbc(aes) 0x001122"), "3: key of ENCR_AES_CBC is 16, 24 or 32 bytes, not 3", HELP),
            (block("enc cbc(aes) 0x00112"), "3: key: 5 hex digits are not whole bytes", HELP),
            (block("auth hmac(sha1) 0x00"), "1: ESP without a line `aead` or `enc`", HELP),
            ("src 10.0.0.1 dst 10.0.0.2\n".into(), "1: an SA without a line `proto ... spi ...`", HELP),
            ("src 10.0.0.1 dst x\n\tproto esp spi 0x1\n".into(), "1: `dst` is not an IP address", HELP),
            ("src 10.0.0.1 dst 10.0.0.2\n\tproto esp spi x\n".into(), "1: invalid SPI", HELP),
            (
                "src 10.0.0.1 dst fd01::2\n\tproto esp spi 1\n".into(),
                "1: `src` and `dst` have different IP versions",
                HELP,
            ),
            ("\tproto esp spi 0x1\n".into(), "1: an SA does not begin with `src ... dst ...`", HELP),
        ] {
            assert_eq!(read_text(read, &text).0.unwrap_err(), (format!("f:{problem}"), help.to_owned()), "{text}");
        }
    }
}
