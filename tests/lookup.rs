//! Compares the table of SAs with a literal implementation of wire format §1, which asks every SA separately and
//! sorts the result.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::net::IpAddr;

use dietesp::internals::files;
use dietesp::internals::net::{IpVersion, OuterHeader, Selector};
use dietesp::internals::sa::table::{Lookup, PreparedSa, SaTable};

/// Pseudo-random numbers, the same in every run.
fn numbers() -> impl Iterator<Item = u32> {
    std::iter::successors(Some(0x2545_f491_u32), |state| {
        let state = state ^ (state << 13);
        let state = state ^ (state >> 17);
        Some(state ^ (state << 5))
    })
}

struct Asked {
    bits: u32,
    protocol: u8,
    rule_id: Option<u8>,
}

#[test]
fn candidates_are_the_sas_that_match_one_by_one() {
    let mut numbers = numbers();
    let mut below = |bound: u32| numbers.next().unwrap() % bound;
    // By IP version. The last one of each is the same number.
    let selectors = [
        [
            "any",
            "0.0.0.0/1",
            "10.0.0.0/8",
            "10.0.0.0/15",
            "10.1.0.0/16",
            "10.1.0.2/31",
            "10.0.0.1",
            "10.1.0.1",
            "10.1.0.2",
        ],
        [
            "any",
            "2001::/16",
            "2001:db8::/32",
            "2001:db8::/63",
            "2001:db8:0:1::/64",
            "2001:db8:0:1::2/127",
            "2001:db8::1",
            "2001:db8:0:1::1",
            "::10.1.0.2",
        ],
    ];
    let folder = tempfile::tempdir().unwrap();
    let (mut keys, mut rules, mut asked) = ("sas:\n".to_owned(), "contexts:\n".to_owned(), vec![]);
    for sa in 0..600u32 {
        // Distinct SPIs that share many of their low bits.
        let spi = 0x100 + (sa << 8) + (below(4) << 2);
        let bits = [0, 4, 8, 16, 32][below(5) as usize];
        let version = below(2) as usize;
        let [src, dst] = [0, 1].map(|_| selectors[version][below(9) as usize]);
        let protocol = if below(4) == 0 { 253 } else { 50 };
        let rule_id = (below(5) == 0).then(|| below(2) as u8);
        let suite = match below(6) {
            0 => "ENCR_AES_CTR, salt: 01020304, integ: NONE",
            _ => "ENCR_AES_GCM_16, salt: 01020304",
        };
        keys += &format!(
            "  - {{ name: s{sa}, spi: {spi}, src: \"{src}\", dst: \"{dst}\", key: {sa:032x}, encr: {suite} }}\n"
        );
        let rule = rule_id.map(|id| format!(", rule_id: one_byte, rule_id_value: {id}")).unwrap_or_default();
        let sn_bits = if bits == 4 { 4 } else { 8 };
        rules += &format!(
            "  - {{ sa: s{sa}, ipsec_mode: Tunnel, iipc_profile: iipc_not_compressed, protocol: {protocol}{rule}, \
             esp_spi_lsb: {bits}, esp_sn_lsb: {sn_bits} }}\n"
        );
        asked.push(Asked { bits, protocol, rule_id });
    }
    let [key_file, rule_file] = ["keys.yaml", "rules.yaml"].map(|name| folder.path().join(name));
    std::fs::write(&key_file, keys).unwrap();
    std::fs::write(&rule_file, rules).unwrap();
    let loaded = files::load(&[key_file], &[rule_file]).unwrap();
    let contexts = files::bind(&loaded.sas, &loaded.contexts).unwrap();
    let entry = |(sa, context): (_, Option<usize>)| {
        PreparedSa::new(sa, context.and_then(|index| loaded.contexts.get(index)).cloned()).unwrap()
    };
    let table = SaTable::new(loaded.sas.into_iter().zip(contexts).map(entry).collect());

    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => format!("{:032b}", u32::from(address)),
        IpAddr::V6(address) => format!("{:0128b}", u128::from(address)),
    };
    let accepts = |selector: Selector, address: IpAddr| match selector {
        Selector::Any => true,
        Selector::Prefix { address: own, len } => {
            own.is_ipv4() == address.is_ipv4() && bits(own)[..usize::from(len)] == bits(address)[..usize::from(len)]
        }
    };
    let (mut found, mut most, mut packets) = (vec![], 0, vec![]);
    for _ in 0..4000 {
        let version = below(2) as usize;
        let [src, dst] = [0, 1].map(|_| {
            let addresses = [
                ["10.0.0.1", "10.1.0.1", "10.1.0.2", "10.1.0.3", "11.0.0.1"],
                ["2001:db8::1", "2001:db8:0:1::1", "::10.1.0.2", "2001:db8:0:1::3", "2001:db9::1"],
            ];
            addresses[version][below(5) as usize].parse::<IpAddr>().unwrap()
        });
        let protocol = if below(3) == 0 { 253 } else { 50 };
        let mut payload = vec![below(3) as u8];
        payload.extend(((below(600) << 8) + 0x100 + (below(4) << 2)).to_be_bytes());
        if below(2) == 0 {
            // As an SA with 8 bits sends it.
            payload[0] = (below(4) << 2) as u8;
        }
        payload.resize(40, 0x5a);
        if below(4) == 0 {
            payload.truncate(below(9) as usize);
        }
        let mut expected: Vec<(bool, u32, u32)> = (0..)
            .zip(&asked)
            .filter_map(|(index, asked)| {
                let entry = &table.entries()[index as usize];
                let head = match asked.rule_id {
                    Some(id) if payload.first().is_some_and(|own| *own != id) => return None,
                    Some(_) => payload.get(1..).unwrap_or_default(),
                    None => &payload[..],
                };
                // If a packet is too short, only its bytes are compared.
                let there = asked.bits.min(8 * head.len() as u32);
                let head = (0..4).fold(0, |bits, at| bits << 8 | u64::from(*head.get(at).unwrap_or(&0)));
                let low = u64::from(entry.sa.spi.unwrap()) & ((1 << asked.bits) - 1);
                let takes = asked.protocol == protocol
                    && accepts(entry.sa.src, src)
                    && accepts(entry.sa.dst, dst)
                    && head >> (32 - there) == low >> (asked.bits - there);
                takes.then(|| (!entry.authenticates(), 32 - asked.bits, index))
            })
            .collect();
        expected.sort_unstable();
        let outer =
            OuterHeader { version: IpVersion::of(src), src, dst, dscp: 0, ecn: 0, hop_limit: 64, flow_label: 0 };
        table.candidates(&Lookup { protocol, outer: &outer, link: None, payload: &payload }, &mut found);
        assert_eq!(found, expected.iter().map(|(_, _, index)| *index).collect::<Vec<u32>>());
        most = most.max(found.len());
        let only = match expected.iter().filter(|(unauthenticated, ..)| !unauthenticated).collect::<Vec<_>>()[..] {
            [(_, _, index)] if payload.len() >= 8 => Some(*index),
            _ => None,
        };
        packets.push((protocol, header(src, dst), payload, only));
    }
    assert!(most > 20, "{most}: too few candidates to be a test");
    let several = |only: Option<u32>| packets.iter().filter(|(.., other)| *other == only).count() > 10;
    assert!(several(None) && packets.iter().filter(|(.., only)| only.is_some()).count() > 100);
    // The first packet of a flow and a later one, independent of earlier packets.
    let mut before = None;
    for (protocol, header, payload, only) in &packets {
        assert_eq!(table.unique_candidate(*protocol, header, payload, &mut None), *only);
        assert_eq!(table.unique_candidate(*protocol, header, payload, &mut before), *only);
        assert_eq!(table.unique_candidate(*protocol, header, payload, &mut before), *only);
    }
}

