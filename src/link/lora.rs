//! LoRaTAP, `LINKTYPE_LORATAP`, big-endian. Version 1 adds fields after the sync word:
//!
//! ```text
//! | version 1 | padding 1 | length 2 | frequency 4 | bandwidth 1 | SF 1 | RSSI, SNR 4 | sync word 1 | frame
//! | gateway 8 | time stamp 4 | flags 1 | coding rate 1 | data rate 2 | IF channel 1 | RF chain 1 | tag 2 | frame
//! ```
//!
//! LoRaWAN encrypts its payload. Frames of other networks may contain an IP packet or 6LoWPAN in the clear.

use super::LinkAddresses;
use super::link_type::Network;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};
use crate::net::IpVersion;

const HEADER_LEN: [usize; 2] = [15, 35];

pub(super) fn tap(data: &[u8]) -> Result<Network<'_>, Fault> {
    /// The sync word of public networks (LoRaWAN Regional Parameters).
    const LORAWAN: u8 = 0x34;
    const CRC_BAD: u8 = 2;
    let mut reader = Reader::new(Stage::Link, "LoRaTAP header", data);
    let version = reader.u8()?;
    reader.u8()?;
    let len = usize::from(reader.u16()?);
    let Some(least) = HEADER_LEN.get(usize::from(version)) else {
        return Err(Fault::value(Stage::Link, 0, "LoRaTAP version", u64::from(version), "0 or 1"));
    };
    if len < *least {
        return Err(Fault::value(Stage::Link, 2, "LoRaTAP length", len as u64, "15 (version 0) or 35 (1), or more"));
    }
    reader.take(10)?;
    let sync_word = reader.u8()?;
    if version == 1 {
        reader.take(12)?;
        if reader.u8()? >> 3 & 7 == CRC_BAD {
            return Err(Fault::unsupported(Stage::Link, reader.position(), "the CRC of the LoRa frame is wrong"));
        }
    }
    reader.take(len - reader.position())?;
    if sync_word == LORAWAN {
        return Ok(Network::Other(
            "LoRaWAN encrypts its payload: export the decrypted payload from the network server and decode it as lines of hex digits",
        ));
    }
    let (offset, frame) = (reader.position(), reader.rest());
    let at = |at: usize| frame.get(at).map_or(0, |byte| usize::from(*byte));
    Ok(match frame.first() {
        // No field names the format of the frame. An IP header with the right length decides.
        Some(0x45..=0x4f) if at(2) << 8 | at(3) == frame.len() => {
            Network::Enclosed { offset, version: Some(IpVersion::V4) }
        }
        Some(0x60..=0x6f) if (at(4) << 8 | at(5)) + 40 == frame.len() => {
            Network::Enclosed { offset, version: Some(IpVersion::V6) }
        }
        // IPHC whose first byte looks like an IPv6 header is not recognized.
        Some(0x41 | 0x70..=0x7f) => Network::Lowpan { offset, link: LinkAddresses::default() },
        _ => Network::Other("a LoRa frame that is neither an IP packet nor 6LoWPAN"),
    })
}
