//! The sequence numbers that a packet may have under an SA (wire format §6), from the progress of its stream.

use super::esp_packet::{body, explicit_iv, spi};
use crate::capture::NO_TIME;
use crate::cipher::OpenRequest;
use crate::sa::sequence::SequenceNumbers;
use crate::sa::stream::Progress;
use crate::sa::table::PreparedSa;

/// The sequence numbers that a packet may have under an SA, most likely first.
pub(super) fn likely_numbers(entry: &PreparedSa, payload: &[u8], progress: &Progress, time_ns: i64) -> SequenceNumbers {
    // Without an ICV, the last number is a guess, and so is the mask computed from it.
    let mask = progress.iv_mask.filter(|_| entry.authenticates());
    let mask = mask.zip(explicit_iv(entry, payload)).map(|(mask, iv)| mask ^ iv);
    let (wire, bits) = (entry.sn_on_wire(payload), entry.codec.sn_bits());
    let order = SequenceNumbers::new(expected(entry, progress, time_ns), wire, bits, entry.esn(), mask);
    match entry.sa.sn_hint {
        Some(hint) if progress.highest.is_none() && entry.authenticates() => {
            // The hint in a key file is from a different time than the start of the capture.
            order.or_around(if start(entry).is_some() { hint } else { 1 }, wire, bits)
        }
        _ => order,
    }
}

/// The first sequence number, if the rule file defines it.
fn start(entry: &PreparedSa) -> Option<u64> {
    entry.context.as_ref().and_then(|context| context.esp_sn)
}

/// The time from one number to the next, if both this packet and the last one have a time stamp.
pub(super) fn timed_period(entry: &PreparedSa, progress: &Progress, time_ns: i64) -> Option<u64> {
    entry.sn_period().filter(|_| time_ns != NO_TIME && progress.time_ns != NO_TIME)
}

/// The likeliest sequence number of the next packet of a stream.
pub(crate) fn expected(entry: &PreparedSa, progress: &Progress, time_ns: i64) -> u64 {
    match (progress.highest, timed_period(entry, progress, time_ns)) {
        (None, _) => start(entry).or(entry.sa.sn_hint).unwrap_or(1),
        (Some(highest), None) => highest.saturating_add(1),
        (Some(highest), Some(period_ns)) => {
            let periods = time_ns.saturating_sub(progress.time_ns).max(0) as u64 / period_ns.max(1);
            highest.saturating_add(periods)
        }
    }
}

/// Fills `sealed` with the first try for a packet under an SA with ICV. Returns false if the sequence number is
/// computed from the ICV, or if the packet is too short.
// Not returned as `Option`: copying an `Option` right after its fields were written stalls the CPU.
#[inline]
pub(crate) fn first_sealed<'a>(
    entry: &PreparedSa,
    payload: &'a [u8],
    progress: &Progress,
    time_ns: i64,
    sealed: &mut OpenRequest<'a>,
) -> bool {
    let Some(body) = body(entry, payload) else { return false };
    sealed.sn = if entry.has_whole_sn() {
        u64::from(entry.sn_on_wire(payload))
    } else {
        let mut order = likely_numbers(entry, payload, progress, time_ns);
        if order.mask_number().is_none() && recovers(entry) {
            return false;
        }
        let Some(sn) = order.next() else { return false };
        sn
    };
    sealed.spi = spi(entry, payload);
    sealed.body = body;
    true
}

/// Whether SPI and sequence number can be computed from the ICV, and are not sent in full.
pub(super) fn recovers(entry: &PreparedSa) -> bool {
    !entry.has_whole_sn() && entry.cipher().recovers()
}

/// Whether `sn` has the sequence number bits of the packet.
pub(super) fn agrees(entry: &PreparedSa, payload: &[u8], sn: u64) -> bool {
    let bits = entry.codec.sn_bits().min(32);
    (sn ^ u64::from(entry.sn_on_wire(payload))) & ((1u64 << bits) - 1) == 0
}
