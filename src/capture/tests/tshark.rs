//! Compares with tshark and editcap on the same files. A program that is not installed fails the test.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::super::Writer;
use super::*;

/// The captures of `tests/data`.
fn captures() -> Vec<PathBuf> {
    let entries = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/captures")).unwrap();
    let is_capture = |path: &PathBuf| path.extension().is_some_and(|e| e == "pcap" || e == "pcapng");
    let mut captures: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(is_capture).collect();
    captures.sort();
    assert!(!captures.is_empty());
    captures
}

/// Standard output of `program`.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    // 2: tshark found damage, and shows the packets before it.
    assert!(matches!(output.status.code(), Some(0 | 2)), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Number, time, length, captured length and comments of each frame according to tshark.
fn tshark(path: &Path) -> Vec<String> {
    let fields = ["frame.number", "frame.time_epoch", "frame.len", "frame.cap_len", "frame.comment"];
    let mut arguments = vec!["-n", "-r", path.to_str().unwrap(), "-T", "fields", "-E", "aggregator=|"];
    fields.iter().for_each(|field| arguments.extend(["-e", field]));
    run("tshark", &arguments).lines().map(str::to_owned).collect()
}

/// The same according to this program.
fn ours(path: &Path) -> Vec<String> {
    let (seen, _) = drain(Reader::open(path).unwrap()).unwrap();
    let line = |seen: &Seen| {
        let (seconds, nanos) = (seen.nanos.div_euclid(1_000_000_000), seen.nanos.rem_euclid(1_000_000_000));
        let comments: Vec<_> = seen.comments.iter().map(|comment| String::from_utf8_lossy(comment)).collect();
        let Seen { number, orig_len, data, .. } = seen;
        format!("{number}\t{seconds}.{nanos:09}\t{orig_len}\t{}\t{}", data.len(), comments.join("|"))
    };
    seen.iter().map(line).collect()
}

/// Writes the packets of `input` to `output`, each with `comment`.
fn copy(input: &Path, output: &Path, comment: Option<&str>) {
    let mut reader = Reader::open(input).unwrap();
    let mut writer = Writer::create(output).unwrap();
    let mut window = Window::default();
    while reader.fill(&mut window).unwrap() {
        window.frames().for_each(|packet| writer.write(&packet, comment).unwrap());
    }
    writer.finish().unwrap();
}

#[test]
fn tshark_sees_the_same_in_real_captures_and_their_copies() {
    let folder = tempfile::tempdir().unwrap();
    for capture in captures() {
        let expected = tshark(&capture);
        assert!(expected.len() > 50);
        assert_eq!(ours(&capture), expected, "{}", capture.display());
        for name in ["copy.pcap", "copy.pcapng"] {
            let path = folder.path().join(name);
            copy(&capture, &path, None);
            assert_eq!(tshark(&path), expected, "{} as {name}", capture.display());
        }
        let path = folder.path().join("commented.pcapng");
        copy(&capture, &path, Some("added"));
        let commented: Vec<_> = expected.iter().map(|line| format!("{line}added")).collect();
        assert_eq!(tshark(&path), commented);
    }
}

#[test]
fn editcap_converts_to_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (theirs, ours) = (folder.path().join("theirs.pcap"), folder.path().join("ours.pcap"));
    for capture in captures() {
        copy(&capture, &ours, None);
        let ours = fs::read(&ours).unwrap();
        let format = if ours.starts_with(&[0x4d]) { "nsecpcap" } else { "pcap" };
        let arguments = ["-F", format, capture.to_str().unwrap(), theirs.to_str().unwrap()];
        run("editcap", &arguments);
        let theirs = fs::read(&theirs).unwrap();
        assert_eq!((&ours[..16], &ours[20..24]), (&theirs[..16], &theirs[20..24]), "{}", capture.display());
        assert!(ours[24..] == theirs[24..], "{}: the packets differ", capture.display());
    }
}

#[test]
fn tshark_sees_the_same_in_generated_captures() {
    let folder = tempfile::tempdir().unwrap();
    for order in [Big, Little] {
        let custom = |block_type| order.block(block_type, &[&order.u32(32_473), b"data"]);
        let packet = order.packet(0, 1_767_323_045_000_006, 60, &[0x45; 40], &[]);
        let end = order.option(0, b"");
        let mut made = vec![
            [order.pcap_header(0xa1b2_c3d4, 101), order.pcap_record(5, 6, 60, &[0x45; 40])].concat(),
            [order.pcap_header(0xa1b2_3c4d, 0x2400_0001), order.pcap_record(5, 6, 60, &[0x45; 40])].concat(),
            [&order.pcap_header(0xa1b2_cd34, 1)[..], &order.u32s([5, 6, 4, 4, 0, 0]), b"abcd"].concat().repeat(1),
            [
                order.section(),
                order.interface(1, 0, &[]),
                packet.clone(),
                order.block(0x777, &[b"other"]),
                order.packet(0, 7, 9, b"a", &[order.option(1, b"one"), order.option(1, b"two"), end.clone()].concat()),
                Little.section(),
                Little.interface(101, 0, &Little.option(9, &[9])),
                Little.packet(0, 1_767_323_045_000_000_006, 60, &[0x45; 40], &[]),
                Big.section(),
                Big.interface(101, 0, &[]),
                Big.block(2, &[&Big.u16(0), &Big.u16(1), &Big.u32s([0, 8, 3, 40]), b"xyz\0"]),
                // Damage.
                Big.packet(9, 0, 1, b"a", &[]),
                Big.packet(0, 0, 1, b"a", &[]),
            ]
            .concat(),
        ];
        for resolution in [0, 3, 6, 9, 0x80, 0x8a, 0x94] {
            let options = [order.option(9, &[resolution]), end.clone()].concat();
            made.push([order.section(), order.interface(101, 0, &options), packet.clone()].concat());
        }
        for block_type in [0xbad, 0x4000_0bad] {
            let capture = [order.section(), order.interface(101, 0, &[]), custom(block_type), packet.clone()];
            made.push(capture.concat());
        }
        for capture in made {
            let path = folder.path().join("made");
            fs::write(&path, &capture).unwrap();
            let mut expected = tshark(&path);
            assert!(!expected.is_empty());
            // Blocks that only have a frame number.
            expected.retain(|line| !line.contains("\t\t"));
            assert_eq!(ours(&path), expected, "{capture:02x?}");
        }
    }
}

#[test]
fn zstd_and_gzip_captures_are_read_complete_or_truncated() {
    let folder = tempfile::tempdir().unwrap();
    for capture in captures() {
        let (expected, _) = drain(Reader::open(&capture).unwrap()).unwrap();
        for (program, level) in [("gzip", "-6"), ("zstd", "-3"), ("zstd", "-19")] {
            let output = Command::new(program).args(["-c", level]).arg(&capture).output().expect(program);
            let path = folder.path().join("compressed");
            fs::write(&path, &output.stdout).unwrap();
            let reader = Reader::open(&path).unwrap();
            assert_eq!(reader.total_len(), Some(output.stdout.len() as u64));
            assert_eq!(drain(reader).unwrap(), (expected.clone(), vec![]), "{} {program}", capture.display());
            // Without the last byte, only the checksum is incomplete.
            fs::write(&path, &output.stdout[..output.stdout.len() - 1]).unwrap();
            let (seen, warnings) = drain(Reader::open(&path).unwrap()).unwrap();
            assert_eq!((seen, warnings.len()), (expected.clone(), 1), "{} {program}", capture.display());
        }
    }
}
