//! One IKE SA: collects its exchanges from its messages, and derives the child SAs that they created.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::exchange::{Exchange, ExchangeId, Half, children};
use super::message::{self, CREATE_CHILD_SA, Encrypted, IKE_AUTH, IKE_SA_INIT, Message, Offer, Payloads};
use super::secrets::{ChildSecret, MessageKeys};
use super::{Derived, child};
use crate::cipher::{EspCipher, Hash};
use crate::net::OuterHeader;

/// Maximum number of fragments of one message (RFC 7383).
const MAX_FRAGMENTS: u16 = 1024;
/// Most messages of one IKE SA whose fragments are kept.
const MAX_WAITING: usize = 64;

/// One IKE SA, and the content of its messages.
pub(super) struct IkeSa {
    secret: ChildSecret,
    keys: MessageKeys,
    from_initiator: EspCipher,
    from_responder: EspCipher,
    prf: Option<Hash>,
    /// The nonces of IKE_SA_INIT, which the first child SA uses, too.
    initial_nonces: [Option<Vec<u8>>; 2],
    exchanges: BTreeMap<ExchangeId, Exchange>,
    fragments: BTreeMap<MessageId, Fragments>,
    /// Number of decrypted messages and of those that did not verify, and the first frame of the latter.
    opened: u64,
    failed: u64,
    first_failed: u64,
}

/// Identifies a message: sender, request or response, Message ID.
type MessageId = (bool, bool, u32);

#[derive(Default)]
struct Fragments {
    total: u16,
    first_inner: u8,
    clear: BTreeMap<u16, Zeroizing<Vec<u8>>>,
}

impl IkeSa {
    pub(super) fn new(secret: &ChildSecret, keys: &MessageKeys) -> IkeSa {
        IkeSa {
            secret: secret.clone(),
            keys: keys.clone(),
            from_initiator: EspCipher::new(&keys.initiator),
            from_responder: EspCipher::new(&keys.responder),
            prf: secret.prf,
            initial_nonces: [None, None],
            exchanges: BTreeMap::new(),
            fragments: BTreeMap::new(),
            opened: 0,
            failed: 0,
            first_failed: 0,
        }
    }

    pub(super) fn message(&mut self, frame: u64, outer: OuterHeader, message: &Message<'_>) {
        let exchange = match message.exchange {
            IKE_SA_INIT => return self.initial(message),
            _ if message.spis != self.secret.spis => return,
            IKE_AUTH => ExchangeId::Auth,
            // The sender of a response did not start the exchange.
            CREATE_CHILD_SA => ExchangeId::Create(message.from_initiator != message.is_response, message.id),
            _ => return,
        };
        let Some(encrypted) = message.encrypted() else { return };
        let Some(offer) = self.open(frame, message, &encrypted) else { return };
        if offer.proposals.is_empty() {
            return;
        }
        let exchange = self.exchanges.entry(exchange).or_default();
        if exchange.is_done {
            return;
        }
        let half = if message.is_response { &mut exchange.response } else { &mut exchange.request };
        // Retransmissions have the same content.
        half.get_or_insert(Half { frame, src: outer.src, dst: outer.dst, offer });
    }

    /// IKE_SA_INIT. A request may be repeated with a cookie or another key exchange, until the response contains a
    /// nonce (RFC 7296 §2.6, §1.3). The last request counts.
    fn initial(&mut self, message: &Message<'_>) {
        let for_us = message.spis == self.secret.spis || (message.spis.responder == 0 && !message.is_response);
        let offer = Offer::read(message.payloads());
        if !for_us || offer.nonce.is_empty() {
            return;
        }
        let [nonce_i, nonce_r] = &mut self.initial_nonces;
        if message.is_response {
            nonce_r.get_or_insert(offer.nonce);
            if let [chosen] = offer.proposals.as_slice() {
                self.prf = self.prf.or(child::prf(chosen));
            }
        } else if nonce_i.is_none() || nonce_r.is_none() {
            *nonce_i = Some(offer.nonce);
        }
    }

