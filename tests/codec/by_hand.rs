//! Clear texts computed by hand from packets that scapy 2.5 generated.

use dietesp::internals::codec::{Codec, Form, Mismatch, State, close_standard};
use dietesp::internals::context::*;
use dietesp::internals::error::{Fault, FaultKind};
use dietesp::internals::net::{IpVersion, address_value};

use crate::support::{context, outer, restore};

/// CoAP: DSCP 46 and ECN 1 (Traffic Class b9), Flow Label 12345, Hop Limit 64, 2001:db8:a::10 port 5683 to
/// 2001:db8:b::1 port 61617, 10 bytes of payload.
pub const V6_UDP: &str = "6b9123450012114020010db8000a0000000000000000001020010db8000b00000000000000000001\
                      1633f0b1001219bb420100075fb474656d70";
/// The same payload over IPv4, 10.10.0.5 to 10.20.0.1: TOS b9, Identification 1234, Don't Fragment, TTL 64.
pub const V4_UDP: &str = "45b9002612344000401113b70a0a00050a140001\
                      1633f0b10012612f420100075fb474656d70";
/// The same packet with a Router Alert option.
pub const V4_OPTIONS: &str = "46b9002a1234400040117eae0a0a00050a14000194040000\
                          1633f0b10012612f420100075fb474656d70";
/// The first fragment of a UDP packet.
pub const V4_FRAGMENT: &str = "45b9002412342000401133b90a0a00050a140001\
                           1633f0b100631111420100075fb47465";
/// TCP with 12 bytes of options and 4 of data, urgent pointer 55aa.
pub const V6_TCP: &str = "6b9123450024064020010db8000a0000000000000000001020010db8000b00000000000000000001\
                      c352075b7c6ac6f21137801880181000766655aa0101080a000000020000000770312f74";
pub const V6_SCTP: &str = "6b9123450024844020010db8000a0000000000000000001020010db8000b00000000000000000001\
                       13881389deadbeef5b5476960000001500000001000200030000000068656c6c6f000000";
pub const V6_ICMP: &str = "6b91234500083a4020010db8000a0000000000000000001020010db8000b00000000000000000001\
                       8000242200010002";
pub const COAP: &str = "420100075fb474656d70";

/// An outer IPv6 header: DSCP 46, ECN 1, Flow Label 12345, next header 50, Hop Limit 64.
pub const OUTER_V6: &str = "6b9123450000324020010db800000001000000000000000220010db8000000010000000000000001";
/// An outer IPv4 header: TOS b9, Identification 1234, Don't Fragment, TTL 64, protocol 50.
pub const OUTER_V4: &str = "45b90014123440004032000ac0000202c0000201";

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn codec(mode: Mode, version: IpVersion, change: impl FnOnce(&mut TrafficSelectors, &mut Ietf)) -> Codec {
    Codec::new(Some(&context(mode, Some(version), change)), 1).unwrap()
}

/// All fields that can be omitted are omitted: one UDP session, `lower`, no trailer.
fn leave_all_out(version: IpVersion) -> impl FnOnce(&mut TrafficSelectors, &mut Ietf) {
    move |selectors, ietf| {
        let [src, dst] = match version {
            IpVersion::V4 => ["10.10.0.5", "10.20.0.1"],
            IpVersion::V6 => ["2001:db8:a::10", "2001:db8:b::1"],
        };
        selectors.src = Range::single(address_value(src.parse().unwrap()));
        selectors.dst = Range::single(address_value(dst.parse().unwrap()));
        selectors.protocol = Some(17);
        selectors.src_port = Range::single(5683);
        selectors.dst_port = Range::single(61617);
        ietf.dscp_cda = DscpCda::Lower;
        ietf.ecn_cda = HeaderCda::Lower;
        ietf.flow_label_cda = FlowLabelCda::Lower;
        ietf.alignment = 1;
    }
}

/// All fields that can be sent are sent.
fn send_all(_: &mut TrafficSelectors, ietf: &mut Ietf) {
    ietf.trailer_mandatory = true;
    ietf.hop_limit_sent = true;
    ietf.payload_length_sent = true;
}

fn compress(codec: &Codec, packet: &str) -> Result<String, Mismatch> {
    let mut clear = vec![1];
    codec.compress(&bytes(packet), &outer(&bytes(OUTER_V6)).0, &mut State::default(), &mut clear)?;
    Ok(hex::encode(clear))
}

