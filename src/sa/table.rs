//! All Security Associations, and the lookup of the ones that a packet may belong to (wire format §1, "SA lookup").
//!
//! A packet contains the low `esp_spi_lsb` bits of the SPI, but not their number. So SAs are grouped by their
//! number of bits. If these bits do not distinguish the SAs, they are also grouped by the lengths of their address
//! prefixes. A packet is looked up once in every group.

use std::sync::{Arc, OnceLock};

use super::buckets::{BucketKey, Group, GroupKey, bucket_key, group_key, low_of};
pub(crate) use super::hints::Hints;
use super::hints::{FEW, hint_key};
pub use super::prepared::PreparedSa;
pub(crate) use super::prepared::SaBuilder;
use super::prepared::of_version;
use crate::link::EspPorts;
use crate::net::{IpVersion, LinkAddresses, OuterHeader, address_value, protocol};
use crate::prefetch;

/// The table of SAs. Clones share it, until SAs are added to one of them.
#[derive(Debug, Clone, Default)]
pub struct SaTable(Arc<Shared>);

#[derive(Debug, Clone, Default)]
struct Shared {
    entries: Vec<PreparedSa>,
    /// The groups, those with the most SPI bits first.
    groups: Vec<Group>,
    /// The bits of the first 8 bytes of an ESP payload that distinguish SAs.
    head_mask: u64,
    /// Protocol and SPI of the SAs that send the whole SPI, sorted. Computed when first needed.
    whole_spis: OnceLock<Vec<(u8, u32)>>,
    /// UDP ports that carry ESP.
    esp_ports: EspPorts,
}

/// What [`SaTable::unique_candidate`] found for the previous packet. Most packets belong to the same flow as the
/// previous one.
#[derive(Debug, Clone, Copy)]
pub struct FlowCache {
    protocol: u8,
    version: IpVersion,
    addresses: [u128; 2],
    /// The first bytes of its ESP payload, as far as they distinguish SAs.
    head: u64,
    sa: u32,
}

impl SaTable {
    /// Builds the table; `entries` are in file order.
    pub fn new(entries: Vec<PreparedSa>) -> SaTable {
        let mut by_spi: Vec<(GroupKey, Vec<(u32, u32)>)> = vec![];
        for (index, entry) in entries.iter().enumerate() {
            let key = GroupKey { src_mask: 0, dst_mask: 0, ..group_key(entry) };
            list_of(&mut by_spi, key).push((low_of(entry), index as u32));
        }
        let mut groups: Vec<(GroupKey, Vec<(BucketKey, u32)>)> = vec![];
        for (key, mut sas) in by_spi {
            sas.sort_unstable();
            for same in sas.chunk_by(|a, b| a.0 == b.0) {
                for (low, index) in same {
                    // An SA whose SPI bits are unique needs no addresses.
                    let (key, bucket) = match entries.get(*index as usize).filter(|_| same.len() > 1) {
                        Some(entry) => (group_key(entry), bucket_key(entry, group_key(entry))),
                        None => (key, BucketKey { low: *low, addresses: 0 }),
                    };
                    list_of(&mut groups, key).push((bucket, *index));
                }
            }
        }
        let mut groups: Vec<Group> = groups.into_iter().map(|(key, sas)| Group::new(key, sas, &entries)).collect();
        groups.sort_by_key(|group| (!group.key.authenticates, std::cmp::Reverse(group.key.spi_bits)));
        let head_bits = |key: GroupKey| u32::from(key.spi_bits) + if key.rule_id.is_some() { 8 } else { 0 };
        let most = groups.iter().map(|group| head_bits(group.key)).max().unwrap_or(0);
        let head_mask = !u64::MAX.checked_shr(most).unwrap_or(0);
        let (whole_spis, esp_ports) = (OnceLock::new(), EspPorts::default());
        SaTable(Arc::new(Shared { entries, groups, head_mask, whole_spis, esp_ports }))
    }

    /// Sets the UDP ports that carry ESP.
    pub fn with_esp_ports(mut self, esp_ports: EspPorts) -> SaTable {
        Arc::make_mut(&mut self.0).esp_ports = esp_ports;
        self
    }

    /// Appends SAs. An SA keeps its position.
    pub(crate) fn extend(&mut self, more: impl IntoIterator<Item = PreparedSa>) {
        let Shared { entries, esp_ports, .. } = Arc::make_mut(&mut self.0);
        let (mut entries, esp_ports) = (std::mem::take(entries), std::mem::take(esp_ports));
        entries.extend(more);
        *self = SaTable::new(entries).with_esp_ports(esp_ports);
    }

    /// UDP ports that carry ESP.
    pub fn esp_ports(&self) -> &EspPorts {
        &self.0.esp_ports
    }

    /// All SAs in file order.
    pub fn entries(&self) -> &[PreparedSa] {
        &self.0.entries
    }

    /// The SA at a position that [`SaTable::candidates`] returned.
    pub fn entry(&self, index: u32) -> Option<&PreparedSa> {
        self.0.entries.get(index as usize)
    }

