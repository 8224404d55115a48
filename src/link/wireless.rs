//! IEEE 802.11 data frames in the clear (IEEE 802.11-2016 §9.3.2), with or without a radiotap header.
//!
//! ```text
//! | frame control 2 | duration 2 | address 1 6 | address 2 6 | address 3 6 | sequence 2 | address 4 6 | QoS 2 | HT 4 |
//! | aa aa 03 00 00 00 | EtherType 2 | packet | FCS 4
//! ```
//!
//! A frame may contain several packets of one sender: an A-MSDU (§9.3.2.2.2). Each but the last is padded to 4
//! bytes:
//!
//! ```text
//! | destination 6 | source 6 | length 2 | aa aa 03 00 00 00 | EtherType 2 | packet | padding |
//! ```
//!
//! Control frames are shorter (§9.3.1): ACK and CTS end after address 1, RTS and CF-End after address 2.

use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// The content of an IEEE 802.11 frame.
pub(super) enum Content<'a> {
    /// A packet, with a reader at its LLC header.
    Packet(Reader<'a>),
    /// Several packets, from `offset` on.
    Aggregate { offset: usize },
    /// Something else, which the text names.
    Other(&'static str),
}

/// The offset at which the header of a data frame ends, or why there is no packet.
pub(super) fn data_frame(mut reader: Reader<'_>, radiotap: bool) -> Result<Content<'_>, Fault> {
    reader = reader.named("IEEE 802.11 header");
    let padded = radiotap && skip_radiotap(&mut reader)?;
    let whole = reader;
    let other = |what| Ok(Content::Other(what));
    let [control, _] = reader.array()?;
    if control & 0x0f != 0x08 {
        reader.take(least_len(control).saturating_sub(2))?;
        return other("no IEEE 802.11 data frame");
    }
    let (mut reader, start) = (whole, whole.position());
    let [control, flags, header @ ..] = reader.array::<24>()?;
    let (is_null, is_qos) = (control & 0x40 != 0, control & 0x80 != 0);
    if is_null {
        return other("an IEEE 802.11 frame without data");
    }
    if flags & 0x40 != 0 {
        return other("encrypted on the link layer (IEEE 802.11)");
    }
    if flags & 0x04 != 0 || header[20] & 0xf != 0 {
        return other("a fragment of IEEE 802.11");
    }
    if flags & 3 == 3 {
        // Between two access points, there is a fourth address.
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
    Ok(match is_aggregate {
        true => Content::Aggregate { offset: reader.position() },
        false => Content::Packet(reader),
    })
}

/// Minimum length of a frame without data, by the first byte of its frame control.
fn least_len(control: u8) -> usize {
    const BLOCK_ACK_REQUEST: u8 = 8;
    const BLOCK_ACK: u8 = 9;
    const PS_POLL: u8 = 10;
    const RTS: u8 = 11;
    const CF_END: u8 = 14;
    const CF_END_ACK: u8 = 15;
    match (control & 0x0f, control >> 4) {
        // Management frames.
        (0x00, _) => 24,
        (0x04, BLOCK_ACK_REQUEST | BLOCK_ACK | PS_POLL | RTS | CF_END | CF_END_ACK) => 16,
        (0x04, _) => 10,
        // Extension frames, and protocol version 1 with its shorter headers.
        _ => 2,
    }
}

/// One of the packets of an A-MSDU.
pub(super) struct Subframe<'a> {
    /// A reader at the LLC header.
    pub llc: Reader<'a>,
    /// The offset at which the packet ends.
    pub end: usize,
    /// The offset at which the next packet starts.
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
    let mut llc = Reader::new(Stage::Link, "A-MSDU subframe", own);
    llc.take(reader.position())?;
    let next = offset + (HEADER_LEN + len).next_multiple_of(4);
    // An FCS of 4 bytes may follow the last packet.
    Ok(Subframe { llc, end, next: (next + HEADER_LEN <= frame.len()).then_some(next) })
}

/// Skips the radiotap header. Returns whether the 802.11 header is padded to 4 bytes.
fn skip_radiotap(reader: &mut Reader<'_>) -> Result<bool, Fault> {
    const TSFT: u32 = 1;
    const FLAGS: u32 = 1 << 1;
    const MORE: u32 = 1 << 31;
    const DATA_PAD: u8 = 0x20;
    let at = reader.position();
    let [version, _, low, high] = reader.array()?;
    if version != 0 {
        return Err(Fault::value(Stage::Link, at, "radiotap version", u64::from(version), "0"));
    }
    let len = usize::from(u16::from_le_bytes([low, high]));
    let Some(rest) = len.checked_sub(4) else {
        return Err(Fault::value(Stage::Link, at + 2, "radiotap length", len as u64, "8 or more"));
    };
    let mut fields = Reader::new(Stage::Link, "radiotap header", reader.take(rest)?);
    let present = u32::from_le_bytes(fields.array()?);
    let mut more = present;
    while more & MORE != 0 {
        more = u32::from_le_bytes(fields.array()?);
    }
    if present & TSFT != 0 {
        // Fields are aligned to 8 bytes from the start of the header.
        let at = fields.position() + 4;
        fields.take(at.next_multiple_of(8) - at + 8)?;
    }
    Ok(present & FLAGS != 0 && fields.u8()? & DATA_PAD != 0)
}
