//! Bluetooth LE: generated captures of the air and of HCI, compared packet by packet with the input and with
//! tshark.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use crate::generator::{Lowpan, Rng, lowpan};
use crate::{receive, tshark, wireshark_config};

const LE_LL: u32 = 251;
const LE_LL_WITH_PHDR: u32 = 256;
const NORDIC_BLE: u32 = 272;
const HCI_H4: u32 = 187;
const HCI_H4_WITH_PHDR: u32 = 201;
const LINUX_MONITOR: u32 = 254;

/// Central and peripheral; the host is the central.
const ADDRESSES: [[u8; 6]; 2] = [[0x00, 0x11, 0x22, 0x33, 0x44, 0x55], [0xc0, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]];
const ACCESS_ADDRESS: u32 = 0x5065_5f12;
const CRC_INIT: u32 = 0x12_3456;
const ADVERTISING: u32 = 0x8e89_bed6;
const HANDLE: u16 = 0x0040;

/// Captured data, and the packet that it completes.
struct Made {
    frame: Vec<u8>,
    packet: Option<Lowpan>,
}

/// An L2CAP frame of one side, and the packet that it completes.
struct Sent {
    from: usize,
    frame: Vec<u8>,
    packet: Option<Lowpan>,
}

fn reversed(address: [u8; 6]) -> Vec<u8> {
    address.iter().rev().copied().collect()
}

/// RFC 7668 §3.2.2, figure 4.
fn iid([a, b, c, d, e, f]: [u8; 6]) -> [u8; 8] {
    [a, b, c, 0xff, 0xfe, d, e, f]
}

