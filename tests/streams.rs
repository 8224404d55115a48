//! Realistic streams: lossy, reordered, repeated, ambiguous, late. The captures are generated, so the right
//! sequence numbers are known. Every number must be found, and no wrong one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests may panic.

mod common;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dietesp::internals::capture::{Frame, Interface, Options, Timestamp, Writer};
use dietesp::internals::cipher::EspCipher;
use dietesp::internals::codec::Codec;
use dietesp::internals::context::Context;
use dietesp::internals::net::OuterHeader;
use dietesp::internals::sa::Sa;
use dietesp::internals::{codec, files, link};
use serde_json::Value;

/// A small pseudo-random number generator (SplitMix64), so that every run generates the same captures.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A sender of Diet-ESP packets of one SA.
struct Sender {
    sa: Arc<Sa>,
    codec: Codec,
    cipher: EspCipher,
    outer: OuterHeader,
}

impl Sender {
    fn new(sa: Arc<Sa>, context: &Context) -> Sender {
        let cipher = EspCipher::new(&sa.keys);
        let codec = Codec::new(Some(context), cipher.block()).unwrap();
        let (src, dst) = context.tunnel_ip.unwrap();
        let outer = OuterHeader {
            version: dietesp::internals::net::IpVersion::of(src),
            src,
            dst,
            dscp: 0,
            ecn: 0,
            hop_limit: 64,
            flow_label: 0,
        };
        Sender { sa, codec, cipher, outer }
    }

