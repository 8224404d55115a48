//! `dietesp compress`.

use std::path::{Path, PathBuf};

use super::interrupt;
use super::options::{Opening, load_table};
use super::outputs::Files;
use super::progress::Progress;
use super::{Ended, Outcome, advice, counted, report};
use crate::capture::{Rereadable, Writer};
use crate::command::compress::{self, Compressed, Input, OnMismatch, Settings};
use crate::error::Error;

/// Compress a capture of standard ESP, or of plain IP packets, to Diet-ESP
///
/// `compress` reads the capture up to the first ESP packet that decrypts with --esp-keys, then from the start
/// again. The input of a pipe is kept in a temporary file, so files and pipes give the same output. ESP from a pipe
/// is written as it arrives, starting with the first packet that decrypts. Plain packets from a pipe are written
/// only when the pipe ends or after Ctrl-C, because any later packet may be ESP that decrypts.
///
/// If an ESP packet decrypts, `compress` compresses the ESP packets of the capture. All other frames are written
/// unchanged: IKE, ICMPv6, ARP, ESP of other SAs, damaged frames. The summary counts them. Packets that were protected
/// only by the encryption of their radio frames are omitted, except with --on-mismatch pass.
///
/// If none decrypts, the capture is read as plain IP packets. Each packet is compressed with the first context that
/// matches it. Nothing is written unencrypted, except with --on-mismatch pass. As at the entry of a tunnel, the
/// outermost IP packet of a frame is compressed, even if it is a fragment, an IKE message, or contains another packet.
/// --on-mismatch also applies to frames without a whole IP packet, such as ARP and truncated packets. Radio frames are
/// not written, only the packets in them.
#[derive(Debug, clap::Args)]
#[command(override_usage = "dietesp compress [OPTIONS] -o <OUT> -r <R> -k <K> <CAPTURE>")]
#[command(after_help = "Examples:
  dietesp compress esp.pcapng -o diet.pcapng -r rules.yaml -k new.yaml \\
      --esp-keys esp_sa
  dietesp compress plain.pcap -o diet.pcapng -r rules.yaml -k new.yaml \\
      --on-mismatch skip")]
