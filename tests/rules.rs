//! `dietesp rules` compared with published cases, another SCHC engine and the samples.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn rules(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dietesp")).arg("rules").args(args).output().expect("dietesp runs")
}

fn good(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("a file of a temporary folder");
    path
}

fn apply(rule: &Path, packet: &str, direction: &str) -> Value {
    let output = rules(&[
        "apply",
        rule.to_str().expect("UTF-8"),
        "--packet",
        packet,
        "--direction",
        direction,
        "--format",
        "json",
    ]);
    serde_json::from_str(&good(&output)).expect("JSON")
}

/// Residues that two SCHC engines and the tables of the draft agree on.
#[test]
fn schc_cases() {
    let data = common::data();
    let text = std::fs::read_to_string(data.join("vectors/schc_cases.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 46);
    let folder = tempfile::tempdir().unwrap();
    let (mut matched, mut restored) = (0, 0);
    for case in &cases {
        let name = case["name"].as_str().unwrap();
        let rule = written(&folder, "rule.json", &case["rule"].to_string());
        let packet = case["packet_hex"].as_str().unwrap();
        let answer = apply(&rule, packet, case["direction"].as_str().unwrap());
        assert_eq!(answer["match"], case["match"], "{name}");
        if case["match"] == Value::Bool(false) {
            assert!(answer["field"].is_string() && answer["residue_bits"].is_null(), "{name}");
            continue;
        }
        matched += 1;
        assert_eq!(answer["residue_bits"], case["residue_bits"], "{name}");
        assert_eq!(answer["residue_len"], case["residue_len"], "{name}");
        assert_eq!(answer["payload"], case["payload_hex"], "{name}");
        let fields: Vec<Value> = answer["fields"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|field| field["residue"] != "")
            .map(|field| serde_json::json!([field["FID"], field["residue"]]))
            .collect();
        assert_eq!(Value::from(fields), case["residue_per_field"], "{name}");
        if case["microschc_decompressed_hex"].is_string() {
            assert_eq!(answer["restored"], case["microschc_decompressed_hex"], "{name}");
            assert_eq!(answer["lossless"], true, "{name}");
            restored += 1;
        }
    }
    assert_eq!((matched, restored), (43, 22));
}

#[test]
fn the_mismatched_field_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let rule = written(
        &folder,
        "rule.yaml",
        "- { FID: UDP.SRC_PORT, TV: [5683, 5684], MO: match-mapping, CDA: mapping-sent }
- { FID: UDP.DST_PORT, TV: 0x1630, MO: MSB, MO.VAL: 12, CDA: LSB }
",
    );
    let answer = apply(&rule, "16331642", "up");
    assert_eq!(answer["field"], "UDP.DST_PORT");
    assert_eq!(answer["reason"], "is 5698, but its first 12 bits must be those of 5680");
    assert_eq!(apply(&rule, "00001633", "up")["reason"], "is 0, but must be one of 5683, 5684");
    assert_eq!(apply(&rule, "163316", "up")["reason"], "ends at bit 32, but the packet ends at bit 24");
    assert_eq!(apply(&rule, "0x16 34:16_33", "up")["residue_bits"], "10011");
}

/// RFC 8724 §7.4.2: the size takes 4, 12 or 28 bits.
#[test]
fn a_variable_length_is_sent_before_the_value() {
    let folder = tempfile::tempdir().unwrap();
    let row =
        |mo: &str| format!("- {{ FID: ESP.PAD, FL: var, {mo} }}\n- {{ FID: ESP.NXT, MO: ignore, CDA: value-sent }}\n");
    let sent = written(&folder, "sent.yaml", &row("MO: ignore, CDA: value-sent"));
    let sizes = [
        (0, "0000".to_owned()),
        (14, "1110".to_owned()),
        (15, "111100001111".to_owned()),
        (254, "111111111110".to_owned()),
        (255, "1".repeat(12) + "0000000011111111"),
        (1000, "1".repeat(12) + "0000001111101000"),
    ];
    for (len, size) in sizes {
        let packet = "a5".repeat(len) + "29";
        let answer = apply(&sent, &packet, "up");
        let wanted = size + &"10100101".repeat(len) + "00101001";
        assert_eq!(answer["residue_bits"].as_str(), Some(wanted.as_str()), "{len}");
        assert_eq!(answer["restored"].as_str(), Some(packet.as_str()), "{len}");
    }
    let lsb = written(&folder, "lsb.yaml", &row("TV: \"010203\", MO: MSB, MO.VAL: 16, CDA: LSB"));
    assert_eq!(apply(&lsb, "0102030429", "up")["residue_bits"], "001000000011 00000100 00101001".replace(' ', ""));
    assert_eq!(apply(&lsb, "0102030429", "up")["restored"], "0102030429");
    assert_eq!(apply(&lsb, "0129", "up")["field"], "ESP.PAD");
    let listed = row("TV: [\"01\", \"0102\", \"\"], MO: match-mapping, CDA: mapping-sent");
    let listed = written(&folder, "list.yaml", &listed);
    for (packet, index) in [("0129", "00"), ("010229", "01"), ("29", "10")] {
        let answer = apply(&listed, packet, "up");
        assert_eq!(answer["residue_bits"].as_str(), Some((index.to_owned() + "00101001").as_str()));
        assert_eq!(answer["restored"], packet);
    }
    assert_eq!(apply(&listed, "0329", "up")["match"], false);
}

/// IHL gives the length of the IPv4 options.
#[test]
fn a_length_that_another_field_gives() {
    let folder = tempfile::tempdir().unwrap();
    let rule = written(
        &folder,
        "rule.yaml",
        "- { FID: IPV4.VER, TV: 4, MO: equal, CDA: not-sent }
- { FID: IPV4.IHL, MO: ignore, CDA: value-sent }
- { FID: IPV4.OPTIONS, MO: ignore, CDA: value-sent }
- { FID: UDP.SRC_PORT, MO: ignore, CDA: value-sent }
",
    );
    let answer = apply(&rule, "46940400001633ff", "up");
    let wanted = "0110 10010100000001000000000000000000 0001011000110011".replace(' ', "");
    assert_eq!(answer["residue_bits"], wanted);
    assert_eq!(answer["payload"], "ff");
    assert_eq!(answer["restored"], "46940400001633ff");
    assert_eq!(apply(&rule, "451633ff", "up")["residue_bits"], "0101 0001011000110011".replace(' ', ""));
}

/// Fields named after the ends of the link have another position in downlink packets. The residue keeps the order
/// of the rule.
#[test]
fn ends_of_the_link_are_found_by_direction() {
    let folder = tempfile::tempdir().unwrap();
    let rule = written(
        &folder,
        "rule.json",
        r#"{"RuleID": 1, "RuleIDLength": 3, "Compression": [
            {"FID": "IPV6.DEV_PREFIX", "TV": "2001:db8:a::/64", "MO": "equal", "CDA": "not-sent"},
            {"FID": "IPV6.DEV_IID", "MO": "ignore", "CDA": "value-sent"},
            {"FID": "IPV6.APP_PREFIX", "TV": ["2001:db8:b::/64", "fe80::/64"], "MO": "match-mapping", "CDA": "mapping-sent"},
            {"FID": "IPV6.APP_IID", "TV": "::1", "MO": "equal", "CDA": "not-sent"},
            {"FID": "UDP.DEV_PORT", "MO": "ignore", "CDA": "value-sent"},
            {"FID": "UDP.APP_PORT", "TV": 5683, "MO": "equal", "CDA": "not-sent"}]}"#,
    );
    let device = "20010db8000a0000000000000000abcd";
    let application = "20010db8000b00000000000000000001";
    let residue = format!("{:064b}0{:016b}", 0xabcd, 61_616);
    let up = apply(&rule, &format!("{device}{application}f0b01633"), "up");
    let down = apply(&rule, &format!("{application}{device}1633f0b0"), "dw");
    assert_eq!(up["residue_bits"], residue);
    assert_eq!(down["residue_bits"], residue);
    assert_eq!(down["restored"], format!("{application}{device}1633f0b0"));
    assert_eq!(apply(&rule, &format!("{application}{device}1633f0b0"), "up")["field"], "IPV6.DEV_PREFIX");
}

