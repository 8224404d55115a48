//! Which context belongs to which SA.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::Arc;

use super::values::{near, shown_name};
use crate::context::{Context, SaReference};
use crate::error::Error;
use crate::net::{IpVersion, Selector};
use crate::sa::Sa;

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

/// The contexts that name an SA, and those that name none.
pub(crate) fn split_named(sas: &[Arc<Sa>], contexts: Vec<Context>) -> (Vec<Context>, Vec<Context>) {
    let index = SaIndex::new(sas, &contexts);
    let named: Vec<bool> = contexts.iter().map(|context| !index.of(&context.sa).is_empty()).collect();
    let mut named = named.into_iter();
    contexts.into_iter().partition(|_| named.next() == Some(true))
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
        return "no SA was loaded: also load a key file".into();
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
