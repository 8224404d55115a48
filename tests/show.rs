//! `dietesp show`: every bit of every packet of the samples, of `tests/data` and of the test vectors is explained, and what
//! is shown is what was sent.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use common::show::{Case, cases, has, hex_of, kit, kit_case};
use common::{decode, dietesp, file, pcap};
use dietesp::internals::capture::{Reader, Window};
use dietesp::internals::codec::explain::OpenedPacket;
use dietesp::internals::codec::{Codec, State};
use dietesp::internals::net::{IpHeaders, IpVersion, OuterHeader};
use dietesp::internals::{bits, files};
use serde_json::{Value, json};

/// The members that `show` adds to a record.
const MORE: [&str; 7] = ["payload_offset", "nonce", "aad", "clear_text", "rows", "candidates", "unexplained"];

/// Bits as text of `0` and `1`.
fn digits(bytes: &[u8], at: usize, count: usize) -> String {
    (at..at + count).map(|at| if bits::read(bytes, at, 1).unwrap() == 1 { '1' } else { '0' }).collect()
}

fn number(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap()).unwrap()
}

/// Checks that rows describe all bits: of the ESP header, and of the clear text but for its payload.
fn check_rows(line: &Value, wire: Option<&[u8]>) {
    let clear = hex_of(&line["clear_text"]);
    let rows = line["rows"].as_array().unwrap();
    let (mut wire_end, mut clear_end, mut has_payload) = (0, 0, false);
    for row in rows {
        let (at, count) = (number(&row["bit_offset"]), number(&row["sent_bits"]));
        let text = row["bits"].as_str().unwrap();
        assert_eq!(text.len(), count, "{row}");
        if row["stage"] == "eec" {
            assert_eq!(at, wire_end, "{row}");
            assert!(wire.is_none_or(|wire| digits(wire, at, count) == text), "{row}");
            wire_end += count;
            continue;
        }
        // The payload is between the inner headers and the trailer.
        if row["field"] == "ESP.PAD" || row["field"] == "ESP.NXT" && !has_payload {
            assert!(at >= clear_end, "{row}");
            (clear_end, has_payload) = (at, true);
        }
        assert_eq!(at, clear_end, "{row}");
        assert_eq!(digits(&clear, at, count), text, "{row}");
        clear_end += count;
    }
    assert_eq!(
        wire_end,
        number(&line["esp"]["wire"]["spi_bits"])
            + number(&line["esp"]["wire"]["sn_bits"])
            + rows.iter().filter(|row| row["stage"] == "eec" && row["field"] == "RuleID").count() * 8
    );
    if line["status"] == "ok" {
        assert!(has_payload, "{line:?}");
        assert_eq!(clear_end.next_multiple_of(8), clear.len() * 8, "{line:?}");
    }
}

/// Values of rows are those of the record.
fn check_values(line: &Value) {
    let rows = line["rows"].as_array().unwrap();
    let value = |names: &[&str]| {
        rows.iter().find(|row| names.contains(&row["field"].as_str().unwrap())).map(|row| row["value"].clone())
    };
    assert_eq!(value(&["ESP.SPI"]).unwrap(), line["esp"]["spi"]);
    assert_eq!(value(&["ESP.SEQ"]).unwrap(), line["esp"]["sequence"]);
    let sequence = rows.iter().find(|row| row["field"] == "ESP.SEQ").unwrap();
    assert_eq!(sequence["origin"], line["esp"]["method"]);
    let inner = &line["inner"];
    for (names, expected) in [
        (["IPV6.VER", "IPV4.VER", "", ""], &inner["version"]),
        (["IPV6.SRC", "IPV4.SRC", "", ""], &inner["src"]),
        (["IPV6.DST", "IPV4.DST", "", ""], &inner["dst"]),
        (["UDP.SRC_PORT", "TCP.SRC_PORT", "UDPLITE.SRC_PORT", "SCTP.SRC_PORT"], &inner["src_port"]),
        (["UDP.DST_PORT", "TCP.DST_PORT", "UDPLITE.DST_PORT", "SCTP.DST_PORT"], &inner["dst_port"]),
    ] {
        if let Some(value) = value(&names).filter(|_| line["status"] == "ok" && !inner.is_null()) {
            assert_eq!(value, *expected, "{line:?}");
        }
    }
    // What records call restored from elsewhere was not sent.
    for name in line.get("restored").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name) {
        let short = name.rsplit('.').next().unwrap().to_ascii_uppercase();
        let names = |field: &str| match short.as_str() {
            "HOP_LIMIT" => field == "IPV6.HOP_LMT",
            "FLOW_LABEL" => field == "IPV6.FL",
            "IDENTIFICATION" => field == "IPV4.ID",
            "HEADER_CHECKSUM" => field == "IPV4.CKSUM",
            "CHECKSUM" => field.ends_with("CKSUM"),
            other => field.ends_with(other) || field == "IPV6.TC",
        };
        let row = rows.iter().find(|row| row["stage"] == "iipc" && names(row["field"].as_str().unwrap()));
        if let Some(row) = row {
            assert_eq!(row["sent_bits"], 0, "{name} {row}");
        }
    }
}

