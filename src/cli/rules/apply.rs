//! `dietesp rules apply`.

use std::io::{BufRead, Write};
use std::path::PathBuf;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::Format;
use super::apply_context::ContextRules;
use crate::bits;
use crate::cli::outputs::Files;
use crate::cli::{Ended, counted};
use crate::codec::apply::{Applied, ApplyError, digits};
use crate::error::Error;
use crate::files::{self, NumberedRule, target_text};
use crate::schc::{Direction, FieldDescriptor, Matching, Target};

/// Apply one rule to packets: print the residue, or the field that does not match
///
/// The fields are read in the order of the rule, from the first bit of the packet. The direction decides which address or
/// port DEV_ and APP_ fields mean: the device is the source of a packet that goes up.
///
/// With --sa, the rules are those of a context of any dialect, and the packet is a whole IP packet. The outer header
/// gets its addresses from `tunnel_ip` and its other fields from the packet. Several packets are read as one stream, in
/// this order.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dietesp rules apply rule.yaml --packet 6b912345001111402001... --direction dw
  dietesp rules apply rules.json --rule-id 5 --packet - < packets.hex
  dietesp rules apply rules.yaml --sa probe-1-up --packet 600000000011113f...

The exit status is 0 whether the rule matches or not.")]
pub(super) struct Args {
    /// File with a list of rows, a rule with RuleID and fields, or OpenSCHC or RFC 9363 JSON; with --sa a rule file with
    /// contexts
    rule: PathBuf,
    /// Packet in hexadecimal; `-` reads one packet per line from standard input
    #[arg(long, value_name = "HEX")]
    packet: String,
    /// Direction of the packet
    #[arg(long, ignore_case = true, value_enum, default_value_t = DirectionArg::Up)]
    direction: DirectionArg,
    /// RuleID of the rule to apply, if the file has several
    #[arg(long, value_name = "N")]
    rule_id: Option<u32>,
    /// Name of the SA whose context to apply
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rule_id", "direction"])]
    sa: Option<String>,
    /// Form of the result; `json` prints one object per packet, on one line
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DirectionArg {
    /// From the device
    Up,
    /// To the device
    #[value(alias = "down")]
    Dw,
}

/// The result for one packet.
#[derive(Debug, Default, Serialize)]
pub(super) struct Answer {
    #[serde(rename = "match")]
    pub(super) matched: bool,
    #[serde(rename = "RuleID", skip_serializing_if = "Option::is_none")]
    pub(super) rule_id: Option<u32>,
    #[serde(rename = "RuleIDLength", skip_serializing_if = "Option::is_none")]
    pub(super) rule_id_bits: Option<u8>,
    /// The field that does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
    /// Why it does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(flatten)]
    pub(super) taken: Option<Taken>,
}

/// The compressed form of a packet that matches.
#[derive(Debug, Serialize)]
pub(super) struct Taken {
    pub(super) residue_bits: String,
    pub(super) residue_len: usize,
    pub(super) fields: Vec<FieldAnswer>,
    /// The bits after the header, from its first bit.
    pub(super) payload: String,
    pub(super) payload_bits: usize,
    /// The packet as a receiver restores it; `null` if this needs more than the rule.
    pub(super) restored: Option<String>,
    /// Fields that the receiver restores from other sources, such as the outer header.
    pub(super) unknown: Vec<&'static str>,
    pub(super) lossless: bool,
}

#[derive(Debug, Serialize)]
pub(super) struct FieldAnswer {
    #[serde(rename = "FID")]
    pub(super) fid: &'static str,
    #[serde(rename = "FP")]
    pub(super) position: u8,
    /// The bits in the packet.
    pub(super) value: String,
    /// The bits that are sent.
    pub(super) residue: String,
}

impl Args {
    pub(super) fn run(self) -> Result<Ended, Error> {
        let stdin = PathBuf::from("-");
        let packets = (self.packet == "-").then_some(&stdin);
        Files::default().read("rule file", [&self.rule]).read("file of packets", packets).print().check()?;
        if let Some(name) = &self.sa {
            let mut rules = ContextRules::load(&self.rule, name)?;
            return self.each_packet(|packet| rules.apply(packet));
        }
        let set = files::load_rules(&self.rule)?;
        let chosen: Vec<&NumberedRule> = match self.rule_id {
            None => set.rules.iter().collect(),
            Some(wanted) => set.rules.iter().filter(|rule| rule.id.is_some_and(|id| id.value == wanted)).collect(),
        };
        let [rule] = chosen.as_slice() else { return Err(self.not_one(&set.rules, chosen.len())) };
        let direction = match self.direction {
            DirectionArg::Up => Direction::Up,
            DirectionArg::Dw => Direction::Down,
        };
        self.each_packet(|packet| {
            let applied = rule.rule.apply(direction, packet);
            if let Err(ApplyError::Rule(error)) = &applied {
                return Err(Error::file(&self.rule, error.to_string(), "correct the rule"));
            }
            Ok(answer(rule, direction, packet, applied))
        })
    }

