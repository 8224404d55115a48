//! Link types and encapsulations that can carry ESP.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::case;
use crate::common::{self, decode, dietesp_ends, pcap};

const CASE_07: &str = "07-encapsulations";
/// Capture time of all frames: in 2023.
const TIME: u64 = 1_700_000_000_000_000_000;

/// The files of case 07 that are decoded.
const DECODED: [&str; 15] = [
    "cisco-cmd",
    "enc109",
    "geneve-ip",
    "gre-teb",
    "gtpu",
    "lt-chdlc104",
    "lt-fddi10",
    "lt-ipoib242",
    "lt-pflog117",
    "mpls1",
    "nsh",
    "ppi-eth",
    "snap",
    "udplite4500",
    "vxlan",
];

fn keys() -> String {
    case(&format!("{CASE_07}/keys.yaml"))
}

fn capture_07(name: &str) -> String {
    case(&format!("{CASE_07}/{name}.pcap"))
}

/// The records of a capture, with the keys of case 07.
fn records(capture: &str, more: &[&str]) -> Vec<Value> {
    decode([&[capture, "-k", &keys()], more].concat()).0
}

/// Frames in which tshark verified an ICV.
fn tshark_verified(capture: &str) -> usize {
    let config = common::wireshark_config(Path::new(&case(&format!("{CASE_07}/esp_sa"))));
    common::tshark_verified(config.path(), Path::new(capture))
}

#[test]
fn every_encapsulation_is_decoded_as_tshark_does() {
    for name in DECODED {
        let capture = capture_07(name);
        let records = records(&capture, &[]);
        assert_eq!(records.len(), 1, "{name}");
        assert_eq!((&records[0]["status"], &records[0]["sa"]), (&"ok".into(), &"a".into()), "{name}: {}", records[0]);
        assert_eq!(records[0]["outer"]["src"], "192.0.2.1", "{name}");
        assert_eq!(records[0]["inner"]["dst_port"], 5683, "{name}");
        assert_eq!(tshark_verified(&capture), 1, "{name}");
    }
}

#[test]
fn fragments_in_a_tunnel_are_reassembled() {
    let records = records(&case("05-fragments-in-tunnel/frag-in-gre.pcap"), &[]);
    let of = |name| records.iter().map(|record| record[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("status"), ["not-esp", "not-esp", "ok"]);
    assert_eq!(of("reason"), ["fragment".into(), "fragment".into(), Value::Null]);
    assert_eq!(records[2]["fragments"], serde_json::json!([1, 2, 3]));
}

#[test]
fn esp_in_tcp_is_named() {
    for record in records(&capture_07("tcpstream"), &[]) {
        assert_eq!(record["status"], "not-esp");
        let reason = record["reason"].as_str().unwrap();
        assert!(reason.starts_with("TCP port 4500: IKE and ESP in TCP (RFC 9329) are not decoded"), "{reason}");
        assert!(reason.contains("as lines of hex digits"), "{reason}");
    }
}

#[test]
fn esp_on_another_udp_port_needs_an_option() {
    let capture = capture_07("udp4501");
    let record = &records(&capture, &[])[0];
    assert_eq!(record["status"], "not-esp");
    assert_eq!(
        record["reason"],
        "UDP port 4501, and the payload starts with the SPI of a known SA: it may be ESP on a port of its own"
    );
    let (_, said) = dietesp_ends(1, ["decode", &capture, "-k", &keys()]);
    assert!(said.contains("1 packet starts with the SPI of a known SA on a UDP port such as 4501"), "{said}");
    assert!(said.contains("add --esp-port 4501"), "{said}");
    assert_eq!(records(&capture, &["--esp-port", "5000", "--esp-port", "4501"])[0]["status"], "ok");
    assert_eq!(records(&capture, &["--esp-port", "5000"])[0]["status"], "not-esp");
    // The port may also be that of a tunnel, and 4500 stays valid.
    assert_eq!(records(&capture_07("vxlan"), &["--esp-port", "4501"])[0]["status"], "ok");

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcap");
    let out = out.to_str().unwrap();
    let keys = keys();
    let (_, said) =
        dietesp_ends(0, ["convert", &capture, "-o", out, "-k", &keys, "--to", "plain", "--esp-port", "4501"]);
    assert!(said.contains("1 frame: 1 ok"), "{said}");
    let (found, _) = dietesp_ends(0, ["sa", &capture, "-k", &keys, "--esp-port", "4501"]);
    assert!(found.contains("0xc0ffee01"), "{found}");
    for command in ["decode", "convert", "compress", "sa"] {
        let (help, _) = dietesp_ends(0, [command, "--help"]);
        assert!(help.contains("--esp-port <N>"), "{help}");
    }
    let (_, said) = dietesp_ends(2, ["decode", &capture, "-k", &keys, "--esp-port", "0"]);
    assert!(said.contains("--esp-port"), "{said}");
}

/// The payload of the inner packet. The output of convert must contain it where tshark finds it.
#[test]
fn the_output_of_convert_is_read_by_tshark() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcapng");
    let (out, keys) = (out.to_str().unwrap(), keys());
    for name in DECODED {
        let capture = capture_07(name);
        dietesp_ends(0, ["convert", &capture, "-o", out, "-k", &keys, "--to", "plain"]);
        let fields = ["-n", "-T", "fields", "-e", "ip.src", "-e", "udp.port", "-r", out];
        let rows = common::tshark(None, fields);
        let inner: Vec<&str> = rows.lines().filter(|row| *row == "10.1.0.1\t5000,5683").collect();
        assert_eq!(inner.len(), 1, "{name}: {rows}");
        dietesp_ends(0, ["convert", &capture, "-o", out, "-k", &keys, "--to", "esp"]);
        assert_eq!(tshark_verified(out), 1, "{name}");
    }
}

