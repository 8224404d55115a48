//! Link-layer headers: finds the start of the IP packet.
//!
//! Each link type has its own first header. [`encap`] reads the headers after it.
//!
//! `LINKTYPE_LINUX_SLL` and `LINKTYPE_LINUX_SLL2`:
//!
//! ```text
//! | packet type 2 | ARPHRD 2 | address length 2 | address 8 | EtherType 2 | packet
//! | EtherType 2 | 0 2 | interface 4 | ARPHRD 2 | packet type 1 | address length 1 | address 8 | packet
//! ```
//!
//! `LINKTYPE_NULL` and `LINKTYPE_LOOP`: an address family of 4 bytes, in the byte order of the capturing machine or
//! of the network. `LINKTYPE_ENC` (IPsec of BSD) adds SPI and flags.
//!
//! `LINKTYPE_C_HDLC`, `LINKTYPE_FDDI`, `LINKTYPE_IPOIB`:
//!
//! ```text
//! | address 1 | control 1 | EtherType 2 | packet
//! | frame control 1 | destination 6 | source 6 | LLC
//! | InfiniBand routing 40 | EtherType 2 | reserved 2 | packet
//! ```

use etherparse::ether_type;

use super::encap::{self, Nesting, Next, llc, ppp, walk};
use super::ieee802154::carrier::{self, Radio};
use super::ieee802154::fcs::Trailer;
use super::{bluetooth, logged, lora, wireless};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::net::{IpVersion, LinkAddresses};

pub(super) const NULL: u16 = 0;
pub(super) const ETHERNET: u16 = 1;
pub(super) const PPP: u16 = 9;
pub(super) const FDDI: u16 = 10;
pub(super) const DLT_RAW: u16 = 12;
pub(super) const DLT_RAW_OPENBSD: u16 = 14;
pub(super) const PPP_HDLC: u16 = 50;
pub(super) const PPP_ETHER: u16 = 51;
pub(super) const RAW: u16 = 101;
pub(super) const C_HDLC: u16 = 104;
pub(super) const IEEE802_11: u16 = 105;
pub(super) const FRELAY: u16 = 107;
pub(super) const LOOP: u16 = 108;
pub(super) const ENC: u16 = 109;
pub(super) const LINUX_SLL: u16 = 113;
pub(super) const PFLOG: u16 = 117;
pub(super) const IEEE802_11_RADIOTAP: u16 = 127;
pub(super) const PPP_PPPD: u16 = 166;
pub(super) const PPI: u16 = 192;
pub(super) const IEEE802_15_4_WITHFCS: u16 = 195;
pub(super) const PPP_WITH_DIR: u16 = 204;
pub(super) const C_HDLC_WITH_DIR: u16 = 205;
pub(super) const FRELAY_WITH_DIR: u16 = 206;
pub(super) const IEEE802_15_4_NONASK_PHY: u16 = 215;
pub(super) const IPV4: u16 = 228;
pub(super) const IPV6: u16 = 229;
pub(super) const IEEE802_15_4_NOFCS: u16 = 230;
pub(super) const NFLOG: u16 = 239;
pub(super) const IPOIB: u16 = 242;
pub(super) const LORATAP: u16 = 270;
pub(super) const LINUX_SLL2: u16 = 276;
const SLL2_HEADER_LEN: usize = 20;
/// Offset of the EtherType of IPoIB.
const IPOIB_ETHER_TYPE: usize = 40;
/// The first byte of Cisco HDLC.
const CISCO_UNICAST: u8 = 0x0f;
const CISCO_MULTICAST: u8 = 0x8f;
pub(super) const IEEE802_15_4_TAP: u16 = 283;

