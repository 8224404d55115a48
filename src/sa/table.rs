//! All Security Associations, and the lookup of those that a packet may belong to (wire format §1, "SA lookup").
//!
//! A packet has the low `esp_spi_lsb` bits of the SPI, but does not say how many bits. So SAs are grouped by their
//! number of bits. If these bits do not distinguish the SAs, they are also grouped by the lengths of their address
//! prefixes. A packet is looked up once in every group.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use super::Sa;
use crate::cipher::EspCipher;
use crate::codec::Codec;
use crate::context::{Context, Dialect, Mode, Origin};
use crate::error::Error;
use crate::hash::mix;
use crate::link::EspPorts;
use crate::net::{IpVersion, LinkAddresses, OuterHeader, Selector, address_value};
use crate::prefetch;

/// An SA ready for use: rules compiled, keys scheduled when they are first needed.
///
/// The fields that every packet needs are in one cache line, because with many SAs each access is a cache miss.
#[derive(Debug)]
#[repr(align(64))]
pub struct PreparedSa {
    cipher: OnceLock<Box<EspCipher>>,
    /// Compiled header compression.
    pub codec: Arc<Codec>,
    /// The context of the SA; `None` is standard ESP.
    pub context: Option<Arc<Context>>,
    /// The SA as its file gives it.
    pub sa: Arc<Sa>,
    // The fields of `sa` that every packet needs.
    spi: Option<u32>,
    esn: bool,
    /// Whether it matches every packet of IPv4, and of IPv6.
    takes_every: [bool; 2],
    iv_len: u8,
    icv_len: u8,
    block: u8,
    authenticates: bool,
    /// IP protocol number of its packets: 50, or `protocol` of the context.
    pub protocol: u8,
}

/// Prepares SAs one after the other. SAs with the same compression share their compiled codec.
#[derive(Debug, Default)]
pub(crate) struct SaBuilder {
    /// By the block of the cipher.
    standard: Vec<(usize, Arc<Codec>)>,
    /// That of the last context, and the block of its cipher.
    last: Option<(Arc<Context>, usize, Arc<Codec>)>,
}

impl SaBuilder {
    /// Prepares one SA. The error names what its cipher or context cannot do.
    pub(crate) fn entry(&mut self, sa: impl Into<Arc<Sa>>, context: Option<Arc<Context>>) -> Result<PreparedSa, Error> {
        let sa = sa.into();
        let codec = self.codec(context.as_ref(), sa.keys.suite().block)?;
        PreparedSa::of(sa, context, codec)
    }

    fn codec(&mut self, context: Option<&Arc<Context>>, block: usize) -> Result<Arc<Codec>, Error> {
        let Some(context) = context else {
            if let Some((_, codec)) = self.standard.iter().find(|(of, _)| *of == block) {
                return Ok(codec.clone());
            }
            let codec = Arc::new(Codec::new(None, block)?);
            self.standard.push((block, codec.clone()));
            return Ok(codec);
        };
        match &self.last {
            Some((last, of, codec)) if *of == block && last.same_compression(context) => Ok(codec.clone()),
            _ => {
                let codec = Arc::new(Codec::new(Some(context), block)?);
                self.last = Some((context.clone(), block, codec.clone()));
                Ok(codec)
            }
        }
    }
}

impl PreparedSa {
    /// Prepares one SA. The error names what its cipher or context cannot do.
    pub fn new(sa: impl Into<Arc<Sa>>, context: Option<Context>) -> Result<PreparedSa, Error> {
        SaBuilder::default().entry(sa, context.map(Arc::new))
    }

