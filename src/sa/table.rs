//! All Security Associations of a run, and which of them a packet may belong to (wire format §1, "SA lookup").
//!
//! The wire gives the low `esp_spi_lsb` bits of the SPI and nothing says how many, so SAs are kept in groups of one
//! number of bits each, and apart by which of their outer addresses are single ones; a packet is looked up once in every
//! group.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::net::{IpAddr, Ipv4Addr};

use super::hash::{MixHasher, mix};
use super::{Sa, Selector};
use crate::codec::Codec;
use crate::context::{Context, Dialect, Mode, Origin, address_value};
use crate::error::Error;
use crate::link::{LinkAddresses, Outer};
use crate::suite::Cryptor;

/// An SA ready for use: keys scheduled, rules compiled.
#[derive(Debug)]
pub struct Entry {
    /// The SA as its file gives it.
    pub sa: Sa,
    /// What it leaves out; `None` is standard ESP.
    pub context: Option<Context>,
    /// How it leaves it out.
    pub codec: Codec,
    /// Its cipher.
    pub cryptor: Cryptor,
    /// IP protocol number of its packets: 50, or `protocol` of the context.
    pub protocol: u8,
}

impl Entry {
    /// Prepares one SA. The error names what its cipher or context cannot do.
    pub fn new(sa: Sa, context: Option<Context>) -> Result<Entry, Error> {
        let cryptor = Cryptor::new(&sa.keys);
        let codec = Codec::new(context.as_ref(), cryptor.block())?;
        if let (Some(spi), Some(context)) = (sa.spi, &context)
            && let Err(mismatch) = codec.spi_residue(spi)
        {
            let Origin { path, line } = &context.origin;
            let problem = format!("the SPI of SA {} does not match the rule: {mismatch}", sa.name);
            return Err(Error::line(path, *line, problem, "give ESP.SPI a target value that matches it"));
        }
        let protocol = context.as_ref().map_or(crate::esp::PROTOCOL, |context| context.protocol);
        Ok(Entry { sa, context, codec, cryptor, protocol })
    }

    /// Bytes in front of the IV: RuleID, SPI bits, Sequence Number bits.
    pub fn header_len(&self) -> usize {
        self.codec.header_len()
    }

    /// The time from one Sequence Number to the next in nanoseconds, where they follow the clock.
    pub fn sn_period(&self) -> Option<u64> {
        let period = self.context.as_ref()?.sn_period()?;
        u64::try_from(period.as_nanos()).ok()
    }

    /// The revision of the draft that the context follows.
    pub fn revision(&self) -> Option<u8> {
        match &self.context.as_ref()?.dialect {
            Dialect::Ietf(attributes) => Some(attributes.revision),
            Dialect::Ehc(_) | Dialect::SixLo(_) | Dialect::Custom(_) => None,
        }
    }

    /// Whether inner packets are whole IP packets; false for standard ESP, where each packet tells.
    pub fn is_tunnel(&self) -> bool {
        self.codec.mode() == Some(Mode::Tunnel)
    }

    /// Bytes that every packet has: header, IV, ICV.
    pub fn least_len(&self) -> usize {
        self.header_len() + self.cryptor.iv_len() + self.cryptor.icv_len()
    }

    /// The Sequence Number bits of a packet that is at least [`Entry::header_len`] long.
    pub fn sn_on_wire(&self, payload: &[u8]) -> u32 {
        let skip = u32::from(self.codec.spi_bits()) + 8 * u32::from(self.codec.header_rule_id().is_some());
        let bits = u32::from(self.codec.sn_bits());
        match (skip, bits, payload.first_chunk::<8>()) {
            (_, 0, _) => return 0,
            // Standard ESP.
            (32, 32, Some(head)) => return u64::from_be_bytes(*head) as u32,
            _ => {}
        }
        // Nine bytes at most: RuleID, 32 and 32 bits.
        let mut head = [0u8; 16];
        let len = payload.len().min(16);
        if let (Some(to), Some(from)) = (head.get_mut(..len), payload.get(..len)) {
            to.copy_from_slice(from);
        }
        (u128::from_be_bytes(head) << skip >> (128 - bits)) as u32
    }
}

