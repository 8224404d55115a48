//! Opens a packet whose sequence number is not known.

use super::aes::{Block, padded};
use super::ccm::{Ccm, aad_block};
use super::esp_cipher::{Body, EspCipher, Header, OpenError, Prepared, wipe};
use super::gcm::{Gcm, lengths};
use super::same;

/// Number of AES-CCM MACs computed in parallel: enough to hide the latency of AES.
const LANES: usize = 8;

impl EspCipher {
    /// [`EspCipher::open`] with the first of the numbers `candidates` that verifies, which is returned. What does not
    /// depend on the number is computed once: with explicit IVs the decryption, of AES-GCM and AES-GMAC also the hash.
    ///
    /// Without integrity check ([`EspCipher::authenticates`]) the first candidate is the answer.
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

    /// Of AES-GCM and AES-GMAC: SPI and Sequence Number stand in the first block that is hashed.
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

    /// SPI and Sequence Number of a packet, out of its ICV: the AAD is computed backwards. `None` if the packet is not
    /// of this key, which the other bytes of that block show (AES-CCM 8, with ESN 4; AES-GCM 8, with ESN 4; AES-GMAC
    /// 8, with ESN 4): open it to be sure. `None` also where this cannot be done: it takes an explicit IV and the
    /// 16-byte ICV of AES-CCM, AES-GCM or AES-GMAC.
    ///
    /// `scratch` is left empty.
    pub fn recover_aad(&self, body: &[u8], esn: bool, scratch: &mut Vec<u8>) -> Option<(u32, u64)> {
        let Body { iv, cipher_text, icv } = self.split(body).ok()?;
        let (iv, icv): (&[u8; 8], &[u8; 16]) = (iv.try_into().ok()?, icv.try_into().ok()?);
        let header = Header::new(0, 0, esn);
        let counter_block = self.counter_block(iv, &header);
        let aad_len = header.aad().len();
        scratch.clear();
        // What `block` must hold behind SPI and Sequence Number.
        let (block, known): (Block, &[u8]) = match &self.algorithm {
            Prepared::Ccm(ccm) => {
                scratch.extend_from_slice(cipher_text);
                ccm.apply_key_stream(&counter_block, scratch);
                let mut block = ccm.recover_aad_block(&counter_block, scratch, icv);
                wipe(scratch);
                // Length in 2 bytes, AAD, zeros.
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
                // The first block is full with 16 bytes of header and IV.
                let (in_first, behind) = iv.split_at_checked(16 - aad_len)?;
                scratch.extend_from_slice(behind);
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
