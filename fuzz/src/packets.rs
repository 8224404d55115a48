//! IP packets with correct lengths and checksums, generated from an input, often between the addresses of
//! `contexts.yaml`.

use std::net::IpAddr;

use dietesp::internals::context::TrafficSelectors;
use dietesp::internals::net::{IpVersion, OuterHeader, checksum};

use super::input::Input;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const UDP_LITE: u8 = 136;

/// Packets of every transport protocol and IP version, between addresses and ports that `selectors` match.
pub fn usual(selectors: &TrafficSelectors) -> impl Iterator<Item = Vec<u8>> {
    // The version, the protocol, then zeros.
    let chosen = [0, 0x20, 0x21].into_iter().flat_map(|version| [0, 2, 4, 5, 6].map(|protocol| [version, protocol]));
    chosen.map(|chosen| packet(&mut Input::new(&chosen), Some(selectors)))
}

/// A packet, often one that `selectors` match, or bytes that are not a packet.
pub fn packet(input: &mut Input<'_>, selectors: Option<&TrafficSelectors>) -> Vec<u8> {
    let kind = input.u8();
    if kind == 255 {
        return input.rest().to_vec();
    }
    let version = selectors.and_then(|selectors| selectors.version).filter(|_| kind & 0x20 == 0);
    let v4 = version.map_or(kind & 1 == 1, |version| version == IpVersion::V4);
    let usual = selectors.and_then(|selectors| selectors.protocol).unwrap_or(UDP);
    let protocol = input.choose(&[usual, UDP, TCP, TCP, SCTP, UDP_LITE, 58, 0, 44, 60, 4, 41, 59, 255]);
    let selectors = selectors.filter(|_| version.is_some() || kind & 0x40 == 0);
    let mut header = if v4 { ip_v4(input, protocol, kind) } else { ip_v6(input, protocol) };
    if version.is_some()
        && let Some(selectors) = selectors
    {
        let ranges = [selectors.src, selectors.dst];
        let places = if v4 { [12..16, 16..20] } else { [8..24, 24..40] };
        for (range, place) in ranges.into_iter().zip(places) {
            let value = match input.u8() {
                0 => range.start,
                1 => range.end,
                low => range.start + u128::from(low),
            };
            let bytes = value.to_be_bytes();
            let len = place.len();
            header[place].copy_from_slice(&bytes[16 - len..]);
        }
    }
    let fragment = v4 && header[6] & 0x3f | header[7] != 0;
    let ports = selectors.map(|selectors| [selectors.src_port, selectors.dst_port].map(|range| range.start as u16));
    let segment = segment(input, protocol, addresses(&header), ports.unwrap_or_default(), fragment);
    let at = header.len();
    header.extend(segment);
    let packet = &mut header;
    let len = packet.len() as u16;
    if v4 {
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        let sum = checksum::internet(&packet[..at]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    }
    header
}

fn ip_v4(input: &mut Input<'_>, protocol: u8, kind: u8) -> Vec<u8> {
    let options_len = if kind & 2 == 2 { usize::from(input.u8() % 11) * 4 } else { 0 };
    let mut header = vec![0x45 + (options_len / 4) as u8, input.u8(), 0, 0];
    header.extend(input.u16().to_be_bytes());
    header.extend(if kind & 4 == 4 { input.u16() } else { input.choose(&[0, 0x4000]) }.to_be_bytes());
    header.extend([input.u8(), protocol, 0, 0, 10, 10, 0, input.u8()]);
    header.extend(if kind & 8 == 8 { input.u32().to_be_bytes() } else { [10, 20, 0, 1] });
    header.extend(input.take(options_len));
    header.resize(20 + options_len, 0);
    header
}

fn ip_v6(input: &mut Input<'_>, protocol: u8) -> Vec<u8> {
    let mut header = (6 << 28 | input.u32() >> 4).to_be_bytes().to_vec();
    header.extend([0, 0, protocol, input.u8()]);
    for (usual, subnet) in [(0x10, 0xa), (1, 0xb)] {
        let own = input.u8();
        let host = if own == 0 { usual } else { own };
        header.extend([0x20, 1, 0xd, 0xb8, 0, subnet, 0, if own > 0xf0 { own } else { 0 }]);
        header.extend([0, 0, 0, 0, 0, 0, 0, host]);
    }
    header
}

fn segment(
    input: &mut Input<'_>,
    protocol: u8,
    (src, dst): (IpAddr, IpAddr),
    [src_port, dst_port]: [u16; 2],
    fragment: bool,
) -> Vec<u8> {
    let kind = input.u8();
    let mut port = |usual: &[u16]| if kind & 1 == 1 { input.u16() } else { input.choose(usual) };
    let (src_port, dst_port) = (port(&[src_port, 5683, 5684, 50002]), port(&[dst_port, 61616, 61617, 1883, 61631]));
    let mut segment = [src_port.to_be_bytes(), dst_port.to_be_bytes()].concat();
    let checksum_at = match protocol {
        _ if fragment => return input.rest().to_vec(),
        UDP => {
            segment.extend([0; 4]);
            segment.extend(input.rest());
            let len = segment.len() as u16;
            segment[4..6].copy_from_slice(&len.to_be_bytes());
            6
        }
        UDP_LITE => {
            segment.push(input.u8().saturating_add(7));
            segment.extend([0; 3]);
            segment.extend(input.rest());
            let coverage = match u16::from(segment[4]) {
                7 => 0,
                coverage => coverage.clamp(8, segment.len() as u16),
            };
            segment[4..6].copy_from_slice(&coverage.to_be_bytes());
            6
        }
        TCP => {
            segment.extend(input.u32().to_be_bytes());
            segment.extend(input.u32().to_be_bytes());
            segment.extend([if kind & 2 == 2 { input.u8() } else { 0x50 }, input.u8()]);
            segment.extend(input.u16().to_be_bytes());
            segment.extend([0; 2]);
            segment.extend(if kind & 4 == 4 { input.u16() } else { 0 }.to_be_bytes());
            segment.extend(input.rest());
            16
        }
        SCTP => {
            segment.extend(input.u32().to_be_bytes());
            segment.extend([0; 4]);
            segment.extend(input.rest());
            let crc = crc32c(&segment).to_le_bytes();
            segment[8..12].copy_from_slice(&crc);
            return segment;
        }
        _ => return input.rest().to_vec(),
    };
    // A UDP packet may have no checksum.
    if protocol == UDP && kind & 8 == 8 && matches!(src, IpAddr::V4(_)) {
        return segment;
    }
    let covered = match (protocol, u16::from_be_bytes([segment[4], segment[5]])) {
        (UDP_LITE, coverage @ 1..) => usize::from(coverage),
        _ => segment.len(),
    };
    let sum = pseudo_header_sum(src, dst, protocol, &segment, covered);
    let sum = if sum == 0 && protocol != TCP { 0xffff } else { sum };
    segment[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// The checksum over pseudo-header and the first `covered` bytes (RFC 768, RFC 8200 §8.1, RFC 3828 §3.1).
pub fn pseudo_header_sum(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8], covered: usize) -> u16 {
    let mut bytes = vec![];
    for address in [src, dst] {
        match address {
            IpAddr::V4(address) => bytes.extend(address.octets()),
            IpAddr::V6(address) => bytes.extend(address.octets()),
        }
    }
    bytes.extend((segment.len() as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes.extend(&segment[..covered]);
    checksum::internet(&bytes)
}

/// CRC-32c bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

fn addresses(ip: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&ip[at..at + 4]).expect("4 bytes"));
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&ip[at..at + 16]).expect("16 bytes"));
    if ip[0] >> 4 == 4 { (v4(12), v4(16)) } else { (v6(8), v6(24)) }
}

