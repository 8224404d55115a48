//! Exit statuses and output files that need more than one line of `tests/cmd`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use common::{dietesp_ends, file, pcap};

fn probe() -> [String; 3] {
    ["samples/probe/diet-esp.pcapng", "samples/probe/rules.yaml", "keys/probe.yaml"].map(file)
}

#[test]
fn invalid_inputs_leave_no_output() {
    let folder = tempfile::tempdir().unwrap();
    let [capture, rules, keys] = probe();
    let [empty, text, typo, short] =
        ["files/empty.pcap", "files/text.pcap", "files/rules-typo.yaml", "files/keys-short.yaml"]
            .map(|name| file(&format!("tests/cmd/{name}")));
    let cases = [
        (&empty, &rules, &keys, "is empty"),
        (&text, &rules, &keys, "not a pcap or pcapng file"),
        (&capture, &typo, &keys, "did you mean `esp_sn_lsb`?"),
        (&capture, &rules, &short, "not 15"),
    ];
    for (capture, rules, keys, expected) in cases {
        for command in ["convert", "compress"] {
            for name in ["out.pcapng", "out.pcap"] {
                let out = folder.path().join(name);
                let (stdout, stderr) =
                    dietesp_ends(2, [command, capture, "-o", out.to_str().unwrap(), "-r", rules, "-k", keys]);
                assert!(stderr.contains(expected), "{command}: {stderr}");
                assert!(stdout.is_empty());
                assert!(stderr.lines().count() <= 2, "one message and what to do: {stderr}");
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{command}");
            }
        }
    }
}

#[test]
fn a_failed_run_keeps_the_previous_output() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcapng");
    std::fs::write(&out, "before").unwrap();
    let (rules, keys) = (file("samples/tcp/rules.yaml"), file("keys/tcp.yaml"));
    // The port of MQTT over TLS, which the capture does not use.
    let other = folder.path().join("rules.yaml");
    let text = std::fs::read_to_string(&rules).unwrap().replace("1883", "8883");
    std::fs::write(&other, text).unwrap();
    let (original, esp_keys) = (file("samples/tcp/original.pcap"), file("samples/tcp/esp_keys.yaml"));
    let [out_text, other] = [&out, &other].map(|path| path.to_str().unwrap());
    let args = ["compress", &original, "-o", out_text, "-r", other, "-k", &keys, "--esp-keys", &esp_keys];
    let (_, stderr) = dietesp_ends(1, args);
    assert!(stderr.contains("frame 1") && stderr.contains("--on-mismatch"), "{stderr}");
    assert_eq!(std::fs::read(&out).unwrap(), b"before");

    let (_, stderr) = dietesp_ends(1, args.into_iter().chain(["--on-mismatch", "skip"]));
    assert!(stderr.contains("17 did not match because of dst_port"), "{stderr}");
    assert_ne!(std::fs::read(&out).unwrap(), b"before");
}

#[test]
fn failed_packets_make_the_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("cut.pcap");
    let (link_type, mut frames) = pcap::read(std::path::Path::new(&file("samples/tcp/original.pcap")));
    let last = frames[3].1.len() - 1;
    frames[3].1[last] ^= 1;
    pcap::write(&capture, link_type, &frames);
    let (stdout, stderr) =
        dietesp_ends(1, ["decode", capture.to_str().unwrap(), "-k", &file("samples/tcp/esp_keys.yaml"), "--failed"]);
    assert_eq!(stdout.lines().count(), 2, "the header and one row: {stdout}");
    assert!(stdout.contains("auth-failed"), "{stdout}");
    assert!(stderr.contains("30 frames: 29 ok, 1 auth-failed"), "{stderr}");
}

