//! Generates IEEE 802.15.4 frames with 6LoWPAN, the same in every run, and the IPv6 packets that they contain.

use aes::cipher::{BlockCipherEncrypt, KeyInit};

/// Context prefixes by identifier.
pub const CONTEXTS: [(u8, &str, u8); 7] = [
    (0, "fd01::", 64),
    (1, "2001:db8:1:2::", 64),
    (2, "2001:db8:aaaa::", 48),
    (3, "2001:db8:1:2:3:4::", 96),
    (4, "fd04:1:2:3:4:5:6:7", 128),
    (5, "2001:db8:5:50::", 60),
    (15, "2001:db8:f:e:8000::", 65),
];
pub const PAN: u16 = 0xabcd;
/// Key Identifier Modes that have an index.
pub const MODES: [u8; 3] = [1, 2, 3];
/// Key Index and key.
pub const KEYS: [(u8, [u8; 16]); 2] = [(1, *b"0123456789abcdef"), (7, *b"link key number7")];
pub const NODES: u16 = 6;

pub fn eui64(node: u16) -> [u8; 8] {
    let [a, b] = node.to_be_bytes();
    [0x02, 0x12, 0x4b, 0x00, 0x06, 0x0d, a, b]
}

pub fn short(node: u16) -> u16 {
    0x0100 + node
}

/// One captured frame, without FCS, and the packet that it completes.
pub struct Made {
    pub frame: Vec<u8>,
    pub packet: Option<Vec<u8>>,
    /// The frame is not a fragment.
    pub alone: bool,
    /// tshark shows the packet as part of the frame, not as separate data.
    pub in_frame: bool,
    /// Offset in the packet of a UDP checksum that is elided on the air.
    pub checksum_at: Option<usize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Link {
    None,
    Short(u16),
    Long([u8; 8]),
}

impl Link {
    fn mode(self) -> u16 {
        match self {
            Link::None => 0,
            Link::Short(_) => 2,
            Link::Long(_) => 3,
        }
    }

    fn wire(self) -> Vec<u8> {
        match self {
            Link::None => vec![],
            Link::Short(short) => short.to_le_bytes().to_vec(),
            Link::Long(eui64) => eui64.iter().rev().copied().collect(),
        }
    }

