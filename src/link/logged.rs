//! Packets in the log of a firewall.
//!
//! `LINKTYPE_PFLOG`, of pf in BSD: a header with its length, which is padded to 4 bytes:
//!
//! ```text
//! | length 1 | address family 1 | action, reason, interface, rule ... | packet
//! ```
//!
//! `LINKTYPE_NFLOG`, of Linux netfilter: numbers in the byte order of the capturing machine.
//!
//! ```text
//! | address family 1 | version 1 = 0 | resource 2 | ( length 2, with these 4 bytes | type 2 | value, padded to 4 bytes ) ...
//! ```

use super::encap::Next;
use super::link_type::of_family;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

pub(super) fn pflog(mut reader: Reader<'_>) -> Result<(Next, Reader<'_>), Fault> {
    reader = reader.named("PFLOG header");
    let [len, family] = reader.array()?;
    let rest = usize::from(len).next_multiple_of(4).checked_sub(2);
    let Some(rest) = rest else {
        return Err(Fault::value(Stage::Link, 0, "PFLOG length", u64::from(len), "61 or more"));
    };
    reader.take(rest)?;
    Ok((of_family(u32::from(family)), reader))
}

pub(super) fn nflog(mut reader: Reader<'_>) -> Result<(Next, Reader<'_>), Fault> {
    reader = reader.named("NFLOG header");
    let [family, version, ..] = reader.array::<4>()?;
    if version != 0 {
        return Err(Fault::value(Stage::Link, 1, "NFLOG version", u64::from(version), "0"));
    }
    // The capture does not name its byte order. The wrong one results in impossible lengths.
    let little = payload(reader, u16::from_le_bytes);
    let found = little.or_else(|fault| payload(reader, u16::from_be_bytes).map_err(|_| fault))?;
    Ok(match found {
        Some(reader) => (of_family(u32::from(family)), reader),
        None => (Next::Other("NFLOG without a packet"), reader),
    })
}

/// Returns a reader at the payload, if there is one.
fn payload(mut reader: Reader<'_>, number: fn([u8; 2]) -> u16) -> Result<Option<Reader<'_>>, Fault> {
    const PAYLOAD: u16 = 9;
    while reader.left() > 0 {
        let at = reader.position();
        let [len, kind] = [number(reader.array()?), number(reader.array()?)];
        let Some(value_len) = usize::from(len).checked_sub(4) else {
            return Err(Fault::value(Stage::Link, at, "NFLOG attribute length", u64::from(len), "4 or more"));
        };
        if kind == PAYLOAD {
            return Ok(Some(reader));
        }
        reader.take(value_len)?;
        // The padding of the last attribute may be missing.
        reader.take(reader.left().min(value_len.next_multiple_of(4) - value_len))?;
    }
    Ok(None)
}