/// 0: everything that looks like ESP was decoded, except for packets of unknown SAs. 1: some packets failed, or
/// none was decoded.
#[test]
fn the_exit_status_depends_on_decoded_packets() {
    let folder = tempfile::tempdir().unwrap();
    let [capture, rules, keys] = probe();
    let out = folder.path().join("out.pcapng");
    let out = out.to_str().unwrap();
    let (plain, esp) = (&["convert", "-o", out, "--to", "plain"][..], &["convert", "-o", out][..]);
    let all: [&[&str]; 4] = [&["decode"], &["sa"], esp, plain];
    let ends = |command: &[&str], status: i32, rest: &[&str]| {
        let (_, stderr) = dietesp_ends(status, command.iter().chain(rest));
        stderr
    };
    for command in all {
        ends(command, 0, &[&capture, "-r", &rules, "-k", &keys]);
        // Packets count even if they are not shown.
        ends(command, 0, &[&capture, "-r", &rules, "-k", &keys, "--frames", "17-24"]);
        // Without contexts no header can be read: 240 packets have no SA, and none is decoded.
        let stderr = ends(command, 1, &[&capture, "-k", &keys]);
        assert!(stderr.contains("282 frames: 42 not-esp, 240 no-sa"), "{stderr}");
        assert_eq!(command == plain, stderr.contains("240 packets could not be decoded and are still encrypted"));
    }
    // The keys of one SA of two: the packets of the other SA do not count as failed.
    let one = folder.path().join("one.yaml");
    let text = std::fs::read_to_string(file("samples/gateway/esp_keys.yaml")).unwrap();
    let second = text.match_indices("- name:").nth(1).unwrap().0;
    std::fs::write(&one, &text[..second]).unwrap();
    let (gateway, one) = (file("samples/gateway/original.pcap"), one.to_str().unwrap());
    for command in all {
        let status = i32::from(command == plain);
        let stderr = ends(command, status, &[&gateway, "-k", one]);
        assert!(stderr.contains("66 frames: 37 ok, 29 no-sa"), "{stderr}");
        assert_eq!(command == plain, stderr.contains("29 packets could not be decoded and are still encrypted"));
    }
    // Only packets that are written unchanged count.
    ends(plain, 0, &[&gateway, "-k", one, "--spi", "0x3a5100c7"]);
    // A capture without ESP or without packets results in status 1, like a grep without matches.
    let arp = folder.path().join("arp.pcap");
    let mut frame = vec![0xff; 12];
    frame.extend([8, 6]);
    frame.extend([0; 28]);
    for frames in [vec![], vec![(0, frame)]] {
        pcap::write(&arp, 1, &frames);
        for command in all {
            ends(command, 1, &[arp.to_str().unwrap(), "-k", &keys]);
        }
    }
}

#[test]
fn options_without_effect_cause_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcapng");
    let [capture, rules, keys] = probe();
    let warnings = |options: &[&str]| -> Vec<String> {
        let args = ["convert", &capture, "-o", out.to_str().unwrap(), "-r", &rules, "-k", &keys];
        let (_, stderr) = dietesp_ends(0, args.into_iter().chain(options.iter().copied()));
        let warnings = stderr.lines().filter_map(|line| line.strip_prefix("dietesp: warning: "));
        warnings.map(str::to_owned).collect()
    };
    let cipher = ["--cipher", "ENCR_AES_CCM_8"];
    assert_eq!(
        warnings(&[&cipher[..], &["--to", "plain", "--reseal", "fresh", "--seed", "1"]].concat()),
        ["--reseal", "--cipher", "--seed"].map(|option| format!("{option} has no effect with --to plain"))
    );
    assert_eq!(
        warnings(&[&cipher[..], &["--reseal", "keep", "--seed", "1"]].concat()),
        ["--cipher has no effect with --reseal keep"]
    );
    assert_eq!(warnings(&[&cipher[..], &["--seed", "1"]].concat()), [""; 0]);
    assert_eq!(warnings(&["--to", "plain", "-q", "--seed", "1"]), [""; 0]);
}

/// `--resync` alone, with a space or with `=`. The name of the capture is never read as its value.
#[test]
fn resync_has_an_optional_value() {
    let [capture, rules, keys] = probe();
    let files = ["-r", &rules, "-k", &keys, "--format", "jsonl"];
    let full = "--resync=full: ";
    for (options, is_full) in [
        (&["decode", "--resync", &capture][..], false),
        (&["decode", &capture, "--resync"], false),
        (&["decode", "--resync", "wide", &capture], false),
        (&["decode", "--resync=wide", &capture], false),
        (&["decode", "--resync", "full", &capture], true),
        (&["decode", &capture, "--resync", "full"], true),
        (&["decode", "--resync=full", &capture], true),
        (&["sa", &capture, "--resync", "full"], true),
    ] {
        let (_, stderr) = dietesp_ends(0, options.iter().chain(&files));
        assert_eq!(stderr.contains(full), is_full, "{options:?}: {stderr}");
    }
    let (_, stderr) = dietesp_ends(2, ["decode", &capture, "--resync=wider", "-k", &keys]);
    assert!(stderr.contains("[possible values: wide, full]"), "{stderr}");
    // After `--` all arguments are file names.
    let (_, stderr) = dietesp_ends(2, ["decode", "-k", &keys, "--", "--resync", "full"]);
    assert!(stderr.contains("unexpected argument 'full'"), "{stderr}");
}