    /// Whether any SA uses this IP protocol number. Always true for 50.
    pub fn uses_protocol(&self, protocol: u8) -> bool {
        protocol == protocol::ESP || self.0.groups.iter().any(|group| group.key.protocol == protocol)
    }

    /// Whether any SA sends its whole SPI and has this one, whatever its addresses.
    pub fn has_whole_spi(&self, protocol: u8, spi: u32) -> bool {
        let spis = self.0.whole_spis.get_or_init(|| {
            let whole = |entry: &&PreparedSa| entry.codec.spi_bits() == 32 && entry.codec.header_rule_id().is_none();
            let mut spis: Vec<(u8, u32)> =
                self.0.entries.iter().filter(whole).filter_map(|entry| Some((entry.protocol, entry.spi()?))).collect();
            spis.sort_unstable();
            spis
        });
        spis.binary_search(&(protocol, spi)).is_ok()
    }

    /// Replaces `found` by the positions of the SAs that a packet may belong to: their addresses match, and the low
    /// SPI bits are equal. SAs with the most SPI bits come first, then the order is that of the file. SAs without
    /// integrity check come last. If a packet is too short for the SPI bits of an SA, only its bytes are compared.
    pub fn candidates(&self, packet: &Lookup<'_>, found: &mut Vec<u32>) {
        self.look_up(packet, None, found);
    }

    /// Like [`SaTable::candidates`], but if many SAs share the same bits and `hints` has one of them, only this one
    /// is returned. Returns false if others were omitted.
    pub fn hinted_candidates(&self, packet: &Lookup<'_>, hints: &Hints, found: &mut Vec<u32>) -> bool {
        self.look_up(packet, Some(hints), found)
    }

    /// The SA of a packet that matches only one SA with integrity check; SAs without are ignored. `header` is its
    /// IP header, and it was not in a radio frame. Returns `None` also for a packet that is too short. The caller
    /// owns `before`, the cache of the last result.
    #[inline]
    pub fn unique_candidate(
        &self,
        protocol: u8,
        header: &[u8],
        payload: &[u8],
        before: &mut Option<FlowCache>,
    ) -> Option<u32> {
        let whole_head = u64::from_be_bytes(*payload.first_chunk()?);
        let head = whole_head & self.0.head_mask;
        let (version, addresses) = crate::net::address_values(header)?;
        // SPI bits are compared first, because alternating flows mostly differ in them.
        if let Some(before) = before
            && before.head == head
            && before.addresses == addresses
            && (before.version, before.protocol) == (version, protocol)
        {
            return Some(before.sa);
        }
        let sa = self.search_only(protocol, (version, addresses), whole_head)?;
        *before = Some(FlowCache { protocol, version, addresses, head, sa });
        Some(sa)
    }

    /// Whether there are so many SAs that they do not fit in the CPU caches.
    #[inline]
    pub fn has_many(&self) -> bool {
        self.0.entries.len() >= prefetch::MANY_SAS
    }

    /// Prefetches the data that [`SaTable::unique_candidate`] will need.
    #[inline(always)]
    pub fn prefetch(&self, protocol: u8, header: &[u8], payload: &[u8]) {
        let Some(head) = payload.first_chunk() else { return };
        for group in &self.0.groups {
            let Some(low) = group.key.low_of_head(protocol, u64::from_be_bytes(*head)) else { continue };
            let addresses = if group.by_address { crate::net::address_values(header) } else { None };
            let addresses = addresses.map_or(0, |(_, addresses)| group.key.addresses(addresses));
            prefetch::element(&group.buckets, group.first_place(BucketKey { low, addresses }));
        }
    }

    /// Prefetches an SA.
    #[inline]
    pub fn prefetch_entry(&self, index: u32) {
        if self.has_many() {
            prefetch::element(&self.0.entries, index as usize);
        }
    }

    fn search_only(&self, protocol: u8, (version, addresses): (IpVersion, [u128; 2]), head: u64) -> Option<u32> {
        let mut only = None;
        // Groups with an integrity check come first.
        for group in self.0.groups.iter().take_while(|group| group.key.authenticates) {
            let Some(low) = group.key.low_of_head(protocol, head) else { continue };
            let key = BucketKey { low, addresses: group.addresses(addresses) };
            let Some(bucket) = group.buckets.get(group.place(key)) else { continue };
            let accepts_every = of_version(bucket.accepts_every, version);
            for sa in group.sas_of(bucket) {
                if (accepts_every || self.entry(*sa)?.accepts_addresses(version, addresses, None))
                    && only.replace(*sa).is_some()
                {
                    return None;
                }
            }
        }
        only
    }

