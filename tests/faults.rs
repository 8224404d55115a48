//! Failures outside the program: full disks, closed pipes, truncated or changing inputs, invalid names. The exit
//! status is right, a message explains it, and no incomplete file remains.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::{dietesp, file, pcap};
use dietesp::internals::capture::{Reader, Window};

const SAMPLE: &str = "samples/ipv4/diet-esp.pcapng";

/// The arguments after the capture that decrypt the sample.
fn opening() -> [String; 4] {
    ["--rules".into(), file("samples/ipv4/rules.yaml"), "--keys".into(), file("keys/ipv4.yaml")]
}

fn args(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| (*part).to_owned()).chain(opening()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// All names in a folder, including hidden ones.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Runs the command with standard output written to `stdout`.
fn dietesp_to(stdout: Stdio, args: &[String]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dietesp"));
    command.args(args).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).output().unwrap()
}

fn fails_with(output: &Output, status: i32, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert!(stderr.contains(said), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

/// The first frames of the sample, as pcap and as pcapng, and the offsets at which their packets end.
fn small_captures(folder: &Path, frames: usize) -> [std::path::PathBuf; 2] {
    let (nanos, ng) = (folder.join("small.pcap"), folder.join("small.pcapng"));
    for (format, path) in [("nsecpcap", &nanos), ("pcapng", &ng)] {
        let range = format!("1-{frames}");
        let status = Command::new("editcap").args(["-F", format, "-r", &file(SAMPLE), text(path), &range]).status();
        assert!(status.unwrap_or_else(|_| common::not_installed("editcap")).success());
    }
    [nanos, ng]
}

#[cfg(target_os = "linux")]
#[test]
fn standard_output_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let sample = file(SAMPLE);
    for parts in [
        &["decode", &sample][..],
        &["decode", &sample, "--format", "jsonl"],
        &["sa", &sample],
        &["convert", &sample, "-o", "-", "--wireshark", text(&keys)],
        &["convert", &sample, "-o", "-", "--to", "plain"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        fails_with(&dietesp_to(full.into(), &args(parts)), 2, "cannot write: No space left on device");
        assert_eq!(names(folder.path()), [""; 0], "{parts:?}");
    }
    let wireshark = ["convert", &sample, "-o", "/dev/full", "--wireshark", text(&keys)];
    fails_with(&dietesp(args(&wireshark)), 2, "/dev/full: cannot write: No space left on device");
    assert_eq!(names(folder.path()), [""; 0]);
}

/// Standard error on a full disk does not change the results.
#[cfg(target_os = "linux")]
#[test]
fn standard_error_on_a_full_disk() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dietesp"));
    let output = command.args(args(&["decode", &file(SAMPLE)])).stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, dietesp(args(&["decode", &file(SAMPLE)])).stdout);
}

/// A file system of 16 KiB, for this process only.
#[cfg(target_os = "linux")]
#[test]
fn an_output_file_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=16k tmpfs \"$DISK\" || exit 99
        echo old > \"$DISK/out.pcapng\" || exit 99
        \"$@\" && exit 98
        echo \"status $?\"; cat \"$DISK/out.pcapng\"; ls -A \"$DISK\"";
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", script, "sh", env!("CARGO_BIN_EXE_dietesp")]);
    let out = disk.join("out.pcapng");
    command.args(["convert", &file("samples/probe/diet-esp.pcapng"), "-o", text(&out)]);
    command.args(["--rules", &file("samples/probe/rules.yaml"), "--keys", &file("keys/probe.yaml")]);
    let Ok(output) = command.env("DISK", &disk).stdin(Stdio::null()).output() else {
        return eprintln!("skipped: unshare is not installed");
    };
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if stdout.is_empty() && output.status.code() != Some(98) {
        return eprintln!("skipped: no file system can be mounted here: {stderr}");
    }
    assert_eq!(stdout, "status 2\nold\nout.pcapng\n", "{stderr}");
    assert!(stderr.contains("out.pcapng: cannot write: No space left on device"), "{stderr}");
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    // More than a pipe can hold, so that the writer notices the closed end.
    let many = folder.path().join("many.pcap");
    let [small, _] = small_captures(folder.path(), 8);
    let (link_type, frames) = pcap::read(&small);
    let frames: Vec<pcap::Frame> = frames.iter().cycle().take(40_000).cloned().collect();
    pcap::write(&many, link_type, &frames);
    for parts in [
        &["decode", text(&many)][..],
        &["decode", text(&many), "--format", "jsonl"],
        &["convert", text(&many), "-o", "-", "--to", "plain"],
        &["convert", text(&many), "-o", "-", "--wireshark", text(&keys)],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dietesp"));
        let mut child = command
            .args(args(parts))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{parts:?}");
        assert_eq!(output.status.code(), Some(0), "{parts:?}");
    }
    assert_eq!(names(folder.path()), ["many.pcap", "small.pcap", "small.pcapng"]);
}

