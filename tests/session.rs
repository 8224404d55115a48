//! A host that feeds frames one by one gets the records that `decode --format jsonl` prints.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::PathBuf;

use common::file;
use dietesp::{Capture, Decoder, Error, Frame, Keys, Rules, Session, Status};

/// A capture with its keys and rules.
struct Case {
    capture: PathBuf,
    keys: Vec<PathBuf>,
    rules: Vec<PathBuf>,
}

fn case(capture: &str, keys: &[&str], rules: &[&str]) -> Case {
    let all = |names: &[&str]| names.iter().map(|name| file(name).into()).collect();
    Case { capture: file(capture).into(), keys: all(keys), rules: all(rules) }
}

fn cases() -> Vec<Case> {
    let sample = |name: &str| {
        let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|end| format!("samples/{name}/{end}"));
        case(&capture, &[&format!("keys/{name}.yaml")], &[&rules])
    };
    let strongswan = "tests/data/captures/strongswan_ccm8_v6";
    vec![
        sample("gateway"),
        sample("ipv4"),
        sample("probe"),
        sample("tcp"),
        sample("transport"),
        case("samples/radio/radio.pcap", &["samples/radio/keys.yaml"], &["samples/radio/rules.yaml"]),
        case("samples/vectors/packets.pcap", &["samples/vectors/keys.yaml"], &["samples/vectors/rules.yaml"]),
        case(&format!("{strongswan}.pcapng"), &[&format!("{strongswan}.esp_sa")], &[]),
        case(
            &format!("{strongswan}.pcapng"),
            &[&format!("{strongswan}.sk_d.txt"), &format!("{strongswan}.ikev2_decryption_table")],
            &[],
        ),
        case("tests/ike/made.pcap", &["tests/ike/made.ike"], &[]),
        case(
            "tests/data/captures/derived_strongswan_ipv6frag.pcap",
            &["tests/data/captures/strongswan_ccm8_v6.esp_sa"],
            &[],
        ),
        case(
            "tests/data/captures/derived_esp_over_6lowpan_dlt195.pcap",
            &["tests/data/captures/strongswan_ccm8_v6.esp_sa"],
            &[],
        ),
    ]
}

impl Case {
    /// The lines of `decode --format jsonl`.
    fn decoded(&self) -> Vec<String> {
        let mut args = vec!["decode".into(), "--format".into(), "jsonl".into(), self.capture.clone().into_os_string()];
        for (option, paths) in [("--keys", &self.keys), ("--rules", &self.rules)] {
            args.extend(paths.iter().flat_map(|path| [option.into(), path.clone().into_os_string()]));
        }
        let output = common::dietesp(args);
        assert_ne!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn files(&self) -> (Keys, Rules) {
        (Keys::load(&self.keys).unwrap(), Rules::load(&self.rules).unwrap())
    }

    fn session(&self) -> Session {
        let (keys, rules) = self.files();
        Session::new(&keys, &rules).unwrap()
    }

    fn decoder(&self) -> Decoder {
        let (keys, rules) = self.files();
        Decoder::new(&keys, &rules).unwrap()
    }

    fn frames(&self) -> Vec<Owned> {
        let mut capture = Capture::open(&self.capture).unwrap();
        let mut frames = vec![];
        while let Some(frame) = capture.next_frame().unwrap() {
            frames.push(Owned::of(&frame));
        }
        frames
    }
}

/// What a host knows of a frame.
struct Owned {
    number: u64,
    link_type: u16,
    time: Option<std::time::SystemTime>,
    original_length: u32,
    bytes: Vec<u8>,
}

impl Owned {
    fn of(frame: &Frame<'_>) -> Owned {
        Owned {
            number: frame.number(),
            link_type: frame.link_type(),
            time: frame.time(),
            original_length: frame.original_length(),
            bytes: frame.bytes().to_vec(),
        }
    }

    fn frame(&self) -> Frame<'_> {
        let frame = Frame::new(self.number, self.link_type, &self.bytes).with_original_length(self.original_length);
        match self.time {
            Some(time) => frame.with_time(time),
            None => frame,
        }
    }
}

fn fed(session: &mut Session, frame: &Owned) -> Vec<String> {
    session.feed(&frame.frame()).iter().map(|record| record.to_json()).collect()
}

/// The records, and those of a second feeding in another order.
#[test]
fn fed_frames_have_the_records_of_decode() {
    for case in cases() {
        let (expected, name) = (case.decoded(), case.capture.display());
        let (frames, mut session) = (case.frames(), case.session());
        let first: Vec<Vec<String>> = frames.iter().map(|frame| fed(&mut session, frame)).collect();
        assert!(!expected.is_empty() && first.iter().all(|records| !records.is_empty()), "{name}");
        assert_eq!(first.concat(), expected, "{name}");
        for at in (0..frames.len()).rev() {
            assert_eq!(fed(&mut session, &frames[at]), first[at], "{name}, frame {} again", at + 1);
        }
    }
}

#[test]
fn a_decoder_that_surveyed_the_capture_has_the_records_of_decode() {
    for case in cases() {
        let mut capture = Capture::open(&case.capture).unwrap();
        let mut decoder = case.decoder();
        decoder.survey(&capture).unwrap();
        let mut lines = vec![];
        while let Some(frame) = capture.next_frame().unwrap() {
            lines.extend(decoder.decode(&frame).iter().map(|record| record.to_json()));
        }
        assert_eq!(lines, case.decoded(), "{}", case.capture.display());
    }
}

