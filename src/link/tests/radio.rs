//! IEEE 802.15.4 frames and 6LoWPAN, mostly made by hand. `tests/lowpan` compares many more with tshark.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::capture::{Frame, Interface, Options, Timestamp};
use crate::context::Origin;
use crate::net::LinkAddress;
use crate::net::protocol::{ESP, UDP};
use crate::secret::Secret;

/// A data frame of 2003 from short address 0001 to 0002 in PAN abcd.
const MAC: &str = "4188 2a cdab 0200 0100";
/// Link-local addresses from the MAC header (7b33: all elided except Next Header), ESP, and four bytes.
const IPHC: &str = "7b33 32 01020304";
/// The packet that it restores to.
const PACKET: &str = "60000000 0004 32ff fe80000000000000 000000fffe000001 fe80000000000000 000000fffe000002 01020304";

pub(super) fn hexes(parts: &[&str]) -> Vec<u8> {
    bytes(&parts.concat().replace(' ', ""))
}

/// Receives frames one after the other, a millisecond apart.
pub(super) struct Taker {
    pub(super) receiver: Receiver,
    interface: Arc<Interface>,
    number: u64,
    pub(super) seconds: u64,
}

impl Taker {
    pub(super) fn new(link_type: u16, settings: &Settings) -> Taker {
        Taker { receiver: Receiver::new(settings), interface: Interface::new(link_type), number: 0, seconds: 0 }
    }

