//! `dietesp keys`.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};

use super::options::derive_children;
use super::{Ended, print, tell};
use crate::error::Error;
use crate::files;
use crate::pipeline::seal::UsedKeys;
use crate::wireshark;

/// Show Security Associations, or export them for Wireshark
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the SAs of key files; secrets are masked
    Show {
        /// Any form of key file that decode reads
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A capture of the IKE exchanges, for files with secrets of IKE SAs
        #[arg(long, value_name = "CAPTURE")]
        capture: Option<PathBuf>,
    },
    /// Write the SAs as Wireshark's esp_sa to standard output, keys in the clear
    Export {
        /// Any form of key file that decode reads
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A capture of the IKE exchanges, for files with secrets of IKE SAs
        #[arg(long, value_name = "CAPTURE")]
        capture: Option<PathBuf>,
    },
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        match self.command {
            Command::Show { files, capture } => show(&files, capture.as_deref(), quiet),
            Command::Export { files, capture } => export(&files, capture.as_deref(), quiet),
        }
    }
}

fn load(paths: &[PathBuf], capture: Option<&Path>, quiet: bool) -> Result<files::Loaded, Error> {
    let mut loaded = files::load(paths, &[])?;
    derive_children(&mut loaded, capture)?;
    for warning in &loaded.warnings {
        tell(quiet, &format!("dietesp: warning: {warning}\n"));
    }
    Ok(loaded)
}

fn show(paths: &[PathBuf], capture: Option<&Path>, quiet: bool) -> Result<Ended, Error> {
    let loaded = load(paths, capture, quiet)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["Name", "SPI", "Source", "Destination", "Encryption", "Key", "Integrity", "ESN"]);
    for sa in &loaded.sas {
        let keys = &sa.keys;
        let bits = |len: usize| if len == 0 { "-".to_owned() } else { format!("{} bits", 8 * len) };
        table.add_row([
            sa.name.clone(),
            sa.spi.map_or("any".to_owned(), |spi| format!("0x{spi:08x}")),
            sa.src.to_string(),
            sa.dst.to_string(),
            keys.suite().name.to_owned(),
            bits(keys.key().len()),
            keys.integ().map_or("-".to_owned(), |(integ, _)| integ.name.to_owned()),
            if sa.esn { "yes" } else { "no" }.to_owned(),
        ]);
    }
    if let Some(column) = table.column_mut(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    print(format!("{}\n", table.trim_fmt()).as_bytes())
}

fn export(paths: &[PathBuf], capture: Option<&Path>, quiet: bool) -> Result<Ended, Error> {
    let loaded = load(paths, capture, quiet)?;
    let keys: Vec<UsedKeys> = loaded
        .sas
        .iter()
        .filter(|sa| sa.alternative_to.is_none())
        .map(|sa| UsedKeys {
            name: sa.name.clone(),
            spi: sa.spi,
            src: sa.src,
            dst: sa.dst,
            keys: sa.keys.clone(),
            esn: sa.esn,
        })
        .collect();
    let (lines, warnings) = wireshark::lines(&keys);
    for warning in warnings {
        tell(quiet, &format!("dietesp: warning: {warning}\n"));
    }
    print(lines.as_bytes())
}
