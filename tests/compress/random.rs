//! Random frames of all kinds, from a file and from a pipe: nothing is written unencrypted, except on request.

use std::collections::HashSet;
use std::path::Path;
use std::process::{Command, Stdio};

use super::common::{decode, file, pcap};
use super::generator::{Kind, Made, Numbers, make};
use super::pcapng::{self, Frame};

/// Length of [`Made::mark`].
const MARK_LEN: usize = 8;
/// The link type of IEEE 802.15.4 frames.
const RADIO: u16 = 230;
/// The link type of frames that contain only an IPv4 packet.
const IPV4_ONLY: u16 = 228;

const KEYS: &str = "sas:
  - { name: v6, spi: 0x10000001, src: 2001:db8:f::1, dst: 2001:db8:f::2, encr: ENCR_AES_GCM_16,
      key: 000102030405060708090a0b0c0d0e0f, salt: 00010203 }
  - { name: v4, spi: 0x10000002, src: 192.0.2.1, dst: 192.0.2.2, encr: ENCR_AES_GCM_16,
      key: 100102030405060708090a0b0c0d0e0f, salt: 00010203 }
";
const STANDARD: &str = "
  - { name: any, spi: 0x30000001, encr: ENCR_AES_GCM_16, key: 400102030405060708090a0b0c0d0e0f, salt: 00010203 }
  - { name: standard6, spi: 0x20000001, src: 2001:db8:f::1, dst: 2001:db8:f::2, encr: ENCR_AES_GCM_16,
      key: 200102030405060708090a0b0c0d0e0f, salt: 00010203 }
  - { name: standard4, spi: 0x20000002, src: 192.0.2.1, dst: 192.0.2.2, encr: ENCR_AES_GCM_16,
      key: 300102030405060708090a0b0c0d0e0f, salt: 00010203 }
";
/// The contexts match every packet of their IP version.
const RULES: &str = "contexts:
  - { sa: v6, ipsec_mode: Tunnel, tunnel_ip: { src: 2001:db8:f::1, dst: 2001:db8:f::2 }, ts_ip_version: IPv6-only,
      iipc_profile: iipc_not_compressed, esp_spi_lsb: 8, esp_sn_lsb: 8, alignment: 8 bit }
  - { sa: v4, ipsec_mode: Tunnel, tunnel_ip: { src: 192.0.2.1, dst: 192.0.2.2 }, ts_ip_version: IPv4-only,
      iipc_profile: iipc_not_compressed, esp_spi_lsb: 8, esp_sn_lsb: 8, alignment: 8 bit }
";

struct Lab {
    folder: tempfile::TempDir,
}

/// The result of a run.
struct Ran {
    status: i32,
    said: String,
    /// The bytes written.
    out: Option<Vec<u8>>,
}

