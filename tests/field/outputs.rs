//! An output that is also an input or another output is rejected before anything is read or written.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::common::{dietesp, file, pcap};

/// Copies of a capture of each kind, of keys and of rules, and other names for the files.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Lab {
        let lab = Lab(tempfile::tempdir().unwrap());
        for (from, to) in [
            ("samples/ipv4/diet-esp.pcapng", "diet.pcapng"),
            ("samples/ipv4/original.pcap", "esp.pcap"),
            ("samples/ipv4/rules.yaml", "rules.yaml"),
            ("samples/ipv4/esp_keys.yaml", "esp_keys.yaml"),
            ("keys/ipv4.yaml", "keys.yaml"),
        ] {
            std::fs::copy(file(from), lab.path(to)).unwrap();
        }
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The arguments with `%` before a name replaced by the folder.
    fn args(&self, line: &str) -> Vec<String> {
        let folder = format!("{}/", self.0.path().display());
        line.split_whitespace().map(|arg| arg.replace('%', &folder)).collect()
    }

    /// Name and content of every file. Links count as the files that they name.
    fn content(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let names = std::fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let mut all: Vec<_> =
            names.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
        all.sort();
        all
    }
}

fn refused(output: &Output, said: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(said), "{said}: {stderr}");
}

const CONVERT: &str = "convert %diet.pcapng -r %rules.yaml -k %keys.yaml -o";
const COMPRESS: &str = "compress %esp.pcap -r %rules.yaml -k %keys.yaml --esp-keys %esp_keys.yaml -o";
const MAKE: &str = "vectors make %esp.pcap -r %rules.yaml -k %keys.yaml --esp-keys %esp_keys.yaml -o";

/// Uses each input of each command as its output, under the names that `other` returns.
fn every_input_is_refused(other: impl Fn(&Path, &Path)) {
    let lab = Lab::new();
    for (command, inputs) in [
        (CONVERT, &["diet.pcapng", "rules.yaml", "keys.yaml"][..]),
        (COMPRESS, &["esp.pcap", "rules.yaml", "keys.yaml", "esp_keys.yaml"]),
        (MAKE, &["esp.pcap", "rules.yaml", "keys.yaml", "esp_keys.yaml"]),
    ] {
        for input in inputs {
            let out = format!("other-{input}");
            other(&lab.path(input), &lab.path(&out));
            let before = lab.content();
            let run = dietesp(lab.args(&format!("{command} %{out}")));
            refused(&run, "is the same file as the ");
            assert!(String::from_utf8_lossy(&run.stderr).contains(input));
            assert_eq!(lab.content(), before, "{command} {out}");
            let _ = std::fs::remove_file(lab.path(&out));
        }
    }
}

#[test]
fn an_output_that_is_an_input_by_its_own_name() {
    let lab = Lab::new();
    let before = lab.content();
    for (command, what) in [
        (format!("{CONVERT} %diet.pcapng"), "the capture"),
        (format!("{CONVERT} %diet.pcapng --to plain"), "the capture"),
        (format!("{CONVERT} %./diet.pcapng"), "the capture"),
        (format!("{CONVERT} %rules.yaml"), "the rule file"),
        (format!("{COMPRESS} %esp.pcap"), "the capture"),
        (format!("{COMPRESS} %keys.yaml"), "the key file"),
        (format!("{COMPRESS} %esp_keys.yaml"), "the key file"),
        (format!("{MAKE} %esp.pcap"), "the capture"),
        (format!("{MAKE} %esp_keys.yaml"), "the key file"),
    ] {
        refused(&dietesp(lab.args(&command)), &format!("is the same file as {what} "));
        assert_eq!(lab.content(), before, "{command}");
    }
}

