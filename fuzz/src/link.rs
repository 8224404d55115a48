//! Captures, link layers, fragments.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::io::Cursor;
use std::net::IpAddr;
use std::path::Path;

use dietesp::internals::capture::{Form, Frame, HexIs, LINKTYPE_RAW, Reader, Source, Window, Writer};
use dietesp::internals::context::Origin;
use dietesp::internals::link::LinkKey;
use dietesp::internals::link::{
    self, Content, EspPorts, Fcs, LinkContent, Reassembled, Reassembler, Receiver, Settings, Standalone,
};
use dietesp::internals::net::{Datagram, IpVersion, OuterHeader, protocol};
use dietesp::internals::secret::Secret;

use super::input::Input;
use super::packets;

const ICMPV6: u8 = 58;
/// All supported link types, and an unsupported one. Inputs select them by index.
const LINK_TYPES: [u16; 39] = [
    0, 1, 9, 12, 14, 50, 51, 101, 105, 108, 113, 127, 147, 166, 195, 204, 215, 228, 229, 230, 276, 283, 187, 201, 251,
    254, 256, 270, 272, 10, 104, 107, 109, 117, 192, 205, 206, 239, 242,
];

thread_local! {
    /// Its buffer is large, so it is reused for all inputs.
    static WINDOW: Cell<Window> = Cell::default();
}

/// A capture file: it is read to its end and written again. Sometimes the written file is read, too.
pub fn capture(data: &[u8]) {
    let Some(mut reader) = reader(data.to_vec()) else { return };
    let kept = match data.len() % 16 {
        0 => Some("pcapng"),
        8 => Some("pcap"),
        _ => None,
    };
    let path = kept.map_or("/dev/null".into(), |extension| {
        let (process, thread) = (std::process::id(), std::thread::current().id());
        std::env::temp_dir().join(format!("dietesp-fuzz-{process}-{thread:?}.{extension}"))
    });
    let mut writer = Writer::create(&path).expect("a file can be made");
    let mut window = WINDOW.take();
    let (mut last, mut text, mut written) = (0, vec![], vec![]);
    while reader.fill(&mut window).expect("memory can be read") {
        assert!(!window.is_empty());
        for packet in window.frames() {
            assert!(packet.number > last);
            last = packet.number;
            assert!(packet.options.comments().count() <= packet.options.iter().count());
            text.clear();
            packet.time.inspect(|time| time.write_rfc3339(&mut text));
            // The time may be out of range.
            if writer.write(&packet, Some("comment")).is_ok() && kept.is_some() {
                let fcs_len = if kept == Some("pcap") { packet.fcs_len() } else { 0 };
                written.push(Kept::of(&packet).without_fcs(fcs_len));
            }
        }
    }
    assert!(!reader.fill(&mut window).expect("memory can be read"));
    reader.warnings();
    let one_link_type = written.iter().all(|packet| packet.link_type == written[0].link_type);
    let finished = writer.finish();
    assert!(finished.is_ok() || kept == Some("pcap") && !one_link_type, "{finished:?}");
    if kept.is_some() && finished.is_ok() {
        let mut reader = Reader::open(&path).expect("what was written is a capture");
        std::fs::remove_file(&path).expect("it is there");
        let mut written = written.into_iter();
        while reader.fill(&mut window).expect("memory can be read") {
            for packet in window.frames() {
                let (mut wrote, read) = (written.next().expect("no more than was written"), Kept::of(&packet));
                if kept == Some("pcapng") {
                    // A Simple Packet Block has no options.
                    let comment = packet.time.map(|_| &b"comment"[..]);
                    assert_eq!(packet.options.comments().last(), comment);
                } else if read.nanos % 1000 == 0 {
                    wrote.nanos -= wrote.nanos % 1000;
                }
                assert_eq!(wrote, read);
            }
        }
        assert_eq!((written.next(), reader.warnings()), (None, vec![]));
    }
    WINDOW.set(window);
}

