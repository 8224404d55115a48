//! The bodies of the fuzz targets. `tests/fuzz_bodies.rs` runs them on stable Rust, with the corpus and with random
//! inputs. A body panics if the library panics or violates a guarantee.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, missing_docs, reason = "a panic is how a finding shows")]

mod esp;
mod files;
mod filter;
mod input;
mod link;
mod packets;
mod pipeline;
mod sas;

pub use esp::{esp, restore_6lo, restore_custom, restore_ehc, restore_ietf, round_trip};
pub use files::{ike, key_files, kits, rule_files};
pub use filter::filter;
pub use link::{capture, fragments, hex_lines, link, pcap, receiver};
pub use pipeline::{decode, pipeline};

/// A body, and the name of its target.
pub type Target = (&'static str, fn(&[u8]));

/// All bodies.
pub const TARGETS: [Target; 17] = [
    ("capture", capture),
    ("hex_lines", hex_lines),
    ("link", link),
    ("fragments", fragments),
    ("receiver", receiver),
    ("esp", esp),
    ("restore_ietf", restore_ietf),
    ("restore_ehc", restore_ehc),
    ("restore_6lo", restore_6lo),
    ("restore_custom", restore_custom),
    ("key_files", key_files),
    ("rule_files", rule_files),
    ("kits", kits),
    ("ike", ike),
    ("filter", filter),
    ("round_trip", round_trip),
    ("pipeline", pipeline),
];