/// Numbers that look random, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

#[test]
fn broken_frames_in_any_order_have_records_that_stay() {
    let mut numbers = Numbers(1);
    for case in cases() {
        let mut frames = case.frames();
        for at in (1..frames.len()).rev() {
            let other = numbers.below(at + 1);
            frames.swap(at, other);
        }
        for (at, frame) in frames.iter_mut().enumerate() {
            match at % 4 {
                1 => frame.bytes.truncate(numbers.below(frame.bytes.len() + 1)),
                2 if !frame.bytes.is_empty() => {
                    let byte = numbers.below(frame.bytes.len());
                    frame.bytes[byte] ^= 1 << numbers.below(8);
                }
                3 => frame.link_type = [0, 1, 101, 195, 230, 251, 272, 65535][numbers.below(8)],
                _ => {}
            }
        }
        let mut session = case.session();
        let first: Vec<Vec<String>> = frames.iter().map(|frame| fed(&mut session, frame)).collect();
        assert!(first.iter().all(|records| !records.is_empty()));
        for (frame, records) in frames.iter().zip(&first).rev() {
            assert_eq!(&fed(&mut session, frame), records, "{}", case.capture.display());
        }
    }
}

#[test]
fn odd_numbers_of_frames_and_interfaces_are_taken() {
    let [case, ..] = &cases()[..] else { panic!("no case") };
    let mut session = case.session();
    for (at, number) in [0, u64::MAX, 1, u64::MAX - 1, 7].into_iter().enumerate() {
        let frame = Frame::new(number, 251, &[0; 40]).with_interface(u32::MAX - at as u32).with_original_length(0);
        assert_eq!(session.feed(&frame).first().frame(), number);
    }
}

#[test]
fn sas_are_added_when_their_exchange_is_fed() {
    let case = cases().into_iter().find(|case| case.keys[0].ends_with("strongswan_ccm8_v6.sk_d.txt")).unwrap();
    let frames = case.frames();
    let expected = case.decoded();
    let last = expected.iter().rposition(|line| line.contains("\"status\":\"ok\"")).unwrap();
    // The last packet alone belongs to no SA. After the exchanges, another frame with the same packet does.
    let mut session = case.session();
    assert!(fed(&mut session, &frames[last])[0].contains("\"status\":\"no-sa\""));
    for frame in &frames[..last] {
        fed(&mut session, frame);
    }
    let again = Owned { number: 1_000_000, bytes: frames[last].bytes.clone(), ..frames[last] };
    assert_eq!(session.feed(&again.frame()).first().status(), Status::Ok);
    // The first record stays.
    assert!(fed(&mut session, &frames[last])[0].contains("\"status\":\"no-sa\""));
}

#[test]
fn debug_output_has_no_keys() {
    const KEY: &str = "4a506a794f574265564551694d6537684a506a79";
    let text = format!("sas: [{{ spi: 7, encr: ENCR_AES_GCM_16, key: {KEY} }}]");
    let keys = Keys::parse("keys.yaml", text.as_bytes()).unwrap();
    let rules = Rules::parse("rules.yaml", text.as_bytes()).unwrap();
    let none = Rules::default();
    let all = format!("{keys:?} {rules:?} {:?} {:?}", Decoder::new(&keys, &none), Session::new(&keys, &none));
    assert!(all.contains("keys.yaml") && !all.to_lowercase().contains(&KEY[..8]), "{all}");
    assert!(!all.contains("74, 80, 106"), "{all}");
}

#[test]
fn errors_can_be_matched() {
    let missing = Keys::load(["no-such-file"]).unwrap_err();
    assert!(matches!(&missing, Error::Io { action: "open", .. }), "{missing:?}");
    let wrong = Keys::parse("keys.yaml", b"sas:\n- { spi: 7, encr: ENCR_ROT13 }").unwrap_err();
    assert!(matches!(&wrong, Error::File { line: Some(2), .. }), "{wrong:?}");
    let keys = Keys::parse("keys.yaml", b"sas: [{ spi: 7, encr: ENCR_NULL, integ: NONE }]").unwrap();
    let rules = Rules::load([file("samples/probe/rules.yaml")]).unwrap();
    let unknown = Decoder::new(&keys, &rules).unwrap_err();
    assert!(matches!(&unknown, Error::File { line: Some(4), .. }), "{unknown:?}");
    let text = Capture::open(file("samples/probe/rules.yaml")).unwrap_err();
    assert!(matches!(&text, Error::File { line: None, .. }), "{text:?}");
    assert!(text.help().starts_with("it is text: "), "{}", text.help());
    // Only the command line names options.
    for error in [&unknown, &text] {
        assert!(!error.to_string().contains("--") && !error.help().contains("--"), "{error} {}", error.help());
    }
}

/// A file that is named as a key file and as a rule file is read once: its SAs are not there twice.
#[test]
fn a_file_may_hold_keys_and_rules() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both.yaml");
    let [keys, rules] = ["keys/probe.yaml", "samples/probe/rules.yaml"].map(|name| std::fs::read(file(name)).unwrap());
    std::fs::write(&path, [keys, b"\n".to_vec(), rules].concat()).unwrap();
    let decoder = Decoder::new(&Keys::load([&path]).unwrap(), &Rules::load([&path]).unwrap()).unwrap();
    assert_eq!(decoder.warnings().count(), 0);
}