/// The properties of a packet that every format keeps.
#[derive(Debug, PartialEq)]
struct Kept {
    link_type: u16,
    nanos: i128,
    orig_len: u32,
    data: Vec<u8>,
}

impl Kept {
    /// pcap is written without frame check sequences.
    fn without_fcs(mut self, len: u32) -> Kept {
        if len > 0 {
            self.orig_len = self.orig_len.saturating_sub(len);
            self.data.truncate(self.orig_len as usize);
        }
        self
    }

    fn of(packet: &Frame<'_>) -> Kept {
        let (link_type, nanos) = (packet.link_type(), packet.time.map_or(i128::MIN, |time| time.nanos()));
        Kept { link_type, nanos, orig_len: packet.orig_len, data: packet.data.to_vec() }
    }
}

/// Lines of hex: they are read to their end. Written as lines again, they are read as the same packets.
pub fn hex_lines(data: &[u8]) {
    let mut input = Input::new(data);
    let hex_is = if input.u8() & 1 == 1 { HexIs::Ip } else { HexIs::Esp };
    let Some(packets) = packets_of_lines(input.rest().to_vec(), hex_is) else { return };
    let mut lines = String::new();
    for (nanos, packet) in &packets {
        let LinkContent::Datagram(datagram) = link::parse(LINKTYPE_RAW, packet) else {
            assert_eq!(hex_is, HexIs::Ip);
            lines += &format!("{}.{:09},,,{}\n", nanos / 1_000_000_000, nanos % 1_000_000_000, hex(packet));
            continue;
        };
        assert_eq!(datagram.missing, 0);
        let (src, dst, bytes) = match hex_is {
            HexIs::Ip => (String::new(), String::new(), &packet[..]),
            HexIs::Esp => {
                assert_eq!(datagram.protocol, protocol::ESP);
                assert_eq!(datagram.header.len() + datagram.payload.len(), packet.len());
                (datagram.outer.src.to_string(), datagram.outer.dst.to_string(), datagram.payload)
            }
        };
        lines += &format!("{}.{:09},{src},{dst},{}\n", nanos / 1_000_000_000, nanos % 1_000_000_000, hex(bytes));
    }
    assert_eq!(packets_of_lines(lines.clone().into_bytes(), hex_is).unwrap_or_default(), packets, "{lines}");
}

/// Hex digits.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// Nanoseconds since 1970 and bytes of the packets in lines of hex. `None` if there is no valid line.
fn packets_of_lines(lines: Vec<u8>, hex_is: HexIs) -> Option<Vec<(i128, Vec<u8>)>> {
    let source = Source { form: Form::Hex(hex_is), ..Source::default() };
    let mut reader = Reader::from_read_as(Path::new("input"), Box::new(Cursor::new(lines)), &source).ok()?;
    let (mut window, mut packets) = (WINDOW.take(), vec![]);
    while reader.fill(&mut window).expect("memory can be read") {
        for packet in window.frames() {
            assert_eq!((packet.link_type(), packet.orig_len as usize), (LINKTYPE_RAW, packet.data.len()));
            packets.push((packet.time.expect("a line has a time").nanos(), packet.data.to_vec()));
        }
    }
    reader.warnings();
    WINDOW.set(window);
    Some(packets)
}

pub fn reader(bytes: Vec<u8>) -> Option<Reader> {
    Reader::from_read(Path::new("input"), Box::new(Cursor::new(bytes))).ok()
}

/// A pcap file of frames with their time in milliseconds, their data, and the number of truncated bytes.
pub fn pcap(link_type: u16, frames: &[(u32, Vec<u8>, u32)]) -> Vec<u8> {
    let words = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, u32::from(link_type)];
    let mut bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
    for (time, data, cut) in frames {
        let len = data.len() as u32;
        let words = [1_700_000_000 + time / 1000, time % 1000 * 1000, len, len + cut];
        bytes.extend(words.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(data);
    }
    bytes
}