    /// The payloads inside, once all fragments have arrived.
    fn open(&mut self, frame: u64, message: &Message<'_>, encrypted: &Encrypted<'_>) -> Option<Offer> {
        let cipher = if message.from_initiator { &self.from_initiator } else { &self.from_responder };
        let Some(clear) = cipher.open_ike(encrypted.head, encrypted.body) else {
            self.failed += 1;
            if self.failed == 1 {
                self.first_failed = frame;
            }
            return None;
        };
        self.opened += 1;
        let inside = message::without_padding(&clear)?;
        let Some(number) = encrypted.fragment else {
            return Some(Offer::read(Payloads { next: encrypted.first_inner, rest: inside }));
        };
        if number.total > MAX_FRAGMENTS {
            return None;
        }
        let id = (message.from_initiator, message.is_response, message.id);
        if self.fragments.len() >= MAX_WAITING && !self.fragments.contains_key(&id) {
            self.fragments.pop_first();
        }
        let fragments = self.fragments.entry(id).or_default();
        if fragments.total != number.total {
            // Retransmitted in different fragments. The larger number of fragments wins (RFC 7383 §2.6).
            if fragments.total > number.total {
                return None;
            }
            *fragments = Fragments { total: number.total, ..Fragments::default() };
        }
        if number.number == 1 {
            fragments.first_inner = encrypted.first_inner;
        }
        fragments.clear.insert(number.number, Zeroizing::new(inside.to_vec()));
        if fragments.clear.len() < usize::from(number.total) {
            return None;
        }
        let fragments = self.fragments.remove(&id)?;
        let mut whole = Zeroizing::new(vec![]);
        fragments.clear.values().for_each(|part| whole.extend_from_slice(part));
        Some(Offer::read(Payloads { next: fragments.first_inner, rest: &whole }))
    }

    /// Says which messages did not verify.
    pub(super) fn warn_of_messages(&self, derived: &mut Derived) {
        let IkeSa { secret, keys, .. } = self;
        let spis = secret.spis;
        if self.opened == 0 {
            derived.warnings.push(match self.failed {
                0 => format!(
                    "{}: the capture has no IKE_AUTH and no CREATE_CHILD_SA of the IKE SA {spis}",
                    secret.origin
                ),
                failed => format!(
                    "{}: none of {failed} messages of the IKE SA {spis} verifies under these keys, frame {} is the \
                         first",
                    keys.origin, self.first_failed
                ),
            });
        } else if self.failed > 0 {
            derived.warnings.push(format!(
                "{}: messages of the IKE SA {spis} that do not verify: {}, frame {} is the first",
                keys.origin, self.failed, self.first_failed
            ));
        }
    }

    /// Derives the child SAs of exchanges that have both messages, in the order of the exchanges. Without `is_end`, those that
    /// need the nonces of IKE_SA_INIT wait for it.
    pub(super) fn derive_completed(&mut self, known: &[u64], is_end: bool, derived: &mut Derived) {
        let IkeSa { secret, prf, initial_nonces, exchanges, .. } = self;
        let spis = secret.spis;
        let has_initial = is_end || initial_nonces.iter().all(Option::is_some);
        let mut whole: Vec<(ExchangeId, Half, Half)> = exchanges
            .iter_mut()
            .filter(|(id, exchange)| {
                (has_initial || **id != ExchangeId::Auth) && exchange.request.is_some() && exchange.response.is_some()
            })
            .filter_map(|(id, exchange)| {
                exchange.is_done = true;
                Some((*id, exchange.request.take()?, exchange.response.take()?))
            })
            .collect();
        whole.sort_by_key(|(_, request, _)| request.frame);
        for (id, request, response) in &whole {
            let initial = || match &*initial_nonces {
                [Some(i), Some(r)] => Ok([i.as_slice(), r.as_slice()]),
                _ => Err("the capture does not contain its IKE_SA_INIT, whose nonces are needed to derive the \
                     keys"
                    .to_owned()),
            };
            let nonces = match id {
                ExchangeId::Auth => initial(),
                ExchangeId::Create(..) => Ok([request.offer.nonce.as_slice(), response.offer.nonce.as_slice()]),
            };
            match children(secret, *prf, nonces, request, response, known) {
                Ok(sas) => {
                    let integ = sas.first().and_then(|sa| sa.keys.integ());
                    if let Some((integ, _)) = integ.filter(|(integ, _)| integ.hash.is_none()) {
                        let names: Vec<&str> = sas.iter().map(|sa| sa.name.as_str()).collect();
                        let what = "the integrity algorithm is not supported: the ICV";
                        let (names, len) = (names.join(", "), integ.icv_len);
                        derived.warnings.push(format!("child SA {names}: {what} of {len} bytes is not checked"));
                    }
                    derived.sas.extend(sas);
                }
                Err(why) if why.is_empty() => {}
                Err(why) => derived
                    .warnings
                    .push(format!("frames {} and {}, IKE SA {spis}: {why}", request.frame, response.frame)),
            }
        }
    }
}
