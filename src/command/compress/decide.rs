//! Decides in capture order what to do with each packet. This part depends on earlier packets.

use super::counts::Compressed;
use super::nonces::{NonceSource, has_nonce};
use super::output_esp::{Content, OutputEsp};
use super::route::Route;
use super::{OnMismatch, Settings};
use crate::cipher::nonces::Digester;
use crate::codec::{Mismatch, State};
use crate::decoder::arena::Arena;
use crate::decoder::outcome::Outcome;
use crate::decoder::status::Reason;
use crate::encoder::{ClearTexts, MatchedPacket, RuleMatch, RuleMatcher, States, outer_header};
use crate::error::{Error, Remedy};
use crate::net::ipv4::Ipv4;
use crate::net::{Datagram, IpVersion, OuterHeader, esp};
use crate::sa::table::{PreparedSa, SaTable};

/// What to do with a packet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// It is written as it is.
    Keep,
    /// It is omitted.
    Omit,
    /// A radio frame without a packet is omitted.
    OmitRadioFrame,
    /// A fragment is held until its packet is complete.
    Hold,
    /// It is replaced by ESP.
    Esp(OutputEsp),
}

/// Decides about packets in capture order.
#[derive(Debug)]
pub(super) struct Decider<'t> {
    matcher: &'t RuleMatcher<'t>,
    input: &'t SaTable,
    output: &'t SaTable,
    settings: &'t Settings,
    states: States,
    nonces: NonceSource<'t>,
    digester: Digester,
    /// Packets that did not match, and packets that were rejected.
    counts: Compressed,
    /// Buffer for a frame that is built on trial.
    frame: Vec<u8>,
}

