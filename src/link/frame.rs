//! The headers below IP: where does the IP packet start?
//!
//! Ethernet II, and with it what follows any EtherType (IEEE 802.3 §3.2.6, IEEE 802.1Q §9):
//!
//! ```text
//! | destination 6 | source 6 | ( tag type 2 | tag 2 ) ... | EtherType 2 | packet
//! ```
//!
//! `LINKTYPE_LINUX_SLL` and `LINKTYPE_LINUX_SLL2`, which carry an EtherType too:
//!
//! ```text
//! | packet type 2 | ARPHRD 2 | address length 2 | address 8 | EtherType 2 | packet
//! | EtherType 2 | 0 2 | interface 4 | ARPHRD 2 | packet type 1 | address length 1 | address 8 | packet
//! ```
//!
//! `LINKTYPE_NULL` and `LINKTYPE_LOOP`: an address family of 4 bytes, in the byte order of the capturing machine or of
//! the network.

use etherparse::{EtherType, ether_type};

use super::ieee802154::carrier::{self, Radio};
use super::ieee802154::fcs::Trailer;
use super::{LinkAddresses, bluetooth, lora, ppp, wireless};
use crate::bytes::Reader;
use crate::context::IpVersion;
use crate::error::{Fault, Stage};
use crate::sa::LinkAddress;

pub(super) const NULL: u16 = 0;
pub(super) const ETHERNET: u16 = 1;
pub(super) const PPP: u16 = 9;
pub(super) const DLT_RAW: u16 = 12;
pub(super) const DLT_RAW_OPENBSD: u16 = 14;
pub(super) const PPP_HDLC: u16 = 50;
pub(super) const PPP_ETHER: u16 = 51;
pub(super) const RAW: u16 = 101;
pub(super) const IEEE802_11: u16 = 105;
pub(super) const LOOP: u16 = 108;
pub(super) const LINUX_SLL: u16 = 113;
pub(super) const IEEE802_11_RADIOTAP: u16 = 127;
pub(super) const PPP_PPPD: u16 = 166;
pub(super) const IEEE802_15_4_WITHFCS: u16 = 195;
pub(super) const PPP_WITH_DIR: u16 = 204;
pub(super) const IEEE802_15_4_NONASK_PHY: u16 = 215;
pub(super) const IPV4: u16 = 228;
pub(super) const IPV6: u16 = 229;
pub(super) const IEEE802_15_4_NOFCS: u16 = 230;
pub(super) const LORATAP: u16 = 270;
pub(super) const LINUX_SLL2: u16 = 276;
const SLL2_HEADER_LEN: usize = 20;
pub(super) const IEEE802_15_4_TAP: u16 = 283;

/// IEEE 802.15.4 frames on Ethernet, as Wireshark takes them.
const ETHERTYPE_IEEE802_15_4: u16 = 0x809a;
/// PPPoE sessions (RFC 2516 §4).
const ETHERTYPE_PPPOE: u16 = 0x8864;
/// 6LoWPAN on Ethernet (RFC 7973).
const ETHERTYPE_LOWPAN: u16 = 0xa0ed;

/// More tags than any network stacks.
const MAX_VLAN_TAGS: usize = 8;

