//! MPLS (RFC 3032 §2.1), also over GRE, IP (RFC 4023) and UDP (RFC 7510), and its payload (RFC 4385, RFC 4928):
//!
//! ```text
//! | label 20 bits, traffic class 3 bits, bottom of stack 1 bit, TTL 8 bits | ... | packet
//! ```
//!
//! No label names the payload. Its first 4 bits do: 4 and 6 are IP, 0 is the control word of a pseudowire, and any
//! other value starts an Ethernet frame. Ethernet addresses may start with 4, 6 or 0, too. In these cases the
//! EtherType decides.

use super::{ETHERNET, IPV4, IPV6, Next};
use crate::bytes::Reader;
use crate::error::Fault;
use crate::net::ipv4::{self, Ipv4};

/// Control word of a pseudowire (RFC 4385 §3).
const CONTROL_WORD_LEN: usize = 4;

/// Reads a stack of labels.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const BOTTOM_OF_STACK: u32 = 1 << 8;
    *reader = reader.named("MPLS label");
    while reader.u32()? & BOTTOM_OF_STACK == 0 {}
    let packet = reader.rest();
    Ok(match packet.first().map(|byte| byte >> 4) {
        None => Next::Other("MPLS without payload"),
        Some(4 | 6) if is_ethernet(packet) && !is_ipv4(packet) => ETHERNET,
        Some(4) => IPV4,
        Some(6) => IPV6,
        Some(0) if is_ethernet(packet) && !packet.get(CONTROL_WORD_LEN..).is_some_and(is_ethernet) => ETHERNET,
        Some(0) => {
            reader.take(CONTROL_WORD_LEN)?;
            ETHERNET
        }
        Some(1) => Next::Other("MPLS associated channel (RFC 5586)"),
        Some(_) => ETHERNET,
    })
}

/// Whether an Ethernet header with the EtherType of IP or of a tag follows.
fn is_ethernet(frame: &[u8]) -> bool {
    matches!(
        frame.get(12..15),
        Some([0x08, 0x00, 0x45..=0x4f] | [0x86, 0xdd, 0x60..=0x6f] | [0x81, 0x00, _] | [0x88, 0xa8, _])
    )
}

/// Whether an IPv4 header with a correct checksum follows.
fn is_ipv4(packet: &[u8]) -> bool {
    Ipv4::of(packet).is_some_and(|header| header.is_without_options()) && ipv4::checksum_of(packet) == 0
}
