//! The entries of one mapping, read one by one by name. Entries that were not read are unknown keys.

use std::path::Path;

use super::yaml::{Key, Node, Place, Value};
use crate::error::Error;
use crate::files::values::{ValueError, near, shown, text, value_error};

/// A mapping that is being read.
pub(crate) struct Fields<'n, 'a> {
    path: &'n Path,
    /// What the mapping describes, with its article: `an SA`.
    what: &'static str,
    place: Place,
    entries: &'n [(Key<'a>, Node<'a>)],
    taken: Vec<bool>,
    asked: Vec<&'static str>,
}

/// An entry that was found.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'n, 'a> {
    pub(crate) name: &'static str,
    pub(crate) node: &'n Node<'a>,
}

impl<'n, 'a> Fields<'n, 'a> {
    /// Reads `node`, which must be a mapping.
    pub(crate) fn new(path: &'n Path, what: &'static str, node: &'n Node<'a>) -> Result<Self, Error> {
        let found = match &node.value {
            Value::Map(entries) => Ok(entries),
            Value::List(_) => Err("a list"),
            Value::Scalar { .. } => Err("a single value"),
        };
        let entries = found.map_err(|found| {
            node.place.error(path, format!("{found}, where {what} is expected"), "write `key: value` lines here")
        })?;
        // An item of a block list begins at its first key.
        let place = entries.first().map_or(node.place, |(key, _)| key.place);
        Ok(Fields { path, what, place, entries, taken: vec![false; entries.len()], asked: Vec::with_capacity(64) })
    }

    /// The file.
    pub(crate) fn path(&self) -> &'n Path {
        self.path
    }

    /// Where the mapping begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// The place of the value of `entry`; the place of the mapping if there is no entry.
    pub(crate) fn at(&self, entry: Option<Entry>) -> Place {
        entry.map_or(self.place, |entry| entry.node.place)
    }

    /// The entry `name`, if it exists.
    pub(crate) fn entry(&mut self, name: &'static str) -> Option<Entry<'n, 'a>> {
        self.asked.push(name);
        let index = self.entries.iter().position(|(key, _)| key.text == name)?;
        *self.taken.get_mut(index)? = true;
        self.entries.get(index).map(|(_, node)| Entry { name, node })
    }

    /// The scalar `name` as `parse` reads it, if it exists.
    pub(crate) fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<Option<T>, Error> {
        match self.entry(name) {
            None => Ok(None),
            Some(entry) => self.read(entry, parse).map(Some),
        }
    }

    /// The scalar `name` as `parse` reads it; an error if it is missing.
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        help: &str,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<T, Error> {
        self.optional(name, parse)?.ok_or_else(|| self.missing(name, help))
    }

    /// The scalar in `entry` as `parse` reads it.
    pub(crate) fn read<T>(
        &self,
        entry: Entry<'n, 'a>,
        parse: impl FnOnce(&str) -> Result<T, ValueError>,
    ) -> Result<T, Error> {
        text(entry.node).and_then(parse).map_err(|value_error| self.wrong(entry, value_error))
    }

    /// An error about the value of `entry`.
    pub(crate) fn wrong(&self, entry: Entry<'n, 'a>, value_error: ValueError) -> Error {
        entry.node.place.error(self.path, format!("{}: {}", entry.name, value_error.problem), value_error.help)
    }

    /// An error: `name` is missing, or an unknown key is a misspelling of it.
    pub(crate) fn missing(&self, name: &'static str, help: &str) -> Error {
        if let Some(key) = self.unknown().find(|key| !near(&key.text, [name].into_iter()).is_empty()) {
            return self.not_known(key, format!("did you mean `{name}`?"));
        }
        self.place.error(self.path, format!("{} without `{name}`", self.what), help)
    }

    /// An error if both `name` and `other` exist.
    pub(crate) fn not_both(&mut self, name: &'static str, other: &'static str) -> Result<(), Error> {
        match (self.entry(name), self.entry(other)) {
            (Some(entry), Some(_)) => {
                Err(self.wrong(entry, value_error(format!("conflicts with `{other}`"), "give one of the two")))
            }
            _ => Ok(()),
        }
    }

    /// An error if there is an entry that was not read.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        let Some(key) = self.unknown().next() else { return Ok(()) };
        let help = match near(&key.text, self.asked.iter().copied()).first() {
            Some(name) => format!("did you mean `{name}`?"),
            None => {
                self.asked.sort_unstable();
                self.asked.dedup();
                format!("known keys: {}", self.asked.join(", "))
            }
        };
        Err(self.not_known(key, help))
    }

    /// The keys that have not been read so far.
    fn unknown(&self) -> impl Iterator<Item = &'n Key<'a>> {
        let untaken = self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken);
        untaken.map(|((key, _), _)| key)
    }

    fn not_known(&self, key: &Key, help: String) -> Error {
        key.place.error(self.path, format!("unknown key {} in {}", shown(&key.text), self.what), help)
    }
}
