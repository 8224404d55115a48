//! Single values of key and rule files. Messages never show a value that might be a secret.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::native::yaml::{Node, Value};
use crate::net::{IpVersion, LinkAddress, Selector, address_value};
use crate::secret::Secret;

/// What is wrong with a value, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ValueError {
    pub(super) problem: String,
    pub(super) help: String,
}

pub(super) fn value_error(problem: impl Into<String>, help: impl Into<String>) -> ValueError {
    ValueError { problem: problem.into(), help: help.into() }
}

/// The characters of a scalar.
pub(super) fn text<'n>(node: &'n Node) -> Result<&'n str, ValueError> {
    match &node.value {
        _ if node.is_null() => Err(value_error("no value", "write one, or remove the key")),
        Value::Scalar { text, .. } => Ok(text.trim()),
        Value::List(_) => Err(value_error("a list, expected one value", "remove the brackets or the `-`")),
        Value::Map(entries) if entries.len() == 1 && entries.iter().all(|(_, node)| node.is_null()) => {
            Err(value_error("a mapping, expected one value", "quote values that end in a colon: \"2001:db8::\""))
        }
        Value::Map(_) => Err(value_error("a mapping, expected one value", "write the value after the colon")),
    }
}

/// `word` in backquotes, unless it may be a misplaced secret or part of one.
pub(super) fn shown(word: &str) -> String {
    let longest_hex_run = word.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max().unwrap_or(0);
    let bare = word.strip_prefix("0x").unwrap_or(word);
    let all_hex = bare.len() >= 4 && bare.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ' ' | ':' | '_' | '-'));
    let plain = word.chars().all(|c| !c.is_control());
    if word.len() > 60 || longest_hex_run >= 9 || all_hex || !plain {
        "(not shown: it may be a secret)".into()
    } else {
        format!("`{word}`")
    }
}

/// The name of an SA for a message, unless it may be a key.
pub(super) fn shown_name(name: &str) -> String {
    let longest_hex_run = name.split(|c: char| !c.is_ascii_hexdigit()).map(str::len).max().unwrap_or(0);
    if longest_hex_run < 24 && name.len() < 200 { format!("`{name}`") } else { "(a name too long to show)".into() }
}

