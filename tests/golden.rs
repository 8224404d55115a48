//! Golden results: every command over every sample, every capture of `tests/data` and a few generated captures.
//!
//! `tests/golden.txt` has a line for each run: exit status, SHA-256 of standard output and of the output file, and
//! the arguments. Each run that reads a capture is repeated with 1, 2 and 5 threads, and the results must be
//! identical. Refactoring must not change the file. After an intended change of results, write the file again and
//! review the difference: `DIETESP_GOLDEN=write cargo test --test golden`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const THREADS: [&str; 3] = ["1", "2", "5"];
/// A generated rule file with the 6LoWPAN context of the 802.15.4 capture of `tests/data`.
const LOWPAN_RULES: &str = "rules/6lowpan.yaml";
/// Name of the output file in the lines of `golden.txt`.
const OUTPUT: &str = "OUT";

/// A capture with the files that decrypt it, as paths relative to the root of the project or to the folder of
/// generated files.
struct Case {
    capture: String,
    rules: Vec<String>,
    keys: Vec<String>,
}

impl Case {
    fn new(capture: &str, rules: &[&str], keys: &[&str]) -> Case {
        let owned = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        Case { capture: capture.to_owned(), rules: owned(rules), keys: owned(keys) }
    }

    /// `-r` and `-k` with their files.
    fn options(&self) -> Vec<&str> {
        let rules = self.rules.iter().flat_map(|path| ["-r", path]);
        rules.chain(self.keys.iter().flat_map(|path| ["-k", path])).collect()
    }
}

/// Runs commands and collects their lines.
struct Golden {
    generated: tempfile::TempDir,
    lines: BTreeMap<String, String>,
}

impl Golden {
    /// The file that a path of a [`Case`] means. Commands run in the root of the project, because some print paths,
    /// and the location of the checkout must not change the results.
    fn resolve(&self, path: &str) -> Option<PathBuf> {
        let places = [Path::new(ROOT), self.generated.path()];
        let place = places.iter().find(|place| place.join(path).exists())?;
        Some(if *place == Path::new(ROOT) { PathBuf::from(path) } else { place.join(path) })
    }

    /// Runs a command once. Returns the exit status and the hashes of its outputs. `OUT.ext` among `args` is the
    /// output file.
    fn run_once(&self, args: &[&str]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let output_name = args.iter().find(|arg| arg.starts_with(OUTPUT));
        let output = output_name.map(|name| folder.path().join(name));
        let mut command = Command::new(env!("CARGO_BIN_EXE_dietesp"));
        command.current_dir(ROOT);
        for arg in args {
            match (&output, self.resolve(arg)) {
                (Some(output), _) if arg.starts_with(OUTPUT) => command.arg(output),
                (_, Some(path)) if arg.contains('/') => command.arg(path),
                _ => command.arg(arg),
            };
        }
        let run = command.output().unwrap();
        let written = match output.map(std::fs::read) {
            None => String::new(),
            Some(Ok(bytes)) => format!(" {}", hash(&bytes)),
            Some(Err(_)) => " no-output".to_owned(),
        };
        format!("{} {}{written}", run.status.code().unwrap(), hash(&run.stdout))
    }

    /// Runs a command without the option `--threads`.
    fn run(&mut self, args: &[&str]) {
        let result = self.run_once(args);
        self.lines.insert(args.join(" "), result);
    }

    /// Runs a command that reads a capture.
    fn run_threads(&mut self, args: &[&str]) {
        let results = THREADS.map(|threads| self.run_once(&[args, &["--threads", threads]].concat()));
        assert!(results.iter().all(|result| *result == results[0]), "threads change the result: {args:?} {results:?}");
        self.lines.insert(args.join(" "), results[0].clone());
    }

