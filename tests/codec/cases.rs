//! The clear texts of an independent implementation (`tests/data/diet-cases`): they restore to its packets, and its
//! packets compress to them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use dietesp::internals::codec::{Codec, State};
use dietesp::internals::context::*;
use dietesp::internals::net::{IpHeaders, IpVersion, address_value};
use serde_json::Value;

use crate::support::{data, hex, outer};

/// Folders whose frames are compared, with the number of frames that contain a clear text.
const DECODE: [(&str, usize); 11] = [
    ("01-ietf-v6udp-full", 40),
    ("06-ietf-dscp-sa", 42),
    ("09-ietf-any-mixed", 40),
    ("14-ietf-v4-in-v4", 50),
    ("16-ietf-transport-v6-udp", 30),
    ("20-ietf-align32-optional", 48),
    ("24-ciphers-implicit-iv", 40),
    ("28-esn-crossing", 50),
    ("30-sn4-lossy", 52),
    ("33-mixed-traffic", 24),
    ("42-udp-encap-4500", 34),
];

#[test]
fn clear_texts_restore_to_the_packets_and_packets_compress_to_them() {
    let cases = data("diet-cases/decode");
    for (name, frames) in DECODE {
        let case = Case::read(&cases.join(name));
        let captured = read_pcapng(&case.folder.join("capture.pcapng"));
        let mut seen = 0;
        for expected in case.expected.iter().filter(|expected| expected["status"] == "ok") {
            let frame = expected["frame"].as_u64().unwrap() as usize;
            let what = format!("{name}, frame {frame}");
            let sa = expected["sa"].as_str().unwrap();
            let codec = case.codecs.get(sa).unwrap_or_else(|| panic!("{what}: no context of {sa}"));
            let clear = hex(&expected["x_clear"]);
            let ip = &captured[frame - 1][14..];
            let (outer, header_len, protocol_offset) = outer(ip);
            let carrier = IpHeaders { outer: &outer, header: &ip[..header_len], protocol_offset };

            let mut packet = vec![1, 2, 3];
            let restored = codec
                .restore(&clear, &carrier, &mut State::default(), &mut packet)
                .unwrap_or_else(|fault| panic!("{what}: {fault}"));
            assert_eq!(hex::encode(&packet), expected["packet"].as_str().unwrap(), "{what}");
            assert_eq!(restored.warnings.names().count(), 0, "{what}");
            let upper = restored.upper.unwrap();
            if let Some(protocol) = expected["inner"]["protocol"].as_u64() {
                assert_eq!(u64::from(upper.protocol), protocol, "{what}");
                let port = |key: &str| expected["inner"][key].as_u64();
                let ports = upper.ports.map(|(src, dst)| (u64::from(src), u64::from(dst)));
                assert_eq!(ports, port("src_port").zip(port("dst_port")), "{what}");
            }

            // The restored packet equals the sender's packet, except for fields that no residue contains.
            let mut again = vec![9];
            codec
                .compress(&packet, &outer, &mut State::default(), &mut again)
                .unwrap_or_else(|mismatch| panic!("{what}: {mismatch}"));
            assert_eq!(hex::encode(&again), hex::encode(&clear), "{what}");
            let original = &case.original[expected["x_original"].as_u64().unwrap() as usize - 1];
            codec
                .compress(original, &outer, &mut State::default(), &mut again)
                .unwrap_or_else(|mismatch| panic!("{what}: {mismatch}"));
            assert_eq!(hex::encode(&again), hex::encode(&clear), "{what}, original");
            assert_eq!(*original == packet, expected["x_same_as_original"].as_bool().unwrap(), "{what}");
            seen += 1;
        }
        assert_eq!(seen, frames, "{name}");
    }
}

#[test]
fn packets_that_do_not_match_name_the_field() {
    let folder = data("diet-cases/compress/01-ietf-tunnel");
    let case = Case::read(&folder);
    let codec = &case.codecs["s"];
    let outer = outer(&case.original[0]).0;
    assert_eq!(case.expected.len(), 18);
    for expected in &case.expected {
        let frame = expected["frame"].as_u64().unwrap() as usize;
        let mut clear = vec![];
        let compressed = codec.compress(&case.original[frame - 1], &outer, &mut State::default(), &mut clear);
        if expected["matches"].as_bool().unwrap() {
            compressed.unwrap_or_else(|mismatch| panic!("frame {frame}: {mismatch}"));
            assert_eq!(hex::encode(&clear), expected["x_clear"].as_str().unwrap(), "frame {frame}");
        } else {
            let mismatch = compressed.expect_err(&format!("frame {frame}"));
            assert_eq!(mismatch.field, expected["x_field"].as_str().unwrap(), "frame {frame}: {mismatch}");
        }
    }
}

struct Case {
    folder: PathBuf,
    codecs: HashMap<String, Codec>,
    expected: Vec<Value>,
    original: Vec<Vec<u8>>,
}

