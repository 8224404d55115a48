use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::context::{Dialect, DscpCda, FlowLabelCda, HeaderCda, Ietf, IpVersion, Mode, Range, TcpHeader};
use crate::sa::LinkAddress;

fn load_bytes(text: &[u8]) -> Result<Loaded, Error> {
    parse(Path::new("f"), text)
}

fn load_text(text: &str) -> Loaded {
    load_bytes(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{}\n{text}", error.help()))
}

/// Message and help.
fn refused(text: &str) -> (String, String) {
    let error = match load_bytes(text.as_bytes()) {
        Ok(loaded) => bind(&loaded.sas, &loaded.contexts).expect_err(text),
        Err(error) => error,
    };
    (error.to_string(), error.help().to_owned())
}

#[track_caller]
fn assert_refused(cases: &[(&str, &str, &str)]) {
    for (text, problem, help) in cases {
        assert_eq!(refused(text), ((*problem).to_owned(), (*help).to_owned()), "\n{text}");
    }
}

fn ietf(context: &Context) -> &Ietf {
    let Dialect::Ietf(ietf) = &context.dialect else { panic!("of another dialect") };
    ietf
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A context with the attributes given, beside the required ones.
fn context(attributes: &str) -> Context {
    let text = format!("contexts: [{{ sa: x, ipsec_mode: Tunnel, ts_ip_version: IPv6-only, {attributes} }}]");
    load_text(&text).contexts.remove(0)
}

const KEY: &str = "00112233445566778899aabbccddeeff";

#[test]
fn a_native_key_file() {
    let loaded = load_text(
        "\u{feff}sas:\r
  - name: probe-1-up\r
    spi: 0x0000a1b2\r
    src: 2001:db8:0:1::2\r
    dst: 2001:db8::/32\r
    encr: ENCR_AES_CCM_8\r
    key: 00112233445566778899aabbccddeeff\r
    salt: a0a1a2\r
    esn: true\r
    link_src: 0x0012\r
    link_dst: \"00:12:4b:00:14:b5:d9:91\"\r
  - spi: 41394\r
    dst: any\r
    src: 192.0.2.1\r
    encr: encr_aes_cbc\r
    key: 0x0011_2233 4455:6677 8899aabbccddeeff\r
    integ: AUTH_HMAC_SHA1_96\r
    integ_key: 0102030405060708090a0b0c0d0e0f1011121314\r
link_keys: [{ eui64: 00124b0014b5d991, short: 0x0012, mode: 1, index: 3, key: 00112233445566778899aabbccddeeff }]\r
",
    );
    let [a, b] = loaded.sas.as_slice() else { panic!() };
    assert_eq!((a.name.as_str(), a.spi, a.esn), ("probe-1-up", Some(0xa1b2), true));
    assert_eq!(a.src, Selector::address(ip("2001:db8:0:1::2")));
    assert_eq!(a.dst, Selector::Prefix { address: ip("2001:db8::"), len: 32 });
    assert_eq!(a.keys.suite().name, "ENCR_AES_CCM_8");
    assert_eq!(hex::encode(a.keys.key().expose()), KEY);
    assert_eq!(a.keys.salt().expose(), [0xa0, 0xa1, 0xa2]);
    assert_eq!(a.link_src, Some(LinkAddress::Short(0x12)));
    assert_eq!(a.link_dst, Some(LinkAddress::Extended([0, 0x12, 0x4b, 0, 0x14, 0xb5, 0xd9, 0x91])));
    assert_eq!(a.origin, Origin { path: Path::new("f").into(), line: 2 });
    assert_eq!((b.name.as_str(), b.spi, b.dst), ("0x0000a1b2", Some(0xa1b2), Selector::Any));
    assert_eq!(hex::encode(b.keys.key().expose()), KEY);
    assert_eq!(b.keys.integ().map(|(integ, key)| (integ.name, key.len())), Some(("AUTH_HMAC_SHA1_96", 20)));
    let [link_key] = loaded.link_keys.as_slice() else { panic!() };
    assert_eq!((link_key.mode, link_key.index, link_key.key.len()), (1, Some(3), 16));
    assert_eq!(link_key.eui64, [0, 0x12, 0x4b, 0, 0x14, 0xb5, 0xd9, 0x91]);
    assert_eq!(link_key.short, Some(0x12));
}

#[test]
fn hex_values_are_the_characters_written_whatever_yaml_makes_of_them() {
    for (written, bytes) in [
        ("00000000000000000000000000000000", "00000000000000000000000000000000"),
        ("01234567890123456789012345678901", "01234567890123456789012345678901"),
        ("0x01234567890123456789012345678901", "01234567890123456789012345678901"),
        ("1234567890123456789012345678901e", "1234567890123456789012345678901e"),
        ("000000000000000000000000000001e5", "000000000000000000000000000001e5"),
        ("'01234567890123456789012345678901'", "01234567890123456789012345678901"),
        ("\"0123 4567 8901 2345 6789 0123 4567 8901\"", "01234567890123456789012345678901"),
        ("01:23:45:67:89:01:23:45:67:89:01:23:45:67:89:01", "01234567890123456789012345678901"),
        ("0123_4567_8901_2345_6789_0123_4567_8901", "01234567890123456789012345678901"),
        ("0o123456789012345678901234567890", ""),
    ] {
        for (salt, salt_bytes) in [
            ("102030", [0x10, 0x20, 0x30]),
            ("001e10", [0, 0x1e, 0x10]),
            ("0x000012", [0, 0, 0x12]),
            ("000000", [0; 3]),
        ] {
            let text = format!("sas: [{{ spi: 1, encr: ENCR_AES_CCM_8, key: {written}, salt: {salt} }}]");
            if bytes.is_empty() {
                assert_eq!(refused(&text).0, "f:1:44: key: character 2 is no hex digit");
                continue;
            }
            let loaded = load_text(&text);
            assert_eq!(hex::encode(loaded.sas[0].keys.key().expose()), bytes, "{written}");
            assert_eq!(loaded.sas[0].keys.salt().expose(), salt_bytes, "{salt}");
        }
    }
}

#[test]
fn a_salt_may_be_appended_to_the_key() {
    for (encr, salt_len) in
        [("ENCR_AES_CCM_12", 3), ("ENCR_AES_GCM_16_IIV", 4), ("ENCR_NULL_AUTH_AES_GMAC", 4), ("ENCR_AES_GCM_8", 4)]
    {
        let salt = "a0a1a2a3".get(..2 * salt_len).unwrap();
        let sa = load_text(&format!("sas: [{{ spi: 1, encr: {encr}, key: {KEY}{salt} }}]")).sas.remove(0);
        assert_eq!((sa.keys.key().len(), hex::encode(sa.keys.salt().expose())), (16, salt.to_owned()), "{encr}");
    }
}

#[test]
fn key_file_errors_say_what_where_and_how() {
    let sa = "sas:\n  - spi: 1\n    encr: ENCR_AES_CCM_8\n";
    let cbc = format!("sas:\n  - spi: 1\n    encr: ENCR_AES_CBC\n    key: {KEY}\n");
    let null = "encr: ENCR_NULL, integ: NONE";
    assert_refused(&[
        ("sas: x", "f:1:6: sas: not a list", "begin each entry with `- `"),
        ("sas: [x]", "f:1:7: a single value, where an SA is expected", "write `key: value` lines here"),
        ("- a", "f:1:1: a list, where a key or rule file is expected", "write `key: value` lines here"),
        (
            "keys: []",
            "f:1:1: unknown key `keys` in a key or rule file",
            "known keys: contexts, link_keys, lowpan_contexts, sas",
        ),
        ("sas:\n  - name: a", "f:2:5: an SA without `spi`", "add `spi: 0x` and 8 hex digits"),
        ("sas:\n  - sipi: 1", "f:2:5: unknown key `sipi` in an SA", "did you mean `spi`?"),
        (
            &format!("sas:\n  - {{ spi: 1, {null}, Name: x }}"),
            "f:2:45: unknown key `Name` in an SA",
            "did you mean `name`?",
        ),
        ("sas:\n  - spi: 1\n    spi: 2", "f:3:5: key `spi` is given twice, first in line 2", "take one of them away"),
        (
            "sas:\n  - spi: 0x1ffffffff",
            "f:2:10: spi: not an SPI of 32 bits",
            "write it as `0x` and up to 8 hex digits, or in decimal",
        ),
        (
            "sas:\n  - spi: a1b2",
            "f:2:10: spi: not an SPI of 32 bits",
            "write it as `0x` and up to 8 hex digits, or in decimal",
        ),
        (
            "sas:\n  - spi: 1\n    key:",
            "f:2:5: an SA without `encr`",
            "add `encr:` and the cipher, such as ENCR_AES_CCM_8",
        ),
        (
            "sas:\n  - spi: 1\n    encr: ENCR_AES_CCM8",
            "f:3:11: encr: `ENCR_AES_CCM8` is no cipher",
            "did you mean ENCR_AES_CCM_8?",
        ),
        (
            "sas:\n  - spi: 1\n    encr: 3DES",
            "f:3:11: encr: `3DES` is no cipher",
            "one of: ENCR_AES_CCM_8, ENCR_AES_CCM_12, ENCR_AES_CCM_16, ENCR_AES_GCM_8, ENCR_AES_GCM_12, \
             ENCR_AES_GCM_16, ENCR_CHACHA20_POLY1305, ENCR_AES_CCM_8_IIV, ENCR_AES_GCM_16_IIV, \
             ENCR_CHACHA20_POLY1305_IIV, ENCR_NULL_AUTH_AES_GMAC, ENCR_AES_CBC, ENCR_AES_CTR, ENCR_NULL",
        ),
        (sa, "f:2:5: an SA without `key`", "ENCR_AES_CCM_8 needs 16 or 24 or 32 bytes: add `key:`"),
        (&format!("{sa}    key:"), "f:4:8: key: no value", "write one, or take the key away"),
        (
            &format!("{sa}    key: 0011g"),
            "f:4:10: key: character 5 is no hex digit",
            "write bytes as pairs of 0-9 and a-f; `0x`, spaces, `:` and `_` are allowed",
        ),
        (
            &format!("{sa}    key: {KEY}0"),
            "f:4:10: key: 33 hex digits are no whole bytes",
            "two digits make a byte: one is missing",
        ),
        (
            &format!("{sa}    key: {KEY}00\n    salt: a0a1a2"),
            "f:4:10: key of ENCR_AES_CCM_8 is 16, 24 or 32 bytes, not 17",
            "compare `encr`, `integ` and the secrets with the peers' configuration",
        ),
        (
            &format!("{sa}    key: {KEY}"),
            "f:2:5: an SA without `salt`",
            "ENCR_AES_CCM_8 needs 3 bytes: add `salt:`, or append it to `key`",
        ),
        (
            &format!("{sa}    key: {KEY}\n    salt: a0a1a2a3"),
            "f:5:11: salt of ENCR_AES_CCM_8 is 3 bytes, not 4",
            "compare `encr`, `integ` and the secrets with the peers' configuration",
        ),
        (
            &format!("{sa}    key: {KEY}a0a1a2\n    integ: AUTH_HMAC_SHA1_96\n    integ_key: 00"),
            "f:5:12: ENCR_AES_CCM_8 checks integrity itself: leave out integ (AUTH_HMAC_SHA1_96) and integ_key",
            "compare `encr`, `integ` and the secrets with the peers' configuration",
        ),
        (
            &cbc,
            "f:2:5: ENCR_AES_CBC does not check integrity: give integ and integ_key, or integ: NONE",
            "one of: AUTH_HMAC_SHA2_256_128 and its kin, NONE",
        ),
        (
            &format!("{cbc}    integ: AUTH_HMAC_SHA1_69"),
            "f:5:12: integ: `AUTH_HMAC_SHA1_69` is no integrity algorithm",
            "did you mean AUTH_HMAC_SHA1_96?",
        ),
        (
            &format!("{cbc}    integ: AUTH_HMAC_SHA1_96"),
            "f:2:5: an SA without `integ_key`",
            "AUTH_HMAC_SHA1_96 needs 20 bytes: add `integ_key:`",
        ),
        (
            &format!("{cbc}    integ: AUTH_HMAC_SHA1_96\n    integ_key: 00"),
            "f:6:16: integ_key of AUTH_HMAC_SHA1_96 is 20 bytes, not 1",
            "compare `encr`, `integ` and the secrets with the peers' configuration",
        ),
        (
            &format!("{cbc}    integ_key: 00"),
            "f:5:16: `integ_key` without an algorithm",
            "add `integ:` and the algorithm, or take `integ_key` away",
        ),
        (
            "sas:\n  - spi: 1\n    src: 10.0.0.1/24",
            "f:3:10: src: bits behind the first 24 are set",
            "they must be 0: give the prefix's first address, or one address without `/`",
        ),
        ("sas: [{ spi: 1, src: 10.0.0.256 }]", "f:1:22: src: no IP address", "write one IPv4 or IPv6 address"),
        (
            "sas: [{ spi: 1, src: 10.0.0.1, dst: ::1 }]",
            "f:1:37: dst: another IP version than `src`",
            "both belong to one outer header",
        ),
        (
            "sas:\n  - spi: 1\n    src: 2001:db8::",
            "f:3:19: not valid YAML: mapping values are not allowed in this context",
            "quote what ends in a colon: \"2001:db8::\"",
        ),
        (
            "sas:\n\t- spi: 1",
            "f:2:2: not valid YAML: tabs disallowed within this context (block indentation)",
            "YAML is indented with spaces, not with tabs",
        ),
        (
            &format!("sas: [{{ spi: 1, {null}, esn: maybe }}]"),
            "f:1:52: esn: neither true nor false",
            "write `true` or `false`",
        ),
        (
            &format!("sas: [{{ spi: 1, {null}, link_src: 0x001 }}]"),
            "f:1:57: link_src: not a link address",
            "write 8 bytes in hexadecimal (EUI-64), 2 (short address), or 6 (Bluetooth device address)",
        ),
        (
            &format!("sas:\n  - {{ name: a, spi: 1, {null} }}\n  - {{ name: a, spi: 2, {null} }}"),
            "f:3: name `a` is given twice, first at f:2",
            "give each SA a name of its own",
        ),
        (
            &format!("sas:\n  - {{ name: \"0x00000002\", spi: 1, {null} }}\n  - {{ spi: 2, {null} }}"),
            "f:3: name `0x00000002` is given twice, first at f:2",
            "give each SA a name of its own",
        ),
        ("link_keys: [{ eui64: 00:11, mode: 1, index: 1 }]", "f:1:22: eui64: not 8 bytes", "write 16 hex digits"),
        (
            "link_keys: [{ eui64: 00:11:22:33:44:55:66:77, short: 00:11:22:33:44:55, mode: 1 }]",
            "f:1:54: short: not 2 bytes",
            "write `0x` and 4 hex digits",
        ),
        (
            "link_keys: [{ eui64: 00:11:22:33:44:55:66:77, mode: 4 }]",
            "f:1:53: mode: not a number from 0 to 3",
            "write it in decimal, or in hexadecimal with `0x`",
        ),
        (
            "link_keys: [{ eui64: 00:11:22:33:44:55:66:77, mode: 1 }]",
            "f:1:15: a link key without `index`",
            "add `index:`, the Key Index of the auxiliary security header",
        ),
        (
            "link_keys: [{ eui64: 00:11:22:33:44:55:66:77, mode: 0, key: 001122 }]",
            "f:1:61: key: AES-CCM* of 802.15.4 takes 16 bytes, not 3",
            "write 32 hex digits",
        ),
    ]);
}

/// One SPI for all nodes of a network: their link-layer addresses tell them apart.
#[test]
fn link_layer_selectors_are_selectors() {
    let two = |a: &str, b: &str| {
        let sa =
            |name: &str, link: &str| format!("  - {{ name: {name}, spi: 1, encr: ENCR_NULL, integ: NONE{link} }}\n");
        load_bytes(format!("sas:\n{}{}", sa("a", a), sa("b", b)).as_bytes()).is_ok()
    };
    let (one, other, bluetooth) = (", link_src: 0x0001", ", link_src: 0x0002", ", link_src: \"00:11:22:33:44:55\"");
    assert!(two(one, other) && two(one, bluetooth) && two(other, bluetooth));
    assert!(two(", link_src: 0x0001, link_dst: 0x0003", ", link_src: 0x0001, link_dst: 0x0004"));
    // A packet fits both.
    assert!(!two(one, one) && !two(one, "") && !two(one, ", link_dst: 0x0001") && !two("", other));
    assert!(!two(", link_src: 0x0001, link_dst: 0x0003", one) && two(", link_src: 0x0001, link_dst: 0x0003", other));
}

#[test]
fn one_spi_twice_is_refused_where_the_selectors_overlap() {
    let pair = |a: &str, b: &str| {
        let sa = |name: &str, selectors: &str| {
            format!("  - {{ name: {name}, spi: 1, encr: ENCR_NULL, integ: NONE, {selectors} }}\n")
        };
        format!("sas:\n{}{}", sa("a", a), sa("b", b))
    };
    for (a, b) in [
        ("", ""),
        ("", "src: 10.0.0.1"),
        ("src: 10.0.0.1", "dst: 10.0.0.2"),
        ("dst: 10.0.0.0/8", "dst: 10.1.0.0/16, src: 1.1.1.1"),
        ("dst: 10.0.0.0/8, src: 1.1.1.1", "dst: 10.1.2.3, src: 0.0.0.0/0"),
        ("src: \"::/0\"", "dst: 2001:db8::1"),
    ] {
        let overlap = "f:3: SPI 0x00000001 of `b` is also the SPI of `a` at f:2, and their `src` and `dst` overlap";
        let help = "give both `src` and `dst` so that no packet fits both, or take one SA away";
        assert_eq!(refused(&pair(a, b)), (overlap.into(), help.into()), "{a} {b}");
    }
    for (a, b) in [
        ("src: 10.0.0.1", "src: 10.0.0.2"),
        ("dst: 10.0.0.0/8", "dst: 11.0.0.0/8"),
        ("src: 10.0.0.1, dst: 10.0.0.3", "src: 10.0.0.0/8, dst: 10.0.0.4"),
        ("src: 0.0.0.0/0", "src: \"::/0\""),
        ("src: 10.0.0.1", "dst: 2001:db8::1, src: 2001:db8::2"),
    ] {
        assert_eq!(load_text(&pair(a, b)).sas.len(), 2, "{a} {b}");
    }
}

#[test]
fn many_sas_of_one_spi_are_compared_quickly() {
    let mut text = String::from("sas:\n");
    for number in 0..20_000u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number);
        text.push_str(&format!("- {{ name: n{number}, spi: 7, dst: {address}, encr: ENCR_NULL, integ: NONE }}\n"));
    }
    assert_eq!(load_text(&text).sas.len(), 20_000);
    text.push_str("- { name: last, spi: 7, dst: 10.0.0.0/31, src: 10.0.0.1, encr: ENCR_NULL, integ: NONE }\n");
    assert!(refused(&text).0.starts_with("f:20002: SPI 0x00000007 of `last` is also the SPI of `n0` at f:2,"));
}

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
    let address = |text: &str| crate::context::address_value(ip(text));
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
fn what_is_not_given_has_its_default() {
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
    // Half a range reaches to the end of the whole one.
    assert_eq!(context("ts_ip_src_start: \"::5\"").selectors.src, Range { start: 5, end: u128::MAX });
}

