//! IPv4 and IPv6 headers, with options and extension headers.
//!
//! IPv4 (RFC 791 §3.1) and IPv6 (RFC 8200 §3):
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Version|  IHL  |   DSCP    |ECN|          Total Length         |
//! |         Identification        |R|D|M|     Fragment Offset     |
//! |      TTL      |    Protocol   |        Header Checksum        |
//! |                            Source                             |
//! |                          Destination                          |
//! |                        Options (4 * IHL - 20)                 |
//!
//! |Version|   DSCP    |ECN|              Flow Label               |
//! |         Payload Length        |  Next Header  |   Hop Limit   |
//! |                           Source (16)                         |
//! |                         Destination (16)                      |
//! ```
//!
//! Extension headers: length in units of 8 bytes, the first not counted (RFC 8200 §4); the Authentication Header in
//! units of 4 bytes, the first two not counted (RFC 4302 §2.2); the Fragment header is always 8 (RFC 8200 §4.5):
//!
//! ```text
//! |  Next Header  |   Reserved    |      Fragment Offset    |Res|M|
//! |                         Identification                        |
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::err::{ipv4, ipv6};
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, ip_number};

use super::{IpVersion, LinkAddresses, checksum};
use crate::error::{Fault, Stage};

/// Length of an IPv6 header without extension headers.
pub(crate) const V6_HEADER_LEN: usize = 40;

/// The addresses of an outer IP header, and the fields from which the inner header may be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterHeader {
    /// IP version.
    pub version: IpVersion,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Differentiated Services Code Point, 6 bits.
    pub dscp: u8,
    /// Explicit Congestion Notification, 2 bits.
    pub ecn: u8,
    /// Hop Limit or TTL.
    pub hop_limit: u8,
    /// IPv6 Flow Label, 20 bits; the IPv4 Identification, 16 bits.
    pub flow_label: u32,
}

/// A whole IP packet, from one frame or reassembled from fragments.
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// The fields of the outer IP header.
    pub outer: OuterHeader,
    /// The IP header with options and extension headers, up to the header that `protocol` names. An Authentication
    /// Header is included, and so is the Fragment header of an atomic fragment (RFC 6946).
    pub header: &'a [u8],
    /// Offset in `header` of the byte that names `protocol`.
    pub protocol_offset: usize,
    /// The protocol of `payload`: 50 for ESP, 17 for UDP, ...
    pub protocol: u8,
    /// The bytes after `header`, up to the IP length.
    pub payload: &'a [u8],
    /// Bytes that the IP length includes, but that were not captured (snap length).
    pub missing: usize,
    /// Offset in the frame at which the IP header starts; 0 for a reassembled packet.
    pub frame_offset: usize,
    /// The packet cannot be replaced in its frame: it came from 6LoWPAN or a tunnel, or the bytes around it contain
    /// a length or a trailer. It is written back without link header.
    pub rebuilt: bool,
    /// Addresses of the radio frame, or of its mesh header.
    pub link: Option<LinkAddresses>,
}

/// The IP header before a payload, as bytes and as fields.
#[derive(Debug, Clone, Copy)]
pub struct IpHeaders<'a> {
    /// The fields of the IP header.
    pub outer: &'a OuterHeader,
    /// The IP header with options and extension headers.
    pub header: &'a [u8],
    /// Offset in `header` of the byte that names the protocol of the payload.
    pub protocol_offset: usize,
}

