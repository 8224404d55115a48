//! Key files written by other programs: each of them alone must decrypt packets, and no secret may be shown.

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

fn here(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// Puts `--keys` before each file.
fn keys(files: &[PathBuf]) -> Vec<OsString> {
    files.iter().flat_map(|file| ["--keys".into(), file.into()]).collect()
}

/// The longest runs of hex digits in key files. These bytes may not be printed, in upper or lower case.
fn secrets(files: &[PathBuf]) -> Vec<String> {
    let read = |file: &PathBuf| std::fs::read_to_string(file).expect("the test names files that are there");
    let text: String = files.iter().map(|file| read(file).to_lowercase()).collect();
    let runs = text.split(|c: char| !c.is_ascii_hexdigit()).filter(|run| run.len() >= 32);
    runs.map(str::to_owned).collect()
}

#[test]
fn strongswan_with_its_log_or_only_with_sk_d() {
    let data = common::data();
    let file = |end: &str| data.join("captures").join(format!("strongswan_ccm8_v6.{end}"));
    for files in [vec![file("charon-A.log")], vec![file("sk_d.txt"), file("ikev2_decryption_table")]] {
        let mut args = vec![file("pcapng").into_os_string()];
        args.extend(keys(&files));
        let (records, status) = common::decode(args.clone());
        assert_eq!((records.len(), common::count(&records, "ok"), status), (282, 240, 0));
        let names: std::collections::BTreeSet<&str> =
            records.iter().filter_map(|record| record["sa"].as_str()).collect();
        let expected = ["0x0001bd26", "0x795acb99", "0x8769838d", "0xb6a5782e", "0xbc563ce0", "0xfd761b86"];
        assert!(names.into_iter().eq(expected));

        let mut show: Vec<OsString> = vec!["keys".into(), "show".into(), "--capture".into(), file("pcapng").into()];
        show.extend(files.iter().map(Into::into));
        let output = common::dietesp(show);
        let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        // A rekeying collision left two SAs unused.
        assert_eq!(told.lines().filter(|line| line.contains("ENCR_AES_CCM_8")).count(), 8, "{told}");
        let hidden = [secrets(&[file("ip-xfrm-state.txt")]), secrets(&files)].concat();
        assert!(hidden.len() >= 8 && !hidden.iter().any(|secret| told.contains(secret)));
    }
}

/// This capture and these files come from other programs: scapy encrypted the packets, and the file formats are
/// those of setkey(8) and print-esp.c.
#[test]
fn setkey_and_tcpdump_files_decrypt_packets_of_scapy() {
    let capture = here("keys/esp.pcap").into_os_string();
    let decode = |file: &str| {
        let mut args = vec![capture.clone()];
        args.extend(keys(&[here(file)]));
        let (records, status) = common::decode(args);
        assert_eq!((records.len(), status), (12, 0));
        records
    };
    let records = decode("keys/setkey.conf");
    assert_eq!(common::count(&records, "ok"), 12);
    for (record, n) in records.iter().zip(0..) {
        let text = format!("probe {}", n % 3);
        assert!(record["packet"].as_str().unwrap().ends_with(&hex::encode(text)), "{record}");
        let verified = if record["esp"]["spi"] == "0x00010003" { "none" } else { "verified" };
        assert_eq!(record["esp"]["icv"], verified);
    }
    let of_tcpdump = decode("keys/tcpdump.secrets");
    for (record, expected) in of_tcpdump.iter().zip(&records) {
        let spi = expected["esp"]["spi"].as_str().unwrap();
        if ["0x00010001", "0x00010003"].contains(&spi) {
            assert_eq!((&record["packet"], &record["esp"]["icv"]), (&expected["packet"], &"none".into()));
            assert_eq!(record["warnings"], serde_json::json!(["unauthenticated"]));
        } else {
            assert_eq!(record["status"], "no-sa");
        }
    }
}

#[test]
fn kernel_state_inside_ipsec_look() {
    let folder = tempfile::tempdir().unwrap();
    let state = std::fs::read_to_string(here("ike/made.xfrm")).unwrap();
    let look = folder.path().join("look");
    let text = format!(
        "east Fri Jan  2 03:04:05 UTC 2026\nXFRM state:\n{state}XFRM policy:\nsrc 10.0.0.0/8 dst 10.0.0.0/8\n\tdir out priority 1\n"
    );
    std::fs::write(&look, text).unwrap();
    let show = |file: &Path| {
        let output = common::dietesp(["keys".as_ref(), "show".as_ref(), file.as_os_str()]);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(show(&look), show(&here("ike/made.xfrm")));
}

#[test]
fn secrets_of_ike_sas_need_a_capture_that_can_be_read_twice() {
    let file = here("ike/made.ike");
    let output = common::dietesp(["decode".as_ref(), "-".as_ref(), "--keys".as_ref(), file.as_os_str()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("made.ike:2: secrets of IKE SAs require reading the capture twice"), "{told}");
    assert!(told.contains("save the capture to a file"), "{told}");

    let output = common::dietesp(["keys".as_ref(), "show".as_ref(), file.as_os_str()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.contains("made.ike:2: secrets of IKE SAs need the IKE exchanges to derive SAs: add --capture CAPTURE"),
        "{told}"
    );
    assert!(!secrets(&[file]).iter().any(|secret| told.contains(secret)));
}

/// IKE_AUTH and CREATE_CHILD_SA are encrypted. SK_d without the decryption table is rejected with advice.
#[test]
fn sk_d_without_the_decryption_table_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(here("ike/made.ike")).unwrap();
    let only = folder.path().join("sk_d");
    std::fs::write(&only, text.lines().take(2).collect::<Vec<_>>().join("\n")).unwrap();
    let capture = here("ike/made.pcap");
    let output = common::dietesp(["decode".as_ref(), capture.as_os_str(), "--keys".as_ref(), only.as_os_str()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told.contains("sk_d:2: SK_d of the IKE SA") && told.contains("ikev2_decryption_table"), "{told}");
    assert!(!secrets(&[only]).iter().any(|secret| told.contains(secret)));
}
