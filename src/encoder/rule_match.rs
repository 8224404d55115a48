//! Finds the context that matches a packet and compresses the packet with it. This does not depend on earlier packets,
//! except in dialects that keep state.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::{ClearTexts, States, TextSpan, outer_header};
use crate::cipher::nonces::Digester;
use crate::codec::{Mismatch, State};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Bytes;
use crate::hash::MixHasher;
use crate::net::{Datagram, OuterHeader, esp, protocol};
use crate::sa::table::{PreparedSa, SaTable};

/// Whether a context of the output matches a packet.
#[derive(Debug)]
pub(crate) enum RuleMatch {
    /// Its SA has no context.
    NoContext,
    /// No context matches.
    Mismatch {
        /// The SA of the output whose context was tried first.
        sa: u32,
        /// The field that does not match this context.
        mismatch: Mismatch,
    },
    /// No context matches. The context of this SA of the output would match if it had a `tunnel_ip`.
    NoTunnelIp(u32),
    /// A context matches.
    Matches(MatchedPacket),
}

/// A packet that a context matches.
#[derive(Debug)]
pub(crate) struct MatchedPacket {
    /// The SA of the output.
    pub sa: u32,
    /// For a plain packet in transport mode: the headers that precede ESP.
    pub in_front: Option<HeadersBeforeEsp>,
    /// The clear text to encrypt.
    pub clear: TextSpan,
    /// Number of packet bytes that ESP protects.
    pub protected_len: u32,
    /// The ciphertext of the input can be copied. Only the ESP header changes.
    pub keeps_ciphertext: bool,
    /// Digest of the clear text, from the [`Digester`] of the run; 0 if the ciphertext is copied.
    pub digest: u64,
    /// The state that the packet leaves for the next one of its SA.
    pub state: State,
}

/// The headers of a packet that precede ESP in transport mode. Some extension headers are not among them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeadersBeforeEsp {
    /// Length of these headers in bytes.
    pub len: u32,
    /// Offset of the byte that names the next protocol after them.
    pub protocol_offset: u32,
}

/// Number of bytes from the ESP header to the ICV of a packet on the SA `to`: as Diet-ESP with a clear text of
/// `clear_len` bytes, and as standard ESP with the same cipher that protects `protected_len` bytes.
pub(crate) fn wire_bytes(to: &PreparedSa, clear_len: usize, protected_len: usize) -> Bytes {
    let iv_and_icv = to.least_len() - to.header_len();
    let standard = esp::standard_len(protected_len, iv_and_icv, to.cipher().block(), 0);
    Bytes { diet: (to.least_len() + clear_len) as u64, esp: standard as u64 }
}

/// Finds the contexts of packets.
#[derive(Debug)]
pub(crate) struct RuleMatcher<'t> {
    input: &'t SaTable,
    output: &'t SaTable,
    /// By SPI: its SAs of the output with a context, in file order, as an index of `of_spi`.
    by_spi: HashMap<u32, usize, BuildHasherDefault<MixHasher>>,
    of_spi: Vec<Vec<u32>>,
    /// By SA of the input, if it has an SPI: the same index.
    by_input: Box<[Option<usize>]>,
    has_states: bool,
    digester: Digester,
}

impl<'t> RuleMatcher<'t> {
    /// A matcher for packets that `input` decrypts and for the contexts of `output`.
    pub(crate) fn new(input: &'t SaTable, output: &'t SaTable, digester: Digester) -> RuleMatcher<'t> {
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

    /// Matches a decrypted ESP packet against the SA of the output with the same SPI and outer addresses. Returns
    /// `None` if the context needs `states` and they are not given.
    pub(crate) fn esp(
        &self,
        outcome: &Outcome<'_>,
        outer: &OuterHeader,
        arena: &Arena,
        states: Option<&States>,
        texts: &mut ClearTexts,
    ) -> Option<RuleMatch> {
        let (Some(of_input), Some(esp)) = (outcome.sa, &outcome.esp) else { return Some(RuleMatch::NoContext) };
        let Some(from) = self.input.entry(of_input) else { return Some(RuleMatch::NoContext) };
        let place = match from.spi() {
            Some(_) => self.by_input.get(of_input as usize).copied().flatten(),
            None => self.by_spi.get(&esp.spi).copied(),
        };
        let in_udp = outcome.udp_header(self.input).is_some();
        let Some((sa, to)) = place.and_then(|place| self.sa_of(place, outer, in_udp)) else {
            return Some(RuleMatch::NoContext);
        };
        let mut state = match states {
            Some(states) => states.of(sa, outer),
            None if to.codec.is_stateful() => return None,
            None => State::default(),
        };
        let packet = outcome.packet(arena);
        // The outer header is kept. In transport mode it is the header of the packet.
        if !to.is_tunnel()
            && !packet.is_empty()
            && outcome.restored.as_ref().is_some_and(|restored| restored.payload_offset == 0)
        {
            let mismatch = Mismatch::says("ipsec_mode", "is Tunnel, not Transport");
            return Some(RuleMatch::Mismatch { sa, mismatch });
        }
        let compressed = texts.try_write(|text| to.codec.append_compressed(packet, outer, &mut state, text));
        let (compressed, clear) = match compressed {
            Ok(compressed) => compressed,
            Err(mismatch) => return Some(RuleMatch::Mismatch { sa, mismatch }),
        };
        // Only bits of SPI and Sequence Number are omitted.
        let keeps_ciphertext =
            texts.get(clear) == outcome.clear(arena) && from.sa.keys == to.sa.keys && from.esn() == to.esn();
        let digest = if keeps_ciphertext { 0 } else { self.digester.of(sa, texts.get(clear)) };
        let protected_len = (packet.len() - compressed.payload_offset) as u32;
        let in_front = None;
        Some(RuleMatch::Matches(MatchedPacket { sa, in_front, clear, protected_len, keeps_ciphertext, digest, state }))
    }

