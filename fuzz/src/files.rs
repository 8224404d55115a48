//! Key and rule files of all kinds, and IKE messages.

use std::path::Path;
use std::sync::OnceLock;

use dietesp::capture::LINKTYPE_RAW;
use dietesp::codec::schc::Direction;
use dietesp::codec::{Codec, apply};
use dietesp::context::Origin;
use dietesp::files::{self, RuleForm};
use dietesp::ike::{self, ChildSecret, MessageKeys, Secrets, Spis};
use dietesp::sa::table::Entry;
use dietesp::secret::Secret;
use dietesp::suite::{Hash, IntegKey, Keys, Suite};

use super::input::Input;
use super::link::{pcap, reader};

/// A file under `--keys` or `--rules`: read, and each SA and context made ready.
pub fn key_files(data: &[u8]) {
    match files::parse(Path::new("input"), data) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(loaded) => {
            for context in loaded.contexts.iter().take(4) {
                for block in [1, 16] {
                    if Codec::new(Some(context), block).is_ok() {
                        Codec::tables(context, block);
                    }
                }
            }
            let Ok(bound) = files::bind(&loaded.sas, &loaded.contexts) else { return };
            assert_eq!(bound.len(), loaded.sas.len());
            for (sa, context) in loaded.sas.into_iter().zip(bound).take(4) {
                let _ = Entry::new(sa, context.and_then(|at| loaded.contexts.get(at)).cloned());
            }
        }
    }
}

/// CoAP over UDP over IPv6, and over IPv4 without a UDP checksum.
const PACKETS: [&str; 2] = [
    "6b9123450012114020010db8000a0000000000000000001020010db8000b00000000000000000001\
     1633f0b1001219bb440112344131b474656d70ff",
    "45b8001e12344000401100000a0a00050a1400011633f0b1000a0000ffff",
];

/// A file of rules: read, written in every form and read again, and applied to packets.
pub fn rule_files(data: &[u8]) {
    let path = Path::new("input");
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(set) = files::parse_rules(path, text) else { return };
    let yaml = set.to_yaml();
    match files::parse_rules(path, &yaml) {
        Ok(again) => assert_eq!(set, again, "{yaml}"),
        Err(error) => panic!("{error}\n{yaml}"),
    }
    for form in [RuleForm::OpenSchc, RuleForm::Rfc9363] {
        // Not every rule has words in every form.
        let Ok(json) = set.to_json(form) else { continue };
        match files::parse_rules(path, &json) {
            Ok(again) => assert_eq!(set.rules, again.rules, "{json}"),
            Err(error) => panic!("{error}\n{json}"),
        }
    }
    for rule in set.rules.iter().take(4) {
        for (direction, packet) in [Direction::Up, Direction::Down].into_iter().zip(PACKETS) {
            let packet = unhex(packet);
            for packet in [&packet[..], data] {
                let Ok(applied) = rule.rule.apply(direction, packet) else { continue };
                apply::digits(&applied.residue, 0, applied.residue_bits);
                assert!(applied.header_bits <= packet.len() * 8);
                assert!(applied.residue_bits <= applied.residue.len() * 8);
                let expanded = rule.rule.expand(direction, &applied.residue, packet, applied.header_bits);
                if let Ok(expanded) = expanded {
                    assert_eq!(expanded.residue_bits, applied.residue_bits);
                }
            }
            let _ = rule.rule.expand(direction, data, &packet, 0);
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// IKE messages of two IKE SAs: the messages of the first are opened by a cipher that lets everything through.
pub fn ike(data: &[u8]) {
    let mut input = Input::new(data);
    let mut frames = vec![];
    while !input.is_empty() && frames.len() < 100 {
        let kind = input.u8();
        let body = input.piece();
        let mut message = body.to_vec();
        if kind & 1 == 1 {
            // A header that is right, in front of the payloads.
            let (first, exchange, id) = (input.u8(), input.choose(&[34, 34, 35, 36, 37]), input.u8() % 4);
            let flags = [0x08, 0x20][usize::from(kind >> 1 & 1)];
            message = spis(kind >> 7, kind & 4 == 4).to_vec();
            message.extend([first, 0x20, exchange, flags, 0, 0, 0, id]);
            message.extend((28 + body.len() as u32).to_be_bytes());
            message.extend(body);
        }
        let marker: &[u8] = if kind & 8 == 8 { &[0; 4] } else { &[] };
        let (src, dst) = if kind & 2 == 2 { (2, 1) } else { (1, 2) };
        let len = (28 + marker.len() + message.len()) as u16;
        let mut frame = vec![0x45, 0];
        frame.extend(len.to_be_bytes());
        frame.extend([0, kind, 0, 0, 64, 17, 0, 0, 10, 0, 0, src, 10, 0, 0, dst, 1, 0xf4, 1, 0xf4]);
        frame.extend((len - 20).to_be_bytes());
        frame.extend([0, 0]);
        frames.push((0, [&frame[..], marker, &message].concat(), 0));
    }
    let mut reader = reader(pcap(LINKTYPE_RAW, &frames)).expect("a capture");
    let derived = ike::derive(&mut reader, secrets()).expect("secrets of two IKE SAs");
    for sa in derived.sas {
        assert!(Entry::new(sa, None).is_ok());
    }
}

/// The SPIs of an IKE SA; that of the responder is 0 in the first message.
fn spis(which: u8, first: bool) -> [u8; 16] {
    let mut spis = [0x11 + which; 16];
    spis[8..].fill(if first { 0 } else { 0x22 + which });
    spis
}

fn secrets() -> &'static Secrets {
    static SECRETS: OnceLock<Secrets> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let origin = || Origin { path: Path::new("ike").into(), line: 1 };
        let keys = |name| {
            let suite = Suite::by_name(name).expect("a cipher");
            let secret = |len| Secret::new(vec![0x55; len]);
            let key = secret(suite.key_lens.first().copied().unwrap_or(0));
            let integ = if suite.is_aead() { IntegKey::Missing } else { IntegKey::None };
            Keys::new(suite, key, secret(suite.salt_len), integ).expect("lengths of the table")
        };
        let mut secrets = Secrets::default();
        for (which, name) in [(0, "ENCR_NULL"), (1, "ENCR_AES_GCM_16")] {
            let spis = spis(which, false);
            let half = |at: usize| u64::from_be_bytes(spis[at..at + 8].try_into().expect("8 bytes"));
            let spis = Spis { initiator: half(0), responder: half(8) };
            let prf = (which == 0).then_some(Hash::Sha256);
            secrets.children.push(ChildSecret { spis, prf, sk_d: Secret::new(vec![0x66; 32]), origin: origin() });
            secrets.messages.push(MessageKeys { spis, initiator: keys(name), responder: keys(name), origin: origin() });
        }
        secrets
    })
}
