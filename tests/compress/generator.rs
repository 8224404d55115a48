//! Generates frames of all kinds, and knows what `compress` must do with each. The same seed gives the same frames.

use super::pcapng::Frame;

/// The content of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole IP packet, which every context without selectors matches.
    Whole,
    /// An IP packet with a length, checksum or Next Header that no context matches.
    Odd,
    /// A damaged frame, or one without an IP packet.
    NoPacket,
    /// A radio frame without a packet.
    Radio,
}

/// A frame, and its content.
#[derive(Debug, Clone)]
pub struct Made {
    pub frame: Frame,
    pub kind: Kind,
    /// The IP packet, or as much of it as exists.
    pub packet: Vec<u8>,
    /// Random bytes that no other frame has.
    pub mark: Vec<u8>,
}

/// Pseudo-random numbers (splitmix64).
pub struct Numbers(pub u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// Ports that programs interpret: IKE, ESP in UDP, ZEP, VXLAN, GENEVE, GTP-U, Teredo, L2TP, CoAP.
const PORTS: [u16; 11] = [500, 4500, 17_754, 17_754, 4789, 6081, 2152, 3544, 1701, 5683, 0];
/// IP, tunnels, ICMP, ESP, SCTP and unassigned numbers.
const PROTOCOLS: [u8; 12] = [4, 41, 47, 1, 58, 50, 50, 132, 253, 137, 103, 255];

const UDP: u8 = 17;
const TCP: u8 = 6;
const NO_NEXT_HEADER: u8 = 59;
const FRAGMENT: u8 = 44;

/// A frame whose IP packet is generated from `numbers`.
pub fn make(numbers: &mut Numbers) -> Made {
    match numbers.below(20) {
        0..=15 => of_packet(numbers),
        16 | 17 => no_ip(numbers),
        _ => radio(numbers),
    }
}

fn of_packet(numbers: &mut Numbers) -> Made {
    let is_v6 = numbers.below(2) == 0;
    let Ip { mut packet, header_len, mark, mut kind } = if is_v6 { ipv6(numbers) } else { ipv4(numbers) };
    let (link_type, header) = link(numbers, is_v6);
    let mut data = [header, packet.clone()].concat();
    let mut orig_len = data.len();
    match numbers.below(16) {
        // Ethernet padding.
        0..=3 if link_type == 1 => {
            data.resize(data.len().max(60), 0xee);
            orig_len = data.len();
        }
        // Truncated by the snap length, in the payload or in the headers.
        4 => {
            let cut = numbers.below(packet.len());
            packet.truncate(packet.len() - cut);
            data.truncate(data.len() - cut);
            kind = match kind {
                _ if packet.len() < header_len => Kind::NoPacket,
                Kind::Whole if cut > 0 => Kind::Odd,
                kind => kind,
            };
        }
        _ => {}
    }
    Made { frame: Frame { link_type, data, orig_len: orig_len as u32 }, kind, packet, mark }
}

/// A link type that can carry IP, and the bytes before the packet.
fn link(numbers: &mut Numbers, is_v6: bool) -> (u16, Vec<u8>) {
    let ether_type: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [8, 0] };
    let macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    match numbers.below(10) {
        0..=3 => (1, [&macs[..], &ether_type].concat()),
        4 => (1, [&macs[..], &[0x81, 0, 0, 7], &ether_type].concat()),
        5 => (101, vec![]),
        6 => (113, [&[0, 0, 0, 1, 0, 6][..], &[0; 8], &ether_type].concat()),
        7 => (0, vec![if is_v6 { 30 } else { 2 }, 0, 0, 0]),
        8 => (9, vec![0xff, 3, 0, if is_v6 { 0x57 } else { 0x21 }]),
        _ => (if is_v6 { 229 } else { 228 }, vec![]),
    }
}

/// An IP packet, and the length of its headers, including options and extension headers.
struct Ip {
    packet: Vec<u8>,
    header_len: usize,
    mark: Vec<u8>,
    kind: Kind,
}