/// One frame: it is parsed. If it contains a datagram, it is written with another payload and with another header,
/// and parsed again.
pub fn link(data: &[u8]) {
    let mut input = Input::new(data);
    let link_type = input.choose(&LINK_TYPES);
    let frame = input.rest();
    match link::parse(link_type, frame) {
        LinkContent::Datagram(datagram) => {
            assert!(datagram.frame_offset + datagram.header.len() + datagram.payload.len() <= frame.len());
            assert!(datagram.protocol_offset < datagram.header.len());
            let encapsulated = link::udp_encapsulation(&datagram, &EspPorts::default());
            if datagram.missing > 0 {
                return;
            }
            let (link_type, link_header) = match datagram.rebuilt {
                true => (LINKTYPE_RAW, &[][..]),
                false => (link_type, &frame[..datagram.frame_offset]),
            };
            let mut out = vec![];
            let payload = [&b"another "[..], b"payload"];
            if link::rebuild(link_header, &datagram, protocol::ESP, None, &payload, &mut out).is_ok() {
                let again = parsed_again(link_type, &out);
                assert_eq!((again.payload, again.protocol), (&payload.concat()[..], protocol::ESP));
                assert_eq!(again.outer, datagram.outer);
                assert_eq!(again.header.len(), datagram.header.len());
            }
            if let Ok(Some(encapsulated)) = encapsulated {
                let udp_header = Some(encapsulated.udp_header);
                if link::rebuild(link_header, &datagram, protocol::UDP, udp_header, &payload, &mut out).is_ok() {
                    let again = parsed_again(link_type, &out);
                    let again = link::udp_encapsulation(&again, &EspPorts::default())
                        .expect("a length that fits")
                        .expect("the same ports");
                    assert_eq!((again.payload, again.missing), (&payload.concat()[..], 0));
                }
            }
            let v4 = OuterHeader {
                version: IpVersion::V4,
                src: [192, 0, 2, 1].into(),
                dst: [192, 0, 2, 2].into(),
                ..datagram.outer
            };
            let v4 = OuterHeader { flow_label: v4.flow_label & 0xffff, ..v4 };
            let v6 =
                OuterHeader { version: IpVersion::V6, src: [0xfd; 16].into(), dst: [1; 16].into(), ..datagram.outer };
            for outer in [datagram.outer, v4, v6] {
                if link::encapsulate(link_type, link_header, &outer, protocol::ESP, &payload, &mut out).is_ok() {
                    let again = parsed_again(link_type, &out);
                    assert_eq!((again.payload, again.protocol), (&payload.concat()[..], protocol::ESP));
                    assert_eq!(again.outer, outer);
                    let packet = out[again.frame_offset..].to_vec();
                    link::replace(link_type, link_header, &packet, &mut out).expect("as before");
                    assert_eq!(parsed_again(link_type, &out).outer, outer);
                }
            }
        }
        LinkContent::Fragment(fragment) => {
            assert!(fragment.frame_offset + fragment.header.len() + fragment.payload.len() <= frame.len());
            assert!(fragment.protocol_offset < fragment.header.len());
        }
        LinkContent::NotIp(_) | LinkContent::Malformed { .. } => {}
    }
}

/// Checks a frame that was written.
fn parsed_again(link_type: u16, frame: &[u8]) -> Datagram<'_> {
    match link::parse(link_type, frame) {
        LinkContent::Datagram(datagram) if datagram.missing == 0 => datagram,
        other => panic!("{other:?}: {frame:02x?}"),
    }
}

