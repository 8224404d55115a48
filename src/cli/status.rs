//! How a run ended, as an exit status.

use std::process::ExitCode;

use crate::records::totals::Totals;

/// How a run ended. A run that could do nothing ends with an [`Error`](crate::error::Error): exit status 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Exit status 0.
    Well,
    /// Exit status 1: some packets failed, none was decoded, or the capture is truncated.
    WithFailures,
}

/// What decides the exit status of a run over a capture. Packets count whether or not they are shown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Packets that were decoded, or compressed by `compress`.
    pub decoded: u64,
    /// Packets that look like ESP and were not decoded. Packets without a known SA are not counted: if nothing was
    /// decoded, the status is 1 anyway.
    pub failed: u64,
    /// The capture is truncated, inside a packet or inside its compressed data, or damaged.
    pub truncated: bool,
}

impl Outcome {
    /// The outcome of a command that decodes every packet of a capture.
    pub fn of(totals: &Totals) -> Outcome {
        Outcome { decoded: totals.decoded(), failed: totals.failed, truncated: false }
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Ended {
        match outcome {
            Outcome { decoded: 1.., failed: 0, truncated: false } => Ended::Well,
            _ => Ended::WithFailures,
        }
    }
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> ExitCode {
        match ended {
            Ended::Well => ExitCode::SUCCESS,
            Ended::WithFailures => ExitCode::from(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_well_if_packets_were_decoded_and_none_failed() {
        let well = Outcome { decoded: 1, failed: 0, truncated: false };
        assert_eq!(Ended::from(well), Ended::Well);
        for outcome in
            [Outcome { decoded: 0, ..well }, Outcome { failed: 1, ..well }, Outcome { truncated: true, ..well }]
        {
            assert_eq!(Ended::from(outcome), Ended::WithFailures, "{outcome:?}");
        }
    }
}
