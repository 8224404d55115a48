//! Fields that rules of dialect `custom` do not restore exactly: the record of a packet names each of them.

use std::fmt::Write;

use dietesp::internals::codec::{Codec, State};

use crate::by_hand::{OUTER_V6, V4_UDP, V6_SCTP, V6_TCP, V6_UDP};
use crate::support::{load, outer, restore};

/// The fields of a header and their offsets in bits.
type Fields = &'static [(&'static str, usize)];

/// RFC 8200 §3, 791 §3.1, 768, 3828 §3.1, 9293 §3.1, 9260 §3.1.
macro_rules! ipv6 {
    ($($class:expr),*; $($addresses:expr),*) => {
        &[
            ("IPV6.VER", 0),
            $($class,)*
            ("IPV6.FL", 12),
            ("IPV6.LEN", 32),
            ("IPV6.NXT", 48),
            ("IPV6.HOP_LMT", 56),
            $($addresses,)*
        ]
    };
}
const IPV6: Fields = ipv6!(("IPV6.TC", 4); ("IPV6.SRC", 64), ("IPV6.DST", 192));
const IPV6_PARTS: Fields = ipv6!(
    ("IPV6.DSCP", 4), ("IPV6.ECN", 10);
    ("IPV6.SRC_PREFIX", 64), ("IPV6.SRC_IID", 128), ("IPV6.DST_PREFIX", 192), ("IPV6.DST_IID", 256)
);
const IPV6_ENDS: Fields = ipv6!(
    ("IPV6.TC", 4);
    ("IPV6.APP_PREFIX", 64), ("IPV6.APP_IID", 128), ("IPV6.DEV_PREFIX", 192), ("IPV6.DEV_IID", 256)
);
const IPV4: Fields = &[
    ("IPV4.VER", 0),
    ("IPV4.IHL", 4),
    ("IPV4.DSCP", 8),
    ("IPV4.ECN", 14),
    ("IPV4.LEN", 16),
    ("IPV4.ID", 32),
    ("IPV4.FLAGS", 48),
    ("IPV4.FRAG", 51),
    ("IPV4.TTL", 64),
    ("IPV4.PROTO", 72),
    ("IPV4.CKSUM", 80),
    ("IPV4.SRC", 96),
    ("IPV4.DST", 128),
];
const UDP: Fields = &[("UDP.SRC_PORT", 0), ("UDP.DST_PORT", 16), ("UDP.LEN", 32), ("UDP.CKSUM", 48)];
const UDP_ENDS: Fields = &[("UDP.APP_PORT", 0), ("UDP.DEV_PORT", 16), ("UDP.LEN", 32), ("UDP.CKSUM", 48)];
const UDPLITE: Fields =
    &[("UDPLITE.SRC_PORT", 0), ("UDPLITE.DST_PORT", 16), ("UDPLITE.COVERAGE", 32), ("UDPLITE.CKSUM", 48)];
const TCP: Fields = &[
    ("TCP.SRC_PORT", 0),
    ("TCP.DST_PORT", 16),
    ("TCP.SEQ", 32),
    ("TCP.ACK", 64),
    ("TCP.DOFF_FLAGS", 96),
    ("TCP.WINDOW", 112),
    ("TCP.CKSUM", 128),
    ("TCP.URG", 144),
];
const SCTP: Fields = &[("SCTP.SRC_PORT", 0), ("SCTP.DST_PORT", 16), ("SCTP.VTAG", 32), ("SCTP.CKSUM", 64)];

/// A tunnel whose rows send every field, except those for which `change` returns the rest of the row.
fn codec(headers: [Fields; 2], change: impl Fn(&str) -> Option<&'static str>) -> Result<Codec, String> {
    let mut rules =
        "contexts:\n  - sa: s\n    dialect: custom\n    ipsec_mode: Tunnel\n    direction: Dw\n    rules:\n      iipc:"
            .to_owned();
    for (fid, _) in headers.concat() {
        let rest = change(fid).unwrap_or("MO: ignore, CDA: value-sent");
        write!(rules, "\n        - {{ FID: {fid}, {rest} }}").unwrap();
    }
    Ok(Codec::new(Some(&load(&rules)?.remove(0)), 1).unwrap())
}

