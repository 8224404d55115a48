//! Field tables of SCHC rules (RFC 8724 §7.1) in YAML or JSON: rows
//! `{ FID: IPV6.VER, FL: 4, FP: 1, DI: Bi, TV: 6, MO: equal, CDA: not-sent }` in the order of the packet.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;

use super::fields::{Entry, Fields};
use super::keys::items;
use super::yaml::{Node, Value};
use crate::error::Error;
use crate::files::values::{ValueError, address, choice, near, number, prefix, shown, value_error};
use crate::net::IpVersion;
use crate::schc::fields::{ESP_PAD, ESP_PAD_LEN, ESP_SEQ, ESP_SPI, FIELDS, FieldId};
use crate::schc::{Action, Compute, Direction, FieldDescriptor, FieldLength, Matching, Rule, Target};

/// The keys of a row.
pub(crate) const ROW_KEYS: [&str; 8] = ["FID", "FL", "FP", "DI", "TV", "MO", "MO.VAL", "CDA"];

/// DI, compared without case. The first spelling of each is the one that is written.
pub(crate) const DIRECTIONS: [(&str, Direction); 6] = [
    ("Bi", Direction::Both),
    ("Up", Direction::Up),
    ("Dw", Direction::Down),
    ("Bidirectional", Direction::Both),
    ("Uplink", Direction::Up),
    ("Down", Direction::Down),
];

/// MO, compared without case; MSB has its argument in MO.VAL, or in brackets as RFC 8724 writes it.
pub(crate) const OPERATORS: [(&str, Matching); 4] = [
    ("equal", Matching::Equal),
    ("ignore", Matching::Ignore),
    ("MSB", Matching::Msb(0)),
    ("match-mapping", Matching::MatchMapping),
];

/// CDA, compared case-insensitively; `None` is `compute`: the field determines the computation.
pub(crate) const ACTIONS: [(&str, Option<Action>); 14] = [
    ("not-sent", Some(Action::NotSent)),
    ("value-sent", Some(Action::ValueSent)),
    ("mapping-sent", Some(Action::MappingSent)),
    ("LSB", Some(Action::Lsb)),
    ("compute", None),
    ("compute-length", Some(Action::Compute(Compute::Length))),
    ("compute-checksum", Some(Action::Compute(Compute::Checksum))),
    ("compute-lower", Some(Action::Compute(Compute::Lower))),
    ("compute-generated", Some(Action::Compute(Compute::Generated))),
    ("compute-zero", Some(Action::Compute(Compute::GeneratedZero))),
    ("lower", Some(Action::Compute(Compute::Lower))),
    ("generated", Some(Action::Compute(Compute::Generated))),
    ("sent-value", Some(Action::ValueSent)),
    ("index", Some(Action::MappingSent)),
];

/// FL of a field of variable length: the length is sent in the residue (RFC 8724 §7.4.2).
pub(crate) const VARIABLE: &str = "var";
/// FL of a field whose length is given by another field of the packet.
pub(crate) const FUNCTION: &str = "function";

/// Most rows of a rule.
pub(crate) const MAX_ROWS: usize = 1000;
/// Most values of a mapping.
const MAX_VALUES: usize = 1 << 16;

/// Reads the rows in `node`, the value of `name`: a list, at least one row.
pub(crate) fn rule(path: &Path, name: &str, node: &Node) -> Result<Rule, Error> {
    let rows = items(path, name, node)?;
    if rows.is_empty() {
        let help = "add rows such as `- { FID: IPV6.VER, TV: 6, MO: equal, CDA: not-sent }`";
        return Err(node.place.error(path, format!("{name}: the rule has no rows"), help));
    }
    if rows.len() > MAX_ROWS {
        return Err(node.place.error(
            path,
            format!("{name}: more than {MAX_ROWS} rows"),
            "no header has so many fields",
        ));
    }
    Ok(Rule { fields: rows.iter().map(|node| row(path, node)).collect::<Result<_, _>>()? })
}

