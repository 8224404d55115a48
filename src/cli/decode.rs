//! `dietesp decode`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::options::{FilterArgs, Inputs, Opening};
use super::progress::Progress;
use super::{Ended, Outcome, advice, report};
use crate::batch::workers::Input;
use crate::command::decode::{self, Decoded, Shown};
use crate::error::Error;
use crate::records::fields::{FIELDS, Field};
use crate::records::json;
use crate::records::record::Record;
use crate::records::streams;
use crate::records::table::Table;

/// Decode a capture: print one record per frame
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dietesp decode field.pcapng --rules rules.yaml --keys keys.yaml
  dietesp decode field.pcapng -r rules.yaml -k keys.yaml --format jsonl
  tcpdump -U -w - | dietesp decode - -r rules.yaml -k keys.yaml \\
      --format fields -e esp.sequence
  dietesp decode uplinks.csv --from hex -r rules.yaml -k keys.yaml

The first Ctrl-C stops reading and prints the summary of the packets read so
far. The second one ends the program at once.

Lines of `--from hex` are `time,src,dst,hex`, separated by commas, `;` or tabs:
  2026-01-02T03:04:05Z,2001:db8::1,2001:db8::2,1f2e3d4c5b6a79880123456789abcdef
  time      RFC 3339 with a time zone, or seconds since 1970
  src, dst  addresses of the outer IP header, both IPv4 or both IPv6. An EUI-64
            is its link-local address. Empty is the unspecified address
  hex       the ESP payload, which follows the outer IP header; with
            `--hex-is ip` the whole IP packet, and src and dst are ignored
Blank lines, lines that start with #, and a heading are skipped.")]
pub(super) struct Args {
    /// pcap or pcapng file, also compressed (.gz, .zst); `-` is standard input
    capture: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Form of the records
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Field to print with `--format fields`: its dotted name in the JSON record; repeatable
    #[arg(short = 'e', value_name = "FIELD", value_parser = parse_field)]
    fields: Vec<Field>,
    /// With `--format fields`: print the names of the fields first
    #[arg(long)]
    header: bool,
    /// Stop after showing N packets
    #[arg(short = 'c', long = "count", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns
    Table,
    /// One JSON object per line
    Jsonl,
    /// The fields of -e, separated by tabs
    Fields,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        if self.format == Format::Fields && self.fields.is_empty() {
            return Err(Error::usage("--format fields needs at least one -e FIELD", field_help()));
        }
        if self.format != Format::Fields && !self.fields.is_empty() {
            return Err(Error::usage("-e FIELD has an effect only with --format fields", "add --format fields"));
        }
        if self.format != Format::Fields && self.header {
            let help = "add --format fields -e FIELD";
            return Err(Error::usage("--header has an effect only with --format fields", help));
        }
        let selection = self.filter.add_to(self.opening.selection.selection())?;
        self.inputs.files(&self.capture).print().check()?;
        let (table, link) = self.opening.apply(self.inputs.table(&self.capture, quiet)?);
        let mut reader = self.opening.reader(&self.capture)?;
        let stdout = std::io::stdout();
        let progress = Progress::new(quiet, reader.total_len(), stdout.is_terminal());
        let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // Several worker threads write to it in turn, so each window locks it anew.
        let mut stdout = stdout;
        if self.header {
            let names: Vec<String> = self.fields.iter().map(Field::full_name).collect();
            write(&mut stdout, format!("{}\n", names.join("\t")).as_bytes())?;
        }
        let writer = RecordWriter { format: self.format, fields: self.fields, table: Table::new(color, &table) };
        if self.format == Format::Table {
            let mut header = vec![];
            writer.table.write_header(&mut header);
            write(&mut stdout, &header)?;
        }
        let mut sink = |text: &[u8], bytes_read: u64| {
            progress.at(bytes_read);
            write(&mut stdout, text)
        };
        let (limits, threads) = (self.opening.limits(quiet), self.opening.threads());
        let input = Input { reader: &mut reader, table: &table, limits, link: &link, threads };
        let shown = Shown { selection, most: self.count };
        let ended = decode::run(input, shown, &writer, &mut sink);
        progress.finish();
        let Decoded { totals, streams, is_complete } = ended?;
        // Workers may have read ahead of the last record shown. What they found there does not count.
        let (truncated, streams) = match is_complete {
            true => (false, String::new()),
            false => (super::print_damage(&mut reader), streams::remarks(&table, &streams)),
        };
        let summary = totals.counts_and_sizes() + &streams + &totals.remarks();
        report(quiet, &(summary + advice::without_rules(&self.inputs, &totals) + &advice::esp_port(&totals)));
        Ok(Outcome { truncated, ..Outcome::of(&totals) }.into())
    }
}

struct RecordWriter {
    format: Format,
    fields: Vec<Field>,
    table: Table,
}

impl decode::Render for RecordWriter {
    fn record(&self, record: &Record<'_>, text: &mut Vec<u8>) {
        match self.format {
            Format::Table => self.table.write_row(record, text),
            Format::Jsonl => json::write_line(record, text),
            Format::Fields => json::write_fields(record, &self.fields, text),
        }
    }
}

fn write(stdout: &mut impl Write, text: &[u8]) -> Result<(), Error> {
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Error::io(Path::new("-"), "write"))
}

fn parse_field(name: &str) -> Result<Field, String> {
    Field::by_name(name).ok_or_else(|| format!("unknown field; {}", field_help()))
}

fn field_help() -> String {
    let names: Vec<String> = FIELDS.iter().map(Field::full_name).collect();
    format!("fields: {}", names.join(" "))
}