    /// The frame (raw IP) of a packet with this number and 10 bytes of UDP payload.
    fn frame(&self, sn: u64, iv: u64) -> Vec<u8> {
        let mut inner = vec![0x60, 0, 0, 0, 0, 18, 17, 64];
        inner.extend("2001:db8:a::10".parse::<std::net::Ipv6Addr>().unwrap().octets());
        inner.extend("2001:db8:b::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        inner.extend([0x16, 0x33, 0x16, 0x33, 0, 18, 0, 0]);
        inner.extend(sn.to_be_bytes());
        inner.extend([0xca, 0xfe]);
        let [src, dst] = [8, 24].map(|at| IpAddr::from(<[u8; 16]>::try_from(&inner[at..at + 16]).unwrap()));
        let checksum = dietesp::internals::net::checksum::upper_layer(src, dst, 17, &inner[40..]);
        inner[46..48].copy_from_slice(&checksum.to_be_bytes());
        let mut clear = vec![];
        self.codec.compress(&inner, &self.outer, &mut codec::State::default(), &mut clear).unwrap();
        let mut payload = vec![];
        self.codec.encode_header(self.sa.spi.unwrap(), sn, &mut payload);
        let iv = iv.to_be_bytes();
        let iv = &iv[..self.cipher.iv_len()];
        self.cipher.seal(self.sa.spi.unwrap(), sn, self.sa.esn, iv, &clear, &mut payload).unwrap();
        let mut frame = vec![];
        link::encapsulate(101, &[], &self.outer, 50, &[&payload], &mut frame).unwrap();
        frame
    }
}

/// Key file, rule file and senders for `count` SAs. Their keys differ, and so do the high bits of their SPIs.
struct Lab {
    folder: tempfile::TempDir,
    senders: Vec<Sender>,
}

impl Lab {
    fn new(count: usize, encr: &str, spi_bits: u8, sn_bits: u8, more: &str, start: u64) -> Lab {
        let mut random = Random(7);
        let folder = tempfile::tempdir().unwrap();
        let (mut keys, mut rules) = ("sas:\n".to_owned(), "contexts:\n".to_owned());
        let salt_len = if encr.contains("CCM") { 6 } else { 8 };
        for sa in 0..count {
            // The low 12 bits are the same for all SAs.
            let spi = 0x0010_0abc + ((sa as u64) << 12);
            let (a, b, salt) = (random.next(), random.next(), random.next());
            let salt = &format!("{salt:016x}")[..salt_len];
            let key = format!("{a:016x}{b:016x}").repeat(if encr.contains("CHACHA") { 2 } else { 1 });
            keys += &format!(
                "  - {{ name: s{sa}, spi: 0x{spi:08x}, src: 2001:db8:0:1::2, dst: 2001:db8:0:1::1, encr: {encr}, \
                 key: {key}, salt: {salt}{more} }}\n"
            );
            rules += &format!(
                "  - sa: s{sa}\n    ipsec_mode: Tunnel\n    tunnel_ip: {{ src: 2001:db8:0:1::2, dst: 2001:db8:0:1::1 }}\n    \
                 ts_ip_version: IPv6-only\n    ts_ip_src: 2001:db8:a::10\n    ts_ip_dst: 2001:db8:b::1\n    ts_proto: UDP\n    \
                 ts_port_src: 5683\n    ts_port_dst: 5683\n    dscp_cda: lower\n    ecn_cda: lower\n    flow_label_cda: zero\n    \
                 alignment: 8 bit\n    esp_spi_lsb: {spi_bits}\n    esp_sn_lsb: {sn_bits}\n    esp_sn: {start}\n"
            );
        }
        std::fs::write(folder.path().join("keys.yaml"), keys).unwrap();
        std::fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        let [keys, rules] = ["keys.yaml", "rules.yaml"].map(|name| folder.path().join(name));
        let loaded = files::load(&[keys], &[rules]).unwrap();
        let senders =
            loaded.sas.into_iter().zip(&loaded.contexts).map(|(sa, context)| Sender::new(sa, context)).collect();
        Lab { folder, senders }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Decodes frames whose capture times are one millisecond apart.
    fn decode(&self, frames: &[Vec<u8>], more: &[&str]) -> (Vec<Value>, i32) {
        let capture = self.path("capture.pcapng");
        write_capture(&capture, frames);
        let (rules, keys) = (self.path("rules.yaml"), self.path("keys.yaml"));
        let mut args: Vec<std::ffi::OsString> =
            vec![capture.into(), "--rules".into(), rules.into(), "--keys".into(), keys.into()];
        args.extend(more.iter().map(Into::into));
        common::decode(args)
    }
}

fn write_capture(path: &Path, frames: &[Vec<u8>]) {
    let interface = Interface::new(101);
    let mut writer = Writer::create(path).unwrap();
    for (number, data) in (1..).zip(frames) {
        let time = Some(Timestamp::new(1_700_000_000 + number / 1000, (number % 1000 * 1_000_000) as u32));
        let orig_len = data.len() as u32;
        let packet =
            Frame { number: number as u64, interface: &interface, time, orig_len, data, options: Options::default() };
        writer.write(&packet, None).unwrap();
    }
    writer.finish().unwrap();
}

/// Numbers of a stream with losses, two gaps, reordering and repeats.
fn lossy(random: &mut Random, packets: usize) -> Vec<u64> {
    let mut numbers = vec![];
    let mut next = 1;
    while numbers.len() < packets {
        if numbers.len() == packets / 3 {
            next += 300;
        }
        if numbers.len() == 2 * packets / 3 {
            next += 5000;
        }
        if !random.percent(5) {
            numbers.push(next);
            if random.percent(1) {
                numbers.push(next);
            }
        }
        next += 1;
    }
    for at in 0..numbers.len() - 8 {
        if random.percent(1) {
            let moved = numbers.remove(at);
            numbers.insert(at + 1 + random.below(8) as usize, moved);
        }
    }
    numbers
}

fn check_lossy(encr: &str, spi_bits: u8, sn_bits: u8, more: &[&str]) {
    let lab = Lab::new(1, encr, spi_bits, sn_bits, "", 1);
    let mut random = Random(u64::from(sn_bits) + 1);
    let numbers = lossy(&mut random, 20_000);
    // One IV per number, so a number that is sent twice is the same packet.
    let frames: Vec<_> = numbers.iter().map(|sn| lab.senders[0].frame(*sn, Random(*sn).next())).collect();
    let (records, status) = lab.decode(&frames, more);
    let wrong: Vec<_> = numbers
        .iter()
        .zip(&records)
        .filter(|(sn, record)| record["status"] != "ok" || record["esp"]["sequence"] != **sn)
        .take(5)
        .collect();
    assert!(wrong.is_empty(), "{encr} {sn_bits} bits: {wrong:?}");
    assert_eq!((records.len(), status), (numbers.len(), 0));
    let tries: u64 = records.iter().map(|record| record["esp"]["tries"].as_u64().unwrap()).sum();
    let repeats = numbers.len() - numbers.iter().collect::<std::collections::HashSet<_>>().len();
    let duplicates = records.iter().filter(|record| !record["repeat_of"].is_null()).count();
    assert_eq!(duplicates, repeats);
    eprintln!("{encr}, {sn_bits} SN bits: {:.2} tries a packet", tries as f64 / numbers.len() as f64);
}

#[test]
fn a_lossy_stream_with_4_8_and_16_bits() {
    check_lossy("ENCR_AES_CCM_8", 12, 4, &[]);
    check_lossy("ENCR_AES_CCM_8", 8, 8, &[]);
    check_lossy("ENCR_AES_CCM_8", 8, 16, &[]);
    check_lossy("ENCR_AES_CCM_8_IIV", 8, 8, &[]);
    check_lossy("ENCR_CHACHA20_POLY1305_IIV", 8, 16, &["--threads", "3"]);
}

#[test]
fn a_lossy_stream_without_any_bits() {
    check_lossy("ENCR_AES_GCM_16", 0, 0, &[]);
    check_lossy("ENCR_AES_CCM_16", 0, 0, &[]);
    check_lossy("ENCR_AES_CCM_8", 0, 0, &["--sn-tries", "16384"]);
}

#[test]
fn found_numbers_do_not_depend_on_the_number_of_threads() {
    let lab = Lab::new(16, "ENCR_AES_CCM_8", 8, 8, "", 1);
    let mut random = Random(5);
    let streams: Vec<Vec<u64>> = (0..16).map(|_| lossy(&mut random, 400)).collect();
    let mut frames = vec![];
    for at in 0..400 {
        for (sender, numbers) in lab.senders.iter().zip(&streams) {
            let mut frame = sender.frame(numbers[at], Random(numbers[at]).next());
            if random.percent(2) {
                *frame.last_mut().unwrap() ^= 1;
            }
            frames.push(frame);
        }
    }
    let (one, _) = lab.decode(&frames, &["--threads", "1"]);
    for threads in ["2", "3", "8"] {
        let (many, _) = lab.decode(&frames, &["--threads", threads]);
        assert!(one == many, "{threads} threads");
    }
}

/// An SA without integrity check is tried after all others. This does not count as an attempt of the others.
#[test]
fn tries_do_not_depend_on_the_number_of_threads_next_to_an_sa_without_integrity_check() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8_IIV", 0, 8, "", 1);
    let sa = "spi: 0x00200abc, src: 2001:db8:0:1::2, dst: 2001:db8:0:1::1, encr: ENCR_NULL, integ: NONE";
    let rule = "ipsec_mode: Tunnel, iipc_profile: iipc_not_compressed, esp_spi_lsb: 0, esp_sn_lsb: 8";
    for (file, item) in [("keys.yaml", format!("name: n, {sa}")), ("rules.yaml", format!("sa: n, {rule}"))] {
        let path = lab.path(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}  - {{ {item} }}\n")).unwrap();
    }
    // The progress of the stream predicts the next number; the number expected first is wrong.
    let frames: Vec<_> = (0..4000).map(|at| lab.senders[0].frame(1 + 1024 * at, 0)).collect();
    for threads in ["1", "8"] {
        let (records, _) = lab.decode(&frames, &["--threads", threads]);
        let tries: Vec<_> = records.iter().map(|record| record["esp"]["tries"].as_u64().unwrap()).collect();
        // h + 1024 is tried after h, h + 256, h - 256, and so on. At the start there are no numbers below.
        assert!(tries[10..].iter().all(|tries| *tries == 8), "{threads} threads: {:?}", &tries[..20]);
    }
}

#[test]
fn sas_with_the_same_spi_bits_are_distinguished_by_their_icv() {
    for (count, spi_bits, sn_bits) in [(2, 8, 8), (16, 8, 8), (256, 8, 8), (256, 0, 8), (256, 0, 16)] {
        let lab = Lab::new(count, "ENCR_AES_CCM_8", spi_bits, sn_bits, "", 1);
        let mut random = Random(3);
        let mut next = vec![1; count];
        let (mut frames, mut expected) = (vec![], vec![]);
        // In bursts, like real flows.
        for _ in 0..count.max(32) * 2 {
            let sa = random.below(count as u64) as usize;
            for _ in 0..16 {
                frames.push(lab.senders[sa].frame(next[sa], random.next()));
                expected.push((format!("s{sa}"), next[sa]));
                next[sa] += 1;
            }
        }
        let (records, status) = lab.decode(&frames, &[]);
        assert_eq!(status, 0);
        for ((name, sn), record) in expected.iter().zip(&records) {
            assert_eq!((&record["sa"], &record["esp"]["sequence"]), (&Value::from(name.as_str()), &Value::from(*sn)));
        }
        let tries: Vec<u64> = records.iter().map(|record| record["esp"]["tries"].as_u64().unwrap()).collect();
        let first: u64 = tries.iter().step_by(16).sum();
        let later = tries.iter().sum::<u64>() - first;
        assert_eq!(later, records.len() as u64 - records.len() as u64 / 16, "one try behind the first of a flow");
        eprintln!(
            "{count} SAs, {spi_bits} SPI bits: {:.1} tries for the first of a burst, then 1",
            first as f64 * 16.0 / tries.len() as f64
        );
    }
}

#[test]
fn a_capture_that_starts_late_needs_resync() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 8, "", 1);
    let mut random = Random(9);
    let frames: Vec<_> = (3_000_000..3_000_020).map(|sn| lab.senders[0].frame(sn, random.next())).collect();
    let (records, status) = lab.decode(&frames, &[]);
    assert_eq!((common::count(&records, "auth-failed"), status), (20, 1));
    let (records, status) = lab.decode(&frames, &["--resync"]);
    assert_eq!((common::count(&records, "ok"), status), (20, 0));
    assert_eq!(records[0]["esp"]["sequence"], 3_000_000);
    assert_eq!(records[0]["esp"]["method"], "search");
    assert_eq!(records[1]["esp"]["method"], "nearest");
    let output = common::dietesp([
        "sa".as_ref(),
        lab.path("capture.pcapng").as_os_str(),
        "--rules".as_ref(),
        lab.path("rules.yaml").as_os_str(),
        "--keys".as_ref(),
        lab.path("keys.yaml").as_os_str(),
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--resync"), "the summary says what to try: {said}");
}

/// Sequence numbers of the records, 0 if there is none.
fn sequences(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["esp"]["sequence"].as_u64().unwrap_or(0)).collect()
}