    /// Prints the answer for each packet.
    fn each_packet(&self, mut apply: impl FnMut(&[u8]) -> Result<Answer, Error>) -> Result<Ended, Error> {
        let mut out = std::io::stdout().lock();
        let mut answer = |hex: &str| self.print(&apply(&packet_bytes(hex)?)?, &mut out);
        if self.packet == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.map_err(Error::io("-".as_ref(), "read"))?;
                if !line.trim().is_empty() {
                    answer(&line)?;
                }
            }
        } else {
            answer(&self.packet)?;
        }
        out.flush().map_err(Error::io("-".as_ref(), "write"))?;
        Ok(Ended::Well)
    }

    /// The error for an ambiguous or unknown rule: `fitting` of `rules` were selected instead of exactly one.
    fn not_one(&self, rules: &[NumberedRule], fitting: usize) -> Error {
        let ids: Vec<String> = rules.iter().filter_map(|rule| rule.id).map(|id| id.value.to_string()).collect();
        let problem = match self.rule_id {
            None => format!("the file has {fitting} rules"),
            Some(wanted) if fitting == 0 => format!("no rule has RuleID {wanted}"),
            Some(wanted) => format!("{fitting} rules have RuleID {wanted}"),
        };
        let help = match (self.rule_id, ids.is_empty()) {
            (Some(_), true) => "omit --rule-id: the rules in the file have no RuleID".to_owned(),
            (None, true) => "give each rule a RuleID and select one with --rule-id".to_owned(),
            (Some(_), false) if fitting > 0 => "give each rule its own RuleID".to_owned(),
            (_, false) => format!("select one with --rule-id: {}", ids.join(", ")),
        };
        Error::file(&self.rule, problem, help)
    }

    fn print(&self, answer: &Answer, out: &mut impl Write) -> Result<(), Error> {
        let text = match self.format {
            Format::Json => serde_json::to_string(answer).map_err(|error| Error::usage(error.to_string(), ""))? + "\n",
            Format::Table => table(answer),
        };
        out.write_all(text.as_bytes()).map_err(Error::io("-".as_ref(), "write"))
    }
}

/// Parses hexadecimal. Ignores a leading `0x`, spaces, `:` and `_`.
fn packet_bytes(text: &str) -> Result<Vec<u8>, Error> {
    let text = text.trim();
    let text = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let digits: String = text.chars().filter(|c| !matches!(c, ' ' | ':' | '_')).collect();
    let wrong = |error: hex::FromHexError| {
        Error::usage(format!("--packet: {error}"), "write the bytes of the packet as pairs of hex digits")
    };
    hex::decode(digits).map_err(wrong)
}

fn answer(rule: &NumberedRule, direction: Direction, packet: &[u8], applied: Result<Applied, ApplyError>) -> Answer {
    let mut answer =
        Answer { rule_id: rule.id.map(|id| id.value), rule_id_bits: rule.id.map(|id| id.bits), ..Answer::default() };
    match applied {
        Ok(applied) => {
            answer.matched = true;
            answer.taken = Some(taken(rule, direction, packet, &applied));
        }
        Err(ApplyError::Rule(error)) => answer.reason = Some(error.to_string()),
        Err(ApplyError::Short { field, needs_bits }) => {
            answer.field = Some(field.name);
            answer.reason = Some(format!("ends at bit {needs_bits}, but the packet ends at bit {}", packet.len() * 8));
        }
        Err(ApplyError::Unmatched { row, at, bits }) => {
            answer.field = Some(row.fid.name);
            answer.reason = Some(format!("is {}, {}", value_text(&row, packet, at, bits), expected(&row)));
        }
    }
    answer
}

