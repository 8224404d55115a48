//! Filters: expressions that choose records by their fields, in the style of Wireshark's display filters.
//!
//! ```text
//! text --syntax--> words --compile--> conditions --condition--> true or false for each record
//! ```

mod compile;
mod condition;
mod literal;
mod syntax;
#[cfg(test)]
mod tests;

use self::condition::Condition;
use self::syntax::Problem;
use super::record::Record;
use crate::error::Error;

/// An expression that a record may fulfil.
#[derive(Debug, Clone)]
pub struct Filter(Condition);

/// What the conditions of a filter need beyond the record. It is kept from record to record, so that evaluating them
/// allocates nothing.
#[derive(Debug, Default)]
pub struct Evaluation {
    /// Time of the first frame with a time stamp, in nanoseconds since 1970.
    pub first_ns: Option<i128>,
    text: String,
}

impl Filter {
    /// Parses a filter, such as `sa == "probe-1-up" && esp.sequence > 100`.
    ///
    /// # Errors
    /// The text is no filter, or it compares a field with a value of another type. The message points at the column.
    pub fn parse(text: &str) -> Result<Filter, Error> {
        let parsed = syntax::parse(text).and_then(|expression| compile::compile(&expression));
        parsed.map(Filter).map_err(|problem| error(text, &problem))
    }

    /// Whether the record fulfils the filter.
    pub fn matches(&self, record: &Record<'_>, evaluation: &mut Evaluation) -> bool {
        self.0.holds(record, evaluation)
    }
}

/// The message for a problem, with a mark under the column.
fn error(filter: &str, problem: &Problem) -> Error {
    /// Characters of the filter that are shown before and after the column.
    const AROUND: usize = 60;
    let before = filter.get(..problem.at).unwrap_or(filter);
    let column = before.chars().count();
    let start = column.saturating_sub(AROUND);
    let shown: String =
        filter.chars().skip(start).take(2 * AROUND).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let mark = " ".repeat(column - start);
    Error::usage(format!("filter, column {}: {}\n    {shown}\n    {mark}^", column + 1, problem.text), &*problem.help)
}
