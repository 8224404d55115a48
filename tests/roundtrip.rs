//! Converts real strongSwan captures to Diet-ESP and back. tshark, which does not support Diet-ESP, decrypts the
//! originals for comparison.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::{Path, PathBuf};

use common::{count, decode, dietesp_ends, pcap, tshark_decrypted, tshark_verified, wireshark_config};
use serde_json::Value;

/// A capture, the packets that tshark decrypted, and a folder for outputs.
struct Original {
    folder: tempfile::TempDir,
    capture: PathBuf,
    keys: PathBuf,
    decrypted: Vec<Vec<u8>>,
    sas: Vec<Sa>,
}

struct Sa {
    src: String,
    dst: String,
    spi: String,
    key: String,
    cipher: &'static str,
}

impl Original {
    fn new(stem: &str) -> Original {
        let captures = common::data().join("captures");
        let keys = captures.join(format!("{stem}.ip-xfrm-state.txt"));
        let config = wireshark_config(&captures.join(format!("{stem}.esp_sa")));
        let capture = captures.join(format!("{stem}.pcapng"));
        let decrypted = tshark_decrypted(config.path(), &capture);
        assert_eq!(decrypted.len(), 240);
        let sas = sas(&std::fs::read_to_string(&keys).unwrap());
        assert!(sas.len() >= 6);
        Original { folder: tempfile::tempdir().unwrap(), capture, keys, decrypted, sas }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One context for each SA, with these attributes.
    fn write_rules(&self, name: &str, attributes: impl Fn(&Sa) -> String) -> PathBuf {
        let mut text = "contexts:\n".to_owned();
        for sa in &self.sas {
            let Sa { src, dst, spi, .. } = sa;
            text += &format!("  - spi: {spi}\n    src: {src}\n    dst: {dst}\n    ipsec_mode: Tunnel\n");
            text += &format!("    tunnel_ip: {{ src: \"{src}\", dst: \"{dst}\" }}\n");
            for line in attributes(sa).lines() {
                text += &format!("    {}\n", line.trim());
            }
        }
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// New keys for every SA, for the implicit-IV variant of its cipher.
    fn write_implicit_iv_keys(&self, change_key: bool) -> PathBuf {
        let mut text = "sas:\n".to_owned();
        for Sa { src, dst, spi, key, cipher } in &self.sas {
            // Changes the first digit.
            let first = if key.starts_with('0') { "1" } else { "0" };
            let key = if change_key { format!("{first}{}", &key[1..]) } else { key.clone() };
            text +=
                &format!("  - spi: {spi}\n    src: {src}\n    dst: {dst}\n    encr: {cipher}_IIV\n    key: {key}\n");
        }
        let path = self.path("implicit-iv.yaml");
        std::fs::write(&path, text).unwrap();
        path
    }

    fn compress(&self, rules: &Path, keys: &Path, out: &str) -> PathBuf {
        let out = self.path(out);
        let (esp_keys, capture) = (self.keys.to_str().unwrap(), self.capture.to_str().unwrap());
        let [rules, keys, out_text] = [rules, keys, &out].map(|path| path.to_str().unwrap());
        let args = ["compress", capture, "-o", out_text, "--rules", rules, "--keys", keys, "--esp-keys", esp_keys];
        let (_, summary) = dietesp_ends(0, args.into_iter().chain(["--seed", "1"]));
        assert!(summary.contains("240 packets compressed"), "{summary}");
        out
    }

    /// Decodes a capture made from the original. Every packet must equal the original, except for fields that its
    /// record lists as restored.
    fn assert_same_packets(&self, capture: &Path, rules: &Path, keys: &Path) -> Vec<Value> {
        let (records, status) =
            decode([capture.as_os_str(), "--rules".as_ref(), rules.as_ref(), "--keys".as_ref(), keys.as_ref()]);
        assert_eq!((count(&records, "ok"), status), (240, 0));
        for (record, original) in records.iter().filter(|record| record["status"] == "ok").zip(&self.decrypted) {
            let mut ours = hex::decode(record["packet"].as_str().unwrap()).unwrap();
            let mut theirs = original[..ours.len()].to_vec();
            for packet in [&mut ours, &mut theirs] {
                clear_restored(packet, &record["restored"]);
            }
            assert_eq!(ours, theirs, "frame {}", record["frame"]);
            assert!(original.len() - ours.len() <= 16);
        }
        records
    }
}

/// Clears the fields of an IPv6 packet that were not sent but restored from other sources.
fn clear_restored(packet: &mut [u8], restored: &Value) {
    for (name, source) in restored.as_object().into_iter().flatten() {
        match (name.as_str(), source.as_str().unwrap()) {
            ("dscp", "outer") => {
                packet[0] &= 0xf0;
                packet[1] &= 0x3f;
            }
            ("ecn", "outer") => packet[1] &= 0xcf,
            ("flow_label", "outer") => {
                packet[1] &= 0xf0;
                packet[2..4].fill(0);
            }
            ("hop_limit", "outer") => packet[7] = 0,
            // All checksums of this capture are right, so computed checksums must be equal to the original ones.
            ("udp.checksum", "computed") => {}
            other => panic!("{other:?} was restored"),
        }
    }
}

/// The SAs in the text of `ip xfrm state`.
fn sas(text: &str) -> Vec<Sa> {
    let mut sas = vec![];
    let mut words = text.split_whitespace();
    let (mut src, mut dst, mut spi) = (String::new(), String::new(), String::new());
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap().to_owned();
        match word {
            "src" => src = next(),
            "dst" => dst = next(),
            "spi" => spi = next(),
            "aead" => {
                let (name, key) = (next(), next()[2..].to_owned());
                let cipher = if name.contains("ccm") { "ENCR_AES_CCM_8" } else { "ENCR_AES_GCM_16" };
                let (src, dst, spi) = (src.clone(), dst.clone(), spi.clone());
                sas.push(Sa { src, dst, spi, key, cipher });
            }
            _ => {}
        }
    }
    sas
}

/// Everything that can be omitted is omitted.
fn everything_compresses(sa: &Sa) -> String {
    let up = sa.src.ends_with('1');
    let (inner_src, inner_dst) = if up { ("fd0a::1", "fd0b::1") } else { ("fd0b::1", "fd0a::1") };
    let (src_port, dst_port) = if up { (5001, 5683) } else { (5683, 5001) };
    // One capture also has an ICMPv6 packet.
    let protocol = if sa.cipher == "ENCR_AES_CCM_8" {
        format!("ts_proto: UDP\nts_port_src: {src_port}\nts_port_dst: {dst_port}")
    } else {
        "ts_proto: ANY".to_owned()
    };
    format!(
        "ts_ip_version: IPv6-only\nts_ip_src: {inner_src}\nts_ip_dst: {inner_dst}\n{protocol}\ndscp_cda: lower\n\
         ecn_cda: lower\nflow_label_cda: lower\nalignment: 8 bit\nesp_trailer: Optional\nesp_spi_lsb: 8\nesp_sn_lsb: 8"
    )
}

/// Only bits of SPI and sequence number are omitted.
fn header_only(_: &Sa) -> String {
    "iipc_profile: iipc_not_compressed\nesp_trailer: Mandatory\nalignment: 32 bit\nesp_spi_lsb: 8\nesp_sn_lsb: 8"
        .to_owned()
}

fn convert(capture: &Path, rules: &Path, keys: &Path, out: &Path, more: &[&str]) -> String {
    let [capture, rules, keys, out] = [capture, rules, keys, out].map(|path| path.to_str().unwrap());
    let args = ["convert", capture, "-o", out, "--rules", rules, "--keys", keys];
    dietesp_ends(0, args.into_iter().chain(more.iter().copied())).1
}

fn wireshark_folder(out: &Path) -> PathBuf {
    PathBuf::from(format!("{}.wireshark", out.display()))
}

/// The decrypted packets of `capture`, each as long as the packet of its record.
fn assert_tshark_decrypts_the_packets(capture: &Path, records: &[Value]) {
    let theirs = tshark_decrypted(&wireshark_folder(capture), capture);
    let ok = records.iter().filter(|record| record["status"] == "ok");
    assert_eq!(theirs.len(), 240);
    for (record, theirs) in ok.zip(theirs) {
        let ours = record["packet"].as_str().unwrap();
        assert!(hex::encode(&theirs).starts_with(ours), "frame {}: {ours} {}", record["frame"], hex::encode(theirs));
    }
}

#[test]
fn ccm_8_round_trip() {
    let original = Original::new("strongswan_ccm8_v6");
    let rules = original.write_rules("rules.yaml", everything_compresses);
    // With the same keys, the IVs are sent. With new keys, they are implicit.
    let implicit_iv = original.write_implicit_iv_keys(true);
    for (keys, wire_bytes) in [(&original.keys, 31), (&implicit_iv, 23)] {
        let diet = original.compress(&rules, keys, "diet.pcapng");
        let records = original.assert_same_packets(&diet, &rules, keys);
        // 13 bytes of CoAP: SPI and SN 1 byte each, IV 8 or 0, ICV 8.
        let first = records.iter().find(|record| record["status"] == "ok").unwrap();
        assert_eq!(first["bytes"]["diet"], wire_bytes);

        let esp = original.path("esp.pcapng");
        let summary = convert(&diet, &rules, keys, &esp, &[]);
        assert!(summary.contains("240 re-encrypted"), "{summary}");
        assert_eq!(tshark_verified(&wireshark_folder(&esp), &esp), 240);
        assert_tshark_decrypts_the_packets(&esp, &records);

        convert(&diet, &rules, keys, &esp, &["--reseal", "keep"]);
        assert_eq!(tshark_verified(&wireshark_folder(&esp), &esp), 0, "Wireshark cannot verify AES-CCM");
        assert_tshark_decrypts_the_packets(&esp, &records);
    }
}

#[test]
fn gcm_16_round_trip() {
    let original = Original::new("strongswan_gcm16_v4");
    let rules = original.write_rules("rules.yaml", everything_compresses);
    let implicit_iv = original.write_implicit_iv_keys(true);
    for keys in [&original.keys, &implicit_iv] {
        let diet = original.compress(&rules, keys, "diet.pcapng");
        let records = original.assert_same_packets(&diet, &rules, keys);
        let esp = original.path("esp.pcapng");
        for reseal in ["fresh", "keep"] {
            convert(&diet, &rules, keys, &esp, &["--reseal", reseal]);
            assert_eq!(tshark_verified(&wireshark_folder(&esp), &esp), 240);
            assert_tshark_decrypts_the_packets(&esp, &records);
        }
    }
}

/// If only bits of SPI and sequence number were omitted, every frame is restored exactly, except for wrong UDP
/// checksums.
#[test]
fn header_only_conversions_keep_every_bit() {
    for stem in ["strongswan_ccm8_v6", "strongswan_gcm16_v4"] {
        let original = Original::new(stem);
        let rules = original.write_rules("rules.yaml", header_only);
        let diet = original.compress(&rules, &original.keys, "diet.pcap");
        original.assert_same_packets(&diet, &rules, &original.keys);
        let esp = original.path("esp.pcap");
        let summary = convert(&diet, &rules, &original.keys, &esp, &[]);
        assert!(summary.contains("0 re-encrypted, 240 with header restored only, 0 with IV added"), "{summary}");

        let before = original.path("before.pcap");
        let args = ["-F".as_ref(), "nsecpcap".as_ref(), original.capture.as_os_str(), before.as_ref()];
        assert!(std::process::Command::new("editcap").args(args).status().unwrap().success());
        let (before, between, after) = (pcap::read(&before), pcap::read(&diet), pcap::read(&esp));
        assert_eq!(before.1.len(), after.1.len());
        let shorter = before.1.iter().zip(&between.1).filter(|(before, diet)| before.1.len() - diet.1.len() == 6);
        assert_eq!(shorter.count(), 240);
        let udp_checksum = if stem.contains("v6") { 14 + 40 + 6..14 + 40 + 8 } else { 14 + 20 + 6..14 + 20 + 8 };
        for (frame, (before, after)) in before.1.into_iter().zip(after.1).enumerate() {
            let ((before_time, mut before), (after_time, mut after)) = (before, after);
            if before != after {
                // The capture contains wrong checksums, because the kernel leaves them to the network card.
                before[udp_checksum.clone()].fill(0);
                after[udp_checksum.clone()].fill(0);
            }
            let (before, after) = (hex::encode(before), hex::encode(after));
            assert_eq!((before_time, before), (after_time, after), "{stem} frame {}", frame + 1);
        }
        let args = ["-n", "-o", "udp.check_checksum:TRUE", "-Y", "udp.checksum.status == 1 && esp", "-r"];
        let args = args.map(std::ffi::OsStr::new).into_iter().chain([esp.as_os_str()]);
        assert_eq!(common::tshark(None, args).lines().count(), 240, "right UDP checksums");
    }
}

/// If the IV was implicit, it is inserted, and ciphertext and ICV are kept.
#[test]
fn implicit_iv_conversions_keep_ciphertext_and_icv() {
    for (stem, outer_len) in [("strongswan_ccm8_v6", 14 + 40 + 8), ("strongswan_gcm16_v4", 14 + 20 + 8)] {
        let original = Original::new(stem);
        let rules = original.write_rules("rules.yaml", header_only);
        let keys = original.write_implicit_iv_keys(true);
        let diet = original.compress(&rules, &keys, "diet.pcap");
        let records = original.assert_same_packets(&diet, &rules, &keys);
        let esp = original.path("esp.pcap");
        let summary = convert(&diet, &rules, &keys, &esp, &[]);
        assert!(summary.contains("0 re-encrypted, 0 with header restored only, 240 with IV added"), "{summary}");
        let ((_, diet), (_, after)) = (pcap::read(&diet), pcap::read(&esp));
        for record in records.iter().filter(|record| record["status"] == "ok") {
            let frame = record["frame"].as_u64().unwrap() as usize - 1;
            let (diet, after) = (&diet[frame].1[outer_len..], &after[frame].1[outer_len..]);
            let spi = record["esp"]["spi"].as_str().unwrap();
            let sequence = record["esp"]["sequence"].as_u64().unwrap();
            assert_eq!(hex::encode(&after[..4]), spi[2..]);
            assert_eq!(after[4..8], u32::try_from(sequence).unwrap().to_be_bytes());
            assert_eq!(after[8..16], sequence.to_be_bytes());
            assert_eq!(after[16..], diet[2..], "frame {}", frame + 1);
        }
        let verifiable = if stem.contains("gcm") { 240 } else { 0 };
        assert_eq!(tshark_verified(&wireshark_folder(&esp), &esp), verifiable);
        assert_tshark_decrypts_the_packets(&esp, &records);
    }
}

/// With the key of the input, an implicit-IV cipher would encrypt another plaintext with the same nonce.
#[test]
fn implicit_iv_with_the_same_key_is_rejected() {
    let original = Original::new("strongswan_ccm8_v6");
    let rules = original.write_rules("rules.yaml", everything_compresses);
    let keys = original.write_implicit_iv_keys(false);
    let out = original.path("diet.pcapng");
    let [capture, esp_keys, rules, keys, out_text] =
        [&original.capture, &original.keys, &rules, &keys, &out].map(|path| path.to_str().unwrap());
    let args = ["compress", capture, "-o", out_text, "-r", rules, "-k", keys, "--esp-keys", esp_keys];
    let (_, message) = dietesp_ends(2, args);
    assert!(message.contains("--allow-nonce-reuse"), "{message}");
    assert!(!out.exists());
}