impl Lab {
    fn new(rules: &str) -> Lab {
        let lab = Lab { folder: tempfile::tempdir().unwrap() };
        std::fs::write(lab.path("keys.yaml"), [KEYS, STANDARD].concat()).unwrap();
        std::fs::write(lab.path("rules.yaml"), rules).unwrap();
        lab
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn run(&self, capture: &str, more: &[&str]) -> Ran {
        let [input, out, keys, rules] =
            ["in.pcapng", "out.pcapng", "keys.yaml", "rules.yaml"].map(|name| self.path(name));
        let _ = std::fs::remove_file(&out);
        let capture = if capture == "-" { "-" } else { input.as_str() };
        let output = Command::new(env!("CARGO_BIN_EXE_dietesp"))
            .args(["compress", capture, "-o", &out, "-r", &rules, "-k", &keys, "--seed", "1"])
            .args(more)
            .stdin(Stdio::from(std::fs::File::open(&input).unwrap()))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        Ran { status: output.status.code().unwrap(), said, out: std::fs::read(&out).ok() }
    }

    /// Compresses frames from a file, and from a pipe with another number of threads. Both must have the same
    /// result.
    fn compress(&self, frames: &[Frame], more: &[&str]) -> Ran {
        pcapng::write(Path::new(&self.path("in.pcapng")), frames);
        let of_pipe = self.run("-", &[more, &["--threads", "3"]].concat());
        let of_file = self.run("in.pcapng", more);
        assert_eq!((of_pipe.status, &of_pipe.said), (of_file.status, &of_file.said));
        assert!(of_pipe.out == of_file.out, "{}", of_file.said);
        of_file
    }

    fn written(&self) -> Vec<Frame> {
        pcapng::read(Path::new(&self.path("out.pcapng")))
    }

    /// The packets in the output, by frame.
    fn opened(&self) -> Vec<Option<Vec<u8>>> {
        let [out, keys, rules] = ["out.pcapng", "keys.yaml", "rules.yaml"].map(|name| self.path(name));
        let (records, _) = decode([&out, "-r", &rules, "-k", &keys]);
        // Some packets look like nested ESP.
        let outer = records.iter().filter(|record| record["inside"].is_null());
        outer.map(|record| record["packet"].as_str().map(|packet| hex::decode(packet).unwrap())).collect()
    }
}

fn all(seed: u64, count: usize) -> Vec<Made> {
    let mut numbers = Numbers(seed);
    (0..count).map(|_| make(&mut numbers)).collect()
}

fn frames(made: &[Made]) -> Vec<Frame> {
    made.iter().map(|made| made.frame.clone()).collect()
}

/// The number before `what` in a summary; 0 if it does not occur.
fn said(summary: &str, what: &str) -> usize {
    let line = summary.lines().find(|line| line.contains(what));
    line.map_or(0, |line| line.split(' ').next().unwrap().parse().unwrap())
}

/// Whether a frame is ESP between the tunnel addresses of the contexts.
fn is_esp(frame: &Frame) -> bool {
    let has = |bytes: &[u8]| frame.data.windows(bytes.len()).any(|window| window == bytes);
    let v6 =
        [&[50, 64, 0x20, 1, 0xd, 0xb8, 0, 0xf][..], &[0; 9], &[1, 0x20, 1, 0xd, 0xb8, 0, 0xf], &[0; 9], &[2]].concat();
    let v4 = frame.data.windows(12).any(|ip| ip[..2] == [64, 50] && ip[4..] == [192, 0, 2, 1, 192, 0, 2, 2]);
    has(&v6) || v4
}

fn of_kind(made: &[Made], kind: Kind) -> usize {
    made.iter().filter(|made| made.kind == kind).count()
}

/// Number of packets that did not match, for all fields together.
fn mismatches(summary: &str) -> usize {
    let counts = summary.lines().filter(|line| line.contains(" did not match because of "));
    counts.map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap()).sum()
}

/// Number of frames that were not compressed because they contain no packet.
fn without_packet(summary: &str) -> usize {
    said(summary, "without an IP packet") + said(summary, "malformed, truncated")
}

/// The marks of frames that occur in `bytes`. All are searched at once, because there are many.
fn marks_in<'m>(made: impl Iterator<Item = &'m Made>, bytes: &[u8]) -> Vec<&'m [u8]> {
    let marks: HashSet<&[u8]> = made.map(|made| made.mark.as_slice()).filter(|mark| mark.len() == MARK_LEN).collect();
    bytes.windows(MARK_LEN).filter_map(|window| marks.get(window).copied()).collect()
}