    fn of(sa: Arc<Sa>, context: Option<Arc<Context>>, codec: Arc<Codec>) -> Result<PreparedSa, Error> {
        if let (Some(spi), Some(context)) = (sa.spi, &context)
            && let Err(mismatch) = codec.spi_residue(spi)
        {
            let Origin { path, line } = &context.origin;
            let problem = format!("the SPI of SA {} does not match the rule: {mismatch}", sa.name);
            return Err(Error::line(path, *line, problem, "give ESP.SPI a target value that matches it"));
        }
        let protocol = context.as_ref().map_or(crate::net::esp::PROTOCOL, |context| context.protocol);
        let no_link = sa.link_src.is_none() && sa.link_dst.is_none();
        let takes_every = [IpVersion::V4, IpVersion::V6]
            .map(|version| no_link && sa.src.takes_every(version) && sa.dst.takes_every(version));
        Ok(PreparedSa {
            cipher: OnceLock::new(),
            codec,
            context,
            spi: sa.spi,
            esn: sa.esn,
            takes_every,
            iv_len: sa.keys.suite().iv_len as u8,
            icv_len: sa.keys.icv_len() as u8,
            block: sa.keys.suite().block as u8,
            authenticates: sa.keys.authenticates(),
            protocol,
            sa,
        })
    }

    /// Its SPI; see [`Sa::spi`].
    pub fn spi(&self) -> Option<u32> {
        self.spi
    }

    /// Whether it has extended Sequence Numbers.
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// Whether it matches packets with these outer addresses that were not in a radio frame.
    pub fn accepts(&self, outer: &OuterHeader) -> bool {
        self.takes(outer.version, [outer.src, outer.dst].map(address_value), None)
    }

    /// Whether it matches packets with these addresses.
    #[inline]
    fn takes(&self, version: IpVersion, [src, dst]: [u128; 2], link: Option<LinkAddresses>) -> bool {
        if of_version(self.takes_every, version) {
            return true;
        }
        let sa = &*self.sa;
        sa.src.accepts_value(version, src) && sa.dst.accepts_value(version, dst) && takes_link(sa, link)
    }

    /// Its cipher.
    pub fn cipher(&self) -> &EspCipher {
        self.cipher.get_or_init(|| Box::new(EspCipher::new(&self.sa.keys)))
    }

    /// Prefetches its cipher, if it was used before.
    #[inline]
    pub fn prefetch_cipher(&self) {
        match self.cipher.get() {
            Some(cipher) => cipher.prefetch(),
            None => prefetch::element(std::slice::from_ref(&self.sa.keys), 0),
        }
    }

    /// Length of the IV on the wire in bytes.
    pub fn iv_len(&self) -> usize {
        usize::from(self.iv_len)
    }

    /// Length of the ICV in bytes.
    pub fn icv_len(&self) -> usize {
        usize::from(self.icv_len)
    }

    /// Cipher block in bytes.
    pub fn block(&self) -> usize {
        usize::from(self.block)
    }

    /// Length of the clear text of a packet with a body (IV, cipher text, ICV) of `body_len` bytes.
    pub fn clear_len(&self, body_len: usize) -> usize {
        body_len.saturating_sub(self.iv_len() + self.icv_len())
    }

    /// Whether a packet that opens was checked by its ICV.
    pub fn authenticates(&self) -> bool {
        self.authenticates
    }

    /// Bytes before the IV: RuleID, SPI bits, Sequence Number bits.
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

    /// Whether inner packets are whole IP packets; false for standard ESP, where the Next Header of each packet shows
    /// the mode.
    pub fn is_tunnel(&self) -> bool {
        self.codec.mode() == Some(Mode::Tunnel)
    }

    /// Bytes that every packet has: header, IV, ICV.
    pub fn least_len(&self) -> usize {
        self.header_len() + self.iv_len() + self.icv_len()
    }

    /// Whether every bit of the Sequence Number is on the wire.
    #[inline]
    pub fn has_whole_sn(&self) -> bool {
        self.codec.sn_bits() >= 32 && !self.esn
    }

    /// The Sequence Number bits of a packet that is at least [`PreparedSa::header_len`] long.
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
    entries: Vec<PreparedSa>,
    /// Longest `esp_spi_lsb` first.
    groups: Vec<Group>,
    /// The bits of the first 8 bytes of an ESP payload that distinguish SAs.
    head_mask: u64,
    /// Protocol and SPI of the SAs that have the whole SPI on the wire, sorted; made when it is first asked for.
    whole_spis: OnceLock<Vec<(u8, u32)>>,
    /// UDP ports of ESP.
    esp_ports: EspPorts,
}

