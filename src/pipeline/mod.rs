//! The order of the steps: each command's story, one line a step.

pub mod compress;
pub mod convert;
pub mod decode;
pub mod inner;
pub mod intake;
pub mod open;
pub mod outcome;
pub mod outlet;
pub mod seal;
pub mod select;
pub mod warnings;
