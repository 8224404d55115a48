//! Logs of strongSwan's `charon` with keys: group `chd` at level 4 (`charon.filelog.<name>.chd = 4`), the others at
//! their default level of 1.
//!
//! ```text
//! 14[CFG] selected proposal: ESP:AES_CCM_8_128/NO_EXT_SEQ
//! 14[CHD]   using AES_CCM_8 for encryption
//! 14[CHD] encryption initiator key => 19 bytes @ 0x7fcb540031f0
//! 14[CHD]    0: 00 11 22 33 44 55 66 77 88 99 AA BB CC DD EE FF  ................
//! 14[CHD]   16: A0 A1 A2                                         ...
//! 14[CHD] adding inbound ESP SA
//! 14[CHD]   SPI 0xbc563ce0, src fd01::2 dst fd01::1
//! ```
//!
//! Lines of several threads are interleaved, so each thread has its own state. Keys are logged as those of the
//! initiator or responder, SAs as inbound or outbound. The last message that the thread parsed shows its role: the
//! initiator receives the response. Before the thread number, a line can have a time, a host, and other text of syslog
//! or journald.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::entry;
use super::skipped::Skipped;
use crate::cipher::{Integ, IntegKey, Keys, Suite};
use crate::context::Origin;
use crate::files::values::{shown, spi, spi_name};
use crate::net::Selector;
use crate::sa::Sa;
use crate::secret::{Secret, SecretSlice};

/// Bytes of the longest key that is collected. Keys of strongSwan have at most 64 bytes and a salt.
const MAX_KEY_LEN: usize = 128;

/// Thread and message of a line; `None` if it is not a line of charon. Such a line has two or more digits, the group in
/// brackets, optionally with its level, and optionally the IKE SA as `<name|1>`.
pub(crate) fn message(line: &str) -> Option<(u32, &str)> {
    let (at, _) = line.match_indices('[').find(|(at, _)| {
        let group = line.get(at + 1..at + 4).unwrap_or_default();
        let after = line.get(at + 4..).unwrap_or_default();
        let closed = after.strip_prefix(['0', '1', '2', '3', '4']).unwrap_or(after).starts_with(']');
        let digits = line.get(..*at).map_or(0, |head| head.bytes().rev().take_while(u8::is_ascii_digit).count());
        closed && digits >= 2 && group.len() == 3 && group.bytes().all(|c| c.is_ascii_uppercase())
    })?;
    let head = line.get(..at)?;
    let thread = head.get(head.bytes().rposition(|c| !c.is_ascii_digit()).map_or(0, |at| at + 1)..)?.parse().ok()?;
    let after = line.get(at..)?.split_once(']')?.1;
    let after = after.strip_prefix(' ').unwrap_or(after);
    let message = match after.strip_prefix('<') {
        Some(name) => name.split_once("> ").map_or(after, |(_, message)| message),
        None => after,
    };
    Some((thread, message))
}

/// Whether charon wrote `line`.
pub(crate) fn is_line(line: &str) -> bool {
    message(line).is_some()
}

/// Appends the SAs of `text`, each once.
pub(crate) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, skipped: &mut Skipped) {
    let mut threads: HashMap<u32, Thread<'_>> = HashMap::new();
    let file: Arc<Path> = path.into();
    let before = sas.len();
    for (line, number) in text.lines().zip(1u64..) {
        let Some((thread, message)) = message(line) else { continue };
        let origin = Origin { path: file.clone(), line: number };
        if message.ends_with(" with 96-bit truncation") {
            // The option `sha256_96`. It is logged after the SPI it applies to.
            let spi = threads.get(&thread).and_then(|thread| thread.spi);
            let of_spi = |sa: &&mut Arc<Sa>| spi.is_some() && sa.spi == spi;
            if let Some(sa) = sas.iter_mut().skip(before).rev().find(of_spi).and_then(Arc::get_mut) {
                truncate(sa);
            }
            continue;
        }
        match threads.entry(thread).or_default().message(message, origin) {
            Ok(None) => {}
            Ok(Some(sa)) => sas.push(Arc::new(sa)),
            Err(why) => skipped.push(number, why),
        }
    }
    if sas.len() == before {
        let why = "no key of a child SA in this log: set `chd = 4` for it in strongswan.conf, and log again";
        skipped.push(1, why);
    }
}

