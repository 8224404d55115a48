//! The rows of a rule that apply to one direction, and checks of their order.

use super::RowError;
use super::header_form::{HEADERS, HeaderForm};
use crate::codec::inner::{HeaderRule, SelectorField};
use crate::schc::fields::*;
use crate::schc::{Compiled, Direction, FieldDescriptor, FieldLength, Rule, header_order};

/// The rows of a rule that apply, each with its position in the table.
pub(super) struct Rows<'a> {
    pub rule: &'static str,
    pub direction: Direction,
    pub rows: Vec<(usize, &'a FieldDescriptor)>,
}

impl<'a> Rows<'a> {
    pub(super) fn of(rule: &'static str, table: &'a Rule, direction: Direction) -> Rows<'a> {
        let rows = table.fields.iter().enumerate().filter(|(_, row)| row.direction.applies_to(direction));
        Rows { rule, direction, rows: rows.collect() }
    }

    pub(super) fn wrong(&self, row: Option<usize>, problem: impl Into<String>) -> RowError {
        RowError { rule: self.rule, row, problem: problem.into() }
    }

    pub(super) fn as_rule(&self) -> Rule {
        Rule { fields: self.rows.iter().map(|(_, row)| (*row).clone()).collect() }
    }

    pub(super) fn header(&self) -> Option<&'static HeaderForm> {
        let (_, first) = self.rows.first()?;
        HEADERS.iter().find(|form| form.has(first.fid))
    }

    /// The row of `field` and its position.
    pub(super) fn row(&self, field: FieldId) -> Option<(usize, &'a FieldDescriptor)> {
        self.rows.iter().copied().find(|(_, row)| row.fid == field)
    }

    /// Takes the rows of the header of the first row; those after it are left.
    pub(super) fn take_header(&mut self, form: &HeaderForm) -> Rows<'a> {
        let len = self.rows.iter().position(|(_, row)| !form.has(row.fid)).unwrap_or(self.rows.len());
        Rows { rule: self.rule, direction: self.direction, rows: self.rows.drain(..len).collect() }
    }

    /// Checks that the rows are all fields of a header, in its order.
    pub(super) fn check_complete(&self, form: &HeaderForm) -> Result<(), RowError> {
        let rows: Vec<&FieldDescriptor> = self.rows.iter().map(|(_, row)| *row).collect();
        let mut at = 0;
        for (index, field) in header_order(&rows, self.direction) {
            let Some((position, row)) = self.rows.get(index) else { continue };
            let wrong = |problem: String| Err(self.wrong(Some(*position), format!("{}: {problem}", row.fid.name)));
            let own_bits = field.bits.unwrap_or(0);
            if field == IPV4_OPTIONS {
                return wrong("omit this row: options are sent after the addresses, and IHL gives their length".into());
            }
            let Some(offset) = form.offset(field) else {
                return wrong(format!("not a field of the {} header", form.name));
            };
            if row.length != FieldLength::Fixed(own_bits) {
                return wrong(format!("its length must be {own_bits} bits"));
            }
            // FP 0 means any position.
            if row.position > 1 {
                return wrong("the header has this field once: FP must be 1".into());
            }
            if offset > at {
                return wrong(format!("the row of {} is missing before it", form.field_at(at)));
            }
            if offset < at {
                return wrong("its row must come earlier, or is repeated".into());
            }
            at += own_bits;
        }
        match self.rows.last() {
            Some((position, last)) if at < form.bits => {
                let problem = format!("{}: the row of {} is missing after it", last.fid.name, form.field_at(at));
                Err(self.wrong(Some(*position), problem))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn compile_header(&self, selected: Vec<SelectorField>) -> Result<HeaderRule, RowError> {
        HeaderRule::of_direction(&self.as_rule(), self.direction, &[], selected).map_err(|error| {
            let row = self.rows.iter().find(|(_, row)| row.fid == error.field).map(|(position, _)| *position);
            self.wrong(row, error.to_string())
        })
    }
}

/// Checks that `rows` are those of `fields`, in this order. No rows at all are also valid.
pub(super) fn in_order(rows: &Rows, fields: &[FieldId]) -> Result<(), RowError> {
    for (index, (position, row)) in rows.rows.iter().enumerate() {
        if fields.get(index) != Some(&row.fid) {
            let names: Vec<_> = fields.iter().map(|field| field.name).collect();
            let problem = format!("{}: the rows must be {}, in this order", row.fid.name, names.join(", "));
            return Err(rows.wrong(Some(*position), problem));
        }
        if row.position > 1 {
            return Err(
                rows.wrong(Some(*position), format!("{}: the header has this field once: FP must be 1", row.fid.name))
            );
        }
    }
    match fields.get(rows.rows.len()) {
        Some(missing) if !rows.rows.is_empty() => {
            let last = rows.rows.last().map(|(position, _)| *position);
            Err(rows.wrong(last, format!("the row of {} is missing", missing.name)))
        }
        _ => Ok(()),
    }
}

/// The rule of one field of 8 or 32 bits.
pub(super) fn single_field(rows: &Rows, position: usize, row: &FieldDescriptor) -> Result<Compiled, RowError> {
    let own_bits = row.fid.bits.unwrap_or(0);
    if row.length != FieldLength::Fixed(own_bits) {
        let problem = format!("{}: its length must be {own_bits} bits", row.fid.name);
        return Err(rows.wrong(Some(position), problem));
    }
    let rule = Rule { fields: vec![row.clone()] };
    rule.compile(rows.direction).map_err(|error| rows.wrong(Some(position), error.to_string()))
}
