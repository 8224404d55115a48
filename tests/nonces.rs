//! No nonce meets two plaintexts under one key: not in an output, and not between an output and its input (wire format §7).

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // a test may fail by panic

mod common;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

/// Compresses every attribute of a strongSwan capture, with the given bits of SPI and Sequence Number.
fn rules(folder: &Path, esp_sa: &Path, bits: u8) -> std::path::PathBuf {
    let mut text = "contexts:\n".to_owned();
    for line in std::fs::read_to_string(esp_sa).unwrap().lines() {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
        let (src, dst, spi) = (fields[1], fields[2], fields[3]);
        let [a, b] = if src.ends_with('1') { ["fd0a::1", "fd0b::1"] } else { ["fd0b::1", "fd0a::1"] };
        text += &format!(
            "  - spi: {spi}\n    src: {src}\n    dst: {dst}\n    ipsec_mode: Tunnel\n    \
             tunnel_ip: {{ src: \"{src}\", dst: \"{dst}\" }}\n    ts_ip_version: IPv6-only\n    ts_ip_src: {a}\n    \
             ts_ip_dst: {b}\n    ts_proto: ANY\n    dscp_cda: lower\n    ecn_cda: lower\n    flow_label_cda: generated\n    \
             alignment: 8 bit\n    esp_spi_lsb: {bits}\n    esp_sn_lsb: {bits}\n"
        );
    }
    let path = folder.join("rules.yaml");
    std::fs::write(&path, text).unwrap();
    path
}