/// A container may have a limit on threads.
#[cfg(target_os = "linux")]
#[test]
fn threads_cannot_be_started() {
    let folder = tempfile::tempdir().unwrap();
    let [small, _] = small_captures(folder.path(), 8);
    let (link_type, frames) = pcap::read(&small);
    let frames: Vec<pcap::Frame> = frames.iter().cycle().take(40_000).cloned().collect();
    let [many, keys, rules] = ["many.pcap", "keys.yaml", "rules.yaml"].map(|name| folder.path().join(name));
    pcap::write(&many, link_type, &frames);
    // Large enough to be read on all cores.
    for (from, to) in [("keys/ipv4.yaml", &keys), ("samples/ipv4/rules.yaml", &rules)] {
        let comments = "# a line that says nothing\n".repeat(10_000);
        std::fs::write(to, std::fs::read_to_string(file(from)).unwrap() + &comments).unwrap();
    }
    let run = |capture: &Path, more_than_there_is: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dietesp"));
        command.args(["-q", "decode", text(capture), "--format", "jsonl", "--threads", "4"]);
        command.args(["--rules", text(&rules), "--keys", text(&keys)]);
        if more_than_there_is {
            command.env("RUST_MIN_STACK", (1u64 << 46).to_string());
        }
        command.stdin(Stdio::piped()).output().unwrap()
    };
    let (usual, alone) = (run(&many, false), run(&many, true));
    assert_eq!((usual.status.code(), alone.status.code()), (Some(0), Some(0)), "{alone:?}");
    assert!(usual.stdout.len() > 1_000_000 && usual.stdout == alone.stdout);
    // Reading a pipe needs a thread, so that a signal can end the wait.
    fails_with(&run(Path::new("-"), true), 2, "dietesp: -: cannot read: ");
}

/// Truncated at every byte: the packets before the end are decoded and converted, or there is an error and no
/// output.
#[test]
fn a_capture_truncated_at_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let work = folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let captures = small_captures(folder.path(), 2);
    for whole in captures {
        let bytes = std::fs::read(&whole).unwrap();
        let kind = whole.extension().unwrap().to_str().unwrap().to_owned();
        let (cut, out) = (work.join(format!("cut.{kind}")), work.join("out.pcap"));
        let mut most = 0;
        for len in 0..=bytes.len() {
            std::fs::write(&cut, &bytes[..len]).unwrap();
            let decoded = dietesp(args(&["decode", text(&cut), "--format", "jsonl"]));
            let stderr = String::from_utf8_lossy(&decoded.stderr);
            assert!(!stderr.contains("panicked"), "{len}: {stderr}");
            let records = decoded.stdout.iter().filter(|byte| **byte == b'\n').count();
            let status = decoded.status.code().unwrap();
            // Each frame is complete or absent.
            assert!(records >= most && records <= 2, "{len}: {records} records");
            most = records;
            let truncated = match records {
                0 => "file truncated before the first frame".to_owned(),
                count => format!("file truncated after frame {count}\n"),
            };
            match status {
                0 => assert!(records > 0 && !stderr.contains("truncated"), "{len}: {stderr}"),
                // A capture without packets may be complete.
                1 if records == 0 && !stderr.contains("truncated") => {}
                1 => assert!(len < bytes.len() && stderr.contains(&truncated), "{len}: {stderr}"),
                _ => assert_eq!((status, records), (2, 0), "{len}: {stderr}"),
            }

            let converted = dietesp(args(&["convert", text(&cut), "-o", text(&out)]));
            assert_eq!(converted.status.code().unwrap(), status, "{len}");
            let cut_name = format!("cut.{kind}");
            if status == 2 {
                assert_eq!(names(&work), [cut_name.as_str()], "{len}");
                continue;
            }
            assert_eq!(names(&work), [&cut_name, "out.pcap", "out.pcap.wireshark"], "{len}");
            assert_eq!(pcap::read(&out).1.len(), records, "{len}");
            assert_eq!(names(&work.join("out.pcap.wireshark")), ["esp_sa", "preferences"], "{len}");
            std::fs::remove_file(&out).unwrap();
            std::fs::remove_dir_all(work.join("out.pcap.wireshark")).unwrap();
        }
        assert_eq!(most, 2, "{kind}");
        std::fs::remove_file(&cut).unwrap();
    }
}

