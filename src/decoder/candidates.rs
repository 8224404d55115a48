//! Finds the SA and the sequence number of a packet (wire format §1 and §6). The ICV decides which is right. The
//! progress of the streams only decides which are tried first.

use super::esp_packet::{body, spi};
use super::likely_numbers::{agrees, likely_numbers, recovers, timed_period};
use super::status::Method;
use super::wide_search::search_on_all_cores;
use crate::sa::stream::Progress;
use crate::sa::table::{Hints, Lookup, PreparedSa, SaTable};

/// Limits for the number of sequence numbers that are tried.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Sequence numbers tried for each SA and packet.
    pub sn_tries: u32,
    /// Sequence numbers tried instead for an SA without verified packets, or whose last 16 packets all failed.
    pub resync_tries: Option<u64>,
    /// Called during such a wide search with the number of sequence numbers tried so far, and the number of all.
    /// Both are equal at the end.
    pub notify: Option<fn(u64, u64)>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { sn_tries: 1024, resync_tries: None, notify: None }
    }
}

/// Sequence numbers that `--resync` tries (wire format §6 step 4).
pub(crate) const RESYNC_TRIES: u64 = 1 << 24;
/// After this many failed packets in a row, the search for an SA starts from scratch.
const LOST_AFTER: u32 = 16;
/// Up to this many sequence numbers are tried on one core.
const PARALLEL_FROM: u64 = 1 << 16;

/// A packet that verified, or that belongs to an SA without ICV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The SA.
    pub sa: u32,
    /// The Sequence Number.
    pub sn: u64,
    /// The packet had other candidate SAs, too. SAs without ICV are tried last, so they do not count for an SA with
    /// ICV.
    pub ambiguous: bool,
}

/// Why a packet could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// An IKE message or a NAT keepalive on UDP port 4500.
    NotEsp,
    /// No SA matches the outer addresses and the SPI bits.
    NoSa,
    /// The packet was truncated by the snap length, so the ICV is missing. No SA was tried.
    Truncated,
    /// The packet is too short for the header, IV and ICV of every candidate.
    Short {
        /// Bytes that the shortest candidate needs.
        least: usize,
    },
    /// No candidate verified.
    NotAuthentic {
        /// Number of decryption attempts.
        tries: u64,
    },
}

/// Tries the candidates of packets. A candidate is an SA with several sequence numbers.
#[derive(Debug)]
pub struct Candidates {
    limits: Limits,
    /// The SA that each flow had last, among the packets that this searcher opened.
    hints: Hints,
    found: Vec<u32>,
    tried: Vec<u32>,
    scratch: Vec<u8>,
    /// Number of decryption attempts for the current packet.
    tries_spent: u64,
    /// The SAs of which more than the likeliest number was tried for the current packet, and how many numbers more.
    further: Vec<(u32, u64)>,
    /// The clear text of the last verified packet.
    pub clear: Vec<u8>,
}

impl Candidates {
    /// A searcher that has not opened any packet.
    pub fn new(limits: Limits) -> Candidates {
        let (found, tried, scratch, clear, further) = (vec![], vec![], vec![], vec![], vec![]);
        let hints = Hints::default();
        Candidates { limits, hints, found, tried, scratch, tries_spent: 0, further, clear }
    }

    /// The limits of the search.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// The candidates of the last packet that did not verify.
    pub fn candidates(&self) -> &[u32] {
        &self.found
    }

    /// How often the cipher was tried under each candidate of a packet that verified under none.
    pub fn tries_of_candidates(&self, table: &SaTable, payload: &[u8]) -> impl Iterator<Item = (u32, u64)> {
        self.found.iter().map(move |sa| {
            let entry = table.entry(*sa);
            let first = entry.is_some_and(|entry| entry.authenticates() && body(entry, payload).is_some());
            let further = self.further.iter().filter(|(other, _)| other == sa).map(|(_, tries)| *tries);
            (*sa, further.fold(u64::from(first), u64::saturating_add))
        })
    }

    /// [`Candidates::candidates`], and a buffer for a clear text.
    pub fn candidates_and_clear(&mut self) -> (&[u32], &mut Vec<u8>) {
        (&self.found, &mut self.clear)
    }

