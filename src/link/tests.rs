use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::error::{FaultKind, Stage};
use crate::net::protocol::ESP;

mod bluetooth;
mod captures;
mod encapsulations;
mod radio;
mod reassembly;
mod rebuilding;

pub(super) fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

#[track_caller]
pub(super) fn datagram(link_type: u16, frame: &[u8]) -> Datagram<'_> {
    match parse(link_type, frame) {
        LinkContent::Datagram(datagram) => datagram,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn fault(link_type: u16, hex: &str) -> (bool, Fault) {
    match parse(link_type, &bytes(hex)) {
        LinkContent::Malformed { outer, fault } => (outer.is_some(), fault),
        other => panic!("{other:?}"),
    }
}

struct Case {
    name: &'static str,
    link_type: u16,
    frame: Vec<u8>,
    ip_offset: usize,
    header_len: usize,
    protocol_offset: usize,
    protocol: u8,
    payload_len: usize,
}

fn cases() -> Vec<Case> {
    let mut lines = include_str!("tests/frames.txt").lines().filter(|line| !line.starts_with('#'));
    let v4 = lines.next().unwrap().strip_prefix("V4 = ").unwrap();
    let v6 = lines.next().unwrap().strip_prefix("V6 = ").unwrap();
    let case = |line: &'static str| {
        let [name, link_type, link, packet, numbers] =
            *line.split('|').map(str::trim).collect::<Vec<_>>().as_array().unwrap();
        let packet = packet.replace("V4", v4).replace("V6", v6);
        let numbers: Vec<usize> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
        Case {
            name,
            link_type: link_type.parse().unwrap(),
            frame: bytes(&format!("{link}{packet}")),
            ip_offset: link.len() / 2,
            header_len: numbers[0],
            protocol_offset: numbers[1],
            protocol: u8::try_from(numbers[2]).unwrap(),
            payload_len: numbers[3],
        }
    };
    lines.map(case).collect()
}

#[test]
fn every_link_type_and_extension_header() {
    let cases = cases();
    assert_eq!(cases.len(), 54);
    for Case { name, link_type, frame, ip_offset, header_len, protocol_offset, protocol, payload_len } in cases {
        let read = datagram(link_type, &frame);
        assert_eq!(read.frame_offset, ip_offset, "{name}");
        assert_eq!(read.header, &frame[ip_offset..][..header_len], "{name}");
        assert_eq!(read.protocol_offset, protocol_offset, "{name}");
        assert_eq!(read.protocol, protocol, "{name}");
        assert_eq!(read.payload, &frame[ip_offset + header_len..][..payload_len], "{name}");
        assert_eq!(read.missing, 0, "{name}");

        let v4 = frame[ip_offset] >> 4 == 4;
        let address = |v4_text: &str, v6_text: &str| if v4 { v4_text } else { v6_text }.parse::<IpAddr>().unwrap();
        let outer = OuterHeader {
            version: if v4 { IpVersion::V4 } else { IpVersion::V6 },
            src: address("192.0.2.1", "2001:db8::1"),
            dst: address("198.51.100.7", "2001:db8::2"),
            dscp: 46,
            ecn: 1,
            hop_limit: if v4 { 63 } else { 61 },
            flow_label: if v4 { 0x1234 } else { 0xabcde },
        };
        assert_eq!(read.outer, outer, "{name}");
    }
}

/// Truncated within the IP headers, a frame is malformed. After that, only bytes are missing.
#[test]
fn frames_truncated_at_every_byte() {
    for Case { name, link_type, frame, ip_offset, header_len, payload_len, .. } in cases() {
        let whole = ip_offset + header_len + payload_len;
        let has_length = !name.ends_with("Length 0");
        for len in 0..whole {
            match parse(link_type, &frame[..len]) {
                LinkContent::Datagram(read) => {
                    // Fewer than 8 bytes would be Ethernet padding.
                    let is_padding = name == "IPv6 Payload Length 0" && len < ip_offset + header_len + 8;
                    let captured = if is_padding { 0 } else { len - ip_offset - header_len };
                    assert_eq!(read.payload.len(), captured, "{name} {len}");
                    assert_eq!(read.missing, if has_length { whole - len } else { 0 }, "{name} {len}");
                }
                LinkContent::Malformed { outer, fault } => {
                    assert!(len < ip_offset + header_len, "{name} {len}");
                    let first = usize::from(frame[ip_offset]);
                    let base = if first >> 4 == 6 { 40 } else { (first & 0xf) * 4 };
                    assert_eq!(outer.is_some(), len >= ip_offset + base, "{name} {len}");
                    assert_eq!(fault.stage, Stage::Link);
                    assert!(matches!(fault.kind, FaultKind::Short { .. }), "{name} {len}: {fault}");
                }
                other => panic!("{name} {len}: {other:?}"),
            }
        }
    }
}

