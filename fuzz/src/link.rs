//! Captures, link layers, fragments.

use std::collections::{BTreeMap, HashSet};
use std::io::Cursor;
use std::path::Path;

use dietesp::capture::{LINKTYPE_RAW, Reader, Window, Writer};
use dietesp::context::Origin;
use dietesp::files::LinkKey;
use dietesp::link::{self, Content, Fcs, Frame, Reassembled, Reassembler, Receiver, Settings};
use dietesp::secret::Secret;

use super::input::Input;

/// All link types that are read, and one that is not. Inputs name them by their place.
const LINK_TYPES: [u16; 29] = [
    0, 1, 9, 12, 14, 50, 51, 101, 105, 108, 113, 127, 147, 166, 195, 204, 215, 228, 229, 230, 276, 283, 187, 201, 251,
    254, 256, 270, 272,
];

/// A capture file: read to its end, and written again.
pub fn capture(data: &[u8]) {
    let Some(mut reader) = reader(data.to_vec()) else { return };
    let sink = Path::new("/dev/null");
    let mut writer = Writer::create(sink).ok();
    let mut window = Window::default();
    let (mut last, mut text) = (0, vec![]);
    while reader.fill(&mut window).expect("memory can be read") {
        assert!(!window.is_empty());
        for packet in window.packets() {
            assert!(packet.number > last);
            last = packet.number;
            assert!(packet.options.comments().count() <= packet.options.iter().count());
            text.clear();
            packet.time.write_rfc3339(&mut text);
            if let Some(writer) = &mut writer {
                // A time may not fit.
                let _ = writer.write(&packet, Some("comment"));
            }
        }
    }
    assert!(!reader.fill(&mut window).expect("memory can be read"));
    reader.warnings();
    if let Some(writer) = writer {
        writer.finish().expect("the sink takes all");
    }
}

pub fn reader(bytes: Vec<u8>) -> Option<Reader> {
    Reader::from_read(Path::new("input"), Box::new(Cursor::new(bytes))).ok()
}

/// A pcap file of frames with their time in milliseconds, their data, and how many bytes were cut away.
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

/// One frame: parsed; if it is a datagram, written with another payload and parsed again.
pub fn link(data: &[u8]) {
    let mut input = Input::new(data);
    let link_type = input.choose(&LINK_TYPES);
    let frame = input.rest();
    match link::parse(link_type, frame) {
        Frame::Datagram(datagram) => {
            assert!(datagram.frame_offset + datagram.header.len() + datagram.payload.len() <= frame.len());
            assert!(datagram.protocol_offset < datagram.header.len());
            let _ = link::udp_encapsulation(&datagram);
            if datagram.missing > 0 {
                return;
            }
            let (link_type, link_header) = match datagram.rebuilt {
                true => (LINKTYPE_RAW, &[][..]),
                false => (link_type, &frame[..datagram.frame_offset]),
            };
            let mut out = vec![];
            let payload = [&b"another "[..], b"payload"];
            if link::rebuild(link_header, &datagram, link::ESP, None, &payload, &mut out).is_err() {
                return;
            }
            let Frame::Datagram(again) = link::parse(link_type, &out) else { panic!("{out:02x?}") };
            assert_eq!((again.payload, again.protocol), (&payload.concat()[..], link::ESP));
            assert_eq!((again.outer, again.missing), (datagram.outer, 0));
            assert_eq!(again.header.len(), datagram.header.len());
        }
        Frame::Fragment(fragment) => {
            assert!(fragment.frame_offset + fragment.header.len() + fragment.payload.len() <= frame.len());
            assert!(fragment.protocol_offset < fragment.header.len());
        }
        Frame::NotIp(_) | Frame::Malformed { .. } => {}
    }
}

/// IP packets, fragments among them, through the reassembler: every frame is told of once.
pub fn fragments(data: &[u8]) {
    let mut input = Input::new(data);
    let mut reassembler = Reassembler::new();
    let mut whole = Reassembled::default();
    let (mut waiting, mut time, mut number) = (HashSet::new(), 0i64, 0);
    while !input.is_empty() && number < 2000 {
        number += 1;
        time += i64::from(input.u8()) * 100_000_000;
        let frame = fragment(&mut input);
        let Frame::Fragment(fragment) = link::parse(LINKTYPE_RAW, &frame) else { continue };
        let pushed = reassembler.push(number, time, &fragment, &mut whole);
        if pushed.is_ok() {
            waiting.insert(number);
        }
        for frame in reassembler.given_up() {
            assert!(waiting.remove(frame), "frame {frame} is given up twice");
        }
        if pushed.is_ok_and(|is_whole| is_whole) {
            for frame in whole.fragments() {
                assert!(waiting.remove(frame), "frame {frame} is told of twice");
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
    assert!(waiting.is_empty(), "never told of: {waiting:?}");
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

/// Frames of one link type through the receiver: radio frames, 6LoWPAN, tunnels, fragments of all kinds.
pub fn receiver(data: &[u8]) {
    let mut input = Input::new(data);
    let link_type = input.choose(&LINK_TYPES);
    let flags = input.u8();
    let mut frames = vec![];
    let mut time = 0;
    while !input.is_empty() && frames.len() < 500 {
        time += u32::from(input.u8()) * 10;
        let cut = if flags & 1 == 1 { u32::from(input.u8() & 7) } else { 0 };
        let frame = input.piece().to_vec();
        frames.push((time, frame, cut));
    }
    let key = |index| LinkKey {
        eui64: [2, 0x12, 0x4b, 0, 6, 0xaa, 0, 1],
        short: None,
        mode: 1,
        index: Some(index),
        key: Secret::new(vec![0x1f; 16]),
        origin: Origin { path: "keys.yaml".into(), line: 1 },
    };
    let prefix = |text: &str, len| (text.parse().expect("an address"), len);
    let settings = Settings {
        contexts: BTreeMap::from([(0, prefix("2001:db8:0:1::", 64)), (3, prefix("fd01::ff:0:0", 96))]),
        link_keys: vec![key(3), key(1)],
        fcs: match flags >> 1 & 3 {
            0 => Fcs::None,
            _ => Fcs::Auto,
        },
        fragments_apart: flags & 8 != 0,
    };
    let mut receiver = Receiver::new(&settings);
    let mut reader = reader(pcap(link_type, &frames)).expect("a capture");
    let mut window = Window::default();
    while reader.fill(&mut window).expect("memory can be read") {
        receiver.survey(window.packets());
        for packet in window.packets() {
            let received = receiver.receive(&packet, |protocol| protocol == link::ESP);
            assert!(received.fragments.iter().all(|frame| *frame <= packet.number));
            match received.content {
                Content::Datagram(datagram) => {
                    assert!(datagram.protocol_offset < datagram.header.len());
                    assert!(datagram.header.len() + datagram.payload.len() <= 0x1_0000 + 40);
                    let mut out = vec![];
                    let _ = link::rebuild(received.link_header, &datagram, link::ESP, None, &[b"esp"], &mut out);
                }
                Content::Repeat { of } => assert!(of < packet.number),
                Content::Fragment { .. } | Content::NotIp(_) | Content::Malformed { .. } => {}
            }
            assert!(receiver.given_up().iter().all(|frame| *frame <= packet.number));
        }
    }
}
