//! IEEE 802.2 LLC, and SNAP (IEEE 802 §9.5, RFC 1042):
//!
//! ```text
//! | aa aa 03 | OUI 3 | EtherType 2 | packet
//! | 06 06 03 | IPv4 packet
//! ```

use super::{ETHERNET, IPV4, Next};
use crate::bytes::Reader;
use crate::error::Fault;

/// Reads an LLC header.
pub(in crate::link) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const UNNUMBERED_INFORMATION: u8 = 3;
    const IP: u8 = 0x06;
    const SNAP: u8 = 0xaa;
    *reader = reader.named("IEEE 802.2 header");
    match reader.array()? {
        [SNAP, SNAP, UNNUMBERED_INFORMATION] => snap(reader),
        [IP, IP, UNNUMBERED_INFORMATION] => Ok(IPV4),
        _ => Ok(Next::Other("no EtherType (IEEE 802.2)")),
    }
}

/// Reads OUI and protocol identifier.
pub(in crate::link) fn snap(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const ETHERNET_WITHOUT_FCS: u16 = 7;
    const ETHERNET_WITH_FCS: u16 = 1;
    let (oui, protocol) = (reader.array()?, reader.u16()?);
    Ok(match (oui, protocol) {
        // IEEE 802.1H bridges use the second value for the same purpose.
        ([0, 0, 0] | [0, 0, 0xf8], ether_type) => Next::EtherType(ether_type),
        ([0, 0x80, 0xc2], ETHERNET_WITH_FCS | ETHERNET_WITHOUT_FCS) => ETHERNET,
        _ => Next::Other("no EtherType (IEEE 802.2)"),
    })
}
