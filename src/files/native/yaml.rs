//! YAML as a tree of nodes. Every scalar keeps its characters: no YAML schema changes `102030`, `1e10`, `0x12` or `no`.
//! Every node has its line and column.
//!
//! Bounded: depth, number of nodes, and how much aliases may multiply a file.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde_saphyr::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, options};

use crate::error::Error;

const MAX_DEPTH: usize = 64;
pub(crate) const MAX_NODES: usize = 16_000_000;
/// Aliases may make a tree this many times larger than the file.
const MAX_ALIAS_GROWTH: usize = 64;
/// Aliases may always copy this many nodes.
const MIN_ALIAS_NODES: usize = 10_000;

/// Line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    /// An error at this place of `path`.
    pub(crate) fn error(self, path: &Path, problem: impl Into<String>, help: impl Into<String>) -> Error {
        Error::File {
            path: path.to_owned(),
            line: Some(u64::from(self.line)),
            column: Some(u64::from(self.column)),
            problem: problem.into(),
            help: help.into(),
            remedy: None,
        }
    }
}

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    pub(crate) place: Place,
    pub(crate) value: Value<'a>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value<'a> {
    /// The characters; `plain` if they were not quoted.
    Scalar {
        text: Cow<'a, str>,
        plain: bool,
    },
    List(Vec<Node<'a>>),
    /// Keys in the order of the file, without duplicates.
    Map(Vec<(Key<'a>, Node<'a>)>),
}

/// The key of an entry of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Key<'a> {
    pub(crate) place: Place,
    pub(crate) text: Cow<'a, str>,
}

impl Node<'_> {
    /// Whether it is YAML's null: nothing, `~` or `null`, not quoted.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if matches!(text.as_ref(), "" | "~" | "null"))
    }
}

/// The only document of `text`; `None` if there is none. `path` is used in messages.
pub(crate) fn parse<'a>(path: &Path, text: &'a str) -> Result<Option<Node<'a>>, Error> {
    let mut builder = Builder {
        path,
        open: vec![],
        items: vec![],
        entries: vec![],
        root: None,
        anchors: HashMap::new(),
        nodes: 0,
        copied: 0,
    };
    for event in Parser::new_from_str_with_options(text, options! { emit_comments: false }) {
        let (event, span) = event.map_err(|error| syntax(path, text, &error))?;
        builder.take(event, place(span.start.line(), span.start.col()))?;
    }
    Ok(builder.root)
}

fn place(line: usize, column_from_0: usize) -> Place {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { line: small(line), column: small(column_from_0.saturating_add(1)) }
}

fn syntax(path: &Path, text: &str, error: &ScanError) -> Error {
    let marker = error.marker();
    let line = text.lines().nth(marker.line().saturating_sub(1)).unwrap_or_default();
    let ends_in_colon = |word: &str| word.trim_end_matches([',', '}', ']']).ends_with("::");
    let help = if matches!(error.kind(), ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation) {
        "YAML is indented with spaces, not with tabs"
    } else if line.split_whitespace().any(ends_in_colon) {
        "quote values that end in a colon: \"2001:db8::\""
    } else {
        "check the indentation, the brackets and the quotes here and in the lines above"
    };
    // The parser's message shows at most one character of the file, so it cannot reveal a secret.
    place(marker.line(), marker.col()).error(path, format!("not valid YAML: {}", error.info()), help)
}

/// A collection whose end has not been read yet.
struct Open<'a> {
    place: Place,
    anchor: usize,
    /// Number of nodes before it in the file.
    nodes_before: usize,
    children: Children<'a>,
}

/// Where the children of an open collection begin on the stack.
enum Children<'a> {
    List { first: usize },
    Map { first: usize, key: Option<Key<'a>> },
}

