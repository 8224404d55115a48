//! Runs the bodies of the fuzz targets on the corpus and on random and mutated inputs, which are always the same.
//! Also decodes a million mutated packets. CONTRIBUTING.md says how to run the targets for longer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "../fuzz/src/lib.rs"]
mod bodies;
mod common;

use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Time limit for one target. The inputs have the same order on every machine, so a slow one only runs fewer of
/// them.
const TIME: Duration = Duration::from_secs(2);
const INPUTS: usize = 20_000;

/// xorshift64*, so that inputs are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 32) as usize % end.max(1)
    }

    /// Changes a few bytes: flips, replaces, inserts, removes, moves or truncates.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 | 1 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                3 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                4 => bytes.insert(at, self.next() as u8),
                5 => drop(bytes.drain(at..(at + 1 + self.below(8)).min(bytes.len()))),
                6 => {
                    let piece = bytes[at..(at + self.below(16)).min(bytes.len())].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                _ if self.below(4) == 0 => bytes.truncate(at),
                _ => {}
            }
        }
    }
}

/// The inputs in the archive of a target, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let path = common::file(&format!("fuzz/corpus/{target}.tar.gz"));
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let mut inputs = vec![];
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut input = vec![];
            entry.read_to_end(&mut input).unwrap();
            inputs.push(input);
        }
    }
    inputs
}

/// Runs a body. If it panics, names the input.
fn run(target: &str, body: fn(&[u8]), input: &[u8]) {
    if let Err(panic) = std::panic::catch_unwind(|| body(input)) {
        let kept = std::env::temp_dir().join(format!("dietesp-fuzz-{target}"));
        std::fs::write(&kept, input).unwrap();
        eprintln!("the input of {target} is in {}", kept.display());
        std::panic::resume_unwind(panic);
    }
}

fn try_target(target: &str) {
    let (_, body) = bodies::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let seeds = corpus(target);
    assert!(!seeds.is_empty(), "{target} has no corpus");
    for seed in &seeds {
        run(target, body, seed);
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let start = Instant::now();
    for _ in 0..INPUTS {
        let mut input = match random.below(8) {
            0 => (0..random.below(200)).map(|_| random.next() as u8).collect(),
            1 => {
                // The start of one input, the end of another.
                let (head, tail) = (&seeds[random.below(seeds.len())], &seeds[random.below(seeds.len())]);
                [&head[..random.below(head.len())], &tail[random.below(tail.len())..]].concat()
            }
            _ => seeds[random.below(seeds.len())].clone(),
        };
        random.mutate(&mut input);
        run(target, body, &input);
        if start.elapsed() > TIME {
            break;
        }
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test] fn $name() { try_target(stringify!($name)); })*

        #[test]
        fn every_fuzz_target_has_a_body() {
            assert_eq!([$(stringify!($name)),*], bodies::TARGETS.map(|(name, _)| name));
            let manifest = std::fs::read_to_string(common::file("fuzz/Cargo.toml")).unwrap();
            for (name, _) in bodies::TARGETS {
                assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no target of cargo-fuzz");
            }
        }
    };
}

targets! {
    capture hex_lines link fragments receiver esp restore_ietf restore_ehc restore_6lo restore_custom key_files rule_files
    kits ike filter round_trip pipeline
}

/// The frames of a sample, and their link type.
fn frames(capture: &str) -> (u16, Vec<Vec<u8>>) {
    let mut reader = dietesp::internals::capture::Reader::open(common::file(capture).as_ref()).unwrap();
    let mut window = dietesp::internals::capture::Window::default();
    let (mut link_type, mut frames) = (0, vec![]);
    while reader.fill(&mut window).unwrap() {
        for packet in window.frames() {
            link_type = packet.link_type();
            frames.push(packet.data.to_vec());
        }
    }
    (link_type, frames)
}

/// Mutated packets. A packet may only verify if the damage is outside the bytes that the ICV covers: then its inner
/// addresses, ports and payload are those of a packet of the sample. Every frame has one record, and none causes a
/// panic.
#[test]
fn a_million_mutated_packets() {
    const PACKETS: usize = 1_000_000;
    const AT_ONCE: usize = 50_000;
    let samples: Vec<(u16, Vec<Vec<u8>>)> = ["gateway", "ipv4", "probe", "tcp", "transport"]
        .map(|sample| frames(&format!("samples/{sample}/diet-esp.pcapng")))
        .into_iter()
        .chain([frames("samples/radio/radio.pcap")])
        .collect();
    let mut random = Random(0x0123_4567_89ab_cdef);
    let (lines, mut done, mut ok) = (AtomicU64::new(0), 0, 0);
    while done < PACKETS {
        let (link_type, originals) = &samples[done / AT_ONCE % samples.len()];
        let mutated: Vec<(u32, Vec<u8>, u32)> = (0..AT_ONCE as u32)
            .map(|time| {
                let mut frame = originals[random.below(originals.len())].clone();
                random.mutate(&mut frame);
                let cut = if random.below(16) == 0 { random.below(40) as u32 } else { 0 };
                (time, frame, cut)
            })
            .collect();
        let mut count = |text: &[u8]| {
            lines.fetch_add(text.iter().filter(|byte| **byte == b'\n').count() as u64, Ordering::Relaxed);
        };
        let totals = bodies::decode(bodies::pcap(*link_type, &mutated), 2, &mut count).unwrap();
        ok += totals.of(dietesp::internals::decoder::status::Status::Ok);
        done += AT_ONCE;
    }
    assert_eq!(lines.into_inner(), done as u64, "every frame has one record");
    // Some mutations do not change the packet; most break the ICV.
    assert!((1..done as u64 / 2).contains(&ok), "{ok} of {done} are ok");
}