/// What the link header announces.
#[derive(Debug)]
pub(super) enum Network<'a> {
    /// An IP packet at `offset`, of `version` if the link header names one.
    Ip { offset: usize, version: Option<IpVersion> },
    /// An IP packet at `offset`, inside something with a length or a trailer of its own.
    Enclosed { offset: usize, version: IpVersion },
    /// Several packets, each in an Ethernet header of its own, from `offset` on: an A-MSDU.
    Aggregate { offset: usize },
    /// A frame of IEEE 802.15.4.
    Radio(Radio<'a>),
    /// A frame of Bluetooth LE.
    Bluetooth,
    /// A 6LoWPAN frame at `offset`.
    Lowpan { offset: usize, link: LinkAddresses },
    /// Something else, in a few words.
    Other(&'static str),
}

/// Whether all frames are those of a radio that has no IP packets as they are.
pub(super) fn is_radio(link_type: u16) -> bool {
    match link_type {
        IEEE802_15_4_WITHFCS | IEEE802_15_4_NONASK_PHY | IEEE802_15_4_NOFCS | IEEE802_15_4_TAP | LORATAP => true,
        _ => bluetooth::LINK_TYPES.contains(&link_type),
    }
}

/// [`network`] for IP behind an Ethernet header without tags, and raw IP; `None` for all else.
#[inline]
pub(super) fn plain_ip(link_type: u16, frame: &[u8]) -> Option<(usize, Option<IpVersion>)> {
    match (link_type, frame.get(12..14)) {
        (ETHERNET, Some([0x08, 0x00])) => Some((14, Some(IpVersion::V4))),
        (ETHERNET, Some([0x86, 0xdd])) => Some((14, Some(IpVersion::V6))),
        (RAW, _) => Some((0, None)),
        _ => None,
    }
}

/// What is said of a frame of any other link type.
pub const UNSUPPORTED: &str = "the link type is not supported";

pub(super) fn network(link_type: u16, frame: &[u8]) -> Result<Network<'_>, Fault> {
    match link_type {
        ETHERNET => ethernet(frame),
        RAW | DLT_RAW | DLT_RAW_OPENBSD => Ok(Network::Ip { offset: 0, version: None }),
        IPV4 => Ok(Network::Ip { offset: 0, version: Some(IpVersion::V4) }),
        IPV6 => Ok(Network::Ip { offset: 0, version: Some(IpVersion::V6) }),
        LINUX_SLL => linux_sll(frame),
        LINUX_SLL2 => linux_sll2(frame),
        NULL | LOOP => address_family(frame),
        PPP | PPP_PPPD => ppp::ppp(frame, false),
        PPP_WITH_DIR => ppp::ppp(frame, true),
        PPP_HDLC => ppp::serial(frame),
        PPP_ETHER => ppp::pppoe(Reader::new(Stage::Link, "PPPoE header", frame)),
        IEEE802_11 => wireless_lan(frame, false),
        IEEE802_11_RADIOTAP => wireless_lan(frame, true),
        IEEE802_15_4_WITHFCS => Ok(Network::Radio(Radio::bare(frame, Trailer::Unknown))),
        IEEE802_15_4_NOFCS => Ok(Network::Radio(Radio::bare(frame, Trailer::None))),
        IEEE802_15_4_TAP => carrier::tap(frame).map(Network::Radio),
        IEEE802_15_4_NONASK_PHY => carrier::non_ask_phy(frame).map(Network::Radio),
        LORATAP => lora::tap(frame),
        _ if bluetooth::LINK_TYPES.contains(&link_type) => Ok(Network::Bluetooth),
        _ => Ok(Network::Other(UNSUPPORTED)),
    }
}

fn ethernet(frame: &[u8]) -> Result<Network<'_>, Fault> {
    let mut reader = Reader::new(Stage::Link, "Ethernet header", frame);
    let (dst, src) = (reader.array::<6>()?, reader.array::<6>()?);
    let ether_type = reader.u16()?;
    announced(ether_type, reader, Some((src, dst)))
}

fn wireless_lan(frame: &[u8], radiotap: bool) -> Result<Network<'_>, Fault> {
    match wireless::data_frame(frame, radiotap)? {
        Ok(reader) => enclosed(reader),
        Err(other) => Ok(other),
    }
}

/// What the EtherType at `reader` announces, inside a frame that may go on after it.
fn enclosed(mut reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    let ether_type = reader.u16()?;
    Ok(match announced(ether_type, reader, None)? {
        Network::Ip { offset, version: Some(version) } => Network::Enclosed { offset, version },
        other => other,
    })
}

/// The packet of an A-MSDU at `offset`, where it ends, and where the next one starts.
pub(super) fn subframe(frame: &[u8], offset: usize) -> Result<(Network<'_>, usize, Option<usize>), Fault> {
    let wireless::Subframe { ether_type, end, next } = wireless::subframe(frame, offset)?;
    Ok((ether_type.map_or_else(|what| Ok(Network::Other(what)), enclosed)?, end, next))
}

fn linux_sll(frame: &[u8]) -> Result<Network<'_>, Fault> {
    let mut reader = Reader::new(Stage::Link, "SLL header", frame);
    reader.take(2)?;
    let hardware = reader.u16()?;
    reader.take(10)?;
    let protocol = reader.u16()?;
    cooked(hardware, protocol, reader)
}

fn linux_sll2(frame: &[u8]) -> Result<Network<'_>, Fault> {
    let mut reader = Reader::new(Stage::Link, "SLL2 header", frame);
    let protocol = reader.u16()?;
    reader.take(6)?;
    let hardware = reader.u16()?;
    reader.take(10)?;
    cooked(hardware, protocol, reader)
}

