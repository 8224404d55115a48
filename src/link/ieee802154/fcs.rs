//! What stands behind the MAC frame: a CRC, what a TI radio puts in its place, or nothing.
//!
//! `LINKTYPE_IEEE802_15_4_WITHFCS` says that there are two bytes, and many captures are of another kind. So the first
//! frames are counted, and the mode is decided for the file.

use crc::Crc;

/// The two bytes behind the MAC frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fcs {
    /// Decided by the first frames.
    #[default]
    Auto,
    /// The FCS: ITU-T CRC-16 (IEEE 802.15.4-2015 §7.2.10).
    Crc,
    /// TI CC24xx metadata: RSSI, then CRC_OK (bit 7) and LQI.
    Ti,
    /// Nothing.
    None,
}

/// What a link header says about the bytes behind the MAC frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::link) enum Trailer {
    /// Nothing: [`Fcs::Auto`] or the user's choice.
    Unknown,
    /// No FCS.
    None,
    /// A CRC of 2 bytes.
    Crc16,
    /// A CRC of 4 bytes.
    Crc32,
    /// TI metadata.
    Ti,
}

/// Frames that are counted before the mode is final.
const SURVEYED: u32 = 1024;

/// Counts frames by what their last two bytes can be.
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

    /// Counts a frame that was captured whole.
    pub(in crate::link) fn count(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.good_crc += u32::from(crc16_is_good(frame));
        self.crc_ok_bit += u32::from(frame.last().is_some_and(|last| last >> 7 == 1));
    }

    /// The mode of the file; `Auto` if there was no frame.
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

/// `frame` without the bytes behind the MAC frame, of which the capture lacks `missing`; and how many it then lacks
/// still. `None` if they say that the frame was damaged.
pub(in crate::link) fn strip(frame: &[u8], missing: usize, trailer: Trailer, mode: Fcs) -> Option<(&[u8], usize)> {
    let (len, good): (usize, fn(&[u8]) -> bool) = match (trailer, mode) {
        (Trailer::None, _) | (Trailer::Unknown, Fcs::None) => (0, |_| true),
        (Trailer::Crc16, _) | (Trailer::Unknown, Fcs::Crc) => (2, crc16_is_good),
        (Trailer::Crc32, _) => (4, crc32_is_good),
        (Trailer::Ti, _) | (Trailer::Unknown, Fcs::Ti) => (2, |frame| frame.last().is_some_and(|last| last >> 7 == 1)),
        // Nothing is known yet: each frame for itself.
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

/// Whether the last two bytes are the CRC of the others.
fn crc16_is_good(frame: &[u8]) -> bool {
    let Some((data, fcs)) = frame.split_last_chunk::<2>() else { return false };
    !data.is_empty() && CRC16.checksum(data) == u16::from_le_bytes(*fcs)
}

/// Whether the last four bytes are the CRC of the others (IEEE 802.3), which are padded to at least 4 bytes (§7.2.10).
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
        // An acknowledgment as it goes over the air: 02 00 and number 0x56 (IEEE 802.15.4-2015 §7.2.10 has another).
        assert!(!crc16_is_good(b"\x00\x00") && !crc32_is_good(b""));
    }

    #[test]
    fn the_mode_is_that_of_most_frames() {
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
    fn what_is_taken_off() {
        let good = b"123456789\x89\x21";
        assert_eq!(strip(good, 0, Trailer::Unknown, Fcs::Crc), Some((&good[..9], 0)));
        assert_eq!(strip(good, 0, Trailer::Unknown, Fcs::Auto), Some((&good[..9], 0)));
        assert_eq!(strip(good, 0, Trailer::Unknown, Fcs::None), Some((&good[..], 0)));
        assert_eq!(strip(&good[..10], 0, Trailer::Crc16, Fcs::None), None);
        // Cut by one byte, by two, by five.
        assert_eq!(strip(&good[..10], 1, Trailer::Crc16, Fcs::Auto), Some((&good[..9], 0)));
        assert_eq!(strip(&good[..9], 2, Trailer::Crc16, Fcs::Auto), Some((&good[..9], 0)));
        assert_eq!(strip(&good[..6], 5, Trailer::Crc16, Fcs::Auto), Some((&good[..6], 3)));
        assert_eq!(strip(b"123\x11\xeb", 0, Trailer::Ti, Fcs::Auto), Some((&b"123"[..], 0)));
        assert_eq!(strip(b"123\x11\x6b", 0, Trailer::Ti, Fcs::Auto), None);
    }
}
