//! Link-layer security of IEEE 802.15.4: AES-CCM* (IEEE 802.15.4-2015 §9.3, Annex B).
//!
//! ```text
//! nonce = source EUI-64 | frame counter 4 | security level 1       with a frame counter
//! nonce = source EUI-64 | ASN 5                                    TSCH
//! AAD   = MAC header                  levels 4 to 7; 1 to 3: and the payload
//! ```

use std::collections::HashMap;

use super::{Auxiliary, Mac};
use crate::cipher::CcmStar;
use crate::link::LinkKey;
use crate::net::LinkAddress;

/// Most keys tried on one frame.
const MAX_TRIES: usize = 256;
/// Most short addresses whose EUI-64 is kept.
const MAX_NEIGHBORS: usize = 1 << 14;

/// Link keys, and the EUI-64 of each short address.
#[derive(Debug, Default)]
pub(in crate::link) struct Security {
    keys: Vec<Key>,
    neighbors: Neighbors,
    clear: Vec<u8>,
    aad: Vec<u8>,
}

#[derive(Debug)]
struct Key {
    eui64: [u8; 8],
    short: Option<u16>,
    mode: u8,
    index: Option<u8>,
    cipher: CcmStar,
}

/// The EUI-64 of each short address and PAN, learned from the capture.
#[derive(Debug, Default)]
pub(in crate::link) struct Neighbors(HashMap<(Option<u16>, u16), [u8; 8]>);

impl Neighbors {
    pub(in crate::link) fn learn(&mut self, pan: Option<u16>, short: u16, eui64: [u8; 8]) {
        // fffe and ffff are not addresses of a single node.
        if short < 0xfffe && (self.0.len() < MAX_NEIGHBORS || self.0.contains_key(&(pan, short))) {
            self.0.insert((pan, short), eui64);
        }
    }

    fn eui64(&self, pan: Option<u16>, short: u16) -> Option<[u8; 8]> {
        self.0.get(&(pan, short)).copied()
    }
}

impl Security {
    pub(in crate::link) fn new(keys: &[LinkKey]) -> Security {
        let key = |key: &LinkKey| {
            let cipher = CcmStar::new(key.key.expose())?;
            Some(Key { eui64: key.eui64, short: key.short, mode: key.mode, index: key.index, cipher })
        };
        Security { keys: keys.iter().filter_map(key).collect(), ..Security::default() }
    }

    pub(in crate::link) fn neighbors(&mut self) -> &mut Neighbors {
        &mut self.neighbors
    }

    /// Removes link-layer security. Returns the payload in the clear, without MIC, or the reason why this failed.
    ///
    /// If there is no key for an unencrypted frame (levels 0 to 3), its payload is returned unverified.
    pub(in crate::link) fn open<'s>(
        &'s mut self,
        mac: &Mac<'s>,
        auxiliary: Auxiliary,
        asn: Option<u64>,
    ) -> Result<&'s [u8], &'static str> {
        let encrypted = auxiliary.is_encrypted();
        let mic_len = match auxiliary.level & 3 {
            0 => 0,
            1 => 4,
            2 => 8,
            _ => 16,
        };
        let Some((data, mic)) = mac.payload.len().checked_sub(mic_len).and_then(|at| mac.payload.split_at_checked(at))
        else {
            return Err("the frame is shorter than its MIC");
        };
        if auxiliary.level == 0 {
            return Ok(data);
        }
        let known = self.known_sender(mac);
        let has_mic = mic_len > 0;
        let mut tried = false;
        let mut opened_by = None;
        for (key, eui64) in likely_keys(&self.keys, mac, auxiliary, known, has_mic).take(MAX_TRIES) {
            let Some(nonce) = nonce(eui64, auxiliary, asn) else {
                return Err("the frame has no Frame Counter, and the capture no ASN");
            };
            tried = true;
            self.aad.clear();
            self.aad.extend_from_slice(mac.header);
            self.clear.clear();
            if encrypted {
                self.clear.extend_from_slice(data);
            } else {
                self.aad.extend_from_slice(data);
            }
            if key.cipher.open(&nonce, &self.aad, &mut self.clear, mic) {
                opened_by = Some(eui64);
                break;
            }
        }
        match (opened_by, encrypted) {
            (Some(eui64), _) => {
                if let (Some(LinkAddress::Short(short)), true) = (mac.src, has_mic) {
                    self.neighbors.learn(mac.pan, short, eui64);
                }
                Ok(if encrypted { &self.clear } else { data })
            }
            (None, false) if !tried => Ok(data),
            (None, _) if tried => Err("link-layer security: the MIC verifies under no link key"),
            (None, _) => Err("encrypted on the link layer, and there is no link key for it"),
        }
    }

    /// The EUI-64 of the sender, if it is in the frame or known from its short address.
    fn known_sender(&self, mac: &Mac<'_>) -> Option<[u8; 8]> {
        match mac.src? {
            LinkAddress::Extended(eui64) => Some(eui64),
            LinkAddress::Short(short) => self.neighbors.eui64(mac.pan, short).or_else(|| {
                let given = self.keys.iter().find(|key| key.short == Some(short))?;
                Some(given.eui64)
            }),
            LinkAddress::Bluetooth(_) => None,
        }
    }
}

/// Keys for a frame, each with the EUI-64 of its sender, likeliest first: the key of the sender. If a MIC can verify the
/// result, also other keys, because nodes may share a key, and a learned short address may be outdated.
fn likely_keys<'k>(
    keys: &'k [Key],
    mac: &Mac<'_>,
    auxiliary: Auxiliary,
    known: Option<[u8; 8]>,
    has_mic: bool,
) -> impl Iterator<Item = (&'k Key, [u8; 8])> + use<'k> {
    let is_certain = matches!(mac.src, Some(LinkAddress::Extended(_)));
    let of_frame = move || keys.iter().filter(move |key| (key.mode, key.index) == (auxiliary.mode, auxiliary.index));
    let others = move |are_tried: bool| of_frame().filter(move |key| are_tried && known != Some(key.eui64));
    let own = of_frame().filter(move |key| known == Some(key.eui64)).map(|key| (key, key.eui64));
    let shared = others(has_mic).filter_map(move |key| Some((key, known?)));
    let guessed = others(has_mic && !is_certain).map(|key| (key, key.eui64));
    own.chain(shared).chain(guessed)
}

fn nonce(eui64: [u8; 8], auxiliary: Auxiliary, asn: Option<u64>) -> Option<[u8; 13]> {
    let mut nonce = [0; 13];
    let (address, rest) = nonce.split_at_mut(8);
    address.copy_from_slice(&eui64);
    let last: [u8; 5] = match auxiliary.counter {
        Some(counter) => {
            let [a, b, c, d] = counter.to_be_bytes();
            [a, b, c, d, auxiliary.level]
        }
        None => *asn?.to_be_bytes().last_chunk()?,
    };
    rest.copy_from_slice(&last);
    Some(nonce)
}
