//! Outcome to text: JSON Lines, fields, a table; totals.

pub mod inner;
pub mod json;
pub mod record;
pub mod select;
pub mod streams;
pub mod table;
pub mod totals;