fn damage(frame: &mut [u8]) {
    *frame.last_mut().unwrap() ^= 1;
}

impl Lab {
    /// The output of `dietesp sa --format jsonl` for the last decoded capture.
    fn streams(&self) -> Vec<Value> {
        let [capture, rules, keys] = ["capture.pcapng", "rules.yaml", "keys.yaml"].map(|name| self.path(name));
        let paths = [capture, rules, keys].map(|path| path.to_str().unwrap().to_owned());
        let output = common::dietesp(["sa", &paths[0], "--rules", &paths[1], "--keys", &paths[2], "--format", "jsonl"]);
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn a_late_start_is_found_after_damaged_packets() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 16, "", 1);
    let mut frames: Vec<_> = (300_000_000..300_000_020).map(|sn| lab.senders[0].frame(sn, Random(sn).next())).collect();
    frames[..3].iter_mut().for_each(|frame| damage(frame));
    let (records, _) = lab.decode(&frames, &["--resync"]);
    // After each failed search, the wait for the next one doubles.
    assert_eq!(common::count(&records, "ok"), 16);
    assert_eq!(sequences(&records)[4..], (300_000_004..300_000_020).collect::<Vec<u64>>());
    frames.remove(0);
    let (records, _) = lab.decode(&frames, &["--resync"]);
    assert_eq!(sequences(&records)[2..], (300_000_003..300_000_020).collect::<Vec<u64>>());
}

