//! Encapsulations around ESP: each kind, truncated, damaged, nested and in fragments.

use std::sync::LazyLock;

use super::radio::Taker;
use super::*;
use crate::net::ip;
use crate::net::protocol::{ESP, UDP, UDP_LITE};

/// Name, link type and frame of each line.
static FRAMES: LazyLock<Vec<(&str, u16, Vec<u8>)>> = LazyLock::new(|| {
    let mut lines = include_str!("encapsulations.txt").lines().filter(|line| !line.starts_with('#'));
    let [v4, v6] = ["V4 = ", "V6 = "].map(|name| lines.next().unwrap().strip_prefix(name).unwrap());
    let frame = |line: &'static str| {
        let [name, link_type, frame, ..] = *line.split(" | ").collect::<Vec<_>>() else { panic!("{line}") };
        (name, link_type.parse().unwrap(), bytes(&frame.replace("V4", v4).replace("V6", v6)))
    };
    lines.map(frame).collect()
});

/// The ESP payload that all of them contain.
fn esp() -> Vec<u8> {
    let (_, _, frame) = &FRAMES[0];
    frame[frame.len() - 80..].to_vec()
}

/// The result of a frame for a receiver that looks for ESP.
fn taken<T>(link_type: u16, frame: &[u8], look: impl FnOnce(Received<'_>) -> T) -> T {
    Taker::new(link_type, &Settings::default()).take(frame, look)
}

/// The ESP payload in a packet, from IP or from UDP.
fn esp_of(content: &Content<'_>) -> Option<Vec<u8>> {
    let Content::Datagram(datagram) = content else { return None };
    let udp = udp_encapsulation(datagram, &EspPorts::default()).unwrap_or_default();
    match (datagram.protocol, udp) {
        (ESP, _) => Some(datagram.payload.to_vec()),
        (_, Some(udp)) => Some(udp.payload.to_vec()),
        _ => None,
    }
}

#[test]
fn each_kind() {
    assert_eq!(FRAMES.len(), 103);
    for (name, link_type, frame) in &*FRAMES {
        let link_type = *link_type;
        taken(link_type, frame, |received| {
            assert_eq!(esp_of(&received.content), Some(esp()), "{name}: {:?}", received.content);
            let Content::Datagram(datagram) = received.content else { panic!() };
            assert_eq!(received.link_header.is_empty(), datagram.rebuilt, "{name}");
            assert_eq!(&frame[datagram.frame_offset..][..datagram.header.len()], datagram.header, "{name}");
        });
        // The fast path does not read tunnels.
        let alone = parse_standalone(link_type, frame, |protocol| protocol == ESP);
        if let Some(Standalone::Packet(place)) = alone {
            assert_eq!(place.protocol, ESP, "{name}");
        } else {
            assert!(alone.is_none(), "{name} {alone:?}");
        }
        check_invariants(link_type, frame);
    }
}

#[test]
fn truncated_at_every_byte() {
    for (name, link_type, frame) in &*FRAMES {
        for len in 0..frame.len() {
            taken(*link_type, &frame[..len], |received| {
                if let Some(found) = esp_of(&received.content) {
                    let Content::Datagram(datagram) = received.content else { panic!() };
                    assert!(esp().starts_with(&found) && datagram.missing > 0, "{name} {len}");
                }
            });
        }
    }
}

#[test]
fn frames_are_written_in_place_if_possible() {
    let in_place: Vec<&str> = FRAMES
        .iter()
        .filter(|(_, link_type, frame)| taken(*link_type, frame, |received| !received.link_header.is_empty()))
        .map(|(name, ..)| *name)
        .collect();
    let expected = [
        "Cisco metadata",
        "Cisco metadata in a VLAN, IPv6",
        "VN-Tag",
        "E-tag",
        "R-tag",
        "HSR tag",
        "Cisco HDLC",
        "Cisco HDLC, IPv6 to all",
        "Cisco HDLC with direction",
        "FDDI",
        "ENC",
        "ENC, IPv6",
        "IPoIB",
        "IPoIB, IPv6",
        "ESP in UDP from a VXLAN port",
    ];
    assert_eq!(in_place, expected);
    // Before a packet of the other version, too.
    let v4 = bytes("45000014000000004032000000000000000000000000");
    let v6 = bytes(&format!("6000000000003240{}", "11".repeat(32)));
    for (name, link_type, frame) in FRAMES.iter().filter(|(name, ..)| in_place.contains(name)) {
        let link_header = taken(*link_type, frame, |received| received.link_header.to_vec());
        for packet in [&v4, &v6] {
            let mut out = vec![];
            replace(*link_type, &link_header, packet, &mut out).unwrap();
            assert_eq!(out.len(), link_header.len() + packet.len(), "{name}");
            let read = datagram(*link_type, &out);
            assert_eq!((read.outer.version == IpVersion::V4, read.protocol), (packet[0] == 0x45, ESP), "{name}");
        }
    }
}

/// An IPv4 packet from 198.51.100.1 to 198.51.100.2.
fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = bytes("45000000123400004000000000000000c6336401c6336402");
    packet.drain(12..16);
    packet[9] = protocol;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend_from_slice(payload);
    ip::write_length(&mut packet).unwrap();
    packet
}