    /// Matches a plain IP packet against all contexts. The first matching context is used. Returns `None` if a
    /// context needs `states` and they are not given.
    pub(crate) fn plain(
        &self,
        datagram: &Datagram<'_>,
        states: Option<&States>,
        texts: &mut ClearTexts,
    ) -> Option<RuleMatch> {
        if states.is_none() && self.has_states {
            return None;
        }
        let mut packet = std::mem::take(&mut texts.packet);
        packet.clear();
        packet.extend_from_slice(datagram.header);
        packet.extend_from_slice(datagram.payload);
        let rule_match = self.plain_packet(datagram, &packet, states, texts);
        texts.packet = packet;
        Some(rule_match)
    }

    fn plain_packet(
        &self,
        datagram: &Datagram<'_>,
        packet: &[u8],
        states: Option<&States>,
        texts: &mut ClearTexts,
    ) -> RuleMatch {
        let mut first_mismatch = None;
        for (sa, to) in (0..).zip(self.output.entries()) {
            let Some(outer) = outer_header(to, &datagram.outer).filter(|outer| to.accepts(outer)) else { continue };
            let mut state = states.map(|states| states.of(sa, &outer)).unwrap_or_default();
            match texts.try_write(|text| to.codec.append_compressed(packet, &outer, &mut state, text)) {
                Ok((compressed, clear)) => {
                    let digest = self.digester.of(sa, texts.get(clear));
                    let protected_len = (packet.len() - compressed.payload_offset) as u32;
                    let [len, protocol_offset] =
                        [compressed.payload_offset, compressed.protocol_offset].map(|offset| offset as u32);
                    let in_front = Some(HeadersBeforeEsp { len, protocol_offset });
                    let keeps_ciphertext = false;
                    return RuleMatch::Matches(MatchedPacket {
                        sa,
                        in_front,
                        clear,
                        protected_len,
                        keeps_ciphertext,
                        digest,
                        state,
                    });
                }
                Err(mismatch) => _ = first_mismatch.get_or_insert((sa, mismatch)),
            }
        }
        self.no_match(datagram, packet, first_mismatch, texts)
    }

    /// Why no context matches a plain packet: one would match with other outer addresses, or else the first field
    /// that did not match.
    #[cold]
    fn no_match(
        &self,
        datagram: &Datagram<'_>,
        packet: &[u8],
        mut first_mismatch: Option<(u32, Mismatch)>,
        texts: &mut ClearTexts,
    ) -> RuleMatch {
        for (sa, to) in (0..).zip(self.output.entries()).filter(|(_, to)| to.context.is_some()) {
            let outer = outer_header(to, &datagram.outer);
            if outer.is_some_and(|outer| to.accepts(&outer)) {
                continue;
            }
            let around = outer.unwrap_or(datagram.outer);
            let state = &mut State::default();
            match (texts.try_write(|text| to.codec.append_compressed(packet, &around, state, text)), outer) {
                (Ok(_), None) => return RuleMatch::NoTunnelIp(sa),
                (Ok(_), Some(_)) => {
                    let mismatch = Mismatch::says("outer addresses", "are not among those of its SA");
                    return RuleMatch::Mismatch { sa, mismatch };
                }
                (Err(mismatch), _) => _ = first_mismatch.get_or_insert((sa, mismatch)),
            }
        }
        match first_mismatch {
            Some((sa, mismatch)) => RuleMatch::Mismatch { sa, mismatch },
            None => RuleMatch::NoContext,
        }
    }

    /// The SA of the output that an ESP packet of the input belongs to, among those with its SPI and a context. For
    /// ESP in UDP, these are SAs of protocol 50.
    fn sa_of(&self, place: usize, outer: &OuterHeader, in_udp: bool) -> Option<(u32, &'t PreparedSa)> {
        self.of_spi.get(place)?.iter().find_map(|sa| {
            let entry = self.output.entry(*sa)?;
            let ours = entry.accepts(outer) && (!in_udp || entry.protocol == protocol::ESP);
            ours.then_some((*sa, entry))
        })
    }
}
