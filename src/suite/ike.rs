//! What IKEv2 needs of the ciphers: prf+ (RFC 7296 §2.13), and opening of encrypted payloads (RFC 7296 §3.14, RFC 5282).

use zeroize::{Zeroize, Zeroizing};

use super::aes::{Block, padded};
use super::cryptor::{Body, Header, Prepared, wipe};
use super::hmac::KeyedHmac;
use super::{Cryptor, Hash, same};
use crate::secret::Secret;

/// prf+ counts its blocks in one byte (RFC 7296 §2.13).
pub const MAX_PRF_PLUS_BLOCKS: usize = 255;

impl Hash {
    /// Length of its output in bytes.
    pub fn output_len(self) -> usize {
        match self {
            Hash::Sha1 => 20,
            Hash::Sha256 => 32,
            Hash::Sha384 => 48,
            Hash::Sha512 => 64,
        }
    }
}

/// The first `len` bytes of prf+(`key`, `seed`), the seed being all parts as one string, with HMAC of `hash` as prf.
/// `None` if that is more than [`MAX_PRF_PLUS_BLOCKS`] outputs of the hash.
///
/// ```text
/// T1 = prf(K, S | 01),  T2 = prf(K, T1 | S | 02),  ...           prf+(K, S) = T1 | T2 | ...        (RFC 7296 §2.13)
/// ```
pub fn prf_plus(hash: Hash, key: &Secret, seed: &[&[u8]], len: usize) -> Option<Secret> {
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

impl Cryptor {
    /// Opens the body of an IKEv2 payload "Encrypted and Authenticated", or of a fragment of one: IV, cipher text, ICV.
    /// `head` is the message from its first byte to that body. `None` if it does not verify. What comes out still has
    /// its padding (RFC 7296 §3.14).
    pub fn open_ike(&self, head: &[u8], body: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let Body { iv, cipher_text, icv } = self.split(body).ok()?;
        let mut clear = Zeroizing::new(cipher_text.to_vec());
        let counter_block = self.counter_block(iv, &Header::new(0, 0, false));
        let authentic = match &self.cipher {
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
                match &self.cipher {
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

/// AAD of any length that CCM writes in two bytes (RFC 3610 §2.2): length, AAD, zeros.
fn ccm_aad(aad: &[u8]) -> Option<Vec<[Block; 1]>> {
    let len = u16::try_from(aad.len()).ok().filter(|len| *len < 0xff00)?;
    let encoded = [&len.to_be_bytes(), aad].concat();
    Some(encoded.chunks(16).map(|chunk| [padded(chunk)]).collect())
}