#[test]
fn unencrypted_frames_are_skipped_and_counted() {
    let lab = Lab::new(RULES);
    let made = all(1, 10_000);
    let ran = lab.compress(&frames(&made), &["--on-mismatch", "skip"]);
    assert_eq!(ran.status, 1, "{}", ran.said);
    let whole: Vec<&Made> = made.iter().filter(|made| made.kind == Kind::Whole).collect();
    let written = lab.written();
    assert_eq!(written.len(), whole.len());
    assert!(written.iter().all(is_esp));
    assert!(marks_in(made.iter(), &ran.out.unwrap()).is_empty());
    for ((opened, made), frame) in lab.opened().iter().zip(&whole).zip(&written) {
        assert_eq!(opened.as_ref(), Some(&made.packet), "{}", hex::encode(&frame.data));
    }
    assert_eq!(said(&ran.said, "packets compressed"), whole.len(), "{}", ran.said);
    assert_eq!(mismatches(&ran.said), of_kind(&made, Kind::Odd), "{}", ran.said);
    assert_eq!(without_packet(&ran.said), of_kind(&made, Kind::NoPacket), "{}", ran.said);
    assert_eq!(said(&ran.said, "without a complete new packet"), of_kind(&made, Kind::Radio), "{}", ran.said);
    assert!(!ran.said.contains("unchanged") && !ran.said.contains("not-esp"), "{}", ran.said);
    for kind in [Kind::Whole, Kind::Odd, Kind::NoPacket, Kind::Radio] {
        assert!(of_kind(&made, kind) > 300, "{kind:?}: {}", of_kind(&made, kind));
    }
}

#[test]
fn frames_written_on_request_are_counted() {
    let lab = Lab::new(RULES);
    let made = all(2, 10_000);
    let ran = lab.compress(&frames(&made), &["--on-mismatch", "pass"]);
    assert_eq!(ran.status, 1, "{}", ran.said);
    // Packets that match no context use the tunnel of the first one, which is IPv6.
    let unwritable = |made: &&Made| made.kind == Kind::Odd && made.frame.link_type == IPV4_ONLY;
    let expected: Vec<&Made> = made.iter().filter(|made| made.kind != Kind::Radio && !unwritable(made)).collect();
    let (written, opened) = (lab.written(), lab.opened());
    assert_eq!(written.len(), expected.len());
    for ((made, frame), opened) in expected.iter().zip(&written).zip(&opened) {
        let digits = hex::encode(&frame.data);
        match made.kind {
            Kind::Whole => assert_eq!(opened.as_ref(), Some(&made.packet), "{digits}"),
            Kind::Odd => assert!(is_esp(frame), "{digits}"),
            _ => assert_eq!(frame, &made.frame),
        }
    }
    let encrypted = made.iter().filter(|made| made.kind != Kind::NoPacket);
    assert!(marks_in(encrypted, &ran.out.unwrap()).is_empty());
    assert_eq!(said(&ran.said, "packets compressed"), of_kind(&made, Kind::Whole), "{}", ran.said);
    let omitted = made.iter().filter(unwritable).count();
    assert!(omitted > 0 && said(&ran.said, "no frame can hold") == omitted, "{}", ran.said);
    assert_eq!(mismatches(&ran.said), of_kind(&made, Kind::Odd), "{}", ran.said);
    assert_eq!(said(&ran.said, "written as standard ESP"), of_kind(&made, Kind::Odd) - omitted, "{}", ran.said);
    let unchanged = said(&ran.said, "other frames written unchanged, not encrypted");
    assert_eq!(unchanged, of_kind(&made, Kind::NoPacket), "{}", ran.said);
}

/// The run ends at the first frame that cannot be encrypted, so many short captures are used.
#[test]
fn a_run_stops_at_the_first_frame_that_is_not_encrypted() {
    let lab = Lab::new(RULES);
    let mut ends = [0; 2];
    for seed in 100..300 {
        let made = all(seed, 1 + seed as usize % 4);
        let ran = lab.compress(&frames(&made), &[]);
        match made.iter().position(|made| matches!(made.kind, Kind::Odd | Kind::NoPacket)) {
            Some(at) => {
                assert_eq!((ran.status, &ran.out), (1, &None), "seed {seed}: {}", ran.said);
                assert!(ran.said.starts_with(&format!("dietesp: frame {}: ", at + 1)), "seed {seed}: {}", ran.said);
                ends[1] += 1;
            }
            None => {
                let packets = of_kind(&made, Kind::Whole);
                // Only acknowledgments: nothing was compressed.
                assert_eq!(ran.status, i32::from(packets == 0), "seed {seed}: {}", ran.said);
                assert_eq!((lab.written().len(), lab.written().iter().all(is_esp)), (packets, true), "seed {seed}");
                ends[0] += 1;
            }
        }
    }
    assert!(ends.iter().all(|count| *count > 60), "{ends:?}");
}

