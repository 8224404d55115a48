//! Captures in batches, on all cores: the same outcomes as [`Decoder`](crate::decoder::Decoder), sooner.

mod commit;
pub(crate) mod open_ahead;
pub(crate) mod recycle;
mod turn;
pub(crate) mod workers;
