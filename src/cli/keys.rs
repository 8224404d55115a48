//! `dietesp keys`.

use std::path::PathBuf;

use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};

use super::options::derive_children;
use super::outputs::Files;
use super::{Ended, print, report};
use crate::error::Error;
use crate::files;
use crate::net::LinkAddress;
use crate::sa::UsedKeys;
use crate::wireshark;

/// List the SAs of key files, or export them for Wireshark
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the SAs of key files; secrets are masked
    Show {
        /// Key files, in any form that `decode` reads
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Capture with the IKE exchanges, for key files with secrets of IKE SAs
        #[arg(long, value_name = "CAPTURE")]
        capture: Option<PathBuf>,
    },
    /// Print the SAs as Wireshark's esp_sa, with their keys in clear text
    Export {
        /// Key files, in any form that `decode` reads
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Capture with the IKE exchanges, for key files with secrets of IKE SAs
        #[arg(long, value_name = "CAPTURE")]
        capture: Option<PathBuf>,
    },
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        match self.command {
            Command::Show { files, capture } => show(&files, capture.as_ref(), quiet),
            Command::Export { files, capture } => export(&files, capture.as_ref(), quiet),
        }
    }
}

fn load(paths: &[PathBuf], capture: Option<&PathBuf>, quiet: bool) -> Result<files::Loaded, Error> {
    Files::default().read("key file", paths).read("capture", capture).print().check()?;
    let mut loaded = files::load(paths, &[])?;
    if capture.is_some() && loaded.ike.origin().is_none() {
        report(quiet, "dietesp: warning: --capture has no effect: no key file has secrets of IKE SAs\n");
    }
    derive_children(&mut loaded, capture.map(PathBuf::as_path))?;
    for warning in &loaded.warnings {
        report(quiet, &format!("dietesp: warning: {warning}\n"));
    }
    Ok(loaded)
}

fn show(paths: &[PathBuf], capture: Option<&PathBuf>, quiet: bool) -> Result<Ended, Error> {
    let loaded = load(paths, capture, quiet)?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let any_link = loaded.sas.iter().any(|sa| sa.link_src.is_some() || sa.link_dst.is_some());
    let mut titles = vec!["Name", "SPI", "Source", "Destination", "Encryption", "Key", "Integrity", "ESN"];
    if any_link {
        titles.extend(["Link source", "Link destination"]);
    }
    table.set_header(titles);
    for sa in &loaded.sas {
        let keys = &sa.keys;
        let bits = |len: usize| if len == 0 { "-".to_owned() } else { format!("{} bits", 8 * len) };
        let mut row = vec![
            sa.name.clone(),
            sa.spi.map_or("any".to_owned(), |spi| format!("0x{spi:08x}")),
            sa.src.to_string(),
            sa.dst.to_string(),
            keys.suite().name.to_owned(),
            bits(keys.key().len()),
            keys.integ().map_or("-".to_owned(), |(integ, _)| integ.name.to_owned()),
            if sa.esn { "yes" } else { "no" }.to_owned(),
        ];
        if any_link {
            let link = |address: Option<LinkAddress>| address.map_or("any".to_owned(), |address| address.to_string());
            row.extend([link(sa.link_src), link(sa.link_dst)]);
        }
        table.add_row(row);
    }
    if let Some(column) = table.column_mut(5) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let mut text = format!("{}\n", table.trim_fmt());
    if !loaded.link_keys.is_empty() {
        text += &format!("\n{}\n", link_keys(&loaded.link_keys).trim_fmt());
    }
    print(text.as_bytes())
}

/// The keys of IEEE 802.15.4 frames.
fn link_keys(keys: &[crate::link::LinkKey]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["Link key of", "Short address", "Key Identifier Mode", "Key Index"]);
    for key in keys {
        table.add_row([
            LinkAddress::Extended(key.eui64).to_string(),
            key.short.map_or("-".to_owned(), |short| LinkAddress::Short(short).to_string()),
            key.mode.to_string(),
            key.index.map_or("-".to_owned(), |index| index.to_string()),
        ]);
    }
    table
}

fn export(paths: &[PathBuf], capture: Option<&PathBuf>, quiet: bool) -> Result<Ended, Error> {
    let loaded = load(paths, capture, quiet)?;
    for sa in loaded.sas.iter().filter(|sa| sa.link_src.is_some() || sa.link_dst.is_some()) {
        let problem = "Wireshark selects SAs by IP address only and ignores link_src and link_dst";
        report(quiet, &format!("dietesp: warning: SA {}: {problem}\n", sa.name));
    }
    let keys: Vec<UsedKeys> = loaded
        .sas
        .iter()
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
        report(quiet, &format!("dietesp: warning: {warning}\n"));
    }
    print(lines.as_bytes())
}
