//! Collects the content of several files, and checks that the SAs of all YAML files are distinct.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::formats::{self, Kind};
use super::import::skipped::Skipped;
use super::import::{charon, esp_sa, ike, integrity, ipsecctl, paste, setkey, setkey_dump, tcpdump, xfrm};
use super::native::fields::Fields;
use super::native::keys::NamedSa;
use super::native::{keys, rules, yaml, yaml_flow};
use super::values::shown_name;
use super::{Loaded, overlap, read};
use crate::context::Context;
use crate::error::Error;
use crate::sa::Sa;

/// The content of the files read so far.
#[derive(Default)]
pub(super) struct Loader {
    loaded: Loaded,
    /// The SAs of YAML files, and whether their name was given.
    native: Vec<(usize, bool)>,
}

impl Loader {
    /// Adds the content of a file. `path` is for messages.
    pub(super) fn add(&mut self, path: &Path, mut bytes: Zeroizing<Vec<u8>>) -> Result<(), Error> {
        paste::blank(&mut bytes);
        let text = read::text(path, &bytes)?;
        let kind = formats::kind(text);
        let mut skipped = Skipped::new(path);
        // A YAML file may have only contexts. An empty one gets a separate warning.
        let should_have_sas = !matches!(kind, Kind::Yaml | Kind::Empty);
        let read_before = (self.loaded.sas.len(), self.loaded.ike.len());
        let sas = &mut self.loaded.sas;
        match kind {
            Kind::Yaml => self.add_yaml(path, text)?,
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

    fn add_yaml(&mut self, path: &Path, text: &str) -> Result<(), Error> {
        if let Some((sas, contexts)) = simple_yaml(path, text) {
            self.add_native(sas);
            self.loaded.contexts.extend(contexts);
            return Ok(());
        }
        let Some(root) = yaml::parse(path, text)? else { return Ok(()) };
        let mut fields = Fields::new(path, "a key or rule file", &root)?;
        if let Some(entry) = fields.entry("sas") {
            self.add_native(keys::sas(path, entry.node)?);
        }
        if let Some(entry) = fields.entry("link_keys") {
            self.loaded.link_keys.extend(keys::link_keys(path, entry.node)?);
        }
        if let Some(entry) = fields.entry("contexts") {
            self.loaded.contexts.extend(rules::contexts(path, entry.node)?);
        }
        if let Some(entry) = fields.entry("lowpan_contexts") {
            rules::lowpan_contexts(path, entry.node, &mut self.loaded.lowpan_contexts)?;
        }
        fields.finish()
    }

    /// Adds SAs of a YAML file.
    fn add_native(&mut self, sas: Vec<NamedSa>) {
        for (sa, named) in sas {
            self.native.push((self.loaded.sas.len(), named));
            self.loaded.sas.push(sa);
        }
    }

    /// Checks what concerns several files.
    ///
    /// # Errors
    /// Two SAs in YAML have the same name, or the same SPI and overlapping selectors.
    pub(super) fn finish(mut self) -> Result<Loaded, Error> {
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

/// The SAs and contexts of a file that [`yaml_flow`] can read. `None` also for a file with an error, which the parser and
/// the readers of its tree report.
fn simple_yaml(path: &Path, text: &str) -> Option<(Vec<NamedSa>, Vec<Context>)> {
    let file: Arc<Path> = path.into();
    let (mut sas, mut contexts) = (vec![], vec![]);
    yaml_flow::items(text, |list, item| {
        match list {
            "sas" => sas.push(keys::sa(&file, &item).ok()?),
            "contexts" => contexts.push(rules::context(&file, &item).ok()?),
            _ => return None,
        }
        Some(())
    })?;
    Some((sas, contexts))
}