fn udp_to(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u16 + 8;
    let mut datagram: Vec<u8> = [50_000, port, len, 0].into_iter().flat_map(u16::to_be_bytes).collect();
    datagram.extend_from_slice(payload);
    v4(UDP, 0, &datagram)
}

fn gre(packet: &[u8]) -> Vec<u8> {
    v4(47, 0, &[&[0, 0, 8, 0], packet].concat())
}

fn vxlan(packet: &[u8]) -> Vec<u8> {
    udp_to(4789, &[&bytes("08000000000007000200000000010200000000020800"), packet].concat())
}

#[test]
fn other_traffic_on_the_port_of_a_tunnel_stays_udp() {
    for port in [1701, 2152, 3544, 4341, 4754, 4789, 4790, 6081, 6635] {
        for payload in [&b""[..], b"\x45", b"GET / HTTP/1.1\r\n\r\n", &[0; 40], &[0xff; 40], &[0x45; 60], &[0x08; 60]] {
            let packet = udp_to(port, payload);
            taken(101, &packet, |received| {
                let Content::Datagram(datagram) = received.content else { panic!("{port} {payload:x?}") };
                assert_eq!((datagram.protocol, datagram.rebuilt, datagram.frame_offset), (UDP, false, 0));
                assert_eq!((&packet[20..], received.unread), (datagram.payload, None));
            });
        }
    }
    // No ESP in the tunnel: the result is the outermost packet.
    let packet = vxlan(&v4(1, 0, b"ping"));
    taken(101, &packet, |received| match received.content {
        Content::Datagram(datagram) => assert_eq!((datagram.protocol, datagram.rebuilt), (UDP, false)),
        other => panic!("{other:?}"),
    });
    // ESP is checked first.
    let mut from_vxlan_port = udp_to(4500, &esp());
    from_vxlan_port[20..22].copy_from_slice(&4789_u16.to_be_bytes());
    taken(101, &from_vxlan_port, |received| {
        assert_eq!(esp_of(&received.content), Some(esp()));
        assert!(matches!(received.content, Content::Datagram(Datagram { rebuilt: false, .. })));
    });
}

#[test]
fn esp_on_a_user_defined_port() {
    let esp_ports = EspPorts::with(&[4789, 4501]);
    let settings = Settings { esp_ports: esp_ports.clone(), ..Settings::default() };
    for packet in [udp_to(4501, &esp()), udp_to(4789, &esp()), gre(&udp_to(4501, &esp()))] {
        Taker::new(101, &settings).take(&packet, |received| {
            let Content::Datagram(datagram) = received.content else { panic!() };
            assert_eq!(udp_encapsulation(&datagram, &esp_ports).unwrap().unwrap().payload, esp());
        });
    }
}

#[test]
fn the_coverage_of_udp_lite() {
    let read = |coverage: u16| {
        let header: Vec<u8> = [4500, 4500, coverage, 0].into_iter().flat_map(u16::to_be_bytes).collect();
        let packet = v4(UDP_LITE, 0, &[&header[..], &esp()].concat());
        udp_encapsulation(&datagram(101, &packet), &EspPorts::default()).map(|udp| udp.unwrap().payload.to_vec())
    };
    for coverage in [0, 8, 9, 88] {
        assert_eq!(read(coverage), Ok(esp()), "{coverage}");
    }
    for coverage in [1, 7, 89] {
        let (what, expected) = ("UDP-Lite Checksum Coverage", "8 to the length of the IP payload");
        assert_eq!(read(coverage), Err(Fault::value(Stage::Link, 24, what, u64::from(coverage), expected)));
    }
}

