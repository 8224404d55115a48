//! Runs of `dietesp show`, for its tests.

use std::path::Path;

use serde_json::{Value, json};

use super::{dietesp, file, pcap};

/// A capture and the options that open it.
pub struct Case {
    pub capture: String,
    pub options: Vec<String>,
}

impl Case {
    pub fn new(capture: &str, rules: &[&str], keys: &[&str]) -> Case {
        let option = |name: &str, paths: &[&str]| -> Vec<String> {
            paths.iter().flat_map(|path| [name.to_owned(), file(path)]).collect()
        };
        Case { capture: file(capture), options: [option("-r", rules), option("-k", keys)].concat() }
    }

    /// Runs `show` for these frames.
    pub fn show(&self, frames: &str, format: &str) -> String {
        let args = ["show", &self.capture, "--frame", frames, "--format", format].map(str::to_owned);
        let output = dietesp(args.into_iter().chain(self.options.iter().cloned()));
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn lines(&self) -> Vec<Value> {
        self.show("1-", "json").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Every capture of the samples and of `tests/data` that has keys.
pub fn cases() -> Vec<Case> {
    let mut cases =
        vec![Case::new("samples/radio/radio.pcap", &["samples/radio/rules.yaml"], &["samples/radio/keys.yaml"])];
    for sample in ["probe", "tcp", "gateway", "ipv4", "transport"] {
        let (folder, keys) = (format!("samples/{sample}"), format!("keys/{sample}.yaml"));
        cases.push(Case::new(&format!("{folder}/diet-esp.pcapng"), &[&format!("{folder}/rules.yaml")], &[&keys]));
    }
    let esp_sa = "tests/data/captures/strongswan_ccm8_v6.esp_sa";
    for name in ["strongswan_ccm8_v6.pcapng", "derived_strongswan_ipv6frag.pcap", "derived_strongswan_qinq.pcap"] {
        cases.push(Case::new(&format!("tests/data/captures/{name}"), &[], &[esp_sa]));
    }
    cases.push(Case::new("tests/data/captures/derived_esp_over_6lowpan_dlt195.pcap", &[], &[esp_sa]));
    for (folder, capture, keys) in [
        ("03-hmac-key-length", "hmac-key16.pcap", "hmac-key16.keys"),
        ("05-fragments-in-tunnel", "frag-in-gre.pcap", "keys.yaml"),
        ("06-timeless-frames", "spb.pcapng", "keys.yaml"),
        ("07-encapsulations", "vxlan.pcap", "keys.yaml"),
        ("07-encapsulations", "mpls1.pcap", "keys.yaml"),
        ("07-encapsulations", "lt-80211-amsdu.pcap", "keys.yaml"),
        ("07-encapsulations", "udplite4500.pcap", "keys.yaml"),
        ("11-nested-esp", "nested.pcap", "nested.keys"),
        ("12-tcpdump-none", "null-tcpdump-none.pcap", "null-tcpdump-none.keys"),
        ("14-ok-of-garbage", "wrongkey-nocheck.pcap", "wrongkey-nocheck.keys"),
        ("18-hints", "esn-but-key-says-no.pcap", "esn-but-key-says-no.keys"),
        ("18-hints", "nat-src.pcap", "nat-src.keys"),
        ("19-tfc-saved", "tfc-v4.pcap", "tfc-v4.keys"),
    ] {
        let [capture, keys] = [capture, keys].map(|name| format!("tests/data/field/{folder}/{name}"));
        cases.push(Case::new(&capture, &[], &[&keys]));
    }
    let gcm = "tests/data/captures/strongswan_gcm16_v4";
    cases.push(Case::new(&format!("{gcm}.pcapng"), &[], &[&format!("{gcm}.esp_sa")]));
    for folder in std::fs::read_dir(file("tests/data/diet-cases/decode")).unwrap() {
        let folder = folder.unwrap().path();
        let names = ["capture.pcap", "capture.pcapng"].map(|name| folder.join(name));
        let capture = names.into_iter().find(|path| path.exists()).unwrap();
        let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let options = ["-r", &path("rules.yaml"), "-k", &path("keys.yaml")].map(str::to_owned).to_vec();
        cases.push(Case { capture: capture.to_str().unwrap().to_owned(), options });
    }
    cases
}

pub fn has(line: &Value, name: &str) -> bool {
    line.get(name).is_some()
}

pub fn hex_of(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().unwrap()).unwrap()
}

pub fn kit() -> Value {
    serde_json::from_slice(&std::fs::read(file("samples/vectors/kit.json")).unwrap()).unwrap()
}

/// The packets of the kit, and its failures if they are wanted, as a capture.
pub fn kit_case(folder: &Path, kit: &Value, with_failures: bool) -> (Case, Vec<Value>) {
    let both = folder.join("both.yaml");
    std::fs::write(&both, json!({"sas": kit["sas"], "contexts": kit["contexts"]}).to_string()).unwrap();
    let failures = kit["failures"].as_array().unwrap().iter().filter(|failure| failure["wire"] != Value::Null);
    let packets = kit["packets"].as_array().unwrap().iter();
    let vectors: Vec<Value> =
        packets.chain(failures.take(if with_failures { usize::MAX } else { 0 })).cloned().collect();
    let bytes = |line: &Value| [hex_of(&line["outer_header"]), hex_of(&line["wire"])].concat();
    let frames: Vec<pcap::Frame> = vectors.iter().map(|line| (1_770_000_000_000_000_000, bytes(line))).collect();
    let capture = folder.join("kit.pcap");
    pcap::write(&capture, pcap::RAW, &frames);
    let [capture, both] = [capture, both].map(|path| path.to_str().unwrap().to_owned());
    (Case { capture, options: ["-k", &both, "-r", &both].map(str::to_owned).to_vec() }, vectors)
}
