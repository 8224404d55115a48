//! A host that feeds frames one by one gets the records that `decode --format jsonl` prints.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::PathBuf;

use common::file;
use dietesp::{Capture, Decoder, Frame, Keys, Rules, Session};

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