#[test]
fn help_is_also_a_command() {
    for command in [&["decode"][..], &["rules", "show"], &["vectors", "make"], &["keys", "export"]] {
        let help = [&["help"], command].concat();
        assert_eq!(dietesp_ends(0, help), dietesp_ends(0, [command, &["--help"]].concat()), "{command:?}");
    }
    let (help, _) = dietesp_ends(0, ["help"]);
    assert!(help.contains("\n  decode ") && help.contains("\nExit status:\n"), "{help}");
    let (_, stderr) = dietesp_ends(2, ["help", "decod"]);
    assert!(stderr.contains("'decod'"), "{stderr}");
}

/// No line of a help text is longer than the terminal, or than 100 columns.
#[test]
fn help_fits_the_terminal() {
    let commands = [
        "",
        "decode",
        "convert",
        "compress",
        "sa",
        "keys",
        "keys show",
        "keys export",
        "rules",
        "rules show",
        "rules check",
        "rules apply",
        "rules import",
        "rules export",
        "rules schema",
        "vectors",
        "vectors make",
        "vectors check",
        "completions",
        "man",
    ];
    for command in commands {
        for help in ["-h", "--help"] {
            for (columns, most) in [("80", 80), ("100", 100), ("200", 100)] {
                let output = Command::new(env!("CARGO_BIN_EXE_dietesp"))
                    .args(command.split_whitespace().chain([help]))
                    .env("COLUMNS", columns)
                    .output()
                    .unwrap();
                let text = String::from_utf8(output.stdout).unwrap();
                assert!(text.contains("Usage: "), "{command}");
                let long: Vec<&str> = text.lines().filter(|line| line.chars().count() > most).collect();
                assert_eq!(long, [""; 0], "{command} {help} in {columns} columns");
            }
        }
    }
}

/// Commands only have options that they use.
#[test]
fn options_that_do_nothing_are_rejected() {
    let [capture, _, keys] = probe();
    let lines = file("tests/cmd/files/text.pcap");
    for (args, problem) in [
        (&["decode", &capture, "--keep-repeats"][..], "unexpected argument '--keep-repeats'"),
        (&["sa", &capture, "--keep-repeats"], "unexpected argument '--keep-repeats'"),
        (&["compress", &capture, "--keep-repeats"], "unexpected argument '--keep-repeats'"),
        (&["decode", &capture, "--header"], "--header has an effect only with --format fields"),
        (&["decode", &capture, "--header", "--format", "jsonl"], "--header has an effect only with --format fields"),
        (&["decode", &capture, "-e", "sa"], "-e FIELD has an effect only with --format csv and fields"),
        (&["decode", &capture, "--hex-is", "esp"], "--hex-is has an effect only with --from hex"),
        (&["decode", &capture, "--hex-is", "ip"], "--hex-is has an effect only with --from hex"),
        (&["decode", &lines, "--from", "hex", "--fcs", "crc"], "--fcs has no effect with --from hex"),
    ] {
        let (stdout, stderr) = dietesp_ends(2, args.iter().chain(&["-k", &keys]));
        assert!(stdout.is_empty() && stderr.contains(problem), "{args:?}: {stderr}");
    }
    let (_, stderr) = dietesp_ends(0, ["keys", "show", &keys, "--capture", &capture]);
    assert!(stderr.contains("warning: --capture has no effect: "), "{stderr}");
}

