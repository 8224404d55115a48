//! IEEE 802.15.4, 6LoWPAN and Bluetooth LE: generated captures, compared packet by packet with the input and with
//! tshark.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a panic is how a test fails")]

mod bluetooth;
mod captures;
#[path = "../common/mod.rs"]
mod common;
mod generator;

use std::collections::BTreeMap;
use std::path::Path;

use dietesp::internals::capture::{Reader, Window};
use dietesp::internals::context::Origin;
use dietesp::internals::link::LinkKey;
use dietesp::internals::link::{Content, Receiver, Settings};
use dietesp::internals::secret::Secret;
use generator::{CONTEXTS, Generator, KEYS, MODES, Made, NODES, PAN, eui64, short};

const WITH_FCS: u32 = 195;
const WITHOUT_FCS: u32 = 230;

#[test]
fn packets_equal_the_input_and_tshark() {
    let folder = tempfile::tempdir().unwrap();
    let config = wireshark_config(folder.path());
    let (mut frames, mut packets, mut compared) = (0, 0, 0);
    for (seed, secured, link_type) in [(1, false, WITH_FCS), (2, false, WITHOUT_FCS), (3, true, WITH_FCS)] {
        let made = Generator::new(seed, secured).make(1200);
        let path = folder.path().join(format!("{seed}.pcap"));
        let with_fcs = link_type == WITH_FCS;
        std::fs::write(&path, pcap(link_type, &made, |made| if with_fcs { fcs_behind(made) } else { made.to_vec() }))
            .unwrap();
        let (of_capture, as_in_tshark) = check(&format!("capture {seed}"), &path, &config, &made);
        frames += made.len();
        packets += of_capture;
        compared += as_in_tshark;
    }
    eprintln!("{frames} frames, {packets} packets, {compared} of them compared with tshark");
    assert!(frames >= 5000, "{frames}");
    assert!(compared >= 3000, "{compared}");
}

/// The same frames in every kind of header that captures put around them.
#[test]
fn all_headers_around_frames() {
    type Carrier = fn(&[u8]) -> Vec<u8>;
    fn zep(head: &[u8], tail: usize, frame: &[u8]) -> Vec<u8> {
        let data = [head, &vec![0; tail], &[frame.len() as u8], frame].concat();
        let len = |more: usize| ((data.len() + more) as u16).to_be_bytes();
        let ip = [&[0x45, 0], &len(28)[..], &[0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]].concat();
        [&ip, &[0x45, 0x5a, 0x45, 0x5a][..], &len(8), &[0, 0], &data].concat()
    }
    let carriers: [(&str, u32, Carrier); 9] = [
        ("PHY", 215, |frame| {
            let frame = fcs_behind(frame);
            [&[0, 0, 0, 0, 0xa7, frame.len() as u8][..], &frame].concat()
        }),
        ("TAP with CRC-16", 283, |frame| [&[0, 0, 12, 0, 0, 0, 1, 0, 1, 0, 0, 0][..], &fcs_behind(frame)].concat()),
        ("TAP with CRC-32", 283, |frame| [&[0, 0, 12, 0, 0, 0, 1, 0, 2, 0, 0, 0][..], &crc32_behind(frame)].concat()),
        ("TAP without FCS", 283, |frame| [&[0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0][..], frame].concat()),
        ("ZEP 1 with CRC", 101, |frame| zep(&[0x45, 0x58, 1, 11, 0, 1, 1, 255], 7, &fcs_behind(frame))),
        ("ZEP 2 with CRC", 101, |frame| zep(&[0x45, 0x58, 2, 1, 11, 0, 1, 1, 255], 22, &fcs_behind(frame))),
        ("ZEP 2 of a TI radio", 101, |frame| {
            zep(&[0x45, 0x58, 2, 1, 11, 0, 1, 0, 255], 22, &[frame, &[0x11, 0xeb]].concat())
        }),
        ("cooked", 113, |frame| {
            [&[0, 0, 3, 0x25, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xf6][..], &fcs_behind(frame)].concat()
        }),
        ("Ethernet", 1, |frame| [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x80, 0x9a][..], &fcs_behind(frame)].concat()),
    ];
    let folder = tempfile::tempdir().unwrap();
    let config = wireshark_config(folder.path());
    let mut made = Generator::new(5, true).make(200);
    // Not longer than the length fields of ZEP and the PHY allow. No fragments, because their other parts may be
    // longer.
    made.retain(|made| made.frame.len() <= 125 && made.alone);
    for (name, link_type, carrier) in carriers {
        let path = folder.path().join("carried.pcap");
        std::fs::write(&path, pcap(link_type, &made, carrier)).unwrap();
        let (packets, as_in_tshark) = check(name, &path, &config, &made);
        assert!(packets > 50, "{name}: {packets}");
        assert!(as_in_tshark > 40, "{name}: {as_in_tshark}");
    }
}

/// Compares the results of dietesp and tshark with the input. Returns the number of packets, and how many tshark
/// showed.
fn check(name: &str, path: &Path, config: &Path, made: &[Made]) -> (usize, usize) {
    let ours = receive(path);
    for (number, made) in (1..).zip(made) {
        assert_eq!(
            ours.get(&number).map(hex::encode),
            made.packet.as_ref().map(hex::encode),
            "{name} frame {number}: {}",
            hex::encode(&made.frame)
        );
    }
    let theirs = tshark(config, path);
    let mut compared = 0;
    for (number, made) in (1..).zip(made).filter(|(_, made)| !made.in_frame) {
        // tshark 4.0 writes ffff for every elided checksum. Ours is compared above.
        let shown = |packets: &BTreeMap<u64, Vec<u8>>| {
            let mut packet = packets.get(&number)?.clone();
            if let Some(at) = made.checksum_at {
                packet[at..at + 2].fill(0);
            }
            Some(hex::encode(packet))
        };
        assert_eq!(shown(&theirs), shown(&ours), "{name} frame {number}, tshark left: {}", hex::encode(&made.frame));
        compared += usize::from(made.packet.is_some());
    }
    (ours.len(), compared)
}

