//! Key files of other programs.

use serde_json::{Value, json};

use super::{case, common};
use common::{count, decode, dietesp_ends, file};

/// A folder with these files, and their paths.
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

/// The records with this status.
fn with_status<'r>(records: &'r [Value], status: &str) -> Vec<&'r Value> {
    records.iter().filter(|record| record["status"] == status).collect()
}

/// With `esp_spi_lsb: 0`, only the ICV decides which packets belong to an SA.
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
    assert_eq!(belong.len(), 20);

    let (exported, _) = dietesp_ends(0, ["keys", "export", keys]);
    let first = exported.lines().find(|line| line.contains("0x8754dd38")).unwrap();
    let context = std::fs::read_to_string(rules).unwrap();
    let context = context.split("  - sa: ").nth(1).unwrap().replacen("probe-1-up", "0x8754dd38", 1);
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

/// The hint says what to do if a file really means AES-CTR.
#[test]
fn reading_as_aes_ccm_is_reported_once_per_file() {
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
    assert_eq!(told.lines().filter(|line| line.contains("AES-CCM")).count(), 1, "{told}");
    assert!(told.contains("esp_sa:2: ") && told.contains("in YAML"), "{told}");
    let capture = case("04-xfrm-state-and-policy/plain4.pcap");
    let (_, told) = dietesp_ends(1, ["decode", &capture, "-k", &paths[0]]);
    let hint = told.lines().find(|line| line.starts_with("auth-failed: ") && line.contains("AES-CTR")).unwrap();
    assert!(hint.contains("YAML"), "{told}");
}

/// IKE packets of the sample, captured before an SA without integrity check was used.
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

/// A capture of the case, decoded with one of its key files: the records, and standard error.
fn decoded(capture: &str, keys: &str, status: i32) -> (Vec<Value>, String) {
    let (records, ended) = decode([&case(capture), "-k", &case(keys)]);
    let (_, told) = dietesp_ends(status, ["decode", &case(capture), "-k", &case(keys)]);
    assert_eq!(ended, status, "{told}");
    (records, told)
}

/// Packets that tshark verifies are also verified by this program.
fn tshark_verifies(capture: &str, esp_sa: &str, packets: usize) {
    let config = common::wireshark_config(case(esp_sa).as_ref());
    assert_eq!(common::tshark_verified(config.path(), case(capture).as_ref()), packets, "{capture}");
}

#[test]
fn a_state_without_keys_is_skipped_and_named() {
    let (records, told) = decoded("02-xfrm-acquire/plain4.pcap", "02-xfrm-acquire/xfrm-acquire-first.key", 0);
    assert_eq!((records.len(), count(&records, "ok")), (1, 1));
    assert!(told.contains("xfrm-acquire-first.key:1: skipped: SPI 0x00000000: the SA has no keys"), "{told}");
}

#[test]
fn hmac_keys_may_have_any_length() {
    for keys in ["hmac-key16.keys", "hmac-key16.esp_sa"] {
        let (records, told) = decoded("03-hmac-key-length/hmac-key16.pcap", &format!("03-hmac-key-length/{keys}"), 0);
        assert!(records.iter().all(|record| record["status"] == "ok" && record["esp"]["icv"] == "verified"));
        assert!(told.contains(":1: AUTH_HMAC_SHA2_256_128 has a key of 16 bytes, not the 32 that IKE makes"), "{told}");
    }
    tshark_verifies("03-hmac-key-length/hmac-key16.pcap", "03-hmac-key-length/hmac-key16.esp_sa", 1);
    for (keys, sas, warning) in [
        ("espsa-hmac256-nokey.key", 1, "has no key in this file: its ICV of 16 bytes is not checked"),
        ("xfrm-one-short-hmac-of-two.key", 2, "has a key of 16 bytes"),
        ("xfrm-sha1-long-key.key", 1, "AUTH_HMAC_SHA1_96 has a key of 32 bytes"),
    ] {
        let (shown, told) = dietesp_ends(0, ["keys", "show", &case(&format!("03-hmac-key-length/{keys}"))]);
        assert_eq!(shown.lines().count(), 1 + sas, "{shown}");
        assert!(told.contains(warning) && told.lines().count() == 1, "{told}");
    }
    // In YAML, too, which must be able to express all other formats.
    let key = "0x01010101010101010101010101010101";
    let yaml = format!(
        "sas: [{{ spi: 0xc0ffee01, encr: ENCR_AES_CBC, key: 000102030405060708090a0b0c0d0e0f, integ: AUTH_HMAC_SHA2_256_128, \
         integ_key: {key} }}]\n"
    );
    let (_folder, paths) = files(&[("keys.yaml", &yaml), ("empty.yaml", &yaml.replace(key, "\"\""))]);
    let (records, status) = decode([&case("03-hmac-key-length/hmac-key16.pcap"), "-k", &paths[0]]);
    assert_eq!((count(&records, "ok"), status), (1, 0));
    dietesp_ends(2, ["keys", "show", &paths[1]]);
}

