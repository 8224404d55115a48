//! Decodes captured frames. The result is an outcome for each packet in a frame.
//!
//! Start with [`Decoder::decode`] and `EspDecoder::decode`: they contain all steps. Frames must be given in capture
//! order, because sequence numbers, fragments and repeats depend on earlier frames. [`batch`](crate::batch)
//! produces the same outcomes faster.

pub(crate) mod arena;
pub(crate) mod candidates;
mod commit;
mod esp_decoder;
pub(crate) mod esp_packet;
pub(crate) mod hints;
pub(crate) mod likely_numbers;
mod nested;
pub(crate) mod not_esp;
pub(crate) mod outcome;
mod outcomes;
mod repeats;
pub(crate) mod sas;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod warnings;
mod wide_search;

use crate::capture::Frame;
use crate::link::{Content, Receiver};
use crate::net::Datagram;
use arena::Arena;
pub(crate) use esp_decoder::EspDecoder;
use esp_packet::EspPacket;
use outcome::Outcome;
use outcomes::Outcomes;
use repeats::RecentFrames;

/// Decodes the frames of one capture.
#[derive(Debug)]
pub struct Decoder {
    link: Receiver,
    esp: EspDecoder,
    recent: RecentFrames,
}

impl Decoder {
    /// Decodes one captured frame. Returns the outcome of its first packet. The others are its [`Outcome::parts`].
    /// Restored packets are added to `arena`.
    pub fn decode<'f>(&mut self, frame: &Frame<'f>, arena: &mut Arena) -> Outcome<'f> {
        let Decoder { link, esp, recent } = self;
        let mut first = Outcome::new(frame.data);
        let mut outcomes = Outcomes::new(frame, &mut first, arena);
        let mut next = Some(link.receive(frame, esp.protocols())); // unpacks radio frames and tunnels, joins fragments
        while let Some(received) = next {
            outcomes.add(&received);
            match &received.content {
                Content::Datagram(packet) => esp.decode(packet, &mut outcomes),
                Content::Repeat { of } => recent.repeat(*of, &mut outcomes),
                Content::Fragment { .. } | Content::NotIp(_) | Content::Malformed { .. } => {} // no complete IP packet
            }
            next = link.next(frame, esp.protocols());
        }
        outcomes.give_up(link.given_up()); // fragments whose packet will never be complete
        recent.keep(&outcomes); // the radio may send the frame again
        first
    }
}

impl EspDecoder {
    /// Decodes the IP packet that was added to `outcomes` last, and the ESP packets nested in it.
    fn decode(&mut self, packet: &Datagram<'_>, outcomes: &mut Outcomes<'_, '_>) {
        self.follow_ike(packet, outcomes.frame()); // an IKE exchange may add SAs
        match self.find_esp(packet) {
            Ok(esp) => self.decode_esp(&esp, outcomes), // protocol 50, UDP 4500, ...
            Err(reason) => outcomes.not_esp(reason),
        }
        self.decode_nested(outcomes); // ESP in ESP, bounded
    }

    /// Decrypts an ESP packet and restores the inner packet.
    fn decode_esp(&mut self, esp: &EspPacket<'_>, outcomes: &mut Outcomes<'_, '_>) {
        match self.open(esp, outcomes.frame()) {
            Ok(opened) => {
                let place = self.commit(esp, &opened, outcomes); // counts even if the clear text is malformed
                self.restore(esp, place, outcomes);
            }
            Err(failure) => self.fail(esp, failure, outcomes), // the ICV verified under no candidate
        }
    }
}