#[test]
fn a_hard_link_is_the_same_file() {
    every_input_is_refused(|input, other| std::fs::hard_link(input, other).unwrap());
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_the_same_file() {
    use std::os::unix::fs::symlink;
    every_input_is_refused(|input, other| symlink(input, other).unwrap());
    // A folder under another name, and a link to a link.
    let lab = Lab::new();
    symlink(lab.0.path(), lab.path("folder")).unwrap();
    symlink("diet.pcapng", lab.path("first")).unwrap();
    symlink("first", lab.path("second")).unwrap();
    for out in ["folder/diet.pcapng", "folder/second"] {
        refused(&dietesp(lab.args(&format!("{CONVERT} %{out}"))), "is the same file as the capture");
    }
    // The input is the link.
    let command = "convert %second -r %rules.yaml -k %keys.yaml -o %diet.pcapng";
    refused(&dietesp(lab.args(command)), "is the same file as the capture");
}

/// The shell opened the file to append to it. Only its device and inode number show that it is the input.
#[cfg(unix)]
#[test]
fn standard_output_that_is_an_input() {
    let lab = Lab::new();
    let before = lab.content();
    let opening = "-r %rules.yaml -k %keys.yaml";
    for (command, to) in [
        (format!("{CONVERT} - --to plain"), "diet.pcapng"),
        (format!("{CONVERT} - --to plain"), "keys.yaml"),
        (format!("{CONVERT} /dev/stdout --to plain"), "diet.pcapng"),
        (format!("{COMPRESS} -"), "esp.pcap"),
        (format!("{MAKE} -"), "esp.pcap"),
        (format!("decode %diet.pcapng {opening}"), "diet.pcapng"),
        (format!("decode - {opening}"), "diet.pcapng"),
        (format!("sa %diet.pcapng {opening}"), "rules.yaml"),
        ("keys show %keys.yaml".to_owned(), "keys.yaml"),
        ("keys export %keys.yaml".to_owned(), "keys.yaml"),
        ("rules show %rules.yaml".to_owned(), "rules.yaml"),
        ("rules check %rules.yaml".to_owned(), "rules.yaml"),
        ("rules export %rules.yaml".to_owned(), "rules.yaml"),
        ("rules import %rules.yaml".to_owned(), "rules.yaml"),
        ("rules apply %rules.yaml --packet 00".to_owned(), "rules.yaml"),
        ("rules apply %keys.yaml --packet -".to_owned(), "diet.pcapng"),
        ("vectors check %rules.yaml".to_owned(), "rules.yaml"),
    ] {
        let appended = OpenOptions::new().append(true).open(lab.path(to)).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(lab.args(&command))
            .stdin(std::fs::File::open(lab.path("diet.pcapng")).unwrap())
            .stdout(appended)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        refused(&output, "is the same file as the ");
        assert_eq!(lab.content(), before, "{command}");
    }
}

#[test]
fn two_outputs_are_two_files() {
    let lab = Lab::new();
    let before = lab.content();
    for (out, folder) in [("%new", "%new"), ("%keys/esp_sa", "%keys"), ("%keys/../keys/preferences", "%keys")] {
        std::fs::create_dir_all(lab.path("keys")).unwrap();
        let run = dietesp(lab.args(&format!("{CONVERT} {out} --wireshark {folder}")));
        refused(&run, "is the same file as the output ");
        assert_eq!(lab.content(), before);
        assert_eq!(std::fs::read_dir(lab.path("keys")).unwrap().count(), 0);
    }
}

/// The file that the link names is created, as with other programs, and the link is kept.
#[cfg(unix)]
#[test]
fn a_link_to_a_missing_file() {
    let lab = Lab::new();
    std::os::unix::fs::symlink("target.pcapng", lab.path("link.pcapng")).unwrap();
    let run = dietesp(lab.args(&format!("{CONVERT} %link.pcapng --to plain")));
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    assert!(lab.path("link.pcapng").is_symlink() && lab.path("target.pcapng").is_file());
}

/// An output that is not a regular file is written to, not replaced.
#[cfg(unix)]
#[test]
fn a_named_pipe_is_kept() {
    use std::os::unix::fs::FileTypeExt as _;
    let lab = Lab::new();
    let pipe = lab.path("pipe.pcapng");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let from = pipe.clone();
    let reader = std::thread::spawn(move || std::fs::read(from).unwrap());
    let run = dietesp(lab.args(&format!("{CONVERT} %pipe.pcapng --to plain")));
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let through_pipe = reader.join().unwrap();
    assert!(std::fs::metadata(&pipe).unwrap().file_type().is_fifo());
    dietesp(lab.args(&format!("{CONVERT} %file.pcapng --to plain")));
    assert!(through_pipe == std::fs::read(lab.path("file.pcapng")).unwrap());
}

/// `-o /dev/stdout` means `-o -`: the output is appended to the content of the file.
#[cfg(target_os = "linux")]
#[test]
fn dev_stdout_is_standard_output() {
    let lab = Lab::new();
    std::fs::write(lab.path("log"), "before").unwrap();
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        let appended = OpenOptions::new().append(true).open(lab.path("log")).unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(lab.args(&format!("{CONVERT} {name} --to plain -q")))
            .stdout(appended)
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(0));
    }
    dietesp(lab.args(&format!("{CONVERT} %file.pcapng --to plain")));
    let one = std::fs::read(lab.path("file.pcapng")).unwrap();
    assert!(std::fs::read(lab.path("log")).unwrap() == [&b"before"[..], &one, &one, &one].concat());
    // There is no folder for the keys next to a device.
    for name in ["/dev/stdout", "/dev/null"] {
        refused(
            &dietesp(lab.args(&format!("{CONVERT} {name}"))),
            "the fresh keys would be lost, because the output is not a file",
        );
    }
}