/// What follows the link header.
#[derive(Debug)]
pub(super) enum Network<'a> {
    /// An IP packet at `offset`. `version` is given if the link header names it.
    Ip { offset: usize, version: Option<IpVersion> },
    /// An IP packet at `offset`, inside a header that has its own length field or trailer.
    Enclosed { offset: usize, version: Option<IpVersion> },
    /// Several packets from `offset` on, each with its own Ethernet header: an A-MSDU.
    Aggregate { offset: usize },
    /// A frame of IEEE 802.15.4.
    Radio(Radio<'a>),
    /// A frame of Bluetooth LE.
    Bluetooth,
    /// A 6LoWPAN frame at `offset`.
    Lowpan { offset: usize, link: LinkAddresses },
    /// Something else, which the text names.
    Other(&'static str),
}

/// Whether the link type is that of a radio whose frames never contain a plain IP packet.
pub(super) fn is_radio(link_type: u16) -> bool {
    match link_type {
        IEEE802_15_4_WITHFCS | IEEE802_15_4_NONASK_PHY | IEEE802_15_4_NOFCS | IEEE802_15_4_TAP | LORATAP => true,
        _ => bluetooth::LINK_TYPES.contains(&link_type),
    }
}

/// A fast version of [`network`] for raw IP and for Ethernet without tags; `None` in all other cases.
#[inline]
pub(super) fn plain_ip(link_type: u16, frame: &[u8]) -> Option<(usize, Option<IpVersion>)> {
    match (link_type, frame.get(12..14)) {
        (ETHERNET, Some([0x08, 0x00])) => Some((14, Some(IpVersion::V4))),
        (ETHERNET, Some([0x86, 0xdd])) => Some((14, Some(IpVersion::V6))),
        (RAW, _) => Some((0, None)),
        _ => None,
    }
}

/// The reason given for a frame of any other link type.
pub(crate) const UNSUPPORTED: &str = "the link type is not supported";

pub(super) fn network(link_type: u16, frame: &[u8]) -> Result<Network<'_>, Fault> {
    network_at(link_type, Reader::new(Stage::Link, "link header", frame))
}

/// Like [`network`], for a frame that starts at the position of `reader`. Offsets count from the start of the bytes
/// of `reader`.
fn network_at(link_type: u16, reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    let frame = reader.rest();
    match link_type {
        ETHERNET => ethernet(reader),
        RAW | DLT_RAW | DLT_RAW_OPENBSD => in_place(Next::Ip(None), reader),
        IPV4 => in_place(Next::Ip(Some(IpVersion::V4)), reader),
        IPV6 => in_place(Next::Ip(Some(IpVersion::V6)), reader),
        LINUX_SLL => linux_sll(reader),
        LINUX_SLL2 => linux_sll2(reader),
        NULL | LOOP => address_family(reader, 0),
        ENC => address_family(reader, 8),
        PPP | PPP_PPPD => with(reader, ppp::header),
        PPP_WITH_DIR => with(behind_direction(reader)?, ppp::header),
        PPP_HDLC => match frame {
            [CISCO_UNICAST | CISCO_MULTICAST, 0, ..] | [CISCO_UNICAST | CISCO_MULTICAST] => with(reader, cisco_hdlc),
            _ => with(reader, ppp::header),
        },
        PPP_ETHER => enclosed(Next::Header(ppp::pppoe), reader),
        C_HDLC => with(reader, cisco_hdlc),
        C_HDLC_WITH_DIR => with(behind_direction(reader)?, cisco_hdlc),
        FDDI => fddi(reader),
        FRELAY => enclosed(Next::Header(encap::frame_relay), reader),
        FRELAY_WITH_DIR => enclosed(Next::Header(encap::frame_relay), behind_direction(reader)?),
        IPOIB => with(reader, ipoib),
        PFLOG => logged::pflog(reader).and_then(|(next, reader)| enclosed(next, reader)),
        NFLOG => logged::nflog(reader).and_then(|(next, reader)| enclosed(next, reader)),
        PPI => ppi(reader),
        IEEE802_11 => wireless_lan(reader, false),
        IEEE802_11_RADIOTAP => wireless_lan(reader, true),
        IEEE802_15_4_WITHFCS => Ok(Network::Radio(Radio::bare(frame, Trailer::Unknown))),
        IEEE802_15_4_NOFCS => Ok(Network::Radio(Radio::bare(frame, Trailer::None))),
        IEEE802_15_4_TAP => carrier::tap(frame).map(Network::Radio),
        IEEE802_15_4_NONASK_PHY => carrier::non_ask_phy(frame).map(Network::Radio),
        LORATAP => lora::tap(frame),
        _ if bluetooth::LINK_TYPES.contains(&link_type) => Ok(Network::Bluetooth),
        _ => Ok(Network::Other(UNSUPPORTED)),
    }
}

/// The headers read so far can be written again before another packet.
fn in_place(next: Next, reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    walk(next, reader, true, None, &mut Nesting::new())
}

/// The headers read so far cannot be written again.
fn enclosed(next: Next, reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    walk(next, reader, false, None, &mut Nesting::new())
}