#[test]
fn many_packets_in_one_run() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let rule = written(&folder, "rule.yaml", "[{ FID: UDP.LEN, TV: 0, MO: MSB, MO.VAL: 12, CDA: LSB }]");
    let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["rules", "apply", rule.to_str().unwrap(), "--packet", "-", "--format", "json"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"0005\n\n1000\n000f").unwrap();
    let text = good(&child.wait_with_output().unwrap());
    let residues: Vec<Value> = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    let residues: Vec<&Value> = residues.iter().map(|answer| &answer["residue_bits"]).collect();
    assert_eq!(residues, ["0101".into(), Value::Null, "1111".into()].iter().collect::<Vec<_>>());
}

/// The message of a run that ends with status 2 and does nothing.
fn refused(args: &[&str]) -> String {
    let output = rules(args);
    assert_eq!(output.status.code(), Some(2), "{args:?}");
    assert!(output.stdout.is_empty(), "{args:?}");
    String::from_utf8(output.stderr).expect("UTF-8")
}

#[test]
fn standard_input_is_read_once() {
    let said = refused(&["apply", "-", "--packet", "-"]);
    assert!(said.contains("`-` is given for the rule file and the file of packets"), "{said}");
}

#[test]
fn one_rule_must_be_selected() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rule = |id: &str| format!("  - {{ {id}fields: [{{ FID: UDP.LEN, MO: ignore, CDA: value-sent }}] }}\n");
    let said = |text: &str, wanted: &[&str]| {
        let path = written(&folder, "rules.yaml", text);
        let apply = ["apply", path.to_str().expect("UTF-8"), "--packet", "0008"];
        let said = refused(&[&apply, wanted].concat());
        said.split_once("rules.yaml: ").map(|(_, said)| said.replace("\n  ", ": ").trim().to_owned()).expect("its path")
    };
    let numbered = rule("RuleID: 1, RuleIDLength: 3, ") + &rule("RuleID: 2, RuleIDLength: 3, ");
    let several = said(&numbered, &[]);
    assert_eq!(several, "the file has 2 rules: select one with --rule-id: 1, 2");
    assert_eq!(said(&numbered, &["--rule-id", "3"]), "no rule has RuleID 3: select one with --rule-id: 1, 2");
    let twice = rule("RuleID: 1, RuleIDLength: 3, ").repeat(2);
    assert_eq!(said(&twice, &["--rule-id", "1"]), "2 rules have RuleID 1: give each rule its own RuleID");
    let without = "give each rule a RuleID and select one with --rule-id";
    assert_eq!(said(&rule("").repeat(2), &[]), format!("the file has 2 rules: {without}"));
    assert_eq!(
        said(&rule(""), &["--rule-id", "5"]),
        "no rule has RuleID 5: omit --rule-id: the rules in the file have no RuleID"
    );
}

