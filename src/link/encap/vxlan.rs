//! VXLAN (RFC 7348 §5, UDP port 4789) and its extension VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe, UDP port 4790):
//!
//! ```text
//! | flags 1 | reserved 3 | VXLAN Network Identifier 3 | reserved 1 | Ethernet frame
//! | flags 1 | reserved 2 | next protocol 1 | VXLAN Network Identifier 3 | reserved 1 | packet
//! ```

use super::{ETHERNET, Next, nsh};
use crate::bytes::Reader;
use crate::error::Fault;

/// Flag: the Network Identifier is valid.
const I: u8 = 0x08;

/// Reads a VXLAN header.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    let [flags, ..] = reader.array::<8>()?;
    Ok(if flags & I != 0 { ETHERNET } else { Next::Other("no VXLAN") })
}

/// Reads a VXLAN-GPE header.
pub(super) fn gpe(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    /// Flag: the header has a next protocol.
    const P: u8 = 0x04;
    let [flags, _, _, next, ..] = reader.array::<8>()?;
    Ok(match (flags & I, flags & P) {
        (0, _) => Next::Other("no VXLAN-GPE"),
        (_, 0) => ETHERNET,
        _ => nsh::protocol(next),
    })
}
