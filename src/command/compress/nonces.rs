//! Sequence numbers and IVs of the output. No nonce is used for two packets.

use std::collections::HashSet;

use super::counts::Nonces;
use super::{Input, OnMismatch, Settings};
use crate::cipher::Random;
use crate::cipher::nonces::{IvIssuer, KeyId, KeyIds, UsedNumbers};
use crate::command::input_iv;
use crate::decoder::outcome::Outcome;
use crate::error::{Error, Remedy};
use crate::sa::table::{PreparedSa, SaTable};

/// Assigns sequence numbers and IVs to the packets of the output, in capture order.
#[derive(Debug)]
pub(super) struct NonceSource<'t> {
    input: &'t SaTable,
    output: &'t SaTable,
    settings: &'t Settings,
    /// By SA of the output: its key.
    keys: Vec<KeyId>,
    /// By SA of the input: its key, if the output uses it too.
    input_keys: Vec<Option<KeyId>>,
    /// By SA of the output: whether the input uses its key, too.
    has_key_of_input: Vec<bool>,
    /// By SA of the output: the next sequence number for plain input.
    next_sn: Vec<u64>,
    issuer: IvIssuer,
    random: Random,
    used: UsedNumbers,
    /// How the nonces so far were chosen.
    pub origins: Nonces,
}

/// An SA of the output: its number, the SA, its key.
type OutputSa<'e> = (u32, &'e PreparedSa, KeyId);

impl<'t> NonceSource<'t> {
    pub(super) fn new(input: &'t SaTable, output: &'t SaTable, settings: &'t Settings) -> NonceSource<'t> {
        let first = |entry: &PreparedSa| entry.context.as_ref().and_then(|context| context.esp_sn).unwrap_or(1);
        let mut ids = KeyIds::default();
        let keys: Vec<KeyId> = output.entries().iter().map(|entry| ids.of(&entry.sa.keys)).collect();
        let input_keys: Vec<_> = input.entries().iter().map(|entry| ids.known(&entry.sa.keys)).collect();
        let shared: HashSet<KeyId> = input_keys.iter().copied().flatten().collect();
        NonceSource {
            input,
            output,
            settings,
            has_key_of_input: keys.iter().map(|key| shared.contains(key)).collect(),
            keys,
            input_keys,
            next_sn: output.entries().iter().map(first).collect(),
            issuer: IvIssuer::new(Random::new(settings.seed, "iv")),
            random: Random::new(settings.seed, "blocks"),
            used: UsedNumbers::default(),
            origins: Nonces::default(),
        }
    }

    /// An SA of the output.
    pub(super) fn sa(&self, sa: u32) -> Option<OutputSa<'t>> {
        Some((sa, self.output.entry(sa)?, self.keys.get(sa as usize).copied()?))
    }

    /// Records the IV of a packet of the input whose key the output uses, too.
    pub(super) fn note_input(&mut self, outcome: &Outcome<'_>) -> Result<(), Error> {
        let Some(sa) = outcome.sa else { return Ok(()) };
        let Some(key) = self.input_keys.get(sa as usize).copied().flatten() else { return Ok(()) };
        if super::route::is_without_packet(outcome) {
            return Ok(());
        }
        match self.input.entry(sa).and_then(|entry| input_iv(outcome, entry, self.input)) {
            Some(iv) => self.issuer.seen(key, iv),
            None => Ok(()),
        }
    }

    /// The next sequence number of an SA. Packets that are not compressed do not use one.
    pub(super) fn next_number(&mut self, sa: u32, to: &PreparedSa) -> Result<u64, Error> {
        let used_up = || Error::usage(format!("SA {}: its Sequence Numbers are used up", to.sa.name), "use a new SA");
        let next = self.next_sn.get_mut(sa as usize).ok_or_else(used_up)?;
        let sn = *next;
        if !to.sa.esn && sn > u64::from(u32::MAX) {
            return Err(used_up());
        }
        *next = sn.checked_add(1).ok_or_else(used_up)?;
        Ok(sn)
    }

    /// The IV for a packet with the sequence number `sn`. Returns `None` if its nonce was already used for another
    /// packet. `digest` identifies its clear text. The nonce is made from `sn`, except with a key of the input, or
    /// if an explicit IV is to be `issued`.
    #[inline]
    pub(super) fn iv(
        &mut self,
        (sa, to, key): OutputSa<'_>,
        sn: u64,
        issued: bool,
        digest: u64,
    ) -> Result<Option<u128>, Error> {
        let key_of_input = self.settings.input == Input::Esp && self.has_key_of_input.get(sa as usize) == Some(&true);
        if !has_nonce(to) || key_of_input || issued && !to.cipher().suite().implicit_iv {
            return self.issued_iv(to, key, key_of_input).map(Some);
        }
        if !self.used.take(key, sn, Some(digest)) {
            return Ok(None);
        }
        // A packet that is written as standard ESP may have the same key.
        if self.settings.on_mismatch == OnMismatch::Pass {
            self.issuer.seen(key, sn)?;
        }
        Ok(Some(padded(sn)))
    }

    /// An IV that does not depend on the sequence number.
    fn issued_iv(&mut self, to: &PreparedSa, key: KeyId, key_of_input: bool) -> Result<u128, Error> {
        let (iv_len, implicit_iv) = (to.cipher().iv_len(), to.cipher().suite().implicit_iv);
        if !has_nonce(to) {
            self.origins.random |= iv_len > 0;
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
                    "SA {}: with a key of the input and an implicit IV, packets would be encrypted with nonces that \
                         the input used for other plaintexts",
                    to.sa.name
                ),
                Remedy::OtherKeys,
            ));
        }
        self.origins.random = true;
        Ok(padded(self.issuer.issue(key)?))
    }
}

/// Whether an SA encrypts with nonces, which must differ for each packet. Counter modes do; AES-CBC and NULL do
/// not.
pub(super) fn has_nonce(entry: &PreparedSa) -> bool {
    entry.cipher().iv_len() == 8 || entry.cipher().suite().implicit_iv
}

/// An IV of eight bytes.
fn padded(number: u64) -> u128 {
    u128::from(number) << 64
}
