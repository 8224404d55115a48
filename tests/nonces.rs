//! No nonce is used for two plaintexts with one key: neither within an output, nor in an output and its input (wire
//! format §7).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests may panic.

mod common;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

/// Compresses every attribute of a strongSwan capture, with the given bits of SPI and Sequence Number.
fn rules(folder: &Path, esp_sa: &Path, bits: u8) -> std::path::PathBuf {
    let mut text = "contexts:\n".to_owned();
    for line in std::fs::read_to_string(esp_sa).unwrap().lines() {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
        let (src, dst, spi) = (fields[1], fields[2], fields[3]);
        let [a, b] = if src.ends_with('1') { ["fd0a::1", "fd0b::1"] } else { ["fd0b::1", "fd0a::1"] };
        text += &format!(
            "  - spi: {spi}\n    src: {src}\n    dst: {dst}\n    ipsec_mode: Tunnel\n    \
             tunnel_ip: {{ src: \"{src}\", dst: \"{dst}\" }}\n    ts_ip_version: IPv6-only\n    ts_ip_src: {a}\n    \
             ts_ip_dst: {b}\n    ts_proto: ANY\n    dscp_cda: lower\n    ecn_cda: lower\n    flow_label_cda: generated\n    \
             alignment: 8 bit\n    esp_spi_lsb: {bits}\n    esp_sn_lsb: {bits}\n"
        );
    }
    let path = folder.join("rules.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(args: &[&str]) {
    let output = common::dietesp(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// By SA: IV and clear packet of every packet that decrypts. The IV follows SPI and sequence number.
fn nonces(capture: &str, keys: &str, rules: Option<&str>) -> HashMap<(String, String), Value> {
    let mut args = vec![capture, "--keys", keys];
    args.extend(rules.iter().flat_map(|rules| ["--rules", rules]));
    let (records, _) = common::decode(args);
    let frames = payloads(capture);
    let mut nonces = HashMap::new();
    for record in records.iter().filter(|record| record["status"] == "ok") {
        let wire = &record["esp"]["wire"];
        let header = (wire["spi_bits"].as_u64().unwrap() + wire["sn_bits"].as_u64().unwrap()) as usize / 8;
        let len = wire["bytes"].as_u64().unwrap() as usize;
        let frame = &frames[record["frame"].as_u64().unwrap() as usize - 1];
        let iv = hex::encode(&frame[frame.len() - len + header..][..8]);
        let key = (record["sa"].as_str().unwrap().to_owned(), iv);
        let before = nonces.insert(key.clone(), record["packet"].clone());
        assert!(before.is_none(), "{key:?} twice in {capture}");
    }
    nonces
}

fn payloads(capture: &str) -> Vec<Vec<u8>> {
    let mut reader = dietesp::internals::capture::Reader::open(Path::new(capture)).unwrap();
    let mut window = dietesp::internals::capture::Window::default();
    let mut frames = vec![];
    while reader.fill(&mut window).unwrap() {
        frames.extend(window.frames().map(|packet| packet.data.to_vec()));
    }
    frames
}

#[test]
fn no_nonce_is_used_for_two_plaintexts_with_one_key() {
    let data = common::data();
    for name in ["strongswan_ccm8_v6", "strongswan_gcm16_v4"] {
        let capture = data.join(format!("captures/{name}.pcapng"));
        let esp_sa = data.join(format!("captures/{name}.esp_sa"));
        let folder = tempfile::tempdir().unwrap();
        let rules = rules(folder.path(), &esp_sa, 8);
        let [diet, esp] = ["diet.pcapng", "esp.pcapng"].map(|file| folder.path().join(file));
        let [capture, esp_sa, rules, diet, esp] =
            [&capture, &esp_sa, &rules, &diet, &esp].map(|path| path.to_str().unwrap());
        run(&["compress", capture, "-o", diet, "--rules", rules, "--keys", esp_sa]);
        run(&["convert", diet, "-o", esp, "--rules", rules, "--keys", esp_sa, "--reseal", "keep"]);
        let original = nonces(capture, esp_sa, None);
        let compressed = nonces(diet, esp_sa, Some(rules));
        let converted = nonces(esp, esp_sa, None);
        assert_eq!([original.len(), compressed.len(), converted.len()], [240; 3]);
        for nonce in converted.keys() {
            assert!(!compressed.contains_key(nonce), "{nonce:?}");
        }
        for nonce in compressed.keys() {
            assert!(!original.contains_key(nonce), "{nonce:?}");
        }
    }
}

#[test]
fn fresh_keys_are_new_and_a_seed_repeats_them() {
    let samples = common::samples();
    let capture = samples.join("probe/diet-esp.pcapng");
    let rules = samples.join("probe/rules.yaml");
    let keys = samples.join("../keys/probe.yaml");
    let folder = tempfile::tempdir().unwrap();
    let esp_sa = |seed: Option<&str>, name: &str| {
        let out = folder.path().join(name);
        let paths = [&capture, &out, &rules, &keys].map(|path| path.to_str().unwrap());
        let mut args = vec!["convert", paths[0], "-o", paths[1], "--rules", paths[2], "--keys", paths[3]];
        args.extend(seed.iter().flat_map(|seed| ["--seed", seed]));
        run(&args);
        let text = std::fs::read_to_string(folder.path().join(format!("{name}.wireshark/esp_sa"))).unwrap();
        (text, std::fs::read(out).unwrap())
    };
    let (one, two) = (esp_sa(None, "one.pcapng"), esp_sa(None, "two.pcapng"));
    assert_ne!(one.0, two.0);
    let (three, four) = (esp_sa(Some("4"), "three.pcapng"), esp_sa(Some("4"), "four.pcapng"));
    assert_eq!(three, four);
    let own = std::fs::read_to_string(&keys).unwrap();
    for secret in own.lines().filter_map(|line| line.trim().strip_prefix("key: ")) {
        assert!(!one.0.contains(secret), "a key of the SAs in the output");
    }
}

#[test]
fn an_implicit_iv_with_the_key_of_the_input_is_rejected() {
    let data = common::data();
    let capture = data.join("captures/strongswan_gcm16_v4.pcapng");
    let esp_sa = data.join("captures/strongswan_gcm16_v4.esp_sa");
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), &esp_sa, 8);
    // The same keys, declared for the suite that does not send its IV.
    let mut keys = "sas:\n".to_owned();
    for line in std::fs::read_to_string(&esp_sa).unwrap().lines() {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
        keys += &format!(
            "  - {{ spi: {}, src: {}, dst: {}, encr: ENCR_AES_GCM_16_IIV, key: {} }}\n",
            fields[3], fields[1], fields[2], fields[5]
        );
    }
    let implicit = folder.path().join("implicit.yaml");
    std::fs::write(&implicit, keys).unwrap();
    let out = folder.path().join("out.pcapng");
    let paths = [&capture, &out, &rules, &implicit, &esp_sa].map(|path| path.to_str().unwrap());
    let args = ["compress", paths[0], "-o", paths[1], "--rules", paths[2], "--keys", paths[3], "--esp-keys", paths[4]];
    let output = common::dietesp(args);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonce"), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!out.exists());
    run(&[&args[..], &["--allow-nonce-reuse"]].concat());
}

#[test]
fn a_16_byte_icv_reveals_spi_and_number_without_search() {
    let data = common::data();
    let capture = data.join("captures/strongswan_gcm16_v4.pcapng");
    let esp_sa = data.join("captures/strongswan_gcm16_v4.esp_sa");
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), &esp_sa, 0);
    let diet = folder.path().join("diet.pcapng");
    let [capture, esp_sa, rules, diet] = [&capture, &esp_sa, &rules, &diet].map(|path| path.to_str().unwrap());
    run(&["compress", capture, "-o", diet, "--rules", rules, "--keys", esp_sa]);
    let (records, status) = common::decode([diet, "--rules", rules, "--keys", esp_sa]);
    assert_eq!((common::count(&records, "ok"), status), (240, 0));
    for record in records.iter().filter(|record| record["status"] == "ok") {
        let method = record["esp"]["method"].as_str().unwrap();
        assert!(matches!(method, "icv" | "iv-mask"), "{record}");
    }
}