/// All kinds of encapsulations are counted together.
#[test]
fn the_nesting_depth_is_limited() {
    let nested = |depth: usize, wrap: Wrap| {
        let packet = (0..depth).fold(v4(ESP, 0, &esp()), |packet, _| wrap(&packet));
        taken(101, &packet, |received| (esp_of(&received.content), received.unread))
    };
    let too_deep = (None, Some("more than 32 encapsulations inside each other"));
    // IP in IP counts once; GRE twice: the tunnel and its header; VXLAN three times, with its Ethernet header.
    for (wrap, most) in [((|packet| v4(4, 0, packet)) as Wrap, 32), (gre, 16), (vxlan, 10)] {
        assert_eq!(nested(most, wrap), (Some(esp()), None), "{most}");
        assert_eq!(nested(most + 1, wrap), too_deep, "{most}");
        assert_eq!(nested(500, wrap), too_deep, "{most}");
    }
}

/// A frame full of labels, extension headers or tags is read only once.
#[test]
fn long_headers_take_linear_time() {
    let begun = std::time::Instant::now();
    let ethernet =
        |ether_type: &str, content: &[u8]| [&bytes("020000000002020000000001"), &bytes(ether_type), content].concat();
    let labels = [0, 0, 0, 64].repeat(60_000);
    let gtpu = |content: &[u8]| udp_to(2152, &[&bytes("34ff00000000000700000085"), content].concat());
    for _ in 0..10 {
        taken(1, &ethernet("8847", &labels), |received| assert!(matches!(received.content, Content::Malformed { .. })));
        taken(101, &gtpu(&[1, 0, 0, 0x85].repeat(16_000)), |received| assert_eq!(esp_of(&received.content), None));
        // An extension of length 0 would cause an endless loop.
        taken(101, &gtpu(&[0; 60_000]), |received| assert_eq!(esp_of(&received.content), None));
    }
    assert!(begun.elapsed().as_secs() < 20);
}

/// `packet` in two fragments, the first with `first` bytes.
fn fragments(packet: &[u8], first: usize) -> [Vec<u8>; 2] {
    let (a, b) = packet[20..].split_at(first);
    [v4(packet[9], 0x2000, a), v4(packet[9], (first / 8) as u16, b)]
}

/// The results of a sequence of frames. Fragments are numbers of frames.
fn run(frames: &[Vec<u8>], settings: &Settings) -> Vec<(Option<Vec<u8>>, Vec<u64>)> {
    let mut taker = Taker::new(101, settings);
    let look = |received: Received<'_>| {
        if let Content::Fragment { waits, .. } = received.content {
            assert!(waits && esp_of(&received.content).is_none());
        }
        (esp_of(&received.content), received.fragments.to_vec())
    };
    frames.iter().map(|frame| taker.take(frame, look)).collect()
}

#[test]
fn fragments_in_tunnels() {
    let settings = Settings::default();
    let whole = v4(ESP, 0, &esp());
    for wrap in [gre as Wrap, vxlan, |packet| gre(&vxlan(packet))] {
        let [first, last] = fragments(&whole, 40).map(|fragment| wrap(&fragment));
        assert_eq!(run(&[first.clone(), last.clone()], &settings), [(None, vec![]), (Some(esp()), vec![1, 2])]);
        assert_eq!(run(&[last, first], &settings), [(None, vec![]), (Some(esp()), vec![1, 2])]);
    }
    // Tunnel and packet are both fragmented. Each frame appears once.
    let [first, last] = fragments(&whole, 40).map(|fragment| fragments(&gre(&fragment), 32));
    let frames = [&first[..], &last[..]].concat();
    let mut expected = vec![(None, vec![]); 3];
    expected.push((Some(esp()), vec![1, 2, 3, 4]));
    assert_eq!(run(&frames, &settings), expected);
}

/// A gateway that encrypts packets handles each packet unchanged.
#[test]
fn the_outermost_packet() {
    let settings = Settings { outermost: true, ..Settings::default() };
    let whole = v4(ESP, 0, &esp());
    let [fragment, _] = fragments(&whole, 40).map(|fragment| gre(&fragment));
    for packet in [fragment, gre(&whole), vxlan(&whole), v4(UDP_LITE, 0, &[17, 148, 17, 148, 0, 0, 0, 0, 1, 2, 3, 4])] {
        Taker::new(101, &settings).take(&packet, |received| match received.content {
            Content::Datagram(datagram) => assert_eq!((datagram.payload, datagram.rebuilt), (&packet[20..], false)),
            other => panic!("{other:?}"),
        });
    }
}

