//! Sessions, for programs that supply frames one by one and may request the same frame again.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::capture::{Capture, Frame};
use super::decoder::Decoder;
use super::files::{Keys, Rules};
use super::record::Records;
use crate::capture::OwnedFrame;
use crate::decoder::arena::Arena;
use crate::decoder::outcome::{Outcome, OwnedDatagram};
use crate::error::Error;
use crate::net::OuterHeader;

/// A [`Decoder`] that keeps the records of each frame, for programs like Wireshark that show frames in any order.
///
/// A frame that is fed again gets the records that it got the first time. It is not decoded again, so its packets count
/// once. The frames should be fed for the first time in the order of their numbers.
///
/// The records of the last frames are kept, in up to 512 MiB of memory: that is about 600 bytes and the restored packets of
/// each frame. See [`Session::with_memory`].
///
/// ```
/// use dietesp::{Capture, Keys, Rules, Session};
///
/// let keys = Keys::load(["keys/gateway.yaml"])?;
/// let rules = Rules::load(["samples/gateway/rules.yaml"])?;
/// let mut capture = Capture::open("samples/gateway/diet-esp.pcapng")?;
/// let mut session = Session::new(&keys, &rules)?;
/// if let Some(frame) = capture.next_frame()? {
///     let once = session.feed(&frame).first().to_json();
///     assert_eq!(session.feed(&frame).first().to_json(), once);
/// }
/// # Ok::<(), dietesp::Error>(())
/// ```
pub struct Session {
    decoder: Decoder,
    kept: HashMap<u64, Box<Kept>>,
    /// The frames in `kept`, the oldest first.
    order: VecDeque<u64>,
    /// Number of bytes that `kept` uses.
    bytes: usize,
    most_bytes: usize,
}

/// The outcomes of a frame.
struct Kept {
    /// The frame without its bytes.
    frame: OwnedFrame,
    outcome: Outcome<'static>,
    arena: Arena,
}

impl Kept {
    /// Memory in bytes, including the tables.
    fn size(&self) -> usize {
        const TABLES: usize = 64;
        let others = size_of_val(self.outcome.others());
        let headers = self.outcome.parts().map(|part| match part.fragments() {
            [] => size_of::<OuterHeader>(),
            fragments => size_of::<OwnedDatagram>() + size_of_val(fragments),
        });
        TABLES + size_of::<Kept>() + others + headers.sum::<usize>() + self.arena.bytes.capacity()
    }
}

impl Session {
    /// A session without frames.
    ///
    /// # Errors
    /// As [`Decoder::new`].
    pub fn new(keys: &Keys, rules: &Rules) -> Result<Session, Error> {
        const MOST_BYTES: usize = 512 << 20;
        let decoder = Decoder::new(keys, rules)?;
        Ok(Session { decoder, kept: HashMap::new(), order: VecDeque::new(), bytes: 0, most_bytes: MOST_BYTES })
    }

    /// Sets the memory for records in bytes. A frame whose records were dropped is decoded again when it is fed
    /// again. Its packets may then be found in another way, for example after more tries.
    #[must_use]
    pub fn with_memory(self, bytes: usize) -> Session {
        Session { most_bytes: bytes, ..self }
    }

    /// Looks ahead in a capture; see [`Decoder::survey`].
    ///
    /// # Errors
    /// As [`Decoder::survey`].
    pub fn survey(&mut self, capture: &Capture) -> Result<(), Error> {
        self.decoder.survey(capture)
    }

    /// The records of a frame: one for each packet in it, and at least one. The first time it decodes the frame.
    pub fn feed<'a>(&'a mut self, frame: &Frame<'a>) -> Records<'a> {
        let number = frame.number();
        if !self.kept.contains_key(&number) {
            let kept = Box::new(self.decode(frame));
            self.make_room(kept.size());
            self.bytes += kept.size();
            self.order.push_back(number);
            self.kept.insert(number, kept);
        }
        let Session { decoder, kept, .. } = self;
        match kept.get(&number) {
            Some(kept) => Records::kept(kept.frame.as_frame(), &kept.outcome, decoder.sas(), &kept.arena),
            None => decoder.decode(frame),
        }
    }

    fn decode(&mut self, frame: &Frame<'_>) -> Kept {
        let records = self.decoder.decode(frame);
        let mut arena = Arena::default();
        let outcome = records.outcome().detached(records.arena(), &mut arena);
        arena.bytes.shrink_to_fit();
        Kept { frame: records.frame_without_bytes(), outcome, arena }
    }

    /// Drops the oldest records until `bytes` more fit. The records of the newest frame always stay.
    fn make_room(&mut self, bytes: usize) {
        while self.bytes.saturating_add(bytes) > self.most_bytes
            && let Some(oldest) = self.order.pop_front()
        {
            if let Some(dropped) = self.kept.remove(&oldest) {
                self.bytes = self.bytes.saturating_sub(dropped.size());
            }
        }
    }