/// Payload Length 0 without the Jumbo Payload option: either no payload, or the field was left 0 by segmentation
/// offload.
#[test]
fn after_payload_length_0_ethernet_padding_is_no_payload() {
    let ethernet = "02000000000202000000000186dd";
    let frame = |next_header: u8, rest: &str| {
        let addresses = "20010db800000000000000000000000120010db8000000000000000000000002";
        bytes(&format!("{ethernet}600000000000{next_header:02x}40{addresses}{rest}"))
    };
    let udp = "1633163300080000";
    for (next_header, rest, payload_len) in [
        (59, "000000000000", 0),
        (59, "00000000000000000000", 0),
        (17, "000000000000", 0),
        (6, "", 0),
        (17, udp, 8),
        (50, "0000a1b200000001aabbccdd", 12),
    ] {
        let frame = frame(next_header, rest);
        let read = datagram(1, &frame);
        assert_eq!((read.payload.len(), read.missing, read.protocol), (payload_len, 0, next_header), "{rest}");
        let place = match parse_standalone(1, &frame, |protocol| protocol == ESP) {
            Some(Standalone::Packet(place)) => place,
            other => panic!("{other:?}"),
        };
        assert_eq!(place.payload(&frame).len(), payload_len);
    }
    // A Jumbo Payload option gives the length. Without one, the Hop-by-Hop header is truncated.
    let jumbo = frame(0, "3b00c20400000008000000000000");
    assert_eq!((datagram(1, &jumbo).header.len(), datagram(1, &jumbo).payload.len()), (48, 0));
    assert!(matches!(parse(1, &frame(0, "3b0001000000")), LinkContent::Malformed { outer: Some(_), .. }));
}

#[test]
fn frames_without_ip_have_a_reason() {
    let reason = |link_type, hex: &str| match parse(link_type, &bytes(hex)) {
        LinkContent::NotIp(reason) => reason,
        other => panic!("{other:?}"),
    };
    let macs = "020000000002020000000001";
    assert_eq!(reason(1, &format!("{macs}08060001080006040001")), "ARP");
    assert_eq!(reason(1, &format!("{macs}0026424203000000")), "no EtherType (IEEE 802.2)");
    assert_eq!(reason(1, &format!("{macs}888e0100")), "the EtherType is not IP");
    let too_deep = "more than 32 encapsulations inside each other";
    assert_eq!(reason(1, &format!("{macs}{}0800", "81000001".repeat(33))), too_deep);
    // NSH in NSH.
    assert_eq!(reason(1, &format!("{macs}894f{}", "0fc2020400000001".repeat(40))), too_deep);
    assert_eq!(reason(0, "07000000"), "the address family is not IP");
    // In a netlink message, the protocol number 0x0800 is not an EtherType.
    assert_eq!(reason(113, "00040338000000000000000000000800"), "not an IP interface");
    assert_eq!(reason(147, "4500"), "the link type is not supported");
}

#[test]
fn contradictions_are_faults_with_an_offset() {
    let v4 = "4600001712340000403200000a0000010a0000020000000000000000";
    assert_eq!(
        fault(101, v4),
        (true, Fault::value(Stage::Link, 2, "IPv4 Total Length", 0x17, "the header length or more"))
    );
    let v4 = "44000017123400004032000000000000000000000000";
    assert_eq!(fault(101, v4), (false, Fault::value(Stage::Link, 0, "IHL", 4, "5 or more")));
    assert_eq!(fault(228, &"60".repeat(40)), (false, Fault::value(Stage::Link, 0, "IP version", 6, "4")));
    assert_eq!(fault(229, &"45".repeat(40)), (false, Fault::value(Stage::Link, 0, "IP version", 4, "6")));
    assert_eq!(fault(101, "5500"), (false, Fault::value(Stage::Link, 0, "IP version", 5, "4 or 6")));
    assert_eq!(fault(101, ""), (false, Fault::short(Stage::Link, 0, "IP header", 1, 0)));

    let v6 = |len: u16, next: u8, rest: &str| format!("60000000{len:04x}{next:02x}40{}{rest}", "11".repeat(32));
    // An extension header that is longer than the packet, but not longer than the frame.
    assert_eq!(
        fault(101, &v6(16, 60, &format!("3202{}", "00".repeat(40)))),
        (true, Fault::short(Stage::Link, 40, "IP extension header", 24, 16))
    );
    assert_eq!(
        fault(101, &v6(16, 51, &format!("3200{}", "00".repeat(14)))),
        (true, Fault::value(Stage::Link, 41, "AH Payload Len", 0, "1 or more"))
    );
}

