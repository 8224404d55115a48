//! Network Service Header (RFC 8300 §2.2):
//!
//! ```text
//! | version 2 bits, O, U, TTL 6 bits, length 6 bits | MD type 1 | next protocol 1 | service path 4 | metadata
//! ```
//!
//! The length is in units of 4 bytes and counts the whole header.

use super::{ETHERNET, IPV4, IPV6, Next, mpls};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// Reads the header.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    *reader = reader.named("NSH header");
    let at = reader.position();
    let first = reader.u16()?;
    let [_metadata_type, next] = reader.array()?;
    let units = usize::from(first & 0x3f);
    let Some(rest) = (units * 4).checked_sub(4).filter(|rest| *rest >= 4) else {
        return Err(Fault::value(Stage::Link, at, "NSH length", units as u64, "2 or more"));
    };
    reader.take(rest)?;
    Ok(protocol(next))
}

/// The next protocols of NSH (RFC 8300 §9.1.6). VXLAN-GPE uses the same numbers.
pub(super) fn protocol(next: u8) -> Next {
    match next {
        1 => IPV4,
        2 => IPV6,
        3 => ETHERNET,
        4 => Next::Header(header),
        5 => Next::Header(mpls::header),
        _ => Next::Other("the next protocol is not IP"),
    }
}
