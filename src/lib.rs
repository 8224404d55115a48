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

#![deny(unreachable_pub)]
// Maintainers read the documentation with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]
// The command line uses more items than the facade does.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod batch;
mod bits;
mod bytes;
mod capture;
mod cipher;
#[cfg(feature = "cli")]
mod cli;
mod codec;
mod command;
mod context;
mod cores;
mod decoder;
mod encoder;
mod error;
mod files;
mod hash;
mod ike;
#[doc(hidden)]
pub mod internals;
mod link;
mod net;
mod prefetch;
mod records;
mod sa;
mod schc;
mod secret;
mod vectors;
mod wireshark;

pub use error::{Error, Fault};

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::main;
