//! Large key and rule files, parsed in parts on all cores.
//!
//! A list under a key of the top level is cut in front of items: a line that begins as the first item does, with the
//! same indentation and `- `, begins an item whatever stands in front of it, unless a bracket or a quote is open there.
//! Each part is parsed as a document of its own, in which that is an error. So if all parts can be parsed, used and put
//! together, that is what the whole says; if not, or if there is anything that one part could share with another, the
//! whole is parsed, and tells what is wrong.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::yaml::{self, Before, MAX_NODES, Node, Parsed, Place, Value};
use super::{keys, rules};
use crate::context::Context;
use crate::error::Error;
use crate::sa::Sa;

/// Bytes of a part, and less than what is worth to be cut.
const PART_LEN: usize = 1 << 16;

/// The document of a YAML file.
#[derive(Default)]
pub(super) struct Yaml<'t> {
    /// Without the items that are below.
    pub(super) root: Option<Node<'t>>,
    /// Further items of `sas`, and whether their names were given.
    pub(super) sas: Vec<Vec<(Arc<Sa>, bool)>>,
    /// Further items of `contexts`.
    pub(super) contexts: Vec<Vec<Context>>,
}

/// The one document of `text`; large ones are parsed on all cores. `path` is for messages.
pub(super) fn parse<'t>(path: &Path, text: &'t str) -> Result<Yaml<'t>, Error> {
    enum Items {
        Sas(Vec<(Arc<Sa>, bool)>),
        Contexts(Vec<Context>),
    }
    let read = |list: &'static str, items: Node<'t>| match list {
        "sas" => keys::sas(path, &items).ok().map(Items::Sas),
        _ => rules::contexts(path, &items).ok().map(Items::Contexts),
    };
    let Some((root, items)) = in_parts(path, text, PART_LEN, read) else {
        return Ok(Yaml { root: yaml::parse(path, text)?, ..Yaml::default() });
    };
    let mut yaml = Yaml { root: Some(root), ..Yaml::default() };
    for items in items {
        match items {
            Items::Sas(items) => yaml.sas.push(items),
            Items::Contexts(items) => yaml.contexts.push(items),
        }
    }
    Ok(yaml)
}

/// A list of the top level that is cut.
#[derive(Debug, Clone, Copy)]
struct List {
    name: &'static str,
    /// Where the key stands.
    key: Place,
    /// Where the first item begins, once it was seen.
    items: Option<Place>,
}

impl List {
    /// The list whose key is all there is in line `number`.
    fn begins(line: &str, number: u32) -> Option<List> {
        let key = line.split_once(" #").map_or(line, |(key, _)| key).trim_end();
        let name = ["sas", "contexts"].into_iter().find(|name| key.strip_suffix(':') == Some(name))?;
        Some(List { name, key: Place { line: number, column: 1 }, items: None })
    }
}

/// A part of a text.
struct Part<'t> {
    text: &'t str,
    lines_before: u32,
    /// The list whose further items it holds; without it, entries of the top level.
    items_of: Option<&'static str>,
    /// The list that is open at its end, if the next part goes on with it.
    open: Option<List>,
}

/// Cuts `text` into parts of at least `len` bytes, or where something else begins.
fn cut(text: &str, len: usize) -> Option<Vec<Part<'_>>> {
    let mut parts = vec![];
    // The part that is being made: where it begins, and after how many lines.
    let (mut start, mut lines_before, mut items_of) = (0, 0, None);
    let mut list: Option<List> = None;
    let mut any_list = false;
    let (mut offset, mut lines) = (0, 0);
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start_matches(' ').len();
        let is_item = line.get(indent..).is_some_and(|rest| rest.starts_with("- "));
        // What is open here, and what the next part holds.
        let mut end = None;
        match line.as_bytes() {
            [b'#' | b'\n' | b'\r', ..] => {}
            [b'%', ..] => return None,
            [b' ' | b'-', ..] if let Some(list) = &mut list => match &list.items {
                _ if indent == 0 && !is_item => return None,
                Some(items) if offset - start >= len && is_item && items.column as usize == indent + 1 => {
                    end = Some((Some(*list), Some(list.name)));
                }
                Some(_) => {}
                None if is_item => list.items = Some(Place { line: lines + 1, column: indent as u32 + 1 }),
                None => {}
            },
            [b' ', ..] | [b'-', b' ', ..] => {}
            [b'A'..=b'Z' | b'a'..=b'z' | b'_', ..] => {
                end = items_of.map(|_| (None, None));
                list = List::begins(line, lines + 1);
                any_list |= list.is_some();
            }
            // Of what stands in front of the first list the parser tells all.
            _ if any_list => return None,
            _ => {}
        }
        if let Some((open, next)) = end {
            parts.push(Part { text: text.get(start..offset)?, lines_before, items_of, open });
            (start, lines_before, items_of) = (offset, lines, next);
        }
        offset += line.len();
        lines += 1;
    }
    parts.push(Part { text: text.get(start..)?, lines_before, items_of, open: None });
    Some(parts)
}

