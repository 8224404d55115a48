//! Security Associations: their selectors and keys, the table of all SAs, and its lookup.

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

/// One direction of one Security Association, as defined in a key file.
#[derive(Debug)]
pub struct Sa {
    /// Security Parameters Index, uncompressed. `None` matches every SPI (an `esp_sa` line with SPI `*`); such an SA
    /// has no context and is used for standard ESP only.
    pub spi: Option<u32>,
    /// The outer source addresses that it matches.
    pub src: Selector,
    /// The outer destination addresses that it matches.
    pub dst: Selector,
    /// The link-layer source address it matches; `None` matches all.
    pub link_src: Option<LinkAddress>,
    /// The link-layer destination address it matches; `None` matches all.
    pub link_dst: Option<LinkAddress>,
    /// Whether it uses extended (64-bit) sequence numbers.
    pub esn: bool,
    /// The file names AES-CTR, which is what Wireshark's `esp_sa` calls AES-CCM, and the SA was read as AES-CCM.
    pub read_as_ccm: bool,
    /// A sequence number near that of the first packet (`oseq`, `seq` of `ip xfrm state`).
    pub sn_hint: Option<u64>,
    /// Cipher suite and secrets.
    pub keys: Keys,
    /// Its name in the file, or the SPI as `0x` and 8 digits.
    pub name: String,
    /// The file and line that it was read from.
    pub origin: Origin,
}
