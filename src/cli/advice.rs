//! Advice about options that would help, at the end of the summary.

use super::options::Inputs;
use crate::decoder::status::Status;
use crate::records::totals::Totals;

/// Advice to add a rule file, if packets were not decoded and none was given; empty otherwise.
pub(super) fn without_rules(inputs: &Inputs, totals: &Totals) -> &'static str {
    if !inputs.rules.is_empty() || totals.failed + totals.of(Status::NoSa) == 0 {
        return "";
    }
    "no rule file was given, so all packets were read as standard ESP; for Diet-ESP, add --rules FILE with a context for \
     each SA\n"
}
