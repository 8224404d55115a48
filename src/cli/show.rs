//! `dietesp show`.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::options::{Decoding, Inputs, parse_frames};
use super::{Ended, Outcome, advice, report, terminal};
use crate::command::show::{self, Shown, ShownPacket};
use crate::error::Error;

/// Explain single packets bit by bit
///
/// For each packet, `show` prints what was sent, how each field was restored, the nonce and AAD, and the restored
/// packet. If no SA decrypts the packet, it prints the reason for each SA of the key files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dietesp show field.pcapng --frame 17 --rules rules.yaml --keys keys.yaml
  dietesp show field.pcapng --frame 1,3,7-9 -r rules.yaml -k keys.yaml \\
      --format json | jq '.rows[] | select(.sent_bits > 0)'

Frames are decoded up to the last one that is shown, because sequence numbers
depend on the frames before.

In the restored packet, `?` follows each byte that was not sent and may differ
from the original packet.

Exit status: as `decode`, for these frames; 1 if the capture lacks one of
them, 2 if it lacks all.")]
pub(super) struct Args {
    /// pcap or pcapng file, also compressed (.gz, .zst); `-` is standard input
    capture: PathBuf,
    /// Frames to explain: numbers and ranges, such as 1,3,7-9
    #[arg(long, visible_alias = "frames", value_name = "LIST", value_delimiter = ',', required = true, value_parser = parse_frames)]
    frame: Vec<(u64, u64)>,
    #[command(flatten)]
    inputs: Inputs,
    /// Form of the explanation
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    decoding: Decoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Human-readable; as wide as the terminal, or 80 columns
    Text,
    /// One JSON object per packet, on one line: the record and the rows
    Json,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        self.inputs.files(&self.capture).print().check()?;
        let (table, link) = self.decoding.apply(self.inputs.table(&self.capture, quiet)?);
        let mut reader = self.decoding.reader(&self.capture)?;
        let limits = self.decoding.limits(quiet);
        let mut printer = Printer { format: self.format, is_first: true };
        let input = show::Input { reader: &mut reader, table: &table, limits, link: &link, frames: &self.frame };
        let shown = show::run(input, |packet| printer.print(packet))?;
        let truncated = super::print_damage(&mut reader);
        let is_complete = self.check_frames(&shown, quiet)?;
        report(quiet, &(advice::remarks(&shown.totals) + advice::without_rules(&self.inputs, &shown.totals)));
        Ok(Outcome { truncated: truncated || !is_complete, ..Outcome::of(&shown.totals) }.into())
    }

    /// Reports the frames that the capture does not have; false if there are any.
    ///
    /// # Errors
    /// It has none of those that were asked for.
    fn check_frames(&self, shown: &Shown, quiet: bool) -> Result<bool, Error> {
        let missing = |((first, last), found): (&(u64, u64), &u64)| match last - first {
            _ if *last == u64::MAX => *found == 0,
            more => *found <= more,
        };
        let lacks = |range: &(u64, u64)| match range {
            (first, u64::MAX) => format!("{first}-"),
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        let missing = self.frame.iter().zip(&shown.found).filter(|pair| missing(*pair)).map(|(range, _)| lacks(range));
        let missing: Vec<String> = missing.collect();
        if missing.is_empty() {
            return Ok(true);
        }
        let frames = super::counted(shown.last_frame, "frame");
        let problem = format!("the capture has {frames}, and not all of --frame {}", missing.join(","));
        if shown.found.iter().all(|found| *found == 0) {
            return Err(Error::file(&self.capture, problem, "frames are numbered from 1, as `decode` prints them"));
        }
        report(quiet, &format!("dietesp: {}: {problem}\n", self.capture.display()));
        Ok(false)
    }
}

struct Printer {
    format: Format,
    is_first: bool,
}

impl Printer {
    fn print(&mut self, packet: &ShownPacket<'_>) -> Result<(), Error> {
        let mut out = vec![];
        match self.format {
            Format::Json => show::write_line(packet, &mut out)?,
            Format::Text => {
                let mut text = if self.is_first { String::new() } else { "\n".to_owned() };
                show::Writer { width: terminal::width() }.write(packet, &mut text);
                out = text.into_bytes();
            }
        }
        self.is_first = false;
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&out).and_then(|()| stdout.flush()).map_err(Error::io(Path::new("-"), "write"))
    }
}