/// The protocol and the payload of an IP packet between `addresses`.
fn transport(numbers: &mut Numbers, addresses: &[u8]) -> (u8, Vec<u8>) {
    let len = numbers.pick(&[0, 0, 1, 2, 8, 20, 60]);
    let data = numbers.bytes(len);
    match numbers.below(8) {
        0..=4 => {
            let ports = [0, 1].map(|_| if numbers.below(3) == 0 { 40_000 } else { numbers.pick(&PORTS) });
            // With the Non-ESP Marker, like IKE on port 4500, or truncated ZEP.
            let data = match numbers.below(8) {
                0 => [&[0; 4][..], &data].concat(),
                1 if len < 8 => [b"EX\x01".as_slice(), &data].concat(),
                _ => data,
            };
            let header = [ports[0], ports[1], 8 + data.len() as u16, 0].map(u16::to_be_bytes).concat();
            let segment = [header, data].concat();
            (UDP, checked(segment, 6, UDP, addresses))
        }
        5 => {
            let ports = [numbers.pick(&PORTS), 80].map(u16::to_be_bytes).concat();
            let segment = [&ports[..], &numbers.bytes(8), &[0x50, 0x18, 1, 0, 0, 0, 0, 0], &data].concat();
            (TCP, checked(segment, 16, TCP, addresses))
        }
        _ => {
            let protocol = numbers.pick(&PROTOCOLS);
            // The tests of the codec cover SCTP with a correct checksum.
            (if protocol == 132 { 253 } else { protocol }, data)
        }
    }
}

