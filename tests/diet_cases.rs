//! Diet-ESP captures made by an independent implementation. The record of every frame must match its
//! `expected.jsonl`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests may panic.

mod common;

use std::path::Path;

use serde_json::Value;

/// Supported dialects. Cases of other dialects are counted and skipped.
const DIALECTS: [&str; 3] = ["ietf", "ehc", "6lo"];

#[test]
fn every_frame_of_every_case_is_as_expected() {
    let data = common::data();
    let (mut frames, mut wrong, mut left_out) = (0, vec![], 0);
    let mut cases: Vec<_> = std::fs::read_dir(data.join("diet-cases/decode")).unwrap().flatten().collect();
    cases.sort_by_key(|case| case.file_name());
    for case in cases {
        let folder = case.path();
        let rules = std::fs::read_to_string(folder.join("rules.yaml")).unwrap();
        let dialect_of = |line: &str| line.trim().strip_prefix("dialect: ").map(str::to_owned);
        if rules.lines().filter_map(dialect_of).any(|dialect| !DIALECTS.contains(&dialect.as_str())) {
            left_out += 1;
            continue;
        }
        let [rules, keys] = ["rules.yaml", "keys.yaml"].map(|name| folder.join(name));
        let forms = ["capture.pcapng", "capture.pcap"].map(|name| folder.join(name));
        let capture = forms.iter().find(|path| path.exists()).expect("every case has a capture");
        let (records, _) = common::decode([capture.as_path(), "--rules".as_ref(), &rules, "--keys".as_ref(), &keys]);
        let expected = std::fs::read_to_string(folder.join("expected.jsonl")).unwrap();
        for line in expected.lines() {
            let expected: Value = serde_json::from_str(line).unwrap();
            frames += 1;
            let frame = expected["frame"].as_u64().unwrap();
            let record = records.iter().find(|record| record["frame"] == expected["frame"]);
            let problem = record.map_or(Some("no record".to_owned()), |record| differs(&expected, record));
            wrong.extend(problem.map(|problem| format!("{} frame {frame}: {problem}", name(&folder))));
        }
        assert_eq!(records.len(), expected.lines().count(), "{}: one record a frame", name(&folder));
    }
    assert!(wrong.is_empty(), "{} of {frames} frames:\n{}", wrong.len(), wrong.join("\n"));
    assert!(frames > 0);
    eprintln!("{frames} frames as expected; {left_out} cases of other dialects left out");
}

fn name(folder: &Path) -> String {
    folder.file_name().unwrap().to_string_lossy().into_owned()
}

/// The path at which `record` does not contain `expected`.
fn differs(expected: &Value, record: &Value) -> Option<String> {
    let (mut expected, mut record) = (expected.clone(), record.clone());
    if let Some(ranges) = expected.get("x_ignore_bits").cloned() {
        for side in [&mut expected, &mut record] {
            clear_bits(&mut side["packet"], &ranges);
        }
    }
    let warnings = record["warnings"].as_array().cloned().unwrap_or_default();
    if let Some(any) = expected.get("x_warning_any").and_then(Value::as_array)
        && !any.iter().any(|warning| warnings.contains(warning))
    {
        return Some(format!("none of the warnings {any:?}"));
    }
    for (key, value) in expected.as_object()?.iter().filter(|(key, _)| !key.starts_with("x_")) {
        let found = &record[key];
        let same = match (key.as_str(), value) {
            ("status", Value::Array(any)) => any.contains(found),
            (_, Value::Object(members)) => members.iter().all(|(member, value)| &found[member] == value),
            _ => found == value,
        };
        if !same {
            return Some(format!("{key} is {found}, expected {value} ({})", record["reason"]));
        }
    }
    None
}

fn clear_bits(packet: &mut Value, ranges: &Value) {
    let Some(text) = packet.as_str() else { return };
    let mut bytes = hex::decode(text).unwrap();
    for range in ranges.as_array().unwrap() {
        let (first, count) = (range[0].as_u64().unwrap() as usize, range[1].as_u64().unwrap() as usize);
        for bit in first..first + count {
            bytes[bit / 8] &= !(0x80 >> (bit % 8));
        }
    }
    *packet = Value::String(hex::encode(bytes));
}
