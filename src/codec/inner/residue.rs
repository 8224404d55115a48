//! Reading a residue: headers, whole bytes, and the payload after it.

use crate::bits;
use crate::codec::restored::Warnings;
use crate::error::{Fault, Stage};
use crate::schc::{Compiled, ResidueError};

/// Reads a residue.
pub(super) struct ResidueReader<'a> {
    pub bytes: &'a [u8],
    /// Number of bits read.
    pub at: usize,
    /// Offset of `bytes` in the clear text.
    pub offset: usize,
}

impl<'a> ResidueReader<'a> {
    /// Restores a header and appends it.
    pub(super) fn expand(&mut self, rule: &Compiled, packet: &mut Vec<u8>) -> Result<(), Fault> {
        self.at = rule.expand(self.bytes, self.at, packet).map_err(|unreadable| match unreadable {
            ResidueError::Short { needs_bits } => self.short(needs_bits),
            ResidueError::Index { field, got, at } => {
                let offset = self.offset + at / 8;
                Fault::value(Stage::Inner, offset, field.key, got, "an index in the list of the context")
            }
        })?;
        Ok(())
    }

    /// Appends `len` whole bytes, which may start at any bit.
    pub(super) fn take(&mut self, len: usize, packet: &mut Vec<u8>) -> Result<(), Fault> {
        let start = packet.len();
        packet.resize(start + len, 0);
        let to = packet.get_mut(start..).unwrap_or_default();
        bits::copy(self.bytes, self.at, to, 0, len * 8).ok_or_else(|| self.short(self.at + len * 8))?;
        self.at += len * 8;
        Ok(())
    }

    #[cold]
    pub(super) fn short(&self, needs_bits: usize) -> Fault {
        Fault::short(Stage::Inner, self.offset, "residue", needs_bits.div_ceil(8), self.bytes.len())
    }

    /// The bytes after the residue. A warning if its padding bits are not 0.
    pub(super) fn payload(&self, warnings: &mut Warnings) -> &'a [u8] {
        let pad_bits = self.at.next_multiple_of(8) - self.at;
        let zero = bits::read(self.bytes, self.at, pad_bits).unwrap_or(0) == 0;
        warnings.add_if(!zero, Warnings::NONZERO_PAD_BITS);
        self.bytes.get(self.at.div_ceil(8)..).unwrap_or_default()
    }
}
