//! `compress` and `convert` write unrelated frames byte for byte, with time stamps and comments.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{decode, dietesp_ends, file, pcap, tshark};

fn editcap(args: &[&std::ffi::OsStr]) {
    let status = Command::new("editcap").args(args).status().unwrap_or_else(|_| common::not_installed("editcap"));
    assert!(status.success());
}

fn frames(capture: &Path, folder: &Path) -> Vec<pcap::Frame> {
    let plain = folder.join("plain.pcap");
    editcap(&["-F".as_ref(), "nsecpcap".as_ref(), capture.as_os_str(), plain.as_os_str()]);
    pcap::read(&plain).1
}

fn comments(capture: &Path) -> String {
    let fields = ["-n", "-T", "fields", "-e", "frame.number", "-e", "frame.comment", "-Y", "frame.comment", "-r"];
    let args = fields.map(std::ffi::OsStr::new).into_iter().chain([capture.as_os_str()]);
    tshark(None, args)
}

/// Checks that the frames with status `not-esp` in `source` are identical in `made`, and that all frames have their
/// time stamps and comments.
fn assert_others_pass(source: &Path, made: &Path, rules: &[&str], folder: &Path) {
    let (records, _) = decode([source.to_str().unwrap()].into_iter().chain(rules.iter().copied()));
    let (before, after) = (frames(source, folder), frames(made, folder));
    assert_eq!((before.len(), records.len()), (282, 282));
    assert_eq!(after.len(), 282);
    let mut passed = 0;
    for ((record, before), after) in records.iter().zip(&before).zip(&after) {
        assert_eq!(before.0, after.0, "time stamp of frame {}", record["frame"]);
        if record["status"] == "not-esp" {
            assert_eq!(hex::encode(&before.1), hex::encode(&after.1), "frame {}", record["frame"]);
            passed += 1;
        } else {
            assert_ne!(before.1, after.1, "frame {}", record["frame"]);
        }
    }
    assert_eq!(passed, 42);
    let comments = comments(made);
    for comment in ["3\tof a frame that is not ours", "20\tof an ESP packet"] {
        assert!(comments.lines().any(|line| line.starts_with(comment)), "{comment} is not in {comments}");
    }
}

#[test]
fn unrelated_frames_are_written_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let [original, diet, esp] = ["original.pcapng", "diet.pcapng", "esp.pcapng"].map(path);
    let source = file("samples/probe/original.pcap");
    let args = ["-F", "pcapng", "-a", "3:of a frame that is not ours", "-a", "20:of an ESP packet", source.as_str()];
    let args: Vec<&std::ffi::OsStr> = args.iter().map(std::ffi::OsStr::new).chain([original.as_os_str()]).collect();
    editcap(&args);
    let [rules, keys, esp_keys] =
        ["samples/probe/rules.yaml", "keys/probe.yaml", "samples/probe/esp_keys.txt"].map(file);
    let [original_text, diet_text, esp_text] = [&original, &diet, &esp].map(|path| path.to_str().unwrap());

    dietesp_ends(0, ["compress", original_text, "-o", diet_text, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys]);
    assert_others_pass(&original, &diet, &["--keys", &esp_keys], folder.path());
    dietesp_ends(0, ["convert", diet_text, "-o", esp_text, "-r", &rules, "-k", &keys]);
    assert_others_pass(&diet, &esp, &["--rules", &rules, "--keys", &keys], folder.path());
    dietesp_ends(0, ["convert", diet_text, "-o", esp_text, "-r", &rules, "-k", &keys, "--to", "plain"]);
    assert_others_pass(&diet, &esp, &["--rules", &rules, "--keys", &keys], folder.path());
}
