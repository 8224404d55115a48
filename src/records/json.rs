//! Records as JSON Lines and as tab-separated fields, written straight into a reused buffer.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::fields::{FIELDS, Field, Value};
use super::record::Record;

/// Appends the record as one JSON object and a newline.
pub fn write_line(record: &Record<'_>, out: &mut Vec<u8>) {
    write_line_with(record, &[], out);
}

/// [`write_line`] with more fields, which are in no enclosing object, at the end.
pub(crate) fn write_line_with(record: &Record<'_>, more: &[Field], out: &mut Vec<u8>) {
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
    out.extend(std::iter::repeat_n(b'}', open.len()));
    for field in more {
        if let Some(value) = field.read(record) {
            write_key(field.name, true, out);
            write_value(value, out);
        }
    }
    out.extend_from_slice(b"}\n");
}

/// Appends the values of `fields`, separated by tabs, and a newline. A field that the record does not have is left
/// empty.
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

/// Appends a value in human-readable form: no quotes, lists separated by commas, no tab or line break.
pub(crate) fn write_plain(value: Value<'_>, out: &mut Vec<u8>) {
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
    match address {
        IpAddr::V4(address) => write_v4(address, out),
        IpAddr::V6(address) => write_v6(address, out),
    }
}

fn write_v4(address: Ipv4Addr, out: &mut Vec<u8>) {
    for (index, byte) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        write_number(byte.into(), out);
    }
}

/// Writes the form of RFC 5952: the first of the longest runs of at least two zero groups becomes `::`. An
/// IPv4-mapped address ends in the IPv4 address (§5).
fn write_v6(address: Ipv6Addr, out: &mut Vec<u8>) {
    if let Some(mapped) = address.to_ipv4_mapped() {
        out.extend_from_slice(b"::ffff:");
        return write_v4(mapped, out);
    }
    let groups = address.segments();
    let (mut zeros, mut run) = (0..0, 0..0);
    for (index, group) in groups.into_iter().enumerate() {
        run = if group == 0 { run.start..index + 1 } else { index + 1..index + 1 };
        if run.len() > zeros.len() {
            zeros = run.clone();
        }
    }
    if zeros.len() < 2 {
        zeros = 0..0;
    }
    for (index, group) in groups.into_iter().enumerate() {
        if zeros.contains(&index) {
            if index == zeros.start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if index > 0 && index != zeros.end {
            out.push(b':');
        }
        let digits = (4 - group.leading_zeros() / 4).max(1);
        out.extend((0..digits).rev().map(|digit| hex_digit(group >> (4 * digit))));
    }
}

fn hex_digit(number: u16) -> u8 {
    b"0123456789abcdef".get(usize::from(number & 0xf)).copied().unwrap_or(b'0')
}

fn write_display(value: &dyn std::fmt::Display, out: &mut Vec<u8>) {
    // Writing into a vector cannot fail.
    let _ = write!(out, "{value}");
}

fn write_number(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    if let Some(to) = out.get_mut(start..) {
        // The buffer has exactly two characters for each byte.
        let _ = hex::encode_to_slice(bytes, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(address: IpAddr) -> String {
        let mut out = vec![];
        write_address(address, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_written_as_the_standard_library_does() {
        // Every pattern of zero groups, with groups of every number of digits.
        for pattern in 0..=0xffu16 {
            for values in [[1, 0x23, 0x456, 0x789a, 0xffff, 0xf00, 0x10, 2], [0xffff; 8]] {
                let groups: [u16; 8] = std::array::from_fn(|at| values[at] * (pattern >> at & 1));
                let address = IpAddr::from(groups);
                assert_eq!(written(address), address.to_string());
            }
        }
        for text in
            ["::ffff:192.0.2.1", "::192.0.2.1", "64:ff9b::192.0.2.33", "0.0.0.0", "255.255.255.255", "10.0.99.100"]
        {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(written(address), address.to_string());
        }
    }

    proptest::proptest! {
        #[test]
        fn random_addresses_are_written_as_the_standard_library_does(v6: u128, v4: u32, kept: u128) {
            for address in [IpAddr::from(v6.to_be_bytes()), IpAddr::from((v6 & kept).to_be_bytes()), v4.to_be_bytes().into()] {
                proptest::prop_assert_eq!(written(address), address.to_string());
            }
        }
    }
}
