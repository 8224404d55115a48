//! Cryptography of IKEv2: prf+ (RFC 7296 §2.13), and opening of encrypted payloads (RFC 7296 §3.14, RFC 5282).

use zeroize::{Zeroize, Zeroizing};

use super::aes::{Block, padded};
use super::esp_cipher::{Body, Header, Prepared, wipe};
use super::hmac::KeyedHmac;
use super::{EspCipher, Hash, same};
use crate::secret::Secret;

/// prf+ counts its blocks in one byte (RFC 7296 §2.13).
pub(crate) const MAX_PRF_PLUS_BLOCKS: usize = 255;

impl Hash {
    /// Length of the output of the hash in bytes.
    pub fn output_len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }
}

/// The first `len` bytes of prf+(`key`, `seed`), with HMAC of `hash` as prf. The seed is given in parts. Returns
/// `None` if `len` needs more than [`MAX_PRF_PLUS_BLOCKS`] outputs of the hash.
///
/// ```text
/// T1 = prf(K, S | 01),  T2 = prf(K, T1 | S | 02),  ...           prf+(K, S) = T1 | T2 | ...        (RFC 7296 §2.13)
/// ```
pub(crate) fn prf_plus(hash: Hash, key: &Secret, seed: &[&[u8]], len: usize) -> Option<Secret> {
    let prf = KeyedHmac::new(hash, key.expose());
    let block_len = hash.output_len();
    if len.div_ceil(block_len) > MAX_PRF_PLUS_BLOCKS {
        return None;
    }
    let mut stream = Zeroizing::new(Vec::with_capacity(len.next_multiple_of(block_len)));
    for count in 1..=u8::MAX {
        if stream.len() >= len {
            break;
        }
        let last = stream.get(stream.len().saturating_sub(block_len)..).unwrap_or_default();
        let count = [count];
        let mut parts = vec![last];
        parts.extend_from_slice(seed);
        parts.push(&count);
        let mut tag = prf.tag(&parts);
        stream.extend_from_slice(tag.get(..block_len).unwrap_or_default());
        tag.zeroize();
    }
    stream.get(..len).map(|bytes| Secret::new(bytes.to_vec()))
}

impl EspCipher {
    /// Opens the body (IV, cipher text, ICV) of an IKEv2 payload "Encrypted and Authenticated", or of a fragment of
    /// one. `head` is the message from its first byte up to that body. Returns `None` if the ICV does not verify.
    /// The result still contains its padding (RFC 7296 §3.14).
    pub fn open_ike(&self, head: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let Body { iv, cipher_text, icv } = self.split(body).ok()?;
        let mut clear = Zeroizing::new(cipher_text.to_vec());
        let counter_block = self.counter_block(iv, &Header::new(0, 0, false));
        let authentic = match &self.algorithm {
            Prepared::Ccm(ccm) => {
                ccm.apply_key_stream(&counter_block, &mut clear);
                ccm.verify(&counter_block, &ccm_aad(head)?, &clear, icv)
            }
            Prepared::Gcm(gcm) => {
                let tag = gcm.tag(&counter_block, &[head], &clear);
                gcm.apply_key_stream(&counter_block, &mut clear);
                same(&tag, icv)
            }
            Prepared::ChaCha(chacha) => chacha.open(&counter_block, head, &mut clear, icv),
            Prepared::Gmac(_) => false,
            Prepared::Cbc(_) | Prepared::Ctr(_) | Prepared::Null => {
                let authentic = self.hmac.as_ref().is_none_or(|hmac| same(&hmac.tag(&[head, iv, cipher_text]), icv));
                match &self.algorithm {
                    Prepared::Cbc(aes) => aes.cbc_decrypt(&padded(iv), &mut clear),
                    Prepared::Ctr(aes) => aes.ctr(&counter_block, &mut clear),
                    _ => {}
                }
                authentic
            }
        };
        if !authentic {
            wipe(&mut clear);
            return None;
        }
        Some(clear)
    }
}