/// Contexts with selectors and compressed headers. IPv4 packets use an IPv6 tunnel, which some link types cannot
/// carry.
#[test]
fn contexts_that_match_few_packets_let_none_pass_unencrypted() {
    const TUNNEL: &str = "ipsec_mode: Tunnel, tunnel_ip: { src: 2001:db8:f::1, dst: 2001:db8:f::2 }";
    for (seed, contexts) in (10..).zip([
        format!("{{ sa: v6, {TUNNEL}, ts_ip_version: IPv6-only, ts_proto: UDP, alignment: 8 bit }}"),
        format!("{{ sa: v6, {TUNNEL}, ts_ip_version: IPv4-only, alignment: 8 bit }}"),
        format!("{{ sa: v6, {TUNNEL}, dialect: ehc, ts_ip_version: IPv6-only, ts_proto: UDP, esp_align: 8 }}"),
        format!("{{ sa: v6, {TUNNEL}, dialect: 6lo, ts_ip_version: IPv4-only }}"),
    ]) {
        let lab = Lab::new(&format!("contexts:\n  - {contexts}\n"));
        let made = all(seed, 2500);
        let ran = lab.compress(&frames(&made), &["--on-mismatch", "skip"]);
        assert_eq!(ran.status, 1, "{}", ran.said);
        let (compressed, written) = (said(&ran.said, "packets compressed"), lab.written());
        assert!(compressed > 100 && written.len() == compressed, "{}", ran.said);
        assert!(written.iter().all(is_esp));
        assert!(marks_in(made.iter(), &ran.out.unwrap()).is_empty());
        let radio = said(&ran.said, "without a complete new packet");
        let omitted = said(&ran.said, "no frame can hold");
        let counted = compressed + mismatches(&ran.said) + without_packet(&ran.said) + radio + omitted;
        assert_eq!(counted, made.len(), "{}", ran.said);
        let packets: HashSet<&[u8]> = made.iter().map(|made| made.packet.as_slice()).collect();
        for opened in lab.opened() {
            assert!(packets.contains(opened.unwrap().as_slice()));
        }
    }
}

/// Fragments only match tunnel mode, because receivers reassemble packets before they decrypt them.
#[test]
fn transport_mode_matches_no_fragments() {
    for version in ["IPv6-only", "IPv4-only"] {
        let rules = format!("contexts:\n  - {{ sa: any, ipsec_mode: Transport, ts_ip_version: {version} }}\n");
        let lab = Lab::new(&rules);
        let made = all(20, 2500);
        let ran = lab.compress(&frames(&made), &["--on-mismatch", "skip"]);
        let (compressed, opened) = (said(&ran.said, "packets compressed"), lab.opened());
        assert!(compressed > 100 && mismatches(&ran.said) > 100 && opened.len() == compressed, "{}", ran.said);
        let packets: HashSet<&[u8]> = made.iter().map(|made| made.packet.as_slice()).collect();
        for (opened, frame) in opened.into_iter().zip(lab.written()) {
            assert!(opened.is_some_and(|packet| packets.contains(packet.as_slice())), "{}", hex::encode(frame.data));
        }
        let ran = lab.compress(&frames(&made), &["--on-mismatch", "pass"]);
        assert!(ran.status == 2 && ran.out.is_none(), "{}", ran.said);
    }
}

