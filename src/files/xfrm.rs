//! The text of `ip xfrm state` and `ip -s xfrm state` (iproute2): a block of lines for each SA of the Linux kernel.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::LeftOut;
use super::values::{hex, shown, spi, spi_name};
use crate::context::Origin;
use crate::error::Error;
use crate::sa::{Sa, Selector};
use crate::secret::Secret;
use crate::suite::{Integ, IntegKey, Keys, Suite};

const HELP: &str = "give the text that `ip xfrm state` prints, whole";

/// Appends the SAs of `text`.
pub(super) fn read(path: &Path, text: &str, sas: &mut Vec<Arc<Sa>>, left_out: &mut LeftOut) -> Result<(), Error> {
    let file: Arc<Path> = path.into();
    let mut block: Option<Block> = None;
    let mut finish =
        |block: Option<Block>, left_out: &mut LeftOut| match block.map(|block| (block.line, block.sa(&file))) {
            None => Ok(()),
            Some((_, Ok(sa))) => {
                sas.push(Arc::new(sa));
                Ok(())
            }
            Some((line, Err(Unusable::LeftOut(why)))) => {
                left_out.push(line, why);
                Ok(())
            }
            Some((_, Err(Unusable::Other))) => Ok(()),
            Some((_, Err(Unusable::Wrong(line, problem, help)))) => Err(Error::line(path, line, problem, help)),
        };
    let mut words: Vec<&str> = vec![];
    for (line, number) in text.lines().zip(1u64..) {
        words.clear();
        words.extend(line.split_whitespace());
        match (words.as_slice(), &mut block) {
            ([] | ["#", ..], _) => {}
            (["src", src, "dst", dst, ..], _) => {
                finish(block.take(), left_out)?;
                block = Some(Block::new(number, src, dst));
            }
            (words, Some(block)) => block.line(number, words),
            (_, None) => return Err(Error::line(path, number, "an SA does not begin with `src ... dst ...`", HELP)),
        }
    }
    finish(block, left_out)
}