/// A capture that shrinks or grows while it is read.
#[test]
fn a_capture_that_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.pcap");
    let frames: Vec<pcap::Frame> = (0..20_000).map(|time| (time * 1000, vec![0x45; 60])).collect();
    let read = |change: &dyn Fn()| {
        pcap::write(&path, pcap::RAW, &frames);
        let mut reader = Reader::open(&path).unwrap();
        let mut window = Window::default();
        assert!(reader.fill(&mut window).unwrap());
        let mut count = window.len();
        assert!(count < 10_000, "the file is longer than one window");
        change();
        while reader.fill(&mut window).unwrap() {
            count += window.len();
        }
        (count, reader.warnings())
    };
    assert_eq!(read(&|| ()), (20_000, vec![]));
    let shrink = |len: u64| std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len).unwrap();
    let (count, warnings) = read(&|| shrink(24 + 76 * 15_000 + 30));
    assert_eq!(count, 15_000);
    assert!(warnings.len() == 1 && warnings[0].ends_with("file truncated after frame 15000"), "{warnings:?}");
    let (count, _) = read(&|| shrink(0));
    assert!(count < 10_000);
    let (count, warnings) = read(&|| {
        let record = &std::fs::read(&path).unwrap()[24..24 + 76 * 500];
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(record).unwrap();
    });
    assert_eq!((count, warnings), (20_500, vec![]));
}

