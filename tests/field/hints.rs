//! Reasons, hints and statuses.

use super::{case, common};
use common::{decode, dietesp_ends};

/// The reason of the first record, and the standard error of `decode`.
fn reason_and_summary(capture: &str, keys: &str, status: i32) -> (String, String) {
    let (records, ended) = decode([capture, "-k", keys]);
    assert_eq!(ended, status);
    let (_, told) = dietesp_ends(status, ["decode", capture, "-k", keys]);
    (records[0]["reason"].as_str().unwrap().to_owned(), told)
}

fn file_with(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (folder, path)
}

#[test]
fn an_spi_between_other_addresses_is_named() {
    let (capture, keys) = (case("18-hints/nat-src.pcap"), case("18-hints/nat-src.keys"));
    let (records, _) = decode([&capture, "-k", &keys]);
    let reason = records[0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("; an SA has this SPI but other addresses"), "{reason}");
    let output = common::dietesp(["decode", &capture, "-k", &keys]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no-sa: 1 packet: an SA has this SPI but other addresses"), "{told}");
    // Another SPI.
    let text = std::fs::read_to_string(&keys).unwrap().replace("0xc0ffee01", "0xc0ffee02");
    let (_folder, keys) = file_with("keys", &text);
    let (records, _) = decode([&capture, "-k", &keys]);
    let reason = records[0]["reason"].as_str().unwrap();
    assert!(reason.ends_with("the leading bytes 0xc0ffee01"), "{reason}");
}

#[test]
fn extended_sequence_numbers_are_suggested_if_the_icv_proves_them() {
    let (capture, keys) = (case("18-hints/esn-but-key-says-no.pcap"), case("18-hints/esn-but-key-says-no.keys"));
    let (reason, told) = reason_and_summary(&capture, &keys, 1);
    assert_eq!(reason, "open at byte 0: the ICV does not verify (1 try); the SA may use extended sequence numbers");
    assert!(told.contains("\na: 0 verified; 2 failed after 1 try each\n"), "{told}");
    assert!(told.contains("auth-failed: 2 packets: the ICV verifies with extended sequence numbers"), "{told}");
    // The advice is right. There is also advice for the opposite case, and none for a wrong key.
    let text = std::fs::read_to_string(&keys).unwrap();
    let (_folder, extended) = file_with("keys.yaml", &format!("{text}    esn: true\n"));
    let (records, status) = decode([&capture, "-k", &extended]);
    assert_eq!((common::count(&records, "ok"), status), (2, 0));
    let plain = case("02-xfrm-acquire/plain4.pcap");
    let (reason, _) = reason_and_summary(&plain, &extended, 1);
    assert!(reason.ends_with("; the SA may not use extended sequence numbers"), "{reason}");
    let (_folder, wrong) = file_with("keys.yaml", &text.replace("key: 00", "key: 01"));
    let (reason, told) = reason_and_summary(&capture, &wrong, 1);
    assert!(reason.ends_with("(1 try)") && !told.contains("extended"), "{reason} {told}");
}

#[test]
fn without_an_icv_wrong_padding_is_evidence_against_the_key() {
    let (capture, keys) =
        (case("14-ok-of-garbage/wrongkey-nocheck.pcap"), case("14-ok-of-garbage/wrongkey-nocheck.keys"));
    let (records, status) = decode([&capture, "-k", &keys]);
    assert_eq!((records.len(), status), (1000, 1));
    let ok: Vec<_> = records.iter().filter(|record| record["status"] == "ok").collect();
    // About one key in a hundred happens to produce padding of no byte, or of the byte 1.
    assert_eq!(ok.len(), 5);
    assert!(ok.iter().all(|record| record["warnings"] == serde_json::json!(["unauthenticated"])));
    let wrong_padding =
        records.iter().filter(|record| record["reason"].to_string().contains("the padding is not 1, 2, 3"));
    let wrong_padding: Vec<_> = wrong_padding.collect();
    assert_eq!(wrong_padding.len(), 276);
    assert!(wrong_padding.iter().all(|record| record["status"] == "malformed" && record.get("packet").is_none()));
    let (_, told) = dietesp_ends(1, ["decode", &capture, "-k", &keys]);
    assert!(told.contains("1000 frames: 5 ok, 995 malformed"), "{told}");
    assert!(told.contains("1000 packets belong to an SA without integrity check (unauthenticated)"), "{told}");
}

/// tcpdump's secrets may contain two keys for one SA. The last line is tried first.
#[test]
fn of_two_keys_without_an_icv_the_one_with_right_padding_is_used() {
    let capture = common::file("tests/keys/esp.pcap");
    let right = std::fs::read_to_string(common::file("tests/keys/tcpdump.secrets")).unwrap();
    let wrong = format!("{right}\n0x10001@192.0.2.2 aes128-cbc-hmac96:0x{}\n", "77".repeat(16));
    let [(_a, right), (_b, both)] = [right, wrong].map(|text| file_with("secrets", &text));
    let packets = |keys: &str| {
        let (records, _) = decode([&capture, "-k", keys]);
        let of_sa = records.into_iter().filter(|record| record["esp"]["spi"] == "0x00010001");
        of_sa.map(|record| record["packet"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(packets(&both), packets(&right));
    assert!(!packets(&right).is_empty());
}
