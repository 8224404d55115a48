//! `--from hex`: packets as lines of text.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{count, decode, dietesp_ends, file, pcap};

/// Frames of `samples/tcp/original.pcap`: seconds, source, destination, ESP payload, whole packet. Ethernet, then IPv6
/// without extension headers.
fn packets() -> Vec<(u64, String, String, String, String)> {
    let (link_type, frames) = pcap::read(Path::new(&file("samples/tcp/original.pcap")));
    assert_eq!(link_type, 1);
    let address = |bytes: &[u8]| std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).to_string();
    let parts = frames.iter().map(|(time, frame)| {
        let ip = &frame[14..];
        assert_eq!((ip[0] >> 4, ip[6]), (6, 50));
        (*time, address(&ip[8..24]), address(&ip[24..40]), hex::encode(&ip[40..]), hex::encode(ip))
    });
    parts.collect()
}

fn write(folder: &tempfile::TempDir, text: &str) -> String {
    let path = folder.path().join("packets.csv");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn lines_are_decoded_like_the_capture() {
    let folder = tempfile::tempdir().unwrap();
    let keys = file("samples/tcp/esp_keys.yaml");
    let (expected, _) = decode([&file("samples/tcp/original.pcap"), "-k", &keys]);
    assert_eq!(count(&expected, "ok"), 30);
    let (mut esp, mut ip) = ("time,src,dst,hex\r\n# a comment\r\n\r\n".to_owned(), String::new());
    for (time, src, dst, payload, whole) in packets() {
        let (seconds, nanos) = (time / 1_000_000_000, time % 1_000_000_000);
        esp += &format!("{seconds}.{nanos:09},{src},\"{dst}\",{}\r\n", payload.to_uppercase());
        ip += &format!("{seconds}.{nanos:09}\t\t\t0x{whole}\n");
    }
    let esp = write(&folder, esp.trim_end());
    let (records, status) = decode([&esp, "-k", &keys, "--from", "hex"]);
    assert_eq!(status, 0);
    for (record, expected) in records.iter().zip(&expected) {
        for field in ["frame", "time", "status", "sa", "esp", "inner", "packet", "bytes", "warnings"] {
            assert_eq!(record[field], expected[field], "{field} of frame {}", expected["frame"]);
        }
        assert_eq!(record["outer"]["src"], expected["outer"]["src"]);
    }
    assert_eq!(records.len(), expected.len());
    let ip = write(&folder, &ip);
    let (records, _) = decode([&ip, "-k", &keys, "--from", "hex", "--hex-is", "ip"]);
    assert_eq!(records, expected);
}

#[test]
fn every_command_that_decrypts_packets_reads_hex_lines() {
    let folder = tempfile::tempdir().unwrap();
    let lines: String = packets().iter().map(|(_, src, dst, esp, _)| format!("1;{src};{dst};{esp}\n")).collect();
    let lines = write(&folder, &lines);
    let [esp_keys, keys, rules] = ["samples/tcp/esp_keys.yaml", "keys/tcp.yaml", "samples/tcp/rules.yaml"].map(file);
    let out = folder.path().join("out.pcap");
    let out_text = out.to_str().unwrap();
    let from = ["--from", "hex"];
    let (sas, _) = dietesp_ends(0, ["sa", &lines, "-k", &esp_keys].into_iter().chain(from));
    assert_eq!(sas.lines().count(), 3, "{sas}");
    dietesp_ends(0, ["convert", &lines, "-o", out_text, "--to", "plain", "-k", &esp_keys].into_iter().chain(from));
    let (link_type, frames) = pcap::read(&out);
    assert_eq!((link_type, frames.len()), (pcap::RAW, 30));
    let args = ["compress", &lines, "-o", out_text, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys];
    dietesp_ends(0, args.into_iter().chain(from));
    let (records, _) = decode([out_text, "-r", &rules, "-k", &keys]);
    assert_eq!(count(&records, "ok"), 30);
}

#[test]
fn outer_headers_are_complete() {
    let folder = tempfile::tempdir().unwrap();
    let lines = write(
        &folder,
        "2026-01-02T04:04:05.000006+01:00, 192.0.2.1, 198.51.100.2, 0a:0b 0c-0d\n\
         0,2001:db8::1,2001:db8::2,00\n\
         0,70B3D57ED0001234,,ffee\n\
         0,70-b3-d5-7e-d0-00-12-34,70:b3:d5:7e:d0:00:12:34,ffee\n\
         0,,192.0.2.9,00\n\
         0,,,00\n",
    );
    let out = folder.path().join("out.pcap");
    let keys = file("keys/tcp.yaml");
    dietesp_ends(1, ["convert", &lines, "-o", out.to_str().unwrap(), "--to", "plain", "-k", &keys, "--from", "hex"]);
    let (_, frames) = pcap::read(&out);
    // The checksum and all other bytes were computed with scapy.
    let v4 = "450000180000400040324e7dc0000201c63364020a0b0c0d";
    let v6 = "6000000000013240\
              20010db800000000000000000000000120010db800000000000000000000000200";
    assert_eq!(frames[0], (1_767_323_045_000_006_000, hex::decode(v4).unwrap()));
    assert_eq!(frames[1], (0, hex::decode(v6).unwrap()));
    let (records, _) = decode([&lines, "-k", &keys, "--from", "hex"]);
    let outer: Vec<_> = records.iter().map(|record| [&record["outer"]["src"], &record["outer"]["dst"]]).collect();
    // RFC 4291 appendix A: the universal bit is inverted.
    assert_eq!(outer[2], ["fe80::72b3:d57e:d000:1234", "::"]);
    assert_eq!(outer[3], ["fe80::72b3:d57e:d000:1234", "fe80::72b3:d57e:d000:1234"]);
    assert_eq!(outer[4], ["0.0.0.0", "192.0.2.9"]);
    assert_eq!(outer[5], ["::", "::"]);
    assert_eq!(records.len(), 6);
}

#[test]
fn bad_lines_are_skipped_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let keys = file("keys/tcp.yaml");
    let run = |status, text: &str, more: &[&str]| {
        let lines = write(&folder, text);
        dietesp_ends(status, [&["decode", &lines, "-k", &keys, "--from", "hex"], more].concat())
    };
    for (line, problem) in [
        ("0,::1,::2", "expected four fields"),
        ("0,::1,::2,00,00", "expected four fields"),
        ("yesterday,::1,::2,00", "time: `yesterday`"),
        ("1767323045000,::1,::2,00", "between 1970 and 2106"),
        ("0,::1,::2,", "hex: empty"),
        ("0,::1,::2,123", "3 digits"),
        ("0,::1,::2,xy", "hex digits"),
        ("0,::1,192.0.2.1,00", "different IP versions"),
        ("0,sensor-7,::1,00", "src: `sensor-7`"),
        ("0,::1,2001:db8::1::2,00", "dst: `2001:db8::1::2`"),
        (&format!("0,::1,::2,{}", "00".repeat(65_536)), "65536 bytes"),
        (&format!("0,::1,::2,{}", "00 ".repeat(100_000)), "longer than"),
    ] {
        let (stdout, stderr) = run(1, &format!("0,::1,::2,00\n{line}\n0,::1,::2,01\n"), &[]);
        assert_eq!(stdout.lines().count(), 3, "{problem}: {stdout}");
        assert!(stderr.contains("packets.csv:2: ") && stderr.contains(problem), "{problem}: {stderr}");
        // The results do not show this, so the warning is printed in any case.
        let (_, stderr) = run(1, &format!("0,::1,::2,00\n{line}"), &["-q"]);
        assert!(stderr.contains("packets.csv:2: ") && stderr.contains(problem), "{problem}: {stderr}");
        // If it is the only line, it is an error.
        let (stdout, stderr) = run(2, &format!("\n{line}\n"), &[]);
        assert!(stdout.is_empty() && stderr.contains("no usable line"), "{stderr}");
    }
    let (_, stderr) = run(2, "# nothing\n\n", &[]);
    assert!(stderr.contains("no line with a packet"), "{stderr}");
    let (_, stderr) = run(1, &format!("0,::1,::2,00\n{}", "x\n".repeat(1000)), &[]);
    assert!(stderr.contains("1000 of 1001 lines skipped"), "{stderr}");
    assert!(stderr.lines().count() < 20, "{stderr}");
    for (hex, problem) in [
        ("60000000000132", "7 bytes are too few for an IPv6 header"),
        (&format!("6000000000013b40{}", "00".repeat(32)), "gives 41 bytes"),
        ("50", "IP version 5"),
        ("45000014", "4 bytes are too few for an IPv4 header"),
        (&format!("45000015{}", "00".repeat(16)), "gives 21 bytes"),
    ] {
        let (_, stderr) = run(2, &format!("0,,,{hex}\n"), &["--hex-is", "ip"]);
        assert!(stderr.contains(problem), "{stderr}");
    }
    // If the format is wrong, the message names the option, whichever format was expected.
    let lines = write(&folder, "0,::1,::2,00\n");
    let (_, stderr) = dietesp_ends(2, ["decode", &lines, "-k", &keys]);
    assert!(stderr.contains("--from hex"), "{stderr}");
    let (_, stderr) = dietesp_ends(2, ["decode", &file("samples/tcp/original.pcap"), "-k", &keys, "--from", "hex"]);
    assert!(stderr.contains("no usable line"), "{stderr}");
}

#[test]
fn compressed_inputs_are_read_from_a_pipe() {
    let text: String = packets().iter().map(|(_, src, dst, esp, _)| format!("1,{src},{dst},{esp}\n")).collect();
    let capture = std::fs::read(file("samples/tcp/original.pcap")).unwrap();
    for (bytes, more) in [(text.into_bytes(), &["--from", "hex"][..]), (capture, &[])] {
        let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
        gzip.write_all(&bytes).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(["decode", "-", "-k", &file("samples/tcp/esp_keys.yaml"), "--format", "jsonl"])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&gzip.finish().unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("30 frames: 30 ok\n"), "{output:?}");
    }
}
