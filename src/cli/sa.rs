//! `dietesp sa`.

use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};

use super::options::{FilterArgs, Inputs, Opening};
use super::progress::Progress;
use super::{Ended, Outcome, advice, print, report, terminal};
use crate::batch::workers::Input;
use crate::command::sa::{self, SeenSa};
use crate::error::Error;
use crate::records::fit::{Extent, end_shortened, fit, middle_shortened, width_of};
use crate::records::streams::tries_per_packet;

/// List the Security Associations (SAs) seen in a capture, with counts and gaps
#[derive(Debug, clap::Args)]
#[command(after_help = "Columns:
  Verified     packets whose ICV verified
  Failed       packets that failed and can only belong to this SA
  Tries        sequence numbers tried per verified packet
  First, Last  lowest and highest sequence number
  Missing      sequence numbers between First and Last that were not captured
  Gaps         number of runs of missing sequence numbers
  Repeats      packets that repeat an earlier one
  Replays      packets with an earlier number and another payload
  Depth        largest distance of a late packet below the highest number so far
  Resyncs      packets found by --resync

With --frames, only these frames are read, as if they were the whole capture.
--spi, --src, --dst and --failed choose which SAs are listed. -Y and --status
choose packets. The SAs of these packets are listed, with the counts of all
packets of each SA.")]
pub(super) struct Args {
    /// pcap or pcapng file, also compressed (.gz, .zst); `-` is standard input
    capture: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns. On a terminal only those that fit its width
    Table,
    /// One JSON object per line, with the gaps (if there are very many, the highest)
    Jsonl,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        let selection = self.filter.add_to(self.opening.selection.selection())?;
        self.inputs.files(&self.capture).print().check()?;
        let (sas, link) = self.opening.apply(self.inputs.table(&self.capture, quiet)?);
        let mut reader = self.opening.reader(&self.capture)?;
        if let Some(frames) = &selection.frames {
            reader.only(frames.clone());
        }
        let progress = Progress::new(quiet, reader.total_len(), false);
        let (limits, threads) = (self.opening.limits(quiet), self.opening.threads());
        let input = Input { reader: &mut reader, table: &sas, limits, link: &link, threads };
        let ended = sa::run(input, &selection, &mut |position| progress.at(position));
        progress.finish();
        let (totals, streams, chosen) = ended?;
        let truncated = super::print_damage(&mut reader);
        let seen = sa::selected(&sas, &streams, &selection, &chosen);
        match self.format {
            Format::Table => print(table(seen, terminal::columns()).as_bytes())?,
            Format::Jsonl => print(sa::json_lines(seen).as_bytes())?,
        };
        report(
            quiet,
            &(advice::summary(&totals) + advice::without_rules(&self.inputs, &totals) + &advice::esp_port(&totals)),
        );
        Ok(Outcome { truncated, ..Outcome::of(&totals) }.into())
    }
}

const TITLES: [&str; 14] = [
    "SA", "SPI", "Source", "Verified", "Failed", "Tries", "First", "Last", "Missing", "Gaps", "Repeats", "Replays",
    "Depth", "Resyncs",
];
const SA_COLUMN: usize = 0;
const SOURCE_COLUMN: usize = 2;
/// The column with the highest rank is dropped first if the terminal is too narrow, a column of rank 0 never.
const RANKS: [u8; TITLES.len()] = [0, 4, 0, 0, 0, 5, 0, 0, 0, 1, 2, 3, 6, 7];
/// Names of SAs and addresses are shortened to this many characters before a column of rank 0 exceeds the terminal.
const SHORTEST: usize = 16;

fn row(sa: &SeenSa<'_>) -> [String; TITLES.len()] {
    let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
    let SeenSa { entry, stream, numbers, .. } = sa;
    let anomalies = stream.counts.anomalies();
    [
        entry.sa.name.clone(),
        sa.spi().unwrap_or("any".to_owned()),
        sa.src(),
        stream.counts.verified.to_string(),
        anomalies.failed.to_string(),
        tries_per_packet(stream).map_or("-".to_owned(), |tries| format!("{tries:.2}")),
        number(numbers.first),
        number(numbers.last),
        numbers.missing.to_string(),
        numbers.gap_count().to_string(),
        anomalies.duplicates.to_string(),
        anomalies.replays.to_string(),
        anomalies.reorder_depth.to_string(),
        anomalies.resyncs.to_string(),
    ]
}

/// The room that each column needs for its widest cell.
fn extents(rows: &[[String; TITLES.len()]]) -> [Extent; TITLES.len()] {
    std::array::from_fn(|at| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        let width = cells.map(|cell| width_of(cell.as_bytes())).max().unwrap_or(0);
        let least = if [SA_COLUMN, SOURCE_COLUMN].contains(&at) { SHORTEST } else { width };
        Extent { width, least, rank: RANKS.get(at).copied().unwrap_or(0) }
    })
}

/// `limit`: columns of the terminal; `None` for a file or pipe.
fn table<'l>(seen: impl Iterator<Item = SeenSa<'l>>, limit: Option<usize>) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(seen.map(|sa| row(&sa)));
    // Each line starts with a space.
    let widths = limit.map(|limit| fit(extents(&rows), limit.saturating_sub(1)));
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    for (at, row) in rows.into_iter().enumerate() {
        let cells = match widths {
            None => row.to_vec(),
            Some(widths) => {
                row.into_iter().zip(widths).filter_map(|(cell, width)| Some(middle_shortened(cell, width?))).collect()
            }
        };
        match at {
            0 => table.set_header(cells),
            _ => table.add_row(cells),
        };
    }
    let kept = (0..TITLES.len()).filter(|at| widths.is_none_or(|widths| widths.get(*at).is_some_and(Option::is_some)));
    for (column, at) in table.column_iter_mut().zip(kept) {
        if at > SOURCE_COLUMN {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = format!("{}\n", table.trim_fmt());
    match limit {
        None => text,
        Some(limit) => text.lines().map(|line| end_shortened(line, limit) + "\n").collect(),
    }
}
