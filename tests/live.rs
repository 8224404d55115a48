//! Captures that are read from a pipe: records appear as packets arrive, and signals end a run.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use common::{file, pcap};

const PATIENCE: Duration = Duration::from_secs(60);

/// A capture in pieces: the bytes before the packets, and one piece per packet.
fn pieces(path: &str) -> (Vec<u8>, Vec<Vec<u8>>) {
    let bytes = std::fs::read(file(path)).unwrap();
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (mut head, mut packets) = (vec![], vec![]);
    let is_pcap = path.ends_with(".pcap");
    let mut at = if is_pcap { 24 } else { 0 };
    head.extend(&bytes[..at]);
    while at < bytes.len() {
        const ENHANCED_PACKET: usize = 6;
        let len = if is_pcap { 16 + word(at + 8) } else { word(at + 4) };
        let piece = &bytes[at..at + len];
        match is_pcap || word(at) == ENHANCED_PACKET {
            true => packets.push(piece.to_vec()),
            false if packets.is_empty() => head.extend(piece),
            false => {}
        }
        at += len;
    }
    (head, packets)
}

struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Run {
    fn new(args: &[&str]) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Run { stdin: child.stdin.take(), child, lines }
    }

    fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(bytes).and_then(|()| stdin.flush()).unwrap();
    }

    /// The next line of standard output, which must appear although no more input is written.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line before the next packet is written")
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Exit status and standard error. Standard input stays open.
    fn end(mut self) -> (Option<i32>, String) {
        let started = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("it does not end");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap().code(), stderr)
    }
}

fn decode_args<'a>(capture: &'a str, keys: &'a str, rules: &'a str) -> Vec<&'a str> {
    let args = ["decode", capture, "--format", "fields", "-e", "frame", "-e", "status", "-k", keys];
    let rules = if rules.is_empty() { vec![] } else { vec!["-r", rules] };
    args.into_iter().chain(rules).collect()
}

#[test]
fn each_record_appears_before_the_next_packet() {
    let tcp = [file("keys/tcp.yaml"), file("samples/tcp/rules.yaml")];
    let esp = [file("samples/tcp/esp_keys.yaml"), String::new()];
    for (capture, [keys, rules]) in [("samples/tcp/diet-esp.pcapng", &tcp), ("samples/tcp/original.pcap", &esp)] {
        let (head, packets) = pieces(capture);
        assert_eq!(packets.len(), 30);
        for threads in ["1", "2", "5"] {
            let mut run = Run::new(&[decode_args("-", keys, rules), vec!["--threads", threads]].concat());
            run.write(&head);
            for (packet, frame) in packets.iter().zip(1..) {
                // In two writes, because a pipe may split it.
                let (first, second) = packet.split_at(packet.len() / 2);
                run.write(first);
                run.write(second);
                assert_eq!(run.line(), format!("{frame}\tok"), "{capture}, {threads} threads");
            }
            run.stdin.take();
            let (status, stderr) = run.end();
            assert_eq!(status, Some(0));
            assert!(stderr.starts_with("30 frames: 30 ok\n"), "{stderr}");
        }
    }
}

#[test]
fn hex_lines_are_read_live() {
    let mut run = Run::new(&[decode_args("-", &file("keys/tcp.yaml"), ""), vec!["--from", "hex"]].concat());
    for frame in 1..4 {
        run.write(format!("{frame},2001:db8::1,2001:db8::2,0102030405060708090a\n").as_bytes());
        assert_eq!(run.line(), format!("{frame}\tno-sa"));
    }
    run.signal("INT");
    let (status, stderr) = run.end();
    // A packet of no known SA.
    assert_eq!(status, Some(1));
    assert!(stderr.contains("3 frames: 3 no-sa\n"), "{stderr}");
}

#[test]
fn a_count_ends_the_run_although_the_pipe_stays_open() {
    let (head, packets) = pieces("samples/tcp/diet-esp.pcapng");
    let (keys, rules) = (file("keys/tcp.yaml"), file("samples/tcp/rules.yaml"));
    for threads in ["1", "2", "5"] {
        let args = vec!["--threads", threads, "-c", "3", "-Y", "esp.sequence < 3"];
        let mut run = Run::new(&[decode_args("-", &keys, &rules), args].concat());
        run.write(&head);
        run.write(&packets[..2].concat());
        assert_eq!([run.line(), run.line()], ["1\tok", "2\tok"]);
        let started = Instant::now();
        // The fourth packet is in the same window as the last one shown.
        run.write(&packets[2..4].concat());
        assert_eq!(run.line(), "3\tok");
        let (status, stderr) = run.end();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        assert_eq!(status, Some(0));
        assert!(stderr.starts_with("3 frames: 3 ok; 3 of them shown\n"), "{stderr}");
        assert!(!stderr.contains("stopped"), "{stderr}");
    }
}

