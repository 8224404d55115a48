//! Geneve (RFC 8926 §3.4, UDP port 6081):
//!
//! ```text
//! | version 2 bits, length of the options 6 bits | flags 1 | EtherType 2 | network identifier 3 | reserved 1 | options
//! ```
//!
//! The length of the options is in units of 4 bytes.

use super::Next;
use crate::bytes::Reader;
use crate::error::Fault;

/// Reads the header.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    let [first, _flags] = reader.array()?;
    if first >> 6 != 0 {
        return Ok(Next::Other("a later version of Geneve"));
    }
    let ether_type = reader.u16()?;
    reader.take(4 + usize::from(first & 0x3f) * 4)?;
    Ok(Next::EtherType(ether_type))
}
