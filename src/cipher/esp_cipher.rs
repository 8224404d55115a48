//! The cipher of one SA with its key schedules, ready to open and seal.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::aes::{Aes, Block, BothWays, padded};
use super::ccm::{Ccm, aad_block};
use super::chacha::ChaCha;
use super::gcm::Gcm;
use super::hmac::KeyedHmac;
use super::{Cipher, Keys, Suite, same};
use crate::prefetch;

/// Key schedules and hash states of one SA, computed once. They are wiped when dropped; `Debug` shows names only.
///
/// All data for opening packets with AES-128 is stored inline and is small, because with many SAs each access is a
/// cache miss.
#[repr(align(64))]
pub struct EspCipher {
    pub(super) suite: &'static Suite,
    pub(super) algorithm: Prepared,
    /// The start of a counter block. AES-CCM (RFC 4309 §4): 03 and the salt. AES-GCM (RFC 4106 §4), AES-CTR (RFC 3686
    /// §4), ChaCha20-Poly1305 (RFC 7634 §2): the salt.
    salt: Zeroizing<[u8; 4]>,
    /// The integrity check of a cipher that is no AEAD; `None` also where the ICV is not checked.
    pub(super) hmac: Option<Box<KeyedHmac>>,
    icv_len: u8,
}

pub(super) enum Prepared {
    Ccm(Ccm),
    Gcm(Gcm),
    Gmac(Box<Gcm>),
    ChaCha(ChaCha),
    Cbc(BothWays),
    Ctr(Aes),
    Null,
}

/// A packet that could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// Shorter than IV and ICV.
    Short,
    /// The cipher text is no multiple of the cipher block.
    Block,
    /// The ICV is not that of the packet under these keys and this Sequence Number.
    NotAuthentic,
}

/// A packet that could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// The IV given is not [`EspCipher::iv_len`] bytes.
    Iv,
    /// The clear text is no multiple of the cipher block.
    Block,
    /// The clear text is 2^32 bytes or more.
    TooLong,
}

/// Longest text in bytes, from the length field of AES-CCM with L = 4.
const MAX_LEN: usize = u32::MAX as usize;

impl EspCipher {
    /// Computes key schedules and hash states.
    pub fn new(keys: &Keys) -> EspCipher {
        let suite = keys.suite();
        let key = keys.key().expose();
        let aes = || Aes::new(key).expect("Keys::new has checked the length");
        let algorithm = match suite.cipher {
            Cipher::AesCcm => Prepared::Ccm(Ccm::new(aes())),
            Cipher::AesGcm => Prepared::Gcm(Gcm::new(aes())),
            Cipher::AesGmac => Prepared::Gmac(Box::new(Gcm::new(aes()))),
            Cipher::ChaCha20Poly1305 => Prepared::ChaCha(ChaCha::new(key).expect("Keys::new has checked the length")),
            Cipher::AesCbc => Prepared::Cbc(aes().both_ways()),
            Cipher::AesCtr => Prepared::Ctr(aes()),
            Cipher::Null => Prepared::Null,
        };
        let salt = match (suite.cipher, keys.salt().expose()) {
            (Cipher::AesCcm, &[a, b, c]) => [3, a, b, c],
            (_, &[a, b, c, d]) => [a, b, c, d],
            _ => [0; 4],
        };
        let hmac = keys.integ().and_then(|(integ, key)| Some(Box::new(KeyedHmac::new(integ.hash?, key.expose()))));
        EspCipher { suite, algorithm, salt: Zeroizing::new(salt), hmac, icv_len: keys.icv_len() as u8 }
    }

