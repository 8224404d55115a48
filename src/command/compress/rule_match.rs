//! Finds the context that matches a packet and compresses the packet with it. This does not depend on earlier packets,
//! except in dialects that keep state.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::decide::States;
use super::{InFront, Make, Sending, new_outer};
use crate::cipher::nonces::Digester;
use crate::codec::{Mismatch, State};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::hash::MixHasher;
use crate::net::{Datagram, OuterHeader, esp};
use crate::sa::table::{PreparedSa, SaTable};

/// Whether a context of the output matches a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum RuleMatch {
    /// There is no context for its SA.
    NotOurs,
    /// None matches: see [`Texts::mismatch`].
    Mismatch(u32),
    /// None matches. The one of this SA of the output would if it had a `tunnel_ip`.
    NoTunnelIp(u32),
    /// One matches: see [`Texts::matched`].
    Matches(u32),
}

/// A packet that a context matches.
#[derive(Debug)]
pub(super) struct MatchedPacket {
    /// Its SA.
    pub sa: u32,
    /// Of a plain packet, what stays in front of ESP in transport mode.
    pub in_front: Option<InFront>,
    /// The clear text.
    pub clear: Text,
    /// Bytes that ESP protects of the packet.
    pub protected_len: u32,
    /// The ciphertext of the input can stay as it is.
    pub as_it_is: bool,
    /// By the [`Digester`] of the run.
    pub digest: u64,
    /// The state that it leaves for the next packet.
    pub state: State,
}

/// The clear texts, matches, mismatches and packets to send of a window.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    matched: Vec<MatchedPacket>,
    sendings: Vec<Sending>,
    mismatches: Vec<(u32, Mismatch)>,
    plain: Vec<u8>,
}

/// One of [`Texts`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Text {
    start: u32,
    len: u32,
}

impl Text {
    pub(super) fn len(self) -> usize {
        self.len as usize
    }
}

impl Texts {
    /// Forgets the last window and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.matched.clear();
        self.sendings.clear();
        self.mismatches.clear();
    }

    /// The text that `write` appends.
    pub(super) fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Text {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.since(start)
    }

    fn since(&self, start: usize) -> Text {
        Text { start: start as u32, len: (self.bytes.len() - start) as u32 }
    }

    pub(super) fn get(&self, Text { start, len }: Text) -> &[u8] {
        self.bytes.get(start as usize..).and_then(|rest| rest.get(..len as usize)).unwrap_or_default()
    }

    /// Of a [`RuleMatch::Matches`] of this window.
    pub(super) fn matched(&self, index: u32) -> &MatchedPacket {
        self.matched.get(index as usize).expect("the index was made when it was put in")
    }

    #[inline]
    fn matches(&mut self, matched: MatchedPacket) -> RuleMatch {
        self.matched.push(matched);
        RuleMatch::Matches(self.matched.len() as u32 - 1)
    }

    /// A packet is to be made.
    #[inline]
    pub(super) fn send(&mut self, sending: Sending) -> Make {
        self.sendings.push(sending);
        Make::Esp(self.sendings.len() as u32 - 1)
    }

    /// Of a [`Make::Esp`] of this window.
    pub(super) fn sending(&self, index: u32) -> &Sending {
        self.sendings.get(index as usize).expect("the index was made when it was put in")
    }

    /// Of a [`RuleMatch::Mismatch`] of this window: the SA that was asked first, and what it said.
    pub(super) fn mismatch(&self, index: u32) -> &(u32, Mismatch) {
        self.mismatches.get(index as usize).expect("the index was made when the mismatch was put in")
    }

    fn put_mismatch(&mut self, sa: u32, mismatch: Mismatch) -> RuleMatch {
        self.mismatches.push((sa, mismatch));
        RuleMatch::Mismatch(self.mismatches.len() as u32 - 1)
    }
}