    fn iid(self) -> Option<[u8; 8]> {
        match self {
            Link::None => None,
            Link::Short(short) => {
                let [a, b] = short.to_be_bytes();
                Some([0, 0, 0, 0xff, 0xfe, 0, a, b])
            }
            Link::Long(mut eui64) => {
                eui64[0] ^= 2;
                Some(eui64)
            }
        }
    }
}

pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// `prefix` in the first `len` bits, then `address`.
fn over(prefix: std::net::Ipv6Addr, len: u8, mut address: [u8; 16]) -> [u8; 16] {
    for bit in 0..usize::from(len) {
        let mask = 0x80 >> (bit % 8);
        address[bit / 8] = address[bit / 8] & !mask | prefix.octets()[bit / 8] & mask;
    }
    address
}

fn context(id: u8) -> (std::net::Ipv6Addr, u8) {
    let (_, prefix, len) = CONTEXTS.iter().find(|(own, ..)| *own == id).unwrap();
    (prefix.parse().unwrap(), *len)
}

fn with_iid(prefix: [u8; 8], iid: [u8; 8]) -> [u8; 16] {
    [prefix, iid].concat().try_into().unwrap()
}

/// A unicast address in the form (SAC, SAM), and its bytes in line.
fn unicast(rng: &mut Rng, by_context: Option<u8>, mode: u16, link: Option<[u8; 8]>) -> ([u8; 16], Vec<u8>) {
    const LINK_LOCAL: [u8; 8] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    let in_line = rng.bytes([16, 8, 2, 0][usize::from(mode)]);
    let iid: [u8; 8] = match mode {
        0 => {
            // Not a multicast address.
            let mut address: [u8; 16] = in_line.try_into().unwrap();
            address[0] = 0x20;
            return (address, address.to_vec());
        }
        1 => in_line.clone().try_into().unwrap(),
        2 => [0, 0, 0, 0xff, 0xfe, 0, in_line[0], in_line[1]],
        _ => link.unwrap(),
    };
    match by_context {
        None => (with_iid(LINK_LOCAL, iid), in_line),
        Some(id) => {
            let (prefix, len) = context(id);
            (over(prefix, len, with_iid([0; 8], iid)), in_line)
        }
    }
}

/// IPv6 headers, compressed and uncompressed.
struct Headers {
    compressed: Vec<u8>,
    plain: Vec<u8>,
    udp_at: Option<usize>,
    checksum_elided: bool,
    /// Offsets of the inner and outer IPv6 headers.
    ipv6_at: Vec<usize>,
}

fn ipv6(rng: &mut Rng, src_link: Option<[u8; 8]>, dst_link: Option<[u8; 8]>, depth: usize, out: &mut Headers) {
    let at = out.plain.len();
    out.ipv6_at.push(at);
    let mut word: u16 = 0b011 << 13;
    let mut in_line = vec![];
    let uses_cid = rng.one_in(2);
    let pick = |rng: &mut Rng| if uses_cid { CONTEXTS[rng.below(7) as usize].0 } else { 0 };
    let (sci, dci) = (pick(rng), pick(rng));
    if uses_cid {
        word |= 1 << 7;
        in_line.push(sci << 4 | dci);
    }
    // ECN 2, DSCP 6, flow label 20.
    let (ecn, dscp, flow) = (rng.below(4) as u8, rng.below(64) as u8, rng.below(1 << 20) as u32);
    let tf = rng.below(4) as u16;
    word |= tf << 11;
    let [_, f1, f2, f3] = flow.to_be_bytes();
    let (class, flow) = match tf {
        0 => {
            in_line.extend([ecn << 6 | dscp, f1, f2, f3]);
            (dscp << 2 | ecn, flow)
        }
        1 => {
            in_line.extend([ecn << 6 | f1, f2, f3]);
            (ecn, flow)
        }
        2 => {
            in_line.push(ecn << 6 | dscp);
            (dscp << 2 | ecn, 0)
        }
        _ => (0, 0),
    };
    let nhc = !rng.one_in(3);
    let protocol = [50, 58, 17, 253][rng.below(4) as usize];
    if nhc {
        word |= 1 << 10;
    } else {
        in_line.push(protocol);
    }
    let hlim = rng.below(4) as u16;
    word |= hlim << 8;
    let hop_limit = match hlim {
        0 => {
            let hop_limit = rng.below(256) as u8;
            in_line.push(hop_limit);
            hop_limit
        }
        1 => 1,
        2 => 64,
        _ => 255,
    };

    let sac = rng.below(2) as u16;
    let mut sam = rng.below(4) as u16;
    if sam == 3 && src_link.is_none() {
        sam = 1;
    }
    word |= sac << 6 | sam << 4;
    let (src, bytes) = match (sac, sam) {
        (1, 0) => ([0; 16], vec![]),
        _ => unicast(rng, (sac == 1).then_some(sci), sam, src_link),
    };
    in_line.extend(bytes);

    let (multicast, dac) = (rng.below(4) / 3, rng.below(2) as u16);
    let mut dam = rng.below(4) as u16;
    let (dst, bytes): ([u8; 16], Vec<u8>) = match (multicast, dac) {
        (0, _) => {
            if dam == 3 && dst_link.is_none() || dac == 1 && dam == 0 {
                dam = 2;
            }
            unicast(rng, (dac == 1).then_some(dci), dam, dst_link)
        }
        (_, 0) => {
            let mut address = [0; 16];
            address[0] = 0xff;
            let bytes = rng.bytes([15, 6, 4, 1][usize::from(dam)]);
            match dam {
                0 => address[1..].copy_from_slice(&bytes),
                1 => {
                    address[1] = bytes[0];
                    address[11..].copy_from_slice(&bytes[1..]);
                }
                2 => {
                    address[1] = bytes[0];
                    address[13..].copy_from_slice(&bytes[1..]);
                }
                _ => {
                    address[1] = 2;
                    address[15] = bytes[0];
                }
            }
            (address, if dam == 0 { address.to_vec() } else { bytes })
        }
        _ => {
            dam = 0;
            let bytes = rng.bytes(6);
            let (prefix, len) = context(dci);
            let mut address = [0; 16];
            // A prefix of a multicast address has 64 bits at most (RFC 3306 §4).
            address[..4].copy_from_slice(&[0xff, bytes[0], bytes[1], len.min(64)]);
            address[4..12].copy_from_slice(&prefix.octets()[..8]);
            address[12..].copy_from_slice(&bytes[2..]);
            (address, bytes)
        }
    };
    word |= (multicast as u16) << 3 | dac << 2 | dam;
    in_line.extend(bytes);

    out.compressed.extend(word.to_be_bytes());
    out.compressed.extend(in_line);
    out.plain.extend((6u32 << 28 | u32::from(class) << 20 | flow).to_be_bytes());
    out.plain.extend([0, 0, if nhc { 0 } else { protocol }, hop_limit]);
    out.plain.extend(src);
    out.plain.extend(dst);
    if nhc {
        next_headers(rng, at + 6, depth, out);
    }
}

fn next_headers(rng: &mut Rng, mut next_at: usize, depth: usize, out: &mut Headers) {
    for eid in 0..5u8 {
        if !rng.one_in(4) {
            continue;
        }
        // HBH 0, Routing 43, Fragment 44, Destination Options 60, Mobility 135.
        out.plain[next_at] = [0, 43, 44, 60, 135][usize::from(eid)];
        let last = rng.one_in(3);
        let protocol = if last { 50 } else { 0 };
        out.compressed.push(0xe0 | eid << 1 | u8::from(!last));
        if last {
            out.compressed.push(protocol);
        }
        next_at = out.plain.len();
        match eid {
            2 => {
                // An atomic fragment.
                let identification = rng.bytes(4);
                out.compressed.push(0);
                out.compressed.extend([0, 0]);
                out.compressed.extend(&identification);
                out.plain.extend([protocol, 0, 0, 0]);
                out.plain.extend(identification);
            }
            4 => {
                // Binding Refresh Request (RFC 6275 §6.1.2). Its checksum is not verified.
                let body = [&[0, 0][..], &rng.bytes(2), &[0, 0]].concat();
                out.compressed.push(6);
                out.compressed.extend(&body);
                out.plain.extend([protocol, 0]);
                out.plain.extend(body);
            }
            1 => {
                // An experimental type without segments left (RFC 4727).
                let body = [&[253, 0][..], &rng.bytes(4)].concat();
                out.compressed.push(6);
                out.compressed.extend(&body);
                out.plain.extend([protocol, 0]);
                out.plain.extend(body);
            }
            _ => {
                // One experimental option, and padding that is elided.
                let len = rng.below(20) as usize;
                let body = [&[0x1e, len as u8][..], &rng.bytes(len)].concat();
                let whole = (body.len() + 2).next_multiple_of(8);
                out.compressed.push(body.len() as u8);
                out.compressed.extend(&body);
                out.plain.extend([protocol, (whole / 8 - 1) as u8]);
                out.plain.extend(&body);
                match whole - body.len() - 2 {
                    0 => {}
                    1 => out.plain.push(0),
                    n => {
                        out.plain.extend([1, n as u8 - 2]);
                        out.plain.extend(vec![0; n - 2]);
                    }
                }
            }
        }
        if last {
            return;
        }
    }
    if depth == 0 && rng.one_in(8) {
        out.compressed.push(0xee);
        out.plain[next_at] = 41;
        return ipv6(rng, None, None, 1, out);
    }
    out.plain[next_at] = 17;
    let p = rng.below(4) as u8;
    let low = rng.bytes(4);
    let (src, dst, ports) = match p {
        0 => ([low[0], low[1]], [low[2], low[3]], low.clone()),
        1 => ([low[0], low[1]], [0xf0, low[2]], low[..3].to_vec()),
        2 => ([0xf0, low[0]], [low[1], low[2]], low[..3].to_vec()),
        _ => ([0xf0, 0xb0 | low[0] >> 4], [0xf0, 0xb0 | low[0] & 0xf], low[..1].to_vec()),
    };
    out.checksum_elided = rng.one_in(2);
    out.udp_at = Some(out.plain.len());
    out.compressed.push(0xf0 | u8::from(out.checksum_elided) << 2 | p);
    out.compressed.extend(ports);
    let checksum = if out.checksum_elided { vec![0, 0] } else { rng.bytes(2) };
    if !out.checksum_elided {
        out.compressed.extend(&checksum);
    }
    out.plain.extend([src, dst, [0, 0]].concat());
    out.plain.extend(checksum);
}

/// The Internet checksum over the pseudo-header, computed word by word (RFC 1071 §4.1).
fn udp_checksum(packet: &[u8], ipv6_at: usize, udp_at: usize) -> u16 {
    let udp = &packet[udp_at..];
    let mut bytes = packet[ipv6_at + 8..ipv6_at + 40].to_vec();
    bytes.extend((udp.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, 17]);
    bytes.extend(udp);
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    }
}