impl Case {
    fn read(folder: &Path) -> Case {
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        let ciphers: HashMap<_, _> = entries(&text("keys.yaml"))
            .into_iter()
            .map(|entry| (entry["name"].clone(), if entry["encr"] == "ENCR_AES_CBC" { 16 } else { 1 }))
            .collect();
        // An SA without a context is standard ESP.
        let mut codecs: HashMap<_, _> =
            ciphers.iter().map(|(sa, block)| (sa.clone(), Codec::new(None, *block).unwrap())).collect();
        for entry in entries(&text("rules.yaml")) {
            let codec = Codec::new(Some(&context(&entry)), ciphers[&entry["sa"]]).unwrap();
            codecs.insert(entry["sa"].clone(), codec);
        }
        let expected = text("expected.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Case { folder: folder.to_owned(), codecs, expected, original: read_pcap(&folder.join("original.pcap")) }
    }
}

/// The entries of the only list in a flat YAML file.
fn entries(yaml: &str) -> Vec<HashMap<String, String>> {
    let mut entries: Vec<HashMap<String, String>> = vec![];
    for line in yaml.lines().filter(|line| line.starts_with("  ")) {
        let line = line.trim_start();
        if line.starts_with("- ") {
            entries.push(HashMap::new());
        }
        let (key, value) = line.trim_start_matches("- ").split_once(": ").unwrap();
        let value = value.trim().trim_matches('"');
        entries.last_mut().unwrap().insert(key.to_owned(), value.to_owned());
    }
    entries
}

fn context(entry: &HashMap<String, String>) -> Context {
    let mut entry = entry.clone();
    entry.remove("tunnel_ip");
    let mut take = |key: &str| entry.remove(key);
    let version = take("ts_ip_version").map(|version| match version.as_str() {
        "IPv4-only" => IpVersion::V4,
        "IPv6-only" => IpVersion::V6,
        other => panic!("{other}"),
    });
    let bits = version.map_or(128, IpVersion::address_bits);
    let address = |text: &str| address_value(text.parse().unwrap());
    let number = |text: &str| text.parse::<u128>().unwrap();
    let ip = |take: &mut dyn FnMut(&str) -> Option<String>, key: &str| match take(key) {
        Some(short) => match short.split_once('/') {
            Some((prefix, len)) => {
                let start = address(prefix);
                Range { start, end: start | ((1 << (bits - len.parse::<u32>().unwrap())) - 1) }
            }
            None => Range::single(address(&short)),
        },
        None => match (take(&format!("{key}_start")), take(&format!("{key}_end"))) {
            (Some(start), Some(end)) => Range { start: address(&start), end: address(&end) },
            _ => Range::whole(bits),
        },
    };
    let port = |take: &mut dyn FnMut(&str) -> Option<String>, key: &str| match take(key) {
        Some(short) => match short.split_once('-') {
            Some((start, end)) => Range { start: number(start), end: number(end) },
            None => Range::single(number(&short)),
        },
        None => match (take(&format!("{key}_start")), take(&format!("{key}_end"))) {
            (Some(start), Some(end)) => Range { start: number(&start), end: number(&end) },
            _ => Range::whole(16),
        },
    };
    let selectors = TrafficSelectors {
        version,
        src: ip(&mut take, "ts_ip_src"),
        dst: ip(&mut take, "ts_ip_dst"),
        protocol: match take("ts_proto").as_deref() {
            None | Some("ANY") => None,
            Some("UDP") => Some(17),
            Some(other) => panic!("{other}"),
        },
        src_port: port(&mut take, "ts_port_src"),
        dst_port: port(&mut take, "ts_port_dst"),
    };
    let mode = match take("ipsec_mode").unwrap().as_str() {
        "Tunnel" => Mode::Tunnel,
        "Transport" => Mode::Transport,
        other => panic!("{other}"),
    };
    let sa = SaReference::Name(take("sa").unwrap());
    let esp_sn = take("esp_sn").map(|number| number.parse().unwrap());
    let dscp_list = take("dscp_list");
    let ietf = Ietf {
        dscp_cda: match take("dscp_cda").as_deref() {
            None | Some("not_compressed") => DscpCda::Sent,
            Some("lower") => DscpCda::Lower,
            Some("sa") => {
                let list = dscp_list.unwrap();
                DscpCda::List(list.trim_matches(['[', ']']).split(", ").map(|value| value.parse().unwrap()).collect())
            }
            Some(other) => panic!("{other}"),
        },
        ecn_cda: match take("ecn_cda").as_deref() {
            None | Some("not_compressed") => HeaderCda::Sent,
            Some("lower") => HeaderCda::Lower,
            Some(other) => panic!("{other}"),
        },
        flow_label_cda: match take("flow_label_cda").as_deref() {
            None | Some("not_compressed") => FlowLabelCda::Sent,
            Some("lower") => FlowLabelCda::Lower,
            Some("zero") => FlowLabelCda::Zero,
            Some(other) => panic!("{other}"),
        },
        alignment: take("alignment").map_or(8, |bits| bits.trim_end_matches(" bit").parse::<u8>().unwrap() / 8),
        trailer_mandatory: match take("esp_trailer").as_deref() {
            None | Some("Optional") => false,
            Some("Mandatory") => true,
            Some(other) => panic!("{other}"),
        },
        spi_bits: take("esp_spi_lsb").map_or(32, |bits| bits.parse().unwrap()),
        sn_bits: take("esp_sn_lsb").map_or(32, |bits| bits.parse().unwrap()),
        ..Ietf::default()
    };
    assert_eq!(entry.remove("dialect").unwrap_or("ietf".to_owned()), "ietf");
    assert_eq!(entry, HashMap::new());
    let origin = Origin { path: Path::new("rules.yaml").into(), line: 1 };
    Context { sa, mode, tunnel_ip: None, selectors, esp_sn, protocol: 50, dialect: Dialect::Ietf(ietf), origin }
}

/// The frames of a little-endian pcapng file, from its Enhanced Packet Blocks.
fn read_pcapng(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(u32_at(8), 0x1a2b_3c4d);
    let mut frames = vec![];
    let mut at = 0;
    while at < bytes.len() {
        if u32_at(at) == 6 {
            frames.push(bytes[at + 28..at + 28 + u32_at(at + 20)].to_vec());
        }
        at += u32_at(at + 4);
    }
    frames
}

/// The packets of a little-endian pcap file.
fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(u32_at(0), 0xa1b2_c3d4);
    let mut packets = vec![];
    let mut at = 24;
    while at < bytes.len() {
        let len = u32_at(at + 8);
        packets.push(bytes[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    packets
}
