//! Whole captures decoded with the command: ESP over 6LoWPAN, and Diet-ESP over a radio with losses, repeats and
//! encryption.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::common;

/// The packets of a pcap of raw IP.
fn packets(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    // Microseconds or nanoseconds.
    let magics = [0xa1b2_c3d4_u32, 0xa1b2_3c4d];
    assert!(magics.iter().any(|magic| bytes.starts_with(&magic.to_le_bytes())), "{}", path.display());
    assert_eq!(bytes[20], 101, "{}", path.display());
    let (mut rest, mut packets) = (&bytes[24..], vec![]);
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        packets.push(rest[16..16 + len].to_vec());
        rest = &rest[16 + len..];
    }
    packets
}

fn convert(capture: &Path, out: &Path, more: &[&std::ffi::OsStr]) {
    let mut arguments = vec!["convert".into(), capture.into(), "-o".into(), out.as_os_str().to_owned()];
    arguments.extend(more.iter().map(|argument| argument.to_os_string()));
    let output = common::dietesp(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn esp_over_6lowpan_is_restored() {
    let data = common::data();
    let captures = data.join("captures");
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    std::fs::write(&rules, "lowpan_contexts: {0: \"fd01::/64\"}\n").unwrap();
    let capture = captures.join("derived_esp_over_6lowpan_dlt195.pcap");
    let keys = captures.join("strongswan_ccm8_v6.esp_sa");

    let (records, status) =
        common::decode([capture.as_path(), "--rules".as_ref(), &rules, "--keys".as_ref(), keys.as_path()]);
    assert_eq!((records.len(), common::count(&records, "ok"), status), (168, 112, 0));
    let fragments = records.iter().filter(|record| record["reason"] == "fragment").count();
    assert_eq!((fragments, records.iter().filter(|record| record["fragments"].is_array()).count()), (56, 56));

    let out = folder.path().join("out.pcap");
    convert(&capture, &out, &["-r".as_ref(), rules.as_ref(), "-k".as_ref(), keys.as_ref(), "--reseal=keep".as_ref()]);
    // Traffic Class and Flow Label were elided on the air.
    let mut expected = packets(&captures.join("derived_esp_over_6lowpan_original_ipv6.pcap"));
    for packet in &mut expected {
        packet[..4].copy_from_slice(&[0x60, 0, 0, 0]);
    }
    assert!(packets(&out) == expected);
}

fn sample(name: &str) -> PathBuf {
    common::samples().join("radio").join(name)
}

fn decode_sample(capture: &str) -> Vec<Value> {
    let [capture, rules, keys] = [capture, "rules.yaml", "keys.yaml"].map(sample);
    common::decode([capture.as_path(), "--rules".as_ref(), &rules, "--keys".as_ref(), &keys]).0
}

#[test]
fn the_sample_decrypts_like_its_original_packets() {
    let (wired, radio) = (decode_sample("ipv6.pcap"), decode_sample("radio.pcap"));
    assert_eq!((wired.len(), common::count(&wired, "ok")), (40, 40));
    let by_frame: BTreeMap<u64, &Value> =
        radio.iter().map(|record| (record["frame"].as_u64().unwrap(), record)).collect();

    let repeats = || radio.iter().filter(|record| !record["repeat_of"].is_null());
    let first_copies: Vec<&Value> =
        radio.iter().filter(|record| record["status"] == "ok" && record["repeat_of"].is_null()).collect();
    assert_eq!(first_copies.len(), 40);
    for (wired, radio) in wired.iter().zip(&first_copies) {
        for field in ["sa", "esp", "inner", "packet", "restored", "bytes", "outer"] {
            assert_eq!(wired[field], radio[field], "{field} of frame {}", radio["frame"]);
        }
        assert_eq!(radio["warnings"], Value::Array(vec![]));
    }
    assert!(first_copies.iter().any(|record| record["fragments"].as_array().is_some_and(|list| list.len() == 2)));

    // A repeat has all fields of the first frame.
    assert!(repeats().count() > 50 && repeats().any(|record| record["reason"] == "fragment"));
    for repeat in repeats() {
        let first = by_frame[&repeat["repeat_of"].as_u64().unwrap()];
        assert_eq!(repeat["warnings"], serde_json::json!(["duplicate"]));
        for field in ["status", "reason", "sa", "fragments", "outer", "esp", "inner", "packet", "restored", "bytes"] {
            assert_eq!(repeat[field], first[field], "{field} of frame {}", repeat["frame"]);
        }
    }
    let damaged = radio.iter().filter(|record| record["status"] == "malformed").count();
    assert!(damaged > 2);
}

#[test]
fn converted_packets_follow_their_frames() {
    let folder = tempfile::tempdir().unwrap();
    let [capture, rules, keys] = ["radio.pcap", "rules.yaml", "keys.yaml"].map(sample);
    let inputs: [&std::ffi::OsStr; 4] = ["-r".as_ref(), rules.as_ref(), "-k".as_ref(), keys.as_ref()];
    let records = decode_sample("radio.pcap");
    let is_repeat = |record: &&Value| !record["repeat_of"].is_null();
    let repeats = records.iter().filter(is_repeat).count();

    // A pcap contains only the packets. The inner packets are those of the records.
    let plain = folder.path().join("plain.pcap");
    convert(&capture, &plain, &[&inputs[..], &["--to=plain".as_ref()]].concat());
    let expected: Vec<Vec<u8>> = records
        .iter()
        .filter(|record| record["status"] == "ok" && !is_repeat(record))
        .map(|record| hex::decode(record["packet"].as_str().unwrap()).unwrap())
        .collect();
    assert!(packets(&plain) == expected);

    for (more, frames) in [(&[][..], records.len() - repeats), (&["--keep-repeats"][..], records.len())] {
        let esp = folder.path().join("esp.pcapng");
        let more: Vec<&std::ffi::OsStr> = more.iter().map(std::ffi::OsStr::new).collect();
        convert(&capture, &esp, &[&inputs[..], &more].concat());
        let config = folder.path().join("esp.pcapng.wireshark");
        let fields = ["-T", "fields", "-e", "frame.interface_id", "-e", "frame.comment", "-e", "udp.port"];
        let arguments = ["-r".as_ref(), esp.as_os_str()].into_iter().chain(fields.iter().map(std::ffi::OsStr::new));
        let shown = common::tshark(Some(&config), arguments);
        let rows: Vec<Vec<&str>> = shown.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(rows.iter().filter(|row| row[0] == "0").count(), frames);
        let rebuilt: Vec<&Vec<&str>> = rows.iter().filter(|row| row[0] == "1").collect();
        assert_eq!(rebuilt.len(), 40);
        // tshark decrypts them, and finds the ports of the inner packet.
        assert!(rebuilt.iter().all(|row| row[1].starts_with("dietesp: rebuilt from frame") && row[2].contains("5683")));
    }
}

/// The packets of the sample over Bluetooth LE instead: records and converted packets are the same.
#[test]
fn diet_esp_over_bluetooth() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("bluetooth.pcap");
    std::fs::write(&capture, crate::bluetooth::carry(&packets(&sample("ipv6.pcap")))).unwrap();
    let [rules, keys] = ["rules.yaml", "keys.yaml"].map(sample);
    let (records, status) = common::decode([capture.as_path(), "--rules".as_ref(), &rules, "--keys".as_ref(), &keys]);
    let wired = decode_sample("ipv6.pcap");
    let opened: Vec<&Value> = records.iter().filter(|record| record["status"] == "ok").collect();
    assert_eq!((opened.len(), status), (40, 0));
    for (wired, opened) in wired.iter().zip(&opened) {
        for field in ["sa", "esp", "inner", "packet", "restored", "bytes", "outer"] {
            assert_eq!(wired[field], opened[field], "{field} of frame {}", opened["frame"]);
        }
        assert!(opened["fragments"].as_array().is_some_and(|frames| frames.len() > 1), "frame {}", opened["frame"]);
    }

    let inputs: [&std::ffi::OsStr; 5] =
        ["-r".as_ref(), rules.as_ref(), "-k".as_ref(), keys.as_ref(), "--to=plain".as_ref()];
    let [ours, theirs] = [(&capture, "ours.pcap"), (&sample("ipv6.pcap"), "theirs.pcap")].map(|(capture, name)| {
        let out = folder.path().join(name);
        convert(capture, &out, &inputs);
        packets(&out)
    });
    assert!(ours == theirs && ours.len() == 40);
}