    pub(super) fn take<T>(&mut self, data: &[u8], look: impl FnOnce(Received<'_>) -> T) -> T {
        self.number += 1;
        let ticks = self.seconds * 1_000_000_000 + self.number * 1_000_000;
        let packet = Frame {
            number: self.number,
            interface: &self.interface,
            time: Some(Timestamp { ticks, resolution: 9, offset: 0 }),
            orig_len: data.len() as u32,
            data,
            options: Options::default(),
        };
        look(self.receiver.receive(&packet, |protocol| protocol == ESP))
    }

    /// The packet in hex, or the reason why there is none.
    pub(super) fn packet(&mut self, data: &[u8]) -> String {
        self.take(data, |received| match received.content {
            Content::Datagram(datagram) => {
                assert!(datagram.rebuilt && received.link_header.is_empty());
                hex::encode([datagram.header, datagram.payload].concat())
            }
            Content::Fragment { .. } => "fragment".to_owned(),
            Content::NotIp(what) => what.to_owned(),
            Content::Repeat { of } => format!("repeat of {of}"),
            Content::Malformed { fault, .. } => fault.to_string(),
        })
    }
}

fn one(link_type: u16, parts: &[&str]) -> String {
    Taker::new(link_type, &Settings::default()).packet(&hexes(parts))
}

fn packet() -> String {
    PACKET.replace(' ', "")
}

#[test]
fn headers_around_a_frame() {
    let (frame, fcs) = ([MAC, IPHC].concat(), "dead");
    assert_eq!(one(230, &[&frame]), packet());
    // No mode is known, and this is not a CRC, so nothing is removed.
    assert_eq!(one(195, &[&frame]), packet());
    // TAP: FCS type 0 (none), and a TLV that is padded.
    assert_eq!(one(283, &["0000 1400", "0000 0100 00000000", "0a00 0100 7f000000", &frame]), packet());
    // FCS type 1, with a wrong CRC.
    assert!(one(283, &["0000 0c00", "0000 0100 01000000", &frame, fcs]).contains("FCS"));
    assert!(one(215, &["00000000 a7 12", &frame, fcs]).contains("FCS"));
    assert!(one(215, &["00000000 a8 12", &frame, fcs]).contains("delimiter"));
    assert_eq!(one(1, &["020000000001 020000000002 809a", &frame]), packet());
    // Linux cooked capture v1 and v2, ARPHRD_IEEE802154_MONITOR.
    assert_eq!(one(113, &["0000 0325 0008 0000000000000000 00f6", &frame]), packet());
    assert_eq!(one(276, &["00f6 0000 00000002 0325 00 08 0000000000000000", &frame]), packet());
    // ZEP v1 and v2 with CRC mode 1; then a TI radio with CRC_OK set and not set.
    let udp = |zep: &str| {
        let (ip, ports) = ("45000000 00000000 4011 0000 c0000201 c0000202", "455a 455a 0000 0000");
        one(101, &[ip, ports, zep])
    };
    let len = |extra: usize| format!("{:02x}", hexes(&[&frame]).len() + extra);
    let zep2 = |mode: &str| format!("4558 02 01 0b 0001 {mode} ff 0000000000000000 00000001 00000000000000000000");
    assert_eq!(udp(&["4558 01 0b 0001 01 ff 00000000000000", &len(0), &frame].concat()), packet());
    assert_eq!(udp(&[zep2("01").as_str(), &len(0), &frame].concat()), packet());
    assert_eq!(udp(&[&zep2("00"), &len(2), &frame, "11eb"].concat()), packet());
    assert!(udp(&[&zep2("00"), &len(2), &frame, "116b"].concat()).contains("FCS"));
    assert!(udp(&[zep2("01").as_str(), &len(1), &frame].concat()).contains("ZEP frame"));
    assert!(udp("4558").contains("ZEP header"));
}

const ZEP_PORTS: &str = "45000000 00000000 4011 0000 c0000201 c0000202 455a 455a 0000 0000";

#[test]
fn other_datagrams_on_the_port_of_zep_are_udp() {
    for data in ["", "45", "4559", "00000000000000000000000000000000"] {
        let frame = hexes(&[ZEP_PORTS, data]);
        let Some(Standalone::Packet(place)) = parse_standalone(101, &frame, |_| false) else { panic!("{data}") };
        assert_eq!(place.payload(&frame), &frame[20..]);
        let is_whole = |received: Received<'_>| matches!(received.content, Content::Datagram(datagram) if datagram.protocol == UDP && !datagram.rebuilt);
        assert!(Taker::new(101, &Settings::default()).take(&frame, is_whole), "{data}");
    }
}

/// A gateway encrypts packets without unwrapping them.
#[test]
fn the_outermost_packet_is_a_fragment_or_carries_another_one() {
    let settings = Settings { outermost: true, ..Settings::default() };
    let fragment = "45000018 00012000 4011 0000 c0000201 c0000202 00000000";
    let esp_in_tunnel = "4500002c 00000000 4004 0000 c0000201 c0000202 \
                         45000018 00000000 4032 0000 c0000201 c0000202 01020304";
    for (frame, protocol) in [(hexes(&[ZEP_PORTS, "4558"]), 17), (hexes(&[fragment]), 17), (hexes(&[esp_in_tunnel]), 4)]
    {
        let outermost = |received: Received<'_>| match received.content {
            Content::Datagram(datagram) => (datagram.protocol, datagram.rebuilt, datagram.payload.to_vec()),
            other => panic!("{other:?}"),
        };
        let expected = (protocol, false, frame[20..].to_vec());
        assert_eq!(Taker::new(101, &settings).take(&frame, outermost), expected);
    }
}

/// In pcap, which has one link type, `convert` omits radio frames, even those that cannot be read.
#[test]
fn radio_frames_are_recognized_whatever_their_content() {
    for link_type in [187, 195, 201, 215, 230, 251, 254, 256, 270, 272, 283] {
        for frame in ["", "09", "0900040000", "0000000f33bca1000107404040401245"] {
            assert!(parse_standalone(link_type, &hexes(&[frame]), |_| true).is_none(), "{link_type} {frame}");
            let radio = |received: Received<'_>| received.radio;
            assert!(Taker::new(link_type, &Settings::default()).take(&hexes(&[frame]), radio), "{link_type} {frame}");
        }
    }
    let packet = hexes(&["0000000f33bca10001074040404012", PACKET]);
    let radio = |received: Received<'_>| received.radio && matches!(received.content, Content::Datagram(_));
    assert!(Taker::new(270, &Settings::default()).take(&packet, radio));
}

