//! The results for the packets of a frame.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use super::capture::system_time;
use crate::capture::{Frame, Options, OwnedFrame};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::{Reason, Status};
use crate::error::Fault;
use crate::records::{json, record};
use crate::sa::table::SaTable;

/// The records of one frame: one for each packet in it, and at least one.
///
/// The first record is that of the packet in the frame itself. Packets that were nested in it, or next to it,
/// follow: [`Record::part`] numbers them, and [`Record::inside`] says which packet a packet was inside of.
pub struct Records<'a> {
    frame: Frame<'a>,
    first: First<'a>,
    sas: &'a SaTable,
    arena: &'a Arena,
}

/// The outcome of the first packet, which holds the others.
enum First<'a> {
    Decoded(Box<Outcome<'a>>),
    Kept(&'a Outcome<'a>),
}

impl<'a> Records<'a> {
    pub(super) fn decoded(frame: Frame<'a>, first: Outcome<'a>, sas: &'a SaTable, arena: &'a Arena) -> Records<'a> {
        Records { frame, first: First::Decoded(Box::new(first)), sas, arena }
    }

    pub(super) fn kept(frame: Frame<'a>, first: &'a Outcome<'a>, sas: &'a SaTable, arena: &'a Arena) -> Records<'a> {
        Records { frame, first: First::Kept(first), sas, arena }
    }

    pub(super) fn arena(&self) -> &'a Arena {
        self.arena
    }

    /// The frame without its bytes and options.
    pub(super) fn frame_without_bytes(&self) -> OwnedFrame {
        OwnedFrame::from(&Frame { data: &[], options: Options::default(), ..self.frame })
    }

    pub(super) fn outcome(&self) -> &Outcome<'a> {
        match &self.first {
            First::Decoded(first) => first,
            First::Kept(first) => first,
        }
    }

    /// The records, in the order in which the packets were found.
    pub fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        self.outcome().parts().map(|part| Record(record::Record::new(&self.frame, part, self.sas, self.arena)))
    }

    /// The record of the packet in the frame itself.
    pub fn first(&self) -> Record<'_> {
        Record(record::Record::new(&self.frame, self.outcome(), self.sas, self.arena))
    }
}

impl<'r> IntoIterator for &'r Records<'_> {
    type Item = Record<'r>;
    type IntoIter = Box<dyn Iterator<Item = Record<'r>> + 'r>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.iter())
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The result for one packet.
///
/// ```
/// use dietesp::{Decoder, Frame, Keys, Rules, Status};
///
/// let keys = Keys::parse("keys.yaml", b"sas: [{ spi: 7, encr: ENCR_NULL, integ: NONE }]")?;
/// let mut decoder = Decoder::new(&keys, &Rules::default())?;
/// const LINKTYPE_RAW: u16 = 101;
/// let records = decoder.decode(&Frame::new(1, LINKTYPE_RAW, &[0x60, 0, 0]));
/// let record = records.first();
/// assert_eq!(record.status(), Status::Malformed);
/// assert_eq!(record.reason().as_deref(), Some("link at byte 0: IPv6 header needs 40 bytes, 3 left"));
/// assert_eq!(record.fault().map(|fault| fault.offset), Some(0));
/// # Ok::<(), dietesp::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct Record<'a>(record::Record<'a>);

impl<'a> Record<'a> {
    /// The number of the frame, from 1.
    pub fn frame(&self) -> u64 {
        self.0.frame()
    }

    /// The number of the packet among those of its frame, from 1; `None` if it is the only one.
    pub fn part(&self) -> Option<u16> {
        self.0.part()
    }

    /// The [`Record::part`] that the packet was inside of, if it was nested in another ESP packet.
    pub fn inside(&self) -> Option<u16> {
        self.0.inside()
    }

    /// The time of capture.
    pub fn time(&self) -> Option<SystemTime> {
        self.0.time().and_then(system_time)
    }

    /// The status of the packet.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Why the packet is not [`Status::Ok`], as one sentence.
    pub fn reason(&self) -> Option<String> {
        self.0.reason().map(|reason| reason.to_string())
    }

    /// The place at which the packet or the frame is damaged or uses an unsupported feature, and what is wrong
    /// there. [`Record::reason`] says the same in words.
    pub fn fault(&self) -> Option<Fault> {
        match self.0.reason()? {
            Reason::Fault(fault) => Some(fault),
            _ => None,
        }
    }

    /// The name of the SA: the one that verified, or the only one that may have sent the packet. It is the name of the key
    /// file, or the SPI.
    pub fn sa(&self) -> Option<&'a str> {
        self.0.sa()
    }

    /// The Security Parameters Index (SPI) of the packet as standard ESP. Of a packet that did not verify, it is that of the
    /// only SA that may have sent it.
    pub fn spi(&self) -> Option<u32> {
        self.0.spi()
    }

    /// The sequence number, restored to 32 bits, or to 64 bits with extended sequence numbers (RFC 4303 §2.2.1). Only packets
    /// that verified have one.
    pub fn sequence(&self) -> Option<u64> {
        self.0.esp().map(|esp| esp.sequence)
    }

    /// Whether the Integrity Check Value (ICV) verified. It is false for an SA without integrity check.
    pub fn is_verified(&self) -> bool {
        self.0.esp().is_some_and(|esp| esp.verified)
    }

    /// The restored packet: the inner IP packet in tunnel mode, the IP packet without ESP in transport mode. Only packets
    /// that are [`Status::Ok`] have one, and dummy packets (RFC 4303 §2.6) do not.
    pub fn packet(&self) -> Option<&'a [u8]> {
        self.0.packet()
    }

    /// Length of the ESP packet on the wire in bytes, from its first byte to the end of the ICV; [`Status::Ok`]
    /// only.
    pub fn wire_bytes(&self) -> Option<u64> {
        self.0.bytes().map(|bytes| bytes.diet)
    }

    /// Length of the same packet in bytes as standard ESP with the same cipher; [`Status::Ok`] only.
    pub fn esp_bytes(&self) -> Option<u64> {
        self.0.bytes().map(|bytes| bytes.esp)
    }

    /// The source address of the outer IP header.
    pub fn source(&self) -> Option<IpAddr> {
        self.0.outer().map(|outer| outer.src)
    }

    /// The destination address of the outer IP header.
    pub fn destination(&self) -> Option<IpAddr> {
        self.0.outer().map(|outer| outer.dst)
    }

    /// The numbers of all frames with a fragment of the packet; empty if it was not fragmented.
    pub fn fragments(&self) -> &'a [u64] {
        self.0.fragments()
    }

    /// The number of the frame whose packet was captured again in this frame.
    pub fn repeat_of(&self) -> Option<u64> {
        self.0.repeat_of()
    }

    /// The names of the warnings about the packet, for example `duplicate` or `unauthenticated`.
    pub fn warnings(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.0.warnings().names()
    }

    /// The record as one JSON object: the line that `dietesp decode --format jsonl` prints, without the newline.
    pub fn to_json(&self) -> String {
        let mut line = vec![];
        json::write_line(&self.0, &mut line);
        line.pop();
        String::from_utf8_lossy(&line).into_owned()
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_json())
    }
}
