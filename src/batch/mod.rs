//! Captures in batches, on all cores: the same outcomes as [`Decoder`](crate::decoder::Decoder), sooner.

pub mod open_ahead;
pub mod workers;
