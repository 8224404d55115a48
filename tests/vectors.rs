//! The published kit of test vectors: it is up to date and complete, the program decodes it, and damage is
//! detected.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{decode, dietesp_ends, file, pcap};
use dietesp::internals::cipher::{INTEGS, Integ, SUITES};
use dietesp::internals::files::{SchemaOf, schema};
use dietesp::internals::vectors::check;
use serde_json::{Value, json};

fn published() -> Value {
    serde_json::from_slice(&std::fs::read(file("samples/vectors/kit.json")).unwrap()).unwrap()
}

fn list<'k>(kit: &'k Value, name: &str) -> &'k [Value] {
    kit[name].as_array().unwrap()
}

fn make(folder: &Path, rules: &str, keys: &str, packets: &str, more: &[&str]) -> String {
    let out = folder.join("kit.json");
    let args = ["vectors", "make", packets, "-r", rules, "-k", keys, "-o", out.to_str().unwrap(), "--seed", "1"];
    dietesp_ends(0, args.into_iter().chain(more.iter().copied()));
    std::fs::read_to_string(out).unwrap()
}

#[test]
fn the_published_kit_is_up_to_date_and_correct() {
    let folder = tempfile::tempdir().unwrap();
    let [rules, keys, packets, kit] =
        ["rules.yaml", "keys.yaml", "packets.pcap", "kit.json"].map(|name| file(&format!("samples/vectors/{name}")));
    let made = make(folder.path(), &rules, &keys, &packets, &[]);
    assert!(made == std::fs::read_to_string(&kit).unwrap(), "samples/vectors/README.md says how to make the kit again");
    assert!(made.len() < 2_000_000);
    let (stdout, stderr) = dietesp_ends(0, ["vectors", "check", &kit]);
    assert_eq!(stdout, "");
    assert!(stderr.ends_with("all values are correct\n"), "{stderr}");
}

