//! Code shared by several test files: runs the command and other tools, and locates test files.

#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

pub mod pcap;
pub mod show;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The folder of captures, vectors and cases that the tests read.
pub fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// The shipped samples.
pub fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples")
}

/// Runs the command.
pub fn dietesp<I, S>(args: I) -> Output
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the command was built for this test")
}

/// The records of `decode --format jsonl` and the exit status.
pub fn decode<I, S>(args: I) -> (Vec<serde_json::Value>, i32)
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut all: Vec<std::ffi::OsString> = vec!["decode".into(), "--format".into(), "jsonl".into()];
    all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
    let output = dietesp(all);
    let records: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .expect("records are UTF-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is JSON"))
        .collect();
    let status = output.status.code().expect("not killed");
    assert!(status != 2, "refused: {}", String::from_utf8_lossy(&output.stderr));
    (records, status)
}

/// Records with this status.
pub fn count(records: &[serde_json::Value], status: &str) -> usize {
    records.iter().filter(|record| record["status"] == status).count()
}

/// Runs tshark and returns its standard output.
pub fn tshark<I, S>(config: Option<&Path>, args: I) -> String
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new("tshark");
    if let Some(config) = config {
        command.env("WIRESHARK_CONFIG_DIR", config);
    }
    let output = command.args(args).stdin(Stdio::null()).output().unwrap_or_else(|_| not_installed("tshark"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A Python with the packages of tests/requirements.txt: `DIETESP_PYTHON`, or `python3`.
pub fn python() -> String {
    let python = std::env::var("DIETESP_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let packages = "import scapy.layers.ipsec, cryptography, jsonschema, microschc, yaml";
    let found = Command::new(&python).args(["-c", packages]).output().is_ok_and(|output| output.status.success());
    if !found {
        not_installed("Python with the packages of tests/requirements.txt");
    }
    python
}

/// Fails the test, because a check that did not run must not pass.
pub fn not_installed(program: &str) -> ! {
    panic!("{program} is not installed; tests/run.sh installs what the tests need")
}

/// Runs the command, which must end with this status. Returns its standard output and standard error.
pub fn dietesp_ends<I, S>(status: i32, args: I) -> (String, String)
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let output = dietesp(args);
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    (stdout, stderr)
}

/// A file of the project, such as `samples/probe/rules.yaml`.
pub fn file(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).to_str().expect("the path of the project is UTF-8").to_owned()
}

/// The bytes that tshark decrypted of each frame: everything up to the ESP trailer and some of the trailer.
pub fn tshark_decrypted(config: &Path, capture: &Path) -> Vec<Vec<u8>> {
    let dump = tshark(Some(config), ["-n".as_ref(), "-x".as_ref(), "-r".as_ref(), capture]);
    let (mut packets, mut inside) = (vec![], false);
    for line in dump.lines() {
        if line.ends_with(" bytes):") {
            inside = line.starts_with("Decrypted Data");
            if inside {
                packets.push(vec![]);
            }
        } else if line.is_empty() {
            inside = false;
        } else if inside {
            let digits: String = line[6..line.len().min(54)].split_whitespace().collect();
            packets.last_mut().expect("pushed above").extend(hex::decode(digits).expect("a hex dump"));
        }
    }
    packets
}

/// A folder for `WIRESHARK_CONFIG_DIR`, with these `esp_sa` lines.
pub fn wireshark_config(esp_sa: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(esp_sa, folder.path().join("esp_sa")).unwrap();
    let preferences = "esp.enable_encryption_decode: TRUE\nesp.enable_authentication_check: TRUE\n";
    std::fs::write(folder.path().join("preferences"), preferences).unwrap();
    folder
}

/// Number of frames of a capture for which tshark found a correct ICV.
pub fn tshark_verified(config: &Path, capture: &Path) -> usize {
    let args = ["-n", "-T", "fields", "-e", "esp.icv_good", "-r"].map(std::ffi::OsStr::new);
    let rows = tshark(Some(config), args.into_iter().chain([capture.as_os_str()]));
    rows.lines().filter(|line| ["1", "True"].contains(line)).count()
}