#[test]
fn the_version_follows_from_the_addresses_where_it_need_not_be_given() {
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
fn rule_file_errors_say_what_where_and_how() {
    let numbers = "write it in decimal, or in hexadecimal with `0x`";
    let version = "`ts_ip_version` and all addresses of a context's `ts_ip_*` go together";
    assert_refused(&[
        (
            "contexts:\n- ipsec_mode: Tunnel",
            "f:2:3: a context without `sa`",
            "add `sa:` and the name of the SA in the key file, or `spi:`",
        ),
        ("contexts:\n- { sa: x, spi: 1 }", "f:2:9: sa: stands beside `spi`", "give one of the two"),
        (
            "contexts:\n- { sa: x, dst: 10.0.0.1 }",
            "f:2:17: dst: stands beside `sa`",
            "name the SA by `spi:` and `dst:`, or by `sa:` alone",
        ),
        ("contexts:\n- { sa: x, dialect: ehx }", "f:2:21: dialect: `ehx` is no dialect", "did you mean `ehc`?"),
        (
            "contexts:\n- sa: x",
            "f:2:3: a context without `ipsec_mode`",
            "add `ipsec_mode: Tunnel` or `ipsec_mode: Transport`",
        ),
        (
            "contexts:\n- { sa: x, ipsec_mode: Tunel }",
            "f:2:24: ipsec_mode: `Tunel` is no value of it",
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
            "f:1:23: lowpan_contexts: bits behind the first 64 are set",
            "they must be 0: give the prefix's first address, or one address without `/`",
        ),
    ]);
    for (attribute, problem, help) in [
        ("esp_sn_lbs: 8", "60: unknown key `esp_sn_lbs` in a context", "did you mean `esp_sn_lsb`?"),
        (
            "esp_spi_lsb: 4, esp_sn_lsb: 8",
            "88: esp_sn_lsb: `esp_spi_lsb` 4 and `esp_sn_lsb` 8 make 12 bits, which are no whole bytes",
            "their sum must be a multiple of 8",
        ),
        (
            "esp_spi_lsb: 4",
            "73: esp_spi_lsb: `esp_spi_lsb` 4 and `esp_sn_lsb` 32 make 36 bits, which are no whole bytes",
            "their sum must be a multiple of 8",
        ),
        ("esp_spi_lsb: 40", "73: esp_spi_lsb: not a number from 0 to 32", numbers),
        ("esp_sn_lsb: 8, esp_spi_sn: 8", "72: esp_sn_lsb: stands beside `esp_spi_sn`", "give one of the two"),
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
            "71: ts_ip_src: stands beside `ts_ip_src_start`",
            "give one of the two",
        ),
        (
            "ts_port_dst: 1, ts_port_dst_end: 2",
            "73: ts_port_dst: stands beside `ts_port_dst_end`",
            "give one of the two",
        ),
        (
            "ts_ip_src: 2001:db8::1/64",
            "71: ts_ip_src: bits behind the first 64 are set",
            "they must be 0: give the prefix's first address, or one address without `/`",
        ),
        ("ts_ip_src: 2001:db8::/129", "71: ts_ip_src: the prefix length is not 0 to 128", "write address/length"),
        ("ts_ip_src_start: 2001:db8::/64", "77: ts_ip_src_start: no IP address", "a prefix is not allowed here"),
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
        ("ts_proto: UPD", "70: ts_proto: `UPD` is no value of it", "did you mean `UDP`?; or its number, 0 to 255"),
        ("ts_proto: 256", "70: ts_proto: not a number from 0 to 255", numbers),
        (
            "dscp_cda: sa",
            "5: a context without `dscp_list`",
            "`dscp_cda: sa` needs it: add `dscp_list: [46, 0]`, the values in order",
        ),
        ("dscp_cda: sa, dscp_list: []", "85: dscp_list: an empty list", "`dscp_cda: sa` needs at least one DSCP value"),
        (
            "dscp_cda: sa, dscp_list: [1, 0x1]",
            "89: dscp_list: a value that stands in the list before",
            "take one of them away",
        ),
        ("dscp_list: [64]", "72: dscp_list: not a number from 0 to 63", numbers),
        ("dscp_list: 46", "71: dscp_list: not a list", "begin each entry with `- `"),
        ("alignment: 24 bit", "71: alignment: no alignment", "one of: 8 bit, 16 bit, 32 bit, 64 bit"),
        ("ecn_cda: sa", "69: ecn_cda: `sa` is no value of it", "one of: not_compressed, lower"),
        ("rule_id_value: 1", "75: rule_id_value: stands without `rule_id: one_byte`", "add that, or take this away"),
        ("rule_id: one_byte, rule_id_value: 256", "94: rule_id_value: not a number from 0 to 255", numbers),
        ("protocol: 0", "70: protocol: not a number from 1 to 255", numbers),
        ("revision: ietf-05", "70: revision: `ietf-05` is no value of it", "did you mean `ietf-06`?"),
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
    // Thousands of one SPI, told apart by an address inside of their prefix.
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
            "f:7: SPI 0x00000001 has a context already, at f:6",
            "an SA has one context: take one of the two away",
        ),
        (
            &with(&["sa: probe-1, esp_sn: 4294967296"]),
            "f:6: esp_sn of `probe-1` is above 4294967295, but the SA has 32-bit sequence numbers",
            "set `esn: true` in the key file, or correct `esp_sn`",
        ),
        (
            "contexts:\n  - { sa: x, ipsec_mode: Transport }",
            "f:2: no key file has the SA `x` of this context",
            "no SA was loaded: name a key file with --keys",
        ),
    ]);
}