    /// The cipher.
    pub fn suite(&self) -> &'static Suite {
        self.suite
    }

    /// Length of the IV on the wire in bytes.
    pub fn iv_len(&self) -> usize {
        self.suite.iv_len
    }

    /// Length of the ICV in bytes, checked or not.
    pub fn icv_len(&self) -> usize {
        usize::from(self.icv_len)
    }

    /// Cipher block in bytes that the clear text must fill.
    pub fn block(&self) -> usize {
        self.suite.block
    }

    /// Whether a packet that opens was checked by its ICV.
    pub fn authenticates(&self) -> bool {
        self.suite.is_aead() || self.hmac.is_some()
    }

    /// What the cipher takes beside key and text. AES-CCM 11, AES-GCM, AES-GMAC and ChaCha20-Poly1305 12 bytes: salt and
    /// IV, or the Sequence Number instead of an IV that is not sent; AES-CTR the first counter block of 16 bytes; AES-CBC
    /// the IV; NULL nothing. `iv` as in [`EspCipher::seal`]. Holds the salt.
    pub fn nonce(&self, sn: u64, esn: bool, iv: &[u8]) -> Vec<u8> {
        let block = self.counter_block(iv, &Header::new(0, sn, esn));
        let part = match self.suite.cipher {
            Cipher::AesCcm => block.get(1..12),
            Cipher::AesGcm | Cipher::AesGmac | Cipher::ChaCha20Poly1305 => block.get(..12),
            Cipher::AesCtr => block.get(..),
            Cipher::AesCbc => Some(iv),
            Cipher::Null => None,
        };
        part.unwrap_or_default().to_vec()
    }

    /// The bytes that the ICV covers. AES-CCM, AES-GCM, ChaCha20-Poly1305: the AAD, 8 bytes, with ESN 12, the cipher
    /// text not counted. AES-GMAC (RFC 4543 §3.3): the same, IV and cipher text. HMACs (RFC 4303 §2.8, §2.2.1): SPI,
    /// low half of the Sequence Number, IV, cipher text, and with ESN its high half. Nothing where no ICV is checked.
    pub fn aad(&self, spi: u32, sn: u64, esn: bool, iv: &[u8], cipher_text: &[u8]) -> Vec<u8> {
        let header = Header::new(spi, sn, esn);
        match &self.algorithm {
            Prepared::Ccm(_) | Prepared::Gcm(_) | Prepared::ChaCha(_) => header.aad().to_vec(),
            Prepared::Gmac(_) => [header.aad(), iv, cipher_text].concat(),
            Prepared::Cbc(_) | Prepared::Ctr(_) | Prepared::Null if self.hmac.is_some() => {
                header.covered_by_hmac(iv, cipher_text).concat()
            }
            Prepared::Cbc(_) | Prepared::Ctr(_) | Prepared::Null => vec![],
        }
    }

    /// Opens `body`, that is IV, cipher text, ICV. Of the Sequence Number `sn` the high half counts with `esn` only:
    /// AEADs then have SPI, SN high, SN low as AAD, HMACs SN high behind the cipher text (RFC 4303 §2.2.1).
    ///
    /// `clear` becomes the clear text (payload data, padding, pad length, next header), or empty if that fails.
    pub fn open(&self, spi: u32, sn: u64, esn: bool, body: &[u8], clear: &mut Vec<u8>) -> Result<(), OpenError> {
        clear.clear();
        let Body { iv, cipher_text, icv } = self.split(body)?;
        let header = Header::new(spi, sn, esn);
        clear.extend_from_slice(cipher_text);
        if self.open_in_place(&header, iv, clear, icv) {
            return Ok(());
        }
        wipe(clear);
        Err(OpenError::NotAuthentic)
    }

    /// Appends IV, cipher text and ICV to `out`. `iv` has [`EspCipher::iv_len`] bytes and, but for AES-CBC and NULL, must
    /// never have been used with this key; `clear` is a multiple of [`EspCipher::block`]. An ICV that is not checked is 0.
    pub fn seal(
        &self,
        spi: u32,
        sn: u64,
        esn: bool,
        iv: &[u8],
        clear: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        if iv.len() != self.suite.iv_len {
            return Err(SealError::Iv);
        }
        self.check_clear_len(clear.len())?;
        out.extend_from_slice(iv);
        let start = out.len();
        out.extend_from_slice(clear);
        let header = Header::new(spi, sn, esn);
        let tag = self.seal_in_place(&header, iv, out.get_mut(start..).unwrap_or_default());
        out.extend_from_slice(tag.get(..self.icv_len()).unwrap_or_default());
        Ok(())
    }

    /// Prefetches its memory; for long keys only a part of it.
    #[inline]
    pub fn prefetch(&self) {
        prefetch::whole(self, &self.icv_len);
    }

    pub(super) fn check_clear_len(&self, len: usize) -> Result<(), SealError> {
        if self.suite.block > 1 && !len.is_multiple_of(self.suite.block) {
            return Err(SealError::Block);
        }
        if len > MAX_LEN { Err(SealError::TooLong) } else { Ok(()) }
    }

    pub(super) fn open_in_place(&self, header: &Header, iv: &[u8], data: &mut [u8], icv: &[u8]) -> bool {
        let counter_block = self.counter_block(iv, header);
        match &self.algorithm {
            Prepared::Ccm(ccm) => {
                ccm.apply_key_stream(&counter_block, data);
                ccm.verify(&counter_block, &[[aad_block(header.aad())]], data, icv)
            }
            Prepared::Gcm(gcm) => {
                let authentic = same(&gcm.tag(&counter_block, &[header.aad()], data), icv);
                if authentic {
                    gcm.apply_key_stream(&counter_block, data);
                }
                authentic
            }
            Prepared::Gmac(gcm) => same(&gcm.tag(&counter_block, &[header.aad(), iv, data], &[]), icv),
            Prepared::ChaCha(chacha) => chacha.open(&counter_block, header.aad(), data, icv),
            Prepared::Cbc(_) | Prepared::Ctr(_) | Prepared::Null => {
                let authentic = self.hmac.as_ref().is_none_or(|hmac| same(&header.hmac(hmac, iv, data), icv));
                if authentic {
                    match &self.algorithm {
                        Prepared::Cbc(aes) => aes.cbc_decrypt(&padded(iv), data),
                        Prepared::Ctr(aes) => aes.ctr(&counter_block, data),
                        _ => {}
                    }
                }
                authentic
            }
        }
    }

    /// Returns the ICV, followed by bytes without meaning.
    pub(super) fn seal_in_place(&self, header: &Header, iv: &[u8], data: &mut [u8]) -> [u8; 64] {
        let counter_block = self.counter_block(iv, header);
        let tag: Block = match &self.algorithm {
            Prepared::Ccm(ccm) => {
                let [tag] = ccm.tags(self.icv_len(), &counter_block, &[[aad_block(header.aad())]], data);
                ccm.apply_key_stream(&counter_block, data);
                tag
            }
            Prepared::Gcm(gcm) => {
                gcm.apply_key_stream(&counter_block, data);
                gcm.tag(&counter_block, &[header.aad()], data)
            }
            Prepared::Gmac(gcm) => gcm.tag(&counter_block, &[header.aad(), iv, data], &[]),
            Prepared::ChaCha(chacha) => chacha.seal(&counter_block, header.aad(), data),
            Prepared::Cbc(_) | Prepared::Ctr(_) | Prepared::Null => {
                match &self.algorithm {
                    Prepared::Cbc(aes) => aes.cbc_encrypt(&padded(iv), data),
                    Prepared::Ctr(aes) => aes.ctr(&counter_block, data),
                    _ => {}
                }
                return self.hmac.as_ref().map_or([0; 64], |hmac| header.hmac(hmac, iv, data));
            }
        };
        let mut long = [0; 64];
        if let Some(to) = long.first_chunk_mut::<16>() {
            *to = tag.into();
        }
        long
    }

    pub(super) fn split<'a>(&self, body: &'a [u8]) -> Result<Body<'a>, OpenError> {
        let (iv, rest) = body.split_at_checked(self.suite.iv_len).ok_or(OpenError::Short)?;
        let len = rest.len().checked_sub(self.icv_len()).ok_or(OpenError::Short)?;
        let (cipher_text, icv) = rest.split_at_checked(len).ok_or(OpenError::Short)?;
        if self.suite.block > 1 && !len.is_multiple_of(self.suite.block) {
            return Err(OpenError::Block);
        }
        if len > MAX_LEN {
            return Err(OpenError::NotAuthentic);
        }
        Ok(Body { iv, cipher_text, icv })
    }

    /// The first counter block of a packet; of no meaning for AES-CBC and NULL.
    pub(super) fn counter_block(&self, iv: &[u8], header: &Header) -> Block {
        self.counter(iv, header.sn).to_be_bytes().into()
    }

    /// The same as a number. `sn` has 32 bits without ESN.
    #[inline]
    pub(super) fn counter(&self, iv: &[u8], sn: u64) -> u128 {
        let varies = match iv.first_chunk() {
            _ if self.suite.implicit_iv => sn,
            Some(iv) => u64::from_be_bytes(*iv),
            None => 0,
        };
        // AES-CCM counts from 0, all others from 1.
        let start = u128::from(self.suite.cipher != Cipher::AesCcm);
        u128::from(u32::from_be_bytes(*self.salt)) << 96 | u128::from(varies) << 32 | start
    }
}

