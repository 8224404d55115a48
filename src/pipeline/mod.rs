//! The order of the steps: each command's story, one line a step.

pub mod batch;
pub mod compress;
pub mod convert;
pub mod decode;
pub mod drive;
pub mod find;
pub mod inner;
pub mod ledger;
pub mod outcome;
pub mod outlet;
pub mod payloads;
pub mod seal;
pub mod select;
pub mod warnings;