/// 6LoWPAN on Ethernet (RFC 7973): addresses are EUI-64 made of 48 bits.
#[test]
fn lowpan_on_ethernet() {
    assert_eq!(
        one(1, &["001122334455 02aabbccddee a0ed", IPHC]),
        "60000000000432fffe8000000000000000aabbfffeccddeefe80000000000000021122fffe33445501020304"
    );
}

#[test]
fn addresses_reach_the_datagram() {
    let mut taker = Taker::new(230, &Settings::default());
    let link = |received: Received<'_>| match received.content {
        Content::Datagram(datagram) => datagram.link.unwrap(),
        other => panic!("{other:?}"),
    };
    let mac = taker.take(&hexes(&[MAC, IPHC]), link);
    assert_eq!(mac, LinkAddresses { src: Some(LinkAddress::Short(1)), dst: Some(LinkAddress::Short(2)) });
    // A mesh header: originator with 64 bits, final destination with 16.
    let mesh = taker.take(&hexes(&[MAC, "91 02124b0000000009 0007", IPHC]), link);
    let originator = LinkAddress::Extended([2, 0x12, 0x4b, 0, 0, 0, 0, 9]);
    assert_eq!(mesh, LinkAddresses { src: Some(originator), dst: Some(LinkAddress::Short(7)) });
}

/// RFC 8138: critical RPL Packet Information, whole and without InstanceID (I) and with one byte of rank (K), source
/// routing with two addresses of two bytes,
/// and an elective IP-in-IP header, all in page 1.
#[test]
fn routing_headers_are_skipped() {
    assert_eq!(one(230, &[MAC, "f1", "80 05 1e 0040", "83 05 40", "81 01 0003 0004", "a1 06 3f", IPHC]), packet());
    assert!(one(230, &[MAC, "f1", "80 09", IPHC]).contains("critical"));
    assert!(one(230, &[MAC, "f2", IPHC]).contains("page"));
}

/// RFC 6282 §3.2.2: elided parts of an inner address come from the outer address, not from the link layer.
#[test]
fn an_inner_header_takes_its_addresses_from_the_outer_one() {
    // Outer: NH compressed, source with 64 bits in line, destination from the link; EID 7; inner: both elided.
    let inner = "60000000 0002 3240 fe80000000000000 aaaaaaaaaaaaaaaa fe80000000000000 000000fffe000002 0506";
    assert_eq!(one(230, &[MAC, "7f13 aaaaaaaaaaaaaaaa", "ee", "7a33 32", "0506"]), inner.replace(' ', ""));
}

#[test]
fn contexts_are_learned_from_advertisements_unless_given() {
    // Source in context 2 with 16 bits in line, destination link-local from the link.
    let compressed = "7be3 20 32 0009 01020304";
    let with_prefix = |prefix: &str| {
        let rest = "000000fffe000009 fe80000000000000 000000fffe000002 01020304";
        ["60000000 0004 32ff", prefix, rest].concat().replace(' ', "")
    };
    // A router advertisement with 6CO: 48 bits of prefix, C and CID 2, 5 minutes.
    let advertisement = |sum: &str| {
        let sixco = "22 02 30 12 0000 0005 20010db8aaaa0000";
        hexes(&[MAC, "7b33 3a 8600", sum, "40 00 0000 00000000 00000000", sixco])
    };
    let mut taker = Taker::new(230, &Settings::default());
    let unknown = |taker: &mut Taker| {
        let mut frame = hexes(&[MAC, compressed]);
        frame[2] = taker.number as u8;
        taker.take(&frame, |received| received.unknown_context)
    };
    assert!(unknown(&mut taker));
    assert_eq!(taker.packet(&hexes(&[MAC, compressed])), with_prefix("0000000000000000"));
    // With a wrong checksum it is ignored.
    taker.packet(&advertisement("1234"));
    assert!(unknown(&mut taker));
    // The checksum as scapy 2.5 computes it.
    taker.packet(&advertisement(ADVERTISEMENT_CHECKSUM));
    assert!(!unknown(&mut taker));
    let mut again = hexes(&[MAC, compressed]);
    again[2] = 0x99;
    assert_eq!(taker.packet(&again), with_prefix("20010db8aaaa0000"));

    let given = Settings { contexts: BTreeMap::from([(2, ("fd02::".parse().unwrap(), 64))]), ..Settings::default() };
    let mut taker = Taker::new(230, &given);
    taker.packet(&advertisement(ADVERTISEMENT_CHECKSUM));
    assert_eq!(taker.packet(&again), with_prefix("fd02000000000000"));
}

