//! Hash tables of SAs. SAs that the same bits of a packet distinguish form a group; a group has buckets.

use std::net::IpAddr;

use super::prepared::PreparedSa;
use crate::hash::mix;
use crate::net::{Selector, address_value};

/// SAs that are distinguished by the same bits of a packet.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    /// Whether addresses are also needed to distinguish its SAs.
    pub(super) by_address: bool,
    /// Hash table by [`BucketKey`]. Its size is a power of two, and at least half of its slots are free. A search
    /// starts at [`Group::first_place`].
    pub(super) buckets: Vec<Bucket>,
    /// The SAs that share their key with others. Those of one bucket are together and in file order.
    shared: Vec<u32>,
}

/// Low SPI bits, and the [`hash`] of the address bits that distinguish SAs; 0 if addresses are not needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BucketKey {
    pub(super) low: u32,
    pub(super) addresses: u32,
}

/// SAs of a group that have the same key.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
pub(super) struct Bucket {
    pub(super) key: BucketKey,
    /// [`PreparedSa::accepts_every`] of the only SA, so that the SA itself need not be loaded.
    pub(super) accepts_every: [bool; 2],
    /// One of three: the position in `entries` of the only SA; [`Bucket::SHARED`] plus a position in `shared`,
    /// where the number of SAs and their positions are; or [`Bucket::FREE`].
    sas: u32,
}

impl Bucket {
    const FREE: Bucket = Bucket { key: BucketKey { low: 0, addresses: 0 }, sas: u32::MAX, accepts_every: [false; 2] };
    const SHARED: u32 = 1 << 31;

    fn is_free(&self) -> bool {
        self.sas == Bucket::FREE.sas
    }
}

impl Group {
    /// `sas` contains the key and the position in `entries` of each SA.
    pub(super) fn new(key: GroupKey, mut sas: Vec<(BucketKey, u32)>, entries: &[PreparedSa]) -> Group {
        sas.sort_unstable();
        let by_address = (key.src_mask | key.dst_mask) != 0
            && sas.windows(2).any(|pair| matches!(pair, [a, b] if a.0.low == b.0.low));
        if !by_address {
            sas.iter_mut().for_each(|(key, _)| key.addresses = 0);
        }
        let places = (2 * sas.len()).next_power_of_two();
        let mut group = Group { key, by_address, buckets: vec![Bucket::FREE; places], shared: vec![] };
        for bucket in sas.chunk_by(|a, b| a.0 == b.0) {
            let (own, sas, only) = match bucket {
                [] => continue,
                [(own, sa)] => (*own, *sa, entries.get(*sa as usize)),
                [(own, _), ..] => {
                    let at = group.shared.len() as u32;
                    group.shared.push(bucket.len() as u32);
                    group.shared.extend(bucket.iter().map(|(_, sa)| *sa));
                    (*own, Bucket::SHARED | at, None)
                }
            };
            let place = group.place(own);
            if let Some(place) = group.buckets.get_mut(place) {
                *place = Bucket { key: own, sas, accepts_every: only.map_or([false; 2], |only| only.accepts_every) };
            }
        }
        group
    }

    /// The part of a packet's addresses that distinguishes its SAs.
    #[inline]
    pub(super) fn addresses(&self, addresses: [u128; 2]) -> u32 {
        if self.by_address { self.key.addresses(addresses) } else { 0 }
    }

    /// The slot where the search for a key starts.
    #[inline(always)]
    pub(super) fn first_place(&self, BucketKey { low, addresses }: BucketKey) -> usize {
        // Consecutive SPIs share a cache line.
        let hash = (mix(u64::from(addresses) << 32 | u64::from(low >> 3)) << 3) as usize;
        (hash | (low & 7) as usize) & (self.buckets.len() - 1)
    }

    /// The slot of `key`, or the free slot for it.
    pub(super) fn place(&self, key: BucketKey) -> usize {
        let last = self.buckets.len() - 1;
        let mut place = self.first_place(key);
        while self.buckets.get(place).is_some_and(|bucket| bucket.key != key && !bucket.is_free()) {
            place = (place + 1) & last;
        }
        place
    }

    /// The positions in `entries` of the SAs with this key.
    pub(super) fn sas(&self, key: BucketKey) -> &[u32] {
        self.buckets.get(self.place(key)).map_or(&[], |bucket| self.sas_of(bucket))
    }