/// The document of `text` without the items of its lists that `read` took, and what it made of them; `None` if the text
/// is to be parsed as a whole.
fn in_parts<'t, T: Send>(
    path: &Path,
    text: &'t str,
    len: usize,
    read: impl Fn(&'static str, Node<'t>) -> Option<T> + Sync,
) -> Option<(Node<'t>, Vec<T>)> {
    if text.len() < 2 * len {
        return None;
    }
    let parts = cut(text, len)?;
    if parts.len() < 2 {
        return None;
    }
    enum Done<'t, T> {
        Entries(Node<'t>),
        Items(T),
    }
    let done = on_all_cores(&parts, |part| {
        let Parsed { root, nodes, last_line, alone } = part.parse(path).ok()?;
        let breaks = part.text.bytes().filter(|byte| *byte == b'\n').count();
        // A lone carriage return is a line break, too.
        let as_expected = alone && last_line as usize == part.lines_before as usize + breaks + 1;
        let root = root.filter(|_| as_expected)?;
        let done = match part.items_of {
            Some(name) if matches!(root.value, Value::List(_)) => Done::Items(read(name, root)?),
            None if part.ends_in_its_list(&root) => Done::Entries(root),
            _ => return None,
        };
        Some((done, nodes))
    })?;
    if done.iter().map(|(_, nodes)| nodes).sum::<usize>() > MAX_NODES {
        return None;
    }
    let (mut whole, mut taken) = (None, vec![]);
    for (done, _) in done {
        match (done, &mut whole) {
            (Done::Items(items), _) => taken.push(items),
            (Done::Entries(root), None) => whole = Some(root),
            (Done::Entries(root), Some(whole)) => match (root.value, &mut whole.value) {
                (Value::Map(entries), Value::Map(all)) => all.extend(entries),
                _ => return None,
            },
        }
    }
    let whole = whole?;
    let Value::Map(entries) = &whole.value else { return None };
    let mut names = HashSet::new();
    let distinct = entries.iter().all(|(key, _)| names.insert(key.text.as_ref()));
    distinct.then_some((whole, taken))
}

impl<'t> Part<'t> {
    fn parse(&self, path: &Path) -> Result<Parsed<'t>, Error> {
        let depth = usize::from(self.items_of.is_some());
        yaml::parse_part(path, self.text, Before { lines: self.lines_before, depth })
    }

    /// Whether `root` is a mapping whose last entry is the list that the next part goes on with, if it does.
    fn ends_in_its_list(&self, root: &Node) -> bool {
        let Value::Map(entries) = &root.value else { return false };
        let Some(List { name, key: key_place, items: Some(items) }) = self.open else { return self.open.is_none() };
        entries.last().is_some_and(|(key, node)| {
            // In a mapping of the top level, and no flow sequence: a `-` stands there.
            let is_list = matches!(node.value, Value::List(_)) && node.place == items;
            is_list && key.text == name && key.place == key_place
        })
    }
}

/// What `work` makes of each of `parts`, in their order; `None` if it is `None` for one.
fn on_all_cores<P: Sync, T: Send>(parts: &[P], work: impl Fn(&P) -> Option<T> + Sync) -> Option<Vec<T>> {
    let next = Mutex::new(parts.iter().enumerate());
    let one_core = || {
        let mut done = vec![];
        loop {
            let Some((index, part)) = next.lock().ok()?.next() else { return Some(done) };
            match work(part) {
                Some(result) => done.push((index, result)),
                None => {
                    // The others need not go on.
                    *next.lock().ok()? = [].iter().enumerate();
                    return None;
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(parts.len());
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one_core)).collect();
        let mut done = one_core();
        for other in others {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done = done.zip(other).map(|(done, other)| done.into_iter().chain(other).collect());
        }
        done
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    Some(done.into_iter().map(|(_, result)| result).collect())
}
