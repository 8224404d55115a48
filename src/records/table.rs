//! Records as an aligned, human-readable table.
//!
//! Rows are written as packets arrive, so the width of a column cannot depend on its widest cell. The widths are
//! fixed to what most captures need; only that of the SA column depends on the names of the SAs.

use std::net::IpAddr;

use super::fields::Value;
use super::json::write_plain;
use super::record::Record;
use crate::decoder::status::Status;
use crate::net::protocol;
use crate::sa::table::SaTable;

/// Writes records as rows.
#[derive(Debug)]
pub struct Table {
    widths: [usize; COLUMNS.len()],
    color: bool,
}

struct Column {
    title: &'static str,
    right: bool,
    width: usize,
}

const fn column(title: &'static str, right: bool, width: usize) -> Column {
    Column { title, right, width }
}

const SA_COLUMN: usize = 2;
const COLUMNS: [Column; 11] = [
    column("Frame", true, 6),
    column("Time", false, 18),
    column("SA", false, 10),
    column("SPI", false, 10),
    column("SN", true, 6),
    column("Source", false, 24),
    column("Destination", false, 24),
    column("Proto", false, 6),
    column("Wire", true, 5),
    column("Saved", true, 5),
    column("Status", false, 0),
];

impl Table {
    /// A table for packets of these SAs. With `color`, the status is colored.
    pub fn new(color: bool, sas: &SaTable) -> Table {
        const WIDEST_NAME: usize = 24;
        let mut widths = COLUMNS.map(|column| column.width);
        let names = sas.entries().iter().map(|entry| str_width(entry.sa.name.as_bytes()));
        if let (Some(width), Some(longest)) = (widths.get_mut(SA_COLUMN), names.max()) {
            *width = (*width).max(longest.min(WIDEST_NAME));
        }
        Table { widths, color }
    }

    /// Appends the column titles.
    pub fn write_header(&self, out: &mut Vec<u8>) {
        self.write_line(out, None, |index, out| {
            out.extend(COLUMNS.get(index).map_or("", |column| column.title).as_bytes());
        });
    }

    /// Appends one row.
    pub fn write_row(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let color = self.color.then_some(record.status());
        self.write_line(out, color, |index, out| fill_cell(index, record, out));
    }

    fn write_line(&self, out: &mut Vec<u8>, color: Option<Status>, cell: impl Fn(usize, &mut Vec<u8>)) {
        for (index, (column, width)) in COLUMNS.iter().zip(self.widths).enumerate() {
            let last = index + 1 == COLUMNS.len();
            if index > 0 {
                out.extend_from_slice(b"  ");
            }
            if let Some(status) = color.filter(|_| last) {
                out.extend_from_slice(match status {
                    Status::Ok => b"\x1b[32m",
                    Status::NotEsp => b"\x1b[2m",
                    _ => b"\x1b[31m",
                });
            }
            let start = out.len();
            cell(index, out);
            let padding = width.saturating_sub(str_width(out.get(start..).unwrap_or_default()));
            if column.right {
                out.splice(start..start, std::iter::repeat_n(b' ', padding));
            } else if !last {
                out.extend(std::iter::repeat_n(b' ', padding));
            }
            if color.is_some() && last {
                out.extend_from_slice(b"\x1b[0m");
            }
        }
        out.push(b'\n');
    }
}

fn str_width(cell: &[u8]) -> usize {
    // Only names of SAs may contain characters other than ASCII.
    cell.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

fn fill_cell(index: usize, record: &Record<'_>, cell: &mut Vec<u8>) {
    let mut plain = |value: Option<Value<'_>>| {
        if let Some(value) = value {
            write_plain(value, cell);
        }
    };
    match index {
        0 => {
            plain(Some(Value::Number(record.frame())));
            if let Some(part) = record.part() {
                cell.push(b'.');
                write_plain(Value::Number(part.into()), cell);
            }
        }
        1 => write_time_of_day(record, cell),
        2 => plain(record.sa().map(Value::Text)),
        3 => plain(record.esp().map(|esp| Value::Spi(esp.spi))),
        4 => plain(record.esp().map(|esp| Value::Number(esp.sequence))),
        5 | 6 => {
            let outer = record.outer().map(|outer| (outer.src, outer.dst, None));
            let inner = record.inner().map(|inner| (inner.src, inner.dst, inner.ports));
            let Some((src, dst, ports)) = inner.or(outer) else { return };
            match index {
                5 => write_endpoint(src, ports.map(|ports| ports.0), cell),
                _ => write_endpoint(dst, ports.map(|ports| ports.1), cell),
            }
        }
        7 => plain(record.inner().map(|inner| match protocol::name(inner.protocol) {
            Some(name) => Value::Name(name),
            None => Value::Number(inner.protocol.into()),
        })),
        8 => plain(record.bytes().map(|bytes| Value::Number(bytes.diet))),
        9 => plain(record.bytes().map(|bytes| Value::Signed(bytes.saved()))),
        _ => write_status(record, cell),
    }
}

/// The part of the time between the `T` and the `Z` of RFC 3339.
fn write_time_of_day(record: &Record<'_>, cell: &mut Vec<u8>) {
    let Some(time) = record.time() else { return };
    let start = cell.len();
    write_plain(Value::Time(time), cell);
    let time = cell.get(start..).unwrap_or_default();
    let date = time.iter().position(|byte| *byte == b'T').map_or(0, |at| at + 1);
    cell.drain(start..start + date);
    cell.pop();
}

/// An address, with the port if there is one.
fn write_endpoint(address: IpAddr, port: Option<u16>, cell: &mut Vec<u8>) {
    let Some(port) = port else { return write_plain(Value::Address(address), cell) };
    let (before, after): (&[u8], &[u8]) = if address.is_ipv6() { (b"[", b"]:") } else { (b"", b":") };
    cell.extend_from_slice(before);
    write_plain(Value::Address(address), cell);
    cell.extend_from_slice(after);
    write_plain(Value::Number(port.into()), cell);
}

/// The status with warnings, the packet that it refers to, and the reason.
fn write_status(record: &Record<'_>, cell: &mut Vec<u8>) {
    write_plain(Value::Name(record.status().name()), cell);
    for name in record.warnings().names() {
        cell.push(b' ');
        cell.extend_from_slice(name.as_bytes());
    }
    if let Some(frame) = record.repeat_of() {
        cell.extend_from_slice(b" of ");
        write_plain(Value::Number(frame), cell);
    }
    if let Some(part) = record.inside() {
        cell.extend_from_slice(b" inside ");
        write_plain(Value::Number(record.frame()), cell);
        cell.push(b'.');
        write_plain(Value::Number(part.into()), cell);
    }
    if let Some(reason) = record.reason() {
        cell.extend_from_slice(b": ");
        write_plain(Value::Reason(reason), cell);
    }
}
