//! Recognizes the format of a key or rule file by its lines.

use super::import::foreign::{self, Foreign};
use super::import::{charon, esp_sa, ike, ipsecctl, setkey, setkey_dump, tcpdump, xfrm};

/// The form of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Yaml,
    EspSa,
    Xfrm,
    Charon,
    Setkey,
    SetkeyDump,
    Ipsecctl,
    Tcpdump,
    Ike,
    /// A format without usable keys, and the number of the line that identifies it.
    Foreign(&'static Foreign, u64),
    /// Nothing, or only comments.
    Empty,
}

/// Whether a line is of a format.
type IsLine = fn(&str) -> bool;

/// The test for each format. Formats whose lines resemble other formats come last.
const FORMATS: [(Kind, IsLine); 8] = [
    (Kind::EspSa, esp_sa::is_line),
    (Kind::Xfrm, xfrm::is_line),
    (Kind::Ike, ike::is_line),
    (Kind::SetkeyDump, setkey_dump::is_line),
    (Kind::Ipsecctl, ipsecctl::is_line),
    (Kind::Tcpdump, tcpdump::is_line),
    (Kind::Charon, charon::is_line),
    (Kind::Setkey, setkey::is_line),
];

/// Top-level keys of YAML files.
const NATIVE: [&str; 4] = ["sas", "contexts", "link_keys", "lowpan_contexts"];

/// The format must be recognizable within this many lines, because other text may precede the keys.
const MAX_LINES_BEFORE: usize = 1000;

/// The format of a text.
pub(super) fn kind(text: &str) -> Kind {
    let Some(first) = lines(text).next().map(|(line, _)| line) else { return Kind::Empty };
    if is_native(first) {
        return Kind::Yaml;
    }
    if let Some(kind) = of_line(first) {
        return kind;
    }
    // Top-level YAML keys are not indented.
    if text.lines().take(MAX_LINES_BEFORE).any(is_native) {
        return Kind::Yaml;
    }
    let before = || lines(text).take(MAX_LINES_BEFORE);
    if let Some((kind, _)) = FORMATS.iter().find(|(_, is_line)| before().any(|(line, _)| is_line(line))) {
        return *kind;
    }
    let foreign = before().find_map(|(line, number)| Some(Kind::Foreign(foreign::of_line(line)?, number)));
    foreign.unwrap_or(Kind::Yaml)
}

/// The format with keys that a line belongs to.
pub(super) fn of_line(line: &str) -> Option<Kind> {
    FORMATS.iter().find(|(_, is_line)| is_line(line)).map(|(kind, _)| *kind)
}

/// Whether a line begins a YAML file of this program, or one in JSON.
pub(super) fn is_native(line: &str) -> bool {
    let is_key = |key: &&str| {
        let after = line.trim_start_matches(['"', '\'']).strip_prefix(*key);
        after.is_some_and(|after| after.trim_start_matches(['"', '\'', ' ']).starts_with(':'))
    };
    line.starts_with(['{', '%']) || line.starts_with("---") && !line.starts_with("-----") || NATIVE.iter().any(is_key)
}

/// Lines that are neither empty nor comments, trimmed, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (&str, u64)> {
    let trimmed = text.lines().map(str::trim).zip(1u64..);
    trimmed.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
}