fn words(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn l2cap(channel: u16, payload: &[u8]) -> Vec<u8> {
    [&words(&[payload.len() as u16, channel])[..], payload].concat()
}

fn signalling(code: u8, identifier: u8, values: &[u16]) -> Vec<u8> {
    l2cap(5, &[&[code, identifier][..], &words(&[values.len() as u16 * 2]), &words(values)].concat())
}

/// The linear feedback shift register of Vol 6, Part B, 3.1.1, bit by bit as in its figure.
fn crc24(init: u32, pdu: &[u8]) -> Vec<u8> {
    let mut register = init;
    for bit in pdu.iter().flat_map(|byte| (0..8).map(move |at| u32::from(byte >> at & 1))) {
        let feedback = register >> 23 & 1 ^ bit;
        register = (register << 1 & 0xff_ffff) ^ if feedback == 1 { 0x65b } else { 0 };
    }
    let [_, bytes @ ..] = register.to_be_bytes();
    bytes.iter().map(|byte| byte.reverse_bits()).collect()
}

fn on_air(access_address: u32, first: u8, payload: &[u8], crc_init: u32) -> Vec<u8> {
    let pdu = [&[first, payload.len() as u8][..], payload].concat();
    [&access_address.to_le_bytes()[..], &pdu, &crc24(crc_init, &pdu)].concat()
}

/// Signalling that opens two channels, one of them for another profile. Then packets, in both directions at once.
fn l2cap_frames(rng: &mut Rng, packets: usize, elided: bool) -> [VecDeque<Sent>; 2] {
    let (mtu, mps) = (1280, 40 + rng.below(200) as u16);
    let plain = |from, frame| Sent { from, frame, packet: None };
    let mut sent = [VecDeque::new(), VecDeque::new()];
    sent[0].push_back(plain(0, signalling(0x14, 1, &[0x0025, 0x40, mtu, mps, 100])));
    sent[1].push_back(plain(1, signalling(0x15, 1, &[0x40, mtu, mps, 100, 0])));
    sent[0].push_back(plain(0, signalling(0x14, 2, &[0x0023, 0x41, mtu, mps, 100])));
    sent[1].push_back(plain(1, signalling(0x15, 2, &[0x42, mtu, mps, 100, 0])));
    for _ in 0..packets {
        let from = rng.below(2) as usize;
        let to = 1 - from;
        let ids = |side: usize| elided.then(|| iid(ADDRESSES[side]));
        let body_len = if rng.one_in(3) { rng.below(700) as usize } else { rng.below(60) as usize + 8 };
        let made = lowpan(rng, ids(from), ids(to), body_len);
        let sdu = [&made.first[..], &made.body].concat();
        let framed = [&words(&[sdu.len() as u16]), &sdu[..]].concat();
        let mut pieces: Vec<Sent> =
            framed.chunks(usize::from(mps)).map(|piece| plain(from, l2cap([0x42, 0x41][from], piece))).collect();
        pieces.last_mut().unwrap().packet = Some(made);
        sent[from].extend(pieces);
        if rng.one_in(6) {
            // Data of the other channel that starts like IPHC, and an attribute value.
            let data = [&words(&[6]), &[0x7b, 0x33, 50, 1, 2, 3][..]].concat();
            sent[from].push_back(plain(from, l2cap(0x40, &data)));
            sent[from].push_back(plain(from, l2cap(4, &[0x1b, 3, 0, 9])));
        }
    }
    sent
}

/// The pieces in a possible capture order. `piece(from, is_first, bytes)` makes frames, some of them not L2CAP.
/// Signalling comes first; then both sides are mixed.
fn captured(
    rng: &mut Rng,
    mut sent: [VecDeque<Sent>; 2],
    mut piece: impl FnMut(&mut Rng, usize, bool, &[u8]) -> Vec<Vec<u8>>,
) -> Vec<Made> {
    let mut made = vec![];
    // The started frame of one side.
    let mut begun: [Option<(Sent, usize)>; 2] = [None, None];
    let mut signalled = 0;
    while sent.iter().any(|sent| !sent.is_empty()) || begun.iter().any(Option::is_some) {
        let from = if signalled < 4 { signalled % 2 } else { rng.below(2) as usize };
        if begun[from].is_none() {
            begun[from] = sent[from].pop_front().map(|sent| (sent, 0));
        }
        let Some((Sent { from, frame, packet }, at)) = begun[from].take() else { continue };
        let end = if signalled < 4 { frame.len() } else { (at + 20 + rng.below(20) as usize).min(frame.len()) };
        signalled += usize::from(signalled < 4);
        let is_last = end == frame.len();
        let mut frames = piece(rng, from, at == 0, &frame[at..end]);
        let first = frames.remove(0);
        let (packet, rest) = if is_last { (packet, None) } else { (None, Some(Sent { from, frame, packet })) };
        made.push(Made { frame: first, packet });
        made.extend(frames.into_iter().map(|frame| Made { frame, packet: None }));
        begun[from] = rest.map(|sent| (sent, end));
    }
    made
}

/// A capture of the air. `header(from, is_advertising)` precedes each frame.
fn air(rng: &mut Rng, packets: usize, header: impl Fn(usize, bool, usize) -> Vec<u8>) -> Vec<Made> {
    let sent = l2cap_frames(rng, packets, true);
    air_of(rng, sent, true, header)
}

fn air_of(
    rng: &mut Rng,
    sent: [VecDeque<Sent>; 2],
    sent_again: bool,
    header: impl Fn(usize, bool, usize) -> Vec<u8>,
) -> Vec<Made> {
    let connect = [
        &reversed(ADDRESSES[0])[..],
        &reversed(ADDRESSES[1]),
        &ACCESS_ADDRESS.to_le_bytes(),
        &CRC_INIT.to_le_bytes()[..3],
        &[3, 7, 0, 0x18, 0, 0, 0, 0x48, 0, 0xff, 0xff, 0xff, 0xff, 0x1f, 5],
    ];
    let framed = |from, is_advertising, frame: Vec<u8>| [header(from, is_advertising, frame.len()), frame].concat();
    let connect = framed(0, true, on_air(ADVERTISING, 0x85, &connect.concat(), 0x55_5555));
    let mut sequence = [0u8; 2];
    let pieces = captured(rng, sent, |rng, from, is_first, bytes| {
        let llid = if is_first { 2 } else { 1 };
        let data = |first, bytes: &[u8]| framed(from, false, on_air(ACCESS_ADDRESS, first, bytes, CRC_INIT));
        let first = llid | sequence[from] << 3;
        let mut frames = vec![data(first, bytes)];
        // Retransmitted, with other acknowledgments in its header.
        if sent_again && rng.one_in(8) {
            frames.push(data(first | 0x14, bytes));
        }
        sequence[from] ^= 1;
        if rng.one_in(8) {
            frames.push(data(1 | sequence[from] << 3, &[]));
            sequence[from] ^= 1;
        }
        frames
    });
    [Made { frame: connect, packet: None }].into_iter().chain(pieces).collect()
}

/// A capture of HCI. `header(from, kind)` precedes each packet.
fn hci(rng: &mut Rng, packets: usize, header: impl Fn(usize, u8) -> Vec<u8>) -> Vec<Made> {
    let sent = l2cap_frames(rng, packets, true);
    hci_of(rng, sent, header)
}

fn hci_of(rng: &mut Rng, sent: [VecDeque<Sent>; 2], header: impl Fn(usize, u8) -> Vec<u8>) -> Vec<Made> {
    let plain = |from, kind, packet: &[u8]| Made { frame: [&header(from, kind), packet].concat(), packet: None };
    let create = [&[96, 0, 48, 0, 0, 1][..], &reversed(ADDRESSES[1]), &[0, 24, 0, 40, 0, 0, 0, 42, 0, 0, 0, 0, 0]];
    let connected = [&[1, 0, 0x40, 0, 0, 1][..], &reversed(ADDRESSES[1]), &[24, 0, 0, 0, 42, 0, 0]];
    let set_up = [
        plain(0, 1, &[0x09, 0x10, 0]),
        plain(1, 4, &[&[0x0e, 10, 1, 0x09, 0x10, 0][..], &reversed(ADDRESSES[0])].concat()),
        plain(0, 1, &[&[0x0d, 0x20, 25][..], &create.concat()].concat()),
        plain(1, 4, &[0x0f, 4, 0, 1, 0x0d, 0x20]),
        plain(1, 4, &[&[0x3e, 19][..], &connected.concat()].concat()),
    ];
    let pieces = captured(rng, sent, |_, from, is_first, bytes| {
        let boundary = match (is_first, from) {
            (false, _) => 1,
            (true, 0) => 0,
            (true, _) => 2,
        };
        vec![[&header(from, 2), &words(&[HANDLE | boundary << 12, bytes.len() as u16])[..], bytes].concat()]
    });
    set_up.into_iter().chain(pieces).collect()
}

fn pcap(link_type: u32, made: &[Made]) -> Vec<u8> {
    let mut out = vec![];
    for field in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, link_type] {
        out.extend(u32::to_le_bytes(field));
    }
    for (number, made) in (0..).zip(made) {
        let len = made.frame.len() as u32;
        for field in [1_700_000_000 + number / 1000, number % 1000 * 1000, len, len] {
            out.extend(u32::to_le_bytes(field));
        }
        out.extend(&made.frame);
    }
    out
}

