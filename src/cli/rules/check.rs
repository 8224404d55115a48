//! `dietesp rules check`.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use super::show::sa_name;
use crate::capture::Reader;
use crate::cli::outputs::Files;
use crate::cli::{Ended, counted, print, tell, tell_damage};
use crate::codec::schc::{Action, Compute, Direction, FieldDescriptor};
use crate::codec::{Codec, State};
use crate::context::{Context, Dialect};
use crate::error::Error;
use crate::files;
use crate::link;
use crate::pipeline::drive;
use crate::pipeline::find::Limits;
use crate::pipeline::outcome::Status;
use crate::sa::table::{Entry, SaTable};

/// Check rule files, and say what their contexts elide and lose
///
/// With a capture of standard ESP it opens the packets and says for each SA how many its context would match, and which
/// fields stop the others.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  dietesp rules check rules.yaml --keys keys.yaml --capture esp.pcapng

The exit status is 1 if a packet of the capture does not match, or cannot be opened.")]
pub struct Args {
    /// Rule file with contexts (native YAML)
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Key file of the SAs that the contexts name
    #[arg(long = "keys", short = 'k', value_name = "K")]
    keys: Vec<PathBuf>,
    /// Capture of standard ESP packets of these SAs
    #[arg(long, value_name = "F", requires = "keys")]
    capture: Option<PathBuf>,
}

/// What a capture says about one SA.
#[derive(Debug, Default)]
struct Tried {
    state: State,
    matched: u64,
    failed: u64,
    /// Packets that did not match by field, with the first sentence.
    stopped: BTreeMap<&'static str, (u64, String)>,
}

impl Args {
    pub(super) fn run(self, quiet: bool) -> Result<Ended, Error> {
        let files = Files::default().read("rule file", &self.files).read("key file", &self.keys);
        files.read("capture", &self.capture).print().check()?;
        let loaded = files::load(&self.keys, &self.files)?;
        for warning in &loaded.warnings {
            tell(quiet, &format!("dietesp: warning: {warning}\n"));
        }
        let mut text = String::new();
        if loaded.sas.is_empty() {
            for context in &loaded.contexts {
                // Any cipher will do to find a rule that makes no sense.
                let _ = Codec::new(Some(context), 1)?;
                text += &format!("{}: {}: good\n{}", context.origin, sa_name(context), explained(context, 1));
            }
            text += "without --keys: that the SAs exist is not checked\n";
            print(text.as_bytes())?;
            return Ok(Ended::Well);
        }
        let table = table(loaded, true)?;
        for entry in table.entries() {
            if let Some(context) = &entry.context {
                let own = explained(context, entry.cryptor().block());
                text += &format!("{}: {}: good\n{own}", context.origin, entry.sa.name);
                if entry.cryptor().iv_len() > 0 {
                    let cipher = entry.cryptor().suite().name;
                    text += &format!("  {cipher} sends an IV of {} bytes, uncompressed\n", entry.cryptor().iv_len());
                }
            }
        }
        let mut ended = Ended::Well;
        if let Some(capture) = &self.capture {
            let plain = self::table(files::load(&self.keys, &self.files)?, false)?;
            let mut reader = Reader::open(capture)?;
            let tried = try_all(&mut reader, &plain, &table)?;
            if tell_damage(&mut reader) {
                ended = Ended::WithFailures;
            }
            for (entry, tried) in table.entries().iter().zip(&tried).filter(|(entry, _)| entry.context.is_some()) {
                text += &tried.text(&entry.sa.name);
                if tried.failed > 0 || !tried.stopped.is_empty() {
                    ended = Ended::WithFailures;
                }
            }
        }
        print(text.as_bytes())?;
        Ok(ended)
    }
}

fn table(loaded: files::Loaded, with_contexts: bool) -> Result<SaTable, Error> {
    let bound = files::bind(&loaded.sas, &loaded.contexts)?;
    let entries = loaded.sas.into_iter().zip(bound).map(|(sa, context)| {
        let context = context.filter(|_| with_contexts).and_then(|index| loaded.contexts.get(index));
        Entry::new(sa, context.cloned())
    });
    Ok(SaTable::new(entries.collect::<Result<_, _>>()?))
}

