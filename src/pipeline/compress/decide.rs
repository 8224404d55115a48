//! What depends on the packets before: Sequence Numbers, IVs, nonces that are used, states of dialects.

use std::collections::HashMap;
use std::net::IpAddr;

use super::fit::{Fit, Texts};
use super::{Compressed, Content, Make, OnMismatch, Sending, Settings, carry, is_without_packet, new_outer};
use crate::codec::{Mismatch, State};
use crate::error::Error;
use crate::esp;
use crate::link::{Datagram, Outer};
use crate::pipeline::convert::iv_of;
use crate::pipeline::item::{Arena, Item};
use crate::pipeline::ledger::MULTICAST_SOURCES;
use crate::pipeline::seal::{IvIssuer, KeyId, KeyIds, UsedNumbers};
use crate::pipeline::warnings::Warnings;
use crate::sa::table::{Entry, SaTable};
use crate::suite::Random;

/// What the packets sent before left for the next one, by SA of the output and, as receivers keep it, by source where the
/// destination is a multicast address.
#[derive(Debug, Default)]
pub(super) struct States(HashMap<(u32, Option<IpAddr>), State>);

impl States {
    /// The state that the next packet of an SA meets.
    pub(super) fn of(&self, sa: u32, outer: &Outer) -> State {
        self.0.get(&state_key(sa, outer)).copied().unwrap_or_default()
    }
}

fn state_key(sa: u32, outer: &Outer) -> (u32, Option<IpAddr>) {
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
    /// By SA of the output: the next Sequence Number for plain input.
    next_sn: Vec<u64>,
    pub(super) states: States,
    issuer: IvIssuer,
    random: Random,
    used: UsedNumbers,
    /// What did not match, and what was refused.
    pub(super) counts: Compressed,
    esp: Vec<u8>,
    frame: Vec<u8>,
}

