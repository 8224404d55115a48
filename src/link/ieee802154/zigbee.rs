//! Zigbee network frames (Zigbee specification 05-3474-21 §3.3.1), which may start like a 6LoWPAN mesh header:
//!
//! ```text
//! | type 2 bits, version 4 bits, route discovery 2 bits | flags 1 | destination 2 | source 2 | radius 1 | sequence 1 | ...
//! ```

use super::Mac;
use crate::net::LinkAddress;

/// Whether a payload that is not valid 6LoWPAN looks like Zigbee.
pub(in crate::link) fn starts_like(payload: &[u8], mac: &Mac<'_>) -> bool {
    const HEADER_LEN: usize = 8;
    let &[control, flags, ..] = payload else { return false };
    match control >> 2 & 0xf {
        // Green Power frames have no addresses here.
        3 => mac.src.is_none(),
        // Zigbee 2004, 2006 and PRO: data and commands between short addresses, with two reserved bits.
        1 | 2 => {
            let short = |address| matches!(address, Some(LinkAddress::Short(_)));
            payload.len() >= HEADER_LEN && control & 2 == 0 && flags & 0xc0 == 0 && short(mac.src) && short(mac.dst)
        }
        _ => false,
    }
}