#[test]
fn forms_are_told_apart_by_content() {
    for (text, expected) in [
        ("", Kind::Empty),
        ("# This file is automatically generated, DO NOT MODIFY.\n\n", Kind::Empty),
        ("# c\n\"IPv4\",\"*\"", Kind::EspSa),
        ("  \"IPv4\" , \"*\"", Kind::EspSa),
        ("IPv4,10.0.0.1", Kind::EspSa),
        ("src 10.0.0.1 dst 10.0.0.2\n\tproto esp", Kind::Xfrm),
        ("sas:\n", Kind::Yaml),
        ("---\nsas:\n", Kind::Yaml),
        ("{\"sas\": []}", Kind::Yaml),
        ("\"sas\": []", Kind::Yaml),
        ("src: 10.0.0.1", Kind::Yaml),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
    assert_eq!(load_text("# nothing").warnings, ["f: nothing but comments in it"]);
    assert_eq!(
        load_text("{\"sas\": [{\"spi\": 7, \"encr\": \"ENCR_NULL\", \"integ\": \"NONE\"}]}").sas[0].spi,
        Some(7)
    );
    let error = load_bytes(b"sas:\n  - name: \xff").unwrap_err();
    assert_eq!(error.to_string(), "f:2: not UTF-8 text");
}

#[test]
fn files_are_read_once_and_checked_together() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let both = write(
        "both.yaml",
        "sas: [{ name: a, spi: 1, encr: ENCR_NULL, integ: NONE }]\ncontexts: [{ sa: a, ipsec_mode: Transport }]",
    );
    let loaded = load(std::slice::from_ref(&both), std::slice::from_ref(&both)).unwrap();
    assert_eq!((loaded.sas.len(), loaded.contexts.len()), (1, 1));
    assert_eq!(load(&[], std::slice::from_ref(&both)).unwrap().sas.len(), 1);
    let other = write("other.yaml", "\nsas: [{ name: a, spi: 2, encr: ENCR_NULL, integ: NONE }]");
    let error = load(&[both.clone(), other.clone()], &[]).unwrap_err();
    let expected = format!("{}:2: name `a` is given twice, first at {}:1", other.display(), both.display());
    assert_eq!(error.to_string(), expected);
    let missing = folder.path().join("missing.yaml");
    let error = load(std::slice::from_ref(&missing), &[]).unwrap_err();
    assert!(error.to_string().starts_with(&format!("{}: cannot open: ", missing.display())), "{error}");
}