proptest::proptest! {
    /// The fast path finds the same packet as the general one.
    #[test]
    fn the_fast_path_finds_the_same_packets(
        mut packet in proptest::collection::vec(proptest::num::u8::ANY, 40..120),
        first in proptest::sample::select(vec![0x45, 0x46, 0x60, 0x6f]),
        protocol in proptest::sample::select(vec![50, 17, 6, 0, 44, 51, 60]),
        fragment in proptest::sample::select(vec![0, 0x40, 0x20]),
        after in 0usize..8,
        announced in proptest::option::of(proptest::sample::select(vec![IpVersion::V4, IpVersion::V6])),
    ) {
        packet[0] = first;
        let len = (packet.len() - after) as u16;
        let (at, len) = if first >> 4 == 4 { (2, len) } else { (4, len.saturating_sub(40)) };
        packet[at..at + 2].copy_from_slice(&len.to_be_bytes());
        packet[if first >> 4 == 4 { 9 } else { 6 }] = protocol;
        if first >> 4 == 4 {
            packet[6..8].copy_from_slice(&[fragment, 0]);
        }
        let long = match locate(&packet, 0, announced) {
            Ok(Located::Packet(place)) => Some(place),
            _ => None,
        };
        match locate_plain(&packet, 0, announced) {
            Some(place) => proptest::prop_assert_eq!(Some(place), long),
            // All other packets use the general path.
            None => proptest::prop_assert!(
                first == 0x46 || fragment == 0x20 || !matches!(protocol, 50 | 17 | 6) || long.is_none() || len == 0
            ),
        }
    }
}

#[test]
fn fragments_and_atomic_fragments_are_distinguished() {
    // scapy: fragment(..., 16) of 40 bytes after 4 bytes of options, the second fragment.
    let frame =
        bytes("46b90028123420023f325977c0000201c633640701010101101112131415161718191a1b1c1d1e1f00000000000000000000");
    let LinkContent::Fragment(read) = parse(101, &frame) else { panic!() };
    assert_eq!((read.offset, read.more, read.identification), (16, true, 0x1234));
    assert_eq!((read.protocol_offset, read.protocol, read.missing, read.frame_offset), (9, 50, 0, 0));
    assert_eq!((read.header, read.payload), (&frame[..24], &frame[24..40]));

    // IPv6 with destination options and routing header before the Fragment header; the last fragment.
    let frame = bytes(concat!(
        "6b9abcde00383c3d20010db800000000000000000000000120010db8000000000000000000000002",
        "2b000104000000002c0200000000000020010db80000000000000000000000093c00002001020304",
        "18191a1b1c1d1e1f2021222324252627"
    ));
    let LinkContent::Fragment(read) = parse(229, &frame) else { panic!() };
    assert_eq!((read.offset, read.more, read.identification), (32, false, 0x0102_0304));
    assert_eq!((read.protocol_offset, read.protocol, read.missing, read.frame_offset), (48, 60, 0, 0));
    assert_eq!((read.header, read.payload), (&frame[..72], &frame[80..]));
    let LinkContent::Fragment(read) = parse(229, &frame[..84]) else { panic!() };
    assert_eq!((read.payload.len(), read.missing), (4, 12));
}

mod udp {
    use super::*;

    const ADDRESSES: &str = "20010db800000000000000000000000120010db8000000000000000000000002";

    fn encapsulated(hex: &str, cut: usize) -> Result<Option<(Vec<u8>, usize)>, Fault> {
        let packet = bytes(hex);
        let datagram = datagram(101, &packet[..packet.len() - cut]);
        Ok(udp_encapsulation(&datagram, &EspPorts::default())?.map(|udp| {
            assert_eq!(udp.udp_header[..], packet[40..48]);
            (udp.payload.to_vec(), udp.missing)
        }))
    }