impl<'t> Decider<'t> {
    pub(super) fn new(
        matcher: &'t RuleMatcher<'t>,
        (input, output): (&'t SaTable, &'t SaTable),
        settings: &'t Settings,
        digester: Digester,
    ) -> Decider<'t> {
        Decider {
            matcher,
            input,
            output,
            settings,
            states: States::default(),
            nonces: NonceSource::new(input, output, settings),
            digester,
            counts: Compressed::default(),
            frame: vec![],
        }
    }

    /// The counts of these decisions.
    pub(super) fn into_counts(self) -> Compressed {
        Compressed { nonces: self.nonces.origins, ..self.counts }
    }

    /// Decides about a packet of the frame whose first packet is `first`.
    pub(super) fn decide(
        &mut self,
        frame: u64,
        (first, outcome): (&Outcome<'_>, &Outcome<'_>),
        arena: &Arena,
        route: &Route,
        texts: &mut ClearTexts,
    ) -> Result<Action, Error> {
        self.nonces.note_input(outcome)?;
        for nested in first.inside_of(outcome) {
            self.nonces.note_input(nested)?;
        }
        match route {
            Route::Omitted => Ok(Action::Omit),
            Route::Fragment => Ok(Action::Hold),
            Route::NoPacket => Ok(Action::OmitRadioFrame),
            Route::Other => Ok(Action::Keep),
            Route::NotIp => self.without_packet(frame, outcome),
            Route::LinkEncrypted if self.settings.on_mismatch == OnMismatch::Pass => Ok(Action::Keep),
            Route::LinkEncrypted => {
                self.counts.decrypted += 1;
                Ok(Action::Omit)
            }
            Route::Esp(Some(rule_match)) => self.esp_packet(frame, outcome, arena, rule_match, texts),
            Route::Esp(None) => {
                let states = Some(&self.states);
                let with_state = |outer| self.matcher.esp(outcome, &outer, arena, states, texts);
                let rule_match = outcome.outer().and_then(with_state).unwrap_or(RuleMatch::NoContext);
                self.esp_packet(frame, outcome, arena, &rule_match, texts)
            }
            Route::Plain(rule_match) => {
                let Some(datagram) = outcome.datagram() else { return self.without_packet(frame, outcome) };
                if let Some(rule_match) = rule_match {
                    return self.plain_packet(frame, outcome, &datagram, rule_match, texts);
                }
                let rule_match = self.matcher.plain(&datagram, Some(&self.states), texts);
                self.plain_packet(frame, outcome, &datagram, &rule_match.unwrap_or(RuleMatch::NoContext), texts)
            }
        }
    }

    /// Decides about an ESP packet that was decrypted.
    fn esp_packet(
        &mut self,
        frame: u64,
        outcome: &Outcome<'_>,
        arena: &Arena,
        rule_match: &RuleMatch,
        texts: &mut ClearTexts,
    ) -> Result<Action, Error> {
        let Some(sn) = outcome.esp.map(|esp| esp.sequence) else { return Ok(Action::Keep) };
        match rule_match {
            RuleMatch::NoContext | RuleMatch::NoTunnelIp(_) => Ok(Action::Keep),
            RuleMatch::Mismatch { mismatch, .. } => {
                if self.mismatch(frame, mismatch)? == OnMismatch::Skip {
                    return Ok(Action::Omit);
                }
                let Some(outer) = outcome.outer() else { return Ok(Action::Keep) };
                let esp = self.standard_esp(&outer, None, texts, |clear| outcome.protected(arena, clear))?;
                Ok(esp.map_or_else(|| self.refused(), Action::Esp))
            }
            RuleMatch::Matches(matched) => {
                let MatchedPacket { sa, clear, protected_len, keeps_ciphertext, digest, state, .. } = *matched;
                let Some(to) = self.nonces.sa(sa) else { return Ok(Action::Keep) };
                let (content, iv) = match keeps_ciphertext {
                    true => (Content::Unchanged, Some(0)),
                    false => (Content::Compressed, self.nonces.iv(to, sn, false, digest)?),
                };
                let Some(iv) = iv else { return Ok(self.refused()) };
                let esp = OutputEsp { sa, carrier: None, in_front: None, content, clear, protected_len, sn, iv };
                if state != State::default()
                    && let Some(outer) = outcome.outer()
                {
                    self.note_state(outcome, &esp, &outer, state);
                }
                Ok(Action::Esp(esp))
            }
        }
    }

    /// Decides about a plain IP packet.
    fn plain_packet(
        &mut self,
        frame: u64,
        outcome: &Outcome<'_>,
        datagram: &Datagram<'_>,
        rule_match: &RuleMatch,
        texts: &mut ClearTexts,
    ) -> Result<Action, Error> {
        match rule_match {
            RuleMatch::NoContext => self.without_packet(frame, outcome),
            RuleMatch::NoTunnelIp(sa) => Err(self.no_tunnel_ip(frame, *sa)),
            RuleMatch::Mismatch { sa, mismatch } => {
                if self.mismatch(frame, mismatch)? == OnMismatch::Skip {
                    return Ok(Action::Omit);
                }
                self.plain_as_standard(frame, datagram, *sa, texts)
            }
            RuleMatch::Matches(matched) => {
                let MatchedPacket { sa, in_front, clear, protected_len, digest, state, .. } = *matched;
                let Some((_, to, key)) = self.nonces.sa(sa) else { return Ok(Action::Omit) };
                let Some(outer) = outer_header(to, &datagram.outer) else { return Ok(Action::Omit) };
                let sn = self.nonces.next_number(sa, to)?;
                let iv = self.nonces.iv((sa, to, key), sn, false, digest)?;
                let iv = iv.ok_or_else(|| same_key(to))?;
                self.nonces.origins.numbers_of_plain |= has_nonce(to);
                let content = Content::Compressed;
                let esp = OutputEsp { sa, carrier: Some(sa), in_front, content, clear, protected_len, sn, iv };
                if state != State::default() {
                    self.note_state(outcome, &esp, &outer, state);
                }
                Ok(Action::Esp(esp))
            }
        }
    }

    /// A plain packet that the context of `sa` does not match is written as standard ESP with the same outer header.
    fn plain_as_standard(
        &mut self,
        frame: u64,
        datagram: &Datagram<'_>,
        sa: u32,
        texts: &mut ClearTexts,
    ) -> Result<Action, Error> {
        let Some(to) = self.output.entry(sa) else { return Ok(Action::Omit) };
        if !to.is_tunnel() && is_ipv4_fragment(datagram) {
            return Err(Error::usage(
                format!("frame {frame}: a fragment cannot be written as ESP of transport mode (RFC 4303 3.3.4)"),
                Remedy::TunnelContext,
            ));
        }
        let outer = outer_header(to, &datagram.outer).ok_or_else(|| self.no_tunnel_ip(frame, sa))?;
        let esp = self.standard_esp(&outer, Some(sa), texts, |clear| {
            if to.is_tunnel() {
                clear.extend_from_slice(datagram.header);
            }
            clear.extend_from_slice(datagram.payload);
            if to.is_tunnel() { datagram.outer.version.next_header() } else { datagram.protocol }
        })?;
        esp.map(Action::Esp).ok_or_else(|| same_key(to))
    }

    /// Writes standard ESP on an SA without context between these addresses. Returns `None` if its nonce was
    /// already used. A plain packet has a `carrier`. `write` appends the protected data and returns its Next
    /// Header.
    fn standard_esp(
        &mut self,
        outer: &OuterHeader,
        carrier: Option<u32>,
        texts: &mut ClearTexts,
        write: impl FnOnce(&mut Vec<u8>) -> u8,
    ) -> Result<Option<OutputEsp>, Error> {
        let mut all = (0..).zip(self.output.entries());
        let found = all.find(|(_, entry)| entry.context.is_none() && entry.spi().is_some() && entry.accepts(outer));
        let Some((sa, to, key)) = found.and_then(|(sa, _)| self.nonces.sa(sa)) else {
            return Err(Error::usage(
                format!("standard ESP needs an SA without context from {} to {}", outer.src, outer.dst),
                Remedy::StandardSa,
            ));
        };
        let sn = self.nonces.next_number(sa, to)?;
        let clear = texts.write(|bytes| {
            let start = bytes.len();
            let next_header = write(bytes);
            esp::write_trailer(start, next_header, to.cipher().block(), bytes);
        });
        let digest = self.digester.of(sa, texts.get(clear));
        let iv = self.nonces.iv((sa, to, key), sn, true, digest)?;
        let (in_front, content) = (None, Content::Standard);
        Ok(iv.map(|iv| OutputEsp { sa, carrier, in_front, content, clear, protected_len: 0, sn, iv }))
    }

    /// Stores the state that a packet leaves for the next one, except if no frame can hold the packet.
    #[cold]
    fn note_state(&mut self, outcome: &Outcome<'_>, esp: &OutputEsp, outer: &OuterHeader, state: State) {
        self.frame.clear();
        let room = |out: &mut Vec<u8>| out.resize(out.len() + esp.len(self.output), 0);
        if esp.append_around(outcome, (self.input, self.output), room, &mut self.frame).is_ok() {
            self.states.set((esp.sa, self.output.entries().len()), outer, state);
        }
    }

    /// Decides about a frame of plain input without a whole IP packet. No context can encrypt it.
    fn without_packet(&mut self, frame: u64, outcome: &Outcome<'_>) -> Result<Action, Error> {
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
        // The packets of radio frames are written without the frames.
        Ok(if self.settings.on_mismatch == OnMismatch::Pass && !outcome.radio { Action::Keep } else { Action::Omit })
    }

    /// Counts a packet that does not match. Never returns `Stop`, because that ends the run.
    fn mismatch(&mut self, frame: u64, mismatch: &Mismatch) -> Result<OnMismatch, Error> {
        if self.settings.on_mismatch == OnMismatch::Stop {
            return Err(Error::Mismatch { frame, problem: mismatch.to_string() });
        }
        *self.counts.mismatches.entry(mismatch.field).or_default() += 1;
        self.counts.first_mismatch.get_or_insert_with(|| (frame, mismatch.to_string()));
        Ok(self.settings.on_mismatch)
    }

    /// Omits a packet that could not be encrypted without using a nonce twice.
    fn refused(&mut self) -> Action {
        self.counts.refused += 1;
        Action::Omit
    }

    fn no_tunnel_ip(&self, frame: u64, sa: u32) -> Error {
        let problem = format!("no tunnel_ip, which this context needs to encrypt the plain packet of frame {frame}");
        let help = "write `tunnel_ip: { src: ..., dst: ... }`: the addresses of the outer header";
        match self.output.entry(sa).and_then(|to| to.context.as_ref()) {
            Some(context) => Error::line(&context.origin.path, context.origin.line, problem, help),
            None => Error::usage(problem, help),
        }
    }
}

/// Whether receivers would reassemble the packet before they decrypt it.
fn is_ipv4_fragment(datagram: &Datagram<'_>) -> bool {
    datagram.outer.version == IpVersion::V4 && Ipv4::of(datagram.header).is_some_and(|header| header.is_fragment())
}

fn same_key(to: &PreparedSa) -> Error {
    Error::usage(
        format!("SA {}: another SA has the same key and would use the same nonces", to.sa.name),
        "give every SA a key of its own",
    )
}