/// No message shows (a part of) a secret, whatever is wrong around it.
#[test]
fn secrets_are_not_in_messages() {
    const INTEG_KEY: &str = "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf";
    let good = [
        format!(
            "sas:\n  - name: a\n    spi: 0x00000001\n    src: 10.0.0.1\n    encr: ENCR_AES_CTR\n    key: {KEY}\n    \
             salt: a0a1a2a3\n    integ: AUTH_HMAC_SHA2_256_128\n    integ_key: {INTEG_KEY}\nlink_keys:\n  - eui64: \
             0102030405060708\n    mode: 1\n    index: 1\n    key: {KEY}\n"
        ),
        format!(
            "\"IPv4\",\"10.0.0.1\",\"10.0.0.2\",\"0x00000001\",\"AES-CTR [RFC3686]\",\"0x{KEY}a0a1a2a3\",\
             \"HMAC-SHA-256-128 [RFC4868]\",\"0x{INTEG_KEY}\",\"64-bit\",\"1\"\n"
        ),
        format!(
            "src 10.0.0.1 dst 10.0.0.2\n\tproto esp spi 0x00000001 reqid 1 mode tunnel\n\treplay-window 32\n\tauth-trunc \
             hmac(sha256) 0x{INTEG_KEY} 128\n\tenc rfc3686(ctr(aes)) 0x{KEY}a0a1a2a3\n"
        ),
    ];
    let parts = [KEY, INTEG_KEY, "a0a1a2a3"];
    let mut errors = 0;
    let mut try_one = |text: &str| {
        let result = load_bytes(text.as_bytes());
        let messages = match &result {
            Err(error) => {
                errors += 1;
                format!("{error}\n{}\n{error:?}", error.help())
            }
            Ok(loaded) => format!("{}\n{loaded:?}", loaded.warnings.join("\n")),
        };
        for part in parts {
            for piece in part.as_bytes().chunks(8) {
                let piece = std::str::from_utf8(piece).unwrap();
                assert!(!messages.contains(piece), "{piece} in {messages}\nof\n{text}");
            }
        }
    };
    for text in &good {
        assert!(load_bytes(text.as_bytes()).is_ok(), "{text}");
        // Every character taken away, doubled, or replaced by what means something in one of the forms.
        for at in 0..text.len() {
            let (before, behind) = text.split_at(at);
            let rest = behind.get(1..).unwrap();
            try_one(&format!("{before}{rest}"));
            try_one(before);
            for other in
                [":", "\"", "\n", " ", ",", "{", "[", "&", "*", "!", "g", "#", "\t", "- ", "0x", "|", "%", "<<: "]
            {
                try_one(&format!("{before}{other}{rest}"));
                try_one(&format!("{before}{other}{behind}"));
            }
        }
        // Every two words exchanged: keys where names, addresses or numbers belong.
        let words: Vec<&str> = text.split_inclusive([' ', '\n', ',']).collect();
        for a in 0..words.len() {
            for b in a + 1..words.len() {
                let mut words = words.clone();
                words.swap(a, b);
                try_one(&words.concat());
            }
        }
    }
    assert!(errors > 10_000, "{errors}");
}

