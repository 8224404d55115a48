//! Counts of a run of `compress`.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use crate::decoder::status::Bytes;
use crate::records::totals::Totals;

/// The result of [`run`](super::run).
#[derive(Debug, Default)]
pub struct Compressed {
    /// Counts of the input.
    pub totals: Totals,
    /// Frames written.
    pub written: u64,
    /// Packets compressed.
    pub compressed: u64,
    /// Packets written as standard ESP.
    pub standard: u64,
    /// Frames written as they were captured.
    pub unchanged: u64,
    /// Bytes of the compressed packets on the wire, and as standard ESP of the same cipher.
    pub bytes: Bytes,
    /// Packets that did not match, by field.
    pub mismatches: BTreeMap<&'static str, u64>,
    /// The first packet that did not match: its frame and the reason.
    pub first_mismatch: Option<(u64, String)>,
    /// Packets that are too long for a frame once they are encrypted. They are omitted.
    pub unwritable: u64,
    /// The first of these: its frame and the reason.
    pub first_unwritable: Option<(u64, String)>,
    /// Frames of plain input that are malformed, truncated, or of a link type that is not supported.
    pub unreadable: u64,
    /// Frames of plain input without an IP packet.
    pub not_ip: u64,
    /// The first frame that is unreadable or has no IP packet, and why.
    pub first_without_packet: Option<(u64, String)>,
    /// Packets in a capture of ESP that were protected only by the encryption of their radio frames. They are
    /// omitted.
    pub decrypted: u64,
    /// Radio frames without a packet: acknowledgments, fragments before the last, repeats.
    pub radio: u64,
    /// Packets that could not be encrypted without using a nonce twice.
    pub refused: u64,
    /// Nonces that the output of another run may use, too.
    pub nonces: Nonces,
}

/// How the nonces of an output were chosen.
#[derive(Debug, Default)]
pub struct Nonces {
    /// Plain packets were encrypted with nonces made from their new sequence numbers.
    pub numbers_of_plain: bool,
    /// Packets were encrypted with random IVs, or IVs that count from a random start.
    pub random: bool,
}

/// Adds the counts of the next window.
impl AddAssign for Compressed {
    fn add_assign(&mut self, window: Compressed) {
        self.totals.add(&window.totals);
        self.compressed += window.compressed;
        self.standard += window.standard;
        self.bytes.diet += window.bytes.diet;
        self.bytes.esp += window.bytes.esp;
        self.refused += window.refused;
        self.nonces.numbers_of_plain |= window.nonces.numbers_of_plain;
        self.nonces.random |= window.nonces.random;
        for (field, count) in window.mismatches {
            *self.mismatches.entry(field).or_default() += count;
        }
        self.unwritable += window.unwritable;
        self.unreadable += window.unreadable;
        self.not_ip += window.not_ip;
        self.decrypted += window.decrypted;
        self.radio += window.radio;
        note_first(&mut self.first_mismatch, window.first_mismatch);
        note_first(&mut self.first_unwritable, window.first_unwritable);
        note_first(&mut self.first_without_packet, window.first_without_packet);
    }
}

/// Keeps the value with the lower frame number.
fn note_first(first: &mut Option<(u64, String)>, other: Option<(u64, String)>) {
    let Some(other) = other else { return };
    if first.as_ref().is_none_or(|first| other.0 < first.0) {
        *first = Some(other);
    }
}
