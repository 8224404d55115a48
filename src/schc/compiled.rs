//! Compiled rules: a header template, and the runs of bits that the residue holds.

use super::fields::FieldId;
use super::rule::{
    Action, Direction, FieldDescriptor, FieldLength, Matching, Rule, RuleError, header_order, index_bits,
};
use crate::bits;

/// A [`Rule`] ready for use: every offset is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    header_bits: usize,
    residue_bits: usize,
    /// The header bits that the rule knows; all other bits are 0.
    template: Box<[u8]>,
    /// The bits of a header that must be equal to those of `template`.
    mask: Box<[u8]>,
    /// The parts of the residue, in order.
    parts: Box<[ResiduePart]>,
    /// The position of each field, used to name the one that does not match.
    slots: Box<[FieldPlace]>,
}

/// A part of the residue. Offsets and lengths are in bits of the header.
#[derive(Debug, Clone, PartialEq, Eq)]
enum ResiduePart {
    /// Header bits that are sent unchanged. Neighboring fields are merged into one run.
    Copy { at: usize, bits: usize },
    /// The index of a value.
    Index { field: FieldId, at: usize, bits: usize, index_bits: usize, values: Box<[u128]> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct FieldPlace {
    field: FieldId,
    at: usize,
    bits: usize,
}

/// The field that does not match a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldMismatch {
    /// The field.
    pub field: FieldId,
    /// Its value.
    pub got: u128,
    /// The expected value of the masked bits; `None` if the value is not in a list.
    pub expected: Option<u128>,
}

/// Why a residue cannot be expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResidueError {
    /// The residue has fewer bits than the rule needs.
    Short {
        /// Bits needed, from the start of the residue.
        needs_bits: usize,
    },
    /// An index is not in the list of a mapping.
    Index {
        /// The field.
        field: FieldId,
        /// The index.
        got: u64,
        /// Its offset in bits.
        at: usize,
    },
}

impl Rule {
    /// Compiles the rows that apply to `direction` ([`Direction::Both`]: all rows, and the device is the source).
    ///
    /// Residue and header have the order of the rows. Exception: for neighboring rows that are named after the ends
    /// of the link (`DEV_`, `APP_`), the source comes first in the header.
    ///
    /// # Errors
    /// The first row that cannot be compiled.
    pub fn compile(&self, direction: Direction) -> Result<Compiled, RuleError> {
        let rows = self.rows(direction);
        let mut places = vec![(0, None); rows.len()];
        let mut at = 0;
        for (index, field) in header_order(&rows, direction) {
            if let (Some(row), Some(place)) = (rows.get(index), places.get_mut(index)) {
                *place = (at, Some(field));
                at += match row.length {
                    FieldLength::Fixed(bits) => usize::from(bits),
                    FieldLength::Function | FieldLength::Variable => 0,
                };
            }
        }
        let mut compiler = Compiler::default();
        for (row, (at, field)) in rows.into_iter().zip(places) {
            compiler.add(row, field.unwrap_or(row.fid), at).map_err(|problem| RuleError { field: row.fid, problem })?;
        }
        Ok(compiler.finish())
    }
}

#[derive(Default)]
struct Compiler {
    header_bits: usize,
    residue_bits: usize,
    template: Vec<u8>,
    mask: Vec<u8>,
    parts: Vec<ResiduePart>,
    slots: Vec<FieldPlace>,
}

impl Compiler {
    fn add(&mut self, row: &FieldDescriptor, field: FieldId, at: usize) -> Result<(), &'static str> {
        row.check()?;
        let FieldLength::Fixed(bits) = row.length else {
            return Err("a length that varies is not supported here");
        };
        let bits = usize::from(bits);
        self.header_bits = self.header_bits.max(at + bits);
        self.template.resize(self.header_bits.div_ceil(8), 0);
        self.mask.resize(self.header_bits.div_ceil(8), 0);
        self.slots.push(FieldPlace { field, at, bits });

        let all = u128::MAX >> (128 - bits);
        let value = row.target.value();
        let msb = match row.matching {
            Matching::Msb(msb) => usize::from(msb),
            _ => 0,
        };
        let mask = match row.matching {
            Matching::Equal => all,
            Matching::Msb(_) => all & !all.checked_shr(msb as u32).unwrap_or(0),
            Matching::Ignore | Matching::MatchMapping => 0,
        };
        let known = match row.action {
            Action::NotSent => all,
            Action::Lsb => {
                self.copy(at + msb, bits - msb);
                mask
            }
            Action::ValueSent => {
                self.copy(at, bits);
                0
            }
            Action::MappingSent => {
                let values = row.target.list();
                let index_bits = index_bits(values.len());
                self.residue_bits += index_bits;
                self.parts.push(ResiduePart::Index { field, at, bits, index_bits, values: values.into() });
                0
            }
            Action::Nearest(low) if usize::from(low) > bits => return Err("it has fewer bits than are sent"),
            Action::Nearest(low) => {
                self.copy(at + bits - usize::from(low), low.into());
                0
            }
            Action::Compute(_) => 0,
        };
        // A computed field is 0 in the template, but may have to match. The template contains the value for
        // whichever of the two is needed.
        let held = value.unwrap_or(0) & (known | mask);
        let fits = bits::write(&mut self.template, at, bits, held).and(bits::write(&mut self.mask, at, bits, mask));
        fits.ok_or("its place is outside the header")
    }

    fn copy(&mut self, at: usize, bits: usize) {
        self.residue_bits += bits;
        match self.parts.last_mut() {
            Some(ResiduePart::Copy { at: last_at, bits: last_bits }) if *last_at + *last_bits == at => {
                *last_bits += bits
            }
            _ if bits > 0 => self.parts.push(ResiduePart::Copy { at, bits }),
            _ => {}
        }
    }

    fn finish(self) -> Compiled {
        Compiled {
            header_bits: self.header_bits,
            residue_bits: self.residue_bits,
            template: self.template.into(),
            mask: self.mask.into(),
            parts: self.parts.into(),
            slots: self.slots.into(),
        }
    }
}

