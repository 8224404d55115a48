//! Outcome to text: JSON Lines, fields, a table; totals.

pub mod json;
pub mod record;
pub mod streams;
pub mod table;
pub mod totals;
