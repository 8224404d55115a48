//! Time stamps of captures, exact, and their RFC 3339 form.

use std::fmt;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Used instead of nanoseconds since 1970 if a frame has no time stamp. Earlier than every time.
pub(crate) const NO_TIME: i64 = i64::MIN;

/// The end of an interval that began at `time_ns`. If the start is unknown, it never ends.
pub(crate) fn deadline(time_ns: i64, timeout_ns: i64) -> i64 {
    if time_ns == NO_TIME { i64::MAX } else { time_ns.saturating_add(timeout_ns) }
}

/// The time at which a frame was captured, in the units of the capture, so that it can be written unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timestamp {
    /// Units since 1970-01-01T00:00:00Z plus `offset`.
    pub ticks: u64,
    /// The unit as in if_tsresol: 10^-n seconds, or 2^-n with the top bit set.
    pub resolution: u8,
    /// Seconds to be added, as in if_tsoffset.
    pub offset: i64,
}

impl Timestamp {
    /// `seconds` since 1970 and `nanos`. Nanoseconds from 10^9 on are carried.
    pub fn new(seconds: i64, nanos: u32) -> Timestamp {
        let since_1970 = u64::try_from(seconds).ok().and_then(|seconds| seconds.checked_mul(NANOS_PER_SECOND));
        match since_1970.and_then(|ticks| ticks.checked_add(u64::from(nanos))) {
            Some(ticks) => Timestamp { ticks, resolution: 9, offset: 0 },
            // Before 1970 or after 2554.
            None => Timestamp { ticks: u64::from(nanos), resolution: 9, offset: seconds },
        }
    }

    /// Whole seconds since 1970 and the remaining nanoseconds, rounded down. Seconds outside an `i64` are limited
    /// to its range.
    pub fn seconds_and_nanos(self) -> (i64, u32) {
        let Timestamp { ticks, resolution, offset } = self;
        let (seconds, nanos) = match resolution {
            6 => (ticks / 1_000_000, ticks % 1_000_000 * 1000),
            9 => (ticks / NANOS_PER_SECOND, ticks % NANOS_PER_SECOND),
            0x80.. => {
                let exponent = u32::from(resolution & 0x7f);
                let seconds = ticks.checked_shr(exponent).unwrap_or(0);
                let fraction = u128::from(ticks) - (u128::from(seconds) << exponent);
                (seconds, ((fraction * u128::from(NANOS_PER_SECOND)) >> exponent) as u64)
            }
            _ => match 10u64.checked_pow(u32::from(resolution)) {
                Some(units) => {
                    let nanos = u128::from(ticks % units) * u128::from(NANOS_PER_SECOND) / u128::from(units);
                    (ticks / units, nanos as u64)
                }
                // 10^-20 s and less: 64 bits are less than a second.
                None => (0, 10u64.checked_pow(u32::from(resolution) - 9).map_or(0, |units| ticks / units)),
            },
        };
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_add(offset);
        (seconds, u32::try_from(nanos).unwrap_or(0))
    }

    /// Nanoseconds since 1970, rounded down.
    pub fn nanos(self) -> i128 {
        let (seconds, nanos) = self.seconds_and_nanos();
        i128::from(seconds) * i128::from(NANOS_PER_SECOND) + i128::from(nanos)
    }

    /// [`Timestamp::nanos`], limited to the range of an `i64` (the years 1677 to 2262).
    pub fn nanos_i64(&self) -> i64 {
        match (self.resolution, self.offset) {
            (9, 0) => i64::try_from(self.ticks).unwrap_or(i64::MAX),
            (6, 0) => i64::try_from(self.ticks).map_or(i64::MAX, |ticks| ticks.saturating_mul(1000)),
            _ => {
                let nanos = self.nanos();
                i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
            }
        }
    }