/// A packet and its 6LoWPAN frame.
pub struct Lowpan {
    /// Dispatch and headers, then the rest.
    pub first: Vec<u8>,
    pub body: Vec<u8>,
    /// Length of the headers in the packet.
    plain_len: usize,
    pub packet: Vec<u8>,
    pub in_frame: bool,
    pub checksum_at: Option<usize>,
}

/// A packet in IPHC, or uncompressed. Elided parts of its addresses come from the given interface identifiers.
pub fn lowpan(rng: &mut Rng, src: Option<[u8; 8]>, dst: Option<[u8; 8]>, body_len: usize) -> Lowpan {
    let mut headers =
        Headers { compressed: vec![], plain: vec![], udp_at: None, checksum_elided: false, ipv6_at: vec![] };
    ipv6(rng, src, dst, 0, &mut headers);
    let body = rng.bytes(body_len);
    let in_frame = rng.one_in(12);
    let mut packet = [headers.plain.clone(), body.clone()].concat();
    let len = packet.len();
    for at in &headers.ipv6_at {
        packet[at + 4..at + 6].copy_from_slice(&((len - at - 40) as u16).to_be_bytes());
    }
    if let Some(at) = headers.udp_at {
        packet[at + 4..at + 6].copy_from_slice(&((len - at) as u16).to_be_bytes());
        if headers.checksum_elided {
            let checksum = udp_checksum(&packet, *headers.ipv6_at.last().unwrap(), at);
            packet[at + 6..at + 8].copy_from_slice(&checksum.to_be_bytes());
        }
    }
    let checksum_at = headers.udp_at.filter(|_| headers.checksum_elided && !in_frame).map(|at| at + 6);
    let plain_len = headers.plain.len();
    let first = if in_frame { [&[0x41], &packet[..plain_len]].concat() } else { headers.compressed };
    Lowpan { first, body, plain_len, packet, in_frame, checksum_at }
}

