//! `dietesp` reads captures of Diet-ESP (header-compressed IPsec/ESP), finds the Security Association of each packet,
//! restores the headers, opens the payload, and shows or rewrites what was inside.

pub mod bits;
pub mod bytes;
pub mod capture;
pub mod checksum;
pub mod codec;
pub mod context;
pub mod error;
pub mod link;
pub mod sa;
pub mod secret;
pub mod suite;

pub use error::{Error, Fault};
