//! Random captures of ESP and Diet-ESP. The same seed gives the same capture.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use dietesp::internals::cipher::EspCipher;
use dietesp::internals::codec::{Codec, State};
use dietesp::internals::context::Context;
use dietesp::internals::net::{IpVersion, OuterHeader, Selector, checksum};
use dietesp::internals::sa::Sa;
use dietesp::internals::sa::table::{PreparedSa, SaTable};
use dietesp::internals::{files, link};

const ETHERNET: u16 = 1;
const RAW: u16 = 101;
const LINUX_SLL: u16 = 113;
/// IEEE 802.15.4 without FCS.
const RADIO: u16 = 230;
/// IEEE 802.15.4 with an FCS or another trailer.
const RADIO_WITH_FCS: u16 = 195;
const LINK_TYPES: [u16; 5] = [ETHERNET, RAW, LINUX_SLL, RADIO, RADIO_WITH_FCS];

/// A small generator of pseudo-random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// An SA of the network.
struct SaOfSender {
    sa: Arc<Sa>,
    codec: Codec,
    cipher: EspCipher,
    outer: OuterHeader,
    /// The inner packet must be TCP between the addresses of the context.
    tcp: bool,
}

/// Security Associations, and the senders that use them.
pub struct Network {
    pub table: SaTable,
    sas: Vec<SaOfSender>,
}

/// Contexts with the same low SPI bits, some of them between the same addresses.
const RULES: [&str; 5] = [
    "",
    "esp_spi_lsb: 8, esp_sn_lsb: 0",
    "esp_spi_lsb: 4, esp_sn_lsb: 4",
    "esp_spi_lsb: 8, esp_sn_lsb: 8",
    "esp_spi_lsb: 6, esp_sn_lsb: 2",
];
const CIPHERS: [&str; 8] = [
    "ENCR_AES_GCM_16, key: KEY, salt: 00010203",
    "ENCR_AES_CCM_8, key: KEY, salt: 000102",
    "ENCR_AES_CBC, key: KEY, integ: AUTH_HMAC_SHA2_256_128, integ_key: KEYKEY",
    "ENCR_CHACHA20_POLY1305, key: KEYKEY, salt: 00010203",
    "ENCR_NULL_AUTH_AES_GMAC, key: KEY, salt: 00010203",
    "ENCR_AES_GCM_16_IIV, key: KEY, salt: 00010203",
    "ENCR_AES_CTR, key: KEY, salt: 00010203, integ: NONE",
    "ENCR_AES_CCM_8_IIV, key: KEY, salt: 000102",
];

