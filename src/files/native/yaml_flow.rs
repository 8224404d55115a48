//! Reads the simplest YAML quickly: lists of flow mappings of words, one per line. Nearly all large files have this form:
//!
//! ```yaml
//! sas:
//!   - { spi: 0x00010000, src: "2001:db8::1", encr: ENCR_AES_GCM_16, key: 8f09801b... }
//!   - { spi: 0x00010001, src: "2001:db8::1", encr: ENCR_AES_GCM_16, key: 52c31a7c... }
//! ```
//!
//! This takes a tenth of the time of the YAML parser. For all other text the result is `None`, and the parser reads it.
//! Both give the same result for the same text.

use std::borrow::Cow;

use super::yaml::{Key, MAX_NODES, Node, Place, Value};

/// YAML 1.2 §7.4.2 limits a key to 1024 characters before its colon. In a shorter line, no key exceeds the limit.
const MAX_LINE_LEN: usize = 1024;
const MAX_DEPTH: usize = 8;
/// Up to this many keys, comparing each pair is faster than hashing.
const MAX_ENTRIES: usize = 32;

/// Passes each item of the lists in `text` to `take`, with the name of the list. Returns `None` if only the parser
/// can read `text`, or as soon as `take` returns `None`.
pub(crate) fn items<'t>(text: &'t str, mut take: impl FnMut(&'t str, Node<'t>) -> Option<()>) -> Option<()> {
    let mut reader = Reader { rest: "", column: 0, line: 0, nodes: 1, words: vec![], entries: vec![] };
    let mut lists: Vec<List<'_>> = vec![];
    for line in text.lines() {
        reader.line += 1;
        let content = line.trim_start_matches(' ');
        if content.is_empty() || is_comment(content) {
            continue;
        }
        reader.column = (line.len() - content.len()) as u32 + 1;
        reader.rest = content;
        if line.len() > MAX_LINE_LEN {
            return None;
        }
        if content.starts_with("- ") {
            let list = lists.last_mut()?;
            if *list.column.get_or_insert(reader.column) != reader.column {
                return None;
            }
            take(list.name, reader.item()?)?;
        } else {
            let name = reader.key_of_list()?;
            let is_new = lists.len() < MAX_ENTRIES && lists.iter().all(|list| list.name != name);
            is_new.then(|| lists.push(List { name, column: None }))?;
        }
        if reader.nodes > MAX_NODES {
            return None;
        }
    }
    // A name without items has the value null.
    (!lists.is_empty() && lists.iter().all(|list| list.column.is_some())).then_some(())
}

/// A list with one item in each line.
struct List<'t> {
    name: &'t str,
    /// The column of the dashes; `None` before the first item.
    column: Option<u32>,
}

/// Whether the parser reads `content` as a comment. It rejects unprintable characters, and a carriage return alone would
/// end a comment.
fn is_comment(content: &str) -> bool {
    let is_plain = |letter: u8| matches!(letter, b'\t' | b' '..=b'~');
    content.starts_with('#') && content.bytes().all(is_plain)
}

struct Reader<'t> {
    /// The rest of the line, and its first column.
    rest: &'t str,
    column: u32,
    line: u32,
    nodes: usize,
    /// Items and entries of the open collections.
    words: Vec<Node<'t>>,
    entries: Vec<(Key<'t>, Node<'t>)>,
}

impl<'t> Reader<'t> {
    fn place(&self) -> Place {
        Place { line: self.line, column: self.column }
    }

