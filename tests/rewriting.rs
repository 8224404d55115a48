//! Data around ESP that is encrypted again: UDP checksums match the new packets, and a packet that is too long for
//! a length field does not affect others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests may panic.

mod common;

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use dietesp::internals::net::checksum;

const OUTER: [&str; 2] = ["2001:db8:1::1", "2001:db8:2::1"];
const INNER: [&str; 2] = ["2001:db8:a::1", "2001:db8:b::1"];

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Lab {
        let lab = Lab(tempfile::tempdir().unwrap());
        let [(outer_src, outer_dst), (src, dst)] = [OUTER, INNER].map(|[src, dst]| (src, dst));
        let keys = format!(
            "sas:\n  - {{ spi: 0x00010000, src: {outer_src}, dst: {outer_dst}, encr: ENCR_AES_GCM_16, \
             key: 000102030405060708090a0b0c0d0e0f, salt: 00010203 }}\n"
        );
        let rules = format!(
            "contexts:\n  - {{ spi: 0x00010000, ipsec_mode: Tunnel, tunnel_ip: {{ src: {outer_src}, dst: {outer_dst} }}, \
             ts_ip_version: IPv6-only, ts_ip_src: {src}, ts_ip_dst: {dst}, ts_proto: UDP, ts_port_src: 5683, \
             ts_port_dst: 5683, dscp_cda: lower, ecn_cda: lower, flow_label_cda: lower, alignment: 8 bit, \
             esp_spi_lsb: 8, esp_sn_lsb: 8 }}\n"
        );
        std::fs::write(lab.path("keys.yaml"), keys).unwrap();
        std::fs::write(lab.path("rules.yaml"), rules).unwrap();
        lab
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, frames: &[Vec<u8>]) {
        let timed: Vec<common::pcap::Frame> = (1..).zip(frames.iter().cloned()).collect();
        common::pcap::write(Path::new(&self.path(name)), common::pcap::RAW, &timed);
    }

    fn read(&self, name: &str) -> Vec<Vec<u8>> {
        common::pcap::read(Path::new(&self.path(name))).1.into_iter().map(|(_, frame)| frame).collect()
    }

    /// Converts `input` to `out` and returns standard error. `more` are options. Keys and rules are those of the
    /// Diet-ESP side.
    fn make(&self, status: i32, command: &str, [input, out]: [&str; 2], more: &[&str]) -> String {
        let [input, out, keys, rules] = [input, out, "keys.yaml", "rules.yaml"].map(|name| self.path(name));
        let args = [command, &input, "-o", &out, "--keys", &keys, "--rules", &rules];
        common::dietesp_ends(status, [&args, more].concat()).1
    }

    /// Whether each frame decrypts.
    fn opens(&self, name: &str, keys: &str, rules: bool) -> Vec<bool> {
        let [capture, keys, rule_file] = [name, keys, "rules.yaml"].map(|name| self.path(name));
        let more = if rules { vec!["--rules", &rule_file] } else { vec![] };
        let (records, _) = common::decode([&[capture.as_str(), "--keys", &keys], more.as_slice()].concat());
        records.iter().map(|record| record["status"] == "ok").collect()
    }
}

fn ipv6(next_header: u8, [src, dst]: [&str; 2], payload: &[u8]) -> Vec<u8> {
    let [high, low] = (payload.len() as u16).to_be_bytes();
    let addresses = [src, dst].map(|address| address.parse::<Ipv6Addr>().unwrap().octets()).concat();
    [&[0x60, 0, 0, 0, high, low, next_header, 64], addresses.as_slice(), payload].concat()
}

/// UDP from a port to itself, with a checksum.
fn udp(port: u16, addresses: [&str; 2], data: &[u8]) -> Vec<u8> {
    let len = (8 + data.len()) as u16;
    let mut segment = [port, port, len, 0].map(u16::to_be_bytes).concat();
    segment.extend(data);
    let sum = udp_sum(addresses, &segment);
    segment[6..8].copy_from_slice(&sum.to_be_bytes());
    ipv6(17, addresses, &segment)
}

