//! Attributes of dialect `ehc` (draft-mglt-ipsecme-diet-esp-07, wire format §3).

use std::time::Duration;

use super::fields::Fields;
use super::ietf::one_of;
use super::rules::Attributes;
use crate::context::{Dialect, Ehc, Mode, UdpLiteCoverage};
use crate::error::Error;
use crate::files::values::{ValueError, boolean, byte, number, value_error};

/// Reads the attributes that only this dialect has.
pub(crate) fn attributes(fields: &mut Fields, mode: Mode) -> Result<Attributes, Error> {
    let standard = Ehc::default();
    fields.not_both("esp_sn_lsb", "esp_spi_sn")?;
    let sn_name = if fields.entry("esp_spi_sn").is_some() { "esp_spi_sn" } else { "esp_sn_lsb" };
    let ehc = Ehc {
        spi_bytes: bytes(fields, "esp_spi_lsb", standard.spi_bytes)?,
        sn_bytes: bytes(fields, sn_name, standard.sn_bytes)?,
        sn_period: sn_period(fields)?,
        align: fields.optional("esp_align", align)?.unwrap_or(standard.align),
        tcp_lsb: bytes(fields, "tcp_lsb", standard.tcp_lsb)?,
        tcp_sn: tcp_number(fields, "tcp_sn", standard.tcp_sn)?,
        tcp_ack: tcp_number(fields, "tcp_ack", standard.tcp_ack)?,
        tcp_options: fields.optional("tcp_options", boolean)?.unwrap_or(standard.tcp_options),
        tcp_urgent: fields.optional("tcp_urgent", boolean)?.unwrap_or(standard.tcp_urgent),
        udplite_coverage: fields.optional("udplite_coverage", udplite_coverage)?.unwrap_or(standard.udplite_coverage),
    };
    Ok(Attributes { dialect: Dialect::Ehc(ehc), needs_version: mode == Mode::Tunnel })
}

/// A number of bytes, 0 to 4.
pub(crate) fn bytes(fields: &mut Fields, name: &'static str, standard: u8) -> Result<u8, Error> {
    let read = |word: &str| {
        byte(word, 0..=4).map_err(|found| value_error(found.problem, "this dialect counts bytes, not bits: 0 to 4"))
    };
    Ok(fields.optional(name, read)?.unwrap_or(standard))
}

fn tcp_number(fields: &mut Fields, name: &'static str, standard: u32) -> Result<u32, Error> {
    let number = fields.optional(name, |word| number(word, 0..=u64::from(u32::MAX)))?;
    Ok(number.map_or(standard, |number| number as u32))
}

/// `esp_sn_gen` and `esp_sn_period`.
fn sn_period(fields: &mut Fields) -> Result<Option<Duration>, Error> {
    let by_time = one_of(fields, "esp_sn_gen", &[("incremental", false), ("time", true)], false)?;
    let entry = fields.entry("esp_sn_period");
    match (by_time, entry) {
        (true, Some(entry)) => fields.read(entry, seconds).map(Some),
        (true, None) => {
            Err(fields.missing("esp_sn_period", "`esp_sn_gen: time` needs it: the seconds from one number to the next"))
        }
        (false, Some(entry)) => {
            Err(fields.wrong(entry, value_error("requires `esp_sn_gen: time`", "add that, or remove this")))
        }
        (false, None) => Ok(None),
    }
}

/// Seconds, with decimals where needed.
fn seconds(word: &str) -> Result<Duration, ValueError> {
    let wrong = || value_error("not a number of seconds", "write it in decimal, above 0, such as 60 or 0.5");
    let plain = !word.is_empty() && word.bytes().all(|letter| letter.is_ascii_digit() || letter == b'.');
    let seconds: f64 = word.parse().ok().filter(|_| plain).ok_or_else(wrong)?;
    Duration::try_from_secs_f64(seconds).ok().filter(|period| !period.is_zero()).ok_or_else(wrong)
}

/// `esp_align`, in bytes.
fn align(word: &str) -> Result<u8, ValueError> {
    let bits = word.to_ascii_lowercase().replace(' ', "");
    match bits.strip_suffix("bits").or(bits.strip_suffix("bit")).unwrap_or(&bits) {
        "8" => Ok(1),
        "16" => Ok(2),
        "24" => Ok(3),
        "32" => Ok(4),
        _ => Err(value_error("not a valid alignment", "one of: 8, 16, 24, 32 (bits)")),
    }
}

fn udplite_coverage(word: &str) -> Result<UdpLiteCoverage, ValueError> {
    match word.to_ascii_lowercase().as_str() {
        "uncompressed" => Ok(UdpLiteCoverage::Sent),
        "length" => Ok(UdpLiteCoverage::Length),
        _ => match number(word, 8..=0xffff) {
            Ok(agreed) => Ok(UdpLiteCoverage::AtMost(agreed as u16)),
            Err(_) => Err(value_error("not a valid coverage", "`uncompressed`, `Length`, or 8 to 65535 bytes")),
        },
    }
}
