//! Dialect `custom`: three rules that the user defines (wire format §5), as field tables of RFC 8724.
//!
//! A rule must name every field of a header, in packet order. Otherwise the position of a field would not be known.
//! Tables are checked row by row when they are loaded.

mod esp;
mod header_form;
mod inner;
mod rows;

use std::fmt;

use self::rows::Rows;
use super::trailer::Trailer;
use super::{Codec, EspHeader, NamedRule};
use crate::context::{Context, Custom, Dialect};
use crate::schc::{Direction, FieldDescriptor, Rule};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowError {
    /// The rule: `iipc`, `ctec` or `eec`.
    pub rule: &'static str,
    /// The row, from 0; `None` for the rule as a whole.
    pub row: Option<usize>,
    /// What is wrong, naming the field.
    pub problem: String,
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.problem)
    }
}

/// Checks the rules of a context of dialect `custom`, as far as possible without the keys.
///
/// # Errors
///
/// The first invalid row.
pub(crate) fn check(context: &Context) -> Result<(), RowError> {
    match &context.dialect {
        Dialect::Custom(custom) => compile(context, custom, 1).map(|_| ()),
        _ => Ok(()),
    }
}

/// Compiles a context for a cipher of `cipher_block` bytes.
pub(super) fn compile(context: &Context, custom: &Custom, cipher_block: usize) -> Result<Codec, RowError> {
    check_direction(custom)?;
    let inner = inner::compile(context, custom)?;
    Ok(Codec {
        header: esp::header(&Rows::of("eec", &custom.eec, custom.direction))?,
        trailer: esp::trailer(&Rows::of("ctec", &custom.ctec, custom.direction), custom, &inner, cipher_block)?,
        inner,
    })
}

/// A row for one direction, or a field named after one end of the link (DEV or APP), depends on the direction of
/// the packets.
fn check_direction(custom: &Custom) -> Result<(), RowError> {
    if custom.direction != Direction::Both {
        return Ok(());
    }
    for (rule, table) in [("iipc", &custom.iipc), ("ctec", &custom.ctec), ("eec", &custom.eec)] {
        let needs = |row: &FieldDescriptor| row.direction != Direction::Both || row.fid.by_direction(false).is_some();
        if let Some((position, row)) = table.fields.iter().enumerate().find(|(_, row)| needs(row)) {
            let problem =
                format!("{}: it depends on the direction: add `direction: Up` or `direction: Dw`", row.fid.name);
            return Err(RowError { rule, row: Some(position), problem });
        }
    }
    Ok(())
}

/// The rules as data. Fields of the ESP header and trailer without rows are sent.
pub(super) fn tables(context: &Context, custom: &Custom) -> Vec<NamedRule> {
    let mut tables = vec![];
    if !custom.iipc.fields.is_empty() {
        tables.push(NamedRule { name: "iipc", rule: custom.iipc.clone() });
    }
    let or_sent = |rule: &Rule, sent: Rule| if rule.fields.is_empty() { sent } else { rule.clone() };
    let ctec = or_sent(&custom.ctec, Trailer::standard(1).table(context));
    tables.push(NamedRule { name: "ctec", rule: ctec });
    tables.push(NamedRule { name: "eec", rule: or_sent(&custom.eec, EspHeader::low_bits(32, 32).table()) });
    tables
}