/// What [`SaTable::only`] found for the packet before: most packets are of the same flow as that.
#[derive(Debug, Clone, Copy)]
pub struct FlowCache {
    protocol: u8,
    version: IpVersion,
    addresses: [u128; 2],
    /// Its SPI bits, as far as they distinguish SAs.
    head: u64,
    sa: u32,
}

/// SAs that are distinguished by the same bits of the packet.
#[derive(Debug)]
struct Group {
    key: GroupKey,
    /// Whether addresses are also needed to distinguish its SAs.
    by_address: bool,
    /// By [`BucketKey`]: a power of two of places, half of them free at least, searched from [`Group::first_place`] on.
    buckets: Vec<Bucket>,
    /// The SAs that share their key with others, those of one bucket together and in file order.
    shared: Vec<u32>,
}

/// Low SPI bits, and the [`hash`] of the outer addresses as far as they count; 0 where they do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct BucketKey {
    low: u32,
    addresses: u32,
}

/// What is said of IPv4, or of IPv6.
#[inline]
fn of_version([v4, v6]: [bool; 2], version: IpVersion) -> bool {
    if version == IpVersion::V4 { v4 } else { v6 }
}

/// SAs of a group that share their key.
#[derive(Debug, Clone, Copy)]
#[repr(align(16))]
struct Bucket {
    key: BucketKey,
    /// [`PreparedSa::takes_every`] of the one SA, which then need not be looked at.
    takes_every: [bool; 2],
    /// The position in `entries` of the one SA; or [`Bucket::SHARED`] and where in `shared` the number of SAs stands, in
    /// front of their positions; or [`Bucket::FREE`].
    sas: u32,
}

impl Bucket {
    const FREE: Bucket = Bucket { key: BucketKey { low: 0, addresses: 0 }, sas: u32::MAX, takes_every: [false; 2] };
    const SHARED: u32 = 1 << 31;

    fn is_free(&self) -> bool {
        self.sas == Bucket::FREE.sas
    }
}