    #[test]
    fn either_port_may_be_that_of_esp() {
        for (ports, taken) in [("11941194", true), ("9c401194", true), ("11949c40", true), ("01f401f4", false)] {
            let read = encapsulated(&format!("60000000000c1140{ADDRESSES}{ports}000c0000a1b2c3d4"), 0).unwrap();
            assert_eq!(read, taken.then(|| (bytes("a1b2c3d4"), 0)), "{ports}");
        }
        let icmp = format!("60000000000c3a40{ADDRESSES}11941194000c0000a1b2c3d4");
        assert_eq!(encapsulated(&icmp, 0), Ok(None));
    }

    #[test]
    fn the_udp_length_is_the_limit() {
        let udp = |len: &str| format!("60000000000c1140{ADDRESSES}11941194{len}0000a1b2c3d4");
        assert_eq!(encapsulated(&udp("000a"), 0), Ok(Some((bytes("a1b2"), 0))));
        assert_eq!(encapsulated(&udp("0008"), 0), Ok(Some((vec![], 0))));
        assert_eq!(encapsulated(&udp("0000"), 0), Ok(Some((bytes("a1b2c3d4"), 0))));
        assert_eq!(encapsulated(&udp("000c"), 3), Ok(Some((bytes("a1"), 3))));
        assert_eq!(encapsulated(&udp("000a"), 2), Ok(Some((bytes("a1b2"), 0))));
        let wrong = |got| Fault::value(Stage::Link, 44, "UDP Length", got, "8 to the length of the IP payload");
        assert_eq!(encapsulated(&udp("000d"), 0), Err(wrong(13)));
        assert_eq!(encapsulated(&udp("0007"), 0), Err(wrong(7)));
    }

    #[test]
    fn truncated_headers() {
        let udp = format!("60000000000c1140{ADDRESSES}11941194000c0000a1b2c3d4");
        assert_eq!(encapsulated(&udp, 5), Err(Fault::short(Stage::Link, 40, "UDP header", 8, 7)));
        assert_eq!(encapsulated(&udp, 8), Err(Fault::short(Stage::Link, 40, "UDP header", 8, 4)));
        // The ports are not in the capture.
        assert_eq!(encapsulated(&udp, 9), Ok(None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Frames with some bytes changed and truncated. All results are inside the frame.
    #[test]
    fn damaged_frames(
        which in 0usize..40,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        link_type in prop::option::weighted(0.1, 0u16..300),
    ) {
        let Case { frame: mut damaged, link_type: own, .. } = cases().swap_remove(which);
        for (at, value) in changes {
            let at = at.index(damaged.len());
            damaged[at] = value;
        }
        damaged.truncate(cut.index(damaged.len() * 2 + 1));
        check_invariants(link_type.unwrap_or(own), &damaged);
    }

    #[test]
    fn random_bytes(link_type in 0u16..300, frame in prop::collection::vec(any::<u8>(), 0..200)) {
        check_invariants(link_type, &frame);
    }
}

fn check_invariants(link_type: u16, frame: &[u8]) {
    match parse(link_type, frame) {
        LinkContent::Datagram(read) => {
            let packet = &frame[read.frame_offset..];
            assert_eq!(read.header, &packet[..read.header.len()]);
            assert_eq!(read.payload, &packet[read.header.len()..][..read.payload.len()]);
            assert_eq!(read.header[read.protocol_offset], read.protocol);
            if let Ok(Some(udp)) = udp_encapsulation(&read, &EspPorts::default()) {
                assert_eq!(udp.payload, &read.payload[8..][..udp.payload.len()]);
            }
            let mut out = Vec::new();
            if rebuild(&frame[..read.frame_offset], &read, read.protocol, None, &[read.payload], &mut out).is_ok() {
                let again = datagram(link_type, &out);
                assert_eq!((again.outer, again.payload, again.missing), (read.outer, read.payload, 0));
            }
        }
        LinkContent::Fragment(read) => {
            let packet = &frame[read.frame_offset..];
            assert_eq!(read.header, &packet[..read.header.len()]);
            assert!(read.protocol_offset < read.header.len());
            let mut reassembler = Reassembler::new();
            let mut out = Reassembled::default();
            if let Ok(whole) = reassembler.push(1, 0, &read, &mut out) {
                assert!(!whole);
                assert_eq!(reassembler.finish(), [1]);
            }
        }
        LinkContent::NotIp(reason) => assert!(!reason.is_empty()),
        LinkContent::Malformed { fault, .. } => {
            assert_eq!(fault.stage, Stage::Link);
            assert!(fault.offset <= frame.len() + 1);
        }
    }
}