struct Builder<'a, 'p> {
    path: &'p Path,
    open: Vec<Open<'a>>,
    /// The items of open lists and the entries of open mappings. Those of the innermost are last.
    items: Vec<Node<'a>>,
    entries: Vec<(Key<'a>, Node<'a>)>,
    root: Option<Node<'a>>,
    /// Complete anchored nodes, and the number of nodes in each.
    anchors: HashMap<usize, (Node<'a>, usize)>,
    /// Number of nodes in the tree so far.
    nodes: usize,
    /// How many of them were copied by aliases.
    copied: usize,
}

impl<'a> Builder<'a, '_> {
    fn take(&mut self, event: Event<'a>, place: Place) -> Result<(), Error> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                self.count(1, place)?;
                let node = Node { place, value: Value::Scalar { text, plain: style == ScalarStyle::Plain } };
                self.finish(node, anchor, 1)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(place, anchor, Children::List { first: self.items.len() }),
            Event::MappingStart(_, anchor, _) => {
                self.begin(place, anchor, Children::Map { first: self.entries.len(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { place, anchor, nodes_before, children }) = self.open.pop() else { return Ok(()) };
                let value = match children {
                    Children::List { first } => Value::List(self.items.split_off(first)),
                    Children::Map { first, .. } => {
                        let entries = self.entries.split_off(first);
                        Value::Map(self.checked(entries)?)
                    }
                };
                let size = self.nodes.saturating_sub(nodes_before);
                self.finish(Node { place, value }, anchor, size)
            }
            Event::Alias(anchor) => {
                let Some((_, size)) = self.anchors.get(&anchor) else {
                    return Err(place.error(
                        self.path,
                        "an alias to a value that contains the alias",
                        "write the value instead of the alias",
                    ));
                };
                let size = *size;
                self.count(size, place)?;
                self.copied = self.copied.saturating_add(size);
                let own = self.nodes.saturating_sub(self.copied);
                if self.copied > own.saturating_mul(MAX_ALIAS_GROWTH).max(MIN_ALIAS_NODES) {
                    return Err(place.error(
                        self.path,
                        "the aliases up to here multiply the file too much",
                        "write the values out",
                    ));
                }
                let Some((node, _)) = self.anchors.get(&anchor) else { return Ok(()) };
                let node = node.clone();
                self.finish(node, 0, size)
            }
            Event::DocumentStart(..) if self.root.is_some() => Err(place.error(
                self.path,
                "a second YAML document",
                "a file can have only one document: remove the `---`, or split the file",
            )),
            _ => Ok(()),
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, children: Children<'a>) -> Result<(), Error> {
        if self.open.len() >= MAX_DEPTH {
            return Err(place.error(self.path, format!("nested more than {MAX_DEPTH} deep"), "reduce the nesting"));
        }
        let nodes_before = self.nodes;
        self.count(1, place)?;
        self.open.push(Open { place, anchor, nodes_before, children });
        Ok(())
    }

    fn count(&mut self, nodes: usize, place: Place) -> Result<(), Error> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let problem = format!("more than {MAX_NODES} values in one file");
            return Err(place.error(self.path, problem, "split it into several files"));
        }
        Ok(())
    }

    /// Adds a complete node to its parent.
    fn finish(&mut self, node: Node<'a>, anchor: usize, size: usize) -> Result<(), Error> {
        if anchor != 0 {
            // The anchor's own copy counts, so that many small anchors cannot hold more than the limit either.
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|open| &mut open.children) {
            None => self.root = Some(node),
            Some(Children::List { .. }) => self.items.push(node),
            Some(Children::Map { key, .. }) => match key.take() {
                Some(key) => self.entries.push((key, node)),
                None => match node.value {
                    Value::Scalar { text, .. } => *key = Some(Key { place: node.place, text }),
                    _ => {
                        return Err(node.place.error(
                            self.path,
                            "a list or mapping where a key is expected",
                            "a key is a single word; quote what begins with a bracket",
                        ));
                    }
                },
            },
        }
        Ok(())
    }

    /// `entries` with merge keys (`<<: *defaults`) replaced by the entries of the named mapping. A duplicate key is
    /// an error.
    fn checked(&self, entries: Vec<(Key<'a>, Node<'a>)>) -> Result<Vec<(Key<'a>, Node<'a>)>, Error> {
        let mut seen: HashMap<&str, Place> = HashMap::new();
        let few = entries.len() <= 16;
        for (index, (key, _)) in entries.iter().enumerate() {
            let first = if few {
                entries.iter().take(index).find(|(other, _)| other.text == key.text).map(|(other, _)| other.place)
            } else {
                seen.insert(&key.text, key.place)
            };
            if let Some(first) = first {
                return Err(key.place.error(
                    self.path,
                    format!(
                        "key {} is given twice, first in line {}",
                        crate::files::values::shown(&key.text),
                        first.line
                    ),
                    "remove one of them",
                ));
            }
        }
        if entries.iter().any(|(key, _)| key.text == "<<") { self.merged(entries) } else { Ok(entries) }
    }