impl<'t> Decider<'t> {
    pub(super) fn new(input: &'t SaTable, output: &'t SaTable, settings: &'t Settings) -> Decider<'t> {
        let first = |entry: &Entry| entry.context.as_ref().and_then(|context| context.esp_sn).unwrap_or(1);
        let mut ids = KeyIds::default();
        Decider {
            input,
            output,
            settings,
            keys: output.entries().iter().map(|entry| ids.of(&entry.sa.keys)).collect(),
            input_keys: input.entries().iter().map(|entry| ids.known(&entry.sa.keys)).collect(),
            next_sn: output.entries().iter().map(first).collect(),
            states: States::default(),
            issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
            random: Random::new(settings.seed, "blocks"),
            used: UsedNumbers::default(),
            counts: Compressed::default(),
            esp: vec![],
            frame: vec![],
        }
    }

    /// Remembers the IV of a packet of the input whose key the output uses too.
    pub(super) fn note_iv(&mut self, item: &Item<'_>) -> Result<(), Error> {
        let Some(sa) = item.sa else { return Ok(()) };
        let Some(key) = self.input_keys.get(sa as usize).copied().flatten() else { return Ok(()) };
        if is_without_packet(item) {
            return Ok(());
        }
        match self.input.entry(sa).and_then(|entry| iv_of(item, entry, self.input)) {
            Some(iv) => self.issuer.seen(key, iv),
            None => Ok(()),
        }
    }

    /// An ESP packet that opened.
    pub(super) fn esp_packet(
        &mut self,
        frame: u64,
        item: &Item<'_>,
        arena: &Arena,
        fit: Fit,
        texts: &mut Texts,
    ) -> Result<Make, Error> {
        let Some(sn) = item.esp.map(|esp| esp.sequence) else { return Ok(Make::NotOurs) };
        match fit {
            Fit::NotOurs => Ok(Make::NotOurs),
            Fit::Mismatch { mismatch, .. } => {
                if self.mismatch(frame, texts.mismatch(mismatch))? == OnMismatch::Skip {
                    return Ok(Make::Left);
                }
                let Some(outer) = item.outer() else { return Ok(Make::NotOurs) };
                self.standard(&outer, None, texts, |clear| item.protected(arena, clear))
            }
            Fit::Fits { sa, clear, protected_len, as_it_is, state } => {
                let Some((to, key)) = self.sa(sa) else { return Ok(Make::NotOurs) };
                let from_key = item.sa.and_then(|sa| self.input_keys.get(sa as usize).copied().flatten());
                let content = if as_it_is {
                    Content::AsItIs { protected_len }
                } else {
                    Content::Compressed { clear, protected_len }
                };
                let iv = if as_it_is {
                    [0; 16]
                } else if from_key == Some(key) {
                    self.iv_under_key_of_input(to, key)?
                } else {
                    let repeated = item.warnings.has(Warnings::DUPLICATE);
                    if !self.used.take(key, sn) && !repeated {
                        self.counts.refused += 1;
                        return Ok(Make::Left);
                    }
                    self.iv(to, sn)?
                };
                let sending = Sending { sa, carrier: None, content, sn, iv };
                if state != State::default()
                    && let Some(datagram) = item.datagram()
                {
                    self.sent(item, &datagram, &sending, &datagram.outer, state);
                }
                Ok(Make::Esp(sending))
            }
        }
    }

    /// A plain IP packet.
    pub(super) fn plain_packet(
        &mut self,
        frame: u64,
        item: &Item<'_>,
        datagram: &Datagram<'_>,
        fit: Fit,
        texts: &mut Texts,
    ) -> Result<Make, Error> {
        match fit {
            Fit::NotOurs => Ok(Make::NotOurs),
            Fit::Mismatch { sa, mismatch } => {
                if self.mismatch(frame, texts.mismatch(mismatch))? == OnMismatch::Skip {
                    return Ok(Make::Left);
                }
                let Some((to, _)) = self.sa(sa) else { return Ok(Make::NotOurs) };
                let Some(outer) = new_outer(to, datagram) else { return Ok(Make::NotOurs) };
                self.standard(&outer, Some(sa), texts, |clear| {
                    if to.is_tunnel() {
                        clear.extend_from_slice(datagram.header);
                    }
                    clear.extend_from_slice(datagram.payload);
                    if to.is_tunnel() { datagram.outer.version.next_header() } else { datagram.protocol }
                })
            }
            Fit::Fits { sa, clear, protected_len, state, .. } => {
                let Some((to, key)) = self.sa(sa) else { return Ok(Make::NotOurs) };
                let Some(outer) = new_outer(to, datagram) else { return Ok(Make::NotOurs) };
                let sn = self.next_number(sa, to)?;
                if !self.used.take(key, sn) {
                    return Err(same_nonces(to));
                }
                let iv = self.iv(to, sn)?;
                let content = Content::Compressed { clear, protected_len };
                let sending = Sending { sa, carrier: Some(sa), content, sn, iv };
                self.sent(item, datagram, &sending, &outer, state);
                Ok(Make::Esp(sending))
            }
        }
    }

    fn sa(&self, sa: u32) -> Option<(&'t Entry, KeyId)> {
        self.output.entry(sa).zip(self.keys.get(sa as usize).copied())
    }

    /// Notes that a packet is sent, and the state it leaves; not if no frame can hold it.
    fn sent(&mut self, item: &Item<'_>, datagram: &Datagram<'_>, sending: &Sending, outer: &Outer, state: State) {
        if state == State::default() {
            return;
        }
        let (input, output) = (self.input, self.output);
        self.esp.clear();
        self.esp.resize(sending.esp_len(item, input, output), 0);
        if carry(item, datagram, (input, output), sending, &self.esp, &mut self.frame).is_err() {
            return;
        }
        // As the receivers' ledger does.
        if self.states.0.len() >= output.entries().len() + MULTICAST_SOURCES {
            self.states.0.retain(|(_, src), _| src.is_none());
        }
        self.states.0.insert(state_key(sending.sa, outer), state);
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
    fn next_number(&mut self, sa: u32, to: &Entry) -> Result<u64, Error> {
        let used_up = || Error::usage(format!("SA {}: its Sequence Numbers are used up", to.sa.name), "use a new SA");
        let next = self.next_sn.get_mut(sa as usize).ok_or_else(used_up)?;
        let sn = *next;
        if !to.sa.esn && sn > u64::from(u32::MAX) {
            return Err(used_up());
        }
        *next = sn.checked_add(1).ok_or_else(used_up)?;
        Ok(sn)
    }

    /// The IV of a packet; one of 8 bytes is `counted`.
    fn iv(&mut self, to: &Entry, counted: u64) -> Result<[u8; 16], Error> {
        let mut iv = [0; 16];
        match to.cryptor.iv_len() {
            0 => {}
            8 => iv[..8].copy_from_slice(&counted.to_be_bytes()),
            _ => self.random.fill(&mut iv)?,
        }
        Ok(iv)
    }

    /// An IV under the key of the input, whose nonces must not meet another plaintext.
    fn iv_under_key_of_input(&mut self, to: &Entry, key: KeyId) -> Result<[u8; 16], Error> {
        if to.cryptor.suite().implicit_iv && !self.settings.allow_nonce_reuse {
            return Err(Error::usage(
                format!(
                    "SA {}: with the key of the input and an implicit IV, every packet would be sealed under a nonce that \
                     the input used for another plaintext",
                    to.sa.name
                ),
                "give the keys of the input with --esp-keys and other ones with --keys (in a laboratory \
                 --allow-nonce-reuse: then whoever has both captures learns both plaintexts and can forge packets)",
            ));
        }
        let iv = if to.cryptor.iv_len() == 8 { self.issuer.issue(key)? } else { 0 };
        self.iv(to, iv)
    }

    /// Standard ESP on an SA without context between these addresses. `write` appends what is protected, and tells its
    /// Next Header.
    fn standard(
        &mut self,
        outer: &Outer,
        carrier: Option<u32>,
        texts: &mut Texts,
        write: impl FnOnce(&mut Vec<u8>) -> u8,
    ) -> Result<Make, Error> {
        let mut all = (0..).zip(self.output.entries());
        let found = all.find(|(_, entry)| {
            entry.context.is_none()
                && entry.sa.spi.is_some()
                && entry.sa.src.accepts(outer.src)
                && entry.sa.dst.accepts(outer.dst)
        });
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
            esp::write_trailer(start, next_header, to.cryptor.block(), bytes);
        });
        let iv = if to.cryptor.iv_len() == 8 { self.issuer.issue(key)? } else { sn };
        if to.cryptor.suite().implicit_iv && !self.used.take(key, sn) {
            return Err(same_nonces(to));
        }
        let iv = self.iv(to, iv)?;
        Ok(Make::Esp(Sending { sa, carrier, content: Content::Standard { clear }, sn, iv }))
    }
}

fn same_nonces(to: &Entry) -> Error {
    Error::usage(
        format!("SA {}: another SA has the same key and would use the same nonces", to.sa.name),
        "give every SA a key of its own",
    )
}