/// IP packets and fragments in the reassembler. Every frame must be reported exactly once.
pub fn fragments(data: &[u8]) {
    let mut input = Input::new(data);
    let mut reassembler = Reassembler::new();
    let mut whole = Reassembled::default();
    let (mut waiting, mut time, mut number) = (HashSet::new(), 0i64, 0);
    while !input.is_empty() && number < 2000 {
        number += 1;
        time += i64::from(input.u8()) * 100_000_000;
        let frame = fragment(&mut input);
        let LinkContent::Fragment(fragment) = link::parse(LINKTYPE_RAW, &frame) else { continue };
        let pushed = reassembler.push(number, time, &fragment, &mut whole);
        if pushed.is_ok() {
            waiting.insert(number);
        }
        for frame in reassembler.given_up() {
            assert!(waiting.remove(frame), "frame {frame} is given up twice");
        }
        if pushed.is_ok_and(|is_whole| is_whole) {
            for frame in whole.fragments() {
                assert!(waiting.remove(frame), "frame {frame} is reported twice");
            }
            if let Ok(datagram) = whole.datagram() {
                assert_eq!((datagram.outer.src, datagram.outer.dst), (fragment.outer.src, fragment.outer.dst));
                assert_eq!(datagram.missing, 0);
            }
        }
    }
    for frame in reassembler.finish() {
        assert!(waiting.remove(frame), "frame {frame} is given up twice");
    }
    assert!(waiting.is_empty(), "never reported: {waiting:?}");
}

/// A fragment, or any IP packet.
fn fragment(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.u8();
    if kind == 255 {
        return input.piece().to_vec();
    }
    let (id, place) = (input.u8() % 4, input.u16());
    let payload = match kind & 0x10 {
        0 => vec![input.u8(); usize::from(input.u8()) * 8],
        _ => input.piece().to_vec(),
    };
    if kind & 1 == 0 {
        let mut frame = vec![0x60, 0, 0, 0, 0, 0, 44, 64];
        let extension: &[u8] = if kind & 2 == 2 { &[44, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
        if !extension.is_empty() {
            frame[6] = 60;
        }
        frame.extend([0xfd; 31]);
        frame.push(kind >> 6);
        frame.extend(extension);
        frame.extend([17, 0]);
        frame.extend(place.to_be_bytes());
        frame.extend([0, 0, 0, id]);
        let len = (frame.len() - 40 + payload.len()) as u16;
        frame[4..6].copy_from_slice(&len.to_be_bytes());
        [frame, payload].concat()
    } else {
        let options = if kind & 2 == 2 { 4 } else { 0 };
        let mut frame = vec![0x45 + options as u8 / 4, 0];
        frame.extend(((20 + options + payload.len()) as u16).to_be_bytes());
        frame.extend([0, id]);
        // More Fragments, offset.
        frame.extend((place >> 3 | place << 13 & 0x2000).to_be_bytes());
        frame.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, kind >> 6]);
        frame.resize(20 + options, 1);
        [frame, payload].concat()
    }
}