/// Every value of every attribute, of wire format 2.1, 2.5, 3, 4 and 5.
#[test]
fn the_published_kit_has_every_value_of_every_attribute() {
    let kit = published();
    let mut seen: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    for context in list(&kit, "contexts") {
        for (name, value) in context.as_object().unwrap() {
            let own = seen.entry((shown(&context["dialect"]), name.clone())).or_default();
            match value {
                Value::Array(items) => own.extend(items.iter().map(shown)),
                value => drop(own.insert(shown(value))),
            }
        }
    }
    let numbers = |most: u32| (0..=most).map(|number| number.to_string()).collect::<Vec<_>>().join(" | ");
    let (bits, bytes) = (numbers(32), numbers(4));
    let all = "ietf ehc 6lo custom";
    let wanted = [
        (all, "ipsec_mode", "Tunnel | Transport"),
        (all, "ts_proto", "6 | 17"),
        ("ietf ehc 6lo", "ts_ip_version", "IPv4-only | IPv6-only"),
        ("ietf", "ts_proto", "ANY | 6 | 17 | 132 | 136 | 1 | 58"),
        ("ietf", "iipc_profile", "iipc_diet-esp | iipc_not_compressed"),
        ("ietf", "dscp_cda", "not_compressed | lower | sa"),
        ("ietf", "dscp_list", "46 | 0"),
        ("ietf", "ecn_cda", "not_compressed | lower"),
        ("ietf", "flow_label_cda", "not_compressed | lower | generated | zero"),
        ("ietf custom", "alignment", "8 bit | 16 bit | 32 bit | 64 bit"),
        ("ietf", "esp_trailer", "Mandatory | Optional"),
        ("ietf", "esp_spi_lsb", &bits),
        ("ietf", "esp_sn_lsb", &bits),
        ("ietf", "esp_sn", "1000 | 4294967040"),
        ("ietf", "rule_id", "elided | one_byte"),
        ("ietf", "rule_id_value", "0 | 255"),
        ("ietf", "any_transport", "by_next_header | none"),
        ("ietf", "tcp_header", "header_order | ports_only | none"),
        ("ietf", "sctp_checksum", "crc32c | sent"),
        ("ietf", "udplite_coverage", "length | sent"),
        ("ietf", "hop_limit_cda", "lower | not_compressed"),
        ("ietf", "payload_length_cda", "lower | not_compressed"),
        ("ietf", "ipv4_flags_frag", "sent | df | zero"),
        ("ietf", "trailer_counts_elided_next_header", "no | yes"),
        ("ietf", "flow_label_generated", "hash | zero"),
        ("ietf", "protocol", "50 | 253"),
        ("ietf", "revision", "ietf-06 | ietf-07 | ietf-08 | ietf-09 | ietf-10"),
        ("ehc", "ts_proto", "ANY | 6 | 17 | 136"),
        ("ehc", "esp_spi_lsb", &bytes),
        ("ehc", "esp_sn_lsb", &bytes),
        ("ehc", "esp_sn_gen", "incremental | time"),
        ("ehc", "esp_sn_period", "60 | 0.5"),
        ("ehc", "esp_align", "8 bit | 16 bit | 24 bit | 32 bit"),
        ("ehc", "tcp_lsb", &bytes),
        ("ehc", "tcp_sn", "0 | 439041279"),
        ("ehc", "tcp_ack", "0 | 4294967280"),
        ("ehc", "tcp_options", "true | false"),
        ("ehc", "tcp_urgent", "true | false"),
        ("ehc", "udplite_coverage", "uncompressed | Length | 8 | 65535"),
        ("6lo", "SPI_SIZE", &bytes),
        ("6lo", "SN_SIZE", &bytes),
        ("6lo", "NH", "present | removed"),
        ("6lo", "PAD", "present | removed"),
        ("6lo", "ALIGN", "8 bit | 16 bit | 32 bit | 64 bit"),
        ("custom", "direction", "Up | Dw | Bi"),
    ];
    for (dialects, name, values) in wanted {
        for dialect in dialects.split(' ') {
            let own = seen.get(&(dialect.into(), name.into())).unwrap_or_else(|| panic!("no {dialect} {name}"));
            for value in values.split(" | ") {
                assert!(own.contains(value), "no {dialect} context with {name}: {value}");
            }
        }
    }
    // All attributes and values that the reader accepts occur. Alternative spellings are written in one way.
    let schema: Value = serde_json::from_str(&schema(SchemaOf::Rules)).unwrap();
    let aliases = ["spi", "src", "dst", "esp_spi_sn", "ts_ip_src", "ts_ip_dst", "ts_port_src", "ts_port_dst"];
    for context in list(&schema["$defs"]["context"], "anyOf") {
        let dialect = context["properties"]["dialect"]["examples"][0].as_str().unwrap();
        for (name, values) in context["properties"].as_object().unwrap() {
            if aliases.contains(&name.as_str()) || (dialect == "custom" && name == "esp_sn") {
                continue;
            }
            let own = seen.get(&(dialect.into(), name.clone())).unwrap_or_else(|| panic!("no {dialect} {name}"));
            if own.iter().any(|value| value == "true" || value == "false")
                || name == "trailer_counts_elided_next_header"
            {
                continue;
            }
            for word in values["examples"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let other_spelling = word.len() == 2 && name == "revision"
                    || ["Bidirectional", "Uplink", "Down"].contains(&word) && name == "direction";
                assert!(other_spelling || own.contains(word), "no {dialect} context with {name}: {word}");
            }
        }
    }
}