/// Two SAs with the same addresses, as in key files.
struct Pair {
    folder: tempfile::TempDir,
}

const ADDRESSES: &str = "src: \"2001:db8:0:1::2\", dst: \"2001:db8:0:1::1\"";
const TUNNEL: &str = "ipsec_mode: Tunnel, tunnel_ip: { src: \"2001:db8:0:1::2\", dst: \"2001:db8:0:1::1\" }";
/// Only SPI and sequence number are shortened.
const HEADER_ONLY: &str = "iipc_profile: iipc_not_compressed, esp_trailer: Mandatory, alignment: 32 bit";

impl Pair {
    /// `input` and `output` are cipher and key byte of SAs 0x101 and 0x202. `context` is that of the output.
    fn new(input: &[(&str, u8)], output: &[(&str, u8)], context: &str) -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let keys = |sas: &[(&str, u8)]| {
            let sa = |(at, (encr, byte)): (usize, &(&str, u8))| {
                let (name, spi) = [("a", 0x101), ("b", 0x202)][at];
                let salt = match *encr {
                    "ENCR_NULL" => format!("integ: AUTH_HMAC_SHA1_96, integ_key: {}", hex::encode([*byte; 20])),
                    "ENCR_AES_CBC" => format!("key: {}, integ: NONE", hex::encode([*byte; 16])),
                    _ => format!("key: {}, salt: 010203", hex::encode([*byte; 16])),
                };
                format!("  - {{ name: {name}, spi: {spi}, {ADDRESSES}, encr: {encr}, {salt} }}\n")
            };
            "sas:\n".to_owned() + &sas.iter().enumerate().map(sa).collect::<String>()
        };
        let names = ["a", "b"].iter().take(output.len());
        let contexts: String = names
            .map(|name| format!("  - {{ sa: {name}, {TUNNEL}, {context}, esp_spi_lsb: 8, esp_sn_lsb: 8 }}\n"))
            .collect();
        for (name, text) in
            [("in.yaml", keys(input)), ("out.yaml", keys(output)), ("rules.yaml", "contexts:\n".to_owned() + &contexts)]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Pair { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A frame of standard ESP (raw IP) of SA `at` of the input.
    fn frame(&self, at: usize, sn: u64, iv: u64, data: &str) -> Vec<u8> {
        let mut clear = plain(data);
        let padding = (4 - (clear.len() + 2) % 4) % 4;
        clear.extend((1..=padding).map(|byte| byte as u8));
        clear.extend([padding as u8, 41]);
        self.sealed(at, sn, iv, &clear)
    }

    fn sealed(&self, at: usize, sn: u64, iv: u64, clear: &[u8]) -> Vec<u8> {
        let loaded = dietesp::internals::files::load(&[self.path("in.yaml").into()], &[]).unwrap();
        let sa = &loaded.sas[at];
        let cipher = dietesp::internals::cipher::EspCipher::new(&sa.keys);
        let mut esp = [sa.spi.unwrap().to_be_bytes(), (sn as u32).to_be_bytes()].concat();
        cipher.seal(sa.spi.unwrap(), sn, false, &iv.to_be_bytes(), clear, &mut esp).unwrap();
        ipv6(50, "2001:db8:0:1::2", "2001:db8:0:1::1", &esp)
    }

    /// Compresses frames. Returns the status, standard error, and the frames written.
    fn compress(&self, frames: &[Vec<u8>], more: &[&str]) -> (i32, String, Vec<Vec<u8>>) {
        let [input, out] = ["in.pcap", "out.pcap"].map(|name| self.path(name));
        let timed: Vec<common::pcap::Frame> = (1..).zip(frames.iter().cloned()).collect();
        common::pcap::write(Path::new(&input), common::pcap::RAW, &timed);
        let files = ["rules.yaml", "out.yaml", "in.yaml"].map(|name| self.path(name));
        let args = ["compress", &input, "-o", &out, "--rules", &files[0], "--keys", &files[1], "--esp-keys", &files[2]];
        let _ = std::fs::remove_file(&out);
        let output = common::dietesp([&args, more].concat());
        let written = if output.status.code() == Some(2) { vec![] } else { common::pcap::read(Path::new(&out)).1 };
        let told = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), told, written.into_iter().map(|(_, frame)| frame).collect())
    }
}