    fn merged(&self, entries: Vec<(Key<'a>, Node<'a>)>) -> Result<Vec<(Key<'a>, Node<'a>)>, Error> {
        let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(key, _)| key.text == "<<");
        let mut names: HashSet<String> = own.iter().map(|(key, _)| key.text.to_string()).collect();
        for (key, node) in merges {
            let maps = match node.value {
                Value::List(maps) => maps,
                _ => vec![node],
            };
            for map in maps {
                let Value::Map(inherited) = map.value else {
                    return Err(key.place.error(self.path, "`<<` needs a mapping", "write `<<: *name`"));
                };
                // Keys of the mapping itself override inherited ones.
                own.extend(inherited.into_iter().filter(|(key, _)| names.insert(key.text.to_string())));
            }
        }
        Ok(own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Result<String, String> {
        match parse(Path::new("f"), text) {
            Ok(node) => Ok(node.map(|node| show(&node)).unwrap_or_default()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn show(node: &Node) -> String {
        match &node.value {
            Value::Scalar { text, .. } => text.to_string(),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entries: Vec<_> =
                    entries.iter().map(|(key, node)| format!("{}={}", key.text, show(node))).collect();
                format!("{{{}}}", entries.join(" "))
            }
        }
    }

    #[test]
    fn scalars_keep_their_characters() {
        let text = "[102030, 0x0012, 1e10, 007, no, ~, '12', \"a\\x41\", 1_000, 2001:db8::1, 12:34:56]";
        assert_eq!(tree(text).unwrap(), "[102030 0x0012 1e10 007 no ~ 12 aA 1_000 2001:db8::1 12:34:56]");
    }

    #[test]
    fn places_are_counted_from_1() {
        let node = parse(Path::new("f"), "# c\r\na:\r\n  - b: cd\r\n").unwrap().unwrap();
        let Value::Map(entries) = &node.value else { panic!() };
        assert_eq!(entries[0].0.place, Place { line: 2, column: 1 });
        let Value::List(items) = &entries[0].1.value else { panic!() };
        let Value::Map(inner) = &items[0].value else { panic!() };
        assert_eq!(inner[0].0.place, Place { line: 3, column: 5 });
        assert_eq!(inner[0].1.place, Place { line: 3, column: 8 });
    }

    #[test]
    fn aliases_and_merge_keys_are_followed() {
        let text = "d: &d { a: 1, b: 2 }\nx: { <<: *d, b: 3 }\ny: [*d, *d]";
        assert_eq!(tree(text).unwrap(), "{d={a=1 b=2} x={b=3 a=1} y=[{a=1 b=2} {a=1 b=2}]}");
    }

    #[test]
    fn duplicate_keys_are_rejected_in_small_and_large_mappings() {
        assert_eq!(tree("a: 1\nb: 2\na: 3").unwrap_err(), "f:3:1: key `a` is given twice, first in line 1");
        let mut large: String = (0..100).map(|number| format!("k{number}: x\n")).collect();
        large.push_str("k7: y\n");
        assert_eq!(tree(&large).unwrap_err(), "f:101:1: key `k7` is given twice, first in line 8");
    }

    #[test]
    fn alias_bombs_depth_and_loops_are_rejected() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        assert_eq!(tree(&bomb).unwrap_err(), "f:4:45: the aliases up to here multiply the file too much");
        assert_eq!(
            tree(&format!("{}{}", "[".repeat(100), "]".repeat(100))).unwrap_err(),
            "f:1:65: nested more than 64 deep"
        );
        assert_eq!(tree(&"[".repeat(100_000)).unwrap_err(), "f:1:256: not valid YAML: recursion limit exceeded");
        assert_eq!(tree(&"- ".repeat(100)).unwrap_err(), "f:1:129: nested more than 64 deep");
        assert!(tree(&"- ".repeat(100_000)).is_err() && tree(&"? ".repeat(100_000)).is_err());
        assert_eq!(tree("a: &a [*a]").unwrap_err(), "f:1:8: an alias to a value that contains the alias");
    }

    #[test]
    fn invalid_yaml_is_rejected_with_its_position() {
        assert!(tree("a: [1, 2\nb: 3").unwrap_err().starts_with("f:2:2: not valid YAML: "));
        assert_eq!(tree("a: 1\n---\nb: 2").unwrap_err(), "f:2:1: a second YAML document");
        assert_eq!(tree("[a]: 1").unwrap_err(), "f:1:1: a list or mapping where a key is expected");
        assert_eq!(tree("").unwrap(), "");
    }
}
