//! The trailer after the MAC frame: a CRC, the metadata of a TI radio, or nothing.
//!
//! `LINKTYPE_IEEE802_15_4_WITHFCS` promises a CRC of two bytes, but many captures contain something else. So the
//! first frames are checked, and the mode is decided for the whole file.

use crc::Crc;

/// The trailer after each 802.15.4 frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fcs {
    /// To be decided from the first frames.
    #[default]
    Auto,
    /// The FCS: ITU-T CRC-16 (IEEE 802.15.4-2015 §7.2.10).
    Crc,
    /// TI CC24xx metadata: RSSI, then CRC_OK (bit 7) and LQI.
    Ti,
    /// No trailer.
    None,
}

/// What a link header says about the trailer after the MAC frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::link) enum Trailer {
    /// Not specified: use [`Fcs::Auto`] or the user's choice.
    Unknown,
    /// No trailer.
    None,
    /// A CRC of 2 bytes.
    Crc16,
    /// A CRC of 4 bytes.
    Crc32,
    /// TI metadata.
    Ti,
}

/// Frames that are checked before the mode is final.
const SURVEYED: u32 = 1024;

/// Counts frames for each trailer that their last two bytes may be.
#[derive(Debug, Default)]
pub(in crate::link) struct Survey {
    frames: u32,
    good_crc: u32,
    crc_ok_bit: u32,
}

impl Survey {
    pub(in crate::link) fn is_complete(&self) -> bool {
        self.frames >= SURVEYED
    }

    /// Counts a frame that was captured in full.
    pub(in crate::link) fn count(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.good_crc += u32::from(crc16_is_good(frame));
        self.crc_ok_bit += u32::from(frame.last().is_some_and(|last| last >> 7 == 1));
    }

    /// The mode of the file; `Auto` if no frame was counted.
    pub(in crate::link) fn mode(&self) -> Fcs {
        if self.frames == 0 {
            Fcs::Auto
        } else if self.good_crc > self.frames / 2 {
            Fcs::Crc
        } else if self.crc_ok_bit >= self.frames - self.frames / 10 {
            Fcs::Ti
        } else {
            Fcs::None
        }
    }
}

/// Returns `frame` without its trailer, and how many bytes of the rest were not captured. `missing` bytes of
/// `frame` were not captured. Returns `None` if the trailer shows that the frame was damaged.
pub(in crate::link) fn strip(frame: &[u8], missing: usize, trailer: Trailer, mode: Fcs) -> Option<(&[u8], usize)> {
    let (len, good): (usize, fn(&[u8]) -> bool) = match (trailer, mode) {
        (Trailer::None, _) | (Trailer::Unknown, Fcs::None) => (0, |_| true),
        (Trailer::Crc16, _) | (Trailer::Unknown, Fcs::Crc) => (2, crc16_is_good),
        (Trailer::Crc32, _) => (4, crc32_is_good),
        (Trailer::Ti, _) | (Trailer::Unknown, Fcs::Ti) => (2, |frame| frame.last().is_some_and(|last| last >> 7 == 1)),
        // No mode is known yet, so decide for this frame alone.
        (Trailer::Unknown, Fcs::Auto) => (if missing == 0 && crc16_is_good(frame) { 2 } else { 0 }, |_| true),
    };
    if missing == 0 && !good(frame) {
        return None;
    }
    let there = len.saturating_sub(missing);
    Some((frame.get(..frame.len().saturating_sub(there))?, missing.saturating_sub(len)))
}

/// ITU-T CRC-16 (IEEE 802.15.4-2015 §7.2.10).
const CRC16: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_KERMIT);
const CRC32: Crc<u32> = Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// Whether the last two bytes are the CRC of the bytes before them.
fn crc16_is_good(frame: &[u8]) -> bool {
    let Some((data, fcs)) = frame.split_last_chunk::<2>() else { return false };
    !data.is_empty() && CRC16.checksum(data) == u16::from_le_bytes(*fcs)
}

/// Whether the last four bytes are the CRC of the bytes before them (IEEE 802.3), which are padded to at least 4
/// bytes (§7.2.10).
fn crc32_is_good(frame: &[u8]) -> bool {
    let Some((data, fcs)) = frame.split_last_chunk::<4>() else { return false };
    let mut crc = CRC32.digest();
    crc.update(data);
    crc.update([0; 4].get(data.len()..).unwrap_or_default());
    !data.is_empty() && crc.finalize() == u32::from_le_bytes(*fcs)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-16/KERMIT and of CRC-32 (catalogue of parametrised CRC algorithms).
    #[test]
    fn check_values() {
        assert!(crc16_is_good(b"123456789\x89\x21"));
        assert!(!crc16_is_good(b"123456789\x21\x89"));
        assert!(crc32_is_good(b"123456789\x26\x39\xf4\xcb"));
        // An acknowledgment as sent over the air: 02 00 and number 0x56. (IEEE 802.15.4-2015 §7.2.10 has a
        // different example.)
        assert!(!crc16_is_good(b"\x00\x00") && !crc32_is_good(b""));
    }

    #[test]
    fn most_frames_decide_the_mode() {
        let survey = |frames: &[(&[u8], u32)]| {
            let mut survey = Survey::default();
            frames.iter().for_each(|(frame, count)| (0..*count).for_each(|_| survey.count(frame)));
            survey.mode()
        };
        let (good, ti, plain) = (b"123456789\x89\x21", b"123\x11\xeb", b"123\x11\x6b");
        assert_eq!(survey(&[]), Fcs::Auto);
        assert_eq!(survey(&[(good, 51), (plain, 49)]), Fcs::Crc);
        assert_eq!(survey(&[(good, 50), (ti, 50)]), Fcs::None);
        assert_eq!(survey(&[(ti, 90), (plain, 10)]), Fcs::Ti);
        assert_eq!(survey(&[(ti, 89), (plain, 11)]), Fcs::None);
    }

    #[test]
    fn the_trailer_is_removed() {
        let good = b"123456789\x89\x21";
        assert_eq!(strip(good, 0, Trailer::Unknown, Fcs::Crc), Some((&good[..9], 0)));
        assert_eq!(strip(good, 0, Trailer::Unknown, Fcs::Auto), Some((&good[..9], 0)));
        assert_eq!(strip(good, 0, Trailer::Unknown, Fcs::None), Some((&good[..], 0)));
        assert_eq!(strip(&good[..10], 0, Trailer::Crc16, Fcs::None), None);
        // Truncated by one byte, by two, by five.
        assert_eq!(strip(&good[..10], 1, Trailer::Crc16, Fcs::Auto), Some((&good[..9], 0)));
        assert_eq!(strip(&good[..9], 2, Trailer::Crc16, Fcs::Auto), Some((&good[..9], 0)));
        assert_eq!(strip(&good[..6], 5, Trailer::Crc16, Fcs::Auto), Some((&good[..6], 3)));
        assert_eq!(strip(b"123\x11\xeb", 0, Trailer::Ti, Fcs::Auto), Some((&b"123"[..], 0)));
        assert_eq!(strip(b"123\x11\x6b", 0, Trailer::Ti, Fcs::Auto), None);
    }
}