fn ipv6(next_header: u8, src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next_header, 64];
    for address in [src, dst] {
        packet.extend(address.parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    packet.extend(payload);
    packet
}

fn plain(data: &str) -> Vec<u8> {
    let len = 8 + data.len() as u8;
    let mut packet = ipv6(
        17,
        "2001:db8:a::10",
        "2001:db8:b::1",
        &[&[0x16, 0x33, 0x16, 0x33, 0, len, 0, 0], data.as_bytes()].concat(),
    );
    let [src, dst] = ["2001:db8:a::10", "2001:db8:b::1"].map(|address| address.parse().unwrap());
    let checksum = dietesp::internals::net::checksum::upper_layer(src, dst, 17, &packet[40..]);
    packet[46..48].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// Panics if two of these have the same key and IV but a different cipher text, because then their plaintexts
/// differ. Each is a key, the length of the ESP header, and a frame.
fn no_reuse<'f>(frames: impl IntoIterator<Item = (u8, usize, &'f Vec<u8>)>) {
    let mut seen: HashMap<(u8, &[u8]), &[u8]> = HashMap::new();
    for (key, header_len, frame) in frames {
        let (iv, behind) = frame[40 + header_len..].split_at(8);
        let first = seen.entry((key, iv)).or_insert(behind);
        assert!(*first == behind, "the IV {} twice", hex::encode(iv));
    }
}

