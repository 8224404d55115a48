//! IP and transport headers: views and builders, addresses, checksums, and the framing of standard ESP.
//!
//! This folder is at the bottom: it knows nothing of captures, Security Associations or Diet-ESP.

mod address;
pub mod checksum;
pub mod esp;
pub(crate) mod ip;

pub use address::{IpVersion, LinkAddress, LinkAddresses, Selector, address_value};
pub use ip::{Datagram, Fragment, IpLocation, OuterHeader, address_values, addresses};
