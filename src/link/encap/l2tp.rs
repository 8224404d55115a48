//! L2TPv2 data messages (RFC 2661 §3.1, UDP port 1701):
//!
//! ```text
//! | T L 0 0 S 0 O P, 0 4 bits, version 4 bits | length 2 if L | tunnel 2 | session 2 | Ns 2, Nr 2 if S
//! | offset size 2, padding if O | PPP frame
//! ```

use super::{Next, ppp};
use crate::bytes::Reader;
use crate::error::Fault;

/// Reads the header of a message.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const CONTROL: u16 = 1 << 15;
    const LENGTH: u16 = 1 << 14;
    const SEQUENCE: u16 = 1 << 11;
    const OFFSET: u16 = 1 << 9;
    let flags = reader.u16()?;
    match flags & 0xf {
        2 => {}
        3 => return Ok(Next::Other("L2TPv3: the length of its cookies is not known")),
        _ => return Ok(Next::Other("no L2TP")),
    }
    if flags & CONTROL != 0 {
        return Ok(Next::Other("L2TP control message"));
    }
    let len = |flag: u16, len: usize| if flags & flag != 0 { len } else { 0 };
    reader.take(len(LENGTH, 2) + 4 + len(SEQUENCE, 4))?;
    if flags & OFFSET != 0 {
        let padding = reader.u16()?;
        reader.take(usize::from(padding))?;
    }
    Ok(Next::Header(ppp::header))
}