    /// Runs all commands on a capture.
    fn read_capture(&mut self, case: &Case) {
        let options = case.options();
        let with = |command: &[&str], more: &[&str]| -> Vec<String> {
            let capture = [case.capture.as_str()];
            [command, &capture, &options, more].concat().into_iter().map(str::to_owned).collect()
        };
        let runs = [
            with(&["decode"], &["--format", "jsonl"]),
            with(&["decode"], &[]),
            with(&["decode"], &["--format", "fields", "-e", "frame", "-e", "esp.sequence", "-e", "inner.dst_port"]),
            with(&["convert"], &["-o", "OUT.pcapng", "--seed", "1"]),
            with(&["convert"], &["-o", "OUT.pcap", "--seed", "1"]),
            with(&["convert"], &["-o", "OUT.pcapng", "--seed", "1", "--reseal", "keep"]),
            with(&["convert"], &["-o", "OUT.pcapng", "--to", "plain"]),
            with(&["convert"], &["-o", "OUT.pcap", "--to", "plain"]),
        ];
        for args in &runs {
            self.run_threads(&args.iter().map(String::as_str).collect::<Vec<_>>());
        }
        self.run(&[&["sa", &case.capture], &options[..]].concat());
    }

    /// Runs commands on key and rule files.
    fn read_files(&mut self, case: &Case) {
        let [rules, keys] = [&case.rules, &case.keys].map(|paths| paths.iter().map(String::as_str).collect::<Vec<_>>());
        self.run(&[&["keys", "show"], &keys[..]].concat());
        if !rules.is_empty() {
            self.run(&[&["rules", "show"], &rules[..]].concat());
            self.run(&[&["rules", "show"], &rules[..], &["--format", "json"]].concat());
            self.run(&[&["rules", "check"], &rules[..]].concat());
        }
    }
}

/// The first 16 hex digits of a SHA-256: enough to notice a change.
fn hash(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..8])
}

/// The files below the root in a folder whose names have this ending, sorted by name, as paths relative to the
/// root.
fn files(folder: &str, ends: &[&str]) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut paths: Vec<String> = names
        .filter(|name| ends.iter().any(|end| name.ends_with(end)))
        .map(|name| format!("{folder}/{name}"))
        .collect();
    paths.sort();
    paths
}

/// The captures of samples and `tests/data`, with the files that decrypt them.
fn cases() -> Vec<Case> {
    let mut cases =
        vec![Case::new("samples/radio/radio.pcap", &["samples/radio/rules.yaml"], &["samples/radio/keys.yaml"])];
    for sample in ["probe", "tcp", "gateway", "ipv4", "transport"] {
        let (folder, keys) = (format!("samples/{sample}"), format!("keys/{sample}.yaml"));
        cases.push(Case::new(&format!("{folder}/diet-esp.pcapng"), &[&format!("{folder}/rules.yaml")], &[&keys]));
        cases.push(Case::new(&format!("{folder}/original.pcap"), &[], &[&esp_keys(sample)]));
    }
    for capture in files("tests/data/captures", &[".pcap", ".pcapng"]) {
        let keys = if capture.contains("gcm16") { "strongswan_gcm16_v4" } else { "strongswan_ccm8_v6" };
        let rules: &[&str] = if capture.contains("6lowpan_dlt") { &[LOWPAN_RULES] } else { &[] };
        cases.push(Case::new(&capture, rules, &[&format!("tests/data/captures/{keys}.esp_sa")]));
    }
    let folders = std::fs::read_dir(Path::new(ROOT).join("tests/data/diet-cases/decode")).unwrap();
    for folder in folders {
        let name = folder.unwrap().file_name().into_string().unwrap();
        let folder = format!("tests/data/diet-cases/decode/{name}");
        let capture = files(&folder, &["capture.pcap", "capture.pcapng"]).remove(0);
        cases.push(Case::new(&capture, &[&format!("{folder}/rules.yaml")], &[&format!("{folder}/keys.yaml")]));
    }
    cases
}

/// The keys that decrypt `original.pcap` of a sample.
fn esp_keys(sample: &str) -> String {
    files(&format!("samples/{sample}"), &["esp_keys.yaml", "esp_keys.txt"]).remove(0)
}

