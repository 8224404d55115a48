//! The dialects `ehc`, `6lo` and `custom`: bytes computed by hand, clear texts of an independent implementation,
//! and invalid rule files.

use std::collections::HashMap;
use std::path::Path;

use dietesp::internals::codec::{Codec, Mismatch, State};
use dietesp::internals::context::*;
use dietesp::internals::net::IpHeaders;
use dietesp::internals::schc::fields;
use dietesp::internals::schc::{Action, Direction, FieldDescriptor, Matching, Rule, Target};
use serde_json::Value;

use crate::by_hand::{COAP, OUTER_V4, OUTER_V6, V4_OPTIONS, V4_UDP, V6_TCP, V6_UDP};
use crate::support::{data, hex, load, outer, restore};

/// One session between the addresses and ports of the packets of `by_hand`.
const ONE_V6: &str = "
    ipsec_mode: Tunnel
    ts_ip_version: IPv6-only
    ts_ip_src: 2001:db8:a::10
    ts_ip_dst: 2001:db8:b::1";
const ONE_V4: &str = "
    ipsec_mode: Tunnel
    ts_ip_version: IPv4-only
    ts_ip_src: 10.10.0.5
    ts_ip_dst: 10.20.0.1";
const ONE_UDP: &str = "
    ts_proto: UDP
    ts_port_src: 5683
    ts_port_dst: 61617";
const ONE_TCP: &str = "
    ts_proto: TCP
    ts_port_src: 50002
    ts_port_dst: 1883";

/// The context with these lines.
fn context(lines: &[&str]) -> Context {
    let rules = format!("contexts:\n  - sa: s{}", lines.concat());
    load(&rules).unwrap_or_else(|error| panic!("{error}\n{rules}")).remove(0)
}

fn codec(lines: &[&str]) -> Codec {
    Codec::new(Some(&context(lines)), 1).unwrap()
}

fn compress(codec: &Codec, packet: &str, carrier: &str) -> Result<String, Mismatch> {
    let mut clear = vec![1];
    let packet = hex::decode(packet).unwrap();
    codec.compress(&packet, &outer(&hex::decode(carrier).unwrap()).0, &mut State::default(), &mut clear)?;
    Ok(hex::encode(clear))
}

/// Checks both directions. `carrier` is an outer header with the packet's own values in the copied fields.
fn both_ways(codec: &Codec, packet: &str, clear: &str, carrier: &str) {
    assert_eq!(compress(codec, packet, carrier).unwrap(), clear);
    let (_, back) = restore(codec, &hex::decode(clear).unwrap(), &hex::decode(carrier).unwrap()).unwrap();
    assert_eq!(hex::encode(back), packet);
}

fn field(codec: &Codec, packet: &str) -> &'static str {
    compress(codec, packet, OUTER_V6).unwrap_err().field
}

#[test]
fn ehc_ip_and_udp() {
    let ehc = "\n    dialect: ehc\n    esp_align: 8";
    // One UDP session: only the CoAP message is sent.
    let one = codec(&[ehc, ONE_V6, ONE_UDP]);
    both_ways(&one, V6_UDP, COAP, OUTER_V6);
    // Inside an outer IPv4 header, the first 4 bytes are sent.
    both_ways(&one, V6_UDP, &format!("6b912345{COAP}"), OUTER_V4);
    let (restored, _) = restore(&one, &hex::decode(COAP).unwrap(), &hex::decode(OUTER_V6).unwrap()).unwrap();
    let sources: Vec<_> = restored.sources.iter().map(|(name, source)| (name, source.name())).collect();
    let outer = "outer";
    assert_eq!(
        sources,
        [("dscp", outer), ("ecn", outer), ("flow_label", outer), ("hop_limit", outer), ("udp.checksum", "computed")]
    );
    // An invalid version, in a packet that should be IPv6.
    let fault = restore(&one, &hex::decode(format!("4b912345{COAP}")).unwrap(), &hex::decode(OUTER_V4).unwrap());
    assert!(fault.unwrap_err().to_string().contains("version is 4"));

    // With a range, the whole port is sent, and the selector checks it.
    let range = codec(&[ehc, ONE_V6, "\n    ts_proto: UDP\n    ts_port_src: 5680-5690\n    ts_port_dst: 61617"]);
    both_ways(&range, V6_UDP, &format!("1633{COAP}"), OUTER_V6);
    let other = V6_UDP.replace("1633f0b1001219bb", "1640f0b1001219ae");
    assert_eq!(field(&range, &other), "src_port");
    // Destination and protocol are not specified: Next Header and destination are sent, and the segment unchanged.
    let any = codec(&[ehc, "\n    ipsec_mode: Tunnel\n    ts_ip_version: IPv6-only\n    ts_ip_src: 2001:db8:a::10"]);
    both_ways(&any, V6_UDP, &format!("1120010db8000b000000000000000000011633f0b1001219bb{COAP}"), OUTER_V6);
    // Selectors also check fields that no rule compares.
    let ports = codec(&[ehc, ONE_V6, "\n    ts_port_src: 5684"]);
    assert_eq!(field(&ports, V6_UDP), "src_port");

    // IPv4: TOS and Identification.
    let v4 = codec(&[ehc, ONE_V4, ONE_UDP]);
    both_ways(&v4, V4_UDP, &format!("b91234{COAP}"), OUTER_V6);
    both_ways(&v4, V4_UDP, &format!("b91234{COAP}"), OUTER_V4);
    assert_eq!(field(&v4, V4_OPTIONS), "ihl");
    // Don't Fragment not set; the header checksum goes up by 4000.
    assert_eq!(field(&v4, &V4_UDP.replace("4000401113b7", "0000401153b7")), "flags");
    assert_eq!(field(&one, V4_UDP), "version");
    assert_eq!(field(&v4, V6_UDP), "version");
    assert_eq!(field(&one, &V6_UDP.replace("001219bb", "001219bc")), "udp.checksum");

    // Transport mode: the segment only.
    let transport = codec(&[ehc, "\n    ipsec_mode: Transport", ONE_UDP]);
    let carrier = V6_UDP.replace("00121140", "00123240");
    both_ways(&transport, V6_UDP, COAP, &carrier);
    let unknown = codec(&[ehc, "\n    ipsec_mode: Transport\n    ts_port_src: 5683"]);
    both_ways(&unknown, V6_UDP, &format!("1633f0b1001219bb{COAP}11"), &carrier);
}

