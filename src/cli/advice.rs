//! Advice about options that would help, at the end of the summary.

use super::options::{Inputs, SelectionArgs};
use crate::decoder::status::Status;
use crate::error::Error;
use crate::records::totals::Totals;

/// Advice to add a rule file, if packets were not decoded and none was given; empty otherwise.
pub(super) fn without_rules(inputs: &Inputs, totals: &Totals) -> &'static str {
    if !inputs.rules.is_empty() || totals.failed + totals.of(Status::NoSa) == 0 {
        return "";
    }
    "no rule file was given, so all packets were read as standard ESP; for Diet-ESP, add --rules FILE with a context for \
     each SA\n"
}

/// Advice to declare a UDP port of ESP, if packets on one start with the SPI of a known SA; empty otherwise.
pub(super) fn esp_port(totals: &Totals) -> String {
    match totals.esp_port {
        (0, _) | (_, None) => String::new(),
        (count, Some(port)) => {
            let packets = if count == 1 { "packet starts" } else { "packets start" };
            format!(
                "{count} {packets} with the SPI of a known SA on a UDP port such as {port}: if it is ESP, add --esp-port {port}\n"
            )
        }
    }
}

/// What the user can do about an error; may be empty.
pub(super) fn for_error(error: &Error) -> &str {
    match error {
        Error::Mismatch { .. } => {
            "nothing was written; use --on-mismatch skip to omit such packets, or --on-mismatch pass to write them as \
             standard ESP (frames without a whole IP packet are then written unchanged)"
        }
        _ => error.help(),
    }
}

/// Advice to use a filter, if `--src` and `--dst` chose nothing and would have chosen inner addresses; empty otherwise.
pub(super) fn inner_addresses(selection: &SelectionArgs, totals: &Totals) -> String {
    if totals.shown != Some(0) || totals.inner_matches == 0 {
        return String::new();
    }
    let terms = [("inner.src", selection.src), ("inner.dst", selection.dst)];
    let terms = terms.into_iter().filter_map(|(name, selector)| Some(format!("{name} == {}", selector?)));
    format!(
        "--src and --dst compare outer addresses; {} inner addresses like these: use -Y '{}'\n",
        if totals.inner_matches == 1 {
            "1 packet has".to_owned()
        } else {
            format!("{} packets have", totals.inner_matches)
        },
        terms.collect::<Vec<_>>().join(" && ")
    )
}
