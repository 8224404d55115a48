//! The batch path gives the same records and streams as [`Decoder`], which decodes one frame after the other.
//!
//! Thousands of random captures: standard ESP and Diet-ESP, losses, repeats, replays, damage, SAs that share SPI
//! bits, extended sequence numbers, several link types, fragments, tunnels, nested ESP and radio frames. They are
//! read in pieces of a few hundred bytes, so that each capture has many windows, and several threads are busy.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod generator;

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::path::Path;

use dietesp::internals::batch::workers::Input;
use dietesp::internals::capture::{Reader, Window};
use dietesp::internals::command::decode::{self, Render};
use dietesp::internals::decoder::Decoder;
use dietesp::internals::decoder::arena::Arena;
use dietesp::internals::decoder::candidates::Limits;
use dietesp::internals::decoder::streams::Streams;
use dietesp::internals::link;
use dietesp::internals::records::json;
use dietesp::internals::records::record::Record;
use generator::{Network, Random};

/// Number of captures of each network.
const CAPTURES: usize = 10;

/// Returns a file in small pieces. The packets of a piece form a window.
struct Pieces {
    bytes: Cursor<Vec<u8>>,
    len: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = buffer.len().min(self.len);
        self.bytes.read(&mut buffer[..len])
    }
}

struct Json;

impl Render for Json {
    fn record(&self, record: &Record<'_>, text: &mut Vec<u8>) {
        json::write_line(record, text);
    }
}

/// A capture, and the settings for decoding it.
struct Case<'n> {
    network: &'n Network,
    capture: Vec<u8>,
    limits: Limits,
    link: link::Settings,
    window_len: usize,
    threads: usize,
}

impl<'n> Case<'n> {
    fn new(network: &'n Network, random: &mut Random) -> Case<'n> {
        let count = 10 + random.below(40);
        let frames = generator::frames(network, random, count);
        let capture = generator::pcapng(&frames, random);
        let resync_tries = random.percent(50).then_some(200);
        let limits = Limits { sn_tries: [3, 20, 70][random.below(3)], resync_tries, notify: None };
        let outermost = random.percent(3);
        let link = link::Settings { outermost, ..link::Settings::default() };
        let window_len = [150, 600, 2000, 1 << 20][random.below(4)];
        Case { network, capture, limits, link, window_len, threads: 1 + random.below(5) }
    }

    fn reader(&self) -> Reader {
        let pieces = Pieces { bytes: Cursor::new(self.capture.clone()), len: self.window_len };
        Reader::from_read(Path::new("capture"), Box::new(pieces)).unwrap()
    }

    /// Records and streams from the decoder, frame by frame.
    fn scalar(&self) -> (String, String) {
        let table = &self.network.table;
        let mut decoder = Decoder::new(table, self.limits, &self.link);
        let (mut reader, mut window, mut arena) = (self.reader(), Window::default(), Arena::default());
        let mut text = vec![];
        while reader.fill(&mut window).unwrap() {
            decoder.survey(window.frames());
            for frame in window.frames() {
                arena.clear();
                let outcome = decoder.decode(&frame, &mut arena);
                for part in outcome.parts() {
                    json::write_line(&Record::new(&frame, part, table, &arena), &mut text);
                }
            }
        }
        (String::from_utf8(text).unwrap(), streams(&decoder.into_streams()))
    }

    /// Records and streams of the batch path.
    fn batch(&self) -> (String, String) {
        let (mut reader, mut text) = (self.reader(), vec![]);
        let Case { network, limits, link, threads, .. } = self;
        let input = Input { reader: &mut reader, table: &network.table, limits: *limits, link, threads: *threads };
        let mut sink = |window: &[u8], _| {
            text.extend_from_slice(window);
            Ok(())
        };
        let ended = decode::run(input, decode::Shown::default(), &Json, &mut sink).unwrap();
        (String::from_utf8(text).unwrap(), streams(&ended.streams))
    }
}

/// The complete state of the streams, as text.
fn streams(streams: &Streams) -> String {
    streams.streams(|_| true).iter().map(|stream| format!("{stream:?}\n")).collect()
}

/// Compares both for the captures of several networks, whose seeds start at `first`. Returns the number of records
/// of each kind.
fn compare(first: u64, networks: usize, silent_sas: usize) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for seed in (first..).take(networks) {
        let random = &mut Random(seed);
        let sas = 1 + random.below(5);
        let network = Network::new(random, sas, silent_sas);
        for capture in 0..CAPTURES {
            let case = Case::new(&network, random);
            let (scalar, batch) = (case.scalar(), case.batch());
            let Case { threads, window_len, .. } = case;
            let what = format!("network {seed}, capture {capture}, {threads} threads, windows of {window_len} bytes");
            for (scalar, batch) in scalar.0.lines().zip(batch.0.lines()) {
                assert_eq!(scalar, batch, "{what}");
            }
            assert_eq!(scalar.0.len(), batch.0.len(), "{what}");
            assert_eq!(scalar.1, batch.1, "{what}");
            // Enough records to know their properties.
            if capture == 0 {
                scalar.0.lines().for_each(|record| count(record, &mut seen));
            }
        }
    }
    seen
}

/// Counts the special properties of a record.
fn count(record: &str, seen: &mut BTreeMap<String, usize>) {
    let record: serde_json::Value = serde_json::from_str(record).unwrap();
    let mut note = |what: String| *seen.entry(what).or_default() += 1;
    note(record["status"].as_str().unwrap().to_owned());
    for field in ["inside", "part", "fragments", "repeat_of"] {
        if !record[field].is_null() {
            note(field.to_owned());
        }
    }
    if let Some(method) = record["esp"]["method"].as_str() {
        note(format!("method {method}"));
    }
    if record["esp"]["tries"].as_u64() > Some(1) {
        note("several tries".to_owned());
    }
    for warning in record["warnings"].as_array().into_iter().flatten() {
        note(format!("warning {}", warning.as_str().unwrap()));
    }
}

/// The captures of a test must have contained each of these, or the comparison would mean little.
fn check_seen(seen: &BTreeMap<String, usize>) {
    println!("{seen:?}");
    for what in [
        "ok",
        "not-esp",
        "no-sa",
        "auth-failed",
        "malformed",
        "inside",
        "fragments",
        "repeat_of",
        "several tries",
        "method wire",
        "method iv-mask",
        "method icv",
        "method nearest",
        "method search",
        "warning duplicate",
        "warning replayed",
        "warning unauthenticated",
        "warning tcp-nearest",
    ] {
        assert!(seen.get(what).is_some_and(|count| *count >= 5), "{what}: {seen:?}");
    }
}

#[test]
fn random_captures() {
    check_seen(&compare(1, 150, 0));
}

#[test]
fn more_random_captures() {
    check_seen(&compare(1_000_000, 150, 0));
}

#[test]
fn many_sas() {
    compare(2_000_000, 1, 4200);
}