#[test]
fn a_stream_that_is_lost_among_others_is_found_again() {
    let lab = Lab::new(2, "ENCR_AES_CCM_8", 8, 16, "", 1);
    let mut numbers = [1, 1];
    let mut expected = vec![];
    let frames: Vec<_> = (0..120)
        .map(|index| {
            let sender = index % 2;
            if index == 20 {
                numbers[sender] += 300_000_000;
            }
            numbers[sender] += 1;
            expected.push(numbers[sender]);
            lab.senders[sender].frame(numbers[sender], Random(index as u64).next())
        })
        .collect();
    let (records, _) = lab.decode(&frames, &["--resync"]);
    let wrong: Vec<usize> = (0..frames.len()).filter(|at| sequences(&records)[*at] != expected[*at]).collect();
    // An SA counts as lost after sixteen failed packets.
    assert_eq!(wrong, (20..52).step_by(2).collect::<Vec<_>>());
    assert_eq!(records[52]["esp"]["method"], "search");
    let (records, _) = lab.decode(&frames, &[]);
    assert_eq!(common::count(&records, "auth-failed"), 50);
}

/// Packets of a window are first tried with the progress before this window, which does not include the result of
/// the search.
#[test]
fn a_number_out_of_reach_leaves_no_trace_of_an_earlier_attempt() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 0, "", 10_000);
    let numbers = [10_001, 10_002, 10_003, 10_403, 10_803, 10_004];
    let frames = numbers.map(|sn| lab.senders[0].frame(sn, Random(sn).next()));
    let (records, _) = lab.decode(&frames, &[]);
    assert_eq!(sequences(&records), [10_001, 10_002, 10_003, 10_403, 10_803, 0]);
    let failed = &records[5];
    assert_eq!((&failed["status"], &failed["bytes"]), (&"auth-failed".into(), &Value::Null), "{failed}");
    assert_eq!(failed["warnings"], Value::Null, "{failed}");
}

