//! Captures of real implementations, and the same packets on other link layers made with scapy. The expected
//! numbers are from tshark.

use std::path::PathBuf;

use super::*;
use crate::net::protocol::ESP;

fn captures() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/captures").into()
}

/// Link type and frames of a little-endian pcap or pcapng file of one interface.
fn read(file: PathBuf) -> (u16, Vec<Vec<u8>>) {
    let file = std::fs::read(file).unwrap();
    let u16_at = |at: usize| u16::from_le_bytes(file[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut frames = Vec::new();
    let mut link_type = 0;
    if u32_at(0) == 0x0a0d_0d0a {
        let mut at = 0;
        while at < file.len() {
            match u32_at(at) {
                1 => link_type = u16_at(at + 8),
                6 => frames.push(file[at + 28..][..u32_at(at + 20)].to_vec()),
                _ => {}
            }
            at += u32_at(at + 4);
        }
    } else {
        assert!([0xa1b2_c3d4, 0xa1b2_3c4d].contains(&u32_at(0)));
        link_type = u16_at(20);
        let mut at = 24;
        while at < file.len() {
            frames.push(file[at + 16..][..u32_at(at + 8)].to_vec());
            at += 16 + u32_at(at + 8);
        }
    }
    (link_type, frames)
}

/// ESP payloads, native or in UDP, of all packets, with fragments reassembled. The keys are source and payload.
fn esp(link_type: u16, frames: &[Vec<u8>]) -> Vec<(IpAddr, Vec<u8>)> {
    let mut reassembler = Reassembler::new();
    let mut reassembled = Reassembled::default();
    let mut found = Vec::new();
    let mut take = |datagram: Datagram<'_>| {
        assert_eq!(datagram.missing, 0);
        let encapsulated = udp_encapsulation(&datagram, &EspPorts::default()).unwrap();
        match (datagram.protocol, encapsulated) {
            (ESP, _) => found.push((datagram.outer.src, datagram.payload.to_vec())),
            (_, Some(udp)) if udp.payload.len() > 1 && udp.payload[..4] != [0; 4] => {
                found.push((datagram.outer.src, udp.payload.to_vec()));
            }
            _ => {}
        }
    };
    for (number, frame) in (1..).zip(frames) {
        match parse(link_type, frame) {
            LinkContent::Datagram(datagram) => take(datagram),
            LinkContent::Fragment(fragment) => {
                if reassembler.push(number, 10_000_000 * number as i64, &fragment, &mut reassembled).unwrap() {
                    take(reassembled.datagram().unwrap());
                }
                assert!(reassembler.given_up().is_empty());
            }
            LinkContent::NotIp(_) => {}
            LinkContent::Malformed { fault, .. } => panic!("{number}: {fault}"),
        }
    }
    assert!(reassembler.finish().is_empty());
    found
}

#[test]
fn udp_encapsulated_esp_of_strongswan() {
    let captures = captures();
    for file in ["strongswan_ccm8_v6.pcapng", "strongswan_gcm16_v4.pcapng"] {
        let (link_type, frames) = read(captures.join(file));
        assert_eq!(esp(link_type, &frames).len(), 240, "{file}");
    }
}

#[test]
fn the_same_packets_on_every_link_layer_and_in_fragments() {
    let captures = captures();
    let (link_type, frames) = read(captures.join("derived_strongswan_native_esp.pcap"));
    let native = esp(link_type, &frames);
    assert_eq!(native.len(), 112);
    // Raw IPv6 and nothing else: 40 bytes of header, then ESP.
    assert!(native.iter().zip(&frames).all(|((_, payload), frame)| *payload == frame[40..]));
    for (file, link_type, count) in [
        ("derived_strongswan_native_esp_exthdrs.pcap", 101, 112),
        ("derived_strongswan_sll1.pcap", 113, 120),
        ("derived_strongswan_raw101.pcap", 101, 120),
        ("derived_strongswan_qinq.pcap", 1, 120),
        ("derived_strongswan_ipv6frag.pcap", 101, 193),
        ("derived_esp_over_6lowpan_original_ipv6.pcap", 101, 112),
    ] {
        let (own_link_type, frames) = read(captures.join(file));
        assert_eq!((own_link_type, frames.len()), (link_type, count), "{file}");
        assert!(esp(link_type, &frames) == native, "{file}");
    }
}

/// Every frame of a real capture, rebuilt with its own payload, is unchanged except for padding, and for UDP
/// checksums that the capturing machine had not computed.
#[test]
fn rebuilding_real_frames_changes_nothing() {
    let captures = captures();
    for file in [
        "strongswan_gcm16_v4.pcapng",
        "strongswan_ccm8_v6.pcapng",
        "derived_strongswan_qinq.pcap",
        "derived_strongswan_sll1.pcap",
        "derived_strongswan_native_esp_exthdrs.pcap",
    ] {
        let (link_type, frames) = read(captures.join(file));
        let mut out = Vec::new();
        let mut rebuilt = 0;
        for frame in &frames {
            let LinkContent::Datagram(read) = parse(link_type, frame) else { continue };
            rebuild(&frame[..read.frame_offset], &read, read.protocol, None, &[read.payload], &mut out).unwrap();
            assert_eq!(out, frame[..out.len()]);
            rebuilt += 1;
        }
        assert!(rebuilt > 100);
    }
}
