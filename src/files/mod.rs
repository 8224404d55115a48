//! Key and rule files: YAML, and the formats of other tools. Messages name file, line and key, never a secret.

mod charon;
mod custom;
mod ehc;
mod esp_sa;
mod export;
mod fields;
mod foreign;
mod formats;
mod ietf;
mod ike;
mod integrity;
mod ipsecctl;
mod keys;
mod overlap;
mod parts;
mod paste;
mod rfc9363;
mod rule_set;
mod rule_table;
mod rule_text;
mod rules;
mod schema;
mod setkey;
mod setkey_dump;
mod sixlo;
mod skipped;
mod tcpdump;
mod values;
mod xfrm;
mod xfrm_algorithms;
mod yaml;
mod yaml_flow;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

pub use self::export::Json;
pub use self::export::context_entry;
pub(crate) use self::export::rule_rows;
pub use self::export::sa_entry;
use self::fields::Fields;
use self::formats::Kind;
use self::parts::Yaml;
pub use self::rule_set::parse_rules;
pub(crate) use self::rule_set::{NumberedRule, RuleSet, load_custom_rules, load_rules};
pub use self::rule_text::RuleForm;
pub(crate) use self::rule_text::{length_name, target_text};
pub use self::schema::SchemaOf;
pub use self::schema::schema;
use self::skipped::Skipped;
use self::values::{near, shown_name};
use crate::context::{Context, SaReference};
use crate::cores;
use crate::error::Error;
use crate::ike::Secrets;
use crate::link::LinkKey;
use crate::net::{IpVersion, Selector};
use crate::sa::Sa;

/// Bytes of the largest file that is read.
const MAX_FILE_LEN: u64 = 256 * 1024 * 1024;
/// Rule files of at least this many bytes are parsed in a second thread.
const WORTH_A_THREAD: usize = 1 << 16;

/// The content of key and rule files.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The Security Associations, in the order of the files.
    pub sas: Vec<Arc<Sa>>,
    /// The contexts, in the order of the files; see [`bind`].
    pub contexts: Vec<Context>,
    /// 6LoWPAN contexts: Context Identifier (0 to 15) to prefix and its length in bits (RFC 6282 §3.1.2).
    pub lowpan_contexts: BTreeMap<u8, (Ipv6Addr, u8)>,
    /// Keys of IEEE 802.15.4 frames.
    pub link_keys: Vec<LinkKey>,
    /// Secrets of IKE SAs. With a capture, the SAs of their children are derived from them; see
    /// [`derive`](crate::ike::derive()).
    pub ike: Secrets,
    /// Warnings, such as skipped entries: one sentence each, with file and line.
    pub warnings: Vec<String>,
}

/// Reads key and rule files; `-` is standard input. A file may hold both kinds, so it may be named under either or
/// both options: it is read once.
///
/// The content decides the format: YAML with `sas`, `link_keys`, `contexts`, `lowpan_contexts`; Wireshark's `esp_sa`;
/// output and commands of `ip xfrm`, also inside the output of libreswan's `ipsec look`; a charon log of strongSwan
/// with keys; a `setkey` file and the output of `setkey -D`; `ipsecctl -sa -k` and `ipsec.conf` of OpenBSD; secrets of
/// `tcpdump -E`; SK_d of IKE SAs and Wireshark's `ikev2_decryption_table`.
///
/// In files of other programs, entries that cannot be used are skipped with a warning. In YAML files, they are errors.
///
/// # Errors
/// A file cannot be read or used; two SAs have the same name; two SAs in YAML have the same SPI and overlapping
/// selectors.
pub fn load(key_files: &[PathBuf], rule_files: &[PathBuf]) -> Result<Loaded, Error> {
    let mut seen = vec![];
    let mut read_new = |paths: &[PathBuf]| {
        let mut files = vec![];
        for path in paths {
            let same = std::fs::canonicalize(path).unwrap_or_else(|_| path.clone());
            if !seen.contains(&same) {
                seen.push(same);
                let mut bytes = read(path)?;
                blank(&mut bytes);
                files.push(FileRead { path: path.clone(), bytes });
            }
        }
        Ok::<_, Error>(files)
    };
    let (keys, rules) = (read_new(key_files)?, read_new(rule_files)?);
    let large = |files: &[FileRead]| files.iter().any(|file| file.bytes.len() >= WORTH_A_THREAD);
    let mut loader = Loader::default();
    if large(&keys) && large(&rules) {
        let (taken, contents) = cores::both(|| loader.files(&keys, contents(&keys)), || contents(&rules));
        taken?;
        loader.files(&rules, contents)?;
    } else {
        loader.files(&keys, contents(&keys))?;
        loader.files(&rules, contents(&rules))?;
    }
    loader.finish()
}

