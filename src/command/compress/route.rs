//! Chooses which packets are compressed. This does not depend on earlier packets.

use super::{Compress, Input};
use crate::capture::Frame;
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Status;
use crate::encoder::{ClearTexts, RuleMatch};
use crate::records::record::Record;

/// What kind of packet it is, and the context that matches it, if this context does not depend on earlier packets.
#[derive(Debug)]
pub(super) enum Route {
    /// It is not selected, and is omitted.
    Omitted,
    /// A fragment whose packet is not complete yet.
    Fragment,
    /// A radio frame without a new packet.
    NoPacket,
    /// An ESP packet that was decrypted.
    Esp(Option<RuleMatch>),
    /// A packet of plain input.
    Plain(Option<RuleMatch>),
    /// It was protected only by the encryption of its radio frame, which the output does not have.
    LinkEncrypted,
    /// A frame of plain input without a whole IP packet.
    NotIp,
    /// A frame of ESP input that is not compressed.
    Other,
}

impl Compress<'_> {
    /// Classifies a packet. Its compressed clear text is added to `texts`.
    pub(super) fn route(
        &self,
        frame: &Frame<'_>,
        outcome: &Outcome<'_>,
        arena: &Arena,
        texts: &mut ClearTexts,
    ) -> Route {
        if !self.settings.selection.selects(&Record::new(frame, outcome, self.input, arena)) {
            return Route::Omitted;
        }
        match (self.settings.input, outcome.status) {
            // It may have contained a packet.
            (Input::Plain, Status::Malformed) => Route::NotIp,
            // Packets of radio frames are written without the frames, and only once.
            _ if is_without_packet(outcome) => Route::NoPacket,
            (Input::Plain, _) => match outcome.datagram() {
                Some(datagram) => Route::Plain(self.matcher.plain(&datagram, None, texts)),
                None => Route::NotIp,
            },
            _ if outcome.waits => Route::Fragment,
            (Input::Esp, Status::Ok) => match outcome.outer() {
                Some(outer) => Route::Esp(self.matcher.esp(outcome, &outer, arena, None, texts)),
                None => Route::Other,
            },
            (Input::Esp, _) if outcome.decrypted && outcome.payload(self.input).is_none() => Route::LinkEncrypted,
            (Input::Esp, _) => Route::Other,
        }
    }
}

/// Whether the frame is a radio frame, or a part of one, that has no packet or repeats the packet of an earlier
/// frame.
pub(super) fn is_without_packet(outcome: &Outcome<'_>) -> bool {
    outcome.repeat || outcome.radio && outcome.datagram().is_none()
}
