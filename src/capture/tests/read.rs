use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::capture::{Form, HexIs, Source};

#[test]
fn pcap_is_read_in_both_byte_orders_and_units() {
    for order in [Big, Little] {
        for (magic, fraction, nanos) in
            [(0xa1b2_c3d4, 6, 6_000), (0xa1b2_3c4d, 6, 6), (0xa1b2_3c4d, 999_999_999, 999_999_999)]
        {
            let capture = [
                order.pcap_header(magic, 101),
                order.pcap_record(1_767_323_045, fraction, 4, b"abcd"),
                // Longer on the wire than in the file; a second after 2038.
                order.pcap_record(0xffff_ffff, 0, 1500, b"abc"),
                order.pcap_record(0, 0, 0, b""),
            ];
            let mut cut = Seen::plain(2, 101, 4_294_967_295_000_000_000, b"abc");
            cut.orig_len = 1500;
            let expected =
                [Seen::plain(1, 101, 1_767_323_045_000_000_000 + nanos, b"abcd"), cut, Seen::plain(3, 101, 0, b"")];
            assert_eq!(read_clean(&capture.concat()), expected);
        }
    }
}

#[test]
fn pcap_link_type_has_16_bits_and_the_rest_is_the_fcs() {
    let capture = [Little.pcap_header(0xa1b2_c3d4, 0x2400_0001), Little.pcap_record(0, 0, 1, b"a")].concat();
    let mut reader = reader(&capture).unwrap();
    let interface = reader.interfaces().next().unwrap();
    assert_eq!(interface.link_type, 1);
    // if_fcslen counts bits: 2 units of 16.
    assert_eq!(interface.options().iter().collect::<Vec<_>>(), [(13, &[32][..])]);
    assert!(reader.fill(&mut Window::default()).unwrap());
}

#[test]
fn pcap_records_of_the_kuznetzov_variant_have_8_more_bytes() {
    let header = Big.pcap_header(0xa1b2_cd34, 1);
    let record = [&Big.u32s([5, 6, 2, 2, 3, 0x0800_0000])[..], b"ab"].concat();
    let expected = [Seen::plain(1, 1, 5_000_006_000, b"ab"), Seen::plain(2, 1, 5_000_006_000, b"ab")];
    assert_eq!(read_clean(&[&header[..], &record, &record].concat()), expected);
}

/// A variant: its name, magic number, version, bytes after the file header, the form of its records, and records
/// that identify it.
type Variant = (&'static str, u32, (u16, u16), &'static [u8], fn(Order, u32, &[u8]) -> Vec<u8>, usize);

fn usual(order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    order.pcap_record(seconds, 7, data.len() as u32 + 10, data)
}

fn original_first(order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    [&order.u32s([seconds, 7, data.len() as u32 + 10, data.len() as u32])[..], data].concat()
}

fn with_more(more: impl Fn(Order) -> Vec<u8>, order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    let (header, data) = (usual(order, seconds, data), data);
    [&header[..16], &more(order), data].concat()
}

fn kuznetsov(order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    with_more(|order| [&order.u32(3)[..], &order.u16(0x0800), &[4, 0xff]].concat(), order, seconds, data)
}

fn kuznetsov_long(order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    let more = |order: Order| [&order.u32(3)[..], &order.u16(0x0800), &[4, 1, 2, 0xff, 0xff, 0xff]].concat();
    with_more(more, order, seconds, data)
}

fn nokia(order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    with_more(|order| order.u32(0x9fbf_d602).to_vec(), order, seconds, data)
}

fn nokia_zero(order: Order, seconds: u32, data: &[u8]) -> Vec<u8> {
    with_more(|_| vec![0; 4], order, seconds, data)
}

