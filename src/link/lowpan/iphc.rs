//! IPHC and NHC, the compressed headers of 6LoWPAN (RFC 6282).
//!
//! ```text
//!   0                                       1
//!   0   1   2   3   4   5   6   7   8   9   0   1   2   3   4   5
//! | 0 | 1 | 1 |  TF   |NH | HLIM  |CID|SAC|  SAM  | M |DAC|  DAM  |   then in line: CID, TF, NH, HLIM, source, destination
//!
//! | 1 1 1 0 | EID 3 | NH |       extension header, or (EID 7) an IPv6 header in IPHC
//! | 1 1 1 1 0 | C | P 2 |        UDP
//! ```

use super::contexts::Context;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::net::ipv6::{self, Ipv6};
use crate::net::protocol::{self, FRAGMENT, IPV6};
use crate::net::udp::{self, Udp};
use crate::net::{FRAGMENT_HEADER_LEN, LinkAddress};

/// Most IPv6 headers in one packet. Tunnels inside tunnels are rejected.
const MAX_IPV6_HEADERS: usize = 4;
/// Highest value of the IPv6 Payload Length, plus the header.
const MAX_LEN: usize = 65_535 + ipv6::HEADER_LEN;

/// Header fields that are filled in when the packet is complete, as offsets in it.
#[derive(Debug, Default, Clone)]
pub(super) struct ElidedFields {
    /// Offsets of the Payload Length of each IPv6 header.
    ipv6: Vec<usize>,
    /// Offset of the UDP Length.
    udp: Option<usize>,
    /// Whether the UDP checksum must be computed, too.
    checksum: bool,
    /// Whether a context was unknown.
    pub unknown_context: bool,
}

impl ElidedFields {
    pub(super) fn clear(&mut self) {
        self.ipv6.clear();
        *self = ElidedFields { ipv6: std::mem::take(&mut self.ipv6), ..ElidedFields::default() };
    }

    pub(super) fn copy_from(&mut self, other: &ElidedFields) {
        self.ipv6.clear();
        self.ipv6.extend_from_slice(&other.ipv6);
        *self = ElidedFields { ipv6: std::mem::take(&mut self.ipv6), ..*other };
    }

    /// Fills in lengths and checksum. `missing` bytes of the packet were not captured.
    pub(super) fn fill(&self, packet: &mut [u8], missing: usize) -> Result<(), Fault> {
        let len = packet.len().saturating_add(missing);
        if len > MAX_LEN {
            return Err(Fault::value(Stage::Link, 0, "length of the IPv6 packet", len as u64, "65575 or less"));
        }
        for at in &self.ipv6 {
            // The outermost header has the largest length, so the other lengths fit, too.
            if let Some(mut header) = Ipv6::at_mut(packet, *at) {
                header.set_payload_len(len.saturating_sub(at + ipv6::HEADER_LEN) as u16);
            }
        }
        let (Some(at), Some(ipv6)) = (self.udp, self.ipv6.last()) else { return Ok(()) };
        if let Some(mut header) = Udp::at_mut(packet, at) {
            header.set_length(len.saturating_sub(at) as u16);
        }
        if self.checksum
            && missing == 0
            && let Some(packet) = packet.get_mut(*ipv6..)
        {
            udp::write_checksum(packet, at.saturating_sub(*ipv6));
        }
        Ok(())
    }
}

/// The interface identifier of a link-layer address (RFC 6282 §3.2.2, RFC 7668 §3.2.2).
pub(super) fn interface_id(address: LinkAddress) -> u64 {
    match address {
        LinkAddress::Short(short) => 0x0000_00ff_fe00_0000 | u64::from(short),
        // The universal/local bit is inverted (RFC 4291 Appendix A).
        LinkAddress::Extended(eui64) => u64::from_be_bytes(eui64) ^ 0x0200_0000_0000_0000,
        // RFC 7668 inverts no bit (§3.2.2).
        LinkAddress::Bluetooth([a, b, c, d, e, f]) => u64::from_be_bytes([a, b, c, 0xff, 0xfe, d, e, f]),
    }
}