#[test]
fn candidates_of_a_short_packet_are_in_file_order() {
    let sa = |index: u32| {
        format!("  - {{ spi: {}, key: {index:032x}, encr: ENCR_AES_GCM_16, salt: 01020304 }}\n", 256 + 8 * index)
    };
    let text = format!("sas:\n{}", (0..100).map(sa).collect::<String>());
    let loaded = files::parse(std::path::Path::new("keys.yaml"), text.as_bytes()).unwrap();
    let table = SaTable::new(loaded.sas.into_iter().map(|sa| PreparedSa::new(sa, None).unwrap()).collect());
    let [src, dst] = ["10.0.0.1", "10.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
    let outer = OuterHeader { version: IpVersion::V4, src, dst, dscp: 0, ecn: 0, hop_limit: 64, flow_label: 0 };
    let mut found = vec![];
    table.candidates(&Lookup { protocol: 50, outer: &outer, link: None, payload: &[0, 0] }, &mut found);
    assert_eq!(found, (0..100).collect::<Vec<u32>>());
}

/// An IP header in which only version and addresses are valid.
fn header(src: IpAddr, dst: IpAddr) -> Vec<u8> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let (version, len) = if src.is_ipv4() { (0x45, 12) } else { (0x60, 8) };
    let mut header = vec![0; len];
    header[0] = version;
    [header, octets(src), octets(dst)].concat()
}