    /// The same time in other units: exact if the units are the same, otherwise rounded down to the nanosecond or the
    /// unit. `None` if it does not fit 64 bits.
    pub(super) fn ticks_in(self, resolution: u8, offset: i64) -> Option<u64> {
        if (resolution, offset) == (self.resolution, self.offset) {
            return Some(self.ticks);
        }
        let (seconds, nanos) = self.seconds_and_nanos();
        let seconds = u128::try_from(i128::from(seconds) - i128::from(offset)).ok()?;
        let exponent = u32::from(resolution & 0x7f);
        let units = match resolution {
            0x80.. => 1u128.checked_shl(exponent)?,
            _ => 10u128.checked_pow(exponent)?,
        };
        let fraction = units.checked_mul(u128::from(nanos))? / u128::from(NANOS_PER_SECOND);
        u64::try_from(seconds.checked_mul(units)?.checked_add(fraction)?).ok()
    }

    /// Appends the time as RFC 3339 in UTC with 6 digits after the decimal point, or 9 if there are nanoseconds.
    /// Years outside 0000 to 9999, which RFC 3339 does not allow, get a sign (ISO 8601).
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (seconds, nanos) = self.seconds_and_nanos();
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let second_of_day = seconds.rem_euclid(86_400) as u32;
        match year {
            0..=9999 => push_digits(out, year.unsigned_abs(), 4),
            _ => {
                out.push(if year < 0 { b'-' } else { b'+' });
                let digits = year.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                push_digits(out, year.unsigned_abs(), digits.max(5));
            }
        }
        let fields = [
            (b'-', month),
            (b'-', day),
            (b'T', second_of_day / 3600),
            (b':', second_of_day / 60 % 60),
            (b':', second_of_day % 60),
        ];
        for (separator, value) in fields {
            out.push(separator);
            push_digits(out, u64::from(value), 2);
        }
        out.push(b'.');
        match nanos % 1000 {
            0 => push_digits(out, u64::from(nanos / 1000), 6),
            _ => push_digits(out, u64::from(nanos), 9),
        }
        out.push(b'Z');
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(32);
        self.write_rfc3339(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// Parses RFC 3339 (also with a space instead of the T), or decimal seconds since 1970. Digits beyond nanoseconds are
/// ignored.
pub(super) fn parse_rfc3339_or_seconds(text: &str) -> Option<Timestamp> {
    let (whole, rest) = split_digits(text)?;
    if rest.starts_with('-') {
        return parse_rfc3339(text);
    }
    let (nanos, "") = fraction(rest)? else { return None };
    Some(Timestamp::new(i64::try_from(whole).ok()?, nanos))
}

/// Parses RFC 3339, also with a space instead of the T. Digits beyond nanoseconds are ignored.
pub(crate) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (year, _) = split_digits(text)?;
    // Two digits of a field with the maximum `most`, and the rest of the text.
    let field = |text: &str, most: u32| -> Option<u32> {
        let value = text.get(..2).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?.parse().ok()?;
        (value <= most).then_some(value)
    };
    let is_at = |offset: usize, expected: &[char]| text.get(offset..)?.strip_prefix(expected);
    let year = (text.find('-') == Some(4)).then_some(i64::try_from(year).ok()?)?;
    let month = field(is_at(4, &['-'])?, 12)?;
    let day = field(is_at(7, &['-'])?, 31)?;
    let hour = field(is_at(10, &['T', 't', ' '])?, 23)?;
    let minute = field(is_at(13, &[':'])?, 59)?;
    // A leap second counts as the first second of the next minute, as in POSIX.
    let second = field(is_at(16, &[':'])?, 60)?;
    let (nanos, zone) = fraction(text.get(19..)?)?;
    let offset_minutes = match zone {
        "Z" | "z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let digits = zone.strip_prefix(['+', '-'])?;
            let minutes = field(digits.get(2..)?.strip_prefix(':')?, 59)?;
            if digits.len() != 5 {
                return None;
            }
            sign * i64::from(field(digits, 23)? * 60 + minutes)
        }
    };
    let days = days_from_civil(year, month, day)?;
    let second_of_day = i64::from(hour * 3600 + minute * 60 + second);
    Some(Timestamp::new(days * 86_400 + second_of_day - offset_minutes * 60, nanos))
}

