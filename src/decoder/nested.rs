//! Nested ESP packets (RFC 4301 §4.4.2.2 calls them nested SAs). A packet that was restored from an outer ESP
//! packet is decoded like the packet of a frame.

use super::EspDecoder;
use super::esp_packet::EspPacket;
use super::outcomes::Outcomes;
use super::status::{Reason, Status};
use crate::link::Content;
use crate::net::LinkAddresses;

/// Most ESP packets inside each other that are decrypted. Real networks nest fewer.
const MAX_DEPTH: usize = 8;
const TOO_DEEP: Reason = Reason::Text("ESP inside eight other ESP packets, which is the limit: not decrypted");

impl EspDecoder {
    /// Decodes the ESP packet inside the packet that was added last, then the one inside that, and so on.
    #[inline]
    pub(super) fn decode_nested(&mut self, outcomes: &mut Outcomes<'_, '_>) {
        if outcomes.last().nests(&self.sas) {
            self.decode_each_nested(outcomes);
        }
    }

    #[cold]
    fn decode_each_nested(&mut self, outcomes: &mut Outcomes<'_, '_>) {
        for depth in 1.. {
            let (outer, arena) = outcomes.last_and_arena();
            if !outer.nests(&self.sas) {
                return;
            }
            let link = outer.link_addresses();
            let protocol = outer.restored.as_ref().and_then(|restored| Some(restored.upper?.protocol));
            let mut bytes = std::mem::take(&mut self.inner_packet);
            bytes.clear();
            bytes.extend_from_slice(outer.packet(arena));
            let is_esp = self.decode_inner(&bytes, protocol, link, depth > MAX_DEPTH, outcomes);
            self.inner_packet = bytes;
            if !is_esp {
                return;
            }
        }
    }

    /// Decodes the ESP packet in `bytes`, an IP packet with this protocol. Returns false if there is none. If it is
    /// `too_deep`, it is not decrypted.
    fn decode_inner(
        &mut self,
        bytes: &[u8],
        protocol: Option<u8>,
        link: Option<LinkAddresses>,
        too_deep: bool,
        outcomes: &mut Outcomes<'_, '_>,
    ) -> bool {
        let is_esp = protocol.is_some_and(|protocol| self.sas.uses_protocol(protocol));
        let mut receiver = std::mem::take(&mut self.inner_receiver);
        let mut received = receiver.receive(outcomes.frame(), bytes, self.protocols());
        received.link_header = &[];
        let decoded = match &mut received.content {
            Content::Datagram(datagram) => {
                (datagram.rebuilt, datagram.link) = (true, link);
                match EspPacket::of(&self.sas, &*datagram) {
                    Ok(esp) => {
                        outcomes.add_nested(&received);
                        self.decode_unless_too_deep(&esp, too_deep, outcomes)
                    }
                    Err(_) => false,
                }
            }
            Content::Fragment { waits, .. } if is_esp => {
                // The frame itself is complete.
                *waits = false;
                outcomes.add_nested(&received);
                true
            }
            Content::Malformed { .. } if is_esp => {
                outcomes.add_nested(&received);
                true
            }
            _ => false,
        };
        self.inner_receiver = receiver;
        decoded
    }

    fn decode_unless_too_deep(&mut self, esp: &EspPacket<'_>, too_deep: bool, outcomes: &mut Outcomes<'_, '_>) -> bool {
        if too_deep {
            let outcome = outcomes.last();
            outcome.of_known_sa = true;
            outcome.set(Status::Unsupported, TOO_DEEP);
            return true;
        }
        self.decode_esp(esp, outcomes);
        // IKE messages and keepalives on UDP port 4500 are treated like other inner packets.
        let is_esp = outcomes.last().status != Status::NotEsp;
        if !is_esp {
            outcomes.first.remove_last();
        }
        is_esp
    }
}