    /// As [`Decoder::warnings`].
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        self.decoder.warnings()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("frames", &self.kept.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

    use super::*;

    const LINKTYPE_RAW: u16 = 101;
    /// Documented for each frame, in bytes, in addition to its restored packets.
    const DOCUMENTED: usize = 600;

    /// An ESP packet in IPv6 that is not encrypted: a UDP datagram in an IPv4 packet of `len` bytes.
    fn packet(sn: u32, len: u16) -> Vec<u8> {
        const UDP: u8 = 17;
        const IPV4: u8 = 4;
        const ESP: u8 = 50;
        let mut inner = vec![0; usize::from(len)];
        inner[..2].copy_from_slice(&[0x45, 0]);
        inner[2..4].copy_from_slice(&len.to_be_bytes());
        inner[8..10].copy_from_slice(&[64, UDP]);
        inner[20..26].copy_from_slice(&[0, 7, 0, 9, 0, len as u8 - 20]);
        let trailer: &[u8] = &[1, 2, 2, IPV4];
        let esp = [&7u32.to_be_bytes()[..], &sn.to_be_bytes(), &inner, trailer].concat();
        let head = [0x60, 0, 0, 0, 0, esp.len() as u8, ESP, 64];
        [&head[..], &[0x20; 16], &[0x21; 16], &esp].concat()
    }

    fn session(memory: usize) -> Session {
        let keys = Keys::parse("keys.yaml", b"sas: [{ spi: 7, encr: ENCR_NULL, integ: NONE }]").unwrap();
        Session::new(&keys, &Rules::default()).unwrap().with_memory(memory)
    }

    /// Feeds a frame; gives the sequence number and the packet in its only record.
    fn feed(session: &mut Session, number: u64, bytes: &[u8]) -> (u64, Vec<u8>) {
        let records = session.feed(&Frame::new(number, LINKTYPE_RAW, bytes));
        assert_eq!(records.iter().count(), 1);
        let record = records.first();
        (record.sequence().unwrap(), record.packet().unwrap().to_vec())
    }

    #[test]
    fn the_oldest_records_are_dropped_when_the_memory_is_full() {
        const LEN: u16 = 98;
        const MEMORY: usize = 200_000;
        const LAST: u64 = 3_000;
        let mut session = session(MEMORY);
        let mut most = 0;
        for number in 1..=LAST {
            let bytes = packet(number as u32, LEN);
            let (sn, inner) = feed(&mut session, number, &bytes);
            assert_eq!((sn, inner.len()), (number, usize::from(LEN)));
            most = most.max(session.bytes);
            assert!(session.bytes <= MEMORY, "{} bytes after frame {number}", session.bytes);
        }
        let kept = session.kept.len();
        let documented = MEMORY / (DOCUMENTED + usize::from(LEN));
        assert!((documented * 9 / 10..documented * 11 / 10).contains(&kept), "{kept} frames, not {documented}");
        assert_eq!(session.bytes, session.kept.values().map(|kept| kept.size()).sum::<usize>());
        assert!(most > MEMORY - 2 * (DOCUMENTED + usize::from(LEN)), "only {most} bytes are used");
        let first = LAST + 1 - kept as u64;
        assert!(session.order.iter().copied().eq(first..=LAST), "{:?}", session.order);
        assert!(session.order.iter().all(|number| session.kept.contains_key(number)));
    }

    #[test]
    fn a_frame_whose_records_were_dropped_is_decoded_again() {
        let mut session = session(20_000);
        let first = feed(&mut session, 1, &packet(1, 40));
        // While its records are kept, the bytes of a frame that is fed again do not matter.
        assert_eq!(feed(&mut session, 1, &packet(2, 60)), first);
        for number in 2..=100 {
            feed(&mut session, number, &packet(number as u32, 40));
        }
        assert!(!session.kept.contains_key(&1) && session.kept.contains_key(&100));
        assert_eq!(feed(&mut session, 1, &packet(1, 40)), first);
        // It is the newest frame now, and 100 frames later it is dropped again.
        assert_eq!(session.order.back(), Some(&1));
        assert_eq!(feed(&mut session, 1, &[]), first);
        for number in 101..=200 {
            feed(&mut session, number, &packet(number as u32, 40));
        }
        assert!(!session.kept.contains_key(&1));
        assert!(session.bytes <= 20_000);
    }

    #[test]
    fn the_records_of_the_newest_frame_stay_without_memory() {
        let mut session = session(0);
        for number in 1..=3 {
            let first = feed(&mut session, number, &packet(number as u32, 40));
            assert_eq!(feed(&mut session, number, &[]), first);
            assert_eq!(session.kept.len(), 1);
        }
    }
}
