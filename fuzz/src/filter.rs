//! Filters of the command line.

use dietesp::internals::records::filter::Filter;

/// A filter: parsed, or rejected with a message that marks a column of it.
pub fn filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Err(error) = Filter::parse(&text) else { return };
    let message = error.to_string();
    let mark = message.lines().last().expect("the mark is the last line");
    assert!(mark.trim_start() == "^", "{message}");
}
