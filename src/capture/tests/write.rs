use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::blocks::opt_common::CommonOption;

use super::super::{Batch, Interface, LINKTYPE_RAW, Options, Timestamp, Writer};
use super::*;

/// Reads `capture` and writes every packet to `name` with `write`. Returns the bytes written.
fn rewrite(capture: &[u8], name: &str, mut write: impl FnMut(&mut Writer, &Frame<'_>)) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let mut writer = Writer::create(&path).unwrap();
    let mut reader = reader(capture).unwrap();
    let mut window = Window::default();
    while reader.fill(&mut window).unwrap() {
        window.frames().for_each(|packet| write(&mut writer, &packet));
    }
    assert!(!path.exists());
    writer.finish().unwrap();
    let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [name]);
    fs::read(path).unwrap()
}

fn copy(capture: &[u8], name: &str) -> Vec<u8> {
    rewrite(capture, name, |writer, packet| writer.write(packet, None).unwrap())
}

/// All bytes after the section header, which contains the version of this program.
fn behind_section_header(capture: &[u8]) -> &[u8] {
    assert_eq!(capture[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    let len = u32::from_le_bytes(*capture[4..].first_chunk().unwrap());
    assert_eq!(capture[8..24], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    &capture[len as usize..]
}

#[test]
fn pcapng_keeps_packets_and_interfaces_completely() {
    let end = |order: Order| order.option(0, b"");
    let interface_options = |order: Order, offset: [u8; 8]| {
        [
            order.option(2, b"eth0"),
            order.option(3, b"descri\xffption"),
            order.option(9, &[0x8a]),
            order.option(14, &offset),
            order.option(0x7000, b"unknown"),
            end(order),
        ]
        .concat()
    };
    let packet_options = |order: Order| {
        let flags = order.option(2, &order.u32(5));
        [order.option(1, b"one"), flags, order.option(1, b"\xfe"), order.option(0x7001, &[1, 2, 3]), end(order)]
            .concat()
    };
    let make = |order: Order, offset| {
        [
            order.section(),
            order.interface(1, 96, &interface_options(order, offset)),
            order.interface(113, 0, &[]),
            order.packet(0, 0x1_0000_0601, 1500, b"abcde", &packet_options(order)),
            order.packet(1, u64::MAX, 0, b"", &[]),
        ]
        .concat()
    };
    let little = make(Little, 1000i64.to_le_bytes());
    let expected = [
        Little.interface(1, 96, &interface_options(Little, 1000i64.to_le_bytes())),
        Little.interface(113, 0, &[]),
        Little.packet(0, 0x1_0000_0601, 1500, b"abcde", &packet_options(Little)),
        Little.packet(1, u64::MAX, 0, b"", &[]),
    ];
    for capture in [little, make(Big, 1000i64.to_be_bytes())] {
        assert_eq!(behind_section_header(&copy(&capture, "out.pcapng")), expected.concat());
    }
}

#[test]
fn sections_are_merged_and_interfaces_are_written_when_used() {
    let capture = [
        Big.section(),
        Big.interface(1, 0, &[]),
        Big.interface(101, 0, &Big.option(9, &[9])),
        Big.packet(1, 1, 1, b"a", &[]),
        Little.section(),
        Little.interface(113, 0, &[]),
        Little.packet(0, 2, 1, b"b", &[]),
    ];
    let expected = [
        Little.interface(101, 0, &[Little.option(9, &[9]), Little.option(0, b"")].concat()),
        Little.packet(0, 1, 1, b"a", &[]),
        Little.interface(113, 0, &[]),
        Little.packet(1, 2, 1, b"b", &[]),
    ];
    let write_through = |writer: &mut Writer, packet: &Frame<'_>| {
        writer.write(packet, None).unwrap();
        writer.flush().unwrap();
    };
    assert_eq!(behind_section_header(&rewrite(&capture.concat(), "out", write_through)), expected.concat());
}

#[test]
fn pcap_is_copied_unchanged() {
    for magic in [0xa1b2_c3d4, 0xa1b2_3c4d] {
        let records = [Little.pcap_record(5, 999_999, 2000, b"abc"), Little.pcap_record(u32::MAX, 0, 0, b"")].concat();
        // The snap length is at least 262,144: frames may have grown.
        let mut header = Little.pcap_header(magic, 1);
        let input = [&header[..], &records].concat();
        header[16..20].copy_from_slice(&262_144u32.to_le_bytes());
        assert_eq!(copy(&input, "out.pcap"), [&header[..], &records].concat());
        // Through big-endian and pcapng.
        let seen = read_clean(&input);
        assert_eq!(read_clean(&copy(&input, "out.pcapng")), seen);
        assert_eq!(copy(&copy(&input, "out.pcapng"), "out.PCAP"), [&header[..], &records].concat());
    }
}

#[test]
fn pcap_is_written_without_frame_check_sequences() {
    let fcs_of_4 = Little.option(13, &[32]);
    let flags = |bytes: u32| Little.option(2, &(bytes << 5).to_le_bytes());
    let records = |frames: &[(u32, &[u8])]| -> Vec<u8> {
        frames.iter().flat_map(|(orig_len, data)| Little.pcap_record(0, 0, *orig_len, data)).collect()
    };
    let pcapng = [
        Little.section(),
        Little.interface(1, 0, &fcs_of_4),
        Little.packet(0, 0, 9, b"abcdeFCS!", &[]),
        // Cut by the snap length: inside the frame check sequence, before it, and where the frame is too short for one.
        Little.packet(0, 0, 9, b"abcdeFC", &[]),
        Little.packet(0, 0, 9, b"abc", &[]),
        Little.packet(0, 0, 3, b"abc", &[]),
        // The flags of a frame have precedence.
        Little.packet(0, 0, 7, b"abcdeFC", &flags(2)),
    ];
    let written = records(&[(5, b"abcde"), (5, b"abcde"), (5, b"abc"), (0, b""), (5, b"abcde")]);
    let mut header = Little.pcap_header(0xa1b2_c3d4, 1);
    header[16..20].copy_from_slice(&262_144u32.to_le_bytes());
    assert_eq!(copy(&pcapng.concat(), "out.pcap"), [&header[..], &written].concat());
    let pcap = [Little.pcap_header(0xa1b2_c3d4, 0x2400_0001), records(&[(9, b"abcdeFCS!")])].concat();
    assert_eq!(copy(&pcap, "out.pcap"), [&header[..], &records(&[(5, b"abcde")])].concat());
}

#[test]
fn pcap_takes_its_unit_from_the_first_interface() {
    for (resolution, magic, ticks, fraction) in [
        (6, 0xa1b2_c3d4u32, 1_000_001, 1),
        (3, 0xa1b2_c3d4, 1_001, 1000),
        (9, 0xa1b2_3c4d, 1_000_000_001, 1),
        (12, 0xa1b2_3c4d, 1_000_000_001_999, 1),
        (0x80 | 19, 0xa1b2_c3d4, 1 << 19 | 1, 1),
        (0x80 | 20, 0xa1b2_3c4d, 1 << 20 | 1, 953),
    ] {
        let interface = Little.interface(1, 0, &Little.option(9, &[resolution]));
        let capture = [Little.section(), interface, Little.packet(0, ticks, 1, b"a", &[])].concat();
        let written = copy(&capture, "out.pcap");
        assert_eq!(written[..4], magic.to_le_bytes(), "{resolution}");
        assert_eq!(written[24..], Little.pcap_record(1, fraction, 1, b"a"), "{resolution}");
    }
}

fn small_packet(interface: &Arc<Interface>) -> Frame<'_> {
    let time = Some(Timestamp::new(1, 0));
    Frame { number: 7, interface, time, orig_len: 1, data: b"a", options: Options::default() }
}

#[test]
fn pcap_rejects_what_it_cannot_express() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pcap");
    let mut writer = Writer::create(&path).unwrap();
    writer.write(&small_packet(&Interface::new(LINKTYPE_RAW)), None).unwrap();
    writer.write(&small_packet(&Interface::new(1)), None).unwrap();
    let error = writer.finish().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}: a pcap file holds one link type, but the packets have link types 101 and 1", path.display())
    );
    assert_eq!(error.help(), "write pcapng: let the output end in .pcapng");
    let mut writer = Writer::create(&path).unwrap();
    let ethernet = Interface::new(1);
    for seconds in [-1, 1 << 32] {
        let late = Frame { time: Some(Timestamp::new(seconds, 0)), ..small_packet(&ethernet) };
        let error = writer.write(&late, None).unwrap_err();
        assert_eq!(error.to_string(), "frame 7: its time does not fit in the output format");
    }
    // The link type of these packets does not count, because none of them was written.
    writer.write(&small_packet(&Interface::new(LINKTYPE_RAW)), None).unwrap();
    writer.finish().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn a_packet_can_be_changed_and_commented() {
    let capture = [
        Big.section(),
        Big.interface(1, 0, &[]),
        Big.packet(0, 9, 5, b"abcde", &[Big.option(1, b"old"), Big.option(0, b"")].concat()),
    ];
    let raw = Interface::new(LINKTYPE_RAW);
    let written = rewrite(&capture.concat(), "out.pcapng", |writer, packet| {
        writer.write(&Frame { data: b"longer than it was", orig_len: 18, ..*packet }, Some("new")).unwrap();
        let inner = Frame { interface: &raw, data: b"inner", options: Options::default(), ..*packet };
        writer.write(&inner, Some(&"é".repeat(40_000))).unwrap();
    });
    let comments =
        |texts: &[&[u8]]| [texts.iter().flat_map(|t| Little.option(1, t)).collect(), Little.option(0, b"")].concat();
    let expected = [
        Little.interface(1, 0, &[]),
        Little.interface(101, 0, &[Little.option(9, &[9]), Little.option(0, b"")].concat()),
        Little.packet(0, 9, 18, b"longer than it was", &comments(&[b"old", b"new"])),
        // 9 us in nanoseconds. A comment can have 65,535 bytes, and an é needs two.
        Little.packet(1, 9_000, 5, b"inner", &comments(&["é".repeat(32_767).as_bytes()])),
    ];
    assert_eq!(behind_section_header(&written), expected.concat());
}

