//! Captures of real IPsec implementations: all packets decrypt, and to the same bytes as in tshark.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use common::{count, decode, tshark_decrypted, wireshark_config};

fn all_open(capture: &str, keys: &str, expected: usize) {
    let data = common::data();
    let folder = data.join("captures");
    let (capture_path, keys_path) = (folder.join(capture), folder.join(keys));
    let (records, status) = decode([capture_path.as_os_str(), "--keys".as_ref(), keys_path.as_ref()]);
    assert_eq!((count(&records, "ok"), status), (expected, 0), "{capture} with {keys}");
    assert_eq!(count(&records, "ok") + count(&records, "not-esp"), records.len(), "{capture} with {keys}");

    let stem = keys.split('.').next().unwrap();
    let config = wireshark_config(&folder.join(format!("{stem}.esp_sa")));
    let theirs = tshark_decrypted(config.path(), &capture_path);
    let ours: Vec<Vec<u8>> = records
        .iter()
        .filter(|record| record["status"] == "ok")
        .map(|record| hex::decode(record["packet"].as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(theirs.len(), expected);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(theirs.starts_with(ours), "{capture}: {} is not {}", hex::encode(ours), hex::encode(theirs));
        // After the packet there are only padding, Pad Length and Next Header.
        assert!(theirs.len() - ours.len() <= 16, "{capture}: {} {}", hex::encode(ours), hex::encode(theirs));
    }
}

#[test]
fn strongswan_ccm_8_over_ipv6() {
    all_open("strongswan_ccm8_v6.pcapng", "strongswan_ccm8_v6.esp_sa", 240);
    all_open("strongswan_ccm8_v6.pcapng", "strongswan_ccm8_v6.ip-xfrm-state.txt", 240);
}

#[test]
fn strongswan_gcm_16_over_ipv4() {
    all_open("strongswan_gcm16_v4.pcapng", "strongswan_gcm16_v4.esp_sa", 240);
    all_open("strongswan_gcm16_v4.pcapng", "strongswan_gcm16_v4.ip-xfrm-state.txt", 240);
}

#[test]
fn other_link_layers_extension_headers_and_fragments() {
    for link in ["native_esp", "native_esp_exthdrs", "sll1", "raw101", "qinq", "ipv6frag"] {
        all_open(&format!("derived_strongswan_{link}.pcap"), "strongswan_ccm8_v6.esp_sa", 112);
    }
}

#[test]
fn with_wrong_keys_nothing_decrypts() {
    let data = common::data();
    let folder = data.join("captures");
    let keys = std::fs::read_to_string(folder.join("strongswan_ccm8_v6.esp_sa")).unwrap();
    // Changes one digit of every key.
    let wrong = keys.replace("\"0xbb38", "\"0xbb39").replace("\"0xd217", "\"0xd216");
    assert_ne!(keys, wrong);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), wrong).unwrap();
    let capture = folder.join("strongswan_ccm8_v6.pcapng");
    let (records, status) = decode([capture.as_os_str(), "--keys".as_ref(), file.path().as_ref()]);
    assert_eq!((count(&records, "auth-failed"), count(&records, "ok"), status), (102, 138, 1));
}
