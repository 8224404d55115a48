//! Records as an aligned table for people.
//!
//! Rows are written as their packets arrive, so column widths cannot wait for the last one: they come from the first rows,
//! which are held back for that, and grow with what follows.

use super::json::write_plain;
use super::record::{Record, Value};
use crate::pipeline::outcome::{Status, protocol_name};

/// Writes records as rows.
#[derive(Debug)]
pub struct Table {
    widths: [usize; COLUMNS.len()],
    color: bool,
    cell: Vec<u8>,
    /// The first rows, until the header is written.
    held_back: Option<Vec<Row>>,
}

#[derive(Debug)]
struct Row {
    cells: [Vec<u8>; COLUMNS.len()],
    status: Status,
}

/// So many rows are held back at most: more than a screen, and little memory.
const HELD_BACK: usize = 256;

struct Column {
    title: &'static str,
    right: bool,
    width: usize,
}

const fn column(title: &'static str, right: bool, width: usize) -> Column {
    Column { title, right, width }
}

const COLUMNS: [Column; 11] = [
    column("Frame", true, 5),
    column("Time", false, 15),
    column("SA", false, 8),
    column("SPI", false, 10),
    column("SN", true, 4),
    column("Source", false, 15),
    column("Destination", false, 15),
    column("Proto", false, 5),
    column("Wire", true, 4),
    column("Saved", true, 5),
    column("Status", false, 0),
];

impl Table {
    /// A table; with `color` the status is coloured.
    pub fn new(color: bool) -> Table {
        Table { widths: COLUMNS.map(|column| column.width), color, cell: vec![], held_back: Some(vec![]) }
    }

    /// Appends one row, or holds it back until [`Table::flush`].
    pub fn write_row(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let Some(rows) = &mut self.held_back else {
            for index in 0..COLUMNS.len() {
                self.cell.clear();
                fill_cell(index, record, &mut self.cell);
                self.write_cell(index, record.status, out);
            }
            out.push(b'\n');
            return;
        };
        let cells = std::array::from_fn(|index| {
            let mut cell = vec![];
            fill_cell(index, record, &mut cell);
            cell
        });
        rows.push(Row { cells, status: record.status });
        if rows.len() == HELD_BACK {
            self.flush(out);
        }
    }

    /// Appends what was held back, below the header line. To be called when no more rows can be waited for.
    pub fn flush(&mut self, out: &mut Vec<u8>) {
        let rows = match &self.held_back {
            Some(rows) if !rows.is_empty() => self.held_back.take().unwrap_or_default(),
            _ => return,
        };
        for (index, column) in COLUMNS.iter().enumerate() {
            for cell in rows.iter().filter_map(|row| row.cells.get(index)) {
                self.widen(index, str_width(cell));
            }
            self.cell.clear();
            self.cell.extend_from_slice(column.title.as_bytes());
            self.write_aligned(index, None, out);
        }
        out.push(b'\n');
        for row in rows {
            for (index, cell) in row.cells.into_iter().enumerate() {
                self.cell = cell;
                self.write_cell(index, row.status, out);
            }
            out.push(b'\n');
        }
    }

    fn widen(&mut self, index: usize, len: usize) -> usize {
        match self.widths.get_mut(index) {
            Some(width) => {
                *width = (*width).max(len);
                *width
            }
            None => len,
        }
    }

    fn write_cell(&mut self, index: usize, status: Status, out: &mut Vec<u8>) {
        self.write_aligned(index, (self.color && index + 1 == COLUMNS.len()).then_some(status), out);
    }

    fn write_aligned(&mut self, index: usize, color: Option<Status>, out: &mut Vec<u8>) {
        let last = index + 1 == COLUMNS.len();
        let len = str_width(&self.cell);
        let padding = if last { 0 } else { self.widen(index, len) - len };
        let right = COLUMNS.get(index).is_some_and(|column| column.right);
        if index > 0 {
            out.extend_from_slice(b"  ");
        }
        if right {
            out.extend(std::iter::repeat_n(b' ', padding));
        }
        match color {
            Some(status) => {
                out.extend_from_slice(match status {
                    Status::Ok => b"\x1b[32m",
                    Status::NotEsp => b"\x1b[2m",
                    _ => b"\x1b[31m",
                });
                out.extend_from_slice(&self.cell);
                out.extend_from_slice(b"\x1b[0m");
            }
            None => out.extend_from_slice(&self.cell),
        }
        if !right && !last {
            out.extend(std::iter::repeat_n(b' ', padding));
        }
    }
}

