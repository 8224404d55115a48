//! `dietesp` decodes captures of Diet-ESP (header-compressed IPsec ESP). It finds the Security Association (SA) of each packet,
//! restores the headers, decrypts the payload, and returns the inner packet.
//!
//! This prints a record of each packet of a shipped sample, as `dietesp decode --format jsonl` does:
//!
//! ```
#![doc = include_str!("../examples/decode.rs")]
//! ```
//!
//! * [`Keys`] has the SAs, and [`Rules`] what both ends agreed to omit. Without rules, an SA is standard ESP.
//! * [`Capture`] reads [`Frame`]s from a file. A program that captures itself makes them with [`Frame::new`].
//! * [`Decoder`] decodes frames in the order of their capture. [`Session`] also keeps the records, for programs that ask for a
//!   frame again.
//! * [`Records`] are those of one frame: a [`Record`] for each packet in it, and at least one.
//!
//! A packet that cannot be decoded has a [`Status`] and a reason; the next one is decoded as usual. An [`Error`] means that a
//! file cannot be used. Keys are wiped from memory when they are dropped, and are not in any message or `Debug` output.
//!
//! The command-line program is in the feature `cli`, which is on by default. A library does not need it:
//!
//! ```toml
//! dietesp = { version = "0.1", default-features = false }
//! ```
//!
//! Inside, a captured frame (`capture::Frame`) becomes an IP packet (`net::Datagram`), and that becomes an outcome
//! (`decoder::outcome::Outcome`):
//!
//! ```text
//! capture -> link -> SA lookup -> ESP header -> decrypt -> ESP trailer -> inner packet     (compress: the other way)
//! ```

#![deny(missing_docs)]
// Without the command line, less is reachable.
#![cfg_attr(feature = "cli", deny(unreachable_pub))]
#![deny(clippy::missing_errors_doc)]
// Maintainers read the documentation with `--document-private-items`.
#![allow(rustdoc::private_intra_doc_links)]
// The command line uses more items than the facade does.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

#[cfg(feature = "cli")]
mod batch;
mod bits;
mod bytes;
mod capture;
mod cipher;
#[cfg(feature = "cli")]
mod cli;
mod codec;
#[cfg(feature = "cli")]
mod command;
mod context;
mod cores;
mod decoder;
#[cfg(feature = "cli")]
mod encoder;
mod error;
mod facade;
mod files;
mod hash;
mod ike;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internals;
mod link;
mod net;
mod prefetch;
mod records;
mod sa;
mod schc;
mod secret;
#[cfg(feature = "cli")]
mod vectors;
#[cfg(feature = "cli")]
mod wireshark;

pub use decoder::status::Status;
pub use error::{Error, Fault, FaultKind, Stage};
pub use facade::{Capture, Decoder, Frame, Keys, Record, Records, Rules, Session};

#[cfg(feature = "cli")]
#[doc(hidden)]
pub use cli::main;