fn restored(codec: &Codec, clear: &str, carrier: &str) -> String {
    hex::encode(restore(codec, &bytes(clear), &bytes(carrier)).unwrap().1)
}

/// Checks both directions. With this outer header, `lower` restores the packet's own values.
fn both_ways(codec: &Codec, packet: &str, clear: &str, carrier: &str) {
    assert_eq!(compress(codec, packet).unwrap(), clear);
    assert_eq!(restored(codec, clear, carrier), packet);
}

#[test]
fn tunnel_ipv6() {
    // Only the CoAP message is sent.
    both_ways(&codec(Mode::Tunnel, IpVersion::V6, leave_all_out(IpVersion::V6)), V6_UDP, COAP, OUTER_V6);

    // Version is elided, 4 bits, so every digit moves one place to the left: Traffic Class b9, Flow Label 12345,
    // Payload Length 0012, Next Header 11, Hop Limit 40, addresses, ports; 4 zero bits fill the last byte. 348 bits, 44 bytes.
    // Then 10 bytes of payload: 54. The trailer takes 2, so that 56 is a multiple of 8: no Padding, Next Header 41.
    let clear = "b91234500121140\
                 20010db8000a0000000000000000001020010db8000b00000000000000000001\
                 1633f0b10420100075fb474656d70\
                 0029";
    both_ways(&codec(Mode::Tunnel, IpVersion::V6, send_all), V6_UDP, clear, OUTER_V6);

    // DSCP 46 is index 1 of 3 values (01), ECN sent (01), Flow Label sent, addresses in ::10 to ::13 (126 bits known:
    // 00) and ::1 to ::5 (125 bits: 001), destination port in f0b0 to f0bf (12 bits: 0001):
    // 01 01 00010010001101000101 00 001 0001 0000000 = 51 23 45 08 80.
    // Optional trailer, 32 bit: 5 + 10 + 1 = 16 bytes, Pad Length 0, no Next Header.
    let mixed = |selectors: &mut TrafficSelectors, ietf: &mut Ietf| {
        leave_all_out(IpVersion::V6)(selectors, ietf);
        selectors.src.end += 3;
        selectors.dst.end += 4;
        selectors.dst_port = Range { start: 61616, end: 61631 };
        ietf.dscp_cda = DscpCda::List(vec![0, 46, 10]);
        ietf.ecn_cda = HeaderCda::Sent;
        ietf.flow_label_cda = FlowLabelCda::Sent;
        ietf.alignment = 4;
    };
    both_ways(&codec(Mode::Tunnel, IpVersion::V6, mixed), V6_UDP, &format!("5123450880{COAP}00"), OUTER_V6);
}

#[test]
fn tunnel_ipv4() {
    // IHL 5 (4 bits), Flags and Fragment Offset 4000 (16 bits), 4 bits to a whole byte: 54 00 00.
    let all_out = codec(Mode::Tunnel, IpVersion::V4, leave_all_out(IpVersion::V4));
    both_ways(&all_out, V4_UDP, &format!("540000{COAP}"), OUTER_V4);
    // IHL 6, the flags, the option 94040000, 4 bits: 6 4000 94040000 0.
    both_ways(&all_out, V4_OPTIONS, &format!("64000940400000{COAP}"), OUTER_V4);

    // All but Version (4), and the Header Checksum (16), the UDP Length and Checksum (32): IHL, TOS, Total Length,
    // Identification, Flags and Fragment Offset, TTL, Protocol, addresses, ports; 172 bits, 4 bits to a whole byte: 22
    // bytes, 10 of payload, 6 of Padding, Pad Length 6, Next Header 4: 40.
    let clear = "5b90026123440004011\
                 0a0a00050a140001\
                 1633f0b10420100075fb474656d70\
                 0102030405060604";
    both_ways(&codec(Mode::Tunnel, IpVersion::V4, send_all), V4_UDP, clear, OUTER_V6);

    // The transport header of a fragment is payload: 19 + 16 digits, one to a whole byte, then the segment
    // unchanged: 18 + 16 = 34, 4 of Padding.
    let clear = "5b90024123420004011\
                 0a0a00050a1400010\
                 1633f0b100631111420100075fb47465\
                 010203040404";
    both_ways(&codec(Mode::Tunnel, IpVersion::V4, send_all), V4_FRAGMENT, clear, OUTER_V6);
}