#[test]
fn the_shared_files_load() {
    let Some(shared) = shared() else { return };
    let mut count = 0;
    for entry in ["compress", "decode"] {
        for case in std::fs::read_dir(shared.join("diet-cases").join(entry)).unwrap() {
            let case = case.unwrap().path();
            let rules = case.join("rules.yaml");
            let text = std::fs::read_to_string(&rules).unwrap();
            let loaded = load(&[case.join("keys.yaml")], std::slice::from_ref(&rules));
            let loaded = loaded.unwrap();
            let bound = bind(&loaded.sas, &loaded.contexts).unwrap();
            let contexts = text.lines().filter(|line| line.starts_with("  - ")).count();
            assert_eq!((loaded.contexts.len(), bound.iter().flatten().count()), (contexts, contexts));
            count += 1;
        }
    }
    assert!(count >= 12, "{count}");
}

/// The same SAs, written by two other programs.
#[test]
fn esp_sa_and_xfrm_state_of_one_capture_agree() {
    let Some(shared) = shared() else { return };
    for name in ["strongswan_ccm8_v6", "strongswan_gcm16_v4"] {
        let file = |suffix: &str| load(&[shared.join("captures").join(format!("{name}.{suffix}"))], &[]).unwrap();
        let xfrm = file("ip-xfrm-state.txt");
        let esp_sa = file("esp_sa");
        assert!(xfrm.warnings.is_empty() && esp_sa.warnings.is_empty());
        let first_readings: Vec<&Arc<Sa>> = esp_sa.sas.iter().filter(|sa| sa.alternative_to.is_none()).collect();
        assert_eq!(first_readings.len(), xfrm.sas.len());
        assert!(xfrm.sas.len() >= 6);
        for (a, b) in first_readings.iter().zip(&xfrm.sas) {
            assert_eq!((&a.name, a.spi, a.src, a.dst, a.esn), (&b.name, b.spi, b.src, b.dst, b.esn));
            assert_eq!(a.keys, b.keys);
        }
    }
}