/// A Simple Packet Block belongs to the first interface of its section, whose snap length determines the captured
/// length.
#[test]
fn packets_without_time_stay_without_time_in_pcapng() {
    for order in [Big, Little] {
        let simple = |orig_len: u32, data: &[u8]| order.block(3, &[&order.u32(orig_len), data]);
        let capture = [
            order.section(),
            order.interface(1, 6, &[]),
            order.interface(101, 0, &[]),
            order.packet(0, 1, 3, b"abc", &[]),
            simple(3, b"def"),
            simple(9, b"ghijkl"),
            order.packet(1, 2, 3, b"mno", &order.option(1, b"comment")),
            simple(2, b"pq"),
            order.section(),
            order.interface(113, 0, &[]),
            simple(3, b"rst"),
            order.packet(0, 3, 3, b"uvw", &[]),
        ]
        .concat();
        let plain =
            |seen: Vec<Seen>| -> Vec<Seen> { seen.into_iter().map(|seen| Seen { interface: 0, ..seen }).collect() };
        assert_eq!(plain(read_clean(&copy(&capture, "out"))), plain(read_clean(&capture)));
        // Other data: longer than the snap length, and shorter than the frame.
        for (data, orig_len) in [(&b"longer than it was"[..], 18), (b"part", 90)] {
            let written = rewrite(&capture, "out", |writer, packet| {
                writer.write(&Frame { data, orig_len, ..*packet }, Some("lost without time")).unwrap();
            });
            let (before, after) = (read_clean(&capture), read_clean(&written));
            assert_eq!(before.len(), after.len());
            for (before, after) in before.iter().zip(&after) {
                assert_eq!((after.nanos, after.link_type), (before.nanos, before.link_type));
                assert_eq!((&after.data[..], after.orig_len), (data, orig_len));
                assert_eq!(after.comments.is_empty(), before.nanos == NO_TIME.into());
            }
        }
        let interface = Interface::new(1);
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("out.pcap")).unwrap();
        let error = writer.write(&Frame { time: None, ..small_packet(&interface) }, None).unwrap_err();
        assert_eq!(error.to_string(), "frame 7 has no time stamp, which pcap cannot express");
    }
}