pub(super) struct Args {
    /// pcap or pcapng file, also compressed (.gz, .zst); `-` is standard input
    capture: PathBuf,
    /// Output file: pcap if the name ends in .pcap, otherwise pcapng. Append .gz or .zst to compress it. `-` is
    /// standard output
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Rule file with the contexts of the SAs (YAML); repeatable
    #[arg(long = "rules", short = 'r', value_name = "R", required = true)]
    rules: Vec<PathBuf>,
    /// Key file with the keys to encrypt with; repeatable
    #[arg(long = "keys", short = 'k', value_name = "K", required = true)]
    keys: Vec<PathBuf>,
    /// Key file of the ESP packets in CAPTURE (default: --keys); repeatable
    #[arg(long, value_name = "K2")]
    esp_keys: Vec<PathBuf>,
    /// What to do with a packet that no context matches
    #[arg(long, value_name = "ACTION", value_enum, default_value_t = OnMismatchArg::Stop)]
    on_mismatch: OnMismatchArg,
    /// For laboratories only: allow nonces that CAPTURE already used. They occur if a cipher with implicit IV keeps
    /// its key
    #[arg(long)]
    allow_nonce_reuse: bool,
    /// For tests only: derive IVs from this number, for reproducible output. Two runs use the same IVs
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum OnMismatchArg {
    /// End the run and write nothing
    Stop,
    /// Omit the packet, and count it
    Skip,
    /// Write it as standard ESP, on an SA without context. A frame without a whole IP packet is written unchanged
    /// and counted
    Pass,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        let keys = self.keys.iter().chain(&self.esp_keys);
        let files = Files::default().read("capture", [&self.capture]).read("key file", keys);
        files.read("rule file", &self.rules).write(&self.output).check()?;
        let (output, mut link) = self.opening.apply(load_table(&self.keys, &self.rules, &self.capture, quiet)?);
        let esp_keys = if self.esp_keys.is_empty() { &self.keys } else { &self.esp_keys };
        let (input, link_of_input) = self.opening.apply(load_table(esp_keys, &[], &self.capture, quiet)?);
        link.link_keys.extend(link_of_input.link_keys);
        link.contexts.extend(link_of_input.contexts);
        let limits = self.opening.limits(quiet);
        let source = self.opening.source()?;
        let mut capture = Rereadable::open(&self.capture, &source)?;
        // For a pipe, a signal ends the capture, and the packets read so far are compressed. During the first pass
        // over a file, a signal ends the program, because nothing has been written yet.
        if capture.is_pipe() {
            interrupt::stops(&source.stop)?;
        }
        let esp = compress::holds_esp(&mut capture.first_pass()?, &input, limits, &link)?;
        if !capture.is_pipe() {
            interrupt::stops(&source.stop)?;
        }
        let mut reader = capture.second_pass()?;
        let writer = Writer::create(&self.output)?;
        let settings = Settings {
            on_mismatch: match self.on_mismatch {
                OnMismatchArg::Stop => OnMismatch::Stop,
                OnMismatchArg::Skip => OnMismatch::Skip,
                OnMismatchArg::Pass => OnMismatch::Pass,
            },
            input: if esp { Input::Esp } else { Input::Plain },
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
        let truncated = super::print_damage(&mut reader);
        report(quiet, &summary(&done, &settings, &self.output));
        let failures = done.totals.failed
            + done.refused
            + done.unwritable
            + done.unreadable
            + done.mismatches.values().sum::<u64>();
        Ok(Outcome { decoded: done.compressed, failed: failures, truncated }.into())
    }
}

fn summary(done: &Compressed, settings: &Settings, output: &Path) -> String {
    let mut text = match settings.input {
        Input::Esp => done.totals.counts() + &advice::remarks(&done.totals),
        Input::Plain => format!(
            "{} read as plain IP packets, because no ESP packet in the capture decrypts\n",
            counted(done.totals.frames, "frame")
        ),
    };
    text += &compressed(done);
    text += &not_compressed(done, settings);
    if done.nonces.numbers_of_plain {
        text += "the nonces are the new sequence numbers: encrypt nothing else under these keys, or set esp_sn above \
                 these numbers\n";
    }
    if done.nonces.random && settings.seed.is_some() {
        text += super::SEED_AND_KEYS;
    }
    text + &format!("{} written to {}\n", counted(done.written, "frame"), output.display())
}

fn compressed(done: &Compressed) -> String {
    let text = format!("{} compressed", counted(done.compressed, "packet"));
    if done.compressed == 0 {
        return text + "\n";
    }
    let saved = done.bytes.saved();
    let share = if done.bytes.esp == 0 { 0.0 } else { saved as f64 * 100.0 / done.bytes.esp as f64 };
    text + &format!(": {} bytes, {} as standard ESP, {saved} saved ({share:.1} %)\n", done.bytes.diet, done.bytes.esp)
}

/// Counts of the packets and frames that were not compressed: why, and whether they were omitted or written.
fn not_compressed(done: &Compressed, settings: &Settings) -> String {
    let mut text = String::new();
    for (field, count) in &done.mismatches {
        text += &format!("{count} did not match because of {field}\n");
    }
    if let Some((frame, problem)) = &done.first_mismatch {
        text += &format!("first mismatch, frame {frame}: {problem}\n");
    }
    for (count, what) in [
        (done.not_ip, "without an IP packet"),
        (done.unreadable, "malformed, truncated or of an unsupported link type"),
    ] {
        if count > 0 {
            text += &format!("{} {what}\n", counted(count, "frame"));
        }
    }
    if let Some((frame, problem)) = &done.first_without_packet {
        text += &format!("first such frame, frame {frame}: {problem}\n");
    }
    if let Some((frame, problem)) = &done.first_unwritable {
        text += &format!("{} omitted: no frame can hold the encrypted packet\n", counted(done.unwritable, "packet"));
        text += &format!("first such packet, frame {frame}: {problem}\n");
    }
    if done.refused > 0 {
        text += &format!(
            "{} omitted: their sequence numbers were already used with other payloads under the same key\n",
            counted(done.refused, "packet")
        );
    }
    if done.decrypted > 0 {
        let count = counted(done.decrypted, "packet");
        text += &format!("{count} of encrypted radio frames omitted, because nothing else protected them\n");
    }
    if done.radio > 0 {
        text += &format!("{} without a complete new packet omitted\n", counted(done.radio, "radio frame"));
    }
    if done.standard > 0 {
        text += &format!("{} written as standard ESP\n", counted(done.standard, "packet"));
    }
    if done.unchanged > 0 {
        let not_encrypted = if settings.input == Input::Plain { ", not encrypted" } else { "" };
        text += &format!("{} written unchanged{not_encrypted}\n", counted(done.unchanged, "other frame"));
    }
    text
}
