//! The other dialects, tested with the command: the overhead given in their documents, TCP numbers after loss, and
//! SPIs that are not low bits.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::{Path, PathBuf};

use dietesp::internals::net::checksum;
use serde_json::Value;

const KEYS: &str = "sas:
  - { name: s, spi: 0x11223344, src: 2001:db8::1, dst: 2001:db8::2, encr: ENCR_AES_CCM_8,
      key: 00112233445566778899aabbccddeeff, salt: a0a1a2 }
";
const CONTEXT: &str = "contexts:
  - sa: s
    dialect: ehc
    ipsec_mode: Tunnel
    tunnel_ip: { src: 2001:db8::1, dst: 2001:db8::2 }
    esp_align: 8
";
const ONE_V6: &str = "    ts_ip_version: IPv6-only
    ts_ip_src: 2001:db8:a::1
    ts_ip_dst: 2001:db8:b::1
";
const ONE_V4: &str = "    ts_ip_version: IPv4-only
    ts_ip_src: 10.0.0.1
    ts_ip_dst: 10.0.0.2
";
const NO_SPI_AND_SN: &str = "    esp_spi_lsb: 0
    esp_sn_lsb: 0
";
const UDP: &str = "    ts_proto: UDP
    ts_port_src: 5683
    ts_port_dst: 61617
";
const TCP: &str = "    ts_proto: TCP
    ts_port_src: 5683
    ts_port_dst: 61617
    tcp_lsb: 2
    tcp_options: False
    tcp_urgent: False
";

