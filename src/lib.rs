//! `dietesp` reads captures of Diet-ESP (header-compressed IPsec/ESP), finds the Security Association of each packet,
//! restores the headers, opens the payload, and shows or rewrites what was inside.
//!
//! Four ideas are enough to know the program: an [`sa::Sa`] (who talks, under which keys), a [`context::Context`] (what
//! both ends agreed to leave out), a [`codec::Codec`] (how one dialect leaves it out), XX//! the steps). Three things flow: a [`capture::Packet`] (a captured frame) becomes a [`link::Datagram`] (its IP packet),
//! and that a [`decoder::outcome::Outcome`] (what became of it):
//!
//! ```text
//! capture read -> link -> sa lookup -> codec header -> suite open -> codec trailer -> codec inner
//!              -> esp build -> suite seal -> link rebuild -> capture write       (compress: the same upwards)
//! ```
//!
//! A packet that fails is data: it has a status and a reason, and the run goes on. An [`Error`] means that the run cannot.

pub mod batch;
pub mod bits;
pub mod bytes;
pub mod capture;
pub mod checksum;
#[cfg(feature = "cli")]
pub mod cli;
pub mod codec;
pub mod command;
pub mod context;
mod cores;
pub mod decoder;
pub mod error;
pub mod esp;
pub mod files;
pub mod ike;
pub mod link;
mod prefetch;
pub mod report;
pub mod sa;
pub mod schc;
pub mod secret;
pub mod suite;
pub mod vectors;
pub mod wireshark;

pub use error::{Error, Fault};
