//! All Security Associations of a run, and which of them a packet may belong to (wire format §1, "SA lookup").
//!
//! The wire gives the low `esp_spi_lsb` bits of the SPI and nothing says how many, so SAs are kept in groups of one
//! number of bits each; a packet is looked up once in every group.

use std::collections::HashMap;

use super::Sa;
use crate::codec::Codec;
use crate::context::{Context, Dialect, Mode};
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
        let protocol = context.as_ref().map_or(crate::esp::PROTOCOL, |context| context.protocol);
        Ok(Entry { sa, context, codec, cryptor, protocol })
    }

    /// Bytes in front of the IV: RuleID, SPI bits, Sequence Number bits.
    pub fn header_len(&self) -> usize {
        self.codec.header_len()
    }

    /// The revision of the draft that the context follows.
    pub fn revision(&self) -> Option<u8> {
        match &self.context.as_ref()?.dialect {
            Dialect::Ietf(attributes) => Some(attributes.revision),
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
        if bits == 0 {
            return 0;
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
}

/// SAs that are told apart by the same bits of the packet.
#[derive(Debug)]
struct Group {
    key: GroupKey,
    /// Low SPI bits to positions in `entries`, in file order.
    buckets: HashMap<u32, Vec<u32>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct GroupKey {
    protocol: u8,
    rule_id: Option<u8>,
    /// Bits of the SPI to compare; 0 also for an SA that takes every SPI.
    spi_bits: u8,
    authenticates: bool,
}

impl SaTable {
    /// Builds the table; `entries` are in file order.
    pub fn new(entries: Vec<Entry>) -> SaTable {
        let mut groups: Vec<Group> = vec![];
        for (index, entry) in entries.iter().enumerate() {
            let key = GroupKey {
                protocol: entry.protocol,
                rule_id: entry.codec.header_rule_id(),
                spi_bits: if entry.sa.spi.is_some() { entry.codec.spi_bits() } else { 0 },
                authenticates: entry.cryptor.authenticates(),
            };
            let group = match groups.iter().position(|group| group.key == key) {
                Some(at) => groups.get_mut(at),
                None => {
                    groups.push(Group { key, buckets: HashMap::new() });
                    groups.last_mut()
                }
            };
            if let Some(group) = group {
                let low = low_bits(entry.sa.spi.unwrap_or(0), key.spi_bits);
                group.buckets.entry(low).or_default().push(index as u32);
            }
        }
        groups.sort_by_key(|group| (!group.key.authenticates, std::cmp::Reverse(group.key.spi_bits)));
        SaTable { entries, groups }
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
    ///
    /// An SA with a link-layer address takes only packets that came in a frame with it.
    pub fn candidates(
        &self,
        protocol: u8,
        outer: &Outer,
        link: Option<LinkAddresses>,
        payload: &[u8],
        found: &mut Vec<u32>,
    ) {
        let link = link.unwrap_or_default();
        found.clear();
        let mut head = [0u8; 8];
        let len = payload.len().min(8);
        if let (Some(to), Some(from)) = (head.get_mut(..len), payload.get(..len)) {
            to.copy_from_slice(from);
        }
        let head = u64::from_be_bytes(head);
        let head_bits = (len * 8) as u32;
        let (mut run_start, mut run_key) = (0, None);
        for group in &self.groups {
            let GroupKey { protocol: own, rule_id, spi_bits, authenticates } = group.key;
            // Groups of one length are merged into file order.
            if run_key != Some((authenticates, spi_bits)) {
                run_key = Some((authenticates, spi_bits));
                run_start = found.len();
            }
            let rule_bits = if rule_id.is_some() { 8 } else { 0 };
            if own != protocol || rule_id.is_some_and(|id| head_bits >= 8 && (head >> 56) as u8 != id) {
                continue;
            }
            let behind_rule = head << rule_bits;
            let accepts = |index: &&u32| {
                let sa = self.entries.get(**index as usize).map(|entry| &entry.sa);
                sa.is_some_and(|sa| {
                    sa.src.accepts(outer.src)
                        && sa.dst.accepts(outer.dst)
                        && (sa.link_src.is_none() || sa.link_src == link.src)
                        && (sa.link_dst.is_none() || sa.link_dst == link.dst)
                })
            };
            if head_bits >= rule_bits + u32::from(spi_bits) {
                let low = if spi_bits == 0 { 0 } else { (behind_rule >> (64 - spi_bits)) as u32 };
                found.extend(group.buckets.get(&low).into_iter().flatten().filter(accepts));
            } else {
                let there = head_bits.saturating_sub(rule_bits);
                let same =
                    |low: u32| there == 0 || (u64::from(low) << (64 - spi_bits) ^ behind_rule) >> (64 - there) == 0;
                let buckets = group.buckets.iter().filter(|(low, _)| same(**low));
                found.extend(buckets.flat_map(|(_, bucket)| bucket).filter(accepts));
            }
            if let Some(run) = found.get_mut(run_start..) {
                run.sort_unstable();
            }
        }
    }
}

fn low_bits(spi: u32, bits: u8) -> u32 {
    if bits == 0 { 0 } else { spi << (32 - bits) >> (32 - bits) }
}