enum Unusable {
    /// Line, problem, help.
    Wrong(u64, String, &'static str),
    /// ESP, but of no use to this program.
    LeftOut(String),
    /// Not ESP.
    Other,
}

/// What is needed of the lines of one SA; the number of the line with each algorithm.
struct Block<'t> {
    line: u64,
    src: &'t str,
    dst: &'t str,
    protocol: Option<&'t str>,
    spi: Option<&'t str>,
    aead: Option<(u64, Algorithm<'t>)>,
    encryption: Option<(u64, Algorithm<'t>)>,
    authentication: Option<(u64, Algorithm<'t>)>,
    esn: bool,
    highest_sn: u64,
}

/// `name 0xkey bits`, or with `-s`: `name 0xkey (n bits) bits`.
struct Algorithm<'t> {
    name: &'t str,
    key: &'t str,
    icv_bits: Option<&'t str>,
}

impl<'t> Algorithm<'t> {
    fn new(words: &[&'t str]) -> Algorithm<'t> {
        let name = words.first().copied().unwrap_or_default();
        // A cipher without a key (ecb(cipher_null)) has no word for it.
        let key =
            words.get(1).copied().filter(|word| word.starts_with("0x") || word.starts_with("<<")).unwrap_or_default();
        let last = words.last().copied().filter(|word| word.bytes().all(|c| c.is_ascii_digit()));
        Algorithm { name, key, icv_bits: last }
    }

    fn key(&self, line: u64) -> Result<Secret, Unusable> {
        if self.key.starts_with("<<") {
            let help = "the kernel's keys are hidden: run `ip xfrm state` as root, without `nokeys`";
            return Err(Unusable::Wrong(line, "the keys are not in this text".into(), help));
        }
        match self.key {
            "" | "0x" => Ok(Secret::default()),
            key => hex(key).map_err(|trouble| Unusable::Wrong(line, format!("key: {}", trouble.problem), HELP)),
        }
    }
}

impl<'t> Block<'t> {
    fn new(line: u64, src: &'t str, dst: &'t str) -> Self {
        Block {
            line,
            src,
            dst,
            protocol: None,
            spi: None,
            aead: None,
            encryption: None,
            authentication: None,
            esn: false,
            highest_sn: 0,
        }
    }

    fn line(&mut self, number: u64, words: &[&'t str]) {
        match words {
            ["proto", protocol, "spi", spi, ..] => {
                self.protocol = Some(protocol);
                // `-s` appends the decimal in parentheses.
                self.spi = spi.split('(').next();
            }
            ["aead", rest @ ..] => self.aead = Some((number, Algorithm::new(rest))),
            ["enc", rest @ ..] => self.encryption = Some((number, Algorithm::new(rest))),
            ["auth" | "auth-trunc", rest @ ..] => self.authentication = Some((number, Algorithm::new(rest))),
            ["replay-window", ..] => self.esn |= behind("flag", words).contains(&"esn"),
            ["anti-replay", "context:", rest @ ..] => self.sequence_numbers(rest),
            ["anti-replay", "esn", "context:", ..] => {}
            ["seq-hi", ..] => self.sequence_numbers(words),
            _ => {}
        }
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

    fn sa(self, file: &Arc<Path>) -> Result<Sa, Unusable> {
        let wrong = |problem: &str| Unusable::Wrong(self.line, problem.into(), HELP);
        match self.protocol {
            None => return Err(wrong("an SA without a line `proto ... spi ...`")),
            Some("esp") => {}
            Some(_) => return Err(Unusable::Other),
        }
        let spi = self.spi.and_then(|word| spi(word).ok()).ok_or_else(|| wrong("an SPI that is none"))?;
        let src = selector(self.src).ok_or_else(|| wrong("`src` is no IP address"))?;
        let dst = selector(self.dst).ok_or_else(|| wrong("`dst` is no IP address"))?;
        if !src.fits_beside(dst) {
            return Err(wrong("`src` and `dst` are of two IP versions"));
        }
        Ok(Sa {
            name: spi_name(spi),
            spi: Some(spi),
            src,
            dst,
            link_src: None,
            link_dst: None,
            keys: self.keys()?,
            esn: self.esn,
            sn_hint: Some(self.highest_sn).filter(|number| *number != 0),
            read_as_ccm: false,
            origin: Origin { path: file.clone(), line: self.line },
        })
    }

    fn keys(&self) -> Result<Keys, Unusable> {
        let (line, name, algorithm) = match (&self.aead, &self.encryption) {
            (Some((line, algorithm)), _) => (*line, aead(algorithm)?, algorithm),
            (None, Some((line, algorithm))) => (*line, encryption(algorithm)?, algorithm),
            (None, None) => return Err(Unusable::Wrong(self.line, "ESP without a line `aead` or `enc`".into(), HELP)),
        };
        let lookup = || Unusable::LeftOut(format!("{name} is not supported"));
        let suite = Suite::by_name(name).ok_or_else(lookup)?;
        let key = algorithm.key(line)?;
        let integ = match &self.authentication {
            Some((line, algorithm)) if !suite.is_aead() => match integrity(algorithm)? {
                Some(integ) => IntegKey::Algorithm(integ, algorithm.key(*line)?),
                None => IntegKey::None,
            },
            _ => IntegKey::None,
        };
        Keys::from_parts(suite, key, None, integ).map_err(|error| Unusable::Wrong(line, error.to_string(), HELP))
    }
}

/// The words behind `name`.
fn behind<'w, 't>(name: &str, words: &'w [&'t str]) -> &'w [&'t str] {
    words.iter().position(|word| *word == name).and_then(|at| words.get(at..)).unwrap_or_default()
}

/// The unspecified address is the kernel's wildcard.
fn selector(word: &str) -> Option<Selector> {
    let address: IpAddr = word.parse().ok()?;
    Some(if address.is_unspecified() { Selector::Any } else { Selector::address(address) })
}

fn not_supported(algorithm: &Algorithm) -> Unusable {
    let bits = match algorithm.icv_bits {
        Some(bits) if bits.len() <= 4 => format!(" with an ICV of {bits} bits"),
        // It may be a part of the key.
        Some(_) => " with an ICV of this length".to_owned(),
        None => String::new(),
    };
    Unusable::LeftOut(format!("{}{bits} is not supported", shown(algorithm.name)))
}

fn aead(algorithm: &Algorithm) -> Result<&'static str, Unusable> {
    match (algorithm.name, algorithm.icv_bits) {
        ("rfc4309(ccm(aes))", Some("64")) => Ok("ENCR_AES_CCM_8"),
        ("rfc4309(ccm(aes))", Some("96")) => Ok("ENCR_AES_CCM_12"),
        ("rfc4309(ccm(aes))", Some("128")) => Ok("ENCR_AES_CCM_16"),
        ("rfc4106(gcm(aes))", Some("64")) => Ok("ENCR_AES_GCM_8"),
        ("rfc4106(gcm(aes))", Some("96")) => Ok("ENCR_AES_GCM_12"),
        ("rfc4106(gcm(aes))", Some("128")) => Ok("ENCR_AES_GCM_16"),
        ("rfc7539esp(chacha20,poly1305)", Some("128")) => Ok("ENCR_CHACHA20_POLY1305"),
        ("rfc4543(gcm(aes))", Some("128")) => Ok("ENCR_NULL_AUTH_AES_GMAC"),
        _ => Err(not_supported(algorithm)),
    }
}

fn encryption(algorithm: &Algorithm) -> Result<&'static str, Unusable> {
    match algorithm.name {
        "cbc(aes)" | "aes" => Ok("ENCR_AES_CBC"),
        "rfc3686(ctr(aes))" => Ok("ENCR_AES_CTR"),
        "ecb(cipher_null)" | "cipher_null" => Ok("ENCR_NULL"),
        name => Err(Unusable::LeftOut(format!("{} is not supported", shown(name)))),
    }
}

/// `None` for `digest_null`. Without a length the kernel's own holds: 96 bits for SHA-1 and SHA-256 (`xfrm_algo.c`).
fn integrity(algorithm: &Algorithm) -> Result<Option<&'static Integ>, Unusable> {
    let name = match (algorithm.name, algorithm.icv_bits) {
        ("digest_null", _) => return Ok(None),
        ("hmac(sha1)" | "sha1", None | Some("96")) => "AUTH_HMAC_SHA1_96",
        ("hmac(sha256)" | "sha256", Some("128")) => "AUTH_HMAC_SHA2_256_128",
        ("hmac(sha256)" | "sha256", None | Some("96")) => {
            let why = "HMAC-SHA-256 with an ICV of 96 bits (an early draft's) is not supported";
            return Err(Unusable::LeftOut(why.into()));
        }
        ("hmac(sha384)", None | Some("192")) => "AUTH_HMAC_SHA2_384_192",
        ("hmac(sha512)", None | Some("256")) => "AUTH_HMAC_SHA2_512_256",
        _ => return Err(not_supported(algorithm)),
    };
    Integ::by_name(name).map(Some).ok_or_else(|| not_supported(algorithm))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<Vec<Arc<Sa>>, (String, String)>;

    fn read_text(text: &str) -> (Outcome, Vec<String>) {
        let path = Path::new("f");
        let mut left_out = LeftOut { path, messages: vec![], more: 0 };
        let (mut sas, mut warnings) = (vec![], vec![]);
        let result = read(path, text, &mut sas, &mut left_out);
        left_out.finish(&mut warnings);
        let result = result.map(|()| sas).map_err(|error| (error.to_string(), error.help().to_owned()));
        (result, warnings)
    }

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
        let (sas, warnings) = read_text(text);
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
            let (sas, warnings) = read_text(&block(&line));
            assert_eq!(warnings, [""; 0], "{line}");
            let keys = &sas.unwrap()[0].keys;
            assert_eq!((keys.suite().name, keys.key().len(), keys.salt().len()), (suite, key_len, salt_len), "{line}");
        }
    }

    #[test]
    fn what_is_not_supported_is_left_out() {
        for (line, why) in [
            ("auth-trunc hmac(md5) 0x00 96\nenc cbc(aes) 0x00", "`hmac(md5)` with an ICV of 96 bits is not supported"),
            ("enc cbc(des3_ede) 0x00", "`cbc(des3_ede)` is not supported"),
            ("aead rfc4106(gcm(aes)) 0x00 32", "`rfc4106(gcm(aes))` with an ICV of 32 bits is not supported"),
            // The rest of a key that was split.
            (
                "aead rfc4106(gcm(aes)) 0x00 00112233445566778899",
                "`rfc4106(gcm(aes))` with an ICV of this length is not supported",
            ),
            (
                "auth hmac(sha256) 0x00\nenc cbc(aes) 0x00",
                "HMAC-SHA-256 with an ICV of 96 bits (an early draft's) is not supported",
            ),
        ] {
            let (sas, warnings) = read_text(&block(line));
            assert_eq!((sas.unwrap().len(), warnings), (0, vec![format!("f:1: left out: {why}")]));
        }
    }

    #[test]
    fn wrong_text_is_refused() {
        let hidden = "the kernel's keys are hidden: run `ip xfrm state` as root, without `nokeys`";
        for (text, problem, help) in [
            (block("aead rfc4106(gcm(aes)) <<Keys hidden>> 128"), "3: the keys are not in this text", hidden),
            (
                block("aead rfc4106(gcm(aes)) <<Keys hidden>> (160 bits) 128"),
                "3: the keys are not in this text",
                hidden,
            ),
            (block("enc cbc(aes) 0x001122"), "3: key of ENCR_AES_CBC is 16, 24 or 32 bytes, not 3", HELP),
            (block("enc cbc(aes) 0x00112"), "3: key: 5 hex digits are no whole bytes", HELP),
            (block("replay-window 0"), "1: ESP without a line `aead` or `enc`", HELP),
            ("src 10.0.0.1 dst 10.0.0.2\n".into(), "1: an SA without a line `proto ... spi ...`", HELP),
            ("src 10.0.0.1 dst x\n\tproto esp spi 0x1\n".into(), "1: `dst` is no IP address", HELP),
            ("src 10.0.0.1 dst 10.0.0.2\n\tproto esp spi x\n".into(), "1: an SPI that is none", HELP),
            ("src 10.0.0.1 dst fd01::2\n\tproto esp spi 1\n".into(), "1: `src` and `dst` are of two IP versions", HELP),
            ("\tproto esp spi 0x1\n".into(), "1: an SA does not begin with `src ... dst ...`", HELP),
        ] {
            assert_eq!(read_text(&text).0.unwrap_err(), (format!("f:{problem}"), help.to_owned()), "{text}");
        }
    }
}
