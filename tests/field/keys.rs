//! Key files of other programs.

use serde_json::{Value, json};

use super::{case, common};
use common::{count, decode, dietesp_ends, file};

/// A folder with these files; their paths.
fn files(texts: &[(&str, &str)]) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(name, text): &(&str, &str)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let paths = texts.iter().map(write).collect();
    (folder, paths)
}

/// The records that have this status.
fn with_status<'r>(records: &'r [Value], status: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["status"] == status).collect()
}

/// With `esp_spi_lsb: 0` nothing but the ICV says which packets belong to an SA.
#[test]
fn an_esp_sa_entry_of_aes_ccm_claims_only_the_packets_that_verify() {
    let [rules, keys] = ["samples/probe/rules.yaml", "keys/probe.yaml"].map(|path| {
        let text = std::fs::read_to_string(file(path)).unwrap();
        text.replace("esp_spi_lsb: 8", "esp_spi_lsb: 0").replace("_IIV", "")
    });
    let (folder, paths) = files(&[("rules.yaml", &rules), ("keys.yaml", &keys)]);
    let [rules, keys] = paths.as_slice() else { unreachable!() };
    let capture = folder.path().join("diet.pcapng").to_str().unwrap().to_owned();
    let (original, esp_keys) = (file("samples/probe/original.pcap"), file("samples/probe/esp_keys.txt"));
    dietesp_ends(0, ["compress", &original, "-o", &capture, "-r", rules, "-k", keys, "--esp-keys", &esp_keys]);
    let (all, _) = decode([&capture, "-r", rules, "-k", keys]);
    let belong: Vec<&Value> = all.iter().filter(|record| record["sa"] == "probe-1-up").map(|r| &r["frame"]).collect();
    assert_eq!(belong.len(), 51);

    let (exported, _) = dietesp_ends(0, ["keys", "export", keys]);
    let first = exported.lines().find(|line| line.contains("0xfd761b86")).unwrap();
    let context = std::fs::read_to_string(rules).unwrap();
    let context = context.split("  - sa: ").nth(1).unwrap().replacen("probe-1-up", "0xfd761b86", 1);
    let (_folder, paths) = files(&[
        ("esp_sa", first),
        ("rules.yaml", &format!("contexts:\n  - sa: \"{}", context.replacen('\n', "\"\n", 1))),
    ]);
    let (records, status) = decode([&capture, "-k", &paths[0], "-r", &paths[1]]);
    assert_eq!(status, 1);
    let ok: Vec<&Value> = with_status(&records, "ok").into_iter().map(|record| &record["frame"]).collect();
    assert_eq!(ok, belong);
    assert!(with_status(&records, "ok").iter().all(|record| record["esp"]["icv"] == "verified"));
    assert_eq!(count(&records, "not-esp"), count(&all, "not-esp"), "IKE stays IKE");
}

/// The hint names what to do for the rare file that means AES-CTR.
#[test]
fn what_is_read_as_aes_ccm_is_said_once_per_file() {
    let esp_sa = |spi: u32| {
        format!(
            "\"IPv4\",\"*\",\"*\",\"{spi:#010x}\",\"AES-CTR [RFC3686]\",\"0x{}03a0a1a2\",\"ANY 64 bit authentication [no \
             checking]\",\"\"\n",
            "5a".repeat(16)
        )
    };
    let text = format!("# made by hand\n{}{}", esp_sa(1), esp_sa(0xc0ff_ee01));
    let (_folder, paths) = files(&[("esp_sa", &text)]);
    let (shown, told) = dietesp_ends(0, ["keys", "show", &paths[0]]);
    assert_eq!((shown.matches("ENCR_AES_CCM_8").count(), shown.matches("ENCR_AES_CTR").count()), (2, 0));
    assert_eq!(told.matches("AES-CCM").count(), 1, "{told}");
    assert!(told.contains("esp_sa:2: ") && told.contains("in YAML"), "{told}");
    let capture = case("04-xfrm-state-and-policy/plain4.pcap");
    let (_, told) = dietesp_ends(1, ["decode", &capture, "-k", &paths[0]]);
    let hint = told.lines().find(|line| line.starts_with("auth-failed: ") && line.contains("AES-CTR")).unwrap();
    assert!(hint.contains("YAML"), "{told}");
}

/// IKE of the sample, before any SA without integrity check.
#[test]
fn an_ike_message_belongs_to_no_sa_without_integrity_check() {
    let keys = "sas: [{ spi: 1, encr: ENCR_NULL, integ: NONE }]\n\
                contexts: [{ spi: 1, ipsec_mode: Tunnel, iipc_profile: iipc_not_compressed, esp_spi_lsb: 0, esp_sn_lsb: 0 }]\n";
    let (_folder, paths) = files(&[("keys.yaml", keys)]);
    let capture = file("samples/probe/original.pcap");
    let (records, _) = decode([&capture, "-k", &paths[0]]);
    let (without, _) = decode([&capture, "-k", &file("samples/probe/esp_keys.txt")]);
    let of = |records: &[Value]| -> Vec<Value> {
        with_status(records, "not-esp").iter().map(|record| json!([record["frame"], record["reason"]])).collect()
    };
    assert_eq!(of(&records), of(&without));
    assert_eq!(of(&records).len(), 42);
}
