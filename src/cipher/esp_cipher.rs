//! The cipher of one SA with its key schedules, ready to open and seal packets.

use std::fmt;

use zeroize::{Zeroize, Zeroizing};

use super::aes::{Aes, Block, BothWays, padded};
use super::ccm::{Ccm, aad_block};
use super::chacha::ChaCha;
use super::gcm::Gcm;
use super::hmac::KeyedHmac;
use super::{Cipher, Keys, Suite, same};
use crate::prefetch;

/// Key schedules and hash states of one SA, computed once. They are wiped when dropped. `Debug` shows only names.
///
/// All data for opening packets with AES-128 is stored inline and is small, because with many SAs each access is a
/// cache miss.
#[repr(align(64))]
pub struct EspCipher {
    pub(super) suite: &'static Suite,
    pub(super) algorithm: Prepared,
    /// The first bytes of a counter block. For AES-CCM (RFC 4309 §4): 03 and the salt. For AES-GCM (RFC 4106 §4),
    /// AES-CTR (RFC 3686 §4) and ChaCha20-Poly1305 (RFC 7634 §2): the salt.
    salt: Zeroizing<[u8; 4]>,
    /// The integrity check of a cipher that is not an AEAD; `None` also if the ICV is not checked.
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
    /// The packet is shorter than IV and ICV.
    Short,
    /// The length of the cipher text is not a multiple of the cipher block.
    Block,
    /// The ICV does not match the packet, the keys and this sequence number.
    NotAuthentic,
}

/// A packet that could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// The given IV does not have [`EspCipher::iv_len`] bytes.
    Iv,
    /// The length of the clear text is not a multiple of the cipher block.
    Block,
    /// The clear text is 2^32 bytes or more.
    TooLong,
}

/// Longest text in bytes. The limit is the length field of AES-CCM with L = 4.
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

    /// Whether the ICV of opened packets is checked.
    pub fn authenticates(&self) -> bool {
        self.suite.is_aead() || self.hmac.is_some()
    }

    /// The nonce or IV that the cipher uses. AES-CCM has 11 bytes, and AES-GCM, AES-GMAC and ChaCha20-Poly1305 have
    /// 12: the salt, then the IV, or the sequence number if no IV is sent. AES-CTR has the first counter block of
    /// 16 bytes, AES-CBC the IV, and NULL nothing. `iv` as in [`EspCipher::seal`]. The result contains the salt.
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

    /// The bytes that the ICV covers in addition to the cipher text of AEADs. AES-CCM, AES-GCM and
    /// ChaCha20-Poly1305: the AAD of 8 bytes, or 12 with ESN. AES-GMAC (RFC 4543 §3.3): the AAD, IV and cipher
    /// text. HMACs (RFC 4303 §2.8, §2.2.1): SPI, low half of the sequence number, IV, cipher text, and with ESN the
    /// high half. Empty if no ICV is checked.
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

    /// Opens `body`: IV, cipher text, ICV. The high half of the sequence number `sn` is only used with `esn`: then
    /// the AAD of AEADs is SPI, SN high, SN low, and HMACs cover SN high after the cipher text (RFC 4303 §2.2.1).
    ///
    /// Stores the clear text (payload data, padding, pad length, next header) in `clear`. If opening fails, `clear`
    /// is empty.
    ///
    /// # Errors
    /// The body is too short or its length is wrong for the cipher, or the ICV does not verify.
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

    /// Appends IV, cipher text and ICV to `out`. `iv` has [`EspCipher::iv_len`] bytes. Except for AES-CBC and NULL,
    /// it must never have been used with this key. The length of `clear` is a multiple of [`EspCipher::block`]. If
    /// the ICV is not checked, it is written as 0.
    ///
    /// # Errors
    /// The clear text is too long, or its length is wrong for the cipher.
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

    /// Prefetches the key schedules and hash states; for long keys only a part of them.
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

    /// Returns the ICV. The bytes after it have no meaning.
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

    /// The first counter block of a packet. It has no meaning for AES-CBC and NULL.
    pub(super) fn counter_block(&self, iv: &[u8], header: &Header) -> Block {
        self.counter(iv, header.sn).to_be_bytes().into()
    }

    /// The first counter block as a number. `sn` has 32 bits without ESN.
    #[inline]
    pub(super) fn counter(&self, iv: &[u8], sn: u64) -> u128 {
        let varies = match iv.first_chunk() {
            _ if self.suite.implicit_iv => sn,
            Some(iv) => u64::from_be_bytes(*iv),
            None => 0,
        };
        // The counter starts at 0 for AES-CCM, and at 1 for all other ciphers.
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

/// SPI and sequence number, uncompressed, as the ICV covers them.
#[derive(Clone, Copy)]
pub(super) struct Header {
    esn: bool,
    /// SPI, SN high, SN low: the AAD with ESN.
    with_high: [u8; 12],
    /// SPI, SN low: the AAD without ESN, and the first bytes that an HMAC covers.
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

    /// The sequence number; 32 bits without ESN.
    pub(super) fn sn(&self) -> u64 {
        self.sn
    }

    /// [`Header::aad`], left-aligned and padded with zeros, and its length in bytes.
    #[inline]
    pub(super) fn aad_value(spi: u32, sn: u64, esn: bool) -> (u128, usize) {
        let spi = u128::from(spi) << 96;
        if esn { (spi | u128::from(sn) << 32, 12) } else { (spi | u128::from(sn as u32) << 64, 8) }
    }

    /// RFC 4309 §5, RFC 4106 §5, RFC 7634 §2.1. AES-GMAC appends IV and payload (RFC 4543 §3.3).
    pub(super) fn aad(&self) -> &[u8] {
        if self.esn { &self.with_high } else { &self.without_high }
    }

    /// RFC 4303 §2.8 and §2.2.1.
    fn hmac(&self, hmac: &KeyedHmac, iv: &[u8], cipher_text: &[u8]) -> [u8; 64] {
        hmac.tag(&self.covered_by_hmac(iv, cipher_text))
    }

    fn covered_by_hmac<'a>(&'a self, iv: &'a [u8], cipher_text: &'a [u8]) -> [&'a [u8]; 4] {
        // In the array SPI, SN high, SN low, SN high is in the middle, so the parts are passed separately.
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