#[test]
fn policies_are_ignored() {
    let (records, told) =
        decoded("04-xfrm-state-and-policy/plain4.pcap", "04-xfrm-state-and-policy/xfrm-policy-mixed.key", 0);
    assert_eq!((count(&records, "ok"), told.contains("warning")), (1, false), "{told}");
}

#[test]
fn hmac_sha2_256_96_is_verified() {
    let folder = "08-integrity-unknown-drops-sa";
    for keys in ["sha256-96.keys", "sha256-96.esp_sa"] {
        let (records, told) = decoded(&format!("{folder}/sha256-96.pcap"), &format!("{folder}/{keys}"), 0);
        assert_eq!((records[0]["esp"]["icv"].as_str(), told.contains("warning")), (Some("verified"), false), "{told}");
    }
    tshark_verifies(&format!("{folder}/sha256-96.pcap"), &format!("{folder}/sha256-96.esp_sa"), 1);
    // Converted to YAML, and exported for Wireshark again.
    let (exported, _) = dietesp_ends(0, ["keys", "export", &case(&format!("{folder}/sha256-96.keys"))]);
    assert!(exported.contains("\"HMAC-SHA-256-96 [draft-ietf-ipsec-ciph-sha-256-00]\""), "{exported}");
    // An unsupported algorithm with an ICV of the same length.
    let text = std::fs::read_to_string(case(&format!("{folder}/sha256-96.keys"))).unwrap();
    let (_folder, paths) = files(&[("xfrm", &text.replace("hmac(sha256)", "hmac(rmd160)"))]);
    let capture = case(&format!("{folder}/sha256-96.pcap"));
    let (records, status) = decode([&capture, "-k", &paths[0]]);
    assert_eq!(
        (records[0]["status"].as_str(), records[0]["esp"]["icv"].as_str(), status),
        (Some("ok"), Some("none"), 0)
    );
    assert_eq!(records[0]["warnings"], json!(["unauthenticated"]));
    let (_, told) = dietesp_ends(0, ["decode", &capture, "-k", &paths[0]]);
    assert!(told.contains("`hmac(rmd160)` is not supported: its ICV of 12 bytes is not checked"), "{told}");
    assert!(told.contains("1 packet belongs to an SA without integrity check (unauthenticated)"), "{told}");
}

/// The output of `keys show` for one SA, without the spaces between the columns.
fn shown_sa(path: &str) -> (Vec<String>, String) {
    let (shown, told) = dietesp_ends(0, ["keys", "show", path]);
    let rows = shown.lines().skip(1).map(|row| row.split_whitespace().skip(1).collect::<Vec<_>>().join(" "));
    (rows.collect(), told)
}

#[test]
fn key_pastes_are_read() {
    const GCM: &str = "0xc0ffee01 192.0.2.1 192.0.2.2 ENCR_AES_GCM_16 128 bits - no";
    const SHA2: &str = "0xc0ffee01 192.0.2.1 192.0.2.2 ENCR_AES_CBC 128 bits AUTH_HMAC_SHA2_256_128 no";
    for (name, row, warnings) in [
        ("espsa-uatline", GCM, 1),
        ("ipsec.conf-obsd", SHA2, 0),
        ("ipsecctl-sa-k", SHA2, 0),
        ("setkey-D-linux", "0xc0ffee01 192.0.2.1 192.0.2.2 ENCR_AES_CBC 128 bits AUTH_HMAC_SHA1_96 no", 0),
        ("setkey-D-natt", SHA2, 1),
        (
            "tcpdump-E-cmdline",
            "0xc0ffee01 any 192.0.2.2 ENCR_AES_CBC 128 bits ANY 96 bit authentication [no checking] no",
            0,
        ),
        ("xfrm-add-cmd", GCM, 0),
        ("xfrm-md-fence", GCM, 0),
        ("xfrm-prompt", GCM, 0),
    ] {
        let (rows, told) = shown_sa(&case(&format!("09-key-dumps-bad-message/{name}.key")));
        assert_eq!((rows, told.lines().count()), (vec![row.to_owned()], warnings), "{name}: {told}");
    }
}