/// Finds the contexts of packets.
#[derive(Debug)]
pub(super) struct RuleMatcher<'t> {
    input: &'t SaTable,
    output: &'t SaTable,
    /// SPI to SAs of the output with a context, in file order: an index of `of_spi`.
    by_spi: HashMap<u32, usize, BuildHasherDefault<MixHasher>>,
    of_spi: Vec<Vec<u32>>,
    /// By SA of the input, where it has an SPI, the same index.
    by_input: Box<[Option<usize>]>,
    has_states: bool,
    digester: Digester,
}

impl<'t> RuleMatcher<'t> {
    pub(super) fn new(input: &'t SaTable, output: &'t SaTable, digester: Digester) -> RuleMatcher<'t> {
        let mut by_spi: HashMap<u32, usize, _> = HashMap::default();
        let mut of_spi: Vec<Vec<u32>> = vec![];
        for (index, entry) in (0..).zip(output.entries()).filter(|(_, entry)| entry.context.is_some()) {
            let Some(spi) = entry.spi() else { continue };
            let next = of_spi.len();
            let place = *by_spi.entry(spi).or_insert(next);
            match of_spi.get_mut(place) {
                Some(sas) => sas.push(index),
                None => of_spi.push(vec![index]),
            }
        }
        let by_input = input.entries().iter().map(|entry| by_spi.get(&entry.spi()?).copied()).collect();
        let has_states = output.entries().iter().any(|entry| entry.codec.is_stateful());
        RuleMatcher { input, output, by_spi, of_spi, by_input, has_states, digester }
    }

    /// An ESP packet that opened: the SA of the output is the one of the same SPI and outer addresses. Without `states`
    /// `None` if it takes one.
    pub(super) fn esp(
        &self,
        outcome: &Outcome<'_>,
        outer: &OuterHeader,
        arena: &Arena,
        states: Option<&States>,
        texts: &mut Texts,
    ) -> Option<RuleMatch> {
        let (Some(of_input), Some(esp)) = (outcome.sa, &outcome.esp) else { return Some(RuleMatch::NotOurs) };
        let Some(from) = self.input.entry(of_input) else { return Some(RuleMatch::NotOurs) };
        let place = match from.spi() {
            Some(_) => self.by_input.get(of_input as usize).copied().flatten(),
            None => self.by_spi.get(&esp.spi).copied(),
        };
        let in_udp = outcome.udp_header(self.input).is_some();
        let Some((sa, to)) = place.and_then(|place| self.sa_of(place, outer, in_udp)) else {
            return Some(RuleMatch::NotOurs);
        };
        let mut state = match states {
            Some(states) => states.of(sa, outer),
            None if to.codec.is_stateful() => return None,
            None => State::default(),
        };
        let packet = outcome.packet(arena);
        // The outer header stays, and in transport mode it is that of the packet.
        if !to.is_tunnel()
            && !packet.is_empty()
            && outcome.restored.as_ref().is_some_and(|restored| restored.payload_offset == 0)
        {
            return Some(texts.put_mismatch(sa, Mismatch::says("ipsec_mode", "is Tunnel, not Transport")));
        }
        let start = texts.bytes.len();
        Some(match to.codec.append_compressed(packet, outer, &mut state, &mut texts.bytes) {
            Err(mismatch) => {
                texts.bytes.truncate(start);
                texts.put_mismatch(sa, mismatch)
            }
            Ok(compressed) => {
                let clear = texts.since(start);
                // Only SPI and Sequence Number bits go.
                let as_it_is =
                    texts.get(clear) == outcome.clear(arena) && from.sa.keys == to.sa.keys && from.esn() == to.esn();
                // What stays is not sealed.
                let digest = if as_it_is { 0 } else { self.digester.of(sa, texts.get(clear)) };
                let protected_len = (packet.len() - compressed.payload_offset) as u32;
                texts.matches(MatchedPacket { sa, in_front: None, clear, protected_len, as_it_is, digest, state })
            }
        })
    }

    /// A plain IP packet: the first context that matches takes it. Without `states` `None` if there are such as take one.
    pub(super) fn plain(
        &self,
        datagram: &Datagram<'_>,
        states: Option<&States>,
        texts: &mut Texts,
    ) -> Option<RuleMatch> {
        if states.is_none() && self.has_states {
            return None;
        }
        let mut plain = std::mem::take(&mut texts.plain);
        plain.clear();
        plain.extend_from_slice(datagram.header);
        plain.extend_from_slice(datagram.payload);
        let rule_match = self.plain_packet(datagram, &plain, states, texts);
        texts.plain = plain;
        Some(rule_match)
    }

    fn plain_packet(
        &self,
        datagram: &Datagram<'_>,
        plain: &[u8],
        states: Option<&States>,
        texts: &mut Texts,
    ) -> RuleMatch {
        let mut first_mismatch = None;
        for (sa, to) in (0..).zip(self.output.entries()) {
            let Some(outer) = new_outer(to, datagram).filter(|outer| to.accepts(outer)) else { continue };
            let mut state = states.map(|states| states.of(sa, &outer)).unwrap_or_default();
            let start = texts.bytes.len();
            match to.codec.append_compressed(plain, &outer, &mut state, &mut texts.bytes) {
                Ok(compressed) => {
                    let clear = texts.since(start);
                    let digest = self.digester.of(sa, texts.get(clear));
                    let protected_len = (plain.len() - compressed.payload_offset) as u32;
                    let [len, protocol_offset] =
                        [compressed.payload_offset, compressed.protocol_offset].map(|offset| offset as u32);
                    let in_front = Some(InFront { len, protocol_offset });
                    return texts.matches(MatchedPacket {
                        sa,
                        in_front,
                        clear,
                        protected_len,
                        as_it_is: false,
                        digest,
                        state,
                    });
                }
                Err(mismatch) => {
                    texts.bytes.truncate(start);
                    first_mismatch.get_or_insert((sa, mismatch));
                }
            }
        }
        self.not_taken(datagram, plain, first_mismatch, texts)
    }

    /// What is to be said of a packet that no context takes: that one would, but for its outer addresses, or else what did
    /// not match first.
    #[cold]
    fn not_taken(
        &self,
        datagram: &Datagram<'_>,
        plain: &[u8],
        mut first_mismatch: Option<(u32, Mismatch)>,
        texts: &mut Texts,
    ) -> RuleMatch {
        for (sa, to) in (0..).zip(self.output.entries()).filter(|(_, to)| to.context.is_some()) {
            let outer = new_outer(to, datagram);
            if outer.is_some_and(|outer| to.accepts(&outer)) {
                continue;
            }
            let start = texts.bytes.len();
            let around = outer.unwrap_or(datagram.outer);
            let compressed = to.codec.append_compressed(plain, &around, &mut State::default(), &mut texts.bytes);
            texts.bytes.truncate(start);
            match (compressed, outer) {
                (Ok(_), None) => return RuleMatch::NoTunnelIp(sa),
                (Ok(_), Some(_)) => {
                    let mismatch = Mismatch::says("outer addresses", "are not among those of its SA");
                    return texts.put_mismatch(sa, mismatch);
                }
                (Err(mismatch), _) => _ = first_mismatch.get_or_insert((sa, mismatch)),
            }
        }
        match first_mismatch {
            Some((sa, mismatch)) => texts.put_mismatch(sa, mismatch),
            None => RuleMatch::NotOurs,
        }
    }

    /// The SA of the output with a context that an ESP packet of the input belongs to, among those of its SPI. ESP in UDP
    /// is for those of protocol 50.
    fn sa_of(&self, place: usize, outer: &OuterHeader, in_udp: bool) -> Option<(u32, &'t PreparedSa)> {
        self.of_spi.get(place)?.iter().find_map(|sa| {
            let entry = self.output.entry(*sa)?;
            let ours = entry.accepts(outer) && (!in_udp || entry.protocol == esp::PROTOCOL);
            ours.then_some((*sa, entry))
        })
    }
}
