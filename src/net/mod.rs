//! Headers of the Internet protocols: for each a view that checks, and a builder with the same methods; addresses, checksums,
//! protocol numbers, and the framing of standard ESP.
//!
//! This folder is the lowest one. It does not depend on captures, Security Associations or Diet-ESP. No other folder reads
//! or writes the bytes of IP and transport headers.

mod address;
pub(crate) mod checksum;
mod datagram;
pub(crate) mod esp;
mod extension;
mod header;
pub(crate) mod ip;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
mod location;
pub(crate) mod protocol;
pub(crate) mod sctp;
pub(crate) mod tcp;
pub(crate) mod udp;
pub(crate) mod udp_lite;
mod upper_layer;

pub use address::IpVersion;
pub use address::Selector;
pub use address::address_value;
pub(crate) use address::{LinkAddress, LinkAddresses};
pub use datagram::Datagram;
pub(crate) use datagram::Fragment;
pub use datagram::IpHeaders;
pub use datagram::OuterHeader;
pub(crate) use extension::MIN_LEN as FRAGMENT_HEADER_LEN;
pub(crate) use ip::{address_values, addresses};
pub(crate) use location::{IpLocation, Located, locate, locate_plain, outer_at};
pub(crate) use upper_layer::{
    InvalidField, IpHeader, PORTS_LEN, TransportSplit, UpperLayer, ports, ports_of, set_ports, transport_header_len,
};