#[test]
fn transport_mode() {
    // The outer header precedes the segment: protocol 50, and the length and checksum of the Diet-ESP packet.
    let carrier_v6 = V6_UDP.replace("00121140", "00133240");
    let carrier_v4 = V4_UDP.replace("0026", "0022").replace("401113b7", "4032abcd");
    for (packet, carrier, version) in [(V6_UDP, &carrier_v6, IpVersion::V6), (V4_UDP, &carrier_v4, IpVersion::V4)] {
        let all_out = codec(Mode::Transport, version, leave_all_out(version));
        both_ways(&all_out, packet, COAP, carrier);
        // The ports are sent; 4 + 10 + 2 = 16 bytes, a multiple of 8. Next Header 17.
        let clear = format!("1633f0b1{COAP}0011");
        both_ways(&codec(Mode::Transport, version, send_all), packet, &clear, carrier);
    }
    let (restored, packet) = restore(
        &codec(Mode::Transport, IpVersion::V6, leave_all_out(IpVersion::V6)),
        &bytes(COAP),
        &bytes(&carrier_v6),
    )
    .unwrap();
    assert_eq!((restored.form, restored.next_header, restored.payload_offset), (Form::Transport, 17, 40));
    assert_eq!(packet.len(), 58);
    let upper = restored.upper.unwrap();
    assert_eq!((upper.protocol, upper.offset, upper.ports), (17, 40, Some((5683, 61617))));
    assert_eq!(
        restored.sources.iter().map(|(name, source)| (name, source.name())).collect::<Vec<_>>(),
        [("udp.checksum", "computed")]
    );
}

#[test]
fn tcp_with_each_value_of_tcp_header() {
    // Ports, sequence to window, and urgent pointer are sent. The checksum is not. Options and data are payload.
    let codec = |tcp_header| {
        codec(Mode::Transport, IpVersion::V6, |_, ietf| {
            ietf.alignment = 1;
            ietf.tcp_header = tcp_header;
        })
    };
    let carrier = V6_TCP.replace("00240640", "00003240");
    let tail = "0101080a000000020000000770312f7406";
    let order = format!("c352075b7c6ac6f2113780188018100055aa{tail}");
    both_ways(&codec(TcpHeader::HeaderOrder), V6_TCP, &order, &carrier);
    // The same bytes, since the ports end on a byte boundary ...
    both_ways(&codec(TcpHeader::PortsOnly), V6_TCP, &order, &carrier);
    let none = format!("c352075b7c6ac6f21137801880181000766655aa{tail}");
    both_ways(&codec(TcpHeader::None), V6_TCP, &none, &carrier);

    // ... and others where they do not: 15 bits of source port are known (c352: 0), then either the rest follows at
    // once, shifted by 17 bits, or 7 bits fill the byte.
    let shifted = |tcp_header| {
        let mut context = context(Mode::Transport, Some(IpVersion::V6), |selectors, ietf| {
            selectors.protocol = Some(6);
            selectors.src_port = Range { start: 0xc352, end: 0xc353 };
            ietf.alignment = 1;
            ietf.tcp_header = tcp_header;
        });
        context.selectors.dst_port = Range::single(0x075b);
        Codec::new(Some(&context), 1).unwrap()
    };
    // 0 and 7 zero bits, then the 12 bytes before the checksum and the urgent pointer.
    let ports_only = format!("007c6ac6f2113780188018100055aa{}", tail.trim_end_matches("06"));
    both_ways(&shifted(TcpHeader::PortsOnly), V6_TCP, &ports_only, &carrier);
    // 0 and the 112 bits 7c6ac6f21137801880181000 55aa: all halved, and 7 zero bits behind.
    let order = format!("3e3563790 89bc00c400c0800 2ad500{}", tail.trim_end_matches("06")).replace(' ', "");
    both_ways(&shifted(TcpHeader::HeaderOrder), V6_TCP, &order, &carrier);
    // A rule without a checksum cannot detect a wrong one.
    let wrong = V6_TCP.replace("766655aa", "766755aa");
    assert_eq!(compress(&codec(TcpHeader::PortsOnly), &wrong).unwrap_err().field, "tcp.checksum");
    assert!(compress(&codec(TcpHeader::None), &wrong).is_ok());
    // Adding 7666 to the data makes the checksum 0. Its second form ffff is also valid, but would be restored as 0.
    let zero = V6_TCP.replace("766655aa", "000055aa").replace("2f74", "a5da");
    assert!(compress(&codec(TcpHeader::HeaderOrder), &zero).is_ok());
    let ones = zero.replace("000055aa", "ffff55aa");
    assert_eq!(compress(&codec(TcpHeader::HeaderOrder), &ones).unwrap_err().field, "tcp.checksum");
    let short_header = V6_TCP.replace("80181000", "40181000");
    assert_eq!(compress(&codec(TcpHeader::HeaderOrder), &short_header).unwrap_err().field, "tcp.data_offset");
}

