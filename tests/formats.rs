//! The forms of records: CSV, payloads, outputs that are files.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Stdio};

use common::{dietesp_ends, file, pcap};

/// `decode` of a sample, with more options.
fn decode(sample: &str, more: &[&str]) -> String {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/{sample}/{name}")));
    let keys = file(&format!("keys/{sample}.yaml"));
    dietesp_ends(0, [&["decode", &capture, "-r", &rules, "-k", &keys], more].concat()).0
}

#[test]
fn another_csv_reader_reads_the_values_of_the_records() {
    let [capture, rules, keys] =
        ["radio.pcap", "rules.yaml", "keys.yaml"].map(|name| file(&format!("samples/radio/{name}")));
    let args = ["decode", &capture, "-r", &rules, "-k", &keys, "--format"];
    let ends = |more: &[&str]| dietesp_ends(0, [&args[..], more].concat()).0;
    let csv = ends(&["csv", "-e", "frame,status", "-e", "reason,fragments,warnings,inner.src,esp.sequence"]);
    let script = "import csv,json,sys\nfor row in csv.reader(sys.stdin): print(json.dumps(row))";
    let mut python =
        Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = python.stdin.take().unwrap();
    let input = csv.clone();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
    writer.join().unwrap();
    let mut rows = output.lines().map(|line| serde_json::from_str::<Vec<String>>(line).unwrap());
    let names = ["frame", "status", "reason", "fragments", "warnings", "inner.src", "esp.sequence"];
    assert_eq!(rows.next().unwrap(), names);
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(list) => {
            list.iter().map(|element| element.to_string().trim_matches('"').to_owned()).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    let expected: Vec<Vec<String>> = ends(&["jsonl"])
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .map(|record: serde_json::Value| {
            names
                .iter()
                .map(|name| {
                    text(record.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&serde_json::Value::Null))
                })
                .collect()
        })
        .collect();
    assert_eq!(rows.collect::<Vec<_>>(), expected);
    assert!(csv.contains('"'), "no cell has a comma, so this tests nothing");
}

#[test]
fn payloads_are_those_that_wireshark_shows() {
    let folder = tempfile::tempdir().unwrap();
    for (sample, protocol) in
        [("probe", "udp"), ("tcp", "tcp"), ("gateway", "udp"), ("ipv4", "udp"), ("transport", "udp")]
    {
        let out = folder.path().join(format!("{sample}.pcapng"));
        let [diet, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/{sample}/{name}")));
        let keys = file(&format!("keys/{sample}.yaml"));
        let plain = ["convert", &diet, "-o", out.to_str().unwrap(), "--to", "plain", "-r", &rules, "-k", &keys];
        dietesp_ends(0, [&plain[..], &["--frames", "11-"]].concat());
        let field = format!("{protocol}.payload");
        let args = ["-n", "-Y", protocol, "-T", "fields", "-e", &field, "-r"].map(OsStr::new);
        let expected = common::tshark(None, args.into_iter().chain([out.as_os_str()]));
        let own = decode(sample, &["--format", "fields", "-e", "payload", "-Y", "inner", "--frames", "11-"]);
        let own: Vec<&str> = own.lines().collect();
        // A converted capture of the probe also has its IKE messages.
        let expected: Vec<&str> = expected.lines().collect();
        let expected = if sample == "probe" {
            expected.into_iter().filter(|payload| own.contains(payload)).collect()
        } else {
            expected
        };
        assert!(own.len() > 10);
        assert_eq!(own, expected, "{sample}");
        assert_eq!(
            decode(sample, &["-Y", "payload contains 00", "--format", "fields", "-e", "frame"]),
            decode(sample, &["--format", "jsonl", "--with", "payload"])
                .lines()
                .filter_map(|line| {
                    let record: serde_json::Value = serde_json::from_str(line).unwrap();
                    let bytes = hex::decode(record.get("payload")?.as_str().unwrap()).unwrap();
                    bytes.contains(&0).then(|| format!("{}\n", record["frame"]))
                })
                .collect::<String>()
        );
    }
}

#[test]
fn wire_is_the_end_of_the_captured_frame() {
    let (_, frames) = pcap::read(file("samples/tcp/original.pcap").as_ref());
    let [capture, keys] = ["original.pcap", "esp_keys.yaml"].map(|name| file(&format!("samples/tcp/{name}")));
    let args = ["decode", &capture, "-k", &keys, "--format", "jsonl", "--with", "payload,wire"];
    let records = dietesp_ends(0, args).0;
    assert_eq!(records.lines().count(), frames.len());
    for (line, (_, frame)) in records.lines().zip(&frames) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let wire = record["wire"].as_str().unwrap();
        assert!(hex::encode(frame).ends_with(wire), "{line}");
        assert_eq!(wire.len() as u64, 2 * record["bytes"]["diet"].as_u64().unwrap(), "{line}");
        assert!(record["packet"].as_str().unwrap().ends_with(record["payload"].as_str().unwrap()), "{line}");
    }
    // Without the option, records are as they were.
    assert!(!dietesp_ends(0, &args[..6]).0.contains("\"wire\":\""));
}

