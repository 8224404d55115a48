//! Teredo, IPv6 over UDP through NATs (RFC 4380 §5.1.1, UDP port 3544):
//!
//! ```text
//! | 00 01 | length of the identifier 1 | length of the value 1 | identifier | value | nonce 8 | confirmation 1
//! | 00 00 | origin port 2 | origin address 4
//! | IPv6 packet
//! ```
//!
//! Both headers are optional.

use super::{IPV6, Next};
use crate::bytes::Reader;
use crate::error::Fault;
use crate::net::{IpVersion, ip};

/// Reads the headers.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    if let &[0, 1, identifier, value, ..] = reader.rest() {
        reader.take(4 + usize::from(identifier) + usize::from(value) + 9)?;
    }
    if let [0, 0, ..] = reader.rest() {
        reader.take(8)?;
    }
    Ok(match ip::version(reader.rest()) {
        Some(IpVersion::V6) => IPV6,
        _ => Next::Other("no IPv6 packet in Teredo"),
    })
}