#[test]
fn sctp_checksum_is_crc32c() {
    let codec = |sent| {
        codec(Mode::Transport, IpVersion::V6, |selectors, ietf| {
            selectors.protocol = Some(132);
            ietf.alignment = 1;
            ietf.sctp_checksum_sent = sent;
        })
    };
    let carrier = V6_SCTP.replace("00248440", "00003240");
    let chunk = "0000001500000001000200030000000068656c6c6f000000";
    both_ways(&codec(false), V6_SCTP, &format!("13881389deadbeef{chunk}"), &carrier);
    both_ways(&codec(true), V6_SCTP, &format!("13881389deadbeef5b547696{chunk}"), &carrier);
    let wrong = V6_SCTP.replace("5b547696", "5b547697");
    assert_eq!(compress(&codec(false), &wrong).unwrap_err().field, "sctp.checksum");
    assert!(compress(&codec(true), &wrong).is_ok());
}

#[test]
fn udplite_coverage() {
    let packet =
        |coverage_and_checksum: &str| V6_UDP.replace("00121140", "00128840").replace("001219bb", coverage_and_checksum);
    let carrier = packet("00121944").replace("00128840", "00003240");
    let codec = |sent| {
        codec(Mode::Transport, IpVersion::V6, |selectors, ietf| {
            selectors.protocol = Some(136);
            ietf.alignment = 1;
            ietf.udplite_coverage_sent = sent;
        })
    };
    // The coverage is the length 18, or 0, which has the same meaning and is restored as 18.
    both_ways(&codec(false), &packet("00121944"), &format!("1633f0b1{COAP}"), &carrier);
    assert_eq!(compress(&codec(false), &packet("00001956")).unwrap(), format!("1633f0b1{COAP}"));
    assert_eq!(compress(&codec(false), &packet("000c5ad4")).unwrap_err().field, "udplite.coverage");
    let (restored, _) = restore(&codec(false), &bytes(&format!("1633f0b1{COAP}")), &bytes(&carrier)).unwrap();
    let sources: Vec<_> = restored.sources.iter().map(|(name, source)| (name, source.name())).collect();
    assert_eq!(sources, [("udplite.coverage", "length")]);
    // If it is sent, any valid coverage is restored. The checksum covers 12 bytes.
    for coverage_and_checksum in ["00121944", "00001956", "000c5ad4"] {
        let coverage = &coverage_and_checksum[..4];
        both_ways(&codec(true), &packet(coverage_and_checksum), &format!("1633f0b1{coverage}{COAP}"), &carrier);
    }
    assert_eq!(compress(&codec(true), &packet("00135ad4")).unwrap_err().field, "udplite.coverage");
    assert_eq!(compress(&codec(true), &packet("000c5ad5")).unwrap_err().field, "udplite.checksum");
}

#[test]
fn generated_labels_are_the_hash_of_the_flow() {
    // SHA-256 over 2001:db8:a::10, 2001:db8:b::1, 11, 1633, f0b1 begins with c8ec0fe1 (Python's hashlib).
    let generated = |version| {
        move |selectors: &mut TrafficSelectors, ietf: &mut Ietf| {
            leave_all_out(version)(selectors, ietf);
            ietf.flow_label_cda = FlowLabelCda::Generated;
        }
    };
    let v6 = codec(Mode::Tunnel, IpVersion::V6, generated(IpVersion::V6));
    assert_eq!(restored(&v6, COAP, OUTER_V6), V6_UDP.replace("6b912345", "6b9c8ec0"));
    // For the IPv4 addresses it begins with 85176003; the header checksum 13b7 goes down by 8517 - 1234.
    let v4 = codec(Mode::Tunnel, IpVersion::V4, generated(IpVersion::V4));
    let expected = V4_UDP.replace("12344000401113b7", "851740004011a0d3");
    assert_eq!(restored(&v4, &format!("540000{COAP}"), OUTER_V4), expected);
    let zero = codec(Mode::Tunnel, IpVersion::V6, |selectors, ietf| {
        generated(IpVersion::V6)(selectors, ietf);
        ietf.flow_label_hash = false;
    });
    assert_eq!(restored(&zero, COAP, OUTER_V6), V6_UDP.replace("6b912345", "6b900000"));
    let (restored, _) = restore(&zero, &bytes(COAP), &bytes(OUTER_V6)).unwrap();
    let sources: Vec<_> = restored.sources.iter().map(|(name, source)| (name, source.name())).collect();
    let expected = [
        ("dscp", "outer"),
        ("ecn", "outer"),
        ("flow_label", "generated"),
        ("hop_limit", "outer"),
        ("udp.checksum", "computed"),
    ];
    assert_eq!(sources, expected);
}

