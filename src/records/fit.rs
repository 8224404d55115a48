//! Fits the columns of a table into the width of a terminal.

/// Spaces between two columns.
pub(crate) const GAP: usize = 2;

/// How much room a column needs, in characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// The width if there is enough room.
    pub width: usize,
    /// The width to which the column may be narrowed.
    pub least: usize,
    /// The column with the highest rank is dropped first, a column of rank 0 never.
    pub rank: u8,
}

/// The width of each column in a table of at most `limit` characters; `None` if the column is dropped. If the columns
/// of rank 0 are too wide together, they exceed the limit.
pub(crate) fn fit<const N: usize>(columns: [Extent; N], limit: usize) -> [Option<usize>; N] {
    let mut widths = columns.map(|column| Some(column.least.min(column.width)));
    while total(&widths) > limit {
        let kept = columns.iter().zip(&mut widths).filter(|(column, width)| column.rank > 0 && width.is_some());
        let Some((_, width)) = kept.max_by_key(|(column, _)| column.rank) else { return widths };
        *width = None;
    }
    let mut room = limit - total(&widths);
    loop {
        let before = room;
        for (column, width) in columns.iter().zip(&mut widths) {
            if let Some(width) = width.as_mut().filter(|width| **width < column.width && room > 0) {
                *width += 1;
                room -= 1;
            }
        }
        if room == before {
            return widths;
        }
    }
}

fn total(widths: &[Option<usize>]) -> usize {
    let kept = widths.iter().flatten();
    kept.clone().sum::<usize>() + GAP * kept.count().saturating_sub(1)
}

/// Number of characters. Every character is taken to fill one column of the terminal.
pub(crate) fn width_of(text: &[u8]) -> usize {
    text.iter().filter(|byte| starts_character(**byte)).count()
}

/// Shortens the text from `start` to `width` characters: `…` replaces its middle. Two thirds of what remains are from
/// the end, because similar addresses and names mostly differ there.
pub(crate) fn shorten_middle(text: &mut Vec<u8>, start: usize, width: usize) {
    shorten(text, start, width, width.saturating_sub(1) / 3);
}

/// Shortens the text from `start` to `width` characters: `…` replaces its end.
pub(crate) fn shorten_end(text: &mut Vec<u8>, start: usize, width: usize) {
    shorten(text, start, width, width.saturating_sub(1));
}

/// [`shorten_middle`] of a whole text.
#[cfg(feature = "cli")]
pub(crate) fn middle_shortened(text: String, width: usize) -> String {
    let mut bytes = text.into_bytes();
    shorten_middle(&mut bytes, 0, width);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// [`shorten_end`] of a whole text.
#[cfg(feature = "cli")]
pub(crate) fn end_shortened(text: &str, width: usize) -> String {
    let mut bytes = text.as_bytes().to_vec();
    shorten_end(&mut bytes, 0, width);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `left`: how many characters before the `…` remain.
fn shorten(text: &mut Vec<u8>, start: usize, width: usize, left: usize) {
    let cell = text.get(start..).unwrap_or_default();
    let count = width_of(cell);
    if count <= width {
        return;
    }
    let right = width.saturating_sub(1 + left);
    let removed = start + offset(cell, left)..start + offset(cell, count - right);
    text.splice(removed, "…".bytes());
}

/// Where the character with this number starts, counted from 0.
fn offset(text: &[u8], number: usize) -> usize {
    let starts = text.iter().enumerate().filter(|(_, byte)| starts_character(**byte));
    starts.map(|(at, _)| at).nth(number).unwrap_or(text.len())
}

/// Whether a byte of UTF-8 is the first of its character.
pub(crate) fn starts_character(byte: u8) -> bool {
    byte & 0xc0 != 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Extent; 4] = [
        Extent { width: 6, least: 6, rank: 0 },
        Extent { width: 20, least: 10, rank: 0 },
        Extent { width: 5, least: 5, rank: 2 },
        Extent { width: 8, least: 8, rank: 1 },
    ];

    #[test]
    fn columns_are_narrowed_then_dropped_by_rank() {
        for (limit, widths) in [
            (100, [Some(6), Some(20), Some(5), Some(8)]),
            (45, [Some(6), Some(20), Some(5), Some(8)]),
            (44, [Some(6), Some(19), Some(5), Some(8)]),
            (35, [Some(6), Some(10), Some(5), Some(8)]),
            (34, [Some(6), Some(16), None, Some(8)]),
            (28, [Some(6), Some(10), None, Some(8)]),
            (27, [Some(6), Some(19), None, None]),
            (18, [Some(6), Some(10), None, None]),
            (0, [Some(6), Some(10), None, None]),
        ] {
            assert_eq!(fit(COLUMNS, limit), widths, "{limit}");
        }
    }

    #[test]
    fn text_is_shortened_in_the_middle_or_at_the_end() {
        let text = "à[2001:db8::1]:5683€";
        let shortened = |shorten: fn(&mut Vec<u8>, usize, usize), width| {
            let mut out = text.as_bytes().to_vec();
            shorten(&mut out, "à".len(), width);
            String::from_utf8(out).unwrap()
        };
        for (width, middle, end) in [
            (20, text, text),
            (19, text, text),
            (18, "à[2001…b8::1]:5683€", "à[2001:db8::1]:568…"),
            (5, "à[…83€", "à[200…"),
            (2, "à…€", "à[…"),
            (1, "à…", "à…"),
        ] {
            assert_eq!(shortened(shorten_middle, width), middle, "{width}");
            assert_eq!(shortened(shorten_end, width), end, "{width}");
        }
    }
}
