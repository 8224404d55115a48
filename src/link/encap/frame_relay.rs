//! Frame Relay (RFC 2427 §3, §4.1), and Cisco's encapsulation with an EtherType after the address:
//!
//! ```text
//! | address 2 to 4, its last byte is odd | 03 | padding 00 or nothing | NLPID 1 | packet
//! | address | 03 | 00 | 80 | OUI 3 | EtherType 2 | packet
//! | address | EtherType 2 | packet
//! ```

use super::{IPV4, IPV6, Next, llc, ppp};
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// Reads the address, the control byte and the protocol.
pub(in crate::link) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    const UNNUMBERED_INFORMATION: u8 = 3;
    const MAX_ADDRESS_LEN: usize = 4;
    *reader = reader.named("Frame Relay header");
    let at = reader.position();
    while reader.u8()? & 1 == 0 {
        if reader.position() - at == MAX_ADDRESS_LEN {
            return Err(Fault::unsupported(Stage::Link, at, "a Frame Relay address of more than 4 bytes"));
        }
    }
    if reader.rest().first().is_some_and(|control| *control != UNNUMBERED_INFORMATION) {
        return Ok(Next::EtherType(reader.u16()?));
    }
    reader.u8()?;
    if reader.rest().first() == Some(&0) {
        reader.u8()?;
    }
    Ok(match reader.u8()? {
        0x80 => return llc::snap(reader),
        0xcc => IPV4,
        0x8e => IPV6,
        0xcf => Next::Header(ppp::header),
        _ => Next::Other("the protocol in Frame Relay is not IP"),
    })
}
