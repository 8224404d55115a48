//! ESP packets inside others (RFC 4301 §4.4.2.2 calls them nested SAs): each goes the way of all, with the packet around it,
//! restored, in place of a frame.

use super::Decoder;
use super::arena::Arena;
use super::esp_payload::EspPayload;
use super::outcome::{Outcome, Source};
use super::status::{Reason, Status};
use crate::capture::Packet;
use crate::link::{Content, Received};
use crate::net::LinkAddresses;

/// ESP packets opened one inside the other; no network nests so many.
const MAX_DEPTH: usize = 8;
const TOO_DEEP: Reason = Reason::Text("ESP inside eight other ESP packets: no more are opened");

impl Decoder<'_> {
    /// Opens the ESP packet inside the last one of `outcome`, the one inside that, and so on.
    #[cold]
    pub(super) fn open_nested<'w>(&mut self, frame: &Packet<'w>, outcome: &mut Outcome<'w>, arena: &mut Arena) {
        for depth in 1.. {
            let outer = outcome.last();
            if !outer.nests(self.ledger.table()) {
                return;
            }
            let link = outer.link_addresses();
            let protocol = outer.restored.as_ref().and_then(|restored| Some(restored.upper?.protocol));
            let mut bytes = std::mem::take(&mut self.inner_packet);
            bytes.clear();
            bytes.extend_from_slice(outer.packet(arena));
            let mut nested = Outcome::new(frame.data);
            let is_esp = self.take_nested(frame, (&bytes, protocol, link), &mut nested, depth > MAX_DEPTH, arena);
            self.inner_packet = bytes;
            if !is_esp {
                return;
            }
            outcome.add(nested, true);
        }
    }

    /// Opens the ESP packet in `bytes`, an IP packet of this protocol; false if there is none. One that is `too_deep` is
    /// not opened.
    fn take_nested<'w>(
        &mut self,
        frame: &Packet<'w>,
        (bytes, protocol, link): (&[u8], Option<u8>, Option<LinkAddresses>),
        outcome: &mut Outcome<'w>,
        too_deep: bool,
        arena: &mut Arena,
    ) -> bool {
        let table = self.ledger.table();
        let mut receiver = std::mem::take(&mut self.inner_receiver);
        let mut received = receiver.receive(frame, bytes, |protocol| table.uses_protocol(protocol));
        let mut is_packet = false;
        let is_esp = match &mut received.content {
            Content::Datagram(datagram) => {
                is_packet = true;
                (datagram.rebuilt, datagram.link) = (true, link);
                EspPayload::of(table, datagram).is_ok()
            }
            Content::Fragment { waits, .. } => {
                // The frame itself is whole.
                *waits = false;
                protocol.is_some_and(|protocol| table.uses_protocol(protocol))
            }
            Content::Malformed { .. } => protocol.is_some_and(|protocol| table.uses_protocol(protocol)),
            Content::NotIp(_) | Content::Repeat { .. } => false,
        };
        if is_esp {
            match &received.content {
                Content::Datagram(datagram) if too_deep => {
                    outcome.source = Source::whole(datagram, 0, received.fragments);
                    outcome.of_known_sa = true;
                    outcome.set(Status::Unsupported, TOO_DEEP);
                }
                _ => self.take(frame, Received { link_header: &[], ..received }, outcome, arena),
            }
        }
        self.inner_receiver = receiver;
        // IKE and keepalives on UDP port 4500 are inner packets like any others.
        is_esp && !(is_packet && outcome.status == Status::NotEsp)
    }
}
