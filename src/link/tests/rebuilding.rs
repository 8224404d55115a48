//! Compares with frames that scapy made around both payloads.

use super::*;

const ESP_PAYLOAD: &str = "0000a1b20000000163697068657274657874";
const OTHER: &str = "404142434445464748494a4b4c4d4e4f505152535455565758595a";

/// Rebuilds `before` with [`OTHER`] as payload, given in two parts.
fn rebuilt(link_type: u16, before: &str, protocol: u8) -> String {
    let frame = bytes(before);
    let read = datagram(link_type, &frame);
    let udp = udp_encapsulation(&read, &EspPorts::default()).unwrap();
    let payload = bytes(OTHER);
    let (first, rest) = payload.split_at(5);
    let mut out = b"left over".to_vec();
    let link_header = &frame[..read.frame_offset];
    rebuild(link_header, &read, protocol, udp.map(|udp| udp.udp_header), &[first, &[], rest], &mut out).unwrap();
    hex::encode(out)
}

#[test]
fn ipv4_after_a_vlan_tag() {
    let link = "020000000002020000000001810000070800";
    let before = format!("{link}45b90026123400003f327c7dc0000201c6336407{ESP_PAYLOAD}ffffffffff");
    let after = format!("{link}45b9002f123400003f327c74c0000201c6336407{OTHER}");
    assert_eq!(rebuilt(1, &before, 50), after);
}

#[test]
fn ipv4_options_are_kept_and_the_protocol_changes() {
    let before = format!("47b9002e123400003f32e46ec0000201c63364079404000001010101{ESP_PAYLOAD}");
    let after = format!("47b90037123400003f29e46ec0000201c63364079404000001010101{OTHER}");
    assert_eq!(rebuilt(101, &before, 41), after);
}

#[test]
fn ipv6_extension_headers_are_kept_and_the_last_names_the_protocol() {
    let headers = |len: &str, next: &str| {
        let addresses = "20010db800000000000000000000000120010db8000000000000000000000002";
        format!("6b9abcde{len}003d{addresses}3c00050200000100{next}01010a000000000000000000000100")
    };
    let before = format!("{}{ESP_PAYLOAD}", headers("002a", "32"));
    let after = format!("{}{OTHER}", headers("0033", "11"));
    assert_eq!(rebuilt(101, &before, 17), after);
}

#[test]
fn udp_over_ipv6() {
    let link = "02000000000202000000000186dd";
    let addresses = "20010db800000000000000000000000120010db8000000000000000000000002";
    let before = format!("{link}6b9abcde001a113d{addresses}11941194001ab94b{ESP_PAYLOAD}");
    let after = format!("{link}6b9abcde0023113d{addresses}119411940023471e{OTHER}");
    assert_eq!(rebuilt(1, &before, 17), after);
}

#[test]
fn udp_over_ipv4_with_and_without_checksum() {
    let frame = |ip_len: &str, ip_checksum: &str, udp: &str, payload: &str| {
        let addresses = "c0000201c6336407";
        format!("020000000002020000000001080045b9{ip_len}123400003f11{ip_checksum}{addresses}9c401194{udp}{payload}")
    };
    let before = frame("002e", "7c96", "001a9dd7", ESP_PAYLOAD);
    assert_eq!(rebuilt(1, &before, 17), frame("0037", "7c8d", "00232baa", OTHER));
    let before = frame("002e", "7c96", "001a0000", ESP_PAYLOAD);
    assert_eq!(rebuilt(1, &before, 17), frame("0037", "7c8d", "00230000", OTHER));
}

#[test]
fn a_udp_checksum_of_0_is_stored_as_ffff() {
    let frame = bytes(concat!(
        "60000000001a114020010db800000000000000000000000120010db8000000000000000000000002",
        "11941194001ab94b0000a1b20000000163697068657274657874"
    ));
    let read = datagram(101, &frame);
    let udp = udp_encapsulation(&read, &EspPorts::default()).unwrap().unwrap();
    let payload = bytes("404142434445464748494a4b4c4d4e4f5051525354555657f979");
    let mut out = Vec::new();
    rebuild(&[], &read, 17, Some(udp.udp_header), &[&payload], &mut out).unwrap();
    assert_eq!(out[40..48], bytes("119411940022ffff"));
}

#[test]
fn a_packet_too_long_for_its_length_field_is_a_fault() {
    let v4 = bytes(&format!("45b90026123400003f327c7dc0000201c6336407{ESP_PAYLOAD}"));
    let v4 = datagram(101, &v4);
    let v6 = bytes(&format!("6000000000123240{}{ESP_PAYLOAD}", "11".repeat(32)));
    let v6 = datagram(101, &v6);
    let zeros = vec![0; 65536];
    let mut out = Vec::new();
    let mut try_len = |read, len| rebuild(&[1; 14], read, 50, None, &[&zeros[..len]], &mut out);
    assert_eq!(try_len(&v4, 65515), Ok(()));
    let wrong = |what| Err(Fault::value(Stage::Link, 0, what, 65536, "65535 or less"));
    assert_eq!(try_len(&v4, 65516), wrong("IPv4 Total Length"));
    assert_eq!(try_len(&v6, 65535), Ok(()));
    assert_eq!(try_len(&v6, 65536), wrong("IPv6 Payload Length"));
}

#[test]
fn a_new_header_around_a_packet() {
    let v4 = format!("45b9002f123400003f327c74c0000201c6336407{OTHER}");
    let v6 = format!("6b9abcde001b323d20010db800000000000000000000000120010db8000000000000000000000002{OTHER}");
    let payload = bytes(OTHER);
    let encapsulated = |link_type, link: &str, like: &str| {
        let like = bytes(like);
        let mut out = vec![0xff];
        encapsulate(link_type, &bytes(link), &datagram(101, &like).outer, 50, &[&payload], &mut out)?;
        Ok(hex::encode(out))
    };
    let link_header = [
        // Link type, and the header before IPv4 and before IPv6.
        (1, "02000000000202000000000181000007 0800", "02000000000202000000000181000007 86dd"),
        (113, "0000000100060200000000010000 0800", "0000000100060200000000010000 86dd"),
        (276, "0800 000000000003000100060200000000010000", "86dd 000000000003000100060200000000010000"),
        // After VLAN tags, the EtherType is the last field.
        (
            276,
            "8100 000000000003000100060200000000010000 0007 0800",
            "8100 000000000003000100060200000000010000 0007 86dd",
        ),
        (0, "02000000", "1e000000"),
        (0, "00000002", "0000001e"),
        (101, "", ""),
    ];
    for (link_type, before_v4, before_v6) in link_header {
        let (before_v4, before_v6) = (&before_v4.replace(' ', ""), &before_v6.replace(' ', ""));
        for link in [before_v4, before_v6] {
            assert_eq!(encapsulated(link_type, link, &v4), Ok(format!("{before_v4}{v4}")));
            assert_eq!(encapsulated(link_type, link, &v6), Ok(format!("{before_v6}{v6}")));
        }
    }
    // An address family of IPv6 that is already valid is kept.
    assert_eq!(encapsulated(0, "18000000", &v6), Ok(format!("18000000{v6}")));
    assert_eq!(encapsulated(228, "", &v4), Ok(v4.clone()));
    let refused = Err(Fault::unsupported(Stage::Link, 0, "the link type cannot carry this IP version"));
    assert_eq!(encapsulated(228, "", &v6), refused);
    assert_eq!(encapsulated(229, "", &v4), refused);
}