/// The frames of a capture.
fn frames(path: &str) -> Vec<Vec<u8>> {
    let (mut reader, mut window) = (Reader::open(Path::new(path)).unwrap(), Window::default());
    let mut frames = vec![];
    while reader.fill(&mut window).unwrap() {
        frames.extend(window.frames().map(|frame| frame.data.to_vec()));
    }
    frames
}

/// Checks the lines of a case against its frames and against `decode`. Returns how many have rows.
fn check_case(case: &Case) -> usize {
    let lines = case.lines();
    let (records, _) = decode(std::iter::once(&case.capture).chain(&case.options));
    assert_eq!(lines.len(), records.len(), "{}", case.capture);
    let frames = frames(&case.capture);
    let mut with_rows = 0;
    for (line, record) in lines.iter().zip(&records) {
        let mut own = line.clone();
        own.as_object_mut().unwrap().retain(|name, _| !MORE.contains(&name.as_str()));
        assert_eq!(own, *record, "{}", case.capture);
        assert!(!has(line, "unexplained"), "{line:?}");
        let has_esp = has(line, "esp") && !has(line, "repeat_of");
        assert!(!has_esp || has(line, "rows"), "{line:?}");
        if !has(line, "rows") {
            continue;
        }
        with_rows += 1;
        let frame = &frames[number(&line["frame"]) - 1];
        let wire = line.get("payload_offset").map(|at| &frame[number(at)..][..number(&line["esp"]["wire"]["bytes"])]);
        // Some frames of the radio sample are encrypted.
        let is_encrypted = case.capture.ends_with("radio.pcap");
        assert!(wire.is_some() || has(line, "fragments") || has(line, "inside") || is_encrypted, "{line:?}");
        check_rows(line, wire);
        check_values(line);
    }
    with_rows
}

#[test]
fn every_bit_of_every_capture_is_explained() {
    let with_rows: usize = cases().iter().map(check_case).sum();
    assert!(with_rows > 1000, "{with_rows}");
}

#[test]
fn every_value_is_that_of_the_kit() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit();
    let (case, vectors) = kit_case(folder.path(), &kit, true);
    assert!(check_case(&case) >= vectors.iter().filter(|vector| vector["packet"].is_u64()).count());
    let (mut packets, mut with_nonce) = (0, 0);
    for (line, vector) in case.lines().iter().zip(&vectors) {
        if !vector["packet"].is_u64() {
            continue;
        }
        packets += 1;
        assert_eq!(line["clear_text"], vector["clear_text"]);
        let sa = kit["sas"].as_array().unwrap().iter().find(|sa| sa["name"] == vector["sa"]).unwrap();
        let encr = sa["encr"].as_str().unwrap();
        let is_gmac = encr.contains("GMAC");
        let is_aead = is_gmac || ["CCM", "GCM", "POLY1305"].iter().any(|name| encr.contains(name));
        assert_eq!(line.get("nonce"), is_aead.then_some(&vector["nonce"]), "{vector}");
        assert_eq!(line.get("aad"), (is_aead && !is_gmac).then_some(&vector["aad"]), "{vector}");
        with_nonce += usize::from(is_aead);
        let rows = line["rows"].as_array().unwrap();
        let bits_of = |stage: &str, rule_id: bool| -> String {
            let own = rows.iter().filter(|row| row["stage"] == stage && (row["field"] == "RuleID") == rule_id);
            own.map(|row| row["bits"].as_str().unwrap()).collect()
        };
        assert_eq!(bits_of("iipc", false).len(), number(&vector["residue_bits"]), "{vector}");
        let inner_rule_id = bits_of("iipc", true);
        let payload_data = hex_of(&vector["payload_data"]);
        let residue = inner_rule_id.clone() + &bits_of("iipc", false);
        assert_eq!(digits(&payload_data, 0, residue.len()), residue, "{vector}");
        let eec = hex_of(&vector["eec_residue"]);
        assert_eq!(bits_of("eec", false), digits(&eec, 0, eec.len() * 8), "{vector}");
        for (stage, name) in [("eec", "header_rule_id"), ("ctec", "clear_rule_id")] {
            let rule_id = hex_of(&vector[name]);
            assert_eq!(bits_of(stage, true), digits(&rule_id, 0, rule_id.len() * 8), "{vector}");
        }
        let trailer = hex_of(&vector["trailer"]);
        let sent = bits_of("ctec", false);
        assert_eq!(digits(&trailer, 0, sent.len()), sent, "{vector}");
        assert_eq!(line["payload_offset"], vector["outer_header"].as_str().unwrap().len() / 2);
        check_tables(rows, &kit, &vector["sa"]);
    }
    assert!(packets >= 299 && with_nonce > 200, "{packets} {with_nonce}");
}

