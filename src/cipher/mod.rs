//! Cipher suites of ESP as tables, their keys, and opening and sealing of packets.
//!
//! ```text
//! body = IV | cipher text | ICV          follows SPI and Sequence Number (RFC 4303 §2)
//! ```
//!
//! [`Suite`] and [`Integ`] are the rows of the tables. [`Keys`] combines one of each with secrets. [`EspCipher`]
//! adds the key schedules. Only this folder uses the crates of RustCrypto.

mod aes;
mod batch_open;
mod ccm;
mod ccm_star;
mod chacha;
mod esp_cipher;
mod gcm;
mod hmac;
mod ike;
mod keys;
#[cfg(feature = "cli")]
pub(crate) mod nonces;
#[cfg(feature = "cli")]
mod random;
#[cfg(feature = "cli")]
mod runs;
mod sealing;
mod search;
mod table;
#[cfg(test)]
mod vectors;

pub(crate) use batch_open::{MultiKeyRequest, OpenRequest, SIDE_BY_SIDE, Scratch, open_multi_key};
pub(crate) use ccm_star::CcmStar;
pub use esp_cipher::EspCipher;
pub(crate) use esp_cipher::OpenError;
pub(crate) use ike::prf_plus;
pub use keys::IntegKey;
pub use keys::Keys;
pub(crate) use keys::{KeyError, Part};
#[cfg(feature = "cli")]
pub(crate) use random::Random;
pub(crate) use sealing::SealRequest;
pub(crate) use table::Cipher;
pub use table::Hash;
pub use table::INTEGS;
pub use table::Integ;
pub use table::SUITES;
pub use table::Suite;

/// Whether `tag` starts with `icv`, compared in constant time.
#[inline(always)]
fn same(tag: &[u8], icv: &[u8]) -> bool {
    use subtle::ConstantTimeEq;
    match tag.get(..icv.len()) {
        // Compares words if possible, because slices are compared byte by byte.
        Some(tag) if icv.len().is_multiple_of(4) => {
            let differences = tag.as_chunks::<4>().0.iter().zip(icv.as_chunks::<4>().0);
            let all = differences.fold(0, |all, (a, b)| all | (u32::from_ne_bytes(*a) ^ u32::from_ne_bytes(*b)));
            all.ct_eq(&0).into()
        }
        Some(tag) => tag.ct_eq(icv).into(),
        None => false,
    }
}