/// The decimal digits at the start, and the rest of the text.
fn split_digits(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, rest))
}

/// Nanoseconds of a fraction such as `.25`, if there is one, and the rest of the text.
fn fraction(text: &str) -> Option<(u32, &str)> {
    let Some(digits) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = digits.find(|char: char| !char.is_ascii_digit()).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at_checked(end)?;
    let nanos = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    (!digits.is_empty()).then_some((nanos.fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0')), rest))
}

/// Days since 1970-01-01, the inverse of [`civil`]; `None` if the month does not have this day.
fn days_from_civil(year: i64, month: u32, day: u32) -> Option<i64> {
    let from_march = (i64::from(month) + 9) % 12;
    let years = year - i64::from(month <= 2);
    let of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    let days = years * 365 + years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400) + of_year - 719_468;
    (civil(days) == (year, month, day)).then_some(days)
}

/// The last `count` decimal digits of `value`.
fn push_digits(out: &mut Vec<u8>, mut value: u64, count: usize) {
    let start = out.len();
    out.resize(start + count, b'0');
    for digit in out.iter_mut().skip(start).rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Year, month and day of the proleptic Gregorian calendar, from days since 1970-01-01. Years are counted from March,
/// so that the leap day is the last, in cycles of 400 years, which have 146,097 days.
fn civil(days: i64) -> (i64, u32, u32) {
    // 719,468 days from 0000-03-01 to 1970-01-01.
    let days = days + 719_468;
    let cycle = days.div_euclid(146_097);
    let day_of_cycle = days.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = cycle * 400 + year_of_cycle + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64, resolution: u8, offset: i64) -> Timestamp {
        Timestamp { ticks, resolution, offset }
    }

    #[test]
    fn every_unit_is_converted_to_nanoseconds() {
        assert_eq!(at(5_123_456, 6, 0).nanos(), 5_123_456_000);
        assert_eq!(at(5_123_456_789, 9, 1000).nanos(), 1_005_123_456_789);
        assert_eq!(at(5, 0, -6).nanos(), -1_000_000_000);
        assert_eq!(at(5_123_456_789_999, 12, 0).nanos(), 5_123_456_789);
        assert_eq!(at(u64::MAX, 12, 0).nanos(), 18_446_744_073_709_551);
        assert_eq!(at(u64::MAX, 19, 0).nanos(), 1_844_674_407);
        assert_eq!(at(u64::MAX, 20, 0).nanos(), 184_467_440);
        assert_eq!(at(u64::MAX, 127, 0).nanos(), 0);
        // 3 + 1/2 + 1/1024 seconds: 1/1024 s is 976,562.5 ns.
        assert_eq!(at(3 * 1024 + 512 + 1, 0x8a, 0).nanos(), 3_500_976_562);
        assert_eq!(at(u64::MAX, 0xff, 0).nanos(), 0);
        assert_eq!(at(1 << 63, 0x80 | 64, 0).nanos(), 500_000_000);
        assert_eq!(at(u64::MAX, 0, i64::MAX).seconds_and_nanos(), (i64::MAX, 0));
    }

    #[test]
    fn every_pair_of_units_is_converted_without_overflow() {
        for resolution in 0..=255 {
            for ticks in [0, 1, 999_999_999, u64::MAX] {
                for offset in [i64::MIN, 0, i64::MAX] {
                    let time = at(ticks, resolution, offset);
                    let mut text = Vec::new();
                    time.write_rfc3339(&mut text);
                    let held = time.nanos().clamp(i64::MIN.into(), i64::MAX.into());
                    assert_eq!(i128::from(time.nanos_i64()), held, "{time:?}");
                    for other in 0..=255 {
                        let _ = time.ticks_in(other, 0);
                        let _ = time.ticks_in(other, i64::MIN);
                    }
                }
            }
        }
        assert_eq!(at(1_500_000, 6, 0).ticks_in(9, 0), Some(1_500_000_000));
        assert_eq!(at(1_500_000, 6, 0).ticks_in(12, 0), Some(1_500_000_000_000));
        assert_eq!(at(1_999_999_999, 9, 7).ticks_in(6, 0), Some(8_999_999));
        assert_eq!(at(1_500_000, 6, 0).ticks_in(0x8a, 1), Some(512));
        assert_eq!(at(1_500_000, 6, 0).ticks_in(6, 2), None);
        assert_eq!(at(u64::MAX, 6, 0).ticks_in(9, 0), None);
    }

    #[test]
    fn times_are_written_as_in_rfc_3339() {
        // Left: `date -u -d TEXT +%s`.
        for (seconds, nanos, text) in [
            (0, 0, "1970-01-01T00:00:00.000000Z"),
            (1_767_323_045, 6_000, "2026-01-02T03:04:05.000006Z"),
            (1_767_323_045, 6_001, "2026-01-02T03:04:05.000006001Z"),
            (951_782_399, 999_999_999, "2000-02-28T23:59:59.999999999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000000Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000000Z"),
            (-1, 500_000_000, "1969-12-31T23:59:59.500000Z"),
            (253_402_300_799, 0, "9999-12-31T23:59:59.000000Z"),
            (253_402_300_800, 0, "+10000-01-01T00:00:00.000000Z"),
            (-62_167_219_201, 0, "-00001-12-31T23:59:59.000000Z"),
        ] {
            assert_eq!(Timestamp::new(seconds, nanos).to_string(), text);
        }
    }

    #[test]
    fn times_are_read_from_rfc_3339_and_from_seconds() {
        // Right: `date -u -d TEXT +%s`, and nanoseconds.
        for (text, seconds, nanos) in [
            ("0", 0, 0),
            ("1767323045.000006", 1_767_323_045, 6000),
            ("1767323045.1234567899", 1_767_323_045, 123_456_789),
            ("2026-01-02T03:04:05.000006Z", 1_767_323_045, 6000),
            ("2026-01-02 04:34:05+01:30", 1_767_323_045, 0),
            ("2026-01-01t22:04:05.5-05:00", 1_767_323_045, 500_000_000),
            ("2000-02-29T00:00:00z", 951_782_400, 0),
            ("2100-03-01T00:00:00Z", 4_107_542_400, 0),
            ("1969-12-31T23:59:59Z", -1, 0),
            ("2016-12-31T23:59:60Z", 1_483_228_800, 0),
        ] {
            let read = parse_rfc3339_or_seconds(text).map(Timestamp::seconds_and_nanos);
            assert_eq!(read, Some((seconds, nanos)), "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "1.",
            ".5",
            "1.5s",
            "1e9",
            "99999999999999999999",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-13-02T03:04:05Z",
            "2026-02-30T03:04:05Z",
            "2100-02-29T03:04:05Z",
            "2026-00-02T03:04:05Z",
            "2026-01-00T03:04:05Z",
            "2026-01-02T24:04:05Z",
            "2026-01-02T03:04Z",
            "2026-01-02T03:04:05.Z",
            "2026-01-02T03:04:05+0100",
            "2026-01-02T03:04:05+01:00x",
            "2026-01-02T03:04:05Zx",
            "26-01-02T03:04:05Z",
            "2026-1-2T03:04:05Z",
            "2026-01-02T+3:04:05Z",
            "2026-01-0éT03:04:05Z",
            "Jan 2 2026",
        ] {
            assert!(parse_rfc3339_or_seconds(text).is_none(), "{text}");
        }
    }
}