#[test]
fn lower_across_ip_versions() {
    // Of an outer Flow Label 12345 the Identification takes 2345; of an Identification 1234 the Flow Label is 01234.
    let v4 = codec(Mode::Tunnel, IpVersion::V4, leave_all_out(IpVersion::V4));
    let expected = V4_UDP.replace("12344000401113b7", "23454000401102a6");
    assert_eq!(restored(&v4, &format!("540000{COAP}"), OUTER_V6), expected);
    let v6 = codec(Mode::Tunnel, IpVersion::V6, leave_all_out(IpVersion::V6));
    assert_eq!(restored(&v6, COAP, OUTER_V4), V6_UDP.replace("6b912345", "6b901234"));
}

#[test]
fn rule_ids_precede_each_compressed_part() {
    // CTEC RuleID, IIPC RuleID, ports, 10 bytes of payload: 16. AES-CBC needs a Pad Length, so that 15 bytes of Padding
    // fill the second block.
    let with_ids = |change: fn(&mut Ietf), cipher_block| {
        let context = context(Mode::Transport, Some(IpVersion::V6), |selectors, ietf| {
            selectors.protocol = Some(17);
            ietf.rule_id = Some(0xab);
            change(ietf);
        });
        Codec::new(Some(&context), cipher_block).unwrap()
    };
    let carrier = V6_UDP.replace("00121140", "00003240");
    let plain = with_ids(|ietf| ietf.alignment = 1, 1);
    both_ways(&plain, V6_UDP, &format!("abab1633f0b1{COAP}"), &carrier);
    let cbc = with_ids(|ietf| ietf.alignment = 1, 16);
    both_ways(&cbc, V6_UDP, &format!("abab1633f0b1{COAP}0102030405060708090a0b0c0d0e0f0f"), &carrier);
    // Nothing of the trailer is elided, so it has no RuleID. 1 + 4 + 10 + 2 = 17, 7 of Padding.
    let mandatory = with_ids(|ietf| ietf.trailer_mandatory = true, 1);
    both_ways(&mandatory, V6_UDP, &format!("ab1633f0b1{COAP}010203040506070711"), &carrier);
    // The payload is sent unchanged, so only the trailer has a RuleID.
    let whole = with_ids(
        |ietf| {
            ietf.alignment = 1;
            ietf.compress_inner = false;
        },
        1,
    );
    both_ways(&whole, V6_UDP, &format!("ab1633f0b1001219bb{COAP}"), &carrier);

    for (clear, stage) in [("acab1633f0b1", "esp trailer"), ("abac1633f0b1", "inner packet")] {
        let fault = restore(&plain, &bytes(clear), &bytes(&carrier)).unwrap_err();
        assert!(matches!(fault, Fault { kind: FaultKind::Unsupported(_), .. }), "{fault}");
        assert_eq!(fault.stage.name(), stage);
    }
    let esp_header = |spi_bits, sn_bits| {
        let context = context(Mode::Tunnel, None, |_, ietf| {
            ietf.compress_inner = false;
            ietf.rule_id = Some(0xab);
            (ietf.spi_bits, ietf.sn_bits) = (spi_bits, sn_bits);
        });
        let codec = Codec::new(Some(&context), 1).unwrap();
        let mut header = vec![];
        codec.encode_header(0xc0ff_ee37, 0x1_0001_2345, &mut header);
        assert_eq!(codec.header_len(), header.len());
        assert_eq!(codec.header_rule_id().is_some(), spi_bits + sn_bits < 64);
        hex::encode(header)
    };
    // The residues of eec-spi4-sn12, eec-spi31-sn1, eec-spi0-sn8 in `tests/data/vectors/schc_cases.json`.
    assert_eq!(esp_header(4, 12), "ab7345");
    assert_eq!(esp_header(31, 1), "ab81ffdc6f");
    assert_eq!(esp_header(0, 8), "ab45");
    assert_eq!(esp_header(0, 0), "ab");
    assert_eq!(esp_header(32, 32), "c0ffee3700012345");
}