#[test]
fn variants_of_pcap_are_distinguished() {
    const FRAME: &[u8] = &[0x45; 61];
    let variants: [Variant; 11] = [
        ("usual", 0xa1b2_c3d4, (2, 4), &[], usual, 1),
        ("2.0", 0xa1b2_c3d4, (2, 0), &[], original_first, 1),
        ("2.3", 0xa1b2_c3d4, (2, 3), &[], usual, 1),
        ("2.3 as 2.2", 0xa1b2_c3d4, (2, 3), &[], original_first, 1),
        ("DG/UX", 0xa1b2_c3d4, (543, 0), &[], original_first, 1),
        ("Ixia", 0x1c00_01ab, (2, 4), &[1, 2, 3, 4], usual, 1),
        ("Kuznetsov", 0xa1b2_cd34, (2, 4), &[], kuznetsov, 1),
        ("SuSE 6.3", 0xa1b2_cd34, (2, 4), &[], kuznetsov_long, 1),
        ("Red Hat 6.1", 0xa1b2_c3d4, (2, 4), &[], kuznetsov, 2),
        ("Nokia", 0xa1b2_c3d4, (2, 4), &[], nokia, 1),
        ("Nokia of editcap", 0xa1b2_c3d4, (2, 4), &[], nokia_zero, 2),
    ];
    for order in [Big, Little] {
        for (name, magic, (major, minor), more, record, least) in variants {
            let mut header = order.pcap_header(magic, 101);
            header[4..6].copy_from_slice(&order.u16(major));
            header[6..8].copy_from_slice(&order.u16(minor));
            header.extend_from_slice(more);
            for count in (least..=6).chain([5000]) {
                let records: Vec<u8> = (0..count).flat_map(|seconds| record(order, seconds as u32, FRAME)).collect();
                let seen = read_clean(&[&header[..], &records].concat());
                assert_eq!(seen.len(), count, "{name}, {order:?}");
                for (seen, seconds) in seen.iter().zip(0..) {
                    let expected = Seen::plain(seconds as u64 + 1, 101, seconds * 1_000_000_000 + 7_000, FRAME);
                    assert_eq!(*seen, Seen { orig_len: 71, ..expected }, "{name}, {order:?}");
                }
            }
        }
    }
}

/// Nanoseconds, and link types of RFC 1573.
#[test]
fn pcap_of_aix_is_read() {
    for order in [Big, Little] {
        for (network, link_type, padding) in [(6, 1, 0), (9, 6, 0), (15, 10, 3), (24, 0, 0)] {
            let mut header = order.pcap_header(0xa1b2_c3d4, network);
            header[6..8].copy_from_slice(&order.u16(2));
            let frame = [&vec![0xee; padding][..], b"frame"].concat();
            let len = frame.len() as u32;
            let record = [&order.u32s([5, 999_999_999, len, len])[..], &frame].concat();
            let seen = read_clean(&[header, record].concat());
            assert_eq!(seen, [Seen::plain(1, link_type, 5_999_999_999, b"frame")]);
        }
    }
}

/// Unusual records alone do not make a file a variant. It is only recognized if it explains all records.
#[test]
fn unusual_records_do_not_change_the_variant() {
    let header = Little.pcap_header(0xa1b2_c3d4, 1);
    for odd in [
        // A fraction of more than a second; less on the wire than captured.
        Little.pcap_record(1, 5_000_000, 4, b"abcd"),
        Little.pcap_record(1, 0, 2, b"abcd"),
    ] {
        for count in 1..5 {
            let (seen, warnings) = read(&[header.clone(), odd.repeat(count)].concat());
            assert!(seen.len() == count && warnings.is_empty() && seen.iter().all(|seen| seen.data == b"abcd"));
        }
    }
    // Truncated after any byte, it is still read as the usual variant.
    let zeros = Little.pcap_record(1, 0, 60, &[0; 60]);
    let capture = [&header[..], &zeros, &zeros, &zeros].concat();
    for len in 24..capture.len() {
        let (seen, _) = read(&capture[..len]);
        assert!(seen.len() == (len - 24) / 76 && seen.iter().all(|seen| seen.data == [0; 60]), "{len}");
    }
}