/// A file that was read.
struct FileRead {
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

fn contents(files: &[FileRead]) -> Vec<Result<Content<'_>, Error>> {
    files.iter().map(|file| content(&file.path, &file.bytes)).collect()
}

/// Reads the content of one key or rule file, as [`load`]; `path` is for messages.
///
/// # Errors
/// As [`load`].
pub fn parse(path: &Path, bytes: &[u8]) -> Result<Loaded, Error> {
    let mut bytes = Zeroizing::new(bytes.to_vec());
    blank(&mut bytes);
    let mut loader = Loader::default();
    loader.take(path, content(path, &bytes)?)?;
    loader.finish()
}

/// Replaces text around pasted keys with spaces.
fn blank(bytes: &mut [u8]) {
    for range in paste::blanks(bytes) {
        if let Some(part) = bytes.get_mut(range) {
            part.fill(b' ');
        }
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(vec![]);
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)
    } else {
        let file = File::open(path).map_err(Error::io(path, "open"))?;
        // A growing buffer would leave copies of the keys in memory.
        let len = file.metadata().map_or(0, |metadata| metadata.len()).min(MAX_FILE_LEN);
        bytes.reserve_exact(len as usize + 1);
        file.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)
    };
    read.map_err(Error::io(path, "read"))?;
    if bytes.len() as u64 > MAX_FILE_LEN {
        let problem = format!("larger than {} MiB", MAX_FILE_LEN >> 20);
        return Err(Error::file(path, problem, "is this a key or rule file? If so, split it"));
    }
    Ok(bytes)
}

/// The content of a file.
struct Content<'t> {
    kind: Kind,
    text: &'t str,
    /// The document of a YAML file.
    yaml: Yaml<'t>,
}

fn content<'t>(path: &Path, bytes: &'t [u8]) -> Result<Content<'t>, Error> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let good = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = good.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        Error::line(path, line, "not UTF-8 text", "is this a key or rule file? If so, save it as UTF-8")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let kind = formats::kind(text);
    let yaml = if kind == Kind::Yaml { parts::parse(path, text)? } else { Yaml::default() };
    Ok(Content { kind, text, yaml })
}

#[derive(Default)]
struct Loader {
    loaded: Loaded,
    /// The SAs of YAML files, and whether their name was given.
    native: Vec<(usize, bool)>,
}

impl Loader {
    fn files(&mut self, files: &[FileRead], contents: Vec<Result<Content<'_>, Error>>) -> Result<(), Error> {
        files.iter().zip(contents).try_for_each(|(file, content)| self.take(&file.path, content?))
    }

