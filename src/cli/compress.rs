//! `dietesp compress`.

use std::path::{Path, PathBuf};

use super::options::{Opening, load_table};
use super::outputs::Files;
use super::progress::Progress;
use super::{Ended, counted, tell};
use crate::capture::{Reader, Writer};
use crate::error::Error;
use crate::pipeline::compress::{self, Compressed, OnMismatch, Settings};

/// Make Diet-ESP out of a capture of standard ESP, or of plain IP packets
///
/// A capture with packets of the SAs in it is taken as one of ESP, and everything else in it passes as it is. In any
/// other capture the plain IP packets are compressed by the first context that matches. A file is looked through for
/// that; from standard input or a pipe the first packets decide, and if ESP comes behind plain packets that were
/// compressed, the run ends and nothing is written.
#[derive(Debug, clap::Args)]
#[command(override_usage = "dietesp compress [OPTIONS] -o <OUT> -r <R> -k <K> <CAPTURE>")]
#[command(after_help = "Examples:
  dietesp compress esp.pcapng -o diet.pcapng --rules rules.yaml --keys new.yaml --esp-keys esp_sa
  dietesp compress plain.pcap -o diet.pcapng --rules rules.yaml --keys new.yaml --on-mismatch skip")]
pub struct Args {
    /// pcap or pcapng, may be .gz or .zst; `-` is standard input
    capture: PathBuf,
    /// Where to write: pcap if it ends in .pcap, else pcapng; `-` is standard output
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Rule file: the contexts of the SAs (native YAML)
    #[arg(long = "rules", short = 'r', value_name = "R", required = true)]
    rules: Vec<PathBuf>,
    /// Key file: the keys to seal with
    #[arg(long = "keys", short = 'k', value_name = "K", required = true)]
    keys: Vec<PathBuf>,
    /// Key file of the ESP packets in the input (default: --keys)
    #[arg(long, value_name = "K2")]
    esp_keys: Vec<PathBuf>,
    /// What to do with a packet that its context does not match
    #[arg(long, value_enum, default_value_t = OnMismatchArg::Stop)]
    on_mismatch: OnMismatchArg,
    /// For laboratories: seal under nonces that the input used, where an implicit-IV cipher keeps its key
    #[arg(long)]
    allow_nonce_reuse: bool,
    /// Make IVs from this number, for output that can be made again: for tests. Outputs of two runs share IVs
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnMismatchArg {
    /// End the run and write nothing
    Stop,
    /// Leave the packet out
    Skip,
    /// Write it as standard ESP, on an SA without context
    Pass,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        let keys = self.keys.iter().chain(&self.esp_keys);
        let files = Files::default().read("capture", [&self.capture]).read("key file", keys);
        files.read("rule file", &self.rules).write(&self.output).check()?;
        let (output, mut link) = load_table(&self.keys, &self.rules, &self.capture, quiet)?;
        let esp_keys = if self.esp_keys.is_empty() { &self.keys } else { &self.esp_keys };
        let (input, link_of_input) = load_table(esp_keys, &[], &self.capture, quiet)?;
        link.link_keys.extend(link_of_input.link_keys);
        link.contexts.extend(link_of_input.contexts);
        link.fcs = self.opening.fcs();
        let limits = self.opening.limits(quiet);
        // A pipe cannot be read twice: there the first packets decide.
        let esp_input = match std::fs::metadata(&self.capture) {
            Ok(metadata) if !metadata.is_file() => None,
            _ if self.capture == Path::new("-") => None,
            _ => Some(compress::holds_esp(
                &mut Reader::open_as(&self.capture, &self.opening.source()?)?,
                &input,
                limits,
                &link,
            )?),
        };
        // A tunnel's entry compresses the fragments of plain packets one by one.
        link.fragments_apart = esp_input == Some(false);
        let mut reader = self.opening.reader(&self.capture)?;
        let writer = Writer::create(&self.output)?;
        let settings = Settings {
            on_mismatch: match self.on_mismatch {
                OnMismatchArg::Stop => OnMismatch::Stop,
                OnMismatchArg::Skip => OnMismatch::Skip,
                OnMismatchArg::Pass => OnMismatch::Pass,
            },
            esp_input,
            allow_nonce_reuse: self.allow_nonce_reuse,
            seed: self.seed,
            limits,
            selection: self.opening.selection.selection(),
            link,
            threads: self.opening.threads(),
        };
        let progress = Progress::new(quiet, reader.total_len(), false);
        let done =
            compress::run(&mut reader, writer, &input, &output, &settings, &mut |position| progress.at(position));
        progress.finish();
        let done = done?;
        let truncated = super::tell_damage(&mut reader);
        tell(quiet, &summary(&done, &self.output, self.seed));
        let failures = done.totals.failed + done.refused + done.mismatches.values().sum::<u64>();
        Ok(if failures == 0 && !truncated { Ended::Well } else { Ended::WithFailures })
    }
}

fn summary(done: &Compressed, output: &Path, seed: Option<u64>) -> String {
    let mut text = done.totals.counts() + &done.totals.remarks();
    text += &format!("{} compressed", counted(done.compressed, "packet"));
    if done.compressed > 0 {
        let saved = done.bytes.saved();
        let share = if done.bytes.esp == 0 { 0.0 } else { saved as f64 * 100.0 / done.bytes.esp as f64 };
        text +=
            &format!(": {} bytes, {} as standard ESP, {saved} saved ({share:.1} %)", done.bytes.diet, done.bytes.esp);
    }
    text.push('\n');
    for (field, count) in &done.mismatches {
        text += &format!("{count} did not match: {field}\n");
    }
    if let Some((frame, problem)) = &done.first_mismatch {
        text += &format!("the first of them, frame {frame}: {problem}\n");
    }
    if done.refused > 0 {
        text += &format!(
            "{} left out: their Sequence Number was used before with another payload, under the same key\n",
            done.refused
        );
    }
    if done.nonces.numbers_of_plain {
        text +=
            "the nonces are the new Sequence Numbers: seal nothing else under these keys, or set esp_sn above them\n";
    }
    if done.nonces.random && seed.is_some() {
        text += super::SEED_AND_KEYS;
    }
    text + &format!("{} written to {}\n", counted(done.written, "frame"), output.display())
}
