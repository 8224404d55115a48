//! Records as an aligned, human-readable table.
//!
//! Rows are written as packets arrive, so the width of a column cannot depend on its widest cell. The widths are
//! fixed to what most captures need; only that of the SA column depends on the names of the SAs. On a terminal the
//! columns are chosen to fit its width, and no line is wider.

use std::net::IpAddr;

use super::fields::Value;
use super::fit::{Extent, GAP, fit, shorten_end, shorten_middle, starts_character, width_of};
use super::json::write_plain;
use super::record::Record;
use crate::decoder::status::Status;
use crate::net::protocol;
use crate::sa::table::SaTable;

/// Writes records as rows.
#[derive(Debug)]
pub struct Table {
    /// `None` if the column is dropped.
    widths: [Option<usize>; COLUMNS.len()],
    /// Columns of the terminal; `None` for a file or pipe.
    limit: Option<usize>,
    color: bool,
}

/// Appends what a cell contains.
type Fill = fn(&Record<'_>, &mut Vec<u8>);

struct Column {
    title: &'static str,
    right: bool,
    /// The width in a file, where longer cells move the rest of their line.
    width: usize,
    /// The width on a terminal.
    extent: Extent,
    fill: Fill,
}

impl Column {
    /// Whether its cells are shortened on a terminal.
    const fn is_flexible(&self) -> bool {
        self.extent.least < self.extent.width
    }
}

const fn column(title: &'static str, right: bool, width: usize, rank: u8, fill: Fill) -> Column {
    Column { title, right, width, extent: Extent { width, least: width, rank }, fill }
}

/// A column that has `least` to `most` characters on a terminal, and whose cells are shortened to its width.
const fn flexible(title: &'static str, width: usize, least: usize, most: usize, fill: Fill) -> Column {
    Column { title, right: false, width, extent: Extent { width: most, least, rank: 0 }, fill }
}

const SA_COLUMN: usize = 2;
const WIDEST_NAME: usize = 24;
/// The longest address with a port: `[` and 39 characters, `]:` and 5 digits.
const ADDRESS: usize = 47;
/// The columns that are never dropped fill 80 characters together.
const COLUMNS: [Column; 11] = [
    column("Frame", true, 6, 0, write_frame),
    column("Time", false, 18, 2, write_time_of_day),
    flexible("SA", 10, 10, WIDEST_NAME, |record, cell| plain(record.sa().map(Value::Text), cell)),
    column("SPI", false, 10, 5, |record, cell| plain(record.esp().map(|esp| Value::Spi(esp.spi)), cell)),
    column("SN", true, 6, 0, |record, cell| plain(record.esp().map(|esp| Value::Number(esp.sequence)), cell)),
    flexible("Source", 24, 16, ADDRESS, |record, cell| write_address(record, End::Source, cell)),
    flexible("Destination", 24, 16, ADDRESS, |record, cell| write_address(record, End::Destination, cell)),
    column("Proto", false, 6, 1, write_protocol),
    column("Wire", true, 5, 3, |record, cell| plain(record.bytes().map(|bytes| Value::Number(bytes.diet)), cell)),
    column("Saved", true, 5, 4, |record, cell| plain(record.bytes().map(|bytes| Value::Signed(bytes.saved())), cell)),
    flexible("Status", 0, 16, 60, write_status),
];

impl Table {
    /// A table for packets of these SAs. With `color`, the status is colored. No line is wider than `limit`, the columns
    /// of the terminal; `None` for a file or pipe.
    pub fn new(color: bool, sas: &SaTable, limit: Option<usize>) -> Table {
        let names = sas.entries().iter().map(|entry| width_of(entry.sa.name.as_bytes()));
        let longest = names.max().unwrap_or(0);
        let (mut widths, mut extents) = (COLUMNS.map(|column| column.width), COLUMNS.map(|column| column.extent));
        if let (Some(width), Some(extent)) = (widths.get_mut(SA_COLUMN), extents.get_mut(SA_COLUMN)) {
            extent.width = longest.max(*width);
            *width = extent.width.min(WIDEST_NAME);
        }
        let widths = limit.map_or(widths.map(Some), |limit| fit(extents, limit));
        Table { widths, limit, color }
    }

    /// Appends the column titles.
    pub fn write_header(&self, out: &mut Vec<u8>) {
        self.write_line(out, None, |column, out| out.extend_from_slice(column.title.as_bytes()));
    }

    /// Appends one row.
    pub fn write_row(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let color = self.color.then(|| match record.status() {
            Status::Ok => "\x1b[32m",
            Status::NotEsp => "\x1b[2m",
            _ => "\x1b[31m",
        });
        self.write_line(out, color, |column, out| (column.fill)(record, out));
    }

    /// `color`: the escape sequence before the last cell.
    fn write_line(&self, out: &mut Vec<u8>, color: Option<&str>, cell: impl Fn(&Column, &mut Vec<u8>)) {
        let line = out.len();
        let mut start = line;
        for (index, (column, width)) in COLUMNS.iter().zip(self.widths).enumerate() {
            let Some(width) = width else { continue };
            if index > 0 {
                out.extend(std::iter::repeat_n(b' ', GAP));
            }
            start = out.len();
            cell(column, out);
            if index + 1 == COLUMNS.len() {
                break;
            }
            if self.limit.is_some() && column.is_flexible() {
                shorten_middle(out, start, width);
            }
            let padding = width.saturating_sub(width_of(out.get(start..).unwrap_or_default()));
            let spaces = std::iter::repeat_n(b' ', padding);
            match column.right {
                true => drop(out.splice(start..start, spaces)),
                false => out.extend(spaces),
            }
        }
        if let Some(limit) = self.limit {
            shorten_end(out, line, limit);
        }
        // On a very narrow terminal the `…` may replace the end of the cell before.
        let has_last = out.get(start).is_some_and(|byte| starts_character(*byte));
        if let Some(color) = color.filter(|_| has_last) {
            out.splice(start..start, color.bytes());
            out.extend_from_slice(b"\x1b[0m");
        }
        out.push(b'\n');
    }
}

fn plain(value: Option<Value<'_>>, cell: &mut Vec<u8>) {
    if let Some(value) = value {
        write_plain(value, cell);
    }
}

fn write_frame(record: &Record<'_>, cell: &mut Vec<u8>) {
    write_plain(Value::Number(record.frame()), cell);
    if let Some(part) = record.part() {
        cell.push(b'.');
        write_plain(Value::Number(part.into()), cell);
    }
}

enum End {
    Source,
    Destination,
}

/// An address and port of the inner packet, or an address of the outer header if there is no inner packet.
fn write_address(record: &Record<'_>, end: End, cell: &mut Vec<u8>) {
    let outer = record.outer().map(|outer| (outer.src, outer.dst, None));
    let inner = record.inner().map(|inner| (inner.src, inner.dst, inner.ports));
    let Some((src, dst, ports)) = inner.or(outer) else { return };
    match end {
        End::Source => write_endpoint(src, ports.map(|ports| ports.0), cell),
        End::Destination => write_endpoint(dst, ports.map(|ports| ports.1), cell),
    }
}

fn write_protocol(record: &Record<'_>, cell: &mut Vec<u8>) {
    let value = record.inner().map(|inner| match protocol::name(inner.protocol) {
        Some(name) => Value::Name(name),
        None => Value::Number(inner.protocol.into()),
    });
    plain(value, cell);
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