fn shared() -> Option<PathBuf> {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared");
    let folder = PathBuf::from(std::env::var_os("DIETESP_SHARED").unwrap_or(default.into()));
    if folder.is_dir() {
        return Some(folder);
    }
    println!("left out: ../shared is not here");
    None
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = load_bytes(&bytes);
    }

    #[test]
    fn no_yaml_like_text_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "sas:", "contexts:", "\n", "\n  - ", "\n    ", "spi: ", "0x1", "key: ", "00", "&a ", "*a", "<<: ", "{", "}", "[", "]",
        ", ", "'", "\"", "sa: ", "ts_ip_src: ", "::/0", "10.0.0.0/8", "ts_port_src: ", "1-2", "ipsec_mode: ", "Transport",
        "lowpan_contexts: ", "link_keys: ", "? ", "| ", "> ", "---", "%", "!", "~", "dscp_list: ", "encr: ", "ENCR_NULL",
        "integ: NONE", "esp_spi_lsb: ", "alignment: ", "tunnel_ip: ", "src: ", "dst: ", "# ",
    ]), 0..60)) {
        if let Ok(loaded) = load_bytes(words.concat().as_bytes()) {
            let _ = bind(&loaded.sas, &loaded.contexts);
        }
    }

    #[test]
    fn no_line_of_other_tools_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "\"IPv4\",", "\"IPv6\",", "\"*\",", "\"10.*.*.*\",", "\"::*\",", "\"0x1\",", "\"*.*\",", "\"AES-CTR [RFC3686]\",", "\"NULL\",",
        "\"0x\",", "\"\\x41\\x\",", "\"é*\",", "\"\"", "\n", "src ::1 dst ::2\n", " proto esp spi 0x1 reqid 1\n", " aead ", " enc ",
        " auth-trunc ", "cbc(aes) ", "0x00 ", "(8 bits) ", "128\n", "anti-replay context: seq 0x1, oseq 0x\n", "\"64-bit\",",
        "\"ANY 64 bit authentication [no checking]\",", " replay-window 0 flag esn\n", "seq-hi 0xffffffff, seq\n",
    ]), 0..40)) {
        let _ = load_bytes(words.concat().as_bytes());
    }
}

