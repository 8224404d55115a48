//! Capture files: truncated files, declared FCS, frames without time, unusual containers.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use dietesp::internals::capture::{Options, Reader, Window};

use crate::case;
use crate::common::{count, decode, dietesp_ends, file, tshark, tshark_verified};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Every command that reads a truncated capture ends with status 1, and names the last complete frame.
#[test]
fn a_truncated_capture_causes_status_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let plain = file("samples/tcp/original.pcap");
    let whole = std::fs::read(&plain).unwrap();
    let (rules, keys, esp_keys) =
        (file("samples/tcp/rules.yaml"), file("keys/tcp.yaml"), file("samples/tcp/esp_keys.yaml"));
    dietesp_ends(0, ["convert", &plain, "-o", &path("whole.pcapng"), "-k", &esp_keys]);
    let pcapng = std::fs::read(path("whole.pcapng")).unwrap();
    let cut = |bytes: &[u8]| bytes[..bytes.len() - 9].to_vec();
    // A zstd block is either complete or lost, so two blocks are needed.
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
        seen.extend(window.frames().map(|packet| Seen {
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

/// Case 13: the hash of a changed frame is dropped. Its other options are kept.
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
    // Standard ESP is written unchanged, and so is its hash.
    dietesp_ends(0, ["convert", &capture, "-o", &out, "-k", &keys]);
    assert_eq!(frames(&out), frames(&capture));
}

/// A folder for outputs, and a path in it.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Lab {
        Lab(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

const IF_FCSLEN: u16 = 13;
const EPB_FLAGS: u16 = 2;
/// Bits of epb_flags.
const FCS_LEN: u8 = 0b1110_0000;
/// The inner packet of each frame of case 01: an IPv4 header, a UDP header, `hello world 0123`.
const INNER_LEN: usize = 20 + 8 + 16;
const HELLO: &str = "68656c6c6f20776f726c642030313233";

fn declares_fcs(frame: &Seen) -> bool {
    frame.interface.iter().any(|(code, _)| *code == IF_FCSLEN)
        || frame.options.iter().any(|(code, value)| *code == EPB_FLAGS && value[0] & FCS_LEN != 0)
}

/// Case 01: if a frame has no frame check sequence, none is declared, in either format.
#[test]
fn a_rewritten_frame_declares_no_fcs() {
    let lab = Lab::new();
    let keys = case("01-declared-fcs/keys.yaml");
    for name in ["fcs-idb.pcapng", "fcs-flags.pcapng", "fcs-hdr.pcap"] {
        let capture = case(&format!("01-declared-fcs/{name}"));
        assert!(frames(&capture).iter().all(declares_fcs));
        for out in ["out.pcapng", "out.pcap"].map(|out| lab.path(out)) {
            dietesp_ends(0, ["convert", &capture, "-o", &out, "-k", &keys, "--to", "plain"]);
            let plain = frames(&out);
            assert_eq!(plain.len(), 5);
            assert!(plain.iter().all(|frame| frame.data.len() == 14 + INNER_LEN && !declares_fcs(frame)), "{plain:?}");
            let args = ["-n", "-r", &out, "-T", "fields", "-e", "udp.payload", "-e", "eth.fcs", "-e", "eth.trailer"];
            assert_eq!(tshark(None, args), format!("{HELLO}\t\t\n").repeat(5), "{name}");
        }
        // Standard ESP is written unchanged. In pcap, the frame check sequence is removed, and its declaration,
        // too.
        let [pcapng, pcap] = ["esp.pcapng", "esp.pcap"].map(|out| lab.path(out));
        dietesp_ends(0, ["convert", &capture, "-o", &pcapng, "-k", &keys]);
        dietesp_ends(0, ["convert", &capture, "-o", &pcap, "-k", &keys]);
        assert_eq!(frames(&pcapng), frames(&capture));
        for (short, whole) in frames(&pcap).iter().zip(frames(&capture)) {
            assert!(!declares_fcs(short));
            assert_eq!(short.data, whole.data[..whole.data.len() - 4]);
        }
    }
}

/// Unchanged frames keep theirs, next to frames that lose it.
#[test]
fn frames_with_and_without_fcs_are_distinguished() {
    let lab = Lab::new();
    let [capture, rules, keys] =
        ["diet-fcs.pcapng", "diet-rules.yaml", "diet-keys.yaml"].map(|name| case(&format!("01-declared-fcs/{name}")));
    let [out, pcap] = ["out.pcapng", "out.pcap"].map(|out| lab.path(out));
    for out in [&out, &pcap] {
        dietesp_ends(0, ["convert", &capture, "-o", out, "-r", &rules, "-k", &keys]);
    }
    let (before, after) = (frames(&capture), frames(&out));
    let passed: Vec<&Seen> = after.iter().filter(|frame| declares_fcs(frame)).collect();
    assert_eq!((after.len(), passed.len()), (282, 42));
    assert!(passed.iter().all(|frame| before.contains(frame)));
    assert!(frames(&pcap).iter().all(|frame| !declares_fcs(frame)));
    for out in [&out, &pcap] {
        let config = format!("{out}.wireshark");
        assert_eq!(tshark_verified(Path::new(&config), Path::new(out)), 240, "{out}");
    }
    let count = |out: &str| tshark(None, ["-n", "-r", out, "-Y", "eth.fcs"]).lines().count();
    assert_eq!((count(&out), count(&pcap)), (42, 0));
}

#[test]
fn compressed_frames_declare_no_fcs() {
    let lab = Lab::new();
    let [capture, rules, keys, esp_keys] = ["fcs-idb.pcapng", "rules_fc.yaml", "keys_fc.yaml", "keys.yaml"]
        .map(|name| case(&format!("01-declared-fcs/{name}")));
    for out in ["out.pcapng", "out.pcap"].map(|out| lab.path(out)) {
        dietesp_ends(0, ["compress", &capture, "-o", &out, "-r", &rules, "-k", &keys, "--esp-keys", &esp_keys]);
        assert!(frames(&out).iter().all(|frame| !declares_fcs(frame)));
        let (records, _) = decode([&out, "-r", &rules, "-k", &keys]);
        let packets: Vec<&str> = records.iter().map(|record| record["packet"].as_str().unwrap()).collect();
        assert!(packets.len() == 5 && packets.iter().all(|packet| packet.ends_with(HELLO)), "{packets:?}");
    }
}

/// Case 16, and the other pcap variants that Wireshark writes: records do not depend on the variant.
#[test]
fn variants_of_pcap_are_read() {
    let lab = Lab::new();
    let keys = case("16-nokia-pcap/keys.yaml");
    let nokia = case("16-nokia-pcap/nokia.pcap");
    let (records, status) = decode([&nokia, "-k", &keys]);
    assert_eq!((records.len(), count(&records, "ok"), status), (5, 5, 0));
    for format in ["pcap", "nsecpcap", "pcapng", "modpcap", "nokiapcap", "rh6_1pcap", "suse6_3pcap"] {
        let capture = lab.path(format);
        assert!(Command::new("editcap").args(["-F", format, &nokia, &capture]).status().unwrap().success());
        assert_eq!(decode([&capture, "-k", &keys]).0, records, "{format}");
        // Also all at once from a pipe.
        let run = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(["decode", "-", "-k", &keys, "--format", "jsonl"])
            .stdin(std::fs::File::open(&capture).unwrap())
            .output()
            .unwrap();
        assert_eq!(run.stdout.iter().filter(|byte| **byte == b'\n').count(), 5, "{format}");
        assert_eq!(run.status.code(), Some(0), "{format}");
    }
}

/// Case 17: for captures in other formats, the message names the format and a command that converts it. This
/// command works.
#[test]
fn captures_of_other_formats_are_named() {
    let lab = Lab::new();
    let keys = case("17-snoop-message/keys.yaml");
    let original = case("16-nokia-pcap/nokia.pcap");
    let mut cases = vec![
        (case("17-snoop-message/x.snoop"), "a snoop capture of Solaris: format not supported"),
        (case("17-snoop-message/x.erf"), "an ERF capture of Endace: format not supported"),
    ];
    for (format, name) in [
        ("netmon1", "Network Monitor 1"),
        ("netmon2", "Network Monitor 2"),
        ("ngsniffer", "Sniffer for DOS"),
        ("ngwsniffer_2_0", "Sniffer for Windows"),
        ("5views", "5View"),
        ("snoop", "snoop"),
        ("visual", "Visual Networks"),
        ("lanalyzer", "LANalyzer"),
        ("k12text", "it is text"),
    ] {
        let capture = lab.path(format);
        assert!(Command::new("editcap").args(["-F", format, &original, &capture]).status().unwrap().success());
        cases.push((capture, name));
    }
    for (capture, name) in cases {
        let (_, stderr) = dietesp_ends(2, ["decode", &capture, "-k", &keys]);
        assert!(stderr.contains(name), "{capture}: {stderr}");
        if name.starts_with("it is") {
            continue;
        }
        let command = stderr.lines().find_map(|line| line.strip_prefix("  convert it first: editcap ")).unwrap();
        let converted = lab.path("converted.pcapng");
        let args = command.replace("OUT.pcapng", &converted).replace(", if it is of Ethernet", "");
        assert!(Command::new("editcap").args(args.split(' ')).status().unwrap().success(), "{args}");
        let (records, _) = decode([&converted, "-k", &keys]);
        assert_eq!(count(&records, "ok"), 5, "{capture}");
    }
    for (name, bytes, said) in [
        ("a.zip", &b"PK\x03\x04\x14\0\0\0"[..], "an archive (zip): format not supported"),
        ("dump.txt", b"0000  45 00 00 1c 00 01\n", "text2pcap"),
        ("unknown", b"\x01\x02\x03\x04\x05\x06", "editcap -F pcapng"),
    ] {
        std::fs::write(lab.path(name), bytes).unwrap();
        let (_, stderr) = dietesp_ends(2, ["decode", &lab.path(name), "-k", &keys]);
        assert!(stderr.contains(said), "{stderr}");
    }
}

/// The time of each frame according to tshark; empty if it has none.
fn times(capture: &str) -> Vec<String> {
    let args = ["-n", "-r", capture, "-T", "fields", "-e", "frame.time_epoch", "-e", "udp.payload"];
    tshark(None, args).lines().map(str::to_owned).collect()
}

/// Case 06: a frame of a Simple Packet Block has no time, neither in records nor in outputs.
#[test]
fn a_frame_without_time_stays_without_time() {
    let lab = Lab::new();
    let keys = case("06-timeless-frames/keys.yaml");
    for (name, timed) in [("spb.pcapng", [false; 5].as_slice()), ("mixed-spb.pcapng", &[true, false, true])] {
        let capture = case(&format!("06-timeless-frames/{name}"));
        let (records, _) = decode([&capture, "-k", &keys]);
        let has_time: Vec<bool> = records.iter().map(|record| record.get("time").is_some()).collect();
        assert_eq!(has_time, timed);
        assert_eq!(count(&records, "ok"), timed.len());
        let (fields, _) = dietesp_ends(
            0,
            ["decode", &capture, "-k", &keys, "--format", "fields", "-e", "frame", "-e", "time", "-e", "status"],
        );
        for (line, timed) in fields.lines().zip(timed) {
            let columns: Vec<&str> = line.split('\t').collect();
            assert_eq!((columns.len(), columns[2], columns[1].is_empty()), (3, "ok", !timed), "{line}");
        }
        let (table, _) = dietesp_ends(0, ["decode", &capture, "-k", &keys]);
        assert!(!table.contains("00:00:00"), "{table}");
        dietesp_ends(0, ["sa", &capture, "-k", &keys]);

        for (out, to) in [("plain.pcapng", "plain"), ("esp.pcapng", "esp"), ("plain.pcapng.zst", "plain")] {
            let out = lab.path(out);
            dietesp_ends(0, ["convert", &capture, "-o", &out, "-k", &keys, "--to", to]);
            let (again, _) = decode([&out, "-k", &keys]);
            let has_time: Vec<bool> = again.iter().map(|record| record.get("time").is_some()).collect();
            assert_eq!(has_time, timed, "{out}");
            if out.ends_with(".pcapng") {
                let seen = times(&out);
                assert_eq!(seen.iter().map(|line| !line.starts_with('\t')).collect::<Vec<_>>(), timed, "{seen:?}");
                assert!(to == "esp" || seen.iter().all(|line| line.ends_with(HELLO)), "{seen:?}");
            }
        }
        // pcap cannot express that there is no time.
        let (_, stderr) =
            dietesp_ends(2, ["convert", &capture, "-o", &lab.path("out.pcap"), "-k", &keys, "--to", "plain"]);
        assert!(stderr.contains("has no time stamp, which pcap cannot express"), "{stderr}");
        assert!(!Path::new(&lab.path("out.pcap")).exists());
    }
}