    fn take(&mut self, path: &Path, content: Content<'_>) -> Result<(), Error> {
        let Content { kind, text, yaml } = content;
        let mut skipped = Skipped::new(path);
        // A YAML file may have contexts only, and an empty one gets a warning of its own.
        let should_have_sas = !matches!(kind, Kind::Yaml | Kind::Empty);
        let read_before = (self.loaded.sas.len(), self.loaded.ike.len());
        let sas = &mut self.loaded.sas;
        match kind {
            Kind::Yaml => self.yaml(path, yaml)?,
            Kind::EspSa => esp_sa::read(path, text, sas, &mut skipped),
            Kind::Xfrm => xfrm::read(path, text, sas, &mut skipped),
            Kind::Charon => charon::read(path, text, sas, &mut skipped),
            Kind::Setkey => setkey::read(path, text, sas, &mut skipped),
            Kind::SetkeyDump => setkey_dump::read(path, text, sas, &mut skipped),
            Kind::Ipsecctl => ipsecctl::read(path, text, sas, &mut skipped),
            Kind::Tcpdump => tcpdump::read(path, text, sas, &mut skipped),
            Kind::Ike => ike::read(path, text, &mut self.loaded.ike, &mut skipped),
            Kind::Foreign(format, line) => {
                return Err(Error::line(path, line, format!("this is {}", format.name), format.help));
            }
            Kind::Empty => self.loaded.warnings.push(format!("{}: the file has only comments", path.display())),
        }
        let read_any = read_before != (self.loaded.sas.len(), self.loaded.ike.len());
        let warnings = &mut self.loaded.warnings;
        let warned_before = warnings.len();
        skipped.finish(read_any, warnings)?;
        if should_have_sas && !read_any && warnings.len() == warned_before {
            warnings.push(format!("{}: the file has no ESP SA", path.display()));
        }
        Ok(())
    }

    fn yaml(&mut self, path: &Path, yaml: Yaml<'_>) -> Result<(), Error> {
        let Some(root) = yaml.root else { return Ok(()) };
        let mut fields = Fields::new(path, "a key or rule file", &root)?;
        if let Some(entry) = fields.entry("sas") {
            let first = keys::sas(path, entry.node)?;
            let further = yaml.sas;
            let count = first.len() + further.iter().map(Vec::len).sum::<usize>();
            self.native.reserve(count);
            self.loaded.sas.reserve(count);
            for (sa, named) in first.into_iter().chain(further.into_iter().flatten()) {
                self.native.push((self.loaded.sas.len(), named));
                self.loaded.sas.push(sa);
            }
        }
        if let Some(entry) = fields.entry("link_keys") {
            self.loaded.link_keys.extend(keys::link_keys(path, entry.node)?);
        }
        if let Some(entry) = fields.entry("contexts") {
            let first = rules::contexts(path, entry.node)?;
            self.loaded.contexts.reserve(first.len() + yaml.contexts.iter().map(Vec::len).sum::<usize>());
            self.loaded.contexts.extend(first.into_iter().chain(yaml.contexts.into_iter().flatten()));
        }
        if let Some(entry) = fields.entry("lowpan_contexts") {
            rules::lowpan_contexts(path, entry.node, &mut self.loaded.lowpan_contexts)?;
        }
        fields.finish()
    }

    fn finish(mut self) -> Result<Loaded, Error> {
        self.loaded.warnings.extend(integrity::odd_keys(&self.loaded.sas));
        let sas = &self.loaded.sas;
        let mut names: HashMap<&str, (&Sa, bool)> = HashMap::with_capacity(self.native.len());
        for (index, named) in &self.native {
            let Some(sa) = sas.get(*index) else { continue };
            if let Some((first, first_named)) = names.insert(&sa.name, (sa, *named))
                && (*named || first_named)
            {
                return Err(Error::line(
                    &sa.origin.path,
                    sa.origin.line,
                    format!("name {} is given twice, first at {}", shown_name(&sa.name), first.origin),
                    "give each SA a unique name",
                ));
            }
        }
        let native: Vec<&Sa> = self.native.iter().filter_map(|(index, _)| sas.get(*index)).map(|sa| &**sa).collect();
        if let Some((first, second)) = overlap::find(&native) {
            return Err(Error::line(
                &second.origin.path,
                second.origin.line,
                format!(
                    "SPI 0x{:08x} of {} is also the SPI of {} at {}, and their `src` and `dst` overlap",
                    second.spi.unwrap_or_default(),
                    shown_name(&second.name),
                    shown_name(&first.name),
                    first.origin
                ),
                "give both `src` and `dst` so that no packet matches both, or remove one SA",
            ));
        }
        Ok(self.loaded)
    }
}

