//! The table of SAs against wire format §1 read word by word: every SA asked by itself, then put in order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv6Addr};

use dietesp::context::IpVersion;
use dietesp::files;
use dietesp::link::Outer;
use dietesp::sa::Selector;
use dietesp::sa::table::{Entry, Lookup, SaTable};

/// Numbers that look random and are the same in every run.
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
fn candidates_are_those_that_each_sa_takes_by_itself() {
    let mut numbers = numbers();
    let mut below = |bound: u32| numbers.next().unwrap() % bound;
    let selectors = ["any", "2001:db8::/32", "2001:db8:0:1::/64", "2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:1::2"];
    let folder = tempfile::tempdir().unwrap();
    let (mut keys, mut rules, mut asked) = ("sas:\n".to_owned(), "contexts:\n".to_owned(), vec![]);
    for sa in 0..600u32 {
        // Distinct SPIs that share many of their low bits.
        let spi = 0x100 + (sa << 8) + (below(4) << 2);
        let bits = [0, 4, 8, 16, 32][below(5) as usize];
        let [src, dst] = [0, 1].map(|_| selectors[below(6) as usize]);
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
        Entry::new(sa, context.and_then(|index| loaded.contexts.get(index)).cloned()).unwrap()
    };
    let table = SaTable::new(loaded.sas.into_iter().zip(contexts).map(entry).collect());

    let accepts = |selector: Selector, address: Ipv6Addr| match selector {
        Selector::Any => true,
        Selector::Prefix { address: IpAddr::V6(own), len } => {
            let bits = |address: Ipv6Addr| format!("{:0128b}", u128::from(address))[..usize::from(len)].to_owned();
            bits(own) == bits(address)
        }
        Selector::Prefix { .. } => false,
    };
    let (mut found, mut most) = (vec![], 0);
    for _ in 0..4000 {
        let [src, dst] = [0, 1].map(|_| {
            let address = ["2001:db8::1", "2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:1::3", "2001:db9::1"];
            address[below(5) as usize].parse::<Ipv6Addr>().unwrap()
        });
        let protocol = if below(3) == 0 { 253 } else { 50 };
        let mut payload = vec![below(3) as u8];
        payload.extend(((below(600) << 8) + 0x100 + (below(4) << 2)).to_be_bytes());
        if below(2) == 0 {
            // As an SA with 8 bits sends it.
            payload[0] = (below(4) << 2) as u8;
        }
        payload.resize(40, 0x5a);
        let mut expected: Vec<(bool, u32, u32)> = (0..)
            .zip(&asked)
            .filter_map(|(index, asked)| {
                let entry = &table.entries()[index as usize];
                let head = match asked.rule_id {
                    Some(id) if payload[0] != id => return None,
                    Some(_) => &payload[1..5],
                    None => &payload[..4],
                };
                let head = u64::from(u32::from_be_bytes(head.try_into().unwrap()));
                let low = u64::from(entry.sa.spi.unwrap()) & ((1 << asked.bits) - 1);
                let takes = asked.protocol == protocol
                    && accepts(entry.sa.src, src)
                    && accepts(entry.sa.dst, dst)
                    && head >> (32 - asked.bits) == low;
                takes.then(|| (!entry.authenticates(), 32 - asked.bits, index))
            })
            .collect();
        expected.sort_unstable();
        let outer = Outer {
            version: IpVersion::V6,
            src: src.into(),
            dst: dst.into(),
            dscp: 0,
            ecn: 0,
            hop_limit: 64,
            flow_label: 0,
        };
        table.candidates(&Lookup { protocol, outer: &outer, link: None, payload: &payload }, &mut found);
        assert_eq!(found, expected.iter().map(|(_, _, index)| *index).collect::<Vec<u32>>());
        most = most.max(found.len());
    }
    assert!(most > 20, "{most}: too few candidates to be a test");
}