/// The same comparison for many more kinds, listed in [`FRAMES`].
#[test]
fn more_kinds_are_decoded_as_tshark_does() {
    let folder = tempfile::tempdir().unwrap();
    for (link_type, frames) in by_link_type() {
        let capture = folder.path().join(format!("{link_type}.pcap"));
        let data: Vec<pcap::Frame> = frames.iter().map(|(_, frame)| (TIME, frame.clone())).collect();
        pcap::write(&capture, u32::from(link_type), &data);
        let capture = capture.to_str().unwrap();
        let records = records(capture, &[]);
        for (record, (name, _)) in records.iter().zip(&frames) {
            assert_eq!(record["status"], "ok", "{name}: {record}");
        }
        assert_eq!(records.len(), frames.len());
        // It rejects some link types.
        let by_tshark = frames.iter().filter(|(name, _)| !name.ends_with("not by tshark")).count();
        if by_tshark > 0 {
            assert_eq!(tshark_verified(capture), by_tshark, "link type {link_type}");
        }
    }
}

/// Frames made with scapy, and a description of each.
const FRAMES: &str = include_str!("../../src/link/tests/encapsulations.txt");

fn by_link_type() -> BTreeMap<u16, Vec<(String, Vec<u8>)>> {
    let mut lines = FRAMES.lines().filter(|line| !line.starts_with('#'));
    let [v4, v6] = ["V4 = ", "V6 = "].map(|name| lines.next().unwrap().strip_prefix(name).unwrap());
    let mut all = BTreeMap::<u16, Vec<_>>::new();
    for line in lines {
        let [name, link_type, frame, remark @ ..] = &line.split(" | ").collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let frame = hex::decode(frame.replace("V4", v4).replace("V6", v6)).unwrap();
        all.entry(link_type.parse().unwrap()).or_default().push((format!("{name} {}", remark.concat()), frame));
    }
    all
}

/// Records of frames of a link type.
fn records_of(link_type: u16, frames: &[&[u8]]) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("frames.pcap");
    let frames: Vec<pcap::Frame> = frames.iter().map(|frame| (TIME, frame.to_vec())).collect();
    pcap::write(&capture, u32::from(link_type), &frames);
    records(capture.to_str().unwrap(), &[])
}

