//! Details of the wire format that were ambiguous until random tests against another implementation revealed them.
//! The expected bytes were computed by hand.

use serde_json::{Value, json};

use super::common::{decode, pcap};
use super::lab::{Lab, SAS, ip, udp};

const GCM: &str = "encr: ENCR_AES_GCM_16, salt: \"01020304\"";
const GATEWAYS: [&str; 2] = ["10.0.0.1", "10.0.0.2"];
const V6: [&str; 2] = ["2001:db8:1::1", "2001:db8:2::2"];

fn field<'r>(records: &'r [Value], name: &str) -> Vec<&'r str> {
    records.iter().map(|record| record[name].as_str().unwrap_or_default()).collect()
}

fn warnings(record: &Value) -> Vec<&str> {
    record["warnings"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// A packet with protocol 50 and an ESP payload, between the gateways.
fn frame(esp: &[u8]) -> Vec<u8> {
    ip(GATEWAYS, 50, esp)
}

/// SPI and sequence number of the first SA, 4 bytes each.
fn header(sn: u32) -> Vec<u8> {
    [SAS[0].0.to_be_bytes(), sn.to_be_bytes()].concat()
}

#[test]
fn a_duplicate_has_the_payload_of_the_first_packet_with_its_number() {
    let lab = Lab::new();
    let packet = |data: &[u8]| lab.tunnel(0, 5, &ip(GATEWAYS, 17, &udp([7000, 7001], data)));
    let (first, other, third) = (packet(b"first"), packet(b"other"), packet(b"third"));
    let records = lab.records(&[first.clone(), other.clone(), first, third.clone(), other, third]);
    let all: Vec<Vec<&str>> = records.iter().map(warnings).collect();
    assert_eq!(
        all,
        [vec![], vec!["replayed"], vec!["duplicate"], vec!["replayed"], vec!["replayed"], vec!["replayed"]]
    );
    let of = |record: &Value| record["repeat_of"].as_u64();
    assert_eq!(records.iter().map(of).collect::<Vec<_>>(), [None, None, Some(1), None, None, None]);
}

#[test]
fn an_sa_of_another_protocol_matches_no_packet_on_udp_4500() {
    let context = "  - { sa: s11, dialect: 6lo, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, SPI_SIZE: 4, SN_SIZE: 4";
    let esp = |lab: &Lab| lab.esp(0, 1, 4, &ip(GATEWAYS, 1, &[8, 0, 0, 0]));
    let statuses = |protocol: &str| {
        let lab = Lab::of(&[GCM], &format!("{context}{protocol} }}\n"));
        let number = if protocol.is_empty() { 50 } else { 253 };
        let in_udp = ip(GATEWAYS, 17, &udp([4500, 4500], &esp(&lab)));
        let records = lab.records(&[in_udp, ip(GATEWAYS, number, &esp(&lab))]);
        field(&records, "status").join(" ")
    };
    assert_eq!(statuses(""), "ok ok");
    assert_eq!(statuses(", protocol: 253"), "no-sa ok");
}

/// A context that sends 8 bits of the SPI and no sequence number bits. Everything else is standard ESP.
const WITHOUT_NUMBER: &str =
    "  - { sa: s11, dialect: 6lo, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, SPI_SIZE: 1, SN_SIZE: 0 }\n";

/// Method and tries of packets with these numbers and IVs.
fn found(encr: &str, packets: &[(u64, u64)]) -> Vec<(String, u64)> {
    let lab = Lab::of(&[encr], WITHOUT_NUMBER);
    let clear = [&ip(GATEWAYS, 1, &[8, 0, 0, 0, 0, 0])[..], &[0, 4]].concat();
    let packet = |(sn, iv): &(u64, u64)| frame(&lab.sealed(0, *sn, &iv.to_be_bytes(), &[0x01], &clear));
    let records = lab.records(&packets.iter().map(packet).collect::<Vec<_>>());
    assert!(records.iter().zip(packets).all(|(record, (sn, _))| record["esp"]["sequence"] == *sn), "{records:?}");
    let of = |record: &Value| {
        (record["esp"]["method"].as_str().unwrap().to_owned(), record["esp"]["tries"].as_u64().unwrap())
    };
    records.iter().map(of).collect()
}

#[test]
fn gmac_icvs_reveal_the_number_and_earlier_tries_count() {
    let mask = 0x5555;
    // Out of reach of any search; then found with the mask; then with another mask, which is tried first; then with
    // that one.
    let packets = [(70_000_000, mask ^ 70_000_000), (900, mask ^ 900), (5, 0x77), (6, 0x77 ^ 5 ^ 6)];
    let expected =
        [("icv", 1), ("iv-mask", 1), ("icv", 2), ("iv-mask", 1)].map(|(method, tries)| (method.to_owned(), tries));
    assert_eq!(found("encr: ENCR_NULL_AUTH_AES_GMAC, salt: \"01020304\"", &packets), expected);
    assert_eq!(found(GCM, &packets), expected);
    // If the ICV reveals nothing, the search follows: 4 is tried before 5.
    let search = found("encr: ENCR_AES_CCM_8, salt: \"010203\"", &[(1, mask ^ 1), (3, mask ^ 3), (5, 0x77)]);
    assert_eq!(
        search,
        [("nearest", 1), ("iv-mask", 1), ("nearest", 3)].map(|(method, tries)| (method.to_owned(), tries))
    );
}

/// TCP in transport mode, with one byte of each number sent (dialect `ehc`): both numbers, Data Offset and flags,
/// window, Urgent Pointer, data.
fn tcp(numbers: [u8; 2]) -> Vec<u8> {
    [&numbers[..], &[0x50, 0x10, 1, 2, 0, 0], b"data"].concat()
}

const TCP: &str = "  - { sa: s11, dialect: ehc, ipsec_mode: Transport, ts_proto: TCP, ts_port_src: 7000, ts_port_dst: 7001, \
                   esp_spi_lsb: 4, esp_sn_lsb: 4, esp_align: 8, tcp_lsb: 1, tcp_sn: 0x100, tcp_ack: 0x500 }\n";

/// The restored numbers.
fn numbers(record: &Value) -> Option<[u32; 2]> {
    let packet = hex::decode(record["packet"].as_str()?).unwrap();
    Some([24, 28].map(|at| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap())))
}

#[test]
fn of_equally_near_tcp_numbers_the_larger_is_restored() {
    let lab = Lab::of(&[GCM], TCP);
    let packet = |sn: u32, clear: &[u8]| frame(&lab.sealed(0, sn.into(), &[9; 8], &header(sn), clear));
    // From 0x100 both 0x80 and 0x180 are 0x80 away; from 0x500 that holds for 0x480 and 0x580.
    let records = lab.records(&[packet(1, &tcp([0x80, 0x80]))]);
    assert_eq!(numbers(&records[0]), Some([0x180, 0x580]));
}

#[test]
fn tcp_numbers_ignore_malformed_packets() {
    let lab = Lab::of(&[GCM], TCP);
    let packet = |sn: u32, clear: &[u8]| frame(&lab.sealed(0, sn.into(), &[9; 8], &header(sn), clear));
    let packets = [packet(1, &tcp([0x80, 0x80])), packet(2, &tcp([0xff, 0xff])[..7]), packet(3, &tcp([0x70, 0x70]))];
    let records = lab.records(&packets);
    assert_eq!(field(&records, "status"), ["ok", "malformed", "ok"]);
    // From 0x1ff, which the second packet contains, it would be 0x270.
    assert_eq!(numbers(&records[2]), Some([0x170, 0x570]));
}

#[test]
fn multicast_tcp_numbers_are_kept_per_source() {
    let lab = Lab::of(&[&format!("dst: 224.1.2.3, {GCM}")], TCP);
    let packet = |src: &str, sn: u32, low: u8| {
        ip([src, "224.1.2.3"], 50, &lab.sealed(0, sn.into(), &[9; 8], &header(sn), &tcp([low, low])))
    };
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    let records = lab.records(&[packet(a, 1, 0x80), packet(b, 1, 0x80), packet(a, 2, 0), packet(b, 2, 0x10)]);
    let all: Vec<u32> = records.iter().map(|record| numbers(record).unwrap()[0]).collect();
    // From 0x200, the number of the other source, the last one would be 0x210.
    assert_eq!(all, [0x180, 0x180, 0x200, 0x110]);
}

#[test]
fn a_next_header_outside_the_selectors_is_malformed() {
    let context = "  - { sa: s11, ipsec_mode: Transport, ts_proto: UDP, iipc_profile: iipc_not_compressed, esp_trailer: Mandatory, \
                   alignment: 8 bit, esp_spi_lsb: 32, esp_sn_lsb: 32 }\n";
    let lab = Lab::of(&[GCM], context);
    let packet = |sn: u32, next_header: u8| {
        let clear = [&udp([7000, 7001], b"data")[..], &[0, next_header]].concat();
        frame(&lab.sealed(0, sn.into(), &[9; 8], &header(sn), &clear))
    };
    let records = lab.records(&[packet(1, 17), packet(2, 6), packet(3, 136)]);
    assert_eq!(field(&records, "status"), ["ok", "malformed", "malformed"]);
    assert!(records[1]["reason"].as_str().unwrap().contains("Next Header"), "{}", records[1]);
}

/// Eight bytes of Destination Options: Next Header, length, padding.
fn destination_options(next_header: u8) -> [u8; 8] {
    [next_header, 0, 1, 4, 0, 0, 0, 0]
}

#[test]
fn destination_options_stay_before_or_inside_esp() {
    let context = "  - { sa: s11, ipsec_mode: Transport, esp_trailer: Mandatory, alignment: 8 bit, esp_spi_lsb: 32, esp_sn_lsb: 32 }\n";
    let lab = Lab::of(&[GCM], context);
    // UDP with a correct checksum, so checksum and length are elided. With ANY, both ports are sent.
    let mut datagram = udp([7000, 7001], b"data");
    let addresses = V6.map(|address| address.parse().unwrap());
    let checksum = dietesp::internals::net::checksum::upper_layer(addresses[0], addresses[1], 17, &datagram);
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    let residue = [&datagram[..4], b"data"].concat();

    let before = ip(V6, 60, &[&destination_options(17)[..], &datagram].concat());
    let wire = lab.compress(&before).unwrap();
    assert_eq!((wire[6], &wire[40..48]), (60, &destination_options(50)[..]));
    assert_eq!(wire.len(), 40 + 8 + 8 + 8 + residue.len() + 2 + 16, "no more than UDP is inside");
    assert_eq!(lab.records(&[wire])[0]["packet"], hex::encode(&before));

    // Inside ESP they are payload, and so is the UDP header after them.
    let inside = [&destination_options(17)[..], &datagram].concat();
    let clear = [&inside[..], &[0, 60]].concat();
    let records = lab.records(&[ip(V6, 50, &lab.sealed(0, 1, &[9; 8], &header(1), &clear))]);
    assert_eq!(records[0]["packet"], hex::encode(ip(V6, 60, &inside)));
    assert_eq!(records[0]["inner"]["protocol"], 17);
}

#[test]
fn a_sent_length_determines_the_end_of_the_packet() {
    let context = "  - { sa: s11, ipsec_mode: Tunnel, ts_ip_version: IPv6-only, ts_proto: 58, payload_length_cda: not_compressed, \
                   alignment: 8 bit, esp_spi_lsb: 32, esp_sn_lsb: 32 }\n";
    let lab = Lab::of(&[GCM], context);
    let whole = ip(V6, 58, &[128, 0, 0, 0, 1, 2, 3, 4]);
    // DSCP, ECN and Flow Label are 28 bits, the length 16, the addresses 256; 4 zero bits follow. Hop Limit is the outer one.
    let clear = |length: u16| {
        let digits = hex::encode(&whole);
        let residue = format!("{}{length:04x}{}0", &digits[1..8], &digits[16..80]);
        [&hex::decode(residue).unwrap()[..], &whole[40..]].concat()
    };
    let packet = |sn: u32, length: u16| ip(V6, 50, &lab.sealed(0, sn.into(), &[9; 8], &header(sn), &clear(length)));
    let records = lab.records(&[packet(1, 8), packet(2, 5), packet(3, 9)]);
    assert_eq!(field(&records, "status"), ["ok", "ok", "malformed"]);
    assert_eq!(records[0]["packet"], hex::encode(&whole));
    assert_eq!(records[1]["packet"], hex::encode(ip(V6, 58, &whole[40..45])));
    assert!(records[2]["reason"].as_str().unwrap().contains("length"), "{}", records[2]);
}

/// Contexts that do not compress the transport header, with a range of source ports. `{}` stands for the mode and
/// its addresses.
const UNCOMPRESSED_PORTS: [(&str, u8); 3] = [
    ("ts_proto: ANY, any_transport: none", 17),
    ("ts_proto: ANY, tcp_header: none", 6),
    ("ts_proto: TCP, tcp_header: none", 6),
];

#[test]
fn ports_that_are_not_compressed_are_checked() {
    for (attributes, protocol) in UNCOMPRESSED_PORTS {
        for mode in ["Tunnel", "Transport"] {
            let tunnel = "tunnel_ip: { src: 10.0.0.1, dst: 10.0.0.2 }, ts_ip_version: IPv4-only, flow_label_cda: lower, dscp_cda: lower, ecn_cda: lower,";
            let context = format!(
                "  - {{ sa: s11, ipsec_mode: {mode}, {} {attributes}, ts_port_src: 7000-7003, esp_trailer: Mandatory, alignment: 8 \
                 bit, esp_spi_lsb: 32, esp_sn_lsb: 32 }}\n",
                if mode == "Tunnel" { tunnel } else { "" }
            );
            let lab = Lab::of(&[GCM], &context);
            let inner = |port: u16| {
                // Ports, then any 16 bytes. TCP needs a Data Offset of 5.
                let segment =
                    [&[port, 7001].map(u16::to_be_bytes).concat()[..], &[0, 24, 0, 0], &[0; 4], &[0x50; 12]].concat();
                ip(["10.0.0.3", "10.0.0.4"], protocol, &segment)
            };
            let refused = lab.compress(&inner(6999)).unwrap_err();
            assert!(refused.contains("src_port is 6999, outside 7000 to 7003"), "{mode} {attributes}: {refused}");
            let wire = lab.compress(&inner(7003)).unwrap();
            let record = lab.records(std::slice::from_ref(&wire)).remove(0);
            assert_eq!((record["status"].as_str(), warnings(&record)), (Some("ok"), vec![]), "{mode} {attributes}");

            // The same clear text with another port, which another sender could send.
            let packet = inner(6999);
            let hex = |range: std::ops::Range<usize>| hex::encode(&packet[range]);
            // IHL, Flags and Fragment Offset, protocol if ANY, addresses.
            let any = if attributes.starts_with("ts_proto: ANY") { hex(9..10) } else { String::new() };
            let head = match mode {
                "Tunnel" => format!("5{}{any}{}", hex(6..8), hex(12..20)),
                _ => String::new(),
            };
            let head = if head.len() % 2 == 1 { head + "0" } else { head };
            let next_header = if mode == "Tunnel" { 4 } else { protocol };
            let clear = [&hex::decode(head).unwrap()[..], &packet[20..], &[0, next_header]].concat();
            assert_eq!(20 + 8 + 8 + clear.len() + 16, wire.len());
            let outer = if mode == "Tunnel" { GATEWAYS } else { ["10.0.0.3", "10.0.0.4"] };
            let record = lab.records(&[ip(outer, 50, &lab.sealed(0, 9, &[9; 8], &header(9), &clear))]).remove(0);
            assert_eq!(record["status"], "ok", "{record}");
            assert_eq!(record["inner"]["src_port"], 6999, "{mode} {attributes}");
            assert_eq!(warnings(&record), ["outside-selector"], "{mode} {attributes}");
        }
    }
}

#[test]
fn an_impossible_udp_lite_coverage_is_malformed() {
    for context in [
        "  - { sa: s11, ipsec_mode: Transport, ts_proto: UDP-Lite, udplite_coverage: sent, alignment: 8 bit, esp_spi_lsb: 32, \
         esp_sn_lsb: 32 }\n",
        "  - { sa: s11, dialect: ehc, ipsec_mode: Transport, ts_proto: UDP-Lite, udplite_coverage: uncompressed, esp_align: 8 }\n",
    ] {
        let lab = Lab::of(&[GCM], context);
        let packet = |sn: u32, coverage: u16| {
            let clear = [&[7000, 7001, coverage].map(u16::to_be_bytes).concat()[..], b"data"].concat();
            frame(&lab.sealed(0, sn.into(), &[9; 8], &header(sn), &clear))
        };
        // The datagram has 12 bytes.
        let coverages = [0, 8, 12, 1, 7, 13, 65535];
        let packets: Vec<_> = (1..).zip(coverages).map(|(sn, coverage)| packet(sn, coverage)).collect();
        let records = lab.records(&packets);
        let expected = ["ok", "ok", "ok", "malformed", "malformed", "malformed", "malformed"];
        assert_eq!(field(&records, "status"), expected, "{context}");
        assert!(records[3]["reason"].as_str().unwrap().contains("udplite.coverage is 1, "), "{}", records[3]);
        let back = hex::decode(records[1]["packet"].as_str().unwrap()).unwrap();
        assert_eq!(back[24..26], [0, 8]);
    }
}

const UNCOMPRESSED: &str = "  - { sa: s11, ipsec_mode: Tunnel, tunnel_ip: { src: 10.0.0.1, dst: 10.0.0.2 }, ts_ip_version: IPv4-only, \
                            iipc_profile: iipc_not_compressed, alignment: 8 bit, esp_spi_lsb: 32, esp_sn_lsb: 32 }\n";

#[test]
fn a_wrong_header_checksum_never_matches() {
    let compressed = UNCOMPRESSED.replace("iipc_not_compressed", "iipc_diet-esp");
    for context in [UNCOMPRESSED, &compressed] {
        let lab = Lab::of(&[GCM], context);
        let mut packet = ip(["10.0.0.3", "10.0.0.4"], 1, &[8, 0, 0, 0]);
        assert!(lab.compress(&packet).is_ok());
        packet[11] ^= 1;
        let refused = lab.compress(&packet).unwrap_err();
        assert!(refused.contains("header_checksum"), "{refused}");
    }
}

#[test]
fn uncompressed_data_of_another_version_is_malformed() {
    let lab = Lab::of(&[GCM], UNCOMPRESSED);
    let packet = |sn: u32, clear: &[u8]| frame(&lab.sealed(0, sn.into(), &[9; 8], &header(sn), clear));
    let (v4, v6) = (ip(["10.0.0.3", "10.0.0.4"], 1, &[8, 0, 0, 0]), ip(V6, 58, &[128, 0, 0, 0]));
    let records = lab.records(&[packet(1, &v4), packet(2, &v6)]);
    assert_eq!(field(&records, "status"), ["ok", "malformed"]);
    assert!(records[1]["reason"].as_str().unwrap().contains("version is 6"), "{}", records[1]);
}

#[test]
fn outside_selector_is_reported_in_every_dialect() {
    let selectors = "ts_ip_src: 10.0.1.0/24, ts_ip_dst_start: 10.0.2.4, ts_ip_dst_end: 10.0.2.6";
    let spi_sn = "alignment: 8 bit, esp_spi_lsb: 32, esp_sn_lsb: 32";
    let whole = |last: u8| ip(["10.0.1.7", &format!("10.0.2.{last}")], 1, &[8, 0, 0, 0]);
    let with_trailer = |last: u8| [&whole(last)[..], &[1, 2, 2, 4]].concat();
    let without_padding = |last: u8| [&whole(last)[..], &[0, 4]].concat();
    let ietf = |last: u8| {
        let packet = whole(last);
        let digits = hex::encode(&packet);
        // IHL, DSCP and ECN, Identification, Flags and Offset, protocol, 8 bits of the source, 2 of the destination.
        let residue = format!("5{}{}{}07{:x}", &digits[2..4], &digits[8..16], &digits[18..20], (last & 3) << 2);
        [&hex::decode(residue).unwrap()[..], &packet[20..]].concat()
    };
    let ehc = |last: u8| {
        let packet = whole(last);
        // TOS, Identification, protocol, both addresses whole.
        [&packet[1..2], &packet[4..6], &packet[9..10], &packet[12..]].concat()
    };
    let rows = ["VER", "IHL", "DSCP", "ECN", "LEN", "ID", "FLAGS", "FRAG", "TTL", "PROTO", "CKSUM", "SRC", "DST"]
        .map(|name| format!("{{ FID: IPV4.{name}, MO: ignore, CDA: value-sent }}"))
        .join(", ");
    type Clear<'c> = &'c dyn Fn(u8) -> Vec<u8>;
    let cases: [(String, Clear<'_>); 6] = [
        (format!("dialect: ietf, {selectors}, {spi_sn}"), &ietf),
        (format!("dialect: ietf, {selectors}, {spi_sn}, iipc_profile: iipc_not_compressed"), &whole),
        (format!("dialect: ehc, {selectors}, esp_align: 8"), &ehc),
        (format!("dialect: 6lo, {selectors}"), &with_trailer),
        (format!("dialect: custom, {selectors}, alignment: 8 bit, rules: {{ iipc: [] }}"), &without_padding),
        (format!("dialect: custom, {selectors}, alignment: 8 bit, rules: {{ iipc: [ {rows} ] }}"), &without_padding),
    ];
    for (context, clear) in cases {
        let mode = "sa: s11, ipsec_mode: Tunnel, ts_ip_version: IPv4-only";
        let lab = Lab::of(&[GCM], &format!("  - {{ {mode}, {context} }}\n"));
        let packet = |sn: u32, last: u8| frame(&lab.sealed(0, sn.into(), &[9; 8], &header(sn), &clear(last)));
        let records = lab.records(&[packet(1, 4), packet(2, 7)]);
        let all: Vec<_> = records.iter().map(|record| (record["status"].as_str().unwrap(), warnings(record))).collect();
        assert_eq!(all, [("ok", vec![]), ("ok", vec!["outside-selector"])], "{context}: {records:?}");
        assert_eq!(records[1]["inner"]["dst"], "10.0.2.7", "{context}");
    }
}

#[test]
fn the_number_that_time_predicts_is_rounded_down() {
    let context = "  - { sa: s11, dialect: ehc, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, esp_spi_lsb: 1, esp_sn_lsb: 0, \
                   esp_align: 8, esp_sn_gen: time, esp_sn_period: 10 }\n";
    let lab = Lab::of(&["encr: ENCR_AES_CCM_8_IIV, salt: \"010203\""], context);
    let packet = ip(["10.0.1.7", "10.0.2.4"], 1, &[8, 0, 0, 0]);
    // The outer TTL is restored, and so is Don't Fragment.
    let clear = [&packet[1..2], &packet[4..6], &packet[9..10], &packet[12..]].concat();
    let at = |seconds_10: u64, sn: u64| (seconds_10 * 100_000_000, frame(&lab.sealed(0, sn, &[], &[0x01], &clear)));
    // After 19.9 seconds of periods of 10 seconds one number has passed; after 20.0 more seconds two.
    let path = lab.path("time.pcap");
    pcap::write(&path, pcap::RAW, &[at(10_000, 1), at(10_199, 2), at(10_399, 4)]);
    let [path, keys, rules] = [path, lab.keys(), lab.path("rules.yaml")];
    let (records, _) = decode([path.as_os_str(), "-k".as_ref(), keys.as_os_str(), "-r".as_ref(), rules.as_os_str()]);
    let of = |record: &Value| json!([record["esp"]["sequence"], record["esp"]["method"], record["esp"]["tries"]]);
    assert_eq!(
        records.iter().map(of).collect::<Vec<_>>(),
        [json!([1, "nearest", 1]), json!([2, "time", 1]), json!([4, "time", 1])]
    );
}

#[test]
fn an_empty_datagram_on_port_4500_is_not_esp() {
    // Even if a key would decrypt anything.
    let open = Lab::of(&["encr: ENCR_AES_CTR, salt: \"01020304\", integ: NONE"], "");
    for lab in [Lab::new(), open] {
        let records = lab.records(&[ip(GATEWAYS, 17, &udp([4500, 4500], &[]))]);
        assert_eq!(field(&records, "status"), ["not-esp"]);
    }
}