/// One packet on the air.
struct Sent {
    /// Frames, and the range of the packet in each.
    frames: Vec<(Vec<u8>, std::ops::Range<usize>)>,
    packet: Vec<u8>,
    in_frame: bool,
    checksum_at: Option<usize>,
}

pub struct Generator {
    rng: Rng,
    sequence: u8,
    counter: u32,
    tag: u16,
    pub secured: bool,
}

impl Generator {
    pub fn new(seed: u64, secured: bool) -> Generator {
        Generator { rng: Rng(seed), sequence: 0, counter: 1, tag: 0x1000, secured }
    }

    /// At least `count` packets in frames, with fragments out of order.
    pub fn make(&mut self, count: usize) -> Vec<Made> {
        let mut done = vec![];
        // Interleaves the fragments of up to four packets.
        let mut open: Vec<Vec<(Vec<u8>, std::ops::Range<usize>)>> = vec![];
        let mut truth: Vec<(Vec<u8>, Vec<bool>, Option<usize>)> = vec![];
        let mut made = 0;
        while made < count || !open.is_empty() {
            if made < count && (open.len() < 4 || self.rng.one_in(2)) {
                made += 1;
                let Sent { frames, packet, in_frame, checksum_at } = self.packet();
                if let [(frame, _)] = &frames[..] {
                    done.push(Made { frame: frame.clone(), packet: Some(packet), alone: true, in_frame, checksum_at });
                } else {
                    truth.push((packet.clone(), vec![false; packet.len()], checksum_at));
                    open.push(frames);
                }
                continue;
            }
            let at = self.rng.below(open.len() as u64) as usize;
            let (frame, range) = open[at].remove(0);
            let (packet, there, checksum_at) = &mut truth[at];
            let before = there.iter().all(|byte| *byte);
            there[range].fill(true);
            let completes = !before && there.iter().all(|byte| *byte);
            done.push(Made {
                frame,
                packet: completes.then(|| packet.clone()),
                alone: false,
                in_frame: false,
                checksum_at: *checksum_at,
            });
            // The next frame would be the first fragment of a repeat.
            if completes {
                open[at].clear();
            }
            if open[at].is_empty() {
                open.remove(at);
                truth.remove(at);
            }
        }
        done
    }

