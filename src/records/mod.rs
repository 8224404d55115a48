//! Turns outcomes into text: JSON Lines, tab-separated fields, a table, and totals.

#[cfg(feature = "cli")]
pub(crate) mod csv;
pub(crate) mod fields;
#[cfg(feature = "cli")]
pub(crate) mod filter;
pub(crate) mod fit;
pub(crate) mod inner;
pub(crate) mod json;
pub(crate) mod record;
#[cfg(feature = "cli")]
pub(crate) mod select;
pub(crate) mod streams;
pub(crate) mod table;
pub(crate) mod totals;