/// The restored `packet`, and what its record says about its fields.
fn through(codec: &Codec, packet: &[u8]) -> (Vec<u8>, Vec<(&'static str, &'static str)>) {
    let carrier = hex::decode(OUTER_V6).unwrap();
    let mut clear = vec![];
    codec.compress(packet, &outer(&carrier).0, &mut State::default(), &mut clear).unwrap();
    let (restored, back) = restore(codec, &clear, &carrier).unwrap();
    (back, restored.sources.iter().map(|(name, source)| (name, source.name())).collect())
}

/// The UDP packet as UDP-Lite with a coverage of 8. The checksum was computed by hand.
fn udplite() -> Vec<u8> {
    let mut packet = hex::decode(V6_UDP.replace("00121140", "00128840")).unwrap();
    packet[44..48].copy_from_slice(&[0, 8, 0x9c, 0xe0]);
    packet
}

#[test]
fn a_lost_field_is_named() {
    let target = |name| vec![(name, "target-value")];
    let v6 = hex::decode(V6_UDP).unwrap();
    let v4 = hex::decode(V4_UDP).unwrap();
    let cases: &[([Fields; 2], Vec<u8>)] = &[
        ([IPV6, UDP], v6.clone()),
        ([IPV6_PARTS, UDP_ENDS], v6.clone()),
        ([IPV6_ENDS, UDP], v6),
        ([IPV4, UDP], v4),
        ([IPV6, UDPLITE], udplite()),
        ([IPV6, TCP], hex::decode(V6_TCP).unwrap()),
        ([IPV6, SCTP], hex::decode(V6_SCTP).unwrap()),
    ];
    let (mut lost, mut refused) = (0, 0);
    for (headers, packet) in cases {
        // Every field is sent.
        assert_eq!(through(&codec(*headers, |_| None).unwrap(), packet), (packet.clone(), vec![]));
        let [ip, transport] = *headers;
        let segment = if ip[0].0 == "IPV4.VER" { 160 } else { 320 };
        let whole = [ip, &transport.iter().map(|(fid, at)| (*fid, at + segment)).collect::<Vec<_>>()].concat();
        for (index, (fid, at)) in whole.iter().copied().enumerate() {
            let name = fid.split_once('.').unwrap();
            let expected = match name {
                ("IPV6" | "IPV4", "VER" | "IHL" | "LEN" | "NXT" | "PROTO" | "FLAGS" | "FRAG") => {
                    // Without these fields the packet could not be rebuilt.
                    let error = codec(*headers, |row| (row == fid).then_some("TV: 3, MO: ignore, CDA: not-sent"));
                    assert!(error.unwrap_err().contains("not-sent needs `equal` here"), "{fid}");
                    refused += 1;
                    continue;
                }
                (_, "TC") => vec![("dscp", "target-value"), ("ecn", "target-value")],
                (_, "DSCP") => target("dscp"),
                (_, "ECN") => target("ecn"),
                (_, "FL") => target("flow_label"),
                (_, "ID") => target("identification"),
                (_, "HOP_LMT") => target("hop_limit"),
                (_, "TTL") => target("ttl"),
                ("IPV4", "CKSUM") => target("header_checksum"),
                // These packets are downlink: from the application to the device.
                (_, "SRC" | "SRC_PREFIX" | "SRC_IID" | "APP_PREFIX" | "APP_IID") => target("src"),
                (_, "DST" | "DST_PREFIX" | "DST_IID" | "DEV_PREFIX" | "DEV_IID") => target("dst"),
                (_, "SRC_PORT" | "APP_PORT") => target("src_port"),
                (_, "DST_PORT" | "DEV_PORT") => target("dst_port"),
                ("UDP", "LEN") => target("udp.length"),
                ("UDP", "CKSUM") => target("udp.checksum"),
                ("UDPLITE", "COVERAGE") => target("udplite.coverage"),
                ("UDPLITE", "CKSUM") => target("udplite.checksum"),
                ("TCP", "SEQ") => target("tcp.sequence"),
                ("TCP", "ACK") => target("tcp.acknowledgment"),
                ("TCP", "DOFF_FLAGS") => target("tcp.flags"),
                ("TCP", "WINDOW") => target("tcp.window"),
                ("TCP", "CKSUM") => target("tcp.checksum"),
                ("TCP", "URG") => target("tcp.urgent_pointer"),
                ("SCTP", "VTAG") => target("sctp.verification_tag"),
                ("SCTP", "CKSUM") => target("sctp.checksum"),
                other => panic!("{other:?}"),
            };
            lost += 1;
            let made = codec(*headers, |row| (row == fid).then_some("TV: 2, MO: ignore, CDA: not-sent")).unwrap();
            let (back, named) = through(&made, packet);
            // The bits of the field come from packet 2, all others are unchanged.
            let end = whole.get(index + 1).map_or_else(|| segment + header_bits(transport), |(_, next)| *next);
            let mut wanted = packet.clone();
            for bit in at..end {
                let mask = 0x80 >> (bit % 8);
                wanted[bit / 8] &= !mask;
                wanted[bit / 8] |= if bit + 2 == end { mask } else { 0 };
            }
            assert_ne!(wanted, *packet, "{fid}");
            assert_eq!((hex::encode(&back), named), (hex::encode(wanted), expected), "{fid}");
        }
    }
    assert_eq!((lost, refused), (74, 24));
}