/// Wire format §8 and §3.
#[test]
fn overheads_of_the_documents() {
    let folder = tempfile::tempdir().unwrap();
    let show = |context: &str| -> Value {
        let path = written(&folder, "rules.yaml", &format!("contexts: [{{ sa: a, {context} }}]"));
        let text = good(&rules(&["show", path.to_str().unwrap(), "--format", "json"]));
        serde_json::from_str::<Value>(&text).unwrap()[0].clone()
    };
    let tunnel =
        "ipsec_mode: Tunnel, tunnel_ip: { src: \"2001:db8::1\", dst: \"2001:db8::2\" }, ts_ip_version: IPv6-only";
    // With all fields removed, only the ICV; with the defaults also SPI, SN, Pad Length, Next Header and up to 3 bytes of Padding.
    let least = show(&format!("dialect: 6lo, {tunnel}, SPI_SIZE: 0, SN_SIZE: 0, NH: removed, PAD: removed, ALIGN: 8"));
    let most = show(&format!("dialect: 6lo, {tunnel}"));
    assert_eq!(least["cipher"], "ENCR_AES_CCM_8");
    assert_eq!(least["cipher_assumed"], true);
    assert_eq!(least["packets"][0]["overhead_bytes"], serde_json::json!([8, 8]));
    assert_eq!(least["packets"][0]["iv_bytes"], 8);
    assert_eq!(most["packets"][0]["overhead_bytes"], serde_json::json!([18, 21]));
    // draft-mglt-ipsecme-diet-esp-07: 61 bytes of a UDP session VPN with 3 padding bytes, 66 of a TCP one.
    let single = "ts_ip_src: 2001:db8:a::1, ts_ip_dst: 2001:db8:b::1, ts_port_src: 5683, ts_port_dst: 5683, esp_spi_lsb: 0, esp_sn_lsb: 0, esp_align: 8";
    let udp = show(&format!("dialect: ehc, {tunnel}, {single}, ts_proto: UDP"));
    assert_eq!(udp["packets"][0]["saved_bytes"][1], 61);
    assert_eq!(udp["packets"][0]["residue_bits"], 0);
    let tcp = show(&format!(
        "dialect: ehc, {tunnel}, {single}, ts_proto: TCP, tcp_lsb: 2, tcp_options: False, tcp_urgent: False"
    ));
    assert_eq!(tcp["packets"][0]["saved_bytes"][1], 66);
    let traditional =
        show(&format!("dialect: ehc, {tunnel}, ts_ip_src: 2001:db8:a::1, esp_spi_lsb: 2, esp_sn_lsb: 2, esp_align: 8"));
    assert_eq!(traditional["packets"][0]["saved_bytes"][1], 32);
}

