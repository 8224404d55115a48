//! Test vectors for other implementations: kits of packets with all intermediate values of compression and
//! decompression.
//!
//! A kit is one JSON object, which `samples/vectors/README.md` describes. Its `sas` and `contexts` are entries of
//! native files with all attributes. [`make()`] writes a kit. [`check()`] computes all values again and names the
//! first one that differs.
//!
//! A kit intentionally contains the keys of its SAs in clear text, because they are test keys.

mod check;
mod failure;
mod kit;
mod make;
mod packet;

pub use check::check;
pub(crate) use make::Made;
pub use make::Settings;
pub use make::make;
