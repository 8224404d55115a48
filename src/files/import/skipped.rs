//! Warnings about one file: entries that were skipped, and notes about entries that were read.

use std::fmt::Display;
use std::path::Path;

use crate::error::Error;

/// Warnings kept per file. Further warnings are only counted.
const MAX_WARNINGS: usize = 20;

/// The warnings of one file. An invalid entry does not prevent reading the others.
pub(crate) struct Skipped<'p> {
    path: &'p Path,
    messages: Vec<String>,
    more: usize,
    /// The error of the first invalid entry. It ends the run if the file has no valid entry.
    invalid: Option<Error>,
}

impl<'p> Skipped<'p> {
    pub(crate) fn new(path: &'p Path) -> Skipped<'p> {
        Skipped { path, messages: vec![], more: 0, invalid: None }
    }

    /// Warns about a valid entry that this program cannot use.
    pub(crate) fn push(&mut self, line: u64, why: impl Display) {
        self.warn(line, format_args!("skipped: {why}"));
    }

    /// Warns about an invalid entry: what is wrong, and what to do.
    pub(crate) fn invalid(&mut self, line: u64, problem: impl Display, help: &str) {
        self.push(line, format_args!("{problem}; {help}"));
        self.invalid.get_or_insert_with(|| Error::line(self.path, line, problem.to_string(), help));
    }

    /// Adds a note about an entry that was read.
    pub(crate) fn note(&mut self, line: u64, what: impl Display) {
        self.warn(line, what);
    }

    fn warn(&mut self, line: u64, what: impl Display) {
        if self.messages.len() < MAX_WARNINGS {
            self.messages.push(format!("{}:{line}: {what}", self.path.display()));
        } else {
            self.more += 1;
        }
    }

    /// Appends the warnings. `read_any`: the file had a valid entry.
    ///
    /// # Errors
    /// The file has an invalid entry and no valid one.
    pub(crate) fn finish(mut self, read_any: bool, warnings: &mut Vec<String>) -> Result<(), Error> {
        if let Some(error) = self.invalid.filter(|_| !read_any) {
            return Err(error);
        }
        warnings.append(&mut self.messages);
        if self.more > 0 {
            warnings.push(format!("{}: {} more entries with a warning", self.path.display(), self.more));
        }
        Ok(())
    }
}
