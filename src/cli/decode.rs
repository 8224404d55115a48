//! `dietesp decode`.

use std::io::{IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};

use super::options::{FilterArgs, Inputs, Opening};
use super::progress::Progress;
use super::{Ended, Outcome, advice, report, terminal};
use crate::batch::workers::Input;
use crate::capture::{Sink, is_standard_output};
use crate::command::decode::{self, Decoded, Shown};
use crate::error::Error;
use crate::records::csv;
use crate::records::fields::{Field, REQUESTED_FIELDS};
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
    /// Fields to print with `--format csv` and `fields`: their dotted names in the JSON record, separated by commas;
    /// repeatable
    #[arg(short = 'e', value_name = "FIELD,...", value_delimiter = ',', value_parser = parse_field)]
    fields: Vec<Field>,
    /// With `--format jsonl`: add `payload`, the bytes after the transport header, and `wire`, the ESP payload as captured
    #[arg(long, value_name = "FIELD,...", value_delimiter = ',', value_parser = parse_requested)]
    with: Vec<Field>,
    /// Output file, compressed if the name ends in .gz or .zst (default: standard output)
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
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
    /// Aligned columns. On a terminal only those that fit its width
    Table,
    /// One JSON object per line
    Jsonl,
    /// The fields of -e as comma-separated values, after a line with their names
    Csv,
    /// The fields of -e, separated by tabs
    Fields,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        self.check_options()?;
        let selection = self.filter.add_to(self.opening.selection.selection())?;
        let output = self.output.as_deref().filter(|path| !is_standard_output(path));
        let files = self.inputs.files(&self.capture);
        match output {
            Some(path) => files.write(path),
            None => files.print(),
        }
        .check()?;
        let (table, link) = self.opening.apply(self.inputs.table(&self.capture, quiet)?);
        let mut reader = self.opening.reader(&self.capture)?;
        let mut output = Output::create(output)?;
        let progress = Progress::new(quiet, reader.total_len(), output.is_terminal());
        let color = output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let rows = Table::new(color, &table, output.columns());
        let writer = RecordWriter { format: self.format, fields: self.fields, with: self.with, table: rows };
        output.write(&writer.header(self.header))?;
        let mut sink = |text: &[u8], bytes_read: u64| {
            progress.at(bytes_read);
            output.write(text)
        };
        let (limits, threads) = (self.opening.limits(quiet), self.opening.threads());
        let input = Input { reader: &mut reader, table: &table, limits, link: &link, threads };
        let shown = Shown { selection, most: self.count };
        let ended = decode::run(input, shown, &writer, &mut sink);
        progress.finish();
        let Decoded { totals, streams, is_complete } = ended?;
        output.finish()?;
        // Workers may have read ahead of the last record shown. What they found there does not count.
        let (truncated, streams) = match is_complete {
            true => (false, String::new()),
            false => (super::print_damage(&mut reader), streams::remarks(&table, &streams)),
        };
        let summary = totals.counts_and_sizes() + &streams + &advice::remarks(&totals);
        report(
            quiet,
            &(summary
                + &advice::inner_addresses(&self.opening.selection, &totals)
                + advice::without_rules(&self.inputs, &totals)
                + &advice::esp_port(&totals)),
        );
        Ok(Outcome { truncated, ..Outcome::of(&totals) }.into())
    }
}

impl Args {
    /// Rejects options that have no effect.
    fn check_options(&self) -> Result<(), Error> {
        let has_fields = matches!(self.format, Format::Csv | Format::Fields);
        let problem = match self.format {
            Format::Csv if self.fields.is_empty() => "--format csv needs -e FIELD",
            Format::Fields if self.fields.is_empty() => "--format fields needs -e FIELD",
            _ if !has_fields && !self.fields.is_empty() => {
                return Err(Error::usage(
                    "-e FIELD has an effect only with --format csv and fields",
                    "add --format csv or --format fields",
                ));
            }
            format if format != Format::Fields && self.header => {
                return Err(Error::usage(
                    "--header has an effect only with --format fields",
                    "add --format fields -e FIELD",
                ));
            }
            format if format != Format::Jsonl && !self.with.is_empty() => {
                return Err(Error::usage("--with has an effect only with --format jsonl", "use -e for other formats"));
            }
            _ => return Ok(()),
        };
        Err(Error::usage(problem, field_help()))
    }
}

/// Where records are written.
enum Output {
    /// Several worker threads write to it in turn, so each window locks it anew.
    Stdout(Stdout),
    /// A file that appears when it is complete.
    File(Box<Sink>, PathBuf),
}

impl Output {
    fn create(path: Option<&Path>) -> Result<Output, Error> {
        Ok(match path {
            Some(path) => Output::File(Box::new(Sink::create(path)?), path.to_owned()),
            None => Output::Stdout(std::io::stdout()),
        })
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Output::Stdout(stdout) if stdout.is_terminal())
    }

    /// Columns of the terminal; `None` for a file or pipe.
    fn columns(&self) -> Option<usize> {
        match self {
            Output::Stdout(_) => terminal::columns(),
            Output::File(..) => None,
        }
    }

    fn write(&mut self, text: &[u8]) -> Result<(), Error> {
        match self {
            Output::Stdout(stdout) => {
                stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Error::io(Path::new("-"), "write"))
            }
            Output::File(sink, path) => sink.write(text).map_err(Error::io(path, "write")),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self {
            Output::Stdout(_) => Ok(()),
            Output::File(sink, path) => sink.finish(&path),
        }
    }
}

struct RecordWriter {
    format: Format,
    fields: Vec<Field>,
    with: Vec<Field>,
    table: Table,
}

impl decode::Render for RecordWriter {
    fn record(&self, record: &Record<'_>, text: &mut Vec<u8>) {
        match self.format {
            Format::Table => self.table.write_row(record, text),
            Format::Jsonl => json::write_line_with(record, &self.with, text),
            Format::Csv => csv::write_record(record, &self.fields, text),
            Format::Fields => json::write_fields(record, &self.fields, text),
        }
    }
}

impl RecordWriter {
    /// What is written before the first record. `names`: also the names of tab-separated fields.
    fn header(&self, names: bool) -> Vec<u8> {
        let mut text = vec![];
        match self.format {
            Format::Table => self.table.write_header(&mut text),
            Format::Csv => csv::write_header(&self.fields, &mut text),
            Format::Fields if names => {
                let names: Vec<String> = self.fields.iter().map(Field::full_name).collect();
                text.extend(format!("{}\n", names.join("\t")).into_bytes());
            }
            Format::Fields | Format::Jsonl => {}
        }
        text
    }
}

fn parse_field(name: &str) -> Result<Field, String> {
    Field::by_name(name).ok_or_else(|| format!("there is no such field; {}", Field::suggestion(name)))
}

fn parse_requested(name: &str) -> Result<Field, String> {
    let field = REQUESTED_FIELDS.iter().find(|field| field.name == name);
    field.copied().ok_or_else(|| "expected payload, wire or both, separated by a comma".to_owned())
}

fn field_help() -> String {
    let names: Vec<String> = Field::all().map(|field| field.full_name()).collect();
    format!("fields: {}", names.join(" "))
}