#[test]
fn a_signal_ends_with_the_summary() {
    let (head, packets) = pieces("samples/tcp/diet-esp.pcapng");
    let (keys, rules) = (file("keys/tcp.yaml"), file("samples/tcp/rules.yaml"));
    for (signal, threads) in [("INT", "1"), ("INT", "4"), ("TERM", "2")] {
        let mut run = Run::new(&[decode_args("-", &keys, &rules), vec!["--threads", threads]].concat());
        run.write(&head);
        for (packet, frame) in packets.iter().take(3).zip(1..) {
            run.write(packet);
            assert_eq!(run.line(), format!("{frame}\tok"));
        }
        // The start of another packet is not reported as damage.
        run.write(&packets[3][..20]);
        run.signal(signal);
        let (status, stderr) = run.end();
        assert_eq!(status, Some(0), "{stderr}");
        assert!(stderr.contains("stopped after frame 3"), "{stderr}");
        assert!(stderr.contains("\n3 frames: 3 ok\n"), "{stderr}");
        assert!(!stderr.contains("damaged") && !stderr.contains("truncated"), "{stderr}");
    }
}

/// Ctrl-C in a pipeline reaches all its programs. The data that the first program flushes after that is still read.
#[test]
fn data_flushed_by_the_writer_after_a_signal_is_read() {
    let (head, packets) = pieces("samples/tcp/original.pcap");
    let mut run = Run::new(&decode_args("-", &file("samples/tcp/esp_keys.yaml"), ""));
    run.write(&head);
    run.write(&packets[0]);
    run.line();
    run.signal("INT");
    run.write(&packets[1..7].concat());
    run.stdin.take();
    let (status, stderr) = run.end();
    assert_eq!(status, Some(0));
    assert!(stderr.contains("7 frames: 7 ok\n"), "{stderr}");
}

#[test]
fn a_signal_completes_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let (head, packets) = pieces("samples/tcp/diet-esp.pcapng");
    let (keys, rules) = (file("keys/tcp.yaml"), file("samples/tcp/rules.yaml"));
    let out = folder.path().join("out.pcap");
    let mut run = Run::new(&["convert", "-", "-o", out.to_str().unwrap(), "--to", "plain", "-r", &rules, "-k", &keys]);
    run.write(&head);
    run.write(&packets[..5].concat());
    wait_for_handler(&run.child);
    run.signal("INT");
    let (status, stderr) = run.end();
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("5 frames written"), "{stderr}");
    assert_eq!(pcap::read(&out).1.len(), 5);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");

    let (head, packets) = pieces("samples/tcp/original.pcap");
    let esp_keys = file("samples/tcp/esp_keys.yaml");
    let args = ["compress", "-", "-o", out.to_str().unwrap(), "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys];
    let mut run = Run::new(&args);
    run.write(&head);
    run.write(&packets[..7].concat());
    wait_for_handler(&run.child);
    run.signal("TERM");
    let (status, stderr) = run.end();
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("7 packets compressed"), "{stderr}");
    assert_eq!(pcap::read(&out).1.len(), 7);

    // Plain packets are read again after the signal, because ESP packets could have followed.
    let plain = folder.path().join("plain.pcap");
    let sample = file("samples/tcp/diet-esp.pcapng");
    let args = ["convert", &sample, "-o", plain.to_str().unwrap(), "--to", "plain", "-r", &rules, "-k", &keys];
    common::dietesp_ends(0, args);
    let (head, packets) = pieces(plain.to_str().unwrap());
    let mut run = Run::new(&["compress", "-", "-o", out.to_str().unwrap(), "-r", &rules, "-k", &keys]);
    run.write(&head);
    run.write(&packets[..9].concat());
    run.write(&packets[9][..5]);
    wait_for_handler(&run.child);
    run.signal("INT");
    let (status, stderr) = run.end();
    assert_eq!(status, Some(0), "{stderr}");
    assert!(stderr.contains("stopped after frame 9"), "{stderr}");
    assert!(stderr.contains("9 packets compressed") && !stderr.contains("cut short"), "{stderr}");
    assert_eq!(pcap::read(&out).1.len(), 9);
}

/// How many complete Enhanced Packet Blocks a pcapng capture has. Standard output may pass a block in several pieces.
fn enhanced_packets(mut capture: &[u8]) -> usize {
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut count = 0;
    while capture.len() >= 8 && word(capture, 4) as usize <= capture.len() {
        count += usize::from(word(capture, 0) == 6);
        capture = &capture[word(capture, 4) as usize..];
    }
    count
}