fn row(path: &Path, node: &Node) -> Result<FieldDescriptor, Error> {
    let mut fields = Fields::new(path, "a row of a rule", node)?;
    let fid = fields.required("FID", "add `FID:` and a field, such as IPV6.VER", field)?;
    let length = fields.optional("FL", field_length)?.unwrap_or_else(|| own_length(fid));
    let position = fields.optional("FP", |word| number(word, 0..=255))?.map_or(1, |position| position as u8);
    let direction = fields.optional("DI", |word| choice(word, &DIRECTIONS))?.unwrap_or(Direction::Both);
    let target = match fields.entry("TV") {
        None => Target::Empty,
        Some(entry) if entry.node.is_null() => Target::Empty,
        Some(entry) => target(&fields, entry, fid, length)?,
    };
    let matching = matching(&mut fields)?;
    let action = fields.required("CDA", "add `CDA:` and an action, such as not-sent", |word| action(word, fid))?;
    let row = FieldDescriptor { fid, length, position, direction, target, matching, action };
    if let Err(problem) = checkable(&row).check() {
        let help = "see RFC 8724 §7.3 and §7.4 for what goes together";
        return Err(fields.place().error(path, format!("{}: {problem}", fid.name), help));
    }
    fields.finish()?;
    Ok(row)
}

/// A row without target value may still be valid: target values of the ESP header come from the SA and the packet, and
/// Padding that is not sent has no target value.
fn checkable(row: &FieldDescriptor) -> FieldDescriptor {
    let mut row = row.clone();
    if matches!(row.fid, ESP_SPI | ESP_SEQ | ESP_PAD | ESP_PAD_LEN) && row.target == Target::Empty {
        row.target = Target::Value(0);
    }
    row
}

fn field(word: &str) -> Result<FieldId, ValueError> {
    FieldId::named(word).ok_or_else(|| {
        let names = || FIELDS.iter().map(|field| field.name);
        let help = match near(word, names()).first() {
            Some(name) => format!("did you mean {name}?"),
            None => {
                let header = word.split_once('.').map_or(word, |(header, _)| header).to_ascii_uppercase();
                let of_header: Vec<&str> = names()
                    .filter(|name| name.split_once('.').is_some_and(|(own, _)| own == header))
                    .filter_map(|name| name.split_once('.').map(|(_, field)| field))
                    .collect();
                match of_header.is_empty() {
                    true => "fields are those of IPV6., IPV4., UDP., UDPLITE., TCP., SCTP. and ESP.".to_owned(),
                    false => format!("{header}. has: {}", of_header.join(", ")),
                }
            }
        };
        value_error(format!("{} is not a known field", shown(word)), help)
    })
}

/// FL where the row has none.
pub(crate) fn own_length(fid: FieldId) -> FieldLength {
    // IHL gives the length of the IPv4 options, and Pad Length that of the ESP padding.
    fid.bits.map_or(FieldLength::Function, FieldLength::Fixed)
}

fn field_length(word: &str) -> Result<FieldLength, ValueError> {
    if word.eq_ignore_ascii_case(VARIABLE) || word.eq_ignore_ascii_case("variable") {
        return Ok(FieldLength::Variable);
    }
    if word.eq_ignore_ascii_case(FUNCTION) {
        return Ok(FieldLength::Function);
    }
    number(word, 1..=128)
        .map(|bits| FieldLength::Fixed(bits as u16))
        .map_err(|found| value_error(found.problem, "give the length in bits, or `var`; or omit FL"))
}

