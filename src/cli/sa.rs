//! `dietesp sa`.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::options::{Inputs, Opening};
use super::progress::Progress;
use super::{Ended, Outcome, advice, print, report};
use crate::batch::workers::Input;
use crate::command::decode;
use crate::decoder::streams::Streams;
use crate::error::Error;
use crate::net::Selector;
use crate::records::record::Record;
use crate::records::select::Selection;
use crate::records::streams::{Numbers, tries_per_packet};
use crate::sa::stream::Stream;
use crate::sa::table::{PreparedSa, SaTable};

/// List the Security Associations (SAs) seen in a capture, with counts and gaps
#[derive(Debug, clap::Args)]
#[command(after_help = "Columns:
  Verified     packets whose ICV verified
  Failed       packets that failed and can only belong to this SA
  Tries        sequence numbers tried per verified packet
  First, Last  lowest and highest sequence number
  Missing      sequence numbers between First and Last that were not captured
  Gaps         how many runs of missing numbers
  Repeats      packets that repeat an earlier one
  Replays      packets with an earlier number and another payload
  Depth        how far a late packet was behind the highest number, at most
  Resyncs      packets found by --resync

With --frames, only these frames are read, as if they were the whole capture.
--spi, --src, --dst and --failed choose which SAs are listed.")]
pub(super) struct Args {
    /// pcap or pcapng file, also compressed (.gz, .zst); `-` is standard input
    capture: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Form of the list
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// One JSON object per line, with the gaps (if there are very many, the highest)
    Jsonl,
}

/// Writes no records.
struct Nothing;

impl decode::Render for Nothing {
    fn record(&self, _record: &Record<'_>, _text: &mut Vec<u8>) {}
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        let selection = self.opening.selection.selection();
        self.inputs.files(&self.capture).print().check()?;
        let (table, link) = self.opening.apply(self.inputs.table(&self.capture, quiet)?);
        let mut reader = self.opening.reader(&self.capture)?;
        if let Some(frames) = selection.frames {
            reader.only(frames);
        }
        let progress = Progress::new(quiet, reader.total_len(), false);
        let mut sink = |_: &[u8], position: u64| {
            progress.at(position);
            Ok(())
        };
        let (limits, threads) = (self.opening.limits(quiet), self.opening.threads());
        let input = Input { reader: &mut reader, table: &table, limits, link: &link, threads };
        let ended = decode::run(input, Selection::default(), &Nothing, &mut sink);
        progress.finish();
        let (totals, streams) = ended?;
        let truncated = super::print_damage(&mut reader);
        match self.format {
            Format::Table => print(rows(&table, &streams, &selection).as_bytes())?,
            Format::Jsonl => print(&lines(&table, &streams, &selection)?)?,
        };
        report(quiet, &(totals.summary() + advice::without_rules(&self.inputs, &totals)));
        Ok(Outcome { truncated, ..Outcome::of(&totals) }.into())
    }
}

/// The selected streams: the SA, the source if the SA counts each source separately, and the stream.
fn selected<'l>(
    sas: &'l SaTable,
    streams: &'l Streams,
    selection: &Selection,
) -> impl Iterator<Item = (&'l PreparedSa, Option<IpAddr>, &'l Stream)> {
    let Selection { spi, src, dst, failed, .. } = *selection;
    let all = streams.streams(|_| true).into_iter();
    let all = all.filter_map(|(sa, source, stream)| Some((sas.entry(sa)?, source, stream)));
    all.filter(move |(entry, source, stream)| {
        let own_src = source.map_or(entry.sa.src, Selector::address);
        spi.is_none_or(|spi| entry.spi().is_none_or(|own| own == spi))
            && src.is_none_or(|src| src.overlaps(own_src))
            && dst.is_none_or(|dst| dst.overlaps(entry.sa.dst))
            && !(failed && stream.counts.anomalies().failed == 0)
    })
}

fn rows(sas: &SaTable, streams: &Streams, selection: &Selection) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "SA", "SPI", "Source", "Verified", "Failed", "Tries", "First", "Last", "Missing", "Gaps", "Repeats", "Replays",
        "Depth", "Resyncs",
    ]);
    for (entry, source, stream) in selected(sas, streams, selection) {
        let (counts, numbers) = (&stream.counts, Numbers::of(stream));
        let anomalies = counts.anomalies();
        let number = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        table.add_row([
            entry.sa.name.clone(),
            entry.sa.spi.map_or("any".to_owned(), |spi| format!("0x{spi:08x}")),
            source.map_or_else(|| entry.sa.src.to_string(), |source| source.to_string()),
            counts.verified.to_string(),
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
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n", table.trim_fmt())
}

fn lines(sas: &SaTable, streams: &Streams, selection: &Selection) -> Result<Vec<u8>, Error> {
    let mut text = vec![];
    for (entry, source, stream) in selected(sas, streams, selection) {
        let (counts, numbers) = (&stream.counts, Numbers::of(stream));
        let anomalies = counts.anomalies();
        let gaps: Vec<Value> = numbers.gaps.iter().map(|(first, last)| json!([first, last])).collect();
        let line = json!({
            "sa": entry.sa.name,
            "spi": entry.sa.spi.map(|spi| format!("0x{spi:08x}")),
            "src": source.map_or_else(|| entry.sa.src.to_string(), |source| source.to_string()),
            "dst": entry.sa.dst.to_string(),
            "packets": counts.verified + anomalies.failed,
            "verified": counts.verified,
            "failed": anomalies.failed,
            "tries": counts.tries,
            "failed_tries": anomalies.failed_tries,
            "first": numbers.first,
            "last": numbers.last,
            "missing": numbers.missing,
            "gaps": gaps,
            "gaps_not_listed": numbers.gaps_not_listed,
            "duplicates": anomalies.duplicates,
            "replays": anomalies.replays,
            "reorder_depth": anomalies.reorder_depth,
            "resyncs": anomalies.resyncs,
        });
        writeln!(text, "{line}").map_err(Error::io(Path::new("-"), "write"))?;
    }
    Ok(text)
}