/// HMAC-SHA2-256-96 instead of -128.
fn truncate(sa: &mut Sa) {
    let secret = |bytes: SecretSlice<'_>| Secret::new(bytes.expose().to_vec());
    let Some((integ, key)) = sa.keys.integ().filter(|(integ, _)| integ.name == "AUTH_HMAC_SHA2_256_128") else {
        return;
    };
    let Some(short) = Integ::by_name("AUTH_HMAC_SHA2_256_96").filter(|short| short.hash == integ.hash) else { return };
    let integ = IntegKey::Algorithm(short, secret(key));
    if let Ok(keys) = Keys::new(sa.keys.suite(), secret(sa.keys.key()), secret(sa.keys.salt()), integ) {
        sa.keys = keys;
    }
}

/// What one thread has logged about the child SA it creates.
#[derive(Default)]
struct Thread<'t> {
    /// It handles the response to its own request.
    initiator: Option<bool>,
    /// Extended Sequence Numbers in the ESP proposal chosen last.
    esn: bool,
    encryption: Option<&'t str>,
    integrity: Option<&'t str>,
    /// Initiator's, responder's.
    encryption_keys: [Option<Secret>; 2],
    integrity_keys: [Option<Secret>; 2],
    /// Whether the keys of the child were read and not yet used: inbound, outbound.
    waiting: [bool; 2],
    dump: Option<Dump>,
    /// The previous line was `adding ...` or `registering ...`; true if inbound.
    installs: Option<bool>,
    /// The SPI that was installed last.
    spi: Option<u32>,
}

/// A key whose lines are being read.
struct Dump {
    for_integrity: bool,
    /// 0 initiator's, 1 responder's.
    whose: usize,
    len: usize,
    bytes: Zeroizing<Vec<u8>>,
}

impl<'t> Thread<'t> {
    /// Reads one line. Returns the SA that it completes, or why that SA is skipped.
    fn message(&mut self, message: &'t str, origin: Origin) -> Result<Option<Sa>, String> {
        if self.dump.is_some() {
            if self.dump_line(message) {
                return Ok(None);
            }
            self.dump = None;
        }
        let installs = self.installs.take();
        let text = message.trim();
        if let Some(rest) = text.strip_prefix("parsed ") {
            // parsed CREATE_CHILD_SA response 2 [ SA No TSi TSr ]
            match rest.split_whitespace().nth(1) {
                Some("request") => self.initiator = Some(false),
                Some("response") => self.initiator = Some(true),
                _ => {}
            }
        } else if let Some(proposal) = text.strip_prefix("selected proposal: ESP:") {
            self.esn = proposal.split('/').any(|part| part == "EXT_SEQ");
        } else if let Some(name) = text.strip_prefix("using ").and_then(|rest| rest.strip_suffix(" for encryption")) {
            *self = Thread { initiator: self.initiator, esn: self.esn, encryption: Some(name), ..Thread::default() };
        } else if let Some(name) = text.strip_prefix("using ").and_then(|rest| rest.strip_suffix(" for integrity")) {
            self.integrity = Some(name);
        } else if let Some((what, size)) = text.split_once(" key => ") {
            self.begin_dump(what, size);
        } else if let Some(direction) = text
            .strip_suffix(" ESP SA")
            .and_then(|text| text.strip_prefix("adding ").or(text.strip_prefix("registering ")))
        {
            self.installs = Some(direction == "inbound");
        } else if let (Some(inbound), Some(rest)) = (installs, text.strip_prefix("SPI ")) {
            return self.sa(inbound, rest, origin);
        }
        Ok(None)
    }

    /// `encryption initiator`, `19 bytes @ 0x7fcb540031f0`.
    fn begin_dump(&mut self, what: &str, size: &str) {
        let (for_integrity, whose) = match what {
            "encryption initiator" => (false, 0),
            "encryption responder" => (false, 1),
            "integrity initiator" => (true, 0),
            "integrity responder" => (true, 1),
            _ => return,
        };
        let len = size.split(' ').next().and_then(|len| len.parse().ok());
        if let Some(len) = len.filter(|len| (1..=MAX_KEY_LEN).contains(len)) {
            self.dump = Some(Dump { for_integrity, whose, len, bytes: Zeroizing::new(Vec::with_capacity(len)) });
            self.waiting = [true, true];
        }
    }