#[test]
fn ehc_trailer_and_header() {
    let of = |attributes: &str, block| {
        let context = context(&["\n    dialect: ehc", ONE_V6, ONE_UDP, attributes]);
        Codec::new(Some(&context), block).unwrap()
    };
    // 32 bits by default: 10 bytes, 1 of Padding, Pad Length: 12. No Next Header.
    both_ways(&of("", 1), V6_UDP, &format!("{COAP}0101"), OUTER_V6);
    // 24 bits: 10 + 1 + 1 = 12; with a block of 16 a multiple of 48: 37 of Padding.
    both_ways(&of("\n    esp_align: 24", 1), V6_UDP, &format!("{COAP}0101"), OUTER_V6);
    let padding: String = (1..=37).map(|byte| format!("{byte:02x}")).collect();
    both_ways(&of("\n    esp_align: 24", 16), V6_UDP, &format!("{COAP}{padding}25"), OUTER_V6);
    both_ways(&of("\n    esp_align: 16", 1), V6_UDP, &format!("{COAP}0101"), OUTER_V6);
    // Without padding, the cipher still has a block size: 10 + 5 + 1.
    both_ways(&of("\n    esp_align: 8", 16), V6_UDP, &format!("{COAP}010203040505"), OUTER_V6);

    let header = |attributes: &str| {
        let mut out = vec![];
        of(attributes, 1).encode_header(0xa1b2_c3d4, 0x0102_0304_0506_0708, &mut out);
        hex::encode(out)
    };
    assert_eq!(header(""), "a1b2c3d405060708");
    assert_eq!(header("\n    esp_spi_lsb: 2\n    esp_sn_lsb: 3"), "c3d4060708");
    assert_eq!(header("\n    esp_spi_lsb: 0\n    esp_sn_lsb: 1"), "08");
    assert_eq!(header("\n    esp_spi_lsb: 0\n    esp_sn_lsb: 0"), "");
}

#[test]
fn ehc_tcp() {
    // Data Offset 8 and control bits 8018, Window 1000... sequence 7c6ac6f2, acknowledgment 11378018, Data Offset and
    // flags 8018, Window 1000, checksum 7666, urgent pointer 55aa.
    let options = "0101080a0000000200000007";
    let data = "70312f74";
    let of = |attributes: &str| codec(&["\n    dialect: ehc\n    esp_align: 8", ONE_V6, ONE_TCP, attributes]);
    both_ways(&of(""), V6_TCP, &format!("7c6ac6f21137801880181000{}{options}{data}", "55aa"), OUTER_V6);
    let near = |bytes: u8, sn: &str| of(&format!("\n    tcp_lsb: {bytes}\n    tcp_sn: {sn}\n    tcp_ack: 0x11380000"));
    // c6f2 below 7c6b0000, 8018 below 11380000.
    let two = near(2, "0x7c6b0000");
    both_ways(&two, V6_TCP, &format!("c6f280188018100055aa{options}{data}"), OUTER_V6);
    both_ways(
        &near(3, "0"),
        &V6_TCP.replace("7c6ac6f2", "006ac6f2").replace("10007666", "1000f266"),
        &format!("6ac6f23780188018100055aa{options}{data}"),
        OUTER_V6,
    );
    // Half of the range or more cannot be distinguished from a step back.
    both_ways(&near(2, "0x7c6a46f3"), V6_TCP, &format!("c6f280188018100055aa{options}{data}"), OUTER_V6);
    assert_eq!(field(&near(2, "0x7c6a46f2"), V6_TCP), "tcp.sequence");
    assert_eq!(field(&near(2, "0x7c6b46f2"), V6_TCP), "tcp.sequence");
    assert_eq!(field(&near(1, "0x7c6ac6f0"), V6_TCP), "tcp.acknowledgment");
    assert!(two.is_stateful() && !of("").is_stateful());

    assert_eq!(field(&of("\n    tcp_options: False"), V6_TCP), "tcp.flags");
    assert_eq!(field(&of("\n    tcp_urgent: False"), V6_TCP), "tcp.urgent_pointer");
    // No options, nothing urgent: byte 12 is 50. The checksum goes up by 3000 + 55aa.
    let plain = V6_TCP.replace("80181000766655aa", "50181000fc100000");
    let short = of(
        "\n    tcp_options: False\n    tcp_urgent: False\n    tcp_lsb: 2\n    tcp_sn: 0x7c6ac000\n    tcp_ack: 0x11378000",
    );
    both_ways(&short, &plain, &format!("c6f28018181000{options}{data}"), OUTER_V6);
}