#[test]
fn an_elided_next_header_may_count_for_the_alignment() {
    let codec = |counts, cipher_block| {
        let context = context(Mode::Tunnel, Some(IpVersion::V6), |selectors, ietf| {
            leave_all_out(IpVersion::V6)(selectors, ietf);
            ietf.alignment = 4;
            ietf.trailer_counts_elided_next_header = counts;
        });
        Codec::new(Some(&context), cipher_block).unwrap()
    };
    // 10 + 1: one byte of Padding; with the elided Next Header 12 is reached.
    both_ways(&codec(false, 1), V6_UDP, &format!("{COAP}0101"), OUTER_V6);
    both_ways(&codec(true, 1), V6_UDP, &format!("{COAP}00"), OUTER_V6);
    // Elided bytes do not count for a cipher block of 16.
    both_ways(&codec(true, 16), V6_UDP, &format!("{COAP}010203040505"), OUTER_V6);
}

#[test]
fn standard_esp() {
    let codec = Codec::new(None, 1).unwrap();
    assert!(codec.clear_text_is_standard());
    // 58 + 2 = 60 bytes.
    both_ways(&codec, V6_UDP, &format!("{V6_UDP}0029"), OUTER_V6);
    // 38 + 2 = 40.
    both_ways(&codec, V4_UDP, &format!("{V4_UDP}0004"), OUTER_V6);
    both_ways(
        &Codec::new(None, 16).unwrap(),
        V4_UDP,
        &format!("{V4_UDP}010203040506070808 04").replace(' ', ""),
        OUTER_V6,
    );
    let mut closed = bytes(COAP);
    close_standard(&mut closed, 1, 17);
    assert_eq!(hex::encode(closed), format!("{COAP}0011"));

    // TFC padding after the inner packet is not restored (RFC 4303 §2.7). Odd padding causes a warning.
    let (restored, packet) = restore(&codec, &bytes(&format!("{V6_UDP}0000000001010229")), &bytes(OUTER_V6)).unwrap();
    assert_eq!(hex::encode(packet), V6_UDP);
    assert_eq!(restored.warnings.names().collect::<Vec<_>>(), ["padding"]);
    assert_eq!((restored.form, restored.next_header), (Form::Tunnel, 41));

    // Other values of Next Header mean transport mode; 59 is a dummy packet.
    let (restored, packet) = restore(&codec, &bytes("1633f0b1001219bb0011"), &bytes(OUTER_V6)).unwrap();
    assert_eq!((restored.form, restored.next_header, restored.payload_offset), (Form::Transport, 17, 40));
    assert_eq!(hex::encode(packet), OUTER_V6.replace("00003240", "00081140") + "1633f0b1001219bb");
    let (restored, packet) = restore(&codec, &bytes("123401020259").replace_last(59), &bytes(OUTER_V6)).unwrap();
    assert_eq!((restored.form, packet.len(), restored.upper), (Form::Dummy, 0, None));
    assert_eq!(restored.warnings.names().collect::<Vec<_>>(), ["dummy"]);

    // Pad Length beyond the clear text, wrong IP version, truncated, and no IP at all.
    for clear in ["0102030411", "29", "", &format!("{V6_UDP}0004"), &format!("{}0029", &V6_UDP[..114]), "000029"] {
        assert!(restore(&codec, &bytes(clear), &bytes(OUTER_V6)).is_err(), "{clear}");
    }
}

trait ReplaceLast {
    fn replace_last(self, byte: u8) -> Self;
}

impl ReplaceLast for Vec<u8> {
    fn replace_last(mut self, byte: u8) -> Self {
        *self.last_mut().unwrap() = byte;
        self
    }
}

