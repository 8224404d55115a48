//! Security Associations: their selectors and keys, the table of all of them, and its lookup.

mod buckets;
mod hints;
mod prepared;
mod runs;
pub(crate) mod sequence;
pub(crate) mod stream;
pub(crate) mod table;
mod used_keys;

pub use used_keys::UsedKeys;

use crate::cipher::Keys;
use crate::context::Origin;
use crate::net::{LinkAddress, Selector};

/// One direction of one Security Association, as a key file gives it.
#[derive(Debug)]
pub struct Sa {
    /// Security Parameters Index, uncompressed. `None` matches every SPI (an `esp_sa` line with SPI `*`); such an SA
    /// has no context and is used for standard ESP only.
    pub spi: Option<u32>,
    /// The outer source addresses it matches.
    pub src: Selector,
    /// The outer destination addresses it matches.
    pub dst: Selector,
    /// The link-layer source address it matches; `None` matches all.
    pub link_src: Option<LinkAddress>,
    /// The link-layer destination address it matches; `None` matches all.
    pub link_dst: Option<LinkAddress>,
    /// Extended (64-bit) Sequence Numbers.
    pub esn: bool,
    /// The file says AES-CTR, as Wireshark's `esp_sa` does for AES-CCM, and was read as AES-CCM.
    pub read_as_ccm: bool,
    /// A Sequence Number near which the first packet may be found (`oseq`, `seq` of `ip xfrm state`).
    pub sn_hint: Option<u64>,
    /// Cipher suite and secrets.
    pub keys: Keys,
    /// The name given, or the SPI as `0x` and 8 digits.
    pub name: String,
    /// Where it was read.
    pub origin: Origin,
}
