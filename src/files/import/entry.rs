//! From an entry of a file to an SA, or to a warning.

use super::skipped::Skipped;
use crate::cipher::Keys;
use crate::context::Origin;
use crate::files::values::{ValueError, spi_name};
use crate::net::Selector;
use crate::sa::Sa;

/// Why an entry yields no SA.
pub(crate) enum EntryError {
    /// The entry is invalid.
    Invalid(Problem),
    /// The entry is valid, but this program cannot use it.
    Skipped(String),
    /// The entry is not an SA of ESP.
    Other,
}

/// What is wrong with an entry.
pub(crate) struct Problem {
    text: String,
    /// The line, if it is not the first of the entry.
    line: Option<u64>,
    /// What to do, unless the reader of the format has advice for all entries.
    help: Option<&'static str>,
}

/// The error of an invalid entry.
pub(crate) fn invalid(problem: impl Into<String>) -> EntryError {
    EntryError::Invalid(Problem { text: problem.into(), line: None, help: None })
}

/// As [`invalid`], with what to do.
pub(crate) fn wrong<T>(problem: impl Into<String>, help: &'static str) -> Result<T, EntryError> {
    Err(invalid(problem).with_help(help))
}

/// As [`invalid`], for the field `name` of an entry.
pub(crate) fn invalid_field(name: &str) -> impl FnOnce(ValueError) -> EntryError {
    move |error| invalid(format!("{name}: {}", error.problem))
}

impl EntryError {
    /// Sets the line of an invalid entry, unless it is already set.
    pub(crate) fn in_line(mut self, line: u64) -> EntryError {
        if let EntryError::Invalid(problem) = &mut self {
            problem.line.get_or_insert(line);
        }
        self
    }

    /// Sets what to do about an invalid entry, unless it is already set.
    pub(crate) fn with_help(mut self, help: &'static str) -> EntryError {
        if let EntryError::Invalid(problem) = &mut self {
            problem.help.get_or_insert(help);
        }
        self
    }

    /// Adds the warning. `line` is the first of the entry, `help` what to do about invalid entries.
    pub(crate) fn warn(self, line: u64, help: &str, skipped: &mut Skipped) {
        match self {
            EntryError::Invalid(problem) => {
                skipped.invalid(problem.line.unwrap_or(line), problem.text, problem.help.unwrap_or(help));
            }
            EntryError::Skipped(why) => skipped.push(line, why),
            EntryError::Other => {}
        }
    }
}

/// An SA with 32-bit sequence numbers, named after its SPI. `None` is every SPI.
pub(crate) fn sa(spi: Option<u32>, [src, dst]: [Selector; 2], keys: Keys, origin: Origin) -> Sa {
    Sa {
        name: spi.map_or("any".into(), spi_name),
        spi,
        src,
        dst,
        link_src: None,
        link_dst: None,
        keys,
        esn: false,
        sn_hint: None,
        read_as_ccm: false,
        origin,
    }
}

/// The number and the words of each line. A backslash at the end continues a line.
pub(crate) fn lines_of_words(text: &str) -> impl Iterator<Item = (u64, Vec<&str>)> {
    let mut lines = text.lines().zip(1u64..);
    std::iter::from_fn(move || {
        let (mut line, number) = lines.next()?;
        let mut words = vec![];
        while let Some(continued) = line.trim_end().strip_suffix('\\') {
            words.extend(continued.split_whitespace());
            line = lines.next().map_or("", |(line, _)| line);
        }
        words.extend(line.split_whitespace());
        Some((number, words))
    })
}

/// The SAs, or message and help.
#[cfg(test)]
pub(super) type ReadResult = Result<Vec<std::sync::Arc<Sa>>, (String, String)>;

/// The result of `read`, a reader of one format, for `text`: the SAs, or message and help, and the warnings.
#[cfg(test)]
pub(super) fn read_text(
    read: fn(&std::path::Path, &str, &mut Vec<std::sync::Arc<Sa>>, &mut Skipped),
    text: &str,
) -> (ReadResult, Vec<String>) {
    let path = std::path::Path::new("f");
    let mut skipped = Skipped::new(path);
    let (mut sas, mut warnings) = (vec![], vec![]);
    read(path, text, &mut sas, &mut skipped);
    let result = skipped.finish(!sas.is_empty(), &mut warnings);
    (result.map(|()| sas).map_err(|error| (error.to_string(), error.help().to_owned())), warnings)
}