/// For each SA, the position of the context that names it, if any.
///
/// # Errors
/// A context names no SA, several SAs, or an SA that already has a context; or `esp_sn` is above 2^32 - 1 without
/// `esn`.
pub fn bind(sas: &[Arc<Sa>], contexts: &[Context]) -> Result<Vec<Option<usize>>, Error> {
    let mut bound = vec![None; sas.len()];
    if contexts.is_empty() {
        return Ok(bound);
    }
    let index = SaIndex::new(sas, contexts);
    for (position, context) in contexts.iter().enumerate() {
        let found = index.of(&context.sa);
        check(sas, contexts, context, &found, &bound)?;
        for index in found {
            if let Some(slot) = bound.get_mut(index) {
                *slot = Some(position);
            }
        }
    }
    Ok(bound)
}

/// Finds the SAs that contexts name.
struct SaIndex<'s> {
    sas: &'s [Arc<Sa>],
    /// Empty if no context names its SA by name.
    by_name: HashMap<&'s str, Vec<usize>>,
    /// SPI and position, sorted.
    by_spi: Vec<(u32, usize)>,
    /// Thousands of SAs may share one SPI and differ in their addresses.
    by_address: OnceCell<[BySelector; 2]>,
}

impl<'s> SaIndex<'s> {
    /// Up to this many SAs with the same SPI are searched one by one.
    const FEW: usize = 16;

    fn new(sas: &'s [Arc<Sa>], contexts: &[Context]) -> SaIndex<'s> {
        let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
        if contexts.iter().any(|context| matches!(context.sa, SaReference::Name(_))) {
            by_name.reserve(sas.len());
            sas.iter().enumerate().for_each(|(at, sa)| by_name.entry(&sa.name).or_default().push(at));
        }
        let mut by_spi: Vec<(u32, usize)> = sas.iter().enumerate().filter_map(|(at, sa)| Some((sa.spi?, at))).collect();
        by_spi.sort_unstable();
        SaIndex { sas, by_name, by_spi, by_address: OnceCell::new() }
    }

    /// In the order of the SAs.
    fn of(&self, reference: &SaReference) -> Vec<usize> {
        let (spi, src, dst) = match reference {
            SaReference::Name(name) => return self.by_name.get(name.as_str()).cloned().unwrap_or_default(),
            SaReference::Spi { spi, src, dst } => (*spi, *src, *dst),
        };
        let first = self.by_spi.partition_point(|(own, _)| *own < spi);
        let of_spi = self.by_spi.get(first..).unwrap_or_default();
        let of_spi = of_spi.get(..of_spi.partition_point(|(own, _)| *own == spi)).unwrap_or_default();
        let fits =
            |at: &usize| self.sas.get(*at).is_some_and(|sa| same_or_inside(src, sa.src) && same_or_inside(dst, sa.dst));
        let [by_src, by_dst] = match of_spi.len() {
            0..=SaIndex::FEW => return of_spi.iter().map(|(_, at)| *at).filter(fits).collect(),
            _ => self.by_address.get_or_init(|| BySelector::both(self.sas)),
        };
        let of_src = src.map(|src| by_src.lists(spi, src));
        let of_dst = dst.map(|dst| by_dst.lists(spi, dst));
        let fewest =
            of_src.into_iter().chain(of_dst).min_by_key(|lists| lists.iter().map(|list| list.len()).sum::<usize>());
        let mut found: Vec<usize> = match fewest {
            Some(lists) => lists.into_iter().flatten().copied().filter(fits).collect(),
            None => of_spi.iter().map(|(_, at)| *at).filter(fits).collect(),
        };
        found.sort_unstable();
        found
    }
}

/// Positions of SAs by SPI and source or destination.
#[derive(Default)]
struct BySelector(HashMap<(u32, Selector), Vec<usize>>);

impl BySelector {
    /// By source, and by destination.
    fn both(sas: &[Arc<Sa>]) -> [BySelector; 2] {
        let [mut by_src, mut by_dst] = [BySelector::default(), BySelector::default()];
        for (at, sa) in sas.iter().enumerate() {
            if let Some(spi) = sa.spi {
                by_src.0.entry((spi, sa.src)).or_default().push(at);
                by_dst.0.entry((spi, sa.dst)).or_default().push(at);
            }
        }
        [by_src, by_dst]
    }

