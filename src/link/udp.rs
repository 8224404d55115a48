//! ESP in UDP (RFC 3948), and likewise in UDP-Lite:
//!
//! ```text
//! | UDP header 8 | ESP, or 4 bytes 0 and IKE, or the byte ff
//! ```

use crate::error::{Fault, Stage};
use crate::net::protocol::{UDP, UDP_LITE};
use crate::net::udp::{self, Udp};
use crate::net::{Datagram, esp, ports};

/// The UDP ports that carry ESP: 4500, and those that the user named.
#[derive(Debug, Clone, Default)]
pub struct EspPorts(Vec<u16>);

impl EspPorts {
    /// Port 4500 and `others`.
    pub fn with(others: &[u16]) -> EspPorts {
        EspPorts(others.to_vec())
    }

    /// Whether there are ports besides 4500.
    #[inline]
    pub fn has_others(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether ESP may come from or go to this port.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        port == esp::UDP_PORT || self.0.contains(&port)
    }
}

/// The payload of a UDP datagram.
#[derive(Debug, Clone, Copy)]
pub struct Encapsulated<'a> {
    /// The UDP header.
    pub udp_header: &'a [u8; udp::HEADER_LEN],
    /// The data after the header, up to the UDP Length.
    pub payload: &'a [u8],
    /// Bytes that the UDP Length includes, but that were not captured (snap length).
    pub missing: usize,
}

/// The UDP payload of `datagram` if it is UDP or UDP-Lite from or to one of `esp_ports`. It may be ESP, IKE or a
/// keepalive.
///
/// Returns a fault, with its offset in the frame, if the UDP header is truncated or its Length is invalid.
///
/// # Errors
/// The UDP header is truncated, or its length is wrong.
pub fn udp_encapsulation<'a>(datagram: &Datagram<'a>, esp_ports: &EspPorts) -> Result<Option<Encapsulated<'a>>, Fault> {
    if !matches!(datagram.protocol, UDP | UDP_LITE) {
        return Ok(None);
    }
    match ports(datagram.payload) {
        Some(ports) if ports.iter().any(|port| esp_ports.contains(*port)) => segment(datagram).map(Some),
        _ => Ok(None),
    }
}

/// Header and payload of a datagram of UDP or UDP-Lite.
///
/// Returns a fault as [`udp_encapsulation`] does.
pub(super) fn segment<'a>(datagram: &Datagram<'a>) -> Result<Encapsulated<'a>, Fault> {
    let at = datagram.frame_offset.saturating_add(datagram.header.len());
    let payload = datagram.payload;
    let Some((header, rest)) = Udp::split(payload) else {
        return Err(Fault::short(Stage::Link, at, "UDP header", udp::HEADER_LEN, payload.len()));
    };
    let promised = rest.len().saturating_add(datagram.missing);
    let is_lite = datagram.protocol == UDP_LITE;
    // In UDP-Lite, the number of bytes that the checksum covers is here.
    let len = match header.length() {
        // Segmentation offload leaves the field 0.
        0 => promised,
        len => match usize::from(len).checked_sub(udp::HEADER_LEN) {
            Some(rest) if rest <= promised => {
                if is_lite {
                    promised
                } else {
                    rest
                }
            }
            _ => {
                let what = if is_lite { "UDP-Lite Checksum Coverage" } else { "UDP Length" };
                let expected = "8 to the length of the IP payload";
                return Err(Fault::value(Stage::Link, at + 4, what, u64::from(len), expected));
            }
        },
    };
    let missing = len.saturating_sub(rest.len());
    Ok(Encapsulated { udp_header: header.into_bytes(), payload: rest.get(..len).unwrap_or(rest), missing })
}
