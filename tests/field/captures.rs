//! Capture files: truncated ones, declared FCS, frames without time, odd containers.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dietesp::capture::{Options, Reader, Window};

use crate::case;
use crate::common::{dietesp_ends, file};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Every command that reads a capture ends with status 1 if that is truncated, and names the last whole frame.
#[test]
fn a_truncated_capture_is_no_success() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let plain = file("samples/tcp/original.pcap");
    let whole = std::fs::read(&plain).unwrap();
    let (rules, keys, esp_keys) =
        (file("samples/tcp/rules.yaml"), file("keys/tcp.yaml"), file("samples/tcp/esp_keys.yaml"));
    dietesp_ends(0, ["convert", &plain, "-o", &path("whole.pcapng"), "-k", &esp_keys]);
    let pcapng = std::fs::read(path("whole.pcapng")).unwrap();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 9].to_vec();
    // A block of zstd is whole or lost, so there are two.
    let (first, second) = whole.split_at(whole.len() / 2);
    let zstd_whole = [zstd(first), zstd(second)].concat();
    let out = path("out.pcapng");
    for (name, bytes, complete) in [
        ("cut.pcap", cut(&whole), &whole),
        ("cut.pcapng", cut(&pcapng), &pcapng),
        ("cut.pcap.gz", cut(&gzip(&whole)), &gzip(&whole)),
        ("cut.pcap.zst", cut(&zstd_whole), &zstd_whole),
        ("in.pcap.gz", gzip(&cut(&whole)), &gzip(&whole)),
        ("in.pcap.zst", zstd(&cut(&whole)), &zstd_whole),
    ] {
        let capture = path(name);
        for (bytes, status) in [(&bytes, 1), (complete, 0)] {
            std::fs::write(&capture, bytes).unwrap();
            for command in [
                vec!["decode", &capture, "-k", &esp_keys],
                vec!["sa", &capture, "-k", &esp_keys],
                vec!["convert", &capture, "-k", &esp_keys, "-o", &out],
                vec!["convert", &capture, "-k", &esp_keys, "-o", &out, "--to", "plain"],
                vec!["compress", &capture, "-k", &keys, "-r", &rules, "--esp-keys", &esp_keys, "-o", &out],
                vec!["vectors", "make", &capture, "-k", &keys, "-r", &rules, "--esp-keys", &esp_keys, "-o", &out],
                vec!["rules", "check", &rules, "-k", &esp_keys, "--capture", &capture],
            ] {
                let _ = std::fs::remove_file(&out);
                let (_, stderr) = dietesp_ends(status, &command);
                let said = stderr.lines().filter(|line| line.contains(&format!("{name}: file truncated after frame ")));
                assert_eq!(said.count() as i32, status, "{command:?}: {stderr}");
                assert_eq!(std::path::Path::new(&out).exists(), command.contains(&"-o"), "{command:?}");
            }
        }
    }
    // From a pipe.
    let mut child = Command::new(env!("CARGO_BIN_EXE_dietesp"))
        .args(["decode", "-", "-k", &esp_keys])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&cut(&whole)).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("-: file truncated after frame 29\n"), "{output:?}");
}

/// A frame of a capture: its bytes, its options, and those of its interface.
#[derive(Debug, PartialEq)]
struct Seen {
    data: Vec<u8>,
    options: Vec<(u16, Vec<u8>)>,
    interface: Vec<(u16, Vec<u8>)>,
}

fn frames(capture: &str) -> Vec<Seen> {
    let owned = |options: Options<'_>| options.iter().map(|(code, value)| (code, value.to_vec())).collect();
    let (mut reader, mut window) = (Reader::open(Path::new(capture)).unwrap(), Window::default());
    let mut seen = vec![];
    while reader.fill(&mut window).unwrap() {
        seen.extend(window.packets().map(|packet| Seen {
            data: packet.data.to_vec(),
            options: owned(packet.options),
            interface: owned(packet.interface.options()),
        }));
    }
    assert!(!reader.is_incomplete());
    seen
}

const COMMENT: u16 = 1;
const EPB_HASH: u16 = 3;
const EPB_PACKETID: u16 = 5;

/// Case 13: the hash of the old frame goes with it, its other options stay.
#[test]
fn a_hash_of_a_frame_that_changes_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.pcapng").to_str().unwrap().to_owned();
    let (capture, keys) = (case("13-epb-hash/hash.pcapng"), case("13-epb-hash/keys.yaml"));
    let codes = |frame: &Seen| frame.options.iter().map(|(code, _)| *code).collect::<Vec<_>>();
    assert!(frames(&capture).iter().all(|frame| codes(frame) == [EPB_HASH, COMMENT, EPB_PACKETID]));
    dietesp_ends(0, ["convert", &capture, "-o", &out, "-k", &keys, "--to", "plain"]);
    let plain = frames(&out);
    assert!(plain.len() == 5 && plain.iter().all(|frame| codes(frame) == [COMMENT, EPB_PACKETID]), "{plain:?}");
    // Standard ESP passes as it is, and so does its hash.
    dietesp_ends(0, ["convert", &capture, "-o", &out, "-k", &keys]);
    assert_eq!(frames(&out), frames(&capture));
}
