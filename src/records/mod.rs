//! Outcome to text: JSON Lines, fields, a table; totals.

pub(crate) mod inner;
pub(crate) mod json;
pub(crate) mod record;
pub(crate) mod select;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod totals;
