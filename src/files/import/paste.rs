//! Text around keys that were pasted from a terminal or a ticket: Markdown fences and shell prompts.
//!
//! ````text
//! ```
//! root@gw:~# ip xfrm state
//! src 192.0.2.1 dst 192.0.2.2
//! ```
//! ````
//!
//! It is replaced with spaces, so that line and column numbers in messages stay correct.

use std::ops::Range;

use crate::files::formats;

/// Replaces text around pasted keys with spaces.
pub(crate) fn blank(text: &mut [u8]) {
    for range in blanks(text) {
        if let Some(part) = text.get_mut(range) {
            part.fill(b' ');
        }
    }
}

/// The parts of `text` to replace with spaces.
fn blanks(text: &[u8]) -> Vec<Range<usize>> {
    let Ok(whole) = std::str::from_utf8(text) else { return vec![] };
    let text = whole.strip_prefix('\u{feff}').unwrap_or(whole);
    let text_lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let Some(first) = text_lines().next() else { return vec![] };
    let is_known = formats::is_native(first) || formats::of_line(first).is_some();
    let has_marks = |line: &str| is_fence(line) || prompt(line).is_some();
    let last = text_lines().next_back().unwrap_or_default();
    if !has_marks(first) && !has_marks(last) && (is_known || !text.contains("```")) {
        return vec![];
    }
    // A truncated paste may have a single fence. The keys may be before or after it.
    let fenced = text.lines().filter(|line| is_fence(line)).count() > 1;
    let mut inside = false;
    let mut blanks = vec![];
    let mut start = whole.len() - text.len();
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        if is_fence(line) {
            inside = !inside;
            blanks.push(start..end);
        } else if fenced && !inside {
            blanks.push(start..end);
        } else if let Some(len) = prompt(line) {
            // The command itself may contain keys.
            let holds_keys = line.get(len..).is_some_and(|command| formats::of_line(command.trim()).is_some());
            blanks.push(start..if holds_keys { start + len } else { end });
        }
        start += line.len();
    }
    blanks
}

fn is_fence(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("```") || line.starts_with("~~~")
}

/// Programs whose output contains keys, and programs that run them.
const COMMANDS: [&str; 7] = ["ip", "sudo", "doas", "setkey", "ipsecctl", "tcpdump", "cat"];

/// Length in bytes of the shell prompt at the start of a line: `root@gw:~# `, `[root@gw ~]# `, `$ `, or `gw# `
/// before a known command.
fn prompt(line: &str) -> Option<usize> {
    const SIGNS: [char; 4] = ['#', '$', '%', '>'];
    let ends = |(at, sign): (usize, char)| {
        SIGNS.contains(&sign)
            && line.get(at + 1..).is_some_and(|after| after.trim_end().is_empty() || after.starts_with(' '))
    };
    let (at, sign) = line.char_indices().find(|place| ends(*place))?;
    let (head, command) = (line.get(..at)?.trim_start(), line.get(at + 1..)?.trim());
    let is_plain = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "._-~/:@()".contains(c));
    let in_brackets = head.strip_prefix('[').and_then(|head| head.strip_suffix(']'));
    let is_prompt = match in_brackets {
        Some(inside) => inside.contains('@') && inside.split(' ').all(is_plain),
        None if head.contains('@') => is_plain(head),
        None => {
            let known = command.split(' ').next().is_some_and(|word| COMMANDS.contains(&word));
            known && is_plain(head) && (sign == '$' || !head.is_empty())
        }
    };
    is_prompt.then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        blank(&mut bytes);
        assert_eq!(bytes.len(), text.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn prompts() {
        for (line, len) in [
            ("root@gw:~# ip xfrm state", Some(10)),
            ("root@gw:~# ", Some(10)),
            ("root@gw:~#", Some(10)),
            ("[root@gw ~]# ip xfrm state", Some(12)),
            ("$ sudo ip xfrm state", Some(1)),
            ("gw# setkey -D", Some(3)),
            ("gw# words", None),
            ("# ip xfrm state add", None),
            ("src 192.0.2.1 dst 192.0.2.2", None),
            ("0x1@192.0.2.2 aes128-cbc:a key# of text", None),
            ("  - name: probe@gw$ 1", None),
            ("", None),
        ] {
            assert_eq!(prompt(line), len, "{line}");
        }
    }

    #[test]
    fn only_text_around_the_keys_is_blanked() {
        let same =
            ["sas:\n  - name: a@b$ x\n", "src ::1 dst ::2\n\tproto esp\n", "", "\n\n", "# comment ```\nsas: []\n"];
        for text in same {
            assert_eq!(blanked(text), text);
        }
        assert_eq!(
            blanked("words\n\n```yaml\nsas:\n  - spi: 1\n```\nmore é\n"),
            "     \n\n       \nsas:\n  - spi: 1\n   \n       \n"
        );
        assert_eq!(
            blanked("a@b:~$ ip xfrm state\nsrc ::1 dst ::2\r\na@b:~$ ip xfrm state add src ::1\n"),
            "                    \nsrc ::1 dst ::2\r\n       ip xfrm state add src ::1\n"
        );
        assert_eq!(blanked("\u{feff}```\r\nsas: []\r\n```\r\n"), "\u{feff}   \r\nsas: []\r\n   \r\n");
        // A truncated paste has one fence.
        assert_eq!(blanked("sas: []\n```\n"), "sas: []\n   \n");
        assert_eq!(blanked("```\nsas: []\n"), "   \nsas: []\n");
    }
}
