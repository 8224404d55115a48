//! LISP data packets (RFC 9300 §5.3, UDP port 4341):
//!
//! ```text
//! | flags 1 | nonce or map version 3 | instance, locator status 4 | IP packet
//! ```

use super::Next;
use crate::bytes::Reader;
use crate::error::Fault;
use crate::net::ip;

/// Reads the header.
pub(super) fn header(reader: &mut Reader<'_>) -> Result<Next, Fault> {
    reader.take(8)?;
    Ok(match ip::version(reader.rest()) {
        Some(_) => Next::Ip(None),
        _ => Next::Other("no IP packet in LISP"),
    })
}