#[test]
fn pcap_frames_over_the_snap_length_are_read_up_to_wiresharks_limit() {
    let big = vec![7; 262_144];
    let header = Little.pcap_header(0xa1b2_c3d4, 1);
    let record = Little.pcap_record(0, 0, 262_144, &big);
    let too_big = Little.pcap_record(0, 0, 262_145, &[&big[..], b"x"].concat());
    let (seen, warnings) = read(&[&header[..], &record, &record, &too_big, &record].concat());
    assert_eq!(seen, [Seen::plain(1, 1, 0, &big), Seen::plain(2, 1, 0, &big)]);
    assert_eq!(
        warnings,
        ["made.cap: damaged after frame 2: a frame has a length of 262145 bytes, but the maximum is 262144"]
    );
}

#[test]
fn pcapng_is_read_as_in_the_draft() {
    // One big-endian section, written out: an Ethernet interface that counts 2^-10 s from the second 1000, and one
    // Enhanced Packet Block with two comments, the second not UTF-8.
    let capture = [
        &[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 28, 0x1a, 0x2b, 0x3c, 0x4d, 0, 1, 0, 0][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 28],
        &[0, 0, 0, 1, 0, 0, 0, 44, 0, 1, 0, 0, 0, 4, 0, 0],
        &[0, 9, 0, 1, 0x8a, 0, 0, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0x03, 0xe8, 0, 0, 0, 0, 0, 0, 0, 44],
        &[0, 0, 0, 6, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x06, 0x01, 0, 0, 0, 5, 0, 0, 0x05, 0xdc],
        &[1, 2, 3, 4, 5, 0, 0, 0, 0, 1, 0, 2, b'o', b'k', 0, 0, 0, 1, 0, 1, 0xff, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 60],
    ];
    // 0x1_0000_0601 / 1024 = 4,194,305.5009765625 s
    let seen = Seen {
        number: 1,
        interface: 0,
        link_type: 1,
        nanos: 4_195_305_500_976_562,
        orig_len: 1500,
        data: vec![1, 2, 3, 4, 5],
        comments: vec![b"ok".to_vec(), vec![0xff]],
    };
    assert_eq!(read_clean(&capture.concat()), [seen]);
}

#[test]
fn sections_have_their_own_byte_order_and_interfaces() {
    let picos = Big.option(9, &[12]);
    let capture = [
        Little.section(),
        Little.interface(1, 0, &[]),
        Little.interface(101, 0, &Little.option(9, &[9])),
        Little.packet(1, 1_000_000_001, 3, b"abc", &[]),
        Little.packet(0, 1_000_001, 3, b"def", &[]),
        Big.section(),
        Big.interface(113, 0, &[]),
        Big.interface(276, 0, &picos),
        Big.packet(1, 5_000_000_001_999, 4, b"ghij", &Big.option(1, b"hello")),
        Big.packet(0, 7, 1, b"k", &[]),
    ];
    let expected = [
        Seen { interface: 1, ..Seen::plain(1, 101, 1_000_000_001, b"abc") },
        Seen::plain(2, 1, 1_000_001_000, b"def"),
        Seen { interface: 3, comments: vec![b"hello".to_vec()], ..Seen::plain(3, 276, 5_000_000_001, b"ghij") },
        Seen { interface: 2, ..Seen::plain(4, 113, 7_000, b"k") },
    ];
    assert_eq!(read_clean(&capture.concat()), expected);
    // In pieces of any size.
    let pieces = capture.concat().chunks(7).map(<[u8]>::to_vec).collect();
    let reader = Reader::from_read(Path::new("-"), Box::new(Pieces::new(pieces))).unwrap();
    assert_eq!(drain(reader).unwrap(), (expected.to_vec(), vec![]));
}