/// A frame of IEEE 802.15.4, either with an ICMPv6 message with a correct checksum (the receiver learns contexts
/// and addresses from Neighbor Discovery), or any frame.
fn discovery(input: &mut Input<'_>) -> Vec<u8> {
    let kind = input.u8();
    let mut message = input.piece().to_vec();
    if kind & 1 == 0 || message.len() < 4 {
        return message;
    }
    message[2..4].fill(0);
    let (src, dst) = (IpAddr::from([0xfe; 16]), IpAddr::from([0xff; 16]));
    let sum = packets::pseudo_header_sum(src, dst, ICMPV6, &message, message.len());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    // Short addresses; an uncompressed packet (RFC 4944 §5.1).
    let mut frame = vec![0x41, 0x88, kind, 0xcd, 0xab, 2, 0, kind >> 4, 0, 0x41, 0x60, 0, 0, 0];
    frame.extend((message.len() as u16).to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend([[0xfe; 16], [0xff; 16]].concat());
    frame.extend(message);
    frame
}

/// Frames of one link type in the receiver: radio frames, 6LoWPAN, tunnels, fragments of all kinds.
pub fn receiver(data: &[u8]) {
    let mut input = Input::new(data);
    let link_type = input.choose(&LINK_TYPES);
    let flags = input.u8();
    let mut frames = vec![];
    let mut time = 0;
    while !input.is_empty() && frames.len() < 500 {
        time += u32::from(input.u8()) * 10;
        let cut = if flags & 1 == 1 { u32::from(input.u8() & 7) } else { 0 };
        let frame = match flags & 0x10 {
            0 => input.piece().to_vec(),
            _ => discovery(&mut input),
        };
        frames.push((time, frame, cut));
    }
    let key = |index| LinkKey {
        eui64: [2, 0x12, 0x4b, 0, 6, 0xaa, 0, 1],
        short: None,
        mode: 1,
        index: Some(index),
        key: Secret::new(vec![0x1f; 16]),
        origin: Origin { path: Path::new("keys.yaml").into(), line: 1 },
    };
    let prefix = |text: &str, len| (text.parse().expect("an address"), len);
    let settings = Settings {
        contexts: BTreeMap::from([(0, prefix("2001:db8:0:1::", 64)), (3, prefix("fd01::ff:0:0", 96))]),
        link_keys: vec![key(3), key(1)],
        fcs: [Fcs::None, Fcs::Auto, Fcs::Crc, Fcs::Ti][usize::from(flags >> 1 & 3)],
        outermost: flags & 8 != 0,
        esp_ports: EspPorts::with(if flags & 16 != 0 { &[4789] } else { &[] }),
    };
    let mut receiver = Receiver::new(&settings);
    let mut reader = reader(pcap(link_type, &frames)).expect("a capture");
    let mut window = WINDOW.take();
    while reader.fill(&mut window).expect("memory can be read") {
        receiver.survey(window.frames());
        for packet in window.frames() {
            let is_esp = |protocol| protocol == protocol::ESP;
            let alone = link::parse_standalone(packet.link_type(), packet.data, is_esp);
            if let Some(plain) = link::parse_plain(packet.link_type(), packet.data, is_esp) {
                assert!(matches!(alone, Some(Standalone::Packet(place)) if place == plain), "{plain:?} {alone:?}");
            }
            let received = receiver.receive(&packet, is_esp);
            if let Some(alone) = alone {
                match (alone, &received.content) {
                    (Standalone::Packet(place), Content::Datagram(datagram)) => {
                        let alone = place.datagram(packet.data).expect("it is there");
                        let seen = |packet: &Datagram<'_>| {
                            let Datagram { protocol_offset, protocol, missing, frame_offset, rebuilt, link, .. } =
                                *packet;
                            (packet.outer, protocol_offset, protocol, missing, frame_offset, rebuilt, link)
                        };
                        assert_eq!(seen(&alone), seen(datagram));
                        assert_eq!((alone.header, alone.payload), (datagram.header, datagram.payload));
                        assert_eq!(place.link_header(packet.data), received.link_header);
                        assert_eq!(place.is_multicast(packet.data), datagram.outer.dst.is_multicast());
                    }
                    (Standalone::NotIp(alone), Content::NotIp(what)) => assert_eq!(alone, *what),
                    (Standalone::Malformed { outer: alone, fault: of_alone }, Content::Malformed { outer, fault }) => {
                        assert_eq!((alone, of_alone), (*outer, *fault));
                    }
                    (alone, content) => panic!("{alone:?} {content:?}"),
                }
            }
            match received.content {
                Content::Datagram(datagram) => {
                    assert!(datagram.protocol_offset < datagram.header.len());
                    assert!(datagram.header.len() + datagram.payload.len() <= 0x1_0000 + 40);
                    let mut out = vec![];
                    let _ = link::rebuild(received.link_header, &datagram, protocol::ESP, None, &[b"esp"], &mut out);
                }
                Content::Repeat { of } => assert!(of < packet.number),
                Content::Fragment { .. } | Content::NotIp(_) | Content::Malformed { .. } => {}
            }
            assert!(receiver.given_up().iter().all(|frame| *frame <= packet.number));
        }
    }
    WINDOW.set(window);
}