/// Decompresses the headers at the start of `compressed`, from the IPHC dispatch on, and appends the packet to the
/// empty `out`. `ids` are the interface identifiers of the link-layer source and destination.
pub(super) fn decompress(
    compressed: &[u8],
    mut ids: [Option<u64>; 2],
    contexts: &dyn Fn(u8) -> Option<Context>,
    out: &mut Vec<u8>,
    elided: &mut ElidedFields,
) -> Result<(), Fault> {
    elided.clear();
    let mut reader = Reader::new(Stage::Link, "6LoWPAN header", compressed);
    while elided.ipv6.len() < MAX_IPV6_HEADERS {
        let at = out.len();
        elided.ipv6.push(at);
        let in_line = ipv6_header(&mut reader, ids, contexts, out, elided)?;
        let mut next_at = at + ipv6::PROTOCOL_OFFSET;
        if in_line || !next_headers(&mut reader, &mut next_at, out, elided)? {
            out.extend_from_slice(reader.rest());
            return Ok(());
        }
        // Elided parts of an inner address are derived from the outer address (RFC 6282 §3.2.2).
        let header = out.get(at..).and_then(Ipv6::of);
        // The low 64 bits are the interface identifier.
        ids = header
            .map_or([None; 2], |header| [header.src(), header.dst()].map(|address| Some(address.to_bits() as u64)));
    }
    Err(Fault::unsupported(Stage::Link, reader.position(), "tunnels in tunnels"))
}

/// Appends one IPv6 header. Returns true if its Next Header was in line: then no compressed header follows.
fn ipv6_header(
    reader: &mut Reader<'_>,
    ids: [Option<u64>; 2],
    contexts: &dyn Fn(u8) -> Option<Context>,
    out: &mut Vec<u8>,
    elided: &mut ElidedFields,
) -> Result<bool, Fault> {
    let iphc = reader.u16()?;
    if iphc >> 13 != 0b011 {
        let fault = Fault::value(Stage::Link, reader.position(), "inner dispatch", u64::from(iphc >> 13), "3 (IPHC)");
        return Err(fault);
    }
    let field = |shift: u32, mask: u16| (iphc >> shift & mask) as u8;
    let in_line = field(10, 1) == 0;
    // Without context identifiers, both contexts are context 0.
    let (sci, dci) = match field(7, 1) {
        0 => (0, 0),
        _ => reader.u8().map(|ids| (ids >> 4, ids & 0xf))?,
    };
    let (traffic_class, flow_label) = traffic(field(11, 3), reader)?;
    let next_header = if in_line { reader.u8()? } else { 0 };
    let hop_limit = match field(8, 3) {
        0 => reader.u8()?,
        1 => 1,
        2 => 64,
        _ => 255,
    };
    let mut context = |id: u8| {
        let known = contexts(id);
        elided.unknown_context |= known.is_none();
        known.unwrap_or(Context::UNKNOWN)
    };
    let [src_id, dst_id] = ids;
    let src = match (field(6, 1), field(4, 3)) {
        (1, 0) => 0,
        (0, mode) => unicast(mode, None, src_id, reader)?,
        (_, mode) => unicast(mode, Some(context(sci)), src_id, reader)?,
    };
    let dst = destination((field(3, 1), field(2, 1), field(0, 3)), dst_id, || context(dci), reader)?;
    let mut header = Ipv6::new(src.into(), dst.into());
    header.set_dscp(traffic_class >> 2);
    header.set_ecn(traffic_class);
    header.set_flow_label(flow_label);
    header.set_next_header(next_header);
    header.set_hop_limit(hop_limit);
    out.extend_from_slice(header.as_bytes());
    Ok(in_line)
}

