//! Sessions, for hosts that feed frames one by one and ask for them again.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use super::capture::{Capture, Frame};
use super::decoder::Decoder;
use super::files::{Keys, Rules};
use super::record::Records;
use crate::capture::OwnedFrame;
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::error::Error;

/// A [`Decoder`] that keeps the records of each frame, for programs like Wireshark that show frames in any order.
///
/// A frame that is fed again gets the records that it got the first time. It is not decoded again, so its packets count
/// once. The frames should be fed for the first time in the order of their numbers.
///
/// The records of the last frames are kept, in up to 512 MiB of memory: that is about 700 bytes and the restored packets of
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
        let outcomes = self.outcome.parts().map(|part| size_of::<Outcome<'_>>() + size_of_val(part.fragments()));
        TABLES + size_of::<Kept>() + outcomes.sum::<usize>() + self.arena.bytes.capacity()
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
