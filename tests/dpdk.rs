//! DPDK's ESP packets (`tests/data/vectors`) decrypt to the packets that DPDK's tests expect.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use common::{decode, pcap};
use serde_json::Value;

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap()
}

/// The entry of a key file, or why this cannot be one.
fn key_entry(vector: &Value) -> Result<String, String> {
    let icv = vector["icv_len"].as_u64().unwrap();
    let encr = match text(vector, "enc") {
        "AES-CBC" => "ENCR_AES_CBC".to_owned(),
        "AES-GCM" => format!("ENCR_AES_GCM_{icv}"),
        "AES-CCM" => format!("ENCR_AES_CCM_{icv}"),
        "NULL" => "ENCR_NULL".to_owned(),
        other => return Err(other.to_owned()),
    };
    let integ = match text(vector, "auth") {
        "NULL" => "NONE",
        "HMAC-SHA-256" => "AUTH_HMAC_SHA2_256_128",
        "HMAC-SHA-384" => "AUTH_HMAC_SHA2_384_192",
        "HMAC-SHA-512" => "AUTH_HMAC_SHA2_512_256",
        other => return Err(other.to_owned()),
    };
    let mut entry = format!("sas:\n  - spi: {}\n    encr: {encr}\n", text(vector, "spi"));
    if encr == "ENCR_AES_CBC" || encr == "ENCR_NULL" {
        entry += &format!("    integ: {integ}\n");
    }
    for (name, value) in
        [("key", text(vector, "key")), ("salt", text(vector, "salt")), ("integ_key", text(vector, "auth_key"))]
    {
        if !value.is_empty() {
            entry += &format!("    {name}: {value}\n");
        }
    }
    Ok(entry)
}

#[test]
fn packets_decrypt_as_dpdk_expects() {
    let data = common::data();
    let file = std::fs::read(data.join("vectors/esp_packets_dpdk.json")).unwrap();
    let vectors: Vec<Value> = serde_json::from_slice(&file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (capture, keys) = (folder.path().join("packet.pcap"), folder.path().join("keys.yaml"));
    let (mut opened, mut left_out) = (0, vec![]);
    for vector in &vectors {
        let id = text(vector, "id");
        match key_entry(vector) {
            Ok(entry) => std::fs::write(&keys, entry).unwrap(),
            Err(algorithm) => {
                left_out.push(algorithm);
                continue;
            }
        }
        pcap::write(&capture, pcap::RAW, &[(0, hex::decode(text(vector, "packet")).unwrap())]);
        let (records, status) = decode([capture.as_os_str(), "--keys".as_ref(), keys.as_ref()]);
        assert_eq!((records.len(), status), (1, 0), "{id}: {records:?}");
        assert_eq!(records[0]["packet"], vector["expect"], "{id}: {:?}", records[0]);
        assert_eq!(records[0]["esp"]["sequence"], vector["seq"], "{id}");
        let verified = text(vector, "enc").starts_with("AES-GCM")
            || text(vector, "enc") == "AES-CCM"
            || text(vector, "auth") != "NULL";
        assert_eq!(records[0]["esp"]["icv"], if verified { "verified" } else { "none" }, "{id}");
        assert_eq!(records[0]["warnings"].to_string().contains("unauthenticated"), !verified, "{id}");
        opened += 1;
    }
    left_out.sort();
    left_out.dedup();
    assert_eq!(opened, 11);
    assert_eq!(left_out, ["3DES-CBC", "AES-XCBC", "DES-CBC", "HMAC-MD5"]);
}
