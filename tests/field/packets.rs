//! Frames with several packets: nested ESP and aggregates. Also the size that standard ESP would have.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::common::{count, decode, dietesp_ends, pcap, wireshark_config};
use super::lab::{Lab, SAS, ip, udp};
use super::{case, common};

/// The innermost packet. tshark knows no protocol for its ports.
fn innermost() -> Vec<u8> {
    ip(["172.16.0.1", "172.16.0.2"], 17, &udp([7000, 61616], b"hello"))
}

/// `part`, `inside`, `status` and `sa` of records.
fn parts(records: &[Value]) -> Vec<(Value, Value, &str, Value)> {
    let of = |record: &Value, name: &str| record.get(name).cloned().unwrap_or_default();
    let part = |record| (of(record, "part"), of(record, "inside"), of(record, "sa"));
    let all = records.iter().map(|record| (part(record), record["status"].as_str().unwrap()));
    all.map(|((part, inside, sa), status)| (part, inside, status, sa)).collect()
}

#[test]
fn both_packets_of_the_field_case_are_decrypted() {
    let (capture, keys) = (case("11-nested-esp/nested.pcap"), case("11-nested-esp/nested.keys"));
    let (records, status) = decode([&capture, "-k", &keys]);
    assert_eq!(status, 0);
    assert_eq!(parts(&records), [(json!(1), Value::Null, "ok", json!("a")), (json!(2), json!(1), "ok", json!("in"))]);
    assert_eq!(records[0]["inner"]["protocol"], 50);
    assert_eq!(records[1]["outer"]["src"], "10.9.0.1");
    assert_eq!(records[1]["inner"]["src_port"], 5000);
    assert!(records[1]["packet"].as_str().unwrap().ends_with("68656c6c6f20776f726c642030313233"));

    let (fields, summary) = dietesp_ends(
        0,
        ["decode", &capture, "-k", &keys, "--format", "fields", "-e", "frame", "-e", "part", "-e", "inside"],
    );
    assert_eq!(fields, "1\t1\t\n1\t2\t1\n");
    assert_eq!(summary, "1 frame, 2 packets: 2 ok\n136 bytes on the wire, 136 as standard ESP, 0 saved (0.0 %)\n");
    let (table, _) = dietesp_ends(0, ["decode", &capture, "-k", &keys]);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[1].starts_with("   1.1  ") && rows[1].ends_with(" ok"), "{table}");
    assert!(rows[2].starts_with("   1.2  ") && rows[2].ends_with(" ok inside 1.1"), "{table}");
    let (sas, _) = dietesp_ends(0, ["sa", &capture, "-k", &keys, "--format", "jsonl"]);
    let verified = |line: &str| serde_json::from_str::<Value>(line).unwrap()["verified"].as_u64().unwrap();
    assert_eq!(sas.lines().map(verified).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_selection_applies_to_each_packet_of_a_frame() {
    let (capture, keys) = (case("11-nested-esp/nested.pcap"), case("11-nested-esp/nested.keys"));
    for (selection, expected) in [
        (["--spi", "0xabcd0001"], &[2][..]),
        (["--spi", "0xc0ffee01"], &[1]),
        (["--src", "10.9.0.1"], &[2]),
        (["--src", "192.0.2.1"], &[1]),
        (["--frames", "1"], &[1, 2]),
    ] {
        let args = ["decode", &capture, "-k", &keys, "--format", "jsonl", selection[0], selection[1]];
        let (records, summary) = dietesp_ends(0, args);
        let record = |line| serde_json::from_str::<Value>(line).unwrap()["part"].as_u64().unwrap();
        assert_eq!(records.lines().map(record).collect::<Vec<_>>(), expected, "{selection:?}");
        assert!(summary.contains(&format!("; {} of them shown", expected.len())), "{summary}");
    }
}

#[test]
fn nested_standard_esp_is_converted_with_all_keys_and_to_the_innermost_packet() {
    let (capture, keys) = (case("11-nested-esp/nested.pcap"), case("11-nested-esp/nested.keys"));
    let folder = tempfile::tempdir().unwrap();
    let convert = |to: &str, name: &str| {
        let out = folder.path().join(name);
        dietesp_ends(0, ["convert", &capture, "-k", &keys, "--to", to, "-o", out.to_str().unwrap()]);
        out
    };
    let esp = convert("esp", "esp.pcap");
    assert_eq!(pcap::read(&esp), pcap::read(Path::new(&capture)), "it is standard ESP already");
    let config = folder.path().join("esp.pcap.wireshark");
    let esp_sa = std::fs::read_to_string(config.join("esp_sa")).unwrap();
    assert!(["0xc0ffee01", "0xabcd0001"].iter().all(|spi| esp_sa.contains(spi)), "{esp_sa}");
    assert_eq!(verified_layers(&config, &esp), [2], "tshark verifies both");
    let (records, _) = decode([&capture, "-k", &keys]);
    let (_, plain) = pcap::read(&convert("plain", "plain.pcap"));
    assert_eq!(plain.len(), 1);
    assert_eq!(hex::encode(&plain[0].1[14..]), records[1]["packet"].as_str().unwrap());
}

/// Number of correct ICVs in each frame according to tshark.
fn verified_layers(config: &Path, capture: &Path) -> Vec<usize> {
    let args = ["-n", "-T", "fields", "-e", "esp.icv_good", "-r"].map(std::ffi::OsStr::new);
    let rows = common::tshark(Some(config), args.into_iter().chain([capture.as_os_str()]));
    rows.lines().map(|row| row.split(',').filter(|cell| ["1", "True"].contains(cell)).count()).collect()
}

#[test]
fn nested_esp_is_found_in_all_encapsulations() {
    let lab = Lab::new();
    let packet = innermost();
    let gre = |packet: &[u8]| [&[0, 0, 8, 0], packet].concat();
    let nested = lab.tunnel(0, 1, &packet);
    let transport = ip(["10.7.0.1", "10.7.0.2"], 50, &lab.esp(0, 1, 17, &packet[20..]));
    let v6 = ip(["2001:db8::1", "2001:db8::2"], 50, &lab.esp(0, 1, 4, &packet));
    let in_udp = ip(["10.7.0.1", "10.7.0.2"], 17, &udp([4500, 4501], &lab.esp(0, 1, 4, &packet)));
    for (what, carried) in [
        ("tunnel in tunnel", lab.tunnel(1, 1, &nested)),
        ("transport in tunnel", lab.tunnel(1, 1, &transport)),
        ("IPv6 in IPv4", lab.tunnel(1, 1, &v6)),
        ("UDP in tunnel", lab.tunnel(1, 1, &in_udp)),
        ("tunnel in transport", ip(["10.1.0.1", "10.1.0.2"], 50, &lab.esp(1, 1, 50, &nested[20..]))),
        ("GRE in transport", ip(["10.1.0.1", "10.1.0.2"], 50, &lab.esp(1, 1, 47, &gre(&nested)))),
        ("IP in IP in tunnel", lab.tunnel(1, 1, &ip(["10.8.0.1", "10.8.0.2"], 4, &nested))),
        ("all in UDP", ip(["10.8.0.1", "10.8.0.2"], 17, &udp([4500, 4500], &lab.esp(1, 1, 4, &in_udp)))),
    ] {
        let (records, status) = lab.decode(&lab.capture("one.pcap", &[carried]));
        assert_eq!(status, 0, "{what}");
        assert_eq!(
            parts(&records),
            [(json!(1), Value::Null, "ok", json!("s22")), (json!(2), json!(1), "ok", json!("s11"))],
            "{what}"
        );
        assert_eq!(records[1]["inner"]["dst_port"], 61616, "{what}");
        assert_eq!(records[0]["bytes"]["saved"], 0, "{what}");
    }
}

#[test]
fn nested_esp_is_found_on_user_defined_ports() {
    let lab = Lab::new();
    let in_udp = ip(["10.7.0.1", "10.7.0.2"], 17, &udp([4501, 7000], &lab.esp(0, 1, 4, &innermost())));
    let (capture, keys) = (lab.capture("named.pcap", &[lab.tunnel(1, 1, &in_udp)]), lab.keys());
    let args = [capture.as_os_str(), "-k".as_ref(), keys.as_os_str()];
    assert_eq!(decode(args).0.len(), 1);
    let (records, _) = decode(args.into_iter().chain(["--esp-port".as_ref(), "4501".as_ref()]));
    assert_eq!((records.len(), count(&records, "ok")), (2, 2));
}

#[test]
fn other_inner_packets_have_no_separate_record() {
    let lab = Lab::new();
    let ike = ip(["10.7.0.1", "10.7.0.2"], 17, &udp([4500, 4500], &[&[0; 4][..], &[7; 28]].concat()));
    let keepalive = ip(["10.7.0.1", "10.7.0.2"], 17, &udp([4500, 4500], &[0xff]));
    let gre = ip(["10.7.0.1", "10.7.0.2"], 47, &[&[0, 0, 8, 0], &innermost()[..]].concat());
    let ospf = ip(["10.7.0.1", "10.7.0.2"], 89, &[2; 24]);
    let packets: Vec<_> = (1..).zip([ike, keepalive, gre, ospf]).map(|(sn, inner)| lab.tunnel(0, sn, &inner)).collect();
    let (records, status) = lab.decode(&lab.capture("others.pcap", &packets));
    assert_eq!((records.len(), count(&records, "ok"), status), (4, 4, 0));
    assert!(records.iter().all(|record| record.get("part").is_none() && record.get("inside").is_none()));
}

#[test]
fn a_nested_packet_that_fails_has_a_record() {
    let lab = Lab::new();
    let mut damaged = lab.tunnel(0, 1, &innermost());
    *damaged.last_mut().unwrap() ^= 1;
    let foreign = ip(["10.7.0.1", "10.7.0.2"], 50, &[&[0xee; 8][..], &[1; 40]].concat());
    let short = ip(["10.7.0.1", "10.7.0.2"], 50, &lab.esp(0, 9, 4, &innermost())[..20]);
    for (nested, verdict, sa, status) in [
        (damaged, "auth-failed", json!("s11"), 1),
        // Like any packet without SA, it does not count as a failure.
        (foreign, "no-sa", Value::Null, 0),
        (short, "malformed", json!("s11"), 1),
    ] {
        let capture = lab.capture("failing.pcap", &[lab.tunnel(1, 1, &nested)]);
        let (records, ended) = lab.decode(&capture);
        let expected = [(json!(1), Value::Null, "ok", json!("s22")), (json!(2), json!(1), verdict, sa)];
        assert_eq!((parts(&records), ended), (expected.to_vec(), status));
        // It can be selected, and is named in the output.
        let out = lab.path("out.pcapng");
        let args = ["convert", "-q", capture.to_str().unwrap(), "-o", out.to_str().unwrap(), "--to", "plain", "-k"];
        let converted = common::dietesp(args.iter().map(Path::new).chain([lab.keys().as_path()]));
        assert_eq!(converted.status.code(), Some(1), "{verdict}: an encrypted packet is left");
        let written = std::fs::read(&out).unwrap();
        let has = |bytes: &[u8]| written.windows(bytes.len()).any(|window| window == bytes);
        assert!(has(&nested), "{verdict}: what is still encrypted");
        assert_eq!(has(format!("dietesp: part 2: {verdict}: ").as_bytes()), status == 1);
    }
}

#[test]
fn the_nesting_depth_is_limited_and_reported() {
    let lab = Lab::new();
    let mut packet = innermost();
    for sn in 1..=11 {
        packet = lab.tunnel(0, sn, &packet);
    }
    let capture = lab.capture("deep.pcap", &[packet]);
    let (records, status) = lab.decode(&capture);
    assert_eq!(status, 1);
    assert_eq!((records.len(), count(&records, "ok"), count(&records, "unsupported")), (10, 9, 1));
    for (index, record) in records.iter().enumerate() {
        assert_eq!(record["part"], index + 1);
        assert_eq!(record["inside"].as_u64().unwrap_or(0), index as u64);
    }
    assert_eq!(records[9]["reason"], "ESP inside eight other ESP packets, which is the limit: not decrypted");
    assert_eq!(records[9]["outer"]["src"], "10.0.0.1");
}

#[test]
fn fragments_inside_a_tunnel_are_reassembled() {
    let lab = Lab::new();
    let whole = lab.tunnel(0, 1, &innermost());
    let (header, payload) = whole.split_at(20);
    let piece = |range: std::ops::Range<usize>, more: bool| {
        let mut packet = [header, &payload[range.clone()]].concat();
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[6..8].copy_from_slice(&(u16::from(more) << 13 | (range.start / 8) as u16).to_be_bytes());
        packet[10..12].copy_from_slice(&[0; 2]);
        let checksum = dietesp::internals::net::checksum::internet(&packet[..20]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    };
    let frames = [lab.tunnel(1, 1, &piece(0..32, true)), lab.tunnel(1, 2, &piece(32..payload.len(), false))];
    let (records, status) = lab.decode(&lab.capture("fragments.pcap", &frames));
    assert_eq!(status, 0);
    let status = |record: &Value| record["status"].as_str().unwrap().to_owned();
    assert_eq!(records.iter().map(status).collect::<Vec<_>>(), ["ok", "not-esp", "ok", "ok"]);
    assert_eq!(records[1]["reason"], "fragment");
    assert_eq!((&records[3]["fragments"], &records[3]["inner"]["dst_port"]), (&json!([1, 2]), &json!(61616)));
}

#[test]
fn repeats_of_nested_packets_are_recognized() {
    let lab = Lab::new();
    let frame = lab.tunnel(1, 1, &lab.tunnel(0, 1, &innermost()));
    let (records, _) = lab.decode(&lab.capture("twice.pcap", &[frame.clone(), frame.clone()]));
    let of = |records: &[Value]| -> Vec<Value> { records.iter().map(|record| record["repeat_of"].clone()).collect() };
    assert_eq!(of(&records), [Value::Null, Value::Null, json!(1), json!(1)]);

    // On the radio, the frame itself is repeated: an IEEE 802.15.4 data frame with an uncompressed IPv6 packet.
    let carrier = ip(["2001:db8::1", "2001:db8::2"], 50, &lab.esp(1, 1, 4, &lab.tunnel(0, 1, &innermost())));
    let radio = [&[0x41, 0x88, 7, 0xcd, 0xab, 2, 0, 1, 0, 0x41], &carrier[..]].concat();
    let path = lab.path("radio.pcap");
    pcap::write(&path, 230, &[(1_000_000_000, radio.clone()), (1_010_000_000, radio)]);
    let (records, status) = lab.decode(&path);
    assert_eq!(status, 0);
    assert_eq!(of(&records), [Value::Null, Value::Null, json!(1), json!(1)]);
    let without = |record: &Value| {
        let mut record = record.as_object().unwrap().clone();
        record.retain(|name, _| !["frame", "time", "repeat_of", "warnings"].contains(&name.as_str()));
        record
    };
    assert_eq!([without(&records[2]), without(&records[3])], [without(&records[0]), without(&records[1])]);
    assert_eq!(records[3]["warnings"], json!(["duplicate"]));
    let out = lab.path("radio-out.pcap");
    let [radio, out, keys] = [&path, &out, &lab.keys()].map(|path| path.to_str().unwrap().to_owned());
    dietesp_ends(0, ["convert", &radio, "-o", &out, "-k", &keys, "--to", "plain"]);
    let (_, plain) = pcap::read(Path::new(&out));
    assert_eq!(plain.iter().map(|frame| frame.1.clone()).collect::<Vec<_>>(), [innermost()], "once, and the innermost");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let lab = Lab::new();
    let mut damaged = lab.tunnel(2, 1, &innermost());
    *damaged.last_mut().unwrap() ^= 1;
    let frame = |sn: u64| match sn % 4 {
        0 => lab.tunnel(1, sn, &lab.tunnel(0, sn, &innermost())),
        1 => lab.tunnel(1, sn, &innermost()),
        2 => lab.tunnel(0, sn, &innermost()),
        _ => lab.tunnel(1, sn, &damaged),
    };
    let packets: Vec<_> = (1..=6000).map(frame).collect();
    let capture = lab.capture("many.pcap", &packets);
    let [capture, keys] = [&capture, &lab.keys()].map(|path| path.to_str().unwrap().to_owned());
    let run = |threads: &str| {
        let args = ["decode", &capture, "-k", &keys, "--format", "jsonl", "--threads", threads];
        let decoded = dietesp_ends(1, args);
        let out = lab.path("many-out.pcapng");
        let out = out.to_str().unwrap();
        common::dietesp(["convert", &capture, "-k", &keys, "-o", out, "--to", "plain", "--threads", threads]);
        (decoded, std::fs::read(out).unwrap())
    };
    let one = run("1");
    assert!(one.0.1.starts_with("6000 frames, 9000 packets: 7500 ok, 1500 auth-failed\n"), "{}", one.0.1);
    for threads in ["2", "5"] {
        assert!(run(threads) == one, "{threads} threads");
    }
}

#[test]
fn nested_diet_esp_is_written_after_its_frame() {
    let lab = Lab::new();
    let rules = lab.path("rules.yaml");
    std::fs::write(
        &rules,
        "contexts:\n  - { sa: s11, dialect: 6lo, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, SPI_SIZE: 2, SN_SIZE: 2 }\n",
    )
    .unwrap();
    let esp = lab.esp(0, 1, 4, &innermost());
    let diet = ip(["10.0.0.1", "10.0.0.2"], 50, &[&esp[2..4], &esp[6..]].concat());
    let frame = lab.tunnel(1, 1, &diet);
    let capture = lab.capture("diet.pcap", std::slice::from_ref(&frame));
    let [capture, keys, rules] = [&capture, &lab.keys(), &rules].map(|path| path.to_str().unwrap().to_owned());
    let (records, _) = decode([&capture, "-k", &keys, "-r", &rules]);
    let saved = |record: &Value| record["bytes"]["saved"].as_i64().unwrap();
    assert_eq!(records.iter().map(saved).collect::<Vec<_>>(), [0, 4]);
    let (_, summary) = dietesp_ends(0, ["decode", &capture, "-k", &keys, "-r", &rules]);
    let wire = frame.len() - 20;
    assert!(summary.contains(&format!("{wire} bytes on the wire, {} as standard ESP, 4 saved", wire + 4)), "{summary}");

    let out = lab.path("out.pcapng");
    let out_text = out.to_str().unwrap();
    dietesp_ends(0, ["convert", &capture, "-o", out_text, "-k", &keys, "-r", &rules]);
    let written = std::fs::read(&out).unwrap();
    let has = |bytes: &[u8]| written.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(&frame), "the frame is standard ESP on the outside");
    assert!(has(&ip(["10.0.0.1", "10.0.0.2"], 50, &esp)[20..]), "what is inside has its header put back");
    let layers = verified_layers(&lab.path("out.pcapng.wireshark"), &out);
    assert_eq!(layers, [1, 1], "the frame, and the packet that was inside it");
    let plain = lab.path("plain.pcap");
    dietesp_ends(0, ["convert", &capture, "-o", plain.to_str().unwrap(), "-k", &keys, "-r", &rules, "--to", "plain"]);
    assert_eq!(pcap::read(&plain).1[0].1, innermost());
}

#[test]
fn compress_and_vectors_handle_nested_packets() {
    let lab = Lab::new();
    let rules = lab.path("rules.yaml");
    let context = |sa: &str, src: &str, dst: &str| {
        format!(
            "  - {{ sa: {sa}, dialect: 6lo, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, SPI_SIZE: 2, SN_SIZE: 2, \
             tunnel_ip: {{ src: {src}, dst: {dst} }} }}\n"
        )
    };
    let both = context("s11", "10.0.0.1", "10.0.0.2") + &context("s22", "10.1.0.1", "10.1.0.2");
    std::fs::write(&rules, format!("contexts:\n{both}")).unwrap();
    let nested = lab.tunnel(0, 1, &innermost());
    let capture = lab.capture("nested.pcap", &[lab.tunnel(1, 1, &nested)]);
    let [capture, keys, rules] = [&capture, &lab.keys(), &rules].map(|path| path.to_str().unwrap().to_owned());
    let out = lab.path("compressed.pcap");
    dietesp_ends(0, ["compress", &capture, "-o", out.to_str().unwrap(), "-k", &keys, "-r", &rules]);
    // The inner packet is not changed, so it is standard ESP.
    let only_outer = lab.path("outer.yaml");
    std::fs::write(&only_outer, format!("contexts:\n{}", context("s22", "10.1.0.1", "10.1.0.2"))).unwrap();
    let (records, status) = decode([&out, &PathBuf::from("-k"), &lab.keys(), &PathBuf::from("-r"), &only_outer]);
    assert_eq!((records.len(), count(&records, "ok"), status), (2, 2, 0));
    assert_eq!(records[0]["packet"], hex::encode(&nested));
    assert_eq!(records[0]["bytes"]["saved"], 4);

    let kit = lab.path("kit.json");
    let kit = kit.to_str().unwrap();
    dietesp_ends(0, ["vectors", "make", &capture, "-k", &keys, "-r", &rules, "--esp-keys", &keys, "-o", kit]);
    let kit: Value = serde_json::from_slice(&std::fs::read(kit).unwrap()).unwrap();
    assert_eq!(kit["packets"].as_array().unwrap().len(), 2);
}

/// An IEEE 802.11 data frame with an A-MSDU of these IPv4 packets.
fn aggregate(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = hex::decode("8801000002000000000202000000000102000000000300008000").unwrap();
    for packet in packets {
        let padded = (frame.len() - 26).next_multiple_of(4) + 26;
        frame.resize(padded, 0);
        frame.extend(hex::decode("020000000002020000000001").unwrap());
        frame.extend((packet.len() as u16 + 8).to_be_bytes());
        frame.extend(hex::decode("aaaa030000000800").unwrap());
        frame.extend(packet);
    }
    frame
}

#[test]
fn an_aggregate_has_a_record_for_each_packet() {
    let (capture, keys) = (case("07-encapsulations/lt-80211-amsdu.pcap"), case("07-encapsulations/keys.yaml"));
    let (records, status) = decode([&capture, "-k", &keys]);
    assert_eq!((records.len(), count(&records, "ok"), status), (1, 1, 0));
    assert!(records[0].get("part").is_none(), "it holds one packet");

    let lab = Lab::new();
    // Lengths that need padding between the packets.
    let data = |len: usize| ip(["172.16.0.1", "172.16.0.2"], 17, &udp([7000, 61616], &vec![7; len]));
    let nested = lab.tunnel(1, 1, &lab.tunnel(0, 1, &data(3)));
    let packets = [lab.tunnel(2, 1, &data(5)), nested, data(2), lab.tunnel(2, 2, &data(8))];
    let path = lab.path("aggregate.pcap");
    // A frame check sequence of four bytes may follow.
    let with_fcs = [aggregate(&packets), vec![0xaa; 4]].concat();
    pcap::write(&path, 105, &[(1_000_000_000, aggregate(&packets)), (2_000_000_000, with_fcs)]);
    let (records, status) = lab.decode(&path);
    assert_eq!(status, 0);
    let expected = [
        (json!(1), Value::Null, "ok", json!("s33")),
        (json!(2), Value::Null, "ok", json!("s22")),
        (json!(3), json!(2), "ok", json!("s11")),
        (json!(4), Value::Null, "not-esp", Value::Null),
        (json!(5), Value::Null, "ok", json!("s33")),
    ];
    assert_eq!(parts(&records), [&expected[..], &expected].concat());
    let (_, summary) = dietesp_ends(0, ["decode", path.to_str().unwrap(), "-k", lab.keys().to_str().unwrap()]);
    assert!(summary.starts_with("2 frames, 10 packets: 8 ok, 2 not-esp\n"), "{summary}");

    let out = lab.path("plain.pcapng");
    let [path, out, keys] = [&path, &out, &lab.keys()].map(|path| path.to_str().unwrap().to_owned());
    let (_, summary) = dietesp_ends(0, ["convert", &path, "-k", &keys, "-o", &out, "--to", "plain", "--frames", "1"]);
    assert!(summary.contains("4 frames written"), "the frame, and three packets: {summary}");
    let written = std::fs::read(&out).unwrap();
    for packet in [data(5), data(3), data(8)] {
        assert!(written.windows(packet.len()).any(|window| window == packet));
    }
}

#[test]
fn a_wireshark_key_list_opens_nested_packets_too() {
    let folder = wireshark_config(Path::new(&case("11-nested-esp/nested.esp_sa")));
    let capture = case("11-nested-esp/nested.pcap");
    assert_eq!(verified_layers(folder.path(), Path::new(&capture)), [2]);
    let (records, _) = decode([&capture, "-k", &case("11-nested-esp/nested.esp_sa")]);
    assert_eq!((records.len(), count(&records, "ok")), (2, 2));
}

#[test]
fn standard_esp_saves_nothing() {
    let (capture, keys) = (case("19-tfc-saved/tfc-v4.pcap"), case("19-tfc-saved/tfc-v4.keys"));
    let (records, status) = decode([&capture, "-k", &keys]);
    assert_eq!((status, &records[0]["bytes"]), (0, &json!({ "diet": 180, "esp": 180, "saved": 0 })));
    let (_, summary) = dietesp_ends(0, ["decode", &capture, "-k", &keys]);
    assert_eq!(summary, "1 frame: 1 ok\n180 bytes on the wire, 180 as standard ESP, 0 saved (0.0 %)\n");
}

/// Clear texts with more bytes than necessary: TFC padding, long Padding, dummy packets; in tunnel and in transport
/// mode.
fn long_clear_texts() -> [Vec<u8>; 5] {
    let packet = innermost();
    let trailer = |data: &[u8], pad_len: u8, next_header: u8| {
        assert_eq!((data.len() + usize::from(pad_len) + 2) % 4, 0);
        [data, &(1..=pad_len).collect::<Vec<_>>(), &[pad_len, next_header]].concat()
    };
    [
        trailer(&[&packet, &[0; 100][..]].concat(), 1, 4),
        trailer(&packet, 1 + 200, 4),
        trailer(&[&packet, &[0; 60][..]].concat(), 1 + 40, 4),
        trailer(&packet[20..], 1 + 100, 17),
        trailer(&[0; 77], 1, 59),
    ]
}

#[test]
fn length_hiding_bytes_are_neither_saved_nor_lost() {
    let lab = Lab::new();
    let sealed =
        |clear: &[u8], header: &[u8]| ip(["10.0.0.1", "10.0.0.2"], 50, &lab.sealed(0, 1, &[9; 8], header, clear));
    let rules = |text: &str| {
        let rules = lab.path("rules.yaml");
        std::fs::write(&rules, format!("contexts:\n  - {{ sa: s11, {text} }}\n")).unwrap();
        rules
    };
    let saved = |packet: Vec<u8>, rules: Option<&PathBuf>| {
        let (capture, keys) = (lab.capture("long.pcap", &[packet]), lab.keys());
        let mut args = vec![capture.as_os_str(), "-k".as_ref(), keys.as_os_str()];
        args.extend(rules.iter().flat_map(|rules| ["-r".as_ref(), rules.as_os_str()]));
        let (records, status) = decode(args);
        assert_eq!((records[0]["status"].as_str(), status), (Some("ok"), 0));
        records[0]["bytes"]["saved"].as_i64().unwrap()
    };
    for clear in long_clear_texts() {
        let (spi, sn) = (SAS[0].0.to_be_bytes(), 1u32.to_be_bytes());
        assert_eq!(saved(sealed(&clear, &[spi, sn].concat()), None), 0);
        // The same with four bytes of its header elided. Four bytes are saved, whatever the length.
        let mode = if clear.ends_with(&[17]) { "Transport" } else { "Tunnel" };
        let version = if mode == "Tunnel" { "ts_ip_version: IPv4-only, " } else { "" };
        let rules = rules(&format!("dialect: 6lo, ipsec_mode: {mode}, {version}SPI_SIZE: 2, SN_SIZE: 2"));
        assert_eq!(saved(sealed(&clear, &[&spi[2..], &sn[2..]].concat()), Some(&rules)), 4);
    }
    // If the length is sent, the packet ends there.
    let rules = rules(
        "ipsec_mode: Tunnel, ts_ip_version: IPv6-only, ts_proto: 58, payload_length_cda: not_compressed, alignment: 8 bit, \
         esp_spi_lsb: 32, esp_sn_lsb: 32",
    );
    let inner = ip(["2001:db8:1::1", "2001:db8:2::2"], 58, &[128, 0, 0, 0, 1, 2, 3, 4]);
    // Traffic class and flow label, length, addresses, payload: 3.5 + 2 + 32 bytes of residue.
    let nibbles = format!("{}{}{}", &hex::encode(&inner)[1..12], &hex::encode(&inner)[16..80], "0");
    let residue = hex::decode(nibbles).unwrap();
    let diet = [&residue[..], &inner[40..]].concat();
    let header = [SAS[0].0.to_be_bytes(), 1u32.to_be_bytes()].concat();
    let short = saved(sealed(&diet, &header), Some(&rules));
    assert_eq!(short, (48 + 2 + 2) - (38 + 8));
    assert_eq!(saved(sealed(&[&diet[..], &[0; 60]].concat(), &header), Some(&rules)), short);
}
