//! Entries of a file that were left out, and notes about those that were read.

use std::fmt::Display;
use std::path::Path;

use crate::error::Error;

/// Warnings kept of one file; of the rest only the number is told.
const MAX_WARNINGS: usize = 20;

/// What is to be said of one file. A bad entry never costs the good ones.
pub(super) struct LeftOut<'p> {
    path: &'p Path,
    messages: Vec<String>,
    more: usize,
    /// The first entry that is wrong: it ends the run if the file gives nothing else.
    wrong: Option<Error>,
}

impl<'p> LeftOut<'p> {
    pub(super) fn new(path: &'p Path) -> LeftOut<'p> {
        LeftOut { path, messages: vec![], more: 0, wrong: None }
    }

    /// An entry that is right, but of no use to this program.
    pub(super) fn push(&mut self, line: u64, why: impl Display) {
        self.say(line, format_args!("left out: {why}"));
    }

    /// An entry that cannot be read: what is wrong, and what to do.
    pub(super) fn wrong(&mut self, line: u64, problem: impl Display, help: &str) {
        self.push(line, format_args!("{problem}; {help}"));
        self.wrong.get_or_insert_with(|| Error::line(self.path, line, problem.to_string(), help));
    }

    /// Something to know about an entry that was read.
    pub(super) fn note(&mut self, line: u64, what: impl Display) {
        self.say(line, what);
    }

    fn say(&mut self, line: u64, what: impl Display) {
        if self.messages.len() < MAX_WARNINGS {
            self.messages.push(format!("{}:{line}: {what}", self.path.display()));
        } else {
            self.more += 1;
        }
    }

    /// Appends what is to be said. `read_any`: the file gave something.
    ///
    /// # Errors
    /// It gave nothing, and an entry is wrong.
    pub(super) fn finish(mut self, read_any: bool, warnings: &mut Vec<String>) -> Result<(), Error> {
        if let Some(error) = self.wrong.filter(|_| !read_any) {
            return Err(error);
        }
        warnings.append(&mut self.messages);
        if self.more > 0 {
            warnings.push(format!("{}: {} more entries with a warning", self.path.display(), self.more));
        }
        Ok(())
    }
}
