//! Finds the IP packet of a frame: its header with options and extension headers, its payload, and fragments.

use super::datagram::{Datagram, Fragment, OuterHeader};
use super::extension::{self, Extension, is_extension};
use super::ipv4::{self, Ipv4};
use super::ipv6::{self, Ipv6};
use super::{IpVersion, ip, protocol};
use crate::error::{Fault, Stage};

/// The location of the IP packet in a frame. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpLocation {
    /// Offset at which the IP header starts.
    offset: u32,
    /// Length of the IP header with options and extension headers.
    header_len: u32,
    /// Length of the payload, up to the IP length.
    payload_len: u32,
    /// See [`Datagram::missing`].
    missing: u32,
    /// See [`Datagram::protocol_offset`].
    protocol_offset: u32,
    /// See [`Datagram::protocol`].
    pub protocol: u8,
}

// Methods take the location by value. A reference would force it into memory, and copying it right after its fields
// were written stalls the CPU.
impl IpLocation {
    /// The bytes before the IP header.
    #[inline]
    pub fn link_header(self, frame: &[u8]) -> &[u8] {
        frame.get(..self.offset as usize).unwrap_or_default()
    }

    /// See [`Datagram::header`].
    #[inline]
    pub fn header(self, frame: &[u8]) -> &[u8] {
        self.packet(frame).get(..self.header_len as usize).unwrap_or_default()
    }

    /// See [`Datagram::payload`].
    #[inline]
    pub fn payload(self, frame: &[u8]) -> &[u8] {
        let rest = self.packet(frame).get(self.header_len as usize..).unwrap_or_default();
        rest.get(..self.payload_len as usize).unwrap_or(rest)
    }

    /// See [`Datagram::missing`].
    #[inline]
    pub fn missing(self) -> usize {
        self.missing as usize
    }

    /// See [`Datagram::protocol_offset`].
    #[inline]
    pub fn protocol_offset(self) -> usize {
        self.protocol_offset as usize
    }

    /// Whether the destination is a multicast address.
    #[inline]
    pub fn is_multicast(self, frame: &[u8]) -> bool {
        ip::is_multicast(self.header(frame))
    }

    /// The packet at this location in `frame`, which must be the frame that was parsed.
    #[inline]
    pub fn datagram(self, frame: &[u8]) -> Option<Datagram<'_>> {
        Some(Datagram {
            outer: OuterHeader::of(self.packet(frame))?,
            header: self.header(frame),
            protocol_offset: self.protocol_offset as usize,
            protocol: self.protocol,
            payload: self.payload(frame),
            missing: self.missing(),
            frame_offset: self.offset as usize,
            rebuilt: false,
            link: None,
        })
    }

    #[inline]
    fn packet(self, frame: &[u8]) -> &[u8] {
        frame.get(self.offset as usize..).unwrap_or_default()
    }
}

/// The fields of the IP header at `offset` of `frame`, if it can be read.
pub(crate) fn outer_at(frame: &[u8], offset: usize, version: Option<IpVersion>) -> Option<OuterHeader> {
    OuterHeader::of(frame.get(offset..)?).filter(|outer| version.is_none_or(|announced| announced == outer.version))
}

/// The result of [`locate`].
pub(crate) enum Located<'a> {
    /// A whole packet.
    Packet(IpLocation),
    /// A fragment of a packet.
    Fragment(Fragment<'a>),
}

/// Finds the IP packet at `offset` of `frame`. `version` is the IP version that the link header named.
#[inline]
pub(crate) fn locate(frame: &[u8], offset: usize, version: Option<IpVersion>) -> Result<Located<'_>, Fault> {
    let packet = frame.get(offset..).unwrap_or_default();
    let version = version.or(ip::version(packet));
    match version {
        Some(IpVersion::V4) => v4(packet, offset),
        Some(IpVersion::V6) => v6(packet, offset),
        None => Err(match packet.first() {
            Some(byte) => Fault::value(Stage::Link, offset, "IP version", u64::from(byte >> 4), "4 or 6"),
            None => Fault::short(Stage::Link, offset, "IP header", 1, 0),
        }),
    }
}

/// A fast version of [`locate`] for a whole packet without options or extension headers; `None` for any other
/// packet.
#[inline(always)]
pub(crate) fn locate_plain(frame: &[u8], offset: usize, version: Option<IpVersion>) -> Option<IpLocation> {
    let packet = frame.get(offset..)?;
    let found = ip::version(packet)?;
    let (header_len, packet_len, protocol_offset, protocol) = match found {
        IpVersion::V4 => {
            let header = Ipv4::of(packet)?;
            if !header.is_without_options() || header.is_fragment() {
                return None;
            }
            (ipv4::HEADER_LEN, header.total_len(), ipv4::PROTOCOL_OFFSET, header.protocol())
        }
        IpVersion::V6 => {
            let header = Ipv6::of(packet)?;
            let packet_len = match header.payload_len() {
                0 => 0,
                len => len + ipv6::HEADER_LEN,
            };
            (ipv6::HEADER_LEN, packet_len, ipv6::PROTOCOL_OFFSET, header.next_header())
        }
    };
    let is_whole = (header_len..=packet.len()).contains(&packet_len);
    if !is_whole || is_extension(found, protocol) || version.is_some_and(|version| version != found) {
        return None;
    }
    Some(IpLocation {
        offset: u32::try_from(offset).ok()?,
        header_len: header_len as u32,
        payload_len: (packet_len - header_len) as u32,
        missing: 0,
        protocol_offset: protocol_offset as u32,
        protocol,
    })
}