#[test]
fn simple_and_obsolete_packets_are_packets() {
    for order in [Big, Little] {
        let obsolete = order
            .block(2, &[&order.u16(1), &order.u16(9), &order.u32s([0, 8, 3, 40]), b"xyz\0", &order.option(1, b"c")]);
        let capture = [
            order.section(),
            order.interface(101, 4, &[]),
            order.interface(1, 0, &[]),
            // Cut at the snap length of the first interface.
            order.block(3, &[&order.u32(6), b"abcd"]),
            order.block(3, &[&order.u32(3), b"abc"]),
            obsolete,
        ];
        let expected = [
            Seen { orig_len: 6, ..Seen::plain(1, 101, NO_TIME.into(), b"abcd") },
            Seen::plain(2, 101, NO_TIME.into(), b"abc"),
            Seen { interface: 1, orig_len: 40, comments: vec![b"c".to_vec()], ..Seen::plain(3, 1, 8_000, b"xyz") },
        ];
        assert_eq!(read_clean(&capture.concat()), expected);
    }
}

#[test]
fn other_blocks_are_skipped_and_numbered_as_wireshark_does() {
    let packet = Little.packet(0, 0, 1, b"a", &[]);
    // tshark 4.0.17 shows which blocks get a number.
    let numbered = [0xbad, 0x4000_0bad, 0x204, 0x216, 0x221];
    let not_numbered = [4, 5, 7, 8, 10, 0x201, 0x208, 0x777, 0x8000_0001];
    for (block_type, number) in numbered.map(|t| (t, 2)).into_iter().chain(not_numbered.map(|t| (t, 1))) {
        let other = Little.block(block_type, &[&[0; 36]]);
        let capture = [Little.section(), Little.interface(1, 0, &[]), other, packet.clone()].concat();
        assert_eq!(read_clean(&capture), [Seen::plain(number, 1, 0, b"a")], "block type {block_type:#x}");
    }
}

#[test]
fn a_block_length_without_the_padding_is_accepted() {
    let packet = Little.packet(0, 0, 1, b"a", &[]);
    let odd = [&Little.u32s([0x777, 15])[..], b"abc\0", &Little.u32(15)].concat();
    let capture = [Little.section(), Little.interface(1, 0, &[]), odd, packet].concat();
    assert_eq!(read_clean(&capture), [Seen::plain(1, 1, 0, b"a")]);
}

#[test]
fn damage_causes_a_warning_and_ends_the_capture() {
    let good = Little.packet(0, 0, 1, b"a", &[]);
    let mut differing = good.clone();
    *differing.last_mut().unwrap() = 1;
    for (bad, problem) in [
        (differing, "the lengths around a pcapng block differ: 36 and 16777252"),
        (Little.packet(3, 0, 1, b"b", &[]), "a packet names interface 3, but the section has described 1"),
        (
            Little.block(6, &[&Little.u32s([0, 0, 0, 9, 9]), b"12345678"]),
            "a frame has a length of 9 bytes, but its block has 8",
        ),
        (Little.block(3, &[&Little.u32(9), b"12345678"]), "a frame has a length of 9 bytes, but its block has 8"),
        (Little.block(6, &[&[0; 16]]), "a pcapng packet block is too short"),
        (Little.block(3, &[]), "a pcapng simple packet block is too short"),
        (Little.block(1, &[&[0; 4]]), "a pcapng interface description is too short"),
        (
            Little.packet(0, 0, 0, &vec![0; 262_145], &[]),
            "a frame has a length of 262145 bytes, but the maximum is 262144",
        ),
        (vec![0; 40], "a pcapng block has an invalid length of 0 bytes"),
        (Little.u32s([7, 0x0400_0004, 0]), "a pcapng block has an invalid length of 67108868 bytes"),
        (Little.u32s([0x0a0d_0d0a, 28, 5, 1]), "a pcapng section has a wrong byte-order magic"),
        (
            Little.block(0x0a0d_0d0a, &[&Little.u32(0x1a2b_3c4d), &Little.u16(2), &Little.u16(0), &[0xff; 8]]),
            "a pcapng section has unknown version 2.0",
        ),
    ] {
        let capture = [&Little.section()[..], &Little.interface(1, 0, &[]), &good, &good, &bad, &good].concat();
        let (seen, warnings) = read(&capture);
        assert_eq!(seen, [Seen::plain(1, 1, 0, b"a"), Seen::plain(2, 1, 0, b"a")], "{problem}");
        assert_eq!(warnings, [format!("made.cap: damaged after frame 2: {problem}")]);
    }
}

