//! Key files of other programs.