#[test]
fn short_frames_of_802_11_are_not_malformed() {
    for record in records(&case("10-80211-control-frames/control.pcap"), &[]) {
        assert_eq!(record["status"], "not-esp", "{record}");
    }
    let frame = |control: u8, len: usize| [&[control, 0][..], &[0; 40][..len - 2]].concat();
    // Block Ack request and Block Ack, PS-Poll, RTS, CTS, ACK, CF-End, a wrapper, an NDP announcement, an extension.
    let lens =
        [(0x84, 16), (0x94, 16), (0xa4, 16), (0xb4, 16), (0xc4, 10), (0xd4, 10), (0xe4, 16), (0x74, 10), (0x54, 10)];
    for (control, len) in lens {
        let [whole, cut, with_fcs] = [len, len - 1, len + 4].map(|len| frame(control, len));
        let records = records_of(105, &[&whole, &cut, &with_fcs]);
        let statuses: Vec<_> = records.iter().map(|record| record["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["not-esp", "malformed", "not-esp"], "{control:#x}");
    }
    assert_eq!(records_of(105, &[&frame(0x1c, 12), &frame(0x01, 10), &frame(0x80, 20)])[0]["status"], "not-esp");
    assert_eq!(records_of(105, &[&frame(0x80, 20)])[0]["status"], "malformed");
}

#[test]
fn zigbee_is_not_reported_as_damaged_6lowpan() {
    for record in records(&case("15-zigbee-malformed/zigbee.pcap"), &[]) {
        assert_eq!((&record["status"], &record["reason"]), (&"not-esp".into(), &"not a 6LoWPAN frame".into()));
    }
    let hex = |hex: &str| hex::decode(hex.replace(' ', "")).unwrap();
    // Data with route discovery, a command, both forced; Green Power; and what WirelessHART and MiWi start with.
    for payload in [
        "4802 0000 3412 1e 05 0000000000000000 00",
        "4912 0000 3412 1e 05 ffffffffffffffff 0102",
        "8802 0000 3412 1e 05 0000000000000000 00",
        "8902 0000 3412 1e 05 0000000000000000 00",
        "1800 1122 3344",
        "0300 ffff 1234",
    ] {
        let frame = hex(&format!("4188 07 621a 0000 3412 {payload}"));
        let record = &records_of(230, &[&frame])[0];
        assert_eq!(record["status"], "not-esp", "{payload}: {record}");
    }
    let green_power = hex("0108 07 ffff ffff 8c10 7856 3412 ff0022");
    assert_eq!(records_of(230, &[&green_power])[0]["status"], "not-esp");
    // Thread's MLE is UDP in 6LoWPAN.
    let mle = hex("41d8 22 cefa ffff 0102030405060708 7f3b 02 f0 4d4c 4d4c abcd 0015 0100");
    assert_eq!(records_of(230, &[&mle])[0]["reason"], "UDP");
    // Damaged frames are still reported as damaged.
    let damaged = hex("4188 07 621a 0000 3412 7b");
    assert_eq!(records_of(230, &[&damaged])[0]["status"], "malformed");
}

#[test]
fn unsupported_encapsulations_are_named() {
    for (link_type, expected) in [
        (147, "link type 147 (user-defined) is not supported"),
        (189, "link type 189 (USB_LINUX) is not supported"),
        (299, "link type 299 is not supported"),
    ] {
        assert_eq!(records_of(link_type, &[&[0; 60]])[0]["reason"], expected);
    }
    let macs = "020000000002020000000001";
    // The bits of encryption, and of text that was changed in another way (IEEE 802.1AE §9.5).
    let macsec = |control: &str| hex::decode(format!("{macs}88e5{control}00000000010000000000000000")).unwrap();
    for control in ["2c", "04", "08"] {
        assert_eq!(records_of(1, &[&macsec(control)])[0]["reason"], "encrypted on the link layer (MACsec)");
    }
    for control in ["20", "00"] {
        assert_eq!(records_of(1, &[&macsec(control)])[0]["reason"], "MACsec without encryption, which is not decoded");
    }
    let nested = hex::decode(format!("{macs}{}0800", "81000001".repeat(40))).unwrap();
    assert_eq!(records_of(1, &[&nested])[0]["reason"], "more than 32 encapsulations inside each other");
}
