//! Recognizes capture files in unsupported formats, so that the message can name the format and how to convert the
//! file.

use std::path::Path;

use crate::error::{Help, Remedy};

/// The format of a file that is not a supported capture.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// A capture that Wireshark reads.
    Capture(&'static str),
    /// A capture in the Extensible Record Format.
    Erf,
    /// An archive.
    Archive(&'static str),
    /// Lines of text.
    Text,
    /// Lines with an offset and hex digits.
    HexDump,
    Unknown,
}

/// First bytes of captures that Wireshark reads.
const CAPTURES: &[(&[u8], &str)] = &[
    (b"snoop\0\0\0", "a snoop capture of Solaris"),
    (b"btsnoop\0", "a btsnoop capture of Bluetooth"),
    (b"RTSS", "a capture of Microsoft Network Monitor 1"),
    (b"GMBU", "a capture of Microsoft Network Monitor 2"),
    (b"TRSNIFF data    \x1a", "a capture of Sniffer for DOS"),
    (b"XCP\0", "a capture of NetXRay or Sniffer for Windows"),
    (b"iptrace 1.0", "an iptrace capture of AIX"),
    (b"iptrace 2.0", "an iptrace capture of AIX"),
    (b"\x54\x52\x00\x64\x00", "a nettl trace of HP-UX"),
    (b"\x05VNF", "a capture of Visual Networks"),
    (b"\xaa\xaa\xaa\xaa", "an InfoVista 5View capture"),
    (b"\x7fver", "a capture of OmniPeek or EtherPeek"),
    (b"ObserverPktBuffe", "a capture of Observer"),
    (b"\x00\x00\x02\x00\x12\x05\x00\x10", "a Tektronix K12 capture"),
    (b"\x01\x10\x4c\x00", "a capture of Novell LANalyzer"),
    (b"EyeSDN", "an EyeSDN trace"),
    (b"#Format=4", "a capture of Daintree Sensor Network Analyzer"),
    (b"Session Transcript", "a Catapult DCT2000 trace"),
];

/// First bytes of archives and of compressed files in unsupported formats.
const ARCHIVES: &[(&[u8], &str)] =
    &[(b"PK\x03\x04", "zip"), (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!\x1a\x07", "rar"), (b"\x1f\x9d", "compress (.Z)")];

/// Offset of the magic of a tar archive.
const TAR: usize = 257;

impl Foreign {
    /// The likely format of `bytes`, which are the start of a file or all of it.
    pub(super) fn of(bytes: &[u8]) -> Foreign {
        let starts = |list: &[(&[u8], &'static str)]| {
            list.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, name)| *name)
        };
        if let Some(name) = starts(CAPTURES) {
            return Foreign::Capture(name);
        }
        if let Some(name) = starts(ARCHIVES) {
            return Foreign::Archive(name);
        }
        if bytes.get(TAR..).is_some_and(|rest| rest.starts_with(b"ustar")) {
            return Foreign::Archive("tar");
        }
        if is_erf(bytes) {
            return Foreign::Erf;
        }
        match (is_text(bytes), is_hex_dump(bytes)) {
            (true, true) => Foreign::HexDump,
            (true, false) => Foreign::Text,
            _ => Foreign::Unknown,
        }
    }

    /// What is wrong with the file, and what to do about it.
    pub(super) fn problem_and_help(&self, path: &Path) -> (String, Help) {
        let neither = || "not a pcap or pcapng file".to_owned();
        let path = if path == Path::new("-") { Path::new("FILE") } else { path }.display();
        match self {
            Foreign::Capture(name) => (
                format!("{name}: format not supported"),
                format!("convert it first: editcap -F pcapng {path} OUT.pcapng").into(),
            ),
            // Without -T, editcap keeps its record headers before the frames.
            Foreign::Erf => (
                "an ERF capture of Endace: format not supported".to_owned(),
                format!("convert it first: editcap -F pcapng -T ether {path} OUT.pcapng, if it is of Ethernet").into(),
            ),
            Foreign::Archive(name) => (
                format!("an archive ({name}): format not supported"),
                "unpack it first and give the capture inside".into(),
            ),
            Foreign::HexDump => {
                (neither(), format!("it is a hex dump; convert it first: text2pcap {path} OUT.pcapng").into())
            }
            Foreign::Text => (neither(), Remedy::TextFile.into()),
            Foreign::Unknown => (
                neither(),
                format!("{HELP}. If Wireshark opens the file, convert it: editcap -F pcapng {path} OUT.pcapng").into(),
            ),
        }
    }
}

pub(super) const HELP: &str =
    "give a pcap or pcapng file, as written by tcpdump, dumpcap, tshark or Wireshark; it may be compressed (.gz, .zst)";

/// Whether bytes look like lines of text, so that the user probably gave the wrong file.
fn is_text(bytes: &[u8]) -> bool {
    let bytes = bytes.get(..1024).unwrap_or(bytes);
    bytes.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

/// Whether text starts like the output of `od`, `xxd`, `hexdump` or `tshark -x`: offset 0, then bytes in hex.
fn is_hex_dump(bytes: &[u8]) -> bool {
    let Some(line) = bytes.split(|byte| *byte == b'\n').find(|line| !line.trim_ascii().is_empty()) else {
        return false;
    };
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_ascii_whitespace();
    let offset = words.next().unwrap_or_default().trim_end_matches(':');
    let is_byte = |word: &str| matches!(word.len(), 2 | 4) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    offset.len() >= 4 && offset.bytes().all(|byte| byte == b'0') && words.next().is_some_and(is_byte)
}

/// Whether bytes look like records of the Extensible Record Format, which has no magic number: a time stamp in
/// little-endian (8 bytes, seconds in the upper half), type, flags, the length of the record in big-endian.
fn is_erf(bytes: &[u8]) -> bool {
    const HEADER_LEN: usize = 16;
    const RECORDS: usize = 3;
    const TYPES: std::ops::RangeInclusive<u8> = 1..=48;
    const MORE_HEADERS: u8 = 0x80;
    /// Records of one capture are less than a day apart.
    const MAX_STEP: u32 = 86_400;
    let (mut rest, mut last, mut count) = (bytes, None, 0);
    while count < RECORDS {
        let Some([_, _, _, _, s0, s1, s2, s3, kind, _, high, low, ..]) = rest.first_chunk::<HEADER_LEN>() else {
            break;
        };
        let seconds = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let follows = last.is_none_or(|last: u32| last.abs_diff(seconds) <= MAX_STEP);
        if !TYPES.contains(&(kind & !MORE_HEADERS)) || len < HEADER_LEN || seconds == 0 || !follows {
            return false;
        }
        let Some(after) = rest.get(len..) else { break };
        (rest, last, count) = (after, Some(seconds), count + 1);
    }
    // A single record is accepted only if the file ends after it.
    count >= 2 || count == 1 && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_named() {
        let erf = |times: &[u32]| -> Vec<u8> {
            let record = |time: &u32| [&[7; 4][..], &time.to_le_bytes(), &[2, 4, 0, 20, 0, 0, 0, 4], b"abcd"].concat();
            times.iter().flat_map(record).collect()
        };
        let capture = |bytes: &[u8]| Foreign::of(bytes) == Foreign::Erf;
        assert_eq!(Foreign::of(b"snoop\0\0\0\0\0\0\x02"), Foreign::Capture("a snoop capture of Solaris"));
        assert!(capture(&erf(&[1_700_000_000])) && capture(&erf(&[1_700_000_000, 1_700_000_001])));
        assert!(capture(&erf(&[1_700_000_000, 1_700_000_001, 1_700_000_002])[..50]));
        // One cut record, and times that no capture has.
        assert!(!capture(&erf(&[1_700_000_000])[..19]) && !capture(&erf(&[1_700_000_000, 5])) && !capture(&erf(&[0])));
        assert_eq!(Foreign::of(b"PK\x03\x04abc"), Foreign::Archive("zip"));
        assert_eq!(Foreign::of(&[&[b'a'; 257][..], b"ustar"].concat()), Foreign::Archive("tar"));
        for dump in ["0000  45 00 00 54  E..T\n", "\n00000000: 4500 0054 1234\n", "0000000 45 00\n"] {
            assert_eq!(Foreign::of(dump.as_bytes()), Foreign::HexDump, "{dump}");
        }
        for text in ["sas:\n", "0000 sas\n", "frame,time\n", "0001  45 00\n"] {
            assert_eq!(Foreign::of(text.as_bytes()), Foreign::Text, "{text}");
        }
        assert_eq!(Foreign::of(&[0, 1, 2, 3, 4]), Foreign::Unknown);
    }
}