const ADVERTISEMENT_CHECKSUM: &str = "1423";

/// Zeros, also for the length of a multicast address's prefix (RFC 3306 §4).
#[test]
fn an_address_of_an_unknown_context() {
    let expected = "60000000 0004 32ff fe80000000000000 000000fffe000001 ff05000000000000 0000000001020304 01020304";
    assert_eq!(one(230, &[MAC, "7b3c 32 05 00 01020304 01020304"]), expected.replace(' ', ""));
}

/// A capture of two networks: contexts advertised in one are not used in the other. A frame without PAN ID belongs
/// to the only known network.
#[test]
fn contexts_are_valid_in_one_network() {
    let advertisement = |prefix: &str, sum: &str| {
        let sixco = ["22 02 30 12 0000 0005", prefix, "0000"].concat();
        ["7b33 3a 8600", sum, "40 00 0000 00000000 00000000", &sixco].concat()
    };
    let data = "7be3 20 32 0009 01020304";
    let (one, other) = ("4188 07 cdab 0200 0100", "4188 07 3412 0200 0100");
    // 2015, both addresses extended, PAN ID compression: no PAN ID.
    let none = "41ec 08 0200000000000002 0100000000000002";
    let mut taker = Taker::new(230, &Settings::default());
    let prefix = |taker: &mut Taker, mac: &str, number: u8| {
        let mut frame = hexes(&[mac, data]);
        frame[2] = number;
        taker.take(&frame, |received| {
            let known = !received.unknown_context;
            match received.content {
                Content::Datagram(datagram) => (known, hex::encode(&datagram.header[8..14])),
                other => panic!("{other:?}"),
            }
        })
    };
    let unknown = (false, "000000000000".to_owned());
    let first = (true, "20010db8aaaa".to_owned());
    assert_eq!(prefix(&mut taker, one, 1), unknown);
    taker.packet(&hexes(&[one, &advertisement("20010db8aaaa", ADVERTISEMENT_CHECKSUM)]));
    assert_eq!(
        (prefix(&mut taker, one, 2), prefix(&mut taker, other, 2), prefix(&mut taker, none, 2)),
        (first.clone(), unknown.clone(), first.clone())
    );
    // The checksum differs by the sum of aaaa and bbbb: 1111.
    taker.packet(&hexes(&[other, &advertisement("20010db8bbbb", "0312")]));
    let second = (true, "20010db8bbbb".to_owned());
    assert_eq!(
        (prefix(&mut taker, one, 3), prefix(&mut taker, other, 3), prefix(&mut taker, none, 3)),
        (first, second, unknown)
    );
}

/// Fragments of `PACKET` with a longer payload: 40 + 24 bytes, 48 of them in the first.
fn fragments(tag: &str, fill: u8) -> [Vec<u8>; 3] {
    let eight = |fill: u8| format!("{fill:02x}").repeat(8);
    [
        hexes(&[MAC, "c040", tag, "7b33 32", &eight(fill)]),
        hexes(&[MAC, "e040", tag, "06", &eight(fill + 1)]),
        hexes(&[MAC, "e040", tag, "07", &eight(fill + 2)]),
    ]
}

fn whole(fill: u8) -> String {
    let payload: String = (fill..fill + 3).map(|fill| format!("{fill:02x}").repeat(8)).collect();
    packet().replace("0004", "0018").replacen("01020304", &payload, 1)
}

