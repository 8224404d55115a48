//! The stream of each SA: highest sequence number, replay window and counters. Packets are committed in capture
//! order.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::net::OuterHeader;
use crate::prefetch;
use crate::sa::stream::{Progress, Stream};
use crate::sa::table::{PreparedSa, SaTable};

/// How many sources of multicast packets are distinguished. Each source has its own sequence numbers.
pub(crate) const MULTICAST_SOURCES: usize = 1 << 14;

/// The streams of all SAs. For packets to a multicast address each source has its own stream: the parameter `multicast` is
/// the IP header of such a packet, and `None` for all other packets.
#[derive(Debug, Default)]
pub struct Streams {
    /// By SA: the position of its stream in `streams` plus one; 0 for an SA without packets.
    places: Vec<u32>,
    streams: Vec<Stream>,
    /// The streams of multicast packets, by SA and source. If no packet of a source has verified, its failed
    /// packets count in `streams`.
    multicast: HashMap<(u32, IpAddr), Stream>,
    /// Number of streams that have counted a packet.
    active: usize,
}

impl Streams {
    /// Streams without packets.
    pub fn new(table: &SaTable) -> Streams {
        let sas = table.entries().len();
        // Untouched pages are not committed.
        let streams = Vec::with_capacity(sas);
        Streams { places: vec![0; sas], streams, multicast: HashMap::new(), active: 0 }
    }

    #[inline]
    fn own(&self, sa: u32) -> Option<&Stream> {
        let place = *self.places.get(sa as usize)?;
        self.streams.get((place as usize).wrapping_sub(1))
    }

    fn own_mut(&mut self, sa: u32) -> &mut Stream {
        own_mut(&mut self.places, &mut self.streams, sa)
    }

    /// The progress of the stream of a packet under an SA.
    // Not returned as `Option`: copying an `Option` right after it was written stalls the CPU.
    #[inline]
    pub fn progress(&self, sa: u32, multicast: Option<&[u8]>) -> Progress {
        let Some(header) = multicast else {
            return match self.own(sa) {
                Some(own) => own.progress,
                None => Progress::default(),
            };
        };
        match self.multicast.get(&(sa, source(header))) {
            Some(stream) => stream.progress,
            None => {
                let failed_in_row = self.own(sa).map_or(0, |own| own.progress.failed_in_row);
                Progress { failed_in_row, ..Progress::default() }
            }
        }
    }

    /// The stream of a verified packet. A new source is only stored here, so that packets that do not verify cannot
    /// fill the memory.
    #[inline]
    pub fn stream_mut(&mut self, sa: u32, multicast: Option<&[u8]>) -> &mut Stream {
        match multicast {
            None => self.own_mut(sa),
            Some(header) => self.of_source_mut(sa, header),
        }
    }

    fn of_source_mut(&mut self, sa: u32, header: &[u8]) -> &mut Stream {
        let source = source(header);
        if self.multicast.len() >= MULTICAST_SOURCES && !self.multicast.contains_key(&(sa, source)) {
            self.active = self.active.saturating_sub(self.multicast.len());
            self.multicast.clear();
        }
        self.own_mut(sa).progress.failed_in_row = 0;
        self.multicast.entry((sa, source)).or_default()
    }

    /// The stream of a verified packet that is not counted yet, and the number of streams with packets, including
    /// this one.
    #[inline]
    pub fn next_of(&mut self, sa: u32, multicast: Option<&[u8]>) -> (&mut Stream, usize) {
        let Some(header) = multicast else {
            let stream = own_mut(&mut self.places, &mut self.streams, sa);
            self.active += usize::from(stream.counts.verified == 0);
            return (stream, self.active);
        };
        if self.of_source_mut(sa, header).counts.verified == 0 {
            self.active += 1;
        }
        let active = self.active;
        (self.of_source_mut(sa, header), active)
    }

    /// Prefetches the stream of an SA.
    #[inline]
    pub fn prefetch(&self, sa: u32) {
        if let Some(own) = self.own(sa) {
            own.prefetch();
        }
    }

    /// Prefetches the recent packets of the stream. [`Streams::prefetch`] must have loaded the pointer to them.
    #[inline]
    pub fn prefetch_recent(&self, sa: u32) {
        if let Some(own) = self.own(sa) {
            own.prefetch_recent();
        }
    }

    /// Copies the progress of an SA to `snapshot`, except that of multicast sources.
    pub fn show(&self, sa: u32, snapshot: &ProgressSnapshot) {
        if let Some(stream) = self.own(sa) {
            snapshot.set(sa, &stream.progress);
        }
    }

