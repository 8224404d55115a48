//! IP and transport headers: views and builders, addresses, checksums, and the framing of standard ESP.
//!
//! This folder is the lowest one. It does not depend on captures, Security Associations or Diet-ESP.

mod address;
pub(crate) mod checksum;
pub(crate) mod esp;
pub(crate) mod ip;
pub(crate) mod protocol;

pub use address::IpVersion;
pub use address::Selector;
pub use address::address_value;
pub(crate) use address::{LinkAddress, LinkAddresses};
pub use ip::Datagram;
pub use ip::IpHeaders;
pub use ip::OuterHeader;
pub(crate) use ip::{Fragment, IpLocation, address_values, addresses};
