//! IEEE 802.11 data frames in the clear (IEEE 802.11-2016 §9.3.2), with or without a radiotap header.
//!
//! ```text
//! | frame control 2 | duration 2 | address 1 6 | address 2 6 | address 3 6 | sequence 2 | address 4 6 | QoS 2 | HT 4 |
//! | aa aa 03 00 00 00 | EtherType 2 | packet | FCS 4
//! ```
//!
//! Several packets of one sender may share a frame, an A-MSDU (§9.3.2.2.2); each but the last is padded to 4 bytes:
//!
//! ```text
//! | destination 6 | source 6 | length 2 | aa aa 03 00 00 00 | EtherType 2 | packet | padding |
//! ```

use super::frame::Network;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

const SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];
const NO_SNAP: &str = "no EtherType (IEEE 802.2)";

/// Where in a data frame LLC and SNAP end: a reader at the EtherType. Else why there is no packet, or where several are.
pub(super) fn data_frame(frame: &[u8], radiotap: bool) -> Result<Result<Reader<'_>, Network<'_>>, Fault> {
    let mut reader = Reader::new(Stage::Link, "IEEE 802.11 header", frame);
    let padded = radiotap && skip_radiotap(&mut reader)?;
    let start = reader.position();
    let [control, flags, ..] = reader.array::<24>()?;
    let other = |what| Ok(Err(Network::Other(what)));
    if control & 0x0f != 0x08 {
        return other("no IEEE 802.11 data frame");
    }
    let (is_null, is_qos) = (control & 0x40 != 0, control & 0x80 != 0);
    if is_null {
        return other("an IEEE 802.11 frame without data");
    }
    if flags & 0x40 != 0 {
        return other("encrypted on the link layer (IEEE 802.11)");
    }
    let sequence = frame.get(start + 22).copied().unwrap_or(0);
    if flags & 0x04 != 0 || sequence & 0xf != 0 {
        return other("a fragment of IEEE 802.11");
    }
    if flags & 3 == 3 {
        // From one access point to another: a fourth address.
        reader.take(6)?;
    }
    let mut is_aggregate = false;
    if is_qos {
        let [qos, _] = reader.array()?;
        is_aggregate = qos & 0x80 != 0;
        if flags & 0x80 != 0 {
            reader.take(4)?;
        }
    }
    if padded {
        let len = reader.position() - start;
        reader.take(len.next_multiple_of(4) - len)?;
    }
    if is_aggregate {
        return Ok(Err(Network::Aggregate { offset: reader.position() }));
    }
    if reader.array::<6>()? != SNAP {
        return other(NO_SNAP);
    }
    Ok(Ok(reader))
}

/// One of the packets of an A-MSDU.
pub(super) struct Subframe<'a> {
    /// A reader at the EtherType, or why there is none.
    pub ether_type: Result<Reader<'a>, &'static str>,
    /// Where it ends.
    pub end: usize,
    /// Where the next one starts.
    pub next: Option<usize>,
}

/// Reads the packet of an A-MSDU that starts at `offset` of `frame`.
pub(super) fn subframe(frame: &[u8], offset: usize) -> Result<Subframe<'_>, Fault> {
    const HEADER_LEN: usize = 14;
    let mut reader = Reader::new(Stage::Link, "A-MSDU subframe header", frame);
    reader.take(offset)?;
    reader.array::<12>()?;
    let len = usize::from(reader.u16()?);
    let end = reader.position() + len;
    let Some(own) = frame.get(..end) else {
        let has = frame.len() - reader.position();
        return Err(Fault::short(Stage::Link, reader.position(), "A-MSDU subframe", len, has));
    };
    let mut own = Reader::new(Stage::Link, "A-MSDU subframe", own);
    own.take(reader.position())?;
    let ether_type = if own.array::<6>()? == SNAP { Ok(own) } else { Err(NO_SNAP) };
    let next = offset + (HEADER_LEN + len).next_multiple_of(4);
    // An FCS of 4 bytes may follow the last one.
    Ok(Subframe { ether_type, end, next: (next + HEADER_LEN <= frame.len()).then_some(next) })
}

/// Skips the radiotap header; whether the 802.11 header is padded to 4 bytes.
fn skip_radiotap(reader: &mut Reader<'_>) -> Result<bool, Fault> {
    const TSFT: u32 = 1;
    const FLAGS: u32 = 1 << 1;
    const MORE: u32 = 1 << 31;
    const DATA_PAD: u8 = 0x20;
    let [version, _, low, high] = reader.array()?;
    if version != 0 {
        return Err(Fault::value(Stage::Link, 0, "radiotap version", u64::from(version), "0"));
    }
    let len = usize::from(u16::from_le_bytes([low, high]));
    let Some(rest) = len.checked_sub(4) else {
        return Err(Fault::value(Stage::Link, 2, "radiotap length", len as u64, "8 or more"));
    };
    let mut fields = Reader::new(Stage::Link, "radiotap header", reader.take(rest)?);
    let present = u32::from_le_bytes(fields.array()?);
    let mut more = present;
    while more & MORE != 0 {
        more = u32::from_le_bytes(fields.array()?);
    }
    if present & TSFT != 0 {
        // Aligned to 8 from the start of the header.
        let at = fields.position() + 4;
        fields.take(at.next_multiple_of(8) - at + 8)?;
    }
    Ok(present & FLAGS != 0 && fields.u8()? & DATA_PAD != 0)
}