/// Lost and reordered numbers are restored as long as the jumps are within the range.
#[test]
fn ehc_tcp_numbers_follow_the_packets() {
    let codec = codec(&["\n    dialect: ehc\n    esp_align: 8\n    tcp_lsb: 2", ONE_V6, ONE_TCP]);
    let packet = |sequence: u32| {
        let mut bytes = hex::decode(V6_TCP).unwrap();
        bytes[44..48].copy_from_slice(&sequence.to_be_bytes());
        bytes[48..52].fill(0);
        bytes[56..58].fill(0);
        let (src, dst) = (outer(&bytes).0.src, outer(&bytes).0.dst);
        let sum = dietesp::internals::net::checksum::upper_layer(src, dst, 6, &bytes[40..]);
        bytes[56..58].copy_from_slice(&sum.to_be_bytes());
        bytes
    };
    let carrier = hex::decode(OUTER_V6).unwrap();
    let (outer, header_len, protocol_offset) = outer(&carrier);
    let carrier = IpHeaders { outer: &outer, header: &carrier[..header_len], protocol_offset };
    // Steps of 7000 with 16 bits, past 2^32.
    let sent: Vec<u32> = (0..20u32).map(|step| 0u32.wrapping_sub(21_000).wrapping_add(step * 7000)).collect();
    let mut state = State::default();
    let clear: Vec<Vec<u8>> = sent
        .iter()
        .map(|sequence| {
            let mut clear = vec![];
            codec.compress(&packet(*sequence), &outer, &mut state, &mut clear).unwrap();
            clear
        })
        .collect();
    // Lost: 2, 3, 4 (a jump of 28000), 10. Reordered: 6 and 7; late: 12. Repeated: 15.
    let arrived = [0, 1, 5, 7, 6, 8, 9, 11, 13, 14, 12, 15, 15, 16];
    let mut state = State::default();
    let mut rebuilt = vec![];
    for index in arrived {
        codec.restore(&clear[index], &carrier, &mut state, &mut rebuilt).unwrap();
        assert_eq!(rebuilt, packet(sent[index]), "packet {index}");
    }
    // After a truncated packet, the state is unchanged.
    let before = state;
    assert!(codec.restore(&clear[16][..6], &carrier, &mut state, &mut rebuilt).is_err());
    assert_eq!(state, before);
    // So is it after a packet that does not match.
    assert!(codec.compress(&packet(sent[16].wrapping_add(32768)), &outer, &mut state, &mut rebuilt).is_err());
    assert_eq!(state, before);
    codec.compress(&packet(sent[16].wrapping_add(32767)), &outer, &mut state, &mut rebuilt).unwrap();
    assert_ne!(state, before);
}

#[test]
fn ehc_udplite() {
    // 18 bytes; checksums over all of it (coverage 18 or 0) and over 12 bytes.
    let packet =
        |coverage_and_checksum: &str| V6_UDP.replace("00121140", "00128840").replace("001219bb", coverage_and_checksum);
    let one = "\n    ts_proto: UDP-Lite\n    ts_port_src: 5683\n    ts_port_dst: 61617";
    let of = |coverage: &str| {
        codec(&["\n    dialect: ehc\n    esp_align: 8", ONE_V6, one, "\n    udplite_coverage: ", coverage])
    };
    for coverage_and_checksum in ["00121944", "00001956", "000c5ad4"] {
        let coverage = &coverage_and_checksum[..4];
        both_ways(&of("uncompressed"), &packet(coverage_and_checksum), &format!("{coverage}{COAP}"), OUTER_V6);
    }
    both_ways(&of("Length"), &packet("00121944"), COAP, OUTER_V6);
    assert_eq!(compress(&of("Length"), &packet("00001956"), OUTER_V6).unwrap(), COAP);
    assert_eq!(field(&of("Length"), &packet("000c5ad4")), "udplite.coverage");
    // min(agreed, length).
    both_ways(&of("12"), &packet("000c5ad4"), COAP, OUTER_V6);
    both_ways(&of("100"), &packet("00121944"), COAP, OUTER_V6);
    assert_eq!(field(&of("12"), &packet("00121944")), "udplite.coverage");
    assert_eq!(field(&of("100"), &packet("00001956")), "udplite.coverage");
    assert_eq!(field(&of("12"), &packet("000c5ad5")), "udplite.checksum");
}

#[test]
fn sixlo() {
    let of = |attributes: &str| codec(&["\n    dialect: 6lo\n    ipsec_mode: Tunnel", attributes]);
    // 58 bytes of packet and 2 of trailer are 60, a multiple of 4 but not of 8.
    both_ways(&of(""), V6_UDP, &format!("{V6_UDP}0029"), OUTER_V4);
    both_ways(&of("\n    ALIGN: 64"), V6_UDP, &format!("{V6_UDP}010203040429"), OUTER_V6);
    both_ways(&of("\n    ALIGN: 8"), V6_UDP, &format!("{V6_UDP}0029"), OUTER_V6);
    both_ways(&of("\n    NH: removed"), V6_UDP, &format!("{V6_UDP}0101"), OUTER_V6);
    both_ways(&of("\n    PAD: removed\n    ALIGN: 8"), V4_UDP, &format!("{V4_UDP}04"), OUTER_V6);
    both_ways(&of("\n    NH: removed\n    PAD: removed\n    ALIGN: 8"), V6_UDP, V6_UDP, OUTER_V6);
    let transport =
        codec(&["\n    dialect: 6lo\n    ipsec_mode: Transport\n    NH: removed\n    ALIGN: 8\n    ts_proto: UDP"]);
    let carrier = V6_UDP.replace("00121140", "00123240");
    both_ways(&transport, V6_UDP, &format!("1633f0b1001219bb{COAP}00"), &carrier);

    let mut out = vec![];
    of("\n    SPI_SIZE: 2\n    SN_SIZE: 3").encode_header(0xa1b2_c3d4, 0x0102_0304, &mut out);
    assert_eq!(hex::encode(out), "c3d4020304");
    assert!(of("").clear_text_is_standard());
    assert!(!of("\n    ALIGN: 8").clear_text_is_standard());
    // A cipher with blocks needs padding. This is only known with its keys.
    let blocks = context(&["\n    dialect: 6lo\n    ipsec_mode: Tunnel\n    PAD: removed\n    ALIGN: 8"]);
    let error = Codec::new(Some(&blocks), 16).unwrap_err().to_string();
    assert!(error.ends_with("ESP.PAD: `PAD: removed` needs `ALIGN: 8` and a cipher without blocks"), "{error}");
}