/// The names among `candidates` that `word` may be a misspelling of: nearest first, at most 3.
pub(crate) fn near<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Vec<&'c str> {
    let word: Vec<char> = word.to_lowercase().chars().take(64).collect();
    let allowed = (word.len() / 3).clamp(1, 4);
    let mut found: Vec<(usize, &str)> = candidates
        .filter(|candidate| candidate.len().abs_diff(word.len()) <= allowed)
        .map(|candidate| (distance(&word, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    found.sort();
    found.dedup();
    found.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// Edit distance (insert, delete, replace, swap two neighbours), without case.
fn distance(word: &[char], candidate: &str) -> usize {
    let candidate: Vec<char> = candidate.to_lowercase().chars().take(64).collect();
    let mut before: Vec<usize> = vec![];
    let mut above: Vec<usize> = (0..=word.len()).collect();
    for (y, theirs) in candidate.iter().enumerate() {
        let mut row = vec![y + 1];
        for (x, ours) in word.iter().enumerate() {
            let at = |row: &[usize], x: usize| row.get(x).copied().unwrap_or(usize::MAX / 2);
            let mut cost =
                (at(&above, x) + usize::from(ours != theirs)).min(at(&above, x + 1) + 1).min(at(&row, x) + 1);
            if x > 0 && y > 0 && word.get(x - 1) == Some(theirs) && candidate.get(y - 1) == Some(ours) {
                cost = cost.min(at(&before, x - 1) + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above.last().copied().unwrap_or(0)
}

/// One of `choices`, compared case-insensitively.
pub(super) fn choice<T: Copy>(word: &str, choices: &[(&'static str, T)]) -> Result<T, ValueError> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Ok(*value);
    }
    let names = || choices.iter().map(|(name, _)| *name);
    let help = match near(word, names()).first() {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("one of: {}", names().collect::<Vec<_>>().join(", ")),
    };
    Err(value_error(format!("{} is not a valid value", shown(word)), help))
}

/// `true` or `false`, in the spellings of YAML 1.1.
pub(super) fn boolean(word: &str) -> Result<bool, ValueError> {
    let choices = [("true", true), ("false", false), ("yes", true), ("no", false), ("on", true), ("off", false)];
    choice(word, &choices).map_err(|_| value_error("neither true nor false", "write `true` or `false`"))
}

/// A number in `range`, decimal or `0x` hexadecimal. Leading zeros are ignored (`010` is ten).
pub(super) fn number(word: &str, range: RangeInclusive<u64>) -> Result<u64, ValueError> {
    let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => u64::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if word.bytes().all(|c| c.is_ascii_digit()) => word.parse().ok(),
        None => None,
    };
    parsed.filter(|value| range.contains(value)).ok_or_else(|| {
        value_error(
            format!("not a number from {} to {}", range.start(), range.end()),
            "write it in decimal, or in hexadecimal with `0x`",
        )
    })
}

/// [`number`] that fits a byte.
pub(super) fn byte(word: &str, range: RangeInclusive<u8>) -> Result<u8, ValueError> {
    let value = number(word, u64::from(*range.start())..=u64::from(*range.end()))?;
    Ok(u8::try_from(value).unwrap_or(u8::MAX))
}

/// A Security Parameters Index: `0x` hexadecimal, or decimal.
pub(super) fn spi(word: &str) -> Result<u32, ValueError> {
    number(word, 0..=u64::from(u32::MAX))
        .map(|value| u32::try_from(value).unwrap_or(u32::MAX))
        .map_err(|_| value_error("not an SPI of 32 bits", "write it as `0x` and up to 8 hex digits, or in decimal"))
}

/// The name of an SA without a name in its file.
pub(super) fn spi_name(spi: u32) -> String {
    // Large files need one for every SA, and `format!` is slow.
    let mut name = String::with_capacity(10);
    name.push_str("0x");
    name.extend((0..8).rev().filter_map(|nibble| char::from_digit(spi >> (4 * nibble) & 0xf, 16)));
    name
}

/// The result of [`hex_digit`] for other bytes.
pub(super) const NO_HEX_DIGIT: u8 = 0xff;

/// The value of a hex digit. It has no branch, because keys are random and the branch would be mispredicted.
pub(super) fn hex_digit(letter: u8) -> u8 {
    let (digit, letter) = (letter.wrapping_sub(b'0'), (letter | 0x20).wrapping_sub(b'a'));
    let letter = if letter < 6 { letter + 10 } else { NO_HEX_DIGIT };
    if digit < 10 { digit } else { letter }
}

/// At least one byte in hexadecimal. A leading `0x`, and spaces, `:` and `_`, are ignored.
pub(super) fn hex(word: &str) -> Result<Secret, ValueError> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    if let Some(secret) = hex_pairs(digits) {
        return Ok(secret);
    }
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    let mut high = None;
    // All bytes before the invalid one are ASCII, so this is a character boundary.
    for (index, letter) in digits.bytes().enumerate() {
        let digit = hex_digit(letter);
        if digit == NO_HEX_DIGIT {
            if matches!(letter, b' ' | b':' | b'_') {
                continue;
            }
            let position = index + 1 + (word.len() - digits.len());
            return Err(value_error(
                format!("character {position} is not a hex digit"),
                "write bytes as pairs of 0-9 and a-f; `0x`, spaces, `:` and `_` are allowed",
            ));
        }
        match high.take() {
            None => high = Some(digit),
            Some(high) => bytes.push(high << 4 | digit),
        }
    }
    let secret = Secret::new(bytes);
    if high.is_some() {
        let count = secret.len() * 2 + 1;
        return Err(value_error(
            format!("{count} hex digits are not whole bytes"),
            "two digits make a byte: one is missing",
        ));
    }
    if secret.is_empty() {
        return Err(value_error("no hex digits", "write the bytes in hexadecimal"));
    }
    Ok(secret)
}

/// Fast path: digits without separators.
fn hex_pairs(digits: &str) -> Option<Secret> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let mut wrong = pairs.is_empty() || !rest.is_empty();
    let byte = |[high, low]: &[u8; 2]| {
        let (high, low) = (hex_digit(*high), hex_digit(*low));
        wrong |= high.max(low) == NO_HEX_DIGIT;
        high << 4 | low
    };
    let secret = Secret::new(pairs.iter().map(byte).collect());
    (!wrong).then_some(secret)
}

/// An address of IEEE 802.15.4: 8 bytes in hexadecimal (EUI-64), or `0x` and 4 digits (short address); of Bluetooth: 6
/// bytes.
pub(super) fn link_address(word: &str) -> Result<LinkAddress, ValueError> {
    let bytes = hex(word).map(|bytes| bytes.expose().to_vec()).unwrap_or_default();
    if let Ok(eui64) = <[u8; 8]>::try_from(bytes.as_slice()) {
        return Ok(LinkAddress::Extended(eui64));
    }
    if let Ok(short) = <[u8; 2]>::try_from(bytes.as_slice()) {
        return Ok(LinkAddress::Short(u16::from_be_bytes(short)));
    }
    if let Ok(device) = <[u8; 6]>::try_from(bytes.as_slice()) {
        return Ok(LinkAddress::Bluetooth(device));
    }
    let help = "write 8 bytes in hexadecimal (EUI-64), 2 (short address), or 6 (Bluetooth device address)";
    Err(value_error("not a link address", help))
}

/// An IP address.
pub(super) fn address(word: &str) -> Result<IpAddr, ValueError> {
    word.parse().map_err(|_| {
        let help = if word.contains('/') { "a prefix is not allowed here" } else { "write one IPv4 or IPv6 address" };
        value_error("not an IP address", help)
    })
}

/// An address or a prefix without host bits: the first address and the prefix length in bits.
pub(super) fn prefix(word: &str) -> Result<(IpAddr, u8), ValueError> {
    let Some((address_part, len_part)) = word.split_once('/') else {
        let address = address(word)?;
        return Ok((address, if address.is_ipv4() { 32 } else { 128 }));
    };
    let address = address(address_part.trim())?;
    let bits = IpVersion::of(address).address_bits();
    let len = number(len_part.trim(), 0..=u64::from(bits))
        .map_err(|_| value_error(format!("the prefix length is not 0 to {bits}"), "write address/length"))?;
    let host_bits = bits - u32::try_from(len).unwrap_or(bits);
    if host_bits > address_value(address).trailing_zeros().min(bits) {
        return Err(value_error(
            format!("bits after the first {len} are set"),
            "they must be 0: give the prefix's first address, or one address without `/`",
        ));
    }
    Ok((address, u8::try_from(len).unwrap_or(u8::MAX)))
}

/// Outer addresses of an SA: an address, a prefix, or `any`.
pub(super) fn selector(word: &str) -> Result<Selector, ValueError> {
    if word.eq_ignore_ascii_case("any") || word == "*" {
        return Ok(Selector::Any);
    }
    let (address, len) = prefix(word)?;
    Ok(Selector::Prefix { address, len })
}

/// An IP protocol number or name; `None` is `ANY` (0).
pub(super) fn protocol(word: &str) -> Result<Option<u8>, ValueError> {
    // Names of the IANA registry "Protocol Numbers", and everyday spellings of them.
    const NAMES: [(&str, Option<u8>); 24] = [
        ("ANY", None),
        ("ICMP", Some(1)),
        ("IGMP", Some(2)),
        ("IPv4", Some(4)),
        ("IPIP", Some(4)),
        ("TCP", Some(6)),
        ("UDP", Some(17)),
        ("DCCP", Some(33)),
        ("IPv6", Some(41)),
        ("GRE", Some(47)),
        ("ESP", Some(50)),
        ("AH", Some(51)),
        ("IPv6-ICMP", Some(58)),
        ("ICMPv6", Some(58)),
        ("ICMP6", Some(58)),
        ("IPv6-NoNxt", Some(59)),
        ("OSPF", Some(89)),
        ("OSPFIGP", Some(89)),
        ("PIM", Some(103)),
        ("VRRP", Some(112)),
        ("L2TP", Some(115)),
        ("SCTP", Some(132)),
        ("UDP-Lite", Some(136)),
        ("UDPLite", Some(136)),
    ];
    refuse_opaque(word)?;
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return byte(word, 0..=255).map(|number| Some(number).filter(|number| *number != 0));
    }
    choice(word, &NAMES).map_err(|found| value_error(found.problem, format!("{}; or its number, 0 to 255", found.help)))
}

/// OPAQUE (RFC 4301) selects packets in which the field is not visible, so it cannot be used for compression.
pub(super) fn refuse_opaque(word: &str) -> Result<(), ValueError> {
    if word.eq_ignore_ascii_case("OPAQUE") {
        return Err(value_error("OPAQUE cannot be used in a Diet-ESP context", "give the values, or `ANY`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(word: &str) -> Vec<u8> {
        hex(word).unwrap().expose().to_vec()
    }

    #[test]
    fn hex_is_read_as_the_characters_written() {
        assert_eq!(bytes("102030"), [0x10, 0x20, 0x30]);
        assert_eq!(bytes("0x00_1e:10 ff"), [0, 0x1e, 0x10, 0xff]);
        assert_eq!(bytes("1e10"), [0x1e, 0x10]);
        assert_eq!(hex("0011g3").unwrap_err().problem, "character 5 is not a hex digit");
        assert_eq!(hex("0x0011g3").unwrap_err().problem, "character 7 is not a hex digit");
        assert_eq!(hex("001").unwrap_err().problem, "3 hex digits are not whole bytes");
        assert_eq!(hex("0x").unwrap_err().problem, "no hex digits");
        // `0x` counts only in front: the second one is not a hex digit.
        assert_eq!(hex("00 0x11").unwrap_err().problem, "character 5 is not a hex digit");
    }

    #[test]
    fn numbers_are_decimal_or_0x() {
        assert_eq!(spi("0x0000a1b2"), Ok(0xa1b2));
        assert_eq!(spi("4252375942"), Ok(0xfd76_1b86));
        assert_eq!(spi("010"), Ok(10));
        for wrong in ["a1b2", "0x1ffffffff", "-1", "", "0x", "0x+1", "1.0", "4294967296", "1e3"] {
            assert!(spi(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn prefixes_have_no_host_bits() {
        assert_eq!(prefix("2001:db8:b::/112").unwrap(), ("2001:db8:b::".parse().unwrap(), 112));
        assert_eq!(prefix("10.0.0.1").unwrap().1, 32);
        assert_eq!(prefix("0.0.0.0/0").unwrap().1, 0);
        assert_eq!(prefix("::/0").unwrap().1, 0);
        assert_eq!(prefix("10.0.0.1/24").unwrap_err().problem, "bits after the first 24 are set");
        assert!(prefix("10.0.0.0/33").is_err() && prefix("::/129").is_err() && prefix("::/").is_err());
    }

    #[test]
    fn near_names_are_found() {
        let names = ["spi", "salt", "src", "encr", "integ", "integ_key"];
        assert_eq!(near("sipi", names.into_iter()), ["spi"]);
        assert_eq!(near("Integ-Key", names.into_iter()), ["integ_key"]);
        assert_eq!(near("UPD", ["TCP", "UDP", "ESP"].into_iter()), ["UDP"]);
        assert!(near("wholly other", names.into_iter()).is_empty());
        assert!(near("00112233445566778899aabbccddeeff", names.into_iter()).is_empty());
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        assert_eq!(shown("esp_sn_lbs"), "`esp_sn_lbs`");
        assert_eq!(shown("ENCR_AES_CCM_9"), "`ENCR_AES_CCM_9`");
        for secret in ["00112233445566778899aabbccddeeff", "a0a1a2", "0xa0a1a2b3", "a0 a1 a2", "x: 0011223344"] {
            assert_eq!(shown(secret), "(not shown: it may be a secret)");
        }
    }
}