/// The keys are those in the text: all formats of one SA decrypt its packet.
#[test]
fn key_pastes_open_packets() {
    for name in ["espsa-uatline", "xfrm-add-cmd", "xfrm-md-fence", "xfrm-prompt"] {
        let keys = format!("09-key-dumps-bad-message/{name}.key");
        let (records, _) = decoded("02-xfrm-acquire/plain4.pcap", &keys, 0);
        assert_eq!(records[0]["esp"]["icv"], "verified", "{name}");
    }
    let integ_key = "01010101 01010101 01010101 01010101";
    let forms = [
        format!(
            "192.0.2.1[4500] 192.0.2.2[4500] \n\tesp-udp mode=tunnel spi=3237998081(0xc0ffee01) reqid=0(0x00000000)\n\tE: \
             aes-cbc  00010203 04050607 08090a0b 0c0d0e0f\n\tA: hmac-sha2-256  {integ_key}\n\tseq=0x00000000 state=mature\n"
        ),
        format!(
            "gw# ipsecctl -sa -k\nFLOWS:\nNo flows\n\nSAD:\nesp tunnel from 192.0.2.1 to 192.0.2.2 spi 0xc0ffee01 auth hmac-sha2-256 \
             enc aes \\\n\tauthkey 0x{} \\\n\tenckey 0x000102030405060708090a0b0c0d0e0f\n",
            integ_key.replace(' ', "")
        ),
        format!(
            "[root@gw ~]# ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0xc0ffee01 auth-trunc hmac\\(sha256\\) 0x{} \
             128 enc 'cbc(aes)' 0x000102030405060708090a0b0c0d0e0f\n[root@gw ~]# \n",
            integ_key.replace(' ', "")
        ),
        format!(
            "Our keys:\n\n~~~\n$ sudo tshark -o 'uat:esp_sa:\"IPv4\",\"*\",\"*\",\"0xc0ffee01\",\"AES-CBC [RFC3602]\",\
             \"0x000102030405060708090a0b0c0d0e0f\",\"HMAC-SHA-256-128 [RFC4868]\",\"0x{}\"' -r x.pcap\n~~~\n",
            integ_key.replace(' ', "")
        ),
    ];
    for text in forms {
        let (_folder, paths) = files(&[("paste", &text)]);
        let (records, _) = decode([&case("03-hmac-key-length/hmac-key16.pcap"), "-k", &paths[0]]);
        assert_eq!(records[0]["esp"]["icv"], "verified", "{text}");
    }
}