fn header_bits(transport: Fields) -> usize {
    match transport[0].0.split_once('.').unwrap().0 {
        "TCP" => 160,
        "SCTP" => 96,
        _ => 64,
    }
}

#[test]
fn only_bits_that_are_not_compared_are_lost() {
    let packet = hex::decode(V6_UDP).unwrap();
    let of = |row: &'static str| {
        let codec = codec([IPV6, UDP], |fid| (fid == "UDP.SRC_PORT").then_some(row)).unwrap();
        let (back, named) = through(&codec, &packet);
        assert_eq!(back == packet, named.is_empty());
        named
    };
    assert_eq!(of("TV: 0x1600, MO: MSB(8), CDA: not-sent"), [("src_port", "target-value")]);
    assert_eq!(of("TV: 0x1600, MO: MSB(0), CDA: not-sent"), [("src_port", "target-value")]);
    for exact in [
        "TV: 5683, MO: equal, CDA: not-sent",
        "TV: 5683, MO: MSB(16), CDA: not-sent",
        "TV: 0x1600, MO: MSB(8), CDA: LSB",
        "TV: 0, MO: MSB(0), CDA: LSB",
        "TV: 0x1600, MO: MSB(8), CDA: value-sent",
        "TV: [1, 5683], MO: match-mapping, CDA: mapping-sent",
        "TV: 9, MO: ignore, CDA: value-sent",
    ] {
        assert_eq!(of(exact), [], "{exact}");
    }
}

/// A checksum that is computed over lost fields differs from the original, too.
#[test]
fn a_computed_checksum_depends_on_lost_fields() {
    const LOST: Option<&str> = Some("TV: 2, MO: ignore, CDA: not-sent");
    let named = |headers, packet: &str, lost: &'static [&'static str]| {
        let codec = codec(headers, |fid| match fid {
            _ if lost.contains(&fid) => LOST,
            _ if fid.ends_with("CKSUM") => Some("MO: ignore, CDA: compute-checksum"),
            _ => None,
        });
        let packet = hex::decode(packet).unwrap();
        let (back, named) = through(&codec.unwrap(), &packet);
        assert_eq!(back == packet, lost.is_empty());
        named
    };
    let (target, computed) = ("target-value", "computed");
    let v6_udplite = hex::encode(udplite());
    assert_eq!(named([IPV6, TCP], V6_TCP, &[]), []);
    assert_eq!(named([IPV6, SCTP], V6_SCTP, &[]), []);
    assert_eq!(named([IPV6, UDPLITE], &v6_udplite, &[]), []);
    assert_eq!(named([IPV4, UDP], V4_UDP, &[]), [("udp.checksum", computed)]);
    assert_eq!(named([IPV6, TCP], V6_TCP, &["TCP.WINDOW"]), [("tcp.window", target), ("tcp.checksum", computed)]);
    assert_eq!(named([IPV6, TCP], V6_TCP, &["IPV6.DST"]), [("dst", target), ("tcp.checksum", computed)]);
    // No transport checksum covers these fields.
    assert_eq!(named([IPV6, TCP], V6_TCP, &["IPV6.HOP_LMT"]), [("hop_limit", target)]);
    assert_eq!(
        named([IPV6, UDPLITE], &v6_udplite, &["UDPLITE.DST_PORT"]),
        [("dst_port", target), ("udplite.checksum", computed)]
    );
    assert_eq!(
        named([IPV6, SCTP], V6_SCTP, &["SCTP.VTAG"]),
        [("sctp.verification_tag", target), ("sctp.checksum", computed)]
    );
    let v4 = named([IPV4, UDP], V4_UDP, &["IPV4.TTL"]);
    assert_eq!(v4, [("ttl", target), ("header_checksum", computed), ("udp.checksum", computed)]);
}