/// Reads a first header that can be written again.
fn with<'a>(
    mut reader: Reader<'a>,
    header: impl FnOnce(&mut Reader<'a>) -> Result<Next, Fault>,
) -> Result<Network<'a>, Fault> {
    let next = header(&mut reader)?;
    in_place(next, reader)
}

/// Skips a byte that holds the direction, in or out.
fn behind_direction(mut reader: Reader<'_>) -> Result<Reader<'_>, Fault> {
    reader.u8()?;
    Ok(reader)
}

fn ethernet(mut reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    let (next, addresses) = encap::ethernet_header(&mut reader)?;
    walk(next, reader, true, Some(addresses), &mut Nesting::new())
}

fn wireless_lan(reader: Reader<'_>, radiotap: bool) -> Result<Network<'_>, Fault> {
    match wireless::data_frame(reader, radiotap)? {
        // An FCS may follow.
        wireless::Content::Packet(reader) => enclosed(Next::Header(llc::header), reader),
        wireless::Content::Aggregate { offset } => Ok(Network::Aggregate { offset }),
        wireless::Content::Other(what) => Ok(Network::Other(what)),
    }
}

/// The packet of an A-MSDU at `offset`, its end, and the offset of the next one.
pub(super) fn subframe(frame: &[u8], offset: usize) -> Result<(Network<'_>, usize, Option<usize>), Fault> {
    let wireless::Subframe { llc, end, next } = wireless::subframe(frame, offset)?;
    Ok((enclosed(Next::Header(llc::header), llc)?, end, next))
}

fn cisco_hdlc(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    *reader = reader.named("Cisco HDLC header");
    reader.take(2)?;
    reader.u16().map(Next::EtherType)
}

fn fddi(mut reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    reader = reader.named("FDDI header");
    let [control, ..] = reader.array::<13>()?;
    // LLC frames, asynchronous and synchronous.
    if control & 0x70 != 0x50 {
        return Ok(Network::Other("no LLC frame of FDDI"));
    }
    match llc::header(&mut reader)? {
        // The EtherType is the last field.
        next @ Next::EtherType(_) => in_place(next, reader),
        next => enclosed(next, reader),
    }
}

fn ipoib(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    *reader = reader.named("IPoIB header");
    reader.take(IPOIB_ETHER_TYPE)?;
    let ether_type = reader.u16()?;
    reader.take(2)?;
    Ok(Next::EtherType(ether_type))
}

/// Per-Packet Information (CACE Technologies, PPI Packet Header 1.0.7 §3): version, flags, length and link type of
/// the frame that follows, all little-endian; then fields.
fn ppi(mut reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    reader = reader.named("PPI header");
    let at = reader.position();
    let [_version, _flags, low, high] = reader.array()?;
    let link_type = u32::from_le_bytes(reader.array()?);
    let len = usize::from(u16::from_le_bytes([low, high]));
    let Some(fields) = len.checked_sub(8) else {
        return Err(Fault::value(Stage::Link, at + 2, "PPI length", len as u64, "8 or more"));
    };
    reader.take(fields)?;
    match u16::try_from(link_type) {
        Ok(PPI) | Err(_) => Ok(Network::Other("the link type in the PPI header is not supported")),
        Ok(link_type) => Ok(match network_at(link_type, reader)? {
            Network::Ip { offset, version } => Network::Enclosed { offset, version },
            Network::Bluetooth | Network::Other(UNSUPPORTED) => {
                Network::Other("the link type in the PPI header is not supported")
            }
            other => other,
        }),
    }
}

fn linux_sll(mut reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    reader = reader.named("SLL header");
    reader.take(2)?;
    let hardware = reader.u16()?;
    reader.take(10)?;
    let protocol = reader.u16()?;
    cooked(hardware, protocol, reader)
}

fn linux_sll2(mut reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    reader = reader.named("SLL2 header");
    let protocol = reader.u16()?;
    reader.take(6)?;
    let hardware = reader.u16()?;
    reader.take(10)?;
    cooked(hardware, protocol, reader)
}

fn cooked(hardware: u16, protocol: u16, reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    const ETH_P_802_2: u16 = 0x0004;
    const ETH_P_IEEE802154: u16 = 0x00f6;
    const ARPHRD_FRAD: u16 = 770;
    const ARPHRD_IEEE80211_RADIOTAP: u16 = 803;
    const ARPHRD_NETLINK: u16 = 824;
    match (hardware, protocol) {
        // For this ARPHRD type, the protocol field is not an EtherType.
        (ARPHRD_FRAD | ARPHRD_IEEE80211_RADIOTAP | ARPHRD_NETLINK, _) => Ok(Network::Other("not an IP interface")),
        (_, ETH_P_IEEE802154) => Ok(Network::Radio(Radio::bare(reader.rest(), Trailer::Unknown))),
        (_, ETH_P_802_2) => enclosed(Next::Header(llc::header), reader),
        _ => in_place(Next::EtherType(protocol), reader),
    }
}

/// Reads the address family and skips `more` bytes after it.
fn address_family(mut reader: Reader<'_>, more: usize) -> Result<Network<'_>, Fault> {
    reader = reader.named("address family");
    let big_endian = reader.u32()?;
    // In the right byte order, address families are small numbers.
    let family = if big_endian > 0xffff { big_endian.swap_bytes() } else { big_endian };
    reader.take(more)?;
    in_place(of_family(family), reader)
}

/// The packet that an address family announces.
pub(super) fn of_family(family: u32) -> Next {
    match family {
        2 => Next::Ip(Some(IpVersion::V4)),
        // Linux 10; NetBSD, OpenBSD 24; FreeBSD 28; Darwin 30; Windows 23.
        10 | 23 | 24 | 28 | 30 => Next::Ip(Some(IpVersion::V6)),
        _ => Next::Other("the address family is not IP"),
    }
}

/// Makes the address family that of `version`, in the byte order that it has.
fn set_address_family(field: &mut [u8; 4], version: IpVersion) {
    let big_endian = field.first() == Some(&0);
    let is_v4 = field.contains(&2);
    // 24, 28 and 30 all mean IPv6, and readers accept each of them.
    let family: u32 = match version {
        IpVersion::V4 => 2,
        IpVersion::V6 => 30,
    };
    if is_v4 != (version == IpVersion::V4) {
        *field = if big_endian { family.to_be_bytes() } else { family.to_le_bytes() };
    }
}

/// Appends `header`, the link header of a frame on `link_type`, and sets its protocol field to IP `version`.
pub(super) fn write(link_type: u16, header: &[u8], version: IpVersion, out: &mut Vec<u8>) -> Result<(), Fault> {
    let before = out.len();
    out.extend_from_slice(header);
    let header = out.get_mut(before..).unwrap_or_default();
    let ether_type = match version {
        IpVersion::V4 => ether_type::IPV4,
        IpVersion::V6 => ether_type::IPV6,
    };
    let ether_type = ether_type.0.to_be_bytes();
    match link_type {
        // The EtherType is the last field, after all tags.
        ETHERNET | LINUX_SLL | FDDI | C_HDLC | C_HDLC_WITH_DIR => {
            if let Some(field) = header.last_chunk_mut() {
                *field = ether_type;
            }
        }
        // The address family is the first field, or follows tags.
        LINUX_SLL2 => {
            let field = if header.len() > SLL2_HEADER_LEN { header.last_chunk_mut() } else { header.first_chunk_mut() };
            if let Some(field) = field {
                *field = ether_type;
            }
        }
        IPOIB => {
            if let Some(field) = header.get_mut(IPOIB_ETHER_TYPE..).and_then(|rest| rest.first_chunk_mut()) {
                *field = ether_type;
            }
        }
        NULL | LOOP | ENC => {
            if let Some(field) = header.first_chunk_mut::<4>() {
                set_address_family(field, version);
            }
        }
        // The protocol is the last field, unless it is compressed to one byte.
        PPP | PPP_PPPD | PPP_WITH_DIR | PPP_HDLC => {
            let protocol = match header.last_chunk::<2>() {
                Some([0x08, 0x00] | [0x86, 0xdd]) if link_type == PPP_HDLC => ether_type,
                Some([0, _]) => match version {
                    IpVersion::V4 => [0, 0x21],
                    IpVersion::V6 => [0, 0x57],
                },
                _ => return Err(Fault::unsupported(Stage::Link, 0, "a shortened PPP protocol cannot be changed")),
            };
            if let Some(field) = header.last_chunk_mut() {
                *field = protocol;
            }
        }
        RAW | DLT_RAW | DLT_RAW_OPENBSD => {}
        IPV4 if version == IpVersion::V4 => {}
        IPV6 if version == IpVersion::V6 => {}
        _ => return Err(Fault::unsupported(Stage::Link, 0, "the link type cannot carry this IP version")),
    }
    Ok(())
}
