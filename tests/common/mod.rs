//! What several test files need: running the command, and the captures that are not shipped.

#![allow(dead_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

pub mod pcap;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The folder of captures and cases that are not shipped; `None`, said on standard error, where it is not there.
pub fn shared() -> Option<PathBuf> {
    let folder = std::env::var_os("DIETESP_SHARED")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    if folder.join("captures").is_dir() {
        return Some(folder);
    }
    eprintln!("left out: ../shared is not here");
    None
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

/// Runs tshark and gives its standard output; `None`, said on standard error, where it is not installed.
pub fn tshark<I, S>(config: Option<&Path>, args: I) -> Option<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new("tshark");
    if let Some(config) = config {
        command.env("WIRESHARK_CONFIG_DIR", config);
    }
    match command.args(args).stdin(Stdio::null()).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => {
            left_out("tshark is not installed");
            None
        }
    }
}

/// Says that a check was left out; where `DIETESP_TOOLS=required`, as in `tests/run.sh`, that is a failure.
pub fn left_out(why: &str) {
    assert!(std::env::var_os("DIETESP_TOOLS").is_none_or(|value| value != "required"), "{why}");
    eprintln!("left out: {why}");
}

/// Runs the command, which must end with this status; gives its standard output and standard error.
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

/// What tshark decrypted of each frame that it could decrypt: everything up to the ESP trailer and some of that.
pub fn tshark_decrypted(config: &Path, capture: &Path) -> Option<Vec<Vec<u8>>> {
    let dump = tshark(Some(config), ["-n".as_ref(), "-x".as_ref(), "-r".as_ref(), capture])?;
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
    Some(packets)
}

/// A folder to be used as `WIRESHARK_CONFIG_DIR`, with these `esp_sa` lines.
pub fn wireshark_config(esp_sa: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(esp_sa, folder.path().join("esp_sa")).unwrap();
    let preferences = "esp.enable_encryption_decode: TRUE\nesp.enable_authentication_check: TRUE\n";
    std::fs::write(folder.path().join("preferences"), preferences).unwrap();
    folder
}

/// How many frames of a capture have an ICV that tshark found right.
pub fn tshark_verified(config: &Path, capture: &Path) -> Option<usize> {
    let args = ["-n", "-T", "fields", "-e", "esp.icv_good", "-r"].map(std::ffi::OsStr::new);
    let rows = tshark(Some(config), args.into_iter().chain([capture.as_os_str()]))?;
    Some(rows.lines().filter(|line| ["1", "True"].contains(line)).count())
}