#[test]
fn the_published_kit_has_every_cipher_and_both_ip_versions_inside_and_outside() {
    let kit = published();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ciphers: BTreeSet<(String, usize, String)> = list(&kit, "sas")
        .iter()
        .map(|sa| (text(&sa["encr"]), text(&sa["key"]).len() / 2, text(&sa["integ"])))
        .collect();
    for suite in SUITES {
        let key_lens = if suite.key_lens.is_empty() { &[0] } else { suite.key_lens };
        for key_len in key_lens {
            assert!(
                ciphers.iter().any(|(encr, len, _)| (encr.as_str(), len) == (suite.name, key_len)),
                "no {} with a key of {key_len} bytes",
                suite.name
            );
        }
        // HMAC-SHA2-256-96 has no IANA number. It is supported for captures of old kernels.
        let of_iana = |integ: &&Integ| integ.hash.is_some() && integ.name != "AUTH_HMAC_SHA2_256_96";
        for integ in INTEGS.iter().filter(of_iana).filter(|_| !suite.is_aead()) {
            assert!(
                ciphers.iter().any(|(encr, _, own)| (encr.as_str(), own.as_str()) == (suite.name, integ.name)),
                "no {} with {}",
                suite.name,
                integ.name
            );
        }
    }
    assert!(ciphers.iter().any(|(.., integ)| integ == "NONE"));

    let contexts: BTreeMap<String, &Value> =
        list(&kit, "contexts").iter().map(|context| (text(&context["sa"]), context)).collect();
    let mut forms = BTreeSet::new();
    for packet in list(&kit, "packets") {
        let context = contexts[packet["sa"].as_str().unwrap()];
        let version = |name: &str| text(&packet[name]).chars().next().unwrap();
        forms.insert((
            text(&context["dialect"]),
            text(&context["ipsec_mode"]),
            version("outer_header"),
            version("inner_packet"),
            text(&packet["sn_high"]).is_empty(),
        ));
    }
    for dialect in ["ietf", "ehc", "6lo"] {
        let has = |mode: &str, outer, inner| {
            forms.iter().any(|form| (form.0.as_str(), form.1.as_str(), form.2, form.3) == (dialect, mode, outer, inner))
        };
        for outer in ['4', '6'] {
            assert!(has("Tunnel", outer, '4') && has("Tunnel", outer, '6'), "{dialect} over IPv{outer}");
            assert!(has("Transport", outer, outer), "{dialect} transport mode, IPv{outer}");
        }
        assert!(forms.iter().any(|form| form.0 == dialect && !form.4), "{dialect} with ESN");
    }
    assert!(list(&kit, "packets").iter().any(|packet| packet["lost"] != ""));
    let kinds: BTreeSet<String> = list(&kit, "failures").iter().map(|failure| text(&failure["kind"])).collect();
    assert_eq!(kinds, BTreeSet::from(["clear-text", "icv", "no-match", "rule-id", "spi"].map(str::to_owned)));
}

/// The command finds SA and sequence number without help, and reports for failing packets what the kit contains.
#[test]
fn the_published_kit_decodes_as_specified() {
    let kit = published();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let both = json!({"sas": kit["sas"], "contexts": kit["contexts"]});
    std::fs::write(path("both.yaml"), both.to_string()).unwrap();
    let bytes = |line: &Value| {
        hex::decode(format!("{}{}", line["outer_header"].as_str().unwrap(), line["wire"].as_str().unwrap())).unwrap()
    };
    let failures: Vec<&Value> =
        list(&kit, "failures").iter().filter(|failure| failure["wire"] != Value::Null).collect();
    let vectors: Vec<&Value> = list(&kit, "packets").iter().chain(failures).collect();
    let frames: Vec<pcap::Frame> = vectors.iter().map(|line| (1_770_000_000_000_000_000, bytes(line))).collect();
    pcap::write(Path::new(&path("kit.pcap")), pcap::RAW, &frames);
    let (records, _) = decode([&path("kit.pcap"), "-k", &path("both.yaml"), "-r", &path("both.yaml")]);
    assert_eq!(records.len(), vectors.len());
    for (record, line) in records.iter().zip(vectors) {
        if line["packet"].is_u64() {
            let spi = format!("0x{}", line["spi"].as_str().unwrap());
            let sn = format!("{}{}", line["sn_high"].as_str().unwrap(), line["sn"].as_str().unwrap());
            let sn = u64::from_str_radix(&sn, 16).unwrap();
            assert_eq!(
                (&record["status"], &record["sa"], &record["esp"]["spi"], &record["esp"]["sequence"]),
                (&json!("ok"), &line["sa"], &json!(spi), &json!(sn)),
                "{line}"
            );
            assert_eq!(record["packet"], line["restored_packet"], "{line}");
            let restored = if line["restored"] == json!({}) { &Value::Null } else { &line["restored"] };
            assert!(record["restored"] == *restored || record["restored"] == line["restored"], "{record} {line}");
        } else if line["kind"] == "spi" || line["kind"] == "rule-id" {
            assert!(record["status"] == "no-sa" || record["status"] == "auth-failed", "{record} {line}");
        } else {
            assert_eq!(record["status"], line["status"], "{record} {line}");
            let tells = record["reason"].as_str().unwrap();
            assert!(line["kind"] == "icv" || line["reason"] == tells, "{tells} {line}");
        }
    }
}