fn taken(rule: &NumberedRule, direction: Direction, packet: &[u8], applied: &Applied) -> Taken {
    let payload_bits = packet.len() * 8 - applied.header_bits;
    let mut payload = vec![0; payload_bits.div_ceil(8)];
    let copied = bits::copy(packet, applied.header_bits, &mut payload, 0, payload_bits);
    debug_assert!(copied.is_some());
    let expanded = rule.rule.expand(direction, &applied.residue, packet, applied.header_bits).ok();
    let unknown: Vec<&'static str> =
        expanded.iter().flat_map(|expanded| &expanded.unknown).map(|field| field.name).collect();
    let restored = expanded.filter(|expanded| expanded.unknown.is_empty()).map(|expanded| expanded.packet);
    Taken {
        residue_bits: digits(&applied.residue, 0, applied.residue_bits),
        residue_len: applied.residue_bits,
        fields: applied
            .fields
            .iter()
            .map(|piece| FieldAnswer {
                fid: piece.fid.name,
                position: piece.position,
                value: digits(packet, piece.at, piece.bits),
                residue: digits(&applied.residue, piece.residue_at, piece.residue_bits),
            })
            .collect(),
        payload: hex::encode(payload),
        payload_bits,
        lossless: restored.as_deref() == Some(packet),
        restored: restored.map(hex::encode),
        unknown,
    }
}

fn value_text(row: &FieldDescriptor, packet: &[u8], at: usize, count: usize) -> String {
    match (count <= 128).then(|| bits::read(packet, at, count)).flatten() {
        Some(value) => target_text(row, value),
        None => format!("{count} bits"),
    }
}

/// The value that would match, as the end of a message.
fn expected(row: &FieldDescriptor) -> String {
    let target = match &row.target {
        Target::Empty => "empty".to_owned(),
        Target::Value(value) => target_text(row, *value),
        Target::List(values) => {
            let shown: Vec<String> = values.iter().take(8).map(|value| target_text(row, *value)).collect();
            shown.join(", ") + if values.len() > 8 { ", ..." } else { "" }
        }
    };
    match row.matching {
        Matching::Msb(bits) => format!("but its first {bits} bits must be those of {target}"),
        Matching::MatchMapping => format!("but must be one of {target}"),
        Matching::Equal | Matching::Ignore => format!("but must be {target}"),
    }
}

fn table(answer: &Answer) -> String {
    let Some(taken) = &answer.taken else {
        let field = answer.field.unwrap_or("the rule");
        return format!("no match: {field} {}\n", answer.reason.as_deref().unwrap_or_default());
    };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["Field", "Bits", "Value", "Sent"]);
    for field in &taken.fields {
        table.add_row([
            field.fid.to_owned(),
            field.value.len().to_string(),
            nibbles(&field.value),
            if field.residue.is_empty() { "-".to_owned() } else { field.residue.clone() },
        ]);
    }
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let restored = match (&taken.restored, taken.lossless) {
        (Some(_), true) => "is restored unchanged".to_owned(),
        (Some(restored), false) => format!("is restored as {restored}"),
        (None, _) if taken.unknown.is_empty() => "cannot be restored with this rule alone".to_owned(),
        (None, _) => format!("can be restored only with other headers: {}", taken.unknown.join(", ")),
    };
    format!(
        "match\n{}\nresidue: {} ({})\npayload: {}\nthe packet {restored}\n",
        table.trim_fmt(),
        taken.residue_bits,
        counted(taken.residue_len as u64, "bit"),
        taken.payload,
    )
}

/// Bits as a hexadecimal number.
fn nibbles(digits: &str) -> String {
    let mut bytes = vec![];
    let mut writer = bits::BitWriter::new(&mut bytes);
    writer.write(0, (8 - digits.len() as u32 % 8) % 8);
    digits.bytes().for_each(|digit| writer.write(u128::from(digit == b'1'), 1));
    let hex = hex::encode(bytes);
    let count = digits.len().div_ceil(4);
    format!("0x{}", hex.get(hex.len().saturating_sub(count)..).unwrap_or_default())
}