#[test]
fn clear_texts_that_are_standard() {
    let standard = |mode, change: fn(&mut TrafficSelectors, &mut Ietf), cipher_block| {
        let context = context(mode, Some(IpVersion::V6), change);
        Codec::new(Some(&context), cipher_block).unwrap().clear_text_is_standard()
    };
    fn whole(_: &mut TrafficSelectors, ietf: &mut Ietf) {
        ietf.compress_inner = false;
        ietf.trailer_mandatory = true;
    }
    assert!(standard(Mode::Tunnel, whole, 1));
    fn align_8(selectors: &mut TrafficSelectors, ietf: &mut Ietf) {
        whole(selectors, ietf);
        ietf.alignment = 1;
    }
    assert!(!standard(Mode::Tunnel, align_8, 1));
    assert!(standard(Mode::Tunnel, align_8, 16));
    assert!(!standard(Mode::Tunnel, |_, ietf| ietf.compress_inner = false, 1));
    // The trailer is optional, but nothing is elided.
    assert!(standard(Mode::Transport, |_, ietf| ietf.compress_inner = false, 1));
    assert!(!standard(Mode::Tunnel, send_all, 1));
}

#[test]
fn warnings_and_errors_of_a_receiver() {
    let mixed = codec(Mode::Tunnel, IpVersion::V6, |selectors, ietf| {
        leave_all_out(IpVersion::V6)(selectors, ietf);
        selectors.dst.end += 4;
        ietf.dscp_cda = DscpCda::List(vec![0, 46, 10]);
        selectors.dst_port = Range { start: 61617, end: 61618 };
    });
    // Index 1, destination ::1 (001), port f0b1 in f0b0 to f0b3 (01): 01 001 01 0.
    both_ways(&mixed, V6_UDP, &format!("4a{COAP}"), OUTER_V6);
    let warnings = |clear: &str| {
        let restored = restore(&mixed, &bytes(clear), &bytes(OUTER_V6)).unwrap().0;
        restored.warnings.names().collect::<Vec<_>>()
    };
    assert_eq!(warnings(&format!("4b{COAP}")), ["nonzero-pad-bits"]);
    // Destination ::6, port f0b3.
    assert_eq!(warnings(&format!("72{COAP}")), ["outside-selector"]);
    assert_eq!(warnings(&format!("4e{COAP}")), ["outside-selector"]);
    assert_eq!(warnings(&format!("4f{COAP}")), ["outside-selector", "nonzero-pad-bits"]);
    // Ports f0b0 to f0b2 begin like the whole prefix f0b0 to f0b3 (2 bits), but end before it.
    let aligned = codec(Mode::Tunnel, IpVersion::V6, |selectors, ietf| {
        leave_all_out(IpVersion::V6)(selectors, ietf);
        selectors.dst_port = Range { start: 61616, end: 61618 };
    });
    both_ways(&aligned, V6_UDP, &format!("40{COAP}"), OUTER_V6);
    let outside = restore(&aligned, &bytes(&format!("c0{COAP}")), &bytes(OUTER_V6)).unwrap();
    assert_eq!(outside.0.warnings.names().collect::<Vec<_>>(), ["outside-selector"]);
    assert_eq!(compress(&aligned, &hex::encode(outside.1)).unwrap_err().field, "dst_port");
    // Index 3 of 3 values; no residue at all.
    let fault = restore(&mixed, &bytes("ca"), &bytes(OUTER_V6)).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Value { what: "dscp", got: 3, .. }), "{fault}");
    let fault = restore(&mixed, &[], &bytes(OUTER_V6)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Short { what: "residue", needs: 1, has: 0 });

    let v4 = codec(Mode::Tunnel, IpVersion::V4, leave_all_out(IpVersion::V4));
    let fault = restore(&v4, &bytes("440000"), &bytes(OUTER_V6)).unwrap_err();
    assert!(matches!(fault.kind, FaultKind::Value { what: "IHL", got: 4, .. }), "{fault}");
    // An IHL of 15 needs 40 bytes of options.
    let fault = restore(&v4, &bytes("f40000"), &bytes(OUTER_V6)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Short { what: "residue", needs: 43, has: 3 });

    let whole = codec(Mode::Tunnel, IpVersion::V6, |_, ietf| {
        ietf.compress_inner = false;
        ietf.alignment = 1;
    });
    both_ways(&whole, V6_UDP, V6_UDP, OUTER_V6);
    assert!(restore(&whole, &bytes(V4_UDP), &bytes(OUTER_V6)).is_err());
    assert!(restore(&whole, &bytes(COAP), &bytes(OUTER_V6)).is_err());

    // A length field can hold at most 65535.
    let all_out = codec(Mode::Tunnel, IpVersion::V6, leave_all_out(IpVersion::V6));
    assert!(restore(&all_out, &[0; 65527], &bytes(OUTER_V6)).is_ok());
    assert!(restore(&all_out, &[0; 65528], &bytes(OUTER_V6)).is_err());
    assert!(restore(&v4, &[&[0x54, 0, 0][..], &[0; 65507]].concat(), &bytes(OUTER_V6)).is_ok());
    assert!(restore(&v4, &[&[0x54, 0, 0][..], &[0; 65508]].concat(), &bytes(OUTER_V6)).is_err());
    let transport = codec(Mode::Transport, IpVersion::V4, leave_all_out(IpVersion::V4));
    assert!(restore(&transport, &[0; 65507], &bytes(OUTER_V4)).is_ok());
    assert!(restore(&transport, &[0; 65508], &bytes(OUTER_V4)).is_err());
}

