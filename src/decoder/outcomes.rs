//! The outcomes of one frame while it is being decoded.

use super::arena::Arena;
use super::outcome::{Outcome, Source};
use super::status::{Reason, Status};
use super::warnings::Warnings;
use crate::capture::Frame;
use crate::link::{Content, Received};

/// The outcomes of the packets of a frame, in the order in which they were found.
pub(super) struct Outcomes<'o, 'f> {
    frame: &'o Frame<'f>,
    /// The first packet, which holds the others.
    pub first: &'o mut Outcome<'f>,
    pub arena: &'o mut Arena,
    is_empty: bool,
    /// See [`Received::may_repeat`].
    pub may_repeat: bool,
    /// Why the last added packet was not searched for ESP any further.
    unread: Option<&'static str>,
}

impl<'o, 'f> Outcomes<'o, 'f> {
    /// Starts a frame. `first` will be the outcome of its first packet.
    pub(super) fn new(frame: &'o Frame<'f>, first: &'o mut Outcome<'f>, arena: &'o mut Arena) -> Outcomes<'o, 'f> {
        Outcomes { frame, first, arena, is_empty: true, may_repeat: false, unread: None }
    }

    /// Continues a frame whose first packet was already found.
    pub(super) fn with_first(
        frame: &'o Frame<'f>,
        first: &'o mut Outcome<'f>,
        arena: &'o mut Arena,
    ) -> Outcomes<'o, 'f> {
        Outcomes { is_empty: false, ..Outcomes::new(frame, first, arena) }
    }

    /// The frame.
    pub(super) fn frame(&self) -> &'o Frame<'f> {
        self.frame
    }

    /// The outcome of the last added packet.
    pub(super) fn last(&mut self) -> &mut Outcome<'f> {
        self.first.last_mut()
    }

    /// The outcome of the last added packet, and the arena.
    pub(super) fn last_and_arena(&mut self) -> (&mut Outcome<'f>, &mut Arena) {
        (self.first.last_mut(), self.arena)
    }

    /// Adds the next packet of the frame, or the reason why it has none.
    pub(super) fn add(&mut self, received: &Received<'_>) {
        self.unread = received.unread;
        if std::mem::take(&mut self.is_empty) {
            self.may_repeat = received.may_repeat;
            describe(self.first, received, self.frame);
            return;
        }
        let mut part = Outcome::new(self.frame.data);
        describe(&mut part, received, self.frame);
        self.first.add(part, false);
    }

    /// Adds a packet that was nested in the last added packet.
    pub(super) fn add_nested(&mut self, received: &Received<'_>) {
        self.unread = received.unread;
        let mut part = Outcome::new(self.frame.data);
        describe(&mut part, received, self.frame);
        self.first.add(part, true);
    }

    /// The last added packet is not ESP.
    pub(super) fn not_esp(&mut self, reason: Reason) {
        let reason = self.unread.map_or(reason, Reason::Text);
        self.last().set(Status::NotEsp, reason);
    }

    /// These frames contain fragments whose packet will never be complete.
    pub(super) fn give_up(&mut self, frames: &[u64]) {
        self.arena.given_up.extend_from_slice(frames);
    }
}

/// Stores the fields of `received`, before ESP is examined.
fn describe(outcome: &mut Outcome<'_>, received: &Received<'_>, frame: &Frame<'_>) {
    (outcome.radio, outcome.decrypted) = (received.radio, received.decrypted);
    if received.unknown_context {
        outcome.warnings.add(Warnings::UNKNOWN_CONTEXT);
    }
    match &received.content {
        Content::Repeat { .. } => {}
        Content::NotIp(what) => outcome.set(Status::NotEsp, Reason::not_ip(what, frame)),
        Content::Fragment { outer, waits } => {
            outcome.source = Source::header(*outer);
            outcome.waits = *waits;
            outcome.set(Status::NotEsp, Reason::Text("fragment"));
        }
        Content::Malformed { outer, fault } => {
            outcome.source = Source::header(*outer);
            outcome.set(Status::Malformed, Reason::Fault(*fault));
        }
        Content::Datagram(packet) => {
            let mut link_header_len = 0;
            if !packet.rebuilt {
                outcome.link_type = frame.link_type();
                link_header_len = received.link_header.len();
            }
            outcome.source = Source::owned(packet, link_header_len, received.fragments);
        }
    }
}