    /// The next `len` bytes, all of them ASCII.
    fn take(&mut self, len: usize) -> Option<&'t str> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        self.column += len as u32;
        Some(taken)
    }

    /// A line with only a name and a colon, not indented.
    fn key_of_list(&mut self) -> Option<&'t str> {
        let is_indented = self.column > 1;
        let name = self.name()?;
        self.nodes += 2;
        let ends = self.take_letter()? == b':';
        let has_space = self.spaces();
        let is_all = self.rest.is_empty() || has_space && is_comment(self.rest);
        (!is_indented && ends && is_all).then_some(name)
    }

    /// A line with a dash and a mapping.
    fn item(&mut self) -> Option<Node<'t>> {
        self.take(2)?;
        self.spaces();
        let node = self.map(0)?;
        self.rest.is_empty().then_some(node)
    }

    /// A key of letters, digits and underscores.
    fn name(&mut self) -> Option<&'t str> {
        let is_name = |letter: &u8| letter.is_ascii_alphanumeric() || *letter == b'_';
        let name = self.take(self.rest.bytes().take_while(is_name).count())?;
        (!name.is_empty()).then_some(name)
    }

    fn take_letter(&mut self) -> Option<u8> {
        self.take(1)?.bytes().next()
    }

    /// Skips spaces.
    fn spaces(&mut self) -> bool {
        let len = self.rest.bytes().take_while(|letter| *letter == b' ').count();
        self.take(len);
        len > 0
    }

    fn map(&mut self, depth: usize) -> Option<Node<'t>> {
        let place = self.place();
        if self.take_letter()? != b'{' || depth >= MAX_DEPTH {
            return None;
        }
        self.spaces();
        let first = self.entries.len();
        loop {
            let place = self.place();
            let key = self.name()?;
            let of_map = self.entries.get(first..)?;
            let is_new = of_map.len() < MAX_ENTRIES && of_map.iter().all(|(other, _)| other.text != key);
            if !is_new || self.take_letter()? != b':' || !self.spaces() {
                return None;
            }
            let node = match self.rest.bytes().next()? {
                b'{' => self.map(depth + 1)?,
                b'[' => self.words()?,
                _ => self.word()?,
            };
            self.nodes += 1;
            self.entries.push((Key { place, text: Cow::Borrowed(key) }, node));
            self.spaces();
            match self.take_letter()? {
                b',' if self.spaces() => {}
                b'}' => break,
                _ => return None,
            }
        }
        self.nodes += 1;
        Some(Node { place, value: Value::Map(self.entries.split_off(first)) })
    }

    /// A list of words.
    fn words(&mut self) -> Option<Node<'t>> {
        let place = self.place();
        self.take_letter()?;
        self.spaces();
        loop {
            let word = self.word()?;
            self.words.push(word);
            self.spaces();
            match self.take_letter()? {
                b',' if self.spaces() => {}
                b']' => break,
                _ => return None,
            }
        }
        self.nodes += 1;
        Some(Node { place, value: Value::List(self.words.split_off(0)) })
    }

    /// A plain scalar without special characters of YAML, or a quoted one without escapes.
    fn word(&mut self) -> Option<Node<'t>> {
        let place = self.place();
        self.nodes += 1;
        if let Some(quoted) = self.rest.strip_prefix('"') {
            let len =
                quoted.bytes().take_while(|letter| matches!(letter, b' '..=b'~') && !b"\"\\".contains(letter)).count();
            let text = self.take(len + 1)?.get(1..)?;
            let is_closed = self.take_letter()? == b'"';
            return is_closed
                .then_some(Node { place, value: Value::Scalar { text: Cow::Borrowed(text), plain: false } });
        }
        let bytes = self.rest.as_bytes();
        let is_safe =
            |letter: &&u8| letter.is_ascii_alphanumeric() || matches!(letter, b'_' | b'.' | b'/' | b':' | b'-');
        let mut len = 0;
        loop {
            let run = bytes.get(len..)?;
            let run_len = run.iter().take_while(is_safe).count();
            // A colon before a space would make the word a key.
            if !run.first()?.is_ascii_alphanumeric() || run.get(..run_len)?.last() == Some(&b':') {
                return None;
            }
            len += run_len;
            match bytes.get(len..)? {
                [b' ', letter, ..] if letter.is_ascii_alphanumeric() => len += 1,
                _ => break,
            }
        }
        let text = self.take(len)?;
        Some(Node { place, value: Value::Scalar { text: Cow::Borrowed(text), plain: true } })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::super::yaml::parse;
    use super::*;

    /// Whether `text` was read. If so, the parser must give the same result.
    fn read_as_parsed(text: &str) -> bool {
        let mut lists: Vec<(&str, Vec<String>)> = vec![];
        let read = items(text, |name, node| {
            if lists.last().is_none_or(|(last, _)| *last != name) {
                lists.push((name, vec![]));
            }
            lists.last_mut().unwrap().1.push(format!("{node:?}"));
            Some(())
        });
        if read.is_none() {
            return false;
        }
        let parsed = parse(Path::new("f"), text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let Some(Node { value: Value::Map(entries), .. }) = parsed else { panic!("{parsed:?}\n{text}") };
        let parsed = entries.iter().map(|(key, node)| match &node.value {
            Value::List(items) => (&*key.text, items.iter().map(|item| format!("{item:?}")).collect()),
            _ => panic!("{node:?}\n{text}"),
        });
        assert_eq!(parsed.collect::<Vec<_>>(), lists, "\n{text}");
        true
    }

    #[test]
    fn lists_with_one_item_per_line_are_read() {
        for text in [
            "sas:\n  - { spi: 0x00010000, src: 2001:db8:1::1, encr: ENCR_AES_GCM_16, key: 8f09801b, esn: no }\n",
            "a:\r\n- {a: 8 bit, b: 2001:db8::/32, c: 40000-40999, d: [46, 0], e: { f: \"2001:db8::\", g: \"\" } }\r\n\r\n- {a: null}",
            "# c\n\na: # c\n  -   {  a:   1  ,  b: [  x  ,  y  ]  }\n\n# c\n      # c\n  - { a: 1 }\n   \n",
            "sas:\n  - { a: 1 }\n# c\n\ncontexts:  \n- { b: 1 }\n- { c: 1 }\n  # c\nnull:\n - { d: 1 }",
        ] {
            assert!(read_as_parsed(text), "{text}");
        }
    }

    #[test]
    fn all_other_text_is_left_to_the_parser() {
        for item in [
            "- a: 1\n",
            "- [a]\n",
            "- {}\n",
            "- { a: 1, }\n",
            "- { a: 1 } # c\n",
            "- { a: 1 } \n",
            "- { a:1 }\n",
            "- { a: &b 1 }\n",
            "- { a: *b }\n",
            "- { a: !c 1 }\n",
            "- { a: 'b' }\n",
            "- { a: \"\\n\" }\n",
            "- { a: b: }\n",
            "- { a: b: c }\n",
            "- { a: b  c }\n",
            "- { a: b #c }\n",
            "- { a: ~ }\n",
            "- { a: }\n",
            "- { a: 1, a: 2 }\n",
            "- { <<: { a: 1 } }\n",
            "- { a: [] }\n",
            "- { a: [{ b: 1 }] }\n",
            "- { a: 1\n  }\n",
            "-\t{ a: 1 }\n",
            "- { a:\t1 }\n",
            "- { a: 1 }\n - { a: 1 }\n",
            "- { a: 1 }\n---\n",
            "- { a: 1 }\n...\n",
            "- { a: 1 }: x\n",
            "- { a: é }\n",
            "- { a: 1 }\rb\n",
            "- { a: 1 }\n# c\rb\n",
            "- { a: 1 }\n# c\0\n- { a: 1 }\n",
            "- { a: 1 }\n# \u{7}\n",
            "- { a: 1 }\n# \u{ffff}\n",
            "- { a: b,c: d }\n",
            "- { a: -1 }\n",
            "- { a: 1 }\n  : x\n",
            "- { a: \"b\"c }\n",
            "- { a: 1, b }\n",
        ] {
            assert!(!read_as_parsed(&format!("sas:\n{item}")), "{item}");
        }
        let long = "x".repeat(MAX_LINE_LEN);
        for item in [format!("- {{ {long}: 1 }}\n"), format!("- {{ a: {long} }}\n")] {
            assert!(!read_as_parsed(&format!("sas:\n{item}")));
        }
        for text in [
            "",
            "\n# c\n",
            "- { a: 1 }\n",
            "sas:\n",
            "sas: []\n",
            "sas: # \u{7}\n- { a: 1 }\n",
            "sas:#\n- { a: 1 }\n",
            "sas:\r- { a: 1 }\n",
            "sas: - { a: 1 }\n",
            " sas:\n - { a: 1 }\n",
            "\"sas\":\n- { a: 1 }\n",
            "---\nsas:\n- { a: 1 }\n",
            "sas: &l\n- { a: 1 }\n",
            "sas:\ncontexts:\n- { a: 1 }\n",
            "sas:\n- { a: 1 }\ncontexts:\n",
            "sas:\n- { a: 1 }\nsas:\n- { a: 1 }\n",
            "sas:\n- { a: 1 }\n contexts:\n - { a: 1 }\n",
            "sas:\n  a:\n  - { a: 1 }\n",
        ] {
            assert!(!read_as_parsed(text), "{text}");
        }
        let many: String = (0..=MAX_ENTRIES).map(|key| format!("k{key}:\n- {{ a: 1 }}\n")).collect();
        assert!(!read_as_parsed(&many));
    }

    const TOKENS: [&str; 58] = [
        "{ ",
        " }",
        ", ",
        ": ",
        "a",
        "b",
        "word",
        "0x12",
        "2001:db8::1",
        "8 bit",
        "\"q: ::\"",
        "[",
        "]",
        "[ ",
        " ]",
        "{",
        "}",
        ",",
        ":",
        " ",
        "  ",
        "\n- ",
        "\n- { ",
        " }\n- { ",
        " }\n",
        "\n",
        "\r\n",
        "# c\n",
        "#",
        " #",
        "\"",
        "\\",
        "'",
        "&",
        "*",
        "!",
        "|",
        ">",
        "%",
        "@",
        "`",
        "-",
        "- ",
        "?",
        "? ",
        "~",
        "\t",
        "\r",
        "é",
        "null",
        "::",
        "a: b, c: d",
        "b:\n",
        "sas: # c\n",
        "\nb:\n- { ",
        "---\n",
        "...\n",
        "    ",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// From a document that can be read, with a few tokens more.
        #[test]
        fn the_parser_says_the_same(
            lists in prop::collection::vec(
                (0..3_usize, prop::collection::vec(prop::collection::vec((0..9_usize, 0..9_usize), 1..5), 0..4)),
                1..4,
            ),
            tokens in prop::collection::vec((any::<prop::sample::Index>(), 0..TOKENS.len(), any::<bool>()), 0..4),
        ) {
            let mut text = String::new();
            for (list, (indent, items)) in lists.iter().enumerate() {
                text += ["sas:\n", "contexts: # c\n", "# c\n\nz:\n"][list];
                for entries in items {
                    text += &format!("{}- {{ {} }}\n", " ".repeat(*indent), flow_entries(entries));
                }
            }
            for (at, token, replace) in tokens {
                let at = text.char_indices().nth(at.index(text.chars().count())).map_or(0, |(at, _)| at);
                if replace && let Some(letter) = text[at..].chars().next() {
                    text.replace_range(at..at + letter.len_utf8(), TOKENS[token]);
                } else {
                    text.insert_str(at, TOKENS[token]);
                }
            }
            read_as_parsed(&text);
        }
    }

    fn flow_entries(entries: &[(usize, usize)]) -> String {
        const KEYS: [&str; 9] = ["a", "b", "c", "d", "esp_sn", "F", "_", "7", "spi"];
        const VALUES: [&str; 9] = [
            "1",
            "2001:db8::1",
            "8 bit",
            "\"a b: c\"",
            "[1, 2]",
            "{ x: 1, y: z }",
            "40000-40999",
            "{ x: [ 1 ] }",
            "a/b.c",
        ];
        let entries = entries.iter().map(|(key, value)| format!("{}: {}", KEYS[*key], VALUES[*value]));
        entries.collect::<Vec<_>>().join(", ")
    }
}