#[test]
fn large_files_are_read_side_by_side_and_say_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (mut keys, mut rules) = ("sas:\n".to_owned(), "contexts:\n".to_owned());
    for spi in 1..=1000 {
        keys += &format!("- {{ spi: {spi}, encr: ENCR_AES_GCM_16, key: {} }}\n", "00".repeat(20));
        rules += &format!("- {{ spi: {spi}, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, ts_ip_src: 10.0.0.0/16 }}\n");
    }
    assert!(keys.len().min(rules.len()) >= WORTH_A_THREAD);
    let [good_keys, good_rules] = [write("keys", &keys), write("rules", &rules)];
    let bad_keys = write("bad keys", &keys.replacen("spi: 500,", "spi: x,", 1));
    let bad_rules = write("bad rules", &format!("{rules}- {{ spi: 1\n"));
    let load = |keys: &PathBuf, rules: &PathBuf| load(std::slice::from_ref(keys), std::slice::from_ref(rules));
    let loaded = load(&good_keys, &good_rules).unwrap();
    assert_eq!((loaded.sas.len(), loaded.contexts.len()), (1000, 1000));
    assert_eq!((loaded.sas[499].spi, loaded.sas[499].origin.line), (Some(500), 501));
    assert_eq!(loaded.contexts[499].origin, Origin { path: good_rules.as_path().into(), line: 501 });
    let error = |keys, rules| load(keys, rules).unwrap_err().to_string();
    let of_keys = error(&bad_keys, &good_rules);
    assert!(of_keys.contains("bad keys:501:"), "{of_keys}");
    assert_eq!(error(&bad_keys, &bad_rules), of_keys, "key files come first");
    let of_rules = error(&good_keys, &bad_rules);
    assert!(of_rules.contains("bad rules:1002:") || of_rules.contains("bad rules:1003:"), "{of_rules}");
}