#[test]
fn other_files_are_an_error() {
    for (bytes, problem) in [
        (&b""[..], "made.cap: the file is empty"),
        (b"\xd4\xc3", "made.cap: too short to be a capture"),
        (b"frame,time", "made.cap: not a pcap or pcapng file"),
        (b"\xd4\xc3\xb2\xa1\x02\x00\x04\x00", "made.cap: too short to be a capture"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0", "made.cap: too short to be a capture"),
        (b"\x0a\x0d\x0d\x0a\x1c\0\0\0abcd", "made.cap: a pcapng section has a wrong byte-order magic"),
        (b"\xfd7zXZ\0", "made.cap: compressed with xz: format not supported"),
    ] {
        let error = reader(bytes).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), problem);
        assert!(!error.help().is_empty());
    }
    let mut version_3 = Big.pcap_header(0xa1b2_c3d4, 1);
    version_3[5] = 3;
    let error = reader(&version_3).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "made.cap: unknown major version 3 of pcap");
    assert!(matches!(Reader::open(Path::new("no/such.pcap")), Err(Error::Io { action: "open", .. })));
    assert!(matches!(Reader::open(Path::new(".")), Err(Error::Io { action: "read", .. })));
    // A file with only headers is a capture without packets.
    assert_eq!(read_clean(&Big.pcap_header(0xa1b2_c3d4, 1)), []);
    assert_eq!(read_clean(&Big.section()), []);
    assert_eq!(read_clean(&[Big.section(), Big.interface(1, 0, &[])].concat()), []);
}

#[test]
fn a_truncated_capture_has_the_packets_before_its_end() {
    let pcap = vec![
        Big.pcap_header(0xa1b2_c3d4, 1),
        Big.pcap_record(1, 0, 3, b"abc"),
        Big.pcap_record(2, 0, 0, b""),
        Big.pcap_record(3, 0, 9, b"defgh"),
    ];
    let pcapng = vec![
        [Big.section(), Big.interface(1, 0, &[])].concat(),
        Big.packet(0, 1_000_000, 3, b"abc", &Big.option(1, b"first")),
        Big.packet(0, 2_000_000, 0, b"", &[]),
        Big.packet(0, 3_000_000, 9, b"defgh", &[]),
    ];
    for (parts, smallest) in [(pcap, 24), (pcapng, 28)] {
        let capture = parts.concat();
        let all = read_clean(&capture);
        assert_eq!(all.len(), 3);
        let mut ends = Vec::new();
        for part in &parts {
            ends.push(ends.last().unwrap_or(&0) + part.len());
        }
        for cut in 0..capture.len() {
            let Ok(reader) = reader(&capture[..cut]) else {
                assert!(cut < smallest);
                continue;
            };
            assert!(cut >= smallest);
            let (seen, warnings) = drain(reader).unwrap();
            let whole = ends.iter().skip(1).filter(|end| **end <= cut).count();
            assert_eq!(seen, all[..whole], "cut at {cut}");
            let clean = ends.contains(&cut) || cut == smallest;
            assert_eq!(warnings.len(), usize::from(!clean), "cut at {cut}: {warnings:?}");
        }
    }
}

