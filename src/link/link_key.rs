//! Keys for frames that are encrypted on the link layer.

use crate::context::Origin;
use crate::secret::Secret;

/// A key of IEEE 802.15.4 link-layer security (§9.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkKey {
    /// The sender's extended address, which is part of the nonce.
    pub eui64: [u8; 8],
    /// The sender's short address, if it is given. It may also be learned from the capture.
    pub short: Option<u16>,
    /// Key Identifier Mode, 0 to 3.
    pub mode: u8,
    /// Key Index; `None` only in mode 0.
    pub index: Option<u8>,
    /// The AES-128 key, 16 bytes.
    pub key: Secret,
    /// The file and line that it was read from.
    pub origin: Origin,
}