/// The table of SAs.
#[derive(Debug, Default)]
pub struct SaTable {
    entries: Vec<Entry>,
    /// Longest `esp_spi_lsb` first.
    groups: Vec<Group>,
    /// The bits of the first 8 bytes of an ESP payload that tell SAs apart.
    head_mask: u64,
    /// Whether some group goes by addresses.
    by_address: bool,
}

/// SAs that are told apart by the same bits of the packet.
#[derive(Debug)]
struct Group {
    key: GroupKey,
    /// Positions in `entries`, in file order.
    buckets: HashMap<BucketKey, Vec<u32>, BuildHasherDefault<MixHasher>>,
}

/// Low SPI bits, and what [`Addresses::of`] makes of the outer addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct BucketKey {
    low: u32,
    addresses: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GroupKey {
    protocol: u8,
    rule_id: Option<u8>,
    /// Bits of the SPI to compare; 0 also for an SA that takes every SPI.
    spi_bits: u8,
    authenticates: bool,
    /// Whether each SA takes one source address.
    one_src: bool,
    /// Whether each SA takes one destination address.
    one_dst: bool,
}

/// Outer addresses, hashed.
struct Addresses {
    src: u64,
    dst: u64,
}

impl Addresses {
    fn new(src: IpAddr, dst: IpAddr) -> Addresses {
        let hash = |address| {
            let value = address_value(address);
            mix((value >> 64) as u64 ^ (value as u64).rotate_left(29))
        };
        Addresses { src: hash(src), dst: hash(dst) }
    }

    /// Those that tell SAs of a group apart.
    fn of(&self, group: GroupKey) -> u64 {
        let src = if group.one_src { self.src } else { 0 };
        let dst = if group.one_dst { self.dst.rotate_left(1) } else { 0 };
        src ^ dst
    }
}

impl SaTable {
    /// Builds the table; `entries` are in file order.
    pub fn new(entries: Vec<Entry>) -> SaTable {
        let mut groups: Vec<Group> = vec![];
        for (index, entry) in entries.iter().enumerate() {
            let key = group_key(entry);
            let group = match groups.iter().position(|group| group.key == key) {
                Some(at) => groups.get_mut(at),
                None => {
                    groups.push(Group { key, buckets: HashMap::default() });
                    groups.last_mut()
                }
            };
            if let Some(group) = group {
                group.buckets.entry(bucket_key(entry, key)).or_default().push(index as u32);
            }
        }
        groups.sort_by_key(|group| (!group.key.authenticates, std::cmp::Reverse(group.key.spi_bits)));
        let head_bits = |key: GroupKey| u32::from(key.spi_bits) + if key.rule_id.is_some() { 8 } else { 0 };
        let most = groups.iter().map(|group| head_bits(group.key)).max().unwrap_or(0);
        let head_mask = !u64::MAX.checked_shr(most).unwrap_or(0);
        let by_address = groups.iter().any(|group| group.key.one_src || group.key.one_dst);
        SaTable { entries, groups, head_mask, by_address }
    }