/// The rows of RFC 8724 that leave only the hop limit of one UDP session.
const CUSTOM_V6_UDP: &str = "
    dialect: custom
    ipsec_mode: Tunnel
    rules:
      iipc:
        - { FID: IPV6.VER, FL: 4, TV: 6, MO: equal, CDA: not-sent }
        - { FID: IPV6.TC, TV: [0, 0xb8, 0xb9], MO: match-mapping, CDA: mapping-sent }
        - { FID: IPV6.FL, TV: 0x12000, MO: MSB, MO.VAL: 8, CDA: LSB }
        - { FID: IPV6.LEN, MO: ignore, CDA: compute-length }
        - { FID: IPV6.NXT, TV: 17, MO: equal, CDA: not-sent }
        - { FID: IPV6.HOP_LMT, MO: ignore, CDA: value-sent }
        - { FID: IPV6.SRC_PREFIX, TV: \"2001:db8:a::/64\", MO: equal, CDA: not-sent }
        - { FID: IPV6.SRC_IID, TV: \"::10\", MO: MSB, MO.VAL: 60, CDA: LSB }
        - { FID: IPV6.DST, TV: \"2001:db8:b::1\", MO: equal, CDA: not-sent }
        - { FID: UDP.SRC_PORT, TV: [5683, 5684], MO: match-mapping, CDA: mapping-sent }
        - { FID: UDP.DST_PORT, TV: 61616, MO: MSB(12), CDA: LSB }
        - { FID: UDP.LEN, MO: ignore, CDA: compute-length }
        - { FID: UDP.CKSUM, MO: ignore, CDA: compute-checksum }";

#[test]
fn custom_rules() {
    let ctec = |next_header: &str, pad: &str| {
        format!(
            "\n      ctec:
        - {{ FID: ESP.PAD, MO: ignore, CDA: {pad} }}
        - {{ FID: ESP.PAD_LEN, MO: ignore, CDA: {pad} }}
        - {{ FID: ESP.NXT, {next_header} }}"
        )
    };
    let of = |ctec: &str| codec(&[CUSTOM_V6_UDP, ctec]);
    // Traffic Class b9 is index 2 (10), the low 12 bits of the Flow Label 345, Hop Limit 40, of the source 0000, source
    // port index 0 (0), of the destination port 0001: 10 001101000101 01000000 0000 0 0001 and 1 bit to a whole byte:
    // 1000110100010101 0000000000000010. All other residues stand in front of the payload, those of the trailer behind.
    let front = "8d150002";
    let none = of(&ctec("TV: 41, MO: equal, CDA: not-sent", "compute"));
    both_ways(&none, V6_UDP, &format!("{front}{COAP}"), OUTER_V4);
    both_ways(&of(&ctec("MO: ignore, CDA: value-sent", "not-sent")), V6_UDP, &format!("{front}{COAP}29"), OUTER_V4);
    // Index 1 of two is one bit, at the front of its byte.
    let index = of(&ctec("TV: [4, 41], MO: match-mapping, CDA: mapping-sent", "not-sent"));
    both_ways(&index, V6_UDP, &format!("{front}{COAP}80"), OUTER_V4);
    // An index of the only value has no bits, and needs no byte.
    let only = of(&ctec("TV: [41], MO: match-mapping, CDA: mapping-sent", "not-sent"));
    both_ways(&only, V6_UDP, &format!("{front}{COAP}"), OUTER_V4);
    // 41 is 00101001: the low 3 bits, 001.
    let low = of(&ctec("TV: 40, MO: MSB(5), CDA: LSB", "not-sent"));
    both_ways(&low, V6_UDP, &format!("{front}{COAP}20"), OUTER_V4);
    let odd = restore(&low, &hex::decode(format!("{front}{COAP}21")).unwrap(), &hex::decode(OUTER_V4).unwrap());
    assert_eq!(odd.unwrap().0.warnings.names().collect::<Vec<_>>(), ["nonzero-pad-bits"]);
    // Padding: 64 bit by default. 4 + 10 + 1 + 1 = 16, so no Padding is needed.
    let sent = of(&ctec("MO: ignore, CDA: value-sent", "value-sent"));
    both_ways(&sent, V6_UDP, &format!("{front}{COAP}0029"), OUTER_V4);
    both_ways(&of(""), V6_UDP, &format!("{front}{COAP}0029"), OUTER_V4);
    let wide = of(&(ctec("TV: 41, MO: equal, CDA: not-sent", "value-sent") + "\n    alignment: 32 bit"));
    both_ways(&wide, V6_UDP, &format!("{front}{COAP}0101"), OUTER_V4);

    for (packet, field) in [
        (V6_UDP.replace("6b9", "6ba"), "traffic_class"),
        (V6_UDP.replace("6b912345", "6b913345"), "flow_label"),
        (V6_UDP.replace("00000010", "00000020"), "src"),
        (V6_UDP.replace("1633f0b1001219bb", "1633f0a1001219cb"), "dst_port"),
        (V6_UDP.replace("1633f0b1001219bb", "1635f0b1001219b9"), "src_port"),
        (V6_UDP.replace("00121140", "00128840"), "next_header"),
        (V4_UDP.into(), "version"),
    ] {
        assert_eq!(compress(&none, &packet, OUTER_V4).unwrap_err().field, field, "{packet}");
    }
    // Index 3 of three values.
    let fault = restore(&none, &hex::decode(format!("cd150002{COAP}")).unwrap(), &hex::decode(OUTER_V4).unwrap());
    assert!(fault.unwrap_err().to_string().contains("traffic_class is 3"));

    // Transport mode, with rows for both directions. The device's port 5683 is elided, whichever port it is.
    let both = "
    dialect: custom
    ipsec_mode: Transport
    rules:
      iipc:
        - { FID: UDP.DEV_PORT, TV: 5683, MO: equal, CDA: not-sent }
        - { FID: UDP.APP_PORT, DI: Up, MO: ignore, CDA: value-sent }
        - { FID: UDP.APP_PORT, DI: Dw, TV: 0xf000, MO: MSB(8), CDA: LSB }
        - { FID: UDP.LEN, MO: ignore, CDA: compute }
        - { FID: UDP.CKSUM, MO: ignore, CDA: compute }
      ctec:
        - { FID: ESP.PAD, MO: ignore, CDA: compute }
        - { FID: ESP.PAD_LEN, MO: ignore, CDA: compute }
        - { FID: ESP.NXT, MO: ignore, CDA: compute }";
    let carrier = V6_UDP.replace("00121140", "00123240");
    let up = codec(&[both, "\n    direction: Up"]);
    both_ways(&up, V6_UDP, &format!("f0b1{COAP}"), &carrier);
    let down = codec(&[both, "\n    direction: Dw"]);
    both_ways(&down, &V6_UDP.replace("1633f0b1", "f0b11633"), &format!("b1{COAP}"), &carrier);
    assert_eq!(compress(&down, V6_UDP, &carrier).unwrap_err().field, "dst_port");
}

#[test]
fn custom_esp_header() {
    let row = |fid, target, matching, action| FieldDescriptor::new(fid, target, matching, action);
    let low = |fid, lsb: u16| row(fid, Target::Empty, Matching::Msb(32 - lsb), Action::Lsb);
    let header = |spi: FieldDescriptor, sn: FieldDescriptor| {
        let mut context = context(&["\n    dialect: 6lo\n    ipsec_mode: Tunnel"]);
        context.dialect = Dialect::Custom(Custom {
            iipc: Rule { fields: vec![] },
            ctec: Rule { fields: vec![] },
            eec: Rule { fields: vec![spi, sn] },
            direction: Direction::Both,
            alignment: 4,
        });
        let codec = Codec::new(Some(&context), 1).map_err(|error| error.to_string())?;
        let mut out = vec![];
        codec.encode_header(0xa1b2_c3d4, 0x1_0203_0485, &mut out);
        codec.spi_residue(0xa1b2_c3d4).map_err(|mismatch| mismatch.to_string())?;
        Ok::<_, String>((hex::encode(out), codec.spi_bits(), codec.sn_bits(), codec.clear_text_is_standard()))
    };
    let spi = |target| FieldDescriptor::new(fields::ESP_SPI, target, Matching::Msb(24), Action::Lsb);
    let ok = |text: &str, spi, sn| Ok((text.to_owned(), spi, sn, true));
    assert_eq!(header(low(fields::ESP_SPI, 8), low(fields::ESP_SEQ, 8)), ok("d485", 8, 8));
    assert_eq!(header(spi(Target::Value(0xa1b2_c300)), low(fields::ESP_SEQ, 16)), ok("d40485", 8, 16));
    assert_eq!(
        header(spi(Target::Value(0xa1b2_c400)), low(fields::ESP_SEQ, 16)).unwrap_err(),
        "spi is 2712847316, not 2712847360"
    );
    assert_eq!(
        header(FieldDescriptor::sent(fields::ESP_SPI), FieldDescriptor::sent(fields::ESP_SEQ)),
        ok("a1b2c3d402030485", 32, 32)
    );
    assert_eq!(header(FieldDescriptor::equal(fields::ESP_SPI, 0xa1b2_c3d4), low(fields::ESP_SEQ, 8)), ok("85", 0, 8));
    // Index 2 of 3 is 10, then 6 bits of the number: 000101.
    let list = Target::List(vec![1, 2, 0xa1b2_c3d4]);
    let mapped = row(fields::ESP_SPI, list, Matching::MatchMapping, Action::MappingSent);
    assert_eq!(header(mapped.clone(), low(fields::ESP_SEQ, 6)), ok("85", 2, 6));
    assert!(
        header(mapped, low(fields::ESP_SEQ, 8))
            .unwrap_err()
            .contains("10 bits of SPI and Sequence Number are sent, which is not a whole number of bytes")
    );
}

#[test]
fn invalid_rule_files_are_rejected() {
    let error = |lines: &[&str]| {
        let rules = format!("contexts:\n  - sa: s\n    ipsec_mode: Tunnel{}", lines.concat());
        load(&rules).err().unwrap_or_else(|| panic!("taken:\n{rules}"))
    };
    let ehc = "\n    dialect: ehc\n    ts_ip_version: IPv6-only";
    for (lines, expected) in [
        ("\n    esp_spi_lsb: 8", "6:18: esp_spi_lsb: not a number from 0 to 4"),
        ("\n    esp_align: 64", "6:16: esp_align: not a valid alignment"),
        ("\n    esp_sn_gen: time", "2:5: a context without `esp_sn_period`"),
        ("\n    esp_sn_period: 60", "6:20: esp_sn_period: requires `esp_sn_gen: time`"),
        ("\n    esp_sn_gen: time\n    esp_sn_period: 0", "7:20: esp_sn_period: not a number of seconds"),
        ("\n    esp_sn_gen: time\n    esp_sn_period: 1e400", "7:20: esp_sn_period: not a number of seconds"),
        ("\n    udplite_coverage: 7", "6:23: udplite_coverage: not a valid coverage"),
        ("\n    tcp_options: 3", "6:18: tcp_options: neither true nor false"),
        ("\n    alignment: 8 bit", "6:5: unknown key `alignment` in a context"),
    ] {
        assert_eq!(error(&[ehc, lines]), expected);
    }
    assert_eq!(error(&["\n    dialect: ehc"]), "2:5: a context without `ts_ip_version`");
    let time = context(&[ehc, "\n    ipsec_mode: Tunnel\n    esp_sn_gen: time\n    esp_sn_period: 0.5"]);
    assert_eq!(time.sn_period(), Some(std::time::Duration::from_millis(500)));
    assert_eq!(error(&["\n    dialect: 6lo\n    PAD: removed"]), "5:10: PAD: alignment requires padding");
    let transport = load("contexts:\n  - { sa: s, dialect: 6lo, ipsec_mode: Transport, NH: removed }");
    assert_eq!(transport.unwrap_err(), "2:7: a context without `ts_proto`");

    let custom = |rows: &str| error(&["\n    dialect: custom\n    rules:", rows]);
    let without = |row: &str| {
        let rules = format!("contexts:\n  - sa: s{}", CUSTOM_V6_UDP.replace(row, "#"));
        let kept: Vec<&str> = rules.lines().filter(|line| !line.contains('#')).collect();
        load(&kept.join("\n")).unwrap_err()
    };
    assert_eq!(error(&["\n    dialect: custom"]), "2:5: a context without `rules`");
    assert_eq!(without("IPV6.LEN"), "10:11: iipc: IPV6.NXT: the row of IPV6.LEN is missing before it");
    let with = |old: &str, new: &str| {
        assert!(CUSTOM_V6_UDP.contains(old));
        load(&format!("contexts:\n  - sa: s{}", CUSTOM_V6_UDP.replace(old, new))).unwrap_err()
    };
    assert_eq!(with("FL: 4,", "FL: 8,"), "7:11: iipc: IPV6.VER: its length must be 4 bits");
    assert_eq!(with("IPV6.HOP_LMT,", "IPV6.HOP_LMT, FL: var,"), "12:11: iipc: IPV6.HOP_LMT: its length must be 8 bits");
    assert_eq!(
        with("IPV6.VER,", "IPV6.VER, FP: 2,"),
        "7:11: iipc: IPV6.VER: the header has this field once: FP must be 1"
    );
    assert_eq!(with("TV: 6,", "TV: 4,"), "7:11: iipc: IPV6.VER: its target value must be the IP version of the header");
    assert_eq!(
        with("UDP.LEN, MO: ignore, CDA: compute-length", "UDP.SRC_PORT, MO: ignore, CDA: value-sent"),
        "18:11: iipc: UDP.SRC_PORT: its row must come earlier, or is repeated"
    );
    assert_eq!(with("UDP.LEN", "IPV6.LEN"), "17:11: iipc: UDP.DST_PORT: the row of UDP.LEN is missing after it");
    assert_eq!(without("UDP.CKSUM"), "18:11: iipc: UDP.LEN: the row of UDP.CKSUM is missing after it");
    assert_eq!(without("IPV6.SRC_IID"), "14:11: iipc: IPV6.DST: the row of IPV6.SRC_IID is missing before it");
    let swapped = CUSTOM_V6_UDP.replace("IPV6.NXT, TV: 17", "IPV6.NXT, TV: 6");
    let swapped = load(&format!("contexts:\n  - sa: s{swapped}")).unwrap_err();
    assert_eq!(swapped, "11:11: iipc: IPV6.NXT: its target value is 6, but the next rows or `ts_proto` require 17");
    let ignored = CUSTOM_V6_UDP.replace("TV: 17, MO: equal", "TV: 17, MO: ignore");
    let ignored = load(&format!("contexts:\n  - sa: s{ignored}")).unwrap_err();
    assert!(ignored.starts_with("11:11: iipc: IPV6.NXT: not-sent needs `equal` here"), "{ignored}");
    for (rows, expected) in [
        (
            "\n      iipc: [{ FID: UDP.LEN, MO: ignore, CDA: compute }]",
            "6:14: iipc: the rows of the IP header are missing before this row",
        ),
        (
            "\n      eec:\n      - { FID: ESP.SPI, MO: ignore, CDA: value-sent }\n      - { FID: ESP.SEQ, TV: [1, 2], MO: match-mapping, CDA: mapping-sent }",
            "8:9: eec: ESP.SEQ: use value-sent, not-sent, or MSB with LSB, because every packet has another number",
        ),
        (
            "\n      eec:\n      - { FID: ESP.SPI, MO: ignore, CDA: value-sent }\n      - { FID: ESP.SEQ, TV: 7, MO: equal, CDA: not-sent }",
            "8:9: eec: ESP.SEQ: use `ignore` or `MSB`, because every packet has another number",
        ),
        (
            "\n      eec:\n      - { FID: ESP.SPI, MO: ignore, CDA: value-sent }\n      - { FID: ESP.SEQ, TV: 0, MO: MSB(30), CDA: LSB }",
            "8:9: eec: 34 bits of SPI and Sequence Number are sent, which is not a whole number of bytes",
        ),
        (
            "\n      eec:\n      - { FID: ESP.SEQ, MO: ignore, CDA: value-sent }",
            "7:9: eec: ESP.SEQ: the rows must be ESP.SPI, ESP.SEQ, in this order",
        ),
        (
            "\n      ctec:\n      - { FID: ESP.PAD, MO: ignore, CDA: compute }",
            "7:9: ctec: the row of ESP.PAD_LEN is missing",
        ),
        (
            "\n      ctec:\n      - { FID: ESP.PAD, MO: ignore, CDA: value-sent }\n      - { FID: ESP.PAD_LEN, MO: ignore, CDA: compute }\n      - { FID: ESP.NXT, MO: ignore, CDA: value-sent }",
            "8:9: ctec: ESP.PAD_LEN: send either both ESP.PAD and ESP.PAD_LEN, or neither",
        ),
        (
            "\n      ctec:\n      - { FID: ESP.PAD, MO: ignore, CDA: compute }\n      - { FID: ESP.PAD_LEN, MO: ignore, CDA: compute }\n      - { FID: ESP.NXT, MO: ignore, CDA: value-sent }\n    alignment: 32 bit",
            "7:9: ctec: ESP.PAD: it can be omitted only with `alignment: 8 bit` and a cipher without blocks",
        ),
        (
            "\n      ctec:\n      - { FID: ESP.PAD, MO: ignore, CDA: compute, DI: Up }",
            "7:9: ctec: ESP.PAD: it depends on the direction: add `direction: Up` or `direction: Dw`",
        ),
    ] {
        assert_eq!(custom(rows), expected);
    }
}

/// A case of an independent implementation.
struct Case {
    contexts: HashMap<String, Context>,
    blocks: HashMap<String, usize>,
    expected: Vec<Value>,
    captured: Vec<Vec<u8>>,
    original: Vec<Vec<u8>>,
}

impl Case {
    fn read(folder: &Path) -> Case {
        let [keys, rules] = ["keys.yaml", "rules.yaml"].map(|name| folder.join(name));
        let loaded = dietesp::internals::files::load(&[keys], &[rules]).unwrap();
        let contexts = loaded.contexts.into_iter().map(|context| match &context.sa {
            SaReference::Name(name) => (name.clone(), context),
            SaReference::Spi { .. } => unreachable!(),
        });
        let block = |sa: &dietesp::internals::sa::Sa| dietesp::internals::cipher::EspCipher::new(&sa.keys).block();
        let expected = std::fs::read_to_string(folder.join("expected.jsonl")).unwrap();
        let pcap = folder.join("capture.pcap");
        let capture = if pcap.exists() { pcap } else { folder.join("capture.pcapng") };
        Case {
            contexts: contexts.collect(),
            blocks: loaded.sas.iter().map(|sa| (sa.name.clone(), block(sa))).collect(),
            expected: expected.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
            captured: packets(&capture),
            original: packets(&folder.join("original.pcap")),
        }
    }
}

/// The IP packets of a capture of link type RAW or Ethernet.
fn packets(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = dietesp::internals::capture::Reader::open(path).unwrap();
    let mut window = dietesp::internals::capture::Window::default();
    let mut packets = vec![];
    while reader.fill(&mut window).unwrap() {
        for packet in window.frames() {
            let skip = if packet.link_type() == 1 { 14 } else { 0 };
            packets.push(packet.data[skip..].to_vec());
        }
    }
    packets
}

#[test]
fn clear_texts_of_the_cases() {
    let cases = data("diet-cases/decode");
    for (name, frames) in [("34-ehc-single-udp", 37), ("35-ehc-single-tcp", 56), ("40-6lo-sizes", 45)] {
        let case = Case::read(&cases.join(name));
        let mut states: HashMap<&str, [State; 2]> = HashMap::new();
        assert_eq!(case.expected.len(), frames);
        for (frame, expected) in case.expected.iter().enumerate() {
            let sa = expected["sa"].as_str().unwrap();
            let codec = Codec::new(Some(&case.contexts[sa]), case.blocks[sa]).unwrap();
            let [sender, receiver] = states.entry(sa).or_default();
            let carrier = &case.captured[frame];
            let (outer, header_len, protocol_offset) = outer(carrier);
            let carrier = IpHeaders { outer: &outer, header: &carrier[..header_len], protocol_offset };
            let clear = hex(&expected["x_clear"]);
            let original = &case.original[expected["x_original"].as_u64().unwrap() as usize - 1];
            let mut made = vec![];
            codec.compress(original, &outer, sender, &mut made).unwrap_or_else(|mismatch| panic!("{name}: {mismatch}"));
            assert_eq!(hex::encode(&made), hex::encode(&clear), "{name}, frame {}", frame + 1);
            codec.restore(&clear, &carrier, receiver, &mut made).unwrap();
            assert_eq!(hex::encode(&made), expected["packet"].as_str().unwrap(), "{name}, frame {}", frame + 1);
        }
    }
}

/// The tables generated by an `ietf` or `ehc` context, written as rules of a `custom` context, produce the same
/// bytes.
#[test]
fn custom_rules_copied_from_another_dialect() {
    let cases = data("diet-cases");
    let mut folders: Vec<_> =
        std::fs::read_dir(cases.join("decode")).unwrap().flatten().map(|case| case.path()).collect();
    folders.push(cases.join("compress/01-ietf-tunnel"));
    let (mut compared, mut refused, mut contexts) = (0, 0, 0);
    for folder in folders {
        let rules = std::fs::read_to_string(folder.join("rules.yaml")).unwrap();
        let is_ehc = folder.ends_with("34-ehc-single-udp");
        if !is_ehc && !rules.contains("dialect: ietf") {
            continue;
        }
        // With ehc, the copied fields depend on the version of the outer header, which rows cannot express.
        let carriers: &[&str] = if is_ehc { &[OUTER_V6] } else { &[OUTER_V6, OUTER_V4] };
        let keys = folder.join("keys.yaml");
        let loaded = dietesp::internals::files::load(&[keys], &[folder.join("rules.yaml")]).unwrap();
        let blocks: HashMap<_, _> = loaded
            .sas
            .iter()
            .map(|sa| (sa.name.as_str(), dietesp::internals::cipher::EspCipher::new(&sa.keys).block()))
            .collect();
        let original = packets(&folder.join("original.pcap"));
        for context in &loaded.contexts {
            let SaReference::Name(sa) = &context.sa else { unreachable!() };
            let block = blocks[sa.as_str()];
            let Some(custom) = as_custom(context, block, &rules) else { continue };
            contexts += 1;
            let (ietf, custom) = (Codec::new(Some(context), block).unwrap(), Codec::new(Some(&custom), block).unwrap());
            let [mut expected, mut made] = [vec![], vec![]];
            for packet in &original {
                for carrier in carriers {
                    let carrier = hex::decode(carrier).unwrap();
                    let (outer, header_len, protocol_offset) = outer(&carrier);
                    let carrier = IpHeaders { outer: &outer, header: &carrier[..header_len], protocol_offset };
                    let mut state = State::default();
                    let one = ietf.compress(packet, &outer, &mut state, &mut expected);
                    let other = custom.compress(packet, &outer, &mut state, &mut made);
                    assert_eq!(one, other, "{}, {sa}", folder.display());
                    if one.is_err() {
                        refused += 1;
                        continue;
                    }
                    assert_eq!(hex::encode(&made), hex::encode(&expected), "{}, {sa}", folder.display());
                    let clear = made.clone();
                    let one = ietf.restore(&clear, &carrier, &mut state, &mut expected).unwrap();
                    let other = custom.restore(&clear, &carrier, &mut state, &mut made).unwrap();
                    assert_eq!((one, &expected), (other, &made));
                    compared += 1;
                }
            }
            for (spi, sn) in [(0xa1b2_c3d4, 0x0102_0304), (7, u64::MAX)] {
                let [mut expected, mut made] = [vec![], vec![]];
                ietf.encode_header(spi, sn, &mut expected);
                custom.encode_header(spi, sn, &mut made);
                assert_eq!(made, expected);
            }
        }
    }
    assert!(contexts >= 20 && compared > 800 && refused > 800, "{contexts} contexts, {compared} and {refused} packets");
}

/// The same context in dialect `custom`, through a rule file. Returns `None` if several transport headers are
/// compressed.
fn as_custom(context: &Context, block: usize, rules: &str) -> Option<Context> {
    let SaReference::Name(sa) = &context.sa else { unreachable!() };
    let mut lines = vec!["contexts:".to_owned()];
    let mut ours = false;
    for line in rules.lines().filter(|line| line.starts_with("  ")) {
        if let Some(name) = line.strip_prefix("  - sa: ") {
            ours = name == sa;
        }
        let key = line.trim_start_matches([' ', '-']).split(':').next().unwrap();
        let shared = key.starts_with("ts_") || ["sa", "ipsec_mode", "tunnel_ip", "alignment", "esp_sn"].contains(&key);
        lines.extend(Some(line.to_owned()).filter(|_| ours && shared));
    }
    let tables = Codec::tables(context, block);
    let of = |name: &str| -> Vec<_> {
        tables.iter().filter(|table| table.name.starts_with(name) && !table.name.ends_with("outer ipv4")).collect()
    };
    if of("iipc").len() > 2 {
        return None;
    }
    lines.push("    dialect: custom".to_owned());
    lines.push("    rules:".to_owned());
    for name in ["iipc", "ctec", "eec"] {
        lines.push(format!("      {name}:"));
        for row in of(name).iter().flat_map(|table| &table.rule.fields) {
            let target = match &row.target {
                Target::Empty => "null".to_owned(),
                // A hexadecimal number is never read as an address.
                Target::Value(value) => format!("0x{value:x}"),
                Target::List(values) => format!("{values:?}"),
            };
            let matching = match row.matching {
                Matching::Msb(bits) => format!("MSB, MO.VAL: {bits}"),
                other => other.name().to_owned(),
            };
            let (fid, action) = (row.fid.name, row.action.name());
            lines.push(format!("        - {{ FID: {fid}, TV: {target}, MO: {matching}, CDA: {action} }}"));
        }
    }
    let text = lines.join("\n");
    let mut contexts = load(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(contexts.len(), 1);
    contexts.pop()
}