#[test]
fn batches_produce_the_same_file_as_single_writes() {
    let capture = [
        Little.section(),
        Little.interface(1, 0, &[]),
        Little.interface(101, 0, &Little.option(9, &[9])),
        Little.packet(1, 1_001, 1, b"a", &[]),
        Little.packet(0, 2, 1, b"b", &[]),
        Little.packet(1, 3_001, 1, b"c", &[]),
    ]
    .concat();
    for name in ["out.pcapng", "out.pcap"] {
        // pcap: only the packets of one link type.
        let wanted = |packet: &Frame<'_>| name == "out.pcapng" || packet.link_type() == 101;
        let one_by_one = rewrite(&capture, name, |writer, packet| {
            if wanted(packet) {
                writer.write(packet, None).unwrap();
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        let mut writer = Writer::create(&path).unwrap();
        let mut reader = reader(&capture).unwrap();
        let mut window = Window::default();
        assert!(reader.fill(&mut window).unwrap());
        // The last batch is filled first. The first one uses interface 1 first.
        let mut batches = vec![];
        for packet in window.frames().filter(wanted).collect::<Vec<_>>().iter().rev() {
            let mut batch: Batch = writer.batch();
            batch.push(packet, None).unwrap();
            batches.push(batch);
        }
        for batch in batches.iter_mut().rev() {
            writer.append(batch).unwrap();
            assert!(batch.is_empty());
        }
        writer.finish().unwrap();
        assert_eq!(read_clean(&fs::read(path).unwrap()), read_clean(&one_by_one), "{name}");
    }
}

#[test]
fn an_output_without_packets_is_valid() {
    assert_eq!(read_clean(&copy(&Big.section(), "out.pcapng")), []);
    assert_eq!(copy(&Big.section(), "out.pcap").len(), 24);
}

#[test]
fn a_file_appears_only_when_finished() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.pcapng");
    fs::write(&path, "before").unwrap();
    let interface = Interface::new(LINKTYPE_RAW);
    let data = vec![0; 200_000];
    let packet = Frame {
        number: 1,
        interface: &interface,
        time: Some(Timestamp::new(0, 0)),
        orig_len: 200_000,
        data: &data,
        options: Options::default(),
    };
    let mut writer = Writer::create(&path).unwrap();
    writer.write(&packet, None).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
    drop(writer);
    assert_eq!(fs::read(&path).unwrap(), b"before");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let error = Writer::create(&folder.path().join("no/out.pcap")).map(|_| ()).unwrap_err();
    assert!(
        error.to_string().ends_with("no/out.pcap: cannot create: No such file or directory (os error 2)"),
        "{error}"
    );
    assert_eq!(error.help(), "create its folder first, or choose another one");
    for name in ["out.pcap.bz2", "out.pcapng.XZ", "out.lz4"] {
        let error = Writer::create(&folder.path().join(name)).map(|_| ()).unwrap_err();
        assert!(
            error.to_string().ends_with(&format!("{name}: this compression format is not supported for outputs")),
            "{error}"
        );
    }
    assert!(Writer::create(folder.path()).is_err());
}

#[cfg(unix)]
#[test]
fn permissions_links_and_devices_are_respected() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // The umask of the test is not known; an ordinary new file shows its effect.
    fs::write(file("ordinary"), "").unwrap();
    Writer::create(&file("new.pcapng")).unwrap().finish().unwrap();
    assert_eq!(mode(&file("new.pcapng")), mode(&file("ordinary")));
    fs::set_permissions(file("ordinary"), fs::Permissions::from_mode(0o660)).unwrap();
    symlink(file("ordinary"), file("link")).unwrap();
    Writer::create(&file("link")).unwrap().finish().unwrap();
    assert_eq!(mode(&file("ordinary")), 0o660);
    assert!(fs::symlink_metadata(file("link")).unwrap().is_symlink());
    assert_eq!(read_clean(&fs::read(file("ordinary")).unwrap()), []);
    Writer::create(Path::new("/dev/null")).unwrap().finish().unwrap();
    if Path::new("/dev/full").exists() {
        let error = Writer::create(Path::new("/dev/full")).unwrap().finish().unwrap_err();
        assert_eq!(error.to_string(), "/dev/full: cannot write: No space left on device (os error 28)");
    }
}

#[test]
fn another_implementation_reads_written_captures() {
    let comment = Little.option(1, "grüße".as_bytes());
    let capture = [
        Big.section(),
        Big.interface(1, 96, &[Big.option(2, b"eth0"), Big.option(9, &[9])].concat()),
        Little.section(),
        Little.interface(101, 0, &[]),
        Little.packet(0, 1_767_323_045_000_006, 1500, b"abcde", &comment),
    ]
    .concat();
    let raw: Arc<Interface> = Interface::new(LINKTYPE_RAW);
    let written = rewrite(&capture, "out.pcapng", |writer, packet| {
        writer.write(packet, Some("second")).unwrap();
        writer.write(&Frame { interface: &raw, options: Options::default(), ..*packet }, None).unwrap();
    });
    let mut reader = pcap_file::pcapng::PcapNgReader::new(&written[..]).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Some(packet) = block.unwrap().0.into_owned().into_enhanced_packet() {
            packets.push(packet);
        }
    }
    let [first, second] = &packets[..] else { panic!("{packets:?}") };
    assert_eq!((first.interface_id, second.interface_id), (0, 1));
    assert_eq!(reader.interfaces().iter().map(|i| u32::from(i.linktype)).collect::<Vec<_>>(), [101, 101]);
    for packet in &packets {
        assert_eq!(packet.timestamp.as_nanos(), 1_767_323_045_000_006_000);
        assert_eq!((&packet.data[..], packet.original_len), (&b"abcde"[..], 1500));
    }
    let comment = |text: &'static str| EnhancedPacketOption::Common(CommonOption::Comment(text.into()));
    assert_eq!(first.options, [comment("grüße"), comment("second")]);
    assert_eq!(second.options, []);
}