/// One fragment of an IP packet (RFC 791 §3.2, RFC 8200 §4.5).
#[derive(Debug, Clone, Copy)]
pub struct Fragment<'a> {
    /// The fields of the outer IP header.
    pub outer: OuterHeader,
    /// IPv4: the header with its options. IPv6: the headers before the Fragment header.
    pub header: &'a [u8],
    /// Offset in `header` of the byte that names `protocol` (IPv4) or the Fragment header (IPv6).
    pub protocol_offset: usize,
    /// The protocol of the first fragmented header, according to this fragment.
    pub protocol: u8,
    /// The Identification, 16 or 32 bits.
    pub identification: u32,
    /// Offset of `payload` in the fragmented data, in bytes.
    pub offset: usize,
    /// Whether more fragments follow.
    pub more: bool,
    /// The data of this fragment, up to the IP length.
    pub payload: &'a [u8],
    /// Bytes that the IP length includes, but that were not captured (snap length).
    pub missing: usize,
    /// Offset in the frame at which the IP header starts.
    pub frame_offset: usize,
}

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
        let header = self.header(frame);
        match header.first().map_or(0, |byte| byte >> 4) {
            4 => header.get(16).is_some_and(|byte| byte >> 4 == 0xe),
            _ => header.get(24) == Some(&0xff),
        }
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
pub(crate) fn outer(frame: &[u8], offset: usize, version: Option<IpVersion>) -> Option<OuterHeader> {
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
    let version = version.or(match packet.first().map(|byte| byte >> 4) {
        Some(4) => Some(IpVersion::V4),
        Some(6) => Some(IpVersion::V6),
        _ => None,
    });
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
    let (found, header_len, packet_len, protocol_offset, protocol) = match packet.first()? >> 4 {
        4 => {
            let [ihl, _, len @ .., _, _, frag_high, frag_low, _, protocol] = *packet.first_chunk::<10>()?;
            let is_fragment = u16::from_be_bytes([frag_high, frag_low]) & 0x3fff != 0;
            if ihl != 0x45 || is_fragment {
                return None;
            }
            (IpVersion::V4, 20, usize::from(u16::from_be_bytes(len)), 9, protocol)
        }
        6 => {
            let [_, _, _, _, len @ .., protocol] = *packet.first_chunk::<7>()?;
            let len = usize::from(u16::from_be_bytes(len));
            (IpVersion::V6, V6_HEADER_LEN, if len == 0 { 0 } else { len + V6_HEADER_LEN }, 6, protocol)
        }
        _ => return None,
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
        protocol_offset,
        protocol,
    })
}

/// Source and destination of the IP header at the start of `packet`; `None` if there is none.
pub(crate) fn addresses(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let (version, [src, dst]) = address_values(packet)?;
    let address = |value: u128| match version {
        IpVersion::V4 => IpAddr::from(Ipv4Addr::from(value as u32)),
        IpVersion::V6 => IpAddr::from(Ipv6Addr::from(value)),
    };
    Some((address(src), address(dst)))
}

/// Source and destination as IP version and [values](super::address_value).
#[inline]
pub(crate) fn address_values(packet: &[u8]) -> Option<(IpVersion, [u128; 2])> {
    match packet.first()? >> 4 {
        4 => {
            let addresses = packet.get(12..)?.as_chunks::<4>().0.first_chunk()?;
            Some((IpVersion::V4, addresses.map(|address| u128::from(u32::from_be_bytes(address)))))
        }
        6 => {
            let addresses = packet.get(8..)?.as_chunks::<16>().0.first_chunk()?;
            Some((IpVersion::V6, addresses.map(u128::from_be_bytes)))
        }
        _ => None,
    }
}

impl OuterHeader {
    /// The fields of the IP header at the start of `packet`; `None` if it cannot be read.
    #[inline]
    pub fn of(packet: &[u8]) -> Option<OuterHeader> {
        match packet.first()? >> 4 {
            4 => Ipv4HeaderSlice::from_slice(packet).ok().map(|header| v4_outer(&header)),
            6 => Ipv6HeaderSlice::from_slice(packet).ok().map(|header| v6_outer(&header)),
            _ => None,
        }
    }
}

#[inline]
fn v4_outer(header: &Ipv4HeaderSlice<'_>) -> OuterHeader {
    OuterHeader {
        version: IpVersion::V4,
        src: IpAddr::V4(header.source_addr()),
        dst: IpAddr::V4(header.destination_addr()),
        dscp: header.dcp().value(),
        ecn: header.ecn().value(),
        hop_limit: header.ttl(),
        flow_label: u32::from(header.identification()),
    }
}

#[inline]
fn v6_outer(header: &Ipv6HeaderSlice<'_>) -> OuterHeader {
    OuterHeader {
        version: IpVersion::V6,
        src: IpAddr::V6(header.source_addr()),
        dst: IpAddr::V6(header.destination_addr()),
        dscp: header.dscp().value(),
        ecn: header.ecn().value(),
        hop_limit: header.hop_limit(),
        flow_label: header.flow_label().value(),
    }
}

