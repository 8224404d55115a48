//! Finds two SAs with the same SPI and overlapping selectors, without comparing every pair.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use crate::net::Selector;
use crate::sa::Sa;

/// Two SAs with the same SPI such that a packet can match both, in the order of `sas`.
pub(super) fn find<'s>(sas: &[&'s Sa]) -> Option<(&'s Sa, &'s Sa)> {
    let mut first_of: HashMap<u32, usize> = HashMap::with_capacity(sas.len());
    let mut shared: BTreeMap<usize, Vec<&'s Sa>> = BTreeMap::new();
    for (index, sa) in sas.iter().enumerate() {
        let Some(spi) = sa.spi else { continue };
        match first_of.get(&spi) {
            None => {
                first_of.insert(spi, index);
            }
            Some(first) => {
                shared.entry(*first).or_insert_with(|| sas.get(*first).copied().into_iter().collect()).push(sa)
            }
        }
    }
    shared.values().find_map(|group| find_in(group))
}

/// The lengths of an SA's selectors, and whether it has link-layer ones.
type Shape = (Len, Len, bool, bool);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Len {
    Any,
    V4(u8),
    V6(u8),
}

impl Len {
    fn of(selector: Selector) -> Len {
        match selector {
            Selector::Any => Len::Any,
            Selector::Prefix { address: IpAddr::V4(_), len } => Len::V4(len),
            Selector::Prefix { address: IpAddr::V6(_), len } => Len::V6(len),
        }
    }

    /// The length up to which two prefixes must agree to overlap; `None` if they cannot.
    fn common(self, other: Len) -> Option<Len> {
        match (self, other) {
            (Len::Any, _) | (_, Len::Any) => Some(Len::Any),
            (Len::V4(a), Len::V4(b)) => Some(Len::V4(a.min(b))),
            (Len::V6(a), Len::V6(b)) => Some(Len::V6(a.min(b))),
            _ => None,
        }
    }

    /// The first bits of `selector`, which is at least as long.
    fn cut(self, selector: Selector) -> u128 {
        match (self, selector) {
            (Len::V4(len), Selector::Prefix { address: IpAddr::V4(address), .. }) => {
                u128::from(u32::from(address).checked_shr(32 - u32::from(len)).unwrap_or(0))
            }
            (Len::V6(len), Selector::Prefix { address: IpAddr::V6(address), .. }) => {
                u128::from(address).checked_shr(128 - u32::from(len)).unwrap_or(0)
            }
            _ => 0,
        }
    }
}

/// Compares SAs of one SPI shape by shape: each pair of shapes takes one pass over its SAs.
fn find_in<'s>(group: &[&'s Sa]) -> Option<(&'s Sa, &'s Sa)> {
    let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
    for (index, sa) in group.iter().enumerate() {
        let shape = (Len::of(sa.src), Len::of(sa.dst), sa.link_src.is_some(), sa.link_dst.is_some());
        shapes.entry(shape).or_default().push(index);
    }
    let shapes: Vec<(Shape, Vec<usize>)> = shapes.into_iter().collect();
    let mut found: HashSet<(usize, usize)> = HashSet::new();
    for (position, (a, a_members)) in shapes.iter().enumerate() {
        for (b, b_members) in shapes.iter().skip(position) {
            let (Some(src), Some(dst)) = (a.0.common(b.0), a.1.common(b.1)) else { continue };
            let (link_src, link_dst) = (a.2 && b.2, a.3 && b.3);
            let cut = |index: &usize| {
                let link = |sa: &Sa| (sa.link_src.filter(|_| link_src), sa.link_dst.filter(|_| link_dst));
                group.get(*index).map(|sa| (src.cut(sa.src), dst.cut(sa.dst), link(sa)))
            };
            let mut seen = HashMap::new();
            if a != b {
                a_members.iter().for_each(|index| {
                    seen.entry(cut(index)).or_insert(*index);
                });
            }
            for index in b_members {
                let before = if a == b { seen.insert(cut(index), *index) } else { seen.get(&cut(index)).copied() };
                if let Some(before) = before {
                    found.insert((before.max(*index), before.min(*index)));
                    break;
                }
            }
        }
    }
    let (second, first) = found.into_iter().min()?;
    Some((group.get(first)?, group.get(second)?))
}
