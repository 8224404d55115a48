//! `dietesp` decodes captures of Diet-ESP (header-compressed IPsec ESP). It finds the Security Association of each packet,
//! restores the headers, decrypts the payload, and shows or rewrites the inner packet.
//!
//! Four types are enough to understand the program:
//!
//! * [`sa::Sa`], a Security Association: addresses, cipher and keys of one direction;
//! * [`context::Context`]: what both ends agreed to omit;
//! * [`codec::Codec`]: how one dialect omits it;
//! * [`decoder::outcome::Outcome`]: the result for one packet.
//!
//! A captured frame ([`capture::Frame`]) becomes an IP packet ([`net::Datagram`]), and that becomes an outcome:
//!
//! ```text
//! capture -> link -> SA lookup -> ESP header -> decrypt -> ESP trailer -> inner packet     (compress: the other way)
//! ```
//!
//! A packet that fails has a status and a reason, and the run continues. An [`Error`] ends the run.

pub mod batch;
pub mod bits;
pub mod bytes;
pub mod capture;
pub mod cipher;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codec;
pub mod command;
pub mod context;
mod cores;
pub mod decoder;
pub mod error;
pub mod files;
mod hash;
pub mod ike;
pub mod link;
pub mod net;
mod prefetch;
pub mod records;
pub mod sa;
pub mod schc;
pub mod secret;
pub mod vectors;
pub mod wireshark;

pub use error::{Error, Fault};