fn v4(packet: &[u8], frame_offset: usize) -> Result<Located<'_>, Fault> {
    let header = Ipv4HeaderSlice::from_slice(packet).map_err(|error| v4_fault(error, frame_offset))?;
    let header_len = header.slice().len();
    let total_len = usize::from(header.total_len());
    // Segmentation offload leaves the field 0.
    let total_len = if total_len == 0 { packet.len() } else { total_len };
    if total_len < header_len {
        let at = frame_offset.saturating_add(2);
        let expected = "the header length or more";
        return Err(Fault::value(Stage::Link, at, "IPv4 Total Length", total_len as u64, expected));
    }
    let missing = total_len.saturating_sub(packet.len());
    let packet = packet.get(..total_len).unwrap_or(packet);
    let protocol = header.protocol().0;
    if header.is_fragmenting_payload() {
        return Ok(Located::Fragment(Fragment {
            outer: v4_outer(&header),
            header: header.slice(),
            protocol_offset: 9,
            protocol,
            identification: u32::from(header.identification()),
            offset: usize::from(header.fragments_offset().value()) * 8,
            more: header.more_fragments(),
            payload: packet.get(header_len..).unwrap_or_default(),
            missing,
            frame_offset,
        }));
    }
    extension_headers(packet, IpVersion::V4, header_len, 9, protocol, missing, frame_offset)
}

fn v6(packet: &[u8], frame_offset: usize) -> Result<Located<'_>, Fault> {
    let header = Ipv6HeaderSlice::from_slice(packet).map_err(|error| v6_fault(error, frame_offset))?;
    let total_len = match header.payload_length() {
        0 => match jumbo_len(packet) {
            Some(len) => len.saturating_add(V6_HEADER_LEN),
            None => len_without_payload_length(packet, header.next_header()),
        },
        len => usize::from(len) + V6_HEADER_LEN,
    };
    let missing = total_len.saturating_sub(packet.len());
    let packet = packet.get(..total_len).unwrap_or(packet);
    extension_headers(packet, IpVersion::V6, V6_HEADER_LEN, 6, header.next_header().0, missing, frame_offset)
}

/// Continues after the first `header_len` bytes and skips extension headers, up to the first header that does not
/// belong to IP.
#[inline]
fn extension_headers(
    packet: &[u8],
    version: IpVersion,
    mut header_len: usize,
    mut protocol_offset: usize,
    mut protocol: u8,
    missing: usize,
    frame_offset: usize,
) -> Result<Located<'_>, Fault> {
    while is_extension(version, protocol) {
        let at = frame_offset.saturating_add(header_len);
        let (header, rest) = packet.split_at_checked(header_len).unwrap_or((packet, &[]));
        let short = |needs| Fault::short(Stage::Link, at, "IP extension header", needs, rest.len());
        // The shortest extension header has 8 bytes.
        let Some(&[next, units, a, b, identification @ ..]) = rest.first_chunk::<8>() else { return Err(short(8)) };
        let len = match IpNumber(protocol) {
            ip_number::AUTH if units == 0 => {
                return Err(Fault::value(Stage::Link, at + 1, "AH Payload Len", 0, "1 or more"));
            }
            ip_number::AUTH => (usize::from(units) + 2) * 4,
            ip_number::IPV6_FRAG => 8,
            _ => (usize::from(units) + 1) * 8,
        };
        if rest.len() < len {
            return Err(short(len));
        }
        if ip_number::IPV6_FRAG.0 == protocol {
            let (offset, more) = (usize::from(u16::from_be_bytes([a, b]) & !7), b & 1 == 1);
            // Offset 0 and no more fragments: an atomic fragment, which is a whole packet (RFC 6946).
            if (offset != 0 || more)
                && let Some(outer) = OuterHeader::of(packet)
            {
                return Ok(Located::Fragment(Fragment {
                    outer,
                    header,
                    protocol_offset,
                    protocol: next,
                    identification: u32::from_be_bytes(identification),
                    offset,
                    more,
                    payload: rest.get(len..).unwrap_or_default(),
                    missing,
                    frame_offset,
                }));
            }
        }
        protocol_offset = header_len;
        protocol = next;
        header_len += len;
    }
    // A packet is shorter than 4 GiB, because captures have 32-bit lengths.
    let [offset, header_len, protocol_offset, payload_len, missing] =
        [frame_offset, header_len, protocol_offset, packet.len().saturating_sub(header_len), missing]
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    Ok(Located::Packet(IpLocation { offset, header_len, payload_len, missing, protocol_offset, protocol }))
}

/// Whether `protocol` is an extension header (IANA "IPv6 Extension Header Types", without ESP).
fn is_extension(version: IpVersion, protocol: u8) -> bool {
    match IpNumber(protocol) {
        ip_number::AUTH => true,
        ip_number::IPV6_HOP_BY_HOP
        | ip_number::IPV6_ROUTE
        | ip_number::IPV6_FRAG
        | ip_number::IPV6_DEST_OPTIONS
        | ip_number::MOBILITY
        | ip_number::HIP
        | ip_number::SHIM6 => version == IpVersion::V6,
        _ => false,
    }
}