fn matching(fields: &mut Fields) -> Result<Matching, Error> {
    let help = "add `MO:` and an operator: equal, ignore, MSB, match-mapping";
    let (matching, bits) = fields.required("MO", help, |word| {
        let (name, bits) = match word.split_once('(') {
            Some((name, rest)) => {
                let inside =
                    rest.strip_suffix(')').ok_or_else(|| value_error("no closing bracket", "write `MSB(12)`"))?;
                (name.trim(), Some(msb_bits(inside.trim())?))
            }
            None => (word, None),
        };
        let matching = choice(name, &OPERATORS)?;
        match (matching, bits) {
            (Matching::Msb(_), _) | (_, None) => Ok((matching, bits)),
            _ => Err(value_error("only MSB has an argument", "remove the brackets")),
        }
    })?;
    let entry = fields.entry("MO.VAL").filter(|entry| !entry.node.is_null());
    match (matching, bits, entry) {
        (Matching::Msb(_), Some(bits), None) => Ok(Matching::Msb(bits)),
        (Matching::Msb(_), None, Some(entry)) => Ok(Matching::Msb(fields.read(entry, msb_bits)?)),
        (Matching::Msb(_), None, None) => Err(fields.missing("MO.VAL", "MSB needs the number of bits to compare")),
        (_, _, Some(entry)) => Err(fields.wrong(entry, value_error("requires MSB", "only MSB has an argument"))),
        (matching, ..) => Ok(matching),
    }
}

fn msb_bits(word: &str) -> Result<u16, ValueError> {
    number(word, 0..=128).map(|bits| bits as u16)
}

fn action(word: &str, fid: FieldId) -> Result<Action, ValueError> {
    let action = choice(word, &ACTIONS)?;
    match action.or(Compute::of(fid).map(Action::Compute)) {
        Some(Action::Compute(compute)) if !compute.fits(fid) => {
            let help = match Compute::of(fid) {
                Some(own) => format!("{} has `{}`", fid.name, Action::Compute(own).name()),
                None => "send it, or give its value".to_owned(),
            };
            Err(value_error(format!("{} cannot be computed in this way", fid.name), help))
        }
        Some(action) => Ok(action),
        None => Err(value_error(format!("{} cannot be computed", fid.name), "send it, or give its value")),
    }
}

fn target(fields: &Fields, entry: Entry, fid: FieldId, length: FieldLength) -> Result<Target, Error> {
    let value = |entry: Entry| {
        let quoted = matches!(entry.node.value, Value::Scalar { plain: false, .. });
        fields.read(entry, |word| target_value(word, quoted, fid, length))
    };
    let Value::List(nodes) = &entry.node.value else { return value(entry).map(Target::Value) };
    if nodes.len() > MAX_VALUES {
        return Err(fields.wrong(entry, value_error(format!("more than {MAX_VALUES} values"), "write a shorter list")));
    }
    let mut seen = HashSet::with_capacity(nodes.len());
    let mut values: Vec<u128> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let item = Entry { node, ..entry };
        let next = value(item)?;
        if !seen.insert(next) {
            return Err(fields.wrong(item, value_error("the list already has this value", "remove one of them")));
        }
        values.push(next);
    }
    Ok(Target::List(values))
}

/// A number, hexadecimal digits of as many bits as the field has, an address or, for half of one, a prefix of 64 bits.
fn target_value(word: &str, quoted: bool, fid: FieldId, length: FieldLength) -> Result<u128, ValueError> {
    let FieldLength::Fixed(bits) = length else { return varying_value(word) };
    let value =
        if word.contains([':', '.']) { address_value(word, fid, bits)? } else { numeric_value(word, quoted, bits)? };
    if value > u128::MAX >> (128 - bits) {
        return Err(value_error(format!("longer than the {bits} bits of the field"), "give a value that fits"));
    }
    Ok(value)
}