#[test]
fn a_live_pipe_shows_each_packet_at_once() {
    let record = |second| Little.pcap_record(second, 0, 3, b"abc");
    let pieces = vec![
        Little.pcap_header(0xa1b2_c3d4, 1),
        record(1),
        record(2),
        record(3)[..10].to_vec(),
        [&record(3)[10..], &record(4), &record(5)[..1]].concat(),
        record(5)[1..].to_vec(),
    ];
    let mut reader = Reader::from_read(Path::new("-"), Box::new(Pieces::new(pieces))).unwrap();
    let mut window = Window::default();
    let mut numbers = Vec::new();
    while reader.fill(&mut window).unwrap() {
        numbers.push(window.frames().map(|packet| packet.number).collect::<Vec<_>>());
    }
    assert_eq!(numbers, [vec![1], vec![2], vec![3, 4], vec![5]]);
    assert_eq!(reader.bytes_read(), 24 + 5 * 19);
    assert_eq!(reader.total_len(), None);
}

#[test]
fn a_read_error_of_the_system_is_an_error() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad sector"))
        }
    }
    let capture = [Little.pcap_header(0xa1b2_c3d4, 1), Little.pcap_record(1, 0, 3, b"abc")].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&capture).unwrap();
    gzip.flush().unwrap();
    for bytes in [capture, gzip.get_ref().clone()] {
        let input = Cursor::new(bytes).chain(Failing);
        let mut reader = Reader::from_read(Path::new("disk.pcap"), Box::new(input)).unwrap();
        let mut window = Window::default();
        assert!(reader.fill(&mut window).unwrap());
        let error = reader.fill(&mut window).unwrap_err();
        assert_eq!(error.to_string(), "disk.pcap: cannot read: bad sector");
    }
}

/// 2,000 frames of 100 bytes that do not compress well.
fn long_capture() -> (Vec<u8>, Vec<Seen>) {
    let mut capture = Little.pcap_header(0xa1b2_c3d4, 101);
    let mut state = 1u32;
    for second in 0..2000 {
        let mut data = [0; 100];
        for byte in data.iter_mut().step_by(3) {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        capture.extend(Little.pcap_record(second, 0, 100, &data));
    }
    let seen = read_clean(&capture);
    assert_eq!(seen.len(), 2000);
    (capture, seen)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

#[test]
fn compressed_captures_are_recognized_by_their_first_bytes() {
    let (capture, expected) = long_capture();
    let (start, rest) = capture.split_at(1000);
    let skippable = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    for (name, compressed) in [
        ("gzip", gzip(&capture)),
        ("gzip, two members", [gzip(start), gzip(rest)].concat()),
        ("zstd", zstd(&capture)),
        (
            "zstd, several frames",
            [&skippable[..], &zstd(start), &skippable, &zstd(b""), &zstd(rest), &skippable].concat(),
        ),
    ] {
        assert_eq!(read_clean(&compressed), expected, "{name}");
        let len = compressed.len() as u64;
        let mut reader = reader(&compressed).unwrap();
        let mut window = Window::default();
        while reader.fill(&mut window).unwrap() {}
        assert_eq!(reader.bytes_read(), len);
    }
}

#[test]
fn a_damaged_compressed_capture_has_the_packets_before_the_damage() {
    let (capture, expected) = long_capture();
    for (name, compressed) in [("gzip", gzip(&capture)), ("zstd", zstd(&capture))] {
        let (seen, warnings) = read(&compressed[..compressed.len() * 9 / 10]);
        assert!(seen.len() > 1000, "{name}: {} of 2000", seen.len());
        assert_eq!(seen, expected[..seen.len()]);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].ends_with(&format!(": its {name} data is truncated")), "{warnings:?}");
        // Only the checksum is wrong.
        let mut changed = compressed.clone();
        let at = changed.len() - if name == "gzip" { 8 } else { 1 };
        changed[at] ^= 1;
        let (seen, warnings) = read(&changed);
        assert_eq!(seen, expected);
        assert_eq!(warnings.len(), 1, "{name}");
        assert!(warnings[0].starts_with("made.cap: damaged after frame 2000: the"), "{warnings:?}");
        // The decompressed data has no capture header.
        assert!(reader(&compressed[..10]).is_err());
        assert!(reader(&[&compressed[..4], &[0xff; 20]].concat()).is_err());
    }
}