#[test]
fn an_output_is_a_file_that_may_be_compressed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let expected = decode("tcp", &["--format", "jsonl"]);
    for (name, tool) in [("a.jsonl", "cat"), ("a.jsonl.gz", "gzip -dc"), ("a.jsonl.zst", "zstd -dc")] {
        assert_eq!(decode("tcp", &["--format", "jsonl", "-o", &path(name)]), "");
        let mut words = tool.split(' ');
        let unpacked = Command::new(words.next().unwrap()).args(words).arg(path(name)).output().unwrap();
        assert_eq!(String::from_utf8(unpacked.stdout).unwrap(), expected, "{name}");
    }
    // A run that fails leaves the file as it is.
    let [capture, rules, keys] =
        [file("samples/tcp/diet-esp.pcapng"), file("samples/tcp/rules.yaml"), file("keys/tcp.yaml")];
    let copy = path("capture.pcapng");
    std::fs::copy(&capture, &copy).unwrap();
    let args = ["decode", &copy, "-r", &rules, "-k", &keys, "-o"];
    let (_, stderr) = dietesp_ends(2, [&args[..], &[&copy]].concat());
    assert!(stderr.contains("is the same file as the capture"), "{stderr}");
    assert_eq!(std::fs::read(&copy).unwrap(), std::fs::read(&capture).unwrap());
    dietesp_ends(2, [&args[..], &[&path("a.jsonl"), "-Y", "nothing"]].concat());
    assert_eq!(std::fs::read_to_string(path("a.jsonl")).unwrap(), expected);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "nothing else is left");
}

#[test]
fn options_without_effect_and_unknown_names_are_rejected() {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/tcp/{name}")));
    let keys = file("keys/tcp.yaml");
    for (more, message) in [
        (&["--format", "csv"][..], "--format csv needs -e FIELD"),
        (&["-e", "frame"], "-e FIELD has an effect only with --format csv and fields"),
        (&["--with", "wire"], "--with has an effect only with --format jsonl"),
        (&["--format", "csv", "-e", "frame", "--header"], "--header has an effect only with --format fields"),
        (&["--format", "csv", "-e", "frame,esp.sequense"], "did you mean `esp.sequence`?"),
        (&["--format", "jsonl", "--with", "packet"], "expected payload, wire or both"),
    ] {
        let (_, stderr) = dietesp_ends(2, [&["decode", &capture, "-r", &rules, "-k", &keys], more].concat());
        assert!(stderr.contains(message), "{more:?}: {stderr}");
    }
}

#[test]
fn inner_addresses_in_src_and_dst_lead_to_a_filter() {
    let [capture, rules] = ["diet-esp.pcapng", "rules.yaml"].map(|name| file(&format!("samples/ipv4/{name}")));
    let keys = file("keys/ipv4.yaml");
    let decode = |more: &[&str]| dietesp_ends(0, [&["decode", &capture, "-r", &rules, "-k", &keys], more].concat()).1;
    let hint = "--src and --dst compare outer addresses; 10 packets have inner addresses like these: use -Y \
                'inner.src == 10.1.0.0/16 && inner.dst == 10.2.0.11'\n";
    let stderr = decode(&["--src", "10.1.0.0/16", "--dst", "10.2.0.11"]);
    assert!(stderr.contains(hint), "{stderr}");
    for more in [&["--src", "192.0.2.2"][..], &["--src", "10.9.0.0/16"], &["--src", "192.0.2.2", "-Y", "frame == 0"]] {
        assert!(!decode(more).contains("inner addresses"), "{more:?}");
    }
}
