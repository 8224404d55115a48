//! The record of one packet of a frame.

use crate::capture::{Frame, Timestamp};
use crate::codec::{Provenance, Restorable, Source};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::{Bytes, Esp, Reason, Status};
use crate::decoder::warnings::Warnings;
use crate::net::{OuterHeader, UpperLayer, protocol, transport_header_len};
use crate::records::inner::Inner;
use crate::sa::table::{PreparedSa, SaTable};

/// What is reported about one packet of a frame. Each value is read from its source only when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    frame: &'a Frame<'a>,
    outcome: &'a Outcome<'a>,
    entry: Option<&'a PreparedSa>,
    packet: &'a [u8],
    table: &'a SaTable,
}

impl<'a> Record<'a> {
    /// The record of a packet of `frame`. `table` and `arena` belong to the decoder that made the outcome.
    #[inline]
    pub fn new(frame: &'a Frame<'a>, outcome: &'a Outcome<'a>, table: &'a SaTable, arena: &'a Arena) -> Record<'a> {
        let entry = outcome.sa.and_then(|sa| table.entry(sa));
        Record { frame, outcome, entry, packet: outcome.packet(arena), table }
    }

    /// Frame number, from 1.
    pub fn frame(&self) -> u64 {
        self.frame.number
    }

    /// The number of the packet within its frame, from 1; `None` if the frame has only one.
    pub fn part(&self) -> Option<u16> {
        Some(self.outcome.part).filter(|part| *part > 0)
    }

    /// The part of the frame that contained the packet.
    pub fn inside(&self) -> Option<u16> {
        Some(self.outcome.inside).filter(|part| *part > 0)
    }

    /// Capture time, if the capture has one.
    pub fn time(&self) -> Option<Timestamp> {
        self.frame.time
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.outcome.status
    }

    /// Whether it is a packet of a known SA that could not be decoded.
    pub fn is_failed(&self) -> bool {
        self.status() != Status::Ok && self.outcome.of_known_sa
    }

    /// Why the status is not `ok`.
    pub fn reason(&self) -> Option<Reason> {
        self.outcome.reason
    }

    /// Name of the SA that verified the packet, or of its only candidate.
    pub fn sa(&self) -> Option<&'a str> {
        self.entry.map(|entry| entry.sa.name.as_str())
    }

    /// Number of that SA in the table of SAs.
    pub(crate) fn sa_index(&self) -> Option<u32> {
        self.outcome.sa
    }

    /// The frame numbers of all fragments of a reassembled packet.
    pub fn fragments(&self) -> &'a [u64] {
        self.outcome.fragments()
    }

    /// The frame that this one repeats.
    pub fn repeat_of(&self) -> Option<u64> {
        self.outcome.repeat_of
    }

    /// The outer IP header, if the frame has one.
    #[inline]
    pub fn outer(&self) -> Option<OuterHeader> {
        self.outcome.outer()
    }

    /// The restored ESP header, if the packet verified: its status is `ok`, `malformed` or `unsupported`.
    pub fn esp(&self) -> Option<&'a Esp> {
        self.outcome.esp.as_ref()
    }

    /// The restored SPI. For a packet that did not verify: the SPI of its only candidate SA.
    pub fn spi(&self) -> Option<u32> {
        self.esp().map(|esp| esp.spi).or_else(|| self.entry?.spi())
    }

    /// Summary of [`Record::packet`], if the status is `ok`.
    #[inline]
    pub fn inner(&self) -> Option<Inner> {
        Inner::of(self.packet()?, self.outcome.restored.as_ref()?)
    }

    /// The upper layer of [`Record::packet`], if the status is `ok`.
    pub fn upper(&self) -> Option<UpperLayer> {
        self.packet().and(self.outcome.restored.as_ref()?.upper)
    }

    /// The restored packet, if the status is `ok`.
    pub fn packet(&self) -> Option<&'a [u8]> {
        (self.status() == Status::Ok && !self.packet.is_empty()).then_some(self.packet)
    }

    /// The bytes of [`Record::packet`] after the transport header, or after the IP header if there is none.
    pub(crate) fn payload(&self) -> Option<&'a [u8]> {
        let upper = self.upper()?;
        let segment = self.packet()?.get(upper.offset..)?;
        // A fragment after the first one has no transport header, and no ports.
        let header_len = match upper.ports {
            Some(_) => transport_len(upper.protocol, segment)?,
            None => 0,
        };
        segment.get(header_len..)
    }

    /// The ESP payload as captured, of any packet that carries one.
    pub(crate) fn wire(&self) -> Option<&'a [u8]> {
        self.outcome.payload(self.table).map(|payload| payload.bytes)
    }

    /// Fields of the packet that were not sent but taken from another source, if the status is `ok`.
    pub fn restored(&self) -> Option<Provenance> {
        self.outcome.restored.as_ref().filter(|_| self.status() == Status::Ok).map(|restored| restored.sources)
    }

    /// Where a restored field came from, if the status is `ok`.
    #[inline]
    pub(crate) fn source(&self, field: Restorable) -> Option<Source> {
        // The status is checked last, because most fields have no source.
        let source = self.outcome.restored.as_ref()?.sources.of(field)?;
        (self.status() == Status::Ok).then_some(source)
    }

    /// Bytes on the wire compared with standard ESP, if the status is `ok`.
    pub fn bytes(&self) -> Option<Bytes> {
        self.outcome.bytes
    }

    /// Warnings.
    pub fn warnings(&self) -> Warnings {
        self.outcome.warnings
    }
}

/// Length in bytes of the transport header at the start of `segment`.
fn transport_len(protocol: u8, segment: &[u8]) -> Option<usize> {
    let shortest = transport_header_len(protocol);
    match protocol {
        // Data Offset counts words of 4 bytes (RFC 9293 §3.1).
        protocol::TCP => Some((usize::from(segment.get(12)? >> 4) * 4).max(shortest)),
        _ => Some(shortest),
    }
}