fn numeric_value(word: &str, quoted: bool, bits: u16) -> Result<u128, ValueError> {
    let wrong = || {
        let help = "write a number, `0x` and hex digits, an address, or a list of them";
        value_error("no target value", help)
    };
    if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        let plain = !digits.starts_with('+');
        return u128::from_str_radix(digits, 16).ok().filter(|_| plain).ok_or_else(wrong);
    }
    if !word.is_empty() && word.bytes().all(|digit| digit.is_ascii_digit()) {
        // In quotes, the value could also be hexadecimal digits, so it is rejected as ambiguous.
        if quoted && word.len() > 1 && word.len() == usize::from(bits.div_ceil(4)) {
            let help = "write `0x` before hexadecimal digits, or remove the quotes of a decimal number";
            return Err(value_error("ambiguous value: decimal or hexadecimal", help));
        }
        return word.parse().map_err(|_| wrong());
    }
    let is_whole = word.len() == usize::from(bits.div_ceil(4)) && word.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_whole { u128::from_str_radix(word, 16).map_err(|_| wrong()) } else { Err(wrong()) }
}

fn address_value(word: &str, fid: FieldId, bits: u16) -> Result<u128, ValueError> {
    let (address, len) = if word.contains('/') {
        let (address, len) = prefix(word)?;
        (address, Some(len))
    } else {
        (address(word)?, None)
    };
    let value = crate::net::address_value(address);
    let is_v6 = matches!(address, IpAddr::V6(_));
    let own_bits = IpVersion::of(address).address_bits();
    match bits {
        64 if is_v6 && fid.name.ends_with("PREFIX") => {
            if len.is_some_and(|len| len != 64) || value as u64 != 0 {
                return Err(value_error("not a prefix of 64 bits", "give its first 64 bits: 2001:db8::/64"));
            }
            Ok(value >> 64)
        }
        64 if is_v6 && len.is_none() => {
            if value >> 64 != 0 {
                return Err(value_error("bits before the last 64 are set", "give the last 64 bits: ::1"));
            }
            Ok(value)
        }
        _ if len.is_some_and(|len| u32::from(len) != own_bits) => {
            Err(value_error("a prefix, expected one value", "give its first address, and MSB with its length"))
        }
        _ if u32::from(bits) == own_bits => Ok(value),
        _ => Err(value_error(format!("an address in a field of {bits} bits"), "give a number")),
    }
}

