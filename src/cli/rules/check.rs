//! `dietesp rules check`.

use std::path::{Path, PathBuf};

use super::show::sa_name;
use super::trial::{self, Trial};
use crate::cli::options::{EspPortArgs, derive_children};
use crate::cli::outputs::Files;
use crate::cli::{Ended, counted, print, report};
use crate::codec::Codec;
use crate::context::{Context, Dialect};
use crate::error::Error;
use crate::files;
use crate::sa::table::PreparedSa;
use crate::schc::{Action, Compute, Direction, FieldDescriptor};

/// Check rule files, and print what each context omits and cannot restore
///
/// With a capture of standard ESP, `check` decrypts the packets. For each context, it prints how many packets match and
/// which fields of the other packets do not. Packets belong to the context whose SA has their SPI.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dietesp rules check rules.yaml --keys keys.yaml
  dietesp rules check rules.yaml --keys keys.yaml --capture esp.pcapng \\
      --esp-keys esp_sa

The exit status is 1 if packets of the capture do not match or cannot be
decrypted, or if no packet matches.")]
pub(super) struct Args {
    /// Rule file with contexts (YAML)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Key file with the SAs that the contexts name; repeatable
    #[arg(long = "keys", short = 'k', value_name = "K")]
    keys: Vec<PathBuf>,
    /// Capture of standard ESP
    #[arg(long, value_name = "F", requires = "keys")]
    capture: Option<PathBuf>,
    /// Key file of the ESP packets in the capture (default: --keys); repeatable
    #[arg(long, value_name = "K2", requires = "capture")]
    esp_keys: Vec<PathBuf>,
    #[command(flatten)]
    esp_ports: EspPortArgs,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        let files =
            Files::default().read("rule file", &self.files).read("key file", self.keys.iter().chain(&self.esp_keys));
        files.read("capture", &self.capture).print().check()?;
        let mut loaded = files::load(&self.keys, &self.files)?;
        derive_children(&mut loaded, self.capture.as_deref())?;
        for warning in &loaded.warnings {
            report(quiet, &format!("dietesp: warning: {warning}\n"));
        }
        let Some(capture) = &self.capture else {
            let text = match loaded.sas.is_empty() {
                true => without_sas(&loaded.contexts)? + "not checked: whether the SAs exist (add --keys)\n",
                false => with_sas(&entries(loaded)?),
            };
            return print(text.as_bytes());
        };
        let of_capture = self.keys_of(capture)?;
        let by_tunnel = trial::names_are_unknown(&loaded.sas, &loaded.contexts);
        let (mut text, trial) = if by_tunnel {
            let warning = "no key file has the SAs of the contexts, so each packet is checked against all contexts \
                whose tunnel_ip matches its addresses; give the keys of these SAs with --keys and the keys of the \
                capture with --esp-keys";
            report(quiet, &format!("dietesp: warning: {warning}\n"));
            (without_sas(&loaded.contexts)?, Trial::by_tunnel(&loaded.contexts, of_capture)?)
        } else {
            let entries = entries(loaded)?;
            (with_sas(&entries), Trial::by_spi(entries, of_capture)?)
        };
        let trial = trial.run(capture, &self.esp_ports)?;
        text += &trial.text(!by_tunnel);
        print(text.as_bytes())?;
        if trial.decrypted() == 0 {
            let problem = "no packet was decrypted: --capture needs standard ESP; add its keys with --esp-keys";
            report(quiet, &format!("{problem} if they differ from --keys\n"));
        }
        Ok(trial.outcome().into())
    }

    /// The SAs of the packets in the capture.
    fn keys_of(&self, capture: &Path) -> Result<files::Loaded, Error> {
        let keys = if self.esp_keys.is_empty() { &self.keys } else { &self.esp_keys };
        let mut loaded = files::load(keys, &[])?;
        derive_children(&mut loaded, Some(capture))?;
        Ok(loaded)
    }
}

/// The result for contexts without their SAs.
fn without_sas(contexts: &[Context]) -> Result<String, Error> {
    let mut text = String::new();
    for context in contexts {
        // The check for invalid rules does not depend on the cipher, so any block length works.
        let _ = Codec::new(Some(context), 1)?;
        text += &format!("{}: {}: valid\n{}", context.origin, sa_name(context), explained(context, 1));
    }
    Ok(text)
}

/// The result for contexts with their SAs.
fn with_sas(entries: &[PreparedSa]) -> String {
    let mut text = String::new();
    for entry in entries {
        let Some(context) = &entry.context else { continue };
        let own = explained(context, entry.cipher().block());
        text += &format!("{}: {}: valid\n{own}", context.origin, entry.sa.name);
        if entry.cipher().iv_len() > 0 {
            let cipher = entry.cipher().suite().name;
            text += &format!("  {cipher} sends an IV of {} bytes, uncompressed\n", entry.cipher().iv_len());
        }
    }
    text
}

fn entries(loaded: files::Loaded) -> Result<Vec<PreparedSa>, Error> {
    let bound = files::bind(&loaded.sas, &loaded.contexts)?;
    let entries = loaded.sas.into_iter().zip(bound).map(|(sa, context)| {
        let context = context.and_then(|index| loaded.contexts.get(index));
        PreparedSa::new(sa, context.cloned())
    });
    entries.collect()
}

/// What the receiver must search for, and which fields are not restored exactly: one line each.
fn explained(context: &Context, cipher_block: usize) -> String {
    let mut lines = vec![];
    if let Ok(codec) = Codec::new(Some(context), cipher_block) {
        lines.push(format!(
            "the ESP header has {}: {} of the SPI, {} of the sequence number",
            counted(codec.header_len() as u64, "byte"),
            counted(codec.spi_bits().into(), "bit"),
            codec.sn_bits()
        ));
        if codec.spi_bits() == 0 {
            lines.push(
                "no SPI is sent: the receiver identifies this SA by the outer addresses and the ICV \
                only"
                    .to_owned(),
            );
        }
        if codec.sn_bits() == 0 {
            lines.push("no sequence number is sent: the receiver tries the numbers near the last one".to_owned());
        }
    }
    let direction = match &context.dialect {
        Dialect::Custom(custom) => custom.direction,
        _ => Direction::Both,
    };
    let tables = Codec::tables(context, cipher_block);
    // The receiver restores the ESP header and trailer from the SA and the packet.
    let inner = tables.iter().filter(|table| table.name.starts_with("iipc")).flat_map(|table| &table.rule.fields);
    let rows: Vec<&FieldDescriptor> = inner.filter(|row| row.direction.applies_to(direction)).collect();
    let mut add = |what: &str, is_meant: &dyn Fn(&FieldDescriptor) -> bool| {
        let mut names: Vec<&str> = vec![];
        for row in rows.iter().filter(|row| is_meant(row)) {
            // Alternative rules for one header have the same fields.
            if !names.contains(&row.fid.name) {
                names.push(row.fid.name);
            }
        }
        if !names.is_empty() {
            lines.push(format!("{what}: {}", names.join(", ")));
        }
    };
    add("restored from the outer header, so the original values are lost", &|row| {
        row.action == Action::Compute(Compute::Lower)
    });
    add("generated by the receiver, so the original values are lost", &|row| {
        matches!(row.action, Action::Compute(Compute::Generated | Compute::GeneratedZero))
    });
    add("restored as the target value, so the original values are lost", &FieldDescriptor::is_lossy);
    if rows.iter().any(|row| row.is_lossy()) {
        add("computed over the restored packet", &|row| row.action == Action::Compute(Compute::Checksum));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}