    /// Finds SA and sequence number of a packet that was captured at `time_ns`. `progress` returns the progress of
    /// an SA's stream. If it returns `None`, the SA is not tried. With `wide`, [`Limits::resync_tries`] applies.
    ///
    /// # Errors
    /// Why no candidate verified.
    pub fn open(
        &mut self,
        table: &SaTable,
        packet: &Lookup<'_>,
        time_ns: i64,
        wide: bool,
        mut progress: impl FnMut(u32) -> Option<Progress>,
    ) -> Result<Opened, Failure> {
        self.tries_spent = 0;
        let complete = table.hinted_candidates(packet, &self.hints, &mut self.found);
        self.found.retain(|sa| progress(*sa).is_some());
        let authenticates = |sa: &&u32| table.entry(**sa).is_some_and(PreparedSa::authenticates);
        let ambiguous = !complete || self.found.iter().filter(authenticates).count() > 1;
        if let Some((sa, sn)) = self.first_numbers(table, packet, time_ns, &mut progress) {
            if ambiguous {
                table.learn(packet, sa, &mut self.hints);
            }
            return Ok(Opened { sa, sn, ambiguous });
        }
        if !complete {
            std::mem::swap(&mut self.tried, &mut self.found);
            table.candidates(packet, &mut self.found);
            self.found.retain(|sa| !self.tried.contains(sa) && progress(*sa).is_some());
            if let Some((sa, sn)) = self.first_numbers(table, packet, time_ns, &mut progress) {
                table.learn(packet, sa, &mut self.hints);
                return Ok(Opened { sa, sn, ambiguous: true });
            }
            self.tried.append(&mut self.found);
            std::mem::swap(&mut self.tried, &mut self.found);
        }
        if self.found.is_empty() {
            return Err(Failure::NoSa);
        }
        let least = self.found.iter().filter_map(|sa| Some(table.entry(*sa)?.least_len())).min().unwrap_or(0);
        if packet.payload.len() < least {
            return Err(Failure::Short { least });
        }
        if let Some((sa, sn)) = self.further_numbers(table, packet, time_ns, wide, &mut progress) {
            if ambiguous {
                table.learn(packet, sa, &mut self.hints);
            }
            let ambiguous = ambiguous || !authenticates(&&sa) && self.found.len() > 1;
            return Ok(Opened { sa, sn, ambiguous });
        }
        Err(Failure::NotAuthentic { tries: self.tries_spent })
    }

    /// Finds the candidates of a truncated packet. It cannot be opened, because its ICV is missing.
    pub fn truncated(
        &mut self,
        table: &SaTable,
        packet: &Lookup<'_>,
        mut progress: impl FnMut(u32) -> Option<Progress>,
    ) -> Failure {
        table.candidates(packet, &mut self.found);
        self.found.retain(|sa| progress(*sa).is_some());
        if self.found.is_empty() { Failure::NoSa } else { Failure::Truncated }
    }

    /// Tries the likeliest sequence number of every SA that has an ICV.
    fn first_numbers(
        &mut self,
        table: &SaTable,
        packet: &Lookup<'_>,
        time_ns: i64,
        progress: &mut impl FnMut(u32) -> Option<Progress>,
    ) -> Option<(u32, u64)> {
        for sa in &self.found {
            let Some(entry) = table.entry(*sa).filter(|entry| entry.authenticates()) else { continue };
            let Some(body) = body(entry, packet.payload) else { continue };
            let progress = progress(*sa)?;
            let order = likely_numbers(entry, packet.payload, &progress, time_ns);
            let spi = spi(entry, packet.payload);
            self.tries_spent += 1;
            // Computing the number from the ICV is slow for the first time, because the GHASH key must be inverted.
            // Most streams start at the expected number, so it is tried first.
            if progress.highest.is_none()
                && recovers(entry)
                && let Some(sn) = order.clone().next()
                && entry.cipher().open(spi, sn, entry.esn(), body, &mut self.clear).is_ok()
            {
                return Some((*sa, sn));
            }
            let sn = match order.mask_number() {
                None if recovers(entry) => match entry.cipher().recover_aad(body, entry.esn(), &mut self.scratch) {
                    Some((found, sn)) if found == spi && agrees(entry, packet.payload, sn) => sn,
                    _ => continue,
                },
                Some(sn) => sn,
                None => match order.clone().next() {
                    Some(sn) => sn,
                    None => continue,
                },
            };
            if entry.cipher().open(spi, sn, entry.esn(), body, &mut self.clear).is_ok() {
                return Some((*sa, sn));
            }
        }
        None
    }

