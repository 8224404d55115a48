//! Static Context Header Compression, RFC 8724 §7: rules as data, and their compiled form.
//!
//! A [`Rule`] is a table of field descriptors. [`Rule::compile`] turns it into a header template and a short list
//! of bit runs, once per Security Association. After that, a packet needs only one masked comparison and a few
//! copies. This module does not depend on ESP or IP: it divides a bit string into the fields of a rule.
//! `codec::compute` carries out the `compute` actions.

mod compiled;
pub(crate) mod fields;
mod rule;

pub use compiled::{Compiled, FieldMismatch, ResidueError};
pub(crate) use rule::header_order;
pub use rule::{
    Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Rule, RuleError, Target, index_bits,
};