/// The output of gzip or zstd for a compressed output.
fn decompressed(path: &Path) -> Vec<u8> {
    let program = if path.extension().unwrap() == "gz" { "gzip" } else { "zstd" };
    let output = Command::new(program).args(["-d", "-c"]).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn a_name_that_ends_in_gz_or_zst_compresses() {
    let lab = Lab::new();
    for (command, plain) in [
        (format!("{CONVERT} %out --seed 1"), "out.pcapng"),
        (format!("{CONVERT} %out --to plain"), "out.pcap"),
        (format!("{COMPRESS} %out --seed 1"), "out.pcap"),
        (format!("{COMPRESS} %out --seed 1"), "out.pcapng"),
        (format!("{MAKE} %out --seed 1"), "kit.json"),
    ] {
        let run = |name: &str| {
            let run = dietesp(lab.args(&command.replace("%out", &format!("%{name}"))));
            assert_eq!(run.status.code(), Some(0), "{run:?}");
        };
        run(plain);
        let expected = std::fs::read(lab.path(plain)).unwrap();
        for ending in ["gz", "zst"] {
            let name = format!("{plain}.{ending}");
            run(&name);
            assert!(decompressed(&lab.path(&name)) == expected, "{command} {name}");
            let check = match plain {
                "kit.json" => format!("vectors check %{name}"),
                _ => format!("decode %{name} -r %rules.yaml -k %keys.yaml"),
            };
            let output = dietesp(lab.args(&check));
            assert_ne!(output.status.code(), Some(2), "{output:?}");
            assert!(plain != "kit.json" || output.status.code() == Some(0), "{output:?}");
        }
    }
}

/// A long capture is compressed in several pieces, with a good ratio.
#[test]
fn a_long_output_is_compressed() {
    let lab = Lab::new();
    let (link_type, frames) = pcap::read(&lab.path("esp.pcap"));
    let many: Vec<pcap::Frame> = frames.iter().cycle().take(60_000).cloned().collect();
    pcap::write(&lab.path("many.pcap"), link_type, &many);
    let convert = |out: &str| {
        let run = dietesp(lab.args(&format!("convert %many.pcap -o %{out} --to plain -k %esp_keys.yaml")));
        assert_eq!(run.status.code(), Some(0), "{run:?}");
        std::fs::read(lab.path(out)).unwrap()
    };
    let plain = convert("plain.pcap");
    assert!(plain.len() > 3 << 20);
    for out in ["plain.pcap.gz", "plain.pcap.zst"] {
        let len = convert(out).len();
        assert!(len < plain.len() / 3, "{out}: {len} of {}", plain.len());
        assert!(decompressed(&lab.path(out)) == plain, "{out}");
    }
}
