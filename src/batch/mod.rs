//! Decodes captures in batches, on all cores. The outcomes are the same as those of
//! [`Decoder`](crate::decoder::Decoder).

mod commit;
pub(crate) mod open_ahead;
pub(crate) mod recycle;
mod turn;
pub(crate) mod workers;
