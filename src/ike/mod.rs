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
mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use zeroize::Zeroizing;

pub(crate) use self::message::is_after_marker;
use self::message::{CREATE_CHILD_SA, Encrypted, IKE_AUTH, IKE_SA_INIT, Message, Offer, Payloads, Proposal};
use crate::capture::{Frame, Reader, Window};
use crate::cipher::{EspCipher, Hash, Keys};
use crate::context::Origin;
use crate::error::Error;
use crate::link::{self, LinkContent, Reassembled, Reassembler};
use crate::net::{Datagram, OuterHeader, Selector, protocol, udp};
use crate::sa::Sa;
use crate::secret::Secret;

/// Protocol ID of ESP, and of IKE itself, in a proposal (RFC 7296 §3.3.1).
const PROTOCOL_ESP: u8 = 3;
const PROTOCOL_IKE: u8 = 1;
/// Maximum number of fragments of one message (RFC 7383).
const MAX_FRAGMENTS: u16 = 1024;
/// Most messages of one IKE SA whose fragments are kept.
const MAX_WAITING: usize = 64;

/// The secrets of IKE SAs from key files.
#[derive(Debug, Default)]
pub struct Secrets {
    /// The values SK_d, from which the keys of child SAs are derived.
    pub children: Vec<ChildSecret>,
    /// Keys that decrypt messages.
    pub messages: Vec<MessageKeys>,
}

impl Secrets {
    /// Number of secrets.
    pub fn len(&self) -> usize {
        self.children.len() + self.messages.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.children.is_empty() && self.messages.is_empty()
    }

    /// The file and line of the first secret.
    pub fn origin(&self) -> Option<&Origin> {
        self.children.first().map(|secret| &secret.origin).or(self.messages.first().map(|keys| &keys.origin))
    }
}

/// The SPIs that identify an IKE SA in messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spis {
    /// SPI of the initiator.
    pub initiator: u64,
    /// SPI of the responder.
    pub responder: u64,
}

impl fmt::Display for Spis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}_i {:016x}_r", self.initiator, self.responder)
    }
}

/// The SK_d of one IKE SA (RFC 7296 §2.14).
#[derive(Debug, Clone)]
pub struct ChildSecret {
    /// The IKE SA.
    pub spis: Spis,
    /// The hash of its prf, an HMAC; `None` if IKE_SA_INIT names it.
    pub prf: Option<Hash>,
    /// SK_d.
    pub sk_d: Secret,
    /// The file and line that it was read from.
    pub origin: Origin,
}

/// Keys that decrypt the messages of one IKE SA: SK_ei and SK_ai, SK_er and SK_ar.
#[derive(Debug, Clone)]
pub struct MessageKeys {
    /// The IKE SA.
    pub spis: Spis,
    /// Keys for messages of the initiator.
    pub initiator: Keys,
    /// Keys for messages of the responder.
    pub responder: Keys,
    /// The file and line that they were read from.
    pub origin: Origin,
}

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

/// One IKE SA, and the content of its messages.
struct IkeSa {
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

/// Request and response of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ExchangeId {
    /// All rounds of IKE_AUTH. The first request and the last response contain the SA payloads (RFC 7296 §2.16).
    Auth,
    /// CREATE_CHILD_SA: whether the initiator of the IKE SA started it, and its Message ID. Each side has its own
    /// IDs.
    Create(bool, u32),
}

#[derive(Debug, Default)]
struct Exchange {
    /// The child SA was derived, or cannot be.
    is_done: bool,
    request: Option<Half>,
    response: Option<Half>,
}

/// The relevant content of a message.
#[derive(Debug)]
struct Half {
    frame: u64,
    src: IpAddr,
    dst: IpAddr,
    offer: Offer,
}

#[derive(Default)]
struct Fragments {
    total: u16,
    first_inner: u8,
    clear: BTreeMap<u16, Zeroizing<Vec<u8>>>,
}

impl IkeSa {
    fn new(secret: &ChildSecret, keys: &MessageKeys) -> IkeSa {
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

    fn message(&mut self, frame: u64, outer: OuterHeader, message: &Message<'_>) {
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
    fn warn_of_messages(&self, derived: &mut Derived) {
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
    fn derive_completed(&mut self, known: &[u64], is_end: bool, derived: &mut Derived) {
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

/// Both directions of the child SA that an exchange created. An empty error means that the exchange created
/// something else.
fn children(
    secret: &ChildSecret,
    prf: Option<Hash>,
    nonces: Result<[&[u8]; 2], String>,
    request: &Half,
    response: &Half,
    known: &[u64],
) -> Result<Vec<Arc<Sa>>, String> {
    let [chosen] = response.offer.proposals.as_slice() else {
        return Err("the response does not choose one proposal".into());
    };
    match chosen.protocol {
        PROTOCOL_ESP => {}
        PROTOCOL_IKE => {
            let is_known = request.offer.proposals.iter().any(|proposal| {
                proposal.spi.first_chunk().is_some_and(|spi| known.contains(&u64::from_be_bytes(*spi)))
            });
            let why = "the IKE SA is rekeyed here; the new SK_d cannot be derived from the old one: also give the \
                 new SK_d and its line of the decryption table";
            return Err(if is_known { String::new() } else { why.into() });
        }
        _ => return Err(String::new()),
    }
    // A chosen proposal keeps its number. Each side sends the SPI of the packets that it receives (RFC 7296
    // §3.3.1).
    let offered = request
        .offer
        .proposals
        .iter()
        .find(|offered| (offered.number, offered.protocol) == (chosen.number, chosen.protocol));
    let spi = |proposal: &Proposal| <[u8; 4]>::try_from(proposal.spi.as_slice()).ok().map(u32::from_be_bytes);
    let (Some(initiator_spi), Some(responder_spi)) = (offered.and_then(spi), spi(chosen)) else {
        return Err("the response chooses a proposal that the request does not have".into());
    };
    let child = format!("child SA 0x{initiator_spi:08x}, 0x{responder_spi:08x}");
    if response.offer.key_exchange {
        return Err(format!(
            "{child} was created with a new key exchange (PFS): its keys cannot be derived from SK_d; give the keys of \
                this SA in a key file"
        ));
    }
    let prf = prf.ok_or_else(|| format!("{child}: the prf of the IKE SA is not known: give `prf=` with SK_d"))?;
    let nonces = nonces.map_err(|why| format!("{child}: {why}"))?;
    let keys = child::keys(prf, &secret.sk_d, nonces, chosen).map_err(|why| format!("{child}: {why}"))?;
    let sa = |spi: u32, src: IpAddr, dst: IpAddr, of_direction: Keys| {
        Arc::new(Sa {
            name: format!("0x{spi:08x}"),
            spi: Some(spi),
            src: Selector::address(src),
            dst: Selector::address(dst),
            link_src: None,
            link_dst: None,
            keys: of_direction,
            esn: keys.esn,
            sn_hint: None,
            read_as_ccm: false,
            origin: secret.origin.clone(),
        })
    };
    Ok(vec![
        sa(responder_spi, request.src, request.dst, keys.initiator),
        sa(initiator_spi, request.dst, request.src, keys.responder),
    ])
}
