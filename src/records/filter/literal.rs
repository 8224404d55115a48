//! The values of a filter, each read as the type of its field requires.

use std::net::IpAddr;

use super::condition::Moment;
use super::syntax::{Problem, Word};
use crate::capture::parse_rfc3339;
use crate::net::Selector;

/// Units of durations, in nanoseconds. A unit comes before those that it ends with.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

fn wrong(word: &Word, expected: &str, help: &str) -> Problem {
    Problem::new(word.at, format!("expected {expected}"), help)
}

/// A whole number, decimal or hex.
pub(super) fn number(word: &Word) -> Result<i128, Problem> {
    const HELP: &str = "write it without quotes: 1234 or 0x4d2";
    if word.quoted {
        return Err(wrong(word, "a number", HELP));
    }
    let (negative, digits) = match word.text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, word.text.as_str()),
    };
    let parsed = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => u64::from_str_radix(hex, 16),
        _ if digits.starts_with('+') => return Err(wrong(word, "a number", HELP)),
        _ => digits.parse::<u64>(),
    };
    let number = parsed.map(i128::from).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow => wrong(word, "a number below 2^64", ""),
        _ => wrong(word, "a number", HELP),
    })?;
    Ok(if negative { -number } else { number })
}

/// An address, or a prefix such as `2001:db8::/32`.
pub(super) fn selector(word: &Word) -> Result<Selector, Problem> {
    const HELP: &str = "write it without quotes: 192.0.2.1, 2001:db8::1 or 2001:db8::/32";
    let problem = || wrong(word, "an IP address or a prefix", HELP);
    if word.quoted {
        return Err(problem());
    }
    let (address, len) = match word.text.split_once('/') {
        Some((address, len)) => (address, Some(len)),
        None => (word.text.as_str(), None),
    };
    let address: IpAddr = address.parse().map_err(|_| problem())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let len = match len.map(str::parse::<u8>) {
        None => most,
        Some(Ok(len)) if len <= most => len,
        Some(_) => return Err(wrong(word, &format!("a prefix length of 0 to {most}"), "")),
    };
    Ok(Selector::prefix(address, len))
}

/// Bytes in hex, such as `de:ad` or `dead`.
pub(super) fn bytes(word: &Word) -> Result<Vec<u8>, Problem> {
    let digits: String = word.text.chars().filter(|c| *c != ':').collect();
    let parts_are_bytes = !word.text.contains(':') || word.text.split(':').all(|part| part.len() == 2);
    match hex::decode(digits) {
        Ok(bytes) if !word.quoted && parts_are_bytes && !bytes.is_empty() => Ok(bytes),
        _ => Err(wrong(word, "bytes in hex", "write them without quotes: de:ad or dead")),
    }
}

/// Text in quotes.
pub(super) fn text(word: &Word) -> Result<String, Problem> {
    match word.quoted {
        true => Ok(word.text.clone()),
        false => Err(wrong(word, "text", &format!("text is quoted: write \"{}\"", word.text))),
    }
}

/// A time in RFC 3339, or a duration after the first frame.
pub(super) fn time(word: &Word) -> Result<Moment, Problem> {
    const HELP: &str = "write \"2026-01-02T03:04:05Z\", or 10m or 1.5s for a time after the first frame";
    if let Some(time) = parse_rfc3339(&word.text) {
        return Ok(Moment::At(time.nanos()));
    }
    let after_first = if word.quoted { None } else { duration(&word.text) };
    after_first.map(Moment::AfterFirst).ok_or_else(|| wrong(word, "a time", HELP))
}

/// A decimal number with a unit, in nanoseconds. Digits beyond nanoseconds are ignored.
fn duration(text: &str) -> Option<i128> {
    let (digits, unit) = text.split_at_checked(text.find(|c: char| c.is_ascii_alphabetic())?)?;
    let (_, unit_ns) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let whole = i128::from(whole.parse::<u64>().ok()?).checked_mul((*unit_ns).into())?;
    let fraction = fraction.get(..fraction.len().min(18))?;
    let part = i128::from(fraction.parse::<u64>().ok()?) * i128::from(*unit_ns) / 10i128.pow(fraction.len() as u32);
    Some(whole + part)
}