/// Length of an IPv6 packet with a Payload Length of 0 and no Jumbo Payload option. Segmentation offload leaves the
/// field 0, so the packet is everything that was captured. Bytes after Next Header 59, or too few for any header,
/// are Ethernet padding.
#[cold]
fn len_without_payload_length(packet: &[u8], next_header: IpNumber) -> usize {
    const SHORTEST_HEADER: usize = 8;
    match packet.len() {
        len if next_header != ip_number::IPV6_NO_NEXT_HEADER && len >= V6_HEADER_LEN + SHORTEST_HEADER => len,
        _ => V6_HEADER_LEN,
    }
}

/// The Jumbo Payload Length of an IPv6 packet that has the option (RFC 2675 §2).
fn jumbo_len(packet: &[u8]) -> Option<usize> {
    const PAD1: u8 = 0;
    const JUMBO_PAYLOAD: u8 = 0xc2;
    let (header, rest) = packet.split_at_checked(V6_HEADER_LEN)?;
    if header.get(6) != Some(&ip_number::IPV6_HOP_BY_HOP.0) {
        return None;
    }
    let len = (usize::from(*rest.get(1)?) + 1) * 8;
    let mut options = rest.get(2..len)?;
    loop {
        options = match options {
            [JUMBO_PAYLOAD, 4, a, b, c, d, ..] => return usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).ok(),
            [PAD1, rest @ ..] => rest,
            [_, len, rest @ ..] => rest.get(usize::from(*len)..)?,
            _ => return None,
        };
    }
}

/// Sets the length field of `packet`, and the IPv4 Header Checksum. A packet of 65536 bytes or more (IPv6: 65576),
/// or with a Jumbo Payload option, is a fault.
pub(crate) fn finish(packet: &mut [u8]) -> Result<(), Fault> {
    let too_long = |what, len| Fault::value(Stage::Link, 0, what, len as u64, "65535 or less");
    let len = packet.len();
    if packet.first().is_some_and(|byte| byte >> 4 == 4) {
        let total_len = u16::try_from(len).map_err(|_| too_long("IPv4 Total Length", len))?;
        let header_len = usize::from(packet.first().unwrap_or(&0) & 0xf) * 4;
        let Some(header) = packet.get_mut(..header_len) else {
            return Err(Fault::short(Stage::Link, 0, "IPv4 header", header_len, len));
        };
        put(header, 2, total_len);
        put(header, 10, 0);
        let checksum = checksum::internet(header);
        put(header, 10, checksum);
    } else {
        let Some(payload_len) = len.checked_sub(V6_HEADER_LEN) else {
            return Err(Fault::short(Stage::Link, 0, "IPv6 header", V6_HEADER_LEN, len));
        };
        if jumbo_len(packet).is_some() {
            return Err(Fault::unsupported(Stage::Link, V6_HEADER_LEN, "an IPv6 jumbogram cannot be written again"));
        }
        put(packet, 4, u16::try_from(payload_len).map_err(|_| too_long("IPv6 Payload Length", payload_len))?);
    }
    Ok(())
}

/// Writes a 16-bit field.
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: u16) {
    if let Some(field) = bytes.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) {
        *field = value.to_be_bytes();
    }
}

#[cold]
fn v4_fault(error: ipv4::HeaderSliceError, offset: usize) -> Fault {
    use ipv4::HeaderError::{HeaderLengthSmallerThanHeader, UnexpectedVersion};
    match error {
        ipv4::HeaderSliceError::Len(error) => {
            Fault::short(Stage::Link, offset, "IPv4 header", error.required_len, error.len)
        }
        ipv4::HeaderSliceError::Content(UnexpectedVersion { version_number }) => {
            Fault::value(Stage::Link, offset, "IP version", u64::from(version_number), "4")
        }
        ipv4::HeaderSliceError::Content(HeaderLengthSmallerThanHeader { ihl }) => {
            Fault::value(Stage::Link, offset, "IHL", u64::from(ihl), "5 or more")
        }
    }
}

#[cold]
fn v6_fault(error: ipv6::HeaderSliceError, offset: usize) -> Fault {
    match error {
        ipv6::HeaderSliceError::Len(error) => {
            Fault::short(Stage::Link, offset, "IPv6 header", error.required_len, error.len)
        }
        ipv6::HeaderSliceError::Content(ipv6::HeaderError::UnexpectedVersion { version_number }) => {
            Fault::value(Stage::Link, offset, "IP version", u64::from(version_number), "6")
        }
    }
}