    /// Tries more sequence numbers: first the usual count for every SA, then with `wide` the wide search, and last
    /// the SAs without ICV, for which every packet verifies.
    fn further_numbers(
        &mut self,
        table: &SaTable,
        packet: &Lookup<'_>,
        time_ns: i64,
        wide: bool,
        progress: &mut impl FnMut(u32) -> Option<Progress>,
    ) -> Option<(u32, u64)> {
        let mut doubtful = None;
        self.further.clear();
        for step in [Step::Usual, Step::Wide, Step::Unauthenticated] {
            if step == Step::Wide && !(wide && self.limits.resync_tries.is_some()) {
                continue;
            }
            for at in 0..self.found.len() {
                let Some((sa, progress)) = self.found.get(at).and_then(|sa| Some((*sa, progress(*sa)?))) else {
                    continue;
                };
                let Some(entry) = table.entry(sa) else { continue };
                let before = self.tries_spent;
                let found = self.further_of(entry, step, packet, time_ns, &progress);
                self.further.push((sa, self.tries_spent.saturating_sub(before)));
                if let Some(sn) = found {
                    // Without an ICV, wrong padding is evidence against the key.
                    if step != Step::Unauthenticated || entry.codec.padding_is_right(&self.clear) {
                        return Some((sa, sn));
                    }
                    doubtful.get_or_insert((sa, progress));
                }
            }
        }
        let (sa, progress) = doubtful?;
        self.further_of(table.entry(sa)?, Step::Unauthenticated, packet, time_ns, &progress).map(|sn| (sa, sn))
    }

    /// Tries the sequence numbers of one SA that belong to `step`.
    fn further_of(
        &mut self,
        entry: &PreparedSa,
        step: Step,
        packet: &Lookup<'_>,
        time_ns: i64,
        progress: &Progress,
    ) -> Option<u64> {
        let authenticates = entry.authenticates();
        if authenticates == (step == Step::Unauthenticated) {
            return None;
        }
        let body = body(entry, packet.payload)?;
        let mut order = likely_numbers(entry, packet.payload, progress, time_ns);
        let spi = spi(entry, packet.payload);
        let esn = entry.esn();
        if !authenticates {
            return entry.cipher().open_search(spi, order.next(), esn, body, &mut self.clear).ok();
        }
        if recovers(entry) {
            // `first_numbers` only tried the number from the mask, and the mask may have been wrong.
            let recovered = (step == Step::Usual)
                .then(|| entry.cipher().recover_aad(body, esn, &mut self.scratch))
                .flatten()
                .filter(|(found, sn)| *found == spi && agrees(entry, packet.payload, *sn));
            return recovered
                .map(|(_, sn)| sn)
                .filter(|sn| entry.cipher().open(spi, *sn, esn, body, &mut self.clear).is_ok());
        }
        let usual = u64::from(self.limits.sn_tries);
        let (skipped, tries) = match step {
            Step::Wide => (usual, self.tries(progress, true).min(order.space())),
            _ => (1, usual),
        };
        let tries = tries.saturating_sub(skipped);
        if tries == 0 {
            return None;
        }
        if tries <= PARALLEL_FROM {
            let numbers = order.skip(skipped as usize).take(tries as usize).inspect(|_| self.tries_spent += 1);
            return entry.cipher().open_search(spi, numbers, esn, body, &mut self.clear).ok();
        }
        order.nth(skipped as usize - 1);
        self.tries_spent = self.tries_spent.saturating_add(tries);
        search_on_all_cores(entry, spi, order, tries, body, &mut self.clear, self.limits.notify).ok()
    }

    /// Number of sequence numbers that are tried for an SA.
    fn tries(&self, progress: &Progress, wide: bool) -> u64 {
        let usual = u64::from(self.limits.sn_tries);
        // After a wide search without result, the next one starts when twice as many packets have failed. The
        // packets may belong to no SA.
        let failed = progress.failed_in_row;
        let due = match progress.highest {
            None => failed == 0 || failed.is_power_of_two(),
            Some(_) => failed >= LOST_AFTER && failed.is_power_of_two(),
        };
        match self.limits.resync_tries {
            Some(resync) if wide && due => resync.max(usual),
            _ => usual,
        }
    }

    /// How a verified sequence number was found, and after how many attempts with its SA.
    pub fn method(
        &self,
        entry: &PreparedSa,
        payload: &[u8],
        time_ns: i64,
        sn: u64,
        progress: &Progress,
    ) -> (Method, u64) {
        if entry.has_whole_sn() {
            return (Method::Wire, 1);
        }
        let order = likely_numbers(entry, payload, progress, time_ns);
        let mask = order.mask_number();
        if mask == Some(sn) {
            return (Method::IvMask, 1);
        }
        let before = u64::from(mask.is_some()) + 1;
        if recovers(entry) {
            return (Method::Icv, before);
        }
        let timed = timed_period(entry, progress, time_ns).is_some() && progress.highest.is_some();
        match order.position(sn).saturating_add(before) {
            tries if tries > u64::from(self.limits.sn_tries) => (Method::Search, tries),
            tries if timed => (Method::Time, tries),
            tries => (Method::Nearest, tries),
        }
    }

    /// Whether a search that starts from `progress` makes this many attempts with an SA.
    pub fn reaches(&self, progress: &Progress, tries: u64) -> bool {
        tries <= self.tries(progress, true)
    }
}

/// Steps of [`Candidates::further_numbers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Usual,
    Wide,
    Unauthenticated,
}