/// An IP packet with a UDP or TCP header without options and `data_len` bytes.
fn packet(v4: bool, protocol: u8, sequence: u32, data_len: usize) -> Vec<u8> {
    let data: Vec<u8> = (0..data_len as u8).collect();
    let ports = [0x16, 0x33, 0xf0, 0xb1];
    let mut segment = ports.to_vec();
    if protocol == 17 {
        segment.extend((8 + data_len as u16).to_be_bytes());
        segment.extend([0; 2]);
    } else {
        segment.extend(sequence.to_be_bytes());
        segment.extend([0, 0, 0, 9, 0x50, 0x18, 0x10, 0, 0, 0, 0, 0]);
    }
    segment.extend(&data);
    let (src, dst): (std::net::IpAddr, std::net::IpAddr) = if v4 {
        ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
    } else {
        ("2001:db8:a::1".parse().unwrap(), "2001:db8:b::1".parse().unwrap())
    };
    let at = if protocol == 17 { 6 } else { 16 };
    let sum = checksum::upper_layer(src, dst, protocol, &segment);
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let mut packet = if v4 {
        let mut header = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        header[2..4].copy_from_slice(&(20 + segment.len() as u16).to_be_bytes());
        let sum = checksum::internet(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    } else {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((segment.len() as u16).to_be_bytes());
        header.extend([protocol, 64]);
        for address in [src, dst] {
            let std::net::IpAddr::V6(address) = address else { unreachable!() };
            header.extend(address.octets());
        }
        header
    };
    packet.extend(segment);
    packet
}

/// A pcap file of link type RAW.
fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut file = [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 101].map(u32::to_le_bytes).concat();
    for (second, packet) in packets.iter().enumerate() {
        let len = packet.len() as u32;
        file.extend([second as u32, 0, len, len].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    file
}

/// The packets of a little-endian pcap file.
fn packets(file: &[u8]) -> Vec<Vec<u8>> {
    let (mut packets, mut rest) = (vec![], &file[24..]);
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        packets.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    packets
}

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(rules: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap() };
        bench.file("keys.yaml", KEYS.as_bytes());
        bench.file("rules.yaml", rules.as_bytes());
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Compresses plain packets with `dietesp compress` and returns the result.
    fn compress(&self, plain: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let input = self.file("plain.pcap", &pcap(plain));
        let [keys, rules, output] = ["keys.yaml", "rules.yaml", "diet.pcap"].map(|name| self.path(name));
        let done = common::dietesp([
            "compress".as_ref(),
            input.as_path(),
            "-o".as_ref(),
            &output,
            "--rules".as_ref(),
            &rules,
            "--keys".as_ref(),
            &keys,
        ]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        packets(&std::fs::read(output).unwrap())
    }

    fn decode(&self, diet: &[Vec<u8>]) -> Vec<Value> {
        let input = self.file("diet.pcap", &pcap(diet));
        let [keys, rules] = ["keys.yaml", "rules.yaml"].map(|name| self.path(name));
        let args: [&Path; 5] = [&input, "--rules".as_ref(), &rules, "--keys".as_ref(), &keys];
        common::decode(args).0
    }
}

/// The overhead given in draft-mglt-ipsecme-diet-esp-07, compared with ESP with CCM_8 padded to 4 bytes. Data of 3
/// mod 4 bytes needs 3 bytes of Padding (wire format §3).
#[test]
fn overheads_of_the_document() {
    for (context, v4, protocol, saved) in [
        // ESP header 8, IPv6 header 40, UDP header 8, Padding 3, Pad Length 1, Next Header 1.
        ([NO_SPI_AND_SN, ONE_V6, UDP], false, 17, 8 + 40 + 8 + 5),
        // TCP: ports 4, high halves of Sequence and Acknowledgment 2 + 2, byte 12, Checksum 2, Urgent Pointer 2.
        ([NO_SPI_AND_SN, ONE_V6, TCP], false, 6, 8 + 40 + 13 + 5),
        // SPI 2, SN 2; version, traffic class and flow label 4, length 2, hop limit 1, source 16; trailer 5.
        (
            [
                "    esp_spi_lsb: 2\n    esp_sn_lsb: 2\n",
                "    ts_ip_version: IPv6-only\n    ts_ip_src: 2001:db8:a::1\n",
                "",
            ],
            false,
            17,
            4 + 4 + 2 + 1 + 16 + 5,
        ),
        // IPv4: 20 bytes except TOS (1) and Identification (2). The document counts a header of 24 bytes, all of it
        // elided: 45.
        ([NO_SPI_AND_SN, ONE_V4, UDP], true, 17, 8 + 17 + 8 + 5),
        // The same for TCP: 50.
        ([NO_SPI_AND_SN, ONE_V4, TCP], true, 6, 8 + 17 + 13 + 5),
    ] {
        let bench = Bench::new(&format!("{CONTEXT}{}", context.concat()));
        for data_len in [3, 7, 23] {
            let plain = packet(v4, protocol, 5, data_len);
            let diet = bench.compress(std::slice::from_ref(&plain));
            let records = bench.decode(&diet);
            assert_eq!(records[0]["packet"], hex::encode(&plain));
            // Measured on the wire, after the outer IPv6 header. IV and ICV of 8 bytes are always sent.
            let wire_len = diet[0].len() - 40;
            let esp_len = 8 + 8 + plain.len() + 3 + 2 + 8;
            assert_eq!(esp_len - wire_len, saved, "{protocol} {v4} {data_len}");
            assert_eq!(records[0]["bytes"]["esp"], esp_len);
            assert_eq!(records[0]["bytes"]["saved"], saved);
        }
    }
    assert_eq!([8 + 40 + 8 + 5, 8 + 40 + 13 + 5, 4 + 4 + 2 + 1 + 16 + 5], [61, 66, 32]);
    assert_eq!([8 + 17 + 8 + 5, 8 + 17 + 13 + 5], [38, 43]);
}

#[test]
fn tcp_numbers_after_missing_packets() {
    let bench = Bench::new(&format!("{CONTEXT}    esp_sn_lsb: 1\n{ONE_V6}{TCP}    tcp_sn: 1000\n"));
    let plain: Vec<_> = (0..8).map(|step| packet(false, 6, 1000 + step * 9000, 4)).collect();
    let diet = bench.compress(&plain);
    // Lost: 2 and 3 (a jump of 27000). 6 and 7 swapped.
    let arrived = [0, 1, 4, 5, 7, 6, 6];
    let records = bench.decode(&arrived.map(|index| diet[index].clone()));
    let expected: [&[&str]; 7] = [&[], &[], &["tcp-nearest"], &[], &["tcp-nearest"], &[], &["duplicate"]];
    for ((record, index), warnings) in records.iter().zip(arrived).zip(expected) {
        assert_eq!(record["status"], "ok");
        assert_eq!(record["packet"], hex::encode(&plain[index]), "packet {index}");
        assert_eq!(record["warnings"], serde_json::json!(warnings), "packet {index}");
    }
    // If a capture starts in the middle, the first number is a guess.
    let records = bench.decode(&diet[4..6]);
    assert_eq!(records[0]["warnings"], serde_json::json!(["tcp-nearest"]));
    assert_ne!(records[0]["packet"], hex::encode(&plain[4]));

    // A jump that a receiver could not follow is a mismatch.
    let jump = [packet(false, 6, 1000, 4), packet(false, 6, 1000 + 0x8000, 4)];
    let input = bench.file("jump.pcap", &pcap(&jump));
    let [keys, rules, output] = ["keys.yaml", "rules.yaml", "no.pcap"].map(|name| bench.path(name));
    let args: [&Path; 8] =
        ["compress".as_ref(), &input, "-o".as_ref(), &output, "--rules".as_ref(), &rules, "--keys".as_ref(), &keys];
    let done = common::dietesp(args);
    assert!(!done.status.success() && !output.exists());
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("frame 2: tcp.sequence differs too much from that of the previous packet"), "{said}");
}

/// `custom`: one bit of the packet gives the SPI, as an index in a list.
#[test]
fn an_spi_from_a_list() {
    let context = "contexts:
  - sa: s
    dialect: custom
    ipsec_mode: Tunnel
    tunnel_ip: { src: 2001:db8::1, dst: 2001:db8::2 }
    rules:
      eec:
        - { FID: ESP.SPI, TV: [0xffffffff, 0x11223344], MO: match-mapping, CDA: mapping-sent }
        - { FID: ESP.SEQ, MO: MSB, MO.VAL: 25, CDA: LSB }
";
    let bench = Bench::new(context);
    let plain: Vec<_> = (0..200).map(|count| packet(false, 17, 0, count % 50)).collect();
    let diet = bench.compress(&plain);
    // Index 1, then the low 7 bits of the numbers 1, 2, 3 ... 128.
    assert_eq!(diet.iter().map(|packet| packet[40]).take(3).collect::<Vec<_>>(), [0x81, 0x82, 0x83]);
    assert_eq!(diet[127][40], 0x80);
    let records = bench.decode(&diet);
    for (record, plain) in records.iter().zip(&plain) {
        assert_eq!(record["packet"], hex::encode(plain));
        assert_eq!(record["esp"]["spi"], "0x11223344");
        assert_eq!(record["esp"]["wire"]["spi_bits"], 1);
    }
    // Index 0 belongs to another SA.
    let mut other = diet[0].clone();
    other[40] &= 0x7f;
    assert_eq!(bench.decode(&[other])[0]["status"], "no-sa");

    // An SPI that is not in the list cannot be sent.
    let bench = Bench::new(&context.replace("0x11223344", "0x11223345"));
    let [keys, rules] = ["keys.yaml", "rules.yaml"].map(|name| bench.path(name));
    let input = bench.file("diet.pcap", &pcap(&diet));
    let done =
        common::dietesp(["decode".as_ref(), input.as_path(), "--rules".as_ref(), &rules, "--keys".as_ref(), &keys]);
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("the SPI of SA s does not match the rule: spi is 287454020"), "{said}");
}