#[test]
fn the_hint_of_the_key_file_is_tried_in_addition_to_the_start() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 8, "", 1);
    let sender = &lab.senders[0];
    let keys = &sender.sa.keys;
    let key = hex::encode([keys.key().expose(), keys.salt().expose()].concat());
    let state = format!(
        "src 2001:db8:0:1::2 dst 2001:db8:0:1::1\n\tproto esp spi 0x00100abc reqid 1 mode tunnel\n\treplay-window 0 \
         \n\taead rfc4309(ccm(aes)) 0x{key} 64\n\tanti-replay context: seq 0x0, oseq 0x2dc6c0, bitmap 0x00000000\n"
    );
    let rules = std::fs::read_to_string(lab.path("rules.yaml")).unwrap().replace("sa: s0", "spi: 0x00100abc");
    std::fs::write(lab.path("keys.yaml"), state).unwrap();
    // Captured long before `ip xfrm state` was printed, and just before.
    for first in [1, 2_999_900] {
        let frames: Vec<_> = (first..first + 20).map(|sn| sender.frame(sn, Random(sn).next())).collect();
        for rules in [rules.clone(), rules.replace("    esp_sn: 1\n", "")] {
            std::fs::write(lab.path("rules.yaml"), rules).unwrap();
            let (records, status) = lab.decode(&frames, &[]);
            assert_eq!((sequences(&records), status), ((first..first + 20).collect(), 0));
            assert!(records[0]["esp"]["tries"].as_u64().unwrap() <= 2, "{}", records[0]);
        }
    }
}

#[test]
fn unverified_packets_give_no_iv_mask() {
    for esn in ["", ", esn: true"] {
        let lab = Lab::new(1, "ENCR_AES_CTR", 8, 8, &format!(", integ: NONE{esn}"), 1);
        let mut random = Random(17);
        // Random IVs of 32 bits sometimes agree with the 8 bits on the wire.
        let frames: Vec<_> = (1..3000).map(|sn| lab.senders[0].frame(sn, random.below(1 << 32))).collect();
        let (records, status) = lab.decode(&frames, &[]);
        assert_eq!((sequences(&records), status), ((1..3000).collect(), 0));
        assert!(records.iter().all(|record| record["esp"]["method"] == "nearest"));
    }
}

#[test]
fn every_number_is_tried_exactly_once() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 16, "", 1);
    let mut frame = lab.senders[0].frame(7, 7);
    damage(&mut frame);
    let (records, _) = lab.decode(&[frame], &["--resync=full"]);
    assert_eq!(records[0]["reason"], "open at byte 0: the ICV does not verify (65536 tries, 1 SA)");
    let paths = ["capture.pcapng", "rules.yaml", "keys.yaml"].map(|name| lab.path(name).to_str().unwrap().to_owned());
    let args = ["decode", &paths[0], "--rules", &paths[1], "--keys", &paths[2], "--resync=full"];
    let (_, said) = common::dietesp_ends(1, args);
    assert!(said.contains("a forged packet verifies with a probability of 2^-32"), "{said}");
}

#[test]
fn the_report_of_a_stream_with_more_gaps_than_are_kept() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 8, "", 1);
    let mut random = Random(19);
    let numbers: Vec<u64> = (1..=30_000).filter(|sn| *sn == 1 || *sn == 30_000 || !random.percent(20)).collect();
    let frames: Vec<_> = numbers.iter().map(|sn| lab.senders[0].frame(*sn, *sn)).collect();
    lab.decode(&frames, &[]);
    let stream = &lab.streams()[0];
    let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() as u64;
    assert!(gaps > 4096);
    let listed = stream["gaps"].as_array().unwrap().len() as u64;
    let not_listed = stream["gaps_not_listed"].as_u64().unwrap();
    assert_eq!((&stream["missing"], listed + not_listed), (&Value::from(30_000 - numbers.len()), gaps));
}