/// Rows have the fields and the numbers of bits of the kit's tables.
fn check_tables(rows: &[Value], kit: &Value, sa: &Value) {
    let tables = kit["tables"].as_array().unwrap().iter().find(|table| table["sa"] == *sa).unwrap();
    let all: Vec<(&Value, &Value, &Value)> = tables["rules"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|rule| {
            let fields = rule["fields"].as_array().unwrap().iter();
            fields.zip(rule["sent_bits"].as_array().unwrap()).map(|(row, bits)| (&row["FID"], &row["CDA"], bits))
        })
        .collect();
    for row in rows.iter().filter(|row| row["field"] != "RuleID" && row["field"] != "IPV4.OPTIONS") {
        let known = all.iter().any(|(fid, action, bits)| {
            **fid == row["field"] && **action == row["action"] && (bits.is_null() || **bits == row["sent_bits"])
        });
        assert!(known || tables["rules"].as_array().unwrap().is_empty(), "{row} {tables}");
    }
}

/// A small pseudorandom generator (xorshift), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// Changes some bytes, or the length.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            match (self.below(6), bytes.len()) {
                (0, len) => bytes.truncate(self.below(len + 1)),
                (1, len) if len < 3000 => bytes.extend((0..self.below(20)).map(|at| at as u8)),
                (_, 0) => {}
                (2, len) => bytes[self.below(len)] = self.below(256) as u8,
                (_, len) => bytes[self.below(len.min(40))] ^= 1 << self.below(8),
            }
        }
    }
}

/// What a codec restores, it explains, whatever the clear text is.
#[test]
fn every_clear_text_that_restores_is_explained() {
    let kit = kit();
    let text = json!({"sas": kit["sas"], "contexts": kit["contexts"]}).to_string();
    let loaded = files::parse(Path::new("kit"), text.as_bytes()).unwrap();
    let bound = files::bind(&loaded.sas, &loaded.contexts).unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut restored_count, mut malformed_count) = (0, 0);
    for vector in kit["packets"].as_array().unwrap() {
        let sa = loaded.sas.iter().position(|sa| vector["sa"] == sa.name.as_str()).unwrap();
        let context = bound[sa].map(|index| &loaded.contexts[index]);
        let block = loaded.sas[sa].keys.suite().block;
        let codec = Codec::new(context, block).unwrap();
        let (header, wire) = (hex_of(&vector["outer_header"]), hex_of(&vector["wire"]));
        let address = |at: usize| -> IpAddr {
            match header[0] >> 4 {
                4 => <[u8; 4]>::try_from(&header[12 + at * 4..16 + at * 4]).unwrap().into(),
                _ => <[u8; 16]>::try_from(&header[8 + at * 16..24 + at * 16]).unwrap().into(),
            }
        };
        let version = if header[0] >> 4 == 4 { IpVersion::V4 } else { IpVersion::V6 };
        let (dscp, ecn, hop_limit, flow_label) = (11, 1, 63, 0x2345);
        let outer = OuterHeader { version, src: address(0), dst: address(1), dscp, ecn, hop_limit, flow_label };
        let protocol_offset = if version == IpVersion::V4 { 9 } else { 6 };
        let number = |name: &str| u64::from_str_radix(vector[name].as_str().unwrap(), 16).unwrap();
        for _ in 0..150 {
            let mut clear = hex_of(&vector["clear_text"]);
            random.damage(&mut clear);
            let (mut state, mut packet) = (State::default(), vec![]);
            let headers = IpHeaders { outer: &outer, header: &header, protocol_offset };
            let restored = codec.restore(&clear, &headers, &mut state, &mut packet).ok();
            restored_count += usize::from(restored.is_some());
            malformed_count += usize::from(restored.is_none());
            let opened = OpenedPacket {
                payload: &wire,
                spi: number("spi") as u32,
                sequence: number("sn"),
                clear: &clear,
                outer: &outer,
                restored: restored.as_ref().map(|restored| (restored, packet.as_slice())),
            };
            let explained = codec.explain(context, block, &opened);
            assert!(explained.is_ok(), "{explained:?} {} {vector}", hex::encode(&clear));
        }
    }
    assert!(restored_count > 10_000 && malformed_count > 3_000, "{restored_count} {malformed_count}");
}

