//! Memory use does not grow with the length of the capture. Packets are generated while they are written into a
//! pipe.
//!
//! It runs only where `DIETESP_MEMORY=50000,500000` sets the lengths of the two captures that are compared.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::{Command, Stdio};

/// SAs of the key file: SPI 0x1000 and up, without cipher and integrity check, so that this test can build their
/// packets.
const SAS: u32 = 16;
/// The SPI of an SA whose packets this test cannot encrypt.
const SEALED: u32 = 0xaaaa;

fn key_file(folder: &Path) -> String {
    let mut text = format!(
        "sas:\n  - {{ spi: {SEALED}, encr: ENCR_AES_CCM_8, key: 00112233445566778899aabbccddeeff, salt: a0a1a2, src: any, \
         dst: any }}\n"
    );
    for spi in 0x1000..0x1000 + SAS {
        text += &format!("  - {{ spi: {spi}, encr: ENCR_NULL, integ: NONE, src: any, dst: any }}\n");
    }
    let path = folder.join("keys.yaml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// An IPv6 packet from `fd00::src` to `dst`, with `next` as Next Header and `payload`.
fn ipv6(src: u32, dst: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, 64, 0xfd]);
    packet.extend([0; 11]);
    packet.extend(src.to_be_bytes());
    packet.extend(dst);
    packet.extend(payload);
    packet
}

const UNICAST: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const MULTICAST: [u8; 16] = [0xff, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// ESP without cipher around a UDP datagram (transport mode).
fn esp(spi: u32, sn: u32) -> Vec<u8> {
    let mut bytes = [spi.to_be_bytes(), sn.to_be_bytes()].concat();
    bytes.extend([0x13, 0x88, 0x16, 0x33, 0, 18, 0, 0]);
    bytes.extend([sn as u8; 10]);
    bytes.extend([0, 17]);
    bytes
}

/// A pseudo-random number (SplitMix64).
fn mix(number: u64) -> u64 {
    let mut state = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ state >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ state >> 31
}

type Make = fn(u64) -> Vec<u8>;

fn one_stream(index: u64) -> Vec<u8> {
    ipv6(1, UNICAST, 50, &esp(0x1000, index as u32 + 1))
}

/// Every second number is lost, and some packets arrive late.
fn holes(index: u64) -> Vec<u8> {
    let sn = 2 * (index as u32 + 1) + if index.is_multiple_of(7) { 100 } else { 0 };
    ipv6(1, UNICAST, 50, &esp(0x1000, sn))
}

fn many_sas(index: u64) -> Vec<u8> {
    let (sa, sn) = (index as u32 % SAS, index as u32 / SAS + 1);
    ipv6(1, UNICAST, 50, &esp(0x1000 + sa, sn))
}

fn many_multicast_sources(index: u64) -> Vec<u8> {
    ipv6(index as u32, MULTICAST, 50, &esp(0x1000, 1))
}

/// A packet of a known SA encrypted with an unknown key, or a packet of no SA.
fn random(index: u64) -> Vec<u8> {
    let mut payload: Vec<u8> = (0..6).flat_map(|word| mix(index * 8 + word).to_be_bytes()).collect();
    if index.is_multiple_of(16) {
        payload[..4].copy_from_slice(&SEALED.to_be_bytes());
    }
    ipv6(mix(index) as u32, UNICAST, 50, &payload)
}

/// Every third packet is a first fragment whose packet never completes.
fn fragments(index: u64) -> Vec<u8> {
    if !index.is_multiple_of(3) {
        return one_stream(index);
    }
    let mut payload = vec![50, 0, 0, 1];
    payload.extend((index as u32).to_be_bytes());
    payload.extend([0; 64]);
    ipv6(index as u32, UNICAST, 44, &payload)
}

/// Peak memory in KiB of the command for `count` packets from a pipe.
fn peak(args: &[&str], make: Make, count: u64) -> u64 {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(args)
        // With large pages, memory changes randomly in steps of 2 MiB.
        .env("_RJEM_MALLOC_CONF", "thp:never")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = BufWriter::new(child.stdin.take().unwrap());
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 262_144, common::pcap::RAW] {
        input.write_all(&word.to_le_bytes()).unwrap();
    }
    for index in 0..count {
        let data = make(index);
        // 100,000 packets a second.
        let (seconds, micros) = (index / 100_000, index % 100_000 * 10);
        for word in [seconds as u32, micros as u32, data.len() as u32, data.len() as u32] {
            input.write_all(&word.to_le_bytes()).unwrap();
        }
        input.write_all(&data).unwrap();
    }
    input.flush().unwrap();
    // Everything has been read except the content of the pipe.
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the process is alive");
    let peak = peak.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    drop(input);
    assert_ne!(child.wait().unwrap().code(), Some(2));
    peak
}

#[test]
fn memory_does_not_grow_with_the_capture() {
    if !Path::new("/proc/self/status").exists() {
        eprintln!("skipped: there is no /proc here to tell the memory of a process");
        return;
    }
    let Ok(lengths) = std::env::var("DIETESP_MEMORY") else {
        eprintln!("skipped: DIETESP_MEMORY is not set");
        return;
    };
    let (short, long) = lengths.split_once(',').expect("two numbers");
    let (short, long) = (short.parse().unwrap(), long.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let keys = key_file(folder.path());
    let decode = ["decode", "-", "--format", "fields", "-e", "status", "--sn-tries", "2", "-k", &keys];
    let convert = ["convert", "-", "-o", "/dev/null", "--wireshark", "", "--sn-tries", "2", "-k", &keys];
    let wireshark = folder.path().join("wireshark");
    let convert = convert.map(|arg| if arg.is_empty() { wireshark.to_str().unwrap() } else { arg });
    let cases: [(&str, Make); 6] = [
        ("one stream", one_stream),
        ("holes", holes),
        ("many SAs", many_sas),
        ("many multicast sources", many_multicast_sources),
        ("random", random),
        ("fragments", fragments),
    ];
    for (name, make) in cases {
        for args in [&decode[..], &convert[..]] {
            let [before, after] = [short, long].map(|count| peak(args, make, count));
            println!("{} {name}: {before} KiB for {short} packets, {after} KiB for {long}", args[0]);
            // Less than 4 bytes for each packet.
            let most = before + 3 * (long - short) / 1024;
            assert!(after <= most, "{} {name}: {before} KiB, then {after} KiB", args[0]);
        }
    }
}
