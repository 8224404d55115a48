//! GTP-U, the tunnels of mobile networks (3GPP TS 29.281 §5, UDP port 2152):
//!
//! ```text
//! | version 3 bits = 1, PT, *, E, S, PN | type 1 = 255 | length 2 | tunnel 4
//! | sequence number 2 | N-PDU number 1 | type of the extension 1 |        if E, S or PN is set
//! | length 1, in units of 4 bytes | content | type of the next one 1 |    as long as the type is not 0
//! | IP packet
//! ```

use super::Next;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::net::ip;

/// Reads the header and its extension headers.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const G_PDU: u8 = 255;
    const EXTENSION: u8 = 4;
    const OPTIONAL: u8 = 7;
    let [flags, kind, ..] = reader.array::<8>()?;
    // Version 1 of GTP. GTP' (PT = 0) is rejected.
    if flags >> 4 != 3 || kind != G_PDU {
        return Ok(Next::Other("no packet of GTP-U"));
    }
    if flags & OPTIONAL != 0 {
        let [.., mut extension] = reader.array::<4>()?;
        while flags & EXTENSION != 0 && extension != 0 {
            let at = reader.position();
            let len = match reader.u8()? {
                0 => return Err(Fault::value(Stage::Link, at, "GTP-U extension length", 0, "1 or more")),
                units => usize::from(units) * 4 - 1,
            };
            let [.., last] = *reader.take(len)? else { break };
            extension = last;
        }
    }
    Ok(match ip::version(reader.rest()) {
        Some(_) => Next::Ip(None),
        _ => Next::Other("no IP packet in GTP-U"),
    })
}
