//! Records as comma-separated values (RFC 4180), written straight into a reused buffer.

use csv_core::{WriteResult, Writer, WriterBuilder};

use super::fields::Field;
use super::json::write_plain;
use super::record::Record;

/// Appends the names of the fields.
pub(crate) fn write_header(fields: &[Field], out: &mut Vec<u8>) {
    write_row(fields.iter(), |field, out| out.extend(field.full_name().into_bytes()), out);
}

/// Appends the values of `fields`. A field that the record does not have is left empty.
pub(crate) fn write_record(record: &Record<'_>, fields: &[Field], out: &mut Vec<u8>) {
    let write = |field: &Field, out: &mut Vec<u8>| {
        if let Some(value) = field.read(record) {
            write_plain(value, out);
        }
    };
    write_row(fields.iter(), write, out);
}

/// Appends a row. `write` appends a cell without quotes.
fn write_row<C>(cells: impl Iterator<Item = C>, write: impl Fn(C, &mut Vec<u8>), out: &mut Vec<u8>) {
    let mut writer = WriterBuilder::new().build();
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            // The delimiter also writes the closing quote of the cell before it.
            append(out, 2, |_, to| writer.delimiter(to));
        }
        let start = out.len();
        write(cell, out);
        quote(&mut writer, start, out);
    }
    // After a closing quote, or the pair of quotes that is a row of one empty cell.
    append(out, 3, |_, to| writer.terminator(to));
}

/// Adds quotes to the cell at the end of `out`, which starts at `start`, if it needs them.
fn quote(writer: &mut Writer, start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    let most = 2 * (end - start) + 2;
    append(out, most, |written, to| {
        let (result, _, len) = writer.field(written.get(start..).unwrap_or_default(), to);
        (result, len)
    });
    out.drain(start..end);
}

/// Appends at most `most` bytes with a function that gets the bytes so far and the space after them.
fn append(out: &mut Vec<u8>, most: usize, write: impl FnOnce(&[u8], &mut [u8]) -> (WriteResult, usize)) {
    let end = out.len();
    out.resize(end + most, 0);
    let (written, space) = out.split_at_mut(end);
    let (_, len) = write(written, space);
    out.truncate(end + len);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> String {
        let mut out = b"before".to_vec();
        write_row(cells.iter(), |cell, out| out.extend(cell.as_bytes()), &mut out);
        String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        assert_eq!(row(&["a", "", "b,c", "d\"e", "f g"]), "a,,\"b,c\",\"d\"\"e\",f g\n");
        assert_eq!(row(&[""]), "\"\"\n");
        assert_eq!(row(&["", ""]), ",\n");
        assert_eq!(row(&["\"\"\"\""]), "\"\"\"\"\"\"\"\"\"\"\n");
    }
}