/// Failed packets count, too. Without verified packets there is no average.
#[test]
fn tries_of_failed_packets_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let [capture, rules, keys] = probe();
    let wrong = folder.path().join("wrong.yaml");
    let text = std::fs::read_to_string(keys).unwrap();
    let other = text.replacen("key: 26", "key: 27", 1);
    assert_ne!(text, other);
    std::fs::write(&wrong, other).unwrap();
    let files = [&capture, "-r", &rules, "-k", wrong.to_str().unwrap()];
    let (_, stderr) = dietesp_ends(1, ["decode"].iter().chain(&files));
    assert!(stderr.contains("\nprobe-1-up: 0 verified; 20 failed after 1024 tries each\n"), "{stderr}");
    let (_, stderr) = dietesp_ends(1, ["decode", "--sn-tries", "7"].iter().chain(&files));
    assert!(stderr.contains("\nprobe-1-up: 0 verified; 20 failed after 7 tries each\n"), "{stderr}");
    let (table, _) = dietesp_ends(1, ["sa"].iter().chain(&files));
    let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row[..7], ["probe-1-up", "0x8754dd38", "fd01::1", "0", "20", "-", "-"], "{table}");
    let (lines, _) = dietesp_ends(1, ["sa", "--format", "jsonl"].iter().chain(&files));
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["tries"], &first["failed_tries"]), (&0.into(), &(20 * 1024).into()), "{first}");
}

#[test]
fn without_rules_the_summary_suggests_rules() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcapng");
    let [capture, rules, keys] = probe();
    let advice = "no rule file was given, so all packets were read as standard ESP; for Diet-ESP, add --rules FILE";
    for command in [&["decode"][..], &["sa"], &["convert", "-o", out.to_str().unwrap()]] {
        let (_, stderr) = dietesp_ends(1, command.iter().chain(&[&*capture, "-k", &keys]));
        assert!(stderr.contains(advice), "{command:?}: {stderr}");
        // Only if packets failed, and only if no rules are given.
        let (_, stderr) = dietesp_ends(0, command.iter().chain(&[&*capture, "-r", &rules, "-k", &keys]));
        assert!(!stderr.contains("no rule file"), "{command:?}: {stderr}");
    }
    let (_, stderr) =
        dietesp_ends(0, ["decode", &file("samples/tcp/original.pcap"), "-k", &file("samples/tcp/esp_keys.yaml")]);
    assert!(!stderr.contains("no rule file"), "{stderr}");
}

/// LINKTYPE_USER0: there are records, and the summary says why no packet was found.
#[test]
fn a_link_type_that_is_not_supported_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("user0.pcap");
    pcap::write(&capture, 147, &[(0, vec![0x45; 40]), (1, vec![0x60; 60])]);
    let capture = capture.to_str().unwrap();
    let (stdout, stderr) = dietesp_ends(1, ["decode", capture, "-k", &probe()[2], "--format", "jsonl"]);
    assert_eq!(
        stdout.matches(r#""status":"not-esp","reason":"link type 147 (user-defined) is not supported""#).count(),
        2,
        "{stdout}"
    );
    assert!(
        stderr.contains("2 frames have a link type that is not supported, such as 147 (user-defined)\n"),
        "{stderr}"
    );
}

#[test]
fn quiet_prints_only_results_and_damage() {
    let [capture, rules, keys] = probe();
    let (stdout, stderr) = dietesp_ends(0, ["-q", "decode", &capture, "-r", &rules, "-k", &keys]);
    assert_eq!((stdout.lines().count(), stderr.as_str()), (283, ""));
    // Damage is still reported, because the results do not show it.
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.pcapng");
    let whole = std::fs::read(&capture).unwrap();
    std::fs::write(&cut, &whole[..whole.len() - 7]).unwrap();
    let (_, stderr) = dietesp_ends(1, ["-q", "decode", cut.to_str().unwrap(), "-r", &rules, "-k", &keys]);
    assert!(stderr.lines().count() == 1 && stderr.contains("file truncated after frame"), "{stderr}");
}

#[test]
fn a_closed_output_pipe_is_not_a_failure() {
    let [capture, rules, keys] = probe();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["decode", &capture, "-r", &rules, "-k", &keys, "--format", "jsonl"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::with_capacity(512, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("{\"frame\":1,"), "{line}");
    let mut message = String::new();
    child.stderr.take().unwrap().read_to_string(&mut message).unwrap();
    assert_eq!((child.wait().unwrap().code(), message.as_str()), (Some(0), ""));
}

#[test]
fn captures_may_be_standard_input_and_output() {
    let folder = tempfile::tempdir().unwrap();
    let [capture, rules, keys] = probe();
    let child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["convert", "-", "-o", "-", "--to", "plain", "-r", &rules, "-k", &keys])
        .stdin(std::fs::File::open(&capture).unwrap())
        .output()
        .unwrap();
    assert_eq!(child.status.code(), Some(0), "{}", String::from_utf8_lossy(&child.stderr));
    let file = folder.path().join("file.pcapng");
    dietesp_ends(0, ["convert", &capture, "-o", file.to_str().unwrap(), "--to", "plain", "-r", &rules, "-k", &keys]);
    assert!(std::fs::read(file).unwrap() == child.stdout);
}