/// Whole bytes in hexadecimal, of which the first is not 0. Empty text is the empty value.
fn varying_value(word: &str) -> Result<u128, ValueError> {
    let digits = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")).unwrap_or(word);
    let well_formed = digits.len() <= 32
        && digits.len().is_multiple_of(2)
        && !digits.starts_with("00")
        && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !well_formed {
        let help = "write up to 16 bytes in hexadecimal, of which the first is not 00";
        return Err(value_error("not a value for a field of variable length", help));
    }
    if digits.is_empty() {
        return Ok(0);
    }
    u128::from_str_radix(digits, 16)
        .map_err(|_| value_error("not a hexadecimal number", "write bytes as pairs of hex digits"))
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;
    use crate::schc::fields;

    fn read(text: &str) -> Result<Rule, String> {
        let path = Path::new("f");
        let node = yaml::parse(path, text).map_err(|error| error.to_string())?.expect("a document");
        rule(path, "rows", &node).map_err(|error| error.to_string())
    }

    fn one(text: &str) -> FieldDescriptor {
        let mut rule = read(&format!("- {{ {text} }}")).unwrap();
        assert_eq!(rule.fields.len(), 1);
        rule.fields.remove(0)
    }

    fn refused(text: &str) -> String {
        read(&format!("- {{ {text} }}")).unwrap_err()
    }

    #[test]
    fn defaults_of_a_row() {
        let row = one("FID: ipv6.hop_lmt, MO: ignore, CDA: value-sent");
        let wanted = FieldDescriptor {
            fid: fields::IPV6_HOP_LMT,
            length: FieldLength::Fixed(8),
            position: 1,
            direction: Direction::Both,
            target: Target::Empty,
            matching: Matching::Ignore,
            action: Action::ValueSent,
        };
        assert_eq!(row, wanted);
        assert_eq!(one("FID: IPV6.HOP_LMT, TV: null, FP: 2, DI: DW, MO: IGNORE, CDA: Value-Sent").position, 2);
        assert_eq!(one("FID: IPV6.HOP_LMT, DI: up, MO: ignore, CDA: lower").direction, Direction::Up);
        let length = |text| one(text).length;
        assert_eq!(length("FID: IPV4.OPTIONS, MO: ignore, CDA: value-sent"), FieldLength::Function);
        assert_eq!(length("FID: IPV4.OPTIONS, FL: var, MO: ignore, CDA: value-sent"), FieldLength::Variable);
    }

    #[test]
    fn target_values_in_all_their_forms() {
        let value = |fid: &str, tv: &str| one(&format!("FID: {fid}, TV: {tv}, MO: equal, CDA: not-sent")).target;
        let address = u128::from("2001:db8:a::10".parse::<std::net::Ipv6Addr>().unwrap());
        let written = ["\"2001:db8:a::10\"", "0x20010db8000a00000000000000000010", "20010db8000a00000000000000000010"];
        for tv in written {
            assert_eq!(value("IPV6.SRC", tv), Target::Value(address), "{tv}");
        }
        assert_eq!(value("IPV6.DEV_PREFIX", "\"2001:db8:a::/64\""), Target::Value(0x2001_0db8_000a_0000));
        assert_eq!(value("IPV6.SRC_PREFIX", "\"2001:db8:a::\""), Target::Value(0x2001_0db8_000a_0000));
        assert_eq!(value("IPV6.APP_IID", "\"::1f\""), Target::Value(0x1f));
        assert_eq!(value("IPV4.DST", "10.0.0.1"), Target::Value(0x0a00_0001));
        assert_eq!(value("UDP.DST_PORT", "5683"), Target::Value(5683));
        assert_eq!(value("UDP.DST_PORT", "0x1633"), Target::Value(0x1633));
        assert_eq!(value("UDP.DST_PORT", "\"163f\""), Target::Value(0x163f));
        assert_eq!(value("UDP.DST_PORT", "1633"), Target::Value(1633));
        assert_eq!(value("UDP.DST_PORT", "\"61616\""), Target::Value(61616));
        assert_eq!(value("IPV6.SRC_IID", "9711681621227044"), Target::Value(9_711_681_621_227_044));
        let list = one("FID: UDP.DST_PORT, TV: [5683, 0x1634], MO: match-mapping, CDA: index").target;
        assert_eq!(list, Target::List(vec![5683, 0x1634]));
        let options = one("FID: IPV4.OPTIONS, FL: var, TV: \"94040000\", MO: equal, CDA: not-sent").target;
        assert_eq!(options, Target::Value(0x9404_0000));
    }

    #[test]
    fn operators_and_actions() {
        let row = one("FID: IPV6.SRC, TV: \"2001:db8:a::\", MO: MSB, MO.VAL: 64, CDA: LSB");
        assert_eq!((row.matching, row.action), (Matching::Msb(64), Action::Lsb));
        assert_eq!(one("FID: UDP.LEN, TV: 0, MO: msb(3), CDA: lsb").matching, Matching::Msb(3));
        // The SPI comes from the SA.
        assert_eq!(one("FID: ESP.SPI, MO: MSB, MO.VAL: 24, CDA: LSB").target, Target::Empty);
        let computed = |fid: &str, cda: &str| one(&format!("FID: {fid}, MO: ignore, CDA: {cda}")).action;
        assert_eq!(computed("IPV6.LEN", "compute"), Action::Compute(Compute::Length));
        assert_eq!(computed("UDP.CKSUM", "compute-checksum"), Action::Compute(Compute::Checksum));
        assert_eq!(computed("IPV6.FL", "compute"), Action::Compute(Compute::Lower));
        assert_eq!(computed("IPV4.ID", "compute-generated"), Action::Compute(Compute::Generated));
        for (name, action) in ACTIONS {
            if let Some(action) = action {
                assert!(ACTIONS.iter().any(|(other, same)| *same == Some(action) && *other == action.name()), "{name}");
            }
        }
    }

    #[test]
    fn invalid_rows_are_rejected_with_field_and_position() {
        let cases = [
            ("FID: IPV6.HOPLIMIT, MO: ignore, CDA: value-sent", "f:1:10: FID: `IPV6.HOPLIMIT` is not a known field"),
            ("FID: UDP.LEN, CDA: value-sent", "f:1:5: a row of a rule without `MO`"),
            ("FID: UDP.LEN, MO: MSB, CDA: LSB", "f:1:5: a row of a rule without `MO.VAL`"),
            ("FID: UDP.LEN, TV: 1, MO: MSB, MO.VAL: 17, CDA: LSB", "f:1:5: UDP.LEN: MSB is longer than the field"),
            ("FID: UDP.LEN, MO: equal, CDA: not-sent", "f:1:5: UDP.LEN: its matching operator needs one target value"),
            ("FID: UDP.LEN, MO: ignore, CDA: not-sent", "f:1:5: UDP.LEN: not-sent needs one target value"),
            ("FID: UDP.LEN, TV: 65536, MO: equal, CDA: not-sent", "f:1:23: TV: longer than the 16 bits of the field"),
            (
                "FID: UDP.LEN, TV: [1, 0x1], MO: match-mapping, CDA: mapping-sent",
                "f:1:27: TV: the list already has this value",
            ),
            (
                "FID: UDP.LEN, TV: [1], MO: match-mapping, CDA: not-sent",
                "f:1:5: UDP.LEN: not-sent needs one target value",
            ),
            (
                "FID: UDP.LEN, TV: [1, 2], MO: ignore, CDA: value-sent",
                "f:1:5: UDP.LEN: a list of target values needs match-mapping",
            ),
            ("FID: UDP.LEN, TV: 1, MO: equal, CDA: LSB", "f:1:5: UDP.LEN: LSB needs the matching operator MSB"),
            ("FID: UDP.LEN, MO: ignore, CDA: compute-checksum", "f:1:36: CDA: UDP.LEN cannot be computed in this way"),
            ("FID: UDP.SRC_PORT, MO: ignore, CDA: compute", "f:1:41: CDA: UDP.SRC_PORT cannot be computed"),
            ("FID: UDP.LEN, MO: ignore, MO.VAL: 3, CDA: value-sent", "f:1:39: MO.VAL: requires MSB"),
            ("FID: UDP.LEN, MO: ignore, CDA: value-sent, SB: 1", "f:1:48: unknown key `SB` in a row of a rule"),
            (
                "FID: UDP.LEN, TV: \"1633\", MO: equal, CDA: not-sent",
                "f:1:23: TV: ambiguous value: decimal or hexadecimal",
            ),
            ("FID: UDP.LEN, FL: 0, MO: ignore, CDA: value-sent", "f:1:23: FL: not a number from 1 to 128"),
            (
                "FID: IPV6.SRC_IID, TV: \"2001::1\", MO: equal, CDA: not-sent",
                "f:1:28: TV: bits before the last 64 are set",
            ),
        ];
        for (text, message) in cases {
            assert_eq!(refused(text), message, "{text}");
        }
        assert_eq!(read("[]").unwrap_err(), "f:1:1: rows: the rule has no rows");
    }

    #[test]
    fn json_is_read_too() {
        let text =
            r#"[{"FID": "IPV6.VER", "FL": 4, "FP": 1, "DI": "Bi", "TV": "0x6", "MO": "equal", "CDA": "not-sent"}]"#;
        assert_eq!(read(text).unwrap().fields, [FieldDescriptor::equal(fields::IPV6_VER, 6)]);
    }
}