impl fmt::Debug for EspCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EspCipher").field("suite", &self.suite.name).finish_non_exhaustive()
    }
}

pub(super) fn wipe(clear: &mut Vec<u8>) {
    clear.as_mut_slice().zeroize();
    clear.clear();
}

/// The parts of the packet after SPI and Sequence Number.
#[derive(Clone, Copy)]
pub(super) struct Body<'a> {
    pub(super) iv: &'a [u8],
    pub(super) cipher_text: &'a [u8],
    pub(super) icv: &'a [u8],
}

/// SPI and Sequence Number, uncompressed, as the ICV covers them.
#[derive(Clone, Copy)]
pub(super) struct Header {
    esn: bool,
    /// SPI, SN high, SN low: the AAD with ESN.
    with_high: [u8; 12],
    /// SPI, SN low: the AAD without ESN, and the beginning of what an HMAC covers.
    without_high: [u8; 8],
    /// 32 bits without ESN.
    sn: u64,
}

impl Header {
    pub(super) fn new(spi: u32, sn: u64, esn: bool) -> Header {
        let sn = if esn { sn } else { sn & u64::from(u32::MAX) };
        let [a, b, c, d] = spi.to_be_bytes();
        let [i, j, k, l, e, f, g, h] = sn.to_be_bytes();
        let with_high = [a, b, c, d, i, j, k, l, e, f, g, h];
        Header { esn, with_high, without_high: [a, b, c, d, e, f, g, h], sn }
    }

