//! Decodes frames in the order of their capture.

use std::fmt;

use super::capture::{Capture, Frame, Interfaces};
use super::files::{self, Keys, Rules};
use super::record::Records;
use crate::capture::Window;
use crate::decoder::arena::Arena;
use crate::decoder::candidates::Limits;
use crate::decoder::sas::{self, IkeFollower};
use crate::decoder::{self};
use crate::error::Error;
use crate::link;

/// Decodes the frames of one capture, in the order in which they were captured.
///
/// The order matters, because sequence numbers, fragments and repeats depend on earlier frames. Memory use does not
/// grow with the number of frames: the decoder keeps the last 4096 packets of each SA, and fragments only as long
/// as a receiver would.
///
/// ```
/// use dietesp::{Capture, Decoder, Keys, Rules, Status};
///
/// let keys = Keys::load(["keys/gateway.yaml"])?;
/// let rules = Rules::load(["samples/gateway/rules.yaml"])?;
/// let mut capture = Capture::open("samples/gateway/diet-esp.pcapng")?;
/// let mut decoder = Decoder::new(&keys, &rules)?;
/// let mut restored = 0;
/// while let Some(frame) = capture.next_frame()? {
///     for record in &decoder.decode(&frame) {
///         restored += usize::from(record.status() == Status::Ok);
///     }
/// }
/// assert!(restored > 0);
/// # Ok::<(), dietesp::Error>(())
/// ```
pub struct Decoder {
    decoder: decoder::Decoder,
    interfaces: Interfaces,
    arena: Arena,
    warnings: Vec<String>,
    /// The capture was surveyed, so its frames need not be.
    surveyed: bool,
}

impl Decoder {
    /// A decoder for the SAs of `keys`. It compresses and restores headers as `rules` say.
    ///
    /// # Errors
    /// [`Error::File`] if a rule names an SA that `keys` do not have, or if a rule and an SA do not fit together.
    pub fn new(keys: &Keys, rules: &Rules) -> Result<Decoder, Error> {
        let loaded = files::load(keys, rules)?;
        let link = link::Settings {
            contexts: loaded.lowpan_contexts,
            link_keys: loaded.link_keys,
            ..link::Settings::default()
        };
        let new = |table| decoder::Decoder::new(&table, Limits::default(), &link);
        let decoder = if loaded.ike.is_empty() {
            new(sas::prepare(loaded.sas, loaded.contexts)?)
        } else {
            let (table, follower) = IkeFollower::new(&loaded.ike, loaded.sas, loaded.contexts)?;
            let mut decoder = new(table);
            decoder.follow_ike(follower);
            decoder
        };
        let (interfaces, arena) = (Interfaces::default(), Arena::default());
        Ok(Decoder { decoder, interfaces, arena, warnings: loaded.warnings, surveyed: false })
    }

    /// Reads a capture to its end before its frames are decoded. It collects IKE exchanges, and finds out which
    /// trailer follows IEEE 802.15.4 frames. Without it, the decoder learns both from the frames that it decodes.
    ///
    /// Reads nothing if the capture is not a file.
    ///
    /// # Errors
    /// As [`Capture::open`].
    pub fn survey(&mut self, capture: &Capture) -> Result<(), Error> {
        let Some(mut reader) = capture.again()? else { return Ok(()) };
        let mut window = Window::default();
        while reader.fill(&mut window)? {
            self.decoder.survey(window.frames());
            self.decoder.survey_ike(window.frames());
        }
        self.surveyed = true;
        Ok(())
    }

    /// Decodes a frame: a record for each packet in it, and at least one.
    pub fn decode<'a>(&'a mut self, frame: &Frame<'a>) -> Records<'a> {
        let Decoder { decoder, interfaces, arena, .. } = self;
        arena.clear();
        let frame = interfaces.frame(frame);
        if !self.surveyed {
            decoder.survey(std::iter::once(frame));
        }
        let outcome = decoder.decode(&frame, arena);
        Records::decoded(frame, outcome, decoder.sas(), arena)
    }

    /// Warnings about key and rule files, and about child SAs that could not be derived from IKE exchanges: one sentence each.
    pub fn warnings(&self) -> impl Iterator<Item = &str> {
        let of_ike = self.decoder.ike().map_or(&[][..], IkeFollower::warnings);
        self.warnings.iter().chain(of_ike).map(String::as_str)
    }

    pub(super) fn sas(&self) -> &crate::sa::table::SaTable {
        self.decoder.sas()
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("sas", &self.decoder.sas().entries().len()).finish_non_exhaustive()
    }
}
