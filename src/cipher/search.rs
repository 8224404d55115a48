//! Opens a packet whose sequence number is not known.

use super::aes::{Block, padded};
use super::ccm::{Ccm, aad_block};
use super::esp_cipher::{Body, EspCipher, Header, OpenError, Prepared, wipe};
use super::gcm::{Gcm, lengths};
use super::same;

/// Number of AES-CCM MACs computed in parallel: enough to hide the latency of AES.
const LANES: usize = 8;

impl EspCipher {
    /// Opens a packet like [`EspCipher::open`], with the first of `candidates` that verifies, and returns this
    /// number. Work that does not depend on the number is done once: the decryption if the IV is explicit, and also
    /// the hash of AES-GCM and AES-GMAC.
    ///
    /// Without integrity check ([`EspCipher::authenticates`]), the first candidate is returned.
    ///
    /// # Errors
    /// The body is too short, or the ICV verifies under none of the numbers.
    pub fn open_search(
        &self,
        spi: u32,
        candidates: impl IntoIterator<Item = u64>,
        esn: bool,
        body: &[u8],
        clear: &mut Vec<u8>,
    ) -> Result<u64, OpenError> {
        clear.clear();
        let parts = self.split(body)?;
        let mut candidates = candidates.into_iter();
        let found = match &self.algorithm {
            Prepared::Ccm(ccm) if !self.suite.implicit_iv => {
                return self.search_ccm(ccm, spi, candidates, esn, &parts, clear);
            }
            Prepared::Gcm(gcm) if !self.suite.implicit_iv => self.search_gcm(gcm, spi, candidates, esn, &parts),
            Prepared::Gmac(gcm) => self.search_gcm(gcm, spi, candidates, esn, &parts),
            _ => return candidates.find(|sn| self.open(spi, *sn, esn, body, clear).is_ok()).ok_or(NOT_AUTHENTIC),
        };
        let sn = found.ok_or(NOT_AUTHENTIC)?;
        self.open(spi, sn, esn, body, clear).map(|()| sn)
    }

    fn search_ccm(
        &self,
        ccm: &Ccm,
        spi: u32,
        mut candidates: impl Iterator<Item = u64>,
        esn: bool,
        body: &Body<'_>,
        clear: &mut Vec<u8>,
    ) -> Result<u64, OpenError> {
        let a0 = self.counter_block(body.iv, &Header::new(spi, 0, esn));
        clear.extend_from_slice(body.cipher_text);
        ccm.apply_key_stream(&a0, clear);
        loop {
            let mut numbers = [0; LANES];
            let mut count = 0;
            for (place, sn) in numbers.iter_mut().zip(candidates.by_ref()) {
                *place = sn;
                count += 1;
            }
            let aad = numbers.map(|sn| aad_block(Header::new(spi, sn, esn).aad()));
            let tags = ccm.tags(self.icv_len(), &a0, &[aad], clear);
            let found = numbers.iter().zip(&tags).take(count).find(|(_, tag)| same(tag.as_slice(), body.icv));
            if let Some((sn, _)) = found {
                return Ok(*sn);
            }
            if count < LANES {
                wipe(clear);
                return Err(NOT_AUTHENTIC);
            }
        }
    }

    /// AES-GCM and AES-GMAC only: SPI and sequence number are in the first hashed block.
    fn search_gcm(
        &self,
        gcm: &Gcm,
        spi: u32,
        mut candidates: impl Iterator<Item = u64>,
        esn: bool,
        body: &Body<'_>,
    ) -> Option<u64> {
        let zero = Header::new(spi, 0, esn);
        let j0 = self.counter_block(body.iv, &zero);
        let (tag, hashed) = match &self.algorithm {
            Prepared::Gmac(_) => {
                let aad = [zero.aad(), body.iv, body.cipher_text];
                (gcm.tag(&j0, &aad, &[]), aad.iter().map(|part| part.len()).sum::<usize>().div_ceil(16))
            }
            _ => (gcm.tag(&j0, &[zero.aad()], body.cipher_text), 1 + body.cipher_text.len().div_ceil(16)),
        };
        let change = gcm.first_block_change(hashed + 1);
        candidates.find(|&sn| {
            let only_number = padded(Header::new(0, sn, esn).aad());
            same(&change.apply(&tag, only_number), body.icv)
        })
    }

    /// Whether [`EspCipher::recover_aad`] works for this suite.
    pub fn recovers(&self) -> bool {
        let kind = matches!(self.algorithm, Prepared::Ccm(_) | Prepared::Gcm(_) | Prepared::Gmac(_));
        kind && self.iv_len() == 8 && self.icv_len() == 16
    }

    /// Recovers SPI and sequence number of a packet from its ICV, by computing the AAD backwards. The other bytes
    /// of the AAD block (8 bytes, or 4 with ESN) show whether the packet uses this key. If not, the result is
    /// `None`. Open the packet to be sure. Also `None` if the suite does not allow this: it needs an explicit IV
    /// and a 16-byte ICV of AES-CCM, AES-GCM or AES-GMAC.
    ///
    /// `scratch` is empty afterwards.
    pub fn recover_aad(&self, body: &[u8], esn: bool, scratch: &mut Vec<u8>) -> Option<(u32, u64)> {
        let Body { iv, cipher_text, icv } = self.split(body).ok()?;
        let (iv, icv): (&[u8; 8], &[u8; 16]) = (iv.try_into().ok()?, icv.try_into().ok()?);
        let header = Header::new(0, 0, esn);
        let counter_block = self.counter_block(iv, &header);
        let aad_len = header.aad().len();
        scratch.clear();
        // The expected bytes of `block` after SPI and sequence number.
        let (block, known): (Block, &[u8]) = match &self.algorithm {
            Prepared::Ccm(ccm) => {
                scratch.extend_from_slice(cipher_text);
                ccm.apply_key_stream(&counter_block, scratch);
                let mut block = ccm.recover_aad_block(&counter_block, scratch, icv);
                wipe(scratch);
                // Length (2 bytes), AAD, zeros.
                let length = aad_block(header.aad()).first_chunk::<2>().copied()?;
                if block.first_chunk() != Some(&length) {
                    return None;
                }
                block.rotate_left(2);
                block.last_chunk_mut::<2>()?.fill(0);
                (block, &[0; 8])
            }
            Prepared::Gcm(gcm) => {
                let lengths = lengths(aad_len, cipher_text.len());
                (gcm.recover_first_block(&counter_block, cipher_text, lengths, icv), &[0; 8])
            }
            Prepared::Gmac(gcm) => {
                // The first block is full: it has 16 bytes of header and IV.
                let (in_first, after) = iv.split_at_checked(16 - aad_len)?;
                scratch.extend_from_slice(after);
                scratch.extend_from_slice(cipher_text);
                let lengths = lengths(aad_len + iv.len() + cipher_text.len(), 0);
                let block = gcm.recover_first_block(&counter_block, scratch, lengths, icv);
                wipe(scratch);
                (block, in_first)
            }
            _ => return None,
        };
        let (aad, others) = block.split_at_checked(aad_len)?;
        if !others.iter().zip(known).all(|(byte, known)| byte == known) {
            return None;
        }
        let (spi, sn) = aad.split_first_chunk::<4>()?;
        let sn = sn.iter().fold(0, |sn, byte| (sn << 8) | u64::from(*byte));
        Some((u32::from_be_bytes(*spi), sn))
    }
}

const NOT_AUTHENTIC: OpenError = OpenError::NotAuthentic;