/// Standard ESP of three ciphers, and its Diet-ESP form from `compress`: thousands of packets, so that there are
/// many windows.
fn generate(golden: &mut Golden) -> Vec<Case> {
    let script = Path::new(ROOT).join("benches/gen_esp.py");
    let mut cases = vec![];
    for (cipher, packets, sas) in [("gcm16", "4000", "1"), ("ccm8", "4000", "300"), ("cbc", "2000", "7")] {
        let folder = golden.generated.path().join(cipher);
        std::fs::create_dir(&folder).unwrap();
        let args = ["--cipher", cipher, "--packets", packets, "--sas", sas, "--burst", "3"];
        let status = Command::new(common::python()).arg(&script).args(args).arg(&folder).status().unwrap();
        assert!(status.success());
        let path = |name: &str| format!("{cipher}/{name}");
        let (esp, keys, rules) = (path("esp.pcap"), path("esp_keys.yaml"), path("rules.yaml"));
        let (diet, diet_keys) = (path("diet.pcapng"), path("diet_keys.yaml"));
        let compress = |output| {
            ["compress", &esp, "-o", output, "--esp-keys", &keys, "-k", &diet_keys, "-r", &rules, "--seed", "1", "-q"]
        };
        golden.run_threads(&compress("OUT.pcapng"));
        let made = golden.generated.path().join(&diet);
        let args = compress("diet").map(|arg| match (arg, golden.resolve(arg)) {
            ("diet", _) => made.clone(),
            (_, Some(path)) if arg.contains('/') => path,
            _ => PathBuf::from(arg),
        });
        assert!(Command::new(env!("CARGO_BIN_EXE_dietesp")).args(args).status().unwrap().success());
        cases.push(Case::new(&esp, &[], &[&keys]));
        cases.push(Case::new(&diet, &[&rules], &[&diet_keys]));
    }
    cases
}

#[test]
fn results_are_those_of_golden_txt() {
    let mut golden = Golden { generated: tempfile::tempdir().unwrap(), lines: BTreeMap::new() };
    let lowpan_rules = golden.generated.path().join(LOWPAN_RULES);
    std::fs::create_dir(lowpan_rules.parent().unwrap()).unwrap();
    std::fs::write(&lowpan_rules, "lowpan_contexts: { 0: 'fd01::/64' }\n").unwrap();
    for case in cases() {
        golden.read_capture(&case);
        golden.read_files(&case);
    }
    for sample in ["probe", "tcp", "gateway", "ipv4", "transport"] {
        let [capture, rules] = ["original.pcap", "rules.yaml"].map(|name| format!("samples/{sample}/{name}"));
        let (keys, esp_keys) = (format!("keys/{sample}.yaml"), esp_keys(sample));
        let files = ["-r", &rules, "-k", &keys, "--esp-keys", &esp_keys, "--seed", "1"];
        for output in ["OUT.pcapng", "OUT.pcap"] {
            golden.run_threads(&[&["compress", &capture, "-o", output], &files[..]].concat());
        }
    }
    for case in generate(&mut golden) {
        golden.read_capture(&case);
    }
    compare(&golden.lines);
}

/// Compares with `golden.txt`, or writes it if `DIETESP_GOLDEN=write`.
fn compare(lines: &BTreeMap<String, String>) {
    let path = Path::new(ROOT).join("tests/golden.txt");
    let text: String = lines.iter().map(|(args, result)| format!("{result} {args}\n")).collect();
    if std::env::var_os("DIETESP_GOLDEN").is_some_and(|value| value == OsStr::new("write")) {
        std::fs::write(&path, &text).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    let [expected, actual] = [&expected, &text].map(|text| text.lines().collect::<Vec<_>>());
    let missing = expected.iter().filter(|line| !actual.contains(line)).map(|line| format!("- {line}\n"));
    let new = actual.iter().filter(|line| !expected.contains(line)).map(|line| format!("+ {line}\n"));
    let difference: String = missing.chain(new).collect();
    assert!(difference.is_empty(), "other results than in tests/golden.txt:\n{difference}");
}