fn v4(packet: &[u8], frame_offset: usize) -> Result<Located<'_>, Fault> {
    let header = Ipv4::parse(packet).map_err(|error| error.fault(frame_offset))?;
    let header_len = header.header_len();
    let total_len = match header.total_len() {
        // Segmentation offload leaves the field 0.
        0 => packet.len(),
        len => len,
    };
    if total_len < header_len {
        let at = frame_offset.saturating_add(2);
        let expected = "the header length or more";
        return Err(Fault::value(Stage::Link, at, "IPv4 Total Length", total_len as u64, expected));
    }
    let missing = total_len.saturating_sub(packet.len());
    let packet = packet.get(..total_len).unwrap_or(packet);
    let (front, payload) = packet.split_at_checked(header_len).unwrap_or((packet, &[]));
    if header.is_fragment() {
        return Ok(Located::Fragment(Fragment {
            outer: header.outer(),
            header: front,
            protocol_offset: ipv4::PROTOCOL_OFFSET,
            protocol: header.protocol(),
            identification: u32::from(header.identification()),
            offset: header.fragment_offset(),
            more: header.more_fragments(),
            payload,
            missing,
            frame_offset,
        }));
    }
    let start = Headers { len: header_len, protocol_offset: ipv4::PROTOCOL_OFFSET, protocol: header.protocol() };
    extension_headers(packet, IpVersion::V4, start, missing, frame_offset)
}

fn v6(packet: &[u8], frame_offset: usize) -> Result<Located<'_>, Fault> {
    let header = Ipv6::parse(packet).map_err(|error| error.fault(frame_offset))?;
    let total_len = match header.payload_len() {
        0 => match ipv6::jumbo_len(packet) {
            Some(len) => len.saturating_add(ipv6::HEADER_LEN),
            None => len_without_payload_length(packet, header.next_header()),
        },
        len => len + ipv6::HEADER_LEN,
    };
    let missing = total_len.saturating_sub(packet.len());
    let packet = packet.get(..total_len).unwrap_or(packet);
    let start =
        Headers { len: ipv6::HEADER_LEN, protocol_offset: ipv6::PROTOCOL_OFFSET, protocol: header.next_header() };
    extension_headers(packet, IpVersion::V6, start, missing, frame_offset)
}

/// The IP headers read so far.
#[derive(Clone, Copy)]
struct Headers {
    /// Their length in bytes.
    len: usize,
    /// Offset of the byte that names `protocol`.
    protocol_offset: usize,
    /// The protocol of what follows.
    protocol: u8,
}

/// Reads the extension headers after `headers`, up to the first header that does not belong to IP.
#[inline]
fn extension_headers(
    packet: &[u8],
    version: IpVersion,
    mut headers: Headers,
    missing: usize,
    frame_offset: usize,
) -> Result<Located<'_>, Fault> {
    while is_extension(version, headers.protocol) {
        let at = frame_offset.saturating_add(headers.len);
        let (header, rest) = packet.split_at_checked(headers.len).unwrap_or((packet, &[]));
        let short = |needs| Fault::short(Stage::Link, at, "IP extension header", needs, rest.len());
        let Some(extension) = Extension::of(rest) else { return Err(short(extension::MIN_LEN)) };
        if headers.protocol == protocol::AH && extension.units() == 0 {
            return Err(Fault::value(Stage::Link, at + 1, "AH Payload Len", 0, "1 or more"));
        }
        let len = extension.header_len(headers.protocol);
        let Some(payload) = rest.get(len..) else { return Err(short(len)) };
        if headers.protocol == protocol::FRAGMENT {
            let (offset, more) = (extension.fragment_offset(), extension.more_fragments());
            // Offset 0 and no more: an atomic fragment, which is a whole packet (RFC 6946).
            if (offset != 0 || more)
                && let Some(outer) = OuterHeader::of(packet)
            {
                return Ok(Located::Fragment(Fragment {
                    outer,
                    header,
                    protocol_offset: headers.protocol_offset,
                    protocol: extension.next_header(),
                    identification: extension.identification(),
                    offset,
                    more,
                    payload,
                    missing,
                    frame_offset,
                }));
            }
        }
        headers = Headers { len: headers.len + len, protocol_offset: headers.len, protocol: extension.next_header() };
    }
    // A packet is shorter than 4 GiB, because captures have 32-bit lengths.
    let [offset, header_len, protocol_offset, payload_len, missing] =
        [frame_offset, headers.len, headers.protocol_offset, packet.len().saturating_sub(headers.len), missing]
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let protocol = headers.protocol;
    Ok(Located::Packet(IpLocation { offset, header_len, payload_len, missing, protocol_offset, protocol }))
}

/// Length of an IPv6 packet with a Payload Length of 0 and no Jumbo Payload option. Segmentation offload leaves the
/// field 0, so the packet is everything that was captured. Bytes after Next Header 59, or too few for any header,
/// are Ethernet padding.
#[cold]
fn len_without_payload_length(packet: &[u8], next_header: u8) -> usize {
    const SHORTEST_HEADER: usize = 8;
    match packet.len() {
        len if next_header != protocol::NO_NEXT_HEADER && len >= ipv6::HEADER_LEN + SHORTEST_HEADER => len,
        _ => ipv6::HEADER_LEN,
    }
}
