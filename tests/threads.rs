//! The output of `convert` and `compress` does not depend on the number of threads, nor on whether the input is a
//! file or a pipe. The captures have several windows, and their packets need numbers, IVs and states in capture
//! order.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::cell::Cell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::pcap;
use etherparse::PacketBuilder;

const PACKETS: usize = 2500;
/// Windows are read in pieces of 128 KiB.
const SEVERAL_WINDOWS: usize = 4 * 128 * 1024;

/// The SA of the context, and an SA without context for packets that do not match.
const KEYS: &str = "sas:
  - { name: s, spi: 0x11223344, src: 2001:db8::1, dst: 2001:db8::2, encr: ENCR_AES_CCM_8,
      key: 00112233445566778899aabbccddeeff, salt: a0a1a2 }
  - { name: t, spi: 0x11223345, src: 2001:db8::1, dst: 2001:db8::2, encr: ENCR_AES_GCM_16,
      key: 00112233445566778899aabbccddeefe, salt: a0a1a2a3 }
";
const CONTEXT: &str = "contexts:
  - sa: s
    ipsec_mode: Tunnel
    tunnel_ip: { src: 2001:db8::1, dst: 2001:db8::2 }
";
const ONE_V6: &str = "    ts_ip_version: IPv6-only
    ts_ip_src: 2001:db8:a::1
    ts_ip_dst: 2001:db8:b::1
    ts_port_src: 5683
    ts_port_dst: 61617
";

struct Bench {
    folder: tempfile::TempDir,
    runs: Cell<u32>,
}