/// The SAs of a sample with a gateway, selected by `options`: name and number of verified packets.
fn sas(options: &[&str]) -> Vec<(String, u64)> {
    sas_of(0, options)
}

/// Like [`chosen`], for a run with another exit status.
fn sas_of(status: i32, options: &[&str]) -> Vec<(String, u64)> {
    let [capture, rules, keys] =
        ["samples/gateway/diet-esp.pcapng", "samples/gateway/rules.yaml", "keys/gateway.yaml"].map(file);
    let args = [&["sa", &capture, "-r", &rules, "-k", &keys, "--format", "jsonl"], options].concat();
    let (stdout, _) = dietesp_ends(status, args);
    let lines = stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.map(|sa| (sa["sa"].as_str().unwrap().to_owned(), sa["verified"].as_u64().unwrap())).collect()
}

#[test]
fn sas_are_selected() {
    let (meters, alarms) = (|count| ("meters".to_owned(), count), |count| ("alarms".to_owned(), count));
    assert_eq!(sas(&[]), [meters(37), alarms(29)]);
    assert_eq!(sas(&["--spi", "0x9e024417"]), [alarms(29)]);
    assert_eq!(sas(&["--src", "2001:db8:0:3::/64", "--dst", "2001:db8:0:3::1"]), [meters(37), alarms(29)]);
    assert_eq!(sas(&["--src", "10.0.0.0/8"]), []);
    assert_eq!(sas(&["--failed"]), []);
    // The records of the same frames.
    let [capture, rules, keys] =
        ["samples/gateway/diet-esp.pcapng", "samples/gateway/rules.yaml", "keys/gateway.yaml"].map(file);
    for frames in ["1-20", "15-40", "66", "67-900"] {
        let args =
            ["decode", &capture, "-r", &rules, "-k", &keys, "--frames", frames, "--format", "fields", "-e", "sa"];
        let (stdout, _) = dietesp_ends(0, args);
        let count = |name: &str| stdout.lines().filter(|line| *line == name).count() as u64;
        let expected: Vec<_> =
            [meters(count("meters")), alarms(count("alarms"))].into_iter().filter(|(_, count)| *count > 0).collect();
        // The capture has 66 frames.
        let status = i32::from(frames == "67-900");
        assert_eq!(sas_of(status, &["--frames", frames]), expected, "{frames}");
    }
}

#[test]
fn the_only_candidate_is_selected_by_its_spi() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.yaml");
    let text = std::fs::read_to_string(file("samples/gateway/esp_keys.yaml")).unwrap();
    let wrong = text.replace("67a75966e5971b6d", "67a75966e5971b6e");
    assert_ne!(text, wrong);
    std::fs::write(&keys, wrong).unwrap();
    let (capture, keys) = (file("samples/gateway/original.pcap"), keys.to_str().unwrap());
    let args = ["decode", &capture, "-k", keys, "--spi", "0x3a5100c7", "--format", "fields", "-e", "status"];
    let (stdout, _) = dietesp_ends(1, args);
    assert_eq!(stdout, "auth-failed\n".repeat(37));
}

#[test]
fn link_addresses_are_shown_but_not_exported_to_wireshark() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.yaml");
    let link = "link_src: 0x0012, link_dst: 02124b0006aa0001";
    let text = format!("sas:\n- {{ spi: 1, encr: ENCR_AES_GCM_16, key: {}, {link} }}\n", "5a".repeat(20));
    std::fs::write(&keys, text).unwrap();
    let keys = keys.to_str().unwrap();
    let (shown, _) = dietesp_ends(0, ["keys", "show", keys]);
    assert!(shown.lines().nth(1).unwrap().ends_with(" 0x0012       02:12:4b:00:06:aa:00:01"), "{shown}");
    let (_, said) = dietesp_ends(0, ["keys", "export", keys]);
    assert!(said.contains("SA 0x00000001: Wireshark selects SAs by IP address only"), "{said}");
}