impl Network {
    /// A network of `count` random SAs, and of as many more that send no packets.
    pub fn new(random: &mut Random, count: usize, silent: usize) -> Network {
        let (mut keys, mut rules) = ("sas:\n".to_owned(), "contexts:\n".to_owned());
        let first_rule = random.below(RULES.len());
        let mut tcp = vec![];
        for index in 0..count + silent {
            // The low 12 bits are the same for all SAs.
            let spi = 0x0010_0abc + (index << 12);
            let key = format!("{:016x}{:016x}", random.next(), random.next());
            let cipher = CIPHERS[if index < count { random.below(CIPHERS.len()) } else { 0 }];
            let cipher = cipher.replace("KEY", &key);
            let (src, dst) = match random.below(8) {
                0..=4 => ("2001:db8:1::1".to_owned(), "2001:db8:2::1"),
                5 => (format!("2001:db8:1::{:x}", 1 + index % 4), "2001:db8:2::1"),
                6 => ("192.0.2.1".to_owned(), "192.0.2.2"),
                _ => ("2001:db8:1::1".to_owned(), "ff05::2"),
            };
            let esn = random.percent(30);
            let any = random.percent(20);
            let (from, to) = if any { ("any", "any") } else { (src.as_str(), dst) };
            keys += &format!(
                "  - {{ name: s{index}, spi: {spi:#010x}, src: {from}, dst: {to}, encr: {cipher}, esn: {esn} }}\n"
            );
            // Most contexts have the same number of SPI bits, so that SAs compete for the same packets.
            let rule = RULES[if random.percent(70) { first_rule } else { random.below(RULES.len()) }];
            let is_tcp = random.percent(25) && !rule.is_empty() && !dst.contains('.');
            tcp.push(is_tcp);
            if is_tcp {
                rules += &format!(
                    "  - {{ sa: s{index}, dialect: ehc, ipsec_mode: Tunnel, tunnel_ip: {{ src: {src}, dst: {dst} }}, \
                     ts_ip_version: IPv6-only, ts_ip_src: 2001:db8:a::1, ts_ip_dst: 2001:db8:b::1, ts_proto: TCP, \
                     ts_port_src: 49152, ts_port_dst: 1883, esp_align: 8, esp_spi_lsb: 1, esp_sn_lsb: {}, tcp_lsb: 1, \
                     tcp_sn: 0, tcp_ack: 0 }}\n",
                    random.below(2)
                );
            } else if !rule.is_empty() {
                rules += &format!(
                    "  - {{ sa: s{index}, ipsec_mode: Tunnel, tunnel_ip: {{ src: {src}, dst: {dst} }}, \
                     iipc_profile: iipc_not_compressed, alignment: {} bit, {rule} }}\n",
                    if cipher.contains("CBC") { 32 } else { 8 }
                );
            } else {
                rules += &format!("# s{index}: {src} {dst}\n");
            }
        }
        if !rules.contains("sa: ") {
            rules.clear();
        }
        let loaded = |name: &str, text: &str| {
            files::parse(Path::new(name), text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"))
        };
        let keys = loaded("keys.yaml", &keys);
        let contexts = if rules.is_empty() { vec![] } else { loaded("rules.yaml", &rules).contexts };
        let bound = files::bind(&keys.sas, &contexts).unwrap_or_else(|error| panic!("{error}"));
        let mut network = Network { table: SaTable::new(vec![]), sas: vec![] };
        let mut entries = vec![];
        for (index, (sa, context)) in keys.sas.iter().zip(bound).enumerate() {
            let context = context.and_then(|at| contexts.get(at));
            let entry = PreparedSa::new(Arc::clone(sa), context.cloned()).unwrap_or_else(|error| panic!("{error}"));
            entries.push(entry);
            if index < count {
                network.sas.push(SaOfSender::new(Arc::clone(sa), context, tcp[index] && context.is_some()));
            }
        }
        network.table = SaTable::new(entries);
        network
    }
}

impl SaOfSender {
    fn new(sa: Arc<Sa>, context: Option<&Context>, tcp: bool) -> SaOfSender {
        let cipher = EspCipher::new(&sa.keys);
        let codec = Codec::new(context, cipher.block()).unwrap();
        let address = |selector: Selector, other: &str| match selector {
            Selector::Any => other.parse().unwrap(),
            selector => selector.to_string().split('/').next().unwrap().parse().unwrap(),
        };
        let (src, dst) = context
            .and_then(|context| context.tunnel_ip)
            .unwrap_or_else(|| (address(sa.src, "2001:db8:1::1"), address(sa.dst, "2001:db8:2::1")));
        let outer =
            OuterHeader { version: IpVersion::of(src), src, dst, dscp: 0, ecn: 0, hop_limit: 64, flow_label: 0 };
        SaOfSender { sa, codec, cipher, outer, tcp }
    }
}

/// A sender of packets of one SA.
struct Sender<'n> {
    sa: &'n SaOfSender,
    sn: u64,
    state: State,
    tcp: [u32; 2],
}