/// The fields of the header of an IP packet with at least 40 (IPv4: 20) bytes.
pub fn outer(ip: &[u8]) -> OuterHeader {
    let (src, dst) = addresses(ip);
    let u16_at = |at: usize| u32::from(u16::from_be_bytes([ip[at], ip[at + 1]]));
    if ip[0] >> 4 == 4 {
        let (dscp, ecn) = (ip[1] >> 2, ip[1] & 3);
        OuterHeader { version: IpVersion::V4, src, dst, dscp, ecn, hop_limit: ip[8], flow_label: u16_at(4) }
    } else {
        let class = ip[0] << 4 | ip[1] >> 4;
        let flow_label = u32::from(ip[1] & 15) << 16 | u16_at(2);
        OuterHeader { version: IpVersion::V6, src, dst, dscp: class >> 2, ecn: class & 3, hop_limit: ip[7], flow_label }
    }
}

/// Length of the header that [`outer`] read, without extension headers, and the offset of its protocol.
pub fn header(ip: &[u8]) -> (usize, usize) {
    if ip[0] >> 4 == 4 { (usize::from(ip[0] & 15) * 4, 9) } else { (40, 6) }
}

/// Whether the bytes are long enough for a packet with a header.
pub fn has_header(ip: &[u8]) -> bool {
    match ip.first().map(|first| first >> 4) {
        Some(4) => ip[0] & 15 >= 5 && ip.len() >= usize::from(ip[0] & 15) * 4,
        Some(6) => ip.len() >= 40,
        _ => false,
    }
}
