//! The codec compared with other implementations, with bytes computed by hand, and with itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod by_hand;
mod cases;
mod custom_losses;
mod dialects;
mod dialects_roundtrip;
mod engine;
mod roundtrip;
mod support;
