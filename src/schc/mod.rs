//! Static Context Header Compression, RFC 8724 §7: rules as data, and their compiled form.
//!
//! A [`Rule`] is a table of field descriptors. [`Rule::compile`] turns it into a header template and a short list
//! of bit runs, once per Security Association. After that, a packet needs only one masked comparison and a few
//! copies. This module does not depend on ESP or IP: it divides a bit string into the fields of a rule.
//! `codec::compute` carries out the `compute` actions.

pub(crate) mod fields;

use std::fmt;

use self::fields::FieldId;
use crate::bits;

/// A rule: its field descriptors in the order of the header (RFC 8724 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The field descriptors.
    pub fields: Vec<FieldDescriptor>,
}

/// One row of a rule (RFC 8724 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDescriptor {
    /// FID.
    pub fid: FieldId,
    /// FL.
    pub length: FieldLength,
    /// FP, from 1: which occurrence of a field that a header repeats.
    pub position: u8,
    /// DI.
    pub direction: Direction,
    /// TV.
    pub target: Target,
    /// MO.
    pub matching: Matching,
    /// CDA.
    pub action: Action,
}

/// Field Length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldLength {
    /// This many bits.
    Fixed(u16),
    /// Another field of the header gives the length. For example, the IPv4 IHL gives the length of the options.
    Function,
    /// The residue contains the size before the value (RFC 8724 §7.4.2).
    Variable,
}

/// Direction Indicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the device to the application.
    Up,
    /// From the application to the device.
    Down,
    /// Both directions.
    Both,
}

/// Target Value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// No target value.
    Empty,
    /// One value, right-aligned. If the length of the field varies, the value has as many whole bytes as it needs,
    /// and 0 is the empty value.
    Value(u128),
    /// The values of a mapping, in the order of their indices.
    List(Vec<u128>),
}

/// Matching Operator (RFC 8724 §7.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matching {
    /// The field equals the target value.
    Equal,
    /// Any value.
    Ignore,
    /// This many first bits equal those of the target value.
    Msb(u16),
    /// The field is in the list of target values.
    MatchMapping,
}

/// Compression/Decompression Action (RFC 8724 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing is sent. The receiver uses the target value.
    NotSent,
    /// The field is sent.
    ValueSent,
    /// The index in the list of target values is sent, in as many bits as the last index needs.
    MappingSent,
    /// The bits after those of [`Matching::Msb`] are sent.
    Lsb,
    /// Nothing is sent. The receiver computes the value.
    Compute(Compute),
    /// This many low bits are sent. The receiver chooses the value nearest to that of the previous packet
    /// (draft-mglt-ipsecme-diet-esp-07, `tcp_lsb`). This module only extracts the bits. The caller does the rest.
    Nearest(u16),
}

/// How a receiver computes a field. This module does not use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compute {
    /// `compute-length`.
    Length,
    /// This value, or the length if it is smaller (draft-mglt-ipsecme-diet-esp-07, `udplite_coverage`).
    LengthAtMost(u16),
    /// `compute-checksum`: the Internet checksum, or CRC-32c for SCTP.
    Checksum,
    /// `lower`: from the outer IP header.
    Lower,
    /// `generated`: from a hash of the rebuilt packet.
    Generated,
    /// `generated`: always 0.
    GeneratedZero,
}

/// An invalid rule: which field, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleError {
    /// The field.
    pub field: FieldId,
    /// What is wrong with its row.
    pub problem: &'static str,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field.name, self.problem)
    }
}

impl Target {
    /// The value, if it is a single one.
    pub fn value(&self) -> Option<u128> {
        match self {
            Target::Value(value) => Some(*value),
            _ => None,
        }
    }

    /// The values of a mapping; empty if it is not a list.
    pub fn list(&self) -> &[u128] {
        match self {
            Target::List(values) => values,
            _ => &[],
        }
    }
}

/// Number of bits of an index in a list of `len` values: as many as the last index needs.
pub fn index_bits(len: usize) -> usize {
    (usize::BITS - len.saturating_sub(1).leading_zeros()) as usize
}

impl Matching {
    /// Its name in rule tables, without the argument of MSB.
    pub fn name(self) -> &'static str {
        match self {
            Matching::Equal => "equal",
            Matching::Ignore => "ignore",
            Matching::Msb(_) => "MSB",
            Matching::MatchMapping => "match-mapping",
        }
    }
}

impl Direction {
    /// Its name in rule tables.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Up => "Up",
            Direction::Down => "Dw",
            Direction::Both => "Bi",
        }
    }

    /// Whether a row of this direction applies to packets of direction `packet`. [`Direction::Both`] matches any.
    pub fn applies_to(self, packet: Direction) -> bool {
        self == Direction::Both || packet == Direction::Both || self == packet
    }
}

impl Action {
    /// Its name in rule tables.
    pub fn name(self) -> &'static str {
        match self {
            Action::NotSent => "not-sent",
            Action::ValueSent => "value-sent",
            Action::MappingSent => "mapping-sent",
            Action::Lsb => "LSB",
            Action::Compute(Compute::Length) => "compute-length",
            Action::Compute(Compute::Checksum) => "compute-checksum",
            Action::Compute(Compute::Lower) => "compute-lower",
            Action::Compute(Compute::Generated) => "compute-generated",
            Action::Compute(Compute::GeneratedZero) => "compute-zero",
            Action::Compute(Compute::LengthAtMost(_)) => "compute-min-length",
            Action::Nearest(_) => "nearest",
        }
    }
}