    /// Whether `message` is the next line of the dump.
    fn dump_line(&mut self, message: &str) -> bool {
        let Some(dump) = &mut self.dump else { return false };
        let Some((offset, bytes)) = message.split_once(": ") else { return false };
        if offset.trim().parse() != Ok(dump.bytes.len()) {
            return false;
        }
        let count = (dump.len - dump.bytes.len()).min(16);
        let mut words = bytes.split(' ');
        for _ in 0..count {
            let byte = words.next().filter(|word| word.len() == 2).and_then(|word| u8::from_str_radix(word, 16).ok());
            let Some(byte) = byte else { return false };
            dump.bytes.push(byte);
        }
        if dump.bytes.len() == dump.len {
            let keys = if dump.for_integrity { &mut self.integrity_keys } else { &mut self.encryption_keys };
            if let Some(key) = keys.get_mut(dump.whose) {
                *key = Some(Secret::new(dump.bytes.to_vec()));
            }
            self.dump = None;
        }
        true
    }

    /// `0xbc563ce0, src fd01::2 dst fd01::1`.
    fn sa(&mut self, inbound: bool, text: &str, origin: Origin) -> Result<Option<Sa>, String> {
        self.spi = text.split(',').next().and_then(|word| spi(word).ok());
        let [waiting_in, waiting_out] = &mut self.waiting;
        if !std::mem::take(if inbound { waiting_in } else { waiting_out }) {
            // The SA is installed now. Its keys were logged earlier; see `registering`.
            return Ok(None);
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let &[spi_word, "src", src, "dst", dst, ..] = words.as_slice() else {
            return Err("the SA has no SPI and addresses".into());
        };
        let address = |word: &str| word.parse::<IpAddr>().map(Selector::address);
        let (Ok(spi), Ok(src), Ok(dst)) = (spi(spi_word.trim_end_matches(',')), address(src), address(dst)) else {
            return Err("the SA has an invalid SPI or address".into());
        };
        if !src.is_same_version_as(dst) {
            return Err("the SA has addresses of different IP versions".into());
        }
        let name = spi_name(spi);
        let Some(initiator) = self.initiator else {
            return Err(format!(
                "{name}: the log does not show who began the exchange: also log the group `enc` at level 1"
            ));
        };
        // The initiator's keys protect what the initiator sends and the responder receives.
        let whose = usize::from(initiator == inbound);
        let keys = self.keys(whose).map_err(|why| format!("{name}: {why}"))?;
        Ok(Some(Sa { esn: self.esn, ..entry::sa(Some(spi), [src, dst], keys, origin) }))
    }

    fn keys(&self, whose: usize) -> Result<Keys, String> {
        let name = self.encryption.ok_or("the log does not show its encryption algorithm: log `chd` at level 4")?;
        let iana = if name == "NULL_AES_GMAC" { "ENCR_NULL_AUTH_AES_GMAC".into() } else { format!("ENCR_{name}") };
        let suite = Suite::by_name(&iana).ok_or_else(|| format!("encryption {} is not supported", shown(name)))?;
        let of = |keys: &[Option<Secret>; 2]| keys.get(whose).cloned().flatten().unwrap_or_default();
        let integ = match self.integrity {
            None => IntegKey::None,
            Some(name) => {
                let integ = Integ::by_name(&format!("AUTH_{name}"))
                    .ok_or_else(|| format!("integrity algorithm {} is not supported", shown(name)))?;
                IntegKey::Algorithm(integ, of(&self.integrity_keys))
            }
        };
        Keys::from_parts(suite, of(&self.encryption_keys), None, integ).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> (Vec<Arc<Sa>>, Vec<String>) {
        let (sas, warnings) = entry::read_text(read, text);
        (sas.unwrap(), warnings)
    }

    #[test]
    fn prefixes_of_a_message() {
        for line in [
            "09[CHD] text",
            "2026-01-02T03:04:05.000006 09[CHD] text",
            "Jan  2 03:04:05 gate charon: 09[CHD] text",
            "Jan 02 03:04:05 gate[1] charon-systemd[4711]: 09[CHD2] <site|12> text",
            "Jan  2 03:04:05 09[CHD] <12> text",
        ] {
            assert_eq!(message(line), Some((9, "text")), "{line}");
        }
        assert_eq!(message("09[CHD]    0: 01"), Some((9, "   0: 01")));
        for line in ["", "text", "[CHD] text", "9[CHD] text", "09[chd] text", "09[CHD text", "charon[4711]: text"] {
            assert_eq!(message(line), None, "{line}");
        }
    }

    /// Lines as strongSwan 5.9 and 6.0 print them (keymat_v2.c, child_sa.c): thread 10 is the responder of a rekeying
    /// with ESN, thread 11 begins another SA in between, and later thread 10 installs what it registered.
    const TWO_THREADS: &str = "\
Jan  2 03:04:05 gate charon: 10[ENC] parsed CREATE_CHILD_SA request 0 [ N(REKEY_SA) SA No TSi TSr ]
Jan  2 03:04:05 gate charon: 10[CFG] selected proposal: ESP:AES_CBC_128/HMAC_SHA2_256_128/EXT_SEQ
Jan  2 03:04:05 gate charon: 10[CHD]   using AES_CBC for encryption
Jan  2 03:04:05 gate charon: 10[CHD]   using HMAC_SHA2_256_128 for integrity
Jan  2 03:04:05 gate charon: 11[ENC] parsed IKE_AUTH response 1 [ IDr AUTH SA TSi TSr ]
Jan  2 03:04:05 gate charon: 10[CHD] encryption initiator key => 16 bytes @ 0x7f0000000000
Jan  2 03:04:05 gate charon: 11[CFG] selected proposal: ESP:NULL/HMAC_SHA1_96/NO_EXT_SEQ
Jan  2 03:04:05 gate charon: 11[CHD]   using NULL for encryption
Jan  2 03:04:05 gate charon: 10[CHD]    0: 10 11 12 13 14 15 16 17 18 19 1A 1B 1C 1D 1E 1F  ................
Jan  2 03:04:05 gate charon: 11[CHD]   using HMAC_SHA1_96 for integrity
Jan  2 03:04:05 gate charon: 10[CHD] encryption responder key => 16 bytes @ 0x7f0000000000
Jan  2 03:04:05 gate charon: 10[CHD]    0: 20 21 22 23 24 25 26 27 28 29 2A 2B 2C 2D 2E 2F   !\"#$%&'()*+,-./
Jan  2 03:04:05 gate charon: 10[CHD] integrity initiator key => 32 bytes @ 0x7f0000000000
Jan  2 03:04:05 gate charon: 10[CHD]    0: 30 31 32 33 34 35 36 37 38 39 3A 3B 3C 3D 3E 3F  0123456789:;<=>?
Jan  2 03:04:05 gate charon: 10[CHD]   16: 30 31 32 33 34 35 36 37 38 39 3A 3B 3C 3D 3E 3F  0123456789:;<=>?
Jan  2 03:04:05 gate charon: 11[CHD] integrity initiator key => 20 bytes @ 0x7f0000000000
Jan  2 03:04:05 gate charon: 11[CHD]    0: 50 51 52 53 54 55 56 57 58 59 5A 5B 5C 5D 5E 5F  PQRSTUVWXYZ[\\]^_
Jan  2 03:04:05 gate charon: 11[CHD]   16: 50 51 52 53                                      PQRS
Jan  2 03:04:05 gate charon: 11[CHD] integrity responder key => 20 bytes @ 0x7f0000000000
Jan  2 03:04:05 gate charon: 11[CHD]    0: 60 61 62 63 64 65 66 67 68 69 6A 6B 6C 6D 6E 6F  `abcdefghijklmno
Jan  2 03:04:05 gate charon: 11[CHD]   16: 60 61 62 63                                      `abc
Jan  2 03:04:05 gate charon: 11[CHD] adding inbound ESP SA
Jan  2 03:04:05 gate charon: 11[CHD]   SPI 0x000000c1, src 192.0.2.2 dst 192.0.2.1
Jan  2 03:04:05 gate charon: 10[CHD] integrity responder key => 32 bytes @ 0x7f0000000000
Jan  2 03:04:05 gate charon: 10[CHD]    0: 40 41 42 43 44 45 46 47 48 49 4A 4B 4C 4D 4E 4F  @ABCDEFGHIJKLMNO
Jan  2 03:04:05 gate charon: 10[CHD]   16: 40 41 42 43 44 45 46 47 48 49 4A 4B 4C 4D 4E 4F  @ABCDEFGHIJKLMNO
Jan  2 03:04:05 gate charon: 10[CHD] adding inbound ESP SA
Jan  2 03:04:05 gate charon: 10[CHD]   SPI 0xa1000001, src 2001:db8::2 dst 2001:db8::1
Jan  2 03:04:05 gate charon: 10[CHD] registering outbound ESP SA
Jan  2 03:04:05 gate charon: 10[CHD]   SPI 0xb1000002, src 2001:db8::1 dst 2001:db8::2
Jan  2 03:04:05 gate charon: 11[CHD] adding outbound ESP SA
Jan  2 03:04:05 gate charon: 11[CHD]   SPI 0x000000c2, src 192.0.2.1 dst 192.0.2.2
Jan  2 03:04:06 gate charon: 10[ENC] parsed INFORMATIONAL request 1 [ D ]
Jan  2 03:04:06 gate charon: 10[CHD] adding outbound ESP SA
Jan  2 03:04:06 gate charon: 10[CHD]   SPI 0xb1000002, src 2001:db8::1 dst 2001:db8::2
";

    #[test]
    fn threads_and_directions_are_distinguished() {
        let (sas, warnings) = read_text(TWO_THREADS);
        assert_eq!(warnings, [""; 0]);
        let seen: Vec<String> = sas
            .iter()
            .map(|sa| {
                let keys = &sa.keys;
                let first = |secret: crate::secret::SecretSlice<'_>| secret.expose().first().copied().unwrap_or(0);
                let (integ, key) = keys.integ().unwrap();
                let suite = keys.suite().name;
                let [k, i] = [first(keys.key()), first(key)];
                format!("{} {} {} {suite} {k:x} {} {i:x} {}", sa.name, sa.src, sa.dst, integ.name, sa.esn)
            })
            .collect();
        // For the responder, incoming packets use the initiator's keys; for the initiator, outgoing packets do.
        assert_eq!(
            seen,
            [
                "0x000000c1 192.0.2.2 192.0.2.1 ENCR_NULL 0 AUTH_HMAC_SHA1_96 60 false",
                "0xa1000001 2001:db8::2 2001:db8::1 ENCR_AES_CBC 10 AUTH_HMAC_SHA2_256_128 30 true",
                "0xb1000002 2001:db8::1 2001:db8::2 ENCR_AES_CBC 20 AUTH_HMAC_SHA2_256_128 40 true",
                "0x000000c2 192.0.2.1 192.0.2.2 ENCR_NULL 0 AUTH_HMAC_SHA1_96 50 false",
            ]
        );
    }

    #[test]
    fn every_line_may_be_missing_or_truncated() {
        let lines: Vec<&str> = TWO_THREADS.lines().collect();
        for missing in 0..lines.len() {
            for cut in [0, 38, 45, 60, 90] {
                let text: Vec<&str> = lines
                    .iter()
                    .enumerate()
                    .map(|(at, line)| if at == missing { line.get(..cut).unwrap_or(line) } else { line })
                    .collect();
                for sa in read_text(&text.join("\n")).0 {
                    assert!(["0x000000c1", "0xa1000001", "0xb1000002", "0x000000c2"].contains(&sa.name.as_str()));
                }
            }
        }
    }

    #[test]
    fn missing_lines_are_reported() {
        let without = |what: &str| -> String {
            TWO_THREADS.lines().filter(|line| !line.contains(what)).map(|line| format!("{line}\n")).collect()
        };
        let (sas, warnings) = read_text(&without(" parsed "));
        assert!(sas.is_empty());
        assert!(warnings[0].ends_with(
            "skipped: 0x000000c1: the log does not show who began the exchange: also log the group `enc` at level 1"
        ));
        let (sas, warnings) = read_text(&without(" key => "));
        assert_eq!((sas.len(), warnings.len()), (0, 1));
        assert!(warnings[0].contains("set `chd = 4`"), "{warnings:?}");
        // Only the inbound SA. The outbound one is reported when it is added.
        let after = "SPI 0xa1000001, src 2001:db8::2 dst 2001:db8::1\n";
        let line = "10[CHD]   using HMAC_SHA2_256_128 with 96-bit truncation\n";
        let icv_lens = |text: &str| -> Vec<usize> { read_text(text).0.iter().map(|sa| sa.keys.icv_len()).collect() };
        assert_eq!(icv_lens(TWO_THREADS), [12, 16, 16, 12]);
        assert_eq!(icv_lens(&TWO_THREADS.replace(after, &format!("{after}{line}"))), [12, 12, 16, 12]);
        assert_eq!(icv_lens(&format!("{TWO_THREADS}{line}")), [12, 16, 12, 12]);
        assert_eq!(icv_lens(&format!("{line}{TWO_THREADS}")), [12, 16, 16, 12]);
        let (sas, warnings) = read_text(&TWO_THREADS.replace("dst 192.0.2.1", "dst 2001:db8::1"));
        assert_eq!((sas.len(), warnings.len()), (3, 1));
        assert!(warnings[0].ends_with("skipped: the SA has addresses of different IP versions"), "{warnings:?}");
        let (sas, warnings) = read_text(&TWO_THREADS.replace("using AES_CBC", "using 3DES_CBC"));
        assert_eq!((sas.len(), warnings.len()), (2, 2));
        assert!(warnings[0].ends_with("skipped: 0xa1000001: encryption `3DES_CBC` is not supported"), "{warnings:?}");
    }
}
