//! `dietesp convert`.

use std::path::{Path, PathBuf};

use super::options::{Inputs, Opening};
use super::outputs::Files;
use super::progress::Progress;
use super::{Ended, Outcome, advice, counted, report};
use crate::capture::{Writer, is_standard_output};
use crate::cipher::{SUITES, Suite};
use crate::command::convert::{self, Converted, Reseal, Settings, Target};
use crate::error::Error;
use crate::link;
use crate::sa::UsedKeys;
use crate::wireshark;

/// Convert a Diet-ESP capture to standard ESP for Wireshark, or to the inner packets
///
/// `convert` re-encrypts packets under new keys if Diet-ESP omitted encrypted fields. For other packets, it only
/// restores the full ESP header. The folder for Wireshark then contains your real keys: do not share it.
#[derive(Debug, clap::Args)]
#[command(after_help = "The keys for Wireshark are written to the folder OUT.wireshark:
  dietesp convert field.pcapng -o esp.pcapng -r rules.yaml -k keys.yaml
  WIRESHARK_CONFIG_DIR=esp.pcapng.wireshark wireshark esp.pcapng

The exit status is also 1 if a packet does not fit its frame after conversion,
and with `--to plain` if packets are still encrypted in the output.")]
pub(super) struct Args {
    /// pcap or pcapng file, also compressed (.gz, .zst); `-` is standard input
    capture: PathBuf,
    /// Output file: pcap if the name ends in .pcap, otherwise pcapng. Append .gz or .zst to compress it. `-` is
    /// standard output
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    #[command(flatten)]
    inputs: Inputs,
    /// Form of the packets in the output
    #[arg(long, value_enum, default_value_t = To::Esp)]
    to: To,
    /// Keys for packets that must be re-encrypted (default: fresh)
    #[arg(long, value_enum)]
    reseal: Option<ResealArg>,
    /// Cipher of the fresh keys (default: ENCR_AES_GCM_16)
    #[arg(long, value_name = "NAME", value_parser = parse_cipher)]
    cipher: Option<&'static Suite>,
    /// Folder for Wireshark's esp_sa and preferences (default: OUT.wireshark)
    #[arg(long, value_name = "DIR")]
    wireshark: Option<PathBuf>,
    /// For tests only: derive fresh keys and IVs from this number, for reproducible output. Whoever knows the number can
    /// decrypt the output. With `--reseal keep`, two runs use the same IVs
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Also write radio frames that repeat an earlier frame (pcapng only)
    #[arg(long)]
    keep_repeats: bool,
    #[command(flatten)]
    opening: Opening,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// Standard ESP
    Esp,
    /// The inner packets, decrypted
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ResealArg {
    /// A new random key per SA
    Fresh,
    /// The key of the SA, with other IVs
    Keep,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        for (option, with) in self.without_effect() {
            report(quiet, &format!("dietesp: warning: {option} has no effect with {with}\n"));
        }
        let folder = self.folder()?;
        self.check_files(folder.as_deref())?;
        let (table, link) = self.opening.apply(self.inputs.table(&self.capture, quiet)?);
        let mut reader = self.opening.reader(&self.capture)?;
        let writer = Writer::create(&self.output)?;
        if self.keep_repeats && !writer.batch().mixes_link_types() {
            report(quiet, "dietesp: warning: --keep-repeats has no effect: radio frames are written to pcapng only\n");
        }
        let settings = self.settings(link, quiet);
        let progress = Progress::new(quiet, reader.total_len(), false);
        let mut warnings = vec![];
        let keep = |keys: &[UsedKeys]| {
            let Some(folder) = &folder else { return Ok(()) };
            let (lines, unnamed) = wireshark::lines(keys);
            warnings = unnamed;
            wireshark::write_folder(folder, &lines)
        };
        let converted = convert::run(&mut reader, writer, &table, &settings, &mut |at| progress.at(at), keep);
        progress.finish();
        let converted = converted?;
        for warning in warnings {
            report(quiet, &format!("dietesp: warning: {warning}\n"));
        }
        let truncated = super::print_damage(&mut reader);
        let summary = summary(&converted, &settings, &self.output, folder.as_deref());
        report(
            quiet,
            &(summary + advice::without_rules(&self.inputs, &converted.totals) + &advice::esp_port(&converted.totals)),
        );
        let left = if self.to == To::Plain { converted.still_encrypted } else { 0 };
        let decoded = Outcome::of(&converted.totals);
        Ok(Outcome { failed: decoded.failed + converted.unwritable + left, truncated, ..decoded }.into())
    }

    /// The settings of the library for these arguments.
    fn settings(&self, link: link::Settings, quiet: bool) -> Settings {
        Settings {
            target: if self.to == To::Esp { Target::Esp } else { Target::Plain },
            reseal: self.reseal(),
            seed: self.seed,
            limits: self.opening.limits(quiet),
            selection: self.opening.selection.selection(),
            link,
            keep_repeats: self.keep_repeats,
            threads: self.opening.threads(),
        }
    }

