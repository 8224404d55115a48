//! Filters of `decode -Y` choose the packets that the equivalent filter of Wireshark chooses in the converted capture.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use common::{dietesp, dietesp_ends, file};

/// Sample, filter of `decode`, filter of Wireshark.
const CASES: [(&str, &str, &str); 44] = [
    ("probe", "esp", "esp"),
    ("probe", r#"status == "ok""#, "esp"),
    ("probe", r#"!(status == "not-esp")"#, "esp"),
    ("probe", "frame in {1..10, 20, 30..31}", "frame.number in {1..10, 20, 30..31}"),
    ("probe", "esp.sequence == 5", "esp.sequence == 5"),
    ("probe", "esp.sequence != 5", "esp.sequence != 5"),
    ("probe", "!(esp.sequence == 5)", "!(esp.sequence == 5)"),
    ("probe", "esp.sequence in {3..5, 9}", "esp.sequence in {3..5, 9}"),
    ("probe", "esp.spi == 0x8754dd38", "esp.spi == 0x8754dd38"),
    ("probe", r#"sa == "probe-1-up""#, "esp.spi == 0x8754dd38"),
    ("probe", r#"sa contains "-1-" && sa matches "(up|down)$""#, "esp.spi in {0x8754dd38, 0xb8d63dba}"),
    ("probe", "inner.dst_port == 5683", "udp.dstport == 5683"),
    ("probe", "inner.src_port != 5683", "esp && udp.srcport != 5683"),
    ("probe", "inner.src == fd0a::/16", "ipv6.src#2 == fd0a::/16"),
    (
        "probe",
        "inner.dst == fd0a::1 or inner.dst == fd0b::1 and frame < 20",
        "ipv6.dst#2 == fd0a::1 or ipv6.dst#2 == fd0b::1 and frame.number < 20",
    ),
    ("probe", "outer.dst == ff02::/16", "ipv6.dst == ff02::/16"),
    ("probe", "outer.src != fd01::1", "ipv6.src#1 != fd01::1"),
    ("probe", "outer.hop_limit < 64", "ipv6.hlim#1 < 64"),
    ("probe", "time >= 10s", "frame.time_relative >= 10"),
    (
        "probe",
        "time > 2.5s and time <= 500ms or time > 55s",
        "frame.time_relative > 2.5 and frame.time_relative <= 0.5 or frame.time_relative > 55",
    ),
    ("probe", "packet contains b4:74:65:6d:70", "udp.payload contains b4:74:65:6d:70"),
    ("probe", "packet contains 74656d70", r#"coap.opt.uri_path == "temp""#),
    ("probe", "inner.protocol == 17 && !(frame > 100)", "esp && udp && !(frame.number > 100)"),
    ("probe", r#"reason contains "ICMPv6""#, "icmpv6"),
    ("probe", r#"reason matches "(?i)^ike""#, "isakmp && udp.port == 4500"),
    ("tcp", "inner.dst_port == 1883", "tcp.dstport == 1883"),
    ("tcp", "inner.protocol == 6 && esp.sequence > 10", "tcp && esp.sequence > 10"),
    ("tcp", "inner.src in {2001:db8:a::20, 2001:db8:c::/48}", "ipv6.src#2 in {2001:db8:a::20, 2001:db8:c::/48}"),
    ("tcp", "packet contains 74:65:6d:70:2f:32:30", r#"tcp.payload contains "temp/20""#),
    ("tcp", "time == 36ms", "frame.time_relative == 0.036"),
    ("gateway", "inner.src == 2001:db8:d::/48", "ipv6.src#2 == 2001:db8:d::/48"),
    ("gateway", "inner.src_port in {40002, 40004..40005}", "udp.srcport in {40002, 40004..40005}"),
    ("gateway", "esp.spi >= 0x80000000 || esp.sequence <= 2", "esp.spi >= 0x80000000 || esp.sequence <= 2"),
    ("probe", "!inner.dst_port", "!(esp && udp.dstport)"),
    (
        "gateway",
        "outer.hop_limit == 63 && not inner.src_port == 40003",
        "ipv6.hlim#1 == 63 && not udp.srcport == 40003",
    ),
    ("ipv4", r#"time < "2026-02-02T02:40:05.040Z""#, r#"frame.time < "2026-02-02 02:40:05.040 UTC""#),
    (
        "ipv4",
        r#"time in {"2026-02-02T02:40:03Z".."2026-02-02T03:40:08.04+01:00"}"#,
        r#"frame.time in {"2026-02-02 02:40:03 UTC".."2026-02-02 02:40:08.04 UTC"}"#,
    ),
    ("ipv4", "inner.src == 10.1.0.0/16", "ip.src#2 == 10.1.0.0/16"),
    ("ipv4", "inner.dst != 10.2.0.10 && inner.dst != 10.1.0.2", "ip.dst#2 != 10.2.0.10 && ip.dst#2 != 10.1.0.2"),
    (
        "ipv4",
        "outer.src == 192.0.2.2 and (inner.dst == 10.2.0.11 or esp.sequence == 1)",
        "ip.src#1 == 192.0.2.2 and (ip.dst#2 == 10.2.0.11 or esp.sequence == 1)",
    ),
    ("ipv4", "inner.version == 4 && inner.version != 6", "ip.version#2 == 4"),
    (
        "transport",
        "inner.src == 2001:db8:0:4::2 && esp.sequence < 4",
        "ipv6.src == 2001:db8:0:4::2 && esp.sequence < 4",
    ),
    (
        "transport",
        "inner.dst_port == 5683 && packet contains ff:32:30",
        "udp.dstport == 5683 && udp.payload contains ff:32:30",
    ),
    ("transport", "outer.version == 6 && frame > 38", "ipv6 && frame.number > 38"),
];

/// The frames that `decode -Y` shows.
fn shown(sample: &str, filter: &str, threads: &str) -> Vec<u64> {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/{sample}/{name}")));
    let keys = file(&format!("keys/{sample}.yaml"));
    let args = ["decode", &capture, "-r", &rules, "-k", &keys, "--format", "fields", "-e", "frame", "-Y", filter];
    let (records, _) = dietesp_ends(0, [&args[..], &["--threads", threads]].concat());
    records.lines().map(|line| line.parse().unwrap()).collect()
}

/// A sample as standard ESP, and the folder that makes Wireshark decrypt it.
fn converted(folder: &Path, sample: &str) -> (PathBuf, PathBuf) {
    let capture = folder.join(format!("{sample}.pcapng"));
    let config = folder.join(format!("{sample}.pcapng.wireshark"));
    if !capture.exists() {
        let [diet, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/{sample}/{name}")));
        let keys = file(&format!("keys/{sample}.yaml"));
        dietesp_ends(0, ["convert", &diet, "-o", capture.to_str().unwrap(), "-r", &rules, "-k", &keys]);
    }
    (capture, config)
}

#[test]
fn filters_choose_what_wireshark_chooses() {
    let folder = tempfile::tempdir().unwrap();
    for (sample, filter, wireshark) in CASES {
        let (capture, config) = converted(folder.path(), sample);
        let args = ["-n", "-T", "fields", "-e", "frame.number", "-Y", wireshark, "-r"].map(OsStr::new);
        let output = common::tshark(Some(&config), args.into_iter().chain([capture.as_os_str()]));
        let expected: Vec<u64> = output.lines().map(|line| line.parse().unwrap()).collect();
        for threads in ["1", "3"] {
            assert_eq!(shown(sample, filter, threads), expected, "{sample}: {filter} against {wireshark}");
        }
        // A filter that tshark rejects chooses nothing.
        assert!(!expected.is_empty(), "{wireshark}");
    }
}

/// Conditions that Wireshark does not have, against the records themselves.
#[test]
fn filters_choose_by_all_fields_of_a_record() {
    use serde_json::Value;
    let [capture, rules, keys] =
        ["radio.pcap", "rules.yaml", "keys.yaml"].map(|name| file(&format!("samples/radio/{name}")));
    let args = ["decode", &capture, "-r", &rules, "-k", &keys, "--format", "jsonl"];
    let all = String::from_utf8(dietesp(args).stdout).unwrap();
    type Test = fn(&Value) -> bool;
    let cases: [(&str, Test); 10] = [
        ("fragments", |r| r["fragments"].is_array()),
        ("!fragments", |r| r["fragments"].is_null()),
        ("warnings", |r| r["warnings"].as_array().is_some_and(|list| !list.is_empty())),
        (r#"warnings == "duplicate""#, |r| {
            r["warnings"].as_array().is_some_and(|list| list.contains(&"duplicate".into()))
        }),
        (r#"warnings != "duplicate""#, |r| {
            r["warnings"].as_array().is_some_and(|list| !list.contains(&"duplicate".into()))
        }),
        ("repeat_of > 5", |r| r["repeat_of"].as_u64().is_some_and(|frame| frame > 5)),
        ("bytes.saved in {-100..57}", |r| r["bytes"]["saved"].as_i64().is_some_and(|saved| saved <= 57)),
        (r#"restored.udp.checksum == "computed""#, |r| r["restored"]["udp.checksum"] == "computed"),
        ("reason || esp.wire.bytes > 30", |r| {
            r["reason"].is_string() || r["esp"]["wire"]["bytes"].as_u64().is_some_and(|bytes| bytes > 30)
        }),
        (r#"status in {"malformed", "no-sa", "not-esp"}"#, |r| r["status"] != "ok" && r["status"] != "auth-failed"),
    ];
    for (filter, test) in cases {
        let expected: String = all
            .lines()
            .filter(|line| test(&serde_json::from_str(line).unwrap()))
            .map(|line| format!("{line}\n"))
            .collect();
        let shown = String::from_utf8(dietesp(args.into_iter().chain(["-Y", filter])).stdout).unwrap();
        assert_eq!(shown, expected, "{filter}");
        let (some, none) = (!expected.is_empty(), expected.lines().count() < all.lines().count());
        assert!(some && none, "{filter} tests nothing: {}", expected.lines().count());
    }
}

#[test]
fn a_wrong_filter_ends_the_run_and_points_at_the_column() {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/tcp/{name}")));
    let keys = file("keys/tcp.yaml");
    for command in ["decode", "sa"] {
        let args = [command, &capture, "-r", &rules, "-k", &keys, "-Y", "frame > 3 && esp.sequense == 4"];
        let (stdout, stderr) = dietesp_ends(2, args);
        assert_eq!(stdout, "");
        assert_eq!(
            stderr,
            "dietesp: filter, column 14: there is no field `esp.sequense`\n    frame > 3 && esp.sequense == 4\n    \
             \x20            ^\n  did you mean `esp.sequence`?\n"
        );
    }
}

/// Runs on the probe sample.
fn on_probe(status: i32, command: &str, more: &[&str]) -> (String, String) {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/probe/{name}")));
    let keys = file("keys/probe.yaml");
    dietesp_ends(status, [&[command, &capture, "-r", &rules, "-k", &keys], more].concat())
}

#[test]
fn frames_are_chosen_by_a_list() {
    let frames = |more: &[&str]| {
        let more = [more, &["--format", "fields", "-e", "frame"]].concat();
        on_probe(0, "decode", &more).0.lines().map(|line| line.parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(frames(&["--frames", "1,3,7-9"]), [1, 3, 7, 8, 9]);
    assert_eq!(frames(&["--frame", "7-9,8-12", "--frame", "3"]), [3, 7, 8, 9, 10, 11, 12]);
    assert_eq!(frames(&["--frames=-2,281-"]), [1, 2, 281, 282]);
    assert_eq!(frames(&["--frames", "11-20", "--status", "ok", "-Y", "esp.sequence == 3"]), [15, 16]);
    for wrong in ["0x1", "3-1", "a", "1,,2", "-"] {
        on_probe(2, "decode", &[&format!("--frames={wrong}")]);
    }
    assert!(on_probe(2, "decode", &["--status", "okay"]).1.contains("ok, not-esp, no-sa"));
}

#[test]
fn the_count_ends_the_run_and_the_counts_end_with_it() {
    for threads in ["1", "2", "5"] {
        let args = ["-Y", "esp.sequence == 3", "-c", "3", "--threads", threads, "--format", "fields", "-e", "frame"];
        let (records, summary) = on_probe(0, "decode", &args);
        assert_eq!(records, "15\n16\n63\n");
        assert!(summary.starts_with("63 frames: "), "{summary}");
        assert!(summary.contains("; 3 of them shown\n"), "{summary}");
    }
    // More than there are.
    let (records, summary) = on_probe(0, "decode", &["-c", "1000", "--format", "fields", "-e", "frame"]);
    assert_eq!(records.lines().count(), 282);
    assert!(summary.contains("; 282 of them shown\n"), "{summary}");
    on_probe(2, "decode", &["-c", "0"]);
}

#[test]
fn sa_lists_the_sas_of_chosen_packets_with_all_their_counts() {
    let (all, _) = on_probe(0, "sa", &["--format", "jsonl"]);
    let (chosen, summary) = on_probe(0, "sa", &["--format", "jsonl", "-Y", "frame == 15 || frame == 64"]);
    let expected: Vec<&str> =
        all.lines().filter(|line| line.contains("probe-1-up") || line.contains("probe-2-down")).collect();
    assert_eq!(chosen.lines().collect::<Vec<_>>(), expected);
    assert!(!summary.contains("shown"), "{summary}");
    assert_eq!(on_probe(0, "sa", &["--format", "jsonl", "--status", "auth-failed"]).0, "");
}

#[test]
fn failed_packets_are_those_of_a_known_sa() {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/probe/{name}")));
    let folder = tempfile::tempdir().unwrap();
    let keys = std::fs::read_to_string(file("keys/probe.yaml")).unwrap();
    // Another key for the first SA.
    let line = keys.lines().find(|line| line.trim_start().starts_with("key:")).unwrap();
    let digits = line.rsplit(' ').next().unwrap();
    let wrong = folder.path().join("keys.yaml");
    std::fs::write(&wrong, keys.replacen(digits, &"11".repeat(digits.len() / 2), 1)).unwrap();
    let args = ["decode", &capture, "-r", &rules, "-k", wrong.to_str().unwrap(), "--failed", "--format", "jsonl"];
    let (records, summary) = dietesp_ends(1, args);
    assert!(records.lines().count() > 5, "{records}");
    assert!(records.lines().all(|line| line.contains(r#""status":"auth-failed""#)), "{records}");
    assert!(summary.contains("not-esp"), "{summary}");
}