    /// All SAs in file order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The SA at a position that [`SaTable::candidates`] gave.
    pub fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize)
    }

    /// Whether some SA uses this IP protocol number; 50 always counts.
    pub fn uses_protocol(&self, protocol: u8) -> bool {
        protocol == crate::esp::PROTOCOL || self.groups.iter().any(|group| group.key.protocol == protocol)
    }

    /// Replaces `found` by the positions of the SAs that a packet may belong to: outer addresses accepted and low SPI
    /// bits equal, the longest number of bits first, then in file order, SAs without integrity check last. A packet
    /// too short to hold an SA's SPI bits is compared as far as it goes.
    pub fn candidates(&self, packet: &Lookup<'_>, found: &mut Vec<u32>) {
        self.look_up(packet, None, found);
    }

    /// Like [`SaTable::candidates`], but of many SAs that share the same bits only the one in `hints`, if there is one.
    /// False if others were left out.
    pub fn likely(&self, packet: &Lookup<'_>, hints: &Hints, found: &mut Vec<u32>) -> bool {
        self.look_up(packet, Some(hints), found)
    }

    /// The SA of a packet that can belong to one SA with integrity check only, those without left out. `flows` and `hints`
    /// are the caller's.
    pub fn only(&self, packet: &Lookup<'_>, hints: &Hints, flows: &mut Flows, found: &mut Vec<u32>) -> Option<u32> {
        let search = |found: &mut Vec<u32>| {
            if !self.likely(packet, hints, found) {
                return None;
            }
            let authenticates = |sa: &&u32| self.entry(**sa).is_some_and(|entry| entry.cryptor.authenticates());
            let mut candidates = found.iter().filter(authenticates);
            candidates.next().copied().filter(|_| candidates.next().is_none())
        };
        let Some(head) = packet.payload.first_chunk() else { return search(found) };
        let head = u64::from_be_bytes(*head) & self.head_mask;
        let flow = Flow { protocol: packet.protocol, src: packet.outer.src, dst: packet.outer.dst, head };
        flows.get(flow, || search(found))
    }

    /// Notes in `hints` that a packet belongs to an SA with integrity check, so that it comes first for the next one.
    pub fn learn(&self, packet: &Lookup<'_>, sa: u32, hints: &mut Hints) {
        let Some(entry) = self.entry(sa).filter(|entry| entry.cryptor.authenticates()) else { return };
        let key = group_key(entry);
        let bucket = bucket_key(entry, key);
        let group = self.groups.iter().position(|group| group.key == key);
        if let Some(group) = group
            && self.groups.get(group).and_then(|group| group.buckets.get(&bucket)).is_some_and(|sas| sas.len() > FEW)
        {
            hints.set(hint_key(group, bucket.low, packet.outer), sa);
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
        let addresses = self.by_address.then(|| Addresses::new(outer.src, outer.dst));
        let (mut run_start, mut run_key) = (0, None);
        for (index, group) in self.groups.iter().enumerate() {
            let GroupKey { protocol, rule_id, spi_bits, authenticates, .. } = group.key;
            // Groups of one length are merged into file order.
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
                let sa = self.entry(**index).map(|entry| &entry.sa);
                sa.is_some_and(|sa| {
                    sa.src.accepts(outer.src) && sa.dst.accepts(outer.dst) && takes_link(sa, packet.link)
                })
            };
            let before = found.len();
            if head_bits >= rule_bits + u32::from(spi_bits) {
                let low = if spi_bits == 0 { 0 } else { (behind_rule >> (64 - spi_bits)) as u32 };
                let key = BucketKey { low, addresses: addresses.as_ref().map_or(0, |own| own.of(group.key)) };
                let Some(bucket) = group.buckets.get(&key) else { continue };
                let hints = hints.filter(|_| bucket.len() > FEW);
                let hint = hints.and_then(|hints| hints.of(hint_key(index, low, outer)));
                match hint {
                    Some(sa) if accepts(&&sa) => {
                        complete = false;
                        found.push(sa);
                    }
                    _ => found.extend(bucket.iter().filter(accepts)),
                }
            } else {
                let there = head_bits.saturating_sub(rule_bits);
                let same =
                    |low: u32| there == 0 || ((u64::from(low) << (64 - spi_bits)) ^ behind_rule) >> (64 - there) == 0;
                let buckets = group.buckets.iter().filter(|(key, _)| same(key.low));
                found.extend(buckets.flat_map(|(_, bucket)| bucket).filter(accepts));
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

/// What a packet is looked up by.
#[derive(Debug, Clone, Copy)]
pub struct Lookup<'a> {
    /// IP protocol number: 50, or one that a context names. 50 for UDP encapsulation too.
    pub protocol: u8,
    /// The outer header.
    pub outer: &'a Outer,
    /// Addresses of the radio frame, if it came in one.
    pub link: Option<LinkAddresses>,
    /// The ESP payload.
    pub payload: &'a [u8],
}

/// An SA with a link-layer address takes only packets that came in a frame with it.
fn takes_link(sa: &Sa, link: Option<LinkAddresses>) -> bool {
    if sa.link_src.is_none() && sa.link_dst.is_none() {
        return true;
    }
    let link = link.unwrap_or_default();
    (sa.link_src.is_none() || sa.link_src == link.src) && (sa.link_dst.is_none() || sa.link_dst == link.dst)
}

/// All that [`SaTable::only`] looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flow {
    protocol: u8,
    src: IpAddr,
    dst: IpAddr,
    head: u64,
}

/// What [`SaTable::only`] answered for the flows that were met last.
#[derive(Debug, Clone, Default)]
pub struct Flows(Vec<Option<(Flow, Option<u32>)>>);

/// Flows remembered of which the answer is known.
const FLOWS: usize = 256;

impl Flows {
    fn get(&mut self, flow: Flow, search: impl FnOnce() -> Option<u32>) -> Option<u32> {
        if self.0.is_empty() {
            self.0.resize(FLOWS, None);
        }
        // Addresses of one network and SPIs of one gateway differ in their low bits.
        let low = |address| address_value(address) as u64;
        let hash = mix(flow.head ^ low(flow.src) ^ low(flow.dst).rotate_left(32));
        let place = self.0.get_mut(hash as usize % FLOWS)?;
        match place {
            Some((own, sa)) if *own == flow => *sa,
            _ => {
                let sa = search();
                *place = Some((flow, sa));
                sa
            }
        }
    }
}

/// SAs that share their SPI bits with no more than this many are just tried.
const FEW: usize = 1;
/// Flows remembered. Two that fall on one place only cost a try more.
const HINTS: usize = 4096;

/// Which SA the last packet of a flow belonged to, where many share the same SPI bits.
#[derive(Debug, Clone, Default)]
pub struct Hints(Vec<(u64, u32)>);

impl Hints {
    fn of(&self, key: u64) -> Option<u32> {
        self.0.get(key as usize % HINTS).filter(|(own, _)| *own == key).map(|(_, sa)| *sa)
    }

    fn set(&mut self, key: u64, sa: u32) {
        if self.0.is_empty() {
            self.0.resize(HINTS, (0, 0));
        }
        if let Some(place) = self.0.get_mut(key as usize % HINTS) {
            *place = (key, sa);
        }
    }
}

fn hint_key(group: usize, low: u32, outer: &Outer) -> u64 {
    let addresses = Addresses::new(outer.src, outer.dst);
    let group = (group as u64) << 32 | u64::from(low);
    // 0 marks an empty place.
    mix(mix(mix(group) ^ addresses.src) ^ addresses.dst) | 1 << 63
}

/// What of its SPI an SA has on the wire; 0 for an SA that takes every SPI.
fn low_of(entry: &Entry) -> u32 {
    entry.sa.spi.and_then(|spi| entry.codec.spi_residue(spi).ok()).unwrap_or(0)
}

fn group_key(entry: &Entry) -> GroupKey {
    GroupKey {
        protocol: entry.protocol,
        rule_id: entry.codec.header_rule_id(),
        spi_bits: if entry.sa.spi.is_some() { entry.codec.spi_bits() } else { 0 },
        authenticates: entry.cryptor.authenticates(),
        one_src: entry.sa.src.single().is_some(),
        one_dst: entry.sa.dst.single().is_some(),
    }
}

fn bucket_key(entry: &Entry, group: GroupKey) -> BucketKey {
    let single = |selector: Selector| selector.single().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let addresses = Addresses::new(single(entry.sa.src), single(entry.sa.dst));
    BucketKey { low: low_of(entry), addresses: addresses.of(group) }
}