fn checked(folder: &tempfile::TempDir, context: &str) -> Vec<String> {
    let path = written(folder, "rules.yaml", &format!("contexts:\n  - sa: s\n    {context}"));
    let text = good(&rules(&["check", path.to_str().expect("UTF-8")]));
    text.lines().filter(|line| line.starts_with("  ")).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn lost_fields_of_a_context_are_listed() {
    let folder = tempfile::tempdir().unwrap();
    let sent = ["VER", "TC", "FL", "LEN", "NXT", "HOP_LMT", "SRC", "DST"]
        .map(|name| format!("        - {{ FID: IPV6.{name}, MO: ignore, CDA: value-sent }}\n"));
    let custom = format!(
        "dialect: custom
    ipsec_mode: Tunnel
    direction: Up
    rules:
      iipc:
{}        - {{ FID: UDP.SRC_PORT, TV: 9, MO: ignore, CDA: not-sent, DI: Up }}
        - {{ FID: UDP.SRC_PORT, TV: 7, MO: equal, CDA: not-sent, DI: Dw }}
        - {{ FID: UDP.DST_PORT, TV: 0, MO: MSB(12), CDA: not-sent, DI: Up }}
        - {{ FID: UDP.DST_PORT, TV: 0, MO: MSB(12), CDA: LSB, DI: Dw }}
        - {{ FID: UDP.LEN, MO: ignore, CDA: compute }}
        - {{ FID: UDP.CKSUM, MO: ignore, CDA: compute }}
      ctec:
        - {{ FID: ESP.PAD, MO: ignore, CDA: not-sent }}
        - {{ FID: ESP.PAD_LEN, MO: ignore, CDA: not-sent }}
        - {{ FID: ESP.NXT, TV: 41, MO: equal, CDA: not-sent }}
      eec:
        - {{ FID: ESP.SPI, TV: 9, MO: ignore, CDA: not-sent }}
        - {{ FID: ESP.SEQ, TV: 0, MO: ignore, CDA: not-sent }}
",
        sent.concat()
    )
    .replace("IPV6.TC, MO: ignore, CDA: value-sent", "IPV6.TC, TV: 0, MO: ignore, CDA: not-sent");
    let lines = checked(&folder, &custom);
    let lost = "restored as the target value, so the original values are lost: IPV6.TC, UDP.SRC_PORT, UDP.DST_PORT";
    assert!(lines.contains(&lost.to_owned()), "{lines:?}");
    assert!(lines.contains(&"computed over the restored packet: UDP.CKSUM".to_owned()), "{lines:?}");
    // The other direction loses no port. If no field is lost, nothing is printed.
    let lines = checked(&folder, &custom.replace("direction: Up", "direction: Dw"));
    assert!(
        lines.contains(&"restored as the target value, so the original values are lost: IPV6.TC".to_owned()),
        "{lines:?}"
    );
    let exact = custom
        .replace("direction: Up", "direction: Dw")
        .replace("IPV6.TC, TV: 0, MO: ignore", "IPV6.TC, TV: 0, MO: equal");
    let lines = checked(&folder, &exact);
    assert!(!lines.iter().any(|line| line.contains("target") || line.contains("computed")), "{lines:?}");

    // Two rules for the IP header, one for each version of the outer header.
    let ehc = checked(&folder, "dialect: ehc\n    ipsec_mode: Tunnel\n    ts_ip_version: IPv6-only");
    let byte = checked(&folder, "dialect: 6lo\n    ipsec_mode: Tunnel\n    SPI_SIZE: 0\n    SN_SIZE: 1");
    assert_eq!(
        byte.first().map(String::as_str),
        Some("the ESP header has 1 byte: 0 bits of the SPI, 8 of the sequence number")
    );
    let lower: Vec<&String> = ehc.iter().filter(|line| line.starts_with("restored from the outer header")).collect();
    assert_eq!(
        lower,
        ["restored from the outer header, so the original values are lost: IPV6.DSCP, IPV6.ECN, IPV6.FL, IPV6.HOP_LMT"]
    );
}

/// The format of a rule is recognized by its content.
#[test]
fn exported_rules_can_be_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let rows = "        - { FID: IPV6.VER, FL: 4, TV: 6, MO: equal, CDA: not-sent }
        - { FID: UDP.APP_PORT, FL: 16, TV: [5683, 5684], MO: match-mapping, CDA: mapping-sent }
";
    let contexts = format!("contexts:\n  - sa: s\n    dialect: custom\n    rules:\n      iipc:\n{rows}");
    let contexts = written(&folder, "rules.yaml", &contexts);
    let native = "RuleID: 0\nRuleIDLength: 8\nfields:\n".to_owned() + &rows.replace("        - ", "  - ");
    for to in ["openschc", "rfc9363", "yang"] {
        let exported = good(&rules(&["export", contexts.to_str().unwrap(), "--to", to]));
        let exported = written(&folder, "exported.json", &exported);
        assert_eq!(good(&rules(&["import", exported.to_str().unwrap()])), native, "{to}");
    }
    let esp = written(
        &folder,
        "esp.yaml",
        "RuleID: 1\nRuleIDLength: 3\nfields: [{ FID: ESP.SPI, MO: ignore, CDA: value-sent }]",
    );
    let refused = rules(&["export", esp.to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("ESP.SPI: OpenSCHC cannot express this field"));
    assert!(refused.stdout.is_empty());
}

/// `tests/python/rules.py`: compares random rules with microschc, and schemas with jsonschema.
#[test]
fn other_implementations_agree() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = root.join("tests/python/rules.py");
    let mut command = Command::new(common::python());
    command.arg(&script).arg(env!("CARGO_BIN_EXE_dietesp")).current_dir(root);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn shipped_schemas_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for of in ["rules", "keys"] {
        let shipped = std::fs::read_to_string(root.join(format!("schemas/{of}.json"))).unwrap();
        let current = good(&rules(&["schema", of]));
        assert_eq!(shipped, current, "write it again: dietesp rules schema {of} > schemas/{of}.json");
    }
}