#[test]
fn inputs_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let (out, missing) = (folder.path().join("out.pcapng"), folder.path().join("missing"));
    let sample = file(SAMPLE);
    let [rules_option, rules, keys_option, keys] = opening();
    for bad in [text(folder.path()), text(&missing)] {
        for parts in [
            ["decode", bad, &rules_option, &rules, &keys_option, &keys].map(str::to_owned).to_vec(),
            ["convert", bad, "-o", text(&out), &rules_option, &rules, &keys_option, &keys].map(str::to_owned).to_vec(),
            ["convert", &sample, "-o", text(&out), &rules_option, bad, &keys_option, &keys].map(str::to_owned).to_vec(),
            ["convert", &sample, "-o", text(&out), &rules_option, &rules, &keys_option, bad]
                .map(str::to_owned)
                .to_vec(),
        ] {
            fails_with(&dietesp(&parts), 2, bad);
            assert_eq!(names(folder.path()), [""; 0], "{parts:?}");
        }
    }
    // A file that can be opened, but not read.
    if cfg!(target_os = "linux") {
        let parts = args(&["convert", "/proc/self/mem", "-o", text(&out)]);
        fails_with(&dietesp(parts), 2, "/proc/self/mem: cannot read: Input/output error");
        assert_eq!(names(folder.path()), [""; 0]);
    }
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let sample = file(SAMPLE);
    let (inside, directory) = (folder.path().join("missing/out.pcapng"), folder.path().join("directory.pcapng"));
    std::fs::create_dir(&directory).unwrap();
    for (out, said) in [(&inside, "cannot create"), (&directory, "cannot write")] {
        for parts in [
            args(&["convert", &sample, "-o", text(out)]),
            args(&["convert", &sample, "-o", text(out), "--to", "plain"]),
            args(&["compress", &file("samples/ipv4/original.pcap"), "-o", text(out)]),
        ] {
            fails_with(&dietesp(&parts), 2, &format!("{}: {said}: ", out.display()));
            assert_eq!(names(folder.path()), ["directory.pcapng"], "{parts:?}");
            assert_eq!(names(&directory), [""; 0]);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(closed.join("probe"), "").is_ok() {
        return eprintln!("skipped: permissions do not bind this user");
    }
    let out = closed.join("out.pcapng");
    fails_with(&dietesp(args(&["convert", &file(SAMPLE), "-o", text(&out)])), 2, "cannot create: Permission denied");
    assert_eq!(names(&closed), [""; 0]);
}

/// New keys that cannot be written would make the output useless, so there is no output, and the previous file is
/// kept.
#[test]
fn keys_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let (out, in_the_way) = (folder.path().join("out.pcapng"), folder.path().join("out.pcapng.wireshark"));
    std::fs::write(&in_the_way, "a file").unwrap();
    let convert = || dietesp(args(&["convert", &file(SAMPLE), "-o", text(&out)]));
    fails_with(&convert(), 2, "out.pcapng.wireshark: cannot create");
    assert_eq!(names(folder.path()), ["out.pcapng.wireshark"]);
    std::fs::write(&out, "before").unwrap();
    fails_with(&convert(), 2, "out.pcapng.wireshark: cannot create");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "before");
    assert_eq!(names(folder.path()), ["out.pcapng", "out.pcapng.wireshark"]);
}

#[cfg(unix)]
#[test]
fn an_existing_folder_for_wireshark() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (out, profile) = (folder.path().join("out.pcapng"), folder.path().join("profile"));
    let run = || dietesp(args(&["convert", &file(SAMPLE), "-o", text(&out), "--wireshark", text(&profile)]));
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    fails_with(
        &dietesp(args(&["convert", &file(SAMPLE), "-o", text(&out), "--wireshark", text(&out)])),
        2,
        "is the same file as the output",
    );
    assert_eq!(names(folder.path()), [""; 0]);
    std::fs::create_dir(&profile).unwrap();
    std::fs::set_permissions(&profile, std::fs::Permissions::from_mode(0o1777)).unwrap();
    // The files of an earlier run may be replaced.
    for _ in 0..2 {
        assert_eq!(run().status.code(), Some(0));
        assert_eq!((mode(&profile), mode(&profile.join("esp_sa"))), (0o1777, 0o600));
    }
    // The keys that decrypt the input may not be replaced.
    let (own, other) = (profile.join("esp_sa"), folder.path().join("other.pcapng"));
    let before = std::fs::read(&own).unwrap();
    let again = dietesp(["convert", text(&out), "-k", text(&own), "-o", text(&other), "--wireshark", text(&profile)]);
    fails_with(&again, 2, "is the same file as the key file");
    assert!(std::fs::read(&own).unwrap() == before && !other.exists());
    // The files of another profile may not be replaced.
    for (name, content) in [("preferences", "gui.column.format: x\n"), ("esp_sa", "\"IPv4\"\n")] {
        std::fs::remove_file(&out).unwrap();
        let _ = ["preferences", "esp_sa"].map(|name| std::fs::remove_file(profile.join(name)).ok());
        std::fs::write(profile.join(name), content).unwrap();
        fails_with(&run(), 2, "holds a Wireshark profile");
        assert_eq!(std::fs::read_to_string(profile.join(name)).unwrap(), content);
        assert!(!out.exists());
        std::fs::write(&out, "").unwrap();
    }
}