/// Fragments of packets without ESP: the frames are written unchanged, and all are reported.
#[test]
fn fragments_of_other_packets_in_tunnels() {
    let [first, last] = fragments(&udp_to(53, &[7; 80]), 40).map(|fragment| gre(&fragment));
    let mut taker = Taker::new(101, &Settings::default());
    taker.take(&first, |received| assert!(matches!(received.content, Content::Fragment { waits: true, .. })));
    taker.take(&last, |received| {
        assert_eq!(received.fragments, [1, 2]);
        assert!(matches!(received.content, Content::Datagram(Datagram { protocol: 47, rebuilt: false, .. })));
    });
    // These fragments are ignored, because their packets cannot contain ESP.
    let [first, _] = fragments(&v4(6, 0, &[7; 80]), 40).map(|fragment| gre(&fragment));
    taken(101, &first, |received| {
        assert!(matches!(received.content, Content::Datagram(Datagram { protocol: 47, .. })));
    });
}

/// Nested fragmentation: as many levels as there are buffers, and no more.
#[test]
fn fragments_in_fragmented_tunnels() {
    let nested = |depth: usize| {
        let mut frames = vec![v4(ESP, 0, &esp())];
        for level in 0..depth {
            let wrapped: Vec<Vec<u8>> =
                frames.iter().map(|packet| if level == 0 { packet.clone() } else { gre(packet) }).collect();
            // Identifications differ, because all have the same addresses.
            frames = wrapped
                .iter()
                .enumerate()
                .flat_map(|(at, packet)| {
                    fragments(packet, 32).map(|mut fragment| {
                        fragment[4..6].copy_from_slice(&[level as u8, at as u8]);
                        ip::write_length(&mut fragment).unwrap();
                        fragment
                    })
                })
                .collect();
        }
        let mut taker = Taker::new(101, &Settings::default());
        let mut last = (None, None);
        let mut shown = vec![];
        for frame in &frames {
            last = taker.take(frame, |received| {
                shown.extend_from_slice(received.fragments);
                (esp_of(&received.content), received.unread)
            });
            shown.extend_from_slice(taker.receiver.given_up());
        }
        shown.sort_unstable();
        assert!(shown.windows(2).all(|pair| pair[0] < pair[1]), "{shown:?}");
        last
    };
    assert_eq!(nested(3), (Some(esp()), None));
    assert_eq!(nested(4), (Some(esp()), None));
    assert_eq!(nested(5).0, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// Frames with some bytes changed and truncated.
    #[test]
    fn damaged(
        which in 0usize..103,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (_, link_type, mut frame) = FRAMES[which].clone();
        for (at, value) in changes {
            let at = at.index(frame.len());
            frame[at] = value;
        }
        frame.truncate(cut.index(frame.len() * 2 + 1));
        check_invariants(link_type, &frame);
        taken(link_type, &frame, |received| check_received(&received, &frame));
    }

    /// Headers of all kinds nested in each other.
    #[test]
    fn nested(wraps in prop::collection::vec(0usize..WRAPS.len(), 0..40)) {
        let packet = wraps.iter().fold(v4(ESP, 0, &esp()), |packet, which| WRAPS[*which](&packet));
        taken(101, &packet, |received| {
            let found = esp_of(&received.content);
            prop_assert_eq!(received.unread.is_some(), found.is_none());
            prop_assert!(found.is_none_or(|found| found == esp()));
            prop_assert!(wraps.len() > 6 || received.unread.is_none());
            Ok(())
        })?;
    }
}

type Wrap = fn(&[u8]) -> Vec<u8>;

const WRAPS: [Wrap; 9] = [
    gre,
    vxlan,
    |packet| v4(4, 0, packet),
    |packet| udp_to(2152, &[&bytes("30ff000000000007"), packet].concat()),
    |packet| udp_to(6081, &[&bytes("0000080000000700"), packet].concat()),
    |packet| udp_to(6635, &[&bytes("00064100"), packet].concat()),
    |packet| udp_to(1701, &[&bytes("000200070008ff030021"), packet].concat()),
    |packet| v4(137, 0, &[&bytes("0006400000064100"), packet].concat()),
    |packet| v4(47, 0, &[&bytes("0000894f0fc20201000000ff"), packet].concat()),
];

fn check_received(received: &Received<'_>, frame: &[u8]) {
    match &received.content {
        Content::Datagram(datagram) => {
            assert!(datagram.protocol_offset < datagram.header.len());
            assert_eq!(datagram.header[datagram.protocol_offset], datagram.protocol);
            assert_eq!(&frame[datagram.frame_offset..][..datagram.header.len()], datagram.header);
            assert!(!datagram.rebuilt || received.link_header.is_empty());
        }
        Content::Malformed { fault, .. } => assert!(fault.offset <= frame.len() + 1),
        Content::Fragment { .. } | Content::NotIp(_) | Content::Repeat { .. } => {}
    }
}
