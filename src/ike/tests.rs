use std::path::Path;

use proptest::prelude::*;

use super::exchange::PROTOCOL_ESP;
use super::message::{Offer, Payloads, Proposal, Transform, without_padding};
use super::*;
use crate::cipher::{Hash, prf_plus};
use crate::files;
use crate::secret::Secret;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// SPI, addresses and keys, sorted. They must be the same however the keys were found.
fn essence(sas: &[Arc<Sa>]) -> Vec<String> {
    let mut essence: Vec<String> = sas
        .iter()
        .map(|sa| {
            let integ = sa.keys.integ().map(|(integ, key)| (integ.name, hex::encode(key.expose())));
            let keys = [sa.keys.key(), sa.keys.salt()].map(|secret| hex::encode(secret.expose()));
            format!("{:?} {} {} {} {keys:?} {integ:?} {}", sa.spi, sa.src, sa.dst, sa.keys.suite().name, sa.esn)
        })
        .collect();
    essence.sort();
    essence
}

/// `assert_eq!` would print the keys.
#[track_caller]
fn assert_same(derived: &[Arc<Sa>], expected: &[Arc<Sa>]) {
    assert_eq!(derived.len(), expected.len());
    let wrong = essence(derived).iter().zip(&essence(expected)).filter(|(a, b)| a != b).count();
    assert_eq!(wrong, 0, "SAs with other keys, addresses or algorithms");
}

fn load(paths: &[std::path::PathBuf]) -> files::Loaded {
    files::load(paths, &[]).unwrap()
}

/// A capture made with scapy and the Python package cryptography (tests/ike/make.py), whose integrity checksums tshark
/// finds correct: repeated IKE_SA_INIT, IKE_AUTH in fragments and over several rounds, children begun by either side,
/// with PFS, with a broken message, and a rekeyed IKE SA.
#[test]
fn child_sas_of_a_generated_capture_have_its_keys() {
    let files = folder("tests/ike");
    let secrets = load(&[files.join("made.ike")]).ike;
    let derived = derive(&mut Reader::open(&files.join("made.pcap")).unwrap(), &secrets).unwrap();
    let expected = load(&[files.join("made.xfrm")]).sas;
    assert_eq!(expected.len(), 6);
    assert_same(&derived.sas, &expected);
    let told = |what: &str| derived.warnings.iter().filter(|warning| warning.contains(what)).count();
    assert_eq!((told("(PFS)"), told("rekeyed"), told("do not verify: 1, frame 23")), (1, 1, 1));
    assert_eq!(derived.warnings.len(), 3);
}

#[test]
fn child_sas_of_strongswan_have_the_keys_of_its_kernel() {
    let captures = folder("tests/data/captures");
    let file = |end: &str| captures.join(format!("strongswan_ccm8_v6.{end}"));
    let secrets = load(&[file("sk_d.txt"), file("ikev2_decryption_table")]).ike;
    let derived = derive(&mut Reader::open(&file("pcapng")).unwrap(), &secrets).unwrap();
    let expected = load(&[file("ip-xfrm-state.txt")]).sas;
    assert_eq!((expected.len(), derived.warnings.len()), (8, 0));
    assert_same(&derived.sas, &expected);
}

/// A capture of IP packets on LINKTYPE_RAW.
fn capture(packets: &[Vec<u8>]) -> Reader {
    let mut bytes = hex::decode("d4c3b2a1020004000000000000000000ffff000065000000").unwrap();
    for packet in packets {
        let len = (packet.len() as u32).to_le_bytes();
        bytes.extend([[0; 4], [0; 4], len, len].concat());
        bytes.extend(packet);
    }
    Reader::from_read(Path::new("made"), Box::new(std::io::Cursor::new(bytes))).unwrap()
}

fn made_packets() -> Vec<Vec<u8>> {
    let mut reader = Reader::open(&folder("tests/ike/made.pcap")).unwrap();
    let (mut window, mut packets) = (Window::default(), vec![]);
    while reader.fill(&mut window).unwrap() {
        packets.extend(window.frames().map(|packet| packet.data.to_vec()));
    }
    packets
}

#[test]
fn without_ike_sa_init_the_first_child_sa_is_missing_with_a_warning() {
    let secrets = load(&[folder("tests/ike/made.ike")]).ike;
    let packets = made_packets();
    let derived = derive(&mut capture(&packets[4..]), &secrets).unwrap();
    assert_eq!(derived.sas.len(), 4);
    assert!(derived.warnings.iter().any(|warning| warning.contains("does not contain its IKE_SA_INIT")));
    // The file can name the prf instead of IKE_SA_INIT, and the other way round.
    let mut without_prf = secrets;
    without_prf.children.iter_mut().for_each(|secret| secret.prf = None);
    let derived = derive(&mut capture(&packets[4..]), &without_prf).unwrap();
    assert!(derived.sas.is_empty());
    assert!(derived.warnings.iter().any(|warning| warning.contains("give `prf=`")));
    assert_eq!(derive(&mut capture(&packets), &without_prf).unwrap().sas.len(), 6);
    let derived = derive(&mut capture(&packets[..4]), &without_prf).unwrap();
    assert!(derived.sas.is_empty() && derived.warnings[0].contains("has no IKE_AUTH"), "{:?}", derived.warnings);
}

#[test]
fn order_of_capture_does_not_matter() {
    let secrets = load(&[folder("tests/ike/made.ike")]).ike;
    // The first request of IKE_SA_INIT counts only before the second one.
    let mut packets = made_packets().split_off(2);
    packets.reverse();
    let derived = derive(&mut capture(&packets), &secrets).unwrap();
    assert_same(&derived.sas, &load(&[folder("tests/ike/made.xfrm")]).sas);
}

