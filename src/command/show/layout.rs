//! Text that fits a width: paragraphs, tables with wrapped cells, and hex dumps.

/// Spaces between columns.
const GAP: usize = 2;
/// A column is not made narrower than this.
const LEAST_WIDTH: usize = 6;
/// What a line begins with below a heading.
const INDENT: usize = 2;
/// Bytes in a line of a hex dump, and the columns that such a line needs.
const DUMP_LEN: usize = 16;
const DUMP_WIDTH: usize = 73;

/// Appends `parts`, separated by ` · `. Lines after the first one are indented.
pub(super) fn write_parts(parts: &[String], width: usize, out: &mut String) {
    write_wrapped(&parts.join(" · "), 0, width, out);
}

/// Appends a text after `indent` spaces; lines after the first one are indented by two more.
pub(super) fn write_wrapped(text: &str, indent: usize, width: usize, out: &mut String) {
    let lines = wrap(text, width.saturating_sub(indent + INDENT).max(LEAST_WIDTH));
    // The first line has more room than the others.
    let first_fits = text.chars().count() <= width.saturating_sub(indent);
    let lines = if first_fits { vec![text.to_owned()] } else { lines };
    for (index, line) in lines.iter().enumerate() {
        let more = if index > 0 { INDENT } else { 0 };
        out.extend(std::iter::repeat_n(' ', indent + more));
        out.push_str(line);
        out.push('\n');
    }
}

/// A table without lines between its cells. Cells that do not fit are wrapped.
pub(super) struct Grid {
    titles: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(super) fn new(titles: &[&'static str]) -> Grid {
        Grid { titles: titles.to_vec(), rows: vec![] }
    }

    pub(super) fn add<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Appends the table.
    pub(super) fn write(&self, width: usize, out: &mut String) {
        let widths = self.widths(width);
        let titles: Vec<String> = self.titles.iter().map(|title| (*title).to_owned()).collect();
        write_row(&titles, &widths, out);
        self.rows.iter().for_each(|row| write_row(row, &widths, out));
    }

    /// The widest columns become narrower until all fit, and words are broken only if nothing else helps.
    fn widths(&self, width: usize) -> Vec<usize> {
        let most = |column: usize, length: &dyn Fn(&str) -> usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| length(cell));
            cells.fold(self.titles.get(column).map_or(0, |title| length(title)), usize::max)
        };
        let columns = 0..self.titles.len();
        let mut widths: Vec<usize> = columns.clone().map(|column| most(column, &|cell| cell.chars().count())).collect();
        let words: Vec<usize> = columns.map(|column| most(column, &longest_word)).collect();
        let room = width.saturating_sub(INDENT + GAP * widths.len().saturating_sub(1));
        for least in [words, vec![LEAST_WIDTH; widths.len()]] {
            while widths.iter().sum::<usize>() > room {
                let wider = widths.iter_mut().zip(&least).filter(|(own, least)| **own > **least).map(|(own, _)| own);
                match wider.max() {
                    Some(widest) => *widest -= 1,
                    None => break,
                }
            }
        }
        widths
    }
}