/// A capture of HCI in which the host sends `packets` to its peer, uncompressed.
pub fn carry(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut rng = Rng(17);
    let mut sent = l2cap_frames(&mut rng, 0, true);
    for packet in packets {
        let sdu = [&words(&[packet.len() as u16 + 1]), &[0x41][..], packet].concat();
        let frames = sdu.chunks(48).map(|piece| Sent { from: 0, frame: l2cap(0x42, piece), packet: None });
        sent[0].extend(frames);
    }
    let header = |from: usize, kind: u8| [(from as u32).to_be_bytes().to_vec(), vec![kind]].concat();
    pcap(HCI_H4_WITH_PHDR, &hci_of(&mut rng, sent, header))
}

fn check(link_type: u32, made: &[Made], with_tshark: bool) {
    let folder = tempfile::tempdir().unwrap();
    let config = wireshark_config(folder.path());
    let path = folder.path().join("made.pcap");
    std::fs::write(&path, pcap(link_type, made)).unwrap();
    let ours = receive(&path);
    let mut packets = 0;
    for (number, Made { frame, packet }) in (1..).zip(made) {
        let expected = packet.as_ref().map(|made| hex::encode(&made.packet));
        packets += usize::from(expected.is_some());
        assert_eq!(ours.get(&number).map(hex::encode), expected, "{link_type} frame {number}: {}", hex::encode(frame));
    }
    assert!(packets > 100, "{packets}");
    if with_tshark {
        compare(link_type, made, &ours, &config, &path);
    }
}

