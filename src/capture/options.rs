//! pcapng options (draft-ietf-opsawg-pcapng §3.5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |          Option Type          |         Option Length         |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! /       Option Value, variable length, padded to 32 bits        /
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

/// Ends a list of options.
pub(super) const END: u16 = 0;
/// A comment. The draft requires UTF-8.
pub(super) const COMMENT: u16 = 1;
/// Flags of a packet: direction, reception type, length of the frame check sequence, errors.
const EPB_FLAGS: u16 = 2;
/// Bits of [`EPB_FLAGS`] that stay valid if the bytes of the packet change.
const DIRECTION_AND_RECEPTION: u32 = 0x1f;
/// A hash of the bytes of a packet.
const EPB_HASH: u16 = 3;
/// Custom options that must not be copied to a block with other content.
const CUSTOM_TEXT_NOT_COPIED: u16 = 19372;
const CUSTOM_BYTES_NOT_COPIED: u16 = 19373;
/// Unit of time stamps.
pub(super) const IF_TSRESOL: u16 = 9;
/// Length of the frame check sequence at the end of each frame, in bits.
pub(super) const IF_FCSLEN: u16 = 13;
/// Seconds to be added to time stamps.
pub(super) const IF_TSOFFSET: u16 = 14;

/// The options of a block as they are in the file. A truncated list ends at the last complete option.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    bytes: &'a [u8],
    big_endian: bool,
}

impl<'a> Options<'a> {
    pub(super) fn new(bytes: &'a [u8], big_endian: bool) -> Options<'a> {
        Options { bytes, big_endian }
    }

    /// Type and value of each option, in file order; integers in values are in the byte order of the section.
    pub fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let Options { bytes: mut rest, big_endian } = self;
        std::iter::from_fn(move || {
            let (header, after) = rest.split_first_chunk::<4>()?;
            let [c0, c1, l0, l1] = *header;
            let [code, len] = [[c0, c1], [l0, l1]].map(|field| match big_endian {
                true => u16::from_be_bytes(field),
                false => u16::from_le_bytes(field),
            });
            let len = usize::from(len);
            let value = after.get(..len).filter(|_| code != END)?;
            rest = after.get(len.next_multiple_of(4)..).unwrap_or_default();
            Some((code, value))
        })
    }

    /// An integer of a value.
    fn u32(self, bytes: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
    }

    /// The comments (opt_comment). The draft requires UTF-8, but files may contain other bytes.
    pub fn comments(self) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|(code, _)| *code == COMMENT).map(|(_, value)| value)
    }
}

/// Options that outlive the window they were read into.
#[derive(Debug, Clone, Default)]
pub(super) struct OwnedOptions {
    bytes: Vec<u8>,
    big_endian: bool,
}

impl OwnedOptions {
    pub(super) fn as_options(&self) -> Options<'_> {
        Options { bytes: &self.bytes, big_endian: self.big_endian }
    }
}

impl Options<'_> {
    pub(super) fn to_owned(self) -> OwnedOptions {
        OwnedOptions { bytes: self.bytes.to_vec(), big_endian: self.big_endian }
    }
}

/// Appends one option, little-endian. A value over 65,535 bytes is truncated.
pub(super) fn push(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let value = value.get(..usize::from(len)).unwrap_or_default();
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Which block options belong to: the same type means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    InterfaceDescription,
    EnhancedPacket,
}

/// Appends `options` without their end, little-endian. Converts types and lengths, and values that the draft defines as
/// integers; copies all other values. `out` must be aligned to 32 bits.
pub(super) fn copy(out: &mut Vec<u8>, options: Options<'_>, block: Block) {
    for (code, value) in options.iter() {
        copy_one(out, (code, value), options.big_endian, block);
    }
}

/// Appends the options of a packet like [`copy`], except those that describe its former bytes: hash, length of the
/// frame check sequence, errors, checksums, and custom options that must not be copied to a changed block.
pub(super) fn copy_for_new_data(out: &mut Vec<u8>, options: Options<'_>) {
    for (code, value) in options.iter() {
        match (code, value.first_chunk::<4>()) {
            (EPB_HASH | CUSTOM_TEXT_NOT_COPIED | CUSTOM_BYTES_NOT_COPIED, _) => {}
            (EPB_FLAGS, Some(flags)) => {
                push(out, EPB_FLAGS, &(options.u32(*flags) & DIRECTION_AND_RECEPTION).to_le_bytes());
            }
            _ => copy_one(out, (code, value), options.big_endian, Block::EnhancedPacket),
        }
    }
}

/// Appends the options of an interface for frames whose frame check sequence was removed.
pub(super) fn copy_for_frames_without_fcs(out: &mut Vec<u8>, options: Options<'_>) {
    for (code, value) in options.iter() {
        if !matches!(code, IF_FCSLEN | CUSTOM_TEXT_NOT_COPIED | CUSTOM_BYTES_NOT_COPIED) {
            copy_one(out, (code, value), options.big_endian, Block::InterfaceDescription);
        }
    }
}

