//! SAs, contexts and SCHC rules as text, and the schemas of the files.

pub(super) mod entries;
pub(super) mod rule_text;
pub(super) mod schema;
