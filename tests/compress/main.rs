//! Which context matches a packet: only one whose SA can decrypt the result. Also which inputs `compress` rejects,
//! and that it writes no packet unencrypted that should be encrypted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;
mod generator;
mod pcapng;
mod random;

use std::path::Path;
use std::process::{Command, Stdio};

use common::{decode, dietesp_ends, file, pcap};

/// Length of an Ethernet header.
const ETHERNET: usize = 14;

/// Both sides of a sample, and files made from it.
struct Lab {
    sample: &'static str,
    folder: tempfile::TempDir,
}

impl Lab {
    fn new(sample: &'static str) -> Lab {
        let lab = Lab { sample, folder: tempfile::tempdir().unwrap() };
        let [diet, rules, keys] = [lab.of_sample("diet-esp.pcapng"), lab.of_sample("rules.yaml"), lab.keys()];
        let plain = lab.path("plain.pcap");
        dietesp_ends(0, ["convert", &diet, "-o", &plain, "--to", "plain", "-r", &rules, "-k", &keys]);
        assert_eq!(pcap::read(Path::new(&plain)).1.len(), 40);
        lab
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn of_sample(&self, name: &str) -> String {
        file(&format!("samples/{}/{name}", self.sample))
    }

    /// The keys of the Diet-ESP side.
    fn keys(&self) -> String {
        file(&format!("keys/{}.yaml", self.sample))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// `text` with replacements. Each must occur at least once.
    fn changed(&self, name: &str, text: &str, changes: &[(&str, &str)]) -> String {
        let text = changes.iter().fold(text.to_owned(), |text, (from, to)| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        self.write(name, &text)
    }

    /// The rules without the lines that start with one of `keys`.
    fn rules_without(&self, keys: &[&str]) -> String {
        let text = std::fs::read_to_string(self.of_sample("rules.yaml")).unwrap();
        let kept = text.lines().filter(|line| !keys.iter().any(|key| line.trim().starts_with(key)));
        self.write("rules.yaml", &kept.map(|line| format!("{line}\n")).collect::<String>())
    }

    /// The outer addresses of packets with even numbers do not match the SA.
    fn takes_every_other_packet(&self, rules: &str, keys: &str) {
        let said = self.compress(1, rules, keys, &[]);
        assert!(said.contains("frame 2: outer addresses are not among those of its SA"), "{said}");
        let said = self.compress(1, rules, keys, &["--on-mismatch", "skip"]);
        assert!(
            said.contains("20 packets compressed") && said.contains("20 did not match because of outer addresses"),
            "{said}"
        );
        assert_eq!(self.opened(rules, keys).len(), 20);
    }

    /// Compresses the plain packets. Returns standard error.
    fn compress(&self, status: i32, rules: &str, keys: &str, more: &[&str]) -> String {
        let [input, out] = ["plain.pcap", "diet.pcap"].map(|name| self.path(name));
        let _ = std::fs::remove_file(&out);
        let said = dietesp_ends(status, [&["compress", &input, "-o", &out, "-r", rules, "-k", keys], more].concat()).1;
        assert_eq!(Path::new(&out).exists(), status != 2 && !said.contains("nothing was written"), "{said}");
        said
    }

    /// The packets as hex digits. Every frame must decrypt.
    fn opened(&self, rules: &str, keys: &str) -> Vec<String> {
        let (records, status) = decode([&self.path("diet.pcap"), "-r", rules, "-k", keys]);
        assert_eq!(status, 0);
        let packet = |record: &serde_json::Value| {
            assert_eq!(record["status"], "ok", "{record}");
            record["packet"].as_str().unwrap().to_owned()
        };
        records.iter().map(packet).collect()
    }

    fn plain(&self) -> Vec<String> {
        let (_, frames) = pcap::read(Path::new(&self.path("plain.pcap")));
        frames.iter().map(|(_, frame)| hex::encode(&frame[ETHERNET..])).collect()
    }
}

#[test]
fn in_transport_mode_an_sa_matches_only_its_addresses() {
    let lab = Lab::new("transport");
    // Without these lines, each context also matches the packets of the other one.
    let (rules, keys) = (lab.rules_without(&["ts_ip_"]), lab.keys());
    let said = lab.compress(0, &rules, &keys, &[]);
    assert!(said.contains("40 packets compressed"), "{said}");
    assert_eq!(lab.opened(&rules, &keys), lab.plain());

    // No SA for one of the two directions.
    let text = std::fs::read_to_string(&keys).unwrap();
    let other = lab.changed("keys.yaml", &text, &[("src: 2001:db8:0:4::1\n", "src: 2001:db8:0:4::9\n")]);
    lab.takes_every_other_packet(&rules, &other);
}

#[test]
fn in_tunnel_mode_the_tunnel_addresses_must_match_the_sa() {
    let lab = Lab::new("ipv4");
    let (rules, keys) = (lab.of_sample("rules.yaml"), lab.keys());
    lab.compress(0, &rules, &keys, &[]);
    assert_eq!(lab.opened(&rules, &keys), lab.plain());

    let text = std::fs::read_to_string(&rules).unwrap();
    let other = lab.changed("other.yaml", &text, &[("tunnel_ip: { src: 192.0.2.1,", "tunnel_ip: { src: 192.0.2.9,")]);
    lab.takes_every_other_packet(&other, &keys);
}

/// The output has no radio frames.
#[test]
fn an_sa_with_link_addresses_matches_no_packet() {
    let lab = Lab::new("transport");
    let (rules, text) = (lab.of_sample("rules.yaml"), std::fs::read_to_string(lab.keys()).unwrap());
    let keys = lab.changed("keys.yaml", &text, &[("spi: 0x70000062\n", "spi: 0x70000062\n    link_src: 0x0001\n")]);
    let said = lab.compress(1, &rules, &keys, &["--on-mismatch", "skip"]);
    assert!(said.contains("20 did not match because of outer addresses"), "{said}");
    assert_eq!(lab.opened(&rules, &keys).len(), 20);

    // It is not written as standard ESP either.
    let text = std::fs::read_to_string(&keys).unwrap();
    let standard = "  - { name: standard, spi: 0x70000063, encr: ENCR_AES_GCM_16, \
                    key: 000102030405060708090a0b0c0d0e0f, salt: 00010203 }\n";
    let pass = ["--on-mismatch", "pass"];
    let said = lab.compress(1, &rules, &lab.write("standard.yaml", &(text.clone() + standard)), &pass);
    assert!(said.contains("40 frames written"), "{said}");
    assert_eq!(lab.opened(&rules, &lab.path("standard.yaml")), lab.plain());
    let standard = standard.replace("encr", "link_src: 0x0001, encr");
    let said = lab.compress(2, &rules, &lab.write("standard.yaml", &(text + &standard)), &pass);
    assert!(said.contains("standard ESP needs an SA without context"), "{said}");
    assert!(said.contains("add one to the key file for --on-mismatch pass, or use --on-mismatch skip"), "{said}");

    // ESP packets of such an SA are written unchanged.
    let [original, esp_keys] = ["original.pcap", "esp_keys.yaml"].map(|name| lab.of_sample(name));
    let out = lab.path("diet.pcap");
    let args = ["compress", &original, "-o", &out, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys];
    let (_, said) = dietesp_ends(0, args);
    assert!(said.contains("20 packets compressed"), "{said}");
    let (records, _) = decode([&out, "-k", &esp_keys]);
    assert_eq!(common::count(&records, "ok"), 20);
}

/// A context with its own protocol number only matches this number, and never UDP.
#[test]
fn udp_encapsulation_is_for_contexts_of_protocol_50() {
    let lab = Lab::new("ipv4");
    let [original, esp_keys] = ["original.pcap", "esp_keys.yaml"].map(|name| lab.of_sample(name));
    let (link_type, mut frames) = pcap::read(Path::new(&original));
    for (_, frame) in &mut frames {
        let ip = &mut frame[ETHERNET..];
        let esp = ip[20..usize::from(u16::from_be_bytes([ip[2], ip[3]]))].to_vec();
        ip[9] = 17;
        let len = (28 + esp.len() as u16).to_be_bytes();
        ip[2..4].copy_from_slice(&len);
        ip[10..12].fill(0);
        let sum = !ip[..20].chunks(2).fold(0u32, |sum, word| {
            let sum = sum + u32::from(u16::from_be_bytes([word[0], word[1]]));
            (sum & 0xffff) + (sum >> 16)
        }) as u16;
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        frame.truncate(ETHERNET + 20);
        frame.extend([4500u16, 4500, 8 + esp.len() as u16, 0].map(u16::to_be_bytes).concat());
        frame.extend(esp);
    }
    let [in_udp, out] = ["udp.pcap", "diet.pcap"].map(|name| lab.path(name));
    pcap::write(Path::new(&in_udp), link_type, &frames);
    let text = std::fs::read_to_string(lab.of_sample("rules.yaml")).unwrap();
    let rules = lab.changed("rules.yaml", &text, &[("- sa: ipv4-up\n", "- sa: ipv4-up\n    protocol: 253\n")]);
    let args = ["compress", &in_udp, "-o", &out, "-r", &rules, "-k", &lab.keys(), "--esp-keys", &esp_keys];
    let (_, said) = dietesp_ends(0, args);
    assert!(said.contains("20 packets compressed"), "{said}");
    let opens = |args: &[&str]| common::count(&decode(args).0, "ok");
    assert_eq!(opens(&[&out, "-r", &rules, "-k", &lab.keys()]), 20);
    assert_eq!(opens(&[&out, "-k", &esp_keys]), 20);
}

/// The outer header has other addresses than the packet, and these would be lost.
#[test]
fn a_tunnel_packet_matches_no_context_of_transport_mode() {
    let lab = Lab::new("ipv4");
    let text = std::fs::read_to_string(lab.rules_without(&["tunnel_ip", "dscp", "ecn", "flow_label"])).unwrap();
    let rules = lab.changed("rules.yaml", &text, &[("ipsec_mode: Tunnel", "ipsec_mode: Transport")]);
    let [original, esp_keys] = ["original.pcap", "esp_keys.yaml"].map(|name| lab.of_sample(name));
    let out = lab.path("diet.pcap");
    let args = ["compress", &original, "-o", &out, "-r", &rules, "-k", &lab.keys(), "--esp-keys", &esp_keys];
    let (_, said) = dietesp_ends(1, args);
    assert!(said.contains("frame 1: ipsec_mode is Tunnel, not Transport"), "{said}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_context_without_tunnel_ip_stops_plain_packets() {
    let lab = Lab::new("ipv4");
    let (rules, keys) = (lab.rules_without(&["tunnel_ip"]), lab.keys());
    for on_mismatch in ["stop", "skip", "pass"] {
        let said = lab.compress(2, &rules, &keys, &["--on-mismatch", on_mismatch]);
        assert!(said.contains(&format!("{rules}:3: ")) && said.contains("frame 1"), "{said}");
        assert!(said.contains("tunnel_ip: { src: ..., dst: ... }"), "{said}");
    }

    // Packets that match no context are not written in the clear either.
    let text = std::fs::read_to_string(&rules).unwrap();
    let other = lab.changed("other.yaml", &text, &[("5683", "5684")]);
    let said = lab.compress(1, &other, &keys, &[]);
    assert!(said.contains("frame 1: dst_port is 5683, "), "{said}");
    let said = lab.compress(1, &other, &keys, &["--on-mismatch", "skip"]);
    assert!(said.contains("0 frames written") && said.contains("did not match because of dst_port"), "{said}");
    let said = lab.compress(2, &other, &keys, &["--on-mismatch", "pass"]);
    assert!(said.contains(&format!("{other}:3: ")), "{said}");

    // A context that matches them encrypts them.
    let first = text.split("  - sa: ipv4-down").next().unwrap().trim_start_matches(|c| c != '\n');
    let whole = std::fs::read_to_string(lab.of_sample("rules.yaml")).unwrap();
    let spare = first.replace("ipv4-up", "spare").replace("\ncontexts:\n", "");
    let both = lab.write("both.yaml", &whole.replace("contexts:\n", &format!("contexts:\n{spare}")));
    let spare_key = "  - { name: spare, spi: 0x11002203, encr: ENCR_AES_GCM_16, \
                     key: 000102030405060708090a0b0c0d0e0f, salt: 00010203 }\n";
    let keys = lab.write("keys.yaml", &(std::fs::read_to_string(&keys).unwrap() + spare_key));
    let said = lab.compress(0, &both, &keys, &[]);
    assert!(said.contains("40 packets compressed"), "{said}");
    assert_eq!(lab.opened(&both, &keys), lab.plain());
}

#[test]
fn without_contexts_there_is_nothing_to_compress() {
    let lab = Lab::new("ipv4");
    let none = lab.write("none.yaml", "contexts: []\n");
    for rules in ["/dev/null", &none] {
        let said = lab.compress(2, rules, &lab.keys(), &[]);
        assert!(said.contains("no context"), "{said}");
    }
}

/// An IEEE 802.15.4 frame with an IPv6 packet that is not compressed but encrypted (level 4, without MIC).
fn radio_frame(counter: u32, packet: &[u8]) -> Vec<u8> {
    use aes::cipher::{BlockCipherEncrypt, KeyInit};
    const EUI64: [u8; 8] = [2, 0x12, 0x4b, 0, 6, 0xaa, 0, 1];
    let nonce = [&EUI64[..], &counter.to_be_bytes(), &[4]].concat();
    let cipher = aes::Aes128::new_from_slice(&[7; 16]).unwrap();
    let clear = [&[0x41], packet].concat();
    let blocks = (1u16..).zip(clear.chunks(16)).flat_map(|(number, chunk)| {
        let mut block = aes::Block::try_from([&[1][..], &nonce, &number.to_be_bytes()].concat().as_slice()).unwrap();
        cipher.encrypt_block(&mut block);
        chunk.iter().zip(block).map(|(byte, key)| byte ^ key).collect::<Vec<u8>>()
    });
    let src: Vec<u8> = EUI64.iter().rev().copied().collect();
    let mac =
        [&[0x49, 0xd8, counter as u8, 0xcd, 0xab, 2, 0][..], &src, &[0x0c], &counter.to_le_bytes(), &[1]].concat();
    mac.into_iter().chain(blocks).collect()
}

/// In a capture of ESP, other packets of radio frames are written without the frames, unless these were encrypted.
#[test]
fn packets_of_encrypted_radio_frames_are_not_written_in_the_clear() {
    let lab = Lab::new("transport");
    let (rules, keys, input, out) =
        (lab.of_sample("rules.yaml"), lab.keys(), lab.path("in.pcap"), lab.path("diet.pcap"));
    let link_keys = "link_keys: [{ eui64: \"02:12:4b:00:06:aa:00:01\", mode: 1, index: 1, key: 07070707070707070707070707070707 }]\n";
    let esp_keys = std::fs::read_to_string(lab.of_sample("esp_keys.yaml")).unwrap();
    let esp_keys = lab.write("esp_keys.yaml", &format!("{link_keys}{esp_keys}"));
    let esp = pcap::read(Path::new(&lab.of_sample("original.pcap"))).1;
    let plain = pcap::read(Path::new(&lab.path("plain.pcap"))).1;
    let secret = &plain[0].1[ETHERNET..];
    let packets = esp.iter().map(|(_, frame)| &frame[ETHERNET..]).chain([secret]);
    let frames: Vec<pcap::Frame> =
        (1..).zip(packets).map(|(number, packet)| (u64::from(number), radio_frame(number, packet))).collect();
    pcap::write(Path::new(&input), 230, &frames);
    let args = ["compress", &input, "-o", &out, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys];
    let is_written = || pcap::read(Path::new(&out)).1.iter().any(|(_, packet)| packet == secret);
    let (_, said) = dietesp_ends(0, args);
    assert!(
        said.contains("40 packets compressed") && said.contains("1 packet of encrypted radio frames omitted"),
        "{said}"
    );
    assert!(!is_written());
    let (_, said) = dietesp_ends(0, [&args[..], &["--on-mismatch", "pass"]].concat());
    assert!(said.contains("1 other frame written unchanged"), "{said}");
    assert!(is_written());
}

/// Frames without a packet are not failures, but they are only written on request.
#[test]
fn frames_without_ip_are_rejected_omitted_or_written_on_request() {
    let lab = Lab::new("ipv4");
    let (rules, keys, input) = (lab.of_sample("rules.yaml"), lab.keys(), lab.path("plain.pcap"));
    let (link_type, mut frames) = pcap::read(Path::new(&input));
    let arp = [&[0xff; 12][..], &[8, 6], &[0x5a; 46]].concat();
    frames.insert(4, (5, arp.clone()));
    pcap::write(Path::new(&input), link_type, &frames);
    let said = lab.compress(1, &rules, &keys, &[]);
    assert!(said.contains("frame 5: no IP packet that can be encrypted (ARP)"), "{said}");
    let said = lab.compress(0, &rules, &keys, &["--on-mismatch", "skip"]);
    assert!(said.contains("41 frames read as plain IP packets") && said.contains("40 packets compressed"), "{said}");
    assert!(said.contains("1 frame without an IP packet\nfirst such frame, frame 5: ARP\n"), "{said}");
    assert_eq!(lab.opened(&rules, &keys).len(), 40);
    let said = lab.compress(0, &rules, &keys, &["--on-mismatch", "pass"]);
    assert!(said.contains("1 other frame written unchanged, not encrypted\n"), "{said}");
    assert_eq!(pcap::read(Path::new(&lab.path("diet.pcap"))).1[4].1, arp);
}

#[test]
fn a_run_that_compresses_nothing_ends_with_status_1() {
    let lab = Lab::new("ipv4");
    let (rules, keys, input) = (lab.of_sample("rules.yaml"), lab.keys(), lab.path("plain.pcap"));
    for frames in [vec![], vec![(1, [&[0xff; 12][..], &[8, 6], &[0; 46]].concat())]] {
        pcap::write(Path::new(&input), 1, &frames);
        let said = lab.compress(1, &rules, &keys, &["--on-mismatch", "skip"]);
        assert!(said.contains("0 packets compressed"), "{said}");
    }
    // ESP of SAs without context is written unchanged.
    let [original, esp_keys] = ["original.pcap", "esp_keys.yaml"].map(|name| lab.of_sample(name));
    let other = lab.changed("other.yaml", &std::fs::read_to_string(&keys).unwrap(), &[("spi: 0x1100", "spi: 0x2200")]);
    let out = lab.path("diet.pcap");
    let (_, said) =
        dietesp_ends(1, ["compress", &original, "-o", &out, "-r", &rules, "-k", &other, "--esp-keys", &esp_keys]);
    assert!(said.contains("0 packets compressed") && said.contains("40 other frames written unchanged\n"), "{said}");
    assert_eq!(pcap::read(Path::new(&out)), pcap::read(Path::new(&original)));
}

/// Runs `compress - ARGS` on the content of a file.
fn compress_pipe(capture: &str, args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args([&["compress", "-"], args].concat())
        .stdin(Stdio::from(std::fs::File::open(capture).unwrap()))
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// The input from a pipe is buffered, and read again like a file.
#[test]
fn a_pipe_with_esp_after_plain_packets_counts_as_esp() {
    let lab = Lab::new("ipv4");
    let [original, esp_keys, rules] = ["original.pcap", "esp_keys.yaml", "rules.yaml"].map(|name| lab.of_sample(name));
    let (keys, mixed, out) = (lab.keys(), lab.path("mixed.pcap"), lab.path("out.pcap"));
    let (link_type, esp) = pcap::read(Path::new(&original));
    let (_, plain) = pcap::read(Path::new(&lab.path("plain.pcap")));
    let more = ["-o", &out, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys];

    // More than one window.
    pcap::write(Path::new(&mixed), link_type, &[vec![plain.clone(); 500].concat(), esp.clone()].concat());
    let (_, said) = dietesp_ends(0, [&["compress", &mixed], &more[..]].concat());
    assert!(said.contains("40 packets compressed") && said.contains("20040 frames written"), "{said}");
    assert!(said.contains("20000 other frames written unchanged"), "{said}");
    let expected = std::fs::read(&out).unwrap();
    for threads in ["1", "4"] {
        std::fs::remove_file(&out).unwrap();
        let (status, of_pipe) = compress_pipe(&mixed, &[&more[..], &["--threads", threads]].concat());
        assert_eq!((status, of_pipe), (Some(0), said.clone()));
        assert!(std::fs::read(&out).unwrap() == expected);
    }

    // Frames that are neither do not decide.
    let arp = vec![(1, [&[0xff; 12][..], &[8, 6], &[0; 46]].concat()); 20_000];
    pcap::write(Path::new(&mixed), link_type, &[arp, esp, plain].concat());
    dietesp_ends(0, [&["compress", &mixed], &more[..]].concat());
    let expected = std::fs::read(&out).unwrap();
    for threads in ["1", "4"] {
        let (status, said) = compress_pipe(&mixed, &[&more[..], &["--threads", threads]].concat());
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("40 packets compressed"), "{said}");
        assert!(std::fs::read(&out).unwrap() == expected);
    }
}