fn str_width(cell: &[u8]) -> usize {
    // Names of SAs are the only cells that may not be ASCII.
    cell.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn fill_cell(index: usize, record: &Record<'_>, cell: &mut Vec<u8>) {
    let mut plain = |value: Option<Value<'_>>| {
        if let Some(value) = value {
            write_plain(value, cell);
        }
    };
    match index {
        0 => plain(Some(Value::Number(record.frame))),
        1 => {
            // The time of day: between the `T` and the `Z` of RFC 3339.
            plain(Some(Value::Time(record.time)));
            let start = cell.iter().position(|byte| *byte == b'T').map_or(0, |at| at + 1);
            cell.drain(..start);
            cell.pop();
        }
        2 => plain(record.sa.map(Value::Text)),
        3 => plain(record.esp.map(|esp| Value::Spi(esp.spi))),
        4 => plain(record.esp.map(|esp| Value::Number(esp.sequence))),
        5 | 6 => {
            let outer = record.outer.map(|outer| (outer.src, outer.dst, None));
            let inner = record.inner.map(|inner| (inner.src, inner.dst, inner.ports));
            let Some((src, dst, ports)) = inner.or(outer) else { return };
            let (address, port) =
                if index == 5 { (src, ports.map(|ports| ports.0)) } else { (dst, ports.map(|ports| ports.1)) };
            match (address.is_ipv6(), port) {
                (true, Some(port)) => {
                    cell.push(b'[');
                    write_plain(Value::Address(address), cell);
                    cell.extend_from_slice(b"]:");
                    write_plain(Value::Number(port.into()), cell);
                }
                (false, Some(port)) => {
                    write_plain(Value::Address(address), cell);
                    cell.push(b':');
                    write_plain(Value::Number(port.into()), cell);
                }
                (_, None) => plain(Some(Value::Address(address))),
            }
        }
        7 => plain(record.inner.map(|inner| match protocol_name(inner.protocol) {
            Some(name) => Value::Name(name),
            None => Value::Number(inner.protocol.into()),
        })),
        8 => plain(record.bytes.map(|bytes| Value::Number(bytes.diet))),
        9 => plain(record.bytes.map(|bytes| Value::Signed(bytes.saved()))),
        _ => {
            plain(Some(Value::Name(record.status.name())));
            for name in record.warnings.names() {
                cell.push(b' ');
                cell.extend_from_slice(name.as_bytes());
            }
            if let Some(frame) = record.repeat_of {
                cell.extend_from_slice(b" of ");
                write_plain(Value::Number(frame), cell);
            }
            if let Some(reason) = record.reason {
                cell.extend_from_slice(b": ");
                write_plain(Value::Reason(reason), cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Timestamp;
    use crate::pipeline::warnings::Warnings;

    fn record(frame: u64, sa: &'static str) -> Record<'static> {
        Record {
            frame,
            time: Timestamp::new(0, 0),
            status: Status::NotEsp,
            reason: None,
            sa: Some(sa),
            repeat_of: None,
            fragments: &[],
            outer: None,
            esp: None,
            inner: None,
            packet: None,
            restored: None,
            bytes: None,
            warnings: Warnings::NONE,
        }
    }

    fn lines(out: &[u8]) -> Vec<String> {
        String::from_utf8(out.to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_first_rows_set_the_widths_and_nothing_is_lost() {
        let (mut table, mut out) = (Table::new(false), vec![]);
        table.write_row(&record(1, "a"), &mut out);
        table.write_row(&record(2, "a-name-of-23-characters"), &mut out);
        assert!(out.is_empty());
        table.flush(&mut out);
        table.flush(&mut out);
        table.write_row(&record(3, "c"), &mut out);
        let lines = lines(&out);
        assert_eq!(lines.len(), 4, "{lines:?}");
        let column = lines[0].find("SPI").unwrap();
        assert_eq!(&lines[2][column - 25..column], "a-name-of-23-characters  ");
        assert!(lines.iter().all(|line| line.find("not-esp").is_none_or(|at| at == lines[0].find("Status").unwrap())));
    }

    #[test]
    fn rows_are_not_held_back_without_end() {
        let (mut table, mut out) = (Table::new(false), vec![]);
        for frame in 1..=1000 {
            table.write_row(&record(frame, "a"), &mut out);
        }
        assert_eq!(lines(&out).len(), 1001);
    }
}