impl Bench {
    fn new(context: &str) -> Bench {
        let bench = Bench { folder: tempfile::tempdir().unwrap(), runs: Cell::new(0) };
        std::fs::write(bench.path("keys.yaml"), KEYS).unwrap();
        std::fs::write(bench.path("rules.yaml"), format!("{CONTEXT}{context}")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs a command that writes `output`: with 1, 2 and 5 threads from a file, with 1 and 5 from a pipe. All
    /// outputs must be identical.
    fn same(&self, command: &str, input: &Path, output: &str, more: &[&str]) -> PathBuf {
        assert!(std::fs::metadata(input).unwrap().len() as usize > SEVERAL_WINDOWS, "{}", input.display());
        let rules = self.path("rules.yaml");
        let output = self.path(output);
        // A different seed than for the input, because otherwise its IVs would be used again.
        let seed = self.runs.replace(self.runs.get() + 1).to_string();
        let mut first = None;
        for (threads, piped) in [("1", false), ("2", false), ("5", false), ("1", true), ("5", true)] {
            let mut dietesp = Command::new(env!("CARGO_BIN_EXE_dietesp"));
            let input_name = if piped { Path::new("-") } else { input };
            dietesp.arg(command).arg(input_name).arg("-o").arg(&output).arg("-r").arg(&rules).args(more);
            dietesp.args(["--seed", &seed, "--threads", threads]);
            dietesp.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut running = dietesp.spawn().unwrap();
            let mut stdin = running.stdin.take().unwrap();
            if piped {
                stdin.write_all(&std::fs::read(input).unwrap()).unwrap();
            }
            drop(stdin);
            let done = running.wait_with_output().unwrap();
            let said = String::from_utf8(done.stderr).unwrap();
            assert_ne!(done.status.code(), Some(2), "{command} {more:?}: {said}");
            let written = std::fs::read(&output).unwrap();
            let keys = std::fs::read(self.path(&format!("{}.wireshark/esp_sa", output.display()))).ok();
            let all = (done.status.code(), said, keys, written);
            match &first {
                None => first = Some(all),
                Some(first) => {
                    let (same_bytes, same_keys) = (first.3 == all.3, first.2 == all.2);
                    assert_eq!((first.0, &first.1), (all.0, &all.1), "{command} {more:?}: {threads} threads, {piped}");
                    assert!(same_bytes && same_keys, "{command} {more:?}: {threads} threads, from a pipe: {piped}");
                }
            }
        }
        output
    }

    fn keys(&self) -> String {
        self.path("keys.yaml").to_str().unwrap().to_owned()
    }
}

/// Writes IP packets, a second apart.
fn write(path: &Path, packets: Vec<Vec<u8>>) {
    let frames: Vec<_> = (1..).zip(packets).map(|(second, packet)| (second * 1_000_000_000, packet)).collect();
    pcap::write(path, pcap::RAW, &frames);
}

/// Plain packets: most are UDP or TCP between the addresses of the contexts, some match no context.
fn plain(tcp: bool) -> Vec<Vec<u8>> {
    let address = |last: &str| last.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let of = |n: usize| {
        let data: Vec<u8> = (0..150 + n * 37 % 200).map(|at| (at * n) as u8).collect();
        let other = n % 97 == 5;
        let dst = address(if other { "2001:db8:c::1" } else { "2001:db8:b::1" });
        let ip = PacketBuilder::ipv6(address("2001:db8:a::1"), dst, 64);
        let mut packet = vec![];
        if tcp {
            ip.tcp(5683, 61617, 1000 + n as u32 * 9000, 4096).ack(n as u32).write(&mut packet, &data).unwrap();
        } else {
            ip.udp(5683, 61617).write(&mut packet, &data).unwrap();
        }
        packet
    };
    (0..PACKETS).map(of).collect()
}

/// Each long enough IPv6 packet in two fragments, some of them far apart (RFC 8200 §4.5).
fn fragmented(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut frames = vec![];
    let mut late: Vec<(usize, Vec<u8>)> = vec![];
    for (n, packet) in packets.iter().enumerate() {
        if n % 7 != 3 {
            frames.push(packet.clone());
        } else {
            let (header, payload) = packet.split_at(40);
            let (head, tail) = payload.split_at(payload.len() / 16 * 8);
            let [first, second] = [(head, 1), (tail, 0)].map(|(part, more)| {
                let offset = if more == 1 { 0 } else { head.len() as u16 };
                let mut fragment = header.to_vec();
                fragment[4..6].copy_from_slice(&(part.len() as u16 + 8).to_be_bytes());
                fragment[6] = 44;
                fragment.extend([header[6], 0]);
                fragment.extend((offset | more).to_be_bytes());
                fragment.extend((n as u32).to_be_bytes());
                fragment.extend(part);
                fragment
            });
            frames.push(first);
            late.push((n + n % 5, second));
        }
        while late.first().is_some_and(|(at, _)| *at <= n) {
            frames.push(late.remove(0).1);
        }
    }
    // The packets of the remaining fragments are never complete.
    frames
}

/// Uses a context in all directions: plain to Diet-ESP, Diet-ESP to standard ESP and to plain, and standard ESP
/// back to Diet-ESP, with the same keys and with others. The last two also with fragments.
fn check(context: &str, tcp: bool) {
    let bench = Bench::new(context);
    let keys = bench.keys();
    let input = bench.path("plain.pcap");
    write(&input, plain(tcp));
    for on_mismatch in ["skip", "pass"] {
        bench.same("compress", &input, "diet.pcap", &["-k", &keys, "--on-mismatch", on_mismatch]);
    }
    let diet = bench.path("diet.pcap");
    let fragments = bench.path("fragments.pcap");
    let in_fragments = |capture: &Path| {
        let packets: Vec<_> = pcap::read(capture).1.into_iter().map(|(_, packet)| packet).collect();
        write(&fragments, fragmented(&packets));
    };
    in_fragments(&diet);
    for input in [&diet, &fragments] {
        bench.same("convert", input, "plain.pcapng", &["-k", &keys, "--to", "plain"]);
        bench.same("convert", input, "fresh.pcapng", &["-k", &keys, "--cipher", "ENCR_AES_CBC"]);
        bench.same("convert", input, "esp.pcap", &["-k", &keys, "--reseal", "keep"]);
    }
    let esp = bench.same("convert", &diet, "esp.pcap", &["-k", &keys]);
    let esp_keys = format!("{}.wireshark/esp_sa", esp.display());
    in_fragments(&esp);
    for input in [&esp, &fragments] {
        let other_keys = ["-k", &keys, "--esp-keys", &esp_keys];
        bench.same("compress", input, "again.pcapng", &[&other_keys[..], &["--on-mismatch", "skip"]].concat());
        bench.same("compress", input, "again.pcap", &[&other_keys[..], &["--on-mismatch", "pass"]].concat());
    }
    let kept = bench.same("convert", &diet, "esp.pcap", &["-k", &keys, "--reseal", "keep"]);
    bench.same("compress", &kept, "again.pcapng", &["-k", &keys, "--on-mismatch", "pass"]);
}

#[test]
fn dialect_ietf() {
    check(
        &format!(
            "{ONE_V6}    ts_proto: UDP\n    dscp_cda: lower\n    flow_label_cda: zero\n    alignment: 8 bit\n    esp_spi_lsb: 8\n    esp_sn_lsb: 8\n"
        ),
        false,
    );
}

/// Each packet needs the TCP numbers of the previous one.
#[test]
fn dialect_ehc_with_states() {
    check(
        &format!(
            "    dialect: ehc\n{ONE_V6}    ts_proto: TCP\n    tcp_lsb: 2\n    tcp_options: False\n    tcp_urgent: False\n    tcp_sn: 1000\n    esp_align: 8\n    esp_spi_lsb: 1\n    esp_sn_lsb: 1\n"
        ),
        true,
    );
}

#[test]
fn dialect_6lo() {
    check(
        "    dialect: 6lo\n    SPI_SIZE: 1\n    SN_SIZE: 1\n    NH: removed\n    PAD: removed\n    ALIGN: 8\n    ts_ip_version: IPv6-only\n",
        false,
    );
}

#[test]
fn dialect_custom() {
    check(
        "    dialect: custom\n    rules:\n      eec:\n        - { FID: ESP.SPI, MO: MSB, MO.VAL: 24, CDA: LSB }\n        - { FID: ESP.SEQ, MO: MSB, MO.VAL: 24, CDA: LSB }\n",
        false,
    );
}

/// Radio frames, which are written unchanged and followed by their packets. The same frames are repeated.
#[test]
fn radio() {
    let bench = Bench::new(ONE_V6);
    let [capture, rules, keys] =
        ["radio.pcap", "rules.yaml", "keys.yaml"].map(|name| common::samples().join("radio").join(name));
    std::fs::copy(rules, bench.path("rules.yaml")).unwrap();
    let mut frames = std::fs::read(capture).unwrap();
    let body = frames.split_off(24);
    while frames.len() <= SEVERAL_WINDOWS {
        frames.extend(&body);
    }
    let input = bench.path("radio.pcap");
    std::fs::write(&input, frames).unwrap();
    let keys = keys.to_str().unwrap();
    for output in ["out.pcap", "out.pcapng"] {
        bench.same("convert", &input, output, &["-k", keys]);
        bench.same("convert", &input, output, &["-k", keys, "--to", "plain"]);
        bench.same("compress", &input, output, &["-k", keys, "--on-mismatch", "skip"]);
    }
}
