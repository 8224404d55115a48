//! Reads the simplest YAML quickly: a list of flow mappings of words, one per line. Nearly all items of large files
//! have this form.
//!
//! This takes a tenth of the time of the YAML parser. For all other text the result is `None`, and the parser reads it.
//! Both give the same result for the same text.

use std::borrow::Cow;

use super::yaml::{Key, Node, Place, Value};

/// YAML 1.2 §7.4.2 limits a key to 1024 characters before its colon. In a shorter line, no key exceeds the limit.
const MAX_LINE_LEN: usize = 1024;
const MAX_DEPTH: usize = 8;
/// Up to this many keys, comparing each pair is faster than hashing.
const MAX_ENTRIES: usize = 32;

/// The list of the items in `text`, and its number of nodes. `lines_before` is the number of lines before `text`.
pub(crate) fn list(text: &str, lines_before: u32) -> Option<(Node<'_>, usize)> {
    let mut items = vec![];
    let mut place = None;
    let mut reader = Reader { rest: "", column: 0, line: lines_before, nodes: 1, words: vec![], entries: vec![] };
    for line in text.lines() {
        reader.line += 1;
        let item = line.trim_start_matches(' ');
        // The parser rejects unprintable characters, and a carriage return alone would end a comment.
        let is_plain = |letter: u8| matches!(letter, b'\t' | b' '..=b'~');
        if item.is_empty() || item.starts_with('#') && item.bytes().all(is_plain) {
            continue;
        }
        reader.column = (line.len() - item.len()) as u32 + 1;
        let first = *place.get_or_insert(reader.place());
        if reader.column != first.column || line.len() > MAX_LINE_LEN {
            return None;
        }
        reader.rest = item;
        if reader.take(2)? != "- " {
            return None;
        }
        reader.spaces();
        items.push(reader.map(0)?);
        if !reader.rest.is_empty() {
            return None;
        }
    }
    Some((Node { place: place?, value: Value::List(items) }, reader.nodes))
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
            let is_name = |letter: &u8| letter.is_ascii_alphanumeric() || *letter == b'_';
            let key = self.take(self.rest.bytes().take_while(is_name).count())?;
            let of_map = self.entries.get(first..)?;
            let is_new = of_map.len() < MAX_ENTRIES && of_map.iter().all(|(other, _)| other.text != key);
            if key.is_empty() || !is_new || self.take_letter()? != b':' || !self.spaces() {
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

    use super::super::yaml::{Before, parse_part};
    use super::*;

    /// Whether `text` was read; then the parser must say the same.
    fn read_as_parsed(text: &str) -> bool {
        let Some((node, nodes)) = list(text, 7) else { return false };
        let parsed = parse_part(Path::new("f"), text, Before { lines: 7, depth: 1 });
        let parsed = parsed.unwrap_or_else(|error| panic!("{error}\n{text}"));
        let expected = (Some(format!("{node:?}")), nodes, true);
        assert_eq!((parsed.root.map(|root| format!("{root:?}")), parsed.nodes, parsed.alone), expected, "\n{text}");
        true
    }

    #[test]
    fn lines_of_words_are_read() {
        for text in [
            "  - { spi: 0x00010000, src: 2001:db8:1::1, encr: ENCR_AES_GCM_16, key: 8f09801b, esn: no }\n",
            "- {a: 8 bit, b: 2001:db8::/32, c: 40000-40999, d: [46, 0], e: { f: \"2001:db8::\", g: \"\" } }\r\n\r\n- {a: null}",
            "  -   {  a:   1  ,  b: [  x  ,  y  ]  }\n\n# c\n      # c\n  - { a: 1 }\n   \n",
        ] {
            assert!(read_as_parsed(text), "{text}");
        }
    }

    #[test]
    fn all_else_is_for_the_parser() {
        for text in [
            "",
            "\n# c\n",
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
            assert!(!read_as_parsed(text), "{text}");
        }
        let long = "x".repeat(MAX_LINE_LEN);
        assert!(!read_as_parsed(&format!("- {{ {long}: 1 }}\n")) && !read_as_parsed(&format!("- {{ a: {long} }}\n")));
    }

    const TOKENS: [&str; 52] = [
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
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        /// From lines that can be read, with a few tokens more.
        #[test]
        fn the_parser_says_the_same(
            lines in prop::collection::vec(prop::collection::vec((0..9_usize, 0..9_usize), 1..5), 1..4),
            tokens in prop::collection::vec((any::<prop::sample::Index>(), 0..TOKENS.len(), any::<bool>()), 0..4),
            indent in 0..3_usize,
        ) {
            let values =
                ["1", "2001:db8::1", "8 bit", "\"a b: c\"", "[1, 2]", "{ x: 1, y: z }", "40000-40999", "{ x: [ 1 ] }", "a/b.c"];
            let keys = ["a", "b", "c", "d", "esp_sn", "F", "_", "7", "spi"];
            let line = |entries: &Vec<(usize, usize)>| {
                let entries: Vec<_> = entries.iter().map(|(key, value)| format!("{}: {}", keys[*key], values[*value])).collect();
                format!("{}- {{ {} }}\n", " ".repeat(indent), entries.join(", "))
            };
            let mut text: String = lines.iter().map(line).collect();
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
}
