//! Captures in batches, on all cores: the same outcomes as [`Decoder`](crate::decoder::Decoder), sooner.

mod commit;
pub mod open_ahead;
pub mod recycle;
pub mod workers;