    /// Records a failed packet with only one candidate, after `tries` decryption attempts.
    pub fn failed(&mut self, sa: u32, multicast: Option<&[u8]>, tries: u64) {
        let anomalies = self.failing(sa, multicast).counts.anomalies_mut();
        anomalies.failed += 1;
        anomalies.failed_tries = anomalies.failed_tries.saturating_add(tries);
    }

    /// Records a packet for which no sequence number of an SA verified.
    pub fn not_authentic(&mut self, sa: u32, multicast: Option<&[u8]>) {
        self.failing(sa, multicast).progress.failed();
    }

    fn failing(&mut self, sa: u32, multicast: Option<&[u8]>) -> &mut Stream {
        let key = multicast.map(|header| (sa, source(header))).filter(|key| self.multicast.contains_key(key));
        match key {
            Some(key) => self.multicast.entry(key).or_default(),
            None => self.own_mut(sa),
        }
    }

    /// The streams with packets that `wanted` accepts: SA, source of multicast packets, stream.
    pub fn streams(&self, wanted: impl Fn(&Stream) -> bool) -> Vec<(u32, Option<IpAddr>, &Stream)> {
        let sas = 0..self.places.len() as u32;
        let own = sas.filter_map(|sa| Some((sa, None, self.own(sa)?)));
        let by_source = self.multicast.iter().map(|((sa, src), stream)| (*sa, Some(*src), stream));
        let counted = |stream: &Stream| stream.counts.verified + stream.counts.anomalies().failed > 0;
        let mut all: Vec<_> = own.chain(by_source).filter(|(_, _, stream)| counted(stream) && wanted(stream)).collect();
        all.sort_by_key(|(sa, src, _)| (*sa, *src));
        all
    }
}

/// The stream of an SA, added if it is new. `places` are those of [`Streams`].
#[inline]
fn own_mut<'s>(places: &mut Vec<u32>, streams: &'s mut Vec<Stream>, sa: u32) -> &'s mut Stream {
    let at = sa as usize;
    if at >= places.len() {
        // The SA was added to the table since.
        places.resize(at + 1, 0);
    }
    let place = places.get_mut(at).expect("there are so many places");
    if *place == 0 {
        streams.push(Stream::default());
        *place = streams.len() as u32;
    }
    streams.get_mut(*place as usize - 1).expect("places are those of streams")
}

/// The source of a packet.
fn source(header: &[u8]) -> IpAddr {
    OuterHeader::of(header).map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |outer| outer.src)
}

/// An earlier copy of the progress of each SA, for workers that open packets ahead. Their results are checked
/// against [`Streams`]. So an outdated value costs time but never causes a wrong result.
#[derive(Debug)]
pub struct ProgressSnapshot(Vec<SaProgress>);

#[derive(Debug, Default)]
struct SaProgress {
    /// Highest number plus one; 0 if there is none.
    next: AtomicU64,
    /// The mask, if `has_mask` is 1.
    mask: AtomicU64,
    has_mask: AtomicU64,
    time_ns: AtomicU64,
}

impl ProgressSnapshot {
    /// The progress of streams without packets.
    pub fn new(table: &SaTable) -> ProgressSnapshot {
        // If all bits of the sequence number are sent, no search is needed.
        let searched = !table.entries().iter().all(PreparedSa::has_whole_sn);
        ProgressSnapshot(table.entries().iter().filter(|_| searched).map(|_| SaProgress::default()).collect())
    }

    /// Prefetches the progress of an SA.
    #[inline]
    pub fn prefetch(&self, sa: u32) {
        prefetch::element(&self.0, sa as usize);
    }

    /// Stores the progress of an SA.
    fn set(&self, sa: u32, progress: &Progress) {
        let Some(own) = self.0.get(sa as usize) else { return };
        own.next.store(progress.highest.map_or(0, |highest| highest.wrapping_add(1)), Ordering::Relaxed);
        own.mask.store(progress.iv_mask.unwrap_or(0), Ordering::Relaxed);
        own.has_mask.store(u64::from(progress.iv_mask.is_some()), Ordering::Relaxed);
        own.time_ns.store(progress.time_ns as u64, Ordering::Relaxed);
    }

    /// The progress of an SA.
    pub fn of(&self, sa: u32) -> Progress {
        let Some(own) = self.0.get(sa as usize) else { return Progress::default() };
        let has_mask = own.has_mask.load(Ordering::Relaxed) == 1;
        Progress {
            highest: own.next.load(Ordering::Relaxed).checked_sub(1),
            time_ns: own.time_ns.load(Ordering::Relaxed) as i64,
            iv_mask: has_mask.then(|| own.mask.load(Ordering::Relaxed)),
            failed_in_row: 0,
        }
    }
}