#[test]
fn failed_multicast_packets_are_in_the_report() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 8, "", 1);
    let keys = std::fs::read_to_string(lab.path("keys.yaml")).unwrap();
    let keys = keys.replace("src: 2001:db8:0:1::2, dst: 2001:db8:0:1::1", "dst: ff02::1");
    std::fs::write(lab.path("keys.yaml"), keys).unwrap();
    let frames: Vec<_> = (1..=24)
        .map(|sn| {
            let mut frame = lab.senders[0].frame(sn, sn);
            frame[24..40].copy_from_slice(&"ff02::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
            frame[23] = 1 + (sn % 2) as u8;
            if sn <= 8 {
                damage(&mut frame);
            }
            frame
        })
        .collect();
    let (records, _) = lab.decode(&frames, &[]);
    assert_eq!(common::count(&records, "ok"), 16);
    let rows: Vec<_> = lab
        .streams()
        .iter()
        .map(|row| (row["src"].as_str().unwrap().to_owned(), row["verified"].clone(), row["failed"].clone()))
        .collect();
    let row = |src: &str, verified: u64, failed: u64| (src.to_owned(), Value::from(verified), Value::from(failed));
    assert_eq!(rows, [row("any", 0, 8), row("2001:db8:0:1::1", 8, 0), row("2001:db8:0:1::2", 8, 0)]);
}

#[test]
fn the_summary_lists_anomalies_of_each_stream() {
    let lab = Lab::new(1, "ENCR_AES_CCM_8", 8, 8, "", 1);
    let frame = |sn: u64| lab.senders[0].frame(sn, sn);
    let frames = [1, 2, 5, 4, 9, 9].map(frame);
    lab.decode(&frames, &[]);
    let paths = ["capture.pcapng", "rules.yaml", "keys.yaml"].map(|name| lab.path(name).to_str().unwrap().to_owned());
    let (_, said) = common::dietesp_ends(0, ["decode", &paths[0], "--rules", &paths[1], "--keys", &paths[2]]);
    let line = "s0: 6 verified, 1.00 tries each; 4 of the Sequence Numbers 1 to 9 missing in 2 gaps, 1 repeated, reordered by up to 1\n";
    assert!(said.contains(line), "{said}");
}

#[test]
fn extended_numbers_across_2_to_the_32() {
    let start = u64::from(u32::MAX) - 40;
    for (encr, sn_bits) in [("ENCR_AES_CCM_8", 8), ("ENCR_AES_GCM_16_IIV", 8), ("ENCR_AES_GCM_16", 0)] {
        let lab = Lab::new(1, encr, 8, sn_bits, ", esn: true", start);
        let mut random = Random(11);
        let frames: Vec<_> = (start..start + 100).map(|sn| lab.senders[0].frame(sn, random.next())).collect();
        let (records, status) = lab.decode(&frames, &[]);
        let numbers: Vec<u64> = records.iter().filter_map(|record| record["esp"]["sequence"].as_u64()).collect();
        assert_eq!((numbers, status), ((start..start + 100).collect(), 0));
    }
}

#[test]
fn packets_of_unknown_sas_are_never_accepted() {
    let lab = Lab::new(1000, "ENCR_AES_CCM_8", 0, 0, "", 1);
    let mut random = Random(13);
    let frames: Vec<_> = (0..3)
        .map(|_| {
            let payload: Vec<u8> = (0..40).map(|_| random.next() as u8).collect();
            let mut frame = vec![];
            link::encapsulate(101, &[], &lab.senders[0].outer, 50, &[&payload], &mut frame).unwrap();
            frame
        })
        .collect();
    let (records, status) = lab.decode(&frames, &["--sn-tries", "64"]);
    assert_eq!((common::count(&records, "auth-failed"), status), (3, 1));
    // The cost is limited and reported: 64 numbers for each of 1,000 SAs.
    assert_eq!(records[0]["reason"], "open at byte 0: the ICV does not verify (64000 tries, 1000 SAs)");
}
