//! The order of the steps: each command's story, one line a step.

pub mod attempt;
pub mod compress;
pub mod convert;
pub mod decode;
pub mod drive;
mod elsewhere;
pub mod find;
pub mod hints;
pub mod inner;
pub mod item;
pub mod ledger;
pub mod outcome;
pub mod outlet;
pub mod payloads;
pub mod seal;
pub mod select;
pub mod settle;
pub mod warnings;