fn run(args: &[&str]) {
    let output = common::dietesp(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// By SA: IV and clear packet of every packet that opens. The IV stands behind SPI and Sequence Number.
fn nonces(capture: &str, keys: &str, rules: Option<&str>) -> HashMap<(String, String), Value> {
    let mut args = vec![capture, "--keys", keys];
    args.extend(rules.iter().flat_map(|rules| ["--rules", rules]));
    let (records, _) = common::decode(args);
    let frames = payloads(capture);
    let mut nonces = HashMap::new();
    for record in records.iter().filter(|record| record["status"] == "ok") {
        let wire = &record["esp"]["wire"];
        let header = (wire["spi_bits"].as_u64().unwrap() + wire["sn_bits"].as_u64().unwrap()) as usize / 8;
        let len = wire["bytes"].as_u64().unwrap() as usize;
        let frame = &frames[record["frame"].as_u64().unwrap() as usize - 1];
        let iv = hex::encode(&frame[frame.len() - len + header..][..8]);
        let key = (record["sa"].as_str().unwrap().to_owned(), iv);
        let before = nonces.insert(key.clone(), record["packet"].clone());
        assert!(before.is_none(), "{key:?} twice in {capture}");
    }
    nonces
}

fn payloads(capture: &str) -> Vec<Vec<u8>> {
    let mut reader = dietesp::capture::Reader::open(Path::new(capture)).unwrap();
    let mut window = dietesp::capture::Window::default();
    let mut frames = vec![];
    while reader.fill(&mut window).unwrap() {
        frames.extend(window.packets().map(|packet| packet.data.to_vec()));
    }
    frames
}

#[test]
fn the_same_key_never_sees_a_nonce_with_another_plaintext() {
    let Some(shared) = common::shared() else { return };
    for name in ["strongswan_ccm8_v6", "strongswan_gcm16_v4"] {
        let capture = shared.join(format!("captures/{name}.pcapng"));
        let esp_sa = shared.join(format!("captures/{name}.esp_sa"));
        let folder = tempfile::tempdir().unwrap();
        let rules = rules(folder.path(), &esp_sa, 8);
        let [diet, esp] = ["diet.pcapng", "esp.pcapng"].map(|file| folder.path().join(file));
        let [capture, esp_sa, rules, diet, esp] =
            [&capture, &esp_sa, &rules, &diet, &esp].map(|path| path.to_str().unwrap());
        run(&["compress", capture, "-o", diet, "--rules", rules, "--keys", esp_sa]);
        run(&["convert", diet, "-o", esp, "--rules", rules, "--keys", esp_sa, "--reseal", "keep"]);
        let original = nonces(capture, esp_sa, None);
        let compressed = nonces(diet, esp_sa, Some(rules));
        let converted = nonces(esp, esp_sa, None);
        assert_eq!([original.len(), compressed.len(), converted.len()], [240; 3]);
        for nonce in converted.keys() {
            assert!(!compressed.contains_key(nonce), "{nonce:?}");
        }
        for nonce in compressed.keys() {
            assert!(!original.contains_key(nonce), "{nonce:?}");
        }
    }
}

#[test]
fn fresh_keys_are_other_keys_and_a_seed_repeats_them() {
    let samples = common::samples();
    let capture = samples.join("probe/diet-esp.pcapng");
    let rules = samples.join("probe/rules.yaml");
    let keys = samples.join("../keys/probe.yaml");
    let folder = tempfile::tempdir().unwrap();
    let esp_sa = |seed: Option<&str>, name: &str| {
        let out = folder.path().join(name);
        let paths = [&capture, &out, &rules, &keys].map(|path| path.to_str().unwrap());
        let mut args = vec!["convert", paths[0], "-o", paths[1], "--rules", paths[2], "--keys", paths[3]];
        args.extend(seed.iter().flat_map(|seed| ["--seed", seed]));
        run(&args);
        let text = std::fs::read_to_string(folder.path().join(format!("{name}.wireshark/esp_sa"))).unwrap();
        (text, std::fs::read(out).unwrap())
    };
    let (one, two) = (esp_sa(None, "one.pcapng"), esp_sa(None, "two.pcapng"));
    assert_ne!(one.0, two.0);
    let (three, four) = (esp_sa(Some("4"), "three.pcapng"), esp_sa(Some("4"), "four.pcapng"));
    assert_eq!(three, four);
    let own = std::fs::read_to_string(&keys).unwrap();
    for secret in own.lines().filter_map(|line| line.trim().strip_prefix("key: ")) {
        assert!(!one.0.contains(secret), "a key of the SAs in the output");
    }
}

#[test]
fn an_implicit_iv_with_the_key_of_the_input_is_refused() {
    let Some(shared) = common::shared() else { return };
    let capture = shared.join("captures/strongswan_gcm16_v4.pcapng");
    let esp_sa = shared.join("captures/strongswan_gcm16_v4.esp_sa");
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), &esp_sa, 8);
    // The same keys, as those of the suite that does not send its IV.
    let mut keys = "sas:\n".to_owned();
    for line in std::fs::read_to_string(&esp_sa).unwrap().lines() {
        let fields: Vec<&str> = line.split(',').map(|field| field.trim_matches('"')).collect();
        keys += &format!(
            "  - {{ spi: {}, src: {}, dst: {}, encr: ENCR_AES_GCM_16_IIV, key: {} }}\n",
            fields[3], fields[1], fields[2], fields[5]
        );
    }
    let implicit = folder.path().join("implicit.yaml");
    std::fs::write(&implicit, keys).unwrap();
    let out = folder.path().join("out.pcapng");
    let paths = [&capture, &out, &rules, &implicit, &esp_sa].map(|path| path.to_str().unwrap());
    let args = ["compress", paths[0], "-o", paths[1], "--rules", paths[2], "--keys", paths[3], "--esp-keys", paths[4]];
    let output = common::dietesp(args);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nonce"), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!out.exists());
    run(&[&args[..], &["--allow-nonce-reuse"]].concat());
}

#[test]
fn sixteen_bytes_of_icv_give_spi_and_number_without_any_search() {
    let Some(shared) = common::shared() else { return };
    let capture = shared.join("captures/strongswan_gcm16_v4.pcapng");
    let esp_sa = shared.join("captures/strongswan_gcm16_v4.esp_sa");
    let folder = tempfile::tempdir().unwrap();
    let rules = rules(folder.path(), &esp_sa, 0);
    let diet = folder.path().join("diet.pcapng");
    let [capture, esp_sa, rules, diet] = [&capture, &esp_sa, &rules, &diet].map(|path| path.to_str().unwrap());
    run(&["compress", capture, "-o", diet, "--rules", rules, "--keys", esp_sa]);
    let (records, status) = common::decode([diet, "--rules", rules, "--keys", esp_sa]);
    assert_eq!((common::count(&records, "ok"), status), (240, 0));
    for record in records.iter().filter(|record| record["status"] == "ok") {
        let method = record["esp"]["method"].as_str().unwrap();
        assert!(matches!(method, "icv" | "iv-mask"), "{record}");
    }
}
