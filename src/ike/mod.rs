//! Derives the keys of child SAs from SK_d and the IKE exchanges in a capture (RFC 7296).
//!
//! ```text
//! SK_d, prf           a file that gives them                       [`ChildSecret`]
//! SK_e*, SK_a*        Wireshark's `ikev2_decryption_table`         [`MessageKeys`]: opens IKE_AUTH and CREATE_CHILD_SA
//! Ni, Nr              IKE_SA_INIT for the first child, CREATE_CHILD_SA for the others
//! KEYMAT              prf+(SK_d, Ni | Nr)                          §2.17
//! SPI, algorithms     the SA payloads
//! ```
//!
//! A child SA with a new key exchange (PFS) needs the secret of that exchange in addition to SK_d. So does the SK_d of
//! an IKE SA that was rekeyed. No capture contains this secret, so both cases get a warning. Messages over TCP (RFC
//! 8229) are not read.

mod child;
mod exchange;
mod ike_sa;
mod message;
mod secrets;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use self::ike_sa::IkeSa;
use self::message::Message;
pub(crate) use self::message::is_after_marker;
pub use self::secrets::{ChildSecret, MessageKeys, Secrets, Spis};
use crate::capture::{Frame, Reader, Window};
use crate::context::Origin;
use crate::error::Error;
use crate::link::{self, LinkContent, Reassembled, Reassembler};
use crate::net::{Datagram, protocol, udp};
use crate::sa::Sa;

/// The result of [`derive()`].
#[derive(Debug, Default)]
pub struct Derived {
    /// Both directions of every child SA, in the order of their exchanges. The selectors are the addresses of the
    /// messages.
    pub sas: Vec<Arc<Sa>>,
    /// One sentence for each child SA whose keys could not be derived.
    pub warnings: Vec<String>,
}

/// Reads a capture to its end and derives the keys of the child SAs in it.
///
/// # Errors
///
/// The capture cannot be read, or the keys that decrypt messages are given without SK_d, or the other way round.
pub fn derive(reader: &mut Reader, secrets: &Secrets) -> Result<Derived, Error> {
    let mut exchanges = Exchanges::new(secrets)?;
    let mut window = Window::default();
    while reader.fill(&mut window)? {
        window.frames().for_each(|frame| exchanges.frame(&frame));
    }
    Ok(exchanges.finish())
}

/// The IKE SAs whose secrets are known, and their messages so far.
pub(crate) struct Exchanges {
    sas: Vec<IkeSa>,
    by_initiator: HashMap<u64, Vec<usize>>,
    reassembler: Reassembler,
    reassembled: Reassembled,
}

/// Without keys and messages.
impl fmt::Debug for Exchanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchanges").field("ike_sas", &self.sas.len()).finish_non_exhaustive()
    }
}

impl Exchanges {
    /// Exchanges of which no message was read.
    ///
    /// # Errors
    /// An SK_d whose messages nothing opens, or no SK_d at all.
    pub(crate) fn new(secrets: &Secrets) -> Result<Exchanges, Error> {
        let wrong =
            |origin: &Origin, problem: String, help: &str| Err(Error::line(&origin.path, origin.line, problem, help));
        let mut sas: Vec<IkeSa> = vec![];
        let mut by_initiator: HashMap<u64, Vec<usize>> = HashMap::new();
        let messages: HashMap<Spis, &MessageKeys> = secrets.messages.iter().map(|keys| (keys.spis, keys)).collect();
        let mut given: HashMap<Spis, &ChildSecret> = HashMap::new();
        for child in &secrets.children {
            if let Some(first) = given.insert(child.spis, child) {
                if first.sk_d == child.sk_d {
                    continue;
                }
                let problem = format!("another SK_d of the same IKE SA is at {}", first.origin);
                return wrong(&child.origin, problem, "an IKE SA has one SK_d: remove one of the two");
            }
            let Some(keys) = messages.get(&child.spis) else {
                let problem = format!("SK_d of the IKE SA {}, but not the keys of its messages", child.spis);
                let help = "SPIs, algorithms and nonces of child SAs are in encrypted messages: also give a \
                     Wireshark ikev2_decryption_table with this IKE SA";
                return wrong(&child.origin, problem, help);
            };
            by_initiator.entry(child.spis.initiator).or_default().push(sas.len());
            sas.push(IkeSa::new(child, keys));
        }
        if sas.is_empty()
            && let Some(keys) = secrets.messages.first()
        {
            let help = "a decryption table decrypts IKE messages only: also give a file with `ispi=... rspi=... \
                 prf=... SK_d=...`";
            return wrong(&keys.origin, format!("no SK_d of the IKE SA {}", keys.spis), help);
        }
        let (reassembler, reassembled) = (Reassembler::new(), Reassembled::default());
        Ok(Exchanges { sas, by_initiator, reassembler, reassembled })
    }

    /// Looks for a message in a frame.
    pub(crate) fn frame(&mut self, frame: &Frame<'_>) {
        match link::parse(frame.link_type(), frame.data) {
            LinkContent::Datagram(datagram) => _ = self.datagram(frame.number, &datagram),
            LinkContent::Fragment(fragment) if fragment.protocol == protocol::UDP => {
                let mut reassembled = std::mem::take(&mut self.reassembled);
                let pushed = self.reassembler.push(frame.number, frame.time_ns(), &fragment, &mut reassembled);
                if let Ok(true) = pushed
                    && let Ok(datagram) = reassembled.datagram()
                {
                    self.datagram(frame.number, &datagram);
                }
                self.reassembled = reassembled;
            }
            _ => {}
        }
    }

    /// Looks for a message on any UDP port: 500, 4500 after four zero bytes (RFC 7296 §2.23), or a user-defined
    /// port. False if there is none of a known IKE SA.
    pub(crate) fn datagram(&mut self, frame: u64, datagram: &Datagram<'_>) -> bool {
        const NON_ESP_MARKER: [u8; 4] = [0; 4];
        if datagram.protocol != protocol::UDP {
            return false;
        }
        let payload = datagram.payload.get(udp::HEADER_LEN..).unwrap_or_default();
        let ours = |bytes: &[u8]| {
            bytes.first_chunk().is_some_and(|spi| self.by_initiator.contains_key(&u64::from_be_bytes(*spi)))
        };
        let bytes = match payload.strip_prefix(&NON_ESP_MARKER) {
            _ if ours(payload) => payload,
            Some(after) if ours(after) => after,
            _ => return false,
        };
        let Some(message) = Message::parse(bytes) else { return false };
        for index in self.by_initiator.get(&message.spis.initiator).into_iter().flatten() {
            if let Some(ike_sa) = self.sas.get_mut(*index) {
                ike_sa.message(frame, datagram.outer, &message);
            }
        }
        true
    }

    /// The child SAs of the exchanges that were completed since the last call.
    pub(crate) fn completed(&mut self) -> Derived {
        let mut derived = Derived::default();
        let known: Vec<u64> = self.by_initiator.keys().copied().collect();
        self.sas.iter_mut().for_each(|ike_sa| ike_sa.derive_completed(&known, false, &mut derived));
        derived
    }

    fn finish(mut self) -> Derived {
        let mut derived = Derived::default();
        let known: Vec<u64> = self.by_initiator.keys().copied().collect();
        for ike_sa in &mut self.sas {
            ike_sa.warn_of_messages(&mut derived);
            ike_sa.derive_completed(&known, true, &mut derived);
        }
        derived
    }
}