impl Compute {
    /// The meaning of `compute` without argument for a field; `None` if the field cannot be computed.
    pub fn of(field: FieldId) -> Option<Compute> {
        let (header, name) = field.name.split_once('.')?;
        match name {
            "LEN" | "COVERAGE" | "PAD" | "PAD_LEN" => Some(Compute::Length),
            "NXT" if header == "ESP" => Some(Compute::Length),
            "CKSUM" => Some(Compute::Checksum),
            "TC" | "DSCP" | "ECN" | "FL" | "HOP_LMT" | "ID" | "TTL" => Some(Compute::Lower),
            _ => None,
        }
    }

    /// Whether `field` can be computed in this way.
    pub fn fits(self, field: FieldId) -> bool {
        let own = Compute::of(field) == Some(self);
        let generated = matches!(self, Compute::Generated | Compute::GeneratedZero);
        own || (generated && matches!(field.name, "IPV6.FL" | "IPV4.ID"))
    }
}

impl FieldDescriptor {
    /// A row for both directions, position 1, with the field's own length.
    pub fn new(fid: FieldId, target: Target, matching: Matching, action: Action) -> FieldDescriptor {
        let length = fid.bits.map_or(FieldLength::Variable, FieldLength::Fixed);
        FieldDescriptor { fid, length, position: 1, direction: Direction::Both, target, matching, action }
    }

    /// Checks whether the row is valid by itself. An error names the problem.
    pub fn check(&self) -> Result<(), &'static str> {
        let bits = match self.length {
            FieldLength::Fixed(bits) if !(1..=128).contains(&bits) => return Err("its length is not 1 to 128 bits"),
            FieldLength::Fixed(bits) => bits,
            FieldLength::Function | FieldLength::Variable => 128,
        };
        let value = self.target.value();
        let list = self.target.list();
        if value.iter().chain(list).any(|value| *value > u128::MAX >> (128 - bits)) {
            return Err("its target value is longer than the field");
        }
        match self.matching {
            Matching::Equal | Matching::Msb(1..) if value.is_none() => {
                return Err("its matching operator needs one target value");
            }
            Matching::Msb(msb) if msb > bits => return Err("MSB is longer than the field"),
            Matching::MatchMapping if list.is_empty() => return Err("match-mapping needs a list of target values"),
            Matching::MatchMapping => {}
            _ if matches!(self.target, Target::List(_)) => return Err("a list of target values needs match-mapping"),
            _ => {}
        }
        match self.action {
            Action::NotSent if value.is_none() => Err("not-sent needs one target value"),
            Action::Lsb if !matches!(self.matching, Matching::Msb(_)) => Err("LSB needs the matching operator MSB"),
            _ if (self.matching == Matching::MatchMapping) != (self.action == Action::MappingSent) => {
                Err("match-mapping and mapping-sent go together")
            }
            _ => Ok(()),
        }
    }

    /// Whether the receiver restores the target value even if the field had another value.
    pub fn is_lossy(&self) -> bool {
        let compared = match (self.matching, self.length) {
            (Matching::Ignore, _) => false,
            (Matching::Msb(msb), length) => length == FieldLength::Fixed(msb),
            (Matching::Equal | Matching::MatchMapping, _) => true,
        };
        self.action == Action::NotSent && !compared
    }

    /// `equal`, `not-sent`.
    pub fn equal(fid: FieldId, value: u128) -> FieldDescriptor {
        FieldDescriptor::new(fid, Target::Value(value), Matching::Equal, Action::NotSent)
    }

    /// `ignore`, `value-sent`.
    pub fn sent(fid: FieldId) -> FieldDescriptor {
        FieldDescriptor::new(fid, Target::Empty, Matching::Ignore, Action::ValueSent)
    }

    /// `ignore`, `compute`.
    pub fn computed(fid: FieldId, compute: Compute) -> FieldDescriptor {
        FieldDescriptor::new(fid, Target::Empty, Matching::Ignore, Action::Compute(compute))
    }
}

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

    /// Whether every row that applies to `direction` has a fixed length. [`Rule::compile`] needs this.
    pub fn is_fixed(&self, direction: Direction) -> bool {
        self.rows(direction).iter().all(|row| matches!(row.length, FieldLength::Fixed(_)))
    }

    /// The rows that apply to packets of `direction`.
    pub(super) fn rows(&self, direction: Direction) -> Vec<&FieldDescriptor> {
        self.fields.iter().filter(|row| row.direction.applies_to(direction)).collect()
    }
}

/// The positions of `rows` in the order of the header, and the field that each row means in this direction.
pub(super) fn header_order(rows: &[&FieldDescriptor], direction: Direction) -> Vec<(usize, FieldId)> {
    let down = direction == Direction::Down;
    let mut order: Vec<(usize, FieldId, u8)> = vec![];
    // Start of the neighboring rows that are named after the ends of the link.
    let mut run = 0;
    for (index, row) in rows.iter().enumerate() {
        match row.fid.by_direction(down) {
            Some((field, place)) => order.push((index, field, place)),
            None => {
                order.push((index, row.fid, 0));
                run = order.len();
            }
        }
        if let Some(run) = order.get_mut(run..) {
            run.sort_by_key(|(_, _, place)| *place);
        }
    }
    order.into_iter().map(|(index, field, _)| (index, field)).collect()
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