    fn reseal(&self) -> Reseal {
        match self.reseal {
            Some(ResealArg::Keep) => Reseal::Keep,
            Some(ResealArg::Fresh) | None => Reseal::Fresh(self.cipher.unwrap_or_else(default_cipher)),
        }
    }

    /// The folder for Wireshark: the one given, or the default next to an output file. `None` if there are no keys to write.
    fn folder(&self) -> Result<Option<PathBuf>, Error> {
        if self.to == To::Plain {
            return Ok(None);
        }
        if self.wireshark.is_some() {
            return Ok(self.wireshark.clone());
        }
        // A folder next to a device or a pipe, such as /dev/null, would be in the wrong place.
        let is_device = std::fs::metadata(&self.output).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir());
        if !is_standard_output(&self.output) && !is_device {
            let mut name = self.output.clone().into_os_string();
            name.push(".wireshark");
            return Ok(Some(PathBuf::from(name)));
        }
        match self.reseal() {
            Reseal::Keep => Ok(None),
            Reseal::Fresh(_) => Err(Error::usage(
                "the fresh keys would be lost, because the output is not a file",
                "add --wireshark DIR to keep them, or use --reseal keep",
            )),
        }
    }

    /// Checks that no file is overwritten that is read or contains another Wireshark profile.
    fn check_files(&self, folder: Option<&Path>) -> Result<(), Error> {
        let files = self.inputs.files(&self.capture).write(&self.output);
        let Some(folder) = folder else { return files.check() };
        wireshark::paths(folder).into_iter().fold(files, Files::write).check()?;
        if wireshark::has_other_profile(folder) {
            return Err(Error::usage(
                format!("{} holds a Wireshark profile, whose esp_sa and preferences would be lost", folder.display()),
                "give another folder with --wireshark",
            ));
        }
        Ok(())
    }

    /// The given options that have no effect, each with the option that disables it.
    fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        let for_esp = [
            ("--reseal", self.reseal.is_some()),
            ("--cipher", self.cipher.is_some()),
            ("--wireshark", self.wireshark.is_some()),
            ("--seed", self.seed.is_some()),
        ];
        let for_fresh_keys = [("--cipher", self.cipher.is_some())];
        let (options, with) = match (self.to, self.reseal) {
            (To::Plain, _) => (&for_esp[..], "--to plain"),
            (To::Esp, Some(ResealArg::Keep)) => (&for_fresh_keys[..], "--reseal keep"),
            (To::Esp, _) => return vec![],
        };
        options.iter().filter(|(_, given)| *given).map(|(option, _)| (*option, with)).collect()
    }
}

fn summary(converted: &Converted, settings: &Settings, output: &Path, folder: Option<&Path>) -> String {
    let mut text = advice::summary(&converted.totals);
    let Converted { written, rewritten: [header_only, explicit_iv, sealed], still_encrypted, .. } = converted;
    text += &format!("{} written to {}", counted(*written, "frame"), output.display());
    if settings.target == Target::Esp {
        text += &format!(
            "; ESP packets: {sealed} re-encrypted, {header_only} with header restored only, {explicit_iv} with IV added"
        );
    }
    text.push('\n');
    text += &match converted.unwritable {
        0 => String::new(),
        1 => "1 packet written as captured: no frame can hold the converted packet\n".to_owned(),
        count => {
            format!("{count} packets written as captured: no frame can hold the converted packets\n")
        }
    };
    if settings.target == Target::Plain && *still_encrypted > 0 {
        let are = if *still_encrypted == 1 { "is" } else { "are" };
        text += &format!(
            "{} could not be decoded and {are} still encrypted in the output\n",
            counted(*still_encrypted, "packet")
        );
    }
    if settings.reseal == Reseal::Keep && *sealed > 0 {
        text += "--reseal keep: the new IVs differ from all IVs in this capture, but packets outside it may have used \
            them\n";
        if settings.seed.is_some() {
            text += super::SEED_AND_KEYS;
        }
    }
    if let Some(folder) = folder {
        let (folder, output) = (folder.display(), output.display());
        text += &format!("keys for Wireshark: WIRESHARK_CONFIG_DIR={folder} wireshark {output}\n");
    }
    text
}

fn default_cipher() -> &'static Suite {
    Suite::by_name("ENCR_AES_GCM_16").expect("it is in the table of ciphers")
}

fn parse_cipher(name: &str) -> Result<&'static Suite, String> {
    let usable = |suite: &&&'static Suite| !suite.implicit_iv;
    Suite::by_name(name).filter(|suite| usable(&suite)).ok_or_else(|| {
        let names: Vec<&str> = SUITES.iter().filter(|suite| !suite.implicit_iv).map(|suite| suite.name).collect();
        format!("not a cipher for fresh keys; choose one of: {}", names.join(" "))
    })
}
