//! Rules of dialect `custom` (wire format §5): three field tables.

use super::fields::{Entry, Fields};
use super::ietf::alignment;
use super::keys::items;
use super::rule_table::{self, DIRECTIONS};
use super::rules::Attributes;
use crate::codec::check_custom;
use crate::context::{Context, Custom, Dialect, Mode};
use crate::error::Error;
use crate::files::values::choice;
use crate::schc::fields::ESP_PAD;
use crate::schc::{Action, Direction, Rule};

/// Reads the attributes that only this dialect has.
pub(crate) fn attributes(fields: &mut Fields, _: Mode) -> Result<Attributes, Error> {
    let Some(entry) = fields.entry("rules") else {
        return Err(fields.missing("rules", "add `rules: { iipc: [...], ctec: [...], eec: [...] }`, the field tables"));
    };
    let mut tables = Fields::new(fields.path(), "rules", entry.node)?;
    let [iipc, ctec, eec] = ["iipc", "ctec", "eec"].map(|name| table(&mut tables, name));
    let (iipc, ctec, eec) = (iipc?, ctec?, eec?);
    tables.finish()?;
    let direction = fields.optional("direction", |word| choice(word, &DIRECTIONS))?.unwrap_or(Direction::Both);
    let custom = Custom {
        alignment: fields.optional("alignment", alignment)?.unwrap_or(if sends_padding(&ctec) { 8 } else { 1 }),
        iipc,
        ctec,
        eec,
        direction,
    };
    Ok(Attributes { dialect: Dialect::Custom(custom), needs_version: false })
}

/// A table that is missing or has no rows compresses nothing.
fn table(tables: &mut Fields, name: &'static str) -> Result<Rule, Error> {
    match tables.entry(name) {
        Some(entry) if !items(tables.path(), name, entry.node)?.is_empty() => {
            rule_table::rule(tables.path(), name, entry.node)
        }
        _ => Ok(Rule { fields: vec![] }),
    }
}

fn sends_padding(ctec: &Rule) -> bool {
    ctec.fields.is_empty() || ctec.fields.iter().any(|row| row.fid == ESP_PAD && row.action == Action::ValueSent)
}

/// Checks the tables with the rest of the context. The message names the line of the row.
pub(crate) fn check(context: &Context, fields: &mut Fields) -> Result<(), Error> {
    let Err(wrong) = check_custom(context) else { return Ok(()) };
    let place = row_place(fields, wrong.rule, wrong.row);
    let help = "a table names every field of a header, in the order of the packet";
    Err(place.error(fields.path(), wrong.to_string(), help))
}

fn row_place(fields: &mut Fields, rule: &'static str, row: Option<usize>) -> super::yaml::Place {
    let entry = fields.entry("rules");
    let of_row = |entry: Entry| {
        let mut tables = Fields::new(fields.path(), "rules", entry.node).ok()?;
        let table = tables.entry(rule)?;
        let rows = items(fields.path(), rule, table.node).ok()?;
        Some(row.and_then(|row| rows.get(row)).map_or(table.node.place, |node| node.place))
    };
    entry.and_then(of_row).unwrap_or(fields.at(entry))
}