/// Whether a file is expected to fit into one window, and the number of windows that it needs.
fn windows(bytes: &[u8], form: Form) -> (bool, usize) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut reader = Reader::open_as(file.path(), &Source { form, ..Source::default() }).unwrap();
    let (fits, mut window) = (reader.fits_window(), Window::default());
    (fits, std::iter::from_fn(|| reader.fill(&mut window).unwrap().then_some(())).count())
}

#[test]
fn a_file_expected_to_fit_one_window_does() {
    let header = Little.pcap_header(0xa1b2_c3d4, 1);
    let small = Little.pcap_record(0, 0, 0, b"");
    let of_len = |len: usize| {
        let rest = (len - header.len()) % small.len();
        let mut capture = header.clone();
        if rest > 0 {
            capture.extend(Little.pcap_record(0, 0, rest as u32, &vec![0; rest]));
        }
        while capture.len() < len {
            capture.extend(&small);
        }
        assert_eq!(capture.len(), len);
        capture
    };
    assert_eq!(windows(&of_len(128 * 1024), Form::Capture), (true, 1));
    assert!(!windows(&of_len(128 * 1024 + 1), Form::Capture).0);
    let (fits, count) = windows(&gzip(&of_len(1024 * 1024)), Form::Capture);
    assert!(!fits && count > 1, "{count}");
    // 8 bytes each, and 58 as a packet with its headers.
    let (fits, count) = windows(&b"0,,,0000\n".repeat(10_000), Form::Hex(HexIs::Esp));
    assert!(!fits && count > 1, "{count}");
}

/// Starts of captures that may be followed by anything.
fn any_start() -> impl Strategy<Value = Vec<u8>> {
    let start = |order: Order| {
        let section = [order.section(), order.interface(1, 0, &[])].concat();
        let pcaps = [0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34].map(|magic| order.pcap_header(magic, 1));
        [vec![section, order.section(), order.u32(0x0a0d_0d0a).to_vec()], pcaps.to_vec()].concat()
    };
    let compressed = vec![vec![0x1f, 0x8b, 8], vec![0x28, 0xb5, 0x2f, 0xfd], vec![0x50, 0x2a, 0x4d, 0x18]];
    prop::sample::select([start(Big), start(Little), compressed].concat())
}

proptest! {
    #[test]
    fn random_bytes_are_read_to_the_end(start in any_start(), rest in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(reader) = reader(&[start, rest].concat()) {
            drain(reader).unwrap();
        }
    }

    #[test]
    fn changed_bytes_are_read_to_the_end(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        which in 0usize..4,
        piece_len in 1usize..100,
    ) {
        let order = if which % 2 == 0 { Big } else { Little };
        let packet = order.packet(0, 5, 9, b"abcde", &[order.option(1, b"c"), order.option(0, b"")].concat());
        let pcapng = [order.section(), order.interface(1, 0, &order.option(9, &[9])), packet.clone(), packet].concat();
        let mut bytes = if which < 2 { pcapng } else if which == 2 { gzip(&pcapng) } else { zstd(&pcapng) };
        for (place, value) in changes {
            let len = bytes.len();
            bytes[place.index(len)] = value;
        }
        let pieces = bytes.chunks(piece_len).map(<[u8]>::to_vec).collect();
        if let Ok(reader) = Reader::from_read(Path::new("-"), Box::new(Pieces::new(pieces))) {
            drain(reader).unwrap();
        }
    }
}
