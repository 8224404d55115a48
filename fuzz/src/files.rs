//! Key and rule files of all formats, and IKE messages.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use dietesp::internals::capture::LINKTYPE_RAW;
use dietesp::internals::cipher::{Hash, IntegKey, Keys, Suite};
use dietesp::internals::codec::{Codec, apply};
use dietesp::internals::context::{Context, Origin};
use dietesp::internals::files::{self, Json, Loaded, RuleForm, context_entry, sa_entry};
use dietesp::internals::ike::{self, ChildSecret, MessageKeys, Secrets, Spis};
use dietesp::internals::sa::Sa;
use dietesp::internals::sa::UsedKeys;
use dietesp::internals::sa::table::{PreparedSa, SaTable};
use dietesp::internals::schc::Direction;
use dietesp::internals::secret::Secret;
use dietesp::internals::{vectors, wireshark};
use serde_json::Value;

use super::input::Input;
use super::link::{hex, pcap, reader};
use super::packets;

/// A file for `--keys` or `--rules`: it is read, each SA and context is prepared, and written as entries that are
/// read again.
pub fn key_files(data: &[u8]) {
    let loaded = match files::parse(Path::new("input"), data) {
        Ok(loaded) => loaded,
        Err(error) => return shows_no_key(&format!("{error}\n{}", error.help())),
    };
    loaded.warnings.iter().for_each(|warning| shows_no_key(warning));
    for context in loaded.contexts.iter().take(4) {
        for block in [1, 16] {
            if let Ok(codec) = Codec::new(Some(context), block) {
                Codec::tables(context, block);
                super::esp::packets_come_back(&codec, &context.selectors);
            }
        }
        let entry = context_entry(context, "a");
        let again = entries("contexts", &entry).contexts.pop().expect("it was written");
        let (sa, origin) = (again.sa.clone(), again.origin.clone());
        assert_eq!(again, Context { sa, origin, ..context.clone() });
    }
    for sa in loaded.sas.iter().take(4) {
        let Ok(entry) = sa_entry(sa) else { continue };
        let again = entries("sas", &entry).sas.pop().expect("it was written");
        assert!(again.keys == sa.keys, "{again:?}");
        assert_eq!((again.spi, again.src, again.dst, again.esn), (sa.spi, sa.src, sa.dst, sa.esn));
        assert_eq!((again.link_src, again.link_dst), (sa.link_src, sa.link_dst));
        assert_eq!(again.name.trim(), sa.name.trim());
        let keys = sa.keys.clone();
        let used = UsedKeys { name: sa.name.clone(), spi: sa.spi, src: sa.src, dst: sa.dst, keys, esn: sa.esn };
        let lines = wireshark::lines(&[used]).0;
        if !lines.is_empty() {
            let again = files::parse(Path::new("esp_sa"), lines.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
            let same = |again: &Arc<Sa>| again.keys == sa.keys || again.read_as_ccm;
            assert!(again.sas.iter().any(same), "{:?}", again.warnings);
        }
    }
    let Ok(bound) = files::bind(&loaded.sas, &loaded.contexts) else { return };
    assert_eq!(bound.len(), loaded.sas.len());
    for (sa, context) in loaded.sas.into_iter().zip(bound).take(4) {
        let _ = PreparedSa::new(sa, context.and_then(|at| loaded.contexts.get(at)).cloned());
    }
}

/// Reads a file with one entry.
fn entries(list: &str, entry: &Json) -> Loaded {
    let text = format!("{{\"{list}\":[{}]}}", serde_json::to_string(entry).expect("JSON"));
    files::parse(Path::new("written"), text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// No message contains a text as long as a key.
fn shows_no_key(message: &str) {
    let longest = message.split(|char: char| !char.is_ascii_hexdigit()).map(str::len).max();
    assert!(longest < Some(24), "{message}");
}

/// A kit of test vectors: either any text, or a generated kit, which is correct, or a kit with one changed value,
/// which must be detected.
pub fn kits(data: &[u8]) {
    let check = |text: &str| vectors::check(Path::new("kit"), text);
    let mut input = Input::new(data);
    let which = input.u8();
    if which == 255 {
        if let Ok(text) = std::str::from_utf8(input.rest())
            && let Err(error) = check(text)
        {
            shows_no_key(&error.to_string());
        }
        return;
    }
    if which == 254 {
        let table = input.choose(&super::sas::tables().iter().collect::<Vec<_>>());
        let selectors = table.entries().first().and_then(|entry| Some(&entry.context.as_ref()?.selectors));
        let mut frames = vec![];
        while !input.is_empty() && frames.len() < 4 {
            frames.push((0, packets::packet(&mut Input::new(input.piece()), selectors), 0));
        }
        let settings = vectors::Settings { seed: Some(1), ..vectors::Settings::default() };
        if let Ok(made) = vectors::make(&mut reader(pcap(LINKTYPE_RAW, &frames)).expect("a capture"), table, settings) {
            let checked = check(&made.text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(checked.difference, None);
            assert_eq!((checked.packets, checked.failures), (made.packets, made.failures));
        }
        return;
    }
    let right = right_kits();
    let mut kit = right[usize::from(which) % right.len()].clone();
    let list_name = input.choose(&["sas", "contexts", "tables", "packets", "packets", "failures", "failures"]);
    let list = kit[list_name].as_array_mut().expect("a list");
    let item = usize::from(input.u8()) % list.len();
    let Some(members) = list[item].as_object_mut() else { return };
    let name = usize::from(input.u8()) % members.len();
    let (name, value) = members.iter_mut().nth(name).expect("below their number");
    // A change of an input value changes the values computed from it.
    let inputs = ["sa", "outer_header", "inner_packet", "clear_text", "sn", "sn_high", "iv", "of", "bit", "kind"];
    let is_checked = !["sas", "contexts"].contains(&list_name) && !inputs.contains(&name.as_str());
    let before = value.clone();
    match (input.u8() % 8, &mut *value) {
        (0, _) => *value = Value::Null,
        (1, _) => *value = u64::from(input.u32()).into(),
        (2, _) => *value = hex(input.rest()).into(),
        (3, _) => *value = String::from_utf8_lossy(input.rest()).into(),
        (4, _) => *value = serde_json::from_slice(input.rest()).unwrap_or_default(),
        (5, Value::Array(items)) if !items.is_empty() => {
            items.remove(usize::from(input.u8()) % items.len());
        }
        (6, Value::Array(items)) if !items.is_empty() => {
            let at = usize::from(input.u8()) % items.len();
            items[at] = serde_json::from_slice(input.rest()).unwrap_or_default();
        }
        (_, Value::String(digits)) => {
            // Changes some digits.
            let at = usize::from(input.u8()) % (digits.len() + 1);
            let other: String =
                input.rest().iter().map(|byte| char::from(b"0123456789abcdef"[usize::from(byte & 15)])).collect();
            let end = (at + other.len()).min(digits.len());
            if digits.is_ascii() {
                digits.replace_range(at..end, &other);
            }
        }
        _ => {}
    }
    let same = *value == before;
    let Ok(checked) = check(&kit.to_string()) else { return assert!(!same) };
    let difference = checked.difference.expect("its digest is that of another layout");
    if same || is_checked {
        assert_eq!(difference.item == "the kit as a whole", same, "{difference}");
    }
}

/// A kit for every SA of the sample, each with a few packets.
fn right_kits() -> &'static [Value] {
    static KITS: OnceLock<Vec<Value>> = OnceLock::new();
    KITS.get_or_init(|| {
        let entries = super::sas::of_vectors().into_iter();
        let kits = entries.map(|entry| {
            let packets = include_bytes!("../../samples/vectors/packets.pcap").to_vec();
            let mut packets = reader(packets).expect("a capture");
            let settings = vectors::Settings { seed: Some(1), ..vectors::Settings::default() };
            let made = vectors::make(&mut packets, &SaTable::new(vec![entry]), settings);
            let text = made.unwrap_or_else(|error| panic!("{error}")).text;
            let checked = vectors::check(Path::new("kit"), &text).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(checked.difference, None);
            first_of(serde_json::from_str(&text).expect("a kit is JSON"))
        });
        kits.collect()
    })
}

/// The first packets of a kit, and some failures of each kind.
fn first_of(mut kit: Value) -> Value {
    const PACKETS: usize = 2;
    let list = |kit: &mut Value, name| std::mem::take(kit[name].as_array_mut().expect("a list"));
    let mut packets = list(&mut kit, "packets");
    packets.truncate(PACKETS);
    kit["packets"] = packets.into();
    let mut failures: Vec<Value> = vec![];
    for failure in list(&mut kit, "failures") {
        let alike = failures.iter().filter(|other| other["kind"] == failure["kind"]).count();
        if alike < 2 && failure["of"].as_u64().is_none_or(|of| of <= PACKETS as u64) {
            failures.push(failure);
        }
    }
    for (failure, number) in failures.iter_mut().zip(1u64..) {
        failure["failure"] = number.into();
    }
    kit["failures"] = failures.into();
    kit
}

/// CoAP over UDP over IPv6, and over IPv4 without a UDP checksum.
const PACKETS: [&str; 2] = [
    "6b9123450012114020010db8000a0000000000000000001020010db8000b00000000000000000001\
     1633f0b1001219bb440112344131b474656d70ff",
    "45b8001e12344000401100000a0a00050a1400011633f0b1000a0000ffff",
];

/// A file of rules: it is read, written in every format and read again, and applied to packets.
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
        // Some formats cannot express every rule.
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

/// IKE messages. For the first two IKE SAs, the cipher accepts every message.
pub fn ike(data: &[u8]) {
    let mut input = Input::new(data);
    let mut frames = vec![];
    while !input.is_empty() && frames.len() < 100 {
        let kind = input.u8();
        let body = input.piece();
        let mut message = body.to_vec();
        if kind & 1 == 1 {
            // A valid header before the payloads.
            let (first, exchange, id) = (input.u8(), input.choose(&[34, 34, 35, 36, 37]), input.u8() % 4);
            let flags = [0x08, 0x20][usize::from(kind >> 1 & 1)];
            message = spis(kind >> 6, kind & 4 == 4).to_vec();
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
    let derived = ike::derive(&mut reader, secrets()).expect("secrets of IKE SAs");
    for sa in derived.sas {
        assert!(PreparedSa::new(sa, None).is_ok());
    }
}

/// The SPIs of an IKE SA. The SPI of the responder is 0 in the first message.
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
        for (which, name, prf) in
            [(0, "ENCR_NULL", Some(Hash::Sha256)), (1, "ENCR_NULL", None), (2, "ENCR_AES_GCM_16", None)]
        {
            let spis = spis(which, false);
            let half = |at: usize| u64::from_be_bytes(spis[at..at + 8].try_into().expect("8 bytes"));
            let spis = Spis { initiator: half(0), responder: half(8) };
            secrets.children.push(ChildSecret { spis, prf, sk_d: Secret::new(vec![0x66; 32]), origin: origin() });
            secrets.messages.push(MessageKeys { spis, initiator: keys(name), responder: keys(name), origin: origin() });
        }
        secrets
    })
}