/// Returns 0 if the checksum is right.
fn udp_sum(addresses: [&str; 2], segment: &[u8]) -> u16 {
    let [src, dst] = addresses.map(|address| address.parse::<IpAddr>().unwrap());
    checksum::upper_layer(src, dst, 17, segment)
}

fn plain(len: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..len).map(|at| (at * 7) as u8).collect();
    udp(5683, INNER, &data)
}

#[test]
fn udp_checksums_match_the_encrypted_packets() {
    let lab = Lab::new();
    lab.write("plain.pcap", &(0..40).map(plain).collect::<Vec<_>>());
    lab.make(0, "compress", ["plain.pcap", "native.pcap"], &[]);
    let in_udp: Vec<_> = lab.read("native.pcap").iter().map(|frame| udp(4500, OUTER, &frame[40..])).collect();
    lab.write("diet.pcap", &in_udp);
    assert_eq!(lab.opens("diet.pcap", "keys.yaml", true), [true; 40]);

    lab.make(0, "convert", ["diet.pcap", "esp.pcap"], &[]);
    let esp_sa = "esp.pcap.wireshark/esp_sa";
    assert_eq!(lab.opens("esp.pcap", esp_sa, false), [true; 40]);
    lab.make(0, "compress", ["esp.pcap", "again.pcap"], &["--esp-keys", &lab.path(esp_sa)]);
    assert_eq!(lab.opens("again.pcap", "keys.yaml", true), [true; 40]);

    for name in ["esp.pcap", "again.pcap"] {
        let frames = lab.read(name);
        assert_eq!(frames.len(), 40);
        for (number, frame) in (1..).zip(&frames) {
            let segment = &frame[40..];
            assert!(segment[6..8] != [0, 0] && udp_sum(OUTER, segment) == 0, "frame {number} of {name}");
            let lens =
                [&frame[4..6], &segment[4..6]].map(|len| usize::from(u16::from_be_bytes(len.try_into().unwrap())));
            assert_eq!(lens, [segment.len(); 2], "frame {number} of {name}");
        }
    }
}

/// Its standard ESP form would have 65552 bytes after the IPv6 header.
#[test]
fn a_packet_that_becomes_too_long_is_kept_and_the_others_are_encrypted() {
    let lab = Lab::new();
    lab.write("plain.pcap", &[plain(10), plain(65_520 - 48), plain(20), plain(30)]);
    lab.make(0, "compress", ["plain.pcap", "diet.pcap"], &[]);
    assert_eq!(lab.opens("diet.pcap", "keys.yaml", true), [true; 4]);
    let said = lab.make(1, "convert", ["diet.pcap", "esp.pcap"], &[]);
    assert!(said.contains("ESP packets: 3 re-encrypted"), "{said}");
    assert!(said.contains("\n1 packet written as captured: no frame can hold the converted packet\n"), "{said}");
    let (diet, esp) = (lab.read("diet.pcap"), lab.read("esp.pcap"));
    assert_eq!(esp.len(), 4);
    assert_eq!(esp[1], diet[1]);
    assert_eq!(lab.opens("esp.pcap", "esp.pcap.wireshark/esp_sa", false), [true, false, true, true]);
}

/// Its Diet-ESP form is longer than the original, because of IV and ICV.
#[test]
fn a_packet_that_is_too_long_to_encrypt_is_not_counted_and_the_others_are_encrypted() {
    let lab = Lab::new();
    lab.write("plain.pcap", &[plain(10), plain(65_527), plain(20), plain(30)]);
    let said = lab.make(1, "compress", ["plain.pcap", "diet.pcap"], &[]);
    assert!(said.contains("frame 2: link at byte 0: IPv6 Payload Length is 65553"), "{said}");
    assert!(!Path::new(&lab.path("diet.pcap")).exists());
    let said = lab.make(1, "compress", ["plain.pcap", "diet.pcap"], &["--on-mismatch", "skip"]);
    assert!(said.contains("3 packets compressed: "), "{said}");
    assert!(
        said.contains("1 packet omitted: no frame can hold the encrypted packet\nfirst such packet, frame 2: "),
        "{said}"
    );
    assert_eq!(lab.opens("diet.pcap", "keys.yaml", true), [true; 3]);
}