impl Sender<'_> {
    /// The IP packet that carries `inner` or a generated packet, with the next sequence number.
    fn packet(&mut self, random: &mut Random, inner: Option<&[u8]>) -> Vec<u8> {
        let SaOfSender { sa, codec, cipher, outer, tcp } = self.sa;
        let own;
        let inner = match inner {
            Some(inner) if !tcp => inner,
            _ => {
                own = if *tcp { self.tcp(random) } else { udp(random) };
                &own
            }
        };
        let mut clear = vec![];
        codec.compress(inner, outer, &mut self.state, &mut clear).unwrap_or_else(|error| panic!("{error}"));
        let (spi, mut payload) = (sa.spi.unwrap(), vec![]);
        codec.encode_header(spi, self.sn, &mut payload);
        let iv = [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
        // Most implementations use a counter as IV, too.
        let iv = if random.percent(50) { [(self.sn ^ 0x1234).to_be_bytes(), [7; 8]].concat() } else { iv };
        cipher.seal(spi, self.sn, sa.esn, &iv[..cipher.iv_len()], &clear, &mut payload).unwrap();
        let udp_header = [4500u16, 4500, 8 + payload.len() as u16, 0].map(u16::to_be_bytes).concat();
        let mut packet = vec![];
        match random.below(8) {
            0 => link::encapsulate(RAW, &[], outer, 17, &[&udp_header, &payload], &mut packet).unwrap(),
            _ => link::encapsulate(RAW, &[], outer, 50, &[&payload], &mut packet).unwrap(),
        };
        packet
    }

    fn tcp(&mut self, random: &mut Random) -> Vec<u8> {
        self.tcp[0] += random.below(60) as u32;
        self.tcp[1] += random.below(60) as u32;
        let mut segment = [49152u16, 1883].map(u16::to_be_bytes).concat();
        segment.extend(self.tcp.map(u32::to_be_bytes).concat());
        segment.extend([0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        let len = random.below(30);
        segment.extend(random.bytes(len));
        ipv6(6, 16, segment)
    }
}

/// An IPv6 packet between the inner hosts, with the checksum of its segment at `at`.
fn ipv6(protocol: u8, at: usize, mut segment: Vec<u8>) -> Vec<u8> {
    let hosts: [IpAddr; 2] = ["2001:db8:a::1", "2001:db8:b::1"].map(|host| host.parse().unwrap());
    let sum = checksum::upper_layer(hosts[0], hosts[1], protocol, &segment);
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let outer = OuterHeader {
        version: IpVersion::V6,
        src: hosts[0],
        dst: hosts[1],
        dscp: 0,
        ecn: 0,
        hop_limit: 64,
        flow_label: 0,
    };
    let mut packet = vec![];
    link::encapsulate(RAW, &[], &outer, protocol, &[&segment], &mut packet).unwrap();
    packet
}

/// A UDP packet, sometimes on a port that tunnels use.
fn udp(random: &mut Random) -> Vec<u8> {
    let len = random.below(60);
    let port = [5683u16, 5683, 5683, 4500, 4789][random.below(5)];
    let mut segment = [port, port, 8 + len as u16, 0].map(u16::to_be_bytes).concat();
    segment.extend(random.bytes(len));
    ipv6(17, 6, segment)
}

/// A captured frame.
#[derive(Clone)]
pub struct Frame {
    pub link_type: u16,
    pub data: Vec<u8>,
    pub cut: usize,
}

/// What happens to packets between sender and capture, in percent.
struct Way {
    loss: usize,
    repeat: usize,
    damage: usize,
    reorder: usize,
}

/// The frames of a random capture.
pub fn frames(network: &Network, random: &mut Random, count: usize) -> Vec<Frame> {
    let mut senders: Vec<Sender<'_>> = network
        .sas
        .iter()
        .map(|sa| {
            let start = match random.below(6) {
                0 => 1 + random.below(300) as u64,
                1 if sa.sa.esn => (1 << 32) - 3,
                2 if sa.sa.esn => random.next() >> 30,
                3 => 0xffff,
                _ => 1,
            };
            Sender { sa, sn: start, state: State::default(), tcp: [0, 0] }
        })
        .collect();
    let mut percent = |choice: [usize; 3]| choice[random.below(3)];
    let way = Way {
        loss: percent([0, 5, 30]),
        repeat: percent([0, 5, 20]),
        damage: percent([0, 5, 40]),
        reorder: percent([0, 0, 20]),
    };
    let main_link = LINK_TYPES[random.below(LINK_TYPES.len())];
    let mut frames = vec![];
    while frames.len() < count {
        let at = random.below(senders.len());
        let packet = match random.below(20) {
            0 => noise(random),
            1 if senders.len() > 1 => {
                let mut inner = senders[(at + 1) % network.sas.len()].packet(random, None);
                for _ in 0..random.below(3) * random.below(6) {
                    inner = senders[at].packet(random, Some(&inner));
                    senders[at].sn += 1;
                }
                senders[(at + 1) % network.sas.len()].sn += 1;
                senders[at].packet(random, Some(&inner))
            }
            _ => senders[at].packet(random, None),
        };
        let sender = &mut senders[at];
        sender.sn += 1;
        if random.percent(way.loss) {
            sender.sn += [0, 1, 1, 3, 17, 68, 120, 3000][random.below(8)];
            continue;
        }
        // Replays: the number is used again.
        if random.percent(2) {
            sender.sn -= 1;
        }
        let link_type = if random.percent(85) { main_link } else { LINK_TYPES[random.below(LINK_TYPES.len())] };
        let pieces = if random.percent(8) { fragments(&packet, random) } else { vec![packet] };
        for piece in pieces {
            let sequence = random.next() as u8;
            frames.extend(captured(link_type, &piece, sequence, random));
            if random.percent(way.repeat) && !frames.is_empty() {
                let earlier = frames.len() - 1 - random.below(frames.len().min(6));
                frames.push(frames[earlier].clone());
            }
        }
        if random.percent(way.damage)
            && let Some(frame) = frames.last_mut()
        {
            let at = random.below(frame.data.len());
            match random.below(4) {
                0 => frame.data[at] ^= 1 << random.below(8),
                1 => *frame.data.last_mut().unwrap() ^= 0x40,
                2 => {
                    frame.cut = frame.data.len() - at - 1;
                    frame.data.truncate(at + 1);
                }
                _ => frame.data.truncate(at + 1),
            }
        }
    }
    for at in 1..frames.len() {
        if random.percent(way.reorder) {
            let to = at - random.below(at.min(5) + 1);
            frames.swap(at, to);
        }
    }
    frames
}

/// A packet that is not ESP, or ESP of no SA.
fn noise(random: &mut Random) -> Vec<u8> {
    let ends: [IpAddr; 2] = ["2001:db8:1::1", "2001:db8:2::1"].map(|end| end.parse().unwrap());
    let outer = OuterHeader {
        version: IpVersion::V6,
        src: ends[0],
        dst: ends[1],
        dscp: 0,
        ecn: 0,
        hop_limit: 1,
        flow_label: 0,
    };
    let len = random.below(80);
    let bytes = random.bytes(len);
    let udp_header = [4500u16, 4500, 8 + len as u16, 0].map(u16::to_be_bytes).concat();
    let mut packet = vec![];
    match random.below(4) {
        0 => return udp(random),
        // IKE, NAT keepalives and ESP of no SA.
        1 => {
            let ike = [[&[0; 4][..], &bytes].concat(), vec![0xff], bytes][random.below(3)].clone();
            let udp_header = [4500u16, 4500, 8 + ike.len() as u16, 0].map(u16::to_be_bytes).concat();
            link::encapsulate(RAW, &[], &outer, 17, &[&udp_header, &ike], &mut packet).unwrap();
        }
        2 => link::encapsulate(RAW, &[], &outer, 17, &[&udp_header, &bytes], &mut packet).unwrap(),
        _ => link::encapsulate(RAW, &[], &outer, 50, &[&bytes], &mut packet).unwrap(),
    }
    packet
}

/// The IP fragments of a packet; sometimes one is missing.
fn fragments(packet: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let id = random.next() as u16;
    let mut pieces = vec![];
    let is_v6 = packet[0] >> 4 == 6;
    let header_len = if is_v6 { 40 } else { 20 };
    let (header, payload) = packet.split_at(header_len);
    let piece_len = 8 * (1 + random.below(6));
    for (index, piece) in payload.chunks(piece_len).enumerate() {
        let offset = index * piece_len;
        let more = u16::from(offset + piece.len() < payload.len());
        let mut header = header.to_vec();
        if is_v6 {
            header.extend([header[6], 0]);
            header.extend((offset as u16 | more).to_be_bytes());
            header.extend(u32::from(id).to_be_bytes());
            header[6] = 44;
            header[4..6].copy_from_slice(&(8 + piece.len() as u16).to_be_bytes());
        } else {
            header[2..4].copy_from_slice(&(20 + piece.len() as u16).to_be_bytes());
            header[4..6].copy_from_slice(&id.to_be_bytes());
            header[6..8].copy_from_slice(&(more << 13 | (offset as u16 / 8)).to_be_bytes());
            header[10..12].fill(0);
            let sum = checksum::internet(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        pieces.push([header, piece.to_vec()].concat());
    }
    if random.percent(15) {
        pieces.pop();
    }
    if random.percent(20) {
        pieces.reverse();
    }
    pieces
}

/// The frame that contains an IP packet, directly or in a tunnel.
fn captured(link_type: u16, packet: &[u8], sequence: u8, random: &mut Random) -> Option<Frame> {
    const UNCOMPRESSED_IPV6: u8 = 0x41;
    let is_v6 = packet[0] >> 4 == 6;
    let mut tunnelled = vec![];
    let packet = match random.percent(5) {
        true => {
            let ends: [IpAddr; 2] = ["198.51.100.1", "198.51.100.2"].map(|end| end.parse().unwrap());
            let outer = OuterHeader {
                version: IpVersion::V4,
                src: ends[0],
                dst: ends[1],
                dscp: 0,
                ecn: 0,
                hop_limit: 9,
                flow_label: 0,
            };
            link::encapsulate(RAW, &[], &outer, if is_v6 { 41 } else { 4 }, &[packet], &mut tunnelled).unwrap();
            &tunnelled
        }
        false => packet,
    };
    let is_v6 = packet[0] >> 4 == 6;
    let ether_type: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [8, 0] };
    let macs = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    let vlan: &[u8] = if random.percent(10) { &[0x81, 0, 0, 7] } else { &[] };
    let mac = [&[0x41, 0x88, sequence][..], &[0xcd, 0xab, 1, 0, 2, 0], &[UNCOMPRESSED_IPV6]].concat();
    let data = match link_type {
        ETHERNET => [&macs, vlan, &ether_type, packet].concat(),
        LINUX_SLL => [&[0, 0, 0, 1, 0, 6], &[0; 8][..], &ether_type, packet].concat(),
        RADIO | RADIO_WITH_FCS if !is_v6 => return None,
        RADIO => [&mac, packet].concat(),
        RADIO_WITH_FCS => [&mac, packet, &[0x11, 0x80 | sequence]].concat(),
        _ => packet.to_vec(),
    };
    Some(Frame { link_type, data, cut: 0 })
}

/// A pcapng file of these frames.
pub fn pcapng(frames: &[Frame], random: &mut Random) -> Vec<u8> {
    const SECTION: u32 = 0x0a0d_0d0a;
    const INTERFACE: u32 = 1;
    const ENHANCED_PACKET: u32 = 6;
    let mut bytes = vec![];
    let mut block = |kind: u32, body: &[u8]| {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let len = (12 + body.len() + padding.len()) as u32;
        bytes.extend([&kind.to_le_bytes(), &len.to_le_bytes(), body, &padding, &len.to_le_bytes()].concat());
    };
    block(SECTION, &[&0x1a2b_3c4d_u32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat());
    for link_type in LINK_TYPES {
        block(INTERFACE, &[&link_type.to_le_bytes()[..], &[0; 6]].concat());
    }
    let mut time = 0;
    for frame in frames {
        let interface = LINK_TYPES.iter().position(|link_type| *link_type == frame.link_type).unwrap() as u32;
        // Usually milliseconds. Sometimes long enough for fragments and repeats to expire.
        time += if random.percent(2) { 90_000_000 } else { 1000 };
        let (len, orig_len) = (frame.data.len() as u32, (frame.data.len() + frame.cut) as u32);
        let head = [interface, 0, time, len, orig_len].map(u32::to_le_bytes).concat();
        block(ENHANCED_PACKET, &[head, frame.data.clone()].concat());
    }
    bytes
}