#[test]
fn a_reused_tag_starts_another_packet() {
    let mut taker = Taker::new(230, &Settings::default());
    let [a, b, c] = fragments("0001", 0x10);
    for (frame, expected) in [(&c, "fragment"), (&a, "fragment"), (&b, &whole(0x10))] {
        assert_eq!(taker.packet(frame), expected);
    }
    // The same tag with other bytes: after a complete packet, and in the middle of another one.
    let [a, b, _] = fragments("0001", 0x20);
    assert_eq!(taker.packet(&a), "fragment");
    assert_eq!(taker.packet(&b), "fragment");
    let [a, b, c] = fragments("0001", 0x30);
    for (frame, expected) in [(&a, "fragment"), (&b, "fragment"), (&c, &whole(0x30))] {
        assert_eq!(taker.packet(frame), expected);
    }
}

#[test]
fn fragments_may_overlap_repeat_and_expire() {
    let mut taker = Taker::new(230, &Settings::default());
    let [a, b, c] = fragments("0001", 0x10);
    assert_eq!(taker.packet(&a), "fragment");
    assert_eq!(taker.packet(&a), "repeat of 1");
    // Offset 48, 16 bytes: the first copy of the first eight wins.
    assert_eq!(taker.packet(&b), "fragment");
    let overlapping = hexes(&[MAC, "e040 0001 06", &"ee".repeat(8), &"12".repeat(8)]);
    assert_eq!(taker.packet(&overlapping), whole(0x10));

    let [a, b, _] = fragments("0002", 0x10);
    assert_eq!((taker.packet(&a), taker.packet(&b)), ("fragment".to_owned(), "fragment".to_owned()));
    taker.seconds += 61;
    let [_, _, late] = fragments("0002", 0x10);
    assert_eq!(taker.packet(&late), "fragment");
    let _ = c;
    let beyond = hexes(&[MAC, "e040 0003 07", &"ee".repeat(9)]);
    assert!(taker.packet(&beyond).contains("end of the 6LoWPAN fragment"));
}

#[test]
fn memory_is_bounded() {
    let mut taker = Taker::new(230, &Settings::default());
    for tag in 0..3000u16 {
        let [first, ..] = fragments(&format!("{tag:04x}"), 0x10);
        assert_eq!(taker.packet(&first), "fragment");
    }
    let [_, b, c] = fragments("0bb7", 0x10);
    assert_eq!((taker.packet(&b), taker.packet(&c)), ("fragment".to_owned(), whole(0x10)));
    // Removed long ago.
    let [_, b, c] = fragments("0001", 0x10);
    assert_eq!((taker.packet(&b), taker.packet(&c)), ("fragment".to_owned(), "fragment".to_owned()));
}