/// The keys of the capture may have other names than the contexts, or no names.
#[test]
fn check_finds_the_sas_of_a_capture() {
    let [capture, rule_file, diet, esp] =
        ["samples/probe/original.pcap", "samples/probe/rules.yaml", "keys/probe.yaml", "samples/probe/esp_keys.txt"]
            .map(common::file);
    let check = |options: &[&str]| {
        let output = rules(&[&["check", &rule_file, "--capture", &capture], options].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let counts: Vec<String> =
            stdout.lines().filter(|line| line.ends_with("packets match")).map(str::to_owned).collect();
        (output.status.code(), counts, stderr)
    };
    // As in compress, there are keys of the output and of the input. The SPI pairs them.
    let counts: Vec<String> = [20, 20, 50, 30]
        .iter()
        .zip(1..)
        .flat_map(|(count, pair)| {
            ["up", "down"].map(|way| format!("probe-{pair}-{way}: {count} of {count} packets match"))
        })
        .collect();
    let both = check(&["--keys", &diet, "--esp-keys", &esp]);
    assert_eq!(both, (Some(0), counts.clone(), String::new()));
    assert_eq!(check(&["--keys", &diet, "--keys", &esp]), both);
    // Only the keys of the capture: without names, the tunnel addresses select the contexts.
    let (status, counts, stderr) = check(&["--keys", &esp]);
    assert_eq!(status, Some(0));
    assert_eq!(counts, ["up", "down"].map(|way| format!("probe-1-{way}: 120 of 120 packets match")));
    assert!(stderr.contains("no key file has the SAs of the contexts") && stderr.contains("--esp-keys"), "{stderr}");
    // The keys of the Diet-ESP SAs do not decrypt the capture.
    let (status, counts, stderr) = check(&["--keys", &diet]);
    assert_eq!((status, counts[0].as_str()), (Some(1), "probe-1-up: 0 of 0 packets match"));
    assert!(stderr.contains("no packet was decrypted") && stderr.contains("--esp-keys"), "{stderr}");
    // Keys of other SAs do not decrypt it either. Nothing was checked, which is not a success.
    let (status, _, stderr) = check(&["--keys", &diet, "--esp-keys", &common::file("samples/gateway/esp_keys.yaml")]);
    assert_eq!(status, Some(1));
    assert!(stderr.contains("no packet was decrypted"), "{stderr}");
}