#[test]
fn formats_without_usable_keys_are_named() {
    for (name, problem, help) in [
        ("cisco-crypto", ":2: this is the output of `show crypto ipsec sa` of a Cisco device", "it has no ESP keys"),
        ("gp", ":3: this is a configuration of a GlobalProtect tunnel", "as YAML; see docs/key-and-rule-files.md"),
        ("libreswan-pluto", ":1: this is a log of Libreswan's pluto", "`ip xfrm state`"),
    ] {
        let (_, told) = dietesp_ends(2, ["keys", "show", &case(&format!("09-key-dumps-bad-message/{name}.key"))]);
        assert!(told.contains(problem) && told.contains(help), "{told}");
    }
    let key = "000102030405060708090a0b0c0d0e0f";
    for (text, name) in [
        (
            format!(
                "name=hq ver=1\n  SA:  ref=3\n  dec: spi=c0ffee01 esp=aes key=16 {key}\n       ah=sha1 key=20 {key}\n"
            ),
            "FortiGate",
        ),
        (format!(" 0 HE spi=0x1 src-address=::1 state=mature enc-algorithm=aes-cbc enc-key=\"{key}\"\n"), "RouterOS"),
        (format!("[0] sa 1 (0x1) spi 1 (0x1) protocol:esp flags:[]\n   crypto alg aes-cbc-128 key {key}\n"), "VPP"),
        ("Connections:\n  gw: %any IKEv2\n  gw{1}:  INSTALLED, TUNNEL, reqid 1\n".into(), "strongSwan"),
        (format!("192.0.2.1 192.0.2.2 : PSK \"{key}\"\n"), "IKE secrets"),
        (format!("-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n"), "private key"),
        (format!("[Interface]\nPrivateKey = {key}\n"), "WireGuard"),
        (format!("CLIENT_RANDOM {key} {key}\n"), "TLS"),
    ] {
        let (_folder, paths) = files(&[("paste", &text)]);
        let (_, told) = dietesp_ends(2, ["keys", "show", &paths[0]]);
        assert!(told.contains(": this is ") && told.contains(name), "{told}");
        assert!(!told.contains("00010203"), "{told}");
    }
}

/// Such a file is valid, but decrypts no packet.
#[test]
fn a_file_without_an_esp_sa_is_named() {
    let addresses = "src 192.0.2.1 dst 192.0.2.2\n";
    for text in [
        format!("{addresses}\tproto ah spi 0xc0ffee01 reqid 1 mode tunnel\n\tauth-trunc hmac(sha256) 0x00 128\n"),
        format!("{addresses}\tdir out priority 1\n\ttmpl {addresses}\t\tproto esp spi 0x3 mode tunnel\n"),
    ] {
        let (_folder, paths) = files(&[("paste", &text)]);
        let (_, told) = dietesp_ends(0, ["keys", "show", &paths[0]]);
        assert_eq!(told, format!("dietesp: warning: {}: the file has no ESP SA\n", paths[0]));
    }
}

#[test]
fn tcpdump_secrets_without_a_cipher_are_encr_null() {
    let (records, told) =
        decoded("12-tcpdump-none/null-tcpdump-none.pcap", "12-tcpdump-none/null-tcpdump-none.keys", 0);
    assert_eq!((count(&records, "ok"), records[0]["esp"]["icv"].as_str()), (records.len(), Some("none")));
    assert!(!told.contains("warning"), "{told}");
}

/// An entry that cannot be read does not affect the others, and no message shows a part of a key.
#[test]
fn an_invalid_entry_does_not_affect_valid_ones() {
    let key = "5a5b5c5d5e5f50515253545556575859";
    let good = [
        format!("src 192.0.2.1 dst 192.0.2.2\n\tproto esp spi 1\n\taead rfc4106(gcm(aes)) 0x{key}01020304 128\n"),
        format!("\"IPv4\",\"*\",\"*\",\"1\",\"AES-CBC [RFC3602]\",\"0x{key}\",\"NULL\",\"\"\n"),
        format!("add 192.0.2.1 192.0.2.2 esp 1 -E aes-cbc 0x{key};\n"),
        format!("0x1@192.0.2.2 aes128-cbc:0x{key}\n"),
        format!("192.0.2.1 192.0.2.2\n\tesp mode=tunnel spi=1(0x1) reqid=0\n\tE: aes-cbc  {key}\n"),
        format!("esp from 192.0.2.1 to 192.0.2.2 spi 0x1 auth none enc aes enckey 0x{key}\n"),
        format!("ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 1 enc cbc(aes) 0x{key}\n"),
    ];
    for good in good {
        for (from, to) in
            [(key, &key[2..]), (key, &key[1..]), ("192.0.2.1", key), ("192.0.2.2", key), ("aes", key), ("1", "x")]
        {
            let bad = good.replacen(from, to, 1);
            if bad == good {
                continue;
            }
            let (_folder, paths) =
                files(&[("first", &format!("{good}{bad}")), ("last", &format!("{good}{bad}{good}"))]);
            for path in &paths {
                let (rows, told) = shown_sa(path);
                assert!(!rows.is_empty(), "{bad}: {told}");
                assert!(!told.to_lowercase().contains("5e5f5051") && !told.contains("5152535"), "{bad}: {told}");
            }
        }
    }
}
