//! Native key files.

use super::*;
use crate::context::Origin;

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
fn hex_values_keep_their_characters_in_yaml() {
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
                assert_eq!(refused(&text).0, "f:1:44: key: character 2 is not a hex digit");
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
fn key_file_errors_have_problem_position_and_help() {
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
        ("sas:\n  - spi: 1\n    spi: 2", "f:3:5: key `spi` is given twice, first in line 2", "remove one of them"),
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
            "f:3:11: encr: `ENCR_AES_CCM8` is not a known cipher",
            "did you mean ENCR_AES_CCM_8?",
        ),
        (
            "sas:\n  - spi: 1\n    encr: 3DES",
            "f:3:11: encr: `3DES` is not a known cipher",
            "one of: ENCR_AES_CCM_8, ENCR_AES_CCM_12, ENCR_AES_CCM_16, ENCR_AES_GCM_8, ENCR_AES_GCM_12, \
             ENCR_AES_GCM_16, ENCR_CHACHA20_POLY1305, ENCR_AES_CCM_8_IIV, ENCR_AES_GCM_16_IIV, \
             ENCR_CHACHA20_POLY1305_IIV, ENCR_NULL_AUTH_AES_GMAC, ENCR_AES_CBC, ENCR_AES_CTR, ENCR_NULL",
        ),
        (sa, "f:2:5: an SA without `key`", "ENCR_AES_CCM_8 needs 16 or 24 or 32 bytes: add `key:`"),
        (&format!("{sa}    key:"), "f:4:8: key: no value", "write one, or remove the key"),
        (
            &format!("{sa}    key: 0011g"),
            "f:4:10: key: character 5 is not a hex digit",
            "write bytes as pairs of 0-9 and a-f; `0x`, spaces, `:` and `_` are allowed",
        ),
        (
            &format!("{sa}    key: {KEY}0"),
            "f:4:10: key: 33 hex digits are not whole bytes",
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
            "f:5:12: ENCR_AES_CCM_8 checks integrity itself: omit integ (AUTH_HMAC_SHA1_96) and integ_key",
            "compare `encr`, `integ` and the secrets with the peers' configuration",
        ),
        (
            &cbc,
            "f:2:5: ENCR_AES_CBC does not check integrity: give integ and integ_key, or integ: NONE",
            "add `integ:` with an algorithm, such as AUTH_HMAC_SHA2_256_128, or with NONE",
        ),
        (
            &format!("{cbc}    integ: AUTH_HMAC_SHA1_69"),
            "f:5:12: integ: `AUTH_HMAC_SHA1_69` is not a known integrity algorithm",
            "did you mean AUTH_HMAC_SHA1_96?",
        ),
        (
            &format!("{cbc}    integ: AUTH_HMAC_SHA1_96"),
            "f:2:5: an SA without `integ_key`",
            "AUTH_HMAC_SHA1_96 needs 20 bytes: add `integ_key:`",
        ),
        (
            &format!("{cbc}    integ_key: 00"),
            "f:5:16: `integ_key` requires an algorithm",
            "add `integ:` and the algorithm, or remove `integ_key`",
        ),
        (
            "sas:\n  - spi: 1\n    src: 10.0.0.1/24",
            "f:3:10: src: bits after the first 24 are set",
            "they must be 0: give the prefix's first address, or one address without `/`",
        ),
        ("sas: [{ spi: 1, src: 10.0.0.256 }]", "f:1:22: src: not an IP address", "write one IPv4 or IPv6 address"),
        (
            "sas: [{ spi: 1, src: 10.0.0.1, dst: ::1 }]",
            "f:1:37: dst: another IP version than `src`",
            "both belong to one outer header",
        ),
        (
            "sas:\n  - spi: 1\n    src: 2001:db8::",
            "f:3:19: not valid YAML: mapping values are not allowed in this context",
            "quote values that end in a colon: \"2001:db8::\"",
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
            "give each SA a unique name",
        ),
        (
            &format!("sas:\n  - {{ name: \"0x00000002\", spi: 1, {null} }}\n  - {{ spi: 2, {null} }}"),
            "f:3: name `0x00000002` is given twice, first at f:2",
            "give each SA a unique name",
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
            "f:1:61: key: AES-CCM* of 802.15.4 needs 16 bytes, not 3",
            "write 32 hex digits",
        ),
    ]);
}

/// One SPI for all nodes of a network: their link-layer addresses distinguish them.
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
    // A packet that matches both.
    assert!(!two(one, one) && !two(one, "") && !two(one, ", link_dst: 0x0001") && !two("", other));
    assert!(!two(", link_src: 0x0001, link_dst: 0x0003", one) && two(", link_src: 0x0001, link_dst: 0x0003", other));
}

#[test]
fn a_duplicate_spi_is_rejected_if_selectors_overlap() {
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
        let help = "give both `src` and `dst` so that no packet matches both, or remove one SA";
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