    /// The frames of one packet, the range of the packet in each, and the packet.
    fn packet(&mut self) -> Sent {
        let rng = &mut self.rng;
        let link = |rng: &mut Rng, may_lack: bool| {
            let node = rng.below(u64::from(NODES)) as u16;
            match rng.below(if may_lack { 5 } else { 4 }) {
                0 | 1 => Link::Short(short(node)),
                2 | 3 => Link::Long(eui64(node)),
                _ => Link::None,
            }
        };
        // tshark uses the mesh addresses for this packet, but not elsewhere.
        let src = link(rng, false);
        let dst = link(rng, true);
        let mut prefix = vec![];
        let (mut mesh_src, mut mesh_dst) = (src, dst);
        if rng.one_in(6) {
            (mesh_src, mesh_dst) = (link(rng, false), link(rng, false));
            let deep = rng.one_in(4);
            let bit = |link, bit| if matches!(link, Link::Short(_)) { bit } else { 0 };
            prefix.push(0x80 | bit(mesh_src, 0x20) | bit(mesh_dst, 0x10) | if deep { 15 } else { 7 });
            if deep {
                prefix.push(33);
            }
            for link in [mesh_src, mesh_dst] {
                prefix.extend(link.wire().iter().rev());
            }
            if rng.one_in(2) {
                prefix.extend([0x50, rng.below(256) as u8]);
            }
        }
        let paged = prefix.is_empty() && rng.one_in(8);
        if paged {
            // Page 1, RPL Packet Information (with or without InstanceID, rank of one byte or two).
            prefix.push(0xf1);
            let flags = rng.below(4) as u8;
            prefix.extend([0x80 | flags, 5]);
            prefix.extend(rng.bytes(3 - usize::from(flags >> 1) - usize::from(flags & 1)));
            if rng.one_in(2) {
                // IP in IP from the root of the network, with a Hop Limit.
                prefix.extend([0xa1, 6, rng.below(256) as u8]);
            }
        }
        let fragmented = !paged && rng.one_in(3);
        let body_len = if fragmented { rng.below(900) as usize + 40 } else { rng.below(60) as usize + 8 };
        let Lowpan { first, body, plain_len, packet, in_frame: uncompressed, checksum_at } =
            lowpan(rng, mesh_src.iid(), mesh_dst.iid(), body_len);
        let len = packet.len();
        if !fragmented {
            let payload = [prefix, first, body].concat();
            let frame = self.mac(src, dst, &payload);
            return Sent { frames: vec![(frame, 0..len)], packet, in_frame: uncompressed, checksum_at };
        }
        // The first fragment ends at a multiple of 8 of the packet.
        self.tag += 1;
        let size = 0xc000 | len as u16;
        let mut frames = vec![];
        let step = 8 * (2 + self.rng.below(9) as usize);
        let end = (plain_len + step).next_multiple_of(8).min((len - 1) / 8 * 8);
        let fragment = [&prefix, &size.to_be_bytes()[..], &self.tag.to_be_bytes(), &first, &packet[plain_len..end]];
        frames.push((self.mac(src, dst, &fragment.concat()), 0..end));
        let mut start = end;
        let shuffled = self.rng.one_in(2);
        while start < len {
            // Some overlap the previous one.
            let from = if self.rng.one_in(5) { start - 8 } else { start };
            let end = (start + step).min(len);
            let head = [&(size | 0x2000).to_be_bytes()[..], &self.tag.to_be_bytes(), &[(from / 8) as u8]].concat();
            let mut piece = packet[from..end].to_vec();
            // The first copy wins. In tshark, the copy of the fragment that starts first wins, which is the same if
            // they are in order.
            if !shuffled {
                piece[..start - from].iter_mut().for_each(|byte| *byte ^= 0xff);
            }
            let fragment = [&prefix, &head[..], &piece].concat();
            frames.push((self.mac(src, dst, &fragment), from..end));
            start = end;
        }
        if shuffled {
            for at in (1..frames.len()).rev() {
                let other = self.rng.below(at as u64 + 1) as usize;
                frames.swap(at, other);
            }
        }
        if self.rng.one_in(10) && frames.len() > 2 {
            // This frame is lost.
            frames.pop();
        } else if self.rng.one_in(6) {
            let again = frames[0].clone();
            frames.insert(1, again);
        }
        Sent { frames, packet, in_frame: false, checksum_at }
    }

