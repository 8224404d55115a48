//! `dietesp vectors`.

use std::path::PathBuf;

use clap::Subcommand;

use super::options::{EspPortArgs, load_table};
use super::outputs::Files;
use super::{Ended, print, report};
use crate::capture::{Reader, is_standard_output, read_whole, write_whole};
use crate::error::Error;
use crate::vectors::{self, Settings};

/// Make test vectors from packets, and check them
///
/// A kit of test vectors is one JSON file with every intermediate value of each packet, so that other implementations can
/// check their own results. samples/vectors has a kit and describes its format.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Make(Make),
    /// Compute every value of a kit again, and print the first that differs
    #[command(after_help = "Exit status:
  0  every value of the kit is right
  1  a value differs
  2  the file is not a kit or cannot be read")]
    Check {
        /// Kit of test vectors; `-` is standard input
        kit: PathBuf,
    },
}

/// Make a kit of test vectors from packets
///
/// A plain IP packet gives a vector for every SA whose context matches it. An ESP packet (with --esp-keys, and --esp-rules if it
/// is Diet-ESP) gives one for the SA with its SPI. For every SA, the kit also has packets that must fail, each with the stage at which it fails.
///
/// The kit contains the keys of --keys in clear text: use test keys only.
#[derive(Debug, clap::Args)]
#[command(override_usage = "dietesp vectors make [OPTIONS] -o <KIT> -r <R> -k <K> <PACKETS>")]
#[command(after_help = "Examples:
  dietesp vectors make plain.pcap -o kit.json -r rules.yaml -k test-keys.yaml
  dietesp vectors check kit.json")]
struct Make {
    /// Capture of plain IP packets, or of ESP or Diet-ESP packets that --esp-keys decrypts
    packets: PathBuf,
    /// Output file, compressed if the name ends in .gz or .zst; `-` is standard output
    #[arg(short, long, value_name = "KIT")]
    output: PathBuf,
    /// Rule file with the contexts of the SAs (YAML); repeatable
    #[arg(long = "rules", short = 'r', value_name = "R", required = true)]
    rules: Vec<PathBuf>,
    /// Key file with the test keys to encrypt with, which the kit will contain; repeatable
    #[arg(long = "keys", short = 'k', value_name = "K", required = true)]
    keys: Vec<PathBuf>,
    /// Key file of the ESP packets in PACKETS, which the kit will not contain; repeatable
    #[arg(long, value_name = "K2")]
    esp_keys: Vec<PathBuf>,
    /// Rule file of the ESP packets in PACKETS, if they are Diet-ESP; repeatable
    #[arg(long, value_name = "R2", requires = "esp_keys")]
    esp_rules: Vec<PathBuf>,
    /// Derive IVs from this number, for a reproducible kit
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    esp_ports: EspPortArgs,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        match self.command {
            Command::Make(make) => make.run(quiet),
            Command::Check { kit } => check(&kit, quiet),
        }
    }
}

impl Make {
    fn run(self, quiet: bool) -> Result<Ended, Error> {
        let keys = self.keys.iter().chain(&self.esp_keys);
        let files = Files::default().read("capture", [&self.packets]).read("key file", keys);
        let rules = self.rules.iter().chain(&self.esp_rules);
        files.read("rule file", rules).write(&self.output).check()?;
        let (table, mut link) = self.esp_ports.apply(load_table(&self.keys, &self.rules, &self.packets, quiet)?);
        let esp = match self.esp_keys.as_slice() {
            [] => None,
            keys => {
                let (esp, esp_link) = self.esp_ports.apply(load_table(keys, &self.esp_rules, &self.packets, quiet)?);
                link.contexts.extend(esp_link.contexts);
                link.link_keys.extend(esp_link.link_keys);
                Some(esp)
            }
        };
        let mut reader = Reader::open(&self.packets)?;
        let made = vectors::make(&mut reader, &table, Settings { esp: esp.as_ref(), link, seed: self.seed })?;
        let truncated = super::print_damage(&mut reader);
        match is_standard_output(&self.output) {
            true => print(made.text.as_bytes()).map(|_| ())?,
            false => write_whole(&self.output, made.text.as_bytes())?,
        }
        let vectors::Made { sas, packets, failures, left_out, .. } = made;
        let skipped = match left_out {
            0 => String::new(),
            some => format!("; {some} packets skipped, because no context matches them"),
        };
        let secret = "the kit contains the keys of its SAs in clear text: use test keys only";
        report(quiet, &format!("{packets} packets and {failures} failing packets of {sas} SAs{skipped}\n{secret}\n"));
        Ok(if truncated { Ended::WithFailures } else { Ended::Well })
    }
}

fn check(path: &PathBuf, quiet: bool) -> Result<Ended, Error> {
    Files::default().read("kit", [path]).print().check()?;
    let text = String::from_utf8(read_whole(path)?)
        .map_err(|_| Error::file(path, "not UTF-8 text", "give a kit written by `dietesp vectors make`"))?;
    let checked = vectors::check(path, &text)?;
    match checked.difference {
        None => {
            let (packets, failures) = (checked.packets, checked.failures);
            report(
                quiet,
                &format!("{packets} packets and {failures} failing packets checked: all values are correct\n"),
            );
            Ok(Ended::Well)
        }
        Some(difference) => {
            print(format!("{}: {difference}\n", path.display()).as_bytes())?;
            Ok(Ended::WithFailures)
        }
    }
}