#[test]
fn compress_writes_each_esp_packet_before_the_next_one_comes() {
    let [rules, keys, esp_keys] = ["samples/tcp/rules.yaml", "keys/tcp.yaml", "samples/tcp/esp_keys.yaml"].map(file);
    let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["compress", "-", "-o", "-", "-q", "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, received) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(len @ 1..) = stdout.read(&mut buffer) {
            sender.send(buffer[..len].to_vec()).unwrap();
        }
    });
    let (head, packets) = pieces("samples/tcp/original.pcap");
    stdin.write_all(&head).unwrap();
    let mut output = vec![];
    for (before, packet) in packets[..5].iter().enumerate() {
        stdin.write_all(packet).unwrap();
        while enhanced_packets(&output) == before {
            output.extend(received.recv_timeout(PATIENCE).expect("the packet before the next one is written"));
        }
        assert_eq!(enhanced_packets(&output), before + 1);
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_signal_ends_the_reading_of_a_file() {
    const FRAMES: u64 = 200_000;
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("long.pcap");
    let frames: Vec<pcap::Frame> = (0..FRAMES).map(|index| (index, vec![0; 40])).collect();
    pcap::write(&capture, pcap::RAW, &frames);
    let child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["decode", capture.to_str().unwrap(), "-k", &file("keys/tcp.yaml"), "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The pipe is full long before the end.
    let (_sender, lines) = channel();
    let mut run = Run { child, stdin: None, lines };
    wait_for_handler(&run.child);
    let mut stdout = BufReader::new(run.child.stdout.take().unwrap()).lines();
    stdout.next().unwrap().unwrap();
    run.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    let records = 1 + stdout.count() as u64;
    let (status, stderr) = run.end();
    // No frame contains ESP.
    assert_eq!(status, Some(1), "{stderr}");
    assert!(records < FRAMES, "{records}");
    assert!(stderr.contains(&format!("stopped after frame {records};")), "{records}: {stderr}");
    assert!(stderr.contains(&format!("\n{records} frames: ")), "{stderr}");
}

#[test]
fn the_second_signal_kills() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("damaged.pcap");
    let (link_type, mut frames) = pcap::read(Path::new(&file("samples/tcp/original.pcap")));
    frames.truncate(1);
    *frames[0].1.last_mut().unwrap() ^= 1;
    pcap::write(&capture, link_type, &frames);
    // Without sequence number bits on the wire, all 2^32 numbers are tried, which takes hours.
    let text = std::fs::read_to_string(file("samples/tcp/rules.yaml")).unwrap();
    let rules: String = text
        .lines()
        .map(|line| match line.trim_start().split_once(':') {
            Some(("esp_sn_lsb", _)) => "    esp_sn_lsb: 0\n".to_owned(),
            Some(("esp_spi_lsb", _)) => "    esp_spi_lsb: 0\n".to_owned(),
            _ => format!("{line}\n"),
        })
        .collect();
    let path = folder.path().join("rules.yaml");
    std::fs::write(&path, rules).unwrap();
    let (keys, rules) = (file("keys/tcp.yaml"), path.to_str().unwrap().to_owned());
    let run =
        Run::new(&[decode_args(capture.to_str().unwrap(), &keys, &rules), vec!["--resync=full", "--header"]].concat());
    assert_eq!(run.line(), "frame\tstatus", "the options are read, the handler is there");
    // Time to read the packet.
    std::thread::sleep(Duration::from_millis(500));
    run.signal("INT");
    std::thread::sleep(Duration::from_millis(500));
    let mut run = run;
    assert_eq!(run.child.try_wait().unwrap(), None, "one packet is not broken off");
    run.signal("INT");
    assert_eq!(run.end().0, Some(130));
}

#[test]
fn a_signal_before_the_first_packet() {
    let keys = file("keys/tcp.yaml");
    let run = Run::new(&["sa", "-", "-k", &keys]);
    wait_for_handler(&run.child);
    run.signal("INT");
    let (status, stderr) = run.end();
    assert_eq!(status, Some(2));
    assert_eq!(stderr, "dietesp: -: stopped before a capture was read; nothing was written\n");

    let mut run = Run::new(&["sa", "-", "-k", &keys]);
    run.write(&pieces("samples/tcp/original.pcap").0);
    wait_for_handler(&run.child);
    run.signal("INT");
    let (status, stderr) = run.end();
    assert_eq!(status, Some(1));
    assert!(stderr.contains("\n0 frames\n"), "{stderr}");
}

/// Waits until the process handles SIGINT.
fn wait_for_handler(child: &Child) {
    const SIGINT: u64 = 1 << 1;
    let started = Instant::now();
    loop {
        let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) else {
            return std::thread::sleep(Duration::from_secs(2));
        };
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        if caught.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).unwrap() & SIGINT != 0) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "no handler");
        std::thread::sleep(Duration::from_millis(10));
    }
}