#[test]
fn a_mismatch_names_its_field() {
    let v6 = codec(Mode::Tunnel, IpVersion::V6, |selectors, ietf| {
        leave_all_out(IpVersion::V6)(selectors, ietf);
        ietf.flow_label_cda = FlowLabelCda::Zero;
    });
    let v6_any = codec(Mode::Tunnel, IpVersion::V6, |_, _| ());
    let v4 = codec(Mode::Tunnel, IpVersion::V4, leave_all_out(IpVersion::V4));
    let v4_any = codec(Mode::Tunnel, IpVersion::V4, |_, _| ());
    let v4_df = codec(Mode::Tunnel, IpVersion::V4, |_, ietf| ietf.ipv4_flags_frag = Some(0x4000));
    let v4_zero = codec(Mode::Tunnel, IpVersion::V4, |_, ietf| ietf.ipv4_flags_frag = Some(0));
    let transport = codec(Mode::Transport, IpVersion::V4, |selectors, _| selectors.src = Range::single(0x0a0a_0005));
    let v4_as_17 = codec(Mode::Tunnel, IpVersion::V4, |selectors, _| selectors.protocol = Some(17));
    let cases: &[(&Codec, String, &str)] = &[
        (&v6, V4_UDP.into(), "version"),
        (&v6, V6_UDP.into(), "flow_label"),
        (&v6_any, V6_UDP.replace("00121140", "00113a40"), "payload_length"),
        // One byte after the length is TFC padding.
        (&v6_any, format!("{V6_UDP}00"), "payload_length"),
        (&v6_any, V6_UDP[..60].into(), "payload_length"),
        (&v6_any, V6_UDP.replace("001219bb", "001119bb"), "udp.length"),
        (&v6_any, V6_UDP.replace("001219bb", "001219bc"), "udp.checksum"),
        (&v6_any, V6_UDP.replace("00121140", "00123b40"), "next_header"),
        (
            &v6_any,
            "6b9123450007114020010db8000a0000000000000000001020010db8000b00000000000000000001".to_owned()
                + "1633f0b1001219",
            "udp",
        ),
        (&v4, V4_OPTIONS.replace("7eae", "7eaf"), "header_checksum"),
        (&v4_any, V4_UDP.replace("45b90026", "44b90026"), "ihl"),
        // Right checksums of the fragment and the packet with DF cleared: 33b9, 53b7.
        (&v4_as_17, V4_FRAGMENT.into(), "fragment_offset"),
        (&v4_df, V4_UDP.replace("4000401113b7", "0000401153b7"), "flags"),
        (&v4_zero, V4_UDP.into(), "flags"),
        (&transport, V4_UDP.replace("13b70a0a0005", "13b60a0a0006"), "src"),
        (&transport, V4_FRAGMENT.into(), "fragment_offset"),
    ];
    for (codec, packet, field) in cases {
        let mismatch = compress(codec, packet).expect_err(field);
        assert_eq!(mismatch.field, *field, "{mismatch}");
    }
    assert!(compress(&v4_df, V4_UDP).is_ok());
    assert!(compress(&transport, V4_UDP).is_ok());
    // ANY matches fragments and protocols without a rule, and sends them unchanged.
    assert!(compress(&v4_any, V4_FRAGMENT).is_ok());
    assert!(compress(&v6_any, V6_ICMP).is_ok());
    // A UDP packet without checksum matches; the receiver restores a computed one.
    let without = V4_UDP.replace("0012612f", "00120000");
    assert_eq!(compress(&v4, &without).unwrap(), format!("540000{COAP}"));
}