/// Frame number, and the packet that the frame completes.
fn receive(path: &Path) -> BTreeMap<u64, Vec<u8>> {
    let key = |node: u16| {
        let key = move |mode: u8, (index, key): (u8, [u8; 16])| LinkKey {
            eui64: eui64(node),
            short: Some(short(node)),
            mode,
            index: Some(index),
            key: Secret::new(key.to_vec()),
            origin: Origin { path: Path::new("keys").into(), line: 1 },
        };
        MODES.into_iter().flat_map(move |mode| KEYS.map(|index_and_key| key(mode, index_and_key)))
    };
    let settings = Settings {
        contexts: CONTEXTS.map(|(id, prefix, len)| (id, (prefix.parse().unwrap(), len))).into(),
        link_keys: (0..NODES).flat_map(key).collect(),
        ..Settings::default()
    };
    let mut receiver = Receiver::new(&settings);
    let mut reader = Reader::open(path).unwrap();
    let mut window = Window::default();
    let mut packets = BTreeMap::new();
    while reader.fill(&mut window).unwrap() {
        receiver.survey(window.frames());
        for packet in window.frames() {
            match receiver.receive(&packet, |_| true).content {
                Content::Datagram(datagram) => {
                    assert!(datagram.rebuilt && datagram.missing == 0);
                    packets.insert(packet.number, [datagram.header, datagram.payload].concat());
                }
                // A Bluetooth frame. All frames of IEEE 802.15.4 here contain 6LoWPAN.
                Content::NotIp(_)
                    if packet.link_type() > 170 && ![195, 215, 230, 283].contains(&packet.link_type()) => {}
                Content::Fragment { .. } | Content::Repeat { .. } => {}
                other => panic!("frame {}: {other:?}", packet.number),
            }
        }
    }
    packets
}

/// The same according to tshark: the last data source of a frame that is a whole IPv6 packet.
fn tshark(config: &Path, path: &Path) -> BTreeMap<u64, Vec<u8>> {
    let columns = "gui.column.format:\"No.\",\"%m\"";
    let pan = format!("wpan.panid=={PAN:#06x},6lowpan");
    let arguments = ["-P", "-x", "-d", &pan, "-o", columns, "-r"].map(std::ffi::OsStr::new);
    let text = common::tshark(Some(config), arguments.into_iter().chain([path.as_os_str()]));
    let mut packets = BTreeMap::new();
    let mut frame: u64 = 0;
    let mut bytes: Option<Vec<u8>> = None;
    for line in text.lines() {
        // The packet list has one column with the numbers. Hex dumps have more columns, and colons.
        if let Ok(number) = line.trim().parse() {
            frame = number;
            bytes = None;
        } else if line.starts_with("Reassembled 6LoWPAN (") || line.starts_with("Decompressed 6LoWPAN IPHC (") {
            bytes = Some(vec![]);
            // Reassembled data follows the headers of the fragment that completed it.
            packets.insert(frame, vec![]);
        } else if line.ends_with("bytes):") {
            bytes = None;
        } else if let Some(bytes) = &mut bytes
            && let Some(line) = line.get(6..)
        {
            let line = line.get(..48).unwrap_or(line);
            bytes.extend(hex::decode(line.replace(' ', "")).unwrap());
            packets.insert(frame, bytes.clone());
        }
    }
    // For a first fragment, the headers are shown, too.
    packets.retain(|_, packet| packet.len() == 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])));
    packets
}

fn wireshark_config(folder: &Path) -> std::path::PathBuf {
    let config = folder.join("wireshark");
    std::fs::create_dir(&config).unwrap();
    let contexts = CONTEXTS.map(|(id, prefix, len)| format!("6lowpan.context{id}: {prefix}/{len}\n"));
    std::fs::write(config.join("preferences"), contexts.concat()).unwrap();
    let keys = KEYS.map(|(index, key)| format!("\"{}\",\"{index}\",\"No hash\"\n", hex::encode(key)));
    std::fs::write(config.join("ieee802154_keys"), keys.concat()).unwrap();
    let address = |node| format!("\"{:04x}\",\"{PAN:04x}\",{}\n", short(node), hex::encode(eui64(node)));
    std::fs::write(config.join("802154_addresses"), (0..NODES).map(address).collect::<String>()).unwrap();
    config
}

fn pcap(link_type: u32, made: &[Made], carrier: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = vec![];
    for field in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link_type] {
        out.extend(u32::to_le_bytes(field));
    }
    for (number, made) in (0..).zip(made) {
        let frame = carrier(&made.frame);
        let len = frame.len() as u32;
        // 1000 frames per second, so all are within the 60 s that fragments wait.
        for field in [1_700_000_000 + number / 1000, number % 1000 * 1000, len, len] {
            out.extend(u32::to_le_bytes(field));
        }
        out.extend(frame);
    }
    out
}

fn fcs_behind(frame: &[u8]) -> Vec<u8> {
    [frame, &crc16(frame).to_le_bytes()].concat()
}

/// The CRC of IEEE 802.3, bit by bit.
fn crc32_behind(frame: &[u8]) -> Vec<u8> {
    let crc = frame.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    [frame, &(!crc).to_le_bytes()].concat()
}

/// Bit by bit, as in the figure of IEEE 802.15.4 §7.2.10.
fn crc16(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x8408 } else { crc >> 1 })
    })
}