/// Reads a destination address: M, DAC and DAM (RFC 6282 §3.1.1).
fn destination(
    (multicast_bit, context_bit, mode): (u8, u8, u8),
    id: Option<u64>,
    context: impl FnOnce() -> Context,
    reader: &mut Reader<'_>,
) -> Result<u128, Fault> {
    match (multicast_bit, context_bit, mode) {
        (0, 0, mode) => unicast(mode, None, id, reader),
        (0, _, 0) => Err(Fault::value(Stage::Link, reader.position(), "DAM of a unicast context address", 0, "1 to 3")),
        (0, _, mode) => unicast(mode, Some(context()), id, reader),
        (_, 0, mode) => multicast(mode, reader),
        (_, _, 0) => context_multicast(&context(), reader),
        (_, _, mode) => {
            let mode = u64::from(mode);
            Err(Fault::value(Stage::Link, reader.position(), "DAM of a multicast context address", mode, "0"))
        }
    }
}

/// Reads a multicast address that holds the prefix of a context (RFC 3306, RFC 3956):
///
/// ```text
/// | ff | flags, scope | RIID | prefix length | prefix 8 | group 4 |
/// ```
fn context_multicast(context: &Context, reader: &mut Reader<'_>) -> Result<u128, Fault> {
    let [a, b, group @ ..] = reader.array::<6>()?;
    // This format limits a prefix to 64 bits.
    let [len, group] = [u128::from(context.len.min(64)), u128::from(u32::from_be_bytes(group))];
    Ok(0xff << 120 | u128::from(a) << 112 | u128::from(b) << 104 | len << 96 | context.prefix >> 64 << 32 | group)
}

/// Reads Traffic Class and Flow Label. In the compressed Traffic Class, ECN comes first (RFC 6282 §3.2.1).
fn traffic(tf: u8, reader: &mut Reader<'_>) -> Result<(u8, u32), Fault> {
    let class = |ecn_dscp: u8| ecn_dscp.rotate_left(2);
    Ok(match tf {
        0 => {
            let word = reader.u32()?;
            (class((word >> 24) as u8), word & 0xf_ffff)
        }
        1 => {
            let [a, b, c] = reader.array()?;
            (a >> 6, u32::from_be_bytes([0, a & 0xf, b, c]))
        }
        2 => (class(reader.u8()?), 0),
        _ => (0, 0),
    })
}

/// Reads a unicast address, either link-local or based on a context (RFC 6282 §3.1.1, SAM and DAM). Mode 0 is only
/// used for link-local.
fn unicast(mode: u8, context: Option<Context>, link_id: Option<u64>, reader: &mut Reader<'_>) -> Result<u128, Fault> {
    let id = match mode {
        0 => return Ok(u128::from_be_bytes(reader.array()?)),
        1 => u64::from_be_bytes(reader.array()?),
        2 => interface_id(LinkAddress::Short(reader.u16()?)),
        _ => link_id.ok_or_else(|| {
            Fault::unsupported(Stage::Link, reader.position(), "an elided address that the MAC header lacks, too")
        })?,
    };
    Ok(match context {
        None => 0xfe80 << 112 | u128::from(id),
        Some(context) => context.address(u128::from(id)),
    })
}

fn multicast(mode: u8, reader: &mut Reader<'_>) -> Result<u128, Fault> {
    Ok(match mode {
        0 => u128::from_be_bytes(reader.array()?),
        1 => {
            let [scope, group @ ..] = reader.array::<6>()?;
            let [a, b, c, d, e] = group;
            0xff << 120 | u128::from(scope) << 112 | u128::from(u64::from_be_bytes([0, 0, 0, a, b, c, d, e]))
        }
        2 => {
            let [scope, a, b, c] = reader.array::<4>()?;
            0xff << 120 | u128::from(scope) << 112 | u128::from(u32::from_be_bytes([0, a, b, c]))
        }
        _ => 0xff02 << 112 | u128::from(reader.u8()?),
    })
}