/// What a context leaves to find out, and what does not come back as it was: one line each.
fn explained(context: &Context, cipher_block: usize) -> String {
    let mut lines = vec![];
    if let Ok(codec) = Codec::new(Some(context), cipher_block) {
        lines.push(format!(
            "the ESP header takes {}: {} of the SPI, {} of the Sequence Number",
            counted(codec.header_len() as u64, "byte"),
            counted(codec.spi_bits().into(), "bit"),
            codec.sn_bits()
        ));
        if codec.spi_bits() == 0 {
            lines.push("no SPI on the wire: only the outer addresses and the ICV tell this SA from others".to_owned());
        }
        if codec.sn_bits() == 0 {
            lines.push("no Sequence Number on the wire: a receiver tries the numbers near the last one".to_owned());
        }
    }
    let direction = match &context.dialect {
        Dialect::Custom(custom) => custom.direction,
        _ => Direction::Both,
    };
    let tables = Codec::tables(context, cipher_block);
    // The SA and the packet itself tell what the ESP header and trailer leave out.
    let inner = tables.iter().filter(|table| table.name.starts_with("iipc")).flat_map(|table| &table.rule.fields);
    let rows: Vec<&FieldDescriptor> = inner.filter(|row| row.direction.applies_to(direction)).collect();
    let mut add = |what: &str, is_meant: &dyn Fn(&FieldDescriptor) -> bool| {
        let mut names: Vec<&str> = vec![];
        for row in rows.iter().filter(|row| is_meant(row)) {
            // Where two rules for one header are alternatives they both name it.
            if !names.contains(&row.fid.name) {
                names.push(row.fid.name);
            }
        }
        if !names.is_empty() {
            lines.push(format!("{what}: {}", names.join(", ")));
        }
    };
    add("from the outer header, whatever they were", &|row| row.action == Action::Compute(Compute::Lower));
    add("made by the receiver, whatever they were", &|row| {
        matches!(row.action, Action::Compute(Compute::Generated | Compute::GeneratedZero))
    });
    add("the target values, whatever they were", &FieldDescriptor::is_lossy);
    if rows.iter().any(|row| row.is_lossy()) {
        add("computed over what comes back", &|row| row.action == Action::Compute(Compute::Checksum));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// Opens the packets with `plain`, the SAs without contexts, and tries the contexts of `table`, which has the same SAs.
fn try_all(reader: &mut Reader, plain: &SaTable, table: &SaTable) -> Result<Vec<Tried>, Error> {
    let mut tried: Vec<Tried> = table.entries().iter().map(|_| Tried::default()).collect();
    let mut clear = vec![];
    drive::visit(reader, plain, Limits::default(), &link::Settings::default(), |packet, item, arena| {
        let index = item.sa.map_or(usize::MAX, |index| index as usize);
        if let (Some(entry), Some(tried)) = (table.entries().get(index), tried.get_mut(index)) {
            match item.outer().filter(|_| item.status == Status::Ok) {
                None => tried.failed += 1,
                Some(outer) => match entry.codec.compress(item.packet(arena), &outer, &mut tried.state, &mut clear) {
                    Ok(_) => tried.matched += 1,
                    Err(mismatch) => {
                        let first = || (0, format!("frame {}: {mismatch}", packet.number));
                        tried.stopped.entry(mismatch.field).or_insert_with(first).0 += 1;
                    }
                },
            }
        }
        ControlFlow::Continue(())
    })?;
    Ok(tried)
}

impl Tried {
    fn text(&self, name: &str) -> String {
        let stopped: u64 = self.stopped.values().map(|(count, _)| count).sum();
        let mut text = format!("{name}: {} of {} packets match\n", self.matched, self.matched + stopped);
        for (field, (count, first)) in &self.stopped {
            text += &format!("  {count} stopped by {field}; {first}\n");
        }
        if self.failed > 0 {
            text += &format!("  {} could not be opened\n", counted(self.failed, "more packet"));
        }
        text
    }
}