/// A frame of IEEE 802.11 may contain several packets (A-MSDU). Each is handled separately.
#[test]
fn packets_of_one_frame_are_encrypted_one_by_one() {
    let lab = Lab::new(RULES);
    let made = all(30, 500);
    let whole = made.iter().filter(|made| made.kind == Kind::Whole && made.packet[0] == 0x60);
    let whole: Vec<&Made> = whole.take(100).collect();
    let frame = |parts: &[(&[u8], &[u8])]| {
        let mut data = [&[0x88, 0][..], &[0; 22], &[0x80, 0]].concat();
        for (ether_type, packet) in parts {
            data.resize(26 + (data.len() - 26).next_multiple_of(4), 0);
            let payload = [&[0xaa, 0xaa, 3, 0, 0, 0][..], ether_type, packet].concat();
            data.extend([&[2; 12][..], &(payload.len() as u16).to_be_bytes(), &payload].concat());
        }
        Frame { link_type: 105, orig_len: data.len() as u32, data }
    };
    let (v6, arp) = (&[0x86, 0xdd][..], (&[8, 6][..], &[0x5a; 46][..]));
    let two = |pair: &[&Made]| frame(&[(v6, &pair[0].packet), (v6, &pair[1].packet)]);
    let mut frames: Vec<Frame> = whole.chunks(2).map(two).collect();
    let ran = lab.compress(&frames, &[]);
    assert_eq!(ran.status, 0, "{}", ran.said);
    let packets: Vec<_> = whole.iter().map(|made| Some(made.packet.clone())).collect();
    assert_eq!(lab.opened(), packets);
    assert!(lab.written().iter().all(is_esp));

    // With a packet that cannot be encrypted.
    frames.push(frame(&[(v6, &made[0].packet), arp, (v6, &whole[0].packet)]));
    frames.push(frame(&[arp, arp]));
    let ran = lab.compress(&frames, &[]);
    assert!(ran.status == 1 && ran.said.contains("frame 51: "), "{}", ran.said);
    for (on_mismatch, unchanged) in [("skip", 0), ("pass", 1)] {
        let ran = lab.compress(&frames, &["--on-mismatch", on_mismatch]);
        assert_eq!(without_packet(&ran.said), 3, "{}", ran.said);
        assert_eq!(said(&ran.said, "written unchanged"), unchanged, "{}", ran.said);
        assert!(marks_in(made.iter(), &ran.out.unwrap()).is_empty());
    }
}

/// If a capture has ESP that decrypts, all other frames are written unchanged.
#[test]
fn other_frames_of_an_esp_capture_are_written_unchanged() {
    let lab = Lab::new(&std::fs::read_to_string(file("samples/ipv4/rules.yaml")).unwrap());
    std::fs::copy(file("keys/ipv4.yaml"), lab.path("keys.yaml")).unwrap();
    let (link_type, esp) = pcap::read(Path::new(&file("samples/ipv4/original.pcap")));
    let esp = esp.into_iter().map(|(_, data)| Frame { link_type: link_type as u16, orig_len: data.len() as u32, data });
    let made = all(3, 10_000);
    let others: Vec<Frame> =
        made.iter().filter(|made| made.frame.link_type != RADIO).map(|made| made.frame.clone()).collect();
    // Late in the capture, after much of the pipe has been read.
    let mut all = frames(&made);
    let esp: Vec<Frame> = esp.collect();
    for (frame, at) in esp.iter().zip((9000..).step_by(20)) {
        all.insert(at, frame.clone());
    }
    let keys = file("samples/ipv4/esp_keys.yaml");
    let ran = lab.compress(&all, &["--esp-keys", &keys]);
    assert_eq!(ran.status, 0, "{}", ran.said);
    assert_eq!(said(&ran.said, "packets compressed"), esp.len(), "{}", ran.said);
    let written = lab.written();
    let unchanged: Vec<&Frame> = written.iter().filter(|frame| others.contains(frame)).collect();
    assert_eq!(unchanged.len(), others.len());
    assert!(unchanged.iter().zip(&others).all(|(frame, other)| *frame == other));
    assert_eq!(said(&ran.said, "other frames written unchanged"), written.len() - esp.len(), "{}", ran.said);
}