fn write_row(cells: &[String], widths: &[usize], out: &mut String) {
    let wrapped: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| wrap(cell, *width)).collect();
    let height = wrapped.iter().map(Vec::len).max().unwrap_or(0);
    for line in 0..height {
        let mut text = " ".repeat(INDENT);
        for (cell, width) in wrapped.iter().zip(widths) {
            let part = cell.get(line).map_or("", String::as_str);
            let missing = width.saturating_sub(part.chars().count());
            text.push_str(part);
            text.extend(std::iter::repeat_n(' ', missing + GAP));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

/// Whether a line may end between two characters: after `:` or `,`, but not inside `::`.
fn may_break(before: char, after: char) -> bool {
    matches!(before, ':' | ',') && after != ':'
}

/// The longest part of a text that [`wrap`] does not break if it need not.
fn longest_word(text: &str) -> usize {
    let (mut longest, mut len, mut before) = (0, 0, ' ');
    for c in text.chars() {
        len = match c {
            ' ' => 0,
            _ if may_break(before, c) => 1,
            _ => len + 1,
        };
        longest = longest.max(len);
        before = c;
    }
    longest
}

/// Lines of at most `width` characters, at least one. A line ends at a space, or where [`may_break`] allows it, or anywhere
/// if it must.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut rest: Vec<char> = text.chars().collect();
    while rest.len() > width {
        let space = rest.iter().take(width + 1).rposition(|c| *c == ' ').filter(|at| *at > 0);
        let (end, next) = match space {
            Some(at) => (at, at + 1),
            None => {
                let mut pairs = rest.iter().zip(rest.iter().skip(1)).take(width);
                let end = pairs.rposition(|(before, after)| may_break(*before, *after)).map_or(width, |at| at + 1);
                (end, end)
            }
        };
        lines.push(rest.iter().take(end).collect());
        rest.drain(..next);
    }
    lines.push(rest.into_iter().collect());
    lines
}

/// Appends bytes in the form of `tshark -x`: offset, hex digits, ASCII. A `?` follows each byte that `is_certain` denies.
/// In a narrow terminal, a line has half as many bytes.
pub(super) fn write_dump(bytes: &[u8], width: usize, is_certain: impl Fn(usize) -> bool, out: &mut String) {
    let len = if width < DUMP_WIDTH { DUMP_LEN / 2 } else { DUMP_LEN };
    for (line, chunk) in bytes.chunks(len).enumerate() {
        let start = line * len;
        let mut text = format!("  {start:04x}  ");
        for (index, byte) in chunk.iter().enumerate() {
            text += &format!("{byte:02x}{}", if is_certain(start + index) { ' ' } else { '?' });
        }
        text.extend(std::iter::repeat_n(' ', 3 * (len - chunk.len()) + 1));
        text.extend(chunk.iter().map(|byte| match byte {
            b' '..=b'~' => char::from(*byte),
            _ => '.',
        }));
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_at_spaces_then_at_colons() {
        assert_eq!(wrap("", 6), [""]);
        assert_eq!(wrap("equal 6, not-sent", 10), ["equal 6,", "not-sent"]);
        assert_eq!(wrap("equal 6, not-sent", 8), ["equal 6,", "not-sent"]);
        assert_eq!(wrap("2001:db8:a::10", 10), ["2001:db8:", "a::10"]);
        assert_eq!(wrap("2001:db8:a::10", 11), ["2001:db8:", "a::10"]);
        assert_eq!(wrap("2001:db8:a::10", 12), ["2001:db8:a::", "10"]);
        assert_eq!(["", "a bc", "2001:db8:a::10", "a,b"].map(longest_word), [0, 2, 5, 2]);
        assert_eq!(wrap("0101010101", 4), ["0101", "0101", "01"]);
        assert_eq!(wrap("a b", 1), ["a", "b"]);
    }

    #[test]
    fn a_table_fits_and_loses_nothing() {
        let mut grid = Grid::new(&["field", "value"]);
        grid.add(["IPV6.SRC".to_owned(), "2001:db8:1:2:3:4:5:6".to_owned()]);
        let mut text = String::new();
        grid.write(24, &mut text);
        assert_eq!(text, "  field     value\n  IPV6.SRC  2001:db8:1:\n            2:3:4:5:6\n");
        text.clear();
        grid.write(80, &mut text);
        assert_eq!(text, "  field     value\n  IPV6.SRC  2001:db8:1:2:3:4:5:6\n");
    }

    #[test]
    fn a_dump_marks_what_is_not_certain() {
        let mut text = String::new();
        write_dump(b"0123456789abcdef\n!", 80, |at| at != 1, &mut text);
        let first = "  0000  30 31?32 33 34 35 36 37 38 39 61 62 63 64 65 66  0123456789abcdef\n";
        assert_eq!(text, format!("{first}  0010  0a 21{}.!\n", " ".repeat(44)));
        text.clear();
        write_dump(b"0123456789", 60, |_| true, &mut text);
        let first = "  0000  30 31 32 33 34 35 36 37  01234567\n";
        assert_eq!(text, format!("{first}  0008  38 39{}89\n", " ".repeat(20)));
    }
}
