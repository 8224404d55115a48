//! Inputs from the field that once failed: every folder of `tests/data/field` gives its expected result.
//!
//! One module per area; the README of `tests/data/field` says what each case shows.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;

mod captures;
mod encapsulations;
mod hints;
mod keys;
mod lab;
mod outputs;
mod packets;
mod settled;

/// The path of a file below `tests/data/field`.
fn case(path: &str) -> String {
    common::file(&format!("tests/data/field/{path}"))
}