    pub(super) fn sas_of<'b>(&'b self, bucket: &'b Bucket) -> &'b [u32] {
        if bucket.is_free() {
            return &[];
        }
        if bucket.sas & Bucket::SHARED == 0 {
            return std::slice::from_ref(&bucket.sas);
        }
        let at = (bucket.sas & !Bucket::SHARED) as usize;
        let count = self.shared.get(at).map_or(0, |count| *count as usize);
        self.shared.get(at + 1..).and_then(|sas| sas.get(..count)).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupKey {
    pub(super) protocol: u8,
    pub(super) rule_id: Option<u8>,
    /// Number of SPI bits to compare; also 0 for an SA that matches every SPI.
    pub(super) spi_bits: u8,
    pub(super) authenticates: bool,
    /// The bits of the source address that distinguish its SAs; see [`mask_of`].
    pub(super) src_mask: u128,
    /// The bits of the destination address that distinguish its SAs.
    pub(super) dst_mask: u128,
}

impl GroupKey {
    /// The SPI bits of a packet that may belong to the group, from the first 8 bytes of its ESP payload.
    #[inline]
    pub(super) fn low_of_head(self, protocol: u8, head: u64) -> Option<u32> {
        if protocol != self.protocol || self.rule_id.is_some_and(|id| (head >> 56) as u8 != id) {
            return None;
        }
        let behind_rule = if self.rule_id.is_some() { head << 8 } else { head };
        Some((behind_rule >> 32 >> (32 - self.spi_bits)) as u32)
    }

    /// See [`BucketKey::addresses`].
    #[inline]
    pub(super) fn addresses(self, [src, dst]: [u128; 2]) -> u32 {
        hash([src & self.src_mask, dst & self.dst_mask]) as u32
    }
}

/// The bits of an address by which SAs with this selector are looked up. Prefix lengths are rounded down to a few
/// steps, so that there are few groups. Each group costs one lookup per packet.
fn mask_of(selector: Selector) -> u128 {
    match selector {
        Selector::Any => 0,
        Selector::Prefix { address: IpAddr::V4(_), len } => {
            let bits = u32::from(len) / 8 * 8;
            u128::from(!u32::MAX.checked_shr(bits).unwrap_or(0))
        }
        Selector::Prefix { address: IpAddr::V6(_), len } => {
            let bits = [128, 64, 48, 32].into_iter().find(|step| u32::from(len) >= *step).unwrap_or(0);
            !u128::MAX.checked_shr(bits).unwrap_or(0)
        }
    }
}

pub(super) fn hash(addresses: [u128; 2]) -> u64 {
    let [src, dst] = addresses.map(|value| mix((value >> 64) as u64 ^ (value as u64).rotate_left(29)));
    src ^ dst.rotate_left(1)
}

/// The SPI bits that an SA sends; 0 for an SA that matches every SPI.
pub(super) fn low_of(entry: &PreparedSa) -> u32 {
    entry.spi().and_then(|spi| entry.codec.spi_residue(spi).ok()).unwrap_or(0)
}

pub(super) fn group_key(entry: &PreparedSa) -> GroupKey {
    GroupKey {
        protocol: entry.protocol,
        rule_id: entry.codec.header_rule_id(),
        spi_bits: if entry.spi().is_some() { entry.codec.spi_bits() } else { 0 },
        authenticates: entry.authenticates,
        src_mask: mask_of(entry.sa.src),
        dst_mask: mask_of(entry.sa.dst),
    }
}

pub(super) fn bucket_key(entry: &PreparedSa, group: GroupKey) -> BucketKey {
    let of = |selector: Selector| match selector {
        Selector::Any => 0,
        Selector::Prefix { address, .. } => address_value(address),
    };
    BucketKey { low: low_of(entry), addresses: group.addresses([entry.sa.src, entry.sa.dst].map(of)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_group_finds_its_sas_and_no_others(
            lows in prop::collection::vec(prop_oneof![0u32..40, any::<u32>()], 1..200),
            others in prop::collection::vec(any::<u32>(), 50),
        ) {
            // The same bits with two pairs of addresses are two keys.
            let key_of = |low: u32| BucketKey { low: low >> 1, addresses: low & 1 };
            let sas: Vec<(BucketKey, u32)> = lows.iter().zip(0..).map(|(low, sa)| (key_of(*low), sa)).collect();
            let key = GroupKey {
                protocol: 50,
                rule_id: None,
                spi_bits: 32,
                authenticates: true,
                src_mask: u128::MAX,
                dst_mask: u128::MAX,
            };
            let group = Group::new(key, sas.clone(), &[]);
            for low in (0..50).chain(others).chain(lows) {
                let mut wanted = key_of(low);
                let is_wanted = |own: BucketKey| {
                    own.low == wanted.low && (own.addresses == wanted.addresses || !group.by_address)
                };
                let expected: Vec<u32> = sas.iter().filter(|(own, _)| is_wanted(*own)).map(|(_, sa)| *sa).collect();
                if !group.by_address {
                    wanted.addresses = 0;
                }
                prop_assert_eq!(group.sas(wanted), expected, "{}", low);
            }
        }
    }
}
