//! Records as JSON Lines and as tab-separated fields, written straight into a reused buffer.

use std::io::Write;
use std::net::IpAddr;

use super::record::{FIELDS, Field, Record, Value};

/// Appends the record as one JSON object and a newline.
pub fn write_line(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut open: &[&str] = &[];
    out.push(b'{');
    let mut comma = false;
    for field in FIELDS {
        let Some(value) = field.read(record) else { continue };
        let shared = open.iter().zip(field.path).take_while(|(a, b)| a == b).count();
        for _ in shared..open.len() {
            out.push(b'}');
            comma = true;
        }
        for name in field.path.iter().skip(shared) {
            write_key(name, comma, out);
            out.push(b'{');
            comma = false;
        }
        open = field.path;
        write_key(field.name, comma, out);
        write_value(value, out);
        comma = true;
    }
    out.extend(std::iter::repeat_n(b'}', open.len() + 1));
    out.push(b'\n');
}

/// Appends the values of `fields`, separated by tabs, and a newline; empty where the record has no such field.
pub fn write_fields(record: &Record<'_>, fields: &[Field], out: &mut Vec<u8>) {
    for (index, field) in fields.iter().enumerate() {
        if index > 0 {
            out.push(b'\t');
        }
        if let Some(value) = field.read(record) {
            write_plain(value, out);
        }
    }
    out.push(b'\n');
}

fn write_key(name: &str, comma: bool, out: &mut Vec<u8>) {
    if comma {
        out.push(b',');
    }
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Number(_) | Value::Signed(_) => write_plain(value, out),
        Value::Text(text) => write_string(text, out),
        Value::Reason(reason) => write_string(&reason.to_string(), out),
        Value::Frames(frames) => {
            out.push(b'[');
            for (index, frame) in frames.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_number(*frame, out);
            }
            out.push(b']');
        }
        Value::Warnings(warnings) => {
            out.push(b'[');
            for (index, name) in warnings.names().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_string(name, out);
            }
            out.push(b']');
        }
        Value::Name(_) | Value::Spi(_) | Value::Address(_) | Value::Time(_) | Value::Bytes(_) => {
            out.push(b'"');
            write_plain(value, out);
            out.push(b'"');
        }
    }
}

/// Appends a value as people read it: no quotes, lists separated by commas, no tab or line break.
pub fn write_plain(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Name(name) => out.extend_from_slice(name.as_bytes()),
        Value::Text(text) => {
            out.extend(text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
        }
        Value::Reason(reason) => write_display(&reason, out),
        Value::Number(number) => write_number(number, out),
        Value::Signed(number) => {
            if number < 0 {
                out.push(b'-');
            }
            write_number(number.unsigned_abs(), out);
        }
        Value::Spi(spi) => {
            out.extend_from_slice(b"0x");
            write_hex(&spi.to_be_bytes(), out);
        }
        Value::Address(address) => write_address(address, out),
        Value::Time(time) => time.write_rfc3339(out),
        Value::Bytes(bytes) => write_hex(bytes, out),
        Value::Frames(frames) => {
            for (index, frame) in frames.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_number(*frame, out);
            }
        }
        Value::Warnings(warnings) => {
            for (index, name) in warnings.names().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(name.as_bytes());
            }
        }
    }
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    // Serializing a string into a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    write_display(&address, out);
}

fn write_display(value: &dyn std::fmt::Display, out: &mut Vec<u8>) {
    // Writing into a vector cannot fail.
    let _ = write!(out, "{value}");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut left = number;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (left % 10) as u8;
        }
        left /= 10;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    if let Some(to) = out.get_mut(start..) {
        // The room is exactly twice the bytes.
        let _ = hex::encode_to_slice(bytes, to);
    }
}