/// Length of the frame check sequence that the flags of a packet declare; 0 if they declare none.
pub(super) fn fcs_len(options: Options<'_>) -> u32 {
    let flags = options.iter().find(|(code, _)| *code == EPB_FLAGS).and_then(|(_, value)| value.first_chunk::<4>());
    flags.map_or(0, |flags| options.u32(*flags) >> 5 & 0xf)
}

fn copy_one(out: &mut Vec<u8>, (code, value): (u16, &[u8]), big_endian: bool, block: Block) {
    let value_at = out.len() + 4;
    push(out, code, value);
    let integer_len = integer_len(block, code);
    if big_endian && value.len() >= integer_len {
        out.get_mut(value_at..value_at + integer_len).unwrap_or_default().reverse();
    }
}

/// Length of the integer at the start of an option's value.
fn integer_len(block: Block, code: u16) -> usize {
    match (block, code) {
        // if_speed, if_tsoffset, if_txspeed, if_rxspeed
        (Block::InterfaceDescription, 8 | IF_TSOFFSET | 16 | 17) => 8,
        // if_tzone
        (Block::InterfaceDescription, 10) => 4,
        // epb_flags, epb_queue
        (Block::EnhancedPacket, EPB_FLAGS | 6) => 4,
        // epb_dropcount, epb_packetid
        (Block::EnhancedPacket, 4 | 5) => 8,
        // Custom options start with a Private Enterprise Number.
        (_, 2988 | 2989 | CUSTOM_TEXT_NOT_COPIED | CUSTOM_BYTES_NOT_COPIED) => 4,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_breaks_off_ends_at_the_last_whole_option() {
        let bytes = [1, 0, 3, 0, b'a', 0xff, b'c', 0, 1, 0, 9, 0, b'x'];
        let found: Vec<_> = Options::new(&bytes, false).iter().collect();
        assert_eq!(found, [(COMMENT, &b"a\xffc"[..])]);
        // The padding of the last option may be missing. Everything after opt_endofopt is ignored.
        let found: Vec<_> = Options::new(&[0, 1, 0, 1, b'a'], true).comments().collect();
        assert_eq!(found, [b"a"]);
        assert_eq!(Options::new(&[0, 0, 0, 0, 1, 0, 0, 0], false).iter().count(), 0);
    }

    #[test]
    fn what_describes_the_old_bytes_is_dropped_with_them() {
        for big_endian in [false, true] {
            let order = |flags: u32| if big_endian { flags.to_be_bytes() } else { flags.to_le_bytes() };
            let mut list = vec![];
            let mut add = |code: u16, value: &[u8]| match big_endian {
                false => push(&mut list, code, value),
                true => {
                    list.extend([code, value.len() as u16].map(u16::to_be_bytes).concat());
                    list.extend(value);
                    list.resize(list.len().next_multiple_of(4), 0);
                }
            };
            // Outbound and broadcast; a frame check sequence of 4 bytes, a checksum to come, a wrong frame check sequence.
            add(2, &order(0x0100_0000 | 1 << 9 | 4 << 5 | 3 << 2 | 2));
            add(3, &[2, 1, 2, 3, 4]);
            add(COMMENT, b"a comment");
            add(5, &[1; 8]);
            add(7, &[1, 9]);
            add(2988, &[1; 8]);
            add(19372, &[1; 8]);
            add(19373, &[1; 8]);
            let mut out = vec![];
            copy_for_new_data(&mut out, Options::new(&list, big_endian));
            let kept: Vec<_> = Options::new(&out, false).iter().collect();
            let flags = [0b01110, 0, 0, 0];
            assert_eq!(kept, [(2, &flags[..]), (COMMENT, b"a comment"), (5, &[1; 8]), (7, &[1, 9]), (2988, &[1; 8])]);
        }
    }

    #[test]
    fn only_integers_change_their_byte_order() {
        let big = [
            0, 2, 0, 4, 0, 0, 0, 1, // epb_flags 1: inbound
            0, 3, 0, 5, 2, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, // epb_hash: CRC32
            0x0b, 0xac, 0, 5, 0, 0, 0x7e, 0xd9, b'x', 0, 0, 0, // custom option of PEN 32473
            0x12, 0x34, 0, 2, 1, 2, 0, 0, // not known
            0, 2, 0, 2, 1, 2, 0, 0, // epb_flags of a wrong length
        ];
        let little = [
            2, 0, 4, 0, 1, 0, 0, 0, //
            3, 0, 5, 0, 2, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, //
            0xac, 0x0b, 5, 0, 0xd9, 0x7e, 0, 0, b'x', 0, 0, 0, //
            0x34, 0x12, 2, 0, 1, 2, 0, 0, //
            2, 0, 2, 0, 1, 2, 0, 0,
        ];
        let mut out = Vec::new();
        copy(&mut out, Options::new(&big, true), Block::EnhancedPacket);
        assert_eq!(out, little);
        out.clear();
        copy(&mut out, Options::new(&little, false), Block::EnhancedPacket);
        assert_eq!(out, little);
    }
}