    /// A MAC data frame, without FCS.
    fn mac(&mut self, src: Link, dst: Link, payload: &[u8]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let rng = &mut self.rng;
        let level = if self.secured { [0, 1, 2, 3, 4, 5, 6, 7][rng.below(8) as usize] } else { 0u8 };
        // 2003 has a different kind of security.
        let version = if level > 0 { 1 + rng.below(2) as u16 } else { rng.below(3) as u16 };
        let is_2015 = version == 2;
        let suppressed = is_2015 && rng.one_in(3);
        let ies = is_2015 && rng.one_in(3);
        // Without a PAN ID, tshark does not find the EUI-64 of a short address, and does not recognize pages as
        // 6LoWPAN.
        let needs_pan = level > 0 && dst == Link::None && matches!(src, Link::Short(_)) || payload.starts_with(&[0xf1]);
        let compressed = rng.one_in(2) && (is_2015 || dst != Link::None) && !needs_pan;
        let control = 1
            | u16::from(level > 0) << 3
            | u16::from(compressed) << 6
            | u16::from(suppressed) << 8
            | u16::from(ies) << 9
            | dst.mode() << 10
            | version << 12
            | src.mode() << 14;
        let mut frame = control.to_le_bytes().to_vec();
        if !suppressed {
            frame.push(self.sequence);
        }
        // Table 7-2 of 2015, line by line, and the rule of 2006.
        let (dst_pan, src_pan) = match (is_2015, dst.mode(), src.mode(), compressed) {
            (false, 0, _, _) => (false, true),
            (false, _, _, compressed) => (true, !compressed),
            (true, 0, _, false) => (false, true),
            (true, 0, _, true) => (false, false),
            (true, 3, 3, false) => (true, false),
            (true, 3, 3, true) => (false, false),
            (true, _, _, false) => (true, true),
            (true, _, _, true) => (true, false),
        };
        if dst_pan {
            frame.extend(PAN.to_le_bytes());
        }
        frame.extend(dst.wire());
        if src_pan {
            frame.extend(PAN.to_le_bytes());
        }
        frame.extend(src.wire());
        let (index, key) = KEYS[rng.below(2) as usize];
        if level > 0 {
            let mode = MODES[rng.below(MODES.len() as u64) as usize];
            frame.push(level | mode << 3);
            frame.extend(self.counter.to_le_bytes());
            // Key Source.
            frame.extend(&[7; 8][..[0, 0, 4, 8][usize::from(mode)]]);
            frame.push(index);
        }
        let mut payload = payload.to_vec();
        if ies {
            // Header IE of an unmanaged element, then one of the two terminations.
            frame.extend((0x2a_u16 << 7 | 3).to_le_bytes());
            frame.extend([1, 2, 3]);
            let with_payload_ies = rng.one_in(2);
            frame.extend((if with_payload_ies { 0x7e_u16 } else { 0x7f } << 7).to_le_bytes());
            if with_payload_ies {
                let mut nested = (1_u16 << 15 | 2 << 11 | 5).to_le_bytes().to_vec();
                nested.extend([0x12, 0x34, 0x56, 9, 9]);
                nested.extend((1_u16 << 15 | 0xf << 11).to_le_bytes());
                nested.extend(&payload);
                payload = nested;
            }
        }
        if level > 0 {
            let eui64 = match src {
                Link::Long(eui64) => eui64,
                Link::Short(short) => eui64(short - 0x0100),
                Link::None => unreachable!("secured frames have a source"),
            };
            payload = secure(&key, eui64, self.counter, level, &frame, payload);
            self.counter += 1;
        }
        frame.extend(payload);
        frame
    }
}

