//! AES-CCM* of IEEE 802.15.4 (IEEE 802.15.4-2015 Annex B): CCM with a nonce of 13 bytes, or CTR mode without MIC.

use ::ccm::consts::{U4, U8, U13, U16};
use ::ccm::{AeadInOut, Ccm, TagSize};
use aes::cipher::array::ArraySize;

use super::aes::{Aes, Block};

/// A key.
pub(crate) struct CcmStar(Aes);

impl CcmStar {
    /// Returns `None` if `key` is not 16 bytes.
    pub(crate) fn new(key: &[u8]) -> Option<CcmStar> {
        Aes::new(key).filter(|_| key.len() == 16).map(CcmStar)
    }

    /// Decrypts `data`. Returns whether `mic` (0, 4, 8 or 16 bytes) authenticates `data` and `aad`. This is always
    /// true for security level 4, which has a `mic` of 0 bytes. If it returns false, `data` must not be used.
    pub(crate) fn open(&self, nonce: &[u8; 13], aad: &[u8], data: &mut [u8], mic: &[u8]) -> bool {
        match mic.len() {
            0 => {
                // L - 1 = 1, the nonce, and a counter of 2 bytes.
                let mut first = Block::default();
                for (to, from) in first.iter_mut().zip([1].iter().chain(nonce).chain(&[0, 1])) {
                    *to = *from;
                }
                self.0.ctr(&first, data);
                true
            }
            4 => self.decrypt::<U4>(nonce, aad, data, mic),
            8 => self.decrypt::<U8>(nonce, aad, data, mic),
            16 => self.decrypt::<U16>(nonce, aad, data, mic),
            _ => false,
        }
    }

    fn decrypt<Size: TagSize + ArraySize>(&self, nonce: &[u8; 13], aad: &[u8], data: &mut [u8], mic: &[u8]) -> bool {
        let ccm = Ccm::<&Aes, Size, U13>::from(&self.0);
        mic.try_into().is_ok_and(|tag| ccm.decrypt_inout_detached(nonce.into(), aad, data.into(), tag).is_ok())
    }
}

impl std::fmt::Debug for CcmStar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CcmStar")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3610 §8, packet vectors 1 and 2. `tests/lowpan` compares other lengths of MIC and AAD with other
    /// programs.
    #[test]
    fn ccm_star_is_ccm() {
        let star = CcmStar::new(&(0xc0..=0xcf).collect::<Vec<u8>>()).unwrap();
        for (nonce, end, sealed) in [
            ("00000003020100a0a1a2a3a4a5", 31, "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0"),
            ("00000004030201a0a1a2a3a4a5", 32, "72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3ba091d56e10400916"),
        ] {
            let nonce: [u8; 13] = hex::decode(nonce).unwrap().try_into().unwrap();
            let sealed = hex::decode(sealed).unwrap();
            let (data, mic) = sealed.split_at(sealed.len() - 8);
            let aad: Vec<u8> = (0..8).collect();
            let mut clear = data.to_vec();
            assert!(star.open(&nonce, &aad, &mut clear, mic));
            assert_eq!(clear, (8..end).collect::<Vec<u8>>());
            let mut clear = data.to_vec();
            assert!(star.open(&nonce, &aad, &mut clear, &[]), "level 4 has no MIC");
            assert_eq!(clear, (8..end).collect::<Vec<u8>>());
            let mut clear = data.to_vec();
            assert!(!star.open(&nonce, &aad[1..], &mut clear, mic));
        }
        assert!(CcmStar::new(&[0; 32]).is_none());
    }
}
