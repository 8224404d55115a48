//! What depends on the packets before: Sequence Numbers, IVs, nonces that are used, states of dialects.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use super::rule_match::{MatchedPacket, RuleMatch, Texts};
use super::{Compressed, Content, Input, Make, OnMismatch, Sending, Settings, carry, is_without_packet, new_outer};
use crate::cipher::Random;
use crate::cipher::nonces::{Digester, IvIssuer, KeyId, KeyIds, UsedNumbers};
use crate::codec::{Mismatch, State};
use crate::command::convert::iv_of;
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Reason;
use crate::decoder::streams::MULTICAST_SOURCES;
use crate::error::Error;
use crate::net::{Datagram, IpVersion, OuterHeader, esp};
use crate::sa::table::{PreparedSa, SaTable};

/// What the packets sent before left for the next one, by SA of the output and, as receivers keep it, by source where the
/// destination is a multicast address.
#[derive(Debug, Default)]
pub(super) struct States(HashMap<(u32, Option<IpAddr>), State>);

impl States {
    /// The state that the next packet of an SA meets.
    pub(super) fn of(&self, sa: u32, outer: &OuterHeader) -> State {
        self.0.get(&state_key(sa, outer)).copied().unwrap_or_default()
    }
}

fn state_key(sa: u32, outer: &OuterHeader) -> (u32, Option<IpAddr>) {
    (sa, Some(outer.src).filter(|_| outer.dst.is_multicast()))
}

/// Takes packets in capture order.
#[derive(Debug)]
pub(super) struct Decider<'t> {
    input: &'t SaTable,
    output: &'t SaTable,
    settings: &'t Settings,
    /// By SA of the output: its key.
    keys: Vec<KeyId>,
    /// By SA of the input: its key, if the output uses it too.
    input_keys: Vec<Option<KeyId>>,
    /// By SA of the output: whether its key is one of the input's.
    has_key_of_input: Vec<bool>,
    /// By SA of the output: the next Sequence Number for plain input.
    next_sn: Vec<u64>,
    pub(super) states: States,
    issuer: IvIssuer,
    random: Random,
    used: UsedNumbers,
    digester: Digester,
    /// What did not match, and what was refused.
    pub(super) counts: Compressed,
    frame: Vec<u8>,
}

