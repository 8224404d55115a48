//! Chooses how the packets of each SA become standard ESP: unchanged, with a restored header, or encrypted again
//! with other keys.

use std::sync::OnceLock;

use super::{Reseal, Settings};
use crate::cipher::nonces::{IvIssuer, KeyId, KeyIds};
use crate::cipher::{EspCipher, Keys, Random};
use crate::command::input_iv;
use crate::decoder::outcome::Outcome;
use crate::error::Error;
use crate::sa::UsedKeys;
use crate::sa::table::{PreparedSa, SaTable};

/// How the packets of one SA become standard ESP. All packets of an SA are handled alike, because Wireshark uses
/// the first key that matches an SPI.
#[derive(Debug)]
pub(super) enum Conversion {
    /// They are standard ESP already.
    None,
    /// SPI and Sequence Number are restored.
    HeaderOnly,
    /// The implicit IV is inserted, too.
    ExplicitIv,
    /// The restored packet is encrypted again.
    Sealed(Box<Sealer>),
}

/// Encrypts the packets of one SA.
#[derive(Debug)]
pub(super) struct Sealer {
    keys: Keys,
    pub cipher: EspCipher,
    /// The key, if it is the one of the capture.
    kept: Option<KeyId>,
}

/// The conversions of all SAs, chosen when the first packet of an SA is decided.
#[derive(Debug)]
pub(super) struct Conversions<'t> {
    table: &'t SaTable,
    by_sa: Box<[OnceLock<Conversion>]>,
}

/// Keys and IVs of the output, assigned in capture order.
pub(super) struct KeySource {
    /// By SA: IVs that count under a new key.
    counts: Vec<u64>,
    /// By SA: its key, after its first packet.
    keys: Vec<Option<KeyId>>,
    ids: KeyIds,
    random: Random,
    issuer: IvIssuer,
}

impl KeySource {
    pub(super) fn new(table: &SaTable, seed: Option<u64>) -> KeySource {
        KeySource {
            counts: vec![0; table.entries().len()],
            keys: vec![None; table.entries().len()],
            ids: KeyIds::default(),
            random: Random::new(seed, "keys"),
            issuer: IvIssuer::new(Random::new(seed, "iv")),
        }
    }

    /// Records the IV of a packet of the capture, so that it is not used again with the same key.
    #[inline]
    pub(super) fn note_input(&mut self, outcome: &Outcome<'_>, table: &SaTable) -> Result<(), Error> {
        let Some((sa, entry)) = outcome.sa.and_then(|sa| Some((sa, table.entry(sa)?))) else { return Ok(()) };
        let Some(iv) = input_iv(outcome, entry, table) else { return Ok(()) };
        let key = self.key(sa, entry);
        self.issuer.seen(key, iv)
    }

    /// The IV of the next packet of an SA. The cipher uses as many bytes as it needs.
    #[inline]
    fn iv(&mut self, sa: u32, sealer: &Sealer) -> Result<[u8; 16], Error> {
        let mut iv = [0; 16];
        match (sealer.cipher.iv_len(), sealer.kept) {
            (0, _) => {}
            (8, Some(key)) => iv[..8].copy_from_slice(&self.issuer.issue(key)?.to_be_bytes()),
            (8, None) => {
                if let Some(count) = self.counts.get_mut(sa as usize) {
                    *count += 1;
                    iv[..8].copy_from_slice(&count.to_be_bytes());
                }
            }
            _ => self.random.fill(&mut iv)?,
        }
        Ok(iv)
    }

    fn key(&mut self, sa: u32, entry: &PreparedSa) -> KeyId {
        let KeySource { keys, ids, .. } = self;
        match keys.get_mut(sa as usize) {
            Some(key) => *key.get_or_insert_with(|| ids.of(&entry.sa.keys)),
            None => ids.of(&entry.sa.keys),
        }
    }
}

impl<'t> Conversions<'t> {
    pub(super) fn new(table: &'t SaTable) -> Conversions<'t> {
        Conversions { table, by_sa: table.entries().iter().map(|_| OnceLock::new()).collect() }
    }

    /// The conversion of an SA and, if its packets are encrypted again, the IV of the next packet.
    #[inline]
    pub(super) fn next(
        &self,
        sa: u32,
        settings: &Settings,
        source: &mut KeySource,
    ) -> Result<(&Conversion, [u8; 16]), Error> {
        let (Some(slot), Some(entry)) = (self.by_sa.get(sa as usize), self.table.entry(sa)) else {
            return Ok((&Conversion::None, [0; 16]));
        };
        let conversion = match slot.get() {
            Some(conversion) => conversion,
            // Turns serialize the decisions, so no other worker can initialize the slot.
            None => {
                let conversion = Conversion::of(entry, sa, settings, source)?;
                slot.get_or_init(|| conversion)
            }
        };
        let iv = match conversion {
            Conversion::Sealed(sealer) => source.iv(sa, sealer)?,
            Conversion::None | Conversion::HeaderOnly | Conversion::ExplicitIv => [0; 16],
        };
        Ok((conversion, iv))
    }

    /// The cipher that encrypts the packets of an SA, if they are encrypted.
    pub(super) fn sealer(&self, sa: u32) -> Option<&Sealer> {
        match self.by_sa.get(sa as usize)?.get()? {
            Conversion::Sealed(sealer) => Some(sealer),
            Conversion::None | Conversion::HeaderOnly | Conversion::ExplicitIv => None,
        }
    }

    /// The SAs whose packets are in the output, with the keys that decrypt them.
    pub(super) fn into_used_keys(self) -> Vec<UsedKeys> {
        let used = |(entry, slot): (&PreparedSa, OnceLock<Conversion>)| {
            let (keys, esn) = match slot.into_inner()? {
                Conversion::None | Conversion::HeaderOnly => (entry.sa.keys.clone(), entry.esn()),
                Conversion::ExplicitIv => (entry.sa.keys.with_explicit_iv(), entry.esn()),
                Conversion::Sealed(sealer) => (sealer.keys, false),
            };
            let (src, dst) = (entry.sa.src, entry.sa.dst);
            Some(UsedKeys { name: entry.sa.name.clone(), spi: entry.spi(), src, dst, keys, esn })
        };
        self.table.entries().iter().zip(self.by_sa).filter_map(used).collect()
    }
}

impl Conversion {
    /// Chooses the conversion of an SA.
    fn of(entry: &PreparedSa, sa: u32, settings: &Settings, source: &mut KeySource) -> Result<Conversion, Error> {
        let suite = entry.cipher().suite();
        if entry.codec.clear_text_is_standard() {
            return Ok(match (suite.implicit_iv, entry.context.is_some()) {
                (true, _) => Conversion::ExplicitIv,
                (false, true) => Conversion::HeaderOnly,
                (false, false) => Conversion::None,
            });
        }
        let (keys, kept) = match settings.reseal {
            Reseal::Fresh(suite) => (Keys::generate(suite, &mut source.random)?, None),
            Reseal::Keep => (entry.sa.keys.with_explicit_iv(), Some(source.key(sa, entry))),
        };
        let cipher = EspCipher::new(&keys);
        Ok(Conversion::Sealed(Box::new(Sealer { keys, cipher, kept })))
    }
}