const CCM: &str = "ENCR_AES_CCM_8";

#[test]
fn a_key_of_another_input_sa_is_a_key_of_the_input() {
    let pair = Pair::new(&[(CCM, 1), (CCM, 2)], &[(CCM, 2), (CCM, 3)], HEADER_ONLY);
    // The sender of b uses its sequence number as the IV.
    let of_b: Vec<_> = (1..20).map(|sn| pair.frame(1, sn, sn, &format!("b{sn:04}"))).collect();
    let of_a: Vec<_> = (1..20).map(|sn| pair.frame(0, sn, 900 + sn, &format!("a{sn:04}"))).collect();
    let frames = [of_a.clone(), of_b.clone()].concat();
    let (status, told, written) = pair.compress(&frames, &[]);
    assert_eq!((status, written.len()), (0, 38), "{told}");
    let (sealed_a, sealed_b) = written.split_at(19);
    let under_2 = sealed_a.iter().map(|frame| (2, 2, frame)).chain(of_b.iter().map(|frame| (2, 8, frame)));
    no_reuse(under_2.chain(sealed_b.iter().map(|frame| (3, 2, frame))));

    // With an implicit IV there is no other nonce.
    let pair = Pair::new(&[(CCM, 1), (CCM, 2)], &[("ENCR_AES_CCM_8_IIV", 2), (CCM, 3)], HEADER_ONLY);
    let (status, told, _) = pair.compress(&frames, &[]);
    assert!(status == 2 && told.contains("SA a: with a key of the input and an implicit IV"), "{told}");
}

