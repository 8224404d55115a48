//! `dietesp decode`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::options::{Inputs, Opening};
use super::progress::Progress;
use super::{Ended, tell};
use crate::capture::Reader;
use crate::error::Error;
use crate::link;
use crate::pipeline::decode;
use crate::report::json;
use crate::report::record::{FIELDS, Field};
use crate::report::table::Table;

/// Show what is inside: one record per captured frame, on standard output
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dietesp decode field.pcapng --rules rules.yaml --keys keys.yaml
  dietesp decode field.pcapng -r rules.yaml -k keys.yaml --format jsonl | jq 'select(.status != \"ok\")'
  tcpdump -w - | dietesp decode - -r rules.yaml -k keys.yaml --format fields -e esp.sequence -e inner.dst_port")]
pub struct Args {
    /// pcap or pcapng, may be .gz or .zst; `-` is standard input
    capture: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// How to write the records
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// A field to write with `--format fields`, by its dotted name in the JSON record; may be given several times
    #[arg(short = 'e', value_name = "FIELD", value_parser = parse_field)]
    fields: Vec<Field>,
    /// Write a line with the names of the fields first
    #[arg(long)]
    header: bool,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Aligned columns for people
    Table,
    /// One JSON object a line
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
            return Err(Error::usage("-e FIELD goes with --format fields", "add --format fields"));
        }
        let (table, link) = self.inputs.table(quiet)?;
        let link = link::Settings { fcs: self.opening.fcs(), ..link };
        let mut reader = Reader::open(&self.capture)?;
        let stdout = std::io::stdout();
        let progress = Progress::new(quiet, reader.total_len(), stdout.is_terminal());
        let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let mut stdout = stdout.lock();
        let mut rows = Table::new(color);
        let mut buffer = Vec::new();
        if self.header && self.format == Format::Fields {
            let names: Vec<String> = self.fields.iter().map(Field::full_name).collect();
            buffer.extend_from_slice(names.join("\t").as_bytes());
            buffer.push(b'\n');
        }
        let selection = self.opening.selection.selection();
        let totals = decode::run(&mut reader, &table, self.opening.limits(), &link, |event| {
            match event {
                decode::Event::Record(record) => {
                    let spi = record.esp.map(|esp| esp.spi);
                    if selection.takes(record.frame, record.status, record.outer, spi) {
                        match self.format {
                            Format::Table => rows.write_row(record, &mut buffer),
                            Format::Jsonl => json::write_line(record, &mut buffer),
                            Format::Fields => json::write_fields(record, &self.fields, &mut buffer),
                        }
                    }
                }
                decode::Event::WindowDone { bytes_read } => {
                    progress.at(bytes_read);
                    stdout
                        .write_all(&buffer)
                        .and_then(|()| stdout.flush())
                        .map_err(Error::io(Path::new("-"), "write"))?;
                    buffer.clear();
                }
            }
            Ok(())
        });
        progress.finish();
        let totals = totals?;
        for warning in reader.warnings() {
            tell(quiet, &format!("dietesp: warning: {warning}\n"));
        }
        tell(quiet, &totals.summary());
        Ok(if totals.failed == 0 { Ended::Well } else { Ended::WithFailures })
    }
}

fn parse_field(name: &str) -> Result<Field, String> {
    Field::by_name(name).ok_or_else(field_help)
}

fn field_help() -> String {
    let names: Vec<String> = FIELDS.iter().map(Field::full_name).collect();
    format!("fields: {}", names.join(" "))
}
