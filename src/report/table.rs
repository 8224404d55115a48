//! Records as an aligned table for people.
//!
//! Rows are written as their packets arrive, so column widths cannot wait for the last one: they start from the widths
//! that common values need, and grow with what comes.

use super::json::write_plain;
use super::record::{Record, Value};
use crate::pipeline::outcome::{Status, protocol_name};

/// Writes records as rows.
#[derive(Debug)]
pub struct Table {
    widths: [usize; COLUMNS.len()],
    header_written: bool,
    color: bool,
    cell: Vec<u8>,
}

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
    column("SA", false, 10),
    column("SPI", false, 10),
    column("SN", true, 5),
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
        Table { widths: COLUMNS.map(|column| column.width), header_written: false, color, cell: vec![] }
    }

    /// Appends one row, and the header line before the first.
    pub fn write_row(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        if !self.header_written {
            self.header_written = true;
            self.measure(record);
            for (index, column) in COLUMNS.iter().enumerate() {
                self.cell.clear();
                self.cell.extend_from_slice(column.title.as_bytes());
                self.write_cell(index, None, out);
            }
            out.push(b'\n');
        }
        for index in 0..COLUMNS.len() {
            self.cell.clear();
            fill_cell(index, record, &mut self.cell);
            let color = if index + 1 == COLUMNS.len() && self.color { Some(record.status) } else { None };
            self.write_cell(index, color, out);
        }
        out.push(b'\n');
    }

    fn measure(&mut self, record: &Record<'_>) {
        for index in 0..COLUMNS.len() {
            self.cell.clear();
            fill_cell(index, record, &mut self.cell);
            self.widen(index);
        }
    }

    fn widen(&mut self, index: usize) -> usize {
        let len = str_width(&self.cell);
        match self.widths.get_mut(index) {
            Some(width) => {
                *width = (*width).max(len);
                *width
            }
            None => len,
        }
    }

    fn write_cell(&mut self, index: usize, color: Option<Status>, out: &mut Vec<u8>) {
        let last = index + 1 == COLUMNS.len();
        let width = if last { 0 } else { self.widen(index) };
        let padding = width.saturating_sub(str_width(&self.cell));
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