#[test]
fn a_repeat_of_a_rejected_packet_is_rejected() {
    // Both SAs of the output have the same key, so b cannot use number 1 after a has used it.
    let pair = Pair::new(&[(CCM, 1), (CCM, 2)], &[(CCM, 3), (CCM, 3)], HEADER_ONLY);
    let (a, b) = (pair.frame(0, 1, 77, "of a"), pair.frame(1, 1, 88, "of b"));
    let (status, told, written) = pair.compress(&[a.clone(), b.clone(), b, a], &[]);
    assert_eq!((status, written.len()), (1, 2), "{told}");
    assert!(written[0] == written[1] && told.contains("2 packets omitted: their sequence numbers"), "{told}");

    // A number that is repeated after 4096 others with another payload, and this packet once more.
    let pair = Pair::new(&[(CCM, 1)], &[(CCM, 3)], HEADER_ONLY);
    let mut frames: Vec<_> = (1..=4200).map(|sn| pair.sealed(0, sn, sn, &pair_clear(sn))).collect();
    let again = pair.frame(0, 1, 5000, "other");
    frames.extend([again.clone(), again]);
    let (status, told, written) = pair.compress(&frames, &[]);
    assert_eq!((status, written.len()), (1, 4200), "{told}");
    no_reuse(written.iter().map(|frame| (3, 2, frame)));
}

fn pair_clear(sn: u64) -> Vec<u8> {
    [plain(&format!("{sn:06}")), vec![0, 41]].concat()
}

#[test]
fn a_repeat_whose_outer_header_changed_is_another_packet() {
    let selectors = "ts_ip_version: IPv6-only, ts_ip_src: \"2001:db8:a::10\", ts_ip_dst: \"2001:db8:b::1\", ts_proto: UDP, \
                     ts_port_src: 5683, ts_port_dst: 5683, ecn_cda: lower, flow_label_cda: zero, alignment: 8 bit";
    let pair = Pair::new(&[(CCM, 1)], &[(CCM, 3)], selectors);
    // The DSCP of the restored packet comes from the outer header.
    let context = format!("contexts:\n  - {{ sa: a, {TUNNEL}, {selectors}, dscp_cda: lower }}\n");
    let keys = std::fs::read_to_string(pair.path("in.yaml")).unwrap();
    std::fs::write(pair.path("in.yaml"), keys + &context).unwrap();
    let first = pair.sealed(0, 1, 77, b"ten bytes.");
    let mut second = first.clone();
    second[0] = 0x6b;
    let (status, told, written) = pair.compress(&[first.clone(), second, first], &[]);
    assert_eq!((status, written.len()), (1, 2), "{told}");
    assert!(written[0] == written[1]);
}

#[test]
fn ciphers_without_nonces_may_share_a_key() {
    for encr in ["ENCR_NULL", "ENCR_AES_CBC"] {
        let selectors = "ts_ip_version: IPv6-only, ts_ip_src: \"2001:db8:a::10\", alignment: 32 bit";
        let pair = Pair::new(&[(CCM, 1)], &[(encr, 3), (encr, 3)], selectors);
        let rules = std::fs::read_to_string(pair.path("rules.yaml")).unwrap();
        let [a, b] = ["2001:db8:b::1", "2001:db8:b::2"].map(|dst| format!("ts_ip_dst: \"{dst}\", alignment"));
        let rules = rules.replacen("alignment", &a, 1);
        let (front, back) = rules.rsplit_once("alignment").unwrap();
        std::fs::write(pair.path("rules.yaml"), format!("{front}{b}{back}")).unwrap();
        let other = |mut packet: Vec<u8>| {
            packet[39] = 2;
            let [src, dst] =
                [8, 24].map(|at| std::net::IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap()));
            packet[46..48].fill(0);
            let checksum = dietesp::internals::net::checksum::upper_layer(src, dst, 17, &packet[40..]);
            packet[46..48].copy_from_slice(&checksum.to_be_bytes());
            packet
        };
        let (status, told, written) = pair.compress(&[plain("one"), other(plain("two"))], &[]);
        assert_eq!((status, written.len()), (0, 2), "{told}");
    }
}

