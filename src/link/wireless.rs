//! IEEE 802.11 data frames in the clear (IEEE 802.11-2016 §9.3.2), with or without a radiotap header.
//!
//! ```text
//! | frame control 2 | duration 2 | address 1 6 | address 2 6 | address 3 6 | sequence 2 | address 4 6 | QoS 2 | HT 4 |
//! | aa aa 03 00 00 00 | EtherType 2 | packet | FCS 4
//! ```

use super::frame::Network;
use crate::bytes::Reader;
use crate::error::{Fault, Stage};

/// Where in a data frame LLC and SNAP end: a reader at the EtherType. Else why there is no packet.
pub(super) fn data_frame(frame: &[u8], radiotap: bool) -> Result<Result<Reader<'_>, Network<'_>>, Fault> {
    const SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];
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
    if is_qos {
        let [qos, _] = reader.array()?;
        if qos & 0x80 != 0 {
            return other("an aggregate of IEEE 802.11 (A-MSDU)");
        }
        if flags & 0x80 != 0 {
            reader.take(4)?;
        }
    }
    if padded {
        let len = reader.position() - start;
        reader.take(len.next_multiple_of(4) - len)?;
    }
    if reader.array::<6>()? != SNAP {
        return other("no EtherType (IEEE 802.2)");
    }
    Ok(Ok(reader))
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
