//! Ethernet II, and the headers that an EtherType announces (IEEE 802.3 §3.2.6, IEEE 802.1Q §9):
//!
//! ```text
//! | destination 6 | source 6 | ( tag type 2 | tag 2 ) ... | EtherType 2 | packet
//! ```
//!
//! Cisco metadata:
//!
//! ```text
//! | EtherType 8909 2 | version 1 | length 1, in units of 4 bytes | options | EtherType 2 | packet
//! ```

use etherparse::{EtherType, ether_type};

use super::{ETHERNET, IPV4, IPV6, Next, llc, mpls, nsh, ppp};
use crate::bytes::Reader;
use crate::error::Fault;
use crate::net::{LinkAddress, LinkAddresses};

const VLAN_9100: u16 = 0x9100;
/// Tag of IEEE 802.1BR, and Cisco's VN-Tag.
const E_TAG: u16 = 0x893f;
const VN_TAG: u16 = 0x8926;
/// Redundancy tag of IEEE 802.1CB, and of HSR (IEC 62439-3).
const R_TAG: u16 = 0xf1c1;
const HSR: u16 = 0x892f;
/// Service tag of IEEE 802.1ah: a whole Ethernet frame follows.
const BACKBONE_SERVICE: u16 = 0x88e7;
const CISCO_METADATA: u16 = 0x8909;
/// Transparent Ethernet Bridging.
const TEB: u16 = 0x6558;
const MPLS: u16 = 0x8847;
const MPLS_UPSTREAM: u16 = 0x8848;
const NSH: u16 = 0x894f;
const PPP: u16 = 0x880b;
/// PPPoE sessions (RFC 2516 §4).
const PPPOE: u16 = 0x8864;
const MACSEC: u16 = 0x88e5;
/// IEEE 802.15.4 frames on Ethernet, as Wireshark reads them.
const IEEE802_15_4: u16 = 0x809a;
/// 6LoWPAN on Ethernet (RFC 7973).
const LOWPAN: u16 = 0xa0ed;

/// The reason given for any other EtherType.
pub(in crate::link) const NOT_IP: &str = "the EtherType is not IP";

/// Source and destination address of an Ethernet header.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::link) struct Addresses(Option<([u8; 6], [u8; 6])>);

impl Addresses {
    /// The addresses as EUI-64s.
    pub(crate) fn link(self) -> LinkAddresses {
        let (src, dst) = self.0.unzip();
        LinkAddresses { src: src.map(eui64), dst: dst.map(eui64) }
    }
}

/// The EUI-64 of a 48-bit address (RFC 4291 Appendix A).
fn eui64([a, b, c, d, e, f]: [u8; 6]) -> LinkAddress {
    LinkAddress::Extended([a, b, c, 0xff, 0xfe, d, e, f])
}

/// Reads an Ethernet header up to its EtherType.
pub(in crate::link) fn ethernet_header(reader: &mut Reader<'_>) -> Result<(Next, Addresses), Fault> {
    *reader = reader.named("Ethernet header");
    let (dst, src) = (reader.array::<6>()?, reader.array::<6>()?);
    let next = after_addresses(reader)?;
    Ok((next, Addresses(Some((src, dst)))))
}

/// Reads an EtherType, or the length of an IEEE 802.2 frame (IEEE 802.3 §3.2.6).
fn after_addresses(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    Ok(match reader.u16()? {
        0..0x600 => Next::Header(llc::header),
        ether_type => Next::EtherType(ether_type),
    })
}

/// Reads the Ethernet header of a frame inside another frame.
pub(super) fn ethernet(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    ethernet_header(reader).map(|(next, _)| next)
}

/// Whether the EtherType is that of IP. IP does not count as an encapsulation.
pub(super) fn is_ip(ether_type: u16) -> bool {
    matches!(EtherType(ether_type), ether_type::IPV4 | ether_type::IPV6)
}

/// Reads the tag that an EtherType announces, and the EtherType after it. For other EtherTypes, returns what
/// follows.
pub(super) fn header(ether_type: u16, reader: &mut Reader<'_>) -> Result<Next, Fault> {
    let tag_len = match EtherType(ether_type) {
        ether_type::IPV4 => return Ok(IPV4),
        ether_type::IPV6 => return Ok(IPV6),
        ether_type::VLAN_TAGGED_FRAME | ether_type::PROVIDER_BRIDGING | EtherType(VLAN_9100) => 2,
        EtherType(VN_TAG | R_TAG | HSR) => 4,
        EtherType(E_TAG) => 6,
        EtherType(CISCO_METADATA) => {
            let [_version, len] = reader.array()?;
            usize::from(len) * 4
        }
        EtherType(TEB) => return Ok(ETHERNET),
        EtherType(BACKBONE_SERVICE) => return Ok(Next::Header(backbone_service)),
        EtherType(MPLS | MPLS_UPSTREAM) => return Ok(Next::Header(mpls::header)),
        EtherType(NSH) => return Ok(Next::Header(nsh::header)),
        EtherType(PPPOE) => return Ok(Next::Header(ppp::pppoe)),
        EtherType(PPP) => return Ok(Next::Header(ppp::header)),
        EtherType(IEEE802_15_4) => return Ok(Next::Radio),
        EtherType(LOWPAN) => return Ok(Next::Lowpan),
        ether_type::ARP => return Ok(Next::Other("ARP")),
        EtherType(MACSEC) => return Ok(Next::Other(macsec(reader)?)),
        _ => return Ok(Next::Other(NOT_IP)),
    };
    reader.take(tag_len)?;
    after_addresses(reader)
}

/// Why a frame with a SecTAG is not decoded (IEEE 802.1AE §9.5).
fn macsec(reader: &mut Reader<'_>) -> Result<&'static str, Fault> {
    /// E: the user data is encrypted. C: it is changed, but not necessarily encrypted.
    const ENCRYPTED: u8 = 0x08;
    const CHANGED: u8 = 0x04;
    Ok(match reader.u8()? & (ENCRYPTED | CHANGED) {
        0 => "MACsec without encryption, which is not decoded",
        _ => "encrypted on the link layer (MACsec)",
    })
}

/// Priority and Service Identifier of IEEE 802.1ah: 4 bytes.
fn backbone_service(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    reader.take(4)?;
    Ok(ETHERNET)
}