/// Appends the headers that are compressed with NHC. `next_at` is the offset of the field that names the first one.
/// Returns true if an IPv6 header in IPHC follows.
fn next_headers(
    reader: &mut Reader<'_>,
    next_at: &mut usize,
    out: &mut Vec<u8>,
    elided: &mut ElidedFields,
) -> Result<bool, Fault> {
    loop {
        let nhc = reader.u8()?;
        match nhc {
            0xf0..=0xf7 => {
                name(out, *next_at, protocol::UDP);
                udp_header(nhc, reader, out, elided)?;
                return Ok(false);
            }
            0xe0..=0xef => {
                let Some(protocol) = protocol_of_eid(nhc >> 1 & 7) else {
                    return Err(Fault::unsupported(Stage::Link, reader.position(), "a reserved EID of 6LoWPAN NHC"));
                };
                name(out, *next_at, protocol);
                if protocol == IPV6 {
                    return Ok(true);
                }
                let in_line = nhc & 1 == 0;
                *next_at = out.len();
                extension_header(protocol, in_line, reader, out)?;
                if in_line {
                    return Ok(false);
                }
            }
            _ => return Err(Fault::unsupported(Stage::Link, reader.position(), "an unknown 6LoWPAN NHC")),
        }
    }
}

fn name(out: &mut [u8], at: usize, protocol: u8) {
    if let Some(byte) = out.get_mut(at) {
        *byte = protocol;
    }
}

/// The protocol number of an IPv6 Extension Header ID (RFC 6282 §4.2).
fn protocol_of_eid(eid: u8) -> Option<u8> {
    Some(match eid {
        0 => protocol::HOP_BY_HOP,
        1 => protocol::ROUTING,
        2 => FRAGMENT,
        3 => protocol::DESTINATION_OPTIONS,
        4 => protocol::MOBILITY,
        7 => IPV6,
        _ => return None,
    })
}

fn extension_header(protocol: u8, in_line: bool, reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    let next_header = if in_line { reader.u8()? } else { 0 };
    let len = usize::from(reader.u8()?);
    if protocol == FRAGMENT {
        // This header has a reserved byte in place of the length.
        out.extend_from_slice(&[next_header, 0]);
        out.extend_from_slice(reader.take(FRAGMENT_HEADER_LEN - 2)?);
        return Ok(());
    }
    let body = reader.take(len)?;
    let whole = (len + 2).next_multiple_of(8);
    // At most 257 bytes long.
    out.extend_from_slice(&[next_header, (whole / 8 - 1) as u8]);
    out.extend_from_slice(body);
    // Up to 7 bytes of trailing padding may be elided. They are restored as Pad1 or PadN.
    match whole - (len + 2) {
        0 => {}
        1 => out.push(0),
        padding => out.extend_from_slice([1, (padding - 2) as u8, 0, 0, 0, 0, 0].get(..padding).unwrap_or_default()),
    }
    Ok(())
}

/// UDP (RFC 6282 §4.3).
fn udp_header(nhc: u8, reader: &mut Reader<'_>, out: &mut Vec<u8>, elided: &mut ElidedFields) -> Result<(), Fault> {
    let (src, dst) = match nhc & 3 {
        0 => (reader.u16()?, reader.u16()?),
        1 => (reader.u16()?, 0xf000 | u16::from(reader.u8()?)),
        2 => (0xf000 | u16::from(reader.u8()?), reader.u16()?),
        _ => {
            let both = u16::from(reader.u8()?);
            (0xf0b0 | both >> 4, 0xf0b0 | both & 0xf)
        }
    };
    elided.udp = Some(out.len());
    elided.checksum = nhc & 4 != 0;
    let checksum = if elided.checksum { 0 } else { reader.u16()? };
    out.extend_from_slice(Udp::new([src, dst], checksum).as_bytes());
    Ok(())
}