#[test]
fn esp_packets_keep_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let [rules, keys, packets, esp] =
        ["samples/tcp/rules.yaml", "keys/tcp.yaml", "samples/tcp/original.pcap", "samples/tcp/esp_keys.yaml"].map(file);
    let text = make(folder.path(), &rules, &keys, &packets, &["--esp-keys", &esp]);
    let kit: Value = serde_json::from_str(&text).unwrap();
    let (records, _) = decode([&packets, "-k", &esp]);
    let mut numbers: Vec<(String, u64)> = records
        .iter()
        .map(|record| (record["sa"].as_str().unwrap().into(), record["esp"]["sequence"].as_u64().unwrap()))
        .collect();
    numbers.sort();
    let mut made: Vec<(String, u64)> = list(&kit, "packets")
        .iter()
        .map(|packet| {
            let sn = u64::from_str_radix(packet["sn"].as_str().unwrap(), 16).unwrap();
            (packet["sa"].as_str().unwrap().into(), sn)
        })
        .collect();
    made.sort();
    assert_eq!(made, numbers);
    assert!(check(Path::new("kit"), &text).unwrap().difference.is_none());
    // The kit does not contain the keys of the input.
    for line in std::fs::read_to_string(&esp).unwrap().lines() {
        if let Some(key) = line.trim().strip_prefix("key: ") {
            assert!(!text.contains(key));
        }
    }
}

#[test]
fn diet_esp_packets_keep_their_numbers_and_what_they_carry() {
    let folder = tempfile::tempdir().unwrap();
    for sample in ["tcp", "transport"] {
        let [rules, keys, packets] = [
            format!("samples/{sample}/rules.yaml"),
            format!("keys/{sample}.yaml"),
            format!("samples/{sample}/diet-esp.pcapng"),
        ]
        .map(|name| file(&name));
        let text = make(folder.path(), &rules, &keys, &packets, &["--esp-keys", &keys, "--esp-rules", &rules]);
        let kit: Value = serde_json::from_str(&text).unwrap();
        let (records, _) = decode([&packets, "-k", &keys, "-r", &rules]);
        let ok = records.iter().filter(|record| record["status"] == "ok");
        let mut expected: Vec<[String; 3]> = ok
            .map(|record| {
                let number = format!("{:08x}", record["esp"]["sequence"].as_u64().unwrap());
                [record["sa"].to_string(), json!(number).to_string(), record["packet"].to_string()]
            })
            .collect();
        let mut made: Vec<[String; 3]> = list(&kit, "packets")
            .iter()
            .map(|packet| ["sa", "sn", "inner_packet"].map(|name| packet[name].to_string()))
            .collect();
        expected.sort();
        made.sort();
        assert!(made.len() > 20 && made == expected, "{sample}");
        assert!(check(Path::new("kit"), &text).unwrap().difference.is_none());
    }
}

