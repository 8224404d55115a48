//! Rule files.

use super::*;

#[test]
fn a_context_with_every_attribute() {
    let loaded = load_text(
        "contexts:
  - spi: 0xa1b2
    src: 2001:db8:0:1::2
    dst: 2001:db8::/32
    dialect: IETF
    ipsec_mode: tunnel
    tunnel_ip: { src: 2001:db8:0:1::2, dst: 2001:db8:0:1::1 }
    iipc_profile: IIPC_diet-esp
    ts_ip_version: ipv6-only
    ts_ip_src_start: 2001:db8:a::10
    ts_ip_src_end:   2001:db8:a::1f
    ts_ip_dst: 2001:db8:b::/112
    ts_proto: 17
    ts_port_src_start: 5683
    ts_port_src_end:   5684
    ts_port_dst: 61616-61631
    dscp_cda: sa
    dscp_list: [46, 0x0a, 0]
    ecn_cda: lower
    flow_label_cda: generated
    alignment: 8bit
    esp_trailer: mandatory
    esp_spi_lsb: 4
    esp_spi_sn: 12
    esp_sn: 4711
    rule_id: one_byte
    rule_id_value: 7
    any_transport: none
    tcp_header: ports_only
    sctp_checksum: sent
    udplite_coverage: sent
    hop_limit_cda: not_compressed
    payload_length_cda: not_compressed
    ipv4_flags_frag: df
    trailer_counts_elided_next_header: yes
    flow_label_generated: zero
    protocol: 99
    revision: ietf-10
lowpan_contexts: { 0: \"fd01::/64\", 15: 2001:db8::1 }
",
    );
    let [context] = loaded.contexts.as_slice() else { panic!() };
    let address = |text: &str| crate::net::address_value(ip(text));
    assert_eq!(
        context.sa,
        SaReference::Spi {
            spi: 0xa1b2,
            src: Some(Selector::address(ip("2001:db8:0:1::2"))),
            dst: Some(Selector::Prefix { address: ip("2001:db8::"), len: 32 }),
        }
    );
    assert_eq!((context.mode, context.esn_and_protocol()), (Mode::Tunnel, (Some(4711), 99)));
    assert_eq!(context.tunnel_ip, Some((ip("2001:db8:0:1::2"), ip("2001:db8:0:1::1"))));
    assert_eq!(context.origin.line, 2);
    let selectors = context.selectors;
    assert_eq!((selectors.version, selectors.protocol), (Some(IpVersion::V6), Some(17)));
    assert_eq!(selectors.src, Range { start: address("2001:db8:a::10"), end: address("2001:db8:a::1f") });
    assert_eq!(selectors.dst, Range { start: address("2001:db8:b::"), end: address("2001:db8:b::ffff") });
    assert_eq!(selectors.src_port, Range { start: 5683, end: 5684 });
    assert_eq!(selectors.dst_port, Range { start: 61616, end: 61631 });
    assert_eq!(
        *ietf(context),
        Ietf {
            compress_inner: true,
            dscp_cda: DscpCda::List(vec![46, 10, 0]),
            ecn_cda: HeaderCda::Lower,
            flow_label_cda: FlowLabelCda::Generated,
            alignment: 1,
            trailer_mandatory: true,
            spi_bits: 4,
            sn_bits: 12,
            rule_id: Some(7),
            any_transport: false,
            tcp_header: TcpHeader::PortsOnly,
            sctp_checksum_sent: true,
            udplite_coverage_sent: true,
            hop_limit_sent: true,
            payload_length_sent: true,
            ipv4_flags_frag: Some(0x4000),
            trailer_counts_elided_next_header: true,
            flow_label_hash: false,
            revision: 10,
        }
    );
    let lowpan: Vec<_> = loaded.lowpan_contexts.into_iter().collect();
    assert_eq!(lowpan, [(0, ("fd01::".parse().unwrap(), 64)), (15, ("2001:db8::1".parse().unwrap(), 128))]);
}

impl Context {
    fn esn_and_protocol(&self) -> (Option<u64>, u8) {
        (self.esp_sn, self.protocol)
    }
}

#[test]
fn missing_attributes_have_their_defaults() {
    // wire-format.md 2.1 and 2.5.
    let context = context("");
    assert_eq!(*ietf(&context), Ietf::default());
    assert_eq!((context.esp_sn, context.protocol, context.tunnel_ip), (None, 50, None));
    let selectors = context.selectors;
    assert_eq!((selectors.src, selectors.dst), (Range::whole(128), Range::whole(128)));
    assert_eq!((selectors.src_port, selectors.dst_port), (Range::whole(16), Range::whole(16)));
    assert_eq!(selectors.protocol, None);
}

#[test]
fn spellings_of_values() {
    for (attributes, expected) in [
        ("alignment: 8 bit", Ietf { alignment: 1, ..Ietf::default() }),
        ("alignment: 16bit", Ietf { alignment: 2, ..Ietf::default() }),
        ("alignment: 32 Bit", Ietf { alignment: 4, ..Ietf::default() }),
        ("alignment: 64", Ietf::default()),
        (
            "ecn_cda: LOWER, dscp_cda: Lower",
            Ietf { ecn_cda: HeaderCda::Lower, dscp_cda: DscpCda::Lower, ..Ietf::default() },
        ),
        ("flow_label_cda: Zero", Ietf { flow_label_cda: FlowLabelCda::Zero, ..Ietf::default() }),
        ("esp_trailer: optional, revision: '08'", Ietf { revision: 8, ..Ietf::default() }),
        ("rule_id: one_byte", Ietf { rule_id: Some(0), ..Ietf::default() }),
        ("ipv4_flags_frag: zero", Ietf { ipv4_flags_frag: Some(0), ..Ietf::default() }),
        ("esp_spi_lsb: 0, esp_sn_lsb: 0", Ietf { spi_bits: 0, sn_bits: 0, ..Ietf::default() }),
        ("esp_spi_lsb: 0x10", Ietf { spi_bits: 16, ..Ietf::default() }),
        ("dscp_list: [1, 2]", Ietf::default()),
    ] {
        assert_eq!(*ietf(&context(attributes)), expected, "{attributes}");
    }
    for (written, protocol) in [
        ("UDP", Some(17)),
        ("udp", Some(17)),
        ("UDP-Lite", Some(136)),
        ("UDPLITE", Some(136)),
        ("TCP", Some(6)),
        ("SCTP", Some(132)),
        ("ICMP", Some(1)),
        ("ICMPv6", Some(58)),
        ("IPv6-ICMP", Some(58)),
        ("ESP", Some(50)),
        ("253", Some(253)),
        ("0x11", Some(17)),
        ("ANY", None),
        ("0", None),
    ] {
        assert_eq!(context(&format!("ts_proto: {written}")).selectors.protocol, protocol, "{written}");
    }
    assert_eq!(context("ts_port_src: 5683").selectors.src_port, Range::single(5683));
    assert_eq!(context("ts_port_src: any").selectors.src_port, Range::whole(16));
    assert_eq!(context("ts_ip_src: ANY").selectors.src, Range::whole(128));
    assert_eq!(context("ts_ip_src: \"::/0\"").selectors.src, Range::whole(128));
    assert!(context("ts_ip_src: 2001:db8::1").selectors.src.is_single());
    // Half a range extends to the end of the full range.
    assert_eq!(context("ts_ip_src_start: \"::5\"").selectors.src, Range { start: 5, end: u128::MAX });
}

#[test]
fn the_version_follows_from_the_addresses_if_it_is_optional() {
    for attributes in ["ipsec_mode: Transport", "ipsec_mode: Tunnel, iipc_profile: iipc_not_compressed"] {
        let selectors = |more: &str| {
            let mut loaded = load_text(&format!("contexts: [{{ sa: x, {attributes}, {more} }}]"));
            loaded.contexts.remove(0).selectors
        };
        assert_eq!(selectors("").version, None);
        let v4 = selectors("ts_ip_dst: 10.0.0.0/8");
        assert_eq!((v4.version, v4.src), (Some(IpVersion::V4), Range::whole(32)));
        assert_eq!(v4.dst, Range { start: 0x0a00_0000, end: 0x0aff_ffff });
        let text = format!("contexts:\n- {{ sa: x, {attributes}, ts_ip_dst: 10.0.0.1, ts_ip_src: 2001:db8::1 }}");
        assert!(refused(&text).0.ends_with("ts_ip_dst: not an IPv6 address"));
    }
}

#[test]
fn rule_file_errors_have_problem_position_and_help() {
    let numbers = "write it in decimal, or in hexadecimal with `0x`";
    let version = "`ts_ip_version` and all addresses of a context's `ts_ip_*` go together";
    assert_refused(&[
        (
            "contexts:\n- ipsec_mode: Tunnel",
            "f:2:3: a context without `sa`",
            "add `sa:` and the name of the SA in the key file, or `spi:`",
        ),
        ("contexts:\n- { sa: x, spi: 1 }", "f:2:9: sa: conflicts with `spi`", "give one of the two"),
        (
            "contexts:\n- { sa: x, dst: 10.0.0.1 }",
            "f:2:17: dst: conflicts with `sa`",
            "name the SA by `spi:` and `dst:`, or by `sa:` alone",
        ),
        (
            "contexts:\n- { sa: x, dialect: ehx }",
            "f:2:21: dialect: `ehx` is not a known dialect",
            "did you mean `ehc`?",
        ),
        (
            "contexts:\n- sa: x",
            "f:2:3: a context without `ipsec_mode`",
            "add `ipsec_mode: Tunnel` or `ipsec_mode: Transport`",
        ),
        (
            "contexts:\n- { sa: x, ipsec_mode: Tunel }",
            "f:2:24: ipsec_mode: `Tunel` is not a valid value",
            "did you mean `Tunnel`?",
        ),
        (
            "contexts:\n- { sa: x, ipsec_mode: Tunnel }",
            "f:2:5: a context without `ts_ip_version`",
            "add `ts_ip_version: IPv4-only` or `ts_ip_version: IPv6-only`",
        ),
        (
            "contexts:\n- { sa: x, ipsec_mode: Tunnel, tunnel_ip: { src: 10.0.0.1 } }",
            "f:2:45: tunnel_ip without `dst`",
            "write `tunnel_ip: { src: ..., dst: ... }`",
        ),
        (
            "contexts:\n- { sa: x, ipsec_mode: Tunnel, tunnel_ip: { src: 10.0.0.1, dst: ::1 } }",
            "f:2:65: dst: another IP version than `src`",
            "both belong to one outer header",
        ),
        ("lowpan_contexts: { 16: \"fd01::/64\" }", "f:1:20: lowpan_contexts: not a number from 0 to 15", numbers),
        (
            "lowpan_contexts: { 0: 10.0.0.0/8 }",
            "f:1:23: lowpan_contexts: not an IPv6 prefix",
            "6LoWPAN carries IPv6 only",
        ),
        (
            "lowpan_contexts: { 0: \"fd01::1/64\" }",
            "f:1:23: lowpan_contexts: bits after the first 64 are set",
            "they must be 0: give the prefix's first address, or one address without `/`",
        ),
    ]);
    for (attribute, problem, help) in [
        ("esp_sn_lbs: 8", "60: unknown key `esp_sn_lbs` in a context", "did you mean `esp_sn_lsb`?"),
        (
            "esp_spi_lsb: 4, esp_sn_lsb: 8",
            "88: esp_sn_lsb: `esp_spi_lsb` 4 and `esp_sn_lsb` 8 make 12 bits, which is not a whole number of bytes",
            "their sum must be a multiple of 8",
        ),
        (
            "esp_spi_lsb: 4",
            "73: esp_spi_lsb: `esp_spi_lsb` 4 and `esp_sn_lsb` 32 make 36 bits, which is not a whole number of bytes",
            "their sum must be a multiple of 8",
        ),
        ("esp_spi_lsb: 40", "73: esp_spi_lsb: not a number from 0 to 32", numbers),
        ("esp_sn_lsb: 8, esp_spi_sn: 8", "72: esp_sn_lsb: conflicts with `esp_spi_sn`", "give one of the two"),
        ("ts_ip_src: 10.0.0.1", "71: ts_ip_src: not an IPv6 address", version),
        ("ts_ip_dst_end: 10.0.0.1", "75: ts_ip_dst_end: not an IPv6 address", version),
        (
            "ts_ip_src_start: ::2, ts_ip_src_end: ::1",
            "97: ts_ip_src_end: `ts_ip_src_start` is above `ts_ip_src_end`",
            "swap the two",
        ),
        (
            "ts_port_dst_start: 2, ts_port_dst_end: 1",
            "99: ts_port_dst_end: `ts_port_dst_start` is above `ts_port_dst_end`",
            "swap the two",
        ),
        (
            "ts_ip_src: ::1, ts_ip_src_start: ::2",
            "71: ts_ip_src: conflicts with `ts_ip_src_start`",
            "give one of the two",
        ),
        (
            "ts_port_dst: 1, ts_port_dst_end: 2",
            "73: ts_port_dst: conflicts with `ts_port_dst_end`",
            "give one of the two",
        ),
        (
            "ts_ip_src: 2001:db8::1/64",
            "71: ts_ip_src: bits after the first 64 are set",
            "they must be 0: give the prefix's first address, or one address without `/`",
        ),
        ("ts_ip_src: 2001:db8::/129", "71: ts_ip_src: the prefix length is not 0 to 128", "write address/length"),
        ("ts_ip_src_start: 2001:db8::/64", "77: ts_ip_src_start: not an IP address", "a prefix is not allowed here"),
        ("ts_port_src: 5-4", "73: ts_port_src: the first port is above the last", "write the smaller one first"),
        ("ts_port_src: 65536", "73: ts_port_src: not a number from 0 to 65535", numbers),
        ("ts_port_src_end: -1", "77: ts_port_src_end: not a number from 0 to 65535", numbers),
        (
            "ts_port_src: OPAQUE",
            "73: ts_port_src: OPAQUE cannot be used in a Diet-ESP context",
            "give the values, or `ANY`",
        ),
        (
            "ts_ip_dst: opaque",
            "71: ts_ip_dst: OPAQUE cannot be used in a Diet-ESP context",
            "give the values, or `ANY`",
        ),
        ("ts_proto: OPAQUE", "70: ts_proto: OPAQUE cannot be used in a Diet-ESP context", "give the values, or `ANY`"),
        ("ts_proto: UPD", "70: ts_proto: `UPD` is not a valid value", "did you mean `UDP`?; or its number, 0 to 255"),
        ("ts_proto: 256", "70: ts_proto: not a number from 0 to 255", numbers),
        (
            "dscp_cda: sa",
            "5: a context without `dscp_list`",
            "`dscp_cda: sa` needs it: add `dscp_list: [46, 0]`, the values in order",
        ),
        ("dscp_cda: sa, dscp_list: []", "85: dscp_list: an empty list", "`dscp_cda: sa` needs at least one DSCP value"),
        ("dscp_cda: sa, dscp_list: [1, 0x1]", "89: dscp_list: the list already has this value", "remove one of them"),
        ("dscp_list: [64]", "72: dscp_list: not a number from 0 to 63", numbers),
        ("dscp_list: 46", "71: dscp_list: not a list", "begin each entry with `- `"),
        ("alignment: 24 bit", "71: alignment: not a valid alignment", "one of: 8 bit, 16 bit, 32 bit, 64 bit"),
        ("ecn_cda: sa", "69: ecn_cda: `sa` is not a valid value", "one of: not_compressed, lower"),
        ("rule_id_value: 1", "75: rule_id_value: requires `rule_id: one_byte`", "add that, or remove this"),
        ("rule_id: one_byte, rule_id_value: 256", "94: rule_id_value: not a number from 0 to 255", numbers),
        ("protocol: 0", "70: protocol: not a number from 1 to 255", numbers),
        ("revision: ietf-05", "70: revision: `ietf-05` is not a valid value", "did you mean `ietf-06`?"),
        ("esp_sn: 18446744073709551616", "68: esp_sn: not a number from 0 to 18446744073709551615", numbers),
    ] {
        let text = format!("contexts:\n  - {{ sa: x, ipsec_mode: Tunnel, ts_ip_version: IPv6-only, {attribute} }}");
        let problem =
            format!("f:2:{}", if problem.starts_with("5:") { problem.replacen('5', "7", 1) } else { problem.into() });
        assert_eq!(refused(&text), (problem, help.to_owned()), "{attribute}");
    }
}

#[test]
fn contexts_find_their_sas() {
    let keys = "sas:
  - { name: probe-1, spi: 1, dst: 10.0.0.1, encr: ENCR_NULL, integ: NONE }
  - { name: probe-2, spi: 1, dst: 10.0.0.0/31, src: 1.1.1.1, esn: true, encr: ENCR_NULL, integ: NONE }
  - { spi: 2, encr: ENCR_NULL, integ: NONE }
contexts:
"
    .replace("dst: 10.0.0.1,", "dst: 10.0.0.7,");
    let with = |contexts: &[&str]| {
        let lines = contexts.iter().map(|context| format!("  - {{ ipsec_mode: Transport, {context} }}\n"));
        format!("{keys}{}", lines.collect::<String>())
    };
    let bound = |contexts: &[&str]| {
        let loaded = load_text(&with(contexts));
        bind(&loaded.sas, &loaded.contexts).unwrap()
    };
    assert_eq!(bound(&[]), [None, None, None]);
    assert_eq!(bound(&["sa: probe-2", "sa: probe-1"]), [Some(1), Some(0), None]);
    assert_eq!(bound(&["sa: \"0x00000002\""]), [None, None, Some(0)]);
    assert_eq!(bound(&["spi: 2", "spi: 1, dst: 10.0.0.7"]), [Some(1), None, Some(0)]);
    assert_eq!(bound(&["spi: 1, dst: 10.0.0.0/31"]), [None, Some(0), None]);
    assert_eq!(bound(&["spi: 1, dst: 10.0.0.1, esp_sn: 4294967296"]), [None, Some(0), None]);
    // Thousands with one SPI, distinguished by an address inside their prefix.
    let (mut text, mut contexts) = ("sas:\n".to_owned(), "contexts:\n".to_owned());
    for index in 0..3000 {
        let (net, host) = (format!("10.{}.{}", index >> 8, index & 0xff), index % 2 * 200);
        text += &format!(
            "  - {{ spi: 7, src: {net}.{host}/{}, dst: 1.1.1.1, encr: ENCR_NULL, integ: NONE }}\n",
            29 + index % 4
        );
        contexts += &format!("  - {{ ipsec_mode: Transport, spi: 7, src: {net}.{host}, dst: 1.1.1.1 }}\n");
    }
    let loaded = load_text(&(text + &contexts));
    let each: Vec<Option<usize>> = (0..3000).map(Some).collect();
    assert_eq!(bind(&loaded.sas, &loaded.contexts).unwrap(), each);
    assert_refused(&[
        (
            &with(&["sa: prob-1"]),
            "f:6: no key file has the SA `prob-1` of this context",
            "did you mean `probe-1` or `probe-2`?",
        ),
        (
            &with(&["sa: other"]),
            "f:6: no key file has the SA `other` of this context",
            "the SAs are: `probe-1`, `probe-2`, `0x00000002`",
        ),
        (
            &with(&["spi: 1, src: 9.9.9.9, dst: 10.0.0.0"]),
            "f:6: no key file has the SA SPI 0x00000001 of this context",
            "did you mean `0x00000002`?",
        ),
        (
            &with(&["spi: 1"]),
            "f:6: SPI 0x00000001 is the SA at f:2 and the SA at f:3",
            "name it by `spi:` with `src:` and `dst:`",
        ),
        (
            &with(&["sa: probe-1", "spi: 1, dst: 10.0.0.7"]),
            "f:7: SPI 0x00000001 already has a context, at f:6",
            "an SA can have only one context: remove one of the two",
        ),
        (
            &with(&["sa: probe-1, esp_sn: 4294967296"]),
            "f:6: esp_sn of `probe-1` is above 4294967295, but the SA has 32-bit sequence numbers",
            "set `esn: true` in the key file, or correct `esp_sn`",
        ),
        (
            "contexts:\n  - { sa: x, ipsec_mode: Transport }",
            "f:2: no key file has the SA `x` of this context",
            "no SA was loaded: also load a key file",
        ),
    ]);
}

/// The number of SAs with one SPI that are searched one by one, and one more.
#[test]
fn contexts_find_their_sa_among_few_and_many_of_one_spi() {
    for count in [16, 17] {
        let sa = |spi: u32, src: &str, dst: &str| {
            format!("  - {{ spi: {spi}, src: {src}, dst: {dst}, encr: ENCR_NULL, integ: NONE }}\n")
        };
        let nets: String = (2..count).map(|net| sa(7, &format!("10.0.{net}.0/24"), "1.1.1.1")).collect();
        let keys = [sa(7, "any", "2.2.2.2"), sa(7, "11.0.0.1", "3.3.3.0/24"), nets, sa(8, "any", "any")].concat();
        let with = |context: &str| format!("sas:\n{keys}contexts:\n  - {{ ipsec_mode: Transport, spi: 7{context} }}\n");
        for (context, at) in [
            (", src: 9.9.9.9, dst: 2.2.2.2", 0),
            (", src: any", 0),
            (", dst: 3.3.3.7", 1),
            (", src: 11.0.0.1, dst: 3.3.3.0/24", 1),
            (", src: 10.0.5.0/24", 5),
            (", src: 10.0.5.9, dst: 1.1.1.1", 5),
        ] {
            let loaded = load_text(&with(context));
            let mut expected = vec![None; count + 1];
            expected[at] = Some(0);
            assert_eq!(bind(&loaded.sas, &loaded.contexts).unwrap(), expected, "{count} SAs: {context}");
        }
        for (context, others) in [("", "f:2 and the SA at f:3"), (", src: 10.0.5.9", "f:2 and the SA at f:7")] {
            let problem = format!("SPI 0x00000007 is the SA at {others}");
            assert!(refused(&with(context)).0.ends_with(&problem), "{count} SAs: {context}");
        }
        // Each address belongs to some SA, but no SA has both.
        let none = refused(&with(", src: 10.0.5.9, dst: 3.3.3.7")).0;
        assert!(none.ends_with("no key file has the SA SPI 0x00000007 of this context"), "{count} SAs: {none}");
    }
}
