//! `dietesp rules show`.

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};
use serde::Serialize;

use super::Format;
use crate::cipher::{EspCipher, SUITES, Suite};
use crate::cli::outputs::Files;
use crate::cli::{Ended, print, report};
use crate::codec::overhead::{CipherLens, Overhead, SampleMismatch, Span, overhead, rule_bits, sent_bits};
use crate::codec::{Codec, Mismatch, NamedRule};
use crate::context::{Context, Mode, SaReference};
use crate::error::Error;
use crate::files::{self, length_name, target_text};
use crate::schc::{FieldDescriptor, Matching, Rule, Target};

/// Show the rules of each context as tables, and how many bytes they save
///
/// For each kind of packet: the bits that are sent, and the size of a packet compared with standard ESP, for payloads of
/// 1 to 64 bytes. The IV has a column of its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  dietesp rules show rules.yaml --keys keys.yaml")]
pub(super) struct Args {
    /// Rule files with contexts (YAML), or rules in a form that `rules apply` reads
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Key file that names the cipher of each SA (default: AES-CCM with an ICV of 8 bytes); repeatable
    #[arg(long = "keys", short = 'k', value_name = "K")]
    keys: Vec<PathBuf>,
    /// Form of the output
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// The cipher that sizes are computed for if no key file names one.
const ASSUMED: &str = "ENCR_AES_CCM_8";

/// One context, ready to be shown.
#[derive(Debug, Serialize)]
struct Shown {
    sa: String,
    dialect: &'static str,
    ipsec_mode: &'static str,
    cipher: &'static str,
    /// No key file names the cipher.
    cipher_assumed: bool,
    iv_bytes: usize,
    icv_bytes: usize,
    rules: Vec<ShownRule>,
    packets: Vec<ShownPacket>,
}

#[derive(Debug, Serialize)]
struct ShownRule {
    name: String,
    residue_bits: usize,
    /// There are also fields of variable length.
    varies: bool,
    fields: Vec<ShownRow>,
}

#[derive(Debug, Serialize)]
struct ShownRow {
    #[serde(rename = "FID")]
    fid: &'static str,
    #[serde(rename = "FL")]
    length: String,
    #[serde(rename = "FP")]
    position: u8,
    #[serde(rename = "DI")]
    direction: &'static str,
    #[serde(rename = "TV")]
    target: Option<String>,
    #[serde(rename = "MO")]
    matching: String,
    #[serde(rename = "CDA")]
    action: &'static str,
    /// `null` if the length is variable.
    sent_bits: Option<usize>,
}

#[derive(Debug, Serialize)]
struct ShownPacket {
    headers: String,
    residue_bits: usize,
    diet_bytes: [isize; 2],
    iv_bytes: usize,
    esp_bytes: [isize; 2],
    overhead_bytes: [isize; 2],
    saved_bytes: [isize; 2],
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        Files::default().read("rule file", &self.files).read("key file", &self.keys).print().check()?;
        let loaded = match files::load(&self.keys, &self.files) {
            Ok(loaded) => loaded,
            // Rules outside contexts do not need key files.
            Err(error) => match self.files.iter().map(|path| files::load_rules(path)).collect::<Result<Vec<_>, _>>() {
                Ok(sets) if self.keys.is_empty() => return self.rule_sets(&sets),
                _ => return Err(error),
            },
        };
        for warning in &loaded.warnings {
            report(quiet, &format!("dietesp: warning: {warning}\n"));
        }
        if loaded.contexts.is_empty() {
            let path = self.files.first().map_or(Path::new("-"), PathBuf::as_path);
            return Err(Error::file(path, "the file has no contexts", "give a rule file with `contexts:`"));
        }
        let bound = if loaded.sas.is_empty() { vec![] } else { files::bind(&loaded.sas, &loaded.contexts)? };
        let mut shown = vec![];
        for (position, context) in loaded.contexts.iter().enumerate() {
            let sa = loaded.sas.iter().zip(&bound).find(|(_, bound)| **bound == Some(position)).map(|(sa, _)| sa);
            let cipher = sa.map(|sa| {
                let cipher = EspCipher::new(&sa.keys);
                (sa.keys.suite(), CipherLens { block: cipher.block(), iv: cipher.iv_len(), icv: cipher.icv_len() })
            });
            shown.push(show(context, cipher, |warning| report(quiet, &format!("dietesp: warning: {warning}\n")))?);
        }
        match self.format {
            Format::Json => print(json(&shown)?.as_bytes()),
            Format::Table => print(shown.iter().map(text).collect::<Vec<_>>().join("\n").as_bytes()),
        }
    }

