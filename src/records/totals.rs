//! Counts over a run, and the summary printed at its end.

use std::fmt::Write;

use crate::decoder::hints::Hint;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::{Bytes, Reason, Status};
use crate::decoder::warnings::Warnings;
use crate::link;

/// Counts over a run.
#[derive(Debug, Default, Clone)]
pub struct Totals {
    /// Frames captured.
    pub frames: u64,
    /// Packets in these frames, and frames without a packet.
    pub packets: u64,
    statuses: [u64; Status::ALL.len()],
    /// Bytes of all `ok` packets.
    pub bytes: Bytes,
    /// Packets with the warning `duplicate`.
    pub duplicates: u64,
    /// Packets with the warning `replayed`.
    pub replayed: u64,
    /// Packets with the warning `unauthenticated`.
    pub unauthenticated: u64,
    /// Number of frames whose link type is not supported, and the first such link type.
    pub other_link: (u64, Option<u16>),
    /// Number of packets on a UDP port that is not known as one of ESP and that start with the SPI of an SA, and the first
    /// such port.
    pub esp_port: (u64, Option<u16>),
    /// Packets that failed although an SA is known for them. They make the exit status 1.
    pub failed: u64,
    /// Packets by [`Hint`].
    hints: [u64; Hint::ALL.len()],
    /// Packets that matched the selection; `None` without one.
    pub shown: Option<u64>,
    /// Packets whose outer addresses do not meet `--src` and `--dst`, but whose inner addresses do.
    pub inner_matches: u64,
}

impl Totals {
    /// Counts one packet of a frame.
    #[inline]
    pub fn count(&mut self, outcome: &Outcome<'_>) {
        self.frames += u64::from(outcome.part <= 1);
        self.packets += 1;
        if let Some(count) = self.statuses.get_mut(outcome.status as usize) {
            *count += 1;
        }
        if let Some(bytes) = outcome.bytes {
            // A nested packet is part of the packet around it, so its bytes and savings are already counted.
            let counted = if outcome.inside == 0 { 0 } else { bytes.diet };
            self.bytes.diet += bytes.diet - counted;
            self.bytes.esp = (self.bytes.esp + bytes.esp).saturating_sub(counted);
        }
        if outcome.warnings != Warnings::NONE {
            self.duplicates += u64::from(outcome.warnings.has(Warnings::DUPLICATE));
            self.replayed += u64::from(outcome.warnings.has(Warnings::REPLAYED));
            self.unauthenticated += u64::from(outcome.warnings.has(Warnings::UNAUTHENTICATED));
        }
        self.failed += u64::from(outcome.status != Status::Ok && outcome.of_known_sa);
        if let Some(reason) = outcome.reason {
            self.count_reason(reason);
        }
    }

    fn count_reason(&mut self, reason: Reason) {
        if let Reason::LinkType(link_type) = reason {
            self.other_link.0 += 1;
            self.other_link.1.get_or_insert(link_type);
        }
        if let Reason::EspPort(port) = reason {
            self.esp_port.0 += 1;
            self.esp_port.1.get_or_insert(port);
        }
        if let Some(count) = reason.hint().and_then(|hint| self.hints.get_mut(hint as usize)) {
            *count += 1;
        }
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Totals) {
        self.frames += other.frames;
        self.packets += other.packets;
        self.statuses.iter_mut().zip(other.statuses).for_each(|(own, other)| *own += other);
        self.hints.iter_mut().zip(other.hints).for_each(|(own, other)| *own += other);
        self.bytes.diet += other.bytes.diet;
        self.bytes.esp += other.bytes.esp;
        self.duplicates += other.duplicates;
        self.replayed += other.replayed;
        self.unauthenticated += other.unauthenticated;
        self.failed += other.failed;
        self.inner_matches += other.inner_matches;
        self.other_link.0 += other.other_link.0;
        self.other_link.1 = self.other_link.1.or(other.other_link.1);
        self.esp_port.0 += other.esp_port.0;
        self.esp_port.1 = self.esp_port.1.or(other.esp_port.1);
        self.shown = self.shown.or(other.shown.map(|_| 0)).map(|own| own + other.shown.unwrap_or(0));
    }

    /// Packets with this status.
    pub fn of(&self, status: Status) -> u64 {
        self.statuses.get(status as usize).copied().unwrap_or(0)
    }

    /// Packets that were decoded.
    pub fn decoded(&self) -> u64 {
        self.of(Status::Ok)
    }

    /// Packets by status, and the bytes saved.
    pub fn counts_and_sizes(&self) -> String {
        self.counts() + &self.sizes()
    }

    /// Packets by status, in one line.
    pub fn counts(&self) -> String {
        let mut text = format!("{} frame{}", self.frames, if self.frames == 1 { "" } else { "s" });
        if self.packets != self.frames {
            // Writing into a string cannot fail.
            let _ = write!(text, ", {} packets", self.packets);
        }
        let mut separator = ": ";
        for status in Status::ALL.into_iter().filter(|status| self.of(*status) > 0) {
            // Writing into a string cannot fail.
            let _ = write!(text, "{separator}{} {}", self.of(status), status.name());
            separator = ", ";
        }
        if let Some(shown) = self.shown {
            let _ = write!(text, "; {shown} of them shown");
        }
        text.push('\n');
        text
    }

    fn sizes(&self) -> String {
        let mut text = String::new();
        if self.of(Status::Ok) > 0 {
            let Bytes { diet, esp } = self.bytes;
            let saved = self.bytes.saved();
            let share = if esp == 0 { 0.0 } else { saved as f64 * 100.0 / esp as f64 };
            let _ = writeln!(text, "{diet} bytes on the wire, {esp} as standard ESP, {saved} saved ({share:.1} %)");
        }
        text
    }

    /// Likely causes of failures, and how many packets each explains.
    pub fn hints(&self) -> impl Iterator<Item = (Hint, u64)> {
        Hint::ALL.into_iter().zip(self.hints).filter(|(_, count)| *count > 0)
    }

    /// Remarks about unusual packets; empty if there are none.
    pub fn remarks(&self) -> String {
        let mut text = String::new();
        for (count, one, many, what) in [
            (self.duplicates, "repeats", "repeat", "an earlier packet (duplicate)"),
            (self.replayed, "carries", "carry", "an earlier Sequence Number with another payload (replayed)"),
            (self.unauthenticated, "belongs", "belong", "to an SA without integrity check (unauthenticated)"),
        ] {
            match count {
                0 => {}
                1 => text += &format!("1 packet {one} {what}\n"),
                _ => text += &format!("{count} packets {many} {what}\n"),
            }
        }
        if let (count, Some(link_type)) = self.other_link {
            let name = link::link_type_name(link_type).map_or(String::new(), |name| format!(" ({name})"));
            let frames = if count == 1 { "frame has" } else { "frames have" };
            let _ = writeln!(text, "{count} {frames} a link type that is not supported, such as {link_type}{name}");
        }
        text
    }
}
