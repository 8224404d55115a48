//! What several test files need: running the command, and the captures that are not shipped.

#![allow(dead_code)]

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
            eprintln!("left out: tshark is not installed");
            None
        }
    }
}