/// AAD blocks for an AAD whose length CCM writes in two bytes (RFC 3610 §2.2): length, AAD, zeros.
fn ccm_aad(aad: &[u8]) -> Option<Vec<[Block; 1]>> {
    let len = u16::try_from(aad.len()).ok().filter(|len| *len < 0xff00)?;
    let encoded = [&len.to_be_bytes(), aad].concat();
    Some(encoded.chunks(16).map(|chunk| [padded(chunk)]).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Integ, IntegKey, Keys, Suite};
    use super::*;

    fn counting(first: u8, len: u8) -> Vec<u8> {
        (first..).take(usize::from(len)).collect()
    }

    /// Computed with Python's hmac: SHA-256 of the first 150 bytes, and the last 16 bytes.
    #[test]
    fn prf_plus_as_python_computes_it() {
        use sha2::{Digest, Sha256};
        for (hash, digest, last) in [
            (
                Hash::Sha1,
                "42dc36ed784af8259e0970c24131aba9eb13e247a767524432aa41c59faa0aab",
                "6a10e3aebeb2873bba0c556fe32cdecf",
            ),
            (
                Hash::Sha256,
                "0f619163562966528a74776b6720b32a62565bf377fbcb0809463830f37ca1b8",
                "5591a5feb1ac141af6458ea12ebae01b",
            ),
            (
                Hash::Sha384,
                "ab7573979f0d7f527518ef2aa295b900ee5f5529d730f3878a63d2fd738f7da9",
                "5954a5ca0ab7614b8fcbac72b1810688",
            ),
            (
                Hash::Sha512,
                "db902205b5a68fd29f19c7a46bf3f1d0f038cf6e4eea51b7ef62aac173674bc5",
                "468985e8a0c33856f7f58806b5982d1f",
            ),
        ] {
            let seed = counting(0x80, 32);
            let (ni, nr) = seed.split_at(11);
            let stream = prf_plus(hash, &Secret::new(counting(0, 20)), &[ni, nr], 150).unwrap();
            assert_eq!(hex::encode(Sha256::digest(stream.expose())), digest, "{hash:?}");
            assert_eq!(hex::encode(&stream.expose()[134..]), last, "{hash:?}");
            let most = MAX_PRF_PLUS_BLOCKS * hash.output_len();
            assert!(prf_plus(hash, &stream, &[], most).is_some() && prf_plus(hash, &stream, &[], most + 1).is_none());
            assert_eq!(prf_plus(hash, &stream, &[], 0), Some(Secret::default()));
        }
    }

    /// IV, cipher text and ICV were computed with the Python package cryptography.
    #[test]
    fn every_cipher_opens_what_python_sealed() {
        let (head, clear) = (counting(0, 36), counting(0x40, 48));
        for (suite, integ, key_len, body) in [
            (
                "ENCR_AES_GCM_8",
                "",
                20,
                "a0a1a2a3a4a5a6a72429a2243c3cbaf0d33e12aee66e794d85d1a190e48b1ce88bb03879ee650075bb9228b2e30e2ca80ac8c5a54a12fb7d8606b7f9c4015687",
            ),
            (
                "ENCR_AES_CCM_8",
                "",
                35,
                "a0a1a2a3a4a5a6a76dbe43aed136084949f5e34146ca6917191f9cf9942d8211b6b78dbb1a3894f645ae438611b806bd9fcdfbb1a6594dc46ceba2c4cde4a251",
            ),
            (
                "ENCR_AES_GCM_12",
                "",
                20,
                "a0a1a2a3a4a5a6a72429a2243c3cbaf0d33e12aee66e794d85d1a190e48b1ce88bb03879ee650075bb9228b2e30e2ca80ac8c5a54a12fb7d8606b7f9c4015687ff500404",
            ),
            (
                "ENCR_AES_CCM_12",
                "",
                35,
                "a0a1a2a3a4a5a6a76dbe43aed136084949f5e34146ca6917191f9cf9942d8211b6b78dbb1a3894f645ae438611b806bd9fcdfbb1a6594dc4865b1b7ee97f070857f46815",
            ),
            (
                "ENCR_AES_GCM_16",
                "",
                20,
                "a0a1a2a3a4a5a6a72429a2243c3cbaf0d33e12aee66e794d85d1a190e48b1ce88bb03879ee650075bb9228b2e30e2ca80ac8c5a54a12fb7d8606b7f9c4015687ff50040421260547",
            ),
            (
                "ENCR_AES_CCM_16",
                "",
                35,
                "a0a1a2a3a4a5a6a76dbe43aed136084949f5e34146ca6917191f9cf9942d8211b6b78dbb1a3894f645ae438611b806bd9fcdfbb1a6594dc4ac3c51dfe2fcb86ba2ff044fd2dbf733",
            ),
            (
                "ENCR_CHACHA20_POLY1305",
                "",
                36,
                "a0a1a2a3a4a5a6a7141b30ddf6f999556c9cdeb4e03b856eb3de95561d68c0c9743f6c90cd130f9bad4c93ce2f13391ae0c87e37ee951b78986500529f966015b0236cdf69a838ed",
            ),
            (
                "ENCR_AES_CBC",
                "AUTH_HMAC_SHA1_96",
                24,
                "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0326a3c75f1d9d5fab6eb0b3bcaefb8ae85940b09abcb315c077f2fd64d7a3253ab245172422d4b0495c379882d36ee58eb3f87a05bfb6dfae2ee5f8",
            ),
            (
                "ENCR_AES_CBC",
                "AUTH_HMAC_SHA2_256_128",
                24,
                "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0326a3c75f1d9d5fab6eb0b3bcaefb8ae85940b09abcb315c077f2fd64d7a3253ab245172422d4b0495c379882d36ee5ce598162faa31bf494fa2c6382822172",
            ),
            (
                "ENCR_AES_CBC",
                "AUTH_HMAC_SHA2_384_192",
                24,
                "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0326a3c75f1d9d5fab6eb0b3bcaefb8ae85940b09abcb315c077f2fd64d7a3253ab245172422d4b0495c379882d36ee5b8125cae630241f3fefb7e4c2488c4d9ce22e1f7559f7538",
            ),
            (
                "ENCR_AES_CBC",
                "AUTH_HMAC_SHA2_512_256",
                24,
                "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf0326a3c75f1d9d5fab6eb0b3bcaefb8ae85940b09abcb315c077f2fd64d7a3253ab245172422d4b0495c379882d36ee50f73881aee77875dd937abadf39ecbe834e2001d8bd4465030a1df97c98ac0db",
            ),
            (
                "ENCR_AES_CTR",
                "AUTH_HMAC_SHA2_256_128",
                20,
                "a0a1a2a3a4a5a6a724076eccb49a05ce8370148fee9cf24c3439b2342c2caae0c32e02bef67e695db5e191a0d4bb2cd8bb800849de553045cb67ddede3965f130458901944d80cc6",
            ),
        ] {
            let integ = Integ::by_name(integ).map_or(IntegKey::None, |integ| {
                IntegKey::Algorithm(integ, Secret::new(counting(1, integ.key_len as u8)))
            });
            let key = Secret::new(counting(1, key_len));
            let cipher = EspCipher::new(&Keys::from_parts(Suite::by_name(suite).unwrap(), key, None, integ).unwrap());
            let body = hex::decode(body).unwrap();
            assert_eq!(cipher.open_ike(&head, &body).as_deref(), Some(&clear), "{suite}");
            for byte in 0..body.len() {
                let mut wrong = body.clone();
                wrong[byte] ^= 1;
                assert_eq!(cipher.open_ike(&head, &wrong), None, "{suite} byte {byte}");
                assert_eq!(cipher.open_ike(&head, &body[..byte]), None, "{suite} {byte} bytes");
            }
            assert_eq!(cipher.open_ike(&head[1..], &body), None, "{suite}");
        }
    }
}
