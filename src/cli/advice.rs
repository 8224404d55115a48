//! The end of the summary: likely causes of failures, and options that would help.

use super::options::{Inputs, SelectionArgs};
use crate::decoder::status::Status;
use crate::error::{Error, Remedy};
use crate::records::totals::Totals;

/// The summary: counts, sizes and remarks.
pub(super) fn summary(totals: &Totals) -> String {
    totals.counts_and_sizes() + &remarks(totals)
}

/// Remarks about unusual packets, and advice about failed ones; empty if there are none.
pub(super) fn remarks(totals: &Totals) -> String {
    let mut text = totals.remarks();
    if totals.of(Status::NoSa) > 0 {
        text.push_str(
            "no-sa: no SA of the key files matches the outer addresses and the SPI bits; check spi, src, dst and esp_spi_lsb, \
             and that --rules names the rule file of the SA\n",
        );
    }
    if totals.of(Status::AuthFailed) > 0 {
        text.push_str(
            "auth-failed: wrong key or salt, a damaged packet, or a sequence number too far from the expected one; \
             for a capture that starts late try --resync, then --resync=full, or set esp_sn in the rule file\n",
        );
    }
    for (hint, count) in totals.hints() {
        let packets = if count == 1 { "packet" } else { "packets" };
        let (status, cause) = hint.remark();
        text += &format!("{status}: {count} {packets}: {cause}\n");
    }
    text
}

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
        _ => match error.remedy() {
            Some(remedy) => option_for(remedy),
            None => error.help(),
        },
    }
}

/// The options that help against an error.
fn option_for(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Contexts => "give --rules a file with `contexts`",
        Remedy::TunnelContext => "use --on-mismatch skip, or a context of tunnel mode for the fragments",
        Remedy::StandardSa => "add one to the key file for --on-mismatch pass, or use --on-mismatch skip",
        Remedy::OtherKeys => {
            "give the keys of the input with --esp-keys and different keys with --keys (in a laboratory, use \
             --allow-nonce-reuse: anyone with both captures can then read both plaintexts and forge packets)"
        }
        Remedy::HexLines => "--from hex reads lines `time,src,dst,hex`; see `dietesp decode --help`",
        Remedy::TextFile => {
            "it is text: is it a key or rule file? For lines `time,src,dst,hex` add --from hex. A capture is a pcap or \
             pcapng file, which may be compressed (.gz, .zst)"
        }
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