    /// Stores in `hints` that a packet belongs to an SA with integrity check, so that this SA is tried first for
    /// the next packet.
    pub fn learn(&self, packet: &Lookup<'_>, sa: u32, hints: &mut Hints) {
        let Some(entry) = self.entry(sa).filter(|entry| entry.authenticates) else { return };
        let key = group_key(entry);
        let Some((index, group)) = self.0.groups.iter().enumerate().find(|(_, group)| group.key == key) else { return };
        let mut bucket = bucket_key(entry, key);
        if !group.by_address {
            bucket.addresses = 0;
        }
        if group.sas(bucket).len() > FEW {
            hints.set(hint_key(index, bucket.low, packet.outer), sa);
        }
    }

    fn look_up(&self, packet: &Lookup<'_>, hints: Option<&Hints>, found: &mut Vec<u32>) -> bool {
        found.clear();
        let mut complete = true;
        let (outer, payload) = (packet.outer, packet.payload);
        let head = match payload.first_chunk::<8>() {
            Some(head) => u64::from_be_bytes(*head),
            None => payload.iter().enumerate().fold(0, |head, (at, byte)| head | u64::from(*byte) << (56 - 8 * at)),
        };
        let head_bits = (payload.len().min(8) * 8) as u32;
        let addresses = [outer.src, outer.dst].map(address_value);
        let (mut run_start, mut run_key) = (0, None);
        for (index, group) in self.0.groups.iter().enumerate() {
            let GroupKey { protocol, rule_id, spi_bits, authenticates, .. } = group.key;
            // Groups of the same length are merged into file order.
            if run_key != Some((authenticates, spi_bits)) {
                run_key = Some((authenticates, spi_bits));
                run_start = found.len();
            }
            let rule_bits = if rule_id.is_some() { 8 } else { 0 };
            if protocol != packet.protocol || rule_id.is_some_and(|id| head_bits >= 8 && (head >> 56) as u8 != id) {
                continue;
            }
            let behind_rule = head << rule_bits;
            let accepts = |index: &&u32| {
                self.entry(**index).is_some_and(|entry| entry.accepts_addresses(outer.version, addresses, packet.link))
            };
            let before = found.len();
            if head_bits >= rule_bits + u32::from(spi_bits) {
                let low = (behind_rule >> 32 >> (32 - spi_bits)) as u32;
                let sas = group.sas(BucketKey { low, addresses: group.addresses(addresses) });
                let hints = hints.filter(|_| sas.len() > FEW);
                let hint = hints.and_then(|hints| hints.of(hint_key(index, low, outer)));
                match hint {
                    Some(sa) if accepts(&&sa) => {
                        complete = false;
                        found.push(sa);
                    }
                    _ => found.extend(sas.iter().filter(accepts)),
                }
            } else {
                let there = head_bits.saturating_sub(rule_bits);
                let same =
                    |low: u32| there == 0 || ((u64::from(low) << (64 - spi_bits)) ^ behind_rule) >> (64 - there) == 0;
                let buckets = group.buckets.iter().filter(|bucket| same(bucket.key.low));
                found.extend(buckets.flat_map(|bucket| group.sas_of(bucket)).filter(accepts));
                // Buckets are not sorted.
                found.get_mut(before..).unwrap_or_default().sort_unstable();
            }
            if before > run_start
                && let Some(run) = found.get_mut(run_start..).filter(|run| !run.is_sorted())
            {
                run.sort_unstable();
            }
        }
        complete
    }
}

/// The properties of a packet that are used to look up its SAs.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// IP protocol number: 50, or one that a context names. Also 50 for UDP encapsulation.
    pub protocol: u8,
    /// The outer header.
    pub outer: &'a OuterHeader,
    /// Addresses of the radio frame, if the packet was in one.
    pub link: Option<LinkAddresses>,
    /// The ESP payload.
    pub payload: &'a [u8],
}

/// The list of a group, created if it does not exist.
fn list_of<T>(groups: &mut Vec<(GroupKey, Vec<T>)>, key: GroupKey) -> &mut Vec<T> {
    let at = groups.iter().position(|(own, _)| *own == key).unwrap_or(groups.len());
    if at == groups.len() {
        groups.push((key, vec![]));
    }
    &mut groups.get_mut(at).expect("it exists or was just created").1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    #[test]
    fn addresses_are_used_only_if_spis_do_not_distinguish_sas() {
        let groups = |spis: [u32; 5]| {
            let addresses = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/24", "2001:db8::/32", "2001:db9::1"];
            let sa = |(spi, dst)| format!("- {{ spi: {spi}, dst: \"{dst}\", encr: ENCR_NULL, integ: NONE }}\n");
            let text: String = spis.into_iter().zip(addresses).map(sa).collect();
            let loaded = files::parse(std::path::Path::new("f"), format!("sas:\n{text}").as_bytes()).unwrap();
            SaTable::new(loaded.sas.into_iter().map(|sa| PreparedSa::new(sa, None).unwrap()).collect()).0.groups.len()
        };
        assert_eq!(groups([1, 2, 3, 4, 5]), 1);
        // The fourth and the fifth SA.
        assert_eq!(groups([1, 2, 3, 4, 4]), 3);
    }
}
