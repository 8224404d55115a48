//! The text of `dietesp show`: that of chosen packets is in `tests/show`, and no line is too long.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::path::Path;

use common::file;
use common::show::{Case, cases, has, kit, kit_case};
use serde_json::{Value, json};

/// Compares a text with a file of `tests/show`, or writes the file if `DIETESP_GOLDEN=write`.
fn compare(name: &str, text: &str) {
    let path = file(&format!("tests/show/{name}.txt"));
    assert_fits(text);
    if std::env::var("DIETESP_GOLDEN").is_ok_and(|value| value == "write") {
        return std::fs::write(path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "other text than in {path}");
}

fn assert_fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80 && line.trim_end() == line, "{line}\nin\n{text}");
    }
}

#[test]
fn packets_of_the_samples_look_as_in_the_files() {
    for (name, capture, rules, keys, frames) in [
        ("probe", "samples/probe/diet-esp.pcapng", "samples/probe/rules.yaml", "keys/probe.yaml", "17"),
        ("tcp", "samples/tcp/diet-esp.pcapng", "samples/tcp/rules.yaml", "keys/tcp.yaml", "5"),
        ("gateway", "samples/gateway/diet-esp.pcapng", "samples/gateway/rules.yaml", "keys/gateway.yaml", "3"),
        ("ipv4", "samples/ipv4/diet-esp.pcapng", "samples/ipv4/rules.yaml", "keys/ipv4.yaml", "3"),
        ("transport", "samples/transport/diet-esp.pcapng", "samples/transport/rules.yaml", "keys/transport.yaml", "3"),
        ("radio", "samples/radio/radio.pcap", "samples/radio/rules.yaml", "samples/radio/keys.yaml", "18-19,22-23"),
        ("standard", "samples/probe/original.pcap", "samples/probe/rules.yaml", "samples/probe/esp_keys.txt", "17"),
    ] {
        let rules: &[&str] = if name == "standard" { &[] } else { &[rules] };
        compare(name, &Case::new(capture, rules, &[keys]).show(frames, "text"));
    }
}

#[test]
fn packets_of_each_dialect_and_mode_look_as_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit();
    let (case, vectors) = kit_case(folder.path(), &kit, false);
    for (name, sa) in [
        ("ietf-tunnel-ipv4", "ietf-001"),
        ("ietf-tunnel-ipv6", "ietf-004"),
        ("ietf-transport", "ietf-002"),
        ("ehc-tunnel", "ehc-046"),
        ("ehc-transport", "ehc-045"),
        ("6lo-tunnel", "6lo-065"),
        ("6lo-transport", "6lo-066"),
        ("custom-tunnel", "custom-075"),
        ("custom-transport", "custom-080"),
    ] {
        let frame = vectors.iter().position(|vector| vector["sa"] == sa).unwrap() + 1;
        compare(name, &case.show(&frame.to_string(), "text"));
    }
}

/// A failure of the kit that `choose` accepts, with the keys of its SA and of two others.
fn failure_case(folder: &Path, choose: impl Fn(&Value) -> bool) -> Case {
    let mut kit = kit();
    let failure = kit["failures"].as_array().unwrap().iter().find(|failure| choose(failure)).unwrap().clone();
    let at = kit["sas"].as_array().unwrap().iter().position(|sa| sa["name"] == failure["sa"]).unwrap();
    for list in ["sas", "contexts"] {
        kit[list] = json!(kit[list].as_array().unwrap().iter().skip(at).take(3).collect::<Vec<_>>());
    }
    (kit["packets"], kit["failures"]) = (json!([]), json!([failure]));
    kit_case(folder, &kit, true).0
}

#[test]
fn packets_that_fail_look_as_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let of = |kind: &'static str| move |failure: &Value| failure["kind"] == kind;
    for (name, status, choose) in [
        ("auth-failed", "auth-failed", of("icv")),
        ("no-sa", "no-sa", of("spi")),
        ("malformed", "malformed", of("clear-text")),
    ] {
        let case = failure_case(folder.path(), |failure| choose(failure) && failure["status"] == status);
        compare(name, &case.show("1", "text"));
        let line: Value = serde_json::from_str(&case.show("1", "json")).unwrap();
        assert_eq!(line["status"], status);
        assert_eq!(has(&line, "clear_text"), status == "malformed", "{line}");
        let candidates = line.get("candidates").map_or(&[][..], |all| all.as_array().unwrap());
        assert_eq!(candidates.len(), if status == "malformed" { 0 } else { 3 }, "{line}");
        let tried: Vec<&Value> = candidates.iter().filter(|candidate| candidate["tried"] == true).collect();
        assert_eq!(tried.len(), usize::from(status == "auth-failed"), "{line}");
        assert!(tried.iter().all(|candidate| candidate["tries"].as_u64().unwrap() > 0), "{line}");
        assert!(candidates.iter().all(|candidate| !candidate["reason"].as_str().unwrap().is_empty()), "{line}");
    }
}

#[test]
fn no_line_is_longer_than_80_columns() {
    let folder = tempfile::tempdir().unwrap();
    let (case, _) = kit_case(folder.path(), &kit(), true);
    for case in cases().iter().chain([&case]) {
        let text = case.show("1-", "text");
        assert!(!text.contains("Not explained"), "{text}");
        assert_fits(&text);
    }
}
