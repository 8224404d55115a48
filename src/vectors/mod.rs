//! Test vectors: kits of packets with every value on their way to Diet-ESP and back, for any implementation to check
//! itself against.
//!
//! A kit is one JSON object; `samples/vectors/README.md` says what is in it. Its `sas` and `contexts` are entries of native
//! files, with every attribute written. [`make()`] writes a kit; [`check()`] works all of it out again and names the
//! first value that differs.
//!
//! A kit has the keys of its SAs in the clear, on purpose: they are test keys.

mod check;
mod failure;
mod kit;
mod make;
mod packet;

pub use check::check;
pub(crate) use make::Made;
pub use make::Settings;
pub use make::make;