impl<'t> Decider<'t> {
    pub(super) fn new(
        input: &'t SaTable,
        output: &'t SaTable,
        settings: &'t Settings,
        digester: Digester,
    ) -> Decider<'t> {
        let first = |entry: &PreparedSa| entry.context.as_ref().and_then(|context| context.esp_sn).unwrap_or(1);
        let mut ids = KeyIds::default();
        let keys: Vec<KeyId> = output.entries().iter().map(|entry| ids.of(&entry.sa.keys)).collect();
        let input_keys: Vec<_> = input.entries().iter().map(|entry| ids.known(&entry.sa.keys)).collect();
        let shared: HashSet<KeyId> = input_keys.iter().copied().flatten().collect();
        Decider {
            input,
            output,
            settings,
            has_key_of_input: keys.iter().map(|key| shared.contains(key)).collect(),
            keys,
            input_keys,
            digester,
            next_sn: output.entries().iter().map(first).collect(),
            states: States::default(),
            issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
            random: Random::new(settings.seed, "blocks"),
            used: UsedNumbers::default(),
            counts: Compressed::default(),
            frame: vec![],
        }
    }

    /// Remembers the IV of a packet of the input whose key the output uses too.
    pub(super) fn note_iv(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let Some(sa) = outcome.sa else { return Ok(()) };
        let Some(key) = self.input_keys.get(sa as usize).copied().flatten() else { return Ok(()) };
        if is_without_packet(outcome) {
            return Ok(());
        }
        match self.input.entry(sa).and_then(|entry| iv_of(outcome, entry, self.input)) {
            Some(iv) => self.issuer.seen(key, iv),
            None => Ok(()),
        }
    }

    /// An ESP packet that opened.
    pub(super) fn esp_packet(
        &mut self,
        frame: u64,
        outcome: &Outcome<'_>,
        arena: &Arena,
        rule_match: RuleMatch,
        texts: &mut Texts,
    ) -> Result<Make, Error> {
        let Some(sn) = outcome.esp.map(|esp| esp.sequence) else { return Ok(Make::Unchanged) };
        match rule_match {
            RuleMatch::NotOurs | RuleMatch::NoTunnelIp(_) => Ok(Make::Unchanged),
            RuleMatch::Mismatch(index) => {
                let (_, mismatch) = texts.mismatch(index);
                if self.mismatch(frame, mismatch)? == OnMismatch::Skip {
                    return Ok(Make::Left);
                }
                let Some(outer) = outcome.outer() else { return Ok(Make::Unchanged) };
                let made = self.standard(&outer, None, texts, |clear| outcome.protected(arena, clear))?;
                Ok(made.unwrap_or_else(|| self.refused()))
            }
            RuleMatch::Matches(index) => {
                let MatchedPacket { sa, clear, protected_len, as_it_is, digest, state, .. } = *texts.matched(index);
                let Some((to, key)) = self.sa(sa) else { return Ok(Make::Unchanged) };
                let (content, iv) = match as_it_is {
                    true => (Content::AsItIs, Some(0)),
                    false => (Content::Compressed, self.iv((sa, to, key), sn, false, digest)?),
                };
                let Some(iv) = iv else { return Ok(self.refused()) };
                let sending = || Sending { sa, carrier: None, in_front: None, content, clear, protected_len, sn, iv };
                if state != State::default()
                    && let Some(outer) = outcome.outer()
                {
                    self.sent(outcome, &sending(), &outer, state);
                }
                Ok(texts.send(sending()))
            }
        }
    }

    /// A plain IP packet.
    pub(super) fn plain_packet(
        &mut self,
        frame: u64,
        outcome: &Outcome<'_>,
        datagram: &Datagram<'_>,
        rule_match: RuleMatch,
        texts: &mut Texts,
    ) -> Result<Make, Error> {
        match rule_match {
            RuleMatch::NotOurs => self.without_packet(frame, outcome),
            RuleMatch::NoTunnelIp(sa) => Err(self.no_tunnel_ip(frame, sa)),
            RuleMatch::Mismatch(index) => {
                let (sa, mismatch) = texts.mismatch(index);
                let sa = *sa;
                if self.mismatch(frame, mismatch)? == OnMismatch::Skip {
                    return Ok(Make::Left);
                }
                let Some((to, _)) = self.sa(sa) else { return Ok(Make::Left) };
                if !to.is_tunnel() && is_ipv4_fragment(datagram) {
                    return Err(Error::usage(
                        format!(
                            "frame {frame}: a fragment cannot be written as ESP of transport mode (RFC 4303 3.3.4)"
                        ),
                        "use --on-mismatch skip, or a context of tunnel mode for the fragments",
                    ));
                }
                let outer = new_outer(to, datagram).ok_or_else(|| self.no_tunnel_ip(frame, sa))?;
                let made = self.standard(&outer, Some(sa), texts, |clear| {
                    if to.is_tunnel() {
                        clear.extend_from_slice(datagram.header);
                    }
                    clear.extend_from_slice(datagram.payload);
                    if to.is_tunnel() { datagram.outer.version.next_header() } else { datagram.protocol }
                })?;
                made.ok_or_else(|| same_key(to))
            }
            RuleMatch::Matches(index) => {
                let MatchedPacket { sa, in_front, clear, protected_len, digest, state, .. } = *texts.matched(index);
                let Some((to, key)) = self.sa(sa) else { return Ok(Make::Left) };
                let Some(outer) = new_outer(to, datagram) else { return Ok(Make::Left) };
                let sn = self.next_number(sa, to)?;
                let iv = self.iv((sa, to, key), sn, false, digest)?;
                let iv = iv.ok_or_else(|| same_key(to))?;
                self.counts.nonces.numbers_of_plain |= has_nonce(to);
                let content = Content::Compressed;
                let sending = Sending { sa, carrier: Some(sa), in_front, content, clear, protected_len, sn, iv };
                self.sent(outcome, &sending, &outer, state);
                Ok(texts.send(sending))
            }
        }
    }

    fn sa(&self, sa: u32) -> Option<(&'t PreparedSa, KeyId)> {
        self.output.entry(sa).zip(self.keys.get(sa as usize).copied())
    }

    fn no_tunnel_ip(&self, frame: u64, sa: u32) -> Error {
        let problem = format!("no tunnel_ip, without which this context cannot take the plain packet of frame {frame}");
        let help = "write `tunnel_ip: { src: ..., dst: ... }`: the addresses of the outer header";
        match self.output.entry(sa).and_then(|to| to.context.as_ref()) {
            Some(context) => Error::line(&context.origin.path, context.origin.line, problem, help),
            None => Error::usage(problem, help),
        }
    }

    /// Notes that a packet is sent, and the state it leaves; not if no frame can hold it.
    #[cold]
    fn sent(&mut self, outcome: &Outcome<'_>, sending: &Sending, outer: &OuterHeader, state: State) {
        if state == State::default() {
            return;
        }
        let (input, output) = (self.input, self.output);
        self.frame.clear();
        let room = |out: &mut Vec<u8>| out.resize(out.len() + sending.esp_len(outcome, input, output), 0);
        if carry(outcome, (input, output), sending, room, &mut self.frame).is_err() {
            return;
        }
        // As the streams of a receiver do.
        if self.states.0.len() >= output.entries().len() + MULTICAST_SOURCES {
            self.states.0.retain(|(_, src), _| src.is_none());
        }
        self.states.0.insert(state_key(sending.sa, outer), state);
    }

    /// A frame of plain input in which there is no whole IP packet: no context can encrypt it.
    pub(super) fn without_packet(&mut self, frame: u64, outcome: &Outcome<'_>) -> Result<Make, Error> {
        let reason = outcome.reason.map_or_else(String::new, |reason| reason.to_string());
        if self.settings.on_mismatch == OnMismatch::Stop {
            let problem = format!("no IP packet that can be encrypted ({reason})");
            return Err(Error::Mismatch { frame, problem });
        }
        match outcome.reason {
            Some(Reason::Text(_)) => self.counts.not_ip += 1,
            _ => self.counts.unreadable += 1,
        }
        self.counts.first_without_packet.get_or_insert((frame, reason));
        // The packets of radio frames are written without them.
        Ok(if self.settings.on_mismatch == OnMismatch::Pass && !outcome.radio { Make::Unchanged } else { Make::Left })
    }

    /// Notes a packet that does not match. Never tells `Stop`: that ends the run.
    fn mismatch(&mut self, frame: u64, mismatch: &Mismatch) -> Result<OnMismatch, Error> {
        if self.settings.on_mismatch == OnMismatch::Stop {
            return Err(Error::Mismatch { frame, problem: mismatch.to_string() });
        }
        *self.counts.mismatches.entry(mismatch.field).or_default() += 1;
        self.counts.first_mismatch.get_or_insert_with(|| (frame, mismatch.to_string()));
        Ok(self.settings.on_mismatch)
    }

    /// The next Sequence Number of an SA; a packet that is not compressed takes none.
    fn next_number(&mut self, sa: u32, to: &PreparedSa) -> Result<u64, Error> {
        let used_up = || Error::usage(format!("SA {}: its Sequence Numbers are used up", to.sa.name), "use a new SA");
        let next = self.next_sn.get_mut(sa as usize).ok_or_else(used_up)?;
        let sn = *next;
        if !to.sa.esn && sn > u64::from(u32::MAX) {
            return Err(used_up());
        }
        *next = sn.checked_add(1).ok_or_else(used_up)?;
        Ok(sn)
    }

    /// A packet that could not be sealed without using a nonce twice.
    fn refused(&mut self) -> Make {
        self.counts.refused += 1;
        Make::Left
    }

    /// The IV under which a packet is sealed, for a nonce that no other packet has; `None` if there is none. Under a key of
    /// the input, or if it is to be `issued`, an explicit IV is issued, else the nonce is made of `sn`.
    #[inline]
    fn iv(
        &mut self,
        (sa, to, key): (u32, &PreparedSa, KeyId),
        sn: u64,
        issued: bool,
        digest: u64,
    ) -> Result<Option<u128>, Error> {
        let key_of_input = self.settings.input == Input::Esp && self.has_key_of_input.get(sa as usize) == Some(&true);
        if !has_nonce(to) || key_of_input || issued && !to.cipher().suite().implicit_iv {
            return self.iv_of_its_own(to, key, key_of_input).map(Some);
        }
        if !self.used.take(key, sn, Some(digest)) {
            return Ok(None);
        }
        // A packet that passes as standard ESP may have the same key.
        if self.settings.on_mismatch == OnMismatch::Pass {
            self.issuer.seen(key, sn)?;
        }
        Ok(Some(padded(sn)))
    }

    /// Where it is not made of a Sequence Number.
    fn iv_of_its_own(&mut self, to: &PreparedSa, key: KeyId, key_of_input: bool) -> Result<u128, Error> {
        let (iv_len, implicit_iv) = (to.cipher().iv_len(), to.cipher().suite().implicit_iv);
        if !has_nonce(to) {
            self.counts.nonces.random |= iv_len > 0;
            let mut iv = [0; 16];
            self.random.fill(iv.get_mut(..iv_len).unwrap_or_default())?;
            return Ok(u128::from_be_bytes(iv));
        }
        if key_of_input && implicit_iv {
            if self.settings.allow_nonce_reuse {
                return Ok(0);
            }
            return Err(Error::usage(
                format!(
                    "SA {}: with a key of the input and an implicit IV, packets would be sealed under nonces that the \
                     input used for other plaintexts",
                    to.sa.name
                ),
                "give the keys of the input with --esp-keys and other ones with --keys (in a laboratory \
                 --allow-nonce-reuse: then whoever has both captures learns both plaintexts and can forge packets)",
            ));
        }
        self.counts.nonces.random = true;
        Ok(padded(self.issuer.issue(key)?))
    }

    /// Standard ESP on an SA without context between these addresses; `None` as [`Decider::iv`]. Of a plain packet there is a
    /// `carrier`. `write` appends what is protected, and tells its Next Header.
    fn standard(
        &mut self,
        outer: &OuterHeader,
        carrier: Option<u32>,
        texts: &mut Texts,
        write: impl FnOnce(&mut Vec<u8>) -> u8,
    ) -> Result<Option<Make>, Error> {
        let mut all = (0..).zip(self.output.entries());
        let found = all.find(|(_, entry)| entry.context.is_none() && entry.spi().is_some() && entry.accepts(outer));
        let Some((sa, to, key)) = found.and_then(|(sa, _)| self.sa(sa).map(|(to, key)| (sa, to, key))) else {
            return Err(Error::usage(
                format!("--on-mismatch pass needs an SA without context from {} to {}", outer.src, outer.dst),
                "add one to the key file, or use --on-mismatch skip",
            ));
        };
        let sn = self.next_number(sa, to)?;
        let clear = texts.write(|bytes| {
            let start = bytes.len();
            let next_header = write(bytes);
            esp::write_trailer(start, next_header, to.cipher().block(), bytes);
        });
        let digest = self.digester.of(sa, texts.get(clear));
        let iv = self.iv((sa, to, key), sn, true, digest)?;
        let content = Content::Standard;
        Ok(iv.map(|iv| texts.send(Sending { sa, carrier, in_front: None, content, clear, protected_len: 0, sn, iv })))
    }
}

/// Whether receivers would put the packet together with others before they decrypt it.
fn is_ipv4_fragment(datagram: &Datagram<'_>) -> bool {
    let is_v4 = datagram.outer.version == IpVersion::V4;
    let field = datagram.header.get(6..8).and_then(|field| field.first_chunk());
    is_v4 && field.is_some_and(|field| u16::from_be_bytes(*field) & 0x3fff != 0)
}

/// Whether an SA seals under nonces, which must not meet another packet: counter modes, but neither AES-CBC nor NULL.
fn has_nonce(entry: &PreparedSa) -> bool {
    entry.cipher().iv_len() == 8 || entry.cipher().suite().implicit_iv
}

/// Eight bytes as an IV.
fn padded(number: u64) -> u128 {
    u128::from(number) << 64
}

fn same_key(to: &PreparedSa) -> Error {
    Error::usage(
        format!("SA {}: another SA has the same key and would use the same nonces", to.sa.name),
        "give every SA a key of its own",
    )
}
