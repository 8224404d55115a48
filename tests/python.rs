//! Checks against scapy, in Python: `DIETESP_PYTHON`, or `python3`, must have the packages of tests/requirements.txt.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::process::Command;

use common::file;

fn run(python: &str, args: &[&str]) -> String {
    let output = Command::new(python).args(args).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success(), "{args:?}\n{stdout}\n{stderr}");
    stdout
}

#[test]
fn scapy_and_dietesp_decrypt_each_others_packets() {
    let python = common::python();
    let folder = tempfile::tempdir().unwrap();
    let script = file("tests/python/scapy_interop.py");
    let said = run(&python, &[&script, env!("CARGO_BIN_EXE_dietesp"), folder.path().to_str().unwrap()]);
    assert_eq!(said.trim(), "1360 packets of 20 suites, both ways");
}

/// Python code that shares nothing with this crate agrees with the published kit, and detects damaged values.
#[test]
fn another_implementation_agrees_with_the_vectors() {
    let python = common::python();
    let (script, kit) = (file("tests/python/check_vectors.py"), file("samples/vectors/kit.json"));
    let said = run(&python, &[&script, &kit]);
    assert!(said.ends_with(", 0 values differ\n"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let damaged = folder.path().join("damaged.json");
    let kit: serde_json::Value = serde_json::from_slice(&std::fs::read(kit).unwrap()).unwrap();
    // One kind of value at a time, because two damaged values may agree with each other.
    for name in ["payload_data", "nonce", "aad", "ciphertext", "icv", "eec_residue", "clear_text", "wire"] {
        let mut kit = kit.clone();
        for packet in kit["packets"].as_array_mut().unwrap() {
            let value = packet[name].as_str().unwrap();
            let first = if value.starts_with('0') { "1" } else { "0" };
            packet[name] = value.get(1..).map_or(String::new(), |rest| format!("{first}{rest}")).into();
        }
        std::fs::write(&damaged, kit.to_string()).unwrap();
        let output = Command::new(&python).args([&script, damaged.to_str().unwrap()]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        for packet in kit["packets"].as_array().unwrap().iter().filter(|packet| packet[name] != "") {
            let place = format!("packet {} ({}): ", packet["packet"], packet["sa"].as_str().unwrap());
            assert!(said.contains(&place), "not noticed: {place}{name}");
        }
    }
}

#[test]
fn make_py_makes_the_packets_of_the_vectors() {
    let python = common::python();
    let folder = tempfile::tempdir().unwrap();
    run(&python, &[&file("samples/vectors/make.py"), folder.path().to_str().unwrap()]);
    for name in ["packets.pcap", "keys.yaml", "rules.yaml"] {
        let made = std::fs::read(folder.path().join(name)).unwrap();
        assert!(made == std::fs::read(file(&format!("samples/vectors/{name}"))).unwrap(), "{name}");
    }
}

#[test]
fn an_independent_implementation_of_the_wire_format_agrees() {
    let python = common::python();
    let folder = tempfile::tempdir().unwrap();
    let script = file("tests/python/second_reader.py");
    let said = run(&python, &[&script, env!("CARGO_BIN_EXE_dietesp"), folder.path().to_str().unwrap()]);
    assert!(said.trim().ends_with(" 0 wrong"), "{said}");
}

#[test]
fn make_py_makes_the_samples() {
    let python = common::python();
    let folder = tempfile::tempdir().unwrap();
    run(&python, &[&file("samples/make.py"), folder.path().to_str().unwrap()]);
    for sample in ["tcp", "gateway", "ipv4", "transport"] {
        for name in ["original.pcap", "esp_keys.yaml"] {
            let made = std::fs::read(folder.path().join(sample).join(name)).unwrap();
            assert!(made == std::fs::read(file(&format!("samples/{sample}/{name}"))).unwrap(), "{sample}/{name}");
        }
    }
}