/// A kit of three SAs: an AEAD with ESN, AES-CBC with an HMAC, transport mode.
fn small_kit(folder: &Path) -> String {
    let [rules, keys, packets] = ["rules.yaml", "keys.yaml", "packets.pcap"].map(|name| {
        let text = std::fs::read(file(&format!("samples/vectors/{name}"))).unwrap();
        (folder.join(name).to_str().unwrap().to_owned(), text)
    });
    let kit = published();
    let with = |condition: &dyn Fn(&Value, &Value) -> bool| {
        let found = list(&kit, "sas").iter().zip(list(&kit, "contexts")).find(|(sa, context)| condition(sa, context));
        found.unwrap().0["name"].as_str().unwrap().to_owned()
    };
    let names = [
        with(&|sa, context| sa["esn"] == true && sa["integ"].is_null() && context["ipsec_mode"] == "Tunnel"),
        with(&|sa, context| sa["encr"] == "ENCR_AES_CBC" && sa["integ"] != "NONE" && context["ipsec_mode"] == "Tunnel"),
        with(&|sa, context| context["ipsec_mode"] == "Transport" && sa["encr"] != "ENCR_AES_CBC"),
    ];
    for (path, text) in [&rules, &keys] {
        let text = std::str::from_utf8(text).unwrap();
        let own =
            |line: &&str| !line.starts_with("  - ") || names.iter().any(|name| line.contains(&format!("\"{name}\"")));
        std::fs::write(path, text.lines().filter(own).map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
    std::fs::write(&packets.0, &packets.1).unwrap();
    make(folder, &rules.0, &keys.0, &packets.0, &[])
}

/// `"name": "value"` of every string in a kit: the name, and the position of the value.
fn strings(text: &str) -> Vec<(&str, std::ops::Range<usize>)> {
    let (mut found, mut name) = (vec![], "");
    for (index, part) in text.split('"').enumerate().filter(|(index, _)| index % 2 == 1) {
        let at = text.split('"').take(index).map(|part| part.len() + 1).sum::<usize>();
        match text.as_bytes()[at + part.len() + 1] {
            b':' => name = part,
            _ => found.push((name, at..at + part.len())),
        }
    }
    found
}

#[test]
fn damage_of_every_hex_value_is_detected() {
    const OUTPUTS: [&str; 13] = [
        "spi",
        "payload_data",
        "clear_rule_id",
        "trailer",
        "clear_text",
        "nonce",
        "aad",
        "ciphertext",
        "icv",
        "eec_residue",
        "wire",
        "restored_packet",
        "lost",
    ];
    let folder = tempfile::tempdir().unwrap();
    let text = small_kit(folder.path());
    assert_eq!(check(Path::new("kit"), &text).unwrap().difference, None);
    let packets = text.find("\"packets\"").unwrap()..text.find("\"failures\"").unwrap();
    let (mut tried, mut named) = (0, BTreeSet::new());
    for (name, place) in strings(&text) {
        let value = &text[place.clone()];
        if value.is_empty() || !value.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            continue;
        }
        // One digit of each value: the first, the last, or one in between.
        {
            let at = [place.start, place.end - 1, place.start + value.len() / 2][tried % 3];
            let mut damaged = text.clone().into_bytes();
            damaged[at] = if damaged[at] == b'0' { b'1' } else { b'0' };
            let damaged = String::from_utf8(damaged).unwrap();
            tried += 1;
            let Ok(checked) = check(Path::new("kit"), &damaged) else { continue };
            let difference = checked.difference.unwrap_or_else(|| panic!("{name} {value} not noticed"));
            if packets.contains(&at) && OUTPUTS.contains(&name) {
                let number = text[packets.start..at].matches("{\"packet\":").count();
                assert_eq!((difference.item.as_str(), difference.name.as_str()), (&*format!("packet {number}"), name));
                assert_eq!(difference.expected, value);
                named.insert(name);
            }
        }
    }
    assert!(tried > 200, "{tried}");
    assert!(named.len() >= 11, "{named:?}");
}

#[test]
fn exit_statuses() {
    let folder = tempfile::tempdir().unwrap();
    let text = small_kit(folder.path());
    let path = folder.path().join("damaged.json").to_str().unwrap().to_owned();
    let ends = |status, text: &str| {
        std::fs::write(&path, text).unwrap();
        dietesp_ends(status, ["vectors", "check", &path])
    };
    ends(0, &text);
    // Only the hash of the whole kit depends on this value.
    let at = text.find("\"revision\":\"ietf-").unwrap();
    let revision = &text[at..at + "\"revision\":\"ietf-08".len()];
    let other = if revision.ends_with('8') { "\"revision\":\"ietf-09" } else { "\"revision\":\"ietf-08" };
    let (stdout, _) = ends(1, &text.replacen(revision, other, 1));
    assert!(stdout.contains("the kit as a whole: sha256: expected "), "{stdout}");
    let (stdout, _) = ends(1, &text.replacen("\"residue_bits\":", "\"residue_bits\":1", 1));
    assert!(stdout.contains("packet 1: residue_bits: expected "), "{stdout}");
    for (from, to) in
        [("TEST KEYS", "Keys"), ("{", "["), ("\"iv\":", "\"vi\":"), ("\"wire\":\"", "\"wire\":\"x\",\"x\":\"")]
    {
        let status = if from == "\"wire\":\"" { 1 } else { 2 };
        ends(status, &text.replacen(from, to, 1));
    }
    ends(2, "");
    ends(2, text.get(..text.len() / 2).unwrap());

    // No packet matches, so nothing is written.
    let out = folder.path().join("none.json");
    let args = [
        &file("samples/tcp/original.pcap"),
        "-r",
        &file("samples/tcp/rules.yaml"),
        "-k",
        &file("keys/tcp.yaml"),
        "-o",
        out.to_str().unwrap(),
    ];
    let (_, stderr) = dietesp_ends(2, ["vectors", "make"].into_iter().chain(args));
    assert!(stderr.contains("no packet matches any context"), "{stderr}");
    assert!(!out.exists());
}

/// `rules apply --sa` on the inner packets of every SA of the kit: the residue is the kit's, and so are the fields that do
/// not match.
#[test]
fn the_context_of_each_sa_applies_as_the_kit_says() {
    let kit = published();
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    let contexts: Vec<&Value> = list(&kit, "contexts").iter().filter(|context| !context.is_null()).collect();
    std::fs::write(&rules, json!({"contexts": contexts}).to_string()).unwrap();
    let apply = |sa: &str, lines: &[&Value]| -> Vec<Value> {
        let packets: Vec<&str> = lines.iter().map(|line| line["inner_packet"].as_str().unwrap()).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(["rules", "apply", rules.to_str().unwrap(), "--sa", sa, "--packet", "-", "--format", "json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(packets.join("\n").as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{sa}");
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let (mut matching, mut mismatching) = (0, 0);
    for context in contexts {
        let sa = context["sa"].as_str().unwrap();
        let of_sa = |name: &str| list(&kit, name).iter().filter(|line| line["sa"] == sa).collect::<Vec<_>>();
        let packets = of_sa("packets");
        let answers = apply(sa, &packets);
        assert_eq!(answers.len(), packets.len(), "{sa}");
        for (answer, packet) in answers.iter().zip(packets) {
            let payload_data = hex::decode(packet["payload_data"].as_str().unwrap()).unwrap();
            let count = packet["residue_bits"].as_u64().unwrap() as usize;
            let rule_id = if context["rule_id"] == "one_byte" && context["iipc_profile"] != "iipc_not_compressed" {
                8
            } else {
                0
            };
            let bits = payload_data.iter().map(|byte| format!("{byte:08b}")).collect::<String>();
            assert_eq!((&answer["match"], &answer["residue_len"]), (&json!(true), &json!(count)), "{answer} {packet}");
            assert_eq!(answer["residue_bits"], bits[rule_id..rule_id + count], "{packet}");
            let payload = hex::encode(&payload_data[(rule_id + count).div_ceil(8)..]);
            assert_eq!(answer["payload"], payload, "{packet}");
            let sent: String =
                answer["fields"].as_array().unwrap().iter().map(|field| field["residue"].as_str().unwrap()).collect();
            assert_eq!(answer["residue_bits"], sent);
            matching += 1;
        }
        let failures: Vec<&Value> =
            of_sa("failures").into_iter().filter(|failure| failure["kind"] == "no-match").collect();
        for (answer, failure) in apply(sa, &failures).iter().zip(failures) {
            assert_eq!(answer["match"], false, "{failure}");
            assert_eq!(answer["field"], failure["field"], "{answer} {failure}");
            mismatching += 1;
        }
    }
    assert!(matching > 290 && mismatching > 50, "{matching} {mismatching}");
}