/// Packets before the first ESP packet are not encrypted with its nonces, whether they are read from a file or a
/// pipe.
#[test]
fn plain_packets_before_esp_with_the_same_key_are_not_encrypted() {
    let pair = Pair::new(&[(CCM, 1)], &[(CCM, 1)], HEADER_ONLY);
    let mut frames: Vec<_> = (0..20_000).map(|index| plain(&format!("{index:06}"))).collect();
    frames.push(pair.frame(0, 1, 1, "of the sender"));
    let (status, told, written) = pair.compress(&frames, &[]);
    assert!(status == 0 && told.contains("20000 other frames written unchanged"), "{told}");
    assert_eq!(written[..20_000], frames[..20_000]);
    let [input, rules, keys, out] = ["in.pcap", "rules.yaml", "out.yaml", "pipe.pcap"].map(|name| pair.path(name));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["compress", "-", "-o", &out, "--rules", &rules, "--keys", &keys])
        .stdin(std::fs::File::open(&input).unwrap())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(std::fs::read(&out).unwrap() == std::fs::read(pair.path("out.pcap")).unwrap());
}

#[test]
fn a_seed_for_ivs_with_unchanged_keys_causes_a_warning() {
    let pair = Pair::new(&[(CCM, 1)], &[(CCM, 1)], HEADER_ONLY.replace("32 bit", "64 bit").as_str());
    let frames: Vec<_> = (1..5).map(|sn| pair.frame(0, sn, sn, "ten bytes.")).collect();
    let (status, told, _) = pair.compress(&frames, &["--seed", "5"]);
    assert!(status == 0 && told.contains("--seed: another run with this seed uses the same IVs"), "{told}");
    let (_, told, _) = pair.compress(&frames, &[]);
    assert!(!told.contains("--seed"), "{told}");

    let [diet, rules, keys, esp] = ["out.pcap", "rules.yaml", "out.yaml", "esp.pcap"].map(|name| pair.path(name));
    let args = ["convert", &diet, "-o", &esp, "--rules", &rules, "--keys", &keys, "--reseal", "keep", "--seed", "5"];
    let (_, told) = common::dietesp_ends(0, args);
    // Full trailers that are a multiple of 4 are kept, so packets are not encrypted again.
    assert!(!told.contains("--seed"), "{told}");
}

/// Two equal clear texts of different SAs are different packets. With and without extended sequence numbers their
/// AADs differ, and two ICVs of AES-GCM with one nonce reveal the integrity key.
#[test]
fn two_sas_of_one_spi_and_key_share_no_nonce() {
    let folder = tempfile::tempdir().unwrap();
    let [plain, diet, keys, rules] = ["plain.pcap", "diet.pcap", "keys.yaml", "rules.yaml"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let (mut sas, mut contexts, mut frames) = ("sas:\n".to_owned(), "contexts:\n".to_owned(), vec![]);
    for (number, esn) in [(1, false), (2, true)] {
        let (src, dst) = ("2001:db8:f::1", format!("2001:db8:f::{}", number + 1));
        sas += &format!(
            "  - {{ name: s{number}, spi: 7, src: {src}, dst: {dst}, encr: ENCR_AES_GCM_16, esn: {esn}, \
             key: 000102030405060708090a0b0c0d0e0f, salt: 00010203 }}\n"
        );
        contexts += &format!(
            "  - {{ sa: s{number}, ipsec_mode: Tunnel, tunnel_ip: {{ src: {src}, dst: {dst} }}, ts_ip_version: IPv6-only, \
             ts_ip_src: 2001:db8:a::{number}, ts_ip_dst: 2001:db8:b::1, ts_proto: UDP, flow_label_cda: zero, \
             alignment: 8 bit }}\n"
        );
        let [src, dst] = [format!("2001:db8:a::{number}"), "2001:db8:b::1".to_owned()]
            .map(|address| address.parse::<std::net::Ipv6Addr>().unwrap().octets());
        let mut packet = vec![];
        etherparse::PacketBuilder::ipv6(src, dst, 64).udp(1, 2).write(&mut packet, b"the same").unwrap();
        frames.push((number, packet));
    }
    std::fs::write(&keys, sas).unwrap();
    std::fs::write(&rules, contexts).unwrap();
    common::pcap::write(Path::new(&plain), common::pcap::RAW, &frames);
    let (_, said) = common::dietesp_ends(2, ["compress", &plain, "-o", &diet, "--rules", &rules, "--keys", &keys]);
    assert!(said.contains("another SA has the same key"), "{said}");
}