fn cooked(hardware: u16, protocol: u16, reader: Reader<'_>) -> Result<Network<'_>, Fault> {
    const ETH_P_IEEE802154: u16 = 0x00f6;
    const ARPHRD_FRAD: u16 = 770;
    const ARPHRD_IEEE80211_RADIOTAP: u16 = 803;
    const ARPHRD_NETLINK: u16 = 824;
    match hardware {
        // Here the protocol field is no EtherType.
        ARPHRD_FRAD | ARPHRD_IEEE80211_RADIOTAP | ARPHRD_NETLINK => Ok(Network::Other("not an IP interface")),
        _ if protocol == ETH_P_IEEE802154 => Ok(Network::Radio(Radio::bare(reader.rest(), Trailer::Unknown))),
        _ => announced(protocol, reader, None),
    }
}

/// `addresses` are those of an Ethernet header: source, destination.
fn announced(
    mut ether_type: u16,
    mut reader: Reader<'_>,
    addresses: Option<([u8; 6], [u8; 6])>,
) -> Result<Network<'_>, Fault> {
    for _ in 0..=MAX_VLAN_TAGS {
        let version = match EtherType(ether_type) {
            ether_type::IPV4 => IpVersion::V4,
            ether_type::IPV6 => IpVersion::V6,
            ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING | ether_type::VLAN_DOUBLE_TAGGED_FRAME => {
                reader.u16()?;
                ether_type = reader.u16()?;
                continue;
            }
            EtherType(ETHERTYPE_IEEE802_15_4) => {
                return Ok(Network::Radio(Radio::bare(reader.rest(), Trailer::Unknown)));
            }
            EtherType(ETHERTYPE_PPPOE) => return ppp::pppoe(reader),
            EtherType(ETHERTYPE_LOWPAN) => {
                let link = addresses.map_or(LinkAddresses::default(), |(src, dst)| LinkAddresses {
                    src: Some(eui64(src)),
                    dst: Some(eui64(dst)),
                });
                return Ok(Network::Lowpan { offset: reader.position(), link });
            }
            ether_type::ARP => return Ok(Network::Other("ARP")),
            EtherType(0..0x600) => return Ok(Network::Other("no EtherType (IEEE 802.3 length)")),
            _ => return Ok(Network::Other("the EtherType is not IP")),
        };
        return Ok(Network::Ip { offset: reader.position(), version: Some(version) });
    }
    Ok(Network::Other("too many VLAN tags"))
}

/// The EUI-64 of a 48-bit address (RFC 4291 Appendix A).
fn eui64([a, b, c, d, e, f]: [u8; 6]) -> LinkAddress {
    LinkAddress::Extended([a, b, c, 0xff, 0xfe, d, e, f])
}

fn address_family(frame: &[u8]) -> Result<Network<'_>, Fault> {
    let mut reader = Reader::new(Stage::Link, "address family", frame);
    let big_endian = reader.u32()?;
    // Families are small numbers.
    let family = if big_endian > 0xffff { big_endian.swap_bytes() } else { big_endian };
    let version = match family {
        2 => IpVersion::V4,
        // Linux 10; NetBSD, OpenBSD 24; FreeBSD 28; Darwin 30; Windows 23.
        10 | 23 | 24 | 28 | 30 => IpVersion::V6,
        _ => return Ok(Network::Other("the address family is not IP")),
    };
    Ok(Network::Ip { offset: reader.position(), version: Some(version) })
}

/// Writes `header`, the link header of a frame on `link_type`, as it is in front of an IP packet of `version`.
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
        // Whatever tags there are, the EtherType stands last.
        ETHERNET | LINUX_SLL => {
            if let Some(field) = header.last_chunk_mut() {
                *field = ether_type;
            }
        }
        // It stands first, or behind tags last.
        LINUX_SLL2 => {
            let field = if header.len() > SLL2_HEADER_LEN { header.last_chunk_mut() } else { header.first_chunk_mut() };
            if let Some(field) = field {
                *field = ether_type;
            }
        }
        NULL | LOOP => {
            if let Some(field) = header.first_chunk_mut::<4>() {
                let big_endian = field.first() == Some(&0);
                let is_v4 = field.contains(&2);
                // All readers take 24, 28 and 30 for IPv6.
                let family: u32 = match version {
                    IpVersion::V4 => 2,
                    IpVersion::V6 => 30,
                };
                if is_v4 != (version == IpVersion::V4) {
                    *field = if big_endian { family.to_be_bytes() } else { family.to_le_bytes() };
                }
            }
        }
        // The protocol stands last; if it is not shortened to a byte.
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