/// A literal implementation of AES-CCM* from IEEE 802.15.4 Annex B.
fn secure(key: &[u8; 16], eui64: [u8; 8], counter: u32, level: u8, header: &[u8], payload: Vec<u8>) -> Vec<u8> {
    let aes = aes::Aes128::new(key.into());
    let encrypt = |block: [u8; 16]| -> [u8; 16] {
        let mut block = block.into();
        aes.encrypt_block(&mut block);
        block.into()
    };
    let mic_len = [0, 4, 8, 16][usize::from(level & 3)];
    let nonce = [&eui64[..], &counter.to_be_bytes(), &[level]].concat();
    let block =
        |flags: u8, last: u16| -> [u8; 16] { [&[flags][..], &nonce, &last.to_be_bytes()].concat().try_into().unwrap() };
    let (a, m) =
        if level & 4 == 0 { ([header, &payload].concat(), vec![]) } else { (header.to_vec(), payload.clone()) };
    let mut mac = [0; 16];
    if mic_len > 0 {
        let mut data = [&(a.len() as u16).to_be_bytes()[..], &a].concat();
        data.resize(data.len().next_multiple_of(16), 0);
        data.extend(&m);
        data.resize(data.len().next_multiple_of(16), 0);
        mac = encrypt(block(0x40 | ((mic_len as u8 - 2) / 2) << 3 | 1, m.len() as u16));
        for chunk in data.chunks(16) {
            let mixed: Vec<u8> = mac.iter().zip(chunk).map(|(a, b)| a ^ b).collect();
            mac = encrypt(mixed.try_into().unwrap());
        }
    }
    let stream = |number: u16| encrypt(block(1, number));
    let mut out: Vec<u8> = if level & 4 == 0 {
        payload
    } else {
        m.chunks(16)
            .zip(1..)
            .flat_map(|(chunk, number)| chunk.iter().zip(stream(number)).map(|(a, b)| a ^ b).collect::<Vec<u8>>())
            .collect()
    };
    out.extend(mac.iter().zip(stream(0)).map(|(a, b)| a ^ b).take(mic_len));
    out
}