/// A segment with its checksum at `at`.
fn checked(mut segment: Vec<u8>, at: usize, protocol: u8, addresses: &[u8]) -> Vec<u8> {
    let len = segment.len() as u32;
    let sum = sum(&[addresses, &len.to_be_bytes(), &[0, 0, 0, protocol], &segment].concat());
    let sum = if sum == 0 { 0xffff } else { sum };
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// The Internet checksum (RFC 1071).
fn sum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn ipv6(numbers: &mut Numbers) -> Ip {
    let mark = numbers.bytes(8);
    let src = [&[0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 0][..], &mark].concat();
    let multicast = numbers.below(8) == 0;
    let net: [u8; 8] = if multicast { [0xff, 2, 0, 0, 0, 0, 0, 0] } else { [0x20, 1, 0xd, 0xb8, 0, 0xb, 0, 0] };
    let addresses = [src, net.to_vec(), vec![0, 0, 0, 0, 0, 0, 0, 1]].concat();
    let (mut next_header, mut payload) = transport(numbers, &addresses);
    let mut kind = Kind::Whole;
    let mut header_len = 40;
    match numbers.below(16) {
        // Payload Length 0.
        0 => (next_header, payload, kind) = (NO_NEXT_HEADER, vec![], Kind::Odd),
        // An extension header, complete or truncated.
        1..=3 => {
            let header = numbers.pick(&[0, 43, 60, 60, 135]);
            let words = numbers.below(3);
            let mut extension =
                [&[next_header, words as u8, 1, (8 * words + 4) as u8][..], &vec![0; 8 * words + 4]].concat();
            if numbers.below(3) == 0 {
                extension.truncate(numbers.below(8));
                (payload, kind) = (vec![], Kind::NoPacket);
            }
            header_len += extension.len();
            (next_header, payload) = (header, [extension, payload].concat());
        }
        // A fragment, sometimes an atomic one, complete or truncated.
        4..=6 => {
            let fields = numbers.pick(&[0u16, 1, 8 | 1, 24, 0x1f8]);
            let mut extension = [&[next_header, 0][..], &fields.to_be_bytes(), &numbers.bytes(4)].concat();
            if numbers.below(4) == 0 {
                extension.truncate(numbers.below(8));
                (payload, kind) = (vec![], Kind::NoPacket);
            }
            header_len += extension.len();
            (next_header, payload) = (FRAGMENT, [extension, payload].concat());
        }
        _ => {}
    }
    let len = payload.len() as u16;
    let head = [&[0x60, 0, 0, 0][..], &len.to_be_bytes(), &[next_header, 64], &addresses].concat();
    let mut packet = [head, payload].concat();
    if numbers.below(40) == 0 {
        packet[4..6].copy_from_slice(&(len + 1000).to_be_bytes());
        kind = if kind == Kind::Whole { Kind::Odd } else { kind };
    }
    Ip { packet, header_len, mark, kind }
}

fn ipv4(numbers: &mut Numbers) -> Ip {
    let mark = [&[10][..], &numbers.bytes(3), &[172, 16], &numbers.bytes(2)].concat();
    let (protocol, payload) = transport(numbers, &mark);
    let mut kind = Kind::Whole;
    let options = vec![1; numbers.pick(&[0, 0, 0, 4, 40])];
    let fields = numbers.pick(&[0u16, 0, 0, 0x4000, 0x2000, 0x2001, 3]);
    let header_len = 20 + options.len();
    let len = (header_len + payload.len()) as u16;
    let mut header = [
        &[0x40 | (header_len / 4) as u8, 0][..],
        &len.to_be_bytes(),
        &numbers.bytes(2),
        &fields.to_be_bytes(),
        &[64, protocol, 0, 0],
        &mark,
        &options,
    ]
    .concat();
    let damage = numbers.below(40);
    if damage == 0 {
        header[2..4].copy_from_slice(&(len + 1000).to_be_bytes());
        kind = Kind::Odd;
    }
    let sum = sum(&header).wrapping_add(u16::from(damage == 1));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    match damage {
        1 => kind = Kind::Odd,
        // Shorter than its own header.
        2 => {
            header[2..4].copy_from_slice(&19u16.to_be_bytes());
            kind = Kind::NoPacket;
        }
        3 => {
            header[0] = 0x44;
            kind = Kind::NoPacket;
        }
        _ => {}
    }
    Ip { packet: [header, payload].concat(), header_len, mark, kind }
}

/// Frames without an IP packet.
fn no_ip(numbers: &mut Numbers) -> Made {
    let mark = numbers.bytes(8);
    let macs = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1];
    let ethernet = |ether_type: [u8; 2]| [&macs[..], &ether_type, &mark, &[0; 38]].concat();
    let (link_type, data) = match numbers.below(7) {
        0..=2 => (1, ethernet([8, 6])),
        3 => (1, ethernet([0x88, 0xcc])),
        4 => (1, ethernet([0, 0x26])),
        // A frame that ends in its link header; raw IP of another version; an unassigned link type.
        5 => (1, mark.clone()),
        _ => (147, [&[0x45][..], &mark].concat()),
    };
    let orig_len = data.len() as u32;
    Made { frame: Frame { link_type, data, orig_len }, kind: Kind::NoPacket, packet: vec![], mark }
}

/// IEEE 802.15.4 without FCS: data frames with an uncompressed 6LoWPAN packet, and acknowledgments.
fn radio(numbers: &mut Numbers) -> Made {
    const UNCOMPRESSED_IPV6: u8 = 0x41;
    let mark = numbers.bytes(8);
    let link_type = 230;
    if numbers.below(2) == 0 {
        let data = vec![2, 0, mark[0]];
        return Made { frame: Frame { link_type, data, orig_len: 3 }, kind: Kind::Radio, packet: vec![], mark: vec![] };
    }
    let Ip { packet, mark, kind, .. } = loop {
        let made = ipv6(numbers);
        if made.kind == Kind::Whole {
            break made;
        }
    };
    let mac = [&[0x41, 0x88][..], &mark[..1], &[0xcd, 0xab, 1, 0, 2, 0]].concat();
    let data = [&mac, &[UNCOMPRESSED_IPV6][..], &packet].concat();
    let orig_len = data.len() as u32;
    Made { frame: Frame { link_type, data, orig_len }, kind, packet, mark }
}