impl Compiled {
    /// Length in bits of the header that the rule describes.
    pub fn header_bits(&self) -> usize {
        self.header_bits
    }

    /// Length of that header in bytes, rounded up.
    pub fn header_len(&self) -> usize {
        self.template.len()
    }

    /// Length of the residue in bits.
    pub fn residue_bits(&self) -> usize {
        self.residue_bits
    }

    /// Checks `header`, which starts with the bits that the rule describes, and writes its residue into `residue`
    /// from bit `at` on. Returns the position after the residue.
    ///
    /// `header` must have [`Compiled::header_bits`] bits, and `residue` must have room for the residue.
    ///
    /// # Errors
    /// The first field that the rule does not match.
    #[inline]
    pub fn compress(&self, header: &[u8], residue: &mut [u8], at: usize) -> Result<usize, FieldMismatch> {
        self.compressed(header, residue, at).ok_or_else(|| self.unmatched(header))
    }

    /// Like [`Compiled::compress`], but returns no reason. The reason would make the result much larger.
    fn compressed(&self, header: &[u8], residue: &mut [u8], at: usize) -> Option<usize> {
        debug_assert!(header.len() >= self.header_len());
        if !self.matches(header) {
            return None;
        }
        let mut end = at;
        for part in &self.parts {
            match part {
                ResiduePart::Copy { at, bits } => {
                    let copied = bits::copy(header, *at, residue, end, *bits);
                    debug_assert!(copied.is_some());
                    end += bits;
                }
                ResiduePart::Index { at, bits, index_bits, values, .. } => {
                    let value = bits::read(header, *at, *bits).unwrap_or(0);
                    let index = values.iter().position(|listed| *listed == value)?;
                    let written = bits::write(residue, end, *index_bits, index as u128);
                    debug_assert!(written.is_some());
                    end += index_bits;
                }
            }
        }
        Some(end)
    }

    /// Whether the bits of `header` match those that the rule knows.
    fn matches(&self, header: &[u8]) -> bool {
        let Some((words, bytes)) = header.get(..self.template.len()).map(<[u8]>::as_chunks::<8>) else { return false };
        let (known_words, known_bytes) = self.template.as_chunks();
        let (mask_words, mask_bytes) = self.mask.as_chunks();
        let known = known_words.iter().zip(mask_words);
        let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
        let differing =
            words.iter().zip(known).fold(0, |bits, (got, (known, mask))| bits | (word(got) ^ word(known)) & word(mask));
        let known = known_bytes.iter().zip(mask_bytes);
        bytes.iter().zip(known).fold(differing, |bits, (got, (known, mask))| bits | u64::from((got ^ known) & mask))
            == 0
    }

    /// Appends the header to `out`, which must end on a byte boundary: the template with the bits of the residue,
    /// read from bit `at` of `residue`. Computed fields are filled in later. Returns the position after the
    /// residue.
    ///
    /// # Errors
    /// The residue is too short, or has an index that no mapping has.
    pub fn expand(&self, residue: &[u8], at: usize, out: &mut Vec<u8>) -> Result<usize, ResidueError> {
        let needs_bits = at + self.residue_bits;
        if needs_bits > residue.len() * 8 {
            return Err(ResidueError::Short { needs_bits });
        }
        let start = out.len();
        out.extend_from_slice(&self.template);
        let header = out.get_mut(start..).unwrap_or_default();
        let mut end = at;
        for part in &self.parts {
            match part {
                ResiduePart::Copy { at, bits } => {
                    let copied = bits::copy(residue, end, header, *at, *bits);
                    debug_assert!(copied.is_some());
                    end += bits;
                }
                ResiduePart::Index { field, at, bits, index_bits, values } => {
                    let index = bits::read(residue, end, *index_bits).unwrap_or(0) as usize;
                    let Some(value) = values.get(index) else {
                        return Err(ResidueError::Index { field: *field, got: index as u64, at: end });
                    };
                    let written = bits::write(header, *at, *bits, *value);
                    debug_assert!(written.is_some());
                    end += index_bits;
                }
            }
        }
        Ok(end)
    }

    /// The field that does not match in `header`: the first whose bits differ from those of the rule, or whose
    /// value is not in a list.
    #[cold]
    fn unmatched(&self, header: &[u8]) -> FieldMismatch {
        let differing = self.slots.iter().find_map(|FieldPlace { field, at, bits }| {
            let of = |bytes: &[u8]| bits::read(bytes, *at, *bits).unwrap_or(0);
            let (got, expected, mask) = (of(header), of(&self.template), of(&self.mask));
            let differs = (got ^ expected) & mask != 0;
            differs.then_some(FieldMismatch { field: *field, got, expected: Some(expected) })
        });
        let not_listed = || {
            self.parts.iter().find_map(|part| match part {
                ResiduePart::Copy { .. } => None,
                ResiduePart::Index { field, at, bits, values, .. } => {
                    let got = bits::read(header, *at, *bits).unwrap_or(0);
                    (!values.contains(&got)).then_some(FieldMismatch { field: *field, got, expected: None })
                }
            })
        };
        differing.or_else(not_listed).expect("every bit that is masked belongs to a field, and all fields are there")
    }
}
