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
use super::{keys, rules, yaml_flow};
use crate::context::Context;
use crate::cores;
use crate::error::Error;
use crate::sa::Sa;

/// Bytes of a part, and less than what is worth to be cut.
const PART_LEN: usize = 1 << 16;

/// The document of a YAML file.
#[derive(Default)]
pub(crate) struct Yaml<'t> {
    /// Without the items that are below.
    pub(crate) root: Option<Node<'t>>,
    /// Further items of `sas`, and whether their names were given.
    pub(crate) sas: Vec<Vec<(Arc<Sa>, bool)>>,
    /// Further items of `contexts`.
    pub(crate) contexts: Vec<Vec<Context>>,
}

/// The one document of `text`; large ones are parsed on all cores. `path` is for messages.
pub(crate) fn parse<'t>(path: &Path, text: &'t str) -> Result<Yaml<'t>, Error> {
    parse_in(path, text, PART_LEN)
}

fn parse_in<'t>(path: &Path, text: &'t str, len: usize) -> Result<Yaml<'t>, Error> {
    enum Items {
        Sas(Vec<(Arc<Sa>, bool)>),
        Contexts(Vec<Context>),
    }
    let read = |list: &'static str, items: Node<'t>| match list {
        "sas" => keys::sas(path, &items).ok().map(Items::Sas),
        _ => rules::contexts(path, &items).ok().map(Items::Contexts),
    };
    let Some((root, items)) = in_parts(path, text, len, read) else {
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
    /// The spaces in front of its items, once the first was seen.
    indent: Option<usize>,
}