#[test]
fn a_packet_truncated_by_the_snap_length_lacks_bytes() {
    let mut taker = Taker::new(230, &Settings::default());
    let frame = hexes(&[MAC, IPHC]);
    taker.number = 1;
    let packet = Frame {
        number: 1,
        interface: &taker.interface.clone(),
        time: Some(Timestamp { ticks: 0, resolution: 9, offset: 0 }),
        orig_len: frame.len() as u32 + 10,
        data: &frame,
        options: Options::default(),
    };
    match taker.receiver.receive(&packet, |_| true).content {
        Content::Datagram(datagram) => assert_eq!((datagram.missing, datagram.payload.len()), (10, 4)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_fcs_is_decided_by_the_first_frames() {
    let frames: Vec<Vec<u8>> = (0..20u8)
        .map(|number| {
            let mut frame = hexes(&[MAC, IPHC, "11", "eb"]);
            frame[2] = number;
            frame
        })
        .collect();
    let interface = Interface::new(195);
    let packets = || {
        (1..).zip(&frames).map(|(number, data)| Frame {
            number,
            interface: &interface,
            time: Some(Timestamp { ticks: 0, resolution: 9, offset: 0 }),
            orig_len: data.len() as u32,
            data,
            options: Options::default(),
        })
    };
    for (fcs, expected_len) in [(Fcs::Auto, 4), (Fcs::Ti, 4), (Fcs::None, 6)] {
        let mut receiver = Receiver::new(&Settings { fcs, ..Settings::default() });
        receiver.survey(packets());
        for packet in packets() {
            match receiver.receive(&packet, |_| true).content {
                Content::Datagram(datagram) => assert_eq!(datagram.payload.len(), expected_len),
                other => panic!("{fcs:?} {other:?}"),
            }
        }
    }
    let mut receiver = Receiver::new(&Settings { fcs: Fcs::Crc, ..Settings::default() });
    let first = packets().next().unwrap();
    assert!(matches!(receiver.receive(&first, |_| true).content, Content::Malformed { .. }));
}

#[test]
fn tunnels_before_esp() {
    let esp = "60000000 0004 3240 20010db8000000000000000000000001 20010db8000000000000000000000002 01020304";
    let udp = "60000000 0004 1140 20010db8000000000000000000000001 20010db8000000000000000000000002 01020304";
    let v4 = |protocol: &str, payload: &str| {
        let len = 20 + payload.replace(' ', "").len() / 2;
        ["4500", &format!("{len:04x}"), "00000000 40", protocol, "0000 c0000201 c0000202", payload].concat()
    };
    let take = |hex: String| {
        let mut taker = Taker::new(101, &Settings::default());
        taker.take(&hexes(&[&hex]), |received| match received.content {
            Content::Datagram(datagram) => (datagram.protocol, datagram.rebuilt, datagram.frame_offset),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(take(v4("29", esp)), (ESP, true, 20));
    assert_eq!(take(v4("04", &v4("29", esp))), (ESP, true, 40));
    assert_eq!(take(v4("2f", &["0000 86dd", esp].concat())), (ESP, true, 24));
    assert_eq!(take(v4("2f", &["b000 86dd 12340000 00000007 00000001", esp].concat())), (ESP, true, 36));
    // No ESP in the tunnel: the outermost packet is unchanged.
    assert_eq!(take(v4("29", udp)), (41, false, 0));
    assert_eq!(take(v4("2f", &["0001 880b", esp].concat())), (47, false, 0));
}

/// A frame of 2015 without Frame Counter, encrypted by another AES-CCM implementation with the ASN in its nonce.
/// tshark 4.0 decrypts it, too.
#[test]
fn link_layer_security() {
    let (tap, frame) = (
        "000018000000010000000000070008000504030201000000",
        "49e807cdab020101000d06004b12026d01b0bc6904da0d1773fefc71",
    );
    let key = |eui64: &str, index| LinkKey {
        eui64: bytes(eui64).try_into().unwrap(),
        short: None,
        mode: 1,
        index: Some(index),
        key: Secret::new(b"0123456789abcdef".to_vec()),
        origin: Origin { path: Path::new("keys").into(), line: 1 },
    };
    let with = |link_keys| Taker::new(283, &Settings { link_keys, ..Settings::default() });
    let clear = "60000000000432fffe8000000000000000124b00060d0001fe80000000000000000000fffe00010201020304";
    assert_eq!(with(vec![key("02124b00060d0001", 1)]).packet(&hexes(&[tap, frame])), clear);
    // A key shared by the network, given for another node.
    assert_eq!(with(vec![key("02124b00060d0002", 1)]).packet(&hexes(&[tap, frame])), clear);
    let refused = |link_keys, tap: &str, frame: &str| with(link_keys).packet(&hexes(&[tap, frame]));
    assert!(refused(vec![], tap, frame).contains("no link key"));
    assert!(refused(vec![key("02124b00060d0001", 2)], tap, frame).contains("no link key"));
    assert!(refused(vec![key("02124b00060d0001", 1)], "00000400", frame).contains("no ASN"));
    let damaged = format!("{}00", &frame[..frame.len() - 2]);
    assert!(refused(vec![key("02124b00060d0001", 1)], tap, &damaged).contains("the MIC verifies under no"));
    // Level 1 is readable without a key: the four bytes of MIC are removed.
    let readable = ["4998 2a cdab 0200 0100", "09 01000000 01", IPHC, "deadbeef"].concat();
    assert_eq!(refused(vec![], "00000400", &readable), packet());
    assert!(refused(vec![key("02124b00060d0001", 1)], "00000400", &readable).contains("the MIC verifies under no"));
}

/// Level 4 has no MIC that could verify the key, so the file assigns the short address to a key. Encrypted by
/// another AES-CCM implementation.
#[test]
fn a_short_address_given_with_its_key() {
    let frame = "49982acdab020001000c0500000001012a06927049ea";
    let with = |short| {
        let key = LinkKey {
            eui64: bytes("02124b00060d0001").try_into().unwrap(),
            short,
            mode: 1,
            index: Some(1),
            key: Secret::new(b"0123456789abcdef".to_vec()),
            origin: Origin { path: std::path::Path::new("keys").into(), line: 1 },
        };
        Taker::new(230, &Settings { link_keys: vec![key], ..Settings::default() }).packet(&hexes(&[frame]))
    };
    assert_eq!(with(Some(1)), packet());
    assert!(with(None).contains("no link key"));
    assert!(with(Some(2)).contains("no link key"));
}

fn settings() -> Settings {
    let key = LinkKey {
        eui64: [2, 0x12, 0x4b, 0, 0, 0, 0, 9],
        short: None,
        mode: 1,
        index: Some(1),
        key: Secret::new(vec![7; 16]),
        origin: Origin { path: Path::new("keys").into(), line: 1 },
    };
    Settings { link_keys: vec![key], ..Settings::default() }
}

proptest! {
    /// Damaged frames cause no panic. Most of these inputs start like a frame.
    #[test]
    fn damaged_radio_frames(
        link_type in prop::sample::select(vec![195u16, 215, 230, 283, 1, 113, 276, 101]),
        frames in prop::collection::vec(
            (0..6usize, prop::collection::vec(any::<u8>(), 0..120), prop::collection::vec((any::<u16>(), any::<u8>()), 0..4)),
            1..12,
        ),
    ) {
        let mut taker = Taker::new(link_type, &settings());
        for (kind, rest, damage) in frames {
            let start = match kind {
                0 => hexes(&[MAC, IPHC]),
                1 => hexes(&[MAC, "c060 0001 7f33 e1 06 fd0001020304"]),
                2 => hexes(&[MAC, "e060 0001 05"]),
                // 2015, secured, with IEs and without a sequence number.
                3 => hexes(&["49a3 cdab 0200 0100 0d 01000000 01 003f"]),
                4 => hexes(&[MAC, "f1 8205 1e0040 81 01 0003 0004 7fff f7 ee 7b33 32"]),
                _ => vec![],
            };
            let header = match link_type {
                215 => hexes(&["00000000 a7 40"]),
                283 => hexes(&["0000 0c00 0000 0100 00000000"]),
                1 => hexes(&["020000000001 020000000002 809a"]),
                113 => hexes(&["0000 0325 0008 0000000000000000 00f6"]),
                276 => hexes(&["00f6 0000 00000002 0325 00 08 0000000000000000"]),
                101 => hexes(&["45000000 00000000 4011 0000 c0000201 c0000202 455a 455a 0000 0000",
                    "4558 01 0b 0001 01 ff 00000000000000 40"]),
                _ => vec![],
            };
            let mut frame = [header, start, rest].concat();
            for (at, byte) in damage {
                let len = frame.len().max(1);
                if let Some(to) = frame.get_mut(usize::from(at) % len) {
                    *to = byte;
                }
            }
            taker.take(&frame, |received| {
                // The result can be examined in any case.
                if let Content::Datagram(datagram) = &received.content {
                    prop_assert!(received.link_header.len() <= frame.len());
                    prop_assert!(datagram.protocol_offset < datagram.header.len());
                }
                Ok(())
            })?;
        }
    }
}