    /// The SAs for which [`same_or_inside`] can be true.
    fn lists(&self, spi: u32, given: Selector) -> Vec<&[usize]> {
        let around = given.single().into_iter().flat_map(|address| {
            let bits = IpVersion::of(address).address_bits() as u8;
            (0..bits).map(move |len| Selector::prefix(address, len)).chain([Selector::Any])
        });
        [given].into_iter().chain(around).filter_map(|own| self.0.get(&(spi, own))).map(Vec::as_slice).collect()
    }
}

/// Whether a context's `src` or `dst`, if given, equals the SA's selector or is inside it.
fn same_or_inside(given: Option<Selector>, own: Selector) -> bool {
    match given {
        None => true,
        Some(given) if given == own => true,
        Some(Selector::Prefix { address, len }) if u32::from(len) == IpVersion::of(address).address_bits() => {
            own.accepts(address)
        }
        Some(_) => false,
    }
}

fn check(
    sas: &[Arc<Sa>],
    contexts: &[Context],
    context: &Context,
    found: &[usize],
    bound: &[Option<usize>],
) -> Result<(), Error> {
    let wrong =
        |problem: String, help: String| Err(Error::line(&context.origin.path, context.origin.line, problem, help));
    let label = match &context.sa {
        SaReference::Name(name) => shown_name(name),
        SaReference::Spi { spi, .. } => format!("SPI 0x{spi:08x}"),
    };
    let of = |index: &usize| sas.get(*index);
    let Some(first) = found.first().and_then(of) else {
        return wrong(format!("no key file has the SA {label} of this context"), names_like(sas, &context.sa));
    };
    // Several lines with the same SPI and addresses are alternatives for one SA.
    if let Some(other) = found.iter().filter_map(of).find(|sa| (sa.src, sa.dst) != (first.src, first.dst)) {
        return wrong(
            format!("{label} is the SA at {} and the SA at {}", first.origin, other.origin),
            "name it by `spi:` with `src:` and `dst:`".into(),
        );
    }
    if first.spi.is_none() {
        let help = "add the SPI to the key file: a Diet-ESP SA needs it";
        return wrong(format!("{label} matches every SPI, so it cannot have a context"), help.into());
    }
    if let Some(before) =
        found.iter().find_map(|index| bound.get(*index).copied().flatten()).and_then(|at| contexts.get(at))
    {
        return wrong(
            format!("{label} already has a context, at {}", before.origin),
            "an SA can have only one context: remove one of the two".into(),
        );
    }
    if context.esp_sn.is_some_and(|sn| sn > u64::from(u32::MAX)) && !first.esn {
        return wrong(
            format!("esp_sn of {label} is above 4294967295, but the SA has 32-bit sequence numbers"),
            "set `esn: true` in the key file, or correct `esp_sn`".into(),
        );
    }
    Ok(())
}

fn names_like(sas: &[Arc<Sa>], reference: &SaReference) -> String {
    if sas.is_empty() {
        return "no SA was loaded: name a key file with --keys".into();
    }
    let word = match reference {
        SaReference::Name(name) => name.clone(),
        SaReference::Spi { spi, .. } => format!("0x{spi:08x}"),
    };
    let near = near(&word, sas.iter().map(|sa| sa.name.as_str()));
    if near.is_empty() {
        let mut names: Vec<String> = sas.iter().map(|sa| shown_name(&sa.name)).take(5).collect();
        names.dedup();
        let more = if sas.len() > 5 { ", ..." } else { "" };
        format!("the SAs are: {}{more}", names.join(", "))
    } else {
        format!("did you mean {}?", near.iter().map(|name| shown_name(name)).collect::<Vec<_>>().join(" or "))
    }
}

#[cfg(test)]
mod tests;