#[test]
fn changed_and_truncated_messages_result_in_no_wrong_sa() {
    let secrets = load(&[folder("tests/ike/made.ike")]).ike;
    let right = essence(&load(&[folder("tests/ike/made.xfrm")]).sas);
    let packets = made_packets();
    let derived = derive(&mut capture(&packets), &secrets).unwrap().sas;
    assert!(essence(&derived) == right);
    // After the fourth packet, everything is authenticated.
    for (index, packet) in packets.iter().enumerate().skip(4) {
        for at in (28..packet.len()).step_by(7) {
            let mut changed = packets.clone();
            changed[index][at] ^= 0x10;
            let sas = derive(&mut capture(&changed), &secrets).unwrap().sas;
            assert!(essence(&sas).iter().all(|sa| right.contains(sa)), "packet {index} byte {at}");
            let mut cut = packets.clone();
            cut[index].truncate(at);
            let sas = derive(&mut capture(&cut), &secrets).unwrap().sas;
            assert!(essence(&sas).iter().all(|sa| right.contains(sa)), "packet {index} cut at {at}");
        }
    }
}

#[test]
fn incomplete_secrets_are_rejected() {
    let whole = load(&[folder("tests/ike/made.ike")]).ike;
    let Secrets { children, messages } = whole;
    let only = |children, messages| {
        let error = derive(&mut capture(&[]), &Secrets { children, messages }).unwrap_err();
        (error.to_string(), error.help().to_owned())
    };
    let (problem, help) = only(children, vec![]);
    assert!(problem.contains("made.ike:2: SK_d of the IKE SA") && help.contains("ikev2_decryption_table"), "{problem}");
    let (problem, help) = only(vec![], messages);
    assert!(problem.contains("made.ike:3: no SK_d of the IKE SA") && help.contains("SK_d="), "{problem}");
}

/// The key is skipped, so the keys after it keep their offsets.
#[test]
fn an_unsupported_integrity_algorithm_is_not_checked() {
    let sk_d = Secret::new(vec![7; 32]);
    let nonces: [&[u8]; 2] = [&[1; 16], &[2; 16]];
    let transform = |kind, id, key_bits| Transform { kind, id, key_bits };
    for (id, icv_len, key_len) in [(1, 12, 16), (5, 12, 16), (6, 16, 16), (7, 20, 20), (8, 12, 16)] {
        let transforms = vec![transform(1, 12, Some(128)), transform(3, id, None)];
        let chosen = Proposal { number: 1, protocol: PROTOCOL_ESP, spi: vec![0; 4], transforms };
        let keys = child::keys(Hash::Sha256, &sk_d, nonces, &chosen).ok().unwrap();
        let keymat = prf_plus(Hash::Sha256, &sk_d, &nonces, 2 * (16 + key_len)).unwrap();
        for (keys, start) in [(&keys.initiator, 0), (&keys.responder, 16 + key_len)] {
            assert!(keys.key().expose() == &keymat.expose()[start..start + 16]);
            assert_eq!((keys.icv_len(), keys.authenticates()), (icv_len, false), "{id}");
        }
    }
}

#[test]
fn padding_is_removed() {
    assert_eq!(without_padding(&[1, 2, 0]), Some(&[1, 2][..]));
    assert_eq!(without_padding(&[1, 9, 9, 2]), Some(&[1][..]));
    assert_eq!(without_padding(&[0]), Some(&[][..]));
    assert_eq!(without_padding(&[9, 2]), None);
    assert_eq!(without_padding(&[]), None);
}

/// Built by hand from RFC 7296 §3.3: a proposal with two transforms, one with a key length and an attribute of
/// variable length.
#[test]
fn a_security_association_payload_by_hand() {
    let body = "00000028 01 03 04 02 0a0b0c0d  03000014 01 00 0014 0001 0004 ffffffff 800e0100  00000008 05 00 0001";
    let bytes = [hex::decode("0000002c").unwrap(), hex::decode(body.replace(' ', "")).unwrap()].concat();
    let offer = Offer::read(Payloads { next: 33, rest: &bytes });
    let transforms =
        vec![Transform { kind: 1, id: 20, key_bits: Some(256) }, Transform { kind: 5, id: 1, key_bits: None }];
    let expected = Proposal { number: 1, protocol: 3, spi: vec![10, 11, 12, 13], transforms };
    assert_eq!(offer.proposals, [expected]);
}

proptest! {
    #[test]
    fn random_bytes_cause_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), kind in any::<u8>(), exchange in 33u8..38) {
        let offer = Offer::read(Payloads { next: kind, rest: &bytes });
        prop_assert!(offer.proposals.len() <= bytes.len() && offer.nonce.len() <= bytes.len());
        // Made to look like a message more often than random bytes would.
        let len = bytes.len() as u32;
        if let Some(header) = bytes.first_chunk_mut::<28>() {
            (header[17], header[18]) = (0x20, exchange);
            header[24..].copy_from_slice(&len.to_be_bytes());
            if kind % 2 == 0 {
                header[16] = 46 + 7 * (kind / 2 % 2);
            }
        }
        if let Some(message) = Message::parse(&bytes) {
            prop_assert!(message.payloads().count() <= bytes.len());
            if let Some(encrypted) = message.encrypted() {
                prop_assert_eq!(encrypted.head.len() + encrypted.body.len(), bytes.len());
            }
        }
    }
}