impl List {
    /// The list whose key is all there is in line `number`.
    fn begins(line: &str, number: u32) -> Option<List> {
        let key = line.split_once(" #").map_or(line, |(key, _)| key).trim_end();
        let name = ["sas", "contexts"].into_iter().find(|name| key.strip_suffix(':') == Some(name))?;
        Some(List { name, key: Place { line: number, column: 1 }, indent: None })
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
            [b'-', ..] if !is_item && list.is_some() => return None,
            [b' ' | b'-', ..] if let Some(open) = &mut list => match open.indent {
                // The first item stands with the key of the list, and the parser takes both.
                Some(own) if own == indent && is_item && (offset - start >= len || items_of.is_none()) => {
                    end = Some((Some(*open), Some(open.name)));
                }
                Some(_) => {}
                None if is_item => open.indent = Some(indent),
                None if matches!(line.trim_start().as_bytes(), [] | [b'#', ..]) => {}
                None => list = None,
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
    if text.len() < len.saturating_mul(2) {
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
        let (root, nodes) = part.one_line_each().or_else(|| part.parse(path))?;
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
    /// Its document and the number of nodes in it, if it holds what [`yaml_flow`] reads.
    fn one_line_each(&self) -> Option<(Node<'t>, usize)> {
        self.items_of.and_then(|_| yaml_flow::list(self.text, self.lines_before))
    }

    /// Its document and the number of nodes in it, if the whole says the same.
    fn parse(&self, path: &Path) -> Option<(Node<'t>, usize)> {
        let depth = usize::from(self.items_of.is_some());
        let before = Before { lines: self.lines_before, depth };
        let Parsed { root, nodes, last_line, last_node_line, alone } =
            yaml::parse_part(path, self.text, before).ok()?;
        let breaks = self.text.bytes().filter(|byte| *byte == b'\n').count();
        // A lone carriage return is a line break, too.
        let lines_are_known = last_line as usize == self.lines_before as usize + breaks + 1;
        // A value that is left out may stand where the next token does.
        let ends_before = last_node_line < last_line || !self.text.ends_with('\n');
        root.filter(|_| alone && lines_are_known && ends_before).map(|root| (root, nodes))
    }

    /// Whether `root` is a mapping whose last entry is the list that the next part goes on with, if it does.
    fn ends_in_its_list(&self, root: &Node) -> bool {
        let Value::Map(entries) = &root.value else { return false };
        let Some(open) = self.open else { return true };
        entries.last().is_some_and(|(key, node)| {
            key.text == open.name && key.place == open.key && matches!(node.value, Value::List(_))
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
    let all: Option<Vec<_>> = cores::side_by_side(cores::count().min(parts.len()), one_core).into_iter().collect();
    let mut done: Vec<(usize, T)> = all?.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(index, _)| *index);
    Some(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::files::Loader;

    /// The document put together from parts that are as small as they can be, if it was cut.
    fn in_small_parts(text: &str) -> Option<Node<'_>> {
        let (mut root, items) = in_parts(Path::new("f"), text, 1, |name, node| Some((name, node)))?;
        let Value::Map(entries) = &mut root.value else { panic!("no mapping") };
        for (name, node) in items {
            let (_, list) = entries.iter_mut().find(|(key, _)| key.text == name).unwrap();
            let (Value::List(all), Value::List(further)) = (&mut list.value, node.value) else { panic!("no lists") };
            all.extend(further);
        }
        Some(root)
    }

    /// Whether it was cut; then it must be what the whole is.
    fn cut_as_whole(text: &str) -> bool {
        let Some(node) = in_small_parts(text) else { return false };
        let whole = yaml::parse(Path::new("f"), text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(format!("{:?}", Some(node)), format!("{whole:?}"), "\n{text}");
        true
    }

    #[test]
    fn lists_are_cut_between_their_items() {
        for text in [
            "sas:\n  - a: 1\n    b: 2\n  - a: 3\n",
            "sas:\r\n- a: 1\r\n  b: 2\r\n- a: 3",
            "---\n# head\nother: [1,\n2]\nsas: # ours\n\n # c\n - [x]\n\n# c\n - {y: {z: 1}}\ncontexts:\n    - a\n    - b\nlast:\n- 1\n",
            "contexts:\n  - a: [x,\n      y]\n  - b:\n    - c\n    - d: 1\n\n\n  - 'e\n     f'\n  - [g,\n     h]\n  - i\n    j\n",
            "sas:\n  - a\n  - b\nlink_keys: []\nlowpan_contexts: { 0: x }\n",
        ] {
            assert!(cut_as_whole(text), "{text}");
        }
    }

    #[test]
    fn what_only_the_whole_tells_is_not_cut() {
        for text in [
            "sas:\n  - &a x\n  - *a\n",
            "sas:\n  - !t x\n  - y\n",
            "sas: &l\n  - x\n  - y\n",
            "sas: |\n  - x\n  - y\n",
            "sas: [\n  - x\n  - y\n",
            "sas:\n  [x]\n  - y\n",
            "sas:\n  - \"x\n  - y\"\n  - z\n",
            "sas:\n  - [x,\n  - y]\n",
            "sas:\n  - {\nx: 1,\nsas: 2}\n",
            "sas:\n  - x\n...\n  - y\n",
            "sas:\n  - x\n---\n  - y\n",
            "sas:\n  - x\n%YAML 1.2\n  - y\n",
            "%YAML 1.2\n---\nsas:\n  - x\n  - y\n",
            "sas:\n  - x\n - y\n  - z\n",
            "sas:\n  - x\rother: 1\n  - y\n",
            "sas:\n  - x\n  - y\nsas:\n  - z\n",
            "sas:\n  - <<: { x: 1 }\n  - y\n",
            "sas:\n\t- x\n\t- y\n",
            "sas:\n  - x\n  - y\n\"contexts\":\n  - z\n",
        ] {
            assert!(!cut_as_whole(text), "{text}");
        }
    }

    #[test]
    fn limits_are_those_of_the_whole() {
        for depth in [62, 63] {
            let nested = "[".repeat(depth) + &"]".repeat(depth);
            let text = format!("sas:\n  - x\n  - {nested}\n");
            assert_eq!((cut_as_whole(&text), yaml::parse(Path::new("f"), &text).is_ok()), (depth == 62, depth == 62));
        }
    }

    /// `@` is the indentation of the list.
    const ITEMS: [&str; 64] = [
        "- a: 1\n@  b: 2",
        "- a: 1\n@  b:\n@    - x\n@    - y",
        "- { a: 1, b: [x, y], c: { d: e } }",
        "- a",
        "- [a, b]",
        "- {a: 1,\n@  b: 2}",
        "- {a: 1,\n b: 2}",
        "- {a: 1,\n@- b: 2}",
        "- [a,\n@- b\n@]",
        "- [a,\n@  - b\n]",
        "- {\nsas: x\n}",
        "- {\nsas:\n@- x}",
        "- |\n@  - x\n@  - y",
        "- |\n@ - x\n@",
        "- |2\n@   - x",
        "- |1\n@ - x\n@- y",
        "- >-\n@  a\n\n@  b",
        "- |+\n@  a\n\n\n",
        "- |",
        "- a: |\n@    - x\n@    # text\n  # comment",
        "- a: |\n@   - x",
        "- a: >\n\n@- x",
        "- a:\n@  - x\n@  - y",
        "- a:\n@    - x\n@    - y",
        "- a:\n@- x",
        "- - x\n@  - y",
        "- - - x\n@  -\n@  - z",
        "- \"q\n@  - r\"",
        "- 'q\n@- r'",
        "- \"q\n- r\"",
        "- \"q\n\n@- \\\n@- r\"",
        "- 'q",
        "- \"sas:\n\nsas:\n\"",
        "- a: \"x\n\n  contexts:\n\"",
        "- &x a",
        "- *x",
        "- &y",
        "- !t a",
        "- !!str",
        "- a\n@  b",
        "- a\n@ b",
        "- a\n@b",
        "- a\n\n@  - b",
        "-",
        "- ",
        "-\n@  a: 1",
        "-\n@ - a",
        "-\n@- a",
        "- # c\n@  a: 1",
        "- ? k\n@  : v",
        "- ? k",
        "- ? - k\n@    - l\n@  : v",
        "- {<<: {z: 1}, a: 2}",
        "- ~",
        "- 'it''s'",
        "- é: ü",
        "- a:\tb",
        "-\ta",
        "- \ta: b",
        "- a: b: c",
        "- a #c\n@ # d\n@#e\n#f",
        "- a: b\rc: d",
        "- a: 1\n@  a: 2",
        "- [[[]]]: 1",
    ];
    const KEYS: [&str; 24] = [
        "sas:",
        "contexts:",
        "sas: # c",
        "contexts:\n\n# c\n   # c",
        "other:",
        "other: [1, 2]\nsas:",
        "sas:\n  # c",
        "sas: ",
        "sas: [",
        "sas: |",
        "sas: >+",
        "sas: \"",
        "sas: &l",
        "sas: !!seq",
        "sas: x",
        "sas:\n  [x]",
        "sas:\n  |",
        "\"sas\":",
        "? sas\n:",
        "? sas\n: - x\n",
        "sas:\n  sas:",
        "sas :",
        "{sas:",
        "- sas:",
    ];
    const LINES: [&str; 44] = [
        "",
        "",
        "  ",
        "# c",
        "  # c",
        "# c",
        "---",
        "...",
        "%YAML 1.2",
        "%TAG ! x",
        "--- # x",
        "--- x",
        "\t",
        "\t- x",
        "   - x",
        "- x",
        " x",
        "x",
        "x: 1",
        "}",
        "]",
        "\"",
        "'",
        "other: |\n  - x",
        "other: {\n}",
        "? a",
        ": b",
        "? - a\n  - b",
        "\u{feff}",
        "\u{feff}sas:",
        "a: &x 1",
        "b: *x",
        "<<: {c: 1}",
        "- - -",
        "null",
        " - x",
        "  -",
        "-",
        "@",
        "`",
        "é: 1",
        "x\u{2028}y: 1",
        "\u{85}",
        "\r",
    ];

    prop_compose! {
        fn document()(
            sections in prop::collection::vec(
                (
                    prop_oneof![6 => 0..4_usize, 1 => 0..KEYS.len()],
                    prop_oneof![3 => Just(2_usize), 1 => Just(0), 1 => 1..5_usize],
                    prop::collection::vec(
                        (prop_oneof![4 => 0..5_usize, 3 => 0..ITEMS.len()], prop_oneof![20 => Just(0), 1 => 1..3_usize]),
                        1..6,
                    ),
                ),
                1..4,
            ),
            lines in prop::collection::vec((0..40_usize, 0..LINES.len()), 0..3),
            letters in prop::collection::vec((any::<prop::sample::Index>(), 0..24_usize), 0..2),
            line_break in prop_oneof![4 => Just("\n"), 1 => Just("\r\n")],
        ) -> String {
            let mut text = vec![];
            for (key, indent, items) in sections {
                text.extend(KEYS[key].split('\n').map(str::to_owned));
                for (item, more) in items {
                    let indent = " ".repeat(indent + more);
                    text.extend(format!("@{}", ITEMS[item]).replace('@', &indent).split('\n').map(str::to_owned));
                }
            }
            for (at, line) in lines {
                text.insert(at.min(text.len()), LINES[line].to_owned());
            }
            let mut text = text.join(line_break);
            for (at, letter) in letters {
                let at = text.char_indices().nth(at.index(text.chars().count())).map_or(0, |(at, _)| at);
                text.insert_str(at, ["-", ":", "{", "}", "[", "]", "\"", "'", "|", ">", "&", "*", "!", "%", "#", "\n", "\r", "\t", " ",
                    "?", ",", "- ", ": ", "\\"][letter]);
            }
            text
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn parts_say_what_the_whole_says(text in document()) {
            cut_as_whole(&text);
        }
    }

    /// What the loader makes of `text` in parts of `len` bytes: message and help, or all it found.
    fn loaded(text: &str, len: usize) -> Result<String, (String, String)> {
        let path = Path::new("f");
        let mut loader = Loader::default();
        let loaded = parse_in(path, text, len).and_then(|yaml| loader.yaml(path, yaml)).and_then(|()| loader.finish());
        let loaded = loaded.map_err(|error| (error.to_string(), error.help().to_owned()))?;
        let secrets = loaded.sas.iter().map(|sa| (hex::encode(sa.keys.key().expose()), sa.keys.salt().len()));
        Ok(format!("{loaded:?} {:?}", secrets.collect::<Vec<_>>()))
    }

    proptest! {
        #[test]
        fn what_is_loaded_in_parts_is_what_the_whole_says(
            lists in prop::collection::vec((any::<bool>(), prop::collection::vec((0..8_usize, any::<bool>()), 1..7)), 1..4),
            wrong in prop::collection::vec((0..12_usize, 0..9_usize), 0..3),
            others in prop::collection::vec((0..4_usize, 0..5_usize), 0..2),
        ) {
            let mut items = vec![];
            for (list, (is_sas, entries)) in lists.iter().enumerate() {
                items.push(if *is_sas { "sas:\n" } else { "contexts:\n" }.to_owned());
                for (entry, (spi, in_lines)) in entries.iter().enumerate() {
                    let spi = if *spi == 0 { 7 } else { 100 * list + entry };
                    let text = match is_sas {
                        true => format!("spi: {spi}, encr: ENCR_AES_CCM_8, key: 00112233445566778899aabb{spi:08x}, salt: a0a1a2"),
                        false => format!("spi: {spi}, ipsec_mode: Tunnel, ts_ip_version: IPv6-only, dscp_cda: lower"),
                    };
                    items.push(match in_lines {
                        true => format!("  - {}\n", text.replace(", ", "\n    ")),
                        false => format!("  - {{ {text} }}\n"),
                    });
                }
            }
            for (at, key) in others {
                let key = ["link_keys: []\n", "lowpan_contexts: { 1: \"fd00::/64\" }\n", "foo: 1\n", "sas: []\n", "# c\n"][key];
                items.insert(at.min(items.len()), key.to_owned());
            }
            for (at, wrong) in wrong {
                let at = at % items.len();
                let (from, to) = [("spi: ", "spi: x"), ("spi", "sip"), ("a0a1a2", "a0"), ("lower", "loser"), ("mode: T", "mode: B"),
                    ("CCM", "CCN"), ("  - ", "   - "), ("{", "{ {"), ("00112233", "0011223x")][wrong];
                items[at] = items[at].replacen(from, to, 1);
            }
            let text = items.concat();
            prop_assert_eq!(loaded(&text, 1), loaded(&text, usize::MAX), "\n{}", text);
        }
    }
}