/// `custom`: the record of a packet names the fields whose values come from the rule, not from the packet.
#[test]
fn a_record_names_lost_fields() {
    let sent = ["VER", "TC", "FL", "LEN", "NXT", "HOP_LMT", "SRC", "DST"]
        .map(|name| format!("        - {{ FID: IPV6.{name}, MO: ignore, CDA: value-sent }}\n"));
    let context = format!(
        "contexts:
  - sa: s
    dialect: custom
    ipsec_mode: Tunnel
    tunnel_ip: {{ src: 2001:db8::1, dst: 2001:db8::2 }}
    rules:
      iipc:
{}        - {{ FID: UDP.SRC_PORT, TV: 9, MO: ignore, CDA: not-sent }}
        - {{ FID: UDP.DST_PORT, MO: ignore, CDA: value-sent }}
        - {{ FID: UDP.LEN, MO: ignore, CDA: compute }}
        - {{ FID: UDP.CKSUM, MO: ignore, CDA: compute }}
",
        sent.concat()
    );
    let bench = Bench::new(&context);
    let plain = packet(false, 17, 0, 5);
    let diet = bench.compress(std::slice::from_ref(&plain));
    let record = &bench.decode(&diet)[0];
    assert_eq!(record["status"], "ok");
    assert_eq!(record["inner"]["src_port"], 9);
    assert_eq!(record["restored"], serde_json::json!({ "src_port": "target-value", "udp.checksum": "computed" }));
    // Only the port at byte 40 and the checksum at 46 differ.
    let back = hex::decode(record["packet"].as_str().unwrap()).unwrap();
    let differing: Vec<usize> = (0..plain.len()).filter(|at| plain[*at] != back[*at]).collect();
    assert_eq!((back.len(), differing), (plain.len(), vec![40, 41, 46, 47]));

    let [input, keys, rules] = ["diet.pcap", "keys.yaml", "rules.yaml"].map(|name| bench.path(name));
    let fields =
        ["--format", "fields", "-e", "restored.src_port", "-e", "restored.dst_port", "-e", "restored.udp.checksum"];
    let args = ["decode".as_ref(), input.as_path(), "-r".as_ref(), &rules, "-k".as_ref(), &keys];
    let done = common::dietesp(args.into_iter().chain(fields.map(Path::new)));
    assert_eq!(String::from_utf8_lossy(&done.stdout), "target-value\t\tcomputed\n");
}