    fn rule_sets(&self, sets: &[files::RuleSet]) -> Result<Ended, Error> {
        let rules = sets.iter().flat_map(|set| &set.rules).map(|numbered| {
            let name = match numbered.id {
                Some(id) => format!("RuleID {} in {} bits", id.value, id.bits),
                None => "rule".to_owned(),
            };
            rule(name, &numbered.rule)
        });
        let rules: Vec<ShownRule> = rules.collect();
        match self.format {
            Format::Json => print(json(&rules)?.as_bytes()),
            Format::Table => print(rules.iter().map(rule_text).collect::<String>().as_bytes()),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::usage(error.to_string(), ""))?;
    Ok(text + "\n")
}

fn show(
    context: &Context,
    cipher: Option<(&'static Suite, CipherLens)>,
    mut warn: impl FnMut(String),
) -> Result<Shown, Error> {
    let assumed = || {
        let suite = Suite::by_name(ASSUMED).or(SUITES.first());
        suite.map(|suite| (suite, CipherLens { block: suite.block, iv: suite.iv_len, icv: suite.icv_len }))
    };
    let Some((suite, lens)) = cipher.or_else(assumed) else {
        return Err(Error::usage("no cipher is known", ""));
    };
    let mut packets = vec![];
    for kind in overhead(context, lens)? {
        match kind {
            Ok(overhead) => packets.push(packet(&overhead, lens)),
            Err(SampleMismatch { headers, mismatch }) => warn(no_sample(context, &headers, &mismatch)),
        }
    }
    Ok(Shown {
        sa: sa_name(context),
        dialect: context.dialect.name(),
        ipsec_mode: match context.mode {
            Mode::Tunnel => "Tunnel",
            Mode::Transport => "Transport",
        },
        cipher: suite.name,
        cipher_assumed: cipher.is_none(),
        iv_bytes: lens.iv,
        icv_bytes: lens.icv,
        rules: Codec::tables(context, lens.block)
            .iter()
            .map(|NamedRule { name, rule: rows }| rule((*name).to_owned(), rows))
            .collect(),
        packets,
    })
}

fn no_sample(context: &Context, headers: &str, mismatch: &Mismatch) -> String {
    format!("{}: no sizes for {headers}: the sample packet does not match: {mismatch}", context.origin)
}

/// The name of a context's SA in messages.
pub(super) fn sa_name(context: &Context) -> String {
    match &context.sa {
        SaReference::Name(name) => name.clone(),
        SaReference::Spi { spi, .. } => format!("0x{spi:08x}"),
    }
}

fn packet(overhead: &Overhead, lens: CipherLens) -> ShownPacket {
    let pair = |span: Span| [span.least, span.most];
    ShownPacket {
        headers: overhead.headers.clone(),
        residue_bits: overhead.residue_bits,
        diet_bytes: pair(overhead.diet),
        iv_bytes: lens.iv,
        esp_bytes: pair(overhead.esp),
        overhead_bytes: pair(overhead.overhead),
        saved_bytes: pair(overhead.saved),
    }
}

fn rule(name: String, rule: &Rule) -> ShownRule {
    let (residue_bits, varies) = rule_bits(rule);
    ShownRule { name, residue_bits, varies, fields: rule.fields.iter().map(row).collect() }
}

fn row(row: &FieldDescriptor) -> ShownRow {
    ShownRow {
        fid: row.fid.name,
        length: length_name(row.length),
        position: row.position,
        direction: row.direction.name(),
        target: match &row.target {
            Target::Empty => None,
            Target::Value(value) => Some(target_text(row, *value)),
            Target::List(values) => {
                let values: Vec<String> = values.iter().map(|value| target_text(row, *value)).collect();
                Some(format!("[{}]", values.join(", ")))
            }
        },
        matching: match row.matching {
            Matching::Msb(bits) => format!("MSB({bits})"),
            other => other.name().to_owned(),
        },
        action: row.action.name(),
        sent_bits: sent_bits(row),
    }
}

fn text(shown: &Shown) -> String {
    let assumed = if shown.cipher_assumed { " (assumed: no key file)" } else { "" };
    let mut text = format!(
        "{}: dialect {}, {} mode, {}{assumed}: IV {} bytes, ICV {} bytes\n\n",
        shown.sa, shown.dialect, shown.ipsec_mode, shown.cipher, shown.iv_bytes, shown.icv_bytes
    );
    shown.rules.iter().for_each(|rule| text += &rule_text(rule));
    if !shown.packets.is_empty() {
        text += "bytes per packet in addition to the payload of the innermost header, without the IV\n";
        text += &packets_text(&shown.packets);
    }
    text
}

fn rule_text(rule: &ShownRule) -> String {
    let mut grid = grid(["Field", "FL", "FP", "DI", "TV", "MO", "CDA", "Sent bits"], &[1, 2, 7]);
    for row in &rule.fields {
        grid.add_row([
            row.fid.to_owned(),
            row.length.clone(),
            row.position.to_string(),
            row.direction.to_owned(),
            row.target.clone().unwrap_or_else(|| "-".to_owned()),
            row.matching.clone(),
            row.action.to_owned(),
            row.sent_bits.map_or("varies".to_owned(), |bits| bits.to_string()),
        ]);
    }
    let varies = if rule.varies { ", and fields of variable length" } else { "" };
    format!("{}: {} bits sent{varies}\n{}\n\n", rule.name, rule.residue_bits, grid.trim_fmt())
}

fn packets_text(packets: &[ShownPacket]) -> String {
    let mut grid = grid(["Packet", "Residue bits", "Diet-ESP", "ESP", "IV", "Overhead", "Saved"], &[1, 2, 3, 4, 5, 6]);
    let span = |[least, most]: [isize; 2]| match least == most {
        true => least.to_string(),
        false => format!("{least} to {most}"),
    };
    for packet in packets {
        grid.add_row([
            packet.headers.clone(),
            packet.residue_bits.to_string(),
            span(packet.diet_bytes),
            span(packet.esp_bytes),
            packet.iv_bytes.to_string(),
            span(packet.overhead_bytes),
            span(packet.saved_bytes),
        ]);
    }
    format!("{}\n", grid.trim_fmt())
}

fn grid<const N: usize>(header: [&str; N], right: &[usize]) -> Grid {
    let mut grid = Grid::new();
    grid.load_style(presets::NOTHING);
    grid.set_content_arrangement(ContentArrangement::Disabled);
    grid.set_header(header);
    for column in right {
        if let Some(column) = grid.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    grid
}