impl Group {
    /// `sas` are key and position in `entries` of each SA.
    fn new(key: GroupKey, mut sas: Vec<(BucketKey, u32)>, entries: &[PreparedSa]) -> Group {
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
                *place = Bucket { key: own, sas, takes_every: only.map_or([false; 2], |only| only.takes_every) };
            }
        }
        group
    }

    /// The part of a packet's addresses that distinguishes its SAs.
    #[inline]
    fn addresses(&self, addresses: [u128; 2]) -> u32 {
        if self.by_address { self.key.addresses(addresses) } else { 0 }
    }

    /// The slot where the search for a key starts.
    #[inline(always)]
    fn first_place(&self, BucketKey { low, addresses }: BucketKey) -> usize {
        // Consecutive SPIs share a cache line.
        let hash = (mix(u64::from(addresses) << 32 | u64::from(low >> 3)) << 3) as usize;
        (hash | (low & 7) as usize) & (self.buckets.len() - 1)
    }

    /// The slot of `key`, or the free slot for it.
    fn place(&self, key: BucketKey) -> usize {
        let last = self.buckets.len() - 1;
        let mut place = self.first_place(key);
        while self.buckets.get(place).is_some_and(|bucket| bucket.key != key && !bucket.is_free()) {
            place = (place + 1) & last;
        }
        place
    }

    /// The positions in `entries` of the SAs with this key.
    fn sas(&self, key: BucketKey) -> &[u32] {
        self.buckets.get(self.place(key)).map_or(&[], |bucket| self.sas_of(bucket))
    }

    fn sas_of<'b>(&'b self, bucket: &'b Bucket) -> &'b [u32] {
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
struct GroupKey {
    protocol: u8,
    rule_id: Option<u8>,
    /// Bits of the SPI to compare; 0 also for an SA that takes every SPI.
    spi_bits: u8,
    authenticates: bool,
    /// The bits of the source address that tell its SAs apart; see [`mask_of`].
    src_mask: u128,
    /// The same of the destination address.
    dst_mask: u128,
}

impl GroupKey {
    /// The SPI bits of a packet that may belong to the group, from the first 8 bytes of its ESP payload.
    #[inline]
    fn low_of_head(self, protocol: u8, head: u64) -> Option<u32> {
        if protocol != self.protocol || self.rule_id.is_some_and(|id| (head >> 56) as u8 != id) {
            return None;
        }
        let behind_rule = if self.rule_id.is_some() { head << 8 } else { head };
        Some((behind_rule >> 32 >> (32 - self.spi_bits)) as u32)
    }

    /// See [`BucketKey::addresses`].
    #[inline]
    fn addresses(self, [src, dst]: [u128; 2]) -> u32 {
        hash([src & self.src_mask, dst & self.dst_mask]) as u32
    }
}

/// The bits of an address by which SAs with this selector are looked up. Of prefixes these are in steps, so that there are
/// few groups however long the prefixes are: each is one look-up for every packet.
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

fn hash(addresses: [u128; 2]) -> u64 {
    let [src, dst] = addresses.map(|value| mix((value >> 64) as u64 ^ (value as u64).rotate_left(29)));
    src ^ dst.rotate_left(1)
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
                    // One that has its SPI bits for itself needs no addresses, whatever they are.
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
        SaTable { entries, groups, head_mask, whole_spis, esp_ports }
    }

    /// With ESP on other UDP ports, too.
    pub fn with_esp_ports(self, esp_ports: EspPorts) -> SaTable {
        SaTable { esp_ports, ..self }
    }

    /// UDP ports of ESP.
    pub fn esp_ports(&self) -> &EspPorts {
        &self.esp_ports
    }

    /// All SAs in file order.
    pub fn entries(&self) -> &[PreparedSa] {
        &self.entries
    }

    /// The SA at a position that [`SaTable::candidates`] gave.
    pub fn entry(&self, index: u32) -> Option<&PreparedSa> {
        self.entries.get(index as usize)
    }

    /// Whether some SA uses this IP protocol number; 50 always counts.
    pub fn uses_protocol(&self, protocol: u8) -> bool {
        protocol == crate::net::esp::PROTOCOL || self.groups.iter().any(|group| group.key.protocol == protocol)
    }

    /// Whether some SA has this SPI, whole on the wire, whatever its addresses.
    pub fn has_whole_spi(&self, protocol: u8, spi: u32) -> bool {
        let spis = self.whole_spis.get_or_init(|| {
            let whole = |entry: &&PreparedSa| entry.codec.spi_bits() == 32 && entry.codec.header_rule_id().is_none();
            let mut spis: Vec<(u8, u32)> =
                self.entries.iter().filter(whole).filter_map(|entry| Some((entry.protocol, entry.spi()?))).collect();
            spis.sort_unstable();
            spis
        });
        spis.binary_search(&(protocol, spi)).is_ok()
    }

    /// Replaces `found` by the positions of the SAs that a packet may belong to: outer addresses accepted and low SPI
    /// bits equal, the longest number of bits first, then in file order, SAs without integrity check last. A packet
    /// too short to hold an SA's SPI bits is compared as far as it goes.
    pub fn candidates(&self, packet: &Lookup<'_>, found: &mut Vec<u32>) {
        self.look_up(packet, None, found);
    }

    /// Like [`SaTable::candidates`], but of many SAs that share the same bits only the one in `hints`, if there is one.
    /// False if others were left out.
    pub fn hinted_candidates(&self, packet: &Lookup<'_>, hints: &Hints, found: &mut Vec<u32>) -> bool {
        self.look_up(packet, Some(hints), found)
    }

    /// The SA of a packet that can belong to one SA with integrity check only, those without left out. `header` is its IP
    /// header; it came in no radio frame. `None`, too, for a packet too short to tell. `before` is the caller's.
    #[inline]
    pub fn unique_candidate(
        &self,
        protocol: u8,
        header: &[u8],
        payload: &[u8],
        before: &mut Option<FlowCache>,
    ) -> Option<u32> {
        let whole_head = u64::from_be_bytes(*payload.first_chunk()?);
        let head = whole_head & self.head_mask;
        let (version, addresses) = crate::net::address_values(header)?;
        // SPI bits come first, because flows in turn mostly differ in them.
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
        self.entries.len() >= prefetch::MANY_SAS
    }

    /// Asks for what [`SaTable::only`] will need.
    #[inline(always)]
    pub fn prefetch(&self, protocol: u8, header: &[u8], payload: &[u8]) {
        let Some(head) = payload.first_chunk() else { return };
        for group in &self.groups {
            let Some(low) = group.key.low_of_head(protocol, u64::from_be_bytes(*head)) else { continue };
            let addresses = if group.by_address { crate::net::address_values(header) } else { None };
            let addresses = addresses.map_or(0, |(_, addresses)| group.key.addresses(addresses));
            prefetch::element(&group.buckets, group.first_place(BucketKey { low, addresses }));
        }
    }

    /// Asks for an SA.
    #[inline]
    pub fn prefetch_entry(&self, index: u32) {
        if self.has_many() {
            prefetch::element(&self.entries, index as usize);
        }
    }

    fn search_only(&self, protocol: u8, (version, addresses): (IpVersion, [u128; 2]), head: u64) -> Option<u32> {
        let mut only = None;
        // Groups with an integrity check come first.
        for group in self.groups.iter().take_while(|group| group.key.authenticates) {
            let Some(low) = group.key.low_of_head(protocol, head) else { continue };
            let key = BucketKey { low, addresses: group.addresses(addresses) };
            let Some(bucket) = group.buckets.get(group.place(key)) else { continue };
            let takes_every = of_version(bucket.takes_every, version);
            for sa in group.sas_of(bucket) {
                if (takes_every || self.entry(*sa)?.takes(version, addresses, None)) && only.replace(*sa).is_some() {
                    return None;
                }
            }
        }
        only
    }

    /// Notes in `hints` that a packet belongs to an SA with integrity check, so that it comes first for the next one.
    pub fn learn(&self, packet: &Lookup<'_>, sa: u32, hints: &mut Hints) {
        let Some(entry) = self.entry(sa).filter(|entry| entry.authenticates) else { return };
        let key = group_key(entry);
        let Some((index, group)) = self.groups.iter().enumerate().find(|(_, group)| group.key == key) else { return };
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
                self.entry(**index).is_some_and(|entry| entry.takes(outer.version, addresses, packet.link))
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
    /// IP protocol number: 50, or one that a context names. 50 for UDP encapsulation too.
    pub protocol: u8,
    /// The outer header.
    pub outer: &'a OuterHeader,
    /// Addresses of the radio frame, if it came in one.
    pub link: Option<LinkAddresses>,
    /// The ESP payload.
    pub payload: &'a [u8],
}

/// An SA with a link-layer address matches only packets in frames with that address.
fn takes_link(sa: &Sa, link: Option<LinkAddresses>) -> bool {
    if sa.link_src.is_none() && sa.link_dst.is_none() {
        return true;
    }
    let link = link.unwrap_or_default();
    (sa.link_src.is_none() || sa.link_src == link.src) && (sa.link_dst.is_none() || sa.link_dst == link.dst)
}

/// Up to this many SAs with the same SPI bits are tried without using hints.
const FEW: usize = 1;
/// Number of flows in the cache. A collision costs only one more decryption attempt.
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

fn hint_key(group: usize, low: u32, outer: &OuterHeader) -> u64 {
    let addresses = hash([outer.src, outer.dst].map(address_value));
    let group = (group as u64) << 32 | u64::from(low);
    // 0 marks an empty place.
    mix(mix(group) ^ addresses) | 1 << 63
}

/// The list of a group, empty if it is a new one.
fn list_of<T>(groups: &mut Vec<(GroupKey, Vec<T>)>, key: GroupKey) -> &mut Vec<T> {
    let at = groups.iter().position(|(own, _)| *own == key).unwrap_or(groups.len());
    if at == groups.len() {
        groups.push((key, vec![]));
    }
    &mut groups.get_mut(at).expect("it is there, or was just put there").1
}

/// What of its SPI an SA has on the wire; 0 for an SA that takes every SPI.
fn low_of(entry: &PreparedSa) -> u32 {
    entry.spi().and_then(|spi| entry.codec.spi_residue(spi).ok()).unwrap_or(0)
}

fn group_key(entry: &PreparedSa) -> GroupKey {
    GroupKey {
        protocol: entry.protocol,
        rule_id: entry.codec.header_rule_id(),
        spi_bits: if entry.spi().is_some() { entry.codec.spi_bits() } else { 0 },
        authenticates: entry.authenticates,
        src_mask: mask_of(entry.sa.src),
        dst_mask: mask_of(entry.sa.dst),
    }
}

fn bucket_key(entry: &PreparedSa, group: GroupKey) -> BucketKey {
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
    use crate::files;

    proptest! {
        #[test]
        fn a_group_finds_its_sas_and_no_others(
            lows in prop::collection::vec(prop_oneof![0u32..40, any::<u32>()], 1..200),
            others in prop::collection::vec(any::<u32>(), 50),
        ) {
            // The same bits under two pairs of addresses are two keys.
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

    #[test]
    fn sas_that_leave_out_the_same_share_a_codec() {
        let keys: String = (1..=5)
            .map(|spi| format!("- {{ spi: {spi}, encr: ENCR_AES_GCM_16, key: {} }}\n", "00".repeat(20)))
            .collect();
        let context = |spi: u32, src: &str, more: &str| {
            format!("- {{ spi: {spi}, ipsec_mode: Tunnel, ts_ip_version: IPv4-only, ts_ip_src: {src}{more} }}\n")
        };
        let contexts = [
            context(1, "10.0.0.1", ""),
            context(2, "10.0.0.1", ", esp_sn: 7"),
            context(3, "10.0.0.2", ""),
            context(4, "10.0.0.2", ", esp_spi_lsb: 8"),
        ];
        let text = format!("sas:\n{keys}contexts:\n{}", contexts.concat());
        let loaded = files::parse(std::path::Path::new("f"), text.as_bytes()).unwrap();
        let bound = files::bind(&loaded.sas, &loaded.contexts).unwrap();
        let mut preparation = SaBuilder::default();
        let mut codec = |(sa, context): (Arc<Sa>, Option<usize>)| {
            let context = context.map(|at| Arc::new(loaded.contexts[at].clone()));
            // Shared or not, it is what the context alone makes.
            let alone = Codec::new(context.as_deref(), sa.keys.suite().block).unwrap();
            let codec = preparation.entry(sa, context).unwrap().codec;
            assert_eq!(*codec, alone);
            codec
        };
        let codecs: Vec<Arc<Codec>> = loaded.sas.into_iter().zip(bound).map(&mut codec).collect();
        let shared: Vec<bool> = codecs.windows(2).map(|pair| Arc::ptr_eq(&pair[0], &pair[1])).collect();
        assert_eq!(shared, [true, false, false, false]);
    }

    #[test]
    fn addresses_are_looked_at_only_where_spis_do_not_tell_sas_apart() {
        let groups = |spis: [u32; 5]| {
            let addresses = ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/24", "2001:db8::/32", "2001:db9::1"];
            let sa = |(spi, dst)| format!("- {{ spi: {spi}, dst: \"{dst}\", encr: ENCR_NULL, integ: NONE }}\n");
            let text: String = spis.into_iter().zip(addresses).map(sa).collect();
            let loaded = files::parse(std::path::Path::new("f"), format!("sas:\n{text}").as_bytes()).unwrap();
            SaTable::new(loaded.sas.into_iter().map(|sa| PreparedSa::new(sa, None).unwrap()).collect()).groups.len()
        };
        assert_eq!(groups([1, 2, 3, 4, 5]), 1);
        // The fourth and the fifth.
        assert_eq!(groups([1, 2, 3, 4, 4]), 3);
    }

    #[test]
    fn what_every_packet_needs_is_in_one_cache_line() {
        assert_eq!(std::mem::size_of::<PreparedSa>(), 64);
    }
}
