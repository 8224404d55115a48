//! ESP in UDP (RFC 3948).
//!
//! ```text
//! | source port 2 | destination port 2 | length 2 | checksum 2 | ESP, or 4 bytes 0 and IKE, or the byte ff
//! ```

use super::{Datagram, UDP};
use crate::error::{Fault, Stage};

/// The port of UDP-encapsulated ESP (RFC 3948 §2.1).
const PORT: u16 = 4500;

/// The payload of a UDP datagram that may be ESP.
#[derive(Debug, Clone, Copy)]
pub struct Encapsulated<'a> {
    /// The UDP header.
    pub udp_header: &'a [u8; 8],
    /// What follows it, cut at the UDP Length.
    pub payload: &'a [u8],
    /// Bytes that the UDP Length promises and the capture does not have (snap length).
    pub missing: usize,
}

/// What `datagram` carries if it is UDP from or to port 4500, whether that is ESP, IKE or a keepalive.
///
/// A fault, as offset in the frame, if it has no whole UDP header or one whose Length cannot be.
pub fn udp_encapsulation<'a>(datagram: &Datagram<'a>) -> Result<Option<Encapsulated<'a>>, Fault> {
    if datagram.protocol != UDP {
        return Ok(None);
    }
    let at = datagram.frame_offset.saturating_add(datagram.header.len());
    let payload = datagram.payload;
    let Some(&[a, b, c, d]) = payload.first_chunk() else { return Ok(None) };
    if u16::from_be_bytes([a, b]) != PORT && u16::from_be_bytes([c, d]) != PORT {
        return Ok(None);
    }
    let Some((udp_header, rest)) = payload.split_first_chunk::<8>() else {
        return Err(Fault::short(Stage::Link, at, "UDP header", 8, payload.len()));
    };
    let [.., e, f, _, _] = *udp_header;
    let promised = rest.len().saturating_add(datagram.missing);
    let len = match u16::from_be_bytes([e, f]) {
        // Segmentation offload leaves 0.
        0 => promised,
        len => match usize::from(len).checked_sub(8) {
            Some(rest) if rest <= promised => rest,
            _ => {
                let expected = "8 to the length of the IP payload";
                return Err(Fault::value(Stage::Link, at + 4, "UDP Length", u64::from(len), expected));
            }
        },
    };
    let missing = len.saturating_sub(rest.len());
    Ok(Some(Encapsulated { udp_header, payload: rest.get(..len).unwrap_or(rest), missing }))
}
