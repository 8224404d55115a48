//! The keys of an output file, for tools that decrypt it.

use crate::cipher::Keys;
use crate::net::Selector;

/// A Security Association of an output file, with the keys that decrypt its packets.
#[derive(Debug)]
pub struct UsedKeys {
    /// Name of the SA.
    pub name: String,
    /// Its SPI.
    pub spi: Option<u32>,
    /// Outer source addresses.
    pub src: Selector,
    /// Outer destination addresses.
    pub dst: Selector,
    /// The keys.
    pub keys: Keys,
    /// Extended sequence numbers (64 bits).
    pub esn: bool,
}
