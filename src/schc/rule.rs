//! Rules as data: the field descriptors of RFC 8724 §7.1, matching operators (§7.3) and actions (§7.4).

use std::fmt;

use super::fields::FieldId;

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
    ///
    /// # Errors
    /// What is wrong with the row.
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

impl Rule {
    /// Whether every row that applies to `direction` has a fixed length. [`Rule::compile`] needs this.
    pub fn is_fixed(&self, direction: Direction) -> bool {
        self.rows(direction).iter().all(|row| matches!(row.length, FieldLength::Fixed(_)))
    }

    /// The rows that apply to packets of `direction`.
    pub(crate) fn rows(&self, direction: Direction) -> Vec<&FieldDescriptor> {
        self.fields.iter().filter(|row| row.direction.applies_to(direction)).collect()
    }
}

/// The positions of `rows` in the order of the header, and the field that each row means in this direction.
pub(crate) fn header_order(rows: &[&FieldDescriptor], direction: Direction) -> Vec<(usize, FieldId)> {
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