    /// The Sequence Number; 32 bits without ESN.
    pub(super) fn sn(&self) -> u64 {
        self.sn
    }

    /// [`Header::aad`] in front of zeros, and its length in bytes.
    #[inline]
    pub(super) fn aad_value(spi: u32, sn: u64, esn: bool) -> (u128, usize) {
        let spi = u128::from(spi) << 96;
        if esn { (spi | u128::from(sn) << 32, 12) } else { (spi | u128::from(sn as u32) << 64, 8) }
    }

    /// RFC 4309 §5, RFC 4106 §5, RFC 7634 §2.1; of AES-GMAC, IV and payload follow (RFC 4543 §3.3).
    pub(super) fn aad(&self) -> &[u8] {
        if self.esn { &self.with_high } else { &self.without_high }
    }

    /// RFC 4303 §2.8 and §2.2.1.
    fn hmac(&self, hmac: &KeyedHmac, iv: &[u8], cipher_text: &[u8]) -> [u8; 64] {
        hmac.tag(&self.covered_by_hmac(iv, cipher_text))
    }

    fn covered_by_hmac<'a>(&'a self, iv: &'a [u8], cipher_text: &'a [u8]) -> [&'a [u8]; 4] {
        // SN high is in the middle of SPI, SN high, SN low.
        let high = if self.esn { self.with_high.get(4..8).unwrap_or_default() } else { &[] };
        [&self.without_high, iv, cipher_text, high]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn keys_of_aes_128_take_four_cache_lines() {
        assert_eq!(size_of::<EspCipher>(), 4 * 64);
    }
}