fn compare(link_type: u32, made: &[Made], ours: &BTreeMap<u64, Vec<u8>>, config: &Path, path: &Path) {
    let theirs = tshark(config, path);
    let mut compared = 0;
    for (number, Made { packet, .. }) in (1..).zip(made) {
        let Some(packet) = packet.as_ref().filter(|packet| !packet.in_frame) else { continue };
        // As in main.rs: tshark does not compute elided checksums.
        let shown = |packets: &BTreeMap<u64, Vec<u8>>| {
            let mut packet_bytes = packets.get(&number)?.clone();
            if let Some(at) = packet.checksum_at {
                packet_bytes[at..at + 2].fill(0);
            }
            Some(hex::encode(packet_bytes))
        };
        assert_eq!(shown(&theirs), shown(ours), "{link_type} frame {number}, tshark left");
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn captures_of_the_air() {
    let phdr = |from: usize, is_advertising: bool, _: usize| {
        let kind: u16 = if is_advertising { 0 } else { 2 + from as u16 };
        let mut header = vec![10, 0xc4, 0x80, 0];
        header.extend(ACCESS_ADDRESS.to_le_bytes());
        // Dewhitened, reference access address, CRC checked and good.
        header.extend((0x0c11 | kind << 7).to_le_bytes());
        header
    };
    check(LE_LL_WITH_PHDR, &air(&mut Rng(11), 300, phdr), true);
    let nordic = |from: usize, is_advertising: bool, len: usize| {
        let [a, b] = (len as u16 + 10).to_le_bytes();
        let flags = if is_advertising { 1 } else { 1 | u8::from(from == 0) << 1 };
        vec![1, a, b, 3, 7, 0, if is_advertising { 2 } else { 6 }, 10, flags, 10, 50, 0, 0, 0, 0, 0, 0]
    };
    check(NORDIC_BLE, &air(&mut Rng(12), 300, nordic), true);
    // Here frames do not name their sender, so pieces of both sides cannot be distinguished.
    let (mut rng, none) = (Rng(13), |_: usize, _: bool, _: usize| vec![]);
    let mut sent = l2cap_frames(&mut rng, 300, false);
    // The answers to both requests.
    sent[1].truncate(2);
    check(LE_LL, &air_of(&mut rng, sent, false, none), true);
}

#[test]
fn captures_of_hci() {
    let with_direction = |from: usize, kind: u8| [(from as u32).to_be_bytes().to_vec(), vec![kind]].concat();
    // Only the first piece of a frame names the sender. tshark ignores it.
    let mut rng = Rng(16);
    let mut sent = l2cap_frames(&mut rng, 300, true);
    sent[1].truncate(2);
    check(HCI_H4, &hci_of(&mut rng, sent, |_, kind| vec![kind]), false);
    check(HCI_H4_WITH_PHDR, &hci(&mut Rng(14), 300, with_direction), true);
    let monitor = |from: usize, kind: u8| {
        let opcode = match (kind, from) {
            (1, _) => 2,
            (4, _) => 3,
            (_, 0) => 4,
            _ => 5,
        };
        vec![0, 0, 0, opcode]
    };
    check(LINUX_MONITOR, &hci(&mut Rng(15), 300, monitor), true);
}