#[test]
fn the_exit_status_is_that_of_the_frames() {
    let probe = Case::new("samples/probe/diet-esp.pcapng", &["samples/probe/rules.yaml"], &["keys/probe.yaml"]);
    let run = |frames: &str, options: &[String]| {
        let args = ["show", &probe.capture, "--frames", frames].map(str::to_owned);
        let output = dietesp(args.into_iter().chain(options.iter().cloned()));
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        (output.status.code().unwrap(), stdout.lines().filter(|line| line.starts_with("Frame ")).count(), stderr)
    };
    let own = probe.options.clone();
    assert_eq!(run("17", &own), (0, 1, String::new()));
    assert_eq!(run("19,17,18-18", &own), (0, 3, String::new()));
    let (status, shown, stderr) = run("17,999999", &own);
    assert_eq!((status, shown), (1, 1));
    assert!(stderr.contains("not all of --frame 999999"), "{stderr}");
    let (status, shown, stderr) = run("999999,1000000-", &own);
    assert_eq!((status, shown), (2, 0));
    assert!(stderr.contains("not all of --frame 999999,1000000-"), "{stderr}");
    for wrong in ["", "0x1", "5-3", "a"] {
        assert_eq!(run(wrong, &own).0, 2, "{wrong}");
    }
    // The keys of another sample decrypt nothing.
    let other = ["-r", &file("samples/tcp/rules.yaml"), "-k", &file("keys/tcp.yaml")].map(str::to_owned);
    assert_eq!(run("1", &other).0, 1);
}

/// Frames after the last one that is shown are not read: a damaged rest of the capture is not noticed.
#[test]
fn reading_stops_after_the_last_frame() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.pcap");
    let packet: pcap::Frame = (1_770_000_000_000_000_000, vec![0x60; 1400]);
    pcap::write(&path, pcap::RAW, &vec![packet; 1000]);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&path, bytes).unwrap();
    let run = |frames: &str| {
        let args =
            ["show", path.to_str().unwrap(), "--frame", frames, "-k", &file("keys/probe.yaml")].map(str::to_owned);
        String::from_utf8(dietesp(args).stderr).unwrap()
    };
    assert_eq!(run("3"), "");
    assert!(run("1-").contains("truncated"));
}

/// Damaged captures: nothing panics, every line is a record, and what is explained is explained rightly.
#[test]
fn damaged_frames_do_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let kit = kit();
    let (mut case, _) = kit_case(folder.path(), &kit, true);
    let (link_type, originals) = pcap::read(Path::new(&case.capture));
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let damaged: Vec<pcap::Frame> = (0..3)
        .flat_map(|_| originals.clone())
        .map(|(time, mut bytes)| {
            random.damage(&mut bytes);
            (time, bytes)
        })
        .collect();
    case.capture = folder.path().join("damaged.pcap").to_str().unwrap().to_owned();
    pcap::write(Path::new(&case.capture), link_type, &damaged);
    let mut options = case.options.clone();
    options.extend(["--sn-tries".to_owned(), "4".to_owned()]);
    case.options = options;
    let lines = case.lines();
    assert!(lines.len() >= damaged.len());
    for line in &lines {
        assert!(!has(line, "unexplained"), "{line}");
        let is_esp = matches!(line["status"].as_str().unwrap(), "no-sa" | "auth-failed");
        assert!(!is_esp || has(line, "candidates"), "{line}");
    }
    let by_status = |status: &str| lines.iter().filter(|line| line["status"] == status).count();
    let counts = ["auth-failed", "no-sa", "malformed", "ok"].map(by_status);
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
    assert!(!case.show("1-200", "text").is_empty());
}

/// `tests/python/show_schema.py`: every line is as `schemas/show.json` says.
#[test]
fn the_schema_describes_every_line() {
    let folder = tempfile::tempdir().unwrap();
    let (kit_case, _) = kit_case(folder.path(), &kit(), true);
    let text: String = cases().iter().chain([&kit_case]).map(|case| case.show("1-", "json")).collect();
    let mut child = Command::new(common::python())
        .arg(file("tests/python/show_schema.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), text.lines().count().to_string());
}
